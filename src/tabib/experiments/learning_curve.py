"""The learning curve: what a study reaches with fewer training patients, and so whether more would help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from tabib.config import AnyStudy
from tabib.errors import StudyError
from tabib.experiments.ablate import Changed, Changes, run_changes
from tabib.experiments.ablated import judge_changes
from tabib.progress import SILENT, Progress
from tabib.records import LearningCurve, LearningPoint, Measure
from tabib.reports import LANGUAGES, write_learning_curve_pages
from tabib.runs import Run, read_run, write_json

__all__ = ["SHARES", "draw_learning_curve", "write_learning_curve"]

SHARES = (0.1, 0.2, 0.4, 0.7)
"""Shares of the training patients that are tried beside all of them."""


def draw_learning_curve(
    study: AnyStudy,
    *,
    root: Path,
    shares: Sequence[float] = SHARES,
    seeds: Sequence[int] = (0,),
    command: Sequence[str] = (),
    offline: bool = False,
    progress: Progress = SILENT,
    on_step: Callable[[str, bool], None] | None = None,
) -> LearningCurve:
    """Train a study with shares of its training patients, each part of the next, and judge all on the same test images.

    Validation and test stay as they are. The number of epochs does, too: a smaller share takes fewer steps.

    Args:
        study: with all its training patients.
        root: where run folders are kept.
        shares: above 0 and below 1; all patients are trained with as well.
        seeds: of the training; with several the intervals of the differences cover other trainings.
        command: for the manifests.
        offline: download nothing.
        progress: told of everything.
        on_step: hears each step and whether it was loaded.

    Raises:
        StudyError: a share or seed that is none, a seed that is given twice, or the study itself learns from a share.
    """
    if study.split.learn_from != 1:
        raise StudyError(f"split.learn_from is {study.split.learn_from:g}: the curve chooses the shares itself. Leave it out of the study.")
    if wrong := [share for share in shares if not 0 < share < 1]:
        raise StudyError(f"A share is {wrong[0]:g}. Expected shares above 0 and below 1; all patients are trained with as well.")
    if not seeds or len({*seeds}) < len(seeds) or not all(0 <= seed < 2**31 for seed in seeds):
        raise StudyError(f"The seeds are {', '.join(map(str, seeds)) or 'none'}. Expected whole numbers of 0 or more, each once.")
    asked = sorted({*shares}, reverse=True)
    split = study.split
    rows = [Changed("1", study)] + [
        Changed(f"{share:g}", study.model_copy(update={"split": split.model_copy(update={"learn_from": share})}), ("split.learn_from",))
        for share in asked
    ]
    title = study.title.model_dump(exclude_none=True) or dict.fromkeys(LANGUAGES, study.name)
    changes = Changes(title, rows, list(seeds), [None])
    ablation = judge_changes(changes, run_changes(changes, root=root, command=command, offline=offline, progress=progress, on_step=on_step))
    points = []
    for share, row in zip([1.0, *asked], ablation.rows, strict=True):
        runs = [read_run(Path(each.run)) for each in row.runs if each.run]
        trained = runs[0].read("split").filter(pl.col("part") == "train") if runs else pl.DataFrame({"group": []})
        points.append(
            LearningPoint(
                share=share,
                rows=len(trained),
                groups=trained["group"].n_unique(),
                measures=_measured(runs[0]) if runs and len(row.runs) == 1 else [],
            )
        )
    return LearningCurve(title=title, points=points, ablation=ablation)


def _measured(run: Run) -> list[Measure]:
    return next(part.measures for part in run.read("evaluation").parts if part.part == "test")


def write_learning_curve(curve: LearningCurve, folder: Path) -> list[Path]:
    """Write `learning_curve.json` and a page per language into a folder. Returns the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "learning_curve.json", curve.model_dump(mode="json"))
    return write_learning_curve_pages(curve, folder)
