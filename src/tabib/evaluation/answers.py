"""What a model said of the rows of one part, and any measure of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from tabib.metrics import METRICS, balanced_accuracy, mcc

__all__ = ["MACRO", "PER_CLASS", "WEIGHTED", "WHOLE", "Answers", "answers_of", "class_shares", "targets", "value", "weighted_mean"]

MACRO, WEIGHTED = "macro", "weighted"

WHOLE = ("accuracy", "balanced_accuracy", "mcc", "brier", "ece", "log_loss")
"""Measures of all classes at once; the others need a class that counts as positive."""

PER_CLASS = ("sensitivity", "specificity", "ppv", "npv", "f1", "auc", "average_precision")
"""Measures of one class against the rest, and their averages."""

PER_CLASS_OF_TWO = ("sensitivity", "ppv", "f1")
"""With two classes: specificity and NPV are sensitivity and PPV of the other class, and the AUC is one."""


@dataclass(frozen=True)
class Answers:
    """Judged rows, in the order of the index. With two classes the last one is positive."""

    classes: tuple[str, ...]
    rows: np.ndarray  # (N,) rows of the index
    truth: np.ndarray  # (N,) class numbers
    predicted: np.ndarray  # (N,) class numbers, at the operating point
    probability: np.ndarray  # (N, C)
    groups: np.ndarray  # (N,) numbers 0..G-1

    @property
    def group_count(self) -> int:
        """Number of groups."""
        return int(self.groups.max()) + 1 if len(self.groups) else 0

    @property
    def positive(self) -> str | None:
        """The positive class of two."""
        return self.classes[-1] if len(self.classes) == 2 else None

    def said(self, predicted: np.ndarray, probability: np.ndarray) -> Answers:
        """The same rows, answered by something else."""
        return replace(self, predicted=predicted, probability=probability)

    def of_rows(self, inside: np.ndarray) -> Answers:
        """Some of the rows, (N,) bool."""
        taken = {name: getattr(self, name)[inside] for name in ("rows", "truth", "predicted", "probability")}
        return Answers(self.classes, groups=_renumbered(self.groups[inside]), **taken)


def _renumbered(groups: np.ndarray) -> np.ndarray:
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def answers_of(judged: pl.DataFrame, classes: Sequence[str], groups: Sequence[str]) -> Answers:
    """The answers in rows of a table of predictions that have a label and a prediction; `groups` names the group of each."""
    number = {name: place for place, name in enumerate(classes)}
    return Answers(
        classes=tuple(classes),
        rows=judged["row"].to_numpy(),
        truth=np.array([number[label] for label in judged["label"]], dtype=np.int64),
        predicted=np.array([number[label] for label in judged["predicted"]], dtype=np.int64),
        probability=judged.select(f"p_{name}" for name in classes).to_numpy().reshape(-1, len(classes)),
        groups=_renumbered(np.array(groups, dtype=str)),
    )


def targets(classes: Sequence[str]) -> list[tuple[str, str | None]]:
    """Everything that is measured: name and of what. `None` is the whole; with two classes, the positive one."""
    averages = (*classes, MACRO, WEIGHTED)
    if len(classes) == 2:
        return [*((name, None) for name in METRICS), *((name, of) for of in averages for name in PER_CLASS_OF_TWO)]
    return [*((name, None) for name in WHOLE), *((name, of) for of in averages for name in PER_CLASS)]


def value(answers: Answers, name: str, of: str | None, *, weights: np.ndarray | None = None) -> float | np.ndarray:
    """One measure; nan where it does not exist.

    `of` a class takes it as positive and all others as negative. `macro` is the plain mean over classes, `weighted`
    the mean weighted by their rows. `weights` (..., N) as in `tabib.metrics.classification`.
    """
    number = len(answers.classes)
    if of in (MACRO, WEIGHTED):
        every = np.stack([np.asarray(value(answers, name, each, weights=weights)) for each in answers.classes])
        return every.mean(0)[()] if of == MACRO else weighted_mean(every, class_shares(answers, weights))[()]
    if of is None and number > 2:
        if name in ("balanced_accuracy", "mcc"):
            function = balanced_accuracy if name == "balanced_accuracy" else mcc
            return function(answers.truth, answers.predicted, classes=number, weights=weights)
        reads = answers.predicted if METRICS[name].reads == "predicted" else answers.probability
        return METRICS[name].function(answers.truth, reads, weights=weights)
    place = number - 1 if of is None else answers.classes.index(of)
    reads = (answers.predicted == place).astype(np.int64) if METRICS[name].reads == "predicted" else answers.probability[:, place]
    return METRICS[name].function((answers.truth == place).astype(np.int64), reads, weights=weights)


def class_shares(answers: Answers, weights: np.ndarray | None = None) -> np.ndarray:
    """Share of the rows that each class has, (C, ...)."""
    inside = (answers.truth[:, None] == np.arange(len(answers.classes))).astype(np.float64)
    counts = inside.sum(0) if weights is None else np.asarray(weights, dtype=np.float64) @ inside
    return np.moveaxis(counts / np.maximum(counts.sum(-1, keepdims=True), 1e-300), -1, 0)


def weighted_mean(every: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Mean over the first axis; a class without rows has no part in it, even where its own value does not exist."""
    return np.where(shares.sum(0) > 0, np.where(shares > 0, every * shares, 0.0).sum(0), np.nan)
