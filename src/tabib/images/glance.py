"""What one glance at an image says of it: the facts that make a row of the index.

This is what runs in every worker process of an index, so nothing heavy is imported here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from tabib.errors import ImageError
from tabib.images.image import Image, has_colour, spread, to_grey
from tabib.images.quiet import quiet
from tabib.images.read import count_frames_in, read_file, read_image_bytes
from tabib.images.resize import reduce, resize

__all__ = ["MARK_PLACES", "THUMBNAIL_SIDE", "glance", "glance_at_file"]

THUMBNAIL_SIDE = 32
"""Side in pixels of the square grey thumbnail kept for every image (one byte a pixel)."""

MARK_PLACES = ("top_left", "top", "top_right", "left", "right", "bottom_left", "bottom", "bottom_right")
"""Where in the frame of a picture, its outermost eighth, something can be burnt in."""

_SCALE = 128  # most pixels of the shorter side at the scale that pictures are compared at, and half of it the least
_CLIPPED = 0.005  # of the nominal range: one of 255
_GRID = 8  # blocks a side
_LEGIBLE = 64  # pixels of the shorter side; in a smaller picture a letter is a pixel
_WHITE = 0.85  # of the brightest value: what is burnt in is drawn as white as white goes
_GROUND = 0.5  # of the brightest value, two pixels on: no body has such an edge to air, or its middle has it too
_MIDDLE = 0.002  # share of the middle that may be such an edge; where more is, sharp white is what the picture shows
_LEAST = 2  # pixels of a mark


def glance_at_file(file: tuple[Path, Sequence[int]]) -> list[dict[str, Any]]:
    """Read a file once and give the columns of the index row of each picture in it.

    Args:
        file: its path, and the frames that are asked for; without any, all of them.

    Returns:
        A row per frame; `frame` is its number, None where the file holds one picture and no number was asked for. What
        cannot be read has the reason in `refused`.
    """
    path, frames = file
    try:
        data = read_file(path)
    except ImageError as error:
        return [{"refused": str(error), "frame": frame} for frame in frames or (None,)]
    digest = hashlib.sha256(data).hexdigest()
    with quiet():  # once a file, for what it costs
        try:
            count = 1 if frames else count_frames_in(data, path.name)
        except ImageError as error:
            return [{"refused": str(error), "bytes": len(data), "content": digest, "frame": None}]
        return [_glance_at_frame(data, path.name, digest, frame) for frame in frames or (range(count) if count > 1 else (None,))]


def _glance_at_frame(data: bytes, name: str, digest: str, frame: int | None) -> dict[str, Any]:
    content = digest if frame is None else hashlib.sha256(f"{digest}[{frame}]".encode()).hexdigest()
    try:
        return {**glance(read_image_bytes(data, name, frame), content, len(data)), "frame": frame}
    except ImageError as error:
        return {"refused": str(error), "bytes": len(data), "content": content, "frame": frame}


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
    small = reduce(grey, -(-min(grey.shape) // _SCALE))
    digest = hashlib.sha256(f"{plain.shape}{plain.dtype.str}".encode())
    digest.update(plain.data)
    spacing = image.spacing_mm or (None, None)
    facts = image.facts
    return {
        "content": content,
        "pixels": digest.hexdigest(),
        "thumbnail": _thumbnail(small).tobytes(),
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
        "sharpness": _sharpness(small),
        "black": round(np.count_nonzero(small <= int(_CLIPPED * most)) / small.size, 6),
        "white": round(np.count_nonzero(small >= most - int(_CLIPPED * most)) / small.size, 6),
        "marks": " ".join(_marks(small)),
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
        if all(_repeats(flat[start : start + _TWO_PIXELS.size + 1]) for start in range(0, flat.size, _TWO_PIXELS.size)):
            pixels = pixels[..., 0]
    return np.ascontiguousarray(pixels)


def _repeats(samples: np.ndarray) -> bool:
    """Whether the channels of every pixel are equal; `samples` (n,) begins with the first channel of one."""
    equal = samples[1:] == samples[:-1]
    equal |= _TWO_PIXELS[: equal.size]
    return bool(equal.all())


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


def _sharpness(small: np.ndarray) -> float | None:
    """Deviation of the Laplacian (Pech-Pacheco et al. 2000) over that of the picture, so that contrast does not count; None for one flat value.

    All sums are of whole numbers, so no machine's arithmetic shows in the last digit.
    """
    if min(small.shape) < 3:
        return None
    values = small.astype(np.float64).ravel()
    variance = (small.size * int(values @ values) - int(small.sum()) ** 2) / small.size**2
    if variance <= 0:
        return None
    signed = np.int16 if small.dtype == np.uint8 else np.int32
    rows = small[1:-1:2].astype(signed)  # every second row says as much, in half the time
    beside = small[::2].astype(signed)  # the rows above and below those
    inside = 4 * rows
    inside -= beside[: len(rows)]
    inside -= beside[1 : len(rows) + 1]
    # Neighbours in memory are faster than slices of rows; what this makes of the first and the last column is cut off.
    flat, along = inside.reshape(-1)[1:-1], rows.reshape(-1)
    flat -= along[:-2]
    flat -= along[2:]
    bends = inside[:, 1:-1].astype(np.float64).ravel()
    return round(math.sqrt(float(bends @ bends) / bends.size / variance), 6)


def _marks(small: np.ndarray) -> list[str]:
    """Where letters or plates are burnt into the frame, among `MARK_PLACES`: white that ends at once, as in the middle nothing does."""
    if min(small.shape) < _LEGIBLE:
        return []
    brightest = int(small.max())
    height, width = small.shape
    # With two columns more every neighbour is a step along memory, which is faster than slices of rows; they are no ground, being white.
    padded = np.empty((height, width + 2), small.dtype)
    padded[:, :width], padded[:, width:] = small, np.iinfo(small.dtype).max
    values = padded.ravel()
    dark = values <= int(_GROUND * brightest)  # whole numbers: numpy is slow with a fraction
    edge = np.zeros(values.size, bool)
    for step in (2, 2 * (width + 2)):
        edge[step:] |= dark[:-step]
        edge[:-step] |= dark[step:]
    edge &= values >= math.ceil(_WHITE * brightest)
    counts = np.bincount(_blocks(height, width)[np.flatnonzero(edge)], minlength=_GRID**2 + 1).tolist()
    if sum(_MIDDLE_BLOCKS(counts)) > _MIDDLE * small.size / 4:
        return []
    return [place for place, blocks in _PLACES.items() if max(blocks(counts)) >= _LEAST]


@lru_cache(maxsize=16)
def _blocks(height: int, width: int) -> np.ndarray:
    """(height x (width + 2),) the block of the grid that each pixel is in, one more for two columns more; a folder has few shapes."""
    rows, columns = (np.arange(side) * _GRID // side for side in (height, width))
    blocks = np.full((height, width + 2), _GRID**2, np.uint8)
    blocks[:, :width] = rows[:, None] * _GRID + columns
    return blocks.ravel()


def _places() -> dict[str, itemgetter[tuple[int, ...]]]:
    """Of counts by block those of the grid at each of `MARK_PLACES`; a corner is three blocks along either side."""
    names = np.full((_GRID, _GRID), "", dtype="U12")
    third, last = slice(0, 3), slice(_GRID - 3, _GRID)
    names[0], names[-1], names[:, 0], names[:, -1] = "top", "bottom", "left", "right"
    for vertical, down in (("top", third), ("bottom", last)):
        for horizontal, across in (("left", third), ("right", last)):
            corner = names[down, across]
            corner[corner != ""] = f"{vertical}_{horizontal}"
    return {place: itemgetter(*np.flatnonzero(names == place).tolist()) for place in MARK_PLACES}


_PLACES = _places()
_MIDDLE_BLOCKS = itemgetter(*(row * _GRID + column for row in range(2, _GRID - 2) for column in range(2, _GRID - 2)))
_TWO_PIXELS = np.arange(3 << 14) % 3 == 2
"""Of neighbours in memory, three channels a pixel: whether they lie in two pixels."""
