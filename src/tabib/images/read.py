"""From a file to an `Image`, whatever its name says: the content decides."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from tabib.errors import ImageError
from tabib.images.image import MAX_PIXELS, Image, shown_name
from tabib.images.quiet import quiet
from tabib.images.raster import read_jpeg, read_png

__all__ = ["MAX_BYTES", "read_file", "read_image", "read_image_bytes"]

MAX_BYTES = MAX_PIXELS * 3 * 2 * 5 // 4
"""Largest file that is read: the largest image uncompressed, and a quarter for whatever else its file holds."""


def _read_dicom(data: bytes) -> Image:
    from tabib.images.dicom import read_dicom  # pydicom takes longer to import than everything else here together

    return read_dicom(data)


def _read_tiff(data: bytes) -> Image:
    from tabib.images.tiff import read_tiff  # so does tifffile, and most folders hold neither

    return read_tiff(data)


READERS: tuple[tuple[int, bytes, str, Callable[[bytes], Image]], ...] = (
    # Where the mark stands, the mark, the format, and what reads it. DICOM comes first: its free preamble may look like a TIFF.
    (128, b"DICM", "DICOM", _read_dicom),
    (0, b"\xff\xd8\xff", "JPEG", read_jpeg),
    (0, b"\x89PNG\r\n\x1a\n", "PNG", read_png),
    (0, b"II*\0", "TIFF", _read_tiff),
    (0, b"MM\0*", "TIFF", _read_tiff),
    (0, b"II+\0", "TIFF", _read_tiff),
    (0, b"MM\0+", "TIFF", _read_tiff),
)

FOREIGN: tuple[tuple[int, bytes, str], ...] = (  # what else turns up in image folders: offset, mark, what it is
    (0, b"<!doctype", "a web page (HTML)"),
    (0, b"<html", "a web page (HTML)"),
    (0, b"<?xml", "an XML text"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"{", "a JSON text"),
    (0, b"gif8", "a GIF picture"),
    (0, b"bm", "a BMP picture"),
    (8, b"webp", "a WebP picture"),
    (4, b"ftypheic", "a HEIC picture"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"jp  ", "a JPEG 2000 picture"),
    (0, b"%pdf", "a PDF document"),
    (0, b"pk\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive (or a NIfTI volume in one)"),
    (344, b"n+1\0", "a NIfTI volume"),
    (0, b"version https://git-lfs", "a Git LFS pointer instead of the file it stands for"),
)


def read_image(path: Path) -> Image:
    """Read one image file: PNG, JPEG, TIFF or a single uncompressed DICOM picture.

    Args:
        path: any name; what the file holds decides how it is read.

    Returns:
        The image: upright, brighter meaning more, with its nominal range and what the file says of itself.

    Raises:
        ImageError: the file cannot be read, is damaged, too large, or of a kind that would only be read in part.
    """
    return read_image_bytes(read_file(path), path.name)


def read_file(path: Path) -> bytes:
    """Read the bytes of a regular file of a size that an image can have; ImageError where that cannot be."""
    name = shown_name(path)
    try:
        found = path.stat()  # before it is opened: opening a pipe that nobody writes to would wait for ever
        if not stat.S_ISREG(found.st_mode):
            kind = "folder" if stat.S_ISDIR(found.st_mode) else "pipe or device"
            raise ImageError(f"{name}: is a {kind}, not an image file; leave it out of the images")
        if found.st_size > MAX_BYTES:
            raise ImageError(
                f"{name}: has {found.st_size:,} bytes, and at most {MAX_BYTES:,} are read; "
                "no image of a size that is read needs so many, so cut it into tiles or leave it out"
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ImageError(f"{name}: cannot be opened: {reason}; check that it exists and that you may read it") from None


def read_image_bytes(data: bytes, name: str) -> Image:
    """Decode the bytes of an image file; `name` only stands in the messages.

    Whatever goes wrong inside a decoder comes out as ImageError, and no warning or log line of Python escapes.
    """
    known = next((row for row in READERS if data.startswith(row[1], row[0])), None)
    if known is None:
        raise ImageError(f"{shown_name(name)}: {_not_an_image(data)}")
    _, _, kind, reader = known
    try:
        with quiet():
            image = reader(data)
    except ImageError as error:
        raise ImageError(f"{shown_name(name)}: {error}") from None
    except Exception as error:  # SyntaxError, struct.error, MemoryError: decoders raise nearly anything
        detail = " ".join(str(error).split())[:200]
        raise ImageError(
            f"{shown_name(name)}: starts as {kind} and cannot be decoded ({type(error).__name__}: {detail}); "
            "the file is probably damaged or cut short: copy or export it again"
        ) from error
    image.pixels.flags.writeable = False
    return image


def _not_an_image(data: bytes) -> str:
    supported = "PNG, JPEG, TIFF and DICOM are read"
    if not data.strip(b"\0"):
        return f"the file is empty ({len(data)} bytes, none of them not zero); copy it again"
    start = data[:512].lower()
    for offset, mark, kind in FOREIGN:
        if start.startswith(mark, offset) or start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(mark, offset):
            return f"holds {kind}; {supported}: fetch the image itself, or convert it"
    return f"holds no format that is known here (first bytes {data[:8].hex(' ')}); {supported}"
