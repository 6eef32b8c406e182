"""Slices in NIfTI: written by hand and by nibabel, and as nibabel's own orientation functions lay them."""

from __future__ import annotations

import gzip

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from images.made import nifti
from tabib.errors import ImageError
from tabib.images import count_frames, read_image, read_image_bytes, spread

RANDOM = np.random.default_rng(29)


def noise(dtype: type, *channels: int) -> np.ndarray:
    limits = np.iinfo(dtype)
    return RANDOM.integers(limits.min, limits.max, (6, 9, *channels), dtype, endpoint=True)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_integers_come_back(order, packed, dtype):
    pixels = noise(dtype)
    data = nifti(pixels, order=order)
    image = read_image_bytes(gzip.compress(data) if packed else data, "a.nii")
    np.testing.assert_array_equal(image.pixels, pixels.astype(int) - np.iinfo(dtype).min)
    assert (image.low, image.high) == (0, 256**pixels.itemsize - 1)
    assert (image.facts.format, image.facts.bits, image.facts.compression) == ("NIfTI", 8 * pixels.itemsize, "gzip" if packed else None)
    assert image.spacing_mm == (1, 1)
    assert image.orientation is None


@pytest.mark.parametrize(("kind", "channels"), [(128, 3), (2304, 4)])
def test_colours_come_back(kind, channels):
    pixels = noise(np.uint8, channels)
    image = read_image_bytes(nifti(pixels, kind=kind), "a.nii")
    expected = pixels if channels == 3 else np.rint(pixels[..., :3] * (pixels[..., 3:] / 255) + 1e-9)
    np.testing.assert_array_equal(image.pixels, expected)


@pytest.mark.parametrize("sides", [(6, 9, 1), (6, 9, 1, 1), (6, 9, 1, 1, 1)])
def test_empty_axes_are_no_slices(sides):
    pixels = noise(np.uint8)
    np.testing.assert_array_equal(read_image_bytes(nifti(pixels, sides=sides), "a").pixels, pixels)


@pytest.mark.parametrize("sides", [(6, 9, 4), (6, 9, 1, 4), (6, 9, 2, 2)])
def test_slices_are_numbered_along_the_third_axis_then_the_fourth(tmp_path, sides):
    stored = RANDOM.integers(0, 3000, sides, np.int16)
    nibabel.save(nibabel.Nifti1Image(stored, None), tmp_path / "a.nii")
    assert count_frames(tmp_path / "a.nii") == 4
    for frame in range(4):
        image = read_image(tmp_path / "a.nii", frame)
        np.testing.assert_array_equal(image.pixels, stored.reshape(6, 9, 4, order="F")[..., frame].astype(int) + 32768)
        assert (image.low, image.high) == (int(stored.min()) + 32768, int(stored.max()) + 32768), "black and white are those of the volume"
    with pytest.raises(ImageError, match="NIfTI volume of 4 frames, numbered from 0, and has no frame 4"):
        read_image(tmp_path / "a.nii", 4)
    with pytest.raises(ImageError, match="NIfTI volume of 4 frames, and nothing says which one counts"):
        read_image(tmp_path / "a.nii")


def test_a_volume_without_slices_or_larger_than_memory_is_refused():
    with pytest.raises(ImageError, match="6 x 9 x 0, so there is no picture"):
        read_image_bytes(nifti(noise(np.uint8), sides=(6, 9, 0)), "a")
    with pytest.raises(ImageError, match="NIfTI volume of 2,700,000,000 bytes, and at most"):
        read_image_bytes(nifti(noise(np.uint8), sides=(30_000, 3_000, 30)), "a", 0)


@pytest.mark.parametrize("slope", [2.0, -0.5])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_the_range_to_show_is_black_to_white(slope, dtype):
    stored = noise(dtype)
    measured = stored * slope - 10
    low, high = np.percentile(measured, [20, 70]).astype(np.float32)
    image = read_image_bytes(nifti(stored, scl_slope=slope, scl_inter=-10, cal_min=low, cal_max=high), "a")
    assert image.rescale is not None
    np.testing.assert_allclose(image.pixels * image.rescale[0] + image.rescale[1], measured, atol=1e-6)
    most = np.iinfo(image.pixels.dtype).max
    shown = spread(image.pixels, image.low, image.high) / most
    np.testing.assert_allclose(shown, ((measured - low) / (high - low)).clip(0, 1), atol=1.01 / most)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint32])
def test_wide_values_are_shares_of_the_range_to_show_or_of_their_own(dtype):
    stored = RANDOM.normal(0, 1e5, (6, 9)).clip(0 if dtype is np.uint32 else None).astype(dtype)
    image = read_image_bytes(nifti(stored, cal_min=-1e5, cal_max=1.5e5), "a")
    np.testing.assert_allclose(image.pixels / 65535, ((stored + 1e5) / 2.5e5).clip(0, 1), atol=1e-5)
    own = read_image_bytes(nifti(stored), "a")
    low, high = float(stored.min()), float(stored.max())
    np.testing.assert_allclose(own.pixels / 65535, (stored - low) / (high - low), atol=1e-5)


def test_what_is_not_a_number_is_black_and_has_no_part_in_the_range():
    stored = np.array([[np.nan, 1, 2], [np.inf, 3, -np.inf]], np.float32)
    np.testing.assert_array_equal(read_image_bytes(nifti(stored), "a").pixels, [[0, 0, 32768], [65535, 65535, 0]])
    for flat in (np.full((6, 9), np.nan, np.float32), np.zeros((6, 9), np.float32)):
        assert not read_image_bytes(nifti(flat), "a").pixels.any()


def test_values_that_are_no_picture_are_refused():
    volume = nibabel.Nifti1Image(np.ones((6, 9), np.complex64), None)
    with pytest.raises(ImageError, match="NIfTI file of complex64 values, which are no picture"):
        read_image_bytes(volume.to_bytes(), "a")


def test_spacing_without_a_place_in_the_body():
    assert read_image_bytes(nifti(noise(np.uint8), column_mm=0.4, row_mm=0.3), "a").spacing_mm == pytest.approx((0.4, 0.3))
    assert read_image_bytes(nifti(noise(np.uint8), column_mm=0, row_mm=0.3), "a").spacing_mm is None


PLANES = {"axial": ("L", "P"), "coronal": ("L", "I"), "sagittal": ("P", "I")}  # where columns and rows of a film run to


@settings(max_examples=80, deadline=None)
@given(plane=st.sampled_from(sorted(PLANES)), mirror=st.tuples(*[st.booleans()] * 3), turned=st.booleans(), tilt=st.floats(-0.3, 0.3))
def test_slices_lie_as_on_film(plane, mirror, turned, tilt):
    """A slice stored in any direction becomes the film that nibabel's orientation functions make of it."""
    columns, rows = PLANES[plane]
    world = {"L": 0, "R": 0, "P": 1, "A": 1, "I": 2, "S": 2}
    axes = [world[columns], world[rows]] if turned else [world[rows], world[columns]]
    axes.append(3 - sum(axes))
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, direction in enumerate(axes):
        affine[direction, axis] = (0.5, 0.75, 3)[axis] * (-1 if mirror[axis] else 1)
    angle = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    affine[:3, :3] = angle @ affine[:3, :3]
    pixels = noise(np.uint8)
    volume = nibabel.Nifti1Image(pixels[:, :, None], affine)
    image = read_image_bytes(volume.to_bytes(), "a.nii")
    depth = ({"L", "P", "I"} - {columns, rows}).pop()
    to_film = ornt_transform(io_orientation(affine), axcodes2ornt((rows, columns, depth)))
    film = volume.as_reoriented(to_film)
    np.testing.assert_array_equal(image.pixels, np.asanyarray(film.dataobj)[:, :, 0])
    assert image.spacing_mm == pytest.approx(film.header.get_zooms()[:2], abs=1e-5)
    assert image.orientation is not None
    cosines = np.array([float(value) for value in image.orientation.split("\\")]).reshape(2, 3)
    expected = (film.affine[:3, [1, 0]] / film.header.get_zooms()[1::-1]).T * (-1, -1, 1)
    np.testing.assert_allclose(cosines, expected, atol=1e-4)


def test_nifti_2():
    pixels = noise(np.int16)
    image = read_image_bytes(nibabel.Nifti2Image(pixels, None).to_bytes(), "a.nii")
    np.testing.assert_array_equal(image.pixels, pixels.astype(int) + 32768)
