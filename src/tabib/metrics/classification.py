"""How well classes were told apart: every measure of a classifier as a function of rows.

All functions share three conventions.

- `truth` (N,) holds class numbers 0..C-1; with two classes 1 is the positive one. `predicted` (N,) holds the same at
  the operating point; `probability` is (N,), of the positive class, or (N, C).
- `weights` (..., N) counts how often each row is taken, so that all draws of a bootstrap are one call; the result then
  has the leading shape of `weights`. Without weights every row counts once and the result is a float.
- A value that does not exist (sensitivity where no row is positive) is nan, never 0: it must not pass for a bad score.

Formulas: Altman and Bland, BMJ 1994;308:1552 and 309:102 (sensitivity to predictive values); the source of the others
stands at each.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "CHANCE",
    "accuracy",
    "auc",
    "average_precision",
    "balanced_accuracy",
    "brier",
    "confusion",
    "f1",
    "log_loss",
    "mcc",
    "npv",
    "ppv",
    "sensitivity",
    "specificity",
]

Numbers = float | np.ndarray

CHANCE = 0.5
"""The AUC of an answer that knows nothing."""

SMALLEST = float(np.finfo(np.float64).eps)
LARGEST_LOSS = -float(np.log(SMALLEST))
"""What a row can add to the log loss at most: 36.04, for a true class of probability 0."""


def confusion(truth: np.ndarray, predicted: np.ndarray, *, classes: int = 2, weights: np.ndarray | None = None) -> np.ndarray:
    """Counts (..., C, C): first axis the true class, second the predicted one."""
    cell = np.asarray(truth, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)
    if weights is None:
        return np.bincount(cell, minlength=classes * classes).reshape(classes, classes).astype(np.float64)
    counts = np.asarray(weights, dtype=np.float64) @ (cell[:, None] == np.arange(classes * classes)).astype(np.float64)
    return counts.reshape(*counts.shape[:-1], classes, classes)


def accuracy(truth: np.ndarray, predicted: np.ndarray, *, weights: np.ndarray | None = None) -> Numbers:
    """Share of rows whose class is right. For any number of classes; nan without rows."""
    return _mean(np.asarray(truth) == np.asarray(predicted), weights)


def balanced_accuracy(truth: np.ndarray, predicted: np.ndarray, *, classes: int = 2, weights: np.ndarray | None = None) -> Numbers:
    """Mean over classes of the share of its rows that are found; nan where a class has no row.

    With two classes (sensitivity + specificity) / 2. Brodersen et al., ICPR 2010.
    """
    counts = confusion(truth, predicted, classes=classes, weights=weights)
    return plain(ratio(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1)).mean(-1))


def sensitivity(truth: np.ndarray, predicted: np.ndarray, *, weights: np.ndarray | None = None) -> Numbers:
    """Share of positive rows that are called positive, TP / (TP + FN), also called recall; nan without a positive row."""
    counts = confusion(truth, predicted, weights=weights)
    return plain(ratio(counts[..., 1, 1], counts[..., 1, :].sum(-1)))


def specificity(truth: np.ndarray, predicted: np.ndarray, *, weights: np.ndarray | None = None) -> Numbers:
    """Share of negative rows that are called negative, TN / (TN + FP); nan without a negative row."""
    counts = confusion(truth, predicted, weights=weights)
    return plain(ratio(counts[..., 0, 0], counts[..., 0, :].sum(-1)))


def ppv(truth: np.ndarray, predicted: np.ndarray, *, weights: np.ndarray | None = None) -> Numbers:
    """Positive predictive value, TP / (TP + FP), also called precision; nan where no row is called positive."""
    counts = confusion(truth, predicted, weights=weights)
    return plain(ratio(counts[..., 1, 1], counts[..., :, 1].sum(-1)))


def npv(truth: np.ndarray, predicted: np.ndarray, *, weights: np.ndarray | None = None) -> Numbers:
    """Negative predictive value, TN / (TN + FN); nan where no row is called negative."""
    counts = confusion(truth, predicted, weights=weights)
    return plain(ratio(counts[..., 0, 0], counts[..., :, 0].sum(-1)))


def f1(truth: np.ndarray, predicted: np.ndarray, *, weights: np.ndarray | None = None) -> Numbers:
    """Harmonic mean of PPV and sensitivity, 2 TP / (2 TP + FP + FN); nan where no row is, or is called, positive.

    Van Rijsbergen, Information Retrieval, 1979.
    """
    counts = confusion(truth, predicted, weights=weights)
    return plain(ratio(2 * counts[..., 1, 1], 2 * counts[..., 1, 1] + counts[..., 0, 1] + counts[..., 1, 0]))


def mcc(truth: np.ndarray, predicted: np.ndarray, *, classes: int = 2, weights: np.ndarray | None = None) -> Numbers:
    """Matthews correlation of truth and prediction, -1 to 1; nan where all rows have, or are called, one class.

    For any number of classes: Gorodkin, Computational Biology and Chemistry 2004;28:367.
    """
    counts = confusion(truth, predicted, classes=classes, weights=weights)
    true, called, total = counts.sum(-1), counts.sum(-2), counts.sum((-2, -1))
    right = np.diagonal(counts, axis1=-2, axis2=-1).sum(-1)
    spread_true, spread_called = total**2 - (true**2).sum(-1), total**2 - (called**2).sum(-1)
    return plain(ratio(right * total - (true * called).sum(-1), np.sqrt(spread_true * spread_called)))


def auc(truth: np.ndarray, probability: np.ndarray, *, weights: np.ndarray | None = None) -> Numbers:
    """Area under the ROC curve: how often a positive row scores above a negative one, ties counting half.

    nan where a class has no row. Hanley and McNeil, Radiology 1982;143:29.
    """
    positive, negative = _by_score(truth, probability, weights)
    below = np.cumsum(negative, axis=-1) - negative / 2
    return plain(ratio((positive * below).sum(-1), positive.sum(-1) * negative.sum(-1)))


def average_precision(truth: np.ndarray, probability: np.ndarray, *, weights: np.ndarray | None = None) -> Numbers:
    """Area under the precision-recall curve as a step function, the sum of (R_k - R_{k-1}) P_k; nan without a positive row.

    Equal scores enter together; nothing is interpolated (Davis and Goadrich, ICML 2006, on why not).
    """
    positive, negative = (values[..., ::-1] for values in _by_score(truth, probability, weights))
    found, called = np.cumsum(positive, axis=-1), np.cumsum(positive + negative, axis=-1)
    precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
    return plain(ratio((positive * precision).sum(-1), positive.sum(-1)))


def brier(truth: np.ndarray, probability: np.ndarray, *, weights: np.ndarray | None = None) -> Numbers:
    """Mean squared distance between probability and outcome: 0 is perfect. Brier, Monthly Weather Review 1950;78:1.

    Of the positive class for `probability` (N,), 0 to 1; summed over the classes for (N, C), 0 to 2.
    """
    return _mean(row_briers(truth, probability), weights)


def log_loss(truth: np.ndarray, probability: np.ndarray, *, weights: np.ndarray | None = None) -> Numbers:
    """Mean of minus the natural logarithm of the true class's probability: 0 is perfect. Good, JRSS B 1952;14:107.

    Probabilities are kept off 0 by the smallest step of a double at 1 (2.2e-16), so that one row cannot make it infinite.
    """
    return _mean(row_losses(truth, probability), weights)


def row_briers(truth: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Squared distance between probability and outcome of each row, (N,)."""
    probability = np.asarray(probability, dtype=np.float64)
    if probability.ndim == 1:
        return (probability - np.asarray(truth)) ** 2
    outcome = np.asarray(truth)[:, None] == np.arange(probability.shape[1])
    return ((probability - outcome) ** 2).sum(1)


def row_losses(truth: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Minus the natural logarithm of the true class's probability, (N,)."""
    truth, probability = np.asarray(truth, dtype=np.int64), np.asarray(probability, dtype=np.float64)
    true = np.where(truth == 1, probability, 1 - probability) if probability.ndim == 1 else probability[np.arange(len(truth)), truth]
    return -np.log(np.clip(true, SMALLEST, 1 - SMALLEST))


def _by_score(truth: np.ndarray, probability: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Weight of the positive and of the negative rows at each distinct score, rising, (..., K)."""
    truth, probability = np.asarray(truth, dtype=np.float64), np.asarray(probability, dtype=np.float64)
    if not len(probability):
        nothing = np.zeros((1,) if weights is None else (*np.shape(weights)[:-1], 1))
        return nothing, nothing
    order = np.argsort(probability, kind="stable")
    starts = np.flatnonzero(np.diff(probability[order], prepend=-np.inf))
    taken = np.ones(len(truth)) if weights is None else np.asarray(weights, dtype=np.float64)[..., order]
    positive = taken * truth[order]
    if len(starts) < len(order):  # rows of one score enter together
        taken, positive = (np.add.reduceat(values, starts, axis=-1) for values in (taken, positive))
    return positive, taken - positive


def _mean(values: np.ndarray, weights: np.ndarray | None) -> Numbers:
    values = np.asarray(values, dtype=np.float64)
    taken = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    return plain(ratio(taken @ values, taken.sum(-1)))


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    above, below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below > 0)


def plain(values: np.ndarray) -> Numbers:
    return float(values) if np.ndim(values) == 0 else values
