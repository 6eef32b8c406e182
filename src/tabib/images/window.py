"""From the stored values of a grey DICOM picture to what its sender meant to be seen: rescaling, window, look-up tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from tabib.errors import ImageError

__all__ = ["Grey", "as_meant", "number_of"]


HOUNSFIELD = (-1024.0, 3071.0)
"""Black and white of a CT picture without a window: the twelve bits that Hounsfield units have by custom, from air to metal."""


class Grey(NamedTuple):
    """A grey picture, brighter meaning more, and which of its values are black and white."""

    pixels: np.ndarray
    low: float
    high: float
    rescale: tuple[float, float] | None


def as_meant(pixels: np.ndarray, value: Callable[[str], Any], *, bits: int, signed: bool, inverse: bool, little: bool) -> Grey:
    """Apply what DICOM calls the modality and the VOI transformation (PS3.3 C.11.1 and C.11.2) without losing a bit.

    A window moves `low` and `high` and leaves the pixels as they are stored. What is no straight line (look-up tables, a
    sigmoid) is applied: the pixels become shares of the full range of their type. Of several windows or tables the first
    counts, and a table before a window. A window of no width, or outside what the bits can say, is no window. A CT without
    one is shown from -1024 to 3071 Hounsfield units: its 16 bits would make it flat.

    Args:
        pixels: (H, W) stored values, moved up by 2**(bits - 1) where they are signed.
        value: gives the value of an attribute for the frame, None where it is missing.
        bits: how many bits are stored.
        signed: whether the values were signed.
        inverse: whether the smallest value is the brightest (MONOCHROME1).
        little: whether tables are stored with the low byte first.
    """
    full = 2**bits - 1
    offset = 2 ** (bits - 1) if signed else 0
    slope, intercept = number_of(value("RescaleSlope")) or 1.0, number_of(value("RescaleIntercept")) or 0.0
    modality, voi = _first(value("ModalityLUTSequence")), _first(value("VOILUTSequence"))
    sigmoid = str(value("VOILUTFunction") or "").upper() == "SIGMOID"
    window = _window(value)
    if window is None and value("Modality") == "CT" and value("RescaleIntercept") is not None:
        window = HOUNSFIELD
    if modality is None and voi is None and not (sigmoid and window):
        rescale = (slope, intercept - slope * offset) if value("RescaleSlope") is not None else None
        low, high = ((edge - intercept) / slope + offset for edge in window) if window else (0.0, float(full))
        low, high = min(low, high), max(low, high)
        if high <= 0 or low >= full:
            low, high = 0.0, float(full)
        if inverse != (slope < 0):
            pixels = full - pixels
            low, high = full - high, full - low
            rescale = rescale and (-rescale[0], rescale[0] * full + rescale[1])
        return Grey(pixels, low, high, rescale)

    measured = np.arange(full + 1.0) - offset
    if modality is None:
        top = None
        measured = slope * measured + intercept
    else:
        measured, top = _look_up(modality, measured, little)
    if voi is not None:
        shares, highest = _look_up(voi, measured, little)
        shares = shares / highest
    elif window is None:
        shares = measured / (top or full)
    elif sigmoid:
        low, high = window
        with np.errstate(over="ignore"):
            shares = 1 / (1 + np.exp(-4 * (measured - (low + high) / 2) / (high - low)))
    else:
        low, high = window
        shares = (measured - low) / (high - low)
    most = np.iinfo(pixels.dtype).max
    table = np.rint((1 - shares if inverse else shares).clip(0, 1) * most).astype(pixels.dtype)
    return Grey(table[pixels], 0.0, float(most), None)


def _window(value: Callable[[str], Any]) -> tuple[float, float] | None:
    """The measured values of black and white (PS3.3 C.11.2.1.2); None where there is no sensible window."""
    centre, width = number_of(value("WindowCenter")), number_of(value("WindowWidth"))
    if centre is None or width is None:
        return None
    if str(value("VOILUTFunction") or "LINEAR").upper() == "LINEAR":
        centre, width = centre - 0.5, width - 1  # the window is of whole values: the first is black and the last is white
    return (centre - width / 2, centre + width / 2) if width > 0 else None


def _look_up(item: Dataset, inputs: np.ndarray, little: bool) -> tuple[np.ndarray, int]:
    """What a look-up table gives for `inputs`, and the most that it can give (PS3.3 C.11.1.1)."""
    entries, first, bits = (int(number) for number in item.LUTDescriptor)
    entries = entries or 65536
    first = first - 65536 if first >= 32768 and inputs[0] < 0 else first  # an unsigned field for a negative number
    data = item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, "u1" if bits == 8 and len(data) in (entries, entries + 1) else "<u2" if little else ">u2")
    table = np.atleast_1d(np.asarray(data)).astype(np.int64)[:entries]
    if len(table) < entries or not 1 <= bits <= 16:
        raise ImageError(f"has a look-up table of {len(table)} values that says {entries} of {bits} bits; export it again")
    return table[np.rint(inputs - first).clip(0, entries - 1).astype(np.int64)].astype(float), max(2**bits - 1, int(table.max()))


def _first(sequence: Any) -> Dataset | None:
    return sequence[0] if sequence else None


def number_of(value: Any) -> float | None:
    """The first number of a value that may be missing, several or no number."""
    if isinstance(value, MultiValue | list | tuple):
        value = value[0] if value else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None
