"""Connected parts of a map of structures."""

from __future__ import annotations

import numpy as np

from tabib.images.scratch import scratch, slice_by_slice

__all__ = ["fill_holes", "keep_largest"]


def keep_largest(labels: np.ndarray, number: int) -> np.ndarray:
    """The map without all but the largest connected part of one structure; of two as large, the first one stays.

    Args:
        labels: (D, H, W) or (H, W), whole numbers; parts that touch at a corner are one.
        number: of the structure.
    """
    from scipy import ndimage  # slower to import than all else of this room, which workers of the index import

    inside, parts = scratch(labels.shape, np.bool_), scratch(labels.shape, np.int32)
    np.equal(labels, number, out=inside)
    count = ndimage.label(inside, structure=np.ones((3,) * labels.ndim), output=parts)
    assert isinstance(count, int)  # alone, as it is told where the parts go
    if count < 2:
        return labels
    sizes = np.zeros(count + 1, np.int64)
    for part in parts:
        sizes += np.bincount(part.ravel(), minlength=count + 1)
    largest = 1 + int(sizes[1:].argmax())
    return slice_by_slice(lambda part, said: np.where((part > 0) & (part != largest), 0, said), parts, labels, dtype=labels.dtype)


def fill_holes(labels: np.ndarray, number: int) -> np.ndarray:
    """The map with background that a structure encloses within a slice given to the structure; other structures stay.

    Args:
        labels: (D, H, W) or (H, W), whole numbers.
        number: of the structure.
    """
    from scipy import ndimage  # as above

    filled = scratch(labels.shape, labels.dtype)
    filled[...] = labels
    for each in filled.reshape(-1, *labels.shape[-2:]):
        inside = ndimage.binary_fill_holes(each == number)
        each[inside & (each == 0)] = number
    return filled
