"""The pictures of a page: small JPEGs, each embedded once however often it is shown, and all within one budget."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from tabib.config import AnyData, SegmentationData
from tabib.dataset import Case, case_of, read_case, read_predicted, read_row_pixels, slice_image, telling_slice
from tabib.errors import ImageError
from tabib.images import THUMBNAIL_SIDE, Image, box_around, drawn_size, encode_jpeg, lay_heat, overlay, read_image, resize, to_eight_bit

__all__ = ["Gallery", "Overlay", "Picture", "outlined", "take_cases", "take_overlays", "take_pictures"]

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
    highest: float | None = None  # value of the map that is laid over the whole slice, 0 to 1


@dataclass(frozen=True)
class Gallery:
    """Every picture of a page, taken once for all languages."""

    rows: Mapping[int, Picture]  # by row of the index
    files: Mapping[Path, Picture]  # by file that the run itself wrote
    overlays: Mapping[Overlay, Picture] = field(default_factory=dict)


@dataclass(frozen=True)
class Overlay:
    """A slice of a case with the outlines of a mask, or under a map."""

    row: int
    slice: int  # counted from 1
    shows: Literal["truth", "prediction", "entropy"]  # the true outlines, the predicted ones, or where the answer is unsure


def take_overlays(
    data: SegmentationData, index: pl.DataFrame, wanted: Iterable[Overlay], masks: Mapping[int, Path]
) -> dict[Overlay, Picture]:
    """Take slices with the true and the predicted outlines, and under the map of the entropy, cut alike, until half of the budget is used up.

    `masks` are the predicted ones by row; the maps lie in `entropy` beside their folder, and where there are none none is taken. A
    case whose files cannot be read any more is left out.
    """
    of_row: dict[int, list[Overlay]] = {}
    for each in dict.fromkeys(each for each in wanted if each.row in masks):
        of_row.setdefault(each.row, []).append(each)
    taken: dict[Overlay, Picture] = {}
    used = 0
    for row, overlays in of_row.items():
        file = masks[row].parent.parent / "entropy" / masks[row].name
        try:
            truth = read_case(data, index["path"][row], index["mask"][row])
            said = case_of(data, truth.image, read_predicted(masks[row], truth.image))
            entropy = read_predicted(file, truth.image).voxels if file.exists() else None
        except (ImageError, OSError):
            continue
        around = truth.structures | said.structures
        for each in overlays:
            if each.shows != "entropy":
                taken[each] = _embed(outlined(truth if each.shows == "truth" else said, number=each.slice - 1, around=around))
            elif entropy is not None:
                taken[each] = _heated(said, entropy[each.slice - 1], number=each.slice - 1, around=around)
        used += sum(len(taken[each].address) for each in overlays if each in taken)
        if used > BUDGET_BYTES / 2:
            break
    return taken


def _heated(case: Case, values: np.ndarray, *, number: int, around: np.ndarray) -> Picture:
    """A slice under a map (H, W) uint8, cut as `outlined` cuts it."""
    pixels, box = _cut(case, number, around)
    height, width = drawn_size(pixels.shape[0], pixels.shape[1], LARGEST_SIDE)
    heat = resize(np.ascontiguousarray(values[box]), height, width) / np.float32(255)
    picture = _embed(lay_heat(resize(pixels, height, width), heat))
    return replace(picture, highest=float(values.max()) / 255)


def take_cases(wanted: Iterable[tuple[SegmentationData, str, str, int, Sequence[Path]]]) -> list[tuple[Picture, list[Picture]] | None]:
    """Take a slice (counted from 1) of each case with its true outlines, and with those of every mask, cut alike.

    A case is its data, path, true mask, slice and predicted masks. `None` stands for one whose files cannot be read any more.
    """
    taken: list[tuple[Picture, list[Picture]] | None] = []
    for data, path, mask, number, masks in wanted:
        try:
            truth = read_case(data, path, mask)
            said = [case_of(data, truth.image, read_predicted(each, truth.image)) for each in masks]
        except (ImageError, OSError):
            taken.append(None)
            continue
        around = np.any([case.structures > 0 for case in (truth, *said)], axis=0)
        first, *others = (_embed(outlined(case, number=number - 1, around=around), thin_lines=True) for case in (truth, *said))
        taken.append((first, others))
    return taken


def take_pictures(data: AnyData, index: pl.DataFrame, wanted: Iterable[int | tuple[Path, ...]]) -> Gallery:
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


def _pictures(data: AnyData, index: pl.DataFrame, wanted: int | tuple[Path, ...]) -> Iterator[tuple[int | Path, Picture]]:
    if isinstance(wanted, tuple):
        yield from ((path, _embed(_shrink(read_image(path)), thin_lines=isinstance(data, SegmentationData))) for path in wanted)
    elif (pixels := _row_pixels(data, index, wanted)) is not None:
        yield wanted, _embed(pixels, thin_lines=isinstance(data, SegmentationData))


def _row_pixels(data: AnyData, index: pl.DataFrame, row: int) -> np.ndarray | None:
    try:
        if isinstance(data, SegmentationData):
            return outlined(read_case(data, index["path"][row], index["mask"][row]))
        return _shrink(read_row_pixels(data, index, row))
    except (ImageError, OSError):
        thumbnail = index["thumbnail"][row]
        return None if thumbnail is None else np.frombuffer(thumbnail, np.uint8).reshape(THUMBNAIL_SIDE, THUMBNAIL_SIDE)


def outlined(case: Case, *, number: int | None = None, around: np.ndarray | None = None) -> np.ndarray:
    """A slice of a case with the outline of each structure, (H, W, 3) bytes of at most `LARGEST_SIDE` a side.

    It is cut to where the structures of the case are, with as much around them on either side as half of their own size.

    Args:
        case: image and mask.
        number: of the slice; the one that shows most of the structures when not given.
        around: (D, H, W), not 0 where the cut is to be made; the structures of the case when not given.
    """
    number = telling_slice(case) if number is None else number
    pixels, box = _cut(case, number, case.structures if around is None else around)
    objects = None if case.objects is None else case.objects[number][box]
    return overlay(pixels, case.structures[number][box], objects=objects, side=LARGEST_SIDE)


def _cut(case: Case, number: int, around: np.ndarray) -> tuple[np.ndarray, tuple[slice, slice]]:
    """What is shown of a slice, as bytes, and its rows and columns."""
    image, box = slice_image(case.image, number), box_around(around)
    return to_eight_bit(np.ascontiguousarray(image.pixels[box]), image.low, image.high), box


def _shrink(image: Image) -> np.ndarray:
    """Grey (H, W) or colour (H, W, 3) bytes, at most `LARGEST_SIDE` a side."""
    height, width = image.pixels.shape[:2]
    scale = min(1.0, LARGEST_SIDE / max(height, width))
    small = resize(image.pixels, max(1, round(height * scale)), max(1, round(width * scale)), fit="stretch")
    return to_eight_bit(small, image.low, image.high)


def _embed(pixels: np.ndarray, *, thin_lines: bool = False) -> Picture:
    code = base64.b64encode(encode_jpeg(pixels, QUALITY, thin_lines=thin_lines)).decode("ascii")
    return Picture(f"data:image/jpeg;base64,{code}", pixels.shape[0], pixels.shape[1])
