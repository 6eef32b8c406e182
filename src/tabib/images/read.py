"""From a file to an `Image`, whatever its name says: the content decides."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

from tabib.errors import ImageError, RunError
from tabib.images.image import MAX_BYTES, Image, choose_frame, shown_name
from tabib.images.quiet import quiet
from tabib.images.raster import read_bmp, read_jpeg, read_png, read_webp

__all__ = [
    "FORMATS",
    "Format",
    "count_frames",
    "count_frames_in",
    "file_and_frame",
    "format_of",
    "name_and_frame",
    "open_file",
    "read_file",
    "read_image",
    "read_image_bytes",
    "understood",
]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Format:
    """One kind of file."""

    name: str
    marks: tuple[tuple[int, bytes], ...]  # where a mark stands, and the mark; one of them is enough
    read: Callable[[bytes, int | None, int | None], Image]  # the bytes, the frame that is asked for, and the least side that is enough
    count: Callable[[bytes], int]  # how many frames


def _read_dicom(data: bytes, frame: int | None, least: int | None) -> Image:
    from tabib.images.dicom import read_dicom  # pydicom takes longer to import than everything else here together

    return read_dicom(data, frame, least)


def _count_dicom(data: bytes) -> int:
    from tabib.images.dicom import count_dicom_frames

    return count_dicom_frames(data)


def _read_tiff(data: bytes, frame: int | None, least: int | None) -> Image:
    from tabib.images.tiff import read_tiff  # so does tifffile, and most folders hold neither

    return read_tiff(data, frame)


def _count_tiff(data: bytes) -> int:
    from tabib.images.tiff import count_tiff_pages

    return count_tiff_pages(data)


def _read_nifti(data: bytes, frame: int | None, least: int | None) -> Image:
    from tabib.images.nifti import read_nifti

    return read_nifti(data, frame)


def _count_nifti(data: bytes) -> int:
    from tabib.images.nifti import count_nifti_slices

    return count_nifti_slices(data)


def _one(name: str, mark: bytes, read: Callable[[bytes], Image], *, place: int = 0) -> Format:
    """A kind of file that holds one picture."""

    def read_one(data: bytes, frame: int | None, least: int | None) -> Image:
        choose_frame(frame, 1, name)
        return read(data)

    return Format(name, ((place, mark),), read_one, lambda data: 1)


def _read_jpeg(data: bytes, frame: int | None, least: int | None) -> Image:
    choose_frame(frame, 1, "JPEG")
    return read_jpeg(data, least)


FORMATS: tuple[Format, ...] = (  # DICOM comes first: its free preamble may look like a TIFF
    Format("DICOM", ((128, b"DICM"),), _read_dicom, _count_dicom),
    Format("JPEG", ((0, b"\xff\xd8\xff"),), _read_jpeg, lambda data: 1),
    _one("BMP", b"BM", read_bmp),
    _one("PNG", b"\x89PNG\r\n\x1a\n", read_png),
    Format("TIFF", ((0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+")), _read_tiff, _count_tiff),
    _one("WebP", b"WEBP", read_webp, place=8),
    Format("NIfTI", ((0, b"\x1f\x8b"), (344, b"n+1\0"), (4, b"n+2\0\r\n\x1a\n")), _read_nifti, _count_nifti),
)
"""What is read, in the order in which a file is tried."""

FOREIGN: tuple[tuple[int, bytes, str], ...] = (  # what else turns up in image folders: offset, mark, what it is
    (0, b"<!doctype", "a web page (HTML)"),
    (0, b"<html", "a web page (HTML)"),
    (0, b"<?xml", "an XML text"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"{", "a JSON text"),
    (0, b"gif8", "a GIF picture"),
    (4, b"ftypheic", "a HEIC picture"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"jp  ", "a JPEG 2000 picture"),
    (0, b"%pdf", "a PDF document"),
    (0, b"pk\x03\x04", "a ZIP archive"),
    (344, b"ni1\0", "the header of a NIfTI volume, whose pixels are in another file"),
    (0, b"cdf\x01", "a MINC volume"),
    (0, b"\x89hdf", "an HDF5 file (MINC 2, MATLAB)"),
    (0, b"# === data", "the header of a PAR/REC volume"),
    (0, b"version https://git-lfs", "a Git LFS pointer instead of the file it stands for"),
)


MAX_FRAMES = 10_000
"""Most frames of one file; a header may say any number."""


def read_image(path: Path, frame: int | None = None, *, least: int | None = None) -> Image:
    """Read one picture of an image file: DICOM, JPEG, PNG, TIFF, BMP, WebP or NIfTI.

    Args:
        path: any name; what the file holds decides how it is read. `film.dcm[3]` is frame 3 of `film.dcm`, unless there is a
            file of that very name.
        frame: which picture of a file of several, from 0; None where the path says it, or the file must hold one only.
        least: for those who make the image smaller at once: a format that can be decoded at a lower resolution (JPEG, grey
            JPEG 2000) is, as long as both sides keep so many pixels. `box` then says where the picture lies in them.

    Returns:
        The image: upright, brighter meaning more, with its range and what the file says of itself.

    Raises:
        ImageError: the file cannot be read, is damaged, too large, or of a kind that would only be read in part.
    """
    if frame is None:
        path, frame = file_and_frame(path)
    return read_image_bytes(read_file(path) if frame is None else _kept_file(path), path.name, frame, least=least)


def count_frames(path: Path) -> int:
    """Give how many pictures an image file holds, from its header, and 1 for `film.dcm[3]`; ImageError where it cannot be read."""
    path, frame = file_and_frame(path)
    return 1 if frame is not None else count_frames_in(read_file(path), path.name)


def count_frames_in(data: bytes, name: str) -> int:
    """Give how many pictures the bytes of an image file hold; `name` only stands in the messages."""
    frames = understood(data, name, lambda kind: kind.count(data))
    if frames > MAX_FRAMES:
        raise ImageError(f"{shown_name(name)}: says that it holds {frames:,} frames, and at most {MAX_FRAMES:,} are read; divide the file")
    return frames


def name_and_frame(name: str) -> tuple[str, int | None]:
    """Take `film.dcm[3]` apart; None for a name that ends otherwise."""
    found = _FRAME.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, None)


_FRAME = re.compile(r"(.*[^/])\[(\d{1,9})\]", re.DOTALL)


def file_and_frame(path: Path) -> tuple[Path, int | None]:
    """Give the file and the number that a path like `film.dcm[3]` asks for; None where there is a file of that very name."""
    name, frame = name_and_frame(path.name)
    return (path, None) if frame is None or path.exists() else (path.with_name(name), frame)


def _kept_file(path: Path) -> bytes:
    """The bytes of a file whose frames are asked for one after the other: it is read once."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return read_file(path)  # which says what is wrong
    return _read_version(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=1)
def _read_version(path: Path, size: int, modified_ns: int) -> bytes:
    return read_file(path)


def read_file(path: Path, *, first: int | None = None) -> bytes:
    """Read the bytes of a regular file of a size that an image can have, or the first of them; ImageError where that cannot be."""
    try:
        _check_file(path)
        if first is None:
            return path.read_bytes()
        with path.open("rb") as file:
            return file.read(first)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def open_file(path: Path) -> BufferedReader:
    """Open a regular file of a size that an image can have; ImageError where that cannot be."""
    try:
        _check_file(path)
        return path.open("rb")
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _check_file(path: Path) -> None:
    name, found = shown_name(path), path.stat()  # before it is opened: opening a pipe that nobody writes to would wait for ever
    if not stat.S_ISREG(found.st_mode):
        kind = "folder" if stat.S_ISDIR(found.st_mode) else "pipe or device"
        raise ImageError(f"{name}: is a {kind}, not an image file; leave it out of the images")
    if found.st_size > MAX_BYTES:
        raise ImageError(
            f"{name}: has {found.st_size:,} bytes, and at most {MAX_BYTES:,} are read; "
            "no image of a size that is read needs so many, so cut it into tiles or leave it out"
        )


def _unreadable(path: Path, error: OSError | ValueError) -> ImageError:
    reason = error.strerror if isinstance(error, OSError) else error
    return ImageError(f"{shown_name(path)}: cannot be opened: {reason}; check that it exists and that you may read it")


def read_image_bytes(data: bytes, name: str, frame: int | None = None, *, least: int | None = None) -> Image:
    """Decode the bytes of an image file; `name` only stands in the messages.

    Whatever goes wrong inside a decoder comes out as ImageError, and no warning or log line of Python escapes.
    """
    image = understood(data, name, lambda kind: kind.read(data, frame, least))
    image.pixels.flags.writeable = False
    return image


def format_of(data: bytes) -> Format | None:
    """What a file is by the bytes that it begins with; None where they are of no format that is known here."""
    return next((kind for kind in FORMATS if any(data.startswith(mark, place) for place, mark in kind.marks)), None)


def understood(data: bytes, name: str, use: Callable[[Format], _T]) -> _T:
    """Find out what the bytes are and use them, quietly; whatever goes wrong becomes an ImageError that names the file."""
    name = shown_name(name)
    known = format_of(data)
    if known is None:
        raise ImageError(f"{name}: {_not_an_image(data)}")
    try:
        with quiet():
            return use(known)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    except RunError:  # the disk is full, which is no fault of the file
        raise
    except Exception as error:  # SyntaxError, struct.error, MemoryError: decoders raise nearly anything
        detail = " ".join(str(error).split())[:200]
        raise ImageError(
            f"{name}: starts as {known.name} and cannot be decoded ({type(error).__name__}: {detail}); "
            "the file is probably damaged or cut short: copy or export it again"
        ) from error


def _not_an_image(data: bytes) -> str:
    names = list(dict.fromkeys(kind.name for kind in FORMATS))
    supported = f"{', '.join(names[:-1])} and {names[-1]} are read"
    if not data.strip(b"\0"):
        return f"the file is empty ({len(data)} bytes, none of them not zero); copy it again"
    start = data[:512].lower()
    for offset, mark, kind in FOREIGN:
        if start.startswith(mark, offset) or start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(mark, offset):
            return f"holds {kind}; {supported}: fetch the image itself, or convert it"
    return f"holds no format that is known here (first bytes {data[:8].hex(' ')}); {supported}"
