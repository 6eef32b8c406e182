from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.metrics import roc_curve

from tabib.config import Threshold
from tabib.errors import DataError
from tabib.metrics import balanced_accuracy, choose_threshold, net_benefit, sensitivity, specificity


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    rows = draw(st.integers(2, 60))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    truth = np.append(generator.integers(0, 2, rows), [0, 1])
    step = draw(st.sampled_from([1, 4, 1000]))
    return truth, np.round(expit(generator.normal(truth * 1.5, 1)) * step) / step


@given(rows=scored())
@settings(max_examples=60, deadline=None)
def test_youden_is_the_best_of_the_roc_curve_and_cuts_between_rows(rows: tuple[np.ndarray, np.ndarray]) -> None:
    truth, probability = rows
    threshold = choose_threshold(probability, truth, "youden")
    found = balanced_accuracy(truth, (probability >= threshold).astype(int))
    false_positive, true_positive, _ = roc_curve(truth, probability, drop_intermediate=False)
    inner = (true_positive - false_positive)[1:-1]  # the ends call every row alike
    if len(inner):
        assert 2 * found - 1 == pytest.approx(inner.max())
        assert not np.isin(threshold, probability)
    else:
        assert threshold == 0.5


@given(rows=scored(), share=st.floats(0.05, 0.99))
@settings(max_examples=60, deadline=None)
def test_sensitivity_is_reached_and_with_no_higher_cut(rows: tuple[np.ndarray, np.ndarray], share: float) -> None:
    truth, probability = rows
    threshold = choose_threshold(probability, truth, Threshold(sensitivity=share))
    assert sensitivity(truth, (probability >= threshold).astype(int)) >= share - 1e-9
    higher = np.unique(probability[probability >= threshold])
    if len(higher) > 1:
        assert sensitivity(truth, (probability >= higher[1]).astype(int)) < share


@given(rows=scored(), share=st.floats(0.05, 0.99))
@settings(max_examples=60, deadline=None)
def test_specificity_is_reached_and_with_no_lower_cut(rows: tuple[np.ndarray, np.ndarray], share: float) -> None:
    truth, probability = rows
    threshold = choose_threshold(probability, truth, Threshold(specificity=share))
    assert specificity(truth, (probability >= threshold).astype(int)) >= share - 1e-9
    lower = np.unique(probability[probability < threshold])
    if len(lower):
        assert specificity(truth, (probability >= lower[-1]).astype(int)) < share


@given(rows=scored(), ratio=st.floats(0.05, 50), prevalence=st.none() | st.floats(0.01, 0.99))
@settings(max_examples=60, deadline=None)
def test_no_cut_costs_less(rows: tuple[np.ndarray, np.ndarray], ratio: float, prevalence: float | None) -> None:
    truth, probability = rows

    def cost(threshold: float) -> float:
        called, ill = probability >= threshold, truth.mean() if prevalence is None else prevalence
        return ratio * ill * (~called[truth == 1]).mean() + (1 - ill) * called[truth == 0].mean()

    chosen = choose_threshold(probability, truth, Threshold(cost_ratio=ratio), prevalence=prevalence)
    assert cost(chosen) <= min(cost(cut) for cut in [*probability, 2.0]) + 1e-9


def test_dear_misses_and_rare_illness_move_the_cut() -> None:
    truth = np.array([0, 0, 1, 0, 1, 1])
    scores = np.linspace(0.1, 0.6, 6)
    assert choose_threshold(scores, truth, Threshold(cost_ratio=3)) == pytest.approx(expit((logit(0.2) + logit(0.3)) / 2))
    assert choose_threshold(scores, truth, Threshold(cost_ratio=0.3)) == pytest.approx(expit((logit(0.4) + logit(0.5)) / 2))
    assert choose_threshold(scores, truth, Threshold(cost_ratio=3), prevalence=0.001) == pytest.approx(expit((logit(0.4) + logit(0.5)) / 2))
    wrong = 1 - truth
    assert choose_threshold(scores, wrong, Threshold(cost_ratio=0.01)) > scores.max()  # nobody
    assert choose_threshold(scores, wrong, Threshold(cost_ratio=100)) == scores.min()  # everybody


@given(rows=scored(), temperature=st.floats(0.3, 5))
@example(rows=(np.array([1, 0, 0, 1]), np.array([0.5, 0.25, 0.5, 0.75])), temperature=1.75)
@settings(max_examples=40, deadline=None)
def test_a_temperature_before_or_after_leaves_the_same_rows_positive(rows: tuple[np.ndarray, np.ndarray], temperature: float) -> None:
    truth, probability = rows
    inner = np.clip(probability, 0.001, 0.999)
    softer = expit(logit(inner) / temperature)
    chosen, after = choose_threshold(inner, truth, "youden"), choose_threshold(softer, truth, "youden")
    np.testing.assert_array_equal(inner >= chosen, softer >= after)


def test_known_cuts() -> None:
    truth = np.array([0, 0, 0, 1, 1, 1])
    apart = np.array([0.1, 0.2, 0.2, 0.8, 0.9, 0.9])
    assert choose_threshold(apart, truth, "youden") == pytest.approx(0.5)  # half-way between 0.2 and 0.8
    assert choose_threshold(apart, truth, Threshold(fixed=0.3)) == 0.3
    assert choose_threshold(apart, truth, Threshold(sensitivity=0.6)) == pytest.approx(expit((logit(0.8) + logit(0.9)) / 2))


def test_of_equally_good_cuts_the_most_even_and_then_the_widest_is_taken() -> None:
    # Rising scores of N N P N P N P P: 1.5 is reached with sensitivity 1, 0.75 and 0.5.
    even = choose_threshold(np.linspace(0.1, 0.8, 8), np.array([0, 0, 1, 0, 1, 0, 1, 1]), "youden")
    assert even == pytest.approx(expit((logit(0.4) + logit(0.5)) / 2))
    # N N P N P P: sensitivity 1 or 2/3, neither more even; the gap from 0.2 to 0.4 is the wider one.
    wide = choose_threshold(np.array([0.1, 0.2, 0.4, 0.6, 0.7, 0.8]), np.array([0, 0, 1, 0, 1, 1]), "youden")
    assert wide == pytest.approx(expit((logit(0.2) + logit(0.4)) / 2))


def test_a_threshold_that_meets_neighbouring_doubles_still_cuts_between_them() -> None:
    low, high = 0.7, float(np.nextafter(0.7, 1))
    threshold = choose_threshold(np.array([low, high]), np.array([0, 1]), "youden")
    assert low < threshold <= high


@pytest.mark.parametrize("truth", [[0, 0], [1, 1]])
def test_a_class_without_rows_is_named(truth: list[int]) -> None:
    with pytest.raises(DataError, match=r"fixed: 0\.5"):
        choose_threshold(np.array([0.2, 0.7]), np.array(truth), "youden")


def test_net_benefit_is_that_of_its_definition() -> None:
    truth, probability = np.array([1, 1, 0, 0, 0]), np.array([0.9, 0.3, 0.3, 0.2, 0.1])
    found = net_benefit(truth, probability, np.array([0.05, 0.25, 0.5, 0.95]))
    everybody = 2 / 5 - 3 / 5 * 0.05 / 0.95
    np.testing.assert_allclose(found, [everybody, 2 / 5 - 1 / 5 / 3, 1 / 5, 0])


@given(rows=scored(), at=st.floats(0.02, 0.98))
@settings(max_examples=40, deadline=None)
def test_no_net_benefit_is_above_that_of_the_cut_that_costs_least(rows: tuple[np.ndarray, np.ndarray], at: float) -> None:
    truth, probability = rows
    cheapest = choose_threshold(probability, truth, Threshold(cost_ratio=(1 - at) / at))
    found = net_benefit(truth, (probability >= cheapest) * 1.0, np.array([at]))
    assert net_benefit(truth, probability, np.array([at])) <= found + 1e-9
