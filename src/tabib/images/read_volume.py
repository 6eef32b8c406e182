"""From a file to a `Volume`: of what was measured, or of the labels of a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tabib.errors import ImageError
from tabib.images.image import ImageFacts, choose_frame, shown_name
from tabib.images.raster import stored_labels
from tabib.images.read import count_frames_in, file_and_frame, format_of, open_file, read_file, read_image_bytes, understood
from tabib.images.scratch import scratch
from tabib.images.volume import Volume, check_voxels

if TYPE_CHECKING:
    from tabib.images.series import Fault, Series

__all__ = ["as_labels", "read_mask", "read_stack", "read_volume"]

MAX_LABEL = 2**32 - 1

_START = 1024  # bytes that tell formats apart


def read_volume(path: Path) -> Volume:
    """Read what was measured: a NIfTI volume, a DICOM series, the pages of a TIFF file as slices, or any one picture.

    Args:
        path: a file of any name, or a folder with the files of one DICOM series; what they hold decides how they are read.
            `heart.nii.gz[3]` is time point 3 of `heart.nii.gz`, unless there is a file of that very name. `find_series` tells more of
            DICOM files, and takes several series.

    Returns:
        The volume; of a picture that of `read_image`, as one slice.

    Raises:
        ImageError: the file cannot be read, is damaged or too large, holds several time points and the path names none, or says
            something of its geometry that cannot be.
    """
    path, number = file_and_frame(path)
    if path.is_dir():
        return _of_one_series(path, number)
    return _nifti(path, number) or _read(path, read_file(path), number)


def read_mask(path: Path) -> Volume:
    """Read the labels of a mask exactly as they are stored.

    The labels of a picture with a palette are the places in the palette, and those of 1, 2 or 4 bits begin at 0 and count by ones.

    Args:
        path: as of `read_volume`; any format that keeps values: PNG, TIFF, BMP, NIfTI, DICOM other than segmentation objects.

    Returns:
        A volume of uint8, uint16 or uint32 (D, H, W).

    Raises:
        ImageError: as of `read_volume`; and labels that are negative, not whole, more than 32 bits, or colours.
    """
    path, number = file_and_frame(path)
    volume = _nifti(path, number) or _labels(path, read_file(path), number)
    try:
        labels = as_labels(volume.voxels)
    except ImageError as error:
        raise ImageError(f"{shown_name(path)}: {error}") from None
    labels.flags.writeable = False
    return replace(volume, voxels=labels)


def as_labels(voxels: np.ndarray) -> np.ndarray:
    """Give labels (D, H, W) as the unsigned integers that hold them, of the same width where they are integers already.

    Raises:
        ImageError: labels that are negative, not whole, larger than 32 bits hold, or three different channels.
    """
    if voxels.ndim == 4:
        if (voxels != voxels[..., :1]).any():
            raise ImageError(
                "is a mask of three channels that differ, so its colours are no labels; save it as one channel of whole numbers, "
                "one for each structure"
            )
        voxels = voxels[..., 0]
    lowest, highest = voxels.min(), voxels.max()
    if voxels.dtype.kind == "f" and not (np.isfinite(lowest) and np.isfinite(highest) and (np.rint(voxels) == voxels).all()):
        found = voxels[~np.isfinite(voxels) | (np.rint(voxels) != voxels)][0]
        raise ImageError(
            f"is a mask with the value {found:g}, and labels are whole numbers; save the labels, not probabilities or a resized mask"
        )
    if lowest < 0 or highest > MAX_LABEL:
        found = lowest if lowest < 0 else highest
        raise ImageError(f"is a mask with the label {found:g}, and labels are whole numbers from 0 to {MAX_LABEL:,}; number them anew")
    if voxels.dtype.kind == "f" or voxels.itemsize > 4:
        return voxels.astype(np.min_scalar_type(int(highest)))
    return voxels.astype(f"u{voxels.itemsize}")


def _nifti(path: Path, number: int | None) -> Volume | None:
    """The volume of a NIfTI file, read piece by piece, as it may be larger than memory; None where the file is of another kind."""
    start = read_file(path, first=_START)
    kind = format_of(start)
    if kind is None or kind.name != "NIfTI":
        return None
    from tabib.images.nifti import read_nifti_volume

    with open_file(path) as file:
        return understood(start, path.name, lambda _: read_nifti_volume(file, number))


def _labels(path: Path, data: bytes, number: int | None) -> Volume:
    stored = understood(data, path.name, lambda kind: LABELS[kind.name](data, number) if kind.name in LABELS else None)
    if stored is None:
        return _read(path, data, number)
    return Volume(stored, None, None, ImageFacts(format=_kind(data, path.name), bits=8 * stored.itemsize, mode="labels"))


def _read(path: Path, data: bytes, number: int | None) -> Volume:
    """The volume of a file that is no NIfTI file."""
    if _kind(data, path.name) == "DICOM":
        return _of_one_series(path, number)
    volume = _slices(data, path.name, number)
    volume.voxels.flags.writeable = False
    return volume


def _of_one_series(path: Path, time: int | None) -> Volume:
    """The series that a DICOM file or a folder holds, if it is one and nothing is wrong with its place."""
    from tabib.images.series import find_series

    name = shown_name(path)
    series, refused = find_series(sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path])
    if not series:
        reason = next(iter(refused.values()), "holds no files")
        raise ImageError(reason if path.is_file() else f"{name}: is a folder without a DICOM picture (one file: {reason})")
    if len(series) > 1:
        shown = "; ".join(f"{len(one.slices[0])} slices of {one.shape[1]} x {one.shape[0]}" for one in series[:5])
        raise ImageError(
            f"{name}: holds {len(series)} DICOM series or stacks ({shown}), where one was expected; give each a folder of its own"
        )
    return read_stack(series[0], name, time=time)


def read_stack(series: Series, name: str, *, time: int | None = None) -> Volume:
    """Read one time point of a stack of slices, if nothing is wrong with its place.

    Args:
        series: one of `find_series`. That its files make other stacks too does not matter.
        name: what stands in messages.
        time: which time point, from 0; None where there is one only.

    Raises:
        ImageError: slices that do not make one volume, or as of `read_series`.
    """
    from tabib.images.series import read_series

    wrong = [fault for fault in series.faults if fault.code not in HARMLESS]
    if wrong:
        shown = "; ".join(_told(one) for one in wrong[:5])
        raise ImageError(
            f"{name}: is a DICOM series whose slices do not make one volume: {shown}; fetch what is missing, or take out what is too much"
        )
    try:
        return read_series(series, time)
    except ImageError as error:
        raise ImageError(str(error) if str(error).startswith(f"{name}: ") else f"{name}: {error}") from None


def _told(fault: Fault) -> str:
    """A fault in words, slices counted from 1 as in the findings."""
    counted = {name: fault.figures[name] + 1 for name in ("slice", "after") if name in fault.figures}
    return FAULTS[fault.code].format(**fault.figures | counted)


def _kind(data: bytes, name: str) -> str:
    return understood(data, name, lambda kind: kind.name)


def _slices(data: bytes, name: str, number: int | None) -> Volume:
    """The pictures of a file as slices, or the one that is asked for."""
    numbers = range(count_frames_in(data, name)) if number is None else [number]
    first = read_image_bytes(data, name, numbers[0])
    try:
        check_voxels(len(numbers), *first.pixels.shape[:2])
    except ImageError as error:
        raise ImageError(f"{shown_name(name)}: {error}") from None
    voxels = scratch((len(numbers), *first.pixels.shape), first.pixels.dtype)
    for place, one in enumerate(numbers):
        image = read_image_bytes(data, name, one)
        if image.pixels.shape != first.pixels.shape or image.pixels.dtype != first.pixels.dtype:
            raise ImageError(
                f"{shown_name(name)}: holds pictures of different sizes or types, {first.facts.mode} of {first.pixels.shape[1]} x "
                f"{first.pixels.shape[0]} pixels first and {image.facts.mode} of {image.pixels.shape[1]} x {image.pixels.shape[0]} as number "
                f"{one}, so they are no slices of one volume; save them as files of their own"
            )
        voxels[place] = image.pixels
    return Volume(voxels, None, first.spacing_mm and (None, *first.spacing_mm), first.facts)


def _raster_labels(data: bytes, number: int | None) -> np.ndarray | None:
    choose_frame(number, 1, "picture")
    labels = stored_labels(data)
    return None if labels is None else labels[None]


def _tiff_labels(data: bytes, number: int | None) -> np.ndarray | None:
    from tabib.images.tiff import tiff_labels

    return tiff_labels(data, number)


def _refuse_jpeg(data: bytes, number: int | None) -> None:
    raise ImageError("is a mask saved as JPEG, which changes the labels near every edge; save it anew as PNG from where it was drawn")


HARMLESS = ("slices_tilted", "phases_differ", "orientations_mixed", "sizes_mixed", "spacings_mixed")
"""Faults of a series with which a volume is what it says: the affine matrix has the tilt, a missing time point is refused when it is
asked for, and a stack that was chosen is one whatever else lies in its files."""

FAULTS = {
    "slice_missing": "after slice {after} lie {gap_mm:g} mm, and {spacing_mm:g} mm elsewhere (missing: {missing})",
    "slices_uneven": "slices lie {least_mm:g} to {most_mm:g} mm apart, most of them {spacing_mm:g} mm",
    "slice_doubled": "{copies} pictures claim the place of slice {slice} at one time",
    "slices_shifted": "slices lie up to {most_mm:g} mm beside the line of the others",
}
"""What is said of the faults with which a series makes no volume."""

LABELS: dict[str, Callable[[bytes, int | None], np.ndarray | None]] = {
    "BMP": _raster_labels,
    "JPEG": _refuse_jpeg,
    "PNG": _raster_labels,
    "TIFF": _tiff_labels,
}
"""What gives the labels that are stored where they are not the pixels that are shown; None where they are."""
