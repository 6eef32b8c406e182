"""The page on image files is true: an example of every line is read, or refused with the words of that line."""

from __future__ import annotations

import gzip
import io
import struct
import subprocess
import sys

import imagecodecs
import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from pydicom.uid import (
    MPEG4HP41,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLSLossless,
)

from images.made import dicom, nifti, png, png_chunk, tiff
from images.page import PAGE
from tabib.errors import ImageError
from tabib.images import read_image_bytes

RANDOM = np.random.default_rng(31)
GREY = RANDOM.integers(0, 256, (16, 16), np.uint8)
WIDE = RANDOM.integers(0, 4096, (16, 16), np.uint16)
COLOUR = RANDOM.integers(0, 256, (16, 16, 3), np.uint8)


def _saved(picture: Pillow.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _tiff(pixels: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def _compressed(syntax: str, frame: bytes | bytearray, pixels: np.ndarray = GREY, **options) -> bytes:
    return dicom(pixels, syntax=syntax, bits=8 if pixels.dtype == np.uint8 else 12, frames=[bytes(frame)], **options)


def _palette() -> dict[str, object]:
    names = [f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue")]
    return {f"{name}Descriptor": [256, 0, 8] for name in names} | {f"{name}Data": bytes(range(256)) for name in names}


FRAMES = {"NumberOfFrames": 2, "PixelData": GREY.tobytes() * 2}
PICTURE = Pillow.fromarray(COLOUR)
READ = {  # what: examples
    "uncompressed": [dicom(WIDE, bits=12), dicom(WIDE, syntax=ImplicitVRLittleEndian), dicom(WIDE, syntax=ExplicitVRBigEndian)],
    "JPEG baseline": [
        _compressed(JPEGBaseline8Bit, imagecodecs.jpeg8_encode(GREY)),
        _compressed(JPEGExtended12Bit, imagecodecs.jpeg8_encode(WIDE, bitspersample=12), WIDE),
        _compressed(JPEGLossless, imagecodecs.jpeg8_encode(GREY, lossless=True, predictor=6)),
    ],
    "JPEG-LS": [
        _compressed(JPEGLSLossless, imagecodecs.jpegls_encode(GREY)),
        _compressed(JPEG2000Lossless, imagecodecs.jpeg2k_encode(GREY, codecformat="j2k", reversible=True)),
        _compressed(HTJ2KLossless, imagecodecs.htj2k_encode(GREY, reversible=True)),
    ],
    "window": [dicom(WIDE, bits=12, values={"WindowCenter": 40, "WindowWidth": 400, "RescaleSlope": 1, "RescaleIntercept": -1024})],
    "look-up tables": [dicom(WIDE, bits=12, values={"WindowCenter": 900, "WindowWidth": 400, "VOILUTFunction": "SIGMOID"})],
    "MONOCHROME1": [dicom(WIDE.astype(np.int16) - 2048, bits=12, colour="MONOCHROME1", values={"RescaleSlope": -1})],
    "PALETTE COLOR": [dicom(GREY, bits=8, colour="PALETTE COLOR", values=_palette()), dicom(COLOUR, bits=8, colour="YBR_FULL")],
    "several frames": [(dicom(GREY, bits=8, values=FRAMES), 1)],
    "grey, colour, CMYK": [_saved(PICTURE.convert(mode), "JPEG", progressive=True) for mode in ("L", "RGB", "CMYK")],
    "1 to 16 bits, palette": [
        _saved(PICTURE.convert("P"), "PNG"),
        png(np.zeros((3, 3, 4), np.uint16)),
        _saved(PICTURE.convert("1"), "PNG"),
    ],
    "grey and RGB of 8 or 16 bits": [
        _tiff(WIDE, tile=(16, 16)),
        _tiff(COLOUR.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
        _tiff(WIDE, bigtiff=True),
        (_tiff(np.stack([GREY] * 3), photometric="minisblack"), 2),
    ],
    "1 to 8 bits": [_saved(PICTURE.convert(mode), "TIFF") for mode in ("1", "P", "CMYK", "RGBA")],
    "LZW": [
        *(_tiff(WIDE, compression=name) for name in ("lzw", "deflate", "packbits", "zstd", "lzma")),
        _tiff(GREY, compression="jpeg"),
        _saved(PICTURE.convert("1"), "TIFF", compression="group4"),
    ],
    "1 to 32 bits": [_saved(PICTURE.convert(mode), "BMP") for mode in ("1", "P", "RGB", "RGBA")],
    "one picture": [_saved(PICTURE, "WEBP"), _saved(PICTURE, "WEBP", lossless=True)],
    "integers of": [nifti(GREY), nifti(WIDE), nifti(COLOUR, kind=128), gzip.compress(nifti(GREY)), (nifti(GREY, sides=(4, 4, 16)), 15)],
    "wider integers": [nifti(WIDE.astype(np.float32), cal_min=0, cal_max=4000), nifti(WIDE.astype(np.int32))],
}
REFUSED = {
    "no preamble": [dicom(GREY, bits=8)[132:]],
    "video": [_compressed(MPEG4HP41, b"\0\0\0\x1cftypisom")],
    "reports": [dicom(GREY, bits=8, drop=("PixelData",))],
    "32 bits (dose)": [dicom(GREY, bits=8, values={"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31})],
    "a palette in segments": [dicom(GREY, bits=8, colour="PALETTE COLOR")],
    "PNG animation": [_saved(PICTURE, "PNG", save_all=True, append_images=[PICTURE.convert("L").convert("RGB")])],
    "16-bit colour": [png(np.zeros((2, 2, 3), np.uint16), chunks=png_chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3)))],
    "TIFF floating point": [_tiff(WIDE.astype(np.float32)), _tiff(WIDE.astype(np.uint32))],
    "16 bits in colours": [_tiff(np.zeros((8, 8, 4), np.uint16), photometric="separated")],
    "channels": [_tiff(np.zeros((8, 8, 2), np.uint16), photometric="minisblack", planarconfig="contig")],
    "old-style": [tiff(GREY, {256: (4, 1, 16), 257: (4, 1, 16), 258: (3, 1, 8), 259: (3, 1, 6), 262: (3, 1, 1)})],
    "JPEG 2000": [_tiff(COLOUR, photometric="rgb", compression=name) for name in ("jpeg2000", "jpegxl", "webp", "png")],
    "WebP animation": [_saved(PICTURE, "WEBP", save_all=True, append_images=[PICTURE.rotate(90)])],
    "NIfTI several slices": [nifti(GREY, sides=(4, 4, 16))],
    "complex numbers": [nibabel.Nifti1Image(np.ones((6, 9), np.complex64), None).to_bytes()],
    "a header": [nifti(GREY).replace(b"n+1\0", b"ni1\0")],
    "more than": [png(np.zeros((2, 2, 1), np.uint8), size=(60_000, 60_000)), dicom(GREY, bits=8, values={"Rows": 60_000, "Columns": 60_000})],
    "cut short": [_saved(PICTURE, kind)[:200] for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP")],
    "GIF": [_saved(PICTURE, "GIF"), b"%PDF-1.7", b"PK\x03\x04aaaa", _saved(PICTURE, "JPEG2000"), b"\0\0\0\x1cftypheic" + b"\0" * 9],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "what", "becomes"), PAGE.READ, ids=lambda text: text[:20])
def test_what_the_page_calls_read_is_read(kind, what, becomes):
    (examples,) = (examples for start, examples in READ.items() if what.startswith(start))
    for example in examples:
        data, frame = example if isinstance(example, tuple) else (example, None)
        assert read_image_bytes(data, "a", frame).facts.format == kind


@pytest.mark.parametrize(("kind", "what", "reason"), PAGE.REFUSED, ids=lambda text: text[:20])
def test_what_the_page_calls_refused_is_refused_with_its_words(kind, what, reason):
    (examples,) = (examples for start, examples in REFUSED.items() if what.startswith(start) or f"{kind} {what}".startswith(start))
    for example in examples:
        with pytest.raises(ImageError) as caught:
            read_image_bytes(example, "a")
        assert reason in str(caught.value)


def test_what_reads_rare_formats_is_not_imported_before_it_is_needed():
    """Every worker process of an index imports the readers, and most folders hold PNG or JPEG only."""
    code = "import sys, tabib.images; found = {'pydicom', 'tifffile', 'nibabel', 'imagecodecs', 'polars', 'torch'} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_example_stands_on_the_page():
    assert len(READ) == len(PAGE.READ)
    assert len(REFUSED) == len(PAGE.REFUSED)
