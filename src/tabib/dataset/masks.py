"""An image and its mask: what lies where, and what is said of both in a row of the index.

A mask lies on its image voxel by voxel. One of another shape, or whose values are no labels, is refused: nothing is resized,
rounded or moved to make it fit.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tabib.config import SegmentationData
from tabib.dataset.dicom_seg import names_of_segments, read_segments
from tabib.dataset.nnunet import files_of_image
from tabib.dataset.stacks import Stack, find_stack
from tabib.dataset.sunnybrook import outlines_of, read_outlines
from tabib.errors import ImageError
from tabib.images import (
    Image,
    Volume,
    apart_mm,
    check_values,
    content_box,
    glance,
    laid_on,
    read_channels,
    read_file,
    read_mask,
    read_volume,
    shown_sides,
)
from tabib.records import LABEL_SEPARATOR

__all__ = ["Case", "MaskFacts", "case_of", "glance_at_case", "read_case", "read_predicted", "slice_image", "telling_slice"]

_HIGHEST = 2**16 - 1  # of the numbers that a study can name
_ISLAND = 0.01  # of the largest piece: a speck, no part of the structure


@dataclass(frozen=True, eq=False)
class Case:
    """An image and what its mask says of every voxel."""

    image: Volume  # as measured
    structures: np.ndarray  # (D, H, W) uint8: 0 background, k the k-th of `data.structures`; all 0 where there is no mask
    objects: np.ndarray | None  # (D, H, W) int32: 0, and the objects from 1 on, of `data.instances`


@dataclass(frozen=True)
class MaskFacts:
    """How a mask lies and what its structures look like: the column `mask_facts` of the index."""

    moved_mm: float | None  # how far the geometry of its file is from that of the image; None where they agree or one says nothing
    slices: dict[str, int]  # by structure, where there is any of it: slices that show it
    islands: dict[str, int]  # specks of less than a hundredth of its largest piece; objects of several pieces
    holes: dict[str, int]  # places of a slice that it encloses; objects with such a place
    border: list[str]  # structures that touch the frame of a slice
    by_number: dict[str, str] = field(default_factory=dict)  # of a segmentation object: segments that their number alone makes a structure
    left_out: list[str] = field(default_factory=list)  # segments with names of no structure of the study, where others have such names
    without_value: float = 0.0  # share of the voxels of the image that are no numbers
    beyond: list[str] = field(default_factory=list)  # structures that reach beyond the content of the image (`images.content_box`)


def read_case(data: SegmentationData, path: str, mask: str | None) -> Case:
    """Read an image and its mask.

    Numbers of the mask that the study does not name are background here; the index counts them.

    Args:
        data: folder, labels, `ignored` and `instances`.
        path: of the image, relative to the data folder, as in the index.
        mask: of the mask; without one no voxel has a structure.

    Raises:
        ImageError: one of the files cannot be read, or the mask does not lie on the image; the message names both files.
    """
    source = _find(data, path)
    image = source.read()
    return case_of(data, image, None if mask is None else _read_mask(data, path, mask, source, image))


@dataclass(frozen=True)
class _Files:
    """An image that is one file, or one for each of its channels."""

    files: list[Path]

    @property
    def faults(self) -> None:
        return

    def read(self) -> Volume:
        return read_volume(self.files[0]) if len(self.files) == 1 else read_channels(self.files)


def _find(data: SegmentationData, path: str) -> _Files | Stack:
    return find_stack(data.folder, path) if data.layout in ("sunnybrook", "dicom_seg") else _Files(files_of_image(data, path))


def _mask_files(data: SegmentationData, mask: str, source: _Files | Stack) -> list[Path]:
    return outlines_of(data, mask, source) if data.layout == "sunnybrook" and isinstance(source, Stack) else [data.folder / mask]


def _read_mask(data: SegmentationData, path: str, mask: str, source: _Files | Stack, image: Volume) -> Volume:
    try:
        if data.layout == "sunnybrook" and isinstance(source, Stack):
            stored = read_outlines(data, mask, source, image)
        elif data.layout == "dicom_seg":
            stored = read_segments(data, mask, image)
        else:
            stored = laid_on(read_mask(data.folder / mask), image)
    except ImageError as error:
        raise ImageError(f"the mask {mask!r} of {path!r} cannot be used: {error}") from None
    of_mask, of_image = stored.voxels.shape, image.voxels.shape[:3]
    if of_mask != of_image:
        raise ImageError(
            f"the mask {mask!r} has {shown_sides(of_mask)}, and the image {path!r} {shown_sides(of_image)}: a mask must lie on its image voxel by "
            "voxel; export it again on the image that it was drawn on. Nothing is resized, as nobody knows which of the two was changed"
        )
    return stored


def read_predicted(path: Path, image: Volume) -> Volume:
    """Read a mask that was written for an image, in the order of the image's voxels.

    Raises:
        ImageError: it cannot be read, or is of another shape.
    """
    stored = laid_on(read_mask(path), image)
    if stored.voxels.shape != image.voxels.shape[:3]:
        raise ImageError(f"the prediction {path} has {shown_sides(stored.voxels.shape)}, and its image {shown_sides(image.voxels.shape)}")
    return stored


def case_of(data: SegmentationData, image: Volume, stored: Volume | None) -> Case:
    """Give the case of an image and of a mask as stored, which lies on it voxel by voxel; without one no voxel has a structure."""
    if stored is None:
        empty = np.zeros(image.voxels.shape[:3], np.uint8)
        return Case(image, empty, empty.astype(np.int32) if data.instances else None)
    labels = stored.voxels
    if data.instances:
        kept = np.where(np.isin(labels, data.ignored), 0, labels) if data.ignored else labels
        numbers, places = np.unique(kept, return_inverse=True)
        objects = (places.reshape(kept.shape) + (numbers[0] != 0)).astype(np.int32)
        return Case(image, (kept > 0).astype(np.uint8), objects)
    names = np.zeros(_HIGHEST + 1, np.uint8)
    for place, given in enumerate(data.labels.values(), start=1):
        names[given] = place
    return Case(image, names[np.where(labels <= _HIGHEST, labels, 0)], None)


# --- What is seen at a glance ---


def glance_at_case(item: tuple[SegmentationData, str, str | None]) -> list[dict[str, Any]]:
    """Read an image and its mask once and give the columns of their row of the index, as a list of one.

    Brightness and thumbnail are those of the middle slice, as a share of the range of the volume; the hash of the pixels is of
    all voxels. What cannot be read has the reason in `refused`.
    """
    data, path, mask = item
    seen: dict[str, Any] = {"mask": mask}
    try:
        source = _find(data, path)
        seen["stack_faults"] = source.faults
        files = [read_file(file) for file in source.files]
        seen["bytes"] = sum(map(len, files))
        files += [] if mask is None else [read_file(file) for file in _mask_files(data, mask, source)]
        digests = [hashlib.sha256(file).hexdigest() for file in files]
        seen["content"] = digests[0] if len(digests) == 1 else hashlib.sha256("+".join(digests).encode()).hexdigest()
        del files
        image = source.read()
        check_values(image, path)
        stored = None if mask is None else _read_mask(data, path, mask, source, image)
    except ImageError as error:
        return [seen | {"refused": str(error)}]
    row = glance(slice_image(image, len(image.voxels) // 2), seen["content"], seen["bytes"]) | seen
    row["slices"] = len(image.voxels)
    row["spacing_slice_mm"] = image.spacing_mm and image.spacing_mm[0]
    box = content_box(image.voxels)
    row |= {f"content_{side}": part.stop - part.start for side, part in zip(("slices", "height", "width"), box, strict=True)}
    if image.separate:
        row["channels"] = image.voxels.shape[3]
    if len(image.voxels) > 1 or image.separate:
        voxels = image.voxels
        row["pixels"] = hashlib.sha256(f"{voxels.shape}{voxels.dtype.str}".encode() + voxels.tobytes()).hexdigest()
    if stored is not None and mask is not None:
        row |= _mask_columns(data, mask, case_of(data, image, stored), stored, box)
    return [row]


def _mask_columns(data: SegmentationData, mask: str, case: Case, stored: Volume, box: tuple[slice, slice, slice]) -> dict[str, Any]:
    numbers, voxels = np.unique(stored.voxels, return_counts=True)
    found = {int(number): int(count) for number, count in zip(numbers, voxels, strict=True) if number}
    facts = _look(data, mask, case, stored, box)
    label = LABEL_SEPARATOR.join(sorted(facts.slices))
    return {"label": label, "structures": json.dumps(found), "mask_facts": json.dumps(asdict(facts), ensure_ascii=False)}


def _look(data: SegmentationData, mask: str, case: Case, stored: Volume, box: tuple[slice, slice, slice]) -> MaskFacts:
    names, structures = data.structures, case.structures
    slices = {name: count for place, name in enumerate(names, start=1) if (count := int((structures == place).any(axis=(1, 2)).sum()))}
    frame = np.concatenate([structures[:, edge].ravel() for edge in (0, -1)] + [structures[:, :, edge].ravel() for edge in (0, -1)])
    border = [names[place - 1] for place in np.unique(frame).tolist() if place]
    if case.objects is not None:
        islands, holes = ({names[0]: count} if count else {} for count in _faults_of_objects(case.objects))
    else:
        islands = {names[place - 1]: count for place, count in _islands(structures).items() if count}
        holes = {names[place - 1]: count for place, count in _holes(structures).items()}
    by_number, left_out = names_of_segments(data, mask) if data.layout == "dicom_seg" else ({}, [])
    voxels = case.image.voxels
    lost = sum(int(np.count_nonzero(~np.isfinite(each))) for each in voxels) if voxels.dtype.kind == "f" else 0
    inside = structures[box]
    beyond = [
        name for place, name in enumerate(names, start=1) if np.count_nonzero(structures == place) > np.count_nonzero(inside == place)
    ]
    return MaskFacts(apart_mm(case.image, stored), slices, islands, holes, border, by_number, left_out, lost / voxels.size, beyond)


def _islands(structures: np.ndarray) -> dict[int, int]:
    """Of each structure the specks that do not hang together with it, corners counted as touching."""
    from scipy import ndimage  # slower to import than all else that a worker of the index needs

    counts: dict[int, int] = {}
    for place, box in enumerate(ndimage.find_objects(structures), start=1):
        if box is not None:
            pieces, _ = _labelled(structures[box] == place, np.ones((3, 3, 3)))
            sizes = np.bincount(pieces.ravel())[1:]
            counts[place] = int((sizes < _ISLAND * sizes.max()).sum())
    return counts


def _holes(structures: np.ndarray) -> dict[int, int]:
    """Of each structure the parts of the background of a slice from which no way leads out of it."""
    from scipy import ndimage  # slower to import than all else that a worker of the index needs

    box = ndimage.find_objects((structures > 0).astype(np.uint8))
    if not box:
        return {}
    inside = np.pad(structures[box[0]], ((0, 0), (1, 1), (1, 1)))
    regions, _ = _labelled(inside == 0, IN_SLICE)
    enclosed = np.flatnonzero((regions > 0) & (regions != regions[:, :1, :1]))
    _, first = np.unique(regions.ravel()[enclosed], return_index=True)
    # What lies left of the first pixel of a hole is no background, or it would be the first pixel.
    around = inside.ravel()[enclosed[first] - 1]
    return {int(place): int(count) for place, count in zip(*np.unique(around, return_counts=True), strict=True)}


def _faults_of_objects(objects: np.ndarray) -> tuple[int, int]:
    """How many objects are of several pieces, and how many enclose something that is not of them."""
    from scipy import ndimage  # slower to import than all else that a worker of the index needs

    broken = hollow = 0
    for number, box in enumerate(ndimage.find_objects(objects), start=1):
        if box is not None:
            own = objects[box] == number
            broken += _labelled(own, np.ones((3, 3, 3)))[1] > 1
            outside = _labelled(np.pad(~own, ((0, 0), (1, 1), (1, 1)), constant_values=True), IN_SLICE)[1]
            hollow += outside > len(own)
    return broken, hollow


IN_SLICE = np.array([np.zeros((3, 3)), [[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.zeros((3, 3))])
"""Neighbours along rows and columns of one slice."""


def _labelled(mask: np.ndarray, neighbours: np.ndarray) -> tuple[np.ndarray, int]:
    from scipy import ndimage

    regions = np.empty(mask.shape, np.int32)
    return regions, int(ndimage.label(mask, neighbours, output=regions))  # pyright: ignore[reportArgumentType]


# --- As pictures ---


def slice_image(volume: Volume, number: int) -> Image:
    """Give a slice of a volume as a picture: 8 bits as they are, anything else from dark to bright of the volume.

    These are its 0.5 and 99.5 % quantiles, since a few bright voxels, as of blood that flows in, would leave all others dark. It is for the
    eye: networks see `input.intensity`.

    Of channels that are images of their own it is the first.
    """
    if volume.separate:
        volume = replace(volume, voxels=volume.voxels[..., 0], separate=False)
    spacing = volume.spacing_mm and volume.spacing_mm[1:]
    voxels = volume.voxels[number]
    if voxels.dtype == np.uint8:
        return Image(voxels, 0.0, 255.0, spacing, None, volume.facts)
    low, high = _dark_to_bright(volume.voxels)
    shares = np.nan_to_num((voxels.astype(np.float64) - low) / ((high - low) or 1.0), nan=0.0, posinf=1.0, neginf=0.0)
    return Image(np.rint(65535 * shares.clip(0, 1)).astype(np.uint16), 0.0, 65535.0, spacing, None, volume.facts)


def _dark_to_bright(voxels: np.ndarray) -> tuple[float, float]:
    """Between which values almost all of about a million voxels lie; where these are one value, the lowest and the highest of all."""
    step = math.ceil((voxels.size / 2**20) ** (1 / 3)) or 1
    low, high = np.quantile(_known(voxels[::step, ::step, ::step]), (0.005, 0.995), method="nearest")
    if low == high:
        known = _known(voxels)
        low, high = known.min(), known.max()
    return float(low), float(high)


def _known(voxels: np.ndarray) -> np.ndarray:
    """The values that are numbers; one 0 where there are none."""
    known = voxels[np.isfinite(voxels)] if voxels.dtype.kind == "f" else voxels
    return known if known.size else np.zeros(1)


def telling_slice(case: Case) -> int:
    """Give the slice that shows most of the structures; the middle one where no slice shows any."""
    shown = np.count_nonzero(case.structures, axis=(1, 2))
    return int(shown.argmax()) if shown.any() else len(shown) // 2
