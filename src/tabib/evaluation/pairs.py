"""Methods on the same images: what each reaches, and by how much one is better, with intervals over patients and, where there are several, trainings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tabib.evaluation.answers import MACRO, Answers, value
from tabib.evaluation.mask_measures import STRUCTURES, numbered
from tabib.evaluation.measures import made_measure
from tabib.metrics.intervals import FEWEST, Interval, Sureness, leave_groups_out
from tabib.metrics.paired import detectable, holm, paired_test, trainings_interval
from tabib.records import MeasuredCase, PairedMeasure

__all__ = [
    "Moves",
    "answer_differences",
    "answer_intervals",
    "asked_of_cases",
    "case_differences",
    "case_intervals",
    "case_means",
    "corrected",
    "moves_of",
]

OF_TWO = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity")
OF_MANY = (("auc", MACRO), ("accuracy", None), ("balanced_accuracy", None))
OF_LABELS = ("auc", "average_precision")
"""What methods are compared in; the first is the one that is told in words. More is better in each."""

Cases = Mapping[str, MeasuredCase]
"""What one training measured, by what an image is known by, such as its content."""


@dataclass(frozen=True)
class Moves:
    """A measure of one training, and what it is with each group left out."""

    name: str
    of: str | None
    value: float
    left_out: np.ndarray  # (K,)
    carriers: Sequence[int]  # how many groups it is about: of a sensitivity those with a positive image, of an AUC those of each class


def moves_of(labels: Sequence[Answers]) -> list[Moves]:
    """The measures in which one training is compared with others. `labels` are its answers to each of several labels, or its one."""
    first = labels[0]
    if len(labels) == 1:
        asked = [(name, None) for name in OF_TWO] if len(first.classes) == 2 else OF_MANY
        return [_moves(name, of, partial(_value, first, name, of), first, _carriers(name, first)) for name, of in asked]
    right, rarest = (
        np.all([each.truth == each.predicted for each in labels], axis=0),
        min((_carriers("auc", each) for each in labels), key=min),
    )
    return [
        *(
            _moves(
                name,
                MACRO,
                lambda weights, name=name: np.mean([_value(each, name, None, weights) for each in labels], axis=0),
                first,
                rarest,
            )
            for name in OF_LABELS
        ),
        _moves("exact_match", None, lambda weights: weights @ right / weights.sum(-1), first, [first.group_count]),
    ]


def answer_differences(
    first: Sequence[Sequence[Moves]], second: Sequence[Sequence[Moves]], answers: Answers, sure: Sureness
) -> list[PairedMeasure]:
    """What the trainings of the first method reach less what those of the second reach, which are paired in their order.

    Args:
        first: `moves_of` each training.
        second: likewise, on the same rows; as many.
        answers: of any of them, whose rows and groups they share.
        sure: confidence.
    """
    found = []
    for ones, others in zip(zip(*first, strict=True), zip(*second, strict=True), strict=True):
        values = np.array([one.value - other.value for one, other in zip(ones, others, strict=True)])
        left_out = np.stack([one.left_out - other.left_out for one, other in zip(ones, others, strict=True)])
        said = {"rows": len(answers.truth), "groups": answers.group_count, "carriers": ones[0].carriers}
        found.append(_measure(ones[0].name, ones[0].of, values, left_out, **said, sure=sure))
    return found


def answer_intervals(trainings: Sequence[Sequence[Moves]], answers: Answers, sure: Sureness) -> list[tuple[str, str | None, Interval]]:
    """The interval of the mean over trainings of each measure, over groups and trainings: name, of what, interval.

    Args:
        trainings: `moves_of` each, on the same rows.
        answers: of any of them.
        sure: confidence.
    """
    found = []
    for each in zip(*trainings, strict=True):
        values, left_out = np.array([move.value for move in each]), np.stack([move.left_out for move in each])
        said = {"groups": answers.group_count, "carriers": each[0].carriers}
        found.append((each[0].name, each[0].of, trainings_interval(values, left_out, **said, sure=sure)))
    return found


def case_differences(first: Sequence[Cases], second: Sequence[Cases], structures: Sequence[str], sure: Sureness) -> list[PairedMeasure]:
    """The mean over the images that all measured of what the first method reaches less what the second reaches.

    The Dice of each structure, where there are several of their mean, and of objects the panoptic quality. An image of which one of
    the trainings has no value is left out.

    Args:
        first: the cases of each training.
        second: likewise; as many, paired in their order.
        structures: that both have.
        sure: confidence.
    """
    keys = _shared([*first, *second])
    found = []
    for name, of, read in asked_of_cases(first[0], structures):
        values, left_out, rows, number = _means(_read(first, keys, read) - _read(second, keys, read), [first[0][key].group for key in keys])
        found.append(_measure(name, of, values, left_out, rows=rows, groups=number, carriers=[number], sure=sure))
    return found


def case_intervals(trainings: Sequence[Cases], structures: Sequence[str], sure: Sureness) -> list[tuple[str, str | None, Interval]]:
    """The interval of the mean over images and trainings of what `case_means` says of each training: name, of what, interval.

    None of a measure that some training has no value of in an image where another has one: those means are of other images.
    """
    keys = _shared(trainings)
    found = []
    for name, of, read in asked_of_cases(trainings[0], structures):
        reached = _read(trainings, keys, read)
        values, left_out, _, number = _means(reached, [trainings[0][key].group for key in keys])
        whole = all(len(each) == len(keys) for each in trainings) and bool((np.isfinite(reached) == np.isfinite(reached[0])).all())
        found.append((name, of, trainings_interval(values, left_out, groups=number, sure=sure) if whole else Interval(groups=number)))
    return found


def case_means(cases: Cases, structures: Sequence[str]) -> list[tuple[str, str | None, float | None]]:
    """The means over the images of what `case_differences` compares: name, of what, value."""
    return [(name, of, _mean([read(case) for case in cases.values()])) for name, of, read in asked_of_cases(cases, structures)]


def corrected(rows: Sequence[Sequence[PairedMeasure]], confidence: float) -> list[list[PairedMeasure]]:
    """The differences of several rows with each measure's p-values corrected over the rows (Holm), and what would be shown then."""
    found = [list(measures) for measures in rows]
    for key in dict.fromkeys((each.name, each.of) for measures in found for each in measures):
        places = [(row, place) for row, measures in enumerate(found) for place, each in enumerate(measures) if (each.name, each.of) == key]
        ps = holm([found[row][place].p for row, place in places])
        tests = sum(p is not None for p in ps)
        for (row, place), p in zip(places, ps, strict=True):
            each = found[row][place]
            found[row][place] = each.model_copy(update={"corrected": p, "detectable": _detectable(each, tests, confidence)})
    return found


def asked_of_cases(cases: Cases, structures: Sequence[str]) -> list[tuple[str, str | None, Callable[[MeasuredCase], float | None]]]:
    """What segmenters are compared in: name, of what, and how it is read from a case."""

    def dice_of(structure: str) -> Callable[[MeasuredCase], float | None]:
        return lambda case: next(each.dice for each in case.structures if each.structure == structure)

    asked: list[tuple[str, str | None, Callable[[MeasuredCase], float | None]]] = []
    if len(structures) > 1:
        asked.append(("dice", STRUCTURES, lambda case: _mean([dice_of(each)(case) for each in structures])))
    asked += [("dice", each, dice_of(each)) for each in structures]
    if any(case.objects for case in cases.values()):
        asked.append(("panoptic_quality", None, lambda case: case.objects.panoptic_quality if case.objects else None))
    return asked


def _measure(
    name: str, of: str | None, values: np.ndarray, left_out: np.ndarray, *, rows: int, groups: int, carriers: Sequence[int], sure: Sureness
) -> PairedMeasure:
    tested = paired_test(values, left_out, groups=groups, sure=sure, carriers=carriers)
    measure = made_measure(name, of, float(values.mean()), tested.interval, rows=rows, groups=groups)
    return PairedMeasure(**measure.model_dump(), p=tested.p, error=tested.error, freedom=tested.freedom, pairs=len(values))


def _detectable(measure: PairedMeasure, tests: int, confidence: float) -> float | None:
    if measure.error is None or measure.freedom is None:
        return None
    return detectable(measure.error, measure.freedom, trainings=measure.pairs, tests=tests, confidence=confidence)


def _shared(trainings: Sequence[Cases]) -> list[str]:
    """What all of them measured."""
    return sorted(set.intersection(*(set(each) for each in trainings)))


def _read(trainings: Sequence[Cases], keys: Sequence[str], read: Callable[[MeasuredCase], float | None]) -> np.ndarray:
    """What each training has of each image, (S, N); not a number where it has none."""
    return np.array([[_number(read(each[key])) for key in keys] for each in trainings]).reshape(len(trainings), -1)


def _means(values: np.ndarray, groups: Sequence[str]) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Means of values (S, N) over the images where all are numbers, the same with each group left out, and how many images and groups are there."""
    there = np.flatnonzero(np.isfinite(values).all(0))
    values, numbers = values[:, there], numbered([groups[place] for place in there.tolist()])
    number = len(np.unique(numbers))
    left_out = np.full((len(values), 1), math.nan)
    if number >= FEWEST:
        left_out = np.stack([leave_groups_out(lambda weights, row=row: (weights @ row) / weights.sum(1), numbers) for row in values])
    return values.mean(1) if number else np.full(len(values), math.nan), left_out, len(there), number


def _moves(name: str, of: str | None, statistic: Callable[[np.ndarray], np.ndarray], answers: Answers, carriers: Sequence[int]) -> Moves:
    whole = float(statistic(np.ones((1, len(answers.truth))))[0]) if len(answers.truth) else math.nan
    left_out = leave_groups_out(statistic, answers.groups) if answers.group_count >= FEWEST else np.array([math.nan])
    return Moves(name, of, whole, left_out, carriers)


def _carriers(name: str, answers: Answers) -> list[int]:
    """How many groups have an image of the class that a measure is of, or of each class there is; of an accuracy all."""
    if name == "accuracy":
        return [answers.group_count]
    held = [len(np.unique(answers.groups[answers.truth == place])) for place in range(len(answers.classes))]
    if name in ("sensitivity", "specificity"):
        return [held[1 if name == "sensitivity" else 0]]
    return [number for number in held if number] or [0]


def _value(answers: Answers, name: str, of: str | None, weights: np.ndarray) -> np.ndarray:
    return np.asarray(value(answers, name, of, weights=weights))


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None
