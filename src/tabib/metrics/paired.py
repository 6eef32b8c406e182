"""How sure is the mean of several trainings, and is the difference of two methods more than chance, when all judged the same groups?

A training seed and a test group are to a method what a reader and a case are to a way of reading films, so the interval is that of
studies with several readers and cases: every seed and every group is left out in turn, and the pseudo-values are divided into what
groups, what seeds and what neither explains (Dorfman, Berbaum and Metz, Investigative Radiology 1992;27:723; Hillis, Berbaum and
Metz, Academic Radiology 2008;15:647). The variance is that between groups plus that between seeds less what both count, and never
below either one, with degrees of freedom by Satterthwaite. Drawing groups and seeds with replacement instead holds the truth of an
interval of 95 % in 67-100 %: with two or three seeds there is too little to draw from (decision 12).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from tabib.metrics.intervals import FEWEST, Interval, Sureness, wilson

__all__ = ["POWER", "Paired", "detectable", "holm", "paired_test", "trainings_interval"]

POWER = 0.8
"""Chance of showing a difference as large as `detectable`."""

UNSURE = 2
"""With so many trainings their spread is seen once, and nothing can be promised of another time: in simulation .59 to .75 for .8 (decision 12)."""


@dataclass(frozen=True)
class Paired:
    """How sure a difference is. Without an interval there is no `p` either."""

    interval: Interval
    p: float | None = None  # that so large a difference is chance; not corrected
    error: float | None = None  # standard error of the difference; None where no group differs
    freedom: float | None = None  # degrees of freedom that it is known with


def paired_test(values: np.ndarray, left_out: np.ndarray, *, groups: int, sure: Sureness, carriers: Sequence[int] | None = None) -> Paired:
    """How sure the mean of `values` is, differences between -1 and 1 of two methods.

    Args:
        values: (S,) the difference of each pair of trainings.
        left_out: (S, K) the same with each group, or bundle of groups, left out, as of `leave_groups_out`.
        groups: number of groups.
        sure: how sure; nothing is drawn.
        carriers: numbers of groups that the values are about: of a sensitivity those with a positive image, of an AUC those of each class; all where they
            are not given. The spread is known from them: three patients who are ill say as little among a hundred as alone.

    Returns:
        The interval over groups and, where there are several, seeds, by Student's t bent so that it stays between -1 and 1; `p` of
        the test that agrees with it. With one training each, the interval is of the groups alone.
    """
    return _test(values, left_out, groups=groups, carriers=carriers, sure=sure, reach=1.0)


def trainings_interval(
    values: np.ndarray, left_out: np.ndarray, *, groups: int, sure: Sureness, carriers: Sequence[int] | None = None
) -> Interval:
    """Interval of the mean of `values`, a measure between 0 and 1 of several trainings, over groups and trainings.

    Args:
        values: (S,) of each training.
        left_out: (S, K) the same with each group, or bundle of groups, left out, as of `leave_groups_out`.
        groups: number of groups.
        sure: how sure; nothing is drawn.
        carriers: as of `paired_test`.

    Returns:
        The same interval as of `paired_test`, bent so that it stays between 0 and 1; none where that has none.
    """
    found = _test(2 * values - 1, 2 * left_out - 1, groups=groups, carriers=carriers, sure=sure, reach=2.0).interval
    if found.low is None or found.high is None:
        return found
    return Interval((1 + found.low) / 2, (1 + found.high) / 2, found.method, groups)


def _test(values: np.ndarray, left_out: np.ndarray, *, groups: int, carriers: Sequence[int] | None, sure: Sureness, reach: float) -> Paired:
    """`paired_test` of values between -1 and 1, which a group that was not seen may move by `reach`."""
    carriers = [groups] if carriers is None else carriers
    if groups < FEWEST or min(carriers) < 2 or not np.isfinite(values).all() or not np.isfinite(left_out).all():
        return Paired(Interval(groups=groups))
    value = float(values.mean())
    variance, freedom = _variance(values, left_out, carriers)
    quantile = float(student.ppf((1 + sure.confidence) / 2, freedom))
    if variance < 1e-18 or abs(value) >= 1:
        # No group differs from another: as large a share of groups may as has not been seen among so many.
        half = reach * wilson(0.0, min(carriers), quantile)[1]
        p = float(2 * student.sf(quantile * abs(value) / half, freedom))
        return Paired(Interval(max(-1.0, value - half), min(1.0, value + half), "jackknife_t", groups), p)
    error, bent = math.sqrt(variance), math.sqrt(variance) / (1 - value**2)
    low, high = (math.tanh(math.atanh(value) + side * quantile * bent) for side in (-1, 1))
    p = float(2 * student.sf(abs(math.atanh(value)) / bent, freedom))
    return Paired(Interval(low, high, "jackknife_t", groups), p, error, freedom)


def detectable(error: float, freedom: float, *, trainings: int, tests: int, confidence: float) -> float | None:
    """The difference that would be shown with a chance of `POWER`, by a test that is one of several corrected by `holm`.

    Args:
        error: standard error of the difference, as it was found.
        freedom: degrees of freedom that it is known with.
        trainings: of each method.
        tests: that are corrected together; this one must pass the first step, at (1 - `confidence`) / `tests`.
        confidence: that the corrected test asks for.

    Returns:
        c times the error. Its chance to pass the quantile q is that of a normal number to exceed (q - c) / sqrt(1 + (c^2 + q^2) / 2 f): the
        error is itself estimated with f degrees of freedom, here and when the study is done again, and each estimate is off by
        1 / sqrt(2 f) of itself. None with two trainings, which say too little of how much trainings differ, and at 1 or more.
    """
    if trainings == UNSURE:
        return None
    quantile, power = float(student.ppf(1 - (1 - confidence) / 2 / tests, freedom)), float(norm.ppf(POWER))
    unsure = power**2 / (2 * freedom)
    times = (quantile + math.sqrt(quantile**2 - (1 - unsure) * (quantile**2 * (1 - unsure) - power**2))) / (1 - unsure)
    return times * error if times * error < 1 else None


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """The p-values of several tests, corrected so that the chance of any false one stays as it is of one test alone.

    What is None is no test. Holm, Scandinavian Journal of Statistics 1979;6:65.
    """
    there = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    corrected: list[float | None] = [None] * len(ps)
    least = 0.0
    for rank, (p, place) in enumerate(there):
        least = max(least, min(1.0, (len(there) - rank) * p))
        corrected[place] = least
    return corrected


def _variance(values: np.ndarray, left_out: np.ndarray, carriers: Sequence[int]) -> tuple[float, float]:
    """Variance of the mean of `values`, and its degrees of freedom: of groups those of the carriers (Welch 1938), or of all where none differs."""
    seeds, groups = left_out.shape
    numbers = np.array(carriers, dtype=float)
    known = min(groups - 1.0, (1 / numbers).sum() ** 2 / (1 / numbers**2 / (numbers - 1)).sum())
    pseudo = groups * values[:, None] - (groups - 1) * left_out
    of_groups = seeds * float(pseudo.mean(0).var(ddof=1))
    if seeds == 1:
        return of_groups / groups, known if of_groups else groups - 1
    of_seeds = groups * float(pseudo.mean(1).var(ddof=1))
    rest = pseudo - pseudo.mean(0) - pseudo.mean(1, keepdims=True) + pseudo.mean()
    of_both = float((rest**2).sum()) / ((groups - 1) * (seeds - 1))
    whole = max(of_groups + of_seeds - of_both, of_groups, of_seeds)
    parts = of_groups**2 / known + of_seeds**2 / (seeds - 1) + of_both**2 / (known * (seeds - 1))
    return whole / (seeds * groups), max(seeds - 1.0, whole**2 / parts) if parts else groups - 1
