"""Differences of several rows: what is corrected together, and what the tests could have shown then."""

from __future__ import annotations

import pytest

from tabib.evaluation import corrected
from tabib.metrics.paired import detectable
from tabib.records import PairedMeasure


def difference(name: str, p: float | None, *, pairs: int = 3) -> PairedMeasure:
    known = PairedMeasure(name=name, of=None, value=0.01, low=None, high=None, method="jackknife_t", pairs=pairs)
    return known if p is None else known.model_copy(update={"p": p, "error": 0.01, "freedom": 30.0})


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
