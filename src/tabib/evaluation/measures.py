"""Every measure of one part, with its interval, its baselines and its goal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from tabib.config import Goals
from tabib.evaluation.answers import MACRO, PER_CLASS, WEIGHTED, Answers, class_shares, targets, value, weighted_mean
from tabib.metrics.classification import LARGEST_LOSS, row_briers, row_losses
from tabib.metrics.intervals import (
    Interval,
    Sureness,
    auc_interval,
    calibration_interval,
    difference_interval,
    jackknife_interval,
    leave_groups_out,
    mean_interval,
    mean_of_intervals,
    ratio_interval,
    share_interval,
)
from tabib.records import Measure

__all__ = ["gaps", "interval_of", "made_measure", "measure_all", "paired_difference", "predictive_values"]

SHARES = ("accuracy", "sensitivity", "specificity", "ppv", "npv")


def measure_all(
    answers: Answers,
    baselines: Mapping[str, Answers],
    goals: Goals,
    sure: Sureness,
    *,
    only: Sequence[tuple[str, str | None]] | None = None,
) -> list[Measure]:
    """Every measure of `answers`, or `only` some. `baselines` answered the same rows; their values stand beside the model's."""
    left_out: dict[str, np.ndarray] = {}
    measures = []
    for name, of in only or targets(answers.classes):
        number = float(value(answers, name, of))
        interval = Interval() if math.isnan(number) else _interval(answers, name, of, number, left_out, sure)
        beside = {key: float(value(other, name, of)) for key, other in baselines.items()}
        measures.append(
            made_measure(
                name,
                of,
                number,
                interval,
                rows=_rows(answers, name, of),
                baselines=beside,
                goal=getattr(goals, name, None) if of == _asked_of(name, answers) else None,
            )
        )
    return measures


def made_measure(
    name: str,
    of: str | None,
    number: float,
    interval: Interval,
    *,
    rows: int,
    groups: int | None = None,
    baselines: Mapping[str, float] | None = None,
    goal: float | None = None,
) -> Measure:
    """A number with its interval as it is written down; nan is no value. `groups` are those of the interval if not given."""
    return Measure(
        name=name,
        of=of,
        value=None if math.isnan(number) else number,
        low=interval.low,
        high=interval.high,
        method=interval.method,
        approximate=interval.approximate,
        rows=rows,
        groups=interval.groups if groups is None else groups,
        undefined_draws=interval.undefined_draws,
        baselines={key: each for key, each in (baselines or {}).items() if not math.isnan(each)},
        goal=goal,
    )


def gaps(
    validation: list[Measure], test: list[Measure], *, apart: bool, of: Sequence[str | None] = (None, MACRO, "structures")
) -> list[Measure]:
    """Test minus validation for every measure of the whole and every plain mean over classes or structures, or `of` others.

    `apart` says that no group is in both parts: only then has the difference an interval.
    """
    before = {(measure.name, measure.of): measure for measure in validation}
    found = []
    for after in test:
        other = before.get((after.name, after.of))
        if after.of not in of or after.value is None or other is None or other.value is None:
            continue
        interval = difference_interval(after.value, interval_of(after), other.value, interval_of(other)) if apart else Interval()
        rows, groups = min(after.rows, other.rows), min(after.groups, other.groups)
        found.append(made_measure(after.name, after.of, after.value - other.value, interval, rows=rows, groups=groups))
    return found


def predictive_values(measures: Sequence[Measure], prevalence: float) -> list[Measure]:
    """PPV and NPV at another prevalence, by Bayes' rule from the sensitivity and the specificity of two classes.

    PPV is 1 / (1 + (1 - Sp) / Se (1 - π) / π), and NPV the same from the other side, so each has the interval of that ratio
    (`ratio_interval`), turned. It supposes that sensitivity and specificity are the same there. Altman and Bland, BMJ 1994;309:102.
    """
    by_name = {measure.name: measure for measure in measures if measure.of is None}
    if not {"sensitivity", "specificity"} <= by_name.keys():
        return []
    sides = by_name["sensitivity"], by_name["specificity"]
    odds = (1 - prevalence) / prevalence
    return [
        _predictive("ppv", right=sides[0], wrong=sides[1], odds=odds),
        _predictive("npv", right=sides[1], wrong=sides[0], odds=1 / odds),
    ]


def _predictive(name: str, *, right: Measure, wrong: Measure, odds: float) -> Measure:
    """1 / (1 + odds (1 - wrong) / right): the share of what is called so that is so."""
    said = {"name": name, "rows": min(right.rows, wrong.rows), "groups": min(right.groups, wrong.groups)}
    if right.value is None or wrong.value is None or right.value + 1 - wrong.value == 0:
        return Measure(value=None, **said)
    value = right.value / (right.value + odds * (1 - wrong.value))
    interval, other = interval_of(wrong), interval_of(right)
    if interval.low is None or interval.high is None:
        return Measure(value=value, **said)
    missing = replace(interval, low=1 - interval.high, high=1 - interval.low)
    found = ratio_interval(1 - wrong.value, missing, right.value, other)
    if found.low is None or found.high is None:
        return Measure(value=value, **said)
    low, high = (1 / (1 + odds * end) for end in (found.high, found.low))
    return Measure(value=value, low=low, high=high, method=found.method, approximate=found.approximate, **said)


def paired_difference(model: Answers, other: Answers, name: str, of: str | None, sure: Sureness) -> tuple[float, Interval]:
    """A measure of `model` minus that of `other` on the same rows.

    The interval of each, put together with the correlation that they show when groups are left out in turn: MOVER for
    paired values, Zou, Psychological Methods 2007;12:399.
    """
    values, intervals, left_out = [], [], []
    for answers in (model, other):
        number = float(value(answers, name, of))
        values.append(number)
        # The area under a constant answer is 0.5 for any patients.
        fixed = name == "auc" and not np.ptp(answers.probability, axis=0).any()
        found = Interval() if math.isnan(number) else _interval(answers, name, of, number, {}, sure)
        intervals.append(replace(found, low=number, high=number) if fixed and found.low is not None else found)
        left_out.append(leave_groups_out(partial(_weighted_value, answers, name, of), answers.groups))
    if any(interval.low is None for interval in intervals):
        return values[0] - values[1], Interval(groups=model.group_count)
    moves = all(np.ptp(each) > 0 for each in left_out)
    return values[0] - values[1], difference_interval(
        values[0], intervals[0], values[1], intervals[1], correlation=float(np.corrcoef(left_out)[0, 1]) if moves else 0.0
    )


def _interval(answers: Answers, name: str, of: str | None, number: float, left_out: dict[str, np.ndarray], sure: Sureness) -> Interval:
    """`left_out` keeps what several measures need: by name, values (C, K) of every class with groups left out in turn."""
    classes, groups = answers.classes, answers.groups
    if name == "accuracy" or (name == "sensitivity" and of == WEIGHTED):  # one number: all that is right of all there is
        return share_interval(answers.truth == answers.predicted, np.ones(len(groups), dtype=bool), groups, sure)
    if name == "balanced_accuracy" or (name == "sensitivity" and of == MACRO):
        parts = [share_interval(*_share(answers, "sensitivity", each), groups, sure) for each in classes]
        return mean_of_intervals([float(value(answers, "sensitivity", each)) for each in classes], parts, groups=answers.group_count)
    if name in ("brier", "log_loss", "ece"):
        return _probability_interval(answers, name, sure)
    if of in (MACRO, WEIGHTED):
        every = _left_out(answers, name, left_out)
        averages = every.mean(0) if of == MACRO else weighted_mean(every, _left_out(answers, "shares", left_out))
        return jackknife_interval(number, averages, groups, sure)
    if name in SHARES:
        return share_interval(*_share(answers, name, of), groups, sure)
    place = len(classes) - 1 if of is None else classes.index(of)
    if name == "auc":
        return auc_interval(answers.truth == place, answers.probability[:, place], groups, sure)
    if name == "mcc":
        without = leave_groups_out(partial(_weighted_value, answers, name, of), groups)
        return jackknife_interval(number, without, groups, sure, scale="signed")
    behind = answers.truth == place if name == "average_precision" else None
    return jackknife_interval(number, _left_out(answers, name, left_out)[place], groups, sure, behind=behind)


def _share(answers: Answers, name: str, of: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are right, and which are counted."""
    place = len(answers.classes) - 1 if of is None else answers.classes.index(of)
    truth, called = answers.truth == place, answers.predicted == place
    return {"sensitivity": (called, truth), "specificity": (~called, ~truth), "ppv": (truth, called), "npv": (~truth, ~called)}[name]


def _probability_interval(answers: Answers, name: str, sure: Sureness) -> Interval:
    two = len(answers.classes) == 2
    probability = answers.probability[:, 1] if two else answers.probability
    if name == "ece":
        return calibration_interval(answers.truth, probability, answers.groups, sure)
    if name == "log_loss":
        return mean_interval(row_losses(answers.truth, probability), answers.groups, sure, largest=LARGEST_LOSS)
    return mean_interval(row_briers(answers.truth, probability), answers.groups, sure, largest=1.0 if two else 2.0)


def _left_out(answers: Answers, name: str, known: dict[str, np.ndarray]) -> np.ndarray:
    """A measure of every class, or every class's share of the rows, with groups left out in turn, (C, K)."""
    if name not in known:
        if name == "shares":
            statistics = [partial(_share_of_class, answers, place) for place in range(len(answers.classes))]
        else:
            statistics = [partial(_weighted_value, answers, name, each) for each in answers.classes]
        known[name] = np.stack([leave_groups_out(statistic, answers.groups) for statistic in statistics])
    return known[name]


def _weighted_value(answers: Answers, name: str, of: str | None, weights: np.ndarray) -> np.ndarray:
    return np.asarray(value(answers, name, of, weights=weights))


def _share_of_class(answers: Answers, place: int, weights: np.ndarray) -> np.ndarray:
    return class_shares(answers, weights)[place]


def _rows(answers: Answers, name: str, of: str | None) -> int:
    if name in SHARES[1:] and of not in (MACRO, WEIGHTED):
        return int(_share(answers, name, of)[1].sum())
    return len(answers.truth)


def _asked_of(name: str, answers: Answers) -> str | None:
    """Of what a goal is: "the" sensitivity of many classes is their mean."""
    return MACRO if len(answers.classes) > 2 and name in PER_CLASS else None


def interval_of(measure: Measure) -> Interval:
    """The interval that a measure has."""
    return Interval(measure.low, measure.high, measure.method, measure.groups)
