"""Runs side by side: settings from the runs themselves, counts, measures, what others published, and the same pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import polars as pl

from tabib.config import AnyStudy, Study
from tabib.errors import StudyError
from tabib.evaluation import corrected, training_facts
from tabib.experiments.compare_masks import shown_cases, structure_figures
from tabib.experiments.same_rows import Said, differences, read_said
from tabib.records import (
    Answer,
    Apart,
    Compared,
    Comparison,
    Difference,
    Evaluation,
    Measure,
    Model,
    Pace,
    Published,
    SamePicture,
    SegmentationEvaluation,
    SegmentationModel,
)
from tabib.reports import published_works, write_comparison_pages
from tabib.runs import Run, read_run, write_json
from tabib.study_file import written_fields

__all__ = ["compare_runs", "whole_measures", "write_comparison"]

SHOWN = 8
"""Pictures of each kind: drawn by chance, and those on which the runs disagree most."""

WORDS = ("name", "title", "notes", "report", "goals", "expect", "explain")
"""Parts of a study that change no figure."""

_Seen = tuple[Compared, Run, pl.DataFrame]


def compare_runs(
    runs: Sequence[Path | Compared],
    *,
    title: Mapping[str, str],
    names: Sequence[str] = (),
    pace: Pace | None = None,
    seed: int | None = None,
) -> Comparison:
    """Put finished runs side by side.

    Args:
        runs: run folders, or lines of what could not be run.
        title: of the comparison, by language.
        names: of the runs; the study's name and the id where there are none.
        pace: at which they were trained, where that was for this comparison.
        seed: of their trainings, where they are rows of an ablation; its own page has their differences, over all seeds.

    Returns:
        Everything from the files of the runs: what differs in their settings, their figures on test, and their answers to
        the same pictures where they judged the same ones.

    Raises:
        RunError: a run that is not finished, or no longer what it was when it was.
        StudyError: some runs tell one class of an image and others several labels, or draw masks; or a run folder is given twice.
    """
    folders = [] if names else [run.resolve() for run in runs if isinstance(run, Path)]
    if twice := [str(run) for place, run in enumerate(folders) if run in folders[:place]]:
        raise StudyError(f"{twice[0]} is given twice: beside itself a run has nothing to compare. Give each run once.")
    lines: list[Compared] = []
    seen: list[_Seen] = []
    studies: list[dict[str, str]] = []
    tasks: list[str] = []
    published: dict[str, Published] = {}
    watched = watched_by([read_run(run).read("study") for run in runs if not isinstance(run, Compared)])
    for place, run in enumerate(runs):
        if isinstance(run, Compared):
            lines.append(run)
            continue
        opened = read_run(run)
        study = opened.read("study")
        if studies and study.task != tasks[-1]:
            raise StudyError(
                f"{seen[0][1].folder} is of task {tasks[-1]} and {run} of task {study.task}: no figure of one is a figure of the other. "
                "Compare runs of one task."
            )
        tasks.append(study.task)
        if seen and isinstance(study, Study) and study.several != bool(seen[0][0].labels):
            raise StudyError(
                f"Of {seen[0][1].folder} and {run} one tells several labels of an image and the other one class: no figure of one is a figure "
                "of the other. Compare runs of one kind."
            )
        opened.must_be_whole()
        name = names[place] if names else f"{study.name} {opened.folder.name[:8]}"
        evaluation = opened.read("evaluation")
        line = _line(name, opened, study, opened.read("model"), evaluation, watched)
        lines.append(line)
        seen.append((line, opened, _test_answers(opened, evaluation)))
        studies.append({field: text for field, text in written_fields(study).items() if field.partition(".")[0] not in WORDS})
        published |= {work.name: work for work in published_works(study)}
    differing = sorted({field for each in studies for field in each if len({other.get(field) for other in studies}) > 1})
    settings = {line.name: {field: each.get(field, "") for field in differing} for (line, _, _), each in zip(seen, studies, strict=True)}
    masked = "segmentation" in tasks
    said = [read_said([run]) for _, run, _ in seen]
    apart = _apart([tuple(answers["content"]) for _, _, answers in seen], said, alone=not (masked or (seen and seen[0][0].labels)))
    found = Comparison(
        title=dict(title),
        lines=[line.model_copy(update={"settings": settings.get(line.name, {})}) for line in lines],
        apart=apart,
        published=list(published.values()),
        masked=masked,
        seed=seed,
        differences=_differences(seen, said) if seed is None else [],
        watched=watched,
        pace=pace,
        confidence=seen[0][1].read("evaluation").confidence if seen else 0.95,
    )
    if not seen or not found.same_test:
        return found
    shown = {"cases": shown_cases([(line, run) for line, run, _ in seen])} if masked else {"pictures": _pictures(seen)}
    return found.model_copy(update=shown)


def watched_by(studies: Sequence[AnyStudy]) -> str:
    """The metric whose curves on validation images are drawn over each other: what all studies choose their best epoch by, or the loss."""
    found = {getattr(study.training, "best", "loss") for study in studies}
    return found.pop() if len(found) == 1 else "loss"


def write_comparison(comparison: Comparison, folder: Path, *, languages: Sequence[str] = ("en", "fa")) -> list[Path]:
    """Write `comparison.json` and a page per language into a folder. Returns the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "comparison.json", comparison.model_dump(mode="json"))
    return write_comparison_pages(comparison, folder, languages=languages)


def _line(
    name: str, run: Run, study: AnyStudy, model: Model | SegmentationModel, evaluation: Evaluation | SegmentationEvaluation, watched: str
) -> Compared:
    test = next(part for part in evaluation.parts if part.part == "test")
    told = _of_classes(evaluation) if isinstance(evaluation, Evaluation) else structure_figures(evaluation.structures, test.measures)
    return Compared(
        name=name,
        run=str(run.folder),
        scale=study.scale,
        network=model.network if isinstance(model, Model) or not model.encoder else f"{model.network} {model.encoder}",
        weights_total=model.weights_total,
        weights_trainable=model.weights_trainable,
        weights_source=model.weights_source,
        members=len(model.members),
        **training_facts(model.members, run.histories(), watched),
        rows=test.rows,
        groups=test.groups,
        **told,
    )


def _of_classes(evaluation: Evaluation) -> dict[str, Any]:
    """What a line says of a classifier alone."""
    test = next(part for part in evaluation.parts if part.part == "test")
    whole = whole_measures(test.measures, means=bool(evaluation.labels) or len(evaluation.classes) > 2)
    labels = {
        label: whole_measures(judged.parts[-1].measures) for label, judged in zip(evaluation.classes, evaluation.labels, strict=False)
    }
    positive = evaluation.positive
    counts = None
    if positive is not None:
        cells = {(cell.truth == positive, cell.predicted == positive): cell.count for cell in test.confusion}
        counts = {
            kind: cells[said] for kind, said in {"tn": (False, False), "fp": (False, True), "fn": (True, False), "tp": (True, True)}.items()
        }
    return {"classes": evaluation.classes, "measures": whole, "labels": labels, "counts": counts}


def whole_measures(measures: Sequence[Measure], *, means: bool = False) -> list[Measure]:
    """Measures of the whole, with those that are means over classes or labels where there are `means`."""
    return [measure for measure in measures if measure.of is None or (means and measure.of == "macro")]


def _test_answers(run: Run, evaluation: Evaluation | SegmentationEvaluation) -> pl.DataFrame:
    """Test rows with the content of their image, and what the run said; of masks those that were measured."""
    said: pl.DataFrame = run.read("predictions")
    index: pl.DataFrame = run.read("index")
    if isinstance(evaluation, SegmentationEvaluation):
        rows = [case.row for case in evaluation.parts[-1].cases]
        return index.filter(pl.col("row").is_in(rows)).select("row", "content").sort("content")
    return (
        said.filter((pl.col("part") == "test") & pl.col("predicted").is_not_null())
        .join(index.select("row", "content"), on="row")
        .sort("content")
    )


def _apart(contents: Sequence[tuple[str, ...]], said: Sequence[Said], *, alone: bool) -> list[Apart]:
    """In what runs were judged otherwise than one another: `Comparison.apart`.

    Args:
        contents: of the test images of each.
        said: of each.
        alone: they tell one class of an image. Several labels and structures are judged one by one, and each table says which run has them.
    """
    named = len({each.names for each in said}) > 1
    same = len({*contents}) <= 1
    differs: dict[Apart, bool] = {
        "images": not same,
        "classes": alone and named,
        "truth": same and (alone or not named) and len({each.rows for each in said}) > 1,
        "groups": same and len({each.grouped for each in said}) > 1,
    }
    return [what for what, so in differs.items() if so]


def _differences(seen: Sequence[_Seen], said: Sequence[Said]) -> list[Difference]:
    """Of every two runs that judged the same rows, p-values corrected over them."""
    pairs = [(one, other) for one, other in combinations(range(len(seen)), 2) if said[one].like(said[other])]
    found = corrected([differences([said[one]], [said[other]]) for one, other in pairs], said[0].sure.confidence if said else 0.95)
    return [
        Difference(first=seen[one][0].name, second=seen[other][0].name, measures=measures)
        for (one, other), measures in zip(pairs, found, strict=True)
    ]


def _pictures(seen: Sequence[_Seen]) -> list[SamePicture]:
    """Some test images drawn by their content hash, then those on which most runs are wrong but not all."""
    _, first, answers = seen[0]
    evaluation: Evaluation = first.read("evaluation")
    wrong = sum((each["predicted"] != each["label"]).fill_null(value=False).cast(pl.Int32) for _, _, each in seen)
    disputed = (
        answers.with_columns(wrong=wrong)
        .filter((pl.col("wrong") > 0) & (pl.col("wrong") < len(seen)))
        .sort("wrong", "content", descending=[True, False])
    )
    chosen = [*evaluation.random[:SHOWN], *disputed["row"].head(SHOWN).to_list()]
    shown = []
    for row in dict.fromkeys(chosen):
        place = answers["row"].to_list().index(row) if row in answers["row"] else None
        if place is None:
            continue
        said = [_answer(line.name, each.row(place, named=True), classes=not line.labels) for line, _, each in seen]
        shown.append(SamePicture(run=str(first.folder), row=row, path=answers["path"][place], label=answers["label"][place], answers=said))
    return shown


def _answer(name: str, row: dict[str, Any], *, classes: bool) -> Answer:
    probability = row[f"p_{row['predicted']}"] if classes else None
    return Answer(name=name, predicted=row["predicted"], probability=probability, right=row["predicted"] == row["label"])
