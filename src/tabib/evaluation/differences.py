"""In what two sets of images differ: the run's own test images, and those of another source.

What differs because one set has more ill people is not told as a difference of the images: the sets are compared with equal
shares of every class. Each fact is tried alone, as `dataset.confounders` tries facts for the class: how well does it tell which
set an image is from?
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tabib.dataset.confounders import try_facts
from tabib.images import THUMBNAIL_SIDE
from tabib.metrics import auc
from tabib.metrics.intervals import Sureness, difference_interval, share_interval
from tabib.records import Finding, Typical

__all__ = ["Features", "fact_differences", "feature_difference", "prevalence_difference"]

FACTS = ("size", "aspect", "spacing", "border", "colour", "channels", "bits", "mode", "format", "compression")
"""Facts of the files that are compared. Hospital and scanner are not: another source has others."""

INTENSITY = ("mean", "contrast")

LIKE_ITSELF = 0.9
"""Share of the own test images that resemble the mean training image more than its negative, below which polarity cannot be told."""

COMPONENTS = 32
MOST_ROWS = 1000
FOLDS = 5
FEWEST_GROUPS = 10
"""Features are compared where each set has so many groups."""

FEATURES_DIFFER = 0.65
"""An area from which on features tell the sets apart, where it is above that of validation by `ABOVE_REFERENCE` too."""
ABOVE_REFERENCE = 0.1


@dataclass(frozen=True)
class Features:
    """What the network makes of some images: pooled features, with the label and the group of each."""

    values: np.ndarray  # (n, F)
    labels: Sequence[str]
    groups: Sequence[str]


def fact_differences(own: pl.DataFrame, other: pl.DataFrame, train: pl.DataFrame, *, names: tuple[str, str]) -> list[Finding]:
    """Facts that tell two sets of images apart, the most telling first. All tables INDEX_SCHEMA; `names` of the two sets."""
    found = []
    own, other = _balanced(own, other)
    if not len(own) or not len(other):
        return []
    turned = _turned(own, other, train)
    both = pl.concat([own.with_columns(label=pl.lit(names[0])), other.with_columns(label=pl.lit(names[1]))])
    both = both.with_row_index("place").with_columns(row=pl.col("place").cast(pl.UInt32)).drop("place")
    facts = [*FACTS, *INTENSITY]
    if turned is not None:
        both = both.with_columns(
            # What turning explains is not told a second time as brightness.
            mean=pl.when(pl.Series(turned)).then(1 - pl.col("mean")).otherwise(pl.col("mean")),
            polarity=pl.Series(np.where(turned, "inverted", "usual")),
        )
        facts.append("polarity")
    units = (both["label"] + " " + pl.Series(_units(both))).to_list()
    for telltale in try_facts(both, units, facts):
        if not telltale.tells:
            continue
        figures = {"fact": telltale.fact, "balanced_accuracy": telltale.balanced_accuracy, "p": telltale.p, "values": telltale.values}
        if telltale.fact in INTENSITY:
            usual, theirs = (both.filter(pl.col("label") == name)[telltale.fact].drop_nulls().to_numpy() for name in names)
            spread = float(usual.std(ddof=1))
            shift = float(np.median(theirs) - np.median(usual)) / spread if spread > 0 else 0.0
            found.append(Finding(code="external_intensity", level="warn", figures={**figures, "shift": shift}, page_one=True))
        elif telltale.fact == "polarity":
            share = float(turned[len(own) :].mean()) if turned is not None else 0.0
            found.append(Finding(code="external_polarity", level="warn", figures={"share": share}, page_one=True))
        else:
            found.append(Finding(code="external_facts", level="warn", figures=figures, page_one=True))
    return found


def prevalence_difference(own: pl.DataFrame, other: pl.DataFrame, classes: Sequence[str], sure: Sureness) -> Finding | None:
    """Both shares of the class whose share differs most, and whether by more than chance; `None` where a set holds no image."""
    if not len(own) or not len(other):
        return None
    shares = {name: [float((table["label"] == name).to_numpy().mean()) for table in (own, other)] for name in classes}
    name = max(classes[-1:] if len(classes) == 2 else classes, key=lambda each: abs(shares[each][1] - shares[each][0]))
    intervals = [
        share_interval((table["label"] == name).to_numpy(), np.ones(len(table), dtype=bool), _numbers(_units(table)), sure)
        for table in (own, other)
    ]
    before, after = shares[name]
    gap = difference_interval(after, intervals[1], before, intervals[0])
    figures: dict[str, float | int | str | Typical] = {"class": name, "own": before, "external": after, "gap": after - before}
    if gap.low is None or gap.high is None:
        return Finding(code="external_prevalence_unsure", level="warn", figures=figures)
    figures |= {"low": gap.low, "high": gap.high}
    if gap.low <= 0 <= gap.high:
        return Finding(code="external_prevalence_holds", level="pass", figures=figures)
    return Finding(code="external_prevalence", level="warn", figures=figures, page_one=True)


def feature_difference(own: Features, other: Features, reference: Features) -> Finding | None:
    """How well the network's own features tell the external images from the own test, beside how well they tell its validation.

    The area under the ROC curve of a classifier that has not seen the group it judges (a two-sample test by a classifier: Lopez-Paz
    and Oquab, ICLR 2017), with equal shares of every class in both sets. 0.5 is not to be told apart. `None` below
    `FEWEST_GROUPS` groups a set.
    """
    told, usual = _told_apart(own, other), _told_apart(own, reference)
    if told is None or usual is None:
        return None
    differ = told >= FEATURES_DIFFER and told >= usual + ABOVE_REFERENCE
    figures: dict[str, float | int | str | Typical] = {"external": told, "reference": usual}
    if differ:
        return Finding(code="external_features", level="warn", figures=figures, page_one=True)
    return Finding(code="external_features_alike", level="pass", figures=figures)


def _told_apart(first: Features, second: Features) -> float | None:
    tables = [
        pl.DataFrame({"place": range(len(each.labels)), "label": each.labels, "group": each.groups, "content": each.groups})
        for each in (first, second)
    ]
    kept = [table["place"].to_numpy()[:MOST_ROWS] for table in _balanced(*tables)]
    groups = [
        [f"{number} {each.groups[place]}" for place in places]
        for number, (each, places) in enumerate(zip((first, second), kept, strict=True))
    ]
    if min(len(set(each)) for each in groups) < FEWEST_GROUPS:
        return None
    values = np.concatenate([each.values[places] for each, places in zip((first, second), kept, strict=True)], dtype=np.float64)
    truth = np.repeat([0, 1], [len(places) for places in kept])
    parts = min(COMPONENTS, values.shape[1], len(values) // FOLDS)
    classifier = make_pipeline(
        StandardScaler(), PCA(parts, svd_solver="full"), LogisticRegression(C=0.1, max_iter=500, class_weight="balanced")
    )
    folds = GroupKFold(FOLDS, shuffle=True, random_state=0)
    with np.errstate(invalid="ignore"):  # OpenBLAS's products set this flag for finite numbers too (numpy issue 24067); others PCA refuses
        score = np.asarray(cross_val_predict(classifier, values, truth, groups=groups[0] + groups[1], cv=folds, method="decision_function"))
    return float(auc(truth, score))


def _balanced(own: pl.DataFrame, other: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """As many rows of both as leave them equal shares of every class that both have; drawn by hash, patient by patient."""
    counts = [dict(table.group_by("label").len().iter_rows()) for table in (own, other)]
    shared = sorted(counts[0].keys() & counts[1].keys())
    share = {name: sum(count[name] / sum(count.values()) for count in counts) / 2 for name in shared}
    kept = []
    for table, count in zip((own, other), counts, strict=True):
        most = min((count[name] / share[name] for name in shared), default=0)
        drawn = pl.Series("drawn", [hashlib.sha256(f"compare {unit}".encode()).hexdigest() for unit in _units(table)], dtype=pl.String())
        ordered = table.with_columns(drawn).sort("drawn", maintain_order=True).drop("drawn")
        parts = [ordered.filter(pl.col("label") == name).head(max(1, int(most * share[name] + 1e-9))) for name in shared]
        kept.append(pl.concat(parts) if parts else table.clear())
    return kept[0], kept[1]


def _units(table: pl.DataFrame) -> list[str]:
    return table.select(pl.coalesce("group", pl.lit("image ") + pl.col("content"))).to_series().to_list()


def _numbers(units: Sequence[str]) -> np.ndarray:
    return np.unique(np.array(units, dtype=str), return_inverse=True)[1].astype(np.int64)


def _turned(own: pl.DataFrame, other: pl.DataFrame, train: pl.DataFrame) -> np.ndarray | None:
    """Which images of both, one after the other, are more like the negative of the mean training image than like it."""
    known = train.filter(pl.col("refused").is_null() & pl.col("thumbnail").is_not_null())
    if not len(known):
        return None
    mean = _standard(known).mean(0)
    likeness = [_standard(table) @ mean for table in (own, other)]
    if (likeness[0] > 0).mean() < LIKE_ITSELF:
        return None
    return np.concatenate(likeness) < 0


def _standard(table: pl.DataFrame) -> np.ndarray:
    """Thumbnails (n, pixels) with mean 0 and length 1; an image of one value is 0."""
    pixels = np.frombuffer(b"".join(table["thumbnail"]), np.uint8).reshape(-1, THUMBNAIL_SIDE**2).astype(np.float64)
    pixels -= pixels.mean(1, keepdims=True)
    return pixels / np.maximum(np.linalg.norm(pixels, axis=1, keepdims=True), 1e-9)
