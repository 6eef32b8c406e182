from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from tabib import config
from tabib.metrics import METRICS, accuracy, balanced_accuracy, brier, confusion, log_loss, mcc


@st.composite
def two_classes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth with both classes, probabilities with many ties, and whole weights that keep both classes."""
    rows = draw(st.integers(2, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    truth = generator.integers(0, 2, rows)
    truth[:2] = 0, 1
    steps = draw(st.sampled_from([2, 5, 1000]))
    weights = generator.integers(0, 4, rows)
    weights[:2] = 1
    return truth, generator.integers(0, steps + 1, rows) / steps, weights


ORACLES = {
    "accuracy": sklearn_metrics.accuracy_score,
    "balanced_accuracy": sklearn_metrics.balanced_accuracy_score,
    "sensitivity": sklearn_metrics.recall_score,
    "specificity": lambda truth, predicted, sample_weight: sklearn_metrics.recall_score(
        truth, predicted, pos_label=0, sample_weight=sample_weight
    ),
    "ppv": lambda truth, predicted, sample_weight: sklearn_metrics.precision_score(
        truth, predicted, sample_weight=sample_weight, zero_division=np.nan
    ),
    "npv": lambda truth, predicted, sample_weight: sklearn_metrics.precision_score(
        truth, predicted, pos_label=0, sample_weight=sample_weight, zero_division=np.nan
    ),
    "f1": lambda truth, predicted, sample_weight: sklearn_metrics.f1_score(
        truth, predicted, sample_weight=sample_weight, zero_division=np.nan
    ),
    "mcc": sklearn_metrics.matthews_corrcoef,
    "auc": sklearn_metrics.roc_auc_score,
    "average_precision": sklearn_metrics.average_precision_score,
    "brier": sklearn_metrics.brier_score_loss,
    "log_loss": lambda truth, probability, sample_weight: sklearn_metrics.log_loss(truth, probability, sample_weight=sample_weight),
}


@pytest.mark.parametrize("name", ORACLES)
@given(rows=two_classes())
@settings(max_examples=25, deadline=None)
def test_equals_scikit_learn(name: str, rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    truth, probability, weights = rows
    reads = (probability >= 0.5).astype(int) if METRICS[name].reads == "predicted" else probability
    taken = np.stack([np.ones(len(truth)), weights])
    expected = [ORACLES[name](truth, reads, sample_weight=row) for row in taken]
    if name == "mcc":  # scikit-learn says 0 for a correlation that does not exist
        expected = [np.nan if np.ptp(reads[row > 0]) == 0 else value for row, value in zip(taken, expected, strict=True)]
    found = METRICS[name].function(truth, reads, weights=taken)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    alone = METRICS[name].function(truth, reads)
    assert isinstance(alone, float)
    np.testing.assert_allclose(alone, expected[0], rtol=1e-9, atol=1e-12)


@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(3, 6))
@settings(max_examples=30, deadline=None)
def test_many_classes_equal_scikit_learn(seed: int, classes: int) -> None:
    generator = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), generator.integers(0, classes, 25)])
    probability = generator.dirichlet(np.ones(classes), len(truth))
    predicted = probability.argmax(1)
    weights = 1 + generator.integers(0, 3, len(truth))
    expected = [
        sklearn_metrics.accuracy_score(truth, predicted, sample_weight=weights),
        sklearn_metrics.balanced_accuracy_score(truth, predicted, sample_weight=weights),
        sklearn_metrics.matthews_corrcoef(truth, predicted, sample_weight=weights),
        sklearn_metrics.log_loss(truth, probability, sample_weight=weights),
        sklearn_metrics.brier_score_loss(truth, probability, sample_weight=weights),
    ]
    found = [
        accuracy(truth, predicted, weights=weights),
        balanced_accuracy(truth, predicted, classes=classes, weights=weights),
        mcc(truth, predicted, classes=classes, weights=weights),
        log_loss(truth, probability, weights=weights),
        brier(truth, probability, weights=weights),
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_array_equal(
        confusion(truth, predicted, classes=classes, weights=weights),
        sklearn_metrics.confusion_matrix(truth, predicted, labels=range(classes), sample_weight=weights),
    )


@given(rows=two_classes())
@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("name", METRICS)
def test_a_row_weighted_two_is_a_row_written_twice(name: str, rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    truth, probability, weights = rows
    reads = (probability >= 0.5).astype(int) if METRICS[name].reads == "predicted" else probability
    again = np.repeat(np.arange(len(truth)), weights)
    np.testing.assert_allclose(
        METRICS[name].function(truth, reads, weights=weights), METRICS[name].function(truth[again], reads[again]), rtol=1e-9, atol=1e-12
    )


UNDEFINED = {
    "all rows negative": ({"sensitivity", "balanced_accuracy", "mcc", "auc", "average_precision"}, [0, 0], [0, 1]),
    "all rows positive": ({"specificity", "balanced_accuracy", "mcc", "auc"}, [1, 1], [0, 1]),
    "none called positive": ({"ppv", "mcc"}, [0, 1], [0, 0]),
    "none called negative": ({"npv", "mcc"}, [0, 1], [1, 1]),
    "none is or is called positive": (
        {"sensitivity", "ppv", "f1", "balanced_accuracy", "mcc", "auc", "average_precision"},
        [0, 0],
        [0, 0],
    ),
    "no rows": (set(METRICS), [], []),
}


@pytest.mark.parametrize("case", UNDEFINED)
def test_what_does_not_exist_is_nan_and_nothing_else_is(case: str) -> None:
    names, truth, predicted = UNDEFINED[case]
    found = {name for name, metric in METRICS.items() if np.isnan(metric.function(np.array(truth, int), np.array(predicted, float)))}
    assert found == names


def test_every_name_of_the_study_file_is_measured() -> None:
    assert tuple(METRICS) == config.METRICS
    assert set(config.Goals.model_fields) <= set(METRICS)


def test_a_hand_counted_table() -> None:
    # Confusion table of a published pneumonia model: 314 TN, 4 FP, 124 FN, 732 TP.
    truth = np.repeat([0, 0, 1, 1], [314, 4, 124, 732])
    predicted = np.repeat([0, 1, 0, 1], [314, 4, 124, 732])
    found = {name: metric.function(truth, predicted) for name, metric in METRICS.items() if metric.reads == "predicted"}
    assert found["accuracy"] == pytest.approx(1046 / 1174)
    assert found["sensitivity"] == pytest.approx(732 / 856)
    assert found["specificity"] == pytest.approx(314 / 318)
    assert found["ppv"] == pytest.approx(732 / 736)
    assert found["npv"] == pytest.approx(314 / 438)
    assert found["f1"] == pytest.approx(2 * 732 / (2 * 732 + 4 + 124))
