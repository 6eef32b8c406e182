"""Several labels on one image: each of them makes two classes, the images with it and those without."""

from __future__ import annotations

import polars as pl

from tabib.records import LABEL_SEPARATOR

__all__ = ["as_class", "without"]


def without(label: str) -> str:
    """The class of the images that do not have a label."""
    return f"not {label}"


def as_class(column: str, label: str) -> pl.Expr:
    """A column of labels, as `records.labels_of` reads them, as one of two classes: `label`, or `without(label)`; null stays."""
    present = pl.col(column).str.split(LABEL_SEPARATOR).list.contains(label)
    return pl.when(present).then(pl.lit(label)).when(pl.col(column).is_not_null()).then(pl.lit(without(label))).alias(column)
