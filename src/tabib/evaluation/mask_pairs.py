"""Two segmenters on the same images: by how much one is better, with its interval over patients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from tabib.evaluation.mask_measures import STRUCTURES, numbered
from tabib.evaluation.measures import made_measure
from tabib.metrics.intervals import FEWEST, Interval, Sureness, jackknife_interval, leave_groups_out
from tabib.records import Measure, MeasuredCase

__all__ = ["paired_differences"]


def paired_differences(
    first: Mapping[str, MeasuredCase], second: Mapping[str, MeasuredCase], structures: Sequence[str], sure: Sureness
) -> list[Measure]:
    """The mean over the images that both measured of what the first reaches less what the second reaches.

    The Dice of each structure, where there are several of their mean, and of objects the panoptic quality. Both answered the same
    images, so that what makes an image hard for both is no part of the difference: its interval has the patients left out in turn.

    Args:
        first: cases by what the image is known by in both, such as its content.
        second: likewise.
        structures: that both have.
        sure: confidence.
    """
    pairs = [(first[key], second[key]) for key in sorted(first.keys() & second.keys())]

    def dice_of(structure: str) -> Callable[[MeasuredCase], float | None]:
        return lambda case: next(each.dice for each in case.structures if each.structure == structure)

    asked: list[tuple[str, str | None, Callable[[MeasuredCase], float | None]]] = []
    if len(structures) > 1:
        asked.append(("dice", STRUCTURES, lambda case: _mean([dice_of(each)(case) for each in structures])))
    asked += [("dice", each, dice_of(each)) for each in structures]
    if any(one.objects and other.objects for one, other in pairs):
        asked.append(("panoptic_quality", None, lambda case: case.objects.panoptic_quality if case.objects else None))
    return list(_differences(pairs, asked, sure))


def _differences(
    pairs: Sequence[tuple[MeasuredCase, MeasuredCase]],
    asked: Sequence[tuple[str, str | None, Callable[[MeasuredCase], float | None]]],
    sure: Sureness,
) -> Iterator[Measure]:
    for name, of, read in asked:
        values = [(read(one), read(other), one.group) for one, other in pairs]
        there = [(mine - theirs, group) for mine, theirs, group in values if mine is not None and theirs is not None]
        if not there:
            yield made_measure(name, of, float("nan"), Interval(), rows=0)
            continue
        gaps, groups = np.array([gap for gap, _ in there]), numbered([group for _, group in there])
        value, number = float(gaps.mean()), len(np.unique(groups))
        interval = Interval(groups=number)
        if number >= FEWEST:
            left_out = leave_groups_out(lambda weights, gaps=gaps: (weights @ gaps) / weights.sum(1), groups)
            interval = jackknife_interval(value, left_out, groups, sure, scale="signed")
        yield made_measure(name, of, value, interval, rows=len(gaps), groups=number)


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None
