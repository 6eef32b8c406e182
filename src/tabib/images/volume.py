"""What a stack of slices is once it has been read: voxels, where they lie in the body, and what cutting and resizing do to that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tabib.errors import ImageError
from tabib.images.image import ImageFacts
from tabib.images.scratch import compact, scratch

__all__ = [
    "MAX_VOXELS",
    "Spacing",
    "Volume",
    "affine_of_cut",
    "affine_of_resize",
    "apart_mm",
    "check_affine",
    "check_values",
    "check_voxels",
    "cut",
    "laid_on",
    "rescaled",
    "shown_sides",
    "spacing_of",
]

MAX_VOXELS = 2**28
"""Largest volume that is read, in voxels: 1,024 slices of 512 x 512, at 16 bits 512 MiB."""

_APART = 0.01  # of a voxel, over a whole volume: rounding in files is less

Spacing = tuple[float | None, float, float]
"""Millimetres between slices, rows and columns; None between slices where there is one only and its thickness is not said."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A stack of slices with its place in the body. A picture is a volume of one slice.

    Voxels are in the order slice, row, column, each slice as a viewer shows it. They are what was measured (the rescaling of
    DICOM and NIfTI is applied) and nothing is stretched, except that of DICOM's MONOCHROME1 more means brighter too.
    """

    voxels: np.ndarray  # (D, H, W) of any integer or floating-point type, or (D, H, W, C), RGB or `separate` channels; read-only
    affine: np.ndarray | None  # (4, 4) float64 from (d, h, w, 1) to mm left, back and up (LPS, as DICOM has them); None where not said
    spacing_mm: Spacing | None  # None where not said
    facts: ImageFacts
    separate: bool = False  # whether the channels are images of their own (sequences of MR), each on its own scale, and no colours


def apart_mm(one: Volume, other: Volume) -> float | None:
    """Say how far apart two volumes of one shape put the same voxels, in mm at the corner where it is most; None where they agree or one says nothing.

    Less than a hundredth of the smallest side of a voxel counts as agreeing: rounding moves an affine matrix by less.
    """
    if one.affine is None or other.affine is None or one.spacing_mm is None:
        return None
    last = np.array(one.voxels.shape[:3]) - 1
    corners = np.array([[*(last * corner), 1.0] for corner in np.ndindex(2, 2, 2)])
    distance = float(np.linalg.norm(corners @ (one.affine - other.affine).T, axis=1).max())
    smallest = min(side for side in one.spacing_mm if side is not None)
    return round(distance, 3) if distance > _APART * smallest else None


def laid_on(volume: Volume, other: Volume) -> Volume:
    """Turn and mirror a volume so that its voxels are in the order of another, where both are one grid with its axes in another order.

    Of any other two volumes, and where one says no geometry, the first comes back as it is.
    """
    if volume.affine is None or other.affine is None:
        return volume
    way = np.linalg.inv(other.affine) @ volume.affine  # from places of one to places of the other
    axes = np.abs(way[:3, :3]).argmax(1)
    signs = np.sign(way[np.arange(3), axes])
    first = np.where(signs < 0, np.array(other.voxels.shape[:3]) - 1, 0)
    exact = np.zeros((4, 4))
    exact[np.arange(3), axes], exact[:3, 3], exact[3, 3] = signs, first, 1
    last = np.array([*volume.voxels.shape[:3], 1.0])
    same = tuple(np.array(volume.voxels.shape[:3])[axes]) == other.voxels.shape[:3] and len({*axes.tolist()}) == 3
    if not same or (np.abs(way - exact) @ last > _APART).any() or np.array_equal(exact, np.eye(4)):
        return volume
    turned = volume.voxels.transpose(*axes, *range(3, volume.voxels.ndim))
    turned = turned[tuple(slice(None, None, -1) if sign < 0 else slice(None) for sign in signs)]
    return replace(volume, voxels=compact(turned), affine=other.affine, spacing_mm=other.spacing_mm)


def shown_sides(shape: Sequence[int]) -> str:
    """Give slices, rows and columns as a message says them, "192 x 256 pixels in 12 slices"; what follows in the shape is not looked at."""
    depth, height, width = shape[:3]
    return f"{width} x {height} pixels" + (f" in {depth} slices" if depth > 1 else "")


def check_voxels(*shape: int) -> None:
    """Refuse, before any memory is taken, a volume of no voxels or of more than `MAX_VOXELS`."""
    sides, voxels = " x ".join(f"{side:,}" for side in shape), int(np.prod(shape, dtype=object))
    if min(shape) < 1:
        raise ImageError(f"the header says {sides} voxels, so there is nothing to see; export the file again")
    if voxels > MAX_VOXELS:
        raise ImageError(
            f"the header says {sides} voxels, which are {voxels:,}, and at most {MAX_VOXELS:,} are read; cut the volume into parts or make "
            "it coarser, and if it should be small, the file is damaged"
        )


def check_affine(affine: np.ndarray) -> None:
    """Refuse an affine matrix that gives voxels no place or no size; a mirrored one (negative determinant) is a good one.

    Args:
        affine: (4, 4), mm.

    Raises:
        ImageError: a number is missing, or the three axes do not span a space.
    """
    if not np.isfinite(affine).all():
        raise ImageError(
            "has an affine matrix with values that are no numbers, so nobody knows where its voxels lie; export the file again"
        )
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    if (sides == 0).any() or abs(np.linalg.det(affine[:3, :3] / sides)) < 1e-4:  # two axes less than 0.006 degrees apart
        shown = ", ".join(f"{side:g}" for side in sides)
        raise ImageError(
            f"has a singular affine matrix: its axes, of {shown} mm, do not span a space, so a voxel has no size; "
            "export the file again, or set its spacing and orientation"
        )


def check_values(volume: Volume, name: str) -> None:
    """Refuse a volume in which no voxel has a value that is a number: `ImageError` with `name`."""
    if volume.voxels.dtype.kind == "f" and not any(np.isfinite(each).any() for each in volume.voxels):
        raise ImageError(f"{name} holds no value that is a number; export it again")


def rescaled(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Give `stored * slope + intercept`: whole numbers where both are and 32 bits hold them, 32-bit floating point otherwise.

    Args:
        stored: (H, W) or (D, H, W), of the byte order of this machine; returned as it is where nothing changes.
        slope: not 0.
        intercept: in the unit of what was measured.
    """
    if (slope, intercept) == (1, 0):
        return stored
    if stored.dtype.kind in "iu" and slope == int(slope) and intercept == int(intercept):
        ends = sorted(int(value) * int(slope) + int(intercept) for value in (stored.min(), stored.max()))
        for dtype in (np.int16, np.int32):
            if np.iinfo(dtype).min <= ends[0] and ends[1] <= np.iinfo(dtype).max:
                return _planes(stored, np.int64, int(slope), int(intercept), dtype)
    return _planes(stored, np.float64, slope, intercept, np.float32)


def _planes(stored: np.ndarray, wide: type, slope: float, intercept: float, dtype: type) -> np.ndarray:
    """One plane at a time, as the numbers between are of 64 bits."""
    measured = scratch(stored.shape, dtype)
    for plane, values in zip(measured, stored, strict=True):
        plane[...] = values.astype(wide) * slope + intercept
    return measured


def spacing_of(affine: np.ndarray) -> tuple[float, float, float]:
    """Give the spacing of slices, rows and columns in mm.

    Between slices it is the distance from plane to plane, so the product of the three is the size of a voxel where slices are
    tilted as well.

    Args:
        affine: (4, 4) from (d, h, w, 1) to mm.
    """
    between, rows, columns = affine[:3, :3].T
    normal = np.cross(rows, columns)
    distance = abs(between @ normal) / np.linalg.norm(normal)
    return float(distance), float(np.linalg.norm(rows)), float(np.linalg.norm(columns))


def cut(volume: Volume, start: tuple[int, int, int], shape: tuple[int, int, int], *, fill: float = 0) -> Volume:
    """Cut a box out of a volume; what lies beyond its edges is `fill`, so the same call widens it.

    `cut(cut(volume, start, shape), (-start[0], -start[1], -start[2]), volume.voxels.shape[:3])` is the volume again wherever it was
    not cut off.

    Args:
        volume: any volume.
        start: first slice, row and column of the box, in voxels of `volume`; negative before its edge.
        shape: sides of the box, at least 1.
        fill: value of what lies outside.
    """
    sides = volume.voxels.shape[:3]
    voxels = np.full((*shape, *volume.voxels.shape[3:]), fill, volume.voxels.dtype)
    first = [min(max(0, begin), side) for begin, side in zip(start, sides, strict=True)]
    last = [min(max(0, begin + size), side) for begin, size, side in zip(start, shape, sides, strict=True)]
    source = tuple(slice(*ends) for ends in zip(first, last, strict=True))
    target = tuple(slice(low - begin, high - begin) for low, high, begin in zip(first, last, start, strict=True))
    if all(low < high for low, high in zip(first, last, strict=True)):
        voxels[target] = volume.voxels[source]
    return replace(volume, voxels=voxels, affine=None if volume.affine is None else affine_of_cut(volume.affine, start))


def affine_of_cut(affine: np.ndarray, start: tuple[int, int, int]) -> np.ndarray:
    """Give the affine of a box that begins at voxel `start` (slice, row, column)."""
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ start
    return moved


def affine_of_resize(affine: np.ndarray, before: tuple[int, int, int], after: tuple[int, int, int]) -> np.ndarray:
    """Give the affine of a volume resized from `before` to `after` voxels (slices, rows, columns): its outer edges stay in place."""
    factors = np.divide(before, after)
    resized = affine.copy()
    resized[:3, :3] = affine[:3, :3] * factors
    resized[:3, 3] += affine[:3, :3] @ ((factors - 1) / 2)
    return resized
