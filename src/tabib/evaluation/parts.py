"""Which rows belong to a part, which of them the model may know, and from where chance is drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import polars as pl

from tabib.config import AnyStudy
from tabib.dataset import given_parts

__all__ = ["leaked_rows", "seed_of", "unpredicted_rows"]


def unpredicted_rows(part: str, predicted: pl.Series, index: pl.DataFrame, split: pl.DataFrame, study: AnyStudy) -> list[int]:
    """Rows that belong to the part and are not among the `predicted`: those that could not be read in a given part, too."""
    belongs = split.filter(pl.col("part") == part)["row"].to_list()
    if study.split.given:
        given = given_parts(index, study.split.test_fold)
        belongs += index.filter((given == part) & pl.col("refused").is_not_null())["row"].to_list()
    return sorted(set(belongs) - set(predicted))


def leaked_rows(split: pl.DataFrame, index: pl.DataFrame, test_rows: Sequence[int] | np.ndarray) -> list[int]:
    """Judged test rows whose group or picture is in training or validation as well."""
    table = split.select("row", "part", "group").join(index.select("row", "content", "pixels"), on="row")
    known = table.filter(pl.col("part").is_in(["train", "validation"]))
    test = table.filter((pl.col("part") == "test") & pl.col("row").is_in([int(row) for row in test_rows]))
    shared = pl.any_horizontal(pl.col(name).is_in(known[name].drop_nulls().unique().to_list()) for name in ("group", "content", "pixels"))
    return test.filter(shared.fill_null(value=False))["row"].to_list()


def seed_of(part: str, contents: Sequence[str]) -> int:
    """Where the draws of a part begin: the same for the same images."""
    return int.from_bytes(hashlib.sha256("\n".join([part, *contents]).encode()).digest()[:8])
