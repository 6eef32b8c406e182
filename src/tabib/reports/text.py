"""Words, numbers and dates in the language of the reader.

A text of `locales/*.toml` has places for figures: `{rows:count image|images}`, `{share:percent}`, `{name}`. What follows
the colon is a row of `FORMATS`; without it the kind of value decides. Words that come from the user (class names, paths)
are wrapped in Unicode isolates (UAX #9), so that a Latin name never turns the Persian around it; in HTML the isolates
become `<bdi>`.
"""

from __future__ import annotations

import math
import re
import string
import tomllib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cache
from importlib.resources import files
from typing import Any

import jdatetime
from babel.dates import format_date
from babel.numbers import format_decimal

from tabib.dataset import without
from tabib.records import Finding, Typical

__all__ = [
    "FORMATS",
    "LANGUAGES",
    "REASONS",
    "Language",
    "Phrase",
    "Value",
    "finding_codes",
    "isolated",
    "language",
    "phrase",
    "places",
    "plain",
    "reason_kind",
    "shortened",
    "visible",
    "without_controls",
]

LANGUAGES = ("en", "fa")
"""The languages a report can be written in: one file of `locales/` each."""

Value = float | int | str | Typical | None

_STACK = re.compile(r"\{([^,{}]*(?:,[^,{}]*){2,})\}")  # three files or more

REASONS = {
    "refused by name": "by_name",
    "second copy of": "second_copy",
    "lies outside every class folder": "outside",
    "an empty folder": "empty_folder",
    "copy of row": "copy",
    "copies with two labels": "two_labels",
    "leak: ": "leak",
    "has no label": "no_label",
    "left out by the split file": "file",
    "left out by split.learn_from": "learn_from",
    "left out by scale: bench": "bench",
    "the table does not name it": "not_named",
    "data.pattern does not match its path": "unmatched",
    "not unpacked: ": "not_unpacked",
    "is no DICOM file": "no_dicom",
    "a mask without an image": "no_image",
    "none of the images with masks": "no_masks",
    "has no mask": "no_mask",
    "is a DICOM object without a picture": "no_picture",
}
"""How the reasons begin for which an image is not used and that have words in every language; others are shown in English."""

FIRST_STRONG, LEFT_TO_RIGHT, END = "\u2068", "\u2066", "\u2069"
_ISOLATES = re.compile("[\u2066-\u2069]")
# Bidirectional controls in a file name could reorder the sentence around it.
_CONTROLS = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_SMALLEST_DECIMAL = 1e-6
_MONTH = r"(?:19|20)\d\d-(?:0[1-9]|1[0-2])"


@dataclass(frozen=True)
class Phrase:
    """A finding in words: what it is, what was found, what to do."""

    title: str
    sentence: str
    todo: str


def isolated(text: str) -> str:
    """Text of the user as one unbreakable whole for the order of writing; control characters become visible."""
    return f"{FIRST_STRONG}{visible(text)}{END}"


def visible(text: str) -> str:
    """Text of the user without what could reorder a page; other control characters are shown as signs."""
    letters = ("⏎" if letter in "\r\n" else "�" if unicodedata.category(letter) == "Cc" else letter for letter in without_controls(text))
    return "".join(letters)


def shortened(path: str) -> str:
    """A path as a page shows it: of an image of many files, `{3,10,5}.dcm`, the lowest and the highest, `{3…10}.dcm`."""

    def ends(found: re.Match[str]) -> str:
        parts = sorted(found[1].split(","), key=lambda part: (len(part), part))
        return f"{{{parts[0]}…{parts[-1]}}}"

    return _STACK.sub(ends, path)


def without_controls(text: str) -> str:
    """Text of the user, line by line, without what could reorder a page."""
    return _CONTROLS.sub("", text)


def reason_kind(reason: str) -> str | None:
    """Which of `REASONS` a reason in English is; `None` where it has no words in other languages."""
    return next((kind for start, kind in REASONS.items() if reason.startswith(start)), None)


def places(template: str) -> set[str]:
    """The names of the figures that a text has places for."""
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def plain(text: str) -> str:
    """The text without isolates, for a terminal."""
    return _ISOLATES.sub("", text)


@dataclass(frozen=True, eq=False)
class Language:
    """The words of one language and the way it writes numbers and dates."""

    code: str
    words: Mapping[str, Any]

    @property
    def direction(self) -> str:
        """`ltr` or `rtl`."""
        return self.words["language"]["direction"]

    def template(self, key: str) -> str | None:
        """The text under a dotted key with its places unfilled; `None` where there is none."""
        node: Any = self.words
        for name in key.split("."):
            if not isinstance(node, Mapping) or name not in node:
                return None
            node = node[name]
        return node if isinstance(node, str) else None

    def text(self, key: str, figures: Mapping[str, Value] | None = None) -> str:
        """The text under a dotted key, with `figures` in their places; the key itself where there is no such text."""
        template = self.template(key)
        return isolated(key) if template is None else self.fill(template, figures or {})

    def fill(self, template: str, figures: Mapping[str, Value]) -> str:
        """A template with `figures` in their places; a place without a figure shows its name."""
        written = []
        for literal, name, spec, _ in string.Formatter().parse(template):
            written.append(literal)
            if name is not None:
                written.append(self.value(figures[name], spec or "") if name in figures else isolated(name))
        return "".join(written)

    def value(self, value: Value, spec: str = "") -> str:
        """One figure, written as `spec` says: a name of `FORMATS` and, after a blank, what that format takes."""
        if value is None:
            return self.words["words"]["undefined"]
        if isinstance(value, dict):
            return self._typical(value)
        name, _, rest = spec.partition(" ")
        return FORMATS[name](self, value, rest)

    def name(self, kind: str, value: Value) -> str:
        """The reader's word for a name of the program (`measures.auc`); the name itself where there is none."""
        template = self.template(f"{kind}.{value}")
        return isolated(str(value)) if template is None else template

    def integer(self, value: float) -> str:
        """A whole number with its thousands apart."""
        return self._local(round(value), "#,##0")

    def decimal(self, value: float, places: int) -> str:
        """A number with so many decimal places."""
        return self._local(value, "#,##0" + ("." + "0" * places if places else ""))

    def number(self, value: float, significant: int = 3) -> str:
        """A number with so many significant digits; whole numbers stay whole."""
        if not math.isfinite(value):
            return self.words["words"]["infinite"] if math.isinf(value) else self.words["words"]["undefined"]
        if float(value).is_integer():
            return self.integer(value)
        if 0 < abs(value) < _SMALLEST_DECIMAL:
            mantissa, exponent = f"{value:.{significant - 1}e}".split("e")
            power = f"{self.integer(10)}^{self.integer(int(exponent))}"
            return f"{LEFT_TO_RIGHT}{self.number(float(mantissa), significant)} × {power}{END}"
        places = max(0, significant - 1 - math.floor(math.log10(abs(value))))
        return self._local(round(value, places), "#,##0" + ("." + "#" * places if places else ""))

    def percent(self, value: float) -> str:
        """A fraction in percent, to a tenth; 0 and 100 only where it is so."""
        share = 100 * value if value in (0, 1) else min(max(100 * value, 0.01), 99.99)
        pattern = "#,##0.#" if 0.1 <= share <= 99.9 or share in (0, 100) else "#,##0.##"
        return self._local(share, pattern) + self.words["language"]["percent"]

    def interval(self, low: str, high: str) -> str:
        """An interval of two written numbers."""
        return self.text("words.interval", {}).replace("<low>", low).replace("<high>", high)

    def day(self, day: date) -> str:
        """A date in the reader's calendar."""
        if self.words["language"]["calendar"] == "jalali":
            jalali = jdatetime.date.fromgregorian(date=day)
            month = self.words["language"]["months"][jalali.month - 1]
            return f"{self._digits(str(jalali.day))} {month} {self._digits(str(jalali.year))}"
        return format_date(day, format="d MMMM y", locale=self.code)

    def month(self, day: date) -> str:
        """The month of a date. Always of the Gregorian calendar: such a month begins in one Persian month and ends in the next."""
        return self._digits(format_date(day, format="MMMM y", locale=self.code))

    def moment(self, moment: datetime) -> str:
        """A moment where the reader is: date and time of day."""
        local = moment.astimezone()
        return self.text("words.moment", {"day": self.day(local.date()), "time": self._digits(f"{local:%H:%M}")})

    def duration(self, seconds: float) -> str:
        """A duration in the two largest of hours, minutes and seconds."""
        if seconds < 1:
            return self.text("words.below_a_second")
        whole = round(seconds)
        hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
        parts = [(hours, "hours"), (minutes, "minutes"), (0 if hours else rest, "seconds")]
        return " ".join(self.text(f"words.{unit}", {"n": n}) for n, unit in parts if n) or self.text("words.seconds", {"n": 0})

    def series(self, items: Sequence[str]) -> str:
        """Several written things in a row: `a, b and c`."""
        if len(items) < 2:
            return "".join(items)
        return self.words["words"]["comma"].join(items[:-1]) + self.words["words"]["and"] + items[-1]

    def _typical(self, classes: Typical) -> str:
        """What is typical of each class: `A: 0.2 (0.1 to 0.3); B: JPEG (90%), PNG (10%)`."""
        return self.words["words"]["semicolon"].join(
            f"{isolated(name) if name else self.text('labels.none')}: {self._said(said)}" for name, said in classes.items()
        )

    def _said(self, said: list[float] | list[tuple[str | None, float]]) -> str:
        written = [
            f"{self._file_value(value[0])} ({self.percent(value[1])})" if isinstance(value, tuple) else self.number(value, 4)
            for value in said
        ]
        if len(said) == 3 and not isinstance(said[0], tuple):
            low, middle, high = written
            return f"{middle} ({self.interval(low, high)})"
        return self.words["words"]["comma"].join(written) or self.words["words"]["not_stated"]

    def _file_value(self, word: str | None) -> str:
        """A word that a file says of itself; what is English in it, in the reader's language."""
        if word is None:
            return self.words["words"]["not_stated"]
        if re.fullmatch(_MONTH, word):
            return self.month(date.fromisoformat(f"{word}-01"))
        if re.fullmatch(f"{_MONTH}/{_MONTH}", word):
            return self.interval(*(self._file_value(month) for month in word.split("/")))
        if quality := re.fullmatch(r"quality (\d+)", word):
            return self.text("words.quality", {"n": int(quality[1])})
        return self.name("file_values", word)

    def _digits(self, text: str) -> str:
        return text.translate(str.maketrans("0123456789", self.words["language"]["digits"]))

    def _local(self, value: float, pattern: str) -> str:
        text = format_decimal(abs(value), format=pattern, locale=self.code, numbering_system="default")
        negative = value < 0 and any(letter not in "0.٫" for letter in text)
        # Without the isolate a minus sign moves to the other end of a number in right-to-left text.
        return f"{LEFT_TO_RIGHT}−{self._digits(text)}{END}" if negative else self._digits(text)


def _automatic(language: Language, value: float | str, rest: str) -> str:
    if isinstance(value, str):
        return isolated(value)
    return language.integer(value) if isinstance(value, int) else language.number(value)


def _count(language: Language, value: float | str, rest: str) -> str:
    if isinstance(value, str):
        return isolated(value)
    one, _, many = rest.partition("|")
    number = language.integer(value) if float(value).is_integer() else language.number(value)
    return f"{number} {one if value == 1 or not many else many}"


def _after(language: Language, value: float | str, rest: str) -> str:
    return rest + language.name("averages", value) if value != "" else ""


def _memory(language: Language, value: float | str, rest: str) -> str:
    return rest + language.text("words.memory", {"n": float(value) / 1e9}) if value != "" else ""


def _p_value(language: Language, value: float | str, rest: str) -> str:
    if isinstance(value, str):
        return isolated(value)
    return language.text("words.p_below" if value < 0.001 else "words.p_is", {"p": max(0.001, round(value, 3))})


def _name(language: Language, value: float | str, rest: str) -> str:
    return language.name(rest, value)


def _names(language: Language, value: float | str, rest: str) -> str:
    return language.series([language.name(rest, part.strip()) for part in str(value).split(",")])


def _of_number(write: Callable[[Language, float], str]) -> Callable[[Language, float | str, str], str]:
    return lambda language, value, rest: isolated(value) if isinstance(value, str) else write(language, value)


def _reason(language: Language, value: float | str, rest: str) -> str:
    kind = reason_kind(str(value))
    return isolated(str(value)) if kind is None else language.text(f"reasons.{kind}")


FORMATS: dict[str, Callable[[Language, float | str, str], str]] = {
    "": _automatic,
    "count": _count,  # {rows:count image|images}
    "after": _after,  # {of:after  of }: the class with words before it; nothing where it is ""
    "percent": _of_number(Language.percent),
    "measure": _of_number(lambda language, value: language.decimal(value, 3)),
    "duration": _of_number(Language.duration),
    "p": _p_value,
    "memory": _memory,  # {memory:memory  and }: bytes in gigabytes, with words before them; nothing where it is ""
    "name": _name,  # {measure:name measures}: the word under [measures]
    "reason": _reason,  # why an image is not used
    "names": _names,  # the same for several names parted by commas
}
"""How a figure can be written, by the name after the colon in a text."""


@cache
def language(code: str) -> Language:
    """The words of one of `LANGUAGES`. Raises `KeyError` for another."""
    if code not in LANGUAGES:
        raise KeyError(f"no words for the language {code!r}; there are {', '.join(LANGUAGES)}")
    return Language(code, tomllib.loads(files("tabib.reports").joinpath("locales", f"{code}.toml").read_text("utf-8")))


def phrase(finding: Finding, code: str = "en", *, isolate: bool = False) -> Phrase:
    """A finding in words of the language `code`.

    `isolate` keeps the Unicode isolates around names, which a page needs and a terminal shows as boxes. A finding whose
    code has no words shows the code and its figures.
    """
    reader = language(code)
    key = f"findings.{finding.code}"
    if reader.template(f"{key}.title") is None:
        figures = "; ".join(f"{isolated(name)}: {reader.value(value)}" for name, value in finding.figures.items())
        words = Phrase(isolated(finding.code.replace("_", " ")), figures, "")
    else:
        figures = _of_label(finding, reader)
        words = Phrase(*(reader.text(f"{key}.{part}", figures) for part in ("title", "found", "todo")))
    if finding.label is not None:
        words = replace(words, sentence=f"{isolated(finding.label)}: {words.sentence}")
    return words if isolate else Phrase(plain(words.title), plain(words.sentence), plain(words.todo))


def _of_label(finding: Finding, reader: Language) -> dict[str, Value]:
    """The figures of a finding about one of several labels, with the images without it named in the reader's language."""
    if finding.label is None:
        return dict(finding.figures)
    other, words = without(finding.label), reader.text("labels.without", {"label": finding.label})

    def named(value: Value) -> Value:
        return (
            {words if name == other else name: said for name, said in value.items()}
            if isinstance(value, dict)
            else words
            if value == other
            else value
        )

    return {name: named(value) for name, value in finding.figures.items()}


def finding_codes() -> list[str]:
    """Every code of a finding, check or remark that has words."""
    return sorted(language("en").words["findings"])
