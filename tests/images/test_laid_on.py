"""Volumes of one grid with their axes in another order come to lie on one another; nothing else is moved."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tabib.dataset import read_predicted
from tabib.errors import ImageError
from tabib.images import Volume, encode_nifti, laid_on
from tabib.images.image import ImageFacts

FACTS = ImageFacts(format="DICOM", bits=16, mode="MONOCHROME2")


def place(angles: tuple[float, float, float] = (0, 0, 0), spacing: tuple[float, float, float] = (8.0, 1.4, 1.1)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * np.array(spacing)
    affine[:3, 3] = (229.9, -31.0, 112.2)
    return affine


def volume(shape: tuple[int, int, int] = (3, 5, 4), *, affine: np.ndarray | None = None) -> Volume:
    voxels = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    return Volume(voxels, place() if affine is None else affine, (8.0, 1.4, 1.1), FACTS)


@given(angles=st.tuples(*[st.floats(-180, 180)] * 3), shape=st.tuples(*[st.integers(1, 6)] * 3))
def test_what_is_written_for_an_image_lies_on_it_again(tmp_path_factory: pytest.TempPathFactory, angles, shape) -> None:
    image = volume(shape, affine=place(angles))
    file = tmp_path_factory.mktemp("laid") / "mask.nii.gz"
    file.write_bytes(encode_nifti(image))
    np.testing.assert_array_equal(read_predicted(file, image).voxels, image.voxels)


@pytest.mark.parametrize("axes", list(permutations(range(3))), ids=str)
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)), ids=str)
def test_every_order_of_axes(axes: tuple[int, int, int], signs: tuple[int, int, int]) -> None:
    affine = place((20, -35, 70))
    image = volume(affine=affine)
    voxels = image.voxels.transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]
    way = np.zeros((4, 4))  # from places of the other to those of the image
    way[3, 3] = 1
    for axis, (mine, sign) in enumerate(zip(axes, signs, strict=True)):
        way[mine, axis] = sign
        way[mine, 3] = image.voxels.shape[mine] - 1 if sign < 0 else 0
    other = Volume(voxels, affine @ way, (1.0, 1.0, 1.0), FACTS)
    found = laid_on(other, image)
    np.testing.assert_array_equal(found.voxels, image.voxels)
    assert found.affine is not None
    np.testing.assert_allclose(found.affine, affine, atol=1e-9)


@pytest.mark.parametrize("change", ["shift", "angle", "spacing", "unsaid"])
def test_what_lies_elsewhere_stays_as_it_is(change: str) -> None:
    affine = place()
    affine[:3, :3] = affine[:3, :3][:, [0, 2, 1]]
    if change == "shift":
        affine[0, 3] += 0.5
    elif change == "angle":
        affine = place((0, 0, 91))
    elif change == "spacing":
        affine[:3, 1] *= 1.1
    other = Volume(volume((3, 4, 5)).voxels, None if change == "unsaid" else affine, (8.0, 1.1, 1.4), FACTS)
    assert laid_on(other, volume()) is other


def test_a_prediction_of_another_shape_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mask.nii.gz").write_bytes(encode_nifti(volume((2, 5, 4))))
    with pytest.raises(ImageError, match="in 2 slices, and its image 4 x 5 pixels in 3 slices"):
        read_predicted(tmp_path / "mask.nii.gz", volume())
