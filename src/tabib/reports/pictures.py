"""The pictures of a report: small JPEGs, each embedded once however often it is shown."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from tabib.config import Data
from tabib.dataset import read_row_pixels
from tabib.errors import ImageError
from tabib.images import THUMBNAIL_SIDE, Image, encode_jpeg, read_image, resize, to_eight_bit

__all__ = ["Picture", "take_files", "take_pictures"]

LARGEST_SIDE = 160
QUALITY = 80
BUDGET_BYTES = 10_000_000
"""Of the base64 of a report's pictures of index rows, so that the page stays below 15 MB."""


@dataclass(frozen=True)
class Picture:
    """One picture to embed."""

    address: str  # data:image/jpeg;base64,...
    height: int
    width: int


def take_pictures(data: Data, index: pl.DataFrame, rows: Iterable[int]) -> dict[int, Picture]:
    """Small pictures of rows of the index, in the order asked for, until the budget is used up.

    A picture whose file has gone is drawn from the index's thumbnail.
    """
    pictures: dict[int, Picture] = {}
    used = 0
    for row in dict.fromkeys(rows):
        pixels = _row_pixels(data, index, row)
        if pixels is None:
            continue
        picture = _embed(pixels)
        used += len(picture.address)
        if used > BUDGET_BYTES:
            break
        pictures[row] = picture
    return pictures


def take_files(files: Iterable[Path]) -> dict[Path, Picture]:
    """Small pictures of files that the run itself wrote."""
    return {path: _embed(_shrink(read_image(path))) for path in files}


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
