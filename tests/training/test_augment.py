"""Augmentation against torch's own affine, scipy's resampling and plain numpy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from scipy.interpolate import BSpline
from torch.nn.functional import interpolate
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as oracle

from tabib.config import Augment, SegmentationAugment
from tabib.training.augment import apply, apply_with_masks
from tabib.training.draws import Draws, draw

OFF = Augment(rotation_degrees=0, shift=0, zoom=0, brightness=0, contrast=0)
EVERYTHING = SegmentationAugment(
    rotation_degrees=30,
    shift=0.2,
    zoom=0.2,
    stretch=0.3,
    shear_degrees=10,
    crop=0.4,
    flip_horizontal=True,
    flip_vertical=True,
    elastic=0.05,
    contrast=0.3,
    gamma=0.4,
    saturation=0.5,
    hue_degrees=40,
    stain=0.1,
    blur=0.02,
    noise=0.1,
    bias_field=0.5,
    ghosting=0.3,
    low_resolution=0.5,
    tilt_degrees=10,
    fill="nearest",
)
HEIGHT, WIDTH = 37, 52


def keys(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def smooth_images(count: int = 1, channels: int = 1) -> torch.Tensor:
    noise = np.random.default_rng(1).random((count, channels, HEIGHT, WIDTH))
    smooth = ndimage.gaussian_filter(noise, (0, 0, 1.5, 1.5))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return torch.from_numpy(smooth.astype(np.float32))


def chosen(**values: float | list[float]) -> Draws:
    """One image's draws, neutral but for `values`."""
    neutral = draw(OFF, seed=0, epoch=0, content=keys(1))
    return dataclasses.replace(neutral, **{name: torch.tensor([value]) for name, value in values.items()})


@pytest.mark.parametrize(
    "geometry",
    [
        {"rotation_degrees": 25.0},
        {"shift_x": 0.13},
        {"shift_y": -0.21},
        {"scale": 1.3},
        {"scale": 0.7},
        {"shear_degrees": 12.0},
        {"rotation_degrees": -40.0, "shift_x": 0.1, "shift_y": -0.05, "scale": 0.8, "shear_degrees": -9.0},
    ],
)
def test_geometry_is_torchs_affine(geometry: dict[str, float]) -> None:
    images = smooth_images()
    expected = oracle.affine(
        images,
        angle=geometry.get("rotation_degrees", 0.0),
        translate=[geometry.get("shift_x", 0.0) * WIDTH, geometry.get("shift_y", 0.0) * HEIGHT],
        scale=geometry.get("scale", 1.0),
        shear=[geometry.get("shear_degrees", 0.0), 0.0],
        interpolation=InterpolationMode.BILINEAR,
    )
    got = apply(images, chosen(**geometry), OFF.model_copy(update={"fill": "constant"}))
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=0)


def test_a_crop_is_the_window_resized_and_a_stretch_keeps_the_area() -> None:
    images = smooth_images()
    height, width = images.shape[2:]
    y, x = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    # 40 % left out, the window three quarters of the way from left to right and at the top; in it the width enlarged by
    # sqrt(1.44) and the height shrunk by as much, about the middle of the whole image.
    x, y = 0.4 * width * 0.75 + 0.6 * x, 0.6 * y
    x, y = width / 2 + (x - width / 2) / 1.2, height / 2 + (y - height / 2) * 1.2
    expected = ndimage.map_coordinates(images[0, 0].double().numpy(), [y - 0.5, x - 0.5], order=1, mode="nearest")
    got = apply(images, chosen(crop=0.4, crop_x=0.5, crop_y=-1.0, stretch=1.44), OFF)
    np.testing.assert_allclose(got[0, 0], expected, atol=2e-5)


def test_elastic_distortion_is_scipys_b_spline_and_no_place_goes_further_than_it_may() -> None:
    images = smooth_images()
    height, width = images.shape[2:]
    augment = OFF.model_copy(update={"elastic": 0.08, "elastic_cells": 5})
    draws = draw(augment, seed=2, epoch=3, content=keys(1))

    def spline(side: int) -> BSpline:
        return BSpline(np.arange(-3, 9) * side / 5, np.eye(8), 3)  # one cell each, from three before the image on

    down, right = (spline(side)(np.arange(side) + 0.5) for side in (height, width))
    x_moves, y_moves = draws.elastic[0].double().numpy()
    x, y = down @ x_moves @ right.T, down @ y_moves @ right.T
    assert 0.02 < np.abs([x, y]).max() <= 0.08
    places = [np.arange(height)[:, None] + y * height, np.arange(width) + x * width]
    expected = ndimage.map_coordinates(images[0, 0].double().numpy(), places, order=1, mode="nearest")
    np.testing.assert_allclose(apply(images, draws, augment)[0, 0], expected, atol=2e-5)


@pytest.mark.parametrize(("flip", "dimension"), [("flip_horizontal", 3), ("flip_vertical", 2)])
def test_flips_are_torchs(flip: str, dimension: int) -> None:
    images = smooth_images()
    torch.testing.assert_close(apply(images, chosen(**{flip: True}), OFF), images.flip(dimension), atol=2e-5, rtol=0)


def test_a_flip_comes_before_the_other_geometry() -> None:
    images = smooth_images()
    moves = {"rotation_degrees": 20.0, "shift_x": 0.1}
    both = apply(images, chosen(flip_horizontal=True, **moves), OFF)
    torch.testing.assert_close(both, apply(images.flip(3), chosen(**moves), OFF), atol=2e-5, rtol=0)


@pytest.mark.parametrize(("fill", "mode"), [("nearest", "nearest"), ("constant", "grid-constant"), ("reflect", "reflect")])
def test_the_fill_is_scipys(fill: str, mode: str) -> None:
    images = smooth_images()
    angle, shear, scale, shift = np.deg2rad(35.0), np.tan(np.deg2rad(8.0)), 0.6, np.array([0.2 * WIDTH, -0.3 * HEIGHT])
    rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    backwards = np.linalg.inv(scale * rotate @ np.array([[1, -shear], [0, 1]]))
    centre = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    places = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1)
    x, y = np.moveaxis((places - centre - shift) @ backwards.T + centre, -1, 0)
    expected = ndimage.map_coordinates(images[0, 0].double().numpy(), [y, x], order=1, mode=mode, cval=0.3)
    draws = chosen(rotation_degrees=35.0, shear_degrees=8.0, scale=0.6, shift_x=0.2, shift_y=-0.3)
    got = apply(images, draws, OFF.model_copy(update={"fill": fill, "fill_value": 0.3}))
    np.testing.assert_allclose(got[0, 0], expected, atol=5e-5)


def test_nothing_drawn_changes_nothing() -> None:
    images = smooth_images(3)
    assert torch.equal(apply(images, draw(OFF, seed=0, epoch=0, content=keys(3)), OFF), images)


def test_an_unmoved_image_among_moved_ones_keeps_its_pixels() -> None:
    images = smooth_images(8)
    augment = OFF.model_copy(update={"flip_horizontal": True})
    draws = draw(augment, seed=0, epoch=0, content=keys(8))
    still = ~draws.flip_horizontal
    assert 0 < still.sum() < 8
    got = apply(images, draws, augment)
    assert torch.equal(got[still], images[still])
    torch.testing.assert_close(got[~still], images[~still].flip(3), atol=2e-5, rtol=0)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31 - 1), epoch=st.integers(0, 9999), order=st.permutations(range(9)), count=st.integers(1, 9))
def test_draws_do_not_depend_on_the_batch(seed: int, epoch: int, order: list[int], count: int) -> None:
    content = keys(9)
    whole = draw(EVERYTHING, seed=seed, epoch=epoch, content=content)
    part = draw(EVERYTHING, seed=seed, epoch=epoch, content=content[order[:count]])
    for field in dataclasses.fields(Draws):
        assert torch.equal(getattr(part, field.name), getattr(whole, field.name)[order[:count]]), field.name


def test_each_image_can_be_replayed_alone() -> None:
    images, content = smooth_images(6, channels=3), keys(6)
    whole = apply(images, draw(EVERYTHING, seed=3, epoch=7, content=content), EVERYTHING)
    for place in range(6):
        alone = apply(images[place : place + 1], draw(EVERYTHING, seed=3, epoch=7, content=content[place : place + 1]), EVERYTHING)
        torch.testing.assert_close(alone[0], whole[place], atol=2e-6, rtol=0)


def test_seed_epoch_and_image_each_change_every_draw() -> None:
    content = keys(200)
    base = draw(EVERYTHING, seed=0, epoch=1, content=content)
    others = [
        draw(EVERYTHING, seed=1, epoch=1, content=content),
        draw(EVERYTHING, seed=0, epoch=2, content=content),
        draw(EVERYTHING, seed=1, epoch=0, content=content),
        draw(EVERYTHING, seed=0, epoch=1, content=content + np.uint64(1)),
    ]
    for field in dataclasses.fields(Draws):
        for other in others:
            equal = (getattr(base, field.name) == getattr(other, field.name)).float().mean()
            assert equal < 0.7, field.name  # a coin agrees with another in half of the images


def test_draws_are_uniform_and_unrelated() -> None:
    content = np.arange(4000, dtype=np.uint64)
    augment = EVERYTHING.model_copy(update={"brightness": 0.2})
    draws = draw(augment, seed=0, epoch=0, content=content)
    centred = {
        "rotation_degrees": draws.rotation_degrees / 30,
        "tilt_x": draws.tilt_x_degrees / 10,
        "tilt_y": draws.tilt_y_degrees / 10,
        "shift_x": draws.shift_x / 0.2,
        "shift_y": draws.shift_y / 0.2,
        "scale": (draws.scale - 1) / 0.2,
        "stretch": draws.stretch.log() / np.log(1.3),
        "shear_degrees": draws.shear_degrees / 10,
        "crop": draws.crop / 0.2 - 1,
        "crop_x": draws.crop_x,
        "crop_y": draws.crop_y,
        "elastic": draws.elastic[:, 0, 2, 3] / 0.05,
        "elastic beside": draws.elastic[:, 0, 2, 4] / 0.05,
        "saturation": (draws.saturation - 1) / 0.5,
        "hue": draws.hue_degrees / 40,
        "haematoxylin": (draws.stain_factor[:, 0] - 1) / 0.1,
        "eosin added": draws.stain_added[:, 1] / 0.1,
        "blur": draws.blur / 0.01 - 1,
        "brightness": draws.brightness / 0.2,
        "contrast": (draws.contrast - 1) / 0.3,
        "gamma": draws.gamma.log() / 0.4,
        "noise": draws.noise / 0.05 - 1,
        "bias field": draws.bias_field[:, 1, 2, 3] / 0.5,
        "ghost": draws.ghost / 0.15 - 1,
        "ghost shift": (draws.ghost_shift - 0.3125) / 0.1875,
        "low resolution": draws.low_resolution / 0.25 - 1,
        "flips": draws.flip_horizontal.float() + draws.flip_vertical * 0.5 - 0.75,
    }
    for name, values in centred.items():
        if name != "flips":
            assert stats.kstest(values.numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-4, name
    related = np.corrcoef(np.stack([values.numpy() for values in centred.values()]))
    assert np.abs(related - np.eye(len(related))).max() < 0.08  # 5 standard errors
    assert abs(draws.flip_horizontal.float().mean() - 0.5) < 0.04


def test_intensity_is_the_formula() -> None:
    images = smooth_images(1, channels=3)
    pixels = images[0].double().numpy()
    changed = np.clip((pixels - pixels.mean()) * 1.4 + pixels.mean() - 0.1, 0, 1) ** 1.3
    settings_on = OFF.model_copy(update={"brightness": 0.2, "contrast": 0.5, "gamma": 0.5})
    got = apply(images, chosen(brightness=-0.1, contrast=1.4, gamma=1.3), settings_on)
    np.testing.assert_allclose(got[0], changed, atol=2e-6)


def test_blur_is_scipys_gaussian_filter() -> None:
    images = smooth_images(1, channels=3)
    sigma = 0.05 * HEIGHT  # the shorter side

    def smooth(pixels: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(pixels, (0, sigma, sigma), mode="constant", truncate=8)

    pixels = images[0].double().numpy()
    got = apply(images, chosen(blur=0.05), OFF.model_copy(update={"blur": 0.1}))
    np.testing.assert_allclose(got[0], smooth(pixels) / smooth(np.ones_like(pixels)), atol=2e-6)


def test_saturation_and_hue_are_those_of_the_w3c() -> None:
    images = smooth_images(1, channels=3) * 0.4 + 0.3
    cosine, sine = np.cos(np.deg2rad(25)), np.sin(np.deg2rad(25))
    hue = np.array(
        [
            [0.213 + cosine * 0.787 - sine * 0.213, 0.715 - cosine * 0.715 - sine * 0.715, 0.072 - cosine * 0.072 + sine * 0.928],
            [0.213 - cosine * 0.213 + sine * 0.143, 0.715 + cosine * 0.285 + sine * 0.140, 0.072 - cosine * 0.072 - sine * 0.283],
            [0.213 - cosine * 0.213 - sine * 0.787, 0.715 - cosine * 0.715 + sine * 0.715, 0.072 + cosine * 0.928 + sine * 0.072],
        ]
    )
    more = np.array(
        [
            [0.213 + 0.787 * 1.3, 0.715 - 0.715 * 1.3, 0.072 - 0.072 * 1.3],
            [0.213 - 0.213 * 1.3, 0.715 + 0.285 * 1.3, 0.072 - 0.072 * 1.3],
            [0.213 - 0.213 * 1.3, 0.715 - 0.715 * 1.3, 0.072 + 0.928 * 1.3],
        ]
    )
    expected = np.einsum("ij,jhw->ihw", hue @ more, images[0].double().numpy()).clip(0, 1)
    got = apply(images, chosen(hue_degrees=25.0, saturation=1.3), OFF.model_copy(update={"hue_degrees": 90, "saturation": 1}))
    np.testing.assert_allclose(got[0], expected, atol=5e-4)  # the standard rounds its numbers to three places


def test_grey_has_no_hue_and_no_saturation() -> None:
    grey = smooth_images(4).expand(4, 3, HEIGHT, WIDTH)
    augment = OFF.model_copy(update={"hue_degrees": 180, "saturation": 1})
    torch.testing.assert_close(apply(grey, draw(augment, seed=0, epoch=0, content=keys(4)), augment), grey, atol=2e-6, rtol=0)


def test_stains_change_in_optical_density() -> None:
    """A picture made of known amounts of the three stains becomes the picture of the changed amounts."""
    amounts = np.random.default_rng(0).uniform(0.1, 0.5, (HEIGHT, WIDTH, 3))
    stains = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])

    def seen(amounts: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((10 ** -(amounts @ stains)).astype(np.float32)).permute(2, 0, 1)[None]

    changed = amounts * [1.1, 0.9, 1.05] + [0.05, -0.05, 0.0]
    got = apply(seen(amounts), chosen(stain_factor=[1.1, 0.9, 1.05], stain_added=[0.05, -0.05, 0.0]), OFF.model_copy(update={"stain": 0.1}))
    torch.testing.assert_close(got, seen(changed), atol=2e-6, rtol=0)


def test_colours_and_blur_of_neutral_draws_change_nothing() -> None:
    images = smooth_images(1, channels=3)
    augment = OFF.model_copy(update={"saturation": 0.5, "hue_degrees": 90, "stain": 0.2, "blur": 0.05, "crop": 0.5, "elastic": 0.1})
    torch.testing.assert_close(apply(images, chosen(), augment), images, atol=5e-6, rtol=0)


def test_a_bias_field_is_smooth_and_positive_and_brightens_nothing() -> None:
    augment = OFF.model_copy(update={"bias_field": 0.6})
    draws = draw(augment, seed=1, epoch=1, content=keys(20))
    field = apply(torch.ones(20, 1, HEIGHT, WIDTH), draws, augment)
    assert field.min() > np.exp(-1.2)
    torch.testing.assert_close(field.amax(dim=(1, 2, 3)), torch.ones(20))
    # By the uniform cubic B-spline neighbouring points differ by the difference of their points at most, over a cell of half the side.
    assert (field.log().diff(dim=2).abs().max()) < 1.2 * 2 / HEIGHT
    assert field.log().diff(dim=3).abs().max() < 1.2 * 2 / WIDTH
    assert field.std() > 0.02
    points = draws.bias_field[0].double().numpy()
    along = [BSpline(np.arange(-3, 6) / 2, np.eye(5), 3)((np.arange(side) + 0.5) / side) for side in (1, HEIGHT, WIDTH)]
    logarithm = np.einsum("dk,hl,wm,klm->dhw", *along, points)[0]
    np.testing.assert_allclose(field[0, 0], np.exp(logarithm - logarithm.max()), atol=2e-6)


@pytest.mark.parametrize("down", [True, False])
def test_ghosts_lie_where_they_were_planted(down: bool) -> None:
    images, side = torch.zeros(1, 1, 40, 48), 40 if down else 48
    images[0, 0, 30, 5] = 0.9
    got = apply(images, chosen(ghost=0.4, ghost_shift=8 / side, ghost_down=down), OFF.model_copy(update={"ghosting": 0.5}))
    expected = torch.zeros(40, 48)
    expected[30, 5] = 0.9
    for row, column in ((38, 5), (22, 5)) if down else ((30, 13), (30, 45)):  # the last runs round the border
        expected[row, column] = 0.9 * 0.2
    torch.testing.assert_close(got[0, 0], expected / 1.4, atol=2e-6, rtol=0)


@pytest.mark.parametrize("lost", [0.5, 0.75])
def test_low_resolution_is_torchs_area_and_linear_interpolation(lost: float) -> None:
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    few = interpolate(images, scale_factor=1 - lost, mode="area")
    expected = interpolate(few, size=(32, 48), mode="bilinear", align_corners=False)
    draws = dataclasses.replace(draw(OFF, seed=0, epoch=0, content=keys(2)), low_resolution=torch.tensor([lost, 0.0]))
    got = apply(images, draws, OFF.model_copy(update={"low_resolution": 0.9}))
    torch.testing.assert_close(got[0], expected[0], atol=2e-6, rtol=0)
    torch.testing.assert_close(got[1], images[1], atol=2e-6, rtol=0)


BLOCK, THICKNESS = (40, 96, 104), 2.0


def ellipsoid(turned: np.ndarray) -> torch.Tensor:
    """A mask (1, *BLOCK) of an ellipsoid whose axes x, y and z, in pixels, are turned by a matrix."""
    z, y, x = (np.arange(side) - (side - 1) / 2 for side in BLOCK)
    places = np.stack([axis.ravel() for axis in np.meshgrid(z * THICKNESS, y, x, indexing="ij")][::-1])
    inside = (((turned.T @ places) / [[34], [18], [26]]) ** 2).sum(0) < 1
    return torch.from_numpy(inside.reshape(1, *BLOCK).astype(np.uint8))


@pytest.mark.parametrize(("turn", "first", "second"), [("rotation_degrees", 0, 1), ("tilt_x_degrees", 1, 2), ("tilt_y_degrees", 0, 2)])
def test_an_ellipsoid_turned_about_each_axis_is_the_ellipsoid_turned(turn: str, first: int, second: int) -> None:
    angle, matrix = np.deg2rad(25), np.eye(3)
    matrix[[first, second], [first, second]], matrix[second, first], matrix[first, second] = np.cos(angle), np.sin(angle), -np.sin(angle)
    mask, expected = ellipsoid(np.eye(3)), ellipsoid(matrix)
    draws = chosen(**{turn: 25.0})
    image, moved = apply_with_masks(
        mask[:, None].float(), mask, draws, OFF.model_copy(update={"fill": "constant"}), size=BLOCK, thickness=2
    )
    for got in (moved[0], image[0, 0] > 0.5):
        assert 2 * float((got * expected[0]).sum() / (got.sum() + expected.sum())) > 0.97
    assert 2 * float((mask * expected).sum() / (mask.sum() + expected.sum())) < 0.93


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), tilt=st.sampled_from([0.0, 25.0]))
def test_an_image_and_its_mask_move_together(seed: int, tilt: float) -> None:
    augment = SegmentationAugment(
        rotation_degrees=40, shift=0.1, zoom=0.2, stretch=0.2, shear_degrees=10, crop=0.2, elastic=0.05,
        flip_horizontal=True, flip_vertical=True, tilt_degrees=tilt, brightness=0, contrast=0,
    )  # fmt: skip
    masks = ellipsoid(np.eye(3)).repeat(2, 1, 1, 1)
    masks[:, :, :, :40] *= 2
    images = masks[:, None].float() / 2
    draws = draw(augment, seed=seed, epoch=0, content=keys(2))
    changed, moved = apply_with_masks(images, masks, draws, augment, size=(32, 80, 88), thickness=2)
    assert changed.shape == (2, 1, 32, 80, 88)
    assert set(moved.unique().tolist()) == {0, 1, 2}
    assert ((changed[:, 0] * 2).round() == moved).float().mean() > 0.97  # but where two structures touch, half of both is the third


def test_noise_is_gaussian_of_the_drawn_strength() -> None:
    grey = torch.full((2, 3, 64, 64), 0.5)
    augment = OFF.model_copy(update={"noise": 0.1})
    draws = dataclasses.replace(draw(augment, seed=0, epoch=0, content=keys(2)), noise=torch.tensor([0.05, 0.0]))
    noise = (apply(grey, draws, augment) - grey)[0].flatten() / 0.05
    assert stats.kstest(noise.numpy(), stats.norm.cdf).pvalue > 1e-4
    assert torch.equal(apply(grey, draws, augment)[1], grey[1])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_layout_range_and_input_are_kept(memory_format: torch.memory_format) -> None:
    images = smooth_images(5, channels=3).contiguous(memory_format=memory_format)
    before = images.clone()
    got = apply(images, draw(EVERYTHING, seed=0, epoch=0, content=keys(5)), EVERYTHING)
    assert got.is_contiguous(memory_format=memory_format)
    assert got.dtype == torch.float32
    assert got.min() >= 0
    assert got.max() <= 1
    assert torch.equal(images, before)
    torch.testing.assert_close(got, apply(images.contiguous(), draw(EVERYTHING, seed=0, epoch=0, content=keys(5)), EVERYTHING))


CHANGED = {
    "rotation_degrees": 20.0,
    "shift": 0.2,
    "zoom": 0.3,
    "stretch": 0.5,
    "crop": 0.5,
    "elastic": 0.1,
    "elastic_cells": 8,
    "saturation": 0.9,
    "hue_degrees": 90.0,
    "stain": 0.2,
    "blur": 0.05,
    "shear_degrees": 20.0,
    "flip_horizontal": True,
    "flip_vertical": True,
    "brightness": 0.4,
    "contrast": 0.6,
    "gamma": 0.8,
    "noise": 0.2,
    "bias_field": 0.9,
    "ghosting": 0.9,
    "low_resolution": 0.8,
    "fill": "reflect",
    "fill_value": 0.9,
}


@pytest.mark.parametrize("field", [name for name in Augment.model_fields if name not in ("copies", "to_disk")])
def test_every_field_changes_the_images(field: str) -> None:
    needed = {"fill_value": {"fill": "constant"}, "elastic_cells": {"elastic": 0.1}}
    moving = OFF.model_copy(update={"shift": 0.1, **needed.get(field, {})})
    images, content = smooth_images(6, channels=3), keys(6)
    changed = moving.model_copy(update={field: CHANGED[field]})
    without = apply(images, draw(moving, seed=0, epoch=0, content=content), moving)
    with_it = apply(images, draw(changed, seed=0, epoch=0, content=content), changed)
    assert not torch.allclose(without, with_it, atol=1e-3)
