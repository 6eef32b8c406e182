"""Whether the class can be told without looking at what the picture shows.

Each fact of the files is tried alone. Rows of one patient with one label are one *unit*, and a unit has the most
frequent value of its rows, so a patient with many films does not count as many. Numbers are cut into at most eight bins
of equal size. The rule "name the class that has the largest share of its units in this bin" is judged on units that it has
not seen (each left out in turn), and its balanced accuracy is compared with what the same rule reaches when labels
are dealt to the units by chance (a permutation test; the tables of counts are drawn directly, from the multivariate
hypergeometric distribution, so the cost does not depend on the number of images). Holm's correction goes over the facts.

| family      | facts                                                                      | what it means                                      |
|-------------|----------------------------------------------------------------------------|----------------------------------------------------|
| acquisition | size, aspect, channels, colour, bits, mode, format, compression, spacing, scanner, site, period, border | should not know the disease: a warning |
| marks       | whether something white is burnt into a corner or at an edge, or anywhere  | nobody's disease: a warning                        |
| intensity   | mean, contrast, sharpness                                                  | a disease may change them: a baseline, no warning  |
| columns     | further columns of the table (`data.columns.facts`)                        | how an image was made, or of whom: a warning       |
| names       | the file's name without its digits                                         | a note: no network sees it                         |
| numbering   | the first number of the name, where both classes are numbered in one series | cases came in one after the other: a warning       |

The size of the file in bytes is in no family: it follows what a picture shows, through its compression.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from tabib.images import MARK_PLACES
from tabib.records import Typical

__all__ = ["ACQUISITION", "FEWEST", "INTENSITY", "MARKS", "NAMES", "NUMBERING", "Telltale", "try_columns", "try_facts"]

ACQUISITION = (
    "size",
    "aspect",
    "channels",
    "colour",
    "bits",
    "mode",
    "format",
    "compression",
    "spacing",
    "scanner",
    "site",
    "period",
    "border",
)
MARKS = ("mark", *(f"mark_{place}" for place in MARK_PLACES))
INTENSITY = ("mean", "contrast", "sharpness")
NAMES = ("name_pattern",)
NUMBERING = ("number",)

NEEDED = 0.6
"""Balanced accuracy of two classes that a fact must reach; with C classes the same share of the way from 1/C to 1."""

SURE = 0.01
"""Holm-corrected p below which a fact is said to tell the class."""

FEWEST = 10
"""Units of the smallest class below which nothing is tested."""

_BINS = 8
_DRAWS = 1999
_REUSED = 0.2  # share of numbers found in two classes above which each class has its own numbering


@dataclass(frozen=True)
class Telltale:
    """One fact, and how well it tells the class."""

    fact: str
    balanced_accuracy: float
    p: float  # corrected by Holm over the facts of its family
    units: int
    values: Typical
    rows: list[int]  # a few rows of each class that have the typical value, of the classes in turn

    @property
    def tells(self) -> bool:
        """Whether the fact tells the class, by size and by significance."""
        classes = len(self.values)
        return self.p < SURE and (self.balanced_accuracy - 1 / classes) * classes / (classes - 1) >= 2 * NEEDED - 1


def try_facts(index: pl.DataFrame, units: Sequence[str], facts: Sequence[str]) -> list[Telltale]:
    """Try each fact of one family alone.

    Args:
        index: INDEX_SCHEMA, good rows with a label only.
        units: the patient of each row, or what stands for it.
        facts: names from one of the tables of this file, or columns of the index.

    Returns:
        The facts that vary, the most telling first; empty where a class has fewer than ten patients or there is one class.
    """
    return _try_all(_facts(index).with_columns(unit=pl.Series(units, dtype=pl.String())), facts)


def _try_all(table: pl.DataFrame, facts: Sequence[str]) -> list[Telltale]:
    found = [result for fact in facts if (result := _try(table, fact)) is not None]
    order = sorted(range(len(found)), key=lambda place: (found[place].p, -found[place].balanced_accuracy))
    corrected, highest = [], 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, found[place].p * (len(found) - rank)))
        corrected.append(replace(found[place], p=highest))
    return sorted(corrected, key=lambda result: (not result.tells, -result.balanced_accuracy))


def try_columns(index: pl.DataFrame, units: Sequence[str]) -> list[Telltale]:
    """Try each further column of the table alone, as `try_facts` does; one whose values are all numbers is tried as a number."""
    told = [json.loads(facts) if facts else {} for facts in index["facts"]]
    names = sorted({name for facts in told for name in facts})
    columns = [pl.Series(name, [facts.get(name) for facts in told], dtype=pl.String()) for name in names]
    numbers = [column.cast(pl.Float64(), strict=False) for column in columns]
    columns = [words if number.null_count() > words.null_count() else number for words, number in zip(columns, numbers, strict=True)]
    kept = index.select("row", "path", "label", unit=pl.Series(units, dtype=pl.String()))
    # Under a number each, because a table may call its columns as the index does.
    table = kept.with_columns(column.alias(f"column {number}") for number, column in enumerate(columns))
    found = _try_all(table, [f"column {number}" for number in range(len(names))])
    return [replace(result, fact=names[int(result.fact.removeprefix("column "))]) for result in found]


def _facts(index: pl.DataFrame) -> pl.DataFrame:
    stem = pl.col("path").str.split("/").list.last().str.replace(r"\.[^.]*$", "")
    return index.with_columns(
        size=(pl.col("height").cast(pl.Int64) * pl.col("width")).cast(pl.Float64).sqrt(),
        aspect=pl.col("width") / pl.col("height"),
        spacing=pl.col("spacing_row_mm"),
        period=_periods(index["date"]),
        colour=pl.when("colour").then(pl.lit("colour")).otherwise(pl.lit("grey")),
        name_pattern=stem.str.replace_all(r"\d+", "#"),
        number=stem.str.extract(r"(\d+)").cast(pl.Float64, strict=False),
        mark=_said(pl.col("marks") != ""),
        **{f"mark_{place}": _said(pl.col("marks").str.split(" ").list.contains(place)) for place in MARK_PLACES},
    )


def _said(marked: pl.Expr) -> pl.Expr:
    return pl.when(marked).then(pl.lit("mark")).otherwise(pl.lit("no_mark"))


def _periods(dates: pl.Series) -> pl.Series:
    """The month of each date; where there are many, which of at most eight periods of about as many images it is in."""
    months = dates.str.slice(0, 7)
    distinct = months.drop_nulls().unique().sort()
    if len(distinct) <= _BINS:
        return months
    place = distinct.search_sorted(months.drop_nulls()).to_numpy()
    starts = np.unique(np.quantile(place, np.arange(_BINS) / _BINS, method="nearest"))
    ends = np.append(starts[1:], len(distinct)) - 1
    names = {
        distinct[month]: f"{distinct[start]}/{distinct[end]}"
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        for month in range(start, end + 1)
    }
    return months.replace_strict(names, return_dtype=pl.String())


def _try(table: pl.DataFrame, fact: str) -> Telltale | None:
    if fact == "number":
        table = _one_series(table)
    numeric = table[fact].dtype.is_numeric()
    typical = pl.col(fact).median() if numeric else pl.col(fact).mode().sort().first()
    per_unit = table.group_by("unit", "label").agg(typical.alias(fact)).sort("unit", "label")
    classes = sorted(per_unit["label"].unique())
    if len(classes) < 2:
        return None
    label = per_unit["label"].replace_strict(classes, range(len(classes)), return_dtype=pl.Int64).to_numpy()
    sizes = np.bincount(label, minlength=len(classes))
    if sizes.min() < FEWEST:
        return None
    cell = _cells(per_unit[fact])
    if cell.max() == 0:
        return None
    counts = np.zeros((len(classes), cell.max() + 1), np.int64)
    np.add.at(counts, (label, cell), 1)
    reached = float(_balanced_accuracy(counts[None])[0])
    chance = _balanced_accuracy(_dealt(counts))
    p = (1 + int((chance >= reached - 1e-12).sum())) / (1 + len(chance))
    favourite = (counts / sizes[:, None]).argmax(axis=1)
    return Telltale(
        fact=fact,
        balanced_accuracy=reached,
        p=p,
        units=len(per_unit),
        values={name: _typical(per_unit.filter(pl.col("label") == name)[fact]) for name in classes},
        rows=_shown(table, per_unit, label, cell, classes, favourite),
    )


def _one_series(table: pl.DataFrame) -> pl.DataFrame:
    """Rows whose names differ in numbers only and whose numbers run through all classes, each used in one class."""
    shared = table.group_by("name_pattern").agg(pl.col("label").n_unique().alias("classes")).filter(pl.col("classes") > 1)
    table = table.join(shared.select("name_pattern"), on="name_pattern", how="semi").filter(pl.col("number").is_not_null())
    numbers = table.group_by("name_pattern", "number").agg(pl.col("label").n_unique().alias("classes"))
    smallest = table.group_by("label").agg(pl.col("number").n_unique())["number"].min()
    reused = (numbers["classes"] > 1).sum()
    return table if isinstance(smallest, int) and reused <= _REUSED * smallest else table.clear()


def _cells(values: pl.Series) -> np.ndarray:
    """(N,) number of each value's cell, 0, 1, 2, ...; null is a cell of its own."""
    if not values.dtype.is_numeric():
        return values.cast(pl.String()).fill_null("").rank("dense").to_numpy().astype(np.int64) - 1
    numbers = values.cast(pl.Float64).fill_nan(None)
    known = numbers.drop_nulls().to_numpy()
    distinct = np.unique(known)
    # Equal values stay in one bin; a few distinct values are their own bins.
    edges = distinct if len(distinct) <= _BINS else np.unique(np.quantile(known, np.arange(1, _BINS) / _BINS))
    place = np.searchsorted(edges, numbers.fill_null(0).to_numpy(), side="left" if len(distinct) <= _BINS else "right")
    return np.unique(np.where(numbers.is_null().to_numpy(), -1, place), return_inverse=True)[1]


def _balanced_accuracy(counts: np.ndarray) -> np.ndarray:
    """(D,) of the rule, each unit left out of its own count; (D, classes, cells) counts. A tie is wrong."""
    sizes = counts.sum(axis=2, keepdims=True)
    share = counts / sizes
    own = (counts - 1) / (sizes - 1)
    ranked = np.sort(share, axis=1)
    best, second = ranked[:, -1:], ranked[:, -2:-1]
    others = np.where(share == best, second, best)
    return ((own > others) * share).sum(axis=2).mean(axis=1)


def _dealt(counts: np.ndarray) -> np.ndarray:
    """(draws, classes, cells) tables of counts when the labels are dealt to the units by chance."""
    random = np.random.default_rng(0)
    left = np.tile(counts.sum(axis=0), (_DRAWS, 1))
    dealt = []
    for size in counts.sum(axis=1)[:-1].tolist():
        dealt.append(_draw(random, left, size))
        left = left - dealt[-1]
    return np.stack([*dealt, left], axis=1)


def _draw(random: np.random.Generator, left: np.ndarray, size: int) -> np.ndarray:
    """(draws, cells) how many of `size` units, drawn without replacement, come from each cell."""
    taken = np.zeros_like(left)
    rest, wanted = left.sum(axis=1), np.full(len(left), size)
    for cell in range(left.shape[1]):
        rest = rest - left[:, cell]
        taken[:, cell] = random.hypergeometric(left[:, cell], rest, wanted)
        wanted = wanted - taken[:, cell]
    return taken


def _typical(values: pl.Series) -> list[float] | list[tuple[str | None, float]]:
    """What is typical of one class, as `Typical` says."""
    if values.dtype.is_numeric():
        quantiles = [values.quantile(share, "nearest") for share in (0.1, 0.5, 0.9)]
        return [float(value) for value in quantiles if value is not None]
    counts = values.cast(pl.String()).value_counts(sort=True).sort("count", values.name, descending=[True, False])
    return [(word, count / len(values)) for word, count in counts.head(3).iter_rows()]


def _shown(
    table: pl.DataFrame, per_unit: pl.DataFrame, label: np.ndarray, cell: np.ndarray, classes: Sequence[str], favourite: np.ndarray
) -> list[int]:
    first = table.group_by("unit", "label").agg(pl.col("row").min())
    rows = per_unit.join(first, on=["unit", "label"], how="left", maintain_order="left")["row"].to_numpy()
    examples = [sorted(rows[(label == number) & (cell == favourite[number])].tolist())[:4] for number in range(len(classes))]
    return [row for turn in range(4) for of_class in examples for row in of_class[turn : turn + 1]]
