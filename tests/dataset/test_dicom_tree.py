"""Trees of DICOM files under any names, and tables that name them by what their headers hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian
from typer.testing import CliRunner

from images.made import dicom
from made_index import film
from places import REAL, needs_real
from tabib.cli import app
from tabib.config import Data, Study
from tabib.dataset import index_folder, inspect_dataset, lost_images, patients_known, split_dataset
from tabib.errors import DataError, StudyError
from tabib.images import IDENTIFIERS, identify_dicom
from tabib.images import dicom as dicom_reader
from tabib.records import Findings
from tabib.runs import open_run
from tabib.study import run_study
from tiny import tiny_study

PATIENTS, STUDIES, SERIES, IMAGES = 8, 2, 2, 2
SR, DIRECTORY, SEGMENTATION = "1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.1.3.10", "1.2.840.10008.5.1.4.1.1.66.4"
NO_PICTURE = ("Rows", "Columns", "PixelData", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored")

Names = dict[str, str]


def names_of(patient: int, study: int, series: int, image: int) -> Names:
    uid = f"1.2.826.{patient + 1}.{study + 1}"
    return {
        "PatientID": f"HOSP-{patient:04}",
        "AccessionNumber": f"A{patient}{study}",
        "StudyInstanceUID": uid,
        "SeriesInstanceUID": f"{uid}.{series + 1}",
        "SOPInstanceUID": f"{uid}.{series + 1}.{image + 1}",
    }


def write(path: Path, names: Names, *, seed: int, **made: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = names | made.pop("values", {})  # pyright: ignore[reportOperatorIssue]
    path.write_bytes(dicom(film(seed, side=32), bits=8, values=values, **made))  # pyright: ignore[reportArgumentType]


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, Names]:
    """What is called how, by path below tmp_path / "export": a folder for each study, of names that say nothing."""
    files: dict[str, Names] = {}
    for number, place in enumerate(np.ndindex(PATIENTS, STUDIES, SERIES, IMAGES)):
        path = f"DICOM/S{number // (SERIES * IMAGES):03}/IM{number % (SERIES * IMAGES):04}"
        files[path] = names_of(*map(int, place))
        write(tmp_path / "export" / path, files[path], seed=number)
    return files


def data(folder: Path, lines: Sequence[str], **settings: object) -> Data:
    table = folder / "labels.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Data.model_validate({"folder": folder / "export", "layout": "dicom", "table": table, **settings})


def by(tree: dict[str, Names], kind: str) -> dict[str, list[str]]:
    """The paths of each value of an identifier."""
    paths: dict[str, list[str]] = {}
    for path, names in tree.items():
        paths.setdefault(names[kind], []).append(path)
    return paths


def labels_of(tree: dict[str, Names], kind: str) -> list[str]:
    return ["path,label", *(f"{value},{'ab'[number % 2]}" for number, value in enumerate(by(tree, kind)))]


def good(index: pl.DataFrame) -> pl.DataFrame:
    return index.filter(pl.col("refused").is_null())


@pytest.mark.parametrize("kind", IDENTIFIERS)
def test_a_table_names_pictures_by_any_identifier(tmp_path: Path, tree: dict[str, Names], kind: str) -> None:
    index = index_folder(data(tmp_path, labels_of(tree, kind)), workers=1)
    expected = {path: "ab"[number % 2] for number, paths in enumerate(by(tree, kind).values()) for path in paths}
    assert dict(index.select("path", "label").iter_rows()) == expected
    groups = dict(index.select("path", "group").iter_rows())
    patients = [{groups[path] for path in paths} for paths in by(tree, "PatientID").values()]
    assert [len(found) for found in patients] == [1] * PATIENTS
    assert len(set.union(*patients)) == PATIENTS
    values = {value for names in tree.values() for value in names.values()}
    assert not any(value in str(row) for row in index.drop("thumbnail").iter_rows() for value in values)


def test_no_patient_stands_on_two_sides(tmp_path: Path, tree: dict[str, Names]) -> None:
    study = Study(name="films", data=data(tmp_path, labels_of(tree, "StudyInstanceUID")))
    index = index_folder(study.data, workers=2)
    assert index.equals(index_folder(study.data, workers=1))
    parts = dict(split_dataset(index, Findings(findings=[]), study).select("path", "part").iter_rows())
    assert [len({parts[path] for path in paths}) for paths in by(tree, "PatientID").values()] == [1] * PATIENTS
    assert set(parts.values()) == {"train", "validation", "test"}


def test_what_is_no_picture_is_left_out_and_counted(tmp_path: Path, tree: dict[str, Names]) -> None:
    folder, names = tmp_path / "export", names_of(0, 0, 0, 9)
    write(folder / "SR0001", names, seed=1, values={"SOPClassUID": SR}, drop=NO_PICTURE)
    write(folder / "DICOMDIR", names, seed=1, values={"SOPClassUID": DIRECTORY}, drop=NO_PICTURE)
    write(folder / "SEG01", names, seed=1, values={"SOPClassUID": SEGMENTATION})
    (folder / "report.txt").write_text("for the patient", encoding="utf-8")
    (folder / "IM9998").write_bytes(b"")
    (folder / "IM9999.dcm").write_bytes(b"<html>")
    (folder / "bare").write_bytes(next(path for path in folder.rglob("IM0000")).read_bytes()[132:])
    cut = (folder / "DICOM" / "S000" / "IM0000").read_bytes()
    (folder / "cut").write_bytes(cut[:200])
    index = index_folder(data(tmp_path, labels_of(tree, "PatientID")), workers=1)
    reasons = dict(index.drop_nulls("refused").select("path", "refused").iter_rows())
    assert reasons["SR0001"] == "is a DICOM object without a picture (Basic Text SR Storage)"
    assert reasons["DICOMDIR"] == "is a DICOM object without a picture (Media Storage Directory Storage)"
    assert reasons["SEG01"] == "is a DICOM object without a picture (Segmentation Storage)"
    assert reasons["report.txt"] == "is no DICOM file"
    lost = dict(lost_images(index).select("path", "refused").iter_rows())
    assert set(lost) == {"IM9998", "IM9999.dcm", "bare", "cut"} == set(reasons) - {"SR0001", "DICOMDIR", "SEG01", "report.txt"}
    assert "is empty" in lost["IM9998"]
    assert "does not begin as a DICOM file" in lost["IM9999.dcm"]
    assert "without its preamble" in lost["bare"]
    assert len(good(index)) == len(tree)


def test_lines_without_a_picture_and_lines_that_differ_are_rows(tmp_path: Path, tree: dict[str, Names]) -> None:
    series = list(by(tree, "SeriesInstanceUID"))
    lines = [f"{uid},{'ab'[number % 2]}" for number, uid in enumerate(series[2:])]
    lines += [f"{series[1]},a", f"{series[1]},a", "9.9.9,a", ",b", f"{series[2]},b", f"{series[3]},"]
    index = index_folder(data(tmp_path, ["series,label", *lines], columns={"path": "series"}), workers=1)
    reasons = dict(index.drop_nulls("refused").select("path", "refused").iter_rows())
    first = len(series[2:]) + 4
    assert reasons.pop(f"labels.csv, line {first}") == "no DICOM picture below the folder has this SeriesInstanceUID"
    assert reasons.pop(f"labels.csv, line {first + 1}") == "the line names no picture"
    paths = by(tree, "SeriesInstanceUID")
    assert {reasons.pop(path) for path in paths[series[0]]} == {"the table does not name it"}
    twice = {reasons.pop(path) for uid in series[2:4] for path in paths[uid]}
    assert twice == {"stands in labels.csv several times, and not with the same values"}
    assert reasons == {}
    assert set(paths[series[1]]) < set(good(index)["path"])


def test_the_other_columns_of_a_table_work(tmp_path: Path, tree: dict[str, Names]) -> None:
    header = "StudyInstanceUID,label,part,age,who,hospital"
    lines = [
        f"{uid},{'ab'[number % 2]},{'train' if number % 4 < 2 else 'test'},{number},w{number // 4},X"
        for number, uid in enumerate(by(tree, "StudyInstanceUID"))
    ]
    columns = {"path": "StudyInstanceUID", "part": "part", "facts": ["age"], "group": "who", "site": "hospital"}
    index = index_folder(data(tmp_path, [header, *lines], columns=columns), workers=1)
    assert index.select("given", "group", "site", "facts").row(-1) == ("test", "w3", "X", '{"age": "15"}')
    wrong = data(tmp_path, [header, *lines, f"{tree['DICOM/S000/IM0000']['StudyInstanceUID']},a,later,1,w,X"], columns=columns)
    assert "several times" in index_folder(wrong, workers=1)["refused"][0]
    by_path = data(tmp_path, [header, *lines], columns={"path": "StudyInstanceUID"}, group=r"(S\d+)/")
    assert index_folder(by_path, workers=1)["group"].n_unique() == PATIENTS * STUDIES


def test_a_column_that_may_mean_two_things_is_refused_unless_its_name_says_which(tmp_path: Path) -> None:
    for number in range(8):
        names = names_of(number, 0, 0, 0) | {"PatientID": str(number), "AccessionNumber": str(7 - number)}
        write(tmp_path / "export" / f"IM{number}", names, seed=number)
    lines = [f"{number},{'ab'[number // 4]}" for number in range(8)]
    with pytest.raises(DataError, match="8 as AccessionNumber, 8 as PatientID are found, and they speak of different pictures"):
        index_folder(data(tmp_path, ["number,label", *lines], columns={"path": "number"}), workers=1)
    for kind, expected in (("PatientID", "aaaabbbb"), ("AccessionNumber", "bbbbaaaa")):
        index = index_folder(data(tmp_path, [f"{kind},label", *lines], columns={"path": kind}), workers=1)
        assert "".join(index["label"]) == expected


def test_what_most_lines_are_found_as_decides_and_the_same_pictures_are_no_doubt(tmp_path: Path) -> None:
    for number in range(6):
        same = names_of(number, 0, 0, 0)
        write(tmp_path / "export" / f"IM{number}", same | {"AccessionNumber": same["PatientID"]}, seed=number)
    lines = ["path,label", *(f"HOSP-{number:04},{'ab'[number % 2]}" for number in range(6)), "1.2.826.1.1.1,a"]
    index = index_folder(data(tmp_path, lines), workers=1)
    assert (len(good(index)), lost_images(index)["path"].to_list()) == (6, ["labels.csv, line 8"])


def test_a_table_of_something_else_is_said_without_a_name(tmp_path: Path, tree: dict[str, Names]) -> None:
    with pytest.raises(DataError, match=r"None of the 2 values in column 'path' .* 64 values of SOPInstanceUID, 32 values of Ser") as error:
        index_folder(data(tmp_path, ["path,label", "MRS-X,a", "MR-Y,b"]), workers=1)
    assert "MRS-X" not in str(error.value)
    assert "HOSP" not in str(error.value)
    with pytest.raises(DataError, match="gives one class, 'a'"):
        index_folder(data(tmp_path, ["path,label", *(f"{value},a" for value in by(tree, "PatientID"))]), workers=1)
    with pytest.raises(StudyError, match="no column for label"):
        index_folder(data(tmp_path, ["path,diagnosis", "HOSP-0001,a"]), workers=1)


def test_without_a_table_it_can_be_looked_at_and_not_trained_on(tmp_path: Path, tree: dict[str, Names]) -> None:
    study = Study.model_validate({"name": "films", "data": {"folder": tmp_path / "export", "layout": "dicom"}})
    index = index_folder(study.data, workers=1)
    assert (index["label"].null_count(), index["refused"].null_count()) == (len(tree), len(tree))
    assert patients_known(index["group"]) == "known"
    findings = inspect_dataset(index, study)
    assert "patients_known" in {finding.code for finding in findings.findings}
    assert not {"small_class", "patients_of_two_classes"} & {finding.code for finding in findings.findings}
    with pytest.raises(DataError, match="None of the 64 images has a label"):
        split_dataset(index, findings, study)
    with pytest.raises(ValidationError, match="there is no table"):
        Data.model_validate({"folder": "x", "layout": "dicom", "columns": {"label": "diagnosis"}})
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="Not one of 1 files"):
        index_folder(Data(folder=tmp_path / "empty", layout="dicom"), workers=1)


def test_a_look_needs_no_label(tmp_path: Path, tree: dict[str, Names]) -> None:
    asked = ["look", str(tmp_path / "export"), "--layout", "dicom", "--runs", str(tmp_path / "runs"), "--json"]
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert (json.loads(done.stdout)["images"], json.loads(done.stdout)["classes"]) == (len(tree), {})
    assert "labels_none" in {finding["code"] for finding in json.loads(done.stdout)["findings"]}
    said = CliRunner().invoke(app, asked[:-1], catch_exceptions=False).stdout
    assert "--column label=diagnosis" in said
    assert "?:" not in said
    table = data(tmp_path, [*labels_of(tree, "StudyInstanceUID")[:-1], "1.2.826.8.2,"]).table
    done = CliRunner().invoke(app, [*asked, "--table", str(table)], catch_exceptions=False)
    assert json.loads(done.stdout)["classes"] == {"a": 32, "b": 28}
    assert "HOSP" not in Path(json.loads(done.stdout)["page"]).read_text(encoding="utf-8")


def test_a_picture_of_several_frames_gives_a_row_for_each(tmp_path: Path, tree: dict[str, Names]) -> None:
    frames = np.concatenate([film(900 + frame, side=32) for frame in range(3)])
    values: dict[str, object] = {**names_of(0, 0, 0, 0), "NumberOfFrames": 3, "Rows": 32, "SOPInstanceUID": "1.2.99"}
    (tmp_path / "export" / "IMLOOP").write_bytes(dicom(frames, bits=8, values=values))
    index = index_folder(data(tmp_path, labels_of(tree, "PatientID")), workers=1)
    loop = index.filter(pl.col("path").str.starts_with("IMLOOP"))
    assert loop["path"].to_list() == ["IMLOOP[0]", "IMLOOP[1]", "IMLOOP[2]"]
    assert set(loop["group"]) == set(index.filter(pl.col("path") == "DICOM/S000/IM0000")["group"])
    assert set(loop["label"]) == {"a"}


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
def test_headers_are_read_as_pydicom_reads_them(tmp_path: Path, syntax: str) -> None:
    names = names_of(3, 1, 1, 0) | {"PatientID": "شماره  ۷", "SpecificCharacterSet": "ISO_IR 192"}
    write(tmp_path / "x", names, seed=1, syntax=syntax)
    header = identify_dicom(tmp_path / "x")
    whole = dcmread(tmp_path / "x")
    assert header.identifiers == {name: " ".join(str(whole.get(name)).split()) for name in IDENTIFIERS}
    assert header.identifiers["PatientID"] == "شماره ۷"


def test_a_header_costs_no_pixels_and_a_deflated_one_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "x", names_of(0, 0, 0, 0), seed=1)
    (tmp_path / "cut").write_bytes((tmp_path / "x").read_bytes()[:-1000])  # in the middle of the pixels
    assert identify_dicom(tmp_path / "cut") == identify_dicom(tmp_path / "x")
    write(tmp_path / "deflated", names_of(0, 0, 0, 0), seed=1, syntax=DeflatedExplicitVRLittleEndian)
    assert identify_dicom(tmp_path / "deflated") == identify_dicom(tmp_path / "x")
    monkeypatch.setattr(dicom_reader, "MAX_BYTES", 500)
    dicom_reader.parse.cache_clear()
    assert "too large" in str(identify_dicom(tmp_path / "deflated").refused)


@pytest.mark.slow
def test_the_whole_road_on_a_tree_names_no_patient(tmp_path: Path, tree: dict[str, Names]) -> None:
    changes: dict[str, dict[str, object]] = {
        "data": data(tmp_path, labels_of(tree, "PatientID")).model_dump(mode="json"),
        "training": {"epochs": 1},
    }
    study = tiny_study(tmp_path / "export", changes).model_copy(update={"positive": "b"})
    with open_run(study, root=tmp_path / "runs") as run:
        run_study(run.given, run)
    assert run.read("evaluation").parts[-1].rows > 0
    values = {value.encode() for names in tree.values() for value in names.values() if len(value) > 4}
    for path in (path for path in run.folder.rglob("*") if path.is_file()):
        assert not any(value in path.read_bytes() for value in values), path.name
    for name in ("index", "split", "predictions"):
        assert not any(value.decode() in str(run.read(name).drop("thumbnail", strict=False).to_dicts()) for value in values)


@pytest.mark.real
@needs_real("dicom_samples")
def test_real_files_under_names_that_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    studies: dict[str, str] = {}
    for number, path in enumerate(sorted((REAL / "dicom_samples").glob("*.dcm"))):
        (tmp_path / "export" / f"IM{number:04}").symlink_to(path)
        studies.setdefault(str(dcmread(path, stop_before_pixels=True).StudyInstanceUID), "ab"[number % 2])
    lines = ["study,label", *(f"{uid},{label}" for uid, label in studies.items())]
    index = index_folder(data(tmp_path, lines, columns={"path": "study"}))
    reasons = dict(index.drop_nulls("refused").select("path", "refused").iter_rows())
    assert reasons == {
        "IM0006": "is a DICOM object without a picture (Segmentation Storage)",
        "labels.csv, line 7": "no DICOM picture below the folder has this StudyInstanceUID",
    }
    assert (len(good(index)), good(index)["path"].str.extract(r"^(IM\d+)").n_unique()) == (21, 6)
    assert set(good(index)["label"]) == {"a", "b"}
