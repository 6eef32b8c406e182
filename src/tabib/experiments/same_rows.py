"""What runs said of the same test rows, and how sure their differences are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from tabib.config import Segmentation
from tabib.dataset import without
from tabib.evaluation import answer_differences, answer_intervals, case_differences, case_intervals, case_means, moves_of
from tabib.evaluation.answers import Answers, answers_of
from tabib.evaluation.labels import predictions_of_label
from tabib.evaluation.mask_measures import numbered
from tabib.evaluation.pairs import Moves
from tabib.metrics.intervals import Interval, Sureness
from tabib.records import Evaluation, MeasuredCase, PairedMeasure, SegmentationEvaluation, SegmentedPart
from tabib.runs import Run

__all__ = ["Said", "cases_of", "differences", "figures", "intervals", "read_said", "validation_of"]


@dataclass(frozen=True)
class Said:
    """What one training said of test rows; or several, each of which judged other rows."""

    rows: tuple[tuple[str, str], ...]  # content and truth of each, in this order
    grouped: tuple[int, ...]  # the number of the group of each, in the order of their names
    names: tuple[str, ...]  # classes, labels or structures
    sure: Sureness
    answers: Sequence[Answers] = ()  # or, of several labels, of each
    moves: Sequence[Moves] = ()
    cases: Mapping[str, MeasuredCase] | None = None  # of a segmenter, by content

    def like(self, other: Said) -> bool:
        """Whether both answered the same question on the same rows of the same groups: only then are they compared."""
        return (self.rows, self.grouped, self.names) == (other.rows, other.grouped, other.names)

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len({*self.grouped})


def read_said(runs: Sequence[Run]) -> Said:
    """Read what finished runs said of their test rows; several are of folds, which are put together."""
    evaluations: list[Evaluation | SegmentationEvaluation] = [run.read("evaluation") for run in runs]
    first = evaluations[0]
    sure = Sureness(first.confidence, first.draws)
    if isinstance(first, SegmentationEvaluation):
        cases = {
            content: case
            for run, evaluation in zip(runs, evaluations, strict=True)
            if isinstance(evaluation, SegmentationEvaluation)
            for content, case in cases_of(run, evaluation.parts[-1]).items()
        }
        return _of_cases(cases, first.structures, sure)
    table = pl.concat([_judged(run, "predictions", "test") for run in runs])
    return _of_answers(table, first.classes, sure, several=bool(first.labels))


def validation_of(run: Run) -> Said:
    """What a study that was tried out (`try_study`) said of its validation rows."""
    study, model = run.read("study"), run.read("model")
    sure = Sureness(study.evaluate.confidence, study.evaluate.draws)
    if isinstance(study, Segmentation):
        return _of_cases(cases_of(run, run.read("validation_masks")), study.data.structures, sure)
    return _of_answers(_judged(run, "validation", "validation"), model.classes, sure, several=study.several)


def _of_cases(cases: Mapping[str, MeasuredCase], structures: Sequence[str], sure: Sureness) -> Said:
    contents = sorted(cases)
    groups = numbered([cases[content].group for content in contents])
    return Said(tuple((content, "") for content in contents), tuple(groups.tolist()), tuple(structures), sure, cases=cases)


def _of_answers(table: pl.DataFrame, classes: Sequence[str], sure: Sureness, *, several: bool) -> Said:
    table = table.sort("content", "label", "path")
    if several:
        groups = table["group"].to_list()
        answers = [answers_of(predictions_of_label(table, label), [without(label), label], groups) for label in classes]
    else:
        table = table.filter(pl.col("label").is_in(classes))
        groups = table["group"].to_list()
        answers = [answers_of(table, [name.removeprefix("p_") for name in table.columns if name.startswith("p_")], groups)]
    rows, grouped = tuple(table.select("content", "label").iter_rows()), tuple(answers[0].groups.tolist())
    return Said(rows, grouped, tuple(classes), sure, answers, moves_of(answers))


def differences(first: Sequence[Said], second: Sequence[Said]) -> list[PairedMeasure]:
    """What the trainings of the first method reach less what those of the second reach, which are `like` them, in their order."""
    if first[0].cases is not None:
        ones, others = ([each.cases or {} for each in method] for method in (first, second))
        return case_differences(ones, others, first[0].names, first[0].sure)
    return answer_differences([each.moves for each in first], [each.moves for each in second], first[0].answers[0], first[0].sure)


def intervals(trainings: Sequence[Said]) -> dict[tuple[str, str | None], Interval]:
    """How sure the mean over trainings of one method is, of each of its `figures`; nothing where they did not judge the same rows."""
    first = trainings[0] if trainings else None
    if first is None or not all(each.like(first) for each in trainings):
        return {}
    if first.cases is not None:
        found = case_intervals([each.cases or {} for each in trainings], first.names, first.sure)
    else:
        found = answer_intervals([each.moves for each in trainings], first.answers[0], first.sure)
    return {(name, of): interval for name, of, interval in found}


def figures(said: Said) -> list[tuple[str, str | None, float | None]]:
    """What methods are compared in, of one training: name, of what, value."""
    if said.cases is not None:
        return case_means(said.cases, said.names)
    return [(each.name, each.of, None if each.value != each.value else each.value) for each in said.moves]


def cases_of(run: Run, part: SegmentedPart) -> dict[str, MeasuredCase]:
    """The measured cases of a part of a run, by the content of image and mask."""
    index: pl.DataFrame = run.read("index")
    return {index["content"][case.row]: case for case in part.cases}


def _judged(run: Run, step: str, part: str) -> pl.DataFrame:
    """Rows of a part that have a truth and an answer, with the content of their image and the group they were judged in."""
    said: pl.DataFrame = run.read(step)
    known = pl.col("predicted").is_not_null() & pl.col("label").is_not_null()
    table = said.filter((pl.col("part") == part) & pl.col("refused").is_null() & known).drop("group")
    table = table.join(run.read("index").select("row", "content"), on="row").join(
        run.read("split").select("row", "group"), on="row", how="left"
    )
    return table.with_columns(group=pl.coalesce("group", pl.lit("image ") + pl.col("content")))
