"""The learning curve: what a study reaches with fewer training patients, and so whether more would help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import polars as pl

from tabib.config import AnyStudy
from tabib.dataset import split_dataset
from tabib.errors import StudyError, TabibError
from tabib.experiments.ablate import Changed, Changes, run_changes
from tabib.experiments.ablated import judge_changes
from tabib.progress import SILENT, Progress
from tabib.records import LearningCurve, LearningPoint, Measure
from tabib.reports import LANGUAGES, write_learning_curve_pages
from tabib.runs import Reached, Run, open_run, read_run, write_json
from tabib.study import run_study

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

    Validation and test stay as they are. The number of epochs does, too: a smaller share takes fewer steps. Shares of so few patients that
    they are the same images are trained once, as the largest of them.

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
    whole = Changed("1", study)
    with open_run(whole.trained_with(seeds[0], None), root=root, until="split", on_step=on_step) as run, suppress(Reached, TabibError):
        run_study(run.given, run, offline=offline, progress=progress)
    asked = _together(study, sorted({*shares}, reverse=True), run)
    rows = [whole] + [Changed(f"{share:g}", _learning_from(study, share), ("split.learn_from",)) for share in asked if share != 1]
    title = study.title.model_dump(exclude_none=True) or dict.fromkeys(LANGUAGES, study.name)
    changes = Changes(title, rows, list(seeds), [None])
    ablation = judge_changes(changes, run_changes(changes, root=root, command=command, offline=offline, progress=progress, on_step=on_step))
    points = []
    for (share, also), row in zip(asked.items(), ablation.rows, strict=True):
        runs = [read_run(Path(each.run)) for each in row.runs if each.run]
        trained = runs[0].read("split").filter(pl.col("part") == "train") if runs else pl.DataFrame({"group": []})
        points.append(
            LearningPoint(
                share=share,
                also=also,
                rows=len(trained),
                groups=trained["group"].n_unique(),
                measures=_measured(runs[0]) if runs and len(row.runs) == 1 else [],
            )
        )
    return LearningCurve(title=title, points=points, ablation=ablation)


def _learning_from(study: AnyStudy, share: float) -> AnyStudy:
    return study.model_copy(update={"split": study.split.model_copy(update={"learn_from": share})})


def _together(study: AnyStudy, shares: Sequence[float], run: Run) -> dict[float, list[float]]:
    """All patients and each share that trains with other images than the larger ones, with the shares that are the same images.

    Args:
        study: with all its training patients.
        shares: the largest first.
        run: of the study; where it has no split, no share is known to be another.
    """
    found: dict[float, list[float]] = {1.0: []}
    if not run.path("split").exists():
        return found | {share: [] for share in shares}
    index, findings = run.read("index"), run.read("findings")
    last, trained = 1.0, _trained(run.read("split"))
    for share in shares:
        mine = _trained(split_dataset(index, findings, _learning_from(study, share)))
        if mine == trained:  # each share is part of the next, so those that are the same follow one another
            found[last].append(share)
        else:
            last, trained, found[share] = share, mine, []
    return found


def _trained(split: pl.DataFrame) -> list[int]:
    return split.filter(pl.col("part") == "train")["row"].to_list()


def _measured(run: Run) -> list[Measure]:
    return next(part.measures for part in run.read("evaluation").parts if part.part == "test")


def write_learning_curve(curve: LearningCurve, folder: Path) -> list[Path]:
    """Write `learning_curve.json` and a page per language into a folder. Returns the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "learning_curve.json", curve.model_dump(mode="json"))
    return write_learning_curve_pages(curve, folder)
