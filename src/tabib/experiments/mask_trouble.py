"""Masks to look at: those unlike what models drew that had not seen the patient, more so than the masks of other cases are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import polars as pl

from tabib.config import Segmentation
from tabib.dataset import case_of, open_data, read_case, read_predicted
from tabib.evaluation.mask_measures import mean_measure, numbered
from tabib.metrics import weigh_dice
from tabib.metrics.intervals import Sureness
from tabib.metrics.segmentation import Overlap
from tabib.records import MaskDoubt, Measure, MeasuredCase, Outlined, SameCase
from tabib.runs import Run

__all__ = ["CALLED", "FAR", "UNLIKE", "measured_dice", "weigh_masks"]

FAR, UNLIKE = 3.5, 2.0
"""Deviations below the usual Dice from which a mask is probably wrong, and a case hard."""

LEAST = 0.05
"""A Dice that is less lower than the usual one is no trouble, however alike the others are."""

CALLED = 0.2
"""From this share of a structure on, the structure that the models call it is named."""


class _Drawn(NamedTuple):
    """A case as one training has it: the run whose model had not seen its patient, what was measured there, and the mask it drew."""

    run: Run
    case: MeasuredCase
    mask: str  # below the run folder


def weigh_masks(trainings: Sequence[Sequence[Run]]) -> tuple[list[MaskDoubt], dict[str, float]]:
    """Masks to look at, and the usual Dice of each structure.

    Args:
        trainings: of each training of a study with masks (a seed) its turns, each of which judged other patients. A case is weighed by the
            trainings that judged it.
    """
    first = next(run for runs in trainings for run in runs)
    study: Segmentation = first.read("study")
    index: pl.DataFrame = first.read("index")
    data = open_data(study.data, first.cache_folder).data
    assert isinstance(data, type(study.data))
    rows, drawn = _of_cases(trainings)
    alike = np.full((len(rows), len(data.structures)), np.nan)
    for place, row in enumerate(rows):
        if len(drawn[place]) > 1:
            truth = read_case(data, index["path"][row], index["mask"][row])
            masks = [each.run.folder / each.mask for each in drawn[place]]
            alike[place] = _agreement(
                [case_of(data, truth.image, read_predicted(mask, truth.image)).structures for mask in masks], data.structures
            )
    doubts, usual = [], {}
    for number, structure in enumerate(data.structures):
        dice = _dice(drawn, number)
        weighed, agreed = weigh_dice(dice), weigh_dice(alike[:, number])
        if not np.isfinite(weighed.usual):
            continue
        usual[structure] = weighed.usual
        low = weighed.usual - dice >= LEAST
        disagree = (agreed.below > UNLIKE) & (agreed.usual - alike[:, number] >= LEAST)
        wrong = low & (weighed.below > FAR) & ~disagree
        hard = ~wrong & (disagree | low & (weighed.below > UNLIKE))
        doubts += [
            _doubt(
                "wrong" if wrong[place] else "hard",
                drawn[place],
                number,
                dice=float(dice[place]),
                below=float(weighed.below[place]),
                agreement=_known(alike[place, number]),
                group=None if index["group"][rows[place]] is None else str(index["group"][rows[place]]),
            )
            for place in np.flatnonzero(wrong | hard).tolist()
        ]
    return sorted(doubts, key=lambda each: (each.list == "hard", -each.deviations, each.case.path, each.structure)), usual


def measured_dice(trainings: Sequence[Sequence[Run]], sure: Sureness) -> list[Measure]:
    """How good the models are that `weigh_masks` asks: of each structure the mean Dice over cases, with an interval over patients."""
    _, drawn = _of_cases(trainings)
    groups = numbered([one[0].case.group for one in drawn])
    names = [each.structure for each in drawn[0][0].case.structures]
    return [mean_measure("dice", name, _dice(drawn, number).tolist(), groups, sure) for number, name in enumerate(names)]


def _of_cases(trainings: Sequence[Sequence[Run]]) -> tuple[list[int], list[list[_Drawn]]]:
    """The rows of the cases, and of each what every training has that judged it."""
    each_training = [_drawn(runs) for runs in trainings]
    rows = sorted(set[int]().union(*each_training))
    return rows, [[each[row] for each in each_training if row in each] for row in rows]


def _dice(drawn: Sequence[Sequence[_Drawn]], number: int) -> np.ndarray:
    """Of each case the mean Dice of a structure over the trainings; nan where it has none."""
    return np.array([np.mean([_number(each.case.structures[number].dice) for each in one]) for one in drawn])


def _drawn(runs: Sequence[Run]) -> dict[int, _Drawn]:
    found = {}
    for run in runs:
        masks: Mapping[int, str] = dict(run.read("predictions").select("row", "mask").iter_rows())
        found |= {case.row: _Drawn(run, case, masks[case.row]) for case in run.read("evaluation").parts[-1].cases}
    return found


def _agreement(drawn: Sequence[np.ndarray], structures: Sequence[str]) -> list[float]:
    """Of each structure the mean Dice of each two drawings; nan where none of them has it."""
    pairs = list(combinations(drawn, 2))
    return [
        float(np.mean([_overlap(first == number, second == number).dice for first, second in pairs]))
        for number in range(1, len(structures) + 1)
    ]


def _overlap(first: np.ndarray, second: np.ndarray) -> Overlap:
    both = int((first & second).sum())
    return Overlap(both, int(second.sum()) - both, int(first.sum()) - both)


def _doubt(
    listed: str, drawn: Sequence[_Drawn], number: int, *, dice: float, below: float, agreement: float | None, group: str | None
) -> MaskDoubt:
    case = drawn[0].case
    mine = case.structures[number]
    called = np.sum([each.case.confusion[number + 1] for each in drawn], axis=0)
    called[[0, number + 1]] = 0  # background, and as the mask has it
    share = float(called.max() / (len(drawn) * mine.truth)) if mine.truth else 0.0
    return MaskDoubt.model_validate(
        {
            "list": listed,
            "group": group,
            "structure": mine.structure,
            "dice": dice,
            "deviations": below,
            "agreement": agreement,
            "called": case.structures[int(called.argmax()) - 1].structure if share >= CALLED else None,
            "called_share": share,
            "voxels": mine.truth,
            "drawn": round(float(np.mean([each.case.structures[number].prediction for each in drawn]))),
            "case": SameCase(
                path=case.path,
                slice=mine.largest_slice if mine.worst_slice is None else mine.worst_slice,
                answers=[
                    Outlined(name=each.run.folder.name, run=str(each.run.folder), row=each.case.row, mask=each.mask, dice=each.case.dice)
                    for each in drawn
                ],
            ),
        }
    )


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
