"""Slices in NIfTI: written by hand and by nibabel, and as nibabel's own orientation functions lay them."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from images.made import nifti
from tabib.errors import ImageError
from tabib.images import read_image, read_image_bytes, spread

RANDOM = np.random.default_rng(29)
BUNDLED = Path(nibabel.__file__).parent / "tests" / "data"


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


@pytest.mark.parametrize(("sides", "slices"), [((6, 9, 4), 4), ((6, 9, 1, 12), 12), ((6, 9, 4, 3), 12)])
def test_volumes_say_how_many_slices(sides, slices):
    with pytest.raises(ImageError, match=f"is a NIfTI volume of {slices} slices .*; save the slice that counts"):
        read_image_bytes(nifti(noise(np.uint8), sides=sides), "a")


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


def test_floating_point_needs_a_range():
    stored = RANDOM.normal(0, 1, (6, 9)).astype(np.float32)
    stored[0, 0] = np.nan
    with pytest.raises(ImageError, match="NIfTI slice of float32 values, whose black and white are not defined"):
        read_image_bytes(nifti(stored), "a")
    image = read_image_bytes(nifti(stored, cal_min=-1, cal_max=1.5), "a")
    np.testing.assert_allclose(image.pixels / 65535, np.nan_to_num(((stored + 1) / 2.5).clip(0, 1)), atol=1e-5)
    with pytest.raises(ImageError, match="NIfTI slice of int32 values"):
        read_image_bytes(nifti(np.ones((6, 9), np.int32), cal_min=-1, cal_max=2), "a")


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


def test_every_bundled_volume_is_refused_by_its_slices_and_each_slice_is_read(tmp_path):
    """nibabel brings volumes only, so slices of them are saved by nibabel and read back here."""
    read = refused = 0
    for path in sorted([*BUNDLED.glob("*.nii"), *BUNDLED.glob("*.nii.gz")]):
        volume = nibabel.load(path)
        count = int(np.prod(volume.header.get_data_shape()[2:])) if path.name != "row_major.dconn.nii" else 100
        with pytest.raises(ImageError, match=f"is a NIfTI volume of {count} slices"):
            read_image(path)
        refused += 1
        if volume.ndim < 3 or min(volume.shape) < 2 or volume.get_data_dtype().kind not in "iu":
            continue
        stored = volume.dataobj.get_unscaled().reshape(*volume.shape[:3], -1)[..., 0]
        if stored.dtype.itemsize > 2:
            continue
        for number in range(0, stored.shape[2], 5):
            slice_ = nibabel.Nifti1Image(np.ascontiguousarray(stored[:, :, number]), None)
            slice_.header.set_zooms(volume.header.get_zooms()[:2])
            nibabel.save(slice_, tmp_path / "slice.nii.gz")
            image = read_image(tmp_path / "slice.nii.gz")
            offset = 2 ** (8 * stored.itemsize - 1) if stored.dtype.kind == "i" else 0
            np.testing.assert_array_equal(image.pixels, stored[:, :, number].astype(int) + offset)
            assert image.spacing_mm == pytest.approx(volume.header.get_zooms()[:2])
            read += 1
    assert refused >= 7
    assert read >= 10
