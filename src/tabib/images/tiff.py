"""TIFF: the directory, 16 bits and what is uncompressed by tifffile, other pictures of 8 bits and fewer by Pillow's libtiff.

Pillow alone would keep 8 of 16 bits of a colour image, and tifffile leaves palettes, inks, opacity and chroma to its caller.
"""

from __future__ import annotations

import io
import struct
from functools import lru_cache

import numpy as np
from PIL.TiffImagePlugin import TiffImageFile
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, SAMPLEFORMAT, TiffFile, TiffPage

from tabib.errors import ImageError
from tabib.images.image import Image, ImageFacts, check_size, choose_frame
from tabib.images.raster import eight_bit_pixels, on_black, upright
from tabib.images.volume import check_voxels

__all__ = ["count_tiff_pages", "read_tiff", "tiff_labels"]

SAMPLES: dict[int, int] = {  # photometric interpretation: samples a pixel has, without opacity
    PHOTOMETRIC.MINISWHITE: 1,
    PHOTOMETRIC.MINISBLACK: 1,
    PHOTOMETRIC.PALETTE: 1,
    PHOTOMETRIC.RGB: 3,
    PHOTOMETRIC.YCBCR: 3,
    PHOTOMETRIC.SEPARATED: 4,
}
LIBTIFF = (  # compressions that are left to Pillow where it keeps every bit
    COMPRESSION.CCITTRLE,
    COMPRESSION.CCITT_T4,
    COMPRESSION.CCITT_T6,
    COMPRESSION.LZW,
    COMPRESSION.JPEG,
    COMPRESSION.ADOBE_DEFLATE,
    COMPRESSION.DEFLATE,
    COMPRESSION.PACKBITS,
)
BOUNDED = (COMPRESSION.NONE, COMPRESSION.ZSTD, COMPRESSION.LZMA)  # whose decoders stop at the size of a strip or tile
MAX_PAGES = 10_000
COPY_OR_MASK = 1 | 4  # bits of NewSubfileType (TIFF 6.0, tag 254)
PLAIN_COLOURS = (PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB)


def read_tiff(data: bytes, frame: int | None = None) -> Image:
    """Decode a page of a TIFF file: 1 to 8 bits of any usual colour, 16 bits of grey or RGB.

    Pages that say that they are smaller copies or masks of others are not counted. Signed 16-bit values are moved up by
    32768. White-is-zero pictures are inverted, transparency is laid on black. Resolution tags are about printing and say
    nothing of the body, so there is no spacing.
    """
    places = _places(data)
    place = places[choose_frame(frame, len(places), "TIFF file")]
    with TiffFile(io.BytesIO(data)) as file:
        page = file.pages[place]
        assert isinstance(page, TiffPage)
        _refuse_layout(file, page)
        _refuse_values(page)
        _refuse_cut_short(page, len(data))
        wide = page.bitspersample == 16
        own = page.compression not in LIBTIFF or file.is_bigtiff
        plain = wide or (own and page.bitspersample == 8 and page.photometric in PLAIN_COLOURS)
        pixels = _plain(_by_tifffile(page), page) if plain else _by_pillow(data, place)
        facts = ImageFacts(
            format="TIFF",
            bits=page.bitspersample,
            mode=f"{PHOTOMETRIC(page.photometric).name}{';16' if wide else ''}",
            compression=None if page.compression == COMPRESSION.NONE else COMPRESSION(page.compression).name.lower(),
            scanner=" ".join(word for name in ("Make", "Model") if (word := _text(page.tags.valueof(name)))) or None,
        )
    return Image(pixels, 0, 65535 if wide else 255, None, None, facts)


def tiff_labels(data: bytes, page: int | None = None) -> np.ndarray | None:
    """Give the labels of the pages of a TIFF file, (D, H, W), or of one page, where they are no shades of 8 or 16 bits.

    Those are places in a palette, signed, of 32 bits, or floating-point numbers, which some programs write for labels. None for a
    file whose labels are its pixels.
    """
    places = _places(data)
    places = places if page is None else [places[choose_frame(page, len(places), "TIFF file")]]
    with TiffFile(io.BytesIO(data)) as file:
        pages = [found for place in places if isinstance(found := file.pages[place], TiffPage)]
        first = pages[0]
        kind = SAMPLEFORMAT(first.sampleformat).name.lower()
        grey = first.photometric == PHOTOMETRIC.MINISBLACK and (kind, first.bitspersample) not in (("uint", 8), ("uint", 16))
        if first.samplesperpixel != 1 or not (grey or first.photometric == PHOTOMETRIC.PALETTE):
            return None
        check_voxels(len(pages), first.imagelength, first.imagewidth)
        for one in pages:
            _refuse_layout(file, one)
            _refuse_cut_short(one, len(data))
            if (one.shape, one.dtype) != (first.shape, first.dtype):
                raise ImageError("is a TIFF whose pages differ in size or type, so they are no slices of one volume; save them alone")
        return np.stack([_by_tifffile(one) for one in pages])


def count_tiff_pages(data: bytes) -> int:
    """Give how many pages a TIFF file holds, without smaller copies and masks."""
    return len(_places(data))


@lru_cache(maxsize=1)
def _places(data: bytes) -> list[int]:
    """Where the pages stand that are pictures of their own. Those of the last file are kept: they are asked for one after the other."""
    with TiffFile(io.BytesIO(data)) as file:
        pages = [(place, page) for place in range(_directories(file, data)) if isinstance(page := file.pages[place], TiffPage)]
    return [place for place, page in pages if not page.subfiletype & COPY_OR_MASK] or [place for place, _ in pages[:1]]


def _directories(file: TiffFile, data: bytes) -> int:
    """Follow the chain of directories (TIFF 6.0, section 2) to its end; where it leads back, tifffile would go round for ever."""
    start, step, count, link = (8, 20, "Q", "Q") if file.is_bigtiff else (4, 12, "H", "I")
    (place,) = struct.unpack_from(file.byteorder + link, data, start)
    seen: set[int] = set()
    while place:
        if place in seen or len(seen) == MAX_PAGES:
            raise ImageError(
                f"is a TIFF whose pages lead back to themselves, or of more than {MAX_PAGES:,} pages; export it again, or split it"
            )
        seen.add(place)
        (entries,) = struct.unpack_from(file.byteorder + count, data, place)
        (place,) = struct.unpack_from(file.byteorder + link, data, place + struct.calcsize(count) + step * entries)
    return len(seen)


def _text(value: object) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def _refuse_layout(file: TiffFile, page: TiffPage) -> None:
    check_size(page.imagelength, page.imagewidth)
    if file.is_bigtiff and file.byteorder == ">" and page.photometric not in PLAIN_COLOURS:
        raise ImageError("is a big-endian BigTIFF of neither grey nor RGB, which is not read; save it as a usual TIFF")
    if page.imagedepth > 1 or (len(file.pages) == 1 and (file.is_imagej or file.is_shaped) and file.series[0].size != page.size):
        raise ImageError("is a TIFF that holds several planes in one page; save the one that counts as a file of its own")
    if page.compression not in (*LIBTIFF, *BOUNDED) or (page.compression == COMPRESSION.JPEG and page.bitspersample == 16):
        old = page.compression == COMPRESSION.OJPEG
        name = "old-style JPEG, which its own standard gave up" if old else COMPRESSION(page.compression).name
        raise ImageError(f"is a TIFF of {page.bitspersample} bits compressed as {name}, which is not read; save it as LZW or deflate")


def _refuse_values(page: TiffPage) -> None:
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


def _refuse_cut_short(page: TiffPage, size: int) -> None:
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
    pixels = page.asarray(maxworkers=1)
    pixels = np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels
    return upright(pixels, page.tags.valueof("Orientation") or 1)


def _by_pillow(data: bytes, place: int) -> np.ndarray:
    with TiffImageFile(io.BytesIO(data)) as picture:
        picture.seek(place)
        return eight_bit_pixels(picture)


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
