"""Differences of several rows: what is corrected together, and what the tests could have shown then."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from tabib.evaluation import answer_differences, answer_intervals, corrected, moves_of
from tabib.evaluation.answers import Answers
from tabib.metrics.intervals import Interval, Sureness, wilson
from tabib.metrics.paired import detectable
from tabib.records import PairedMeasure


def difference(name: str, p: float | None, *, pairs: int = 3) -> PairedMeasure:
    known = PairedMeasure(name=name, of=None, value=0.01, low=None, high=None, method="jackknife_t", pairs=pairs)
    return known if p is None else known.model_copy(update={"p": p, "error": 0.01, "freedom": 30.0})


def ill_and_well(found: list[bool], well: int, *, wrong: int = 5) -> Answers:
    """One image of each patient: those who are ill, found or not, and so many who are well, of whom some are called ill."""
    truth = np.repeat([1, 0], [len(found), well])
    ill = np.where(truth == 1, 0.0, np.where(np.arange(len(truth)) < len(found) + wrong, 0.8, 0.2))
    ill[: len(found)] = np.where(found, 0.9, 0.1)
    patients = np.arange(len(truth))
    return Answers(("WELL", "ILL"), patients, truth, (ill >= 0.5).astype(int), np.stack([1 - ill, ill], 1), patients)


def interval_of(name: str, answers: Answers, *, trainings: int = 1) -> tuple[float, float]:
    found = answer_intervals([moves_of([answers])] * trainings, answers, Sureness())
    interval = next(each for measure, _, each in found if measure == name)
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


@pytest.mark.parametrize("trainings", [1, 3])
@pytest.mark.parametrize("sensitivity", [0.5, 0.7, 0.8, 0.9, 0.95])
@pytest.mark.parametrize(("ill", "well"), [(3, 37), (5, 95), (10, 90), (20, 20)])
def test_few_who_are_ill_make_a_wide_interval_of_the_sensitivity(ill: int, well: int, sensitivity: float, trainings: int) -> None:
    covered = 0.0
    for count in range(ill + 1):  # how often each occurs is known, so nothing is drawn
        low, high = interval_of("sensitivity", ill_and_well([place < count for place in range(ill)], well), trainings=trainings)
        covered += binom.pmf(count, ill, sensitivity) * (low <= sensitivity <= high)
    assert covered >= 0.925


def test_how_few_they_are_is_told_by_the_class_that_a_measure_is_of() -> None:
    perfect = ill_and_well([True] * 3, 97, wrong=0)
    moves = {move.name: move.carriers for move in moves_of([perfect])}
    assert moves == {"auc": [97, 3], "accuracy": [100], "balanced_accuracy": [97, 3], "sensitivity": [3], "specificity": [97]}
    quantile = 1.98422  # Student's t of 99 degrees of freedom
    for name, carriers in moves.items():
        assert interval_of(name, perfect) == pytest.approx((1 - wilson(0.0, min(carriers), quantile)[1], 1.0), abs=1e-4)
    same = {each.name: each.low for each in answer_differences([moves_of([perfect])], [moves_of([perfect])], perfect, Sureness())}
    assert same["sensitivity"] == pytest.approx(-wilson(0.0, 3, quantile)[1], abs=1e-4)
    assert same["accuracy"] == pytest.approx(-wilson(0.0, 100, quantile)[1], abs=1e-4)


def test_one_who_is_ill_says_nothing_and_of_three_classes_the_rarest_counts() -> None:
    alone = ill_and_well([True], 99)
    found = {name: interval for name, _, interval in answer_intervals([moves_of([alone])], alone, Sureness())}
    assert found["sensitivity"] == found["auc"] == Interval(groups=100)
    assert found["specificity"].low is not None
    truth = np.repeat([0, 1, 2], [4, 20, 16])
    several = Answers(("A", "B", "C", "NONE"), np.arange(40), truth, truth, np.eye(4)[truth], np.arange(40) // 2)
    assert {move.name: move.carriers for move in moves_of([several])} == {
        "auc": [2, 10, 8],
        "accuracy": [20],
        "balanced_accuracy": [2, 10, 8],
    }
    labels = [ill_and_well([True] * count, 50 - count) for count in (6, 20)]
    assert {move.name: move.carriers for move in moves_of(labels)} == {"auc": [44, 6], "average_precision": [44, 6], "exact_match": [50]}


def test_each_measure_is_corrected_over_its_rows_and_says_what_it_could_show_so() -> None:
    rows = [[difference("auc", 0.01), difference("dice", 0.02)], [difference("auc", 0.04)], [difference("auc", None)]]
    found = corrected(rows, 0.95)
    assert [[each.corrected for each in row] for row in found] == [[0.02, 0.02], [0.04], [None]], "what has no p is no test"
    two, one = (detectable(0.01, 30, trainings=3, tests=tests, confidence=0.95) for tests in (2, 1))
    assert [[each.detectable for each in row] for row in found] == [[two, one], [two], [None]]
    assert two is not None
    assert one is not None
    assert two > one
    assert corrected([], 0.95) == []


@pytest.mark.parametrize(("pairs", "told"), [(1, True), (2, False), (3, True)])
def test_two_trainings_do_not_say_what_they_could_show(pairs: int, told: bool) -> None:
    ((found,),) = corrected([[difference("auc", 0.2, pairs=pairs)]], 0.95)
    assert (found.detectable is not None) == told
    assert found.corrected == 0.2
