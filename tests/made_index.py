"""An index of pictures that are in no file, for tests of what looks at indexes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import polars as pl
from scipy.ndimage import gaussian_filter

from places import REAL
from tabib.config import Data
from tabib.dataset import index_folder
from tabib.images import THUMBNAIL_SIDE, resize
from tabib.records import INDEX_SCHEMA


def film(seed: int, *, side: int = 64, alike: float = 1.0) -> np.ndarray:
    """(side, side) uint8: what all films share, times `alike`, and coarse and fine structure of its own."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    body = np.exp(-((np.abs(x) - 0.5) ** 2) / 0.05 - y**2 / 0.4)
    own = sum(side / 96 * scale * gaussian_filter(random.standard_normal((side, side)), scale * side / 96) for scale in (1.5, 3, 8))
    picture = alike * 2 * body + 0.5 * own
    low, high = picture.min(), picture.max()
    return np.rint(20 + 215 * (picture - low) / (high - low)).astype(np.uint8)


def make_index(
    pictures: Sequence[np.ndarray],
    *,
    labels: Sequence[str],
    paths: Sequence[str] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
) -> pl.DataFrame:
    """INDEX_SCHEMA of grey 8-bit pictures; `columns` replaces any column."""
    rows: dict[str, Sequence[Any]] = {name: [None] * len(pictures) for name in INDEX_SCHEMA}
    digests = [hashlib.sha256(f"{picture.shape}".encode() + picture.tobytes()).hexdigest() for picture in pictures]
    rows |= {
        "row": range(len(pictures)),
        "path": paths or [f"{label}/{number:04d}.png" for number, label in enumerate(labels)],
        "label": labels,
        "content": digests,
        "pixels": digests,
        "thumbnail": [thumbnail(picture) for picture in pictures],
        "bytes": [picture.size for picture in pictures],
        "format": ["PNG"] * len(pictures),
        "height": [picture.shape[0] for picture in pictures],
        "width": [picture.shape[1] for picture in pictures],
        "channels": [1] * len(pictures),
        "bits": [8] * len(pictures),
        "colour": [False] * len(pictures),
        "mode": ["L"] * len(pictures),
        "mean": [picture.mean() / 255 for picture in pictures],
        "contrast": [picture.std() / 255 for picture in pictures],
        "border": [0.1] * len(pictures),
    }
    return pl.DataFrame({**rows, **(columns or {})}, schema=INDEX_SCHEMA)


def thumbnail(picture: np.ndarray) -> bytes:
    small = resize(picture, THUMBNAIL_SIDE, THUMBNAIL_SIDE, fit="stretch").astype(np.float32)
    low, high = small.min(), small.max()
    return np.rint((small - low) * (255 / max(high - low, 1))).astype(np.uint8).tobytes()


@cache
def real_index(name: str, group: str | None = None) -> pl.DataFrame:
    """The index of real images in class folders, made once for all tests."""
    return index_folder(Data(folder=REAL / name, group=group), workers=1)
