"""Measures over cases: means with intervals over patients, macro and micro."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from tabib.config import SegmentationGoals
from tabib.evaluation.mask_cases import Baseline
from tabib.evaluation.measures import made_measure
from tabib.metrics.disagreement import rank_correlation
from tabib.metrics.intervals import FEWEST, Interval, Statistic, Sureness, jackknife_interval, leave_groups_out, mean_interval
from tabib.records import Measure, MeasuredCase

__all__ = ["OBJECTS", "STRUCTURES", "VOXELS", "disagreement_measure", "mean_measure", "measure_masks", "numbered", "overlap_measures"]

STRUCTURES, VOXELS, OBJECTS = "structures", "voxels", "objects"
"""Of what a measure is: the mean over structures (macro), all voxels together, all objects together (micro)."""

OVERLAPS = ("dice", "iou", "precision", "recall")
SURFACES = ("surface_dice", "hausdorff95_mm", "surface_distance_mm")
OBJECT_SHARES = ("aji", "panoptic_quality", "f1", "segmentation_quality")
OBJECT_NAMES = {"f1": "object_f1"}  # F1 of objects is no F1 of classes; the detection quality is the same number

SMALLEST = {"hausdorff95_mm": 0.0, "surface_distance_mm": 0.0, "volume_error_ml": -np.inf, "count_error": -np.inf}
"""The least that measures can be that are no shares."""


def measure_masks(
    cases: Sequence[MeasuredCase], baselines: Mapping[str, Sequence[Baseline]], goals: SegmentationGoals, sure: Sureness
) -> list[Measure]:
    """Every measure of some cases. `baselines` answered the same cases; their values stand beside the model's."""
    if not cases:
        return []
    groups = numbered([case.group for case in cases])
    names = [each.structure for each in cases[0].structures]
    overlaps = np.array([[(each.true_positive, each.false_positive, each.false_negative) for each in case.structures] for case in cases])
    beside = {name: np.array(said) for name, said in baselines.items()}
    return [
        _voxel_accuracy(cases, groups, sure),
        *_of_objects(cases, groups, sure),
        *_of_structures(cases, names, beside, groups, sure),
        *overlap_measures(overlaps, STRUCTURES, beside, groups, sure, goals=goals),
        *_means_over_structures(cases, groups, sure),
        *overlap_measures(
            overlaps.sum(1, keepdims=True), VOXELS, {name: said.sum(1, keepdims=True) for name, said in beside.items()}, groups, sure
        ),
    ]


def disagreement_measure(cases: Sequence[MeasuredCase], sure: Sureness) -> Measure | None:
    """Spearman's correlation of the members' disagreement with Dice over the cases that have both; None where it does not exist.

    -1 where the more the members differ, the worse the mask is: a number that is known without the truth then finds the bad masks.
    """
    both = [(case.disagreement, dice, case.group) for case in cases if case.disagreement is not None and (dice := case.dice) is not None]
    if not both:
        return None
    differ, dice, named = (np.array(each) for each in zip(*both, strict=True))
    value, interval = rank_correlation(differ, dice, numbered(named.tolist()), sure)
    if np.isnan(value):
        return None
    return made_measure("rank_correlation", None, value, interval, rows=len(both), groups=len(np.unique(named)))


def numbered(groups: Sequence[str]) -> np.ndarray:
    """Numbers 0..G-1 of groups by their names."""
    return np.unique(np.array(groups, dtype=np.str_), return_inverse=True)[1]


def mean_measure(
    name: str,
    of: str | None,
    values: Sequence[float | None],
    groups: np.ndarray,
    sure: Sureness,
    *,
    baselines: Mapping[str, float] | None = None,
) -> Measure:
    """The mean over cases of the values that exist, with an interval over groups.

    A share has its groups left out in turn. A distance or an error is drawn anew, as a few large ones make most of its mean.
    """
    numbers = np.array([np.nan if value is None else value for value in values])
    there = np.isfinite(numbers)
    if not there.any():
        return made_measure(name, of, float("nan"), Interval(), rows=0)
    own, mine = numbers[there], np.unique(groups[there], return_inverse=True)[1]
    value = float(own.mean())
    if name in SMALLEST:
        interval = mean_interval(own, mine, sure, smallest=SMALLEST[name])
    else:
        interval = _left_out_interval(value, lambda weights: (weights @ own) / weights.sum(1), mine, sure)
    return made_measure(name, of, value, interval, rows=len(own), groups=len(np.unique(mine)), baselines=baselines)


def overlap_measures(
    overlaps: np.ndarray,
    of: str,
    baselines: Mapping[str, np.ndarray],
    groups: np.ndarray,
    sure: Sureness,
    *,
    goals: SegmentationGoals | None = None,
    names: Sequence[str] = OVERLAPS,
) -> Iterator[Measure]:
    """Measures of the voxels found, added and missed, (N, S, 3): of STRUCTURES their means over cases and then over structures, of VOXELS all cases as one.

    An interval has the groups left out in turn.
    """
    for name in names:
        statistic = _macro(overlaps, name) if of == STRUCTURES else _micro(overlaps, name)
        value = float(statistic(np.ones((1, len(groups))))[0])
        beside = {
            key: float((_macro if of == STRUCTURES else _micro)(said, name)(np.ones((1, len(groups))))[0])
            for key, said in baselines.items()
        }
        interval = _left_out_interval(value, statistic, groups, sure)
        goal = getattr(goals, name, None) if goals else None
        yield made_measure(name, of, value, interval, rows=len(groups), groups=len(np.unique(groups)), baselines=beside, goal=goal)


def _left_out_interval(value: float, statistic: Statistic, groups: np.ndarray, sure: Sureness) -> Interval:
    """The interval of a share, from its values with each group left out in turn."""
    number = len(np.unique(groups))
    if number < FEWEST or np.isnan(value):
        return Interval(groups=number)
    return jackknife_interval(value, leave_groups_out(statistic, groups), groups, sure)


def _shares(counts: np.ndarray, name: str) -> np.ndarray:
    """A measure of counts (..., 3): nan where it does not exist."""
    found, added, missed = np.moveaxis(counts.astype(np.float64), -1, 0)
    part, whole = {
        "dice": (2 * found, 2 * found + added + missed),
        "iou": (found, found + added + missed),
        "precision": (found, found + added),
        "recall": (found, found + missed),
    }[name]
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _macro(overlaps: np.ndarray, name: str) -> Callable[[np.ndarray], np.ndarray]:
    values = _shares(overlaps, name)  # (N, S)
    there = np.isfinite(values)

    def statistic(weights: np.ndarray) -> np.ndarray:
        cases = weights @ there
        sums = weights @ np.where(there, values, 0)
        means = np.divide(sums, cases, out=np.full(sums.shape, np.nan), where=cases > 0)
        held = np.isfinite(means)
        number = held.sum(1)
        return np.divide(np.where(held, means, 0).sum(1), number, out=np.full(len(number), np.nan), where=number > 0)

    return statistic


def _micro(overlaps: np.ndarray, name: str) -> Callable[[np.ndarray], np.ndarray]:
    counts = overlaps.sum(1)  # (N, 3)
    return lambda weights: _shares(weights @ counts, name)


def _of_structures(
    cases: Sequence[MeasuredCase], names: Sequence[str], baselines: Mapping[str, np.ndarray], groups: np.ndarray, sure: Sureness
) -> Iterator[Measure]:
    for place, structure in enumerate(names):
        mine = [case.structures[place] for case in cases]
        for name in OVERLAPS:
            beside = {key: _mean(_shares(said[:, place], name)) for key, said in baselines.items()}
            yield mean_measure(name, structure, [getattr(each, name) for each in mine], groups, sure, baselines=beside)
        for name in SURFACES if any(case.millimetres for case in cases) else ():
            yield mean_measure(name, structure, [getattr(each, name) for each in mine], groups, sure)
        if all(each.truth_ml is None for each in mine):
            continue
        errors = [None if each.truth_ml is None or each.prediction_ml is None else each.prediction_ml - each.truth_ml for each in mine]
        yield mean_measure("volume_error_ml", structure, errors, groups, sure)


def _mean(values: np.ndarray) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else float("nan")


def _means_over_structures(cases: Sequence[MeasuredCase], groups: np.ndarray, sure: Sureness) -> Iterator[Measure]:
    """Distances, case by case the mean over structures: where all have one it is the mean of the structures' means."""
    for name in SURFACES if any(case.millimetres for case in cases) else ():
        values = [[value for each in case.structures if (value := getattr(each, name)) is not None] for case in cases]
        yield mean_measure(name, STRUCTURES, [sum(each) / len(each) if each else None for each in values], groups, sure)


def _voxel_accuracy(cases: Sequence[MeasuredCase], groups: np.ndarray, sure: Sureness) -> Measure:
    """Share of all voxels, background too, that are right; always saying background is the least."""
    tables = np.array([case.confusion for case in cases], dtype=np.float64)
    right, total, empty = tables.trace(axis1=1, axis2=2), tables.sum((1, 2)), tables[:, 0].sum(1)
    value = float(right.sum() / total.sum())
    interval = _left_out_interval(value, lambda weights: (weights @ right) / (weights @ total), groups, sure)
    beside = {"background": float(empty.sum() / total.sum())}
    return made_measure("voxel_accuracy", None, value, interval, rows=len(cases), baselines=beside)


def _of_objects(cases: Sequence[MeasuredCase], groups: np.ndarray, sure: Sureness) -> Iterator[Measure]:
    found = [case.objects for case in cases if case.objects is not None]
    if not found:
        return
    for name in OBJECT_SHARES:
        yield mean_measure(OBJECT_NAMES.get(name, name), None, [getattr(each, name) for each in found], groups, sure)
    yield mean_measure("count_error", None, [float(each.prediction - each.truth) for each in found], groups, sure)
    columns = np.array([(each.shared, each.joined, each.matched_iou, each.matched, each.truth + each.prediction) for each in found])
    micro: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "aji": lambda sums: _ratio(sums[:, 0], sums[:, 1]),
        "panoptic_quality": lambda sums: _ratio(2 * sums[:, 2], sums[:, 4]),
        "object_f1": lambda sums: _ratio(2 * sums[:, 3], sums[:, 4]),
        "segmentation_quality": lambda sums: _ratio(sums[:, 2], sums[:, 3]),
    }
    for name, ratio in micro.items():
        value = float(ratio(columns.sum(0, keepdims=True))[0])
        interval = _left_out_interval(value, lambda weights, ratio=ratio: ratio(weights @ columns), groups, sure)
        yield made_measure(name, OBJECTS, value, interval, rows=len(found))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
