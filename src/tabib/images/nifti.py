"""NIfTI-1 and NIfTI-2 files, plain or in gzip, as slices and as volumes; the header and its geometry by nibabel."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np
from nibabel.nifti1 import Nifti1Header, Nifti1Image
from nibabel.nifti2 import Nifti2Header
from nibabel.orientations import io_orientation

from tabib.errors import ImageError
from tabib.images.image import MAX_BYTES, Image, ImageFacts, check_size, choose_frame
from tabib.images.raster import on_black
from tabib.images.scratch import compact, scratch
from tabib.images.volume import Spacing, Volume, check_affine, check_voxels, rescaled, spacing_of

__all__ = ["count_nifti_slices", "nifti_like", "nifti_of", "read_nifti", "read_nifti_volume"]

HEADER_BYTES = 544  # of NIfTI-2, the longer one
PACKED = b"\x1f\x8b"  # how a gzip archive starts
PIECE = 2**20  # bytes that are read at a time
COLOURS = {"RGB": 3, "RGBA": 4}
MILLIMETRES = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
MATRICES = range(3000, 3100)  # intent codes of CIFTI-2


def count_nifti_slices(data: bytes) -> int:
    """How many slices a file holds: the product of all sides but the first two."""
    return _open(io.BytesIO(data))[1][2]


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
    return Image(np.ascontiguousarray(pixels), low, high, spacing, orientation, _facts(io.BytesIO(data), kind, bits), measured)


def read_nifti_volume(file: io.BufferedIOBase, time: int | None = None) -> Volume:
    """Decode the volume of an open NIfTI file, of one of several time points the one that is asked for, from 0.

    Slices are those of `read_nifti` and lie as it shows them. Values are rescaled (`scl_slope`, `scl_inter`) as nibabel does.

    Raises:
        ImageError: several time points and none asked for, a spacing or an affine matrix that gives voxels no place.
    """
    header, sides = _header_and_shape(file)
    shape, times = _sides_and_times(sides)
    check_voxels(*shape[2:], *shape[:2])
    if time is None and times > 1:
        raise ImageError(
            f"is a NIfTI file of {times:,} volumes of {' x '.join(map(str, shape))} voxels ({len(sides)} axes), where one of 3 axes was "
            f"expected; ask for one by its number, [0] to [{times - 1}] behind the name, or save it as a file of its own"
        )
    time = choose_frame(time, times, "NIfTI file")
    place = _place(header, shape)
    kind = str(header.get_value_label("datatype"))
    stored = _values(file, header, time * int(np.prod(shape)), shape)
    voxels = np.moveaxis((_lie(header) or _Lie()).laid(stored), 2, 0)
    if kind in COLOURS:
        channels = compact(voxels).view(np.uint8).reshape(*voxels.shape, COLOURS[kind])
        voxels = np.stack([on_black(slice_) for slice_ in channels]) if kind == "RGBA" else channels
    else:
        voxels = compact(voxels, voxels.dtype.newbyteorder("="))
        voxels = rescaled(voxels, *(_rescale(header) or (1.0, 0.0)))
    voxels.flags.writeable = False
    bits = 8 if kind in COLOURS else 8 * stored.itemsize
    return Volume(voxels, *place, _facts(file, kind, bits))


def nifti_like(mask: np.ndarray, source: io.BufferedIOBase) -> Iterator[bytes]:
    """Give the bytes, piece by piece, of a NIfTI file with the axes, the affine matrix and the codes of the file that a mask was made on, bit by bit.

    Args:
        mask: (D, H, W) unsigned integers of 8, 16 or 32 bits, or 32-bit floats, on the voxels of `read_nifti_volume(source)`.
        source: an open NIfTI file, plain or in gzip.
    """
    header, sides = _header_and_shape(source)
    shape, _ = _sides_and_times(sides)
    stored = (_lie(header) or _Lie()).lifted(np.moveaxis(mask, 0, 2))
    if stored.shape != shape:
        raise ValueError(f"a mask of {' x '.join(map(str, mask.shape))} voxels is not one of this file of {' x '.join(map(str, shape))}")
    header = header.copy()
    header.set_data_dtype(mask.dtype)
    kept = min(len(sides), 3)
    header["dim"] = [kept, *shape[:kept], *[1] * (7 - kept)]
    start = header.single_vox_offset
    header["vox_offset"], header["scl_slope"], header["scl_inter"] = start, 1, 0
    header["cal_min"], header["cal_max"], header["intent_code"] = 0, 0, 0
    return _bytes_of(header, stored, start)


def _bytes_of(header: Nifti1Header, stored: np.ndarray, start: int) -> Iterator[bytes]:
    """The header, and from a place on the values of (rows, columns, slices), a slice at a time."""
    block, dtype = header.binaryblock, header.get_data_dtype()
    slices = (slice_.T.astype(dtype).tobytes() for slice_ in np.moveaxis(stored, 2, 0))
    return chain([block + b"\0" * (start - len(block))], slices)


def _facts(file: io.BufferedIOBase, kind: str, bits: int) -> ImageFacts:
    return ImageFacts(format="NIfTI", bits=bits, mode=kind, compression="gzip" if _is_packed(file) else None)


def nifti_of(volume: Volume) -> Iterator[bytes]:
    """Give the bytes, piece by piece, of a NIfTI file of a volume that comes from no NIfTI file: columns, rows and slices are its axes."""
    affine = None if volume.affine is None else np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine[:, [2, 1, 0, 3]]
    stored = np.moveaxis(volume.voxels, (0, 1, 2), (2, 1, 0))
    if stored.ndim == 4:
        stored = np.ascontiguousarray(stored).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    image = Nifti1Image(stored, affine)
    if affine is not None:
        image.header.set_xyzt_units("mm")
        image.set_sform(affine, 1)  # of the scanner
        image.set_qform(affine, 1)
    elif volume.spacing_mm is not None:
        between, rows, columns = volume.spacing_mm
        image.header.set_xyzt_units("mm")
        image.header.set_zooms((columns, rows, between or 1.0))
    image.header.set_slope_inter(1, 0)
    start = image.header.single_vox_offset
    image.header["vox_offset"] = start
    return _bytes_of(image.header, stored, start)


@dataclass(frozen=True)
class _Lie:
    """How the first two axes of a file lie on film: first mirrored, then exchanged."""

    mirrored: tuple[bool, bool] = (False, False)
    turned: bool = False

    def laid(self, stored: np.ndarray) -> np.ndarray:
        shown = self._mirror(stored)
        return shown.swapaxes(0, 1) if self.turned else shown

    def lifted(self, shown: np.ndarray) -> np.ndarray:
        """The way back."""
        return self._mirror(shown.swapaxes(0, 1) if self.turned else shown)

    def _mirror(self, pixels: np.ndarray) -> np.ndarray:
        return pixels[tuple(slice(None, None, -1 if mirror else 1) for mirror in self.mirrored)]


def _lie(header: Nifti1Header) -> _Lie | None:
    """How slices lie on film; None where the header does not say how they lie in the body, and they stay as they are."""
    affine = _known_affine(header)
    if affine is None or not np.isfinite(affine).all():
        return None
    axes = io_orientation(affine)[:2]
    if not np.isfinite(axes).all():
        return None
    # Film runs to the left, the back and the feet, and NIfTI to the right, the front and the head.
    return _Lie((bool(axes[0, 1] > 0), bool(axes[1, 1] > 0)), bool(axes[0, 0] < axes[1, 0]))


def _known_affine(header: Nifti1Header) -> np.ndarray | None:
    """From (i, j, k, 1) of the file to mm right, front and head; None where the header does not know how it lies in the body."""
    if int(header["sform_code"]) <= 0 and int(header["qform_code"]) <= 0:
        return None
    return np.diag([*[_millimetres(header)] * 3, 1.0]) @ np.asarray(header.get_best_affine(), float)


def _millimetres(header: Nifti1Header) -> float:
    return MILLIMETRES.get(str(header.get_xyzt_units()[0]), 1.0)


def _place(header: Nifti1Header, shape: tuple[int, int, int]) -> tuple[np.ndarray | None, Spacing | None]:
    """The affine matrix and the spacing of a volume whose slices lie as on film; refused where they are of no use."""
    sides = np.asarray(header["pixdim"][1:4], float) * _millimetres(header)
    if int(header["sform_code"]) > 0:
        sides = np.abs(sides)  # its matrix alone says which way an axis runs
    given = np.isfinite(sides) & (sides > 0)
    if not given[np.array(shape) > 1].all() or (sides < 0).any():
        raise ImageError(
            f"is a NIfTI file of {' x '.join(map(str, shape))} voxels with a spacing of {', '.join(f'{side:g}' for side in sides)} mm, where "
            "positive numbers were expected; export it again, or set the spacing that its scanner had"
        )
    affine, lie = _known_affine(header), _lie(header) or _Lie()
    if affine is None:
        between, rows, columns = (float(side) if known else None for side, known in zip(sides[[2, 0, 1]], given[[2, 0, 1]], strict=True))
        return None, (between, rows, columns) if rows and columns else None
    check_affine(affine)
    to_file = np.zeros((4, 4))  # from (d, h, w, 1) to (i, j, k, 1)
    to_file[2, 0] = to_file[3, 3] = 1
    for axis, mirrored in enumerate(lie.mirrored):
        to_file[axis, 1 + (axis != lie.turned)] = -1 if mirrored else 1
        to_file[axis, 3] = shape[axis] - 1 if mirrored else 0
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine @ to_file  # DICOM counts to the left and to the back
    return affine, spacing_of(affine)


def _sides_and_times(sides: tuple[int, ...]) -> tuple[tuple[int, int, int], int]:
    """The first three sides of a file, and how many volumes it holds."""
    first, second, third, *more = (*sides, 1, 1, 1)[: max(3, len(sides))]
    return (first, second, third), int(np.prod(more, dtype=object))


@dataclass(frozen=True)
class _Volume:
    header: Nifti1Header
    stored: np.ndarray  # (rows, columns, slices), in the axes and the byte order of the file
    shown: tuple[float, float] | None  # measured values of black and white; None for the range of the type


@lru_cache(maxsize=1)
def _volume(data: bytes) -> _Volume:
    """The volume of a file. The last one is kept: its slices are asked for one after the other."""
    file = io.BytesIO(data)
    header, (height, width, slices) = _open(file)
    dtype, kind = header.get_data_dtype(), str(header.get_value_label("datatype"))
    stored = _values(file, header, 0, (height, width, slices))
    shown = _shown(header)
    if shown is None and kind not in COLOURS and (slices > 1 or not _narrow(dtype)):
        shown = _measured_range(stored, _rescale(header) or (1.0, 0.0))
    return _Volume(header, stored, shown)


def _values(file: io.BufferedIOBase, header: Nifti1Header, skipped: int, shape: tuple[int, ...]) -> np.ndarray:
    """So many stored values behind those skipped, as they lie in the file: the first axis runs fastest."""
    dtype, kind = header.get_data_dtype(), str(header.get_value_label("datatype"))
    if kind not in COLOURS and not (dtype.kind in "iuf" and dtype.itemsize <= 8):
        raise ImageError(f"is a NIfTI file of {kind} values, which are no picture; integers, floating-point numbers and RGB are read")
    count = int(np.prod(shape))
    size = (skipped + count) * dtype.itemsize
    if size > MAX_BYTES:
        raise ImageError(f"is a NIfTI volume of {size:,} bytes, and at most {MAX_BYTES:,} are read; save its parts as files of their own")
    start = min(int(header.get_data_offset()), MAX_BYTES)
    values = scratch((count,), dtype)
    into, have, source = values.view(np.uint8), 0, _unpacked(file)
    with suppress(EOFError):
        source.seek(max(0, start) + skipped * dtype.itemsize)
        while more := source.readinto(into[have : have + PIECE].data):
            have += more
    if start < 0 or have < len(into):
        raise ImageError(f"is a NIfTI file cut short: its pixels should end at byte {start + size:,}, and it ends before; copy it again")
    return values.reshape(shape, order="F")


def _open(file: io.BufferedIOBase) -> tuple[Nifti1Header, tuple[int, int, int]]:
    """The header, and rows, columns and slices."""
    header, shape = _header_and_shape(file)
    height, width, *more = (*shape, 1, 1)[: max(2, len(shape))]
    check_size(height, width)
    slices = int(np.prod(more))
    if slices < 1:
        raise ImageError(f"is a NIfTI volume of {' x '.join(map(str, shape))}, so there is no picture; export the file again")
    return header, (height, width, slices)


def _header_and_shape(file: io.BufferedIOBase) -> tuple[Nifti1Header, tuple[int, ...]]:
    start = b""
    with suppress(EOFError):
        start = _unpacked(file).read(HEADER_BYTES)
    if _is_packed(file) and len(start) < 348:
        raise ImageError("holds a gzip archive that is damaged or cut short, or no NIfTI file; copy it again, or take out the image")
    header = _header(start)
    if int(header["intent_code"]) in MATRICES:
        raise ImageError("is a CIFTI matrix, which is no picture; take it out of the images")
    return header, tuple(int(side) for side in header.get_data_shape())


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


def _is_packed(file: io.BufferedIOBase) -> bool:
    file.seek(0)
    return file.read(len(PACKED)) == PACKED


def _unpacked(file: io.BufferedIOBase) -> io.BufferedIOBase:
    """The file from its first byte on; what is packed is inflated no further than it is read, as a small file can inflate to any size."""
    packed = _is_packed(file)
    file.seek(0)
    return gzip.GzipFile(fileobj=file, mode="rb") if packed else file


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
    sides = np.abs(np.asarray(header["pixdim"][1:3], float)) * _millimetres(header)
    lie, affine = _lie(header), _known_affine(header)
    orientation = None
    if lie is not None and affine is not None:
        sides = np.linalg.norm(affine[:3, :2], axis=0)
        directions = affine[:3, :2] / sides * np.where(lie.mirrored, -1, 1)
        if lie.turned:
            sides, directions = sides[::-1], directions[:, ::-1]
        rows, columns = directions.T * (-1, -1, 1)  # DICOM counts to the left and to the back
        orientation = "\\".join(f"{value:g}" for value in np.round([*columns, *rows], 6) + 0.0)
    spacing = (float(sides[0]), float(sides[1])) if np.isfinite(sides).all() and (sides > 0).all() else None
    return (lie or _Lie()).laid(pixels), spacing, orientation
