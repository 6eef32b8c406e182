"""Folders of any shape, read by a pattern on their paths."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from made_index import film
from tabib.config import Data
from tabib.config.classification import PATTERN_GROUPS
from tabib.dataset import index_folder, lost_images
from tabib.errors import DataError, StudyError
from tabib.images import encode_png
from tabib.study_file import parse_study

PATHS = [
    f"{site}/{label}/{part}/p{number // 2:02}-mobile-2021-0{1 + number % 9}-11_{number}.png"
    for site in ("site_a", "site_b")
    for label in ("A", "B")
    for part in ("train", "test")
    for number in range(4)
]
FOUND = {
    "label": "/([AB])/",
    "group": "(p\\d\\d)",
    "part": "(train|test)",
    "scanner": "-([a-z]+)-",
    "site": "(site_[ab])",
    "date": "(\\d{4}-\\d\\d-\\d\\d)",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(PATHS):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(film(number)))
    return tmp_path / "images"


def named(**names: str) -> str:
    """A pattern in which each name catches what FOUND says of another, wherever in the path it stands."""
    return "".join(f"(?=.*?{FOUND[of].replace('(', f'(?P<{name}>', 1)})" for name, of in names.items())


def data(folder: Path, pattern: str, **settings: object) -> Data:
    return Data.model_validate({"folder": folder, "layout": "pattern", "pattern": pattern, **settings})


def test_sites_that_hold_the_same_classes(folder: Path) -> None:
    index = index_folder(
        data(folder, r"^(?P<site>[^/]+)/(?P<label>[^/]+)/(?P<part>[^/]+)/(?P<group>p\d+)-(?P<scanner>\w+)-(?P<date>[\d-]{10})")
    )
    assert index.row(0, named=True) | {
        "path": "site_a/A/test/p00-mobile-2021-01-11_0.png",
        "label": "A",
        "given": "test",
        "group": "p00",
        "scanner": "mobile",
        "site": "site_a",
        "date": "2021-01-11",
        "refused": None,
    } == index.row(0, named=True)
    assert index.group_by("site", "label", "given").len()["len"].to_list() == [4] * 8


@pytest.mark.parametrize("name", PATTERN_GROUPS)
def test_each_group_fills_its_part_of_the_index(folder: Path, name: str) -> None:
    column = "given" if name == "part" else name
    with_it = index_folder(data(folder, named(**{"label": "label", name: name})))
    without = index_folder(data(folder, named(label="label") if name != "label" else named(label="group")))
    assert {column} == {each for each in with_it.columns if not with_it[each].equals(without[each])}
    assert with_it[column].null_count() == 0


def test_what_the_pattern_does_not_match_is_said(folder: Path) -> None:
    (folder / "scout.png").write_bytes(encode_png(film(99)))
    (folder / "notes.txt").write_text("x")
    (folder / "site_a" / "A" / "later").mkdir()
    (folder / "site_a" / "A" / "later" / "p09.png").write_bytes(encode_png(film(98)))
    index = index_folder(data(folder, r"/(?P<label>[AB])/(?P<part>\w+)/"))
    reasons = dict(index.drop_nulls("refused").select("path", "refused").iter_rows())
    assert reasons["scout.png"] == "data.pattern does not match its path"
    assert reasons["notes.txt"] == "refused by name: data.pattern does not match its path"
    assert "'later', and must be one of train" in reasons["site_a/A/later/p09.png"]
    assert len(reasons) == 3
    assert set(lost_images(index)["path"]) == {"scout.png", "site_a/A/later/p09.png"}


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("(?P<label>[XY])/", "in none of the 32 paths"), ("^site_[ab]/(?P<label>A)/", "one class, 'A'")],
)
def test_a_pattern_that_makes_no_study_is_said(folder: Path, pattern: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        index_folder(data(folder, pattern))
    with pytest.raises(DataError, match="There is no folder"):
        index_folder(data(folder / "gone", pattern))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("pattern: '(?P<label>[^/]+)/(?P<sit>x)'", "called sit, .*did you mean site"),
        ("pattern: '(?P<label>[^/]+)/(?P<weather>x)'", "called weather, .*there are label, group"),
        ("pattern: '(?P<group>[^/]+)/'", "no group"),
        ("pattern: '[^/]+/'", "name its groups"),
        ("pattern: '(?P<label>'", "not a regular expression"),
        ("pattern: '(?P<label>x)(?P<group>y)', group: (z)", "two answers"),
        ("{}", "go together"),
    ],
)  # fmt: skip
def test_wrong_patterns_are_refused(lines: str, words: str) -> None:
    rest = "" if lines == "{}" else f", {lines}"
    with pytest.raises(StudyError, match=words):
        parse_study(f"name: films\ndata: {{folder: films, layout: pattern{rest}}}\n", source="study.yaml")
    with pytest.raises(ValidationError):
        Data.model_validate({"folder": "films", "pattern": "(?P<label>x)"})


def test_the_patients_of_a_pattern_are_not_taken_for_unknown(folder: Path) -> None:
    index = index_folder(data(folder, named(label="label", group="group")))
    assert index["group"].unique().sort().to_list() == ["p00", "p01"]
    by_group = index_folder(data(folder, named(label="label"), group=r"(p\d\d)"))
    assert index.equals(by_group)
