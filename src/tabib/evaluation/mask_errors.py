"""Where the masks go wrong: along the slices, with size, and in any part of the test set that a column divides."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from tabib.evaluation.mask_measures import STRUCTURES, mean_measure, numbered
from tabib.evaluation.measures import interval_of, made_measure
from tabib.evaluation.subgroups import divide_rows, values_of
from tabib.metrics.intervals import Sureness, difference_interval, leave_groups_out
from tabib.metrics.segmentation import Overlap
from tabib.records import THIRDS, Measure, MeasuredCase, Subgroup

__all__ = ["mask_subgroups", "phase_of", "size_thirds", "slice_thirds", "total_size"]


UNASKED = ("phase", "diagnosis")
"""Facts of the images by which masks are always judged apart, where there are several of them."""


def phase_of(facts: str | None) -> str | None:
    """The moment of the heart that a row of the index says, ED or ES."""
    phase = json.loads(facts).get("phase") if facts else None
    return phase.strip().upper() if isinstance(phase, str) else None


def mask_subgroups(cases: Sequence[MeasuredCase], index: pl.DataFrame, columns: Sequence[str], sure: Sureness) -> list[Subgroup]:
    """Mean Dice in each subgroup of each column, and its difference to all other cases; the phase of a heart and the diagnosis divide unasked."""
    if not cases:
        return []
    asked = index[[case.row for case in cases]]
    told = [column for column in UNASKED if column not in columns and values_of(asked, column).drop_nulls().n_unique() > 1]
    wanted = [*told, *columns]
    return [
        _compared(cases, subgroup, inside, sure) for column in wanted for subgroup, inside in divide_rows(column, values_of(asked, column))
    ]


def slice_thirds(cases: Sequence[MeasuredCase], structures: Sequence[str], sure: Sureness, *, heart: bool) -> list[Subgroup]:
    """Dice of each structure in each third of the slices that truly show it, over the cases that show it in at least three."""
    found = []
    for third, name in enumerate(THIRDS[not heart]):
        measures = []
        for place, structure in enumerate(structures):
            mine = [case for case in cases if case.structures[place].thirds]
            values = [_number(Overlap(*case.structures[place].thirds[third]).dice) for case in mine]
            if mine:
                measures.append(mean_measure("dice", structure, values, numbered([case.group for case in mine]), sure))
        if measures:
            found.append(
                _stratum("slice_position", name, name, [case for case in cases if any(each.thirds for each in case.structures)], measures)
            )
    return found


def size_thirds(cases: Sequence[MeasuredCase], structures: Sequence[str], sure: Sureness) -> list[Subgroup]:
    """Dice of each structure in the thirds of cases by the true size of all structures; nothing below six cases."""
    shown = [case for case in cases if total_size(case) > 0]
    if len(shown) < 6:
        return []
    shown.sort(key=lambda case: (total_size(case), case.row))
    found = []
    for part in np.array_split(np.arange(len(shown)), 3):
        mine = [shown[place] for place in part]
        groups = numbered([case.group for case in mine])
        measures = [
            mean_measure("dice", structure, [case.structures[place].dice for case in mine], groups, sure)
            for place, structure in enumerate(structures)
        ]
        found.append(_stratum("true_size", total_size(mine[0]), total_size(mine[-1]), mine, measures))
    return found


def total_size(case: MeasuredCase) -> float:
    """How much of all structures there truly is: mL where volumes are known, else voxels."""
    volumes = [each.truth_ml for each in case.structures]
    return (
        sum(volume for volume in volumes if volume is not None)
        if None not in volumes
        else float(sum(each.truth for each in case.structures))
    )


def _stratum(column: str, low: float | str, high: float | str, cases: Sequence[MeasuredCase], measures: list[Measure]) -> Subgroup:
    groups = len({case.group for case in cases})
    return Subgroup(column=column, low=low, high=high, rows=len(cases), groups=groups, measures=measures, differences=[])


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def _compared(cases: Sequence[MeasuredCase], subgroup: Subgroup, inside: np.ndarray, sure: Sureness) -> Subgroup:
    values = np.array([np.nan if case.dice is None else case.dice for case in cases])
    groups = numbered([case.group for case in cases])
    mine, rest = (
        mean_measure("dice", STRUCTURES, values[side].tolist(), np.unique(groups[side], return_inverse=True)[1], sure)
        for side in (inside, ~inside)
    )
    counts = {"rows": int(inside.sum()), "groups": len(np.unique(groups[inside]))}
    return subgroup.model_copy(update={**counts, "measures": [mine], "differences": list(_difference(values, groups, inside, mine, rest))})


def _difference(values: np.ndarray, groups: np.ndarray, inside: np.ndarray, mine: Measure, rest: Measure) -> Iterator[Measure]:
    """The mean in a subgroup minus that of all other cases. Patients with cases on both sides make the two go together."""
    if mine.value is None or rest.value is None:
        return
    interval = difference_interval(
        mine.value, interval_of(mine), rest.value, interval_of(rest), correlation=_correlation(values, groups, inside)
    )
    yield made_measure(
        mine.name, mine.of, mine.value - rest.value, interval, rows=min(mine.rows, rest.rows), groups=min(mine.groups, rest.groups)
    )


def _correlation(values: np.ndarray, groups: np.ndarray, inside: np.ndarray) -> float:
    there = np.isfinite(values)
    sides = [there & side for side in (inside, ~inside)]
    if not np.intersect1d(groups[sides[0]], groups[sides[1]]).size:
        return 0.0

    def mean(side: np.ndarray, weights: np.ndarray) -> np.ndarray:
        held = weights[:, side]
        total = held.sum(1)
        return np.divide(held @ values[side], total, out=np.full(len(total), np.nan), where=total > 0)

    left_out = [leave_groups_out(lambda weights, side=side: mean(side, weights), groups) for side in sides]
    if not all(np.isfinite(each).all() and np.ptp(each) > 0 for each in left_out):
        return 0.0
    return float(np.corrcoef(left_out)[0, 1])
