"""What one image is once it has been read: pixels, their range, their geometry, and what the file said of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from tabib.errors import ImageError

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "Image",
    "ImageFacts",
    "check_size",
    "choose_frame",
    "has_colour",
    "printable",
    "shown_name",
    "spread",
    "to_grey",
]

MAX_PIXELS = 100_000_000
"""Largest image that is decoded, in pixels (height x width).

The largest single radiographs, digital mammograms, have some 30 million; whole slides, which have billions, must be cut
into tiles anyway. At 16 bits and three channels this bounds one image to 600 MB.
"""

MAX_BYTES = MAX_PIXELS * 3 * 2 * 5 // 4
"""Largest file that is read: the largest image uncompressed, and a quarter for whatever else its file holds."""

COLOUR_TOLERANCE = 8  # of 255: how far JPEG's rounding of its colour channels moves a grey film saved as RGB


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What the file says about itself and about its making; None where it does not say."""

    format: str  # "PNG", "JPEG", "TIFF" or "DICOM"
    bits: int  # bits stored per sample
    mode: str  # as the file says: "L", "RGB", "P", "CMYK", "I;16", "MONOCHROME1"
    compression: str | None = None  # JPEG "quality 75", TIFF "lzw", DICOM transfer syntax; None where the format has one only
    scanner: str | None = None  # manufacturer and model
    site: str | None = None  # institution
    date: str | None = None  # of acquisition, YYYY-MM-DD
    patient: str | None = None  # DICOM PatientID: used as the group, and never logged


@dataclass(frozen=True, eq=False)
class Image:
    """One image, upright, with more meaning brighter.

    A full pixel value always means the same fraction of `low`..`high`, whatever the picture shows: nothing is stretched
    to the picture's own range. Where a DICOM file says a window, `low` and `high` are the window's edges, and pixels beyond
    them are as black or as white as the edges; they are kept as they are.
    """

    pixels: np.ndarray  # (H, W) grey or (H, W, 3) RGB; uint8, or uint16 where the file stores more than 8 bits
    low: float  # value of black; below 0 where a window begins below what the bits can say
    high: float  # value of white: 255, 65535, 2**bits - 1 of a DICOM file, or the end of its window
    spacing_mm: tuple[float, float] | None  # between rows, between columns
    orientation: str | None  # DICOM ImageOrientationPatient or PatientOrientation, values joined by "\\"
    facts: ImageFacts
    rescale: tuple[float, float] | None = None  # (slope, intercept) from a pixel to what was measured, of a CT Hounsfield units
    box: tuple[float, float, float, float] | None = None  # left, top, right, bottom of the picture in pixels that were decoded smaller


def check_size(height: int, width: int) -> None:
    """Refuse, before any memory is taken, an image of no pixels or of more than `MAX_PIXELS`."""
    if height < 1 or width < 1:
        raise ImageError(f"the header says {width} x {height} pixels, so there is no picture; export the file again")
    if height * width > MAX_PIXELS:
        raise ImageError(
            f"the header says {width:,} x {height:,} pixels, and at most {MAX_PIXELS:,} are read; cut the image into "
            "tiles or make it smaller, and if it should be small, the file is damaged"
        )


def choose_frame(frame: int | None, frames: int, kind: str) -> int:
    """Give the frame to read, from 0; a file of several is refused where none is asked for."""
    if frame is None and frames > 1:
        raise ImageError(
            f"is a {kind} of {frames} frames, and nothing says which one counts; "
            f"ask for one of 0 to {frames - 1}, or save the one that counts as a file of its own"
        )
    if frame is not None and not 0 <= frame < frames:
        raise ImageError(f"is a {kind} of {frames} frames, numbered from 0, and has no frame {frame}; ask for one of 0 to {frames - 1}")
    return frame or 0


def spread(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Give pixels with `low`..`high` spread over the whole range of their type; what lies beyond is black or white.

    Pixels that fill their type already are returned as they are.
    """
    most = np.iinfo(pixels.dtype).max
    if (low, high) == (0, most):
        return pixels
    shares = (np.arange(most + 1) - low) / (high - low)
    return np.rint(shares.clip(0, 1) * most).astype(pixels.dtype)[pixels]


def to_grey(pixels: np.ndarray) -> np.ndarray:
    """Give the luma of an image, (H, W) of the same dtype; a grey image is returned as it is.

    ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B, in 16-bit fixed point, which is what Pillow computes for 8 bits.
    """
    if pixels.ndim == 2:
        return pixels
    weights = (19595, 38470, 7471)  # of 65536; uint32 holds 65535 x 65536 and the half that rounds
    total = np.full(pixels.shape[:2], 1 << 15, np.uint32)
    for channel, weight in enumerate(weights):
        total += pixels[..., channel] * np.uint32(weight)
    return (total >> np.uint32(16)).astype(pixels.dtype)


def has_colour(pixels: np.ndarray) -> bool:
    """Tell whether the channels of any pixel differ by more than 8 of 255 (16 bits: by more than 8 x 257).

    The tolerance is what JPEG does to a grey film that was saved as RGB; it is exact, no pixel is skipped.
    """
    if pixels.ndim == 2:
        return False
    tolerance = COLOUR_TOLERANCE * (np.iinfo(pixels.dtype).max // 255)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return False
    highest = np.maximum(np.maximum(red, green), blue)
    lowest = np.minimum(np.minimum(red, green), blue)
    return bool((highest - lowest).max() > tolerance)


def shown_name(name: str | PurePath) -> str:
    """Give the base name of a file in a form that is safe to print."""
    return printable(PurePath(name).name or str(name))


def printable(text: str) -> str:
    """Give a text in a form that is safe to print on one line: line breaks and control characters are escaped.

    The joiners that Persian is written with (U+200C, U+200D) stay.
    """
    return "".join(
        letter if letter.isprintable() or letter in "\u200c\u200d" else letter.encode("unicode_escape").decode() for letter in text
    )
