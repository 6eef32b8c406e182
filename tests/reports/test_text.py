from __future__ import annotations

import ast
import re
import string
import tomllib
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tabib
from made_index import film, make_index
from tabib.config import METRICS, Study
from tabib.dataset import inspect_dataset
from tabib.records import Finding
from tabib.reports import LANGUAGES, phrase
from tabib.reports.text import FORMATS, REASONS, isolated, language, places, plain, reason_kind, shortened

SOURCE = Path(tabib.__file__).parent


@cache
def words(code: str) -> dict[str, str]:
    """Every text of a language by its dotted key."""

    def flat(node: Mapping[str, Any], key: str) -> Iterator[tuple[str, str]]:
        for name, inner in node.items():
            if isinstance(inner, Mapping):
                yield from flat(inner, f"{key}{name}.")
            elif isinstance(inner, str):
                yield f"{key}{name}", inner

    return dict(flat(tomllib.loads(files("tabib.reports").joinpath("locales", f"{code}.toml").read_text("utf-8")), ""))


SPOKEN = re.compile(r"finding|remark|told", re.I)
"""Functions that make a finding, by their names; its code is their first argument, or `code`."""


@cache
def source() -> list[ast.AST]:
    """Every piece of every module below the reports."""
    modules = [path for path in SOURCE.rglob("*.py") if "reports" not in path.parts]
    return [node for path in modules for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]


def strings(node: ast.AST) -> set[str]:
    """The strings that a value can be, through its conditions."""
    if isinstance(node, ast.IfExp):
        return strings(node.body) | strings(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


@cache
def codes_in_source() -> set[str]:
    """Every code of a finding that the source spells: in a call that makes one, as `code = ...`, or in a pair (code, figures)."""
    found: set[str] = set()
    for node in source():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and SPOKEN.search(node.func.id):
            given = [keyword.value for keyword in node.keywords if keyword.arg == "code"] or node.args[:1]
            found |= {text for value in given for text in strings(value)}
        elif isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == "code" for target in node.targets):
            found |= strings(node.value)
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.elts[1], ast.Name) and node.elts[1].id == "figures":
            found |= strings(node.elts[0])
    return found


@pytest.mark.parametrize("code", [code for code in LANGUAGES if code != "en"])
def test_every_language_has_the_same_texts_with_the_same_places(code: str) -> None:
    english, other = words("en"), words(code)
    assert set(other) == set(english)
    # What has no word in a language's grammar may be left out only on both sides.
    assert {key: places(text) for key, text in other.items()} == {key: places(text) for key, text in english.items()}
    assert [key for key, text in english.items() if bool(text) != bool(other[key])] == []


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_place_is_written_in_a_format_that_exists(code: str) -> None:
    texts = words(code)
    sections = {key.rpartition(".")[0] for key in texts}
    for key, text in texts.items():
        for _, name, spec, _ in string.Formatter().parse(text):
            if name is None:
                continue
            kind, _, rest = (spec or "").partition(" ")
            assert kind in FORMATS, key
            assert kind not in ("name", "names") or rest in sections, key


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_measure_has_a_name_and_a_definition(code: str) -> None:
    texts = words(code)
    assert [name for name in METRICS if f"measures.{name}" not in texts or f"definitions.{name}" not in texts] == []


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_finding_of_the_source_has_words(code: str) -> None:
    used = codes_in_source()
    assert len(used) > 5, "the scan finds no codes any more"
    assert sorted(name for name in used if f"findings.{name}.title" not in words(code)) == []


def test_every_finding_with_words_is_in_the_source() -> None:
    spelt = {text for node in source() for text in strings(node)}
    assert sorted(name for key in words("en") if (name := key.split(".")[1]) and key.startswith("findings.") and name not in spelt) == []


def test_persian_is_written_with_persian_letters_and_joiners() -> None:
    for key, text in words("fa").items():
        assert not re.search("[يكةىۀ٠-٩]", text), f"{key}: Arabic letters or digits"
        assert not re.search("(?<!\u2066)−[۰-۹]", text), f"{key}: a minus sign that moves to the other end of its number"
        assert not re.search("[۰-۹]٪", text), f"{key}: a percent sign that moves to the other end of its number"
        assert not re.search(r"\bمی [آ-ی]|[آ-ی] ها\b", text), f"{key}: a space where a zero-width non-joiner belongs"
        assert not re.search("[آ-ی][,;?]", text), f"{key}: Latin punctuation"
        assert not re.search(r"[A-Za-z0-9)]،\s*[A-Za-z(]", text), (
            f"{key}: Latin words that a comma joins, which are read from the last to the first"
        )


@pytest.mark.parametrize(
    ("code", "write", "expected"),
    [
        ("en", lambda r: r.integer(12345), "12,345"),
        ("fa", lambda r: r.integer(12345), "۱۲٬۳۴۵"),
        ("en", lambda r: r.decimal(0.8906, 3), "0.891"),
        ("fa", lambda r: r.decimal(0.8906, 3), "۰٫۸۹۱"),
        ("en", lambda r: r.percent(0.8906), "89.1%"),
        ("fa", lambda r: plain(r.percent(0.8906)), "۸۹٫۱\u200f٪"),
        ("en", lambda r: r.percent(1.0), "100%"),
        ("en", lambda r: r.percent(0.99996), "99.99%"),
        ("en", lambda r: r.percent(0.0004), "0.04%"),
        ("en", lambda r: plain(r.decimal(-0.031, 2)), "−0.03"),
        ("en", lambda r: plain(r.decimal(-0.001, 2)), "0.00"),
        ("fa", lambda r: plain(r.decimal(-0.031, 2)), "−۰٫۰۳"),
        ("en", lambda r: r.number(0.000123), "0.000123"),
        ("en", lambda r: r.number(1e-4), "0.0001"),
        ("en", lambda r: plain(r.number(1.5e-7)), "1.5 × 10^−7"),
        ("fa", lambda r: plain(r.number(1.5e-7)), "۱٫۵ × ۱۰^−۷"),
        ("fa", lambda r: r.value(0.0042, "p"), "\u2066p = ۰٫۰۰۴\u2069"),
        ("en", lambda r: r.number(902682), "902,682"),
        ("en", lambda r: r.day(date(2025, 11, 2)), "2 November 2025"),
        ("fa", lambda r: r.day(date(2025, 11, 2)), "۱۱ آبان ۱۴۰۴"),
        ("fa", lambda r: r.day(date(2024, 3, 20)), "۱ فروردین ۱۴۰۳"),
        ("fa", lambda r: r.day(date(2025, 3, 20)), "۳۰ اسفند ۱۴۰۳"),
        (
            "en",
            lambda r: r.value({"A": [("2015-01/2016-03", 0.5)], "B": [3]}),
            "\u2068A\u2069: January 2015 to March 2016 (50%); \u2068B\u2069: 3",
        ),
        ("en", lambda r: plain(r.moment(datetime(2025, 11, 2, 15, 4, 5).astimezone())), "2 November 2025, 15:04"),
        ("fa", lambda r: plain(r.moment(datetime(2025, 11, 2, 15, 4, 5).astimezone())), "۱۱ آبان ۱۴۰۴، ساعت ۱۵:۰۴"),
        ("en", lambda r: r.duration(3750), "1 h 2 min"),
        ("en", lambda r: r.duration(59.7), "1 min"),
        ("en", lambda r: r.series(["a", "b", "c"]), "a, b and c"),
        ("fa", lambda r: r.interval("۱", "۲"), "۱ تا ۲"),
    ],
)
def test_numbers_and_dates_of_each_language(code: str, write: Any, expected: str) -> None:
    assert write(language(code)) == expected


@settings(deadline=None, max_examples=50)
@given(value=st.floats(0, 1), digits=st.sampled_from([0, 1, 2, 3]))
def test_a_persian_number_is_the_english_one_in_other_letters(value: float, digits: int) -> None:
    turned = str.maketrans("۰۱۲۳۴۵۶۷۸۹٫٬", "0123456789.,")
    assert language("fa").decimal(value, digits).translate(turned) == language("en").decimal(value, digits)


@settings(deadline=None, max_examples=50)
@given(name=st.text(max_size=20))
def test_a_name_cannot_leave_its_isolate(name: str) -> None:
    text = isolated(name)
    assert text[0] == "\u2068"
    assert text[-1] == "\u2069"
    assert not re.search("[\u2066-\u2069\u202a-\u202e\n\r\0]", text[1:-1])


def test_a_count_takes_the_singular_only_for_one() -> None:
    reader = language("en")
    assert [plain(reader.fill("{n:count image|images}", {"n": n})) for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [("en", "ILL: 0.25 (0.125 to 0.5); WELL: 0.75 (0.625 to 0.875)"), ("fa", "ILL: ۰٫۲۵ (۰٫۱۲۵ تا ۰٫۵)؛ WELL: ۰٫۷۵ (۰٫۶۲۵ تا ۰٫۸۷۵)")],
)
def test_what_is_typical_of_each_class_is_told_in_the_readers_digits(code: str, expected: str) -> None:
    borders = [0.125, 0.625, 0.25, 0.75, 0.25, 0.75, 0.25, 0.75, 0.5, 0.875]
    columns = {"border": borders * 6, "group": [f"p{number}" for number in range(60)]}
    index = make_index([film(number) for number in range(60)], labels=["ILL", "WELL"] * 30, columns=columns)
    study = Study.model_validate({"name": "made", "data": {"folder": "films"}})
    (found,) = [each for each in inspect_dataset(index, study).findings if each.code == "acquisition_confounder"]
    assert expected in phrase(found, code).sentence


def test_a_finding_without_words_shows_its_code_and_figures() -> None:
    said = phrase(Finding(code="never_heard_of", level="warn", figures={"rows": 12, "name": "x"}), "fa")
    assert said.title == "never heard of"
    assert "۱۲" in said.sentence


def test_a_figure_that_is_missing_shows_its_place() -> None:
    said = phrase(Finding(code="goal_reached", level="pass", figures={"measure": "auc"}), "en")
    assert said.sentence.startswith("Area under the ROC curve")
    assert "goal" in said.sentence


def test_what_is_typical_of_each_class_is_written_in_the_digits_and_words_of_the_reader() -> None:
    values = {
        "A": [0.1, 0.25, 0.5],
        "B; C": [("JPEG", 0.9), (None, 0.1)],
        "D": [("2019-03", 1.0)],
        "E": [("quality 75", 0.5), ("grey", 0.5)],
        "F": [],
    }
    finding = Finding(code="acquisition_confounder", level="warn", figures={"fact": "scanner", "values": values})
    assert (
        "A: 0.25 (0.1 to 0.5); B; C: JPEG (90%), not stated (10%); D: March 2019 (100%); E: quality 75 (50%), grey (50%); F: not stated"
        in phrase(finding).sentence
    )
    said = phrase(finding, "fa").sentence
    assert (
        "A: ۰٫۲۵ (۰٫۱ تا ۰٫۵)؛ B; C: JPEG (۹۰\u200f٪)، نگفته (۱۰\u200f٪)؛ D: مارس ۲۰۱۹ (۱۰۰\u200f٪)؛ E: کیفیت ۷۵ (۵۰\u200f٪)، خاکستری (۵۰\u200f٪)؛ F: نگفته"
        in said
    )


@pytest.mark.parametrize(
    "reason", ["refused by name: hidden", "lies outside every class folder", "second copy of 'x.png', by place and content"]
)
def test_reasons_that_have_words_are_told_in_the_language_of_the_reader(reason: str) -> None:
    finding = Finding(code="refused_names", level="pass", figures={"files": 2, "example": "x", "reason": reason})
    assert f"({words('fa')[f'reasons.{reason_kind(reason)}']})" in phrase(finding, "fa").sentence
    assert reason not in phrase(finding, "fa").sentence
    other = finding.model_copy(update={"figures": {"files": 2, "example": "x", "reason": "cannot be followed: no such file"}})
    assert "cannot be followed" in phrase(other, "fa").sentence


def test_every_reason_begins_as_the_source_writes_it() -> None:
    spelt = {node.value for node in source() if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert [start for start in REASONS if not any(text.startswith(start.rstrip()) for text in spelt)] == []


def test_whatever_the_split_leaves_out_has_words() -> None:
    calls = [
        node for node in source() if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "leave_out"
    ]
    strings = [each.value for call in calls for each in ast.walk(call.args[1]) if isinstance(each, ast.Constant)]
    whole = [text for text in strings if isinstance(text, str) and len(text) > 10]  # not the pieces between places
    assert len(whole) >= 8
    assert [text for text in whole if reason_kind(text) is None] == []


def test_sizes_are_width_by_height_and_stand_in_one_order() -> None:
    figures = {"width": 640, "height": 48}
    assert language("en").text("words.size", figures) == "640 × 48"
    assert language("fa").text("words.size", figures) == "\u2066۶۴۰ × ۴۸\u2069"
    for code in LANGUAGES:
        for key, text in words(code).items():
            assert not re.search(r"height\} × \{", text), key


def test_one_thing_has_one_persian_word() -> None:
    """`دسته` is a batch; a cell is `سلول`; a command is `دستور`."""
    for key, text in words("fa").items():
        assert not re.search(r"یاخته|انتظاری|فرمان|\bدسته\b(?!\u200c)", text), key


def test_what_is_found_in_data_promises_nothing_of_a_split_that_may_not_be() -> None:
    """The same words stand on a page without a split, and on one whose split keeps what leaks."""
    about_data = [key for key in words("en") if key.split(".")[1:2] and re.match(r"findings\.(patients|exact|near|copies)", key)]
    assert len(about_data) > 20
    promises = {"en": r"\bthe split\b|\bare kept together\b|\bwere never\b", "fa": "نگذاشته|گذاشته نشد|جدا نمی‌کند"}
    for code, promise in promises.items():
        assert [key for key in about_data if re.search(promise, words(code)[key])] == []


def test_a_language_without_words_is_an_error() -> None:
    with pytest.raises(KeyError, match="there are en, fa"):
        language("de")


VOCABULARY = {
    "scales",
    "augment",
    "augment_reasons",
    "averages",
    "axes",
    "baselines",
    "beside",
    "choices",
    "chosen",
    "columns",
    "definitions",
    "file_facts",
    "file_values",
    "findings",
    "formulas",
    "history",
    "input_measures",
    "kinds",
    "language",
    "manifest",
    "mask_definitions",
    "mask_intensities",
    "mask_losses",
    "measures",
    "method",
    "norms",
    "overfit_causes",
    "quantities",
    "rules",
    "scale_reasons",
    "steps",
    "thirds",
}
"""Sections whose keys are values of the data: names of measures, facts, settings."""


def test_every_other_text_is_used() -> None:
    reports = SOURCE / "reports"
    used = "".join(path.read_text(encoding="utf-8") for path in (*reports.glob("*.py"), *reports.glob("templates/*.j2")))
    starts, ends = re.findall(r"(\w+_)\{", used), re.findall(r"\}(_\w+)", used)

    def is_used(key: str) -> bool:
        name = key.split(".")[-1]
        return (
            key in used
            or re.search(rf"[\"'.]{name}[\"']", used) is not None
            or name.startswith(tuple(starts))
            or name.endswith(tuple(ends))
        )

    assert sorted(key for key in words("en") if key.split(".")[0] not in VOCABULARY and not is_used(key)) == []


def contrast(ink: str, paper: str) -> float:
    """Contrast of two colours #rrggbb (WCAG 2.2, relative luminance)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    bright, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        *((ink, paper) for ink in ("ink", "soft", "teal", "fail", "pass") for paper in ("paper", "wash")),
        *((ink, f"{level}-wash") for level in ("fail", "warn") for ink in ("ink", "soft", "fail", "warn")),
    ],
)
def test_text_has_the_contrast_that_guidelines_ask_for(ink: str, paper: str) -> None:
    style = files("tabib.reports").joinpath("templates", "style.css").read_text("utf-8")
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", style))
    assert contrast(colours[ink], colours[paper]) >= 4.5


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("p1/{10,3,5}.dcm", "p1/{3…10}.dcm"),
        ("p1/{3,5}.dcm", "p1/{3,5}.dcm"),
        ("p1/heart, left.nii", "p1/heart, left.nii"),
        ("a/{x}.png", "a/{x}.png"),
    ],
    ids=["many", "two", "comma", "braces"],
)
def test_an_image_of_many_files_is_called_by_its_ends(path: str, shown: str) -> None:
    assert shortened(path) == shown
