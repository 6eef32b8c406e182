from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw
from scipy.ndimage import gaussian_filter, laplace

from made_index import film
from tabib.images import Image, ImageFacts, glance

FACTS = ImageFacts(format="PNG", bits=8, mode="L")


def seen(pixels: np.ndarray) -> dict[str, Any]:
    low, high = 0.0, float(np.iinfo(pixels.dtype).max)
    return glance(Image(pixels=pixels, low=low, high=high, spacing_mm=None, orientation=None, facts=FACTS), "00", 0)


def marked(place: tuple[int, int], side: int = 512) -> np.ndarray:
    """A film of the middle greys with a white letter, a twentieth of its height, at a place in fractions of 100."""
    picture = Pillow.fromarray((0.6 * film(1, side=side)).astype(np.uint8))
    left, top = (side * part // 100 for part in place)
    draw = ImageDraw.Draw(picture)
    draw.line([(left, top), (left, top + side // 20), (left + side // 30, top + side // 20)], fill=255, width=side // 100)
    return np.asarray(picture)


@pytest.mark.parametrize(
    ("place", "named"),
    [((4, 4), "top_left"), ((48, 3), "top"), ((92, 4), "top_right"), ((3, 48), "left"), ((92, 91), "bottom_right"), ((50, 50), "")],
)
def test_a_letter_in_the_frame_is_a_mark(place: tuple[int, int], named: str) -> None:
    assert seen(marked(place))["marks"] == named
    assert seen(marked(place).astype(np.uint16) * 257)["marks"] == named


def test_what_is_white_everywhere_is_no_mark() -> None:
    assert seen(film(1, side=256))["marks"] == ""
    cells = 230 - 150 * (gaussian_filter(np.random.default_rng(0).standard_normal((256, 256)), 6) > 0.05)
    assert seen(cells.astype(np.uint8))["marks"] == ""
    assert seen(marked((4, 4), side=60))["marks"] == "", "too small for a letter"


def test_sharpness_falls_with_blur_and_not_with_contrast_or_size() -> None:
    grain = gaussian_filter(np.random.default_rng(0).standard_normal((256, 256)), 2)
    picture = (0.7 * film(2, side=256) + 300 * grain).clip(0, 255).astype(np.uint8)
    sharp = seen(picture)["sharpness"]
    blurred = [seen(gaussian_filter(picture, sigma))["sharpness"] for sigma in (1, 2, 4, 8)]
    assert sorted([sharp, *blurred], reverse=True) == [sharp, *blurred]
    assert seen((picture // 2 + 40).astype(np.uint8))["sharpness"] == pytest.approx(sharp, rel=0.05)
    assert seen(np.repeat(np.repeat(picture, 4, axis=0), 4, axis=1))["sharpness"] == pytest.approx(sharp, rel=0.05)
    assert seen(np.full((64, 64), 7, np.uint8))["sharpness"] is None


def test_black_and_white_are_shares_of_the_picture() -> None:
    picture = np.full((128, 128), 90, np.uint8)
    picture[:32], picture[-16:] = 0, 255
    assert (seen(picture)["black"], seen(picture)["white"]) == (0.25, 0.125)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(101, 127), (100, 90), (3, 3)])
def test_sharpness_is_the_spread_of_the_laplacian_in_every_second_row(dtype: type, shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, shape, endpoint=True, dtype=dtype)
    bends = laplace(picture.astype(float))[1:-1:2, 1:-1]
    assert seen(picture)["sharpness"] == pytest.approx(np.sqrt((bends**2).mean()) / picture.astype(float).std(), abs=1e-6)


@pytest.mark.parametrize(("white", "ground", "found"), [(0, 2, "left"), (126, 124, "right"), (0, 125, ""), (1, 126, ""), (126, 1, "")])
def test_the_two_sides_of_a_picture_are_no_neighbours(white: int, ground: int, found: str) -> None:
    picture = np.full((65, 127), 200, np.uint8)
    picture[30:34, white], picture[30:35, ground] = 255, 0
    assert seen(picture)["marks"] == found


@pytest.mark.parametrize("place", [(0, 0), (120, 143), (199, 199)])
def test_one_pixel_of_colour_makes_another_picture(place: tuple[int, int]) -> None:
    grey = np.random.default_rng(0).integers(0, 200, (200, 200), dtype=np.uint8)
    thrice = np.stack([grey] * 3, axis=-1)
    assert seen(thrice)["pixels"] == seen(grey)["pixels"]
    for channel in range(3):
        coloured = thrice.copy()
        coloured[(*place, channel)] += 50
        assert seen(coloured)["pixels"] != seen(grey)["pixels"]
        assert seen(coloured)["colour"]
