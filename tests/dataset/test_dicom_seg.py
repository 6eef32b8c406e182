"""Trees of DICOM series and segmentation objects: which object lies on which volume, and what its segments are."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydicom.uid import MRImageStorage

from images.made import Folder, enhanced, turned
from masked import study
from tabib.config import SegmentationData
from tabib.dataset import index_folder, inspect_dataset, read_case
from tabib.errors import DataError
from tabib.images import Series, encode_dicom_seg, find_series, read_volume

MADE = datetime(2026, 1, 2, 3, 4, 5)
NAMES = {1: "Myocardium", 2: "LV cavity"}
SHAPE = (20, 24)


def data_of(folder: Path, labels: dict[str, Any] | None = None) -> SegmentationData:
    return study(folder, layout="dicom_seg", labels=labels or {"lv_cavity": 1, "myocardium": 2}).data


def index(folder: Path, labels: dict[str, Any] | None = None) -> pl.DataFrame:
    return index_folder(data_of(folder, labels), workers=1)


def good(found: pl.DataFrame) -> list[dict[str, Any]]:
    return found.filter(pl.col("refused").is_null()).to_dicts()


def write_series(
    place: Path, *, seed: int = 0, times: int = 1, places: tuple[int, ...] = (0, 1, 2), tilt: float = 0.0, **values: Any
) -> Series:
    """A series of slices 8 mm apart below `place`."""
    place.mkdir(parents=True, exist_ok=True)
    files, random = Folder(place), np.random.default_rng(seed)
    files.count = 100 * seed  # other instances, other names
    for at in places:
        for time in range(times):
            pixels, position = random.integers(0, 4096, SHAPE, np.uint16), np.array([0, at * tilt, at * 8.0])
            own: dict[str, Any] = {
                "series": f"1.2.{seed}",
                "PatientID": f"P{seed}",
                "StudyInstanceUID": f"1.7.{seed}",
                "TriggerTime": 30.0 * time,
            }
            files.add(pixels, position, SOPClassUID=MRImageStorage, **own | values)
    found, _ = find_series(files.files())
    return max((one for one in found if one.uid == values.get("series", f"1.2.{seed}")), key=lambda one: len(one.slices[0]))


def labels_of(series: Series) -> np.ndarray:
    """1 a ring and 2 what it encloses, in the first two slices."""
    labels = np.zeros((len(series.slices[0]), *series.shape), np.uint8)
    labels[:2, 4:12, 5:15] = 1
    labels[:2, 6:10, 7:13] = 2
    return labels


def write_mask(path: Path, series: Series, *, names: dict[int, str] | None = None, time: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_dicom_seg(labels_of(series), series, names=names or NAMES, made=MADE, version="1", time=time))
    return path


def test_an_object_lies_on_the_series_that_it_refers_to_and_names_decide(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_mask(tmp_path / "objects" / f"{seed}.dcm", write_series(tmp_path / f"p{seed}/heart", seed=seed))
    write_series(tmp_path / "p1/scout", seed=3, PatientID="P1")
    (tmp_path / "p1/report.txt").write_text("a report")
    found = index(tmp_path)
    assert [(row["path"], row["mask"], row["label"], row["slices"]) for row in good(found)] == [
        (f"p{seed}/heart", f"objects/{seed}.dcm", "lv_cavity|myocardium", 3) for seed in (1, 2)
    ]
    assert len({row["group"] for row in good(found)}) == 2
    assert not any(name in json.dumps(found.drop("thumbnail").to_dicts()) for name in ('"P1"', "1.2.1", "1.7.1"))
    case = read_case(data_of(tmp_path), "p1/heart", "objects/1.dcm")
    expected = labels_of(find_series(sorted((tmp_path / "p1/heart").iterdir()))[0][0])
    np.testing.assert_array_equal(case.structures, np.array([0, 2, 1])[expected])  # the study's order, not the file's
    np.testing.assert_array_equal(case.image.voxels, read_volume(tmp_path / "p1/heart").voxels)
    reasons = dict(found.drop_nulls("refused").select("path", "refused").iter_rows())
    assert {reason.partition(":")[0] for path, reason in reasons.items() if path.startswith("p1/scout")} == {
        "none of the images with masks"
    }
    assert reasons["p1/report.txt"] == "is no DICOM file"
    codes = {finding.code for finding in inspect_dataset(found, study(tmp_path, layout="dicom_seg")).findings}
    assert not codes & {"segments_by_number", "segments_left_out"}


def test_all_files_in_one_folder(tmp_path: Path) -> None:
    one, other = (write_series(tmp_path, seed=seed) for seed in (1, 2))
    write_mask(tmp_path / "a.dcm", one)
    write_mask(tmp_path / "b.dcm", other)
    found = good(index(tmp_path))
    assert {row["mask"] for row in found} == {"a.dcm", "b.dcm"}
    for row in found:
        series = one if row["mask"] == "a.dcm" else other
        case = read_case(data_of(tmp_path), row["path"], row["mask"])
        assert row["path"] == min(slice_.path.name for slice_ in series.slices[0] if slice_)
        assert np.bincount(case.structures.ravel()).tolist() == np.bincount(np.array([0, 2, 1])[labels_of(series)].ravel()).tolist()


@pytest.mark.parametrize("alone", [True, False], ids=["folder", "mixed"])
def test_the_moment_that_it_refers_to(tmp_path: Path, alone: bool) -> None:
    series = write_series(tmp_path / "film", seed=1, times=3)
    if not alone:
        write_series(tmp_path / "film", seed=2)
    write_mask(tmp_path / "mask.dcm", series, time=2)
    (row,) = good(index(tmp_path))
    first = min(one.path.name for one in series.slices[0] if one)
    assert row["path"] == ("film[2]" if alone else f"film/{first}[2]")
    case = read_case(data_of(tmp_path), row["path"], row["mask"])
    assert np.bincount(case.structures.ravel())[1:].tolist() == [2 * 24, 2 * (80 - 24)]
    pixels = [read_volume(tmp_path / "film" / one.path.name).voxels[0] for one in series.slices[2] if one]
    np.testing.assert_array_equal(case.image.voxels, pixels)


def test_a_film_in_one_file(tmp_path: Path) -> None:
    places = [(8.0 * (frame % 3), 40.0 * (frame // 3)) for frame in range(9)]
    (tmp_path / "film.dcm").write_bytes(enhanced(np.random.default_rng(1).integers(0, 4096, (9, *SHAPE), np.uint16), places))
    (series,), _ = find_series([tmp_path / "film.dcm"])
    write_mask(tmp_path / "mask.dcm", series, time=1)
    assert [row["path"] for row in good(index(tmp_path))] == ["film.dcm[1]"]


def test_numbers_decide_where_no_segment_has_the_name_of_a_structure(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.dcm", write_series(tmp_path / "p1", seed=1))
    found = index(tmp_path, {"ring": 1, "core": 2})
    assert json.loads(found["structures"][0]) == {"1": 2 * (80 - 24), "2": 2 * 24}
    assert json.loads(found["mask_facts"][0])["by_number"] == {"ring": "Myocardium", "core": "LV cavity"}


def test_segments_without_a_structure_are_left_out_by_name(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.dcm", write_series(tmp_path / "p1", seed=1))
    found = index(tmp_path, {"myocardium": 2})
    assert json.loads(found["structures"][0]) == {"2": 2 * (80 - 24)}
    assert json.loads(found["mask_facts"][0])["left_out"] == ["LV cavity"]


def test_what_cannot_be_used_says_why(tmp_path: Path) -> None:
    series = {seed: write_series(tmp_path / f"p{seed}", seed=seed) for seed in (1, 2, 3)}
    for name in ("a", "b"):
        write_mask(tmp_path / f"{name}.dcm", series[1])
    write_mask(tmp_path / "gone.dcm", series[2])
    for file in (tmp_path / "p2").iterdir():
        file.unlink()
    write_mask(tmp_path / "cut.dcm", series[3])
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "cut.dcm").read_bytes()[:900])
    write_mask(tmp_path / "c.dcm", write_series(tmp_path / "p4", seed=4))
    reasons = dict(index(tmp_path).drop_nulls("refused").select("path", "refused").iter_rows())
    assert "2 segmentation objects refer to it, 'a.dcm' and 'b.dcm'" in reasons["p1"]
    assert reasons["gone.dcm"].startswith("a mask without an image: the series")
    assert "cut.dcm" in reasons


def test_a_folder_without_objects_says_what_was_expected(tmp_path: Path) -> None:
    write_series(tmp_path / "p1", seed=1)
    with pytest.raises(DataError, match="holds 3 DICOM pictures and no segmentation object"):
        index(tmp_path)


@pytest.mark.parametrize(
    ("places", "tilt", "code", "usable"),
    [((0, 1, 2, 4), 0.0, "slice_missing", False), ((0, 1, 2, 2, 3), 0.0, "slice_doubled", False), ((0, 1, 2), 3.0, "slices_tilted", True)],
    ids=["missing", "doubled", "tilted"],
)
def test_slices_that_do_not_fit_together_are_findings(
    tmp_path: Path, places: tuple[int, ...], tilt: float, code: str, usable: bool
) -> None:
    write_mask(tmp_path / "a.dcm", write_series(tmp_path / "p1", seed=1, places=places, tilt=tilt))
    write_mask(tmp_path / "b.dcm", write_series(tmp_path / "p2", seed=2))
    found = index(tmp_path)
    row = found.filter(pl.col("path") == "p1").row(0, named=True)
    assert [fault["code"] for fault in json.loads(row["stack_faults"])] == [code]
    assert (row["refused"] is None) == usable
    findings = {finding.code: finding for finding in inspect_dataset(found, study(tmp_path, layout="dicom_seg")).findings}
    assert findings[code].rows == [row["row"]]


def test_a_series_that_also_holds_a_scout(tmp_path: Path) -> None:
    write_series(
        tmp_path / "p1", seed=7, series="1.2.1", PatientID="P1", StudyInstanceUID="1.7.1", directions=turned((1.0, 0, 0)), places=(0,)
    )
    write_mask(tmp_path / "a.dcm", write_series(tmp_path / "p1", seed=1))
    (row,) = good(index(tmp_path))
    assert [fault["code"] for fault in json.loads(row["stack_faults"])] == ["orientations_mixed"]
    assert row["slices"] == 3
