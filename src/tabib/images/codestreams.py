"""Compressed frames of DICOM files, by imagecodecs; what a frame's own header says is checked before it is decoded."""

from __future__ import annotations

import io
import struct
from typing import NamedTuple

import imagecodecs
import numpy as np
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from tabib.errors import ImageError

__all__ = ["COMPRESSED", "Decoded", "decode_frame"]

JPEG_2000 = (JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)
JPEG_LS = (JPEGLSLossless, JPEGLSNearLossless)
JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)
LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K)
COMPRESSED: tuple[UID, ...] = (*JPEG, *JPEG_LS, *JPEG_2000, RLELossless)
"""The transfer syntaxes whose frames are decoded here."""


class Decoded(NamedTuple):
    """One frame as it was stored."""

    samples: np.ndarray  # (H, W) or (H, W, 3), unsigned: two's complement where the file says signed
    luma_chroma: bool | None  # whether colour is Y, Cb, Cr; None where the frame does not say
    halvings: int = (
        0  # how often the resolution was halved: a pixel then stands for 2**halvings, and its centre is that of the first of them
    )


class _Header(NamedTuple):
    rows: int
    columns: int
    samples: int
    bits: int
    signed: bool = False
    luma_chroma: bool | None = None


def decode_frame(
    frame: bytes, syntax: UID, *, rows: int, columns: int, samples: int, allocated: int, stored: int, signed: bool, least: int | None = None
) -> Decoded:
    """Decode one frame, (rows, columns) or (rows, columns, samples), into words of `allocated` bits.

    Args:
        frame: the bytes of the frame, without the file around it.
        syntax: one of `COMPRESSED`.
        rows: height that the file says; the frame must say the same.
        columns: width that the file says.
        samples: 1 or 3 per pixel.
        allocated: 8 or 16 bits.
        stored: how many of them count.
        signed: whether the file says that values are two's complement.
        least: grey, unsigned JPEG 2000 is decoded at a lower resolution, as long as both sides keep so many pixels.
    """
    if syntax == RLELossless:
        return Decoded(_run_lengths(frame, rows, columns, samples, allocated), None)
    header = _jpeg_2000_header(frame) if syntax in JPEG_2000 else _jpeg_header(frame)
    if (header.rows, header.columns, header.samples) != (rows, columns, samples) or header.bits > allocated:
        raise ImageError(
            f"is a DICOM file of {columns:,} x {rows:,} pixels with {samples} samples of {allocated} bits, and its compressed frame is of "
            f"{header.columns:,} x {header.rows:,} with {header.samples} of {header.bits}: the file is damaged, export it again"
        )
    if syntax in JPEG_2000:
        if least is not None and _is_plain(header, samples, stored, signed) and (halvings := _halvings(frame, header, least)):
            lower = _at_lower_resolution(frame, halvings) >> (-header.bits % 8)
            return Decoded(_words(lower, header, syntax, allocated=allocated, stored=stored, signed=signed), None, halvings)
        decoded = imagecodecs.jpeg2k_decode(frame)
    elif syntax in JPEG_LS:
        decoded = imagecodecs.jpegls_decode(frame)
    else:
        # Asked from and to the same colours, the decoder leaves them alone: what they are is for DICOM to say.
        same = "YCBCR" if samples == 3 else None
        decoded = imagecodecs.jpeg_decode(frame, colorspace=same, outcolorspace=same)
    if decoded.shape[:2] != (rows, columns) or decoded.size != rows * columns * samples:
        raise ImageError(f"holds a compressed frame that gives {decoded.shape} values; the file is damaged, export it again")
    values = decoded.reshape((rows, columns, samples) if samples > 1 else (rows, columns))
    return Decoded(_words(values, header, syntax, allocated=allocated, stored=stored, signed=signed), header.luma_chroma)


def _words(values: np.ndarray, header: _Header, syntax: UID, *, allocated: int, stored: int, signed: bool) -> np.ndarray:
    """Unsigned words of `allocated` bits. JPEG-LS has no sign and JPEG 2000 often a wrong one: the file's sign decides."""
    words = values.astype(f"u{allocated // 8}", copy=False)
    if syntax not in JPEG and header.bits < allocated:
        words = words & (2**header.bits - 1)
        if signed and header.bits < stored:
            sign = 1 << (header.bits - 1)
            words = (words ^ sign) - words.dtype.type(sign)  # carried on into the higher bits; unsigned words wrap around
    if syntax in LOSSY and header.bits > stored:  # what loss pushed over the edge must not come out at the other end
        numbers = words.view(f"i{words.itemsize}") if signed else words
        lowest, highest = (-(1 << (stored - 1)), (1 << (stored - 1)) - 1) if signed else (0, (1 << stored) - 1)
        words = numbers.clip(lowest, highest).view(words.dtype)
    return words


def _jpeg_header(data: bytes) -> _Header:
    """Read a JPEG or JPEG-LS header up to the first scan (ITU-T T.81, B.2), and see that the end is there."""
    header, adobe, jfif, place = None, None, False, 2
    while place + 4 <= len(data):
        mark, code, length = struct.unpack_from(">BBH", data, place)
        if mark != 0xFF:
            break
        if code == 0xFF:  # a fill byte
            place += 1
            continue
        body = data[place + 4 : place + 2 + length]
        if code == 0xDA:
            # The decoder fills up what is missing with grey. Compressed values never hold this mark, so it is the end.
            if header is None or data.find(b"\xff\xd9", place) < 0:
                break
            red_green_blue = header[1] in (b"RGB", b"rgb")
            luma_chroma = adobe == 1 if adobe is not None else False if red_green_blue else True if jfif else None
            return header[0]._replace(luma_chroma=luma_chroma)
        if code == 0xF7 or (0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC)):
            bits, rows, columns, samples = struct.unpack_from(">BHHB", body)
            header = _Header(rows, columns, samples, bits), body[6 : 6 + 3 * samples : 3]
        elif code == 0xE0 and body.startswith(b"JFIF"):
            jfif = True
        elif code == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            adobe = body[11]
        place += 2 + length
    raise ImageError("holds a compressed frame that is damaged or cut short; copy or export the file again")


def _jpeg_2000_header(data: bytes) -> _Header:
    """Read the SIZ segment of a codestream, in a JP2 file or bare (ISO/IEC 15444-1, A.5.1)."""
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(data) < start + 44:
        raise ImageError("holds no JPEG 2000 codestream where its frame should be; copy or export the file again")
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    samples, depth = struct.unpack_from(">HB", data, start + 40)
    return _Header(bottom - top, right - left, samples, (depth & 0x7F) + 1, bool(depth & 0x80))


def _halvings(frame: bytes, header: _Header, least: int) -> int:
    """How often the resolution of a JPEG 2000 codestream can be halved (A.6.1) while both sides keep `least` pixels.

    Pillow rounds the sides of what is left to the nearest, and the standard up: only where they agree does it decode. Of 8 bits
    the resolution is halved once only: in the lossless transform (F.4.8.1), which rounds down, each halving makes what is noisy
    brighter by half a value.
    """
    place = frame.find(b"\xff\x4f\xff\x51") + 2
    while frame[place : place + 2] not in (b"\xff\x52", b"\xff\x90", b""):
        place += 2 + int.from_bytes(frame[place + 2 : place + 4])
    levels = frame[place + 9] if frame[place : place + 2] == b"\xff\x52" and len(frame) > place + 9 else 0
    levels = min(levels, 1) if header.bits <= 8 else levels
    sides = (header.rows, header.columns)
    fitting = (
        count
        for count in range(levels, 0, -1)
        if all(-(-side >> count) == side + (1 << count >> 1) >> count and side >> count >= least for side in sides)
    )
    return next(fitting, 0)


def _is_plain(header: _Header, samples: int, stored: int, signed: bool) -> bool:
    """Whether the mean of neighbours means something: grey, without a sign, and no bits above the value."""
    return samples == 1 and not header.signed and not signed and header.bits <= stored


def _at_lower_resolution(frame: bytes, halvings: int) -> np.ndarray:
    """(H, W) uint8 or uint16, with the values in the high bits."""
    with Jpeg2KImageFile(io.BytesIO(frame)) as file:
        file.reduce = halvings
        return np.asarray(file)


def _run_lengths(frame: bytes, rows: int, columns: int, samples: int, allocated: int) -> np.ndarray:
    """Decode RLE (PS3.5 G): never more bytes than the pixels need."""
    size = rows * columns * samples * allocated // 8
    planes = imagecodecs.dicomrle_decode(frame, f"<u{allocated // 8}", out=size)
    if len(planes) != size:
        raise ImageError("holds a compressed frame that is damaged or cut short; copy or export the file again")
    words = np.frombuffer(planes, f"<u{allocated // 8}").astype(f"u{allocated // 8}", copy=False)
    return np.moveaxis(words.reshape(samples, rows, columns), 0, -1).reshape((rows, columns, samples) if samples > 1 else (rows, columns))
