"""Segmenters side by side: figures of each structure, and the same cases with every run's outlines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabib.evaluation.gallery import drawn
from tabib.experiments.same_rows import cases_of
from tabib.records import Compared, Measure, MeasuredCase, Outlined, SameCase
from tabib.runs import Run

__all__ = ["shown_cases", "structure_figures"]

SHOWN = 4
"""Cases of each kind: drawn by chance, and those on which the Dice of the runs differ most."""


def structure_figures(structures: Sequence[str], measures: Sequence[Measure]) -> dict[str, Any]:
    """What a line of a comparison says of a segmenter alone: measures of the whole, and of each structure."""
    return {
        "classes": list(structures),
        "measures": [each for each in measures if each.of in (None, "structures")],
        "labels": {name: [each.model_copy(update={"of": None}) for each in measures if each.of == name] for name in structures},
    }


def shown_cases(seen: Sequence[tuple[Compared, Run]]) -> list[SameCase]:
    """Some of the cases that all runs measured, with every run's outlines: drawn by chance, then those on which they differ most."""
    cases: list[dict[str, MeasuredCase]] = [cases_of(run, run.read("evaluation").parts[-1]) for _, run in seen]
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
