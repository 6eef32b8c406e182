"""Several labels: each as a study of two classes, with it or without, and their means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import polars as pl

from tabib.dataset import as_class, without
from tabib.evaluation.answers import MACRO, Answers, value
from tabib.evaluation.measures import made_measure
from tabib.metrics.intervals import Interval, Sureness, jackknife_interval, leave_groups_out, share_interval
from tabib.records import Measure

__all__ = ["MEANS", "OF_ALL_LABELS", "mean_measures", "predictions_of_label"]

MEANS = ("auc", "average_precision", "balanced_accuracy", "accuracy", "f1")
"""Measures whose plain mean over labels is taken."""

OF_ALL_LABELS = (
    "intervals_without_patients",
    "few_test_groups",
    "few_test_patients",
    "given_leak_kept",
    "test_looked_often",
    "refused_rows",
    "unlabelled_rows",
)
"""Remarks that are the same whichever label is judged."""


def predictions_of_label(predictions: pl.DataFrame, label: str) -> pl.DataFrame:
    """The predictions of one label as those of two classes, the second of which is positive."""
    return predictions.select(
        "row",
        "path",
        "group",
        "part",
        as_class("label", label),
        as_class("predicted", label),
        "refused",
        (1 - pl.col(f"p_{label}")).alias(f"p_{without(label)}"),
        f"p_{label}",
    )


def mean_measures(labels: Sequence[Answers], baselines: Sequence[Mapping[str, Answers]], sure: Sureness) -> list[Measure]:
    """The share of images on which every label is right, and the mean of each of `MEANS` over labels.

    Args:
        labels: the answers for each label, of the same rows; at least one label.
        baselines: for each label what answered the same rows.
        sure: of the intervals: over groups, for means by leaving groups out in turn.
    """
    first = labels[0]
    rows = len(first.truth)
    names = list(baselines[0])
    right = _all_right(labels)
    interval = share_interval(right, np.ones(rows, dtype=bool), first.groups, sure) if rows else Interval()
    beside = {name: float(_all_right([each[name] for each in baselines]).mean()) for name in names}
    found = [made_measure("exact_match", None, float(right.mean()) if rows else math.nan, interval, rows=rows, baselines=beside)]
    for name in MEANS:
        mean = _mean(labels, name)
        interval = Interval()
        if not math.isnan(mean):
            left_out = [leave_groups_out(partial(_weighted, answers, name), answers.groups) for answers in labels]
            interval = jackknife_interval(mean, np.mean(left_out, axis=0), first.groups, sure)
        beside = {other: _mean([each[other] for each in baselines], name) for other in names}
        found.append(made_measure(name, MACRO, mean, interval, rows=rows, baselines=beside))
    return found


def _all_right(labels: Sequence[Answers]) -> np.ndarray:
    return np.all([answers.truth == answers.predicted for answers in labels], axis=0)


def _mean(labels: Sequence[Answers], name: str) -> float:
    return float(np.mean([float(value(answers, name, None)) for answers in labels]))


def _weighted(answers: Answers, name: str, weights: np.ndarray) -> np.ndarray:
    return np.asarray(value(answers, name, None, weights=weights))
