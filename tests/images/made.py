"""Files with known pixels, written by hand or by libraries that the reader under test does not share."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

PNG_COLOURS = {1: 0, 3: 2, 2: 4, 4: 6}  # channels: PNG colour type


def png(pixels: np.ndarray, *, chunks: bytes = b"", size: tuple[int, int] | None = None) -> bytes:
    """A PNG of (H, W, C) uint8 or uint16; its rows run through all five filters in turn."""
    height, width, channels = pixels.shape
    step = channels * pixels.itemsize
    rows = pixels.astype(f">u{pixels.itemsize}").reshape(height, -1).view(np.uint8).astype(int)
    above, lines = np.zeros_like(rows[0]), []
    for number, row in enumerate(rows):
        left, corner = (np.concatenate([np.zeros(step, int), line])[: len(line)] for line in (row, above))
        paeth = left + above - corner
        distance = np.abs(np.stack([paeth - left, paeth - above, paeth - corner]))
        nearest = np.choose(distance.argmin(0), [left, above, corner])
        guess = [np.zeros_like(row), left, above, (left + above) // 2, nearest][number % 5]
        lines.append(bytes([number % 5]) + ((row - guess) % 256).astype(np.uint8).tobytes())
        above = row
    written = size or (height, width)
    header = struct.pack(">IIBBBBB", written[1], written[0], 8 * pixels.itemsize, PNG_COLOURS[channels], 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + chunks
        + png_chunk(b"IDAT", zlib.compress(b"".join(lines)))
        + png_chunk(b"IEND", b"")
    )


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(rows: np.ndarray | bytes, tags: dict[int, tuple[int, int, int]], *, order: str = "<") -> bytes:
    """A TIFF of one strip, written by hand: `tags` gives number: (type, count, value), the strip's are added."""
    data = rows if isinstance(rows, bytes) else rows.tobytes()
    entries = tags | {273: (4, 1, 8), 278: (4, 1, tags[257][2]), 279: (4, 1, len(data))}
    directory = struct.pack(order + "H", len(entries))
    for tag, (kind, count, value) in sorted(entries.items()):
        field = struct.pack(order + ("HH" if kind == 3 else "I"), *([value, 0] if kind == 3 else [value]))
        directory += struct.pack(order + "HHI", tag, kind, count) + field
    mark = b"II*\0" if order == "<" else b"MM\0*"
    padded = data + b"\0" * (len(data) % 2)
    return mark + struct.pack(order + "I", 8 + len(padded)) + padded + directory + b"\0\0\0\0"


def dicom(
    stored: np.ndarray | bytes,
    *,
    syntax: str = ExplicitVRLittleEndian,
    bits: int = 16,
    colour: str = "MONOCHROME2",
    drop: tuple[str, ...] = (),
    values: dict[str, object] | None = None,
    frames: list[bytes] | None = None,
    fragments: int = 1,
) -> bytes:
    """A DICOM file written by pydicom; `stored` (H, W) or (H, W, 3), signed or not, `values` set over the usual ones.

    `frames` are compressed frames, each in so many fragments, to hold instead of the pixels.
    """
    array = stored if isinstance(stored, np.ndarray) else np.zeros((4, 4), np.uint16)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3.4"
    file.Rows, file.Columns = array.shape[:2]
    file.SamplesPerPixel = 3 if array.ndim == 3 else 1
    if array.ndim == 3:
        file.PlanarConfiguration = 0
    file.PhotometricInterpretation = colour
    file.BitsAllocated = 8 * array.itemsize
    file.BitsStored, file.HighBit = bits, bits - 1
    file.PixelRepresentation = int(array.dtype.kind == "i")
    byte_order = ">" if syntax == "1.2.840.10008.1.2.2" else "<"
    data = stored if isinstance(stored, bytes) else array.astype(array.dtype.newbyteorder(byte_order)).tobytes()
    file.PixelData = data + b"\0" * (len(data) % 2)
    file["PixelData"].VR = "OW" if array.itemsize == 2 else "OB"
    if frames is not None:
        file.PixelData = encapsulate(frames, fragments_per_frame=fragments)
        file.NumberOfFrames = len(frames)
        file["PixelData"].VR, file["PixelData"].is_undefined_length = "OB", True
    for name, value in (values or {}).items():
        setattr(file, name, value)
    for name in drop:
        delattr(file, name)
    stream = io.BytesIO()
    dcmwrite(stream, file, implicit_vr=syntax == "1.2.840.10008.1.2", little_endian=byte_order == "<")
    return stream.getvalue()


def nifti(stored: np.ndarray, *, sides: tuple[int, ...] | None = None, kind: int | None = None, order: str = "<", **fields: float) -> bytes:
    """A NIfTI-1 file written by hand; `fields` are those of HEADER by name, `sides` what the header says instead of the truth."""
    sides = sides or stored.shape[:2]
    kind = kind or {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768}[stored.dtype.str[1:]]
    header = bytearray(348)
    struct.pack_into(order + "i", header, 0, 348)
    struct.pack_into(order + "8h", header, 40, len(sides), *sides, *[1] * (7 - len(sides)))
    struct.pack_into(order + "2h", header, 70, kind, 8 * stored.itemsize * (stored.shape[2] if stored.ndim == 3 else 1))
    struct.pack_into(order + "8f", header, 76, *[1.0] * 8)
    struct.pack_into(order + "3f", header, 108, 352.0, 1.0, 0.0)
    header[123], header[344:348] = 2, b"n+1\0"  # millimetres
    places = {"scl_slope": 112, "scl_inter": 116, "cal_max": 124, "cal_min": 128, "row_mm": 84, "column_mm": 80}
    for name, value in fields.items():
        struct.pack_into(order + "f", header, places[name], value)
    axes = (1, 0) if stored.ndim == 2 else (1, 0, 2)  # the first side runs fastest
    return bytes(header) + b"\0" * 4 + stored.transpose(axes).astype(stored.dtype.newbyteorder(order)).tobytes()


UPRIGHT = np.eye(3)


def turned(angles: tuple[float, float, float]) -> np.ndarray:
    """Directions of columns, rows and slices."""
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        one = np.eye(3)
        first, second = [other for other in range(3) if other != axis]
        one[first, first] = one[second, second] = np.cos(angle)
        one[first, second], one[second, first] = -np.sin(angle), np.sin(angle)
        turn = turn @ one
    return turn


class Folder:
    """A folder of DICOM slices with a known place and time, under names that say nothing."""

    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0
        path.mkdir(exist_ok=True)

    def add(
        self,
        pixels: np.ndarray,
        position: np.ndarray,
        *,
        directions: np.ndarray = UPRIGHT,
        spacing: tuple[float, float] = (1.5, 1.25),
        series: str = "1.2.3",
        **values: object,
    ) -> None:
        self.count += 1
        written = {
            "SOPInstanceUID": f"1.2.9.{self.count}",
            "StudyInstanceUID": "1.2",
            "SeriesInstanceUID": series,
            "FrameOfReferenceUID": "1.5",
            "Modality": "MR",
            "PatientID": "P1",
            "InstanceNumber": 1000 - self.count,
            "ImagePositionPatient": [f"{value:.6f}" for value in position],
            "ImageOrientationPatient": [f"{value:.6f}" for value in directions[:2].ravel()],
            "PixelSpacing": [f"{value:.4f}" for value in spacing],
            "SliceThickness": 99,  # which is not the spacing
        }
        name = f"{zlib.crc32(str(self.count).encode()):08x}"
        (self.path / name).write_bytes(dicom(pixels, bits=12, values=written | values))

    def files(self) -> list[Path]:
        files = sorted(self.path.iterdir())
        random.Random(7).shuffle(files)
        return files


def enhanced(stored: np.ndarray, places: list[tuple[float, float]]) -> bytes:
    """A multi-frame file of (N, H, W) with the place and the time of each frame."""

    def item(**values: object) -> Dataset:
        made = Dataset()
        for name, value in values.items():
            setattr(made, name, Sequence([value]) if isinstance(value, Dataset) else value)
        return made

    frames = [
        item(
            PlanePositionSequence=item(ImagePositionPatient=[0, 0, place]),
            TemporalPositionSequence=item(TemporalPositionTimeOffset=time),
            CardiacSynchronizationSequence=item(NominalCardiacTriggerDelayTime=time),
        )
        for place, time in places
    ]
    shared = item(
        PlaneOrientationSequence=item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        PixelMeasuresSequence=item(PixelSpacing=[1.5, 1.25], SliceThickness=8),
    )
    values = {
        "NumberOfFrames": len(stored),
        "SeriesInstanceUID": "1.2.7",
        "SharedFunctionalGroupsSequence": Sequence([shared]),
        "PerFrameFunctionalGroupsSequence": Sequence(frames),
        "Rows": stored.shape[1],
        "Columns": stored.shape[2],
        "SamplesPerPixel": 1,
        "SOPClassUID": EnhancedMRImageStorage,
        "StudyInstanceUID": "1.2",
        "FrameOfReferenceUID": "1.5",
        "Modality": "MR",
        "InstanceNumber": 1,
        "SeriesNumber": 1,
    }
    return dicom(stored.reshape(-1, stored.shape[2]), bits=12, values=values)
