"""Decode once, of images with masks: every case on the grid that the network sees, in flat mapped files that all runs share.

    <folder>/<key>.npy          (voxels,) float16: case after case, each (C, D, H, W)
    <folder>/<key>.masks.npy    (voxels,) uint8: case after case, each (D, H, W), 0 background, k the k-th structure
    <folder>/<key>.json         what it was made from; written last

Training, validation and prediction all come through `prepare`, so a case is never prepared in two ways.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

import tabib.images
from tabib.config import SegmentationData, SegmentationInput
from tabib.dataset.cache import load_arrays, reserve, whole_or_nothing
from tabib.dataset.masks import read_case
from tabib.engines import Crashed, map_in_processes
from tabib.errors import DataError, ImageError
from tabib.images import Volume, compact, content_box, resample, resample_labels, scratch, slice_by_slice, to_grey
from tabib.progress import SILENT, Progress
from tabib.runs import write_json

__all__ = ["GEOMETRY", "CaseCache", "Grid", "build_cases", "prepare", "prepared_shape", "prepared_shapes", "seen_box"]


GEOMETRY = ("slices", "height", "width", "spacing_slice_mm", "spacing_row_mm", "spacing_column_mm")
"""Columns of the index that say how many voxels an image has, and of what size."""

_CONTENT = ("content_slices", "content_height", "content_width", *GEOMETRY[3:])
"""The same of the box that holds all but the background."""


class Grid(NamedTuple):
    """How a network sees an image: everything but the patch."""

    dimensions: int
    spacing_mm: tuple[float, ...] | None  # rows and columns, or slices, rows and columns; None keeps what is there
    channels: int
    intensity: Literal["zscore", "percentile", "unit", "ct_window"]
    window: tuple[float, float] | None
    separate: bool = False  # whether channels are files of their own
    crop: Literal["content"] | None = None

    @classmethod
    def of(cls, input: SegmentationInput) -> Grid:
        """The grid of a resolved study."""
        assert input.spacing_mm != "auto"
        spacing = None if input.spacing_mm == "keep" else tuple(input.spacing_mm)
        window = None if input.window is None else (input.window[0], input.window[1])
        return cls(
            input.dimensions, spacing, input.channel_count, input.intensity, window, separate=bool(input.channel_names), crop=input.crop
        )


@dataclass(frozen=True)
class CaseCache:
    """The prepared cases of an index."""

    key: str
    images: np.ndarray  # (voxels,) float16, mapped
    masks: np.ndarray  # (voxels,) uint8, mapped
    channels: int
    separate: bool  # whether each is an image of its own, on its own scale
    rows: dict[int, int]  # row of the index: place of the case
    shapes: list[tuple[int, int, int]]  # slices, rows, columns of each case
    starts: np.ndarray  # (N + 1,) int64, in voxels of one channel

    def image(self, row: int) -> np.ndarray:
        """The image of a row, (C, D, H, W) float16."""
        place = self.rows[row]
        first, last = self.channels * self.starts[place], self.channels * self.starts[place + 1]
        return self.images[first:last].reshape(self.channels, *self.shapes[place])

    def mask(self, row: int) -> np.ndarray:
        """The mask of a row, (D, H, W) uint8."""
        place = self.rows[row]
        return self.masks[self.starts[place] : self.starts[place + 1]].reshape(self.shapes[place])


def prepared_shape(shape: Sequence[int], spacing_mm: Sequence[float | None], grid: Grid) -> tuple[int, int, int]:
    """Slices, rows and columns of an image on the grid of the network; sides whose spacing nobody says stay."""
    wanted = (None,) * (3 - len(grid.spacing_mm or ())) + (grid.spacing_mm or ())
    sides = (
        side if given is None or want is None else max(1, round(side * given / want))
        for side, given, want in zip(shape, spacing_mm, wanted, strict=True)
    )
    slices, rows, columns = sides
    return slices, rows, columns


def prepared_shapes(rows: pl.DataFrame, grid: Grid) -> list[tuple[int, int, int]]:
    """Slices, rows and columns, on the grid of the network, of images of the index that can be used."""
    return [prepared_shape(row[:3], row[3:], grid) for row in rows.select(_CONTENT if grid.crop else GEOMETRY).iter_rows()]


def seen_box(image: Volume, grid: Grid) -> tuple[slice, slice, slice]:
    """Which slices, rows and columns of an image the network sees."""
    depth, height, width = image.voxels.shape[:3]
    return content_box(image.voxels) if grid.crop else (slice(0, depth), slice(0, height), slice(0, width))


def prepare(image: Volume, grid: Grid) -> np.ndarray:
    """An image as a network sees it, (C, D, H, W) float16: cropped, its values scaled, then brought to the grid.

    `zscore` is mean 0 and standard deviation 1 of what is seen, `percentile` its 0.5th to 99.5th percentile to 0..1, `unit` the
    range of its type (of other numbers, its own) to 0..1, `ct_window` the window to 0..1. Values outside are cut off but by `zscore`,
    which cuts at 10 deviations. What is no number is the lowest value that is one. Of channels that are images of their own each is scaled by itself.

    Raises:
        ImageError: an image without the channels that the grid has, each an image of its own.
    """
    voxels = image.voxels[seen_box(image, grid)]
    if image.separate != grid.separate or (grid.separate and voxels.shape[3] != grid.channels):
        found, seen = (
            f"{count} channels with a file for each" if many else "one file"
            for count, many in ((voxels.shape[-1], image.separate), (grid.channels, grid.separate))
        )
        raise ImageError(f"is an image of {found}, and the network sees images of {seen}")
    if voxels.ndim == 4 and grid.channels == 1:
        voxels = slice_by_slice(to_grey, voxels, dtype=voxels.dtype)
    values = scratch((*voxels.shape, 1)[:4], np.float32)
    values[...] = voxels.reshape(values.shape)
    for part in np.moveaxis(values, 3, 0) if grid.separate else [values]:
        _scale(part, voxels.dtype, grid)
    if values.shape[3] != grid.channels:
        values = np.broadcast_to(values, (*values.shape[:3], grid.channels))
    spacing = image.spacing_mm or (None, None, None)
    depth, height, width = values.shape[:3]
    shape = prepared_shape((depth, height, width), spacing, grid)
    return compact(resample(np.moveaxis(values, 3, 0), shape), np.float16)


def _scale(values: np.ndarray, stored: np.dtype, grid: Grid) -> None:
    """Scale values where they stand, as nothing of their size is made besides but in a file."""
    if stored.kind == "f":
        _fill_lost(values)
    if grid.intensity == "zscore":
        values -= values.mean()
        squares = np.multiply(values, values, out=scratch(values.shape, np.float32))
        values /= float(np.sqrt(squares.mean())) or 1.0
        np.clip(values, -10, 10, out=values)
        return
    if grid.intensity == "ct_window":
        assert grid.window is not None
        low, high = grid.window
    elif grid.intensity == "percentile":
        ordered = scratch(values.shape, np.float32)
        ordered[...] = values
        low, high = (float(value) for value in np.percentile(ordered.reshape(-1), [0.5, 99.5], overwrite_input=True))
    elif stored.kind == "u" and stored.itemsize <= 2:
        low, high = 0.0, float(np.iinfo(stored).max)
    else:
        low, high = float(values.min()), float(values.max())
    values -= low
    values /= (high - low) or 1.0
    np.clip(values, 0, 1, out=values)


def _fill_lost(values: np.ndarray) -> None:
    """Give what is no number the lowest value that is one."""
    lowest = min((float(each[known].min()) for each in values if (known := np.isfinite(each)).any()), default=0.0)
    for each in values:
        each[~np.isfinite(each)] = lowest


def build_cases(
    data: SegmentationData,
    index: pl.DataFrame,
    input: SegmentationInput,
    *,
    folder: Path,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> CaseCache:
    """Prepare every usable case of the index that has a mask, unless the folder has them already.

    Args:
        data: where the files lie, and what the numbers of the masks are.
        index: INDEX_SCHEMA.
        input: resolved.
        folder: the cache folder.
        workers: processes that decode; the machine's cores when not given.
        progress: told of each case.

    Raises:
        DataError: a file that could be read when it was indexed no longer can.
        RunError: the disk is full or cannot be written; nothing half-written stays.
    """
    grid = Grid.of(input)
    usable = index.filter(pl.col("refused").is_null() & pl.col("mask").is_not_null())
    shapes = prepared_shapes(usable, grid)
    starts = np.concatenate([[0], np.cumsum([depth * height * width for depth, height, width in shapes], dtype=np.int64)])
    key = _key(usable, data, grid)
    stem = folder / key
    arrays = load_arrays(stem, beside="masks")
    if arrays is None:
        with whole_or_nothing(folder / f"{key}.npy") as images, whole_or_nothing(folder / f"{key}.masks.npy") as masks:
            reserve(images, (grid.channels * int(starts[-1]),), np.dtype(np.float16))
            reserve(masks, (int(starts[-1]),), np.dtype(np.uint8))
            store = partial(_store, data=data, grid=grid, images=images, masks=masks)
            items = list(zip(usable["path"], usable["mask"], starts[:-1].tolist(), shapes, strict=True))
            for path, failure in zip(
                usable["path"], map_in_processes(store, items, workers=workers, progress=progress, name="decode"), strict=True
            ):
                if failure is not None:
                    reason = failure.reason if isinstance(failure, Crashed) else failure
                    raise DataError(
                        f"{path} could be read when it was indexed, and now cannot: {reason}. Start again to index the folder anew."
                    )
        write_json(stem.with_suffix(".json"), {"images": len(usable), "shapes": shapes, "grid": grid, "folder": str(data.folder)})
        arrays = load_arrays(stem, beside="masks")
    assert arrays is not None
    rows = {row: place for place, row in enumerate(usable["row"].to_list())}
    return CaseCache(key, *arrays, channels=grid.channels, separate=grid.separate, rows=rows, shapes=shapes, starts=starts)


def _key(usable: pl.DataFrame, data: SegmentationData, grid: Grid) -> str:
    """What the arrays are made from: the files, what the numbers of the masks mean, the grid and the code."""
    digest = hashlib.sha256(json.dumps([grid, data.labels, data.ignored, data.instances]).encode())
    for content in usable["content"]:
        digest.update(bytes.fromhex(content))
    room = Path(__file__).parent
    for file in [room / "cases.py", room / "masks.py", *sorted(Path(str(tabib.images.__file__)).parent.glob("*.py"))]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


def _store(
    item: tuple[str, str, int, tuple[int, int, int]], *, data: SegmentationData, grid: Grid, images: Path, masks: Path
) -> str | None:
    """Prepare one case into its place in the files; what went wrong, or None."""
    path, mask, start, shape = item
    try:
        case = read_case(data, path, mask)
        prepared = prepare(case.image, grid)
    except ImageError as error:
        return str(error)
    if prepared.shape[1:] != shape:
        return f"it has {case.image.voxels.shape} voxels of {case.image.spacing_mm} mm, and had others"
    size = shape[0] * shape[1] * shape[2]
    np.load(images, mmap_mode="r+")[grid.channels * start : grid.channels * (start + size)] = prepared.ravel()
    structures = resample_labels(case.structures[seen_box(case.image, grid)], shape, count=len(data.labels) + 1)
    np.load(masks, mmap_mode="r+")[start : start + size] = structures.ravel()
    return None
