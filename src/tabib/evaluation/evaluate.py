"""Is the model any good, how sure is that, and what must not be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from tabib.config import Study
from tabib.dataset import as_class, patients_known
from tabib.evaluation.answers import Answers, answers_of
from tabib.evaluation.baselines import answer_baselines
from tabib.evaluation.curves import curves_of
from tabib.evaluation.gallery import confusion_cells, random_rows, worst_rows
from tabib.evaluation.history import judge_histories
from tabib.evaluation.labels import OF_ALL_LABELS, mean_measures, predictions_of_label
from tabib.evaluation.measures import gaps, measure_all, predictive_values
from tabib.evaluation.parts import leaked_rows, seed_of, unpredicted_rows
from tabib.evaluation.remarks import (
    baseline_remarks,
    fixed_remarks,
    gap_remarks,
    goal_remarks,
    part_remarks,
    subgroup_remarks,
    sureness_remarks,
    trust_remarks,
)
from tabib.evaluation.subgroups import measure_subgroups
from tabib.metrics.intervals import Sureness
from tabib.progress import SILENT, Progress
from tabib.records import PARTS, Decision, Evaluation, Finding, PartEvaluation

__all__ = ["Judged", "evaluate", "join_labels", "judge", "judge_part"]


def judge(
    predictions: pl.DataFrame,
    index: pl.DataFrame,
    split: pl.DataFrame,
    decision: Decision,
    study: Study,
    *,
    folder: Path,
    test_looks: int = 1,
    histories: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    afterwards: Sequence[str] = (),
    progress: Progress = SILENT,
) -> Evaluation:
    """Evaluate a classifier at the operating point that was decided; the other arguments are those of `evaluate`.

    `folder` and `progress` are what the steps of every task are given, and are not looked at.
    """
    return evaluate(
        predictions,
        index,
        split,
        study,
        threshold=decision.threshold,
        thresholds=decision.thresholds,
        test_looks=test_looks,
        histories=histories,
        afterwards=afterwards,
    )


def evaluate(
    predictions: pl.DataFrame,
    index: pl.DataFrame,
    split: pl.DataFrame,
    study: Study,
    *,
    threshold: float | None = None,
    thresholds: Sequence[float] = (),
    test_looks: int = 1,
    histories: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    afterwards: Sequence[str] = (),
) -> Evaluation:
    """Measure the predictions on validation and test, with intervals over groups, baselines and remarks.

    `predictions` as `prediction_schema`, `index` INDEX_SCHEMA, `split` SPLIT_SCHEMA; with two classes the last
    probability column is of the positive one. `threshold` is the operating point that made the predictions, which are
    taken as they are; of several labels each has one of `thresholds`. `test_looks` counts the times these test rows were judged, this one included. `histories` has
    the lines of every member's `history.jsonl`.

    `afterwards` are columns of subgroups that were asked for once the study was judged, which a remark says.

    Of several labels each is judged as a study of two classes, with or without it; the whole has the means over labels.

    A row without a usable image counts as refused and is in no measure. Groups are those of the split; a row without
    one is a group of its own. The draws of the bootstrap are seeded by the contents of the images, so that the same
    predictions have the same intervals.
    """
    if afterwards:
        columns = list(dict.fromkeys([*study.evaluate.subgroups, *afterwards]))
        asked = study.model_copy(update={"evaluate": study.evaluate.model_copy(update={"subgroups": columns})})
        found = evaluate(
            predictions, index, split, asked, threshold=threshold, thresholds=thresholds, test_looks=test_looks, histories=histories
        )
        remark = Finding(code="subgroups_afterwards", level="warn", figures={"columns": ", ".join(afterwards)}, page_one=True)
        return found.model_copy(update={"remarks": [remark, *found.remarks]})
    if study.several:
        return _evaluate_labels(predictions, index, split, study, thresholds=thresholds, test_looks=test_looks, histories=histories)
    validation, test = _judge_parts(predictions, index, split, study)
    return _told(validation, test, index, split, study, threshold=threshold, test_looks=test_looks, histories=histories)


def _judge_parts(predictions: pl.DataFrame, index: pl.DataFrame, split: pl.DataFrame, study: Study) -> tuple[Judged, Judged]:
    """Validation and test, judged."""
    classes = [name.removeprefix("p_") for name in predictions.columns if name.startswith("p_")]
    table = (
        predictions.drop("group").join(index.select("row", "content"), on="row").join(split.select("row", "group"), on="row", how="left")
    )
    train = index[split.filter(pl.col("part") == "train")["row"].to_numpy()]
    validation, test = (
        judge_part(part, table, classes, index, train, study, lost=unpredicted_rows(part, table["row"], index, split, study))
        for part in ("validation", "test")
    )
    return validation, test


def _told(
    validation: Judged,
    test: Judged,
    index: pl.DataFrame,
    split: pl.DataFrame,
    study: Study,
    *,
    threshold: float | None,
    test_looks: int,
    histories: Mapping[str, Sequence[Mapping[str, Any]]] | None,
) -> Evaluation:
    """Everything that is said of two judged parts."""
    used = index.join(split.filter(pl.col("part").is_in(PARTS)).select("row"), on="row").filter(pl.col("refused").is_null())
    gap = gaps(validation.evaluation.measures, test.evaluation.measures, apart=_apart(validation, test))
    leaked = leaked_rows(split, index, test.answers.rows)
    measures = test.evaluation.measures
    unnamed = index.filter(pl.col("row").is_in(test.answers.rows.tolist()) & pl.col("group").is_null()).height
    subgroups = measure_subgroups(test.answers, index, study.evaluate.subgroups, test.sure)
    return Evaluation(
        classes=list(test.answers.classes),
        positive=test.answers.positive,
        threshold=threshold,
        patients=patients_known(used["group"]),
        parts=[validation.evaluation, test.evaluation],
        gap=gap,
        prevalence=study.evaluate.prevalence,
        at_prevalence=predictive_values(measures, study.evaluate.prevalence) if study.evaluate.prevalence else [],
        subgroups=subgroups,
        remarks=[
            *sureness_remarks(test.answers, measures, unnamed=unnamed),
            *trust_remarks(test.answers, measures, study, leaked=leaked, test_looks=test_looks),
            *fixed_remarks(validation.answers, study, validation.sure),
            *baseline_remarks(test.answers, test.baselines, measures, test.sure),
            *goal_remarks(measures),
            *gap_remarks(gap, validation.evaluation.measures, measures),
            *(
                remark
                for part in (test, validation)
                for remark in part_remarks(part.evaluation, refused=part.refused, unlabelled=part.unlabelled)
            ),
            *subgroup_remarks(subgroups, confidence=study.evaluate.confidence),
            *judge_histories(histories or {}),
        ],
        worst=worst_rows(test.answers),
        random=random_rows(test.answers, dict(index.select("row", "content").iter_rows())),
        confidence=study.evaluate.confidence,
        draws=study.evaluate.draws,
        test_looks=test_looks,
    )


def _evaluate_labels(
    predictions: pl.DataFrame,
    index: pl.DataFrame,
    split: pl.DataFrame,
    study: Study,
    *,
    thresholds: Sequence[float],
    test_looks: int,
    histories: Mapping[str, Sequence[Mapping[str, Any]]] | None,
) -> Evaluation:
    """Judge each of several labels as a study of two classes, and their means."""
    labels = [name.removeprefix("p_") for name in predictions.columns if name.startswith("p_")]
    judged: list[tuple[Judged, Judged]] = []
    evaluations: list[Evaluation] = []
    for number, label in enumerate(labels):
        mine = index.with_columns(as_class("label", label))
        validation, test = _judge_parts(predictions_of_label(predictions, label), mine, split, study)
        judged.append((validation, test))
        threshold = thresholds[number] if thresholds else None
        evaluations.append(_told(validation, test, mine, split, study, threshold=threshold, test_looks=test_looks, histories=None))
    joined = join_labels(labels, judged, evaluations)
    remarks = [*joined.remarks, *judge_histories(histories or {})]
    gap = gaps(joined.parts[0].measures, joined.parts[1].measures, apart=_apart(*judged[0]))
    return joined.model_copy(update={"gap": gap, "remarks": remarks})


def join_labels(labels: Sequence[str], judged: Sequence[Sequence[Judged]], evaluations: Sequence[Evaluation]) -> Evaluation:
    """What is said of several labels together, each of which was judged as two classes. `judged` has the parts of each, test last."""
    parts = [
        each[0].evaluation.model_copy(
            update={
                "class_counts": {label: part.evaluation.class_counts[label] for label, part in zip(labels, each, strict=True)},
                "class_groups": {label: part.evaluation.class_groups[label] for label, part in zip(labels, each, strict=True)},
                "measures": mean_measures([part.answers for part in each], [part.baselines for part in each], each[0].sure),
                "confusion": [],
                "curves": [],
            }
        )
        for each in zip(*judged, strict=True)
    ]
    first = evaluations[0]
    return first.model_copy(
        update={
            "classes": list(labels),
            "labels": [evaluation.model_copy(update={"remarks": []}) for evaluation in evaluations],
            "positive": None,
            "threshold": None,
            "parts": parts,
            "subgroups": [],
            "remarks": [
                *(remark for remark in first.remarks if remark.code in OF_ALL_LABELS),
                *(
                    remark.model_copy(update={"label": label})
                    for label, evaluation in zip(labels, evaluations, strict=True)
                    for remark in evaluation.remarks
                    if remark.code not in OF_ALL_LABELS
                ),
            ],
            "worst": worst_rows(*(each[-1].answers for each in judged)),
        }
    )


def _apart(validation: Judged, test: Judged) -> bool:
    """Whether no group is in both parts."""
    return not set(validation.groups) & set(test.groups)


@dataclass(frozen=True)
class Judged:
    """One part, judged, and what further remarks read."""

    evaluation: PartEvaluation
    answers: Answers
    baselines: dict[str, Answers]
    sure: Sureness
    groups: list[str]  # names
    refused: list[int]  # rows
    unlabelled: list[int]


def judge_part(
    part: Literal["validation", "test"],
    table: pl.DataFrame,
    classes: list[str],
    index: pl.DataFrame,
    train: pl.DataFrame,
    study: Study,
    *,
    lost: Sequence[int],
) -> Judged:
    """Judge the rows of `table`, predictions with `content`, that are of a part.

    `index` and `train` INDEX_SCHEMA: of the rows of `table`, and of those that trained the model; `lost` are rows that belong to
    the part and have no line in `table`.
    """
    mine = table.filter(pl.col("part") == part).sort("row")
    predicted = pl.col("refused").is_null() & pl.col("predicted").is_not_null()
    labelled = pl.col("label").is_in(classes).fill_null(value=False)
    judged = mine.filter(predicted & labelled)
    # An image without a group is known by its content, so that its group does not hang on the other files.
    groups = judged.select(pl.coalesce("group", pl.lit("image ") + pl.col("content")))["group"].to_list()
    answers = answers_of(judged, classes, groups)
    sure = Sureness(study.evaluate.confidence, study.evaluate.draws, seed_of(part, judged["content"].to_list()))
    asked = index[answers.rows.astype(np.int64)]
    # Under folds the validation rows are the training rows: what learnt from them cannot be judged on them.
    unseen = part == "test" or not train["row"].is_in(asked["row"].implode()).any()
    rule = study.calibrate.threshold
    baselines = answer_baselines(answers, asked, train, rule, prevalence=study.evaluate.prevalence) if unseen else {}
    refused = sorted({*mine.filter(~predicted)["row"].to_list(), *lost})
    evaluation = PartEvaluation(
        part=part,
        rows=len(answers.truth),
        groups=answers.group_count,
        refused=len(refused),
        class_counts={name: int((answers.truth == place).sum()) for place, name in enumerate(classes)},
        class_groups={name: len(np.unique(answers.groups[answers.truth == place])) for place, name in enumerate(classes)},
        measures=measure_all(answers, baselines, study.goals, sure),
        confusion=confusion_cells(answers),
        curves=curves_of(answers),
    )
    return Judged(evaluation, answers, baselines, sure, groups, refused, mine.filter(predicted & ~labelled)["row"].to_list())
