"""The pictures of a page: small JPEGs, each embedded once however often it is shown, and all within one budget."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from tabib.config import Data
from tabib.dataset import read_row_pixels
from tabib.errors import ImageError
from tabib.images import THUMBNAIL_SIDE, Image, encode_jpeg, read_image, resize, to_eight_bit

__all__ = ["Gallery", "Picture", "take_pictures"]

LARGEST_SIDE = 160
QUALITY = 80
BUDGET_BYTES = 8_000_000
"""Of the base64 of all pictures of a page, so that it stays below 15 MB: its tables and curves take up to 6 MB with 100 classes."""


@dataclass(frozen=True)
class Picture:
    """One picture to embed."""

    address: str  # data:image/jpeg;base64,...
    height: int
    width: int


@dataclass(frozen=True)
class Gallery:
    """Every picture of a page, taken once for all languages."""

    rows: Mapping[int, Picture]  # by row of the index
    files: Mapping[Path, Picture]  # by file that the run itself wrote


def take_pictures(data: Data, index: pl.DataFrame, wanted: Iterable[int | tuple[Path, ...]]) -> Gallery:
    """Take small pictures of rows of the index and of files, in the order asked for, until the budget is used up.

    Files of one tuple are shown side by side: all of them are taken, or none. A picture of a row whose file has gone is
    drawn from the index's thumbnail.
    """
    taken: dict[int | Path, Picture] = {}
    used = 0
    for each in dict.fromkeys(wanted):
        pictures = dict(_pictures(data, index, each))
        used += sum(len(picture.address) for picture in pictures.values())
        if used > BUDGET_BYTES:
            break
        taken |= pictures
    return Gallery(
        {row: picture for row, picture in taken.items() if isinstance(row, int)},
        {path: picture for path, picture in taken.items() if isinstance(path, Path)},
    )


def _pictures(data: Data, index: pl.DataFrame, wanted: int | tuple[Path, ...]) -> Iterator[tuple[int | Path, Picture]]:
    if isinstance(wanted, tuple):
        yield from ((path, _embed(_shrink(read_image(path)))) for path in wanted)
    elif (pixels := _row_pixels(data, index, wanted)) is not None:
        yield wanted, _embed(pixels)


def _row_pixels(data: Data, index: pl.DataFrame, row: int) -> np.ndarray | None:
    try:
        return _shrink(read_row_pixels(data, index, row))
    except (ImageError, OSError):
        thumbnail = index["thumbnail"][row]
        return None if thumbnail is None else np.frombuffer(thumbnail, np.uint8).reshape(THUMBNAIL_SIDE, THUMBNAIL_SIDE)


def _shrink(image: Image) -> np.ndarray:
    """Grey (H, W) or colour (H, W, 3) bytes, at most `LARGEST_SIDE` a side."""
    height, width = image.pixels.shape[:2]
    scale = min(1.0, LARGEST_SIDE / max(height, width))
    small = resize(image.pixels, max(1, round(height * scale)), max(1, round(width * scale)), fit="stretch")
    return to_eight_bit(small, image.low, image.high)


def _embed(pixels: np.ndarray) -> Picture:
    code = base64.b64encode(encode_jpeg(pixels, QUALITY)).decode("ascii")
    return Picture(f"data:image/jpeg;base64,{code}", pixels.shape[0], pixels.shape[1])
