"""Segmenters side by side: figures of each structure, paired differences, and the same cases with every run's outlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import polars as pl

from tabib.evaluation import paired_differences
from tabib.evaluation.gallery import drawn
from tabib.evaluation.parts import seed_of
from tabib.metrics.intervals import Sureness
from tabib.records import Compared, Difference, MeasuredCase, Outlined, SameCase, SegmentationEvaluation
from tabib.runs import Run

__all__ = ["compare_cases", "structure_figures"]

SHOWN = 4
"""Cases of each kind: drawn by chance, and those on which the Dice of the runs differ most."""

_Cases = Mapping[str, MeasuredCase]  # by the content of image and mask


def structure_figures(evaluation: SegmentationEvaluation) -> dict[str, Any]:
    """What a line of a comparison says of a segmenter alone: measures of the whole, and of each structure."""
    measures = evaluation.parts[-1].measures
    structures = evaluation.structures
    return {
        "classes": structures,
        "measures": [each for each in measures if each.of in (None, "structures")],
        "labels": {name: [each.model_copy(update={"of": None}) for each in measures if each.of == name] for name in structures},
    }


def compare_cases(seen: Sequence[tuple[Compared, Run]]) -> dict[str, Any]:
    """Paired differences of every two runs that judged the same cases, and some of the cases: fields of `Comparison`."""
    evaluations: list[SegmentationEvaluation] = [run.read("evaluation") for _, run in seen]
    cases = [_by_content(run, evaluation) for (_, run), evaluation in zip(seen, evaluations, strict=True)]
    sure = Sureness(evaluations[0].confidence, evaluations[0].draws, seed_of("test", sorted(cases[0])))
    differences = []
    for one, other in combinations(range(len(seen)), 2):
        shared = [name for name in evaluations[one].structures if name in evaluations[other].structures]
        measures = paired_differences(cases[one], cases[other], shared, sure)
        differences.append(Difference(first=seen[one][0].name, second=seen[other][0].name, measures=measures))
    return {"differences": differences, "cases": _shown(seen, cases), "confidence": sure.confidence}


def _by_content(run: Run, evaluation: SegmentationEvaluation) -> _Cases:
    index: pl.DataFrame = run.read("index")
    return {index["content"][case.row]: case for case in evaluation.parts[-1].cases}


def _shown(seen: Sequence[tuple[Compared, Run]], cases: Sequence[_Cases]) -> list[SameCase]:
    masks = [dict(run.read("predictions").select("row", "mask").iter_rows()) for _, run in seen]
    contents = sorted(cases[0])
    by_chance = [contents[place] for place in drawn(range(len(contents)), dict(enumerate(contents)))]

    def spread(content: str) -> float:
        values = [dice for each in cases if (dice := each[content].dice) is not None]
        return max(values, default=0.0) - min(values, default=0.0)

    disputed = sorted(contents, key=lambda content: (-spread(content), content))
    shown = []
    for content in dict.fromkeys([*by_chance[:SHOWN], *disputed[:SHOWN]]):
        answers = [
            Outlined(name=line.name, run=str(run.folder), row=mine[content].row, mask=said[mine[content].row], dice=mine[content].dice)
            for (line, run), mine, said in zip(seen, cases, masks, strict=True)
        ]
        worst = min((mine[content] for mine in cases), key=lambda case: 2.0 if case.dice is None else case.dice)
        wrong = max(worst.structures, key=lambda each: each.false_positive + each.false_negative)
        number = wrong.largest_slice if wrong.worst_slice is None else wrong.worst_slice
        shown.append(SameCase(path=cases[0][content].path, slice=number, answers=answers))
    return shown
