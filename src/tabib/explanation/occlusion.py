"""Occlusion: what the answer loses when a part of the image is covered."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

__all__ = ["PATCHES", "covered", "occlusion"]

PATCHES = 7
"""Positions of the patch along each side: an image costs 49 forward passes and one."""

_SIDE = 0.25
"""Side of the patch as a share of the image's; with seven positions each patch overlaps the next by half."""

_BLUR = 0.1
"""Standard deviation of the blur behind the patch, as a share of the image's shorter side."""


def occlusion(answer: Callable[[np.ndarray], np.ndarray], image: np.ndarray, target: int) -> tuple[np.ndarray, float]:
    """How much the log-odds of a class fall when each part of an image is covered.

    A patch of a quarter of the side is moved over the image in 7 x 7 overlapping steps; below it stands the image so blurred that its
    signs are gone and its brightness is not, because a patch of one grey is a sign of its own (after Zeiler and Fergus, "Visualizing and
    understanding convolutional networks", 2014).

    Args:
        answer: probabilities (n, C) of images (n, channels, H, W).
        image: (channels, H, W) float32 in 0..1.
        target: number of the class.

    Returns:
        The mean fall over the patches that cover a place, (H, W) float32, rises cut off, as a share of the largest; and the lowest
        probability that any patch leaves.
    """
    pictures, boxes = covered(image)
    probability = np.clip(answer(np.concatenate([image[None], pictures]))[:, target], 1e-7, 1 - 1e-7)
    odds = np.log(probability / (1 - probability))
    fall, times = np.zeros(image.shape[1:], np.float32), np.zeros(image.shape[1:], np.float32)
    for (rows, columns), value in zip(boxes, odds[0] - odds[1:], strict=True):
        fall[rows, columns] += max(value, 0.0)
        times[rows, columns] += 1
    fall /= times
    return fall / max(float(fall.max()), 1e-6), float(probability[1:].min())


def covered(image: np.ndarray) -> tuple[np.ndarray, list[tuple[slice, slice]]]:
    """The image (channels, H, W) with each of its parts covered, (49, channels, H, W), and which rows and columns were."""
    height, width = image.shape[1:]
    blur = _BLUR * min(height, width)
    blurred = gaussian_filter(image, (0, blur, blur), mode="nearest")
    boxes = [(rows, columns) for rows in _stretches(height) for columns in _stretches(width)]
    pictures = np.repeat(image[None], len(boxes), axis=0)
    for picture, (rows, columns) in zip(pictures, boxes, strict=True):
        picture[:, rows, columns] = blurred[:, rows, columns]
    return pictures, boxes


def _stretches(side: int) -> list[slice]:
    """Where the patch stands along one side: evenly, from edge to edge."""
    long = max(1, round(_SIDE * side))
    starts = np.linspace(0, side - long, PATCHES).round().astype(int)
    return [slice(int(start), int(start) + long) for start in starts]
