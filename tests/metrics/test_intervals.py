from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from scipy.stats import t as student
from sklearn.metrics import average_precision_score

from tabib.metrics import auc, average_precision, brier, ece, log_loss
from tabib.metrics.classification import row_briers
from tabib.metrics.intervals import (
    FEWEST,
    LEFT_OUT,
    Interval,
    Sureness,
    auc_interval,
    calibration_interval,
    difference_interval,
    group_draws,
    jackknife_interval,
    leave_groups_out,
    mean_interval,
    mean_of_intervals,
    ratio_interval,
    share_interval,
    wilson,
)

SURE = Sureness()


def films(groups: int, *, seed: int = 0, distance: float = 1.5, likeness: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, probability and group of the rows of patients with one to four films each, a third of them ill."""
    generator = np.random.default_rng(seed)
    ill = np.concatenate([[0, 1, 0, 1], generator.random(groups - 4) < 1 / 3]).astype(int)
    group = np.repeat(np.arange(groups), generator.integers(1, 5, groups))
    noise = np.sqrt(likeness) * generator.normal(size=groups)[group] + np.sqrt(1 - likeness) * generator.normal(size=len(group))
    return ill[group], norm.cdf(distance * (ill[group] - 0.5) + noise), group


@given(rows=st.integers(1, 500), share=st.floats(0, 1), confidence=st.floats(0.5, 0.999))
@settings(max_examples=60, deadline=None)
def test_wilson_equals_scipy(rows: int, share: float, confidence: float) -> None:
    right = round(share * rows)
    expected = binomtest(right, rows).proportion_ci(confidence, method="wilson")
    found = wilson(right / rows, rows, float(norm.ppf((1 + confidence) / 2)))
    np.testing.assert_allclose(found, [expected.low, expected.high], atol=1e-12)


def test_a_difference_of_shares_is_the_published_one() -> None:
    # Newcombe, Statistics in Medicine 1998;17:873, table II: 56/70 - 48/80, method 10: 0.0524 to 0.3339.
    intervals = [Interval(*wilson(share, size, float(norm.ppf(0.975))), "wilson", size) for share, size in ((56 / 70, 70), (48 / 80, 80))]
    found = difference_interval(56 / 70, intervals[0], 48 / 80, intervals[1])
    assert (found.low, found.high) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))


def test_values_that_move_together_differ_more_surely() -> None:
    alike = Interval(0.7, 0.9, "wilson", 50)
    apart, together = (difference_interval(0.8, alike, 0.8, alike, correlation=correlation) for correlation in (0.0, 1.0))
    assert (apart.low, apart.high) == (pytest.approx(-0.1 * np.sqrt(2)), pytest.approx(0.1 * np.sqrt(2)))
    assert (together.low, together.high) == (0, 0)


def test_a_mean_of_intervals_of_even_parts_is_the_normal_one() -> None:
    parts = [Interval(value - 0.1, value + 0.1, "wilson", 30) for value in (0.4, 0.6)]
    found = mean_of_intervals([0.4, 0.6], parts, groups=60)
    assert (found.low, found.high) == (pytest.approx(0.5 - 0.1 / np.sqrt(2)), pytest.approx(0.5 + 0.1 / np.sqrt(2)))
    assert mean_of_intervals([0.4, 0.6], [parts[0], Interval()], groups=60).low is None


def test_single_rows_are_patients_and_copies_are_not() -> None:
    right = np.array([True] * 45 + [False] * 15)
    counted, alone = np.ones(60, dtype=bool), np.arange(60)
    expected = wilson(0.75, 60, float(student.ppf(0.975, 59)))
    found = share_interval(right, counted, alone, SURE)
    assert (found.low, found.high) == pytest.approx(expected)
    copied = share_interval(np.repeat(right, 5), np.ones(300, dtype=bool), np.repeat(alone, 5), SURE)
    # Copies add rows, not patients; only the correction for estimating the variance, 60 / 59, is left.
    assert (copied.low, copied.high) == pytest.approx(expected, abs=0.002)
    assert copied.groups == 60


def test_unlike_rows_of_one_patient_count_up_to_their_number() -> None:
    # Every patient has one film right and one wrong: less spread between patients than chance would give.
    found = share_interval(np.tile([True, False], 30), np.ones(60, dtype=bool), np.repeat(np.arange(30), 2), SURE)
    assert (found.low, found.high) == pytest.approx(wilson(0.5, 60, float(student.ppf(0.975, 29))))


def test_a_perfect_share_counts_patients() -> None:
    found = share_interval(np.ones(60, dtype=bool), np.ones(60, dtype=bool), np.repeat(np.arange(20), 3), SURE)
    assert (found.low, found.high) == pytest.approx(wilson(1.0, 20, float(student.ppf(0.975, 19))))


@pytest.mark.parametrize("groups", [FEWEST - 1, FEWEST, 19, 20])
def test_few_groups_have_no_interval_or_an_approximate_one(groups: int) -> None:
    truth, probability, group = films(groups, seed=3)
    intervals = [
        share_interval(truth == (probability > 0.5), np.ones(len(truth), dtype=bool), group, SURE),
        auc_interval(truth, probability, group, SURE),
        mean_interval(row_briers(truth, probability), group, SURE),
        calibration_interval(truth, probability, group, SURE),
        jackknife_interval(0.5, leave_groups_out(lambda weights: np.asarray(auc(truth, probability, weights=weights)), group), group, SURE),
    ]
    for interval in intervals:
        assert (interval.low is None) == (groups < FEWEST) == (interval.method == "none")
        assert interval.approximate == (FEWEST <= groups < 20)
        assert interval.groups == groups


def test_leaving_groups_out_is_deleting_their_rows() -> None:
    truth, probability, group = films(30)
    found = leave_groups_out(lambda weights: np.asarray(average_precision(truth, probability, weights=weights)), group)
    expected = [average_precision_score(truth[group != each], probability[group != each]) for each in range(30)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_many_groups_are_left_out_in_bundles_with_the_same_spread() -> None:
    truth, probability, group = films(5 * LEFT_OUT)
    found = leave_groups_out(lambda weights: np.asarray(brier(truth, probability, weights=weights)), group)
    assert len(found) == LEFT_OUT
    losses = row_briers(truth, probability)
    sums, rows = np.bincount(group, losses), np.bincount(group)
    exact = np.sqrt(((sums - losses.mean() * rows) ** 2).sum()) / len(losses)
    bundled = np.sqrt((LEFT_OUT - 1) / LEFT_OUT * ((found - found.mean()) ** 2).sum())
    assert bundled == pytest.approx(exact, rel=0.15)


def test_draws_count_groups_taken_with_replacement() -> None:
    draws = np.concatenate(list(group_draws(25, Sureness(draws=4000, seed=1), rows=3_000_000)))
    assert draws.shape == (4000, 25)
    np.testing.assert_array_equal(draws.sum(1), 25)
    assert draws.mean() == 1
    assert draws.var() == pytest.approx(1 - 1 / 25, rel=0.03)
    pair = np.cov(draws[:, 0], draws[:, 1])
    assert pair[0, 1] == pytest.approx(-1 / 25, abs=0.05)


def test_draws_do_not_hang_on_how_many_are_held_at_once() -> None:
    sure = Sureness(draws=300, seed=5)
    np.testing.assert_array_equal(np.concatenate(list(group_draws(40, sure))), np.concatenate(list(group_draws(40, sure, rows=100_000))))


def test_the_studentised_bootstrap_is_the_literal_one() -> None:
    truth, probability, group = films(25, seed=2)
    values, sure = row_briers(truth, probability), Sureness(draws=300, seed=7)

    def mean_and_error(rows: list[np.ndarray]) -> tuple[float, float]:
        sums, sizes = np.array([each.sum() for each in rows]), np.array([len(each) for each in rows])
        mean = sums.sum() / sizes.sum()
        return mean, float(np.sqrt(len(rows) / (len(rows) - 1) * ((sums - mean * sizes) ** 2).sum())) / sizes.sum()

    patients = [values[group == each] for each in range(25)]
    mean, error = mean_and_error(patients)
    studentised = []
    for taken in np.concatenate(list(group_draws(25, sure))):
        drawn = [patient for patient, times in zip(patients, taken, strict=True) for _ in range(int(times))]
        drawn_mean, drawn_error = mean_and_error(drawn)
        studentised.append((drawn_mean - mean) / drawn_error)
    low, high = np.quantile(studentised, [0.025, 0.975])
    found = mean_interval(values, group, sure)
    assert (found.low, found.high) == (pytest.approx(max(0, mean - high * error)), pytest.approx(mean - low * error))
    assert found.undefined_draws == 0


def test_draws_without_spread_are_counted_and_left_out() -> None:
    values = np.zeros(12)
    values[0] = 1.0  # a draw without this row has no spread
    found = mean_interval(values, np.arange(12), Sureness(draws=2000))
    assert found.undefined_draws == pytest.approx(2000 * (11 / 12) ** 12, rel=0.15)
    assert found.low is not None
    assert mean_interval(np.zeros(12), np.arange(12), SURE).low is None


def test_the_calibration_interval_is_the_literal_one() -> None:
    truth, probability, group = films(25, seed=4)
    sure = Sureness(draws=200, seed=7)
    edges = np.clip((probability * 10).astype(int), 0, 9)

    def gaps(rows: np.ndarray) -> np.ndarray:
        return np.array([(probability[rows] - truth[rows])[edges[rows] == each].sum() for each in range(10)]) / len(rows)

    whole = gaps(np.arange(len(truth)))
    drawn = [
        gaps(np.concatenate([np.flatnonzero(group == each) for each in range(25) for _ in range(int(taken[each]))]))
        for taken in np.concatenate(list(group_draws(25, sure)))
    ]
    found, value = calibration_interval(truth, probability, group, sure), ece(truth, probability)
    assert value == pytest.approx(np.abs(whole).sum())
    assert found.low == pytest.approx(max(0, value - np.quantile([np.abs(each - whole).sum() for each in drawn], 0.975)))
    assert found.high == pytest.approx(value + student.ppf(0.975, 24) * np.std([np.abs(each).sum() for each in drawn]))


def test_the_area_interval_has_the_spread_of_a_bootstrap_over_patients() -> None:
    truth, probability, group = films(150, seed=1)
    found = auc_interval(truth, probability, group, SURE)
    generator = np.random.default_rng(0)
    strata = [np.unique(group[truth == side]) for side in (0, 1)]
    rows = {each: np.flatnonzero(group == each) for each in range(150)}
    drawn = []
    for _ in range(400):
        taken = np.concatenate([rows[each] for stratum in strata for each in generator.choice(stratum, len(stratum))])
        drawn.append(auc(truth[taken], probability[taken]))
    assert found.low == pytest.approx(np.quantile(drawn, 0.025), abs=0.015)
    assert found.high == pytest.approx(np.quantile(drawn, 0.975), abs=0.015)


def test_a_perfect_area_has_an_interval() -> None:
    found = auc_interval(np.repeat([0, 1], 20), np.linspace(0, 1, 40), np.arange(40), SURE)
    assert found.high == 1
    assert found.low is not None
    assert 0.8 < found.low < 0.95
    turned = auc_interval(np.repeat([1, 0], 20), np.linspace(0, 1, 40), np.arange(40), SURE)
    assert (turned.low, turned.high) == (0, pytest.approx(1 - found.low))


@given(seed=st.integers(0, 10_000), groups=st.integers(FEWEST, 40), distance=st.floats(0, 6), confidence=st.floats(0.6, 0.99))
@settings(max_examples=40, deadline=None)
def test_an_interval_holds_its_value_and_stays_on_the_scale(seed: int, groups: int, distance: float, confidence: float) -> None:
    truth, probability, group = films(groups, seed=seed, distance=distance)
    sure = Sureness(confidence, draws=200, seed=seed)
    area = auc(truth, probability)
    left_out = leave_groups_out(lambda weights: np.asarray(average_precision(truth, probability, weights=weights)), group)
    for value, interval in [
        (area, auc_interval(truth, probability, group, sure)),
        (average_precision(truth, probability), jackknife_interval(average_precision(truth, probability), left_out, group, sure)),  # type: ignore[arg-type]
        (np.mean(truth == (probability > 0.5)), share_interval(truth == (probability > 0.5), truth >= 0, group, sure)),
        (ece(truth, probability), calibration_interval(truth, probability, group, sure)),
    ]:
        if interval.low is not None and interval.high is not None:
            assert 0 <= interval.low <= value + 1e-9
            assert value - 1e-9 <= interval.high <= 1


def test_more_confidence_is_wider_and_more_patients_are_narrower() -> None:
    widths = {}
    for groups in (40, 400):
        truth, probability, group = films(groups)
        for confidence in (0.8, 0.95):
            interval = auc_interval(truth, probability, group, Sureness(confidence))
            widths[groups, confidence] = interval.high - interval.low  # type: ignore[operator]
    assert widths[40, 0.95] > widths[40, 0.8] > widths[400, 0.95] > widths[400, 0.8]


def test_an_answer_depends_on_the_seed_alone() -> None:
    truth, probability, group = films(30)
    losses = row_briers(truth, probability)
    first, again, other = (mean_interval(losses, group, Sureness(seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_correlation_scale_reaches_below_zero() -> None:
    interval = jackknife_interval(0.0, 0.1 * np.sin(np.arange(30.0)), np.arange(30), SURE, scale="signed")
    assert interval.low == pytest.approx(-interval.high)  # type: ignore[operator]
    perfect = jackknife_interval(1.0, np.ones(30), np.arange(30), SURE, scale="signed")
    assert perfect.high == 1
    assert perfect.low == pytest.approx(2 * wilson(1.0, 30, float(norm.ppf(0.975)))[0] - 1)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [20, 40, 200])
@pytest.mark.parametrize("by", ["patients", "rows"])
def test_over_permuted_labels_the_area_interval_holds_one_half(groups: int, by: str) -> None:
    truth, probability, group = films(groups, seed=11)
    generator, held = np.random.default_rng(0), 0
    ill = np.array([truth[group == each][0] for each in range(groups)])
    for _ in range(400):
        permuted = generator.permutation(ill)[group] if by == "patients" else generator.permutation(truth)
        interval = auc_interval(permuted, probability, group, SURE)
        held += interval.low <= 0.5 <= interval.high  # type: ignore[operator]
    assert 0.92 <= held / 400 <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("groups", [20, 40, 200])
def test_intervals_hold_the_truth_as_often_as_they_say(groups: int) -> None:
    truth, probability, _ = films(100_000, seed=99)
    right = {"accuracy": np.mean(truth == (probability > 0.5)), "auc": auc(truth, probability), "brier": brier(truth, probability)}
    right["log_loss"] = log_loss(truth, probability)
    held = dict.fromkeys(right, 0)
    for seed in range(300):
        truth, probability, group = films(groups, seed=seed)
        sure = Sureness(draws=500, seed=seed)
        for name, interval in {
            "accuracy": share_interval(truth == (probability > 0.5), truth >= 0, group, sure),
            "auc": auc_interval(truth, probability, group, sure),
            "brier": mean_interval(row_briers(truth, probability), group, sure),
        }.items():
            held[name] += interval.low <= right[name] <= interval.high  # type: ignore[operator]
    for name in ("accuracy", "auc", "brier"):
        assert 0.91 <= held[name] / 300 <= 0.99


def test_a_ratio_of_well_known_shares_has_the_interval_of_the_delta_method() -> None:
    rows, (first, second) = 100_000, (0.2, 0.7)
    parts = [Interval(*wilson(share, rows, 1.96), "wilson", rows) for share in (first, second)]
    found = ratio_interval(first, parts[0], second, parts[1])
    spread = np.sqrt((1 - first) / (first * rows) + (1 - second) / (second * rows))
    assert (found.low, found.high) == pytest.approx(tuple(first / second * np.exp([-1.96 * spread, 1.96 * spread])), rel=1e-3)


def test_a_ratio_has_limits_at_the_ends_of_the_scale() -> None:
    none, middle = Interval(0.0, 0.2, "wilson", 20), Interval(0.4, 0.8, "wilson", 20)
    assert ratio_interval(0.0, none, 0.6, middle).low == 0
    assert 0.2 / 0.6 < (ratio_interval(0.0, none, 0.6, middle).high or 0) < 0.2 / 0.4
    assert ratio_interval(0.6, middle, 0.0, none).high == np.inf
    assert ratio_interval(0.6, Interval(groups=3), 0.5, middle).low is None
