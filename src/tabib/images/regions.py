"""Connected parts of a map of structures."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["fill_holes", "keep_largest"]


def keep_largest(labels: np.ndarray, number: int) -> np.ndarray:
    """The map without all but the largest connected part of one structure; of two as large, the first one stays.

    Args:
        labels: (D, H, W) or (H, W), whole numbers; parts that touch at a corner are one.
        number: of the structure.
    """
    from scipy import ndimage  # slower to import than all else of this room, which workers of the index import

    found: Any = ndimage.label(labels == number, structure=np.ones((3,) * labels.ndim))
    parts, count = found
    if count < 2:
        return labels
    largest = 1 + int(np.bincount(parts.ravel())[1:].argmax())
    return np.where((parts > 0) & (parts != largest), 0, labels).astype(labels.dtype)


def fill_holes(labels: np.ndarray, number: int) -> np.ndarray:
    """The map with background that a structure encloses within a slice given to the structure; other structures stay.

    Args:
        labels: (D, H, W) or (H, W), whole numbers.
        number: of the structure.
    """
    from scipy import ndimage  # as above

    filled = labels.copy()
    for each in filled.reshape(-1, *labels.shape[-2:]):
        inside = ndimage.binary_fill_holes(each == number)
        each[inside & (each == 0)] = number
    return filled
