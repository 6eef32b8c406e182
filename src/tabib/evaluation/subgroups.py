"""How the model does in parts of the test set: by hospital, scanner, date, or any fact that a table gave.

A column of words makes a subgroup of each word, a column of numbers or days with many values one of each third. Where a column
says nothing of an image, that is a subgroup of its own. Each has the measures and intervals of the whole, and their
difference to all other test images.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import polars as pl

from tabib.config import Goals
from tabib.errors import StudyError
from tabib.evaluation.answers import MACRO, Answers, value
from tabib.evaluation.measures import interval_of, made_measure, measure_all
from tabib.metrics.intervals import Sureness, difference_interval, leave_groups_out
from tabib.records import INDEX_SCHEMA, Measure, Subgroup

__all__ = ["check_subgroups", "divide_rows", "measure_subgroups", "said_columns", "values_of"]

MEASURED: dict[int, tuple[tuple[str, str | None], ...]] = {2: (("auc", None), ("sensitivity", None), ("specificity", None))}
"""What is measured in a subgroup, by the number of classes. Predictive values would differ with the prevalence alone."""

MEASURED_OF_MANY: tuple[tuple[str, str | None], ...] = (("auc", MACRO), ("balanced_accuracy", None))

NO_FACTS = {"row", "path", "label", "given", "refused", "content", "pixels", "perceptual", "thumbnail", "facts", "stack_faults"}
"""Columns of the index that no subgroup is made of; the others are facts of an image."""

MANY = 12
"""Most subgroups of a column of words; the rarest words beyond are one subgroup. Numbers and days with more values are cut in thirds."""


def said_columns(index: pl.DataFrame, columns: Sequence[str]) -> list[str]:
    """Those of some columns that an index says something of. `index` INDEX_SCHEMA."""
    return [column for column in columns if column in _known(index)]


def check_subgroups(index: pl.DataFrame, columns: Sequence[str]) -> None:
    """Raise `StudyError` for a column of `evaluate.subgroups` that the index has not, with the nearest that it has."""
    known = _known(index)
    for column in columns:
        if column not in known:
            near = difflib.get_close_matches(column, known, n=1, cutoff=0.5)
            raise StudyError(
                f"evaluate.subgroups: the images have no fact {column}. {f'Did you mean {near[0]}? ' if near else ''}"
                f"There are: {', '.join(known)}; columns of a table are named under data.columns.facts."
            )


def measure_subgroups(answers: Answers, index: pl.DataFrame, columns: Sequence[str], sure: Sureness) -> list[Subgroup]:
    """Measure every subgroup of each column. `index` INDEX_SCHEMA has the rows of `answers`; see `check_subgroups` for errors."""
    check_subgroups(index, columns)
    asked = index[answers.rows.astype(np.int64)]
    return [
        _measured(answers, subgroup, inside, sure)
        for column in columns
        for subgroup, inside in divide_rows(column, values_of(asked, column))
    ]


def _known(index: pl.DataFrame) -> list[str]:
    named = {name for facts in index["facts"].drop_nulls().unique() for name in json.loads(facts)}
    return [*(name for name in INDEX_SCHEMA if name not in NO_FACTS), *sorted(named - INDEX_SCHEMA.keys())]


def values_of(asked: pl.DataFrame, column: str) -> pl.Series:
    """What a column of the index, or a fact by that name, says of some rows: numbers, or words; null where nothing is known."""
    told = [json.loads(facts).get(column) if facts else None for facts in asked["facts"]]
    values = asked[column] if column in asked.columns and not any(text is not None for text in told) else pl.Series(told, dtype=pl.String())
    if values.dtype == pl.Boolean():
        return values.cast(pl.String())
    if values.dtype == pl.String():
        values = values.str.strip_chars().replace("", None)
        numbers = values.cast(pl.Float64, strict=False)
        return numbers if numbers.null_count() == values.null_count() and not numbers.is_infinite().any() else values
    return values.cast(pl.Float64).fill_nan(None)


def divide_rows(column: str, values: pl.Series) -> Iterator[tuple[Subgroup, np.ndarray]]:
    """Subgroups of rows by what a column says of them, still without measures, and which rows are in each, (N,) bool."""
    known = values.is_not_null().to_numpy()
    counts = values.drop_nulls().value_counts().sort("count", values.name, descending=[True, False])
    ordered = values.dtype == pl.Float64() or column == "date"
    if ordered and len(counts) > MANY:
        ranks = values.rank("dense").fill_null(0).to_numpy()
        cuts = np.quantile(ranks[known], [1 / 3, 2 / 3])
        third = np.searchsorted(cuts, ranks, side="left")
        for place in np.unique(third[known]).tolist():
            inside = known & (third == place)
            mine = values.filter(pl.Series(inside))
            yield _named(column, low=mine.min(), high=mine.max()), inside
    else:
        shown = counts[values.name].to_list()
        own, joined = (shown, []) if len(shown) <= MANY else (shown[: MANY - 1], shown[MANY - 1 :])
        for word in sorted(own):
            yield _named(column, low=word, high=word), values.eq_missing(word).to_numpy()
        if joined:
            yield _named(column, joined=len(joined)), values.is_in(joined).fill_null(value=False).to_numpy()
    if not known.all() and known.any():
        yield _named(column), ~known


def _named(column: str, *, low: object = None, high: object = None, joined: int = 0) -> Subgroup:
    return Subgroup.model_validate({"column": column, "low": low, "high": high, "joined": joined, "measures": [], "differences": []})


def _measured(answers: Answers, subgroup: Subgroup, inside: np.ndarray, sure: Sureness) -> Subgroup:
    asked = MEASURED.get(len(answers.classes), MEASURED_OF_MANY)
    mine, rest = (measure_all(answers.of_rows(side), {}, Goals(), sure, only=asked) for side in (inside, ~inside))
    shared = np.intersect1d(answers.groups[inside], answers.groups[~inside]).size > 0
    differences = [_difference(answers, inside, one, other, shared=shared) for one, other in zip(mine, rest, strict=True)]
    counts = {"rows": int(inside.sum()), "groups": len(np.unique(answers.groups[inside]))}
    return subgroup.model_copy(update={**counts, "measures": mine, "differences": [each for each in differences if each]})


def _difference(answers: Answers, inside: np.ndarray, mine: Measure, rest: Measure, *, shared: bool) -> Measure | None:
    """A measure in a subgroup minus that of all other rows. Patients with images on both sides make the two go together."""
    if mine.value is None or rest.value is None:
        return None
    correlation = _correlation(answers, inside, mine.name, mine.of) if shared else 0.0
    interval = difference_interval(mine.value, interval_of(mine), rest.value, interval_of(rest), correlation=correlation)
    rows, groups = min(mine.rows, rest.rows), min(mine.groups, rest.groups)
    return made_measure(mine.name, mine.of, mine.value - rest.value, interval, rows=rows, groups=groups)


def _correlation(answers: Answers, inside: np.ndarray, name: str, of: str | None) -> float:
    sides = [leave_groups_out(partial(_value_of, answers, side, name, of), answers.groups) for side in (inside, ~inside)]
    if not all(np.isfinite(side).all() and np.ptp(side) > 0 for side in sides):
        return 0.0
    return float(np.corrcoef(sides)[0, 1])


def _value_of(answers: Answers, side: np.ndarray, name: str, of: str | None, weights: np.ndarray) -> np.ndarray:
    return np.asarray(value(answers, name, of, weights=weights * side))
