"""From one grid to another, axis by axis: volumes to the spacing that a network sees, and its answers back."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tabib.images.scratch import compact, scratch, slabs

__all__ = ["resample", "resample_labels"]


def resample(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Bring values to another number of points along each axis; both grids cover the same space.

    Linear between points, and where points become fewer a mean over what they stood for (a triangle that grows with the
    reduction), so nothing rings and no value leaves the range of the input. To the same shape is the same values.

    Args:
        values: floating point of two axes or more, (..., *old) with as many last axes as `shape` has.
        shape: wanted lengths of the last axes, 1 or more.

    Returns:
        (..., *shape) of the same type.
    """
    for back, new in enumerate(reversed(shape), start=1):
        axis = values.ndim - back
        old = values.shape[axis]
        if new != old:
            weights = _weights(old, new).astype(values.dtype)
            found = scratch((*values.shape[:axis], new, *values.shape[axis + 1 :]), values.dtype)
            across = max((other for other in range(values.ndim) if other != axis), key=lambda other: values.shape[other])
            for part in slabs(found, across):
                found[part] = np.moveaxis(np.tensordot(weights, values[part], axes=(1, axis)), 0, axis)
            values = found
    return compact(values)


def resample_labels(labels: np.ndarray, shape: tuple[int, ...], *, count: int) -> np.ndarray:
    """Bring a map of labels to another grid: each point takes the label that most of what it stands for has.

    Args:
        labels: whole numbers 0..count - 1, with as many axes as `shape`.
        shape: wanted lengths.
        count: how many labels there are, the background counted.

    Returns:
        `shape`, of the type of `labels`; where two labels have equal shares, the lower number.
    """
    if labels.shape == tuple(shape):
        return labels
    share, found = np.full(shape, -1.0, np.float32), np.zeros(shape, labels.dtype)
    for number in range(count):
        if number in labels:
            mine = resample((labels == number).astype(np.float32), shape)
            more = mine > share + 1e-6
            share[more], found[more] = mine[more], number
    return found


@lru_cache(maxsize=64)
def _weights(old: int, new: int) -> np.ndarray:
    """How much each of `old` points weighs in each of `new`, (new, old) float64; rows add up to 1."""
    width = max(1.0, old / new)
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    # Beyond the ends there is nothing: the nearest point stands for it.
    away = np.abs(centres.clip(0, old - 1)[:, None] - np.arange(old)) / width
    weights = (1 - away).clip(min=0)
    return weights / weights.sum(axis=1, keepdims=True)
