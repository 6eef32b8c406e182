from __future__ import annotations

import numpy as np
import pytest

from tabib.explanation.occlusion import PATCHES, covered, occlusion


def probabilities(odds: np.ndarray) -> np.ndarray:
    ill = 1 / (1 + np.exp(-odds))
    return np.stack([1 - ill, ill], axis=1)


def spot(height: int, width: int) -> np.ndarray:
    image = np.full((1, height, width), 0.4, np.float32)
    image[:, 6:10, 20:24] = 1.0
    return image


def test_the_place_that_the_answer_reads_is_found() -> None:
    image = spot(32, 40)

    def reads_a_spot(images: np.ndarray) -> np.ndarray:
        return probabilities(20 * images[:, 0, 6:10, 20:24].mean((1, 2)) - 10)

    fall, lowest = occlusion(reads_a_spot, image, 1)
    assert fall.shape == (32, 40)
    assert fall.max() == 1
    row, column = np.unravel_index(fall.argmax(), fall.shape)
    assert 2 <= row < 14
    assert 15 <= column < 29
    assert fall[20:].max() == 0
    assert lowest < 0.7 < reads_a_spot(image[None])[0, 1]
    rise, lowest = occlusion(reads_a_spot, image, 0)
    assert rise.max() == 0, "without the spot the healthy class only gains"
    assert lowest == pytest.approx(reads_a_spot(image[None])[0, 0], rel=1e-3)


def test_brightness_is_kept_and_a_flat_image_changes_nothing() -> None:
    flat, asked = np.full((3, 24, 24), 0.3, np.float32), []

    def counts(images: np.ndarray) -> np.ndarray:
        asked.append(len(images))
        return probabilities(images.mean((1, 2, 3)))

    fall, _ = occlusion(counts, flat, 1)
    assert fall.max() < 0.1
    assert asked == [PATCHES**2 + 1], "the cost that is stated"


@pytest.mark.parametrize(("height", "width"), [(8, 8), (28, 28), (33, 64)])
def test_every_place_is_covered_and_nothing_else_is_changed(height: int, width: int) -> None:
    image = np.random.default_rng(0).random((1, height, width), np.float32)
    pictures, boxes = covered(image)
    times = np.zeros((height, width), int)
    for picture, (rows, columns) in zip(pictures, boxes, strict=True):
        changed = (picture != image)[0]
        times += changed
        changed[rows, columns] = False
        assert not changed.any()
    assert (times > 0).all()
    assert len(pictures) == 49
