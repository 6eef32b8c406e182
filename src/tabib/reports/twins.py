"""What the page of a leaky twin shows: a sound study, and what each wrong way would have claimed."""

from __future__ import annotations

from collections.abc import Sequence

from tabib.metrics.classification import CHANCE
from tabib.records import Compared, LeakyTwin, Measure, Twin
from tabib.reports.ablated import signed
from tabib.reports.compared import NOT_RUN, Cell, measured
from tabib.reports.text import END, LEFT_TO_RIGHT, Language, Value

__all__ = ["MEASURES", "NOT_RUN", "cell", "columns", "only_image", "said_of", "told"]

MEASURES = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1", "dice", "iou", "panoptic_quality")
"""Columns, as they are there; the first is told of in words."""


def columns(twin: LeakyTwin) -> list[str]:
    """The measures of the sound study that the ways are put beside."""
    found = {measure.name for measure in twin.honest.measures if measure.value is not None}
    return [name for name in MEASURES if name in found][:5]


def cell(line: Compared, more: Sequence[Measure], name: str, reader: Language) -> tuple[Cell, Cell | None]:
    """A measure with its interval, and by how much it is above that of the row it is compared with, with the interval of that."""
    gap = _measure(more, name)
    return measured(line.measures, name, reader), None if gap is None else Cell(signed(reader, gap.value), _interval(gap, reader))


def said_of(way: str, reader: Language) -> tuple[str, str, str]:
    """What a way is called, what was done, and why it flatters."""
    return reader.text(f"twin.way_{way}"), reader.text(f"twin.what_{way}"), reader.text(f"twin.why_{way}")


def only_image(twin: LeakyTwin, reader: Language) -> str:
    """Why no other way than the split by image is shown of such a study; nothing where others are."""
    return reader.text(f"twin.only_{twin.only_image}") if twin.only_image else ""


def told(twin: LeakyTwin, each: Twin, reader: Language) -> str:
    """What a way shows, in words."""
    if each.line is None:
        return reader.text(NOT_RUN[each.not_run or "error"])
    name, compared = columns(twin)[0], twin.sound(each.way)
    if compared is None:
        return reader.text("twin.alone")
    mine, sound = _measure(each.line.measures, name), _measure(compared.measures, name)
    if mine is None or sound is None or mine.value is None or sound.value is None:
        return ""
    figures: dict[str, Value] = {
        "measure": reader.text(f"measures.{name}"),
        "value": mine.value,
        "sound": sound.value,
        "known": each.known,
        "rows": each.line.rows,
        "shared": each.shared,
    }
    if each.way == "labels":
        if name != "auc" or mine.low is None or mine.high is None:
            return reader.text("twin.chance_unsure", figures)
        return reader.text("twin.chance" if mine.low <= CHANCE <= mine.high else "twin.not_chance", figures)
    gap = _measure(each.more, name)
    figures["more"] = LEFT_TO_RIGHT + signed(reader, mine.value - sound.value) + END
    figures["interval"] = "" if gap is None else _interval(gap, reader)
    said = [reader.text(f"twin.{_verdict(gap)}", figures), reader.text("twin.known", figures)]
    return " ".join([*said, reader.text("twin.others", figures)] if each.shared < each.line.rows else said)


def _verdict(gap: Measure | None) -> str:
    """Whether a way flatters: only where the interval of the difference excludes 0."""
    if gap is None or gap.low is None or gap.high is None:
        return "too_few"
    return "flatters" if gap.low > 0 else "below" if gap.high < 0 else "level"


def _interval(gap: Measure, reader: Language) -> str:
    return "" if gap.low is None or gap.high is None else reader.interval(signed(reader, gap.low), signed(reader, gap.high))


def _measure(measures: Sequence[Measure], name: str) -> Measure | None:
    return next((measure for measure in measures if measure.name == name), None)
