"""DICOM series made here with a known place and time, under shuffled names: stacked, told what is wrong with them, and read."""

from __future__ import annotations

import random

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage

from images.made import Folder, dicom, enhanced, turned
from places import REAL, needs_real
from tabib.errors import ImageError
from tabib.images import find_series, read_series, read_volume

RANDOM = np.random.default_rng(43)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "made")


def voxels(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 4096, shape, np.uint16)


@settings(max_examples=25)
@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    gap=st.floats(0.5, 12),
    start=st.tuples(*[st.floats(-200, 200)] * 3),
    spacing=st.tuples(st.floats(0.2, 3), st.floats(0.2, 3)),
)
def test_slices_stand_where_their_headers_say(tmp_path_factory, angles, gap, start, spacing):
    folder, directions, stored = Folder(tmp_path_factory.mktemp("made") / "a"), turned(angles), voxels(4, 5, 6)
    order = list(range(4))
    random.Random(3).shuffle(order)
    for place in order:
        folder.add(stored[place], np.array(start) + place * gap * directions[2], directions=directions, spacing=spacing)
    (series,), refused = find_series(folder.files())
    assert not refused
    assert series.faults == ()
    volume = read_series(series)
    normal = np.cross(*directions[:2])
    along = 1 if normal @ directions[2] > 0 else -1
    np.testing.assert_array_equal(volume.voxels, stored[::along])
    places = np.array(list(np.ndindex(4, 5, 6)))
    found = places @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    d, h, w = (places * (along, 1, 1) + ((0 if along > 0 else 3), 0, 0)).T[..., None]
    expected = np.array(start) + d * gap * directions[2] + h * spacing[0] * directions[1] + w * spacing[1] * directions[0]
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert volume.spacing_mm == pytest.approx((gap, *spacing), abs=1e-3)
    assert series.patient == "P1"


def test_a_folder_of_one_series_is_a_volume(folder):
    stored = voxels(3, 5, 6)
    for place in (2, 0, 1):
        folder.add(
            stored[place], np.array([0, 0, 4.0 * place]), RescaleSlope=1, RescaleIntercept=-1024, Modality="CT", SOPClassUID=CTImageStorage
        )
    volume = read_volume(folder.path)
    np.testing.assert_array_equal(volume.voxels, stored.astype(int) - 1024)
    assert volume.voxels.dtype == np.int16
    assert volume.facts.format == "DICOM"


@pytest.mark.parametrize("one_series", [True, False])
@pytest.mark.parametrize("clock", ["TriggerTime", "TemporalPositionIndex", "AcquisitionTime", None])
def test_a_beating_heart_is_sorted_by_place_and_time(folder, one_series, clock):
    stored = voxels(3, 4, 5, 6)  # time points, slices, rows, columns
    takes = [(time, place) for time in range(3) for place in range(4)]
    random.Random(5).shuffle(takes)
    for time, place in takes:
        moment = {"TriggerTime": time * (30.0 + place), "TemporalPositionIndex": time + 1, "AcquisitionTime": f"08394{time}.25"}
        folder.add(
            stored[time, place],
            np.array([0, 0, 8.0 * place]),
            series="1.2.3" if one_series else f"1.2.3.{place}",
            SeriesNumber=1 if one_series else place + 1,
            **({clock: moment[clock]} if clock else {"InstanceNumber": 10 * place + time}),
        )
    (series,), _ = find_series(folder.files())
    assert (len(series.slices), len(series.slices[0]), series.faults) == (3, 4, ())
    for time in range(3):
        np.testing.assert_array_equal(read_series(series, time).voxels, stored[time])
    np.testing.assert_array_equal(read_volume(folder.path.with_name(f"{folder.path.name}[1]")).voxels, stored[1])
    with pytest.raises(ImageError, match="3 time points of 4 slices, numbered from 0, and nothing says which one counts"):
        read_volume(folder.path)
    with pytest.raises(ImageError, match="has no time point 3"):
        read_series(series, 3)


def test_a_position_taken_twice_counts_once(folder):
    for number, place in enumerate([0, 1, 2, 1]):
        for time in range(3):
            folder.add(voxels(4, 4), np.array([0, 0, 8.0 * place]), series=f"1.3.{number}", SeriesNumber=number, TriggerTime=30.0 * time)
    heart, repeated = sorted(find_series(folder.files())[0], key=lambda one: -len(one.slices[0]))
    assert (len(heart.slices), len(heart.slices[0])) == (3, 3)
    assert (len(repeated.slices), len(repeated.slices[0]), repeated.uid) == (3, 1, "1.3.1"), "the last series of a position counts"


def faults_of(folder: Folder) -> list[dict[str, object]]:
    return [{"code": fault.code} | fault.figures for series in find_series(folder.files())[0] for fault in series.faults]


def test_missing_slices_are_counted(folder):
    for place in (0, 1, 2, 5, 6, 8):
        folder.add(voxels(4, 4), np.array([0, 0, 3.0 * place]))
    assert faults_of(folder) == [
        {"code": "slice_missing", "after": 2, "gap_mm": 9, "spacing_mm": 3, "missing": 2},
        {"code": "slice_missing", "after": 4, "gap_mm": 6, "spacing_mm": 3, "missing": 1},
    ]
    with pytest.raises(
        ImageError, match=r"do not make one volume: after slice 3 lie 9 mm, and 3 mm elsewhere \(missing: 2\); after slice 5 lie"
    ):
        read_volume(folder.path)


def test_uneven_gaps_are_said(folder):
    for place in (0, 3, 6, 10.2, 13.2):
        folder.add(voxels(4, 4), np.array([0, 0, place]))
    (fault,) = faults_of(folder)
    assert fault["code"] == "slices_uneven"
    assert (fault["least_mm"], fault["most_mm"], fault["spacing_mm"]) == pytest.approx((3, 4.2, 3))
    with pytest.raises(ImageError, match=r"slices lie 3 to 4\.2 mm apart, most of them 3 mm"):
        read_volume(folder.path)


def test_doubled_slices_are_said_and_the_first_counts(folder):
    stored = voxels(4, 4, 4)
    for place in range(4):
        folder.add(stored[place], np.array([0, 0, 3.0 * place]), InstanceNumber=place)
    folder.add(voxels(4, 4), np.array([0, 0, 3.0]), InstanceNumber=50)
    assert faults_of(folder) == [{"code": "slice_doubled", "slice": 1, "copies": 2}]
    (series,), _ = find_series(folder.files())
    np.testing.assert_array_equal(read_series(series).voxels, stored)
    with pytest.raises(ImageError, match="2 pictures claim the place of slice 2"):
        read_volume(folder.path)


def test_a_doubled_time_point_is_no_further_one(folder):
    for place in range(3):
        for time in range(4):
            folder.add(voxels(4, 4), np.array([0, 0, 3.0 * place]), TriggerTime=10.0 * time)
    folder.add(voxels(4, 4), np.array([0, 0, 3.0]), TriggerTime=20.0)
    assert faults_of(folder) == [{"code": "slice_doubled", "slice": 1, "copies": 5}]


def test_a_missing_time_point_is_said_and_refused_when_asked_for(folder):
    for place in range(3):
        for time in range(4 if place != 1 else 3):
            folder.add(voxels(4, 4), np.array([0, 0, 3.0 * place]), TriggerTime=10.0 * time)
    assert faults_of(folder) == [{"code": "phases_differ", "slice": 1, "found": 3, "expected": 4}]
    (series,), _ = find_series(folder.files())
    assert read_series(series, 2).voxels.shape == (3, 4, 4)
    with pytest.raises(ImageError, match="slice 1 of the DICOM series has no time point 3"):
        read_series(series, 3)


@pytest.mark.parametrize("degrees", [0.1, 12.0, -20.0])
def test_a_tilted_gantry_is_in_the_affine(folder, degrees):
    stored, step = voxels(5, 4, 4), np.array([0, 5 * np.tan(np.radians(degrees)), 5.0])
    for place in range(5):
        folder.add(stored[place], place * step)
    expected = [{"code": "slices_tilted", "degrees": pytest.approx(abs(degrees), abs=0.01)}] if abs(degrees) > 1 else []
    assert faults_of(folder) == expected
    volume = read_volume(folder.path)
    np.testing.assert_allclose(volume.affine[:3, 0], step, atol=1e-5)
    assert volume.spacing_mm == pytest.approx((5, 1.5, 1.25)), "between slices it is the distance of the planes"


def test_slices_beside_the_line_are_said(folder):
    for place in range(5):
        folder.add(voxels(4, 4), np.array([6.0 if place == 2 else 0, 0, 5.0 * place]))
    (fault,) = faults_of(folder)
    assert fault["code"] == "slices_shifted"
    assert 4 < fault["most_mm"] <= 6


def test_mixed_files_are_stacks_of_their_own(folder):
    for place in range(3):
        folder.add(voxels(4, 4), np.array([0, 0, 5.0 * place]))
        folder.add(voxels(4, 6), np.array([0, 0, 5.0 * place]))
        folder.add(voxels(4, 4), np.array([0, 0, 5.0 * place]), spacing=(2, 2))
        folder.add(voxels(4, 4), np.array([5.0 * place, 0, 0]), directions=turned((0, np.pi / 2, 0)))
    series, _ = find_series(folder.files())
    assert len(series) == 4
    for one in series:
        assert [fault.code for fault in one.faults] == ["sizes_mixed", "spacings_mixed", "orientations_mixed"]
        assert (len(one.slices), len(one.slices[0])) == (1, 3)
    with pytest.raises(ImageError, match=r"holds 4 DICOM series or stacks \(3 slices of"):
        read_volume(folder.path)


def test_frames_of_one_file_are_sorted_as_well(tmp_path):
    stored = voxels(3, 4, 5, 6)
    takes = [(time, place) for time in range(3) for place in range(4)]
    random.Random(9).shuffle(takes)
    frames = np.stack([stored[take] for take in takes])
    (tmp_path / "a.dcm").write_bytes(enhanced(frames, [(8.0 * place, 40.0 * time) for time, place in takes]))
    (series,), _ = find_series([tmp_path / "a.dcm"])
    assert series.faults == ()
    for time in range(3):
        volume = read_volume(tmp_path / f"a.dcm[{time}]")
        np.testing.assert_array_equal(volume.voxels, stored[time])
    assert volume.spacing_mm == pytest.approx((8, 1.5, 1.25))


@pytest.mark.parametrize("film", [True, False])
def test_frames_that_stand_nowhere_are_a_film_or_a_stack(tmp_path, film):
    stored = voxels(4, 5, 6)
    values = {"NumberOfFrames": 4, "Rows": 5, "Columns": 6} | ({"FrameTime": 33} if film else {})
    (tmp_path / "a.dcm").write_bytes(dicom(stored.reshape(-1, 6), bits=12, values=values))
    if film:
        np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm[2]").voxels, stored[2:3])
    else:
        volume = read_volume(tmp_path / "a.dcm")
        np.testing.assert_array_equal(volume.voxels, stored)
        assert (volume.affine, volume.spacing_mm) == (None, None)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("colour", ["MONOCHROME1", "MONOCHROME2"])
def test_values_are_rescaled_and_not_windowed(tmp_path, signed, colour):
    stored = RANDOM.integers(-2048, 2048, (5, 6)).astype(np.int16) if signed else voxels(5, 6)
    values = {"RescaleSlope": 0.5, "RescaleIntercept": 3, "WindowCenter": 40, "WindowWidth": 10}
    (tmp_path / "a").write_bytes(
        dicom(stored & 0xFFF if signed else stored, bits=12, colour=colour, values=values | {"PixelRepresentation": int(signed)})
    )
    inverted = (-1 if signed else 4095) - stored.astype(int)
    np.testing.assert_allclose(read_volume(tmp_path / "a").voxels[0], (inverted if colour == "MONOCHROME1" else stored) * 0.5 + 3)


def test_what_is_no_picture_has_a_reason(folder):
    folder.add(voxels(4, 4), np.zeros(3), ImageOrientationPatient=[1, 0, 0, 1, 0, 0])
    (folder.path / "notes.txt").write_text("no picture")
    (folder.path / "empty.dcm").write_bytes(b"")
    series, refused = find_series(folder.files())
    assert series == []
    assert [words for words in sorted(refused.values()) if "1, 0, 0, 1, 0, 0, where two directions at right angles were expected" in words]
    assert len(refused) == 3
    with pytest.raises(ImageError, match="is a folder without a DICOM picture"):
        read_volume(folder.path)


def test_pictures_of_other_studies_do_not_join(folder):
    for place in range(2):
        for time in range(2):
            folder.add(
                voxels(4, 4), np.array([0, 0, 8.0 * place]), series=f"1.3.{place}", StudyInstanceUID=f"1.4.{place}", TriggerTime=30.0 * time
            )
    assert len(find_series(folder.files())[0]) == 2


@pytest.mark.real
@needs_real("cardiac_sunnybrook")
def test_real_hearts_are_twenty_time_points_of_even_slices():
    hearts, refused = find_series(sorted((REAL / "cardiac_sunnybrook" / "dicoms").rglob("*.dcm")))
    assert not refused
    assert [(len(heart.slices), len(heart.slices[0]), heart.faults) for heart in hearts] == [(20, 12, ()), (20, 13, ())]
    for heart in hearts:
        assert heart.spacing_mm == pytest.approx((10, 1.367188, 1.367188), abs=1e-3)
        volume = read_series(heart, 7)
        for place in (0, 5, 11):
            picked = heart.slices[7][place]
            file = pydicom.dcmread(picked.path)
            np.testing.assert_array_equal(volume.voxels[place], file.pixel_array)
            np.testing.assert_allclose(
                volume.affine[:3] @ [place, 0, 0, 1], [float(value) for value in file.ImagePositionPatient], atol=0.01
            )
        times = [[pydicom.dcmread(one.path, specific_tags=["TriggerTime"]).TriggerTime for one in slices] for slices in heart.slices[::6]]
        assert (np.diff(np.array(times, float), axis=0) > 0).all()


@pytest.mark.real
@needs_real("dicom_samples")
def test_a_real_film_of_a_heart_is_sixteen_time_points():
    path = REAL / "dicom_samples" / "MR-MONO2-8-16x-heart.dcm"
    pixels = pydicom.dcmread(path).pixel_array
    for time in (0, 15):
        np.testing.assert_array_equal(read_volume(path.with_name(f"{path.name}[{time}]")).voxels[0], pixels[time])
