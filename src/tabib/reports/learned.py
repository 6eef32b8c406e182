"""What the page of a learning curve shows: what is reached with so many training patients, and what the last ones brought."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

from markupsafe import Markup

from tabib.records import AblatedRow, LearningCurve, LearningPoint, PairedMeasure
from tabib.reports import ablated
from tabib.reports.ablated import PLACES, columns, signed
from tabib.reports.compared import Cell
from tabib.reports.figures import Line, Plot, plot, ticks
from tabib.reports.text import END, LEFT_TO_RIGHT, Language, Value
from tabib.reports.views import written_number

__all__ = ["figure", "notes", "picture", "rows", "same", "told"]


def rows(curve: LearningCurve) -> list[tuple[LearningPoint, AblatedRow]]:
    """Points with their rows of figures, the smallest share first."""
    return list(zip(reversed(curve.points), reversed(curve.ablation.rows), strict=True))


def picture(curve: LearningCurve, reader: Language) -> Markup | None:
    """The main measure over the number of training patients: a dot for each training, a line through their means, bars for intervals."""
    measures = columns(curve.ablation)
    there = [(point, row, _values(row, *measures[0])) for point, row in rows(curve) if point.groups] if measures else []
    there = [each for each in there if each[2]]
    if len(there) < 2:
        return None
    sure = [(float(point.groups), ends) for point, row, _ in there if (ends := _surely(point, row, *measures[0])) is not None]
    bars = [Line([x, x], ends, "row0 reach") for x, ends in sure]
    numbers = [value for *_, values in there for value in values] + [end for bar in bars for end in bar.y]
    x_ticks = ticks(0, there[-1][0].groups, 4)
    y_ticks = ticks(min(numbers), max(numbers), 4)
    dots = [Line([float(point.groups)] * len(values), values, "row0", dots=[1] * len(values)) for point, _, values in there]
    through = Line([float(point.groups) for point, *_ in there], [fmean(values) for *_, values in there], "row0")
    name = reader.text(f"measures.{measures[0][0]}")
    return plot(
        reader,
        Plot(
            title=reader.text("learning.alt", {"measure": name}) + (f" {reader.text('learning.alt_bars')}" if bars else ""),
            x_name=reader.text("learning.patients"),
            y_name="",  # the heading above says it
            lines=[*bars, through, *dots],
            x_range=(x_ticks[0], x_ticks[-1]),
            y_range=(y_ticks[0], y_ticks[-1]),
            x_ticks=x_ticks,
            y_ticks=y_ticks,
            write_x=reader.integer,
            write_y=reader.number,
        ),
    )


def figure(point: LearningPoint, row: AblatedRow, name: str, of: str | None, reader: Language) -> Cell:
    """A measure of a share: of one training with its interval over test patients, of several their mean with that over patients and trainings."""
    said, found = ablated.figure(row, name, of, reader), _surely(point, row, name, of)
    return said if found is None else replace(said, interval=reader.interval(*(written_number(reader, end, PLACES) for end in found)))


def notes(curve: LearningCurve) -> list[str]:
    """What the intervals cover, and what not."""
    one = len(curve.ablation.seeds) == 1
    return ["learning.one_seed" if one else "learning.several_seeds", "learning.one_draw"]


def same(curve: LearningCurve, reader: Language) -> list[str]:
    """Which shares are the same training images as a larger one, a sentence for each that stands for others."""
    return [
        reader.text(
            "learning.same",
            {
                "share": reader.percent(point.share),
                "others": reader.series([reader.percent(each) for each in point.also]),
                "groups": point.groups,
            },
        )
        for point in curve.points
        if point.also
    ]


def told(curve: LearningCurve, reader: Language) -> str:
    """Whether more patients would help, by what the last of them brought."""
    there = [(point, row) for point, row in rows(curve) if row.figures]
    if len(there) < 2 or there[-1][0].share != 1:
        return reader.text("learning.unknown")
    point, row = there[-2]
    name, of = columns(curve.ablation)[0]
    found = next((each for each in row.differences if (each.name, each.of) == (name, of)), None)
    if found is None or found.value is None or found.p is None or found.low is None or found.high is None:
        return reader.text("learning.too_few")
    figures: dict[str, Value] = {
        "measure": reader.text(f"measures.{name}"),
        "from": point.groups,
        "to": there[-1][0].groups,
        "value": LEFT_TO_RIGHT + signed(reader, -found.value) + END,
        "interval": reader.interval(signed(reader, -found.high), signed(reader, -found.low)),
    }
    return reader.text(f"learning.{_verdict(found, curve.ablation.confidence)}", figures)


def _verdict(found: PairedMeasure, confidence: float) -> str:
    if found.p is None or found.value is None or found.p >= 1 - confidence:
        return "level"
    return "rises" if found.value < 0 else "falls"


def _surely(point: LearningPoint, row: AblatedRow, name: str, of: str | None) -> tuple[float, float] | None:
    """The interval of a measure of a share, where there is one: of its only training, or of the mean over trainings."""
    found = next((each for each in (*point.measures, *row.figures) if (each.name, each.of) == (name, of)), None)
    return None if found is None or found.low is None or found.high is None else (found.low, found.high)


def _values(row: AblatedRow, name: str, of: str | None) -> list[float]:
    return [value for each in row.figures if (each.name, each.of) == (name, of) for value in each.values if value is not None]
