"""What each table and figure of a page shows, in the reader's words: facts in, rows and drawings out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl
from markupsafe import Markup

from tabib.config import METRICS, OWN, BaseAugment, BaseTraining, Segmentation, Study
from tabib.evaluation import train_fits
from tabib.images import OUTLINES
from tabib.metrics.intervals import FEWEST
from tabib.records import PARTS, BasePart, Confusion, Curve, Measure, Model, PartEvaluation, PostProcessing, SegmentationModel, labels_of
from tabib.reports.facts import Facts
from tabib.reports.figures import Line, Plot, bar, hundred, interval_strip, plot, ticks
from tabib.reports.text import END, LEFT_TO_RIGHT, Language, Value, isolated

__all__ = [
    "METRICS",
    "Augmentation",
    "Cell",
    "Entry",
    "Figure",
    "Hundred",
    "LabelRow",
    "Matrix",
    "MeasureRow",
    "MeasureTable",
    "augment_words",
    "augmentation",
    "axis_of",
    "bracketed",
    "cell_id",
    "choice",
    "class_bars",
    "class_curves",
    "confusion",
    "distribution",
    "formula",
    "gap_rows",
    "hundreds",
    "image_facts",
    "label_rows",
    "main_rows",
    "manifest_rows",
    "measure_row",
    "measure_table",
    "of_what",
    "places_of",
    "probability",
    "said_labels",
    "settings_rows",
    "split_words",
    "step_figures",
    "sweep_plot",
    "training_plots",
    "whole_measure",
    "why_no_interval",
    "written_interval",
    "written_number",
]

MAIN = {2: ("auc", "sensitivity", "specificity", "ppv", "npv", "accuracy")}
MAIN_OF_MANY = ("auc", "accuracy", "balanced_accuracy", "f1")
MAIN_OF_LABELS = ("auc", "average_precision", "balanced_accuracy", "f1", "exact_match")
MAIN_OF_MASKS = ("dice", "iou", "precision", "recall", "surface_dice", "aji", "panoptic_quality")
"""Measures of the first page, for two classes, for more, for several labels, and for masks; measures with a goal join them."""

Bar = tuple[str, str, str, Markup]
"""One line of a bar chart: its name, count, share and bar."""

ONE_SIDED = ("sensitivity", "specificity", "ppv", "npv")
"""Measures that say little without their counterpart."""

LOWER_IS_BETTER = ("brier", "ece", "log_loss")

FORMULAS = {
    "sensitivity": "TP / (TP + FN)",
    "specificity": "TN / (TN + FP)",
    "ppv": "TP / (TP + FP)",
    "npv": "TN / (TN + FN)",
    "f1": "2 TP / (2 TP + FP + FN)",
}
"""The measures of a class that a short formula defines, as every language writes them."""

FORMULAS_OF_TWO = {
    "accuracy": "(TP + TN) / N",
    "mcc": "(TP·TN − FP·FN) / √((TP+FP)(TP+FN)(TN+FP)(TN+FN))",
}
"""The same for measures that have another formula with more than two classes."""


@dataclass(frozen=True)
class MeasureRow:
    """One line of a table of measures, written out."""

    name: str
    value: str
    interval: str
    no_interval: str  # why there is none
    baselines: Sequence[tuple[str, str]]  # name, value; the hardest to beat first
    goal: str
    goal_state: str  # "reached", "missed", "open" or ""
    count: str
    method: str
    approximate: bool
    undefined_draws: int
    strip: Markup


@dataclass(frozen=True)
class MeasureTable:
    """A table of measures: the names of its baselines, and its blocks of rows, each row with its baselines."""

    baselines: Sequence[str]
    blocks: Sequence[tuple[str, Sequence[tuple[MeasureRow, Sequence[str]]]]]


@dataclass(frozen=True)
class Hundred:
    """A share told as so many of a hundred."""

    number: str
    sentence: str
    interval: str
    dots: Markup


@dataclass(frozen=True)
class Figure:
    """A drawing, its heading, and the key of its lines: pairs of style and words."""

    title: str
    drawing: Markup
    key: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Augmentation:
    """What augmentation does to the number of pictures of each class."""

    sentence: str
    charts: Sequence[tuple[str, Sequence[Bar]]]


@dataclass(frozen=True)
class Cell:
    """One cell of the confusion matrix, written out."""

    count: str
    percent: str
    share: int  # of the row, in percent
    style: str  # "right" or "wrong"
    target: str | None  # id of the pictures that it opens


@dataclass(frozen=True)
class Matrix:
    """The confusion matrix, written out: names of the columns, and each row's name with its cells."""

    names: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]


@dataclass(frozen=True)
class Entry:
    """One value of the manifest, written out."""

    key: str  # where the value stands below its first key; "" where that is all
    text: str
    code: bool  # whether it is the same in every language: a hash, a version, a command


# --- Measures ---


def axis_of(measures: Sequence[Measure]) -> list[float]:
    """Ticks from just below the smallest number among the measures, baselines, intervals and goals, to 1."""
    numbers = [number for each in measures for number in (each.value, each.low, each.goal, *each.baselines.values()) if number is not None]
    lowest = min([number for number in numbers if math.isfinite(number)], default=0.0)
    low = min(0.8, math.floor(max(0.0, lowest - 0.02) * 10) / 10)
    return ticks(low, 1.0, 4 if low < 0.5 else 3)


def main_rows(facts: Facts, reader: Language) -> tuple[list[MeasureRow], list[float]]:
    """The measures of the first page, and their axis."""
    test = facts.part("test")
    if test is None:
        return [], [0.0, 1.0]
    wanted = list(MAIN_OF_MASKS if facts.masked else MAIN_OF_LABELS if facts.several else MAIN.get(len(facts.classes), MAIN_OF_MANY))
    wanted += [each.name for each in test.measures if each.goal is not None and each.name not in wanted]
    chosen = [_fair_baselines(measure) for name in wanted if (measure := whole_measure(facts, name))]
    axis = axis_of(chosen)
    return [measure_row(facts, reader, measure, axis) for measure in chosen], axis


def measure_table(facts: Facts, reader: Language) -> MeasureTable:
    """Every measure of the test part: of the whole, then of each class, then averaged."""
    test = facts.part("test")
    measures = test.measures if test else []
    baselines = list(dict.fromkeys(name for measure in measures for name in measure.baselines))
    blocks: dict[str | None, list[tuple[MeasureRow, list[str]]]] = {of: [] for of in (None, *facts.classes)}
    for measure in measures:
        beside = [
            written_number(reader, measure.baselines.get(name), places_of(facts)) if name in measure.baselines else "" for name in baselines
        ]
        blocks.setdefault(measure.of, []).append((measure_row(facts, reader, measure, None), beside))
    named = [(of_what(facts, reader, of), rows) for of, rows in blocks.items() if rows]
    return MeasureTable([reader.name("baselines", name) for name in baselines], named)


def gap_rows(facts: Facts, reader: Language) -> list[tuple[str, str, str, str]]:
    """Test minus validation: name, validation, test, difference with its interval."""
    rows = []
    for gap in facts.evaluation.gap if facts.evaluation else []:
        before, after = (facts.measure(gap.name, gap.of, part) for part in ("validation", "test"))
        name = reader.name("measures", gap.name) + (f" · {of_what(facts, reader, gap.of)}" if gap.of else "")
        shown = [written_number(reader, each.value if each else None, places_of(facts)) for each in (before, after, gap)]
        rows.append((name, shown[0], shown[1], " ".join(filter(None, (shown[2], bracketed(written_interval(facts, reader, gap)))))))
    return rows


def _fair_baselines(measure: Measure) -> Measure:
    """Without the best baseline of a measure that a thoughtless rule can bring to 1 at the cost of another measure."""
    if measure.name not in ONE_SIDED:
        return measure
    return measure.model_copy(update={"baselines": {key: value for key, value in measure.baselines.items() if key == "majority_class"}})


def whole_measure(facts: Facts, name: str) -> Measure | None:
    """A measure of the whole, of the positive class, or its mean over classes: the first there is."""
    choices = [facts.measure(name, of) for of in (None, facts.positive, "macro", "structures")]
    return next((measure for measure in choices if measure), None)


def places_of(facts: Facts) -> int:
    """Decimal places that the size of the test set can carry."""
    test = facts.part("test")
    return 3 if test is not None and test.rows >= 200 else 2


def measure_row(facts: Facts, reader: Language, measure: Measure, axis: Sequence[float] | None) -> MeasureRow:
    """One measure written out, with a drawing on `axis` where there is one."""
    places = places_of(facts)
    name, value = reader.name("measures", measure.name), written_number(reader, measure.value, places)
    interval = written_interval(facts, reader, measure)
    title = f"{name}: {value}" + (f" ({interval})" if interval else "")
    return MeasureRow(
        name=name,
        value=value,
        interval=interval,
        no_interval=why_no_interval(reader, facts.part("test"), measure),
        baselines=[(reader.name("baselines", key), written_number(reader, number, places)) for key, number in _hardest_first(measure)],
        goal="" if measure.goal is None else written_number(reader, measure.goal, places),
        goal_state=_goal_state(measure),
        count=f"{reader.integer(measure.rows)} ({reader.integer(measure.groups)})",
        method=reader.name("method", measure.method),
        approximate=measure.approximate,
        undefined_draws=measure.undefined_draws,
        strip=interval_strip(measure, axis, title) if axis else Markup(""),
    )


def _hardest_first(measure: Measure) -> list[tuple[str, float]]:
    return sorted(measure.baselines.items(), key=lambda item: item[1], reverse=measure.name not in LOWER_IS_BETTER)


def _goal_state(measure: Measure) -> str:
    if measure.goal is None or measure.value is None:
        return ""
    low = measure.value if measure.low is None else measure.low
    high = measure.value if measure.high is None else measure.high
    return "reached" if low >= measure.goal else "missed" if high < measure.goal else "open"


def of_what(facts: Facts, reader: Language, of: str | None) -> str:
    """Of what a measure is: of the whole, of a class, or an average."""
    if of is None:
        return (
            reader.text("results.whole") if facts.positive is None else reader.text("results.whole_positive", {"positive": facts.positive})
        )
    if of in facts.classes:
        return isolated(of)
    return reader.text("labels.mean") if facts.several and of == "macro" else reader.name("averages", of)


def written_number(reader: Language, value: float | None, places: int) -> str:
    """A value with so many decimal places, or that it is undefined."""
    if value is None or not math.isfinite(value):
        return reader.text("words.undefined")
    return reader.decimal(value, places)


def written_interval(facts: Facts, reader: Language, measure: Measure) -> str:
    """From where to where; "" where there is no interval."""
    if measure.low is None or measure.high is None:
        return ""
    return reader.interval(*(written_number(reader, end, places_of(facts)) for end in (measure.low, measure.high)))


def why_no_interval(reader: Language, part: BasePart | None, measure: Measure) -> str:
    """Why a measure of a part has a value and no interval; "" where it has both, or neither."""
    if part is None or measure.value is None or measure.low is not None:
        return ""
    known = part.class_groups if isinstance(part, PartEvaluation) else {}
    of = known if measure.of not in known else {measure.of: known[measure.of]}
    thin = [(name, groups) for name, groups in of.items() if groups < 2]
    if part.groups >= FEWEST and thin:
        name, groups = thin[0]
        return reader.text("results.no_interval_class", {"class": name, "groups": groups})
    return reader.text("results.no_interval_few" if measure.groups < FEWEST else "results.no_interval", {"groups": measure.groups})


def bracketed(text: str) -> str:
    """Text in brackets; nothing for none."""
    return f"({text})" if text else ""


# --- The first page ---


def hundreds(facts: Facts, reader: Language) -> list[Hundred]:
    """The main shares as so many of a hundred, the way risks are best understood (Gigerenzer & Hoffrage, 1995)."""
    told: list[tuple[Measure | None, str, dict[str, Value]]] = []
    if facts.positive is not None and facts.negative is not None:
        told.append((whole_measure(facts, "sensitivity"), "first.finds", {"positive": facts.positive}))
        told.append((whole_measure(facts, "specificity"), "first.spares", {"negative": facts.negative}))
    if facts.masked:
        told += [(facts.measure(name, "structures"), f"structures.{name}", {}) for name in ("recall", "precision")]
    elif facts.several:
        told.append((whole_measure(facts, "exact_match"), "labels.all_right", {}))
    accuracy = None if facts.several else whole_measure(facts, "accuracy")
    majority = accuracy.baselines.get("majority_class") if accuracy else None
    told.append((accuracy, "first.right" if majority is None else "first.right_majority", {"share": majority and round(100 * majority)}))
    return [
        _hundred(facts, reader, measure, measure.value, key, names) for measure, key, names in told if measure and measure.value is not None
    ]


def _hundred(facts: Facts, reader: Language, measure: Measure, value: float, key: str, names: Mapping[str, Value]) -> Hundred:
    number = _of_hundred(value)
    interval = ""
    if measure.low is not None and measure.high is not None and facts.evaluation:
        ends = [reader.number(_of_hundred(end)) for end in (measure.low, measure.high)]
        interval = reader.text("first.between", {"confidence": facts.evaluation.confidence}) + " " + reader.interval(*ends)
    return Hundred(
        reader.number(number),
        reader.text(key, {**names, "rest": round(100 - number, 1)}),
        interval,
        hundred(round(100 * value)),
    )


def _of_hundred(share: float) -> float:
    """So many of a hundred: whole, but 99.6 is not told as 100 nor 0.4 as 0."""
    return round(100 * share, 1 if 0 < share < 0.01 or 0.99 < share < 1 else 0)


# --- Data ---


def distribution(facts: Facts, reader: Language) -> list[tuple[str, list[Bar]]]:
    """Per part its name and a bar for each class."""
    return [
        (reader.text(f"part_titles.{part.part}"), _bars(facts, reader, part.by_class, part.part, of=part.images))
        for part in facts.parts
        if part.part in PARTS and part.images
    ]


def class_bars(facts: Facts, reader: Language) -> list[Bar]:
    """A bar for each class over all usable images."""
    labelled = facts.good["label"].drop_nulls()
    counts = Counter(name for label in labelled for name in labels_of(label, several=facts.several))
    return _bars(facts, reader, counts, "test", of=len(labelled))


def outline_colour(number: int) -> str:
    """The colour of the outlines of a structure, from 0, as style sheets write it."""
    return "#{:02x}{:02x}{:02x}".format(*OUTLINES[number % len(OUTLINES)])


def augmentation(facts: Facts, reader: Language) -> Augmentation | None:
    """Classes before and after augmentation; `None` before there is a model."""
    train = facts.counted("train")
    if facts.model is None or facts.study is None or train is None or not train.images:
        return None
    if not isinstance(facts.study, Study):
        words = augment_words(facts.study.augment, reader)
        said = reader.text("structures.augmentation", {"changes": reader.series(words)}) if words else reader.text("data.augmentation_off")
        return Augmentation(said, [])
    epochs = round(sum(member.epochs for member in facts.model.members) / max(1, len(facts.model.members)))
    words = augment_words(facts.study.augment, reader)
    copies = facts.study.augment.copies
    times = copies + 1 if copies else epochs if words else 1
    figures: dict[str, Value] = {"epochs": epochs, "images": train.images, "copies": copies, "n": times * train.images}
    note = "augmentation_copies" if copies else "augmentation_note" if words else "augmentation_off"
    sentences = [reader.text(f"data.{note}", figures)]
    if words or copies:
        sentences.append(reader.text("labels.balance" if facts.several else "data.balance"))
    seen = {name: n * times for name, n in train.by_class.items()}
    charts = [
        (reader.text("data.before"), _bars(facts, reader, train.by_class, "train", of=train.images)),
        (reader.text("data.after"), _bars(facts, reader, seen, "train", of=times * train.images)),
    ]
    if facts.study.training.class_weights == "balanced" and not facts.several:
        sentences.append(reader.text("data.augmentation_weights"))
        charts.append(
            (
                reader.text("data.weight"),
                [
                    (*each[:1], "", *each[2:])
                    for each in _bars(facts, reader, dict.fromkeys(facts.classes, 1), "train", of=len(facts.classes))
                ],
            )
        )
    return Augmentation(" ".join(sentences), charts)


def _bars(facts: Facts, reader: Language, counts: Mapping[str, int], style: str, *, of: int) -> list[Bar]:
    total = (of if facts.several else sum(counts.values())) or 1
    return [
        (isolated(name), reader.integer(n), reader.percent(n / total), bar(reader, n / total, style))
        for name in facts.classes
        for n in [counts.get(name, 0)]
    ]


def image_facts(facts: Facts, reader: Language) -> list[tuple[str, str]]:
    """What kind of images they are."""
    good = facts.good
    if good.is_empty():
        return []
    sides = good.select("width", "height").sort(pl.col("width").cast(pl.Int64) * pl.col("height"), "width")
    sizes = [
        reader.text("words.size", {"width": width, "height": height}) for width, height in dict.fromkeys([sides.row(0), sides.row(-1)])
    ]
    colour = int(good["colour"].sum())
    kinds = [("colour_images", colour), ("grey_images", good.height - colour)]
    return [
        (reader.text("data.size"), sizes[0] if len(sizes) == 1 else reader.interval(*sizes)),
        (reader.text("data.format"), _tally(good, "format", reader)),
        (reader.text("data.bits"), _tally(good, "bits", reader)),
        (reader.text("data.colour"), reader.series([reader.text(f"data.{kind}", {"n": n}) for kind, n in kinds if n])),
    ]


def _tally(table: pl.DataFrame, column: str, reader: Language) -> str:
    counts = table.drop_nulls(column).group_by(column).len().sort("len", column, descending=[True, False])
    if counts.height == 1:
        return reader.value(counts[column][0])
    return reader.series([f"{reader.value(value)} ({reader.integer(n)})" for value, n in counts.iter_rows()])


def split_words(facts: Facts, reader: Language) -> list[str]:
    """How the split was made."""
    if facts.study is None:
        return []
    split = facts.study.split
    figures: dict[str, Value] = {"seed": split.seed, "folds": facts.folds, "file": split.file.name if split.file else None}
    keys = ["file" if split.file else "given" if split.given else "ratio"]
    keys += ["folds"] if facts.folds else []
    keys += ["by_image"] if split.by == "image" else ["whole"] if keys == ["ratio"] else []
    keys += ["copies_keep"] if facts.study.data.copies == "keep" else []
    keys += [f"leaks_{split.leaks}"] if split.given or split.file else []
    keys += ["scope_split"] if split.given and split.group_scope == "split" else []
    keys += {"known": [], "partly": ["groups_partly"], "unknown": ["groups_unknown"]}[facts.patients]
    return [reader.text(facts.said("ratio", "split.ratio") if key == "ratio" else f"split.{key}", figures) for key in keys]


def augment_words(augment: BaseAugment, reader: Language) -> list[str]:
    """The random changes of a study that are switched on."""
    return [
        reader.text(f"augment.{name}", {"value": value})
        for name, value in augment.model_dump().items()
        if reader.template(f"augment.{name}") and value
    ]


# --- Training ---


def training_plots(facts: Facts, reader: Language) -> list[Figure]:
    """Loss, the watched measure, the accuracy of a classifier and the learning rate over the epochs, one line a member."""
    if not any(facts.histories.values()):
        return []
    keys = {key for history in facts.histories.values() for epoch in history for key in epoch}
    best = facts.study.training.best if facts.study else "loss"
    watched = f"validation_{best}" if best != "loss" and f"validation_{best}" in keys else "validation_auc"
    both = [("train", reader.text("training.train_line")), ("validation", reader.text("training.validation_line"))]
    wanted = [("training.loss", ["train_loss", "validation_loss"], both, "loss")]
    for column in dict.fromkeys([watched, "validation_accuracy"]):
        if column in keys:
            name = column.removeprefix("validation_")
            wanted.append((f"measures.{name}", [column], [both[1]], name))
    for name in facts.classes if facts.masked else ():
        if (column := f"validation_dice_{name}") in keys and len(facts.classes) > 1:
            wanted.append((column, [column], [both[1]], "dice"))
    if "learning_rate" in keys:
        wanted.append(("training.learning_rate", ["learning_rate"], [], ""))
    return [
        Figure(title := _curve_title(facts, reader, name), plot(reader, _history_plot(facts, reader, title, columns, best == rule)), key)
        for name, columns, key, rule in wanted
    ]


@dataclass(frozen=True)
class RoundRow:
    """A round of `schedule: rounds`, in the reader's words."""

    member: str
    number: int
    epochs: str  # first and last
    rate: float
    best: float | None  # of the watched measure
    began: str  # with which weights, and which rates were tried


def round_rows(facts: Facts, reader: Language) -> list[RoundRow]:
    """The rounds of every member that was trained in rounds."""
    watched = f"validation_{facts.study.training.best}" if facts.study else ""
    better = min if watched == "validation_loss" else max
    rows = []
    for member in facts.model.members if facts.model else ():
        for each in member.rounds:
            lines = [line for line in facts.histories.get(member.name, ()) if line.get("round") == each.number]
            values = [line[watched] for line in lines if line.get(watched) is not None]
            tried = [one for one in each.tried if one.rate]
            began = (
                reader.text("training.began_after", {"epoch": each.first_epoch - 1})
                if each.from_epoch is None and each.number > 1
                else reader.text("training.began_first")
                if each.from_epoch is None
                else reader.text("training.began_swept", {"epoch": each.from_epoch, "rates": len(tried)})
            )
            last = each.first_epoch + len(lines) - 1
            epochs = reader.text("training.from_to", {"first": each.first_epoch, "last": last})
            rows.append(RoundRow(member.name, each.number, epochs, each.rate, better(values, default=None), began))
    return rows


def _curve_title(facts: Facts, reader: Language, name: str) -> str:
    """The heading of a curve; of a single structure its name stands in it."""
    structure = name.removeprefix("validation_dice_")
    return f"{reader.text('history.validation_dice')} · {isolated(structure)}" if structure in facts.classes else reader.text(name)


def fit_rows(facts: Facts, reader: Language) -> list[tuple[str, str, str]]:
    """What the kept weights reach on training images, and on validation images."""
    rows = []
    for each in train_fits(facts.model.members, facts.histories) if facts.model else ():
        column = f"validation_{each.name}"
        title = _curve_title(facts, reader, column if each.name.startswith("dice_") else f"history.{column}")
        rows.append((title, reader.decimal(each.train, 3), reader.decimal(each.validation, 3)))
    return rows


def _history_plot(facts: Facts, reader: Language, title: str, columns: Sequence[str], mark_best: bool) -> Plot:
    lines, marks = [], []
    kept = {member.name: member.best_epoch for member in facts.model.members} if facts.model else {}
    begun = (
        {member.name: {float(each.first_epoch) for each in member.rounds if each.number > 1} for member in facts.model.members}
        if facts.model
        else {}
    )
    last = 1.0
    for name, history in facts.histories.items():
        epochs = [float(epoch["epoch"]) for epoch in history]
        last = max([last, *epochs])
        for column in columns:
            values = [_finite(epoch.get(column)) for epoch in history]
            style = "train" if column.startswith("train") else "validation" if column.startswith("validation") else "rate"
            lines.append(Line(epochs, values, style, dots=[1] if len(epochs) == 1 else ()))
            if not column.startswith("train"):
                marks += [(epoch, value, "round") for epoch, value in zip(epochs, values, strict=True) if epoch in begun.get(name, ())]
            if column.startswith("validation") and name in kept and kept[name] in epochs:
                marks.append((float(kept[name]), values[epochs.index(kept[name])], "kept"))
    numbers = [y for line in lines for y in line.y if math.isfinite(y)]
    y_ticks = ticks(0.0 if min(numbers, default=0) >= 0 and columns[0] != "validation_auc" else min(numbers), max(numbers, default=1.0), 4)
    if columns[0].startswith("validation"):
        y_ticks = ticks(min(numbers, default=0.0), 1.0, 4)
    x_ticks = [tick for tick in ticks(1, max(last, 2), 5) if 1 <= tick <= last and tick == int(tick)] or [1.0]
    return Plot(
        title=title,
        x_name=reader.text("training.epoch"),
        y_name="",  # the heading above says it
        lines=lines,
        x_range=(1, max(last, 2)),
        y_range=(y_ticks[0], y_ticks[-1]),
        x_ticks=x_ticks,
        y_ticks=y_ticks,
        write_x=reader.integer,
        write_y=reader.number,
        marks=[mark for mark in marks if math.isfinite(mark[1])],
    )


def _finite(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def settings_rows(facts: Facts, reader: Language) -> list[tuple[str, str]]:
    """The settings of the run, from the resolved study and the trained model."""
    return [(reader.text(f"settings.{name}"), value) for name, value in _settings(facts, reader) if value]


def _settings(facts: Facts, reader: Language) -> Iterator[tuple[str, str]]:
    model, study = facts.model, facts.study
    if model:
        yield "network", reader.text("settings.own") if model.network == OWN else isolated(model.network)
        yield "weights_source", _source(facts, reader)
        yield "weights", reader.text("settings.weights_counted", {"total": model.weights_total, "trainable": model.weights_trainable})
    if isinstance(model, Model):
        yield "input", reader.text("settings.input_size", {"height": model.height, "width": model.width, "channels": model.channels})
    if isinstance(study, Study):
        yield from _classifier_settings(facts, study, reader)
    elif study:
        yield from mask_settings(facts, study, reader)


def choice(reader: Language, value: Value) -> str:
    """A choice among names, in the reader's words."""
    return reader.name("choices", "none" if value is None else value)


def optimiser_settings(train: BaseTraining, reader: Language) -> Iterator[tuple[str, str]]:
    """How the weights are moved."""
    yield "optimizer", choice(reader, train.optimizer)
    yield "learning_rate", isolated("sweep") if train.learning_rate == "sweep" else reader.number(train.rate)
    yield "momentum", "" if train.optimizer == "rmsprop" else reader.number(train.momentum)
    yield "weight_decay", reader.number(train.weight_decay)
    yield "schedule", choice(reader, train.schedule)
    yield "warm_up", reader.text("settings.warm_up_share", {"share": train.warm_up}) if train.schedule == "cosine" else ""
    yield "epochs", reader.integer(train.epochs)
    yield "batch", reader.integer(train.batch)
    yield "accumulate", reader.integer(train.accumulate) if train.accumulate > 1 else ""


def machine_settings(train: BaseTraining, best: str, reader: Language) -> Iterator[tuple[str, str]]:
    """What is kept, and what it runs on. `best` says by what, in the reader's words."""
    yield "clip", choice(reader, None) if train.clip is None else reader.number(train.clip)
    yield "average", choice(reader, None) if train.average is None else reader.number(train.average)
    yield "best", best
    yield "stop_after", choice(reader, None) if train.stop_after is None else reader.text("settings.stop_epochs", {"n": train.stop_after})
    yield "seeds", _numbers(reader, train.seeds)
    yield "device", choice(reader, train.device)
    yield "precision", choice(reader, train.precision)
    yield "threads", reader.value(train.threads)


def _numbers(reader: Language, values: Sequence[float]) -> str:
    return reader.series([reader.number(value) for value in values]) or choice(reader, None)


def _classifier_settings(facts: Facts, study: Study, reader: Language) -> Iterator[tuple[str, str]]:
    train, freeze = study.training, study.model.freeze
    yield "fit", choice(reader, study.input.fit)
    yield "intensity", choice(reader, study.input.intensity)
    if study.model.network != OWN:  # its module says these
        yield "head", _numbers(reader, study.model.head)
        yield "dropout", _dropout(study, reader) or choice(reader, None)
        yield "initialiser", choice(reader, study.model.initialiser)
    yield "outputs", "" if facts.several else choice(reader, study.model.outputs)
    yield (
        "freeze",
        choice(reader, freeze) if freeze is None or isinstance(freeze, str) else isolated(str(freeze.through or freeze.trainable)),
    )
    yield "frozen_features", "" if freeze is None else choice(reader, train.frozen_features)
    yield "augment", reader.series(augment_words(study.augment, reader)) or choice(reader, None)
    yield from optimiser_settings(train, reader)
    seen, copies = choice(reader, train.sampling), study.augment.copies
    yield "sampling", reader.text("settings.sampling_copies", {"each": seen, "copies": copies}) if copies else seen
    yield "loss", choice(reader, train.loss)
    yield "focal_gamma", reader.number(train.focal_gamma) if train.loss == "focal" else ""
    yield "class_weights", choice(reader, train.class_weights)
    yield "label_smoothing", reader.number(train.label_smoothing)
    yield from machine_settings(train, choice(reader, train.best), reader)
    decision = facts.decided
    if decision:
        figures: dict[str, Value] = {
            "temperature": decision.temperature,
            "before": decision.log_loss_before,
            "after": decision.log_loss_after,
            "rule": decision.rule,
            "rows": decision.validation_rows,
            "threshold": decision.threshold,
        }
        if decision.temperatures:
            yield "temperature", _of_each(facts, reader, decision.temperatures)
            yield "threshold", _of_each(facts, reader, decision.thresholds)
        else:
            yield "temperature", reader.text("settings.temperature_value", figures)
        if decision.threshold is not None:
            yield "threshold", reader.text("settings.threshold_value", figures)


def mask_settings(facts: Facts, study: Segmentation, reader: Language) -> Iterator[tuple[str, str]]:
    """The settings that only segmenters have, among those of every training."""
    train, model = study.training, facts.model
    yield "encoder", isolated(study.model.encoder) if study.model.encoder else ""
    yield "dimensions", reader.integer(study.input.dimensions)
    yield "crop", reader.text("settings.crop_content") if study.input.crop else ""
    yield "patch", sides(reader, study.input.patch) if isinstance(study.input.patch, list) else ""
    spacing = study.input.spacing_mm
    yield "spacing_mm", sides(reader, spacing) if isinstance(spacing, list) else reader.text("settings.spacing_kept")
    if isinstance(model, SegmentationModel) and model.channel_names:
        yield "channels", reader.series([isolated(name) for name in model.channel_names])
    else:
        yield "channels", reader.value(model.channels if isinstance(model, SegmentationModel) else str(study.input.channels))
    yield "intensity", reader.name("mask_intensities", study.input.intensity)
    yield "window", _numbers(reader, study.input.window) if study.input.window else ""
    yield "filters", _numbers(reader, model.filters) if isinstance(model, SegmentationModel) and model.filters else ""
    yield "norm", reader.name("norms", study.model.norm)
    yield "dropout", reader.number(study.model.dropout) if study.model.dropout else ""
    yield "freeze", reader.text("settings.encoder_frozen") if study.model.freeze else choice(reader, None)
    yield "augment", reader.series(augment_words(study.augment, reader)) or choice(reader, None)
    yield from optimiser_settings(train, reader)
    yield "patches", reader.value(train.patches)
    yield "foreground", reader.percent(train.foreground)
    yield "loss", reader.name("mask_losses", train.loss)
    yield from machine_settings(train, choice(reader, train.best), reader)
    decision = facts.decision
    if isinstance(decision, PostProcessing):
        yield "largest_component", reader.series([isolated(name) for name in decision.largest_component]) or choice(reader, None)
        yield "fill_holes", reader.series([isolated(name) for name in decision.fill_holes]) or choice(reader, None)
        yield "flips", reader.text("settings.flips_on" if decision.flips else "settings.flips_off")


def sides(reader: Language, lengths: Sequence[float]) -> str:
    """Lengths along the axes of an image, slices first, as a formula writes them."""
    return f"{LEFT_TO_RIGHT}{' × '.join(reader.number(length, 4) for length in lengths)}{END}"


def _of_each(facts: Facts, reader: Language, values: Sequence[float]) -> str:
    """A value of each of several labels."""
    return reader.series([f"{isolated(label)} {reader.number(value)}" for label, value in zip(facts.classes, values, strict=True)])


def _dropout(study: Study, reader: Language) -> str:
    """The values; nothing where the study is not resolved, or has none."""
    return "" if study.model.dropout == "auto" else reader.series([reader.number(value) for value in study.model.dropout])


def _source(facts: Facts, reader: Language) -> str:
    source = facts.model.weights_source if facts.model else "none"
    words = {"none": "settings.from_nothing", OWN: "settings.as_given"}
    return reader.text(words[source]) if source in words else isolated(source)


# --- Results ---


def confusion(facts: Facts, reader: Language) -> Matrix:
    """The confusion matrix of the test part."""
    test = facts.answered("test")
    cells = {(cell.truth, cell.predicted): cell for cell in test.confusion} if test else {}
    opened = {(cell.truth, cell.predicted) for cell in facts.cells()}
    rows = []
    for truth in facts.classes:
        counts = [cells[truth, name].count if (truth, name) in cells else 0 for name in facts.classes]
        total = sum(counts)
        rows.append(
            (
                isolated(truth),
                [
                    _cell(facts, reader, cells[truth, name] if (truth, name) in opened else None, n, total, truth == name)
                    for name, n in zip(facts.classes, counts, strict=True)
                ],
            )
        )
    return Matrix([isolated(name) for name in facts.classes], rows)


def _cell(facts: Facts, reader: Language, opened: Confusion | None, count: int, total: int, right: bool) -> Cell:
    share = count / total if total else 0.0
    percent = reader.percent(share) if total else ""
    return Cell(
        reader.integer(count), percent, round(100 * share), "right" if right else "wrong", cell_id(facts, opened) if opened else None
    )


def cell_id(facts: Facts, cell: Confusion) -> str:
    """The id of the pictures of one cell."""
    label = "" if facts.label is None else f"{facts.label}-"
    return f"cell-{label}{facts.classes.index(cell.truth)}-{facts.classes.index(cell.predicted)}"


def said_labels(facts: Facts, reader: Language, row: int) -> str:
    """The labels that the model gives an image, each with its probability."""
    guess = facts.predictions[row]
    said = [f"{isolated(name)} {reader.decimal(guess[f'p_{name}'], 2)}" for name in labels_of(guess["predicted"], several=True)]
    return reader.series(said) or reader.text("labels.none")


@dataclass(frozen=True)
class LabelRow:
    """One label in the table of labels, written out."""

    name: str
    present: str
    values: Sequence[tuple[str, str]]  # of each of LABEL_MEASURES its value and its interval
    threshold: str


LABEL_MEASURES = ("auc", "sensitivity", "specificity", "ppv")


def label_rows(facts: Facts, reader: Language) -> list[LabelRow]:
    """Each of several labels: how many test images have it, and how it is told."""
    rows = []
    for each in facts.of_labels():
        test = each.answered("test")
        measures = [measure for name in LABEL_MEASURES if (measure := each.measure(name))]
        values = [(written_number(reader, measure.value, places_of(each)), written_interval(each, reader, measure)) for measure in measures]
        threshold = "" if each.threshold is None else reader.number(each.threshold)
        rows.append(
            LabelRow(isolated(each.classes[1]), reader.integer(test.class_counts[each.classes[1]] if test else 0), values, threshold)
        )
    return rows


def probability(facts: Facts, reader: Language, row: int) -> str:
    """The probability given to the answer for one row."""
    guess = facts.predictions.get(row)
    value = guess.get(f"p_{guess['predicted']}") if guess else None
    return "" if value is None else reader.decimal(float(value), 2)


def sweep_plot(facts: Facts, reader: Language) -> Figure | None:
    """The training loss in the end against the learning rate, on a logarithmic axis, with the best marked."""
    if facts.sweep is None:
        return None
    ends = {math.log10(one.rate): one.end for one in facts.sweep.tried if one.end is not None}
    if not ends:
        return None
    # A rate with which the loss runs away would press all others flat.
    highest = 2 * max(one.losses[0] for one in facts.sweep.tried if one.losses)
    shown = {x: min(y, highest) for x, y in ends.items()}
    y_ticks = ticks(min(0.0, *shown.values()), max(shown.values()), 4)
    x_ticks = [float(power) for power in range(math.floor(min(shown)), math.ceil(max(shown)) + 1)]
    best = facts.sweep.best
    title = reader.text("training.sweep")
    drawn = Plot(
        title=title,
        x_name=reader.text("training.learning_rate"),
        y_name="",  # the heading above says it
        lines=[Line(list(shown), list(shown.values()), "train", dots=[1] * len(shown))],
        x_range=(x_ticks[0], x_ticks[-1]),
        y_range=(y_ticks[0], y_ticks[-1]),
        x_ticks=x_ticks,
        y_ticks=y_ticks,
        write_x=lambda power: reader.number(10**power),
        write_y=reader.number,
        marks=[] if best is None else [(math.log10(best), shown[math.log10(best)], "kept")],
    )
    return Figure(title, plot(reader, drawn), [])


def class_curves(facts: Facts, reader: Language) -> list[tuple[str, list[Figure]]]:
    """Per class its ROC, precision-recall and calibration curves; of two classes only the positive one."""
    shown = [facts.positive] if facts.positive is not None and len(facts.classes) == 2 else facts.classes
    rows = []
    for name in shown:
        figures = [figure for kind in ("roc", "precision_recall", "calibration") if (figure := _curve_figure(facts, reader, kind, name))]
        if figures:
            rows.append((isolated(name), figures))
    return rows


AXES = {
    "roc": ("false_positive_rate", "sensitivity", "auc"),
    "precision_recall": ("sensitivity", "precision", "average_precision"),
    "calibration": ("predicted_share", "observed_share", "ece"),
}
"""Of each kind of curve: the words of its axes, and the measure that sums it up."""


def _curve_figure(facts: Facts, reader: Language, kind: str, of: str) -> Figure | None:
    # Two calibration curves in one frame cannot be told apart.
    parts = ("test",) if kind == "calibration" else ("validation", "test")
    curves = {part: curve for part in parts if (curve := _curve(facts, part, kind, of))}
    if "test" not in curves:
        return None
    x_name, y_name, summary = AXES[kind]
    measure = facts.measure(summary, of) or whole_measure(facts, summary)
    lines = [_chance(facts, kind, of)]
    lines += [Line(curve.x, curve.y, part, dots=curve.counts if kind == "calibration" else ()) for part, curve in curves.items()]
    marks, key = [], [(part, reader.text(f"results.key_{part}")) for part in reversed(curves)]
    key.append(("chance", reader.text("results.key_perfect" if kind == "calibration" else "results.key_chance")))
    point = _operating_point(facts, kind, of)
    if kind == "calibration" and facts.threshold is not None and of == facts.positive:
        lines.append(Line([facts.threshold, facts.threshold], [0, 1], "threshold"))
        key.append(("threshold", reader.text("results.key_point")))
    elif point:
        marks.append((*point, "point"))
        key.append(("point", reader.text("results.key_point")))
    quarters = [0.0, 0.25, 0.5, 0.75, 1.0]
    value = written_number(reader, measure.value if measure else None, places_of(facts))
    picture = Plot(
        title=reader.text(f"results.{kind}_alt", {"name": of, "value": value}),
        x_name=reader.text(f"results.{x_name}"),
        y_name=reader.text(f"results.{y_name}"),
        lines=lines,
        x_range=(0, 1),
        y_range=(0, 1),
        x_ticks=quarters,
        y_ticks=quarters,
        write_x=reader.number,
        write_y=reader.number,
        marks=marks,
        square=True,
    )
    return Figure(reader.text(f"results.{kind}"), plot(reader, picture), key)


def _curve(facts: Facts, part: str, kind: str, of: str) -> Curve | None:
    judged = facts.answered(part)
    return next((curve for curve in judged.curves if curve.name == kind and curve.of == of), None) if judged else None


def _chance(facts: Facts, kind: str, of: str) -> Line:
    if kind != "precision_recall":
        return Line([0, 1], [0, 1], "chance")
    test = facts.answered("test")
    counts = test.class_counts if test else {}
    prevalence = counts.get(of, 0) / (sum(counts.values()) or 1)
    return Line([0, 1], [prevalence, prevalence], "chance")


def _operating_point(facts: Facts, kind: str, of: str) -> tuple[float, float] | None:
    found = facts.measure("sensitivity", of) or (whole_measure(facts, "sensitivity") if of == facts.positive else None)
    other_name = {"roc": "specificity", "precision_recall": "ppv"}.get(kind)
    other = (facts.measure(other_name, of) or (whole_measure(facts, other_name) if of == facts.positive else None)) if other_name else None
    if found is None or other is None or found.value is None or other.value is None:
        return None
    return (1 - other.value, found.value) if kind == "roc" else (found.value, other.value)


# --- Definitions, steps and versions ---


def formula(facts: Facts, reader: Language, name: str) -> str:
    """The formula of a measure for as many classes as there are; "" where no short one says it."""
    two = len(facts.classes) <= 2 or facts.several
    symbols = FORMULAS.get(name) or (FORMULAS_OF_TWO.get(name) if two else None)
    if symbols:
        return f"{LEFT_TO_RIGHT}{symbols}{END}"
    return (None if two else reader.template(f"formulas.{name}_many")) or reader.template(f"formulas.{name}") or ""


STEPS_OF_MASKS = (
    "groups",
    "copies",
    "patches",
    "augmentation",
    "transfer",
    "dice_loss",
    "overfitting",
    "post_processing",
    "test",
    "intervals",
)
"""What is explained of a study of masks; of other studies every step but those that only masks have."""

ONLY_MASKS = ("patches", "dice_loss", "post_processing")


def shown_steps(facts: Facts, reader: Language) -> list[str]:
    """The explanations that belong to the task and the network."""
    if facts.masked:
        return list(STEPS_OF_MASKS)
    other = {"here", *ONLY_MASKS}
    if facts.study is None or "efficientnet" not in facts.study.model.network:
        other.add("efficientnet")
    return [key for key in reader.words["steps"] if key not in other]


def step_figures(facts: Facts, reader: Language) -> Mapping[str, Value]:
    """What this run did, for the last line of each explanation; a missing figure leaves the line out."""
    figures: dict[str, Value] = {}
    if facts.study:
        figures["augment"] = reader.series(augment_words(facts.study.augment, reader)) or None
        figures["best"] = facts.study.training.best
    if isinstance(facts.study, Study):
        study = facts.study
        figures |= {
            "height": study.input.height,
            "width": study.input.width,
            "network": isolated(study.model.network),
            "dropout": _dropout(study, reader) or None,
        }
    elif facts.study:
        figures |= {
            "patch": sides(reader, facts.study.input.patch) if isinstance(facts.study.input.patch, list) else None,
            "mask_loss": reader.name("mask_losses", facts.study.training.loss),
        }
    if facts.model:
        model = facts.model
        figures |= {"weights": _source(facts, reader), "trainable": model.weights_trainable, "total": model.weights_total}
    if facts.decided:
        figures |= {"temperature": facts.decided.temperature, "threshold": facts.decided.threshold, "rule": facts.decided.rule}
    if isinstance(facts.decision, PostProcessing):
        largest, filled = facts.decision.largest_component, facts.decision.fill_holes
        figures |= {
            "largest": reader.series([isolated(name) for name in largest]) or choice(reader, None),
            "filled": reader.series([isolated(name) for name in filled]) or choice(reader, None),
        }
    return figures


WRITTEN: dict[str, Callable[[Language, Any], str]] = {
    "started": lambda reader, value: reader.moment(datetime.fromisoformat(value)),
    "finished": lambda reader, value: reader.moment(datetime.fromisoformat(value)),
    "seconds": lambda reader, value: reader.duration(value),
    "cores": lambda reader, value: reader.integer(value),
    "memory_gib": lambda reader, value: reader.number(value),
}
"""Keys of the manifest whose values are moments, durations and numbers; the others are code."""


def manifest_rows(manifest: Mapping[str, Any], reader: Language) -> list[tuple[str, list[Entry]]]:
    """Each key of the manifest with its values."""
    return [
        (reader.name("manifest", key), list(_entries(value, "", WRITTEN.get(key), reader)))
        for key, value in manifest.items()
        if key != "given"
    ]


def _entries(value: Any, key: str, write: Callable[[Language, Any], str] | None, reader: Language) -> Iterator[Entry]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _entries(inner, f"{key}.{name}".strip("."), write, reader)
    elif value is not None and write is not None:
        yield Entry(key, write(reader, value), code=False)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield Entry(key, " ".join(str(part) for part in value), code=True)
    else:
        yield Entry(key, "" if value is None else str(value), code=True)
