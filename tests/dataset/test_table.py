"""Labels from a table: whatever its encoding, its separator and its way to name files."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from made_index import film
from tabib.config import Columns, Data, Study
from tabib.dataset import index_folder, inspect_dataset, lost_images, split_dataset
from tabib.dataset.table import Files, read_table
from tabib.errors import DataError, StudyError
from tabib.images import encode_png
from tabib.runs import study_id

NAMES = [f"{place}/film{number}.png" for place in ("one", "two") for number in range(6)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(film(number)))
    return tmp_path / "images"


def data(folder: Path, lines: list[str], **settings: object) -> Data:
    table = folder.parent / "labels.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Data.model_validate({"folder": folder, "layout": "table", "table": table, **settings})


def reasons(index: pl.DataFrame) -> dict[str, str]:
    return dict(index.drop_nulls("refused").select("path", "refused").iter_rows())


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("utf-8", ("سالم", "بیمار")),
        ("utf-8-sig", ("سالم", "بیمار")),
        ("utf-16", ("سالم", "بیمار")),
        ("cp1256", ("تومور", "سالم")),
        ("cp1252", ("Läsion", "gesund")),
    ],
)
def test_encodings_and_separators_are_found(tmp_path: Path, encoding: str, words: tuple[str, str], separator: str) -> None:
    file = tmp_path / "labels.csv"
    rows = [["path", "label", "note"], ["a.png", words[0], 'a "quoted", odd; note\tof | marks\nand lines'], [" b.png ", words[1], ""]]
    quoted = [[f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row] for row in rows]
    file.write_bytes("\r\n".join(separator.join(row) for row in quoted).encode(encoding))
    table = read_table(file)
    assert table.columns == rows[0]
    assert table["path"].to_list() == ["a.png", "b.png"]
    assert tuple(table["label"]) == words
    assert table["note"].to_list() == [rows[1][2], None]


def test_parquet_is_read_as_text(tmp_path: Path) -> None:
    pl.DataFrame({"path": ["a.png"], "label": [3]}).write_parquet(tmp_path / "labels.parquet")
    assert read_table(tmp_path / "labels.parquet").row(0) == ("a.png", "3")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b"path,label\n", "no lines"), (b"path,,label\na,b,c\n", "without a name"), (b"path,path\na,b\n", "'path' twice")],
)
def test_what_is_no_table_is_said(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_table(tmp_path / "labels.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "gone.csv")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("one/film1.png", ["one/film1.png"]),
        ("./one/film1.png", ["one/film1.png"]),
        ("one\\film1.png", ["one/film1.png"]),
        ("one/film1", ["one/film1.png"]),
        ("heart", ["deep/er/heart.nii.gz"]),
        ("heart.nii.gz", ["deep/er/heart.nii.gz"]),
        ("/content/data/one/film1.png", ["one/film1.png"]),
        ("D:\\data\\one\\film1.png", ["one/film1.png"]),
        ("film1", ["one/film1.png", "two/film1.png"]),
        ("three/film1.png", []),
        ("film9", []),
    ],
)
def test_files_are_found_by_what_tables_call_them(name: str, found: list[str]) -> None:
    assert Files([*NAMES, "deep/er/heart.nii.gz"]).find(name) == found


def test_a_table_says_label_patient_part_and_site(folder: Path) -> None:
    lines = ["image_id;dx;who;set;clinic"] + [
        f"{name.removesuffix('.png')};{'ill' if number % 2 else 'well'};p{number // 2};{'test' if number < 4 else 'train'};c{number % 3}"
        for number, name in enumerate(NAMES)
    ]
    columns = {"path": "image_id", "label": "dx", "group": "who", "part": "set", "site": "clinic"}
    index = index_folder(data(folder, lines, columns=columns))
    assert index["path"].to_list() == sorted(NAMES)
    first = index.row(0, named=True)
    assert (first["label"], first["group"], first["given"], first["site"]) == ("well", "p0", "test", "c0")
    assert index["group"].n_unique() == 6


@pytest.mark.parametrize(
    ("word", "part"), [("3", "fold 3"), ("Fold_03", "fold 3"), ("1.0", "fold 1"), ("VAL", "validation"), ("third", None)]
)
def test_a_part_may_be_the_number_of_a_fold(folder: Path, word: str, part: str | None) -> None:
    lines = [f"{name},{'AB'[number % 2]},{word if number < 4 else 'train'}" for number, name in enumerate(NAMES)]
    index = index_folder(data(folder, ["path,label,part", *lines], columns={"part": "part"}))
    named = index.filter(pl.col("path").is_in(NAMES[:4]))
    assert set(named["given"]) == {part}
    assert named["refused"].str.contains("or the number of a fold").fill_null(value=False).all() == (part is None)


OF_LABELS = ("labels", "separator", "no_finding")
"""Fields about several labels: tests/dataset/test_labels.py changes them."""

FILLS = {name: name for name in Columns.model_fields if name not in OF_LABELS} | {"part": "given"}
"""What each column of the table fills in the index."""


@pytest.mark.parametrize("field", FILLS)
def test_each_column_fills_its_part_of_the_index(folder: Path, field: str) -> None:
    lines = ["path,label,other path,other label,who,where"]
    lines += [f"{name},{'AB'[number % 2]},{NAMES[11 - number]},{'CD'[number % 2]},p{number},test" for number, name in enumerate(NAMES[:10])]
    other = {"path": "other path", "label": "other label", "part": "where", "facts": ["who", "where"]}.get(field, "who")
    before, after = (index_folder(data(folder, lines, columns=columns)) for columns in ({}, {field: other}))
    changed = {name for name in before.columns if not before[name].equals(after[name])}
    assert FILLS[field] in changed or field == "path"
    assert changed == {FILLS[field]} if field != "path" else "label" in changed


def test_further_columns_are_kept_as_json(folder: Path) -> None:
    lines = ["path,label,سن,sex", *(f"{name},{'AB'[number % 2]},," for number, name in enumerate(NAMES[2:]))]
    lines += [f'{NAMES[0]},A,"4,5",f', f"{NAMES[1]},B,,m"]
    index = index_folder(data(folder, lines, columns={"facts": ["سن", "sex"]}))
    assert index["facts"].drop_nulls().to_list() == ['{"سن": "4,5", "sex": "f"}', '{"sex": "m"}']
    assert index["path"][0] == NAMES[0]
    again = index_folder(data(folder, [*lines, f"{NAMES[1]},B,,f"], columns={"facts": ["سن", "sex"]}))
    assert reasons(again) == {NAMES[1]: "stands in labels.csv several times, and not with the same values"}
    with pytest.raises(StudyError, match="no column for facts: age"):
        index_folder(data(folder, lines, columns={"facts": ["sex", "age"]}))


def test_what_does_not_fit_is_a_row_with_a_reason(folder: Path) -> None:
    lines = ["path,label,part", *(f"{name},{'AB'[number % 2]}," for number, name in enumerate(NAMES[:8])), "one/film0.png,A,"]
    lines += ["gone.png,A,", "film2,B,", ",A,", "two/film2.png,A,later", "two/film3.png,,", "one/film1.png,A,"]
    index = index_folder(data(folder, lines, columns={"part": "part"}))
    found = reasons(index)
    assert "labels.csv, line 11" in found["gone.png"]
    assert "2 files are called so" in found["film2"]
    assert "names no file" in found["labels.csv, line 13"]
    assert "'later'" in found["two/film2.png"]
    assert "several times" in found["one/film1.png"]
    assert found["two/film4.png"] == found["two/film5.png"] == "the table does not name it"
    assert set(found) == {"gone.png", "film2", "labels.csv, line 13", "two/film2.png", "one/film1.png", "two/film4.png", "two/film5.png"}
    assert set(lost_images(index)["path"]) == set(found) - {"two/film4.png", "two/film5.png"}
    unlabelled = index.filter(pl.col("path") == "two/film3.png")
    assert (unlabelled["label"][0], unlabelled["refused"][0]) == (None, None)
    findings = {each.code: each for each in inspect_dataset(index, Study(name="x", data=data(folder, lines))).findings}
    assert set(index[findings["lines_unused"].rows]["path"]) == set(found) - {"two/film4.png", "two/film5.png"}
    assert (findings["files_readable"].figures, "unreadable_files" in findings) == ({"images": 8}, False)
    assert (findings["files_not_in_table"].level, "refused_names" in findings) == ("pass", False)


@pytest.mark.parametrize(("named", "level"), [(6, "pass"), (5, "warn")])
def test_a_table_of_another_folder_is_no_success(folder: Path, named: int, level: str) -> None:
    given = data(folder, ["path,label", *(f"{name},{label}" for name, label in zip(NAMES[:named], "ABABAB", strict=False))])
    findings = inspect_dataset(index_folder(given), Study(name="x", data=given)).findings
    (found,) = [each for each in findings if each.code == "files_not_in_table"]
    assert (found.level, found.page_one) == (level, level == "warn")
    assert found.figures == {"named": named, "images": 12, "files": 12 - named, "example": NAMES[named]}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["path,label", "one/film0.png,A", "one/film1.png,A"], "one class, 'A'"),
        (["path,label", "a.png,A", "b.png,B"], "no image below"),
        (["path,label", "one/film0.png,Ill", "one/film1.png,ill"], "capital letters"),
    ],
)
def test_a_table_that_makes_no_study_is_said(folder: Path, lines: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        index_folder(data(folder, lines))


def test_a_column_that_is_not_there_is_a_wrong_study_and_the_nearest_is_named(folder: Path) -> None:
    with pytest.raises(StudyError, match=r"no column for path: path, label: lable\. It has: file, label\. Did you mean label for lable\?"):
        index_folder(data(folder, ["file,label", "a,b"], columns={"label": "lable"}))


@pytest.mark.parametrize(
    "settings",
    [
        {"layout": "table"},
        {"table": "labels.csv"},
        {"layout": "table", "table": "labels.csv", "group": "(p)", "columns": {"group": "patient"}},
        {"layout": "table", "table": "labels.csv", "columns": {"facts": ["age", "age"]}},
    ],
)
def test_halves_of_a_table_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Data.model_validate({"folder": "images", **settings})


def test_another_table_is_another_run_and_the_same_one_elsewhere_is_not(folder: Path) -> None:
    lines = ["path,label", *(f"{name},{'AB'[number % 2]}" for number, name in enumerate(NAMES))]

    def ident(study: Data) -> str:
        return study_id(Study(name="films", data=study))

    here = data(folder, lines)
    first = ident(here)
    moved = folder.parent / "elsewhere.csv"
    moved.write_bytes((folder.parent / "labels.csv").read_bytes())
    assert ident(here.model_copy(update={"table": moved})) == first
    assert ident(data(folder, [*lines[:-1], "two/film5.png,A"])) != first


def test_seven_unequal_classes_of_patients_are_divided(tmp_path: Path) -> None:
    images, lines = tmp_path / "images", ["image,diagnosis,patient"]
    images.mkdir()
    counts = (60, 40, 30, 20, 15, 12, 9)
    number = 0
    for place, count in enumerate(counts):
        for member in range(count):
            (images / f"{number}.png").write_bytes(encode_png(film(number, side=40)))
            lines.append(f"{number},class{place},p{place}_{member // 2}")
            number += 1
    study = Study(name="seven", data=data(images, lines, columns={"path": "image", "label": "diagnosis", "group": "patient"}))
    index = index_folder(study.data)
    findings = inspect_dataset(index, study)
    split = split_dataset(index, findings, study)
    assert {"class_imbalance", "patients_known", "small_class"} <= {finding.code for finding in findings.findings}
    assert split.group_by("part").agg(pl.col("label").n_unique())["label"].to_list() == [7, 7, 7]
    assert split.group_by("group").agg(pl.col("part").n_unique())["part"].max() == 1


@pytest.mark.parametrize(("lines", "bad"), [(['a,"x\ny"', 'b,"B', "c,A"], 4), (["a,A", '"b,B', "c,A"], 3), (["a,A", "b,B", 'c,"A'], 4)])
def test_a_quotation_mark_that_does_not_close_is_told_with_its_line(tmp_path: Path, lines: list[str], bad: int) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["path,label", *lines, ""]), encoding="utf-8")
    with pytest.raises(DataError, match=rf"labels\.csv, line {bad}: a quotation mark"):
        read_table(table)
