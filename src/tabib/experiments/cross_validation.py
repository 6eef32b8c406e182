"""Every image judges once: a study in turns, each trained without the images it is judged on, and the answers put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tabib.config import AnyStudy
from tabib.errors import StudyError
from tabib.evaluation.labels import mean_measures
from tabib.evaluation.mask_measures import measure_masks
from tabib.evaluation.measures import measure_all
from tabib.evaluation.parts import seed_of
from tabib.experiments.compare import compare_runs, whole_measures
from tabib.experiments.compare_masks import structure_figures
from tabib.experiments.same_rows import read_said
from tabib.experiments.series import Series, run_series
from tabib.experiments.trainings import Row
from tabib.progress import SILENT, Progress
from tabib.records import Compared, Comparison
from tabib.reports import LANGUAGES
from tabib.runs import read_run

__all__ = ["cross_validate", "pool_turns", "turns_of"]


def turns_of(study: AnyStudy) -> Series:
    """The turns of a cross-validation: as many studies as `split.test` goes into 1, each judged on other patients.

    Raises:
        StudyError: the split is given or written, or its test sets are no half, third, ... twentieth.
    """
    split = study.split
    if split.given or split.file is not None:
        raise StudyError(
            "A cross-validation draws its own test sets, and the split of this study is given. Leave out split.given and split.file."
        )
    if split.turns is None:
        raise StudyError(
            f"split.test is {split.test:g}, and a cross-validation needs test sets of one size. Give it a half, a third, ... a twentieth."
        )
    rows = [Row(f"turn {turn}", study.model_copy(update={"split": split.model_copy(update={"turn": turn})})) for turn in range(split.turns)]
    return Series(dict.fromkeys(LANGUAGES, study.name), rows)


def cross_validate(
    study: AnyStudy,
    *,
    root: Path,
    command: Sequence[str] = (),
    offline: bool = False,
    progress: Progress = SILENT,
    on_step: Callable[[str, bool], None] | None = None,
) -> Comparison:
    """Run every turn of a study, an ordinary run each, and put the turns and their pooled answers side by side.

    A turn that is done is loaded, and one that was interrupted goes on. Answers are pooled where all turns were run.

    Raises:
        StudyError: as `turns_of`.
    """
    series = turns_of(study)
    done, pace = run_series(series, root=root, command=command, offline=offline, progress=progress, on_step=on_step)
    comparison = compare_runs(done, title=series.title, names=[row.name for row in series.rows], pace=pace)
    folders = [each for each in done if isinstance(each, Path)]
    pooled = pool_turns(folders) if len(folders) == len(done) else None
    return comparison.model_copy(update={"turns": True, "pooled": pooled})


def pool_turns(folders: Sequence[Path]) -> Compared:
    """The test answers of all turns, measured as those of one test set, with intervals over all patients.

    Each image is judged by the one model that has not seen it, at that model's operating point; measures of ranking, as the AUC, rank
    probabilities of different models together. The intervals say how sure the figures are over patients, given these models: how much
    other training images would change the models is no part of them.
    """
    runs = [read_run(folder) for folder in folders]
    study, said = runs[0].read("study"), read_said(runs)
    told: dict[str, Any] = {"name": "", "network": study.model.network, "scale": study.scale, "groups": said.groups}
    sure = replace(said.sure, seed=seed_of("test", [content for content, _ in said.rows]))
    if said.cases is not None:
        cases = list(said.cases.values())
        return Compared(**told, rows=len(cases), **structure_figures(said.names, measure_masks(cases, {}, study.goals, sure)))
    each = [measure_all(answers, {}, study.goals, sure) for answers in said.answers]
    told |= {"rows": len(said.rows), "classes": list(said.names)}
    if study.several:
        labels = {name: whole_measures(measures) for name, measures in zip(said.names, each, strict=True)}
        return Compared(**told, measures=mean_measures(said.answers, [{}] * len(each), sure), labels=labels)
    return Compared(**told, measures=whole_measures(each[0], means=len(said.names) > 2))
