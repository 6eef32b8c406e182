"""Areas, differences and corrections, held against slow definitions, published figures and other libraries."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest, chi2, multinomial, norm
from statsmodels.stats.multitest import multipletests

from tabib.evaluation import answer_differences, moves_of
from tabib.evaluation.answers import Answers
from tabib.metrics import auc
from tabib.metrics.intervals import LEFT_OUT, Sureness, _delong, _stratified_variance, auc_interval
from tabib.metrics.paired import holm, paired_test
from tabib.records import PairedMeasure

SURE = Sureness()

RATED = np.array([[33, 6, 6, 11, 2], [3, 2, 2, 11, 33]])
"""CT images of 58 people without and 51 with disease, by rating: Hanley and McNeil, Radiology 1982;143:29, table I."""


def components(truth: np.ndarray, score: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The area and DeLong's components of positive and of negative rows, pair by pair, as the paper defines them."""
    ill, well = score[truth == 1], score[truth == 0]
    wins = np.array([[1.0 if one > other else 0.5 if one == other else 0.0 for other in well] for one in ill])
    return float(wins.mean()), wins.mean(1), wins.mean(0)


def slow_delong(truth: np.ndarray, *scores: np.ndarray) -> tuple[float, float]:
    """An area, or the difference of two on the same rows, and its variance: S10 / m + S01 / n."""
    found = [components(truth, score) for score in scores]
    areas, ill, well = zip(*found, strict=True)
    signs = np.array([1.0, -1.0][: len(scores)])
    of_ill, of_well = signs @ np.stack(ill), signs @ np.stack(well)
    return float(signs @ np.array(areas)), float(np.var(of_ill, ddof=1) / len(of_ill) + np.var(of_well, ddof=1) / len(of_well))


def fast_delong(truth: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    area, parts = _delong(truth.astype(bool), score)
    return area, _stratified_variance(parts, truth)[0]


def scores(random: np.random.Generator, rows: int, *, places: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and two scores of the same rows, which go together; rounded, so that some are equal."""
    truth = np.r_[0, 0, 1, 1, random.integers(0, 2, rows - 4)]
    hard = random.normal(0, 1, rows)
    one, other = (np.round(norm.cdf(better * truth + hard + random.normal(0, 0.7, rows)), places) for better in (1.4, 1.0))
    return truth, one, other


def said(truth: np.ndarray, score: np.ndarray, groups: np.ndarray) -> Answers:
    return Answers(
        ("NORMAL", "PNEUMONIA"), np.arange(len(truth)), truth, (score > 0.5).astype(int), np.stack([1 - score, score], 1), groups
    )


def difference(one: Answers, other: Answers, name: str) -> PairedMeasure:
    found = answer_differences([moves_of([one])], [moves_of([other])], one, SURE)
    return next(each for each in found if each.name == name)


@pytest.mark.parametrize("places", [1, 2, 8])
@pytest.mark.parametrize("rows", [12, 60, 150])
def test_delong_is_its_slow_definition(rows: int, places: int) -> None:
    random = np.random.default_rng(rows + places)
    for _ in range(5):
        truth, one, _ = scores(random, rows, places=places)
        assert fast_delong(truth, one) == pytest.approx(slow_delong(truth, one), rel=1e-10)


def test_delong_gives_the_published_figures() -> None:
    """Stata's manual, roctab, prints of these images an area of 0.8932, a standard error of 0.0307 and 0.83295 to 0.95339."""
    truth = np.repeat([0, 1], RATED.sum(1))
    rating = np.concatenate([np.repeat(np.arange(1.0, 6.0), counts) for counts in RATED])
    area, variance = fast_delong(truth, rating)
    assert round(area, 4) == 0.8932
    assert round(variance**0.5, 4) == 0.0307
    ends = [round(area + side * norm.ppf(0.975) * variance**0.5, 5) for side in (-1, 1)]
    assert ends == [0.83295, 0.95339]


def test_delong_has_the_spread_of_a_bootstrap() -> None:
    """Of 2,000 draws a standard deviation is known to 1.6 %; 5 % are three of these. A bootstrap draws from m rows as if they were all, which is 1 / (2 m) too little."""
    random = np.random.default_rng(3)
    truth, one, other = scores(random, 120, places=8)
    ill, well = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)
    areas, gaps = [], []
    for _ in range(2000):
        taken = np.r_[random.choice(ill, len(ill)), random.choice(well, len(well))]
        pair = [float(auc(truth[taken], each[taken])) for each in (one, other)]
        areas.append(pair[0])
        gaps.append(pair[0] - pair[1])
    assert np.std(areas) == pytest.approx(fast_delong(truth, one)[1] ** 0.5, rel=0.05)
    assert np.std(gaps) == pytest.approx(slow_delong(truth, one, other)[1] ** 0.5, rel=0.05)


@pytest.mark.parametrize("rows", [20, 80, LEFT_OUT])
def test_a_difference_of_areas_has_delongs_correlated_variance(rows: int) -> None:
    """With one image a patient and one training, each class counts one row less: S10 / (m - 1) + S01 / (n - 1), times (N - 1) / N."""
    truth, one, other = scores(np.random.default_rng(rows), rows, places=8)
    patients = np.arange(rows)
    found = difference(said(truth, one, patients), said(truth, other, patients), "auc")
    value, variance = slow_delong(truth, one, other)
    assert found.value == pytest.approx(value)
    ill, well = truth.sum(), (1 - truth).sum()
    gaps = [first - second for first, second in zip(components(truth, one)[1:], components(truth, other)[1:], strict=True)]
    exact = (rows - 1) / rows * (np.var(gaps[0], ddof=1) / (ill - 1) + np.var(gaps[1], ddof=1) / (well - 1))
    assert found.error == pytest.approx(exact**0.5)
    assert found.error == pytest.approx(variance**0.5, rel=1 / min(ill, well))
    welch = (1 / ill + 1 / well) ** 2 / (1 / ill**2 / (ill - 1) + 1 / well**2 / (well - 1))
    assert found.freedom == pytest.approx(min(rows - 1, welch))


def discordant(first: int, second: int, rows: int) -> PairedMeasure:
    """The difference of accuracies where the first method alone is right in so many rows, and the second alone in so many."""
    truth = np.arange(rows) % 2
    right = np.array([[*(i < first or i >= first + second for i in range(rows))], [*(i >= first for i in range(rows))]])
    one, other = (np.where(each, truth, 1 - truth) * 0.8 + 0.1 for each in right)
    patients = np.arange(rows)
    return difference(said(truth, one, patients), said(truth, other, patients), "accuracy")


@pytest.mark.parametrize(("first", "second", "rows"), [(5, 2, 40), (12, 8, 100), (20, 9, 150), (25, 15, 200), (30, 10, 200)])
def test_a_difference_of_accuracies_is_mcnemars(first: int, second: int, rows: int) -> None:
    """McNemar's error is that of no difference, ours that of the difference found: 1 / z^2 = N / (N - 1) (1 / z_McNemar^2 - 1 / N), exactly.

    So z is at least McNemar's times sqrt((N - 1) / N), and for z_McNemar^2 up to N / 4 within z_McNemar^2 / N of it.
    """
    found = discordant(first, second, rows)
    assert found.value == pytest.approx((first - second) / rows)
    assert found.error is not None
    z, mcnemar = (first - second) / rows / found.error, (first - second) / (first + second) ** 0.5
    assert 1 / z**2 == pytest.approx(rows / (rows - 1) * (1 / mcnemar**2 - 1 / rows))
    assert -1 / rows <= z / mcnemar - 1 <= mcnemar**2 / rows <= 0.25
    assert found.p == pytest.approx(float(chi2.sf(mcnemar**2, 1)), abs=0.025)


@pytest.mark.parametrize(("first", "second"), [(40, 8), (8, 40), (30, 5), (16, 15), (20, 22), (3, 3), (9, 7)])
def test_clear_cases_have_mcnemars_verdict(first: int, second: int) -> None:
    """McNemar's exact test counts only rows in which one alone is right; it and the t test are different tests, and agree where it is clear."""
    found, exact = discordant(first, second, LEFT_OUT), binomtest(first, first + second).pvalue
    assert exact < 0.005 or exact > 0.5
    assert found.p is not None
    assert (found.p < 0.05) == (exact < 0.05) == (not (found.low or 0) <= 0 <= (found.high or 0))


def mid_p(first: int, second: int) -> float:
    """McNemar's test with half of the probability of what was seen: of all tests of discordant rows alone the one nearest to its level."""
    less, both = min(first, second), first + second
    return min(1.0, float(2 * binom.cdf(less, both, 0.5) - binom.pmf(less, both, 0.5)))


@pytest.mark.parametrize(("first", "p", "exact"), [(3, 0.083, 0.25), (4, 0.045, 0.125), (5, 0.025, 0.0625), (6, 0.014, 0.03125)])
def test_few_discordant_rows_of_100_have_the_documented_p(first: int, p: float, exact: float) -> None:
    """As decision 12 and the study of cats and dogs have them: with 4 or 5 discordant rows the verdict is not that of the exact test."""
    found = discordant(first, 0, 100)
    assert found.p == pytest.approx(p, abs=0.0005)
    assert binomtest(first, first).pvalue == exact
    assert ((found.low or 0) <= 0) == (first == 3), "3 against 0 are not shown to differ"


@pytest.mark.parametrize("rows", [40, 100, LEFT_OUT])
@pytest.mark.parametrize(
    ("first", "second"),
    [*((k, 0) for k in range(1, 8)), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (5, 2), (6, 2), (8, 2), (9, 2), (7, 3)],
)
def test_with_few_discordant_rows_p_lies_between_mid_p_and_the_exact_one(first: int, second: int, rows: int) -> None:
    """Bolder than both where the most is at stake, by no more than 0.6 of mid-p, and never more careful than the exact test."""
    found = discordant(first, second, rows)
    assert found.p is not None
    assert 0.6 * mid_p(first, second) < found.p < binomtest(first, first + second).pvalue


@pytest.mark.parametrize(
    ("wrong", "ours", "conditional"), [(0.03, 0.047, 0.012), (0.05, 0.043, 0.021), (0.1, 0.046, 0.029), (0.2, 0.049, 0.031)]
)
def test_of_equal_methods_one_in_twenty_is_called_better(wrong: float, ours: float, conditional: float) -> None:
    """Two methods that err apart from one another in a share `wrong` of 100 rows: every outcome, weighed by its probability."""
    rows, most = 100, 60
    share = wrong * (1 - wrong)  # of rows in which one alone is right
    level = level_of_exact = seen = 0.0
    for first in range(most + 1):
        for second in range(most + 1 - first):
            chance = float(multinomial.pmf([first, second, rows - first - second], rows, [share, share, 1 - 2 * share]))
            seen += chance
            if chance > 1e-9:
                level += chance * (p_of(first, second, rows) < 0.05)
                level_of_exact += chance * (first + second > 0 and binomtest(first, first + second).pvalue < 0.05)
    assert seen == pytest.approx(1, abs=1e-6)
    assert level == pytest.approx(ours, abs=0.0006)
    assert level_of_exact == pytest.approx(conditional, abs=0.0006)
    assert level <= 0.05


def p_of(first: int, second: int, rows: int) -> float:
    """As of `discordant`, by the test itself."""
    gaps = np.r_[np.ones(first), -np.ones(second), np.zeros(rows - first - second)]
    found = paired_test(gaps.mean(keepdims=True), ((gaps.sum() - gaps) / (rows - 1))[None], groups=rows, sure=SURE)
    assert found.p is not None
    return found.p


def test_several_images_of_a_patient_never_take_delong() -> None:
    """The same image ten times is one patient's: by rows everything would be more than three times as sure."""
    random = np.random.default_rng(8)
    truth, one, other = scores(random, 60, places=8)
    alone, often = np.arange(60), np.repeat(np.arange(60), 10)
    single = difference(said(truth, one, alone), said(truth, other, alone), "auc")
    copied = difference(said(truth[often], one[often], often), said(truth[often], other[often], often), "auc")
    assert copied.method == single.method == "jackknife_t"
    assert (copied.groups, copied.rows) == (60, 600)
    assert (copied.value, copied.error, copied.p) == pytest.approx((single.value, single.error, single.p))
    by_rows = slow_delong(truth[often], one[often], other[often])[1] ** 0.5
    assert copied.error is not None
    assert copied.error > 3 * by_rows
    of_one, of_ten = (auc_interval(truth[rows], one[rows], rows, SURE) for rows in (alone, often))
    assert (of_ten.low, of_ten.high) == pytest.approx((of_one.low, of_one.high), abs=0.002)
    assert of_ten.method == "newcombe", "the score method on the variance of whole patients"
    assert of_ten.groups == 60


def test_holm_is_that_of_statsmodels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gc.collect", lambda: 0)  # which statsmodels calls each time: a tenth of a second
    random = np.random.default_rng(2)
    for number in range(1, 301):
        ps = random.uniform(0, 1, random.integers(1, 30)) ** random.choice([1, 3])
        ps = np.round(ps, random.choice([2, 12]))  # equal ones, and zeros
        assert holm(list(ps)) == pytest.approx(np.asarray(multipletests(ps, method="holm")[1])), number
        with_gaps = [None, *ps[:1], None, *ps[1:]]
        assert [each for each in holm(with_gaps) if each is not None] == holm(list(ps)), "what is no test does not count"
