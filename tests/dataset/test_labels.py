"""Several labels on one image: read from a table, looked at, and divided."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from made_index import film
from tabib.config import Data, Study
from tabib.dataset import as_class, index_folder, inspect_dataset, split_dataset, without
from tabib.errors import DataError, StudyError
from tabib.images import encode_png
from tabib.records import Findings, labels_of
from tabib.study_file import check_study

COLUMNS = {"path": "path", "labels": ["effusion", "mass", "nodule"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for number in range(8):
        (tmp_path / "images" / f"{number}.png").write_bytes(encode_png(film(number)))
    return tmp_path / "images"


def read(folder: Path, lines: list[str], columns: Mapping[str, object]) -> pl.DataFrame:
    table = folder.parent / "labels.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return index_folder(Data.model_validate({"folder": folder, "layout": "table", "table": table, "columns": columns}), workers=1)


@pytest.mark.parametrize(
    ("yes", "no"),
    [("1", "0"), ("1.0", "0.0"), ("Yes", "no"), ("TRUE", "False"), ("present", "absent"), ("+", "-"), ("دارد", "ندارد")],
    ids=["digits", "numbers", "yes_no", "true_false", "present_absent", "signs", "persian"],
)
def test_a_column_for_each_label_says_yes_or_no(folder: Path, yes: str, no: str) -> None:
    lines = ["path,nodule,mass,effusion,other", f"0,{yes},{no},{yes},x", f"1,{no},{no},{no},", f"2,{no},{yes},{no},", "3,,,,"]
    index = read(folder, lines, COLUMNS)
    assert index["label"].to_list()[:4] == ["effusion|nodule", "", "mass", None]
    assert index["refused"].to_list()[:4] == [None] * 4


def test_what_is_not_known_of_a_label_is_a_reason(folder: Path) -> None:
    index = read(folder, ["path,nodule,mass,effusion", "0,1,1,1", "1,0,-1,0", "2,1,,0", "3,0,0,1"], COLUMNS)
    assert index["refused"][1] == "mass is '-1', and must be 1 or 0, yes or no, or true or false (labels.csv, line 3)"
    assert index["refused"][2] == "mass is empty, and must be 1 or 0, yes or no, or true or false (labels.csv, line 4)"
    assert index["label"][0] == "effusion|mass|nodule"


@pytest.mark.parametrize(("separator", "none"), [("|", "No Finding"), (";", "normal")], ids=["as_published", "others"])
def test_one_column_names_them_all(folder: Path, separator: str, none: str) -> None:
    lines = [
        "path,findings",
        f"0,Mass {separator} Effusion",
        f"1,{none.upper() if separator == '|' else none}",
        "2,Mass",
        f'3,"{none}{separator}Mass"',
        "4,",
    ]
    columns = {"label": "findings", "separator": separator, **({} if none == "No Finding" else {"no_finding": none})}
    table = ["\t".join(line.split(",")) for line in lines]
    index = read(folder, table, columns)
    assert index["label"].to_list()[:5] == ["Effusion|Mass", "", "Mass", None, None]
    assert "both that there is a finding and that there is none" in index["refused"][3]
    if none != "No Finding":
        assert "normal" in {
            name for label in read(folder, table, columns | {"no_finding": "-"})["label"] for name in labels_of(label, several=True)
        }


@pytest.mark.parametrize(
    ("lines", "columns", "words"),
    [
        (["path,effusion,mass,nodule", "0,1,0,0", "1,0,1,0"], COLUMNS, "of no image that it has 'nodule'"),
        (["path,label", "0,Mass", "1,No Finding"], {"separator": "|"}, "one finding, 'Mass'"),
    ],
    ids=["never_there", "one"],
)
def test_a_table_that_makes_no_study_of_labels_is_said(folder: Path, lines: list[str], columns: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(folder, lines, columns)


def test_a_finding_without_a_column_is_a_wrong_study(folder: Path) -> None:
    with pytest.raises(StudyError, match="no column for labels: nodule"):
        read(folder, ["path,effusion,mass", "0,1,0"], COLUMNS)


@pytest.mark.parametrize(
    ("data", "more", "words"),
    [
        ({"columns": {"labels": ["a"]}}, {}, "label: a"),
        ({"columns": {"labels": ["a", "b"], "separator": "|"}}, {}, "two ways"),
        ({"columns": {"labels": ["a|b", "c"]}}, {}, "rename the column"),
        ({"columns": {"labels": ["a", "b"]}, "layout": "class_folders", "table": None}, {}, "there is no table"),
        ({"columns": {"labels": ["a", "b"]}}, {"positive": "a"}, "leave positive out"),
        ({"columns": {"labels": ["a", "b"]}}, {"training": {"sampling": "class_balanced"}}, "class_weights: balanced"),
        ({"columns": {"labels": ["a", "b"]}}, {"model": {"outputs": "one"}}, "leave outputs out"),
        ({"columns": {"labels": ["a", "b"]}}, {"evaluate": {"prevalence": 0.1}}, "prevalence of its own"),
    ],
    ids=["one", "two_ways", "bar", "layout", "positive", "sampling", "outputs", "prevalence"],
)
def test_what_does_not_go_with_labels_is_refused(data: dict[str, object], more: dict[str, object], words: str) -> None:
    given = {"folder": "films", "layout": "table", "table": "labels.csv", **data}
    with pytest.raises(StudyError, match=words):
        check_study({"name": "labels", "data": {name: value for name, value in given.items() if value is not None}, **more}, source="here")


def test_labels_are_read_as_they_are_written() -> None:
    assert [labels_of(text, several=True) for text in ("", "a", "a|b", None)] == [[], ["a"], ["a", "b"], []]
    assert [labels_of(text, several=False) for text in ("", "a|b", None)] == [[""], ["a|b"], []]
    table = pl.DataFrame({"label": ["", "a", "a b|c", None]}).select(as_class("label", "a"))
    assert table["label"].to_list() == [without("a"), "a", without("a"), None]


STUDY = Study.model_validate(
    {"name": "labels", "data": {"folder": "films", "layout": "table", "table": "labels.csv", "columns": {"labels": ["a", "b", "c"]}}}
)


def made(patients: int) -> pl.DataFrame:
    """Two films of each patient; a is common, b goes with a, c is rare."""
    random = np.random.default_rng(1)
    rows = []
    for patient in range(patients):
        for _ in range(2):
            a = random.random() < 0.5
            there = {"a": a, "b": random.random() < (0.6 if a else 0.1), "c": random.random() < 0.12}
            rows.append({"label": "|".join(name for name, present in there.items() if present), "group": f"p{patient}"})
    return pl.DataFrame(rows)


def index_of(table: pl.DataFrame, folder: Path) -> pl.DataFrame:
    folder.mkdir()
    lines = ["path,patient,a,b,c"]
    for number, (label, group) in enumerate(table.iter_rows()):
        (folder / f"{number:03}.png").write_bytes(encode_png(film(number, side=40)))
        lines.append(f"{number:03},{group}," + ",".join(str(int(name in label.split("|"))) for name in "abc"))
    return read(folder, lines, {"labels": ["a", "b", "c"], "group": "patient"})


def test_every_label_and_none_have_their_shares_and_are_counted(tmp_path: Path) -> None:
    index = index_of(made(100), tmp_path / "films")
    split = split_dataset(index, Findings(findings=[]), STUDY)
    kinds = [labels_of(label, several=True) for label in split["label"]]
    for label in ("a", "b", "c", None):
        has = pl.Series([not kind if label is None else label in kind for kind in kinds])
        total = int(has.sum())
        shares = {part: int((has & (split["part"] == part)).sum()) / total for part in ("train", "validation", "test")}
        assert shares == pytest.approx({"train": 0.6, "validation": 0.2, "test": 0.2}, abs=1.5 / total + 0.01)
    assert split.group_by("group").agg(pl.col("part").n_unique())["part"].max() == 1

    findings = {finding.code: finding for finding in inspect_dataset(index, STUDY).findings}
    counts = findings["labels_counted"].figures
    assert counts["by_label"] == {name: [sum(name in kind for kind in kinds)] for name in "abc"}
    assert (counts["none"], counts["several"]) == (sum(not kind for kind in kinds), sum(len(kind) > 1 for kind in kinds))
    assert findings["labels_rare"].figures["labels"] == "c"
    assert findings["small_class"].label == "c"
    assert not {"patients_of_two_classes", "positive_unclear", "class_imbalance"} & set(findings)


def test_a_fact_that_tells_one_label_is_found_for_that_label(tmp_path: Path) -> None:
    table = made(60)
    index = index_of(table, tmp_path / "films")
    has = pl.Series(["b" in labels_of(label, several=True) for label in index["label"]])
    index = index.with_columns(width=pl.when(has).then(60).otherwise(40).cast(pl.Int32))
    told = [finding for finding in inspect_dataset(index, STUDY).findings if finding.code == "acquisition_confounder"]
    assert "b" in {finding.label for finding in told}
    assert "c" not in {finding.label for finding in told}
    assert next(finding.level for finding in told if finding.label == "b") == "fail"


def test_a_label_that_cannot_reach_every_part_is_said(tmp_path: Path) -> None:
    table = made(20).with_columns(label=pl.when(pl.int_range(40) < 2).then(pl.lit("a|c")).otherwise(pl.lit("a|b")))
    with pytest.raises(DataError, match="Label 'c' has 2 images of 1 patient"):
        split_dataset(index_of(table, tmp_path / "films"), Findings(findings=[]), STUDY)
