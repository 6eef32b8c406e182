"""PNG, JPEG, BMP and WebP, by Pillow, and what TIFF shares with them."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import ExifTags
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from tabib.errors import ImageError
from tabib.images.image import Image, ImageFacts, check_size

__all__ = ["day", "eight_bit_pixels", "on_black", "read_bmp", "read_jpeg", "read_png", "read_webp", "stored_labels", "upright"]


def read_png(data: bytes) -> Image:
    """Decode a PNG file of 1 to 16 bits: the palette is expanded, transparency is laid on black."""
    # The plugin is called, not `PIL.Image.open`, which tries other formats and warns of sizes that are allowed here.
    with PngImageFile(io.BytesIO(data)) as file:
        check_size(file.height, file.width)
        if getattr(file, "n_frames", 1) > 1:
            raise ImageError("holds an animation of several pictures; save the one that counts as a file of its own")
        bits = data[24]  # of IHDR, always the first chunk
        layout = str(file.tile[0].args)
        if bits < 16:
            mode, pixels = file.mode, eight_bit_pixels(file)
        elif layout == "I;16B":
            mode, pixels = "I;16", _without_transparent_grey(np.asarray(file), file.info.get("transparency"))
        else:
            mode = f"{layout.partition(';')[0]};16"
            pixels = _sixteen_bit_colour(data, layout)
        exif = _exif(file)
    facts = ImageFacts(format="PNG", bits=bits, mode=mode, scanner=exif.scanner, date=exif.date)
    return Image(upright(pixels, exif.orientation), 0, 65535 if bits == 16 else 255, None, None, facts)


def read_jpeg(data: bytes, least: int | None = None) -> Image:
    """Decode a JPEG file, turned upright as its EXIF orientation says.

    Where both sides keep `least` pixels, an upright one is decoded at a half, a quarter or an eighth of its resolution, from
    the low frequencies of its blocks (ITU-T T.81, A.3.3). The last of these pixels may stand beyond the edge: `box` says so.

    CMYK becomes RGB without a colour profile. Files with an Adobe marker store CMYK inverted, others do not. Of a file
    with several pictures (MPO: a preview, the other eye of a stereo camera) the main one is read.
    """
    with JpegImageFile(io.BytesIO(data)) as file:
        check_size(file.height, file.width)
        mode = file.mode
        if mode == "CMYK" and "adobe" not in file.info:  # Pillow takes every CMYK file for an inverted one
            file.tile = [tile._replace(args=("CMYK", "")) for tile in file.tile]
        exif, box = _exif(file), None
        if least is not None and exif.orientation not in TURNS:
            whole = file.size
            drafted = file.draft(None, (least, least))
            box = drafted[1] if drafted and file.size != whole else None
        pixels = eight_bit_pixels(file)
        compression = _jpeg_quality(tuple(file.quantization[0])) if 0 in file.quantization else None
    facts = ImageFacts(format="JPEG", bits=8, mode=mode, compression=compression, scanner=exif.scanner, date=exif.date)
    return Image(upright(pixels, exif.orientation), 0, 255, None, None, facts, box=box)


def read_bmp(data: bytes) -> Image:
    """Decode a BMP file (Windows bitmap) of 1 to 32 bits a pixel."""
    with BmpImageFile(io.BytesIO(data)) as file:
        check_size(file.height, file.width)
        facts = ImageFacts(format="BMP", bits=8, mode=file.mode)
        return Image(eight_bit_pixels(file), 0, 255, None, None, facts)


def read_webp(data: bytes) -> Image:
    """Decode a WebP file of one picture, lossy or not."""
    check_size(*_webp_size(data))  # opening it takes the memory
    with WebPImageFile(io.BytesIO(data)) as file:
        if file.n_frames > 1:
            raise ImageError(f"holds an animation of {file.n_frames} pictures; save the one that counts as a file of its own")
        pixels = eight_bit_pixels(file)
        exif = _exif(file)
        facts = ImageFacts(
            format="WebP", bits=8, mode=file.mode, compression=data[12:16].decode().strip(), scanner=exif.scanner, date=exif.date
        )
    return Image(upright(pixels, exif.orientation), 0, 255, None, None, facts)


def stored_labels(data: bytes) -> np.ndarray | None:
    """Give the labels (H, W) uint8 of a PNG or BMP file in which they are no shades: places in a palette, or fewer than 8 bits.

    None for any other, whose labels are its pixels.
    """
    with (PngImageFile if data.startswith(b"\x89PNG") else BmpImageFile)(io.BytesIO(data)) as file:
        check_size(file.height, file.width)
        bits = data[24] if isinstance(file, PngImageFile) else 8
        if file.mode not in ("1", "P") and (file.mode != "L" or bits >= 8):
            return None
        shades = 2**bits - 1 if file.mode == "L" else 255  # Pillow spreads 2 and 4 bits of grey over 0..255
        labels = np.asarray(file).astype(np.uint8) // np.uint8(255 // shades)
        return upright(labels, _exif(file).orientation)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Height and width of a WebP picture, from its first chunk (RFC 9649, 2.5 to 2.7)."""
    kind, first = data[12:16], data[20:30]
    if kind == b"VP8X":
        return int.from_bytes(first[7:10], "little") + 1, int.from_bytes(first[4:7], "little") + 1
    if kind == b"VP8L":
        sides = int.from_bytes(first[1:5], "little")
        return (sides >> 14 & 0x3FFF) + 1, (sides & 0x3FFF) + 1
    return int.from_bytes(first[8:10], "little") & 0x3FFF, int.from_bytes(first[6:8], "little") & 0x3FFF


def eight_bit_pixels(file: ImageFile) -> np.ndarray:
    """Decode an opened Pillow file of at most 8 bits to (H, W) or (H, W, 3) uint8."""
    file.load()
    clear = "transparency" in file.info  # PNG's tRNS chunk: one colour, or one alpha per palette entry
    target = PLAIN_MODES[file.mode][clear]
    pixels = np.asarray(file if file.mode == target else file.convert(target))
    return on_black(pixels) if target in ("LA", "RGBA") else pixels


PLAIN_MODES = {  # Pillow's mode: what it is converted to, without and with a transparent colour
    "1": ("L", "LA"),
    "L": ("L", "LA"),
    "LA": ("LA", "LA"),
    "La": ("LA", "LA"),
    "P": ("RGB", "RGBA"),
    "PA": ("RGBA", "RGBA"),
    "RGB": ("RGB", "RGBA"),
    "RGBA": ("RGBA", "RGBA"),
    "RGBX": ("RGB", "RGB"),
    "CMYK": ("RGB", "RGB"),
    "YCbCr": ("RGB", "RGB"),
}


def on_black(pixels: np.ndarray) -> np.ndarray:
    """Lay (H, W, 2) grey or (H, W, 4) colour with its last channel as opacity on black; same dtype."""
    highest = np.iinfo(pixels.dtype).max
    colour, opacity = pixels[..., :-1], pixels[..., -1:]
    if (opacity == highest).all():
        laid = np.ascontiguousarray(colour)
    else:
        laid = ((colour.astype(np.uint32) * opacity + highest // 2) // highest).astype(pixels.dtype)
    return laid[..., 0] if laid.shape[2] == 1 else laid


def _sixteen_bit_colour(data: bytes, layout: str) -> np.ndarray:
    if layout == "RGB;16B":
        if b"tRNS" in data[: data.find(b"IDAT")]:
            raise ImageError("is a 16-bit colour PNG with one transparent colour, which is not read; save it without")
        return _two_bytes(data, "RGB")
    if layout == "RGBA;16B":
        return on_black(_two_bytes(data, "RGBA"))
    # Grey with opacity: four bytes a pixel, taken as they are, in the order of the file.
    with PngImageFile(io.BytesIO(data)) as file:
        file.tile = [tile._replace(args="RGBA") for tile in file.tile]
        stored = np.asarray(file)
    return on_black(stored.view(">u2").astype(np.uint16))


def _two_bytes(data: bytes, pixel: str) -> np.ndarray:
    """Decode 16-bit colour, (H, W, C) uint16, of which Pillow keeps only one byte a sample.

    The file is decoded twice: once as laid out so that the high byte is kept, once so that the low byte is.
    """
    halves = []
    for order in ("16B", "16L"):
        with PngImageFile(io.BytesIO(data)) as file:
            file.tile = [tile._replace(args=f"{pixel};{order}") for tile in file.tile]
            halves.append(np.asarray(file))
    pixels = halves[0].astype(np.uint16)
    pixels <<= 8
    pixels |= halves[1]
    return pixels


def _without_transparent_grey(pixels: np.ndarray, transparent: object) -> np.ndarray:
    return np.where(pixels == transparent, np.uint16(0), pixels) if isinstance(transparent, int) else pixels


TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF 2.3, tag 274: what brings the stored picture upright
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn or mirror pixels as EXIF orientation 1..8 asks; any other value changes nothing."""
    return np.ascontiguousarray(TURNS[orientation](pixels)) if orientation in TURNS else pixels


class _Exif(NamedTuple):
    orientation: int = 1
    scanner: str | None = None
    date: str | None = None


def _exif(file: ImageFile) -> _Exif:
    """Read what EXIF says of camera, day and orientation; damaged EXIF says nothing."""
    if not any(key in file.info for key in ("exif", "xmp", "Raw profile type exif", "XML:com.adobe.xmp")):
        return _Exif()
    try:
        tags = file.getexif()
        camera = " ".join(str(tags[tag]).strip(" \0") for tag in (ExifTags.Base.Make, ExifTags.Base.Model) if tags.get(tag))
        taken = tags.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
        turn = tags.get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return _Exif()
    return _Exif(turn if isinstance(turn, int) else 1, camera or None, day(str(taken or "")))


def day(text: str) -> str | None:
    """Give YYYY-MM-DD for a text that starts with a date as EXIF, TIFF or DICOM write it; None where none is there."""
    digits = text[:10].translate({ord(mark): None for mark in ":.-/"})[:8]
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])).isoformat()
    except ValueError:
        return None


# ITU-T T.81, table K.1: the luminance table of nearly every encoder, row by row.
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


@lru_cache(maxsize=256)
def _jpeg_quality(table: tuple[int, ...]) -> str:
    """Name a luminance table by the quality 1..100 of the IJG library whose own table comes nearest to it."""
    quality = np.arange(1, 101)[:, None]
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    tables = np.clip((np.ravel(LUMINANCE) * percent + 50) // 100, 1, 255)
    return f"quality {np.abs(tables - table).sum(axis=1).argmin() + 1}"
