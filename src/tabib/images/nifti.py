"""NIfTI-1 and NIfTI-2 files, plain or in gzip, slice by slice; the header and its geometry by nibabel."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.orientations import io_orientation

from tabib.errors import ImageError
from tabib.images.image import MAX_BYTES, Image, ImageFacts, check_size, choose_frame
from tabib.images.raster import on_black

__all__ = ["count_nifti_slices", "read_nifti"]

HEADER_BYTES = 544  # of NIfTI-2, the longer one
PACKED = b"\x1f\x8b"  # how a gzip archive starts
COLOURS = {"RGB": 3, "RGBA": 4}
MILLIMETRES = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
MATRICES = range(3000, 3100)  # intent codes of CIFTI-2


def count_nifti_slices(data: bytes) -> int:
    """How many slices a file holds: the product of all sides but the first two."""
    return _open(data)[1][2]


def read_nifti(data: bytes, frame: int | None = None) -> Image:
    """Decode one slice of a NIfTI file of integers, floating-point numbers or RGB.

    Slices are numbered from 0 along the third axis, then the fourth and so on. One lies as on film where the header knows
    how it lies in the body: the patient's right on the left, the front or the head up. Where it does not, the first axis
    are the rows.

    Signed values are moved up so that they start at 0; with a negative slope the picture is inverted. `cal_min`..`cal_max`,
    the range that the header asks to be shown, is `low`..`high`; without it that is the range of the values of the whole
    volume, so that its slices can be compared, and of a single slice of 8 or 16-bit integers the range of their type. Wider
    integers and floating-point numbers become 16-bit shares of the range; what is not a number becomes black.
    """
    volume = _volume(data)
    header, slices = volume.header, volume.stored.shape[2]
    stored = volume.stored[:, :, choose_frame(frame, slices, "NIfTI volume")]
    kind = str(header.get_value_label("datatype"))
    rescale = _rescale(header)
    if kind in COLOURS:
        channels = np.ascontiguousarray(stored).view(np.uint8).reshape(*stored.shape, COLOURS[kind])
        pixels, bits, low, high, measured = on_black(channels) if kind == "RGBA" else channels, 8, 0.0, 255.0, None
    else:
        pixels, bits, low, high, measured = _grey(stored, volume.shown, rescale or (1.0, 0.0))
        measured = measured if rescale or not _narrow(stored.dtype) else None
    pixels, spacing, orientation = _as_on_film(pixels, header)
    compression = "gzip" if data.startswith(PACKED) else None
    facts = ImageFacts(format="NIfTI", bits=bits, mode=kind, compression=compression)
    return Image(np.ascontiguousarray(pixels), low, high, spacing, orientation, facts, measured)


@dataclass(frozen=True)
class _Volume:
    header: Nifti1Header
    stored: np.ndarray  # (rows, columns, slices), in the axes and the byte order of the file
    shown: tuple[float, float] | None  # measured values of black and white; None for the range of the type


@lru_cache(maxsize=1)
def _volume(data: bytes) -> _Volume:
    """The volume of a file. The last one is kept: its slices are asked for one after the other."""
    header, (height, width, slices) = _open(data)
    dtype, kind = header.get_data_dtype(), str(header.get_value_label("datatype"))
    if kind not in COLOURS and not (dtype.kind in "iuf" and dtype.itemsize <= 8):
        raise ImageError(f"is a NIfTI file of {kind} values, which are no picture; integers, floating-point numbers and RGB are read")
    start, size = int(header.get_data_offset()), height * width * slices * dtype.itemsize
    if size > MAX_BYTES:
        raise ImageError(f"is a NIfTI volume of {size:,} bytes, and at most {MAX_BYTES:,} are read; save its parts as files of their own")
    start = min(start, MAX_BYTES)
    content = _inflate(data, start + size) if data.startswith(PACKED) else data
    if start < 0 or len(content) < start + size:
        raise ImageError(
            f"is a NIfTI file cut short: its pixels should end at byte {start + size:,}, and it has {len(content):,}; copy it again"
        )
    stored = np.frombuffer(content, dtype, height * width * slices, start).reshape((height, width, slices), order="F")
    shown = _shown(header)
    if shown is None and kind not in COLOURS and (slices > 1 or not _narrow(dtype)):
        shown = _measured_range(stored, _rescale(header) or (1.0, 0.0))
    return _Volume(header, stored, shown)


def _open(data: bytes) -> tuple[Nifti1Header, tuple[int, int, int]]:
    """The header, and rows, columns and slices."""
    header = _header(_inflate(data, HEADER_BYTES) if data.startswith(PACKED) else data)
    shape = tuple(int(side) for side in header.get_data_shape())
    if int(header["intent_code"]) in MATRICES:
        raise ImageError("is a CIFTI matrix, which is no picture; take it out of the images")
    height, width, *more = (*shape, 1, 1)[: max(2, len(shape))]
    check_size(height, width)
    slices = int(np.prod(more))
    if slices < 1:
        raise ImageError(f"is a NIfTI volume of {' x '.join(map(str, shape))}, so there is no picture; export the file again")
    return header, (height, width, slices)


def _narrow(dtype: np.dtype) -> bool:
    """Whether values are kept as they are: integers of 8 or 16 bits."""
    return dtype.kind in "iu" and dtype.itemsize <= 2


def _measured_range(stored: np.ndarray, rescale: tuple[float, float]) -> tuple[float, float] | None:
    """The lowest and the highest measured value that is a number; None where there are no two."""
    finite = stored if stored.dtype.kind in "iu" else stored[np.isfinite(stored)]
    if not finite.size or finite.min() == finite.max():
        return None
    ends = sorted(float(value) * rescale[0] + rescale[1] for value in (finite.min(), finite.max()))
    return ends[0], ends[1]


def _inflate(data: bytes, size: int) -> bytes:
    """The first `size` bytes of what was packed: a small file can inflate to any size."""
    inflated = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data, size)
    if len(inflated) < min(size, 348):
        raise ImageError("holds a gzip archive that is damaged or cut short, or no NIfTI file; copy it again, or take out the image")
    return inflated


def _header(data: bytes) -> Nifti1Header:
    if data[344:347] == b"n+1":
        return Nifti1Header.from_fileobj(io.BytesIO(data[:348]), check=False)  # which would call a missing spacing 1 mm
    if data[4:7] == b"n+2":
        return Nifti2Header.from_fileobj(io.BytesIO(data[:540]), check=False)
    raise ImageError("holds a gzip archive of something else than a NIfTI file; take the image out of it")


def _grey(
    stored: np.ndarray, shown: tuple[float, float] | None, rescale: tuple[float, float]
) -> tuple[np.ndarray, int, float, float, tuple[float, float] | None]:
    """Pixels, bits, black, white, and how to get back what was measured."""
    slope, intercept = rescale
    stored = stored.astype(stored.dtype.newbyteorder("="))
    if not _narrow(stored.dtype):
        low, high = shown or (0.0, 1.0)  # of one value, or of none that is a number: there is nothing to be seen
        shares = (stored * slope + intercept - low) / (high - low)
        pixels = np.rint(np.nan_to_num(shares, nan=0.0).clip(0, 1) * 65535).astype(np.uint16)
        return pixels, 16, 0.0, 65535.0, ((high - low) / 65535, low)
    bits = 8 * stored.itemsize
    full, offset = 2**bits - 1, 2 ** (bits - 1) if stored.dtype.kind == "i" else 0
    pixels = stored.view(f"u{stored.itemsize}") ^ np.array(offset, f"u{stored.itemsize}")
    measured = (slope, intercept - slope * offset)
    if slope < 0:
        pixels, measured = full - pixels, (-slope, measured[1] + slope * full)
    low, high = ((edge - measured[1]) / measured[0] for edge in shown) if shown else (0.0, float(full))
    if high <= 0 or low >= full:
        low, high = 0.0, float(full)
    return pixels, bits, low, high, measured


def _rescale(header: Nifti1Header) -> tuple[float, float] | None:
    """Slope and intercept; None where the file says none."""
    slope, intercept = header.get_slope_inter()
    return (float(slope), float(intercept or 0)) if slope and np.isfinite(slope) else None


def _shown(header: Nifti1Header) -> tuple[float, float] | None:
    """The measured values of black and white, `cal_min` and `cal_max`; None where they say no range."""
    low, high = float(header["cal_min"]), float(header["cal_max"])
    return (low, high) if np.isfinite([low, high]).all() and low < high else None


def _as_on_film(pixels: np.ndarray, header: Nifti1Header) -> tuple[np.ndarray, tuple[float, float] | None, str | None]:
    """The pixels as they lie on film, millimetres between rows and between columns, and direction cosines as DICOM has them."""
    factor = MILLIMETRES.get(str(header.get_xyzt_units()[0]), 1.0)
    sides = np.abs(np.asarray(header["pixdim"][1:3], float)) * factor
    affine = np.asarray(header.get_best_affine(), float)
    known = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    axes = io_orientation(affine)[:2] if known and np.isfinite(affine).all() else np.full((2, 2), np.nan)
    orientation = None
    if np.isfinite(axes).all():
        sides = np.linalg.norm(affine[:3, :2], axis=0) * factor
        directions = affine[:3, :2] * factor / sides
        for axis in (0, 1):
            if axes[axis, 1] > 0:  # film runs to the left, the back and the feet, and NIfTI to the right, the front and the head
                pixels, directions[:, axis] = np.flip(pixels, axis), -directions[:, axis]
        if axes[0, 0] < axes[1, 0]:
            pixels, sides, directions = pixels.swapaxes(0, 1), sides[::-1], directions[:, ::-1]
        rows, columns = directions.T * (-1, -1, 1)  # DICOM counts to the left and to the back
        orientation = "\\".join(f"{value:g}" for value in np.round([*columns, *rows], 6) + 0.0)
    spacing = (float(sides[0]), float(sides[1])) if np.isfinite(sides).all() and (sides > 0).all() else None
    return pixels, spacing, orientation
