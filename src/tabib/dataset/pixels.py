"""From an image of any shape to the integers that a network sees.

Training, the cache and the predictor all come through `fit_image`, so an image is never prepared in two ways.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from tabib.images import Image, resize, spread, to_grey

__all__ = ["REDUCTION_MARGIN", "STATISTICS", "enough_side", "fit_image", "intensity_statistics", "widen"]

REDUCTION_MARGIN = 3
"""How many times as many pixels as the network sees, a side, are decoded at least where the format can be decoded at a lower
resolution. What that changes is measured in docs/decisions/0008-reduced-decoding.md."""

STATISTICS = ("minimum", "maximum", "mean", "deviation", "percentile_1", "percentile_99")
"""What `intensity_statistics` says of an image, in order."""


def enough_side(height: int, width: int) -> int:
    """Pixels a side that are enough to decode for `fit_image` to these sides: `least` of `read_image`."""
    return REDUCTION_MARGIN * max(height, width)


def fit_image(image: Image, *, height: int, width: int, channels: int, fit: Literal["stretch", "pad", "crop"]) -> np.ndarray:
    """Bring an image to the shape of the network's input. It may have been read with `least=enough_side(height, width)`.

    Returns:
        (channels, height, width): uint8 for images of at most 8 bits, else uint16; black is 0 and white the highest value.
    """
    pixels = spread(image.pixels, image.low, image.high)
    if channels == 1 and pixels.ndim == 3:
        pixels = to_grey(pixels)
    pixels = resize(pixels, height, width, fit=fit, box=image.box)
    if pixels.ndim == 2:
        pixels = np.broadcast_to(pixels[:, :, None], (*pixels.shape, channels))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def widen(pixels: np.ndarray) -> np.ndarray:
    """The same shares of the range in 16 bits: 255 becomes 65535. uint16 is returned as it is."""
    return pixels.astype(np.uint16) * np.uint16(257) if pixels.dtype == np.uint8 else pixels


def intensity_statistics(pixels: np.ndarray) -> np.ndarray:
    """What is needed to scale an image by its own values: `STATISTICS`, (6,) float32, as shares of the range of its type."""
    highest = np.iinfo(pixels.dtype).max
    counts = np.bincount(pixels.ravel(), minlength=highest + 1)
    present = np.flatnonzero(counts)
    shares, weights = present / highest, counts[present] / pixels.size
    mean = (shares * weights).sum()
    deviation = np.sqrt(((shares - mean) ** 2 * weights).sum())
    below = np.cumsum(weights)
    low, high = (shares[min(np.searchsorted(below, share), len(shares) - 1)] for share in (0.01, 0.99))
    return np.array([shares[0], shares[-1], mean, deviation, low, high], np.float32)
