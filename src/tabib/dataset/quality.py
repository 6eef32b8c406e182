"""Pictures that show badly: blank, inverted, clipped, blurred, or of another brightness than the rest.

Nothing here is bad by itself: a picture is told because it is unlike the other pictures of its class (of the whole set where
the class has fewer than thirty). How unlike is set by the set itself: beyond the quartiles its spread is read on each side
apart, and the limit is where not one picture is expected in a hundred sets of that size if their tails were normal and 1.4
times as wide. And because a very even set would set it too near, a picture must also differ by an amount that a person sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
import polars as pl

from tabib.dataset.resemblance import spread, unit
from tabib.images import THUMBNAIL_SIDE

__all__ = ["FAULTS", "find_faults"]

FAULTS = ("blank_images", "inverted_images", "over_exposed_images", "under_exposed_images", "blurred_images", "intensity_outliers")
"""Codes of the findings of this file; a picture is told under the first that fits."""

_OF_ITS_CLASS = 30  # pictures of a class from which its own spread can be read
_FEW = 10  # pictures of a set below which nothing is unlike the others
_FALSE_ALARMS = 0.01  # sets without a fault in which one is told
_TAIL = 1.4  # as in `resemblance`: tails of real films are up to 1.25 times as wide as the normal one
_QUARTILE = NormalDist().inv_cdf(0.75)

_BLANK = 0.1  # of the usual contrast
_BLANK_AT_MOST = 0.02  # deviation as a share of the range: five of 255
_CLIPPED = 0.2  # share of the picture that is black or white beyond what is usual
_HALF = np.log(2.0)  # half the usual sharpness or contrast
_BRIGHTER = 0.15  # of the range
_COMMON = 0.7  # typical correlation with what all have in common, half the variance; with less nobody can say which way is right
_NEGATIVE = 0.3  # correlation of the negative of a picture with what all have in common


def find_faults(good: pl.DataFrame) -> dict[str, list[int]]:
    """Find what shows badly.

    Args:
        good: INDEX_SCHEMA, good rows only.

    Returns:
        For each of `FAULTS` that there is, its rows of the index, the furthest from the others first.
    """
    shown = good.filter(pl.col("contrast") > 0)
    if len(shown) < _FEW:
        return {}
    found: dict[str, list[int]] = {}
    open_ = np.ones(len(shown), bool)
    rows = shown["row"].to_numpy()
    for code, (measure, floor) in _LOOKS.items():
        # What was told already is not what the others are measured against.
        excess = np.where(open_, measure(shown, open_) - floor, -np.inf)
        order = np.argsort(-excess, kind="stable")
        chosen = order[excess[order] > 0]
        if len(chosen):
            found[code] = rows[chosen].tolist()
            open_[chosen] = False
    return found


def _blank(shown: pl.DataFrame, open_: np.ndarray) -> np.ndarray:
    contrast = shown["contrast"].to_numpy()
    usual = np.median(contrast[open_])
    return np.where(contrast < _BLANK_AT_MOST, _BLANK * usual - contrast, -1.0)


def _inverted(shown: pl.DataFrame, open_: np.ndarray) -> np.ndarray:
    """How much the negative of a picture is like the others, where the picture is not.

    What they have in common is the first singular vector of the thumbnails: it is the same whichever of them are inverted,
    and the side of the most is taken for the right one.
    """
    thumbnails = np.frombuffer(b"".join(shown["thumbnail"]), np.uint8).reshape(-1, THUMBNAIL_SIDE**2)
    sample = unit(thumbnails[open_][spread(int(open_.sum()))].astype(np.float32))
    pattern = sample.sum(axis=0)
    for _ in range(8):
        pattern = sample.T @ (sample @ pattern)
        pattern /= max(float(np.linalg.norm(pattern)), 1e-6)
    likeness = np.concatenate([unit(part.astype(np.float32)) @ pattern for part in np.array_split(thumbnails, len(thumbnails) // 4096 + 1)])
    likeness *= np.sign(np.median(likeness[open_])) or 1.0
    typical = np.arctanh(np.abs(likeness[open_]).clip(0, 0.999))
    middle, lower = np.quantile(typical, [0.5, 0.25])
    if middle < np.arctanh(_COMMON):
        return np.full(len(shown), -1.0)
    unlike = likeness < np.tanh(middle - _reach(len(typical)) * (middle - lower) / _QUARTILE)
    return np.where(unlike, -likeness, -1.0)


def _above(column: str, *, low: bool = False, log: bool = False, both: bool = False) -> Callable[[pl.DataFrame, np.ndarray], np.ndarray]:
    """A measure: how far a column is beyond what is usual in the class of each picture, 0 where it is within the limit."""

    def measure(shown: pl.DataFrame, open_: np.ndarray) -> np.ndarray:
        values = shown[column].fill_null(np.nan).to_numpy().astype(np.float64)
        values = np.log(np.maximum(values, 1e-6)) if log else values
        higher = _beyond(values, shown["label"].to_list(), open_)
        lower = _beyond(-values, shown["label"].to_list(), open_)
        return np.maximum(higher, lower) if both else lower if low else higher

    return measure


def _beyond(values: np.ndarray, labels: Sequence[str | None], open_: np.ndarray) -> np.ndarray:
    known = np.isfinite(values) & open_
    names = np.array([label or "" for label in labels])
    result = np.zeros(len(values))
    for name in np.unique(names[known]):
        own = known & (names == name)
        usual = values[own if own.sum() >= _OF_ITS_CLASS else known]
        middle, upper = np.quantile(usual, [0.5, 0.75])
        far = values[own] - middle
        result[own] = np.where(far > _reach(len(values)) * (upper - middle) / _QUARTILE, far, 0.0)
    return result


def _reach(pictures: int) -> float:
    """Robust deviations from the middle at which a picture is unlike the others."""
    return -_TAIL * NormalDist().inv_cdf(_FALSE_ALARMS / (2 * pictures))


def _intensity(shown: pl.DataFrame, open_: np.ndarray) -> np.ndarray:
    """Brightness and contrast, each in units of its floor."""
    mean = _above("mean", both=True)(shown, open_) / _BRIGHTER
    contrast = _above("contrast", log=True, both=True)(shown, open_) / _HALF
    return np.maximum(mean, contrast)


_LOOKS: dict[str, tuple[Callable[[pl.DataFrame, np.ndarray], np.ndarray], float]] = {
    "blank_images": (_blank, 0.0),
    "inverted_images": (_inverted, _NEGATIVE),
    "over_exposed_images": (_above("white"), _CLIPPED),
    "under_exposed_images": (_above("black"), _CLIPPED),
    "blurred_images": (_above("sharpness", low=True, log=True), _HALF),
    "intensity_outliers": (_intensity, 1.0),
}
"""Of each fault how far a picture is from the others, and the floor: how far it must be at least."""
