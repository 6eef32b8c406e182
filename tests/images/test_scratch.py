"""Arrays in temporary files: the same answers as in memory, whatever their shape."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tabib.errors import RunError
from tabib.images import (
    ImageFacts,
    Volume,
    compact,
    encode_nifti,
    fill_holes,
    keep_largest,
    read_volume,
    resample,
    scratch,
    slice_by_slice,
)

HOUSE = sys.modules["tabib.images.scratch"]  # the room gives the function the name of its module
SIDES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
QUICK = settings(max_examples=40, deadline=None)


def by_place(work: Callable[[], np.ndarray], *, step: int = 2**24) -> tuple[np.ndarray, np.ndarray]:
    """What work gives where every array lies in a file, and where none does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HOUSE, "STEP", step)
        patch.setattr(HOUSE, "LARGE", 0)
        in_files = work()
        patch.setattr(HOUSE, "LARGE", 2**60)
        return in_files, work()


def test_a_large_array_is_no_memory_of_the_process_and_leaves_no_file(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    size = 3 * HOUSE.LARGE
    before = anonymous()
    array = scratch((3, HOUSE.LARGE), np.uint8)
    assert not array.any()
    array[...] = 7
    assert anonymous() - before < size / 10
    assert int(array.sum(dtype=np.int64)) == 7 * size
    assert not list(tmp_path.iterdir())


def anonymous() -> int:
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("RssAnon"))


def test_the_file_goes_with_the_last_array_that_looks_at_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    part = scratch((2, HOUSE.LARGE), np.uint8)[1:, ::2]
    assert str(tmp_path) in Path("/proc/self/maps").read_text()
    assert part.base is not None
    del part
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_an_exception_leaves_no_file(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fails(_: np.ndarray) -> np.ndarray:
        raise ValueError("a slice that cannot be")

    with pytest.raises(ValueError, match="cannot be"):
        slice_by_slice(fails, np.zeros((2, HOUSE.LARGE, 1), np.uint8), dtype=np.uint8)
    assert not list(tmp_path.iterdir())


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_said_before_anything_is_written(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunError, match=r"has no place for 16,777,217 bytes.*TMPDIR"):
        scratch((2**24 + 1,), np.uint8)
    assert scratch((2**24,), np.uint8).shape == (2**24,)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_no_fault_of_the_image(tmp_path, monkeypatch) -> None:
    facts = ImageFacts(format="NIfTI", bits=8, mode="uint8")
    (tmp_path / "a.nii.gz").write_bytes(encode_nifti(Volume(np.zeros((2, 3, 4), np.uint8), None, None, facts)))
    monkeypatch.setattr(HOUSE, "LARGE", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunError, match="no place for 24 bytes"):
        read_volume(tmp_path / "a.nii.gz")


@QUICK
@given(SIDES, st.sampled_from([0, 50, 10**6]), st.integers(0, 2))
def test_slabs_cover_an_array_once(shape, step, axis) -> None:
    array = np.zeros(shape, np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HOUSE, "STEP", step)
        for place in HOUSE.slabs(array, axis):
            assert array[place].shape[axis] == 1 or array[place].nbytes <= step
            array[place] += 1
    assert (array == 1).all()


@QUICK
@given(SIDES, st.permutations(range(3)), st.sampled_from([np.float16, np.float32]))
def test_compact_keeps_values(shape, axes, dtype) -> None:
    values = np.random.default_rng(1).random(shape, np.float32).transpose(axes)
    for found in by_place(lambda: compact(values, dtype)):
        assert found.flags.c_contiguous
        assert np.array_equal(found, values.astype(dtype))
        assert compact(found) is found


@QUICK
@given(SIDES, SIDES, st.integers(1, 3), st.sampled_from([0, 200, 2**24]))
def test_resampled_by_slabs_is_resampled_whole(shape, wanted, channels, step) -> None:
    values = np.random.default_rng(2).random((channels, *shape), np.float32)
    in_files, in_memory = by_place(lambda: resample(values, wanted), step=step)
    assert in_files.tobytes() == in_memory.tobytes(), "wherever it lies, to the bit"
    # A product of matrices adds in an order that depends on their sides, so the last bits may differ.
    np.testing.assert_allclose(in_files, resample(values, wanted), atol=1e-6)
    assert in_files.shape == (channels, *wanted)


@QUICK
@given(SIDES, st.integers(0, 2**32))
def test_parts_and_holes_are_those_of_the_whole_map(shape, seed) -> None:
    labels = np.random.default_rng(seed).choice(3, shape, p=[0.5, 0.35, 0.15]).astype(np.uint8)
    parts, count = ndimage.label(labels == 1, structure=np.ones((3, 3, 3)))
    largest = 1 + int(np.bincount(parts.ravel())[1:].argmax()) if count else 0
    kept = np.where((parts > 0) & (parts != largest), 0, labels)
    for found in by_place(lambda: keep_largest(labels, 1)):
        assert found.dtype == labels.dtype
        assert np.array_equal(found, kept)
    assert np.array_equal(*by_place(lambda: fill_holes(labels, 1)))


@QUICK
@given(
    shape=SIDES,
    dtype=st.sampled_from([np.uint8, np.int16, np.float32]),
    kind=st.sampled_from([nibabel.Nifti1Image, nibabel.Nifti2Image]),
    slope=st.sampled_from([1, 0.25, -3]),
    packed=st.booleans(),
    axes=st.permutations(range(3)),
)
def test_a_volume_is_read_into_files_as_into_memory(folder, shape, dtype, kind, slope, packed, axes) -> None:
    stored = np.random.default_rng(5).integers(0, 200, shape).astype(dtype)
    image = kind(stored, np.vstack([np.eye(4)[list(axes)] * -1.5, [0, 0, 0, 1]]))
    image.header.set_slope_inter(slope, 7)
    path = folder / ("b.nii.gz" if packed else "b.nii")
    nibabel.save(image, path)
    in_files, in_memory = by_place(lambda: read_volume(path).voxels)
    assert (in_files.dtype, in_files.tobytes()) == (in_memory.dtype, in_memory.tobytes())
    assert not in_files.flags.writeable
    values = np.sort(np.asarray(nibabel.load(path).dataobj).ravel())
    assert np.allclose(np.sort(in_files.ravel()), values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("volumes")
