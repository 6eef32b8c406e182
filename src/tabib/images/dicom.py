"""DICOM: the file and its facts by pydicom, compressed frames by `codestreams`, the meaning of grey by `window`."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame, parse_basic_offsets
from pydicom.filereader import data_element_generator, read_dataset
from pydicom.pixels.processing import apply_color_lut, convert_color_space
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from tabib.errors import ImageError
from tabib.images.image import MAX_BYTES, Image, ImageFacts, check_size, choose_frame
from tabib.images.raster import day
from tabib.images.volume import rescaled
from tabib.images.window import as_meant, number_of

__all__ = [
    "COLOURS",
    "count_dicom_frames",
    "dicom_facts",
    "frame_value",
    "frames_in",
    "parse",
    "read_dicom",
    "read_measured",
    "spacing_in_plane",
    "transfer_syntax",
]

UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
COLOURS = {  # photometric interpretation: samples per pixel
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_ICT": 3,
    "YBR_RCT": 3,
}


NARROW = 4
"""A window narrower than the range by more than this is applied at full resolution: it cuts values off, and a mean of values that were
cut off is not the mean of the values, cut off."""


def read_dicom(data: bytes, frame: int | None = None, least: int | None = None) -> Image:
    """Decode one picture of a DICOM file (PS3.3 C.7.6.3, PS3.5 8).

    The pixels are the stored values, all `BitsStored` bits of them, and `low`..`high` is the window of the file. Signed
    values are moved up by 2**(bits - 1), so they start at 0. A picture in which the smallest stored value is the brightest
    (MONOCHROME1, or a negative rescale slope, but not both) is inverted in its nominal range. Look-up tables are applied;
    see `window.as_meant`. Palettes and Y, Cb, Cr become RGB. Grey JPEG 2000 is decoded at a lower resolution where both sides keep
    `least` pixels, and straight lines lead from the stored values to a window that is not narrow.
    """
    file, syntax = parse(data)
    _refuse_without_pixels(file, syntax)
    frame = choose_frame(frame, frames_in(file), "DICOM file")
    form = _form(file)
    value = partial(frame_value, file, frame)
    halvings = 0
    if syntax in UNCOMPRESSED:
        pixels = _uncompressed(file, form, frame)
    else:
        pixels, halvings = _compressed(file, form, frame, syntax, least if _is_straight(form, value) else None)
    bits, low, high, rescale = form.bits, 0.0, float(2**form.bits - 1), None
    if form.colour == "PALETTE COLOR":
        pixels = _through_palette(pixels, file)
        bits = 8 * pixels.itemsize
        high = float(2**bits - 1)
    elif form.samples == 1:
        if form.signed:
            pixels ^= 1 << (bits - 1)  # two's complement to offset binary
        pixels = pixels.astype(np.uint8 if bits <= 8 else np.uint16, copy=False)
        inverse = form.colour == "MONOCHROME1"
        little = syntax != ExplicitVRBigEndian
        pixels, low, high, rescale = as_meant(pixels, value, bits=bits, signed=form.signed, inverse=inverse, little=little)
    if halvings and (high - low) * NARROW < 2**bits - 1:
        return read_dicom(data, frame)
    spacing, box = spacing_in_plane(value), None
    if halvings:
        pixels, box = _with_its_box(pixels, form, halvings)
        spacing = spacing and (spacing[0] * 2**halvings, spacing[1] * 2**halvings)
    return Image(
        np.ascontiguousarray(pixels), low, high, spacing, _orientation(value), dicom_facts(file, form.colour, bits, syntax), rescale, box
    )


def read_measured(data: bytes, frame: int) -> tuple[np.ndarray, ImageFacts]:
    """Decode what was measured in one picture of a DICOM file, and what the file says of itself.

    Grey values are rescaled (PS3.3 C.7.6.16.2.9, C.11.1.1.2), of a CT to Hounsfield units; windows are not applied, and MONOCHROME1
    is inverted in its nominal range. With a table in place of a straight line, and in colour, they are the pixels of `read_dicom`.
    """
    file, syntax = parse(data)
    _refuse_without_pixels(file, syntax)
    form, frame = _form(file), choose_frame(frame, frames_in(file), "DICOM file")
    facts = dicom_facts(file, form.colour, form.bits, syntax)
    value = partial(frame_value, file, frame)
    if not form.colour.startswith("MONOCHROME") or value("ModalityLUTSequence"):
        return read_dicom(data, frame).pixels, facts
    pixels = _uncompressed(file, form, frame) if syntax in UNCOMPRESSED else _compressed(file, form, frame, syntax, None)[0]
    lowest, highest = (-(2 ** (form.bits - 1)), 2 ** (form.bits - 1) - 1) if form.signed else (0, 2**form.bits - 1)
    stored = pixels.astype(np.int32)
    if form.signed:
        stored -= (stored & 1 << (form.bits - 1)) << 1  # two's complement
    if form.colour == "MONOCHROME1":
        stored = lowest + highest - stored
    dtype = np.min_scalar_type(lowest if form.signed else highest)
    return rescaled(stored.astype(dtype), number_of(value("RescaleSlope")) or 1.0, number_of(value("RescaleIntercept")) or 0.0), facts


def dicom_facts(file: Dataset, colour: str, bits: int, syntax: UID) -> ImageFacts:
    """What a DICOM file says about itself and its making."""
    return ImageFacts(
        format="DICOM",
        bits=bits,
        mode=colour,
        compression=syntax.name,
        scanner=_text(file, "Manufacturer", "ManufacturerModelName"),
        site=_text(file, "InstitutionName"),
        date=_date(file),
        patient=_text(file, "PatientID"),
    )


def _is_straight(form: _Form, value: Callable[[str], Any]) -> bool:
    """Whether nothing but a straight line and a window stands between the stored values and what is meant."""
    tables = value("ModalityLUTSequence") or value("VOILUTSequence") or str(value("VOILUTFunction") or "").upper() == "SIGMOID"
    return form.colour.startswith("MONOCHROME") and not tables


def _with_its_box(pixels: np.ndarray, form: _Form, halvings: int) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """Pixels of a lower resolution with one more row and column, and where the picture lies in them.

    Their centres are those of every 2**halvings-th stored pixel (ISO/IEC 15444-1, F.3), so the picture begins within the first one
    and may end behind the last one.
    """
    step = 2.0**halvings
    start = 0.5 - 0.5 / step
    return np.pad(pixels, ((0, 1), (0, 1)), "edge"), (start, start, form.columns / step + start, form.rows / step + start)


def count_dicom_frames(data: bytes) -> int:
    """Give how many pictures a DICOM file holds; ImageError where it holds none."""
    file, syntax = parse(data)
    _refuse_without_pixels(file, syntax)
    return frames_in(file)


@lru_cache(maxsize=1)
def parse(data: bytes) -> tuple[Dataset, UID]:
    """Read the file and its transfer syntax; a deflated one is never inflated beyond the largest file that is read.

    The last one is kept: its frames are asked for one after the other.
    """
    stream = io.BytesIO(data)
    syntax = transfer_syntax(stream)
    if syntax == DeflatedExplicitVRLittleEndian:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        inflated = inflater.decompress(data[stream.tell() :], MAX_BYTES)
        if not inflater.eof:
            raise ImageError("is a deflated DICOM file that is damaged, cut short or too large; copy or export it again")
        file = read_dataset(io.BytesIO(inflated), is_implicit_VR=False, is_little_endian=True)
        file.file_meta = FileMetaDataset()
        file.file_meta.TransferSyntaxUID = syntax
        return file, syntax
    return dcmread(io.BytesIO(data)), syntax


def transfer_syntax(stream: BinaryIO) -> UID:
    """What the file says of how it is written; the stream then stands behind the file meta information (PS3.10 7.1)."""
    stream.seek(132)
    syntax = None
    for element in data_element_generator(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2):
        if element.tag == 0x00020010 and isinstance(element.value, bytes):
            syntax = UID(element.value.decode("ascii").rstrip("\0 "))
    if syntax is None:
        raise ImageError("is a DICOM file that does not name its transfer syntax; export it again")
    return syntax


def _refuse_without_pixels(file: Dataset, syntax: UID) -> None:
    if "PixelData" not in file:
        kind = UID(str(file.get("SOPClassUID", ""))).name or "unknown kind"
        raise ImageError(
            f"is a DICOM file without integer pixels ({kind}); leave it out of the images, or copy it again if it should be one"
        )
    if syntax in UNCOMPRESSED:
        return
    from tabib.images.codestreams import COMPRESSED  # the decoders take half a second, and many files need none

    if syntax not in COMPRESSED:
        raise ImageError(
            f"is a DICOM file in the transfer syntax {syntax.name}, which is not read; "
            "save the picture that counts uncompressed or as JPEG 2000"
        )


def frames_in(file: Dataset) -> int:
    """How many pictures a header says."""
    return max(1, int(file.get("NumberOfFrames") or 1))


class _Form(NamedTuple):
    """How the pixels of a file lie in memory."""

    rows: int
    columns: int
    colour: str
    samples: int
    allocated: int
    bits: int
    shift: int  # bits below the stored ones
    signed: bool


def _form(file: Dataset) -> _Form:
    """Read the description of the pixels, and refuse what would be read in part or wrongly."""
    rows, columns = int(file.get("Rows", 0)), int(file.get("Columns", 0))
    check_size(rows, columns)
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
    whole = samples == 3 and (bits != allocated or (colour != "RGB" and bits != 8))
    if allocated not in (1, 8, 16) or not 1 <= bits <= high + 1 <= allocated or whole:
        raise ImageError(
            f"is a DICOM picture with {allocated} bits allocated, {bits} stored and {high} as the highest bit; 1 to 16 stored "
            "bits in 8 or 16 allocated ones are read (colour: all of them, and 8 unless it is RGB): convert it"
        )
    return _Form(rows, columns, colour, samples, allocated, bits, high + 1 - bits, file.get("PixelRepresentation") == 1)


def _uncompressed(file: Dataset, form: _Form, frame: int) -> np.ndarray:
    size = form.rows * form.columns * (2 if form.colour == "YBR_FULL_422" else form.samples) * form.allocated
    frames, pictures = frames_in(file), len(file.PixelData) * 8 // size
    if pictures > frames and (form.allocated > 1 or pictures > 8):
        raise ImageError(f"is a DICOM file that says {_counted(frames)} and holds {pictures}; save the one that counts alone")
    # pydicom masks the stored bits as if they were always the lowest ones; given all bits, it leaves them alone.
    stored = pixel_array(file, index=frame, raw=not form.colour.startswith("YBR"), bits_stored=form.allocated)
    if form.samples == 3:
        return stored.astype(stored.dtype.newbyteorder("="), copy=False)
    return _counting_bits(stored.astype(stored.dtype.newbyteorder("="), copy=False).view(f"u{stored.itemsize}"), form)


def _compressed(file: Dataset, form: _Form, frame: int, syntax: UID, least: int | None) -> tuple[np.ndarray, int]:
    """The pixels, and how often their resolution was halved."""
    from tabib.images.codestreams import decode_frame

    frames, pictures = frames_in(file), len(parse_basic_offsets(file.PixelData))
    if pictures > frames:
        raise ImageError(f"is a DICOM file that says {_counted(frames)} and holds {pictures}; save the one that counts alone")
    extended = None
    if "ExtendedOffsetTable" in file and "ExtendedOffsetTableLengths" in file:
        extended = (file.ExtendedOffsetTable, file.ExtendedOffsetTableLengths)
    decoded = decode_frame(
        get_frame(file.PixelData, frame, number_of_frames=frames, extended_offsets=extended),
        syntax,
        rows=form.rows,
        columns=form.columns,
        samples=form.samples,
        allocated=form.allocated,
        stored=form.bits,
        signed=form.signed,
        least=least,
    )
    if form.samples == 1:
        return _counting_bits(decoded.samples, form), decoded.halvings
    luma_chroma = decoded.luma_chroma
    if luma_chroma is None:  # JPEG 2000 undoes YBR_ICT and YBR_RCT itself
        luma_chroma = form.colour in ("YBR_FULL", "YBR_FULL_422")
    return (convert_color_space(decoded.samples, "YBR_FULL", "RGB") if luma_chroma else decoded.samples), 0


def _counting_bits(words: np.ndarray, form: _Form) -> np.ndarray:
    """The bits that count, lowest first: those above may hold overlays."""
    return (words >> form.shift) & (2**form.bits - 1)


def _counted(frames: int) -> str:
    return "one frame" if frames == 1 else f"{frames} frames"


def _through_palette(pixels: np.ndarray, file: Dataset) -> np.ndarray:
    """(H, W, 3) colours, 8 or 16 bits as the palette has them (PS3.3 C.7.6.3.1.5)."""
    if "RedPaletteColorLookupTableData" not in file:
        raise ImageError("is a DICOM picture with a palette in segments, or with none, which is not read; save it as RGB")
    return apply_color_lut(pixels, file)[..., :3]


def frame_value(file: Dataset, frame: int, name: str) -> Any:
    """The value of an attribute for a frame: its own, the shared one (PS3.3 C.7.6.16) or the file's; None where missing."""
    own, shared = file.get("PerFrameFunctionalGroupsSequence") or (), file.get("SharedFunctionalGroupsSequence") or ()
    for groups in (*own[frame : frame + 1], *shared[:1]):
        for group in groups:
            if group.VR == "SQ" and group.value and group.value[0].get(name) is not None:
                return group.value[0].get(name)
    return file.get(name)


def _text(file: Dataset, *names: str) -> str | None:
    words = (" ".join(str(file.get(name) or "").split()) for name in names)
    return " ".join(word for word in words if word) or None


def _date(file: Dataset) -> str | None:
    for name in ("AcquisitionDate", "ContentDate", "SeriesDate", "StudyDate"):
        found = day(str(file.get(name) or ""))
        if found:
            return found
    return None


def spacing_in_plane(value: Callable[[str], Any]) -> tuple[float, float] | None:
    """Millimetres between rows and between columns; at the detector where the file gives nothing nearer to the body."""
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        try:
            rows, columns = (float(number) for number in value(name) or ())
        except (TypeError, ValueError):
            continue
        if 0 < rows < float("inf") and 0 < columns < float("inf"):
            return rows, columns
    return None


def _orientation(value: Callable[[str], Any]) -> str | None:
    for name in ("ImageOrientationPatient", "PatientOrientation"):
        values = value(name)
        if isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0:
            return "\\".join(f"{item:g}" if isinstance(item, float) else str(item) for item in values)
    return None
