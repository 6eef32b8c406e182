"""Every DICOM file that comes with pydicom: pixels equal to pydicom's, with GDCM where it needs one, or a reason."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom.pixels.processing import apply_color_lut

from tabib.errors import ImageError
from tabib.images import count_frames, read_image

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"

REASONS = {  # what is refused although it holds pixels
    "MR_truncated.dcm": "less than expected",
    "badVR.dcm": "invalid literal",  # for its number of frames
    "JPEG2000-embedded-sequence-delimiter.dcm": "compressed frame is of",  # pydicom cannot read it either
    "SC_rgb_rle_32bit.dcm": "32 bits allocated",
    "SC_rgb_rle_32bit_2frame.dcm": "32 bits allocated",
    "rtdose.dcm": "32 bits allocated",
    "rtdose_1frame.dcm": "32 bits allocated",
    "rtdose_expb.dcm": "32 bits allocated",
    "rtdose_expb_1frame.dcm": "32 bits allocated",
    "rtdose_rle.dcm": "32 bits allocated",
    "rtdose_rle_1frame.dcm": "32 bits allocated",
    "meta_missing_tsyntax.dcm": "does not name its transfer syntax",
    "nested_priv_SQ.dcm": "0 x 0 pixels",
}


def reference(file: pydicom.FileDataset, frame: int) -> np.ndarray:
    """The pixels as documented: stored values, signed ones moved up, small-is-bright ones inverted, colours as RGB."""
    stored = file.pixel_array
    stored = stored[frame] if int(file.get("NumberOfFrames") or 1) > 1 else stored
    if file.PhotometricInterpretation == "PALETTE COLOR":
        return apply_color_lut(stored, file)
    if file.SamplesPerPixel == 3:
        return stored
    highest = 2**file.BitsStored - 1
    moved = stored.astype(int) + (2 ** (file.BitsStored - 1) if file.PixelRepresentation else 0)
    return highest - moved if (file.PhotometricInterpretation == "MONOCHROME1") != (file.get("RescaleSlope", 1) < 0) else moved


def test_every_bundled_file_is_read_as_pydicom_reads_it_or_refused():
    counts: Counter[str] = Counter()
    for path in sorted(path for path in BUNDLED.rglob("*") if path.is_file()):
        try:
            frames = count_frames(path)
            images = [read_image(path, frame) for frame in range(frames)]
        except ImageError as error:
            counts[_justified(path, str(error))] += 1
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = pydicom.dcmread(path)
            for frame, image in enumerate(images):
                try:
                    expected = reference(file, frame)
                except RuntimeError:  # pydicom does not give 12-bit extended JPEG to GDCM
                    expected = _by_gdcm(path)
                np.testing.assert_array_equal(image.pixels, expected, err_msg=path.name)
                counts["equal"] += 1
    assert counts == {"equal": 113, "refused": len(REASONS), "no picture": 81}


def _justified(path: Path, message: str) -> str:
    assert message.startswith(f"{path.name}: ")
    if path.name in REASONS:
        assert REASONS[path.name] in message
        return "refused"
    assert "without integer pixels" in message or path.read_bytes()[128:132] != b"DICM"
    return "no picture"


def _by_gdcm(path: Path) -> np.ndarray:
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    columns, rows = reader.GetImage().GetDimensions()
    return np.frombuffer(reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape"), np.uint16).reshape(rows, columns)


def test_several_frames_ask_which():
    path = BUNDLED / "SC_rgb_rle_2frame.dcm"
    assert count_frames(path) == 2
    with pytest.raises(ImageError, match=r"is a DICOM file of 2 frames, and nothing says which one counts; ask for one of 0 to 1, or save"):
        read_image(path)
    for frame in (2, -1):
        with pytest.raises(ImageError, match=f"has no frame {frame}; ask for one of 0 to 1"):
            read_image(path, frame)
    assert not np.array_equal(read_image(path, 0).pixels, read_image(path, 1).pixels)
