"""What is reached without looking at the picture: the least a model must beat.

Each baseline learns from the training rows alone and answers any row, with the operating point found on its own
training answers by the study's rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression

from tabib.config import Threshold
from tabib.evaluation.answers import Answers
from tabib.metrics import choose_threshold

__all__ = ["BASELINES", "answer_baselines"]

FILE_FACTS = ("height", "width", "aspect", "channels", "bits", "format", "mode", "compression", "scanner", "site", "border")
"""Facts of a file that should say nothing of a disease. Its bytes are not among them: their number follows what a picture shows."""

BINS = 8
"""Most bins of a number, cut at its quantiles among training rows."""

RAREST = 3
"""A bin or a word seen in fewer training rows is not told apart."""

Rule = Literal["youden"] | Threshold


def answer_baselines(
    answers: Answers, asked: pl.DataFrame, train: pl.DataFrame, rule: Rule, *, prevalence: float | None = None
) -> dict[str, Answers]:
    """Every baseline's answers to the rows of `answers`.

    `asked` and `train` INDEX_SCHEMA: the rows of `answers`, and those that train; `rule` and `prevalence` of the operating point, as `choose_threshold` takes them.
    There are none where no training row has a class of the study.
    """
    train = train.filter(pl.col("label").is_in(answers.classes) & pl.col("refused").is_null())
    if not len(train) or not len(answers.rows):
        return {}
    truth = np.array([answers.classes.index(label) for label in train["label"]], dtype=np.int64)
    found = {}
    for name, columns in BASELINES.items():
        score = _fit(_facts(train), columns, truth, len(answers.classes))
        said, learnt = score(_facts(asked)), score(_facts(train))
        found[name] = answers.said(_decide(said, learnt, truth, rule, prevalence), said)
    return found


BASELINES: dict[str, tuple[str, ...]] = {"majority_class": (), "file_facts": FILE_FACTS, "mean_intensity": ("mean",)}
"""What each baseline sees of a row: columns of the index, and `aspect`, width over height."""


def _facts(index: pl.DataFrame) -> pl.DataFrame:
    return index.with_columns(aspect=pl.col("width") / pl.col("height"))


def _fit(facts: pl.DataFrame, names: Sequence[str], truth: np.ndarray, classes: int) -> Callable[[pl.DataFrame], np.ndarray]:
    """Logistic regression on bins and words; class frequencies where there is nothing to learn from."""
    shares = np.bincount(truth, minlength=classes) / len(truth)
    coders = {name: _coder(facts[name]) for name in names}

    def code(table: pl.DataFrame) -> np.ndarray:
        return np.concatenate([np.zeros((len(table), 0)), *(coder(table[name]) for name, coder in coders.items())], axis=1)

    columns = code(facts)
    present = np.flatnonzero(shares)
    if not columns.shape[1] or len(present) < 2:
        return lambda table: np.tile(shares, (len(table), 1))
    model = LogisticRegression(max_iter=1000).fit(columns, truth)

    def score(table: pl.DataFrame) -> np.ndarray:
        probability = np.zeros((len(table), classes))
        probability[:, present] = model.predict_proba(code(table))
        return probability

    return score


def _coder(column: pl.Series) -> Callable[[pl.Series], np.ndarray]:
    """From a column to one column of 0 and 1 for every bin or word that training rows have; none for a constant."""
    if column.dtype.is_numeric():
        numbers = column.drop_nulls().drop_nans().to_numpy()
        edges = np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1])) if len(numbers) else np.zeros(0)

        def place(values: pl.Series) -> np.ndarray:
            numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
            return np.where(np.isnan(numbers), -1, np.searchsorted(edges, numbers, side="right"))
    else:
        words = {word: number for number, word in enumerate(sorted(column.drop_nulls().unique().to_list()))}

        def place(values: pl.Series) -> np.ndarray:
            return np.array([words.get(word, -1) for word in values.to_list()], dtype=np.int64)

    seen, counts = np.unique(place(column), return_counts=True)
    kept = seen[counts >= RAREST]
    return lambda values: (place(values)[:, None] == kept[: len(kept) if len(kept) > 1 else 0]).astype(np.float64)


def _decide(said: np.ndarray, learnt: np.ndarray, truth: np.ndarray, rule: Rule, prevalence: float | None) -> np.ndarray:
    # A constant has no cut to choose: it names the most frequent class.
    if said.shape[1] > 2 or np.ptp(learnt[:, 1]) == 0:
        return said.argmax(1)
    return (said[:, 1] >= choose_threshold(learnt[:, 1], truth, rule, prevalence=prevalence)).astype(np.int64)
