"""What one glance at an image says of it: the facts that make a row of the index.

This is what runs in every worker process of an index, so nothing heavy is imported here.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from tabib.errors import ImageError
from tabib.images.image import Image, has_colour, spread, to_grey
from tabib.images.read import read_file, read_image_bytes
from tabib.images.resize import resize

__all__ = ["THUMBNAIL_SIDE", "glance", "glance_at_file"]

THUMBNAIL_SIDE = 32
"""Side in pixels of the square grey thumbnail kept for every image (one byte a pixel)."""


def glance_at_file(path: Path) -> dict[str, Any]:
    """Read and decode a file once and give the columns of its index row; a file that cannot be read has the reason in `refused`."""
    try:
        content = read_file(path)
    except ImageError as error:
        return {"refused": str(error)}
    digest = hashlib.sha256(content).hexdigest()
    try:
        return glance(read_image_bytes(content, path.name), digest, len(content))
    except ImageError as error:
        return {"refused": str(error), "bytes": len(content), "content": digest}


def glance(image: Image, content: str, size: int) -> dict[str, Any]:
    """Give the columns of an image's index row, and `patient`: what the file calls the patient, which goes into no table.

    `content` is the SHA-256 of the bytes that the image came from, `size` their number. Means and deviations are those of the
    grey picture from black to white, as fractions; the hash of the pixels is of all that is stored, beyond a window too.
    """
    pixels = image.pixels
    plain = _without_repeats(pixels)
    grey = to_grey(spread(plain, image.low, image.high))
    most = np.iinfo(grey.dtype).max
    values = grey.ravel().astype(np.float32)
    mean = float(values.mean())
    values -= mean
    contrast = float(np.sqrt(values @ values / values.size))
    spacing = image.spacing_mm or (None, None)
    facts = image.facts
    return {
        "content": content,
        "pixels": hashlib.sha256(f"{plain.shape}{plain.dtype.str}".encode() + plain.tobytes()).hexdigest(),
        "thumbnail": _thumbnail(grey).tobytes(),
        "bytes": size,
        "format": facts.format,
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "channels": 1 if pixels.ndim == 2 else pixels.shape[2],
        "bits": facts.bits,
        "colour": has_colour(plain),
        "mode": facts.mode,
        "compression": facts.compression,
        "spacing_row_mm": spacing[0],
        "spacing_column_mm": spacing[1],
        "mean": round(mean / most, 6),
        "contrast": round(contrast / most, 6),
        "border": round(_border(grey), 6),
        "scanner": facts.scanner,
        "site": facts.site,
        "date": facts.date,
        "patient": facts.patient,
    }


def _without_repeats(pixels: np.ndarray) -> np.ndarray:
    """A grey film saved as RGB is the same picture as the film saved grey, and must have the same pixel hash."""
    if pixels.ndim == 3:
        # Neighbours in memory are compared, which is four times as fast as comparing channels; every third pair is two pixels.
        flat = pixels.reshape(-1)
        equal = flat[1:] == flat[:-1]
        equal[2::3] = True
        if equal.all():
            pixels = pixels[..., 0]
    return np.ascontiguousarray(pixels)


def _thumbnail(grey: np.ndarray) -> np.ndarray:
    """(THUMBNAIL_SIDE, THUMBNAIL_SIDE) uint8, stretched to the image's own range; zeros for one flat value."""
    small = resize(grey, THUMBNAIL_SIDE, THUMBNAIL_SIDE, fit="stretch").astype(np.float32)
    low, high = float(small.min()), float(small.max())
    if low == high:
        return np.zeros(small.shape, np.uint8)
    return np.rint((small - low) * (255 / (high - low))).astype(np.uint8)


def _border(grey: np.ndarray) -> float:
    """Share of the outermost ring of pixels that has the ring's most frequent value."""
    ring = np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])
    return float(np.bincount(ring).max() / ring.size)
