"""What the page of an ablation shows, and how differences are written: rows against others, in the reader's words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from markupsafe import Markup

from tabib.metrics.paired import POWER
from tabib.records import AblatedRow, Ablation, Comparison, Difference, PairedMeasure
from tabib.reports.compared import NOT_RUN, Cell, fit_of, highest_of
from tabib.reports.figures import Line, Plot, plot, ticks
from tabib.reports.text import END, LEFT_TO_RIGHT, Language, Value, isolated
from tabib.reports.views import written_number

__all__ = [
    "COLOURS",
    "NOT_RUN",
    "PLACES",
    "colour",
    "columns",
    "costs",
    "could_show",
    "curves",
    "difference",
    "figure",
    "highest",
    "key",
    "keyed",
    "main_measure",
    "named",
    "notes",
    "of_seeds",
    "other",
    "over_each_other",
    "p_of",
    "pair_told",
    "shown",
    "signed",
    "tag",
    "told",
    "trained_once",
    "verdict",
]

COLOURS = 8
"""Rows whose lines have a colour of their own; further ones begin again."""

PLACES = 3


def colour(place: int) -> str:
    """The style of the lines of a row."""
    return f"row{place % COLOURS}"


def columns(ablation: Ablation) -> list[tuple[str, str | None]]:
    """The measures that rows are compared in, the main one first."""
    return list(dict.fromkeys((each.name, each.of) for row in ablation.rows for each in row.figures))


def figure(row: AblatedRow, name: str, of: str | None, reader: Language) -> Cell:
    """The mean of a measure over seeds, and its interval over patients and seeds."""
    found = next((each for each in row.figures if (each.name, each.of) == (name, of)), None)
    there = [value for value in found.values if value is not None] if found else []
    if found is None or not there:
        return Cell("", "")
    interval = "" if found.low is None or found.high is None else _interval(found.low, found.high, reader)
    return Cell(written_number(reader, fmean(there), PLACES), interval)


def of_seeds(row: AblatedRow, name: str, of: str | None, reader: Language) -> str:
    """The lowest and the highest of the seeds, where there are several."""
    there = [value for each in row.figures if (each.name, each.of) == (name, of) for value in each.values if value is not None]
    return reader.text("ablate.of_seeds", {"range": _interval(min(there), max(there), reader)}) if len(there) > 1 else ""


def _interval(low: float, high: float, reader: Language) -> str:
    return reader.interval(*(written_number(reader, end, PLACES) for end in (low, high)))


def difference(measures: Sequence[PairedMeasure], name: str, of: str | None, reader: Language) -> tuple[Cell, PairedMeasure] | None:
    """One of some differences, with its interval; None where it is not among them."""
    found = next((each for each in measures if (each.name, each.of) == (name, of)), None)
    return None if found is None else (_cell(found, reader), found)


def _cell(measure: PairedMeasure, reader: Language) -> Cell:
    interval = ""
    if measure.low is not None and measure.high is not None:
        interval = reader.interval(signed(reader, measure.low), signed(reader, measure.high))
    return Cell(signed(reader, measure.value), interval)


def signed(reader: Language, value: float | None) -> str:
    """A difference with its sign."""
    if value is None or not math.isfinite(value) or round(value, PLACES) <= 0:
        return written_number(reader, value, PLACES)
    return reader.text("ablate.plus", {"value": round(value, PLACES)})


def shown(measure: PairedMeasure, confidence: float) -> bool:
    """Whether a difference is more than chance explains, after the correction for all rows."""
    return measure.corrected is not None and measure.corrected < 1 - confidence


def p_of(measure: PairedMeasure, reader: Language) -> str:
    """The corrected p-value."""
    return "" if measure.corrected is None else reader.text("ablate.p", {"p": measure.corrected})


def could_show(measure: PairedMeasure, reader: Language) -> str:
    """What a test would have shown; nothing where that cannot be told."""
    return "" if measure.detectable is None else reader.text("ablate.could_show", {"detectable": measure.detectable})


def named(row: AblatedRow, reader: Language) -> str:
    """The name of a row; the first may have none."""
    return isolated(row.name) if row.name else reader.text("ablate.base")


def other(row: AblatedRow, reader: Language) -> str:
    """What a row is compared with, inside a sentence."""
    return reader.text("ablate.quoted", {"row": row.against}) if row.against else reader.text("ablate.study")


def keyed(row: AblatedRow, reader: Language) -> str:
    """The name of a row, and of the one that it is compared with where it has a difference."""
    return reader.text("ablate.pair", {"row": named(row, reader), "against": other(row, reader)}) if row.differences else named(row, reader)


def main_measure(ablation: Ablation, reader: Language) -> str:
    """The measure that is told of in words."""
    return _measure_name(*columns(ablation)[0], reader)


def highest(ablation: Ablation, reader: Language) -> str:
    """Which row is highest in the main measure, of those that judged the same images; its mean over the seeds."""
    if not columns(ablation):
        return ""
    name, of = columns(ablation)[0]
    means = {
        named(row, reader): fmean(there)
        for row in ablation.rows
        for each in row.figures
        if (each.name, each.of) == (name, of) and row.not_compared is None and (there := [v for v in each.values if v is not None])
    }
    return highest_of(means, main_measure(ablation, reader), reader)


def not_asked(ablation: Ablation, reader: Language) -> str:
    """Which rows of the file did not run because others were asked for; nothing where all were."""
    rows = reader.series([isolated(name) for name in ablation.not_asked])
    return reader.text("ablate.not_asked", {"rows": rows}) if rows else ""


def verdict(ablation: Ablation, row: AblatedRow) -> str:
    """What can be said of a row in the main measure: a key of words."""
    if row.not_compared or not row.differences:
        return f"not_{row.not_compared or 'runs'}"
    return _judged(row.differences[0], ablation.confidence)


def _judged(measure: PairedMeasure, confidence: float) -> str:
    if measure.p is None or measure.value is None:
        return "too_few"
    if shown(measure, confidence):
        return "better" if measure.value > 0 else "worse"
    if measure.p < 1 - confidence:
        return "not_after_correction"
    if measure.error is None:
        return "alike"
    return "unknown" if measure.detectable is None else "unseen"


def tag(verdict: str, reader: Language) -> tuple[str, str]:
    """A verdict in a word or two, and the style it is shown in."""
    return reader.text(f"ablate.tag_{verdict}"), {"better": "pass", "worse": "fail"}.get(verdict, "open")


def told(ablation: Ablation, row: AblatedRow, reader: Language) -> str:
    """The same in words, with what the test could have shown."""
    if not row.differences:
        return reader.text(f"ablate.{verdict(ablation, row)}", {"against": other(row, reader)})
    first = [each.differences[0] for each in ablation.rows if each.differences]
    return _sentence(row.differences[0], first, other(row, reader), ablation.confidence, reader)


def pair_told(comparison: Comparison, pair: Difference, reader: Language) -> str:
    """Whether one run is better than another in the main measure, with its name, and what the test could have shown."""
    first, main = [each.measures[0] for each in comparison.differences], pair.measures[0]
    against = reader.text("ablate.quoted", {"row": pair.second})
    return f"{_measure_name(main.name, main.of, reader)}: {_sentence(main, first, against, comparison.confidence, reader)}"


def _measure_name(name: str, of: str | None, reader: Language) -> str:
    return reader.text(f"measures.{name}") + (f" ({reader.name('averages', of)})" if of else "")


def _sentence(measure: PairedMeasure, family: Sequence[PairedMeasure], against: str, confidence: float, reader: Language) -> str:
    """A difference in words; `family` are those that it is corrected with."""
    cell = _cell(measure, reader)
    figures: dict[str, Value] = {
        "against": against,
        "value": LEFT_TO_RIGHT + cell.value + END,
        "interval": cell.interval,
        "groups": measure.groups,
        "rows": sum(each.p is not None for each in family),
        "power": POWER,
    }
    figures |= {} if measure.corrected is None else {"p": measure.corrected}
    figures |= {} if measure.detectable is None else {"detectable": measure.detectable}
    return reader.text(f"ablate.{_judged(measure, confidence)}", figures)


def trained_once(ablation: Ablation) -> bool:
    """Whether no difference is over several trainings, so that nothing covers another one."""
    return _pairs(ablation) <= 1


def _pairs(ablation: Ablation) -> int:
    return max((each.pairs for row in ablation.rows for each in row.differences), default=0)


def notes(ablation: Ablation) -> list[str]:
    """Keys of what must be said of all differences."""
    pairs = _pairs(ablation)
    found = ["ablate.one_training"] if pairs == 1 else ["ablate.two_trainings"] if pairs == 2 else []
    return [*found, *(["ablate.of_folds"] if len(ablation.folds) > 1 else [])]


def costs(row: AblatedRow, reader: Language) -> list[str]:
    """Weights, trained weights, runs, epochs, time of a training, images a second, and the fit on training and validation images."""
    done = [run for run in row.runs if run.run]
    if not done:
        return ["", "", reader.integer(0), "", "", "", ""]
    rates = [run.images_per_second for run in done if run.images_per_second]
    return [
        reader.integer(row.weights_total or 0),
        reader.integer(row.weights_trainable or 0),
        reader.integer(len(done)),
        reader.number(fmean(run.epochs for run in done)),
        reader.duration(fmean(run.seconds for run in done)),
        reader.number(fmean(rates)) if rates else "",
        fit_of([run.fits for run in done], reader),
    ]


def curves(ablation: Ablation, reader: Language) -> Markup | None:
    """What was watched on validation, epoch by epoch: a colour for each row, a line for each training."""
    return over_each_other([[run.curve for run in row.runs] for row in ablation.rows], ablation.watched, reader)


def over_each_other(rows: Sequence[Sequence[Sequence[float | None]]], watched: str, reader: Language) -> Markup | None:
    """Curves of several trainings of several rows in one picture; None where there is no figure."""
    lines = []
    for place, row in enumerate(rows):
        for curve in row:
            values = [math.nan if value is None else value for value in curve]
            lines.append(Line([float(epoch + 1) for epoch in range(len(values))], values, colour(place), dots=[1] * (len(values) == 1)))
    numbers = [value for line in lines for value in line.y if math.isfinite(value)]
    if not numbers:
        return None
    last = max(2, *(len(line.x) for line in lines))
    y_ticks = ticks(min(numbers), max(numbers), 4)
    x_ticks = [float(value) for value in ticks(1, last, 4) if value >= 1 and float(value).is_integer() and value <= last]
    picture = Plot(
        title=reader.text("ablate.curves_alt", {"metric": watched}),
        x_name=reader.text("training.epoch"),
        y_name="",  # the heading above says it
        lines=[line for line in lines if line.x],
        x_range=(1, last),
        y_range=(y_ticks[0], y_ticks[-1]),
        x_ticks=x_ticks,
        y_ticks=y_ticks,
        write_x=reader.integer,
        write_y=reader.number,
    )
    return plot(reader, picture)


def key(ablation: Ablation, reader: Language) -> Sequence[tuple[str, str]]:
    """The colour of each row that has a line."""
    return [(colour(place), keyed(row, reader)) for place, row in enumerate(ablation.rows) if any(run.curve for run in row.runs)]
