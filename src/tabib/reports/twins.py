"""What the page of a leaky twin shows: a sound study, and what each wrong way would have claimed."""

from __future__ import annotations

from tabib.records import Compared, LeakyTwin, Measure, Twin
from tabib.reports.ablated import signed
from tabib.reports.compared import NOT_RUN, Cell, measured
from tabib.reports.text import END, LEFT_TO_RIGHT, Language

__all__ = ["MEASURES", "NOT_RUN", "cell", "columns", "said_of", "told"]

MEASURES = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1", "dice", "iou", "panoptic_quality")
"""Columns, as they are there; the first is told of in words."""

CHANCE = 0.5
"""The AUC of an answer that knows nothing."""


def columns(twin: LeakyTwin) -> list[str]:
    """The measures of the sound study that the ways are put beside."""
    found = {measure.name for measure in twin.honest.measures if measure.value is not None}
    return [name for name in MEASURES if name in found][:5]


def cell(line: Compared, honest: Compared, name: str, reader: Language) -> tuple[Cell, str]:
    """A measure with its interval, and by how much it is above that of the sound study."""
    mine, sound = (_measure(each, name) for each in (line, honest))
    more = ""
    if line is not honest and mine is not None and sound is not None and mine.value is not None and sound.value is not None:
        more = signed(reader, mine.value - sound.value)
    return measured(line.measures, name, reader), more


def said_of(way: str, reader: Language) -> tuple[str, str, str]:
    """What a way is called, what was done, and why it flatters."""
    return reader.text(f"twin.way_{way}"), reader.text(f"twin.what_{way}"), reader.text(f"twin.why_{way}")


def told(twin: LeakyTwin, each: Twin, reader: Language) -> str:
    """What a way shows, in words."""
    if each.line is None:
        return reader.text(NOT_RUN[each.not_run or "error"])
    name = columns(twin)[0]
    mine, sound = _measure(each.line, name), _measure(twin.honest, name)
    if mine is None or sound is None or mine.value is None or sound.value is None:
        return ""
    figures = {
        "measure": reader.text(f"measures.{name}"),
        "value": mine.value,
        "sound": sound.value,
        "known": each.known,
        "rows": each.line.rows,
    }
    if each.way == "labels":
        if name != "auc" or mine.low is None or mine.high is None:
            return reader.text("twin.chance_unsure", figures)
        return reader.text("twin.chance" if mine.low <= CHANCE <= mine.high else "twin.not_chance", figures)
    figures["more"] = LEFT_TO_RIGHT + signed(reader, mine.value - sound.value) + END
    return reader.text("twin.flatters" if mine.value > sound.value else "twin.flatters_not", figures)


def _measure(line: Compared, name: str) -> Measure | None:
    return next((measure for measure in line.measures if measure.name == name), None)
