"""The one resize of the project: thumbnails, the cache, predictions and report pictures all come through here."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image as Pillow

__all__ = ["Fit", "reduce", "resize"]

Fit = Literal["stretch", "pad", "crop"]


def resize(
    pixels: np.ndarray, height: int, width: int, *, fit: Fit = "stretch", box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """Bring an image to another size, antialiased, in its own dtype.

    The filter is a triangle that grows with the reduction (Pillow's BILINEAR): every output pixel is a weighted mean of
    input pixels, so no value leaves the range of the input and no edge rings, as it does with Lanczos.

    Args:
        pixels: (H, W) or (H, W, 3), uint8 or uint16.
        height: of the result, in pixels.
        width: of the result, in pixels.
        fit: `stretch` brings each side to its size; `pad` keeps the shape and fills with 0 (black) around the centre;
            `crop` keeps the shape and cuts off what stands out around the centre.
        box: left, top, right and bottom of the part that is the picture, in pixels and fractions of one; None for all.

    Returns:
        (height, width) or (height, width, 3), dtype of the input; the input itself where the size is right already.
    """
    if box is None and pixels.shape[:2] == (height, width):
        return pixels
    left, top, right, bottom = box or (0, 0, pixels.shape[1], pixels.shape[0])
    rows, columns = bottom - top, right - left
    if fit == "stretch":
        return _resampled(pixels, height, width, (left, top, right, bottom))
    if fit == "crop":
        scale = max(height / rows, width / columns)
        # Rounding may leave a side that is not cut a hair below zero.
        cut_rows, cut_columns = max(0.0, rows - height / scale) / 2, max(0.0, columns - width / scale) / 2
        return _resampled(pixels, height, width, (left + cut_columns, top + cut_rows, right - cut_columns, bottom - cut_rows))
    scale = min(height / rows, width / columns)
    inner_height = min(height, max(1, round(rows * scale)))
    inner_width = min(width, max(1, round(columns * scale)))
    above, beside = (height - inner_height) // 2, (width - inner_width) // 2
    padded = np.zeros((height, width, *pixels.shape[2:]), pixels.dtype)
    inner = _resampled(pixels, inner_height, inner_width, (left, top, right, bottom))
    padded[above : above + inner_height, beside : beside + inner_width] = inner
    return padded


def reduce(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Make an image smaller by a whole factor: each pixel is the mean of factor x factor, and what is left over at the end is cut off.

    Args:
        pixels: (H, W) uint8 or uint16.
        factor: at least 1.

    Returns:
        (H // factor, W // factor), dtype of the input; the input itself where the factor is 1.
    """
    if factor == 1:
        return pixels
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    whole = np.ascontiguousarray(pixels[: height * factor, : width * factor])
    if factor == 2 and pixels.dtype == np.uint8:  # most pictures made for networks: two pixels at once, much faster than Pillow
        pairs = whole.view(np.uint16)
        sums = (pairs & 255) + (pairs >> 8)
        return ((sums[::2] + sums[1::2] + 2) >> 2).astype(np.uint8)
    if pixels.dtype == np.uint8:
        return np.asarray(Pillow.fromarray(whole).reduce(factor))
    rows = np.add.reduce(whole.reshape(height, factor, -1), axis=1, dtype=np.uint32)
    return ((np.add.reduce(rows.reshape(height, width, factor), axis=2, dtype=np.uint64) + factor**2 // 2) // factor**2).astype(
        pixels.dtype
    )


def _resampled(pixels: np.ndarray, height: int, width: int, box: tuple[float, float, float, float]) -> np.ndarray:
    if pixels.dtype == np.uint16 and pixels.ndim == 3:  # Pillow has no colour of 16 bits
        channels = (np.ascontiguousarray(pixels[..., channel]) for channel in range(pixels.shape[2]))
        return np.stack([_resampled(channel, height, width, box) for channel in channels], axis=-1)
    picture = Pillow.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(picture.resize((width, height), Pillow.Resampling.BILINEAR, box=box))
