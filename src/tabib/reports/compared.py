"""What the page of a comparison shows: runs as rows, in the reader's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from tabib.config import METRICS
from tabib.records import Compared, Comparison, Measure, Pace, Published, TrainFit
from tabib.reports.facts import Facts
from tabib.reports.text import Language, Value, isolated
from tabib.reports.views import places_of, whole_measure, written_interval, written_number

__all__ = [
    "COUNTS",
    "LABEL_MEASURES",
    "MEASURES",
    "NOT_RUN",
    "Cell",
    "apart",
    "caution",
    "counted",
    "difference_columns",
    "fit_of",
    "highest",
    "highest_of",
    "label_measures_of",
    "labels_of",
    "measured",
    "measures_of",
    "own_figures",
    "paced",
    "published_measures",
    "same_labels",
    "settings_of",
    "trained",
]

MEASURES = ("auc", "accuracy", "sensitivity", "specificity", "ppv", "f1", "log_loss")
"""Columns of runs of two classes, in this order."""

MEASURES_OF_MANY = ("auc", "accuracy", "balanced_accuracy", "f1", "log_loss")
MEASURES_OF_LABELS = ("auc", "average_precision", "balanced_accuracy", "f1", "exact_match")

MEASURES_OF_MASKS = ("dice", "iou", "surface_dice", "hausdorff95_mm", "panoptic_quality", "aji", "count_error")

LABEL_MEASURES = ("auc", "sensitivity", "specificity")
STRUCTURE_MEASURES = ("dice", "iou", "hausdorff95_mm", "surface_distance_mm")
"""Of each of several labels, and of each structure."""

NOT_RUN = {
    "weights": "compare.no_weights",
    "memory": "compare.no_memory",
    "diverged": "compare.no_number",
    "stopped": "compare.no_time",
    "error": "compare.no_run",
}
"""The words for why a row was not run."""

COUNTS = ("tn", "fp", "fn", "tp")

_PLACES = 3


@dataclass(frozen=True)
class Cell:
    """One figure, and its interval."""

    value: str
    interval: str


def measures_of(comparison: Comparison) -> list[str]:
    """The columns of a table of runs."""
    found = {measure.name for line in comparison.lines for measure in line.measures}
    two = any(line.counts for line in comparison.lines)
    return [
        name
        for name in (
            MEASURES_OF_MASKS
            if comparison.masked
            else MEASURES
            if two
            else MEASURES_OF_LABELS
            if labels_of(comparison)
            else MEASURES_OF_MANY
        )
        if name in found
    ]


def labels_of(comparison: Comparison) -> list[str]:
    """Labels that any run tells, where an image may have several, or structures."""
    found = dict.fromkeys(label for line in comparison.lines for label in line.labels)
    return list(found) if comparison.masked else sorted(found)


def label_measures_of(comparison: Comparison) -> list[str]:
    """The measures that are shown of each label or structure."""
    found = {measure.name for line in comparison.lines for measures in line.labels.values() for measure in measures}
    return [name for name in (STRUCTURE_MEASURES if comparison.masked else LABEL_MEASURES) if name in found]


def difference_columns(comparison: Comparison) -> list[tuple[str, str | None]]:
    """Of what the paired differences of segmenters are."""
    return list(dict.fromkeys((each.name, each.of) for pair in comparison.differences for each in pair.measures))


def highest(comparison: Comparison, reader: Language) -> str:
    """Which run is highest in the first measure, where several judged the same images."""
    measures = measures_of(comparison)[:1]
    found = {line.name: each.value for line in comparison.lines for each in line.measures if [each.name] == measures}
    return highest_of(found, reader.text(f"measures.{measures[0]}"), reader) if measures and comparison.same_test else ""


def highest_of(values: Mapping[str, float | None], measure: str, reader: Language) -> str:
    """Which of several rows is highest, or are, in words that promise no more; nothing where fewer than two have a value."""
    there = {name: value for name, value in values.items() if value is not None}
    if len(there) < 2:
        return ""
    most = max(there.values())
    names = reader.series([isolated(name) for name, value in there.items() if value == most])
    return reader.text("compare.highest", {"name": names, "measure": measure, "value": most})


def caution(comparison: Comparison, reader: Language) -> str:
    """How many differences are shown, and how many of them would look real by chance."""
    compared = sum(each.low is not None for pair in comparison.differences for each in pair.measures)
    figures = {"compared": compared, "chance": (1 - comparison.confidence) * compared, "confidence": comparison.confidence}
    return reader.text("compare.caution", figures) if compared else reader.text("compare.too_few")


def same_labels(comparison: Comparison) -> bool:
    """Whether all runs tell the same labels, so that means over them compare."""
    return len({tuple(line.labels) for line in comparison.lines if line.run}) <= 1


def apart(comparison: Comparison, reader: Language) -> list[str]:
    """In what the runs were judged otherwise than one another, in words."""
    return [reader.text(f"compare.apart_{what}") for what in comparison.apart]


def published_measures(published: Sequence[Published]) -> list[str]:
    """The measures that somebody published."""
    found = {name for work in published for name in work.figures}
    return [name for name in (*METRICS, "dice", "iou") if name in found]


def own_figures(facts: Facts, reader: Language) -> dict[str, Cell]:
    """What a run itself reaches on test in the measures that somebody published, as far as it has them."""
    own = {name: whole_measure(facts, name) for name in published_measures(facts.published)}
    return {
        name: Cell(written_number(reader, measure.value, places_of(facts)), written_interval(facts, reader, measure))
        for name, measure in own.items()
        if measure
    }


def measured(measures: Sequence[Measure], name: str, reader: Language) -> Cell:
    """One of some measures, or nothing."""
    measure = next((each for each in measures if each.name == name), None)
    if measure is None:
        return Cell("", "")
    return Cell(written_number(reader, measure.value, _PLACES), _interval(measure, reader))


def trained(line: Compared, reader: Language) -> str:
    """How long a run trained."""
    return reader.text("compare.epochs", {"epochs": line.epochs, "time": reader.duration(line.seconds)})


FITTED = ("accuracy", "dice")
"""What is told of training images beside validation images."""


def fit_of(fits: Sequence[Sequence[TrainFit]], reader: Language) -> str:
    """What trainings reach on training images, and on validation images: means over the trainings."""
    found = [each for fit in fits for each in fit if each.name in FITTED]
    if not found or len(found) < len(fits):
        return ""
    train, validation = (fmean(getattr(each, side) for each in found) for side in ("train", "validation"))
    return f"{reader.decimal(train, _PLACES)} / {reader.decimal(validation, _PLACES)}"


def counted(line: Compared, reader: Language) -> list[str]:
    """True and false negatives and positives of two classes."""
    return [reader.integer(line.counts[kind]) if line.counts else "" for kind in COUNTS]


def settings_of(comparison: Comparison) -> list[tuple[str, Sequence[str]]]:
    """The fields in which the runs differ, each with its value in every run."""
    ran = [line for line in comparison.lines if line.run]
    return [(field, [line.settings.get(field, "") for line in ran]) for field in (ran[0].settings if ran else ())]


def _interval(measure: Measure, reader: Language) -> str:
    if measure.low is None or measure.high is None:
        return ""
    return reader.interval(*(written_number(reader, end, _PLACES) for end in (measure.low, measure.high)))


def paced(pace: Pace, reader: Language) -> str:
    """How many trainings were at work at once, and why."""
    figures: dict[str, Value] = {"processes": pace.processes, "threads": pace.threads, "precision": pace.precision}
    if pace.alone is None or pace.beside is None:
        return reader.text("pace.given", figures)
    figures |= {"alone": pace.alone, "beside": pace.beside, "times": pace.beside / pace.alone}
    return reader.text("pace.one" if pace.processes == 1 else "pace.two", figures)
