"""What an ablation found: figures of every row, differences to another, whether what was expected came; and its rows side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabib.errors import RunError, StudyError
from tabib.evaluation import corrected, training_facts
from tabib.experiments.ablate import Changed, Changes, Trained, fields_in_which
from tabib.experiments.compare import compare_runs, watched_by
from tabib.experiments.same_rows import Said, differences, figures, intervals, read_said
from tabib.metrics.intervals import Interval
from tabib.records import AblatedRow, AblatedRun, Ablation, Change, Compared, Comparison, SeedFigures, SegmentationModel
from tabib.reports import write_ablation_pages
from tabib.runs import Run, fingerprint, read_record, read_run, write_json
from tabib.study_file import written_fields

__all__ = ["ABLATION", "compare_rows", "judge_changes", "write_ablation"]

ABLATION = "ablation.json"
"""By which the folder of an ablation is known."""


def judge_changes(changes: Changes, trained: Sequence[Trained]) -> Ablation:
    """Put the rows of an ablation side by side, each against the first or the row that it says.

    Args:
        changes: the rows.
        trained: what became of each training, as of `run_changes`.

    Raises:
        RunError: the images changed while it ran, so that rows have other splits although nothing of them was changed.
    """
    runs = {(each.row, each.seed, each.fold): read_run(each.found) for each in trained if isinstance(each.found, Path)}
    whole = [
        [seed for seed in changes.seeds if all((row, seed, fold) in runs for fold in changes.folds)] for row in range(len(changes.rows))
    ]
    said = {(row, seed): read_said([runs[row, seed, fold] for fold in changes.folds]) for row, seeds in enumerate(whole) for seed in seeds}
    watched = watched_by([row.study for row in changes.rows])
    rows = []
    for place, row in enumerate(changes.rows):
        pairs = [(run, runs[0, seed, fold]) for (number, seed, fold), run in runs.items() if number == place and (0, seed, fold) in runs]
        _same_split(row, pairs)
        against = changes.rows[row.against].name if place else None
        rows.append(_row(place, row, against, whole[place], said, [each for each in trained if each.row == place], pairs, watched))
    confidence = changes.rows[0].study.evaluate.confidence
    compared = corrected([row.differences for row in rows], confidence)
    first = next(iter(said.values()), None)
    return Ablation(
        title=dict(changes.title),
        seeds=list(changes.seeds),
        folds=[fold for fold in changes.folds if fold is not None],
        rows=[row.model_copy(update={"differences": each}) for row, each in zip(rows, compared, strict=True)],
        left_out=list(changes.left_out),
        not_asked=list(changes.not_asked),
        test_rows=len(first.rows) if first else 0,
        test_groups=first.groups if first else 0,
        masked=first is not None and first.cases is not None,
        scale=changes.rows[0].study.scale,
        watched=watched,
        pace=next((each.pace for each in trained), None),
        confidence=confidence,
    )


def write_ablation(ablation: Ablation, folder: Path) -> list[Path]:
    """Write `ablation.json` and a page per language into a folder. Returns the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / ABLATION, ablation.model_dump(mode="json"))
    return write_ablation_pages(ablation, folder)


def compare_rows(folder: Path) -> Comparison:
    """Put the rows of an ablation side by side, each by its training with the first seed.

    Args:
        folder: as `write_ablation` left it. The runs lie where they did, seen from the working directory where their paths are relative.

    Returns:
        A line for each row, under its name; the study as it is has the study's where the file gives it none.

    Raises:
        StudyError: several folds judged in turn.
        RunError: the file is damaged, or a run that it names is no longer there.
    """
    ablation = read_record(folder / ABLATION, Ablation)
    if len(ablation.folds) > 1:
        raise StudyError(
            f"{folder} is an ablation of {len(ablation.folds)} folds, which judge different images: no training of it stands for a row. Its own page "
            "puts the folds together. To see runs of one fold side by side give their folders: tabib compare RUN RUN"
        )
    runs = [next(run for run in row.runs if run.seed == ablation.seeds[0]) for row in ablation.rows]
    for row, run in zip(ablation.rows, runs, strict=True):
        if run.run is not None and not Path(run.run).is_dir():
            raise RunError(
                f"{folder / ABLATION} names the run {run.run} ({row.name or 'as it is'}, seed {run.seed}), and no such folder is there. Compare "
                "where tabib ablate was started; if the run was moved or deleted, start tabib ablate again, which makes what is missing."
            )
    study = next((read_run(Path(run.run)).given.name for run in runs if run.run is not None), "as it is")
    names = [row.name or study for row in ablation.rows]
    missed = [
        Compared(name=name, network=row.network, not_run=run.not_run, reason=run.reason)
        for name, row, run in zip(names, ablation.rows, runs, strict=True)
    ]
    found = [line if run.run is None else Path(run.run) for line, run in zip(missed, runs, strict=True)]
    return compare_runs(found, title=ablation.title, names=names, seed=ablation.seeds[0])


def _row(
    place: int,
    row: Changed,
    against: str | None,
    seeds: Sequence[int],
    said: dict[tuple[int, int], Said],
    trained: Sequence[Trained],
    pairs: Sequence[tuple[Run, Run]],
    watched: str,
) -> AblatedRow:
    mine = [said[place, seed] for seed in seeds]
    both = [(said[place, seed], said[row.against, seed]) for seed in seeds if (row.against, seed) in said] if place else []
    alike = all(one.like(other) for one, other in both)
    opened = [read_run(each.found) for each in trained if isinstance(each.found, Path)]
    model = opened[0].read("model") if opened else None
    encoder = model.encoder if isinstance(model, SegmentationModel) else None
    return AblatedRow(
        name=row.name,
        against=against,
        **(_changes(row, *pairs[0]) if place and pairs else {}),
        network=" ".join(filter(None, (model.network, encoder))) if model else row.study.model.network,
        weights_total=model.weights_total if model else None,
        weights_trainable=model.weights_trainable if model else None,
        runs=[_training(each, watched) for each in trained],
        seeds=list(seeds),
        figures=_figures(mine),
        expected={code: sum(code in _codes(run) for run in opened) for code in row.expect},
        differences=differences(*([pair[side] for pair in both] for side in (0, 1))) if both and alike else [],
        not_compared=None if not place or (both and alike) else "rows" if both else "runs",
    )


def _figures(mine: Sequence[Said]) -> list[SeedFigures]:
    """What the trainings of a row reach, and how sure their mean is."""
    values, sure = [{(name, of): value for name, of, value in figures(each)} for each in mine], intervals(mine)
    found = []
    for name, of in values[0] if values else ():
        interval = sure.get((name, of), Interval())
        found.append(SeedFigures(name=name, of=of, values=[each[name, of] for each in values], low=interval.low, high=interval.high))
    return found


def _training(trained: Trained, watched: str) -> AblatedRun:
    told = {"seed": trained.seed, "fold": trained.fold}
    if not isinstance(trained.found, Path):
        return AblatedRun(**told, not_run=trained.found.why, reason=trained.found.reason)
    run = read_run(trained.found)
    return AblatedRun(**told, run=str(trained.found), **training_facts(run.read("model").members, run.histories(), watched))


def _changes(row: Changed, run: Run, base: Run) -> dict[str, Any]:
    """What the row changes in the resolved study, and what follows from it."""
    after, before = run.read("study"), base.read("study")
    told = {
        name: Change(field=name, before=was[name], after=now.get(name, "none"))
        for was, now in [(written_fields(before), written_fields(after))]
        for name in was
    }
    derived = [name for name in fields_in_which(before, after) if name not in row.fields]
    return {"changed": [told[name] for name in row.fields], "derived": [told[name] for name in derived]}


def _same_split(row: Changed, pairs: Sequence[tuple[Run, Run]]) -> None:
    """Raise `RunError` where a row was split otherwise than the first, and changes nothing that would do so."""
    if any(name.startswith(("data.", "split.")) for name in row.fields):
        return
    for run, base in pairs:
        one, other = (fingerprint(each.read("split").select("content", "part", "fold").sort("content", "part")) for each in (run, base))
        if one != other:
            raise RunError(
                f"{run.folder} has another split than {base.folder}, although {row.name} changes nothing of it: the images or Tabib have changed "
                "between the two. Start the same command again, which makes anew what no longer fits."
            )


def _codes(run: Run) -> set[str]:
    """Everything that was found in a run."""
    found = [*run.read("findings").findings, *run.read("checks").checks, *run.read("model").remarks, *run.read("evaluation").remarks]
    return {finding.code for finding in found}
