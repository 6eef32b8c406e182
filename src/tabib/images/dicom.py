"""Uncompressed single-frame DICOM, by pydicom."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tabib.errors import ImageError
from tabib.images.image import Image, ImageFacts, check_size
from tabib.images.raster import day

__all__ = ["read_dicom"]

UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
COLOURS = {"MONOCHROME1": 1, "MONOCHROME2": 1, "RGB": 3, "YBR_FULL": 3}  # photometric interpretation: samples per pixel


def read_dicom(data: bytes) -> Image:
    """Decode a DICOM file of one uncompressed picture (PS3.3 C.7.6.3, PS3.5 8).

    The pixels are the stored values: all `BitsStored` bits, no window, no rescaling. Three things are done to them.
    Signed values are moved up by 2**(bits - 1), so black is 0. A picture in which the smallest stored value is the
    brightest (MONOCHROME1, or a negative rescale slope, but not both) is inverted in its nominal range. YBR_FULL becomes RGB.
    """
    syntax = _transfer_syntax(data)
    if syntax not in UNCOMPRESSED:
        raise ImageError(
            f"is a DICOM file in the transfer syntax {syntax.name}, and only uncompressed ones are read; "
            "decompress it, for example with `gdcmconv --raw IN OUT` or `dcmdjpeg IN OUT`"
        )
    file = dcmread(io.BytesIO(data))
    bits, shift, colour = _refuse_unsupported(file)
    # pydicom masks the stored bits as if they were always the lowest ones; given all bits, it leaves them alone.
    file.BitsStored, file.HighBit = file.BitsAllocated, file.BitsAllocated - 1
    stored = pixel_array(file, raw=colour != "YBR_FULL")
    highest = 2**bits - 1
    pixels = stored.astype(stored.dtype.newbyteorder("="), copy=False).view(f"u{stored.itemsize}") >> shift
    pixels &= highest  # bits above the stored ones may hold overlays
    if file.PixelRepresentation == 1:
        pixels ^= 1 << (bits - 1)  # two's complement to offset binary
    if (colour == "MONOCHROME1") != (_number(file, "RescaleSlope", 1) < 0):
        pixels = highest - pixels
    pixels = pixels.astype(np.uint8 if bits <= 8 else np.uint16, copy=False)
    facts = ImageFacts(
        format="DICOM",
        bits=bits,
        mode=colour,
        compression=syntax.name,
        scanner=_text(file, "Manufacturer", "ManufacturerModelName"),
        site=_text(file, "InstitutionName"),
        date=_date(file),
        patient=_text(file, "PatientID"),
    )
    return Image(np.ascontiguousarray(pixels), 0, highest, _spacing(file), _orientation(file), facts)


def _transfer_syntax(data: bytes) -> UID:
    """Read the transfer syntax alone: reading more would inflate a deflated file, however large it turns out."""
    stream = io.BytesIO(data)
    stream.seek(132)
    for element in data_element_generator(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2):
        if element.tag == 0x00020010 and isinstance(element.value, bytes):
            return UID(element.value.decode("ascii").rstrip("\0 "))
    raise ImageError("is a DICOM file that does not name its transfer syntax; export it again")


def _refuse_unsupported(file: Dataset) -> tuple[int, int, str]:
    """Refuse what would be read in part or wrongly; give the bits stored, those below them, and the colours."""
    if "PixelData" not in file:
        kind = UID(str(file.get("SOPClassUID", ""))).name or "unknown kind"
        raise ImageError(f"is a DICOM file without integer pixels ({kind}); leave it out of the images")
    check_size(int(file.get("Rows", 0)), int(file.get("Columns", 0)))
    frames = int(file.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ImageError(f"is a DICOM file of {frames} frames; save the frame that counts as a file of its own")
    colour = str(file.get("PhotometricInterpretation", "missing"))
    samples = int(file.get("SamplesPerPixel", 1))
    if COLOURS.get(colour) != samples:
        raise ImageError(
            f"is a DICOM picture with photometric interpretation {colour} and {samples} samples per pixel; "
            f"{', '.join(COLOURS)} are read: convert it to one of them"
        )
    allocated = int(file.get("BitsAllocated", 0))
    bits = int(file.get("BitsStored", allocated))
    high = int(file.get("HighBit", bits - 1))
    if allocated not in (8, 16) or not 1 <= bits <= high + 1 <= allocated or (samples == 3 and bits != allocated):
        raise ImageError(
            f"is a DICOM picture with {allocated} bits allocated, {bits} stored and {high} as the highest bit; "
            "1 to 16 stored bits in 8 or 16 allocated ones are read (colour: all of them); convert it"
        )
    pictures = len(file.PixelData) // (int(file.Rows) * int(file.Columns) * samples * allocated // 8)
    if pictures > 1:
        raise ImageError(f"is a DICOM file that says one frame and holds {pictures}; save the one that counts alone")
    return bits, high + 1 - bits, colour


def _number(file: Dataset, name: str, missing: float) -> float:
    try:
        return float(file.get(name, missing))
    except (TypeError, ValueError):
        return missing


def _text(file: Dataset, *names: str) -> str | None:
    words = (" ".join(str(file.get(name) or "").split()) for name in names)
    return " ".join(word for word in words if word) or None


def _date(file: Dataset) -> str | None:
    for name in ("AcquisitionDate", "ContentDate", "SeriesDate", "StudyDate"):
        found = day(str(file.get(name) or ""))
        if found:
            return found
    return None


def _spacing(file: Dataset) -> tuple[float, float] | None:
    """Millimetres between rows and between columns; at the detector where the file gives nothing nearer to the body."""
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        try:
            rows, columns = (float(value) for value in file.get(name) or ())
        except (TypeError, ValueError):
            continue
        if 0 < rows < float("inf") and 0 < columns < float("inf"):
            return rows, columns
    return None


def _orientation(file: Dataset) -> str | None:
    for name in ("ImageOrientationPatient", "PatientOrientation"):
        values = file.get(name)
        if isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0:
            return "\\".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    return None
