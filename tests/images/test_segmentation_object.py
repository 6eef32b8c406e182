"""DICOM segmentation objects: as highdicom reads them, back on the voxels of their source, and refused where they do not lie there."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.config import disable_value_validation
from pydicom.sr.codedict import codes
from pydicom.uid import MRImageStorage

from images.made import Folder, enhanced, turned
from places import REAL, needs_real
from tabib.errors import ImageError
from tabib.images import cut, encode_dicom_seg, find_series, read_dicom_seg, read_mask, read_series

RANDOM = np.random.default_rng(47)
MADE = datetime(2026, 1, 2, 3, 4, 5)
NAMES = {2: "right ventricle", 5: "myocardium", 9: "left ventricle"}
SEGMENTS = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}


def made(folder, *, angles=(0.0, 0.0, 0.0), gap=8.0, one_series=True, times=1):
    """A series of 4 slices of 5 x 6."""
    files, directions = Folder(folder), turned(angles)
    for place in (2, 0, 3, 1):
        for time in range(times):
            files.add(
                RANDOM.integers(0, 4096, (5, 6), np.uint16),
                place * gap * directions[2],
                directions=directions,
                series="1.2.3" if one_series else f"1.2.3.{place}",
                SOPClassUID=MRImageStorage,
                TriggerTime=30.0 * time,
            )
    (series,), _ = find_series(files.files())
    return series


def written(path, series, labels, **options):
    path.write_bytes(encode_dicom_seg(labels, series, names=NAMES, made=MADE, version="1.0", **options))
    return path


def some_labels() -> np.ndarray:
    labels = RANDOM.choice([0, 2, 5, 9], (4, 5, 6), p=[0.7, 0.1, 0.1, 0.1])
    labels[1] = 0  # empty frames are not stored
    labels[0, 0, :3] = 2, 5, 9
    return labels


def numbered(labels: np.ndarray) -> np.ndarray:
    return np.select([labels == 2, labels == 5, labels == 9], [1, 2, 3], 0)


@settings(max_examples=4)
@given(angles=st.tuples(*[st.floats(-3, 3)] * 3), gap=st.floats(1, 12))
def test_a_mask_comes_back_on_its_source(tmp_path_factory, angles, gap):
    folder = tmp_path_factory.mktemp("seg")
    series, labels = made(folder / "source", angles=angles, gap=gap), some_labels()
    path = written(folder / "seg.dcm", series, labels)
    assert path.read_bytes() == encode_dicom_seg(labels, series, names=NAMES, made=MADE, version="1.0"), "the same every time"
    source = read_series(series)
    mask, names = read_dicom_seg(path, source)
    np.testing.assert_array_equal(mask.voxels, numbered(labels))
    assert names == SEGMENTS
    np.testing.assert_array_equal(mask.affine, source.affine)
    theirs = highdicom.seg.segread(path)
    assert theirs.segmentation_type.value == "BINARY"
    assert {number: theirs.get_segment_description(number).segment_label for number in (1, 2, 3)} == SEGMENTS
    uids = [one.uid for one in series.slices[0]]
    found = theirs.get_pixels_by_source_instance(uids, combine_segments=True, assert_missing_frames_are_empty=True)
    np.testing.assert_array_equal(found, numbered(labels))
    mirrored = source.affine @ np.array([[1, 0, 0, 0], [0, -1, 0, 4], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    upside_down = replace(source, voxels=source.voxels[:, ::-1], affine=mirrored)
    np.testing.assert_array_equal(read_dicom_seg(path, upside_down)[0].voxels, numbered(labels)[:, ::-1])


def test_each_slice_is_referred_to_in_its_own_series(tmp_path):
    series, labels = made(tmp_path / "source", one_series=False, times=2), some_labels()
    path = written(tmp_path / "seg.dcm", series, labels, time=1)
    file = pydicom.dcmread(path)
    referred = {
        str(instance.ReferencedSOPInstanceUID): str(item.SeriesInstanceUID)
        for item in file.ReferencedSeriesSequence
        for instance in item.ReferencedInstanceSequence
    }
    sources = [pydicom.dcmread(one.path) for one in series.slices[1]]
    assert referred == {source.SOPInstanceUID: source.SeriesInstanceUID for source in sources}
    assert (file.PatientID, file.StudyInstanceUID, file.ContentDate) == ("P1", "1.2", "20260102")
    np.testing.assert_array_equal(read_dicom_seg(path, read_series(series, 1))[0].voxels, numbered(labels))


def test_frames_of_one_time_point_are_referred_to_in_one_file(tmp_path):
    places = [(8.0 * (frame % 4), 40.0 * (frame // 4)) for frame in range(12)]
    (tmp_path / "a.dcm").write_bytes(enhanced(RANDOM.integers(0, 4096, (12, 5, 6), np.uint16), places))
    (series,), _ = find_series([tmp_path / "a.dcm"])
    labels = np.full((4, 5, 6), 5)
    path = written(tmp_path / "seg.dcm", series, labels, time=1)
    np.testing.assert_array_equal(read_dicom_seg(path, read_series(series, 1))[0].voxels, 2)
    groups = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence
    referred = [[int(one.ReferencedFrameNumber) for one in group.DerivationImageSequence[0].SourceImageSequence] for group in groups]
    assert sorted(referred) == [[5], [6], [7], [8]]


def test_it_is_no_picture_and_no_mask_without_its_source(tmp_path):
    path = written(tmp_path / "seg.dcm", made(tmp_path / "source"), some_labels())
    with pytest.raises(ImageError, match="Segmentation Storage"):
        read_mask(path)


def test_other_voxels_are_refused(tmp_path):
    series, labels = made(tmp_path / "source"), some_labels()
    path, source = written(tmp_path / "seg.dcm", series, labels), read_series(series)
    moved = source.affine.copy()
    moved[:3, 3] += source.affine[:3, 2] / 2
    with pytest.raises(ImageError, match=r"seg.dcm: .*pixels lie between the voxels of its source"):
        read_dicom_seg(path, replace(source, affine=moved))
    with pytest.raises(ImageError, match="with pixels outside its source"):
        read_dicom_seg(path, cut(source, (1, 0, 0), (3, 5, 6)))
    with pytest.raises(ImageError, match="its source does not say where it lies in the body"):
        read_dicom_seg(path, replace(source, affine=None))
    wider = cut(source, (-1, -2, -3), (7, 9, 10))
    np.testing.assert_array_equal(cut(read_dicom_seg(path, wider)[0], (1, 2, 3), (4, 5, 6)).voxels, numbered(labels))
    with pytest.raises(ImageError, match=r"is no DICOM segmentation object of whole pixels \(SegmentationType None\)"):
        read_dicom_seg(series.slices[0][0].path, source)


@pytest.mark.parametrize(("kind", "words"), [("BINARY", r"segments overlap in 2 voxels"), ("FRACTIONAL", r"SegmentationType FRACTIONAL")])
def test_what_a_mask_cannot_hold_is_refused(tmp_path, kind, words):
    series = made(tmp_path / "source")
    files = [pydicom.dcmread(one.path) for one in series.slices[0]]
    for file in files:
        for name in (
            "AccessionNumber",
            "PatientBirthDate",
            "PatientName",
            "PatientSex",
            "ReferringPhysicianName",
            "StudyDate",
            "StudyID",
            "StudyTime",
        ):
            setattr(file, name, None)
    pixels = np.zeros((4, 5, 6, 2), np.uint8 if kind == "BINARY" else np.float32)
    pixels[2, 3, 1:4, 0] = pixels[2, 3, 2:5, 1] = 1
    segments = [highdicom.seg.SegmentDescription(number, f"s{number}", codes.SCT.Tissue, codes.SCT.Tissue, "MANUAL") for number in (1, 2)]
    uids = [highdicom.UID() for _ in range(2)]
    seg = highdicom.seg.Segmentation(files, pixels, kind, segments, uids[0], 5, uids[1], 1, "maker", "model", "1", "1")
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.raises(ImageError, match=words):
        read_dicom_seg(tmp_path / "seg.dcm", read_series(series))


def test_wrong_labels_are_refused_when_written(tmp_path):
    series, labels = made(tmp_path / "source"), some_labels()
    with pytest.raises(ValueError, match="not one of 4 slices of 5 x 6"):
        encode_dicom_seg(labels[1:], series, names=NAMES, made=MADE, version="1.0")
    with pytest.raises(ValueError, match=r"labels \[9\] of \[2, 5, 9\] have no name"):
        encode_dicom_seg(labels, series, names={2: "a", 5: "b"}, made=MADE, version="1.0")
    with pytest.raises(ValueError, match="or there are none"):
        encode_dicom_seg(np.zeros_like(labels), series, names=NAMES, made=MADE, version="1.0")


@pytest.mark.real
@needs_real("cardiac_sunnybrook")
def test_a_real_heart_with_broken_identifiers_takes_a_mask(tmp_path):
    series = find_series(sorted((REAL / "cardiac_sunnybrook" / "dicoms" / "SCD0000201").glob("*.dcm")))[0][0]
    source = read_series(series, 5)
    labels = np.zeros(source.voxels.shape, np.uint8)
    labels[3:9, 100:130, 90:140] = 2
    labels[4:8, 110:120, 100:130] = 9
    path = written(tmp_path / "seg.dcm", series, labels, time=5)
    np.testing.assert_array_equal(read_dicom_seg(path, source)[0].voxels, numbered(labels))
    with disable_value_validation():
        referred = pydicom.dcmread(path).ReferencedSeriesSequence[0].ReferencedInstanceSequence
        assert {str(one.ReferencedSOPInstanceUID) for one in referred} == {one.uid for one in series.slices[5]}
