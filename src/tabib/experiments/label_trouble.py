"""Label trouble: which labels or masks are probably wrong and which images are hard, by models that had not seen the patient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tabib.config import AnyStudy, Goals, Study
from tabib.dataset import without
from tabib.errors import RunError
from tabib.evaluation.answers import MACRO, Answers
from tabib.evaluation.labels import predictions_of_label
from tabib.evaluation.mask_measures import numbered
from tabib.evaluation.measures import measure_all
from tabib.experiments.cross_validation import turns_of
from tabib.experiments.mask_trouble import measured_dice, weigh_masks
from tabib.experiments.trainings import Missed, Row, run_rows
from tabib.metrics import weigh_labels
from tabib.metrics.intervals import Sureness
from tabib.progress import SILENT, Progress
from tabib.records import LabelDoubt, LabelTrouble, Measure
from tabib.reports import LANGUAGES, write_label_trouble_pages
from tabib.runs import Run, atomic_write, for_spreadsheet, read_run, write_json

__all__ = ["UNSURE", "find_label_trouble", "weigh_answers", "write_label_trouble"]

UNSURE = 0.2
"""An image is hard where its label is not by so much more probable than every other class."""

COLUMNS = (
    "list",
    "path",
    "patient",
    "label",
    "suggested",
    "probability_of_label",
    "probability_of_suggested",
    "seeds_disagree",
    "corrected",
    "remark",
)
"""Of the worklist; the last two are for the reader to fill in."""

MASK_COLUMNS = (
    "list",
    "path",
    "patient",
    "structure",
    "slice",
    "dice",
    "usual_dice",
    "deviations_below",
    "dice_of_seeds",
    "called_instead",
    "voxels_of_mask",
    "voxels_drawn",
    "corrected",
    "remark",
)
"""The same where the study is of masks."""


def find_label_trouble(
    study: AnyStudy,
    *,
    root: Path,
    seeds: Sequence[int] = (),
    command: Sequence[str] = (),
    offline: bool = False,
    progress: Progress = SILENT,
    on_step: Callable[[str, bool], None] | None = None,
) -> LabelTrouble:
    """Run every turn of a study's cross-validation, and weigh each label against what the model said that had not seen its patient.

    Turns are the runs of `cross_validate`: those that are done are loaded. No label is changed. Where a seed lacks a turn, since it could not be
    run or was stopped, the images of that turn are weighed with the other seeds.

    Args:
        study: of classes, of several labels, or of masks.
        root: where run folders are kept.
        seeds: of the training; with several, every turn is trained with each, probabilities are their means, and an image of which
            they say different classes is hard. The seeds of the study when not given.
        command: for the manifests.
        offline: download nothing.
        progress: told of everything.
        on_step: hears each step and whether it was loaded.

    Raises:
        StudyError: as `turns_of`.
        RunError: no turn could be run.
        KeyboardInterrupt: by Ctrl-C before the first turn was done.
    """
    training = study.training
    asked = [study.model_copy(update={"training": training.model_copy(update={"seeds": [seed]})}) for seed in seeds] or [study]
    turns = [
        Row(f"{row.name}, seed {each.training.seeds[0]}" if seeds else row.name, row.study, explained=False)
        for each in asked
        for row in turns_of(each).rows
    ]
    ran = run_rows(turns, root=root, command=command, offline=offline, progress=progress, on_step=on_step)
    each_seed = len(turns) // len(asked)
    runs = [
        [read_run(found) for found in ran.found[start : start + each_seed] if isinstance(found, Path)]
        for start in range(0, len(turns), each_seed)
    ]
    missed = [found for found in ran.found if isinstance(found, Missed)]
    stopped = any(each.why == "stopped" for each in missed)
    judged = [next((found for found in ran.found[turn::each_seed] if isinstance(found, Path)), None) for turn in range(each_seed)]
    done = [read_run(found) for found in judged if found is not None]  # of each turn the first
    if not done:
        raise KeyboardInterrupt if stopped else RunError(f"Not one turn could be run, so nobody judged the labels. {missed[-1].reason}")
    unjudged = judged.count(None)
    sure = Sureness(study.evaluate.confidence, study.evaluate.draws)
    found = _of_masks(runs, sure) if not isinstance(study, Study) else _of_labels(runs, sure, several=study.several)
    return LabelTrouble(
        title=study.title.model_dump(exclude_none=True) or dict.fromkeys(LANGUAGES, study.name),
        run=str(done[0].folder),
        rows=sum(run.read("evaluation").parts[-1].rows for run in done),
        groups=sum(run.read("evaluation").parts[-1].groups for run in done),
        seeds=list(seeds),
        missed=unjudged,
        fewer=len(missed) - unjudged * len(asked),
        pace=ran.pace,
        stopped=stopped,
        scale=study.scale,
        confidence=study.evaluate.confidence,
        **found,
    )


def write_label_trouble(trouble: LabelTrouble, folder: Path) -> list[Path]:
    """Write `label_trouble.json`, `worklist.csv` and a page per language into a folder. Returns the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "label_trouble.json", trouble.model_dump(mode="json"))
    columns, rows = (MASK_COLUMNS, _mask_lines(trouble)) if trouble.masked else (COLUMNS, _label_lines(trouble))
    worklist = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
    with atomic_write(folder / "worklist.csv") as file:
        # Spreadsheets take a CSV for UTF-8 by this mark only.
        for_spreadsheet(worklist).write_csv(file, include_bom=True, line_terminator="\r\n")
    return write_label_trouble_pages(trouble, folder)


def _label_lines(trouble: LabelTrouble) -> list[tuple[str | None, ...]]:
    return [
        (
            *(each.list, each.path, each.group, each.label, each.suggested),
            *(f"{each.label_probability:.3f}", f"{each.suggested_probability:.3f}", "yes" if each.disagree else None),
            *(None, None),
        )
        for each in trouble.doubts
    ]


def _mask_lines(trouble: LabelTrouble) -> list[tuple[str | None, ...]]:
    return [
        (
            *(each.list, each.case.path, each.group, each.structure, str(each.case.slice)),
            *(f"{each.dice:.3f}", f"{trouble.thresholds[each.structure]:.3f}", f"{each.deviations:.1f}"),
            *(None if each.agreement is None else f"{each.agreement:.3f}", each.called, str(each.voxels), str(each.drawn)),
            *(None, None),
        )
        for each in trouble.masks
    ]


def _of_masks(runs: Sequence[Sequence[Run]], sure: Sureness) -> dict[str, Any]:
    masks, usual = weigh_masks(runs)
    return {"masked": True, "masks": masks, "thresholds": usual, "doubts": [], "reached": measured_dice(runs, sure)}


def _of_labels(runs: Sequence[Sequence[Run]], sure: Sureness, *, several: bool) -> dict[str, Any]:
    answers = [pl.concat([_judged(run) for run in each]) for each in runs if each]
    classes: list[str] = next(run for each in runs for run in each).read("evaluation").classes
    groups = {row: group for each in runs for run in each for row, group in _groups(run)}
    doubts, thresholds, reached = [], {}, []
    for label in classes if several else [None]:
        tables = [table if label is None else predictions_of_label(table, label) for table in answers]
        asked = classes if label is None else [without(label), label]
        found, usual = weigh_answers(tables, asked)
        doubts += found
        thresholds |= usual if label is None else {label: usual[label]}
        area = _area(_mean_answers(tables, asked), asked, groups, sure)
        reached.append(area if label is None else area.model_copy(update={"of": label}))
    doubts.sort(key=lambda each: (each.list == "hard", each.label_probability - each.suggested_probability, each.path))
    return {"several": several, "thresholds": thresholds, "doubts": doubts, "reached": reached}


def _groups(run: Run) -> Iterable[tuple[int, str]]:
    """The group in which each row was split."""
    split: pl.DataFrame = run.read("split")
    return split.filter(pl.col("group").is_not_null()).select("row", "group").iter_rows()


def _area(table: pl.DataFrame, classes: Sequence[str], groups: Mapping[int, str], sure: Sureness) -> Measure:
    """The AUC of the answers in a table of `_mean_answers`, of more than two classes the mean; a row without a group is its own."""
    probability = table.select(f"p_{name}" for name in classes).to_numpy()
    answers = Answers(
        classes=tuple(classes),
        rows=table["row"].to_numpy(),
        truth=_numbers(table, classes),
        predicted=probability.argmax(1),
        probability=probability,
        groups=numbered([groups.get(row, f"row {row}") for row in table["row"]]),
    )
    return measure_all(answers, {}, Goals(), sure, only=[("auc", MACRO if len(classes) > 2 else None)])[0]


def _judged(run: Run) -> pl.DataFrame:
    """Test rows that have a label and an answer."""
    said: pl.DataFrame = run.read("predictions")
    return said.filter((pl.col("part") == "test") & pl.col("refused").is_null() & pl.col("label").is_not_null())


def weigh_answers(tables: Sequence[pl.DataFrame], classes: Sequence[str]) -> tuple[list[LabelDoubt], dict[str, float]]:
    """Labels to look at, in the answers of each training, and the threshold of each class.

    A row is weighed by the trainings that answered it, each of them once.
    """
    table = _mean_answers(tables, classes)
    probability, disagree = table.select(f"p_{name}" for name in classes).to_numpy(), table["disagree"].to_numpy()
    labels = _numbers(table, classes)
    found = weigh_labels(labels, probability)
    wrong = (found.confident >= 0) & (found.confident != labels)
    hard = ~wrong & ((found.margin < UNSURE) | disagree)
    suggested = np.where(wrong, found.confident, probability.argmax(1))
    doubts = [
        LabelDoubt(
            list="wrong" if wrong[place] else "hard",
            row=table["row"][place],
            path=table["path"][place],
            group=table["group"][place],
            label=classes[int(labels[place])],
            suggested=classes[int(suggested[place])],
            label_probability=float(probability[place, labels[place]]),
            suggested_probability=float(probability[place, suggested[place]]),
            disagree=bool(disagree[place]),
        )
        for place in np.flatnonzero(wrong | hard).tolist()
    ]
    return doubts, {name: float(value) for name, value in zip(classes, found.thresholds, strict=True) if np.isfinite(value)}


def _mean_answers(tables: Sequence[pl.DataFrame], classes: Sequence[str]) -> pl.DataFrame:
    """Of each row with a label the mean of what the trainings said, and whether they `disagree`."""
    names = [f"p_{name}" for name in classes]
    answered = pl.concat(tables).filter(pl.col("label").is_in(classes)).with_columns(likeliest=pl.concat_list(names).list.arg_max())
    return (
        answered.group_by("row", maintain_order=True)
        .agg(pl.first("path", "group", "label"), pl.mean(*names), disagree=pl.col("likeliest").n_unique() > 1)
        .sort("row")
    )


def _numbers(table: pl.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """The number of each label."""
    return np.array([classes.index(label) for label in table["label"]], dtype=np.int64)
