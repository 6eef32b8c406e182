"""TIFF: the directory and uncompressed grey and RGB by tifffile, everything else by Pillow's libtiff.

Pillow alone would keep 8 of 16 bits of a colour image, and tifffile alone knows few compressions without a further package.
"""

from __future__ import annotations

import io
import sys
from typing import cast

import numpy as np
from PIL.TiffImagePlugin import TiffImageFile
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, PLANARCONFIG, SAMPLEFORMAT, TiffFile, TiffPage

from tabib.errors import ImageError
from tabib.images.image import Image, ImageFacts, check_size
from tabib.images.raster import eight_bit_pixels, on_black, sixteen_bit_pixels, upright

__all__ = ["read_tiff"]

SAMPLES: dict[int, int] = {  # photometric interpretation: samples a pixel has, without opacity
    PHOTOMETRIC.MINISWHITE: 1,
    PHOTOMETRIC.MINISBLACK: 1,
    PHOTOMETRIC.PALETTE: 1,
    PHOTOMETRIC.RGB: 3,
    PHOTOMETRIC.YCBCR: 3,
    PHOTOMETRIC.SEPARATED: 4,
}
PLAIN_COLOURS = (PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB)


def read_tiff(data: bytes) -> Image:
    """Decode a TIFF file of one page: 1 to 8 bits of any usual colour, 16 bits of grey or RGB.

    Signed 16-bit values are moved up by 32768. White-is-zero pictures are inverted, transparency is laid on black.
    Resolution tags are about printing and say nothing of the body, so there is no spacing.
    """
    with TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        _refuse_unsupported(file, page, len(data))
        wide = page.bitspersample == 16
        if page.compression == COMPRESSION.NONE and page.bitspersample >= 8 and page.photometric in PLAIN_COLOURS:
            pixels = _plain(_by_tifffile(page), page)
        elif wide:
            pixels = _plain(_by_pillow(data, page), page)
        else:
            with TiffImageFile(io.BytesIO(data)) as picture:
                pixels = eight_bit_pixels(picture)
        facts = ImageFacts(
            format="TIFF",
            bits=page.bitspersample,
            mode=f"{PHOTOMETRIC(page.photometric).name}{';16' if wide else ''}",
            compression=None if page.compression == COMPRESSION.NONE else COMPRESSION(page.compression).name.lower(),
            scanner=" ".join(word for name in ("Make", "Model") if (word := _text(page.tags.valueof(name)))) or None,
        )
    return Image(pixels, 0, 65535 if wide else 255, None, None, facts)


def _text(value: object) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def _refuse_unsupported(file: TiffFile, page: TiffPage, size: int) -> None:
    check_size(page.imagelength, page.imagewidth)
    if file.is_bigtiff and file.byteorder == ">" and page.compression != COMPRESSION.NONE:
        raise ImageError("is a compressed big-endian BigTIFF, which is not read; save it uncompressed, or as usual TIFF")
    if len(file.pages) > 1 or page.imagedepth > 1 or ((file.is_imagej or file.is_shaped) and file.series[0].size != page.size):
        raise ImageError("is a TIFF of several pages or planes; save the one that counts as a file of its own")
    kind = SAMPLEFORMAT(page.sampleformat).name.lower()
    if page.bitspersample not in (1, 2, 4, 8, 16) or (kind, page.bitspersample) not in (("uint", page.bitspersample), ("int", 16)):
        raise ImageError(
            f"is a TIFF of {page.bitspersample}-bit {kind} values, whose black and white are not defined; "
            "1 to 8 and 16-bit integers are read: convert it with a range that you choose"
        )
    if page.photometric not in (PLAIN_COLOURS if page.bitspersample == 16 else SAMPLES):
        raise ImageError(
            f"is a {page.bitspersample}-bit TIFF with colours as {PHOTOMETRIC(page.photometric).name}, which is not read; "
            "save it as grey or RGB"
        )
    more = page.samplesperpixel - SAMPLES[page.photometric]
    meaning = page.extrasamples or (EXTRASAMPLE.UNSPECIFIED,)
    # A fourth sample of unsaid meaning is what careless programs write for opacity; a second one is another channel.
    if more not in (0, 1) or (more == 1 and SAMPLES[page.photometric] == 1 and meaning[0] == EXTRASAMPLE.UNSPECIFIED):
        raise ImageError(
            f"is a TIFF of {page.samplesperpixel} channels with colours as {PHOTOMETRIC(page.photometric).name}; "
            "grey and RGB are read: save the channel that counts, or three of them as RGB"
        )
    ends = [start + length for start, length in zip(page.dataoffsets, page.databytecounts, strict=True)]
    stored = sum(page.databytecounts)
    if not ends or 0 in page.databytecounts or max(ends) > size:
        raise ImageError(
            f"is a TIFF cut short: its pixels should end at byte {max(ends, default=0):,}, and the file has {size:,}; copy it again"
        )
    if page.compression == COMPRESSION.NONE and stored * 8 < page.size * page.bitspersample:
        raise ImageError(
            f"is a damaged TIFF: {stored:,} bytes of pixels cannot hold {page.size:,} values of {page.bitspersample} bits; export it again"
        )


def _by_tifffile(page: TiffPage) -> np.ndarray:
    pixels = page.asarray()
    pixels = np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels
    return upright(pixels, page.tags.valueof("Orientation") or 1)


def _by_pillow(data: bytes, page: TiffPage) -> np.ndarray:
    """Decode what is compressed, 16 bits a sample; Pillow turns it upright."""

    def open_file() -> TiffImageFile:
        return TiffImageFile(io.BytesIO(data))

    with open_file() as file:
        layout, *rest = cast(tuple[str, ...], file.tile[0].args)
        if page.samplesperpixel == 1:
            # libtiff hands samples over in the byte order of the machine, which Pillow forgets for signed ones.
            file.tile = [tile._replace(args=("I;16N", *rest)) for tile in file.tile]
            return np.asarray(file).astype(np.uint16)
    pixel, _, order = layout.partition(";")
    if order[:2] != "16" or pixel not in ("RGB", "RGBX", "RGBA", "RGBa") or page.planarconfig != PLANARCONFIG.CONTIG:
        raise ImageError(
            f"is a TIFF of compressed 16-bit samples laid out as {layout}, in {PLANARCONFIG(page.planarconfig).name} planes, which is not read; save it uncompressed"
        )
    high, low = ("16L", "16B") if sys.byteorder == "little" else ("16B", "16L")
    pixel = pixel.upper()  # RGBa would be divided by its opacity, and it lies on black as it is
    return sixteen_bit_pixels(open_file, (f"{pixel};{high}", *rest), (f"{pixel};{low}", *rest))


def _plain(pixels: np.ndarray, page: TiffPage) -> np.ndarray:
    """Bring samples as they are stored to (H, W) or (H, W, 3), unsigned, more meaning brighter, on black."""
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if page.sampleformat == SAMPLEFORMAT.INT:
        pixels = pixels.view(np.uint16) ^ np.uint16(32768)  # two's complement to offset binary
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        pixels = np.iinfo(pixels.dtype).max - pixels
    colours = SAMPLES[page.photometric]
    if page.samplesperpixel == colours:
        return np.ascontiguousarray(pixels)
    if page.extrasamples and page.extrasamples[0] == EXTRASAMPLE.UNASSALPHA:
        return on_black(pixels[..., : colours + 1])
    return np.ascontiguousarray(pixels[..., :3] if colours == 3 else pixels[..., 0])  # associated opacity: on black already
