"""What lies where, drawn into the picture: outlines, a colour for each structure, the same in every picture."""

from __future__ import annotations

import numpy as np

from tabib.images.resize import resize

__all__ = ["OUTLINES", "box_around", "drawn_size", "outline", "overlay"]

OUTLINES = (
    (0, 220, 255),
    (255, 208, 0),
    (255, 84, 84),
    (96, 255, 128),
    (255, 128, 255),
    (255, 160, 64),
    (128, 160, 255),
    (224, 255, 96),
)
"""Red, green and blue of the structures in their order, bright enough for a dark film and for a stained slide; after the last the first again."""


_LARGEST = 3.0
"""A picture is at most so many times as large as its pixels."""

_LEAST_AROUND = 8  # pixels


def outline(labels: np.ndarray) -> np.ndarray:
    """Tell which pixels of the labels have a neighbour of another label, along rows or columns.

    Args:
        labels: (H, W) integers, 0 for the background. What lies beyond the frame is no other label.

    Returns:
        (H, W) bool; the outline lies within what it surrounds.
    """
    edge = np.zeros(labels.shape, bool)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = labels[one] != labels[other]
        edge[one] |= differs
        edge[other] |= differs
    return edge & (labels != 0)


def box_around(structures: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of what all slices (D, H, W) show that is not 0, with half as much around on either side; everything where they show nothing."""
    box = []
    for axis, side in ((1, structures.shape[1]), (2, structures.shape[2])):
        shown = np.flatnonzero(structures.any(axis=(0, 3 - axis)))
        if len(shown) == 0:
            return slice(None), slice(None)
        margin = max((shown[-1] + 1 - shown[0]) // 2, _LEAST_AROUND)
        box.append(slice(max(0, shown[0] - margin), min(side, shown[-1] + 1 + margin)))
    return box[0], box[1]


def drawn_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Rows and columns of a picture whose longer side is `side` pixels long, or three times as long as it was where that is less."""
    scale = min(_LARGEST, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def overlay(pixels: np.ndarray, structures: np.ndarray, *, objects: np.ndarray | None = None, side: int | None = None) -> np.ndarray:
    """Draw the outline of every structure into a picture.

    Args:
        pixels: (H, W) grey or (H, W, 3) RGB, uint8.
        structures: (H, W) integers: 0 background, k the k-th structure, whose colour is `OUTLINES[k - 1]`.
        objects: (H, W) integers where each object has an outline of its own, in the colour of its structure.
        side: of the result, which has its `drawn_size`; the size of `pixels` when not given. Outlines are one pixel wide at any size.

    Returns:
        (H, W, 3) uint8.
    """
    if side is not None:
        old = pixels.shape[0], pixels.shape[1]
        height, width = drawn_size(*old, side)
        # A label is never the mean of two: of each pixel of the picture the one at its centre.
        nearest = np.ix_(*(((np.arange(new) + 0.5) * each / new).astype(int) for new, each in zip((height, width), old, strict=True)))
        pixels, structures = resize(pixels, height, width), structures[nearest]
        objects = None if objects is None else objects[nearest]
    drawn = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels.copy()
    edge = outline(structures if objects is None else objects) & (structures > 0)
    drawn[edge] = np.array(OUTLINES, np.uint8)[(structures[edge].astype(np.int64) - 1) % len(OUTLINES)]
    return drawn
