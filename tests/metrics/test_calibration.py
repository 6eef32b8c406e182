from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.calibration import calibration_curve

from tabib.metrics import apply_temperature, ece, fit_temperature, log_loss, reliability
from tabib.metrics.calibration import TEMPERATURES


def _drawn(rows: int, temperature: float, *, classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a model whose answers are `temperature` times too sure, and the truth."""
    generator = np.random.default_rng(seed)
    right = generator.normal(0, 2, (rows, classes))
    truth = (np.cumsum(apply_temperature(right, 1.0), axis=1) < generator.random((rows, 1))).sum(1)
    return right * temperature, truth


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("classes", [2, 4])
def test_a_known_temperature_is_found(temperature: float, classes: int) -> None:
    logits, truth = _drawn(20000, temperature, classes=classes)
    assert fit_temperature(logits, truth) == pytest.approx(temperature, rel=0.05)
    assert fit_temperature(log_softmax(logits, axis=1), truth) == pytest.approx(fit_temperature(logits, truth), rel=1e-4)


@given(seed=st.integers(0, 1000), factor=st.floats(0.4, 5))
@settings(max_examples=20, deadline=None)
def test_no_temperature_nearby_fits_better(seed: int, factor: float) -> None:
    logits, truth = _drawn(60, factor, seed=seed)
    best = fit_temperature(logits, truth)
    fit = log_loss(truth, apply_temperature(logits, best))
    for other in np.clip(best * np.array([0.9, 0.99, 1.01, 1.1]), *TEMPERATURES):
        assert fit <= log_loss(truth, apply_temperature(logits, other)) + 1e-6


def test_rows_that_are_all_right_do_not_make_the_model_certain() -> None:
    logits = np.array([[2.0, -2.0], [-2.0, 2.0]] * 10)
    temperature = fit_temperature(logits, np.array([0, 1] * 10))
    assert temperature == pytest.approx(TEMPERATURES[0], rel=0.01)
    assert apply_temperature(logits, temperature).max() < 1


def test_temperature_one_is_softmax_and_rows_sum_to_one() -> None:
    logits, _ = _drawn(50, 1.0, classes=3)
    np.testing.assert_allclose(apply_temperature(logits, 1.0), np.exp(log_softmax(logits, axis=1)), rtol=1e-12)
    np.testing.assert_allclose(apply_temperature(logits * 1000, 2.0).sum(1), 1, rtol=1e-12)


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 200), bins=st.integers(2, 20))
@settings(max_examples=40, deadline=None)
def test_reliability_equals_scikit_learn_and_ece_is_its_weighted_distance(seed: int, rows: int, bins: int) -> None:
    generator = np.random.default_rng(seed)
    probability = generator.random(rows)
    truth = np.append((generator.random(rows) < probability).astype(int), [0, 1])
    probability = np.append(probability, [0.0, 1.0])
    said, happened, counts = reliability(truth, probability, bins=bins)
    true, predicted = calibration_curve(truth, probability, n_bins=bins)
    np.testing.assert_allclose(happened, true, rtol=1e-9)
    np.testing.assert_allclose(said, predicted, rtol=1e-9)
    assert counts.sum() == len(truth)
    assert ece(truth, probability, bins=bins) == pytest.approx((counts / counts.sum() * abs(said - happened)).sum())


def test_ece_of_many_classes_is_that_of_the_likeliest_class() -> None:
    probability = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    assert ece(np.array([0, 1, 0, 0]), probability) == pytest.approx(0.8 - 0.75)


def test_no_rows_leave_probabilities_as_they_are() -> None:
    assert fit_temperature(np.zeros((0, 2)), np.zeros(0, int)) == 1.0
