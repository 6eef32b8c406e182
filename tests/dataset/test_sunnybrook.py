"""Outlined hearts: which slices make a case, at which moment, with which mask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from masked import study
from outlined import DIASTOLE, SPACING, SYSTOLE, middle_of, number_of, square, write_outline, write_sunnybrook
from places import REAL, needs_real
from tabib.config import SegmentationData
from tabib.dataset import index_folder, inspect_dataset, read_case
from tabib.errors import DataError
from tabib.images import read_volume


def data_of(folder: Path, **labels: int) -> SegmentationData:
    return study(folder, layout="sunnybrook", labels=labels or {"lv": 1}).data


def index(folder: Path, **labels: int) -> pl.DataFrame:
    return index_folder(data_of(folder, **labels), workers=1)


def cases(found: pl.DataFrame) -> list[dict[str, Any]]:
    return [row | json.loads(row["facts"]) for row in found.filter(pl.col("refused").is_null()).to_dicts()]


def outlines_of(folder: Path, patient: int = 1) -> Path:
    return folder / "contourfiles" / f"SC-HF-I-{patient}"


@pytest.mark.parametrize("name", ["{}.dcm", "IM-0001-{:04}.dcm", "CINESAX_300/IM-0001-{:04}"], ids=["number", "series", "deep"])
def test_a_case_is_what_was_outlined_at_one_moment(tmp_path: Path, name: str) -> None:
    write_sunnybrook(tmp_path, name=name)
    found = cases(index(tmp_path))
    assert [(row["group"], row["phase"], row["time_point"], row["slices_outlined"]) for row in found] == [
        (f"SCD000000{patient}", phase, str(moment), "3 of 5") for patient in (1, 2) for phase, moment in (("ES", SYSTOLE), ("ED", DIASTOLE))
    ]
    assert all((row["label"], row["slices"], row["phase_from"], row["diagnosis"]) == ("lv", 3, "outlines", "HF-I") for row in found)
    for row in found:
        case = read_case(data_of(tmp_path), row["path"], row["mask"])
        half, middle = 2 if row["phase"] == "ES" else 4, middle_of(int(row["group"][-1]))
        expected = np.zeros((3, 48, 48), np.uint8)
        expected[:, middle - half : middle + half, middle - half : middle + half] = 1
        np.testing.assert_array_equal(case.structures, expected)
        assert (case.image.voxels[case.structures == 1] > 400).all()
        assert case.image.spacing_mm == pytest.approx(SPACING)
        # The slices of the case are those of the whole volume at that moment, in their place.
        whole = read_volume(tmp_path / f"{row['path'].rpartition('/')[0]}[{row['time_point']}]")
        np.testing.assert_array_equal(case.image.voxels, whole.voxels[1:4])
        assert case.image.affine is not None
        assert whole.affine is not None
        np.testing.assert_allclose(case.image.affine @ [0, 0, 0, 1], whole.affine @ [1, 0, 0, 1])
    assert [read_case(data_of(tmp_path), row["path"], None).image.voxels.shape for row in found] == [(3, 48, 48)] * 4


def test_other_pictures_and_files_are_left_aside_with_a_reason(tmp_path: Path) -> None:
    write_sunnybrook(tmp_path)
    (tmp_path / "dicoms/SCD0000003").mkdir()
    (tmp_path / "dicoms/SCD0000001/1.dcm").rename(tmp_path / "dicoms/SCD0000003/1.dcm")
    with (tmp_path / "link.csv").open("a") as file:
        file.write("SCD0000003,SC-N-3\n")
    (tmp_path / "readme.txt").write_text("hearts")
    (tmp_path / "elsewhere.dcm").write_bytes((tmp_path / "dicoms/SCD0000001/2.dcm").read_bytes())
    found = index(tmp_path)
    reasons = dict(found.filter(pl.col("refused").is_not_null()).select("path", "refused").iter_rows())
    start = "none of the images with masks: "
    assert reasons == {
        "dicoms/SCD0000001": f"{start}13 of 19 pictures, at other moments or places than the outlined ones",
        "dicoms/SCD0000002": f"{start}14 of 20 pictures, at other moments or places than the outlined ones",
        "dicoms/SCD0000003": f"{start}1 of 1 pictures, of a heart without outlines",
        "elsewhere.dcm": f"{start}lies in no folder of a patient that link.csv names",
        "readme.txt": f"refused by name: {start}lies in no folder of a patient that link.csv names",
    }
    assert len(cases(found)) == 4


def test_outlines_of_a_patient_that_the_table_does_not_name_are_masks_without_an_image(tmp_path: Path) -> None:
    write_sunnybrook(tmp_path)
    table = (tmp_path / "link.csv").read_text().splitlines(keepends=True)
    (tmp_path / "link.csv").write_text("".join(table[:-1]))
    found = index(tmp_path)
    lost = found.filter(pl.col("refused") == "a mask without an image: lies in no folder of a patient that link.csv names")
    assert lost["path"].str.ends_with("-manual.txt").all()
    assert len(lost) == len(list((tmp_path / "contourfiles").rglob("*.txt"))) / 2
    assert len(cases(found)) == 2


def test_the_myocardium_is_known_where_both_outlines_are(tmp_path: Path) -> None:
    write_sunnybrook(tmp_path, patients=1)
    found = index(tmp_path, lv=1, myocardium=2)
    (row,) = cases(found)
    assert (row["phase"], row["label"]) == ("ED", "lv|myocardium")
    case = read_case(data_of(tmp_path, lv=1, myocardium=2), row["path"], row["mask"])
    assert np.bincount(case.structures.ravel()).tolist() == [3 * (48 * 48 - 12 * 12), 3 * 8 * 8, 3 * (12 * 12 - 8 * 8)]
    assert found["refused"].str.contains("no inner and outer outline of one slice at this moment").sum() == 1
    alone = read_case(data_of(tmp_path, wall=2), row["path"], row["mask"])
    assert np.bincount(alone.structures.ravel()).tolist()[1] == 3 * (12 * 12 - 8 * 8)
    (outlines_of(tmp_path) / f"o-contours/IM-0001-{number_of(1, DIASTOLE):04}-ocontour-manual.txt").unlink()
    assert cases(index(tmp_path, lv=1, myocardium=2))[0]["slices_outlined"] == "2 of 5"


def test_a_slice_that_was_left_out_between_others_leaves_the_volume_unknown(tmp_path: Path) -> None:
    write_sunnybrook(tmp_path, patients=1)
    (outlines_of(tmp_path) / f"i-contours/IM-0001-{number_of(2, SYSTOLE):04}-icontour-manual.txt").unlink()
    found = index(tmp_path)
    assert found["refused"].str.starts_with("slice 3 of 5 has no outline, and slices on both sides have").sum() == 1
    assert [row["phase"] for row in cases(found)] == ["ED"]
    assert "phases_incomplete" in {finding.code for finding in inspect_dataset(found, study(tmp_path, layout="sunnybrook")).findings}


def test_one_moment_has_no_phase(tmp_path: Path) -> None:
    write_sunnybrook(tmp_path, patients=1)
    for place in (1, 2, 3):
        (outlines_of(tmp_path) / f"i-contours/IM-0001-{number_of(place, SYSTOLE):04}-icontour-manual.txt").unlink()
    (row,) = cases(index(tmp_path))
    assert "phase" not in row


def test_what_cannot_be_used_says_why(tmp_path: Path) -> None:
    write_sunnybrook(tmp_path, patients=5)
    leaving = write_outline(outlines_of(tmp_path, 1), number_of(1, DIASTOLE), "i", square(4, middle=46))
    torn = write_outline(outlines_of(tmp_path, 2), number_of(1, DIASTOLE), "i", [(1.0, 1.0)])
    write_outline(outlines_of(tmp_path, 3), 99, "i", square(3, middle=20))
    write_outline(outlines_of(tmp_path, 3) / "again", number_of(1, DIASTOLE), "i", square(3, middle=20))
    twin = tmp_path / "dicoms/SCD0000004/more" / f"{number_of(1, SYSTOLE)}.dcm"
    twin.parent.mkdir()
    twin.write_bytes((tmp_path / "dicoms/SCD0000004" / twin.name).read_bytes())
    (tmp_path / f"dicoms/SCD0000005/{number_of(1, SYSTOLE)}.dcm").write_bytes(b"no picture")
    reasons = dict(index(tmp_path).drop_nulls("refused").select("path", "refused").iter_rows())

    def said(part: str) -> list[str]:
        return [reason for path, reason in reasons.items() if part in path]

    assert f"{leaving.name}: has an outline with 3 of 4 points outside" in " ".join(said("SCD0000001"))
    assert f"{torn.name}: has 1 points" in " ".join(said("SCD0000002"))
    assert any("no picture of 'SCD0000003' has the number 99" in reason for reason in said("SC-HF-I-3"))
    assert any("a second outline of one picture" in reason for reason in said("SC-HF-I-3"))
    assert sum("2 pictures have the number of one outline" in reason for reason in said("SCD0000004")) == 2
    assert any("does not begin as a DICOM file" in reason for reason in said("SCD0000005"))


@pytest.mark.parametrize(
    ("change", "labels", "words"),
    [
        ("", {"lv": 3}, r"the numbers 1, the cavity of the left ventricle, and 2, its wall"),
        ("gone", {"lv": 1}, r"link.csv is missing"),
        ("patient_id,original_id\n", {"lv": 1}, r"0 lines of the columns none"),
        ("patient,original_id\na,b\n", {"lv": 1}, r"1 lines of the columns patient, original_id"),
        ("patient_id,original_id\na,SC-1\nb,SC-01\n", {"lv": 1}, r"no value twice"),
        ("patient_id,original_id\na,b\n", {"lv": 1}, r"no outlines of the 1 patients"),
    ],
    ids=["labels", "missing", "empty", "columns", "twice", "others"],
)
def test_a_folder_that_cannot_be_used_says_what_was_expected(tmp_path: Path, change: str, labels: dict[str, int], words: str) -> None:
    write_sunnybrook(tmp_path, patients=1)
    if change == "gone":
        (tmp_path / "link.csv").unlink()
    elif change:
        (tmp_path / "link.csv").write_text(change)
    with pytest.raises(DataError, match=words):
        index(tmp_path, **labels)


def test_numbers_of_patients_may_have_zeros_in_front(tmp_path: Path) -> None:
    write_sunnybrook(tmp_path, patients=1)
    outlines_of(tmp_path).rename(tmp_path / "contourfiles/SC-HF-I-01")
    assert len(cases(index(tmp_path))) == 2


def test_a_corrected_outline_is_another_case_and_the_same_picture(tmp_path: Path) -> None:
    write_sunnybrook(tmp_path, patients=1)
    before = cases(index(tmp_path))
    write_outline(outlines_of(tmp_path), number_of(1, DIASTOLE), "i", square(3, middle=20))
    write_outline(outlines_of(tmp_path), number_of(1, DIASTOLE), "o", square(7, middle=20))
    after = cases(index(tmp_path))
    assert [one["pixels"] for one in before] == [one["pixels"] for one in after]
    assert [one["content"] == other["content"] for one, other in zip(before, after, strict=True)] == [True, False]


@pytest.mark.real
@needs_real("cardiac_sunnybrook")
def test_real_hearts_have_two_moments_of_nine_slices_whose_cavities_are_pinned() -> None:
    data = data_of(REAL / "cardiac_sunnybrook")
    volumes: dict[tuple[str, str], float] = {}
    for row in cases(index_folder(data)):
        case = read_case(data, row["path"], row["mask"])
        assert len(case.structures) == 9
        assert case.image.spacing_mm == pytest.approx((10, 1.367188, 1.367188), abs=1e-3)
        volumes[row["group"], row["phase"]] = np.count_nonzero(case.structures) * 10 * 1.367188**2 / 1000
    assert volumes == pytest.approx(
        {
            ("SCD0000101", "ED"): 191.4,
            ("SCD0000101", "ES"): 141.1,
            ("SCD0000201", "ED"): 241.5,
            ("SCD0000201", "ES"): 180.2,
        },
        abs=0.1,
    )
