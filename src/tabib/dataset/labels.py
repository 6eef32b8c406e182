"""Several labels on one image: each of them makes two classes, the images with it and those without."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from tabib.records import LABEL_SEPARATOR, labels_of

__all__ = ["as_class", "rename_labels", "without"]


def without(label: str) -> str:
    """The class of the images that do not have a label."""
    return f"not {label}"


def as_class(column: str, label: str) -> pl.Expr:
    """A column of labels, as `records.labels_of` reads them, as one of two classes: `label`, or `without(label)`; null stays."""
    present = pl.col(column).str.split(LABEL_SEPARATOR).list.contains(label)
    return pl.when(present).then(pl.lit(label)).when(pl.col(column).is_not_null()).then(pl.lit(without(label))).alias(column)


def rename_labels(texts: pl.Series, names: Mapping[str, str]) -> pl.Series:
    """Texts of several labels with each label by its name in `names`; those that have none, or "", are gone; null stays."""
    found = [None if text is None else sorted({names.get(label, "") for label in labels_of(text, several=True)} - {""}) for text in texts]
    return pl.Series(texts.name, [each if each is None else LABEL_SEPARATOR.join(each) for each in found], dtype=pl.String())
