from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from tabib.evaluation.answers import Answers
from tabib.evaluation.curves import POINTS, curves_of, thin


def answers(rows: int, *, seed: int = 0, steps: int | None = None) -> Answers:
    generator = np.random.default_rng(seed)
    truth = np.append([0, 1], generator.integers(0, 2, rows - 2))
    score = 1 / (1 + np.exp(-generator.normal(2 * truth - 1, 1)))
    score = score if steps is None else np.round(score * steps) / steps
    return Answers(
        ("NORMAL", "PNEUMONIA"), np.arange(rows), truth, (score > 0.5).astype(int), np.stack([1 - score, score], 1), np.arange(rows)
    )


@pytest.mark.parametrize("rows", [2, 60, 5000])
@pytest.mark.parametrize("steps", [None, 8])
def test_curves_keep_their_area_in_few_points(rows: int, steps: int | None) -> None:
    made = answers(rows, steps=steps)
    roc, recall, _, calibration = curves_of(made)
    truth, score = made.truth, made.probability[:, 1]
    assert max(len(roc.x), len(recall.x)) <= POINTS
    assert (roc.x[0], roc.y[0], roc.x[-1], roc.y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(sklearn_metrics.roc_auc_score(truth, score), abs=0.002)
    precision, found, _ = sklearn_metrics.precision_recall_curve(truth, score)
    assert np.trapezoid(recall.y, recall.x) == pytest.approx(-np.trapezoid(precision, found), abs=0.03 if rows < 100 else 0.003)
    assert sum(calibration.counts) == rows
    assert {curve.of for curve in (roc, recall, calibration)} == {"PNEUMONIA"}


def test_thinning_keeps_corners_apart() -> None:
    x = np.concatenate([np.zeros(5000), np.linspace(0, 1, 20)])
    y = np.concatenate([np.linspace(0, 1, 5000), np.ones(20)])
    kept_x, kept_y = thin(x, y, 50)
    assert len(kept_x) <= 50
    assert (kept_x[0], kept_y[0], kept_x[-1], kept_y[-1]) == (0, 0, 1, 1)
    assert sum(value > 0 for value in kept_x) >= 15  # the sparse half of the way has half of the points it has
