"""Labels are weighed as a slow reading of the paper weighs them, and labels that were turned round are found."""

from __future__ import annotations

import numpy as np
import pytest

from tabib.metrics import weigh_labels


def slowly(labels: np.ndarray, probability: np.ndarray) -> tuple[list[float], list[int], list[float]]:
    """Northcutt et al. 2021, equations 1 and 2, image by image."""
    classes = range(probability.shape[1])
    thresholds = [float(np.mean([row[k] for row, label in zip(probability, labels, strict=True) if label == k])) for k in classes]
    confident, margins = [], []
    for row, label in zip(probability, labels, strict=True):
        reached = [k for k in classes if row[k] >= thresholds[k]]
        confident.append(max(reached, key=lambda k: row[k]) if reached else -1)
        margins.append(row[label] - max(row[k] for k in classes if k != label))
    return thresholds, confident, margins


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_as_the_paper_says(classes: int) -> None:
    draws = np.random.default_rng(classes)
    labels = np.concatenate([np.arange(classes), draws.integers(classes, size=200)])
    probability = (draws.dirichlet(np.full(classes, 0.4), size=len(labels)) + np.eye(classes)[labels]) / 2
    probability[:20] = 1 / classes
    thresholds, confident, margins = slowly(labels, probability)
    found = weigh_labels(labels, probability)
    np.testing.assert_allclose(found.thresholds, thresholds, rtol=1e-12)
    assert found.confident.tolist() == confident
    assert -1 in confident
    np.testing.assert_allclose(found.margin, margins, rtol=1e-12, atol=1e-15)


def test_labels_turned_round_are_found() -> None:
    draws = np.random.default_rng(0)
    truth = draws.integers(3, size=900)
    labels = np.where(draws.random(900) < 0.1, (truth + 1) % 3, truth)
    logits = draws.normal(size=(900, 3)) + 5 * np.eye(3)[truth]
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = weigh_labels(labels, probability)
    wrong = (found.confident >= 0) & (found.confident != labels)
    planted = labels != truth
    assert (wrong & planted).sum() / planted.sum() > 0.85
    assert (wrong & planted).sum() / wrong.sum() > 0.95
    assert (found.confident[wrong & planted] == truth[wrong & planted]).mean() > 0.98
    assert found.margin[planted].mean() < -0.8


def test_a_cautious_model_is_measured_by_its_own_caution() -> None:
    # It never gives class 1 more than .4; its average for what bears that label is the bar.
    probability = np.array([[0.9, 0.1]] * 20 + [[0.6, 0.4]] * 5)
    labels = np.array([0] * 19 + [1] + [1] * 4 + [0])
    found = weigh_labels(labels, probability)
    assert found.confident.tolist() == [0] * 20 + [1] * 5
    assert probability.argmax(1).tolist() == [0] * 25


def test_a_class_that_no_label_names_is_never_suggested() -> None:
    found = weigh_labels(np.array([0, 0, 1]), np.array([[0.2, 0.1, 0.7], [0.5, 0.2, 0.3], [0.1, 0.6, 0.3]]))
    assert np.isnan(found.thresholds[2])
    assert found.confident.tolist() == [-1, 0, 1]
    assert weigh_labels(np.zeros(0, int), np.zeros((0, 2))).margin.shape == (0,)
