"""Arrays that lie in a temporary file when they are large, so that the memory of the process does not grow with an image."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import DTypeLike

from tabib.errors import RunError

__all__ = ["compact", "scratch", "slabs", "slice_by_slice"]

LARGE = 2**24
"""Bytes, 16 MiB: a larger array lies in a file. About ten arrays of an image are held at one time, so smaller ones cost little memory,
and a usual picture or heart never waits for a disk."""

STEP = 2**24
"""Bytes of an array that are worked on at a time, in memory as in a file: a sum of products depends on how it is divided, so the results
are the same to the bit wherever an array lies."""


def scratch(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """An array of zeros, mapped from a file in the folder of temporary files (`TMPDIR`) when it is large.

    The file has no name, so nothing stays of it: it goes with the last array that looks at it, or with the process, however that ends.

    Raises:
        RunError: the folder has too little space, or cannot be written.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= LARGE:
        return np.zeros(shape, dtype)
    try:
        with tempfile.TemporaryFile(prefix="tabib-") as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error now, and no crash later
            return np.asarray(np.memmap(file, dtype, "r+", shape=tuple(shape)))
    except OSError as error:
        raise RunError(
            f"{tempfile.gettempdir()} has no place for {size:,} bytes of a large volume: {error.strerror}. Free some space there, or name "
            "a folder on a larger disk in TMPDIR, and start the same command again."
        ) from error


def compact(values: np.ndarray, dtype: DTypeLike | None = None) -> np.ndarray:
    """The values in one block in the order of their axes, of another type where one is given: themselves where they are that already."""
    dtype = values.dtype if dtype is None else np.dtype(dtype)
    if values.flags.c_contiguous and values.dtype == dtype:
        return values
    found = scratch(values.shape, dtype)
    found[...] = values
    return found


def slabs(values: np.ndarray, axis: int = 0) -> Iterator[tuple[slice, ...]]:
    """Places of the parts of an array along one axis, each of at most `STEP` bytes where one step along it is not more."""
    count = values.shape[axis]
    each = max(1, STEP * count // max(1, values.nbytes))
    for first in range(0, count, each):
        yield (*(slice(None),) * axis, slice(first, first + each))


def slice_by_slice(change: Callable[..., np.ndarray], *values: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """What a function makes of each slice, put together: what it needs besides is never more than for one slice.

    Args:
        change: takes a slice of each of `values`, and gives (H, W).
        values: (D, H, W) or (D, H, W, C).
        dtype: of the result, (D, H, W).
    """
    found = scratch(values[0].shape[:3], dtype)
    for target, *slices in zip(found, *values, strict=True):
        target[...] = change(*slices)
    return found
