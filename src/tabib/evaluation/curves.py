"""ROC, precision-recall, calibration and decision curves, in few points that keep the shape."""

from __future__ import annotations

import numpy as np

from tabib.evaluation.answers import Answers
from tabib.metrics import net_benefit, reliability
from tabib.records import Curve

__all__ = ["POINTS", "curves_of", "thin"]

POINTS = 400
"""Most points of a curve."""

THRESHOLDS = np.arange(1, 100) / 100
"""Probabilities at which the net benefit is reckoned."""


def curves_of(answers: Answers) -> list[Curve]:
    """The curves of the positive class of two, or of each of many; of a class without rows, or with all, only calibration.

    Net benefit is of two classes: with many, what is done on an answer is not one thing or nothing.
    """
    found = []
    for place, name in enumerate(answers.classes):
        if answers.positive not in (None, name) or not len(answers.truth):
            continue
        truth, score = answers.truth == place, answers.probability[:, place]
        if truth.any() and not truth.all():
            found += [_roc(name, truth, score), _precision_recall(name, truth, score)]
            if answers.positive is not None:
                worth = net_benefit(truth, score, THRESHOLDS)
                found.append(Curve(name="net_benefit", of=name, x=THRESHOLDS.tolist(), y=worth.tolist()))
        said, happened, counts = reliability(truth.astype(np.int64), score)
        found.append(Curve(name="calibration", of=name, x=said.tolist(), y=happened.tolist(), counts=counts.tolist()))
    return found


def thin(x: np.ndarray, y: np.ndarray, points: int = POINTS) -> tuple[list[float], list[float]]:
    """At most `points` of a curve's points, its ends among them, spread evenly along its length."""
    if len(x) > points:
        length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
        kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], points)).clip(0, len(x) - 1))
        x, y = x[kept], y[kept]
    return x.tolist(), y.tolist()


def _roc(of: str, truth: np.ndarray, score: np.ndarray) -> Curve:
    found, called = _counts(truth, score)
    across, up = (called - found) / (~truth).sum(), found / truth.sum()
    turns = np.ones(len(across), dtype=bool)
    turns[1:-1] = np.diff(np.diff(across)).astype(bool) | np.diff(np.diff(up)).astype(bool)
    x, y = thin(across[turns], up[turns])
    return Curve(name="roc", of=of, x=x, y=y)


def _precision_recall(of: str, truth: np.ndarray, score: np.ndarray) -> Curve:
    found, called = (counts[1:] for counts in _counts(truth, score))
    recall, precision = found / truth.sum(), found / called
    # The curve starts where nothing is called yet; it has no height of its own there.
    x, y = thin(np.concatenate([[0.0], recall]), np.concatenate([precision[:1], precision]))
    return Curve(name="precision_recall", of=of, x=x, y=y)


def _counts(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows found, and rows called, as the threshold falls past each distinct score, from none to all."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.diff(score[order], append=np.inf))
    found = np.concatenate([[0], np.cumsum(truth[order])[last]])
    return found.astype(np.float64), np.concatenate([[0], last + 1]).astype(np.float64)
