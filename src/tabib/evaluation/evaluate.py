"""Is the model any good, how sure is that, and what must not be believed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from tabib.config import Study
from tabib.dataset import given_parts, patients_known
from tabib.evaluation.answers import Answers, answers_of
from tabib.evaluation.baselines import answer_baselines
from tabib.evaluation.curves import curves_of
from tabib.evaluation.gallery import confusion_cells, random_rows, worst_rows
from tabib.evaluation.history import judge_histories
from tabib.evaluation.measures import gaps, measure_all, predictive_values
from tabib.evaluation.remarks import (
    baseline_remarks,
    gap_remarks,
    goal_remarks,
    part_remarks,
    subgroup_remarks,
    sureness_remarks,
    trust_remarks,
)
from tabib.evaluation.subgroups import measure_subgroups
from tabib.metrics.intervals import Sureness
from tabib.records import PARTS, Evaluation, PartEvaluation

__all__ = ["Judged", "evaluate", "judge_part"]


def evaluate(
    predictions: pl.DataFrame,
    index: pl.DataFrame,
    split: pl.DataFrame,
    study: Study,
    *,
    threshold: float | None = None,
    test_looks: int = 1,
    histories: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> Evaluation:
    """Measure the predictions on validation and test, with intervals over groups, baselines and remarks.

    `predictions` as `prediction_schema`, `index` INDEX_SCHEMA, `split` SPLIT_SCHEMA; with two classes the last
    probability column is of the positive one. `threshold` is the operating point that made the predictions, which are
    taken as they are. `test_looks` counts the times these test rows were judged, this one included. `histories` has
    the lines of every member's `history.jsonl`.

    A row without a usable image counts as refused and is in no measure. Groups are those of the split; a row without
    one is a group of its own. The draws of the bootstrap are seeded by the contents of the images, so that the same
    predictions have the same intervals.
    """
    classes = [name.removeprefix("p_") for name in predictions.columns if name.startswith("p_")]
    table = (
        predictions.drop("group").join(index.select("row", "content"), on="row").join(split.select("row", "group"), on="row", how="left")
    )
    used = index.join(split.filter(pl.col("part").is_in(PARTS)).select("row"), on="row").filter(pl.col("refused").is_null())
    train = index[split.filter(pl.col("part") == "train")["row"].to_numpy()]
    validation, test = (
        judge_part(part, table, classes, index, train, study, lost=_unpredicted(part, table, index, split, study))
        for part in ("validation", "test")
    )
    shared = set(validation.groups) & set(test.groups)
    gap = gaps(validation.evaluation.measures, test.evaluation.measures, apart=not shared)
    leaked = _leaked(split, index, test.answers.rows)
    measures = test.evaluation.measures
    unnamed = index.filter(pl.col("row").is_in(test.answers.rows.tolist()) & pl.col("group").is_null()).height
    subgroups = measure_subgroups(test.answers, index, study.evaluate.subgroups, test.sure)
    return Evaluation(
        classes=classes,
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
        random=random_rows(test.answers, dict(zip(table["row"], table["content"], strict=True))),
        confidence=study.evaluate.confidence,
        draws=study.evaluate.draws,
        test_looks=test_looks,
    )


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
    sure = Sureness(study.evaluate.confidence, study.evaluate.draws, _seed(part, judged["content"].to_list()))
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
        measures=measure_all(answers, baselines, study.goals, sure),
        confusion=confusion_cells(answers),
        curves=curves_of(answers),
    )
    return Judged(evaluation, answers, baselines, sure, groups, refused, mine.filter(predicted & ~labelled)["row"].to_list())


def _unpredicted(part: str, table: pl.DataFrame, index: pl.DataFrame, split: pl.DataFrame, study: Study) -> list[int]:
    """Rows that belong to the part and never came to be predicted: those that could not be read in a given part, too."""
    belongs = split.filter(pl.col("part") == part)["row"].to_list()
    if study.split.given:
        given = given_parts(index, study.split.test_fold)
        belongs += index.filter((given == part) & pl.col("refused").is_not_null())["row"].to_list()
    return sorted(set(belongs) - set(table["row"]))


def _leaked(split: pl.DataFrame, index: pl.DataFrame, test_rows: np.ndarray) -> list[int]:
    """Judged test rows whose group or picture is in training or validation as well."""
    table = split.select("row", "part", "group").join(index.select("row", "content", "pixels"), on="row")
    known = table.filter(pl.col("part").is_in(["train", "validation"]))
    test = table.filter((pl.col("part") == "test") & pl.col("row").is_in(test_rows.tolist()))
    shared = pl.any_horizontal(pl.col(name).is_in(known[name].drop_nulls().unique().to_list()) for name in ("group", "content", "pixels"))
    return test.filter(shared.fill_null(value=False))["row"].to_list()


def _seed(part: str, contents: list[str]) -> int:
    return int.from_bytes(hashlib.sha256("\n".join([part, *contents]).encode()).digest()[:8])
