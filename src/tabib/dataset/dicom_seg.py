"""Trees of DICOM files in which segmentation objects say what is where on the series that they refer to.

What a header calls a patient, a study or a series leaves this room in no row and no message, as in `dicom.py`.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from tabib.config import SegmentationData
from tabib.dataset.listing import WITHOUT_IMAGE, WITHOUT_MASKS, Listed, list_files
from tabib.engines import Crashed, map_in_processes
from tabib.errors import DataError, ImageError
from tabib.images import (
    NO_PICTURE,
    DicomHeader,
    SegmentationHeader,
    Volume,
    find_series,
    identify_dicom,
    identify_segmentation,
    read_dicom_seg,
)
from tabib.progress import SILENT, Progress

__all__ = ["list_dicom_seg", "names_of_segments", "read_segments"]

DRAWING = """Expected DICOM files of any names, in any folders: series of pictures, and segmentation objects (modality SEG) that refer to them:
    {folder}/patient1/series3/IM0001 ... IM0120
    {folder}/patient1/masks.dcm"""


@dataclass(frozen=True)
class _Mask:
    """A segmentation object and the pictures of the series that it refers to."""

    folder: Path
    header: SegmentationHeader
    pictures: list[str]
    alone: str | None  # folder in and below which there are no other pictures


def list_dicom_seg(data: SegmentationData, *, workers: int | None = None, progress: Progress = SILENT) -> list[Listed]:
    """List the volumes that a segmentation object refers to, each with it; only headers are read.

    Raises:
        DataError: no segmentation object below the folder.
    """
    found = list_files(data.folder)
    listed = [entry for entry in found if entry.refused]
    paths = [entry.path for entry in found if not entry.refused]
    headers = map_in_processes(_header, [data.folder / path for path in paths], workers=workers, progress=progress, name="headers")
    series: dict[str, list[str]] = defaultdict(list)
    of_slice: dict[str, str] = {}  # series by instance
    masks: dict[str, SegmentationHeader] = {}
    for path, header in zip(paths, headers, strict=True):
        if isinstance(header, Crashed):
            listed.append(Listed(path, refused=f"reading the header crashed: {header.reason}"))
        elif isinstance(header, SegmentationHeader):
            masks[path] = header
        elif header.refused:
            listed.append(Listed(path, refused=header.refused))
        else:
            uid = header.identifiers.get("SeriesInstanceUID", "")
            series[uid].append(path)
            of_slice[header.identifiers.get("SOPInstanceUID", "")] = uid
    if not masks:
        raise DataError(
            f"{data.folder} holds {len(of_slice):,} DICOM pictures and no segmentation object.\n{DRAWING.format(folder=data.folder)}"
        )
    referred = {
        path: sorted({*header.series, *(of_slice.get(slice_, "") for slice_, _ in header.slices)} & series.keys())
        for path, header in masks.items()
    }
    asked = []
    for path, header in masks.items():
        pictures = sorted(chain.from_iterable(series[uid] for uid in referred[path]))
        asked.append(_Mask(data.folder, header, pictures, _alone(pictures, series)))
    volumes: dict[str, list[str]] = defaultdict(list)
    for path, answer in zip(masks, map_in_processes(_volume, asked, workers=workers, progress=progress, name="series"), strict=True):
        if isinstance(answer, Crashed) or not answer[0]:
            listed.append(
                Listed(path, refused=f"reading its series crashed: {answer.reason}" if isinstance(answer, Crashed) else answer[1])
            )
        else:
            volumes[answer[0]].append(path)
    for path, own in volumes.items():
        refused = f"{len(own)} segmentation objects refer to it, {' and '.join(map(repr, own[:2]))}; keep the one that counts"
        listed.append(Listed(path, mask=own[0]) if len(own) == 1 else Listed(path, refused=refused))
    for uid in series.keys() - set(chain.from_iterable(referred.values())):
        reason = f"{WITHOUT_MASKS}: no segmentation object refers to this series (pictures: {len(series[uid])})"
        listed.append(Listed(min(series[uid]), refused=reason))
    return listed


def _header(path: Path) -> DicomHeader | SegmentationHeader:
    header = identify_dicom(path)
    if header.refused and header.refused.startswith(NO_PICTURE):
        try:
            return identify_segmentation(path) or header
        except ImageError as error:
            return DicomHeader(refused=str(error))
    return header


def _alone(pictures: Sequence[str], series: dict[str, list[str]]) -> str | None:
    """The folder that pictures have for themselves."""
    if not pictures or not (place := os.path.commonpath([os.path.dirname(path) for path in pictures])):
        return None
    below = sum(path.startswith(f"{place}/") for path in chain.from_iterable(series.values()))
    return place if below == len(pictures) else None


def _volume(asked: _Mask) -> tuple[str | None, str]:
    """The path of the volume that a segmentation object lies on, as `find_stack` reads it, or why there is none."""
    if not asked.pictures:
        return None, f"{WITHOUT_IMAGE}: the series that this segmentation object refers to is not below the folder"
    stacks, _ = find_series([asked.folder / path for path in asked.pictures])
    wanted = asked.header.slices
    hits = [
        (stack, time)
        for stack in stacks
        for time, slices in enumerate(stack.slices)
        if not wanted or any(one is not None and {(one.uid, None), (one.uid, one.frame)} & wanted for one in slices)
    ]
    if len(hits) != 1:
        return None, (
            f"is a segmentation object that refers to {len(hits)} stacks of slices or time points of its series, and a mask lies on one; "
            "export one for each"
        )
    stack, time = hits[0]
    times = len(stack.slices)
    moment = f"[{time}]" if times > 1 else ""
    if asked.alone is not None and len(stacks) == 1:
        return f"{asked.alone}{moment}", ""
    first = min(one.path for one in stack.slices[0] if one is not None)
    if any(one.path.parent != first.parent for slices in stack.slices for one in slices if one is not None):
        return (
            None,
            "is a segmentation object whose series lies in several folders together with other pictures; give it a folder of its own",
        )
    return f"{first.relative_to(asked.folder).as_posix()}{moment}", ""


# --- What its segments are ---


def read_segments(data: SegmentationData, mask: str, image: Volume) -> Volume:
    """Read a segmentation object as a mask of the numbers of the study.

    A segment is the structure whose name it bears, whatever its number. Where no segment bears the name of a structure, their
    numbers are those of the mask.

    Raises:
        ImageError: as of `read_dicom_seg`.
    """
    stored, names = read_dicom_seg(data.folder / mask, image)
    numbers = _by_name(data, names)
    if not numbers:
        return stored
    given = np.zeros(max(names) + 1, np.uint16)
    given[list(numbers)] = list(numbers.values())
    voxels = given[stored.voxels]
    voxels.flags.writeable = False
    return Volume(voxels, stored.affine, stored.spacing_mm, stored.facts)


def names_of_segments(data: SegmentationData, mask: str) -> tuple[dict[str, str], list[str]]:
    """Say which structures are taken by number alone, with the names of their segments, and which segments are left out by name."""
    header = identify_segmentation(data.folder / mask)
    assert header is not None
    numbers = _by_name(data, header.names)
    if numbers:
        return {}, sorted(name for number, name in header.names.items() if number not in numbers)
    structures = {number: name for name, given in data.labels.items() for number in ([given] if isinstance(given, int) else given)}
    return {structures[number]: name for number, name in header.names.items() if number in structures}, []


def _by_name(data: SegmentationData, names: dict[int, str]) -> dict[int, int]:
    """The number in the study of each segment that is called as a structure."""
    numbers = {_plain(name): given if isinstance(given, int) else given[0] for name, given in data.labels.items()}
    return {number: numbers[_plain(name)] for number, name in names.items() if _plain(name) in numbers}


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").split()).casefold()
