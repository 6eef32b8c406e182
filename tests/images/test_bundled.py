"""Every file that comes with pydicom or nibabel: pixels equal to that library's, DICOM with GDCM where it needs one, or a reason."""

from __future__ import annotations

import gc
import warnings
from collections import Counter
from pathlib import Path
from typing import cast

import gdcm
import nibabel
import numpy as np
import pydicom
import pytest
from nibabel.brikhead import AFNIHeaderError, AFNIImageError
from nibabel.filebasedimages import ImageFileError
from nibabel.parrec import PARRECError
from nibabel.spatialimages import SpatialImage
from pydicom.pixels.processing import apply_color_lut

from images.page import PAGE
from tabib.errors import ImageError
from tabib.images import Image, count_frames, read_image

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
VOLUMES = Path(nibabel.__file__).parent


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
    refused = [name for library, name, _ in PAGE.CHECKED if library == "pydicom"]
    assert counts == {"equal": PAGE.EQUAL["pydicom"], "refused": len(refused), "no picture": 81}


def _justified(path: Path, message: str) -> str:
    assert message.startswith(f"{path.name}: ")
    if reason := _reason("pydicom", path):
        assert reason in message
        return "refused"
    assert "without integer pixels" in message or path.read_bytes()[128:132] != b"DICM"
    return "no picture"


def _reason(library: str, path: Path) -> str | None:
    """What the page of image files says of a file that is refused although it holds pixels."""
    return next((reason for of, name, reason in PAGE.CHECKED if of == library and path.match(name)), None)


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


def test_every_volume_that_comes_with_nibabel_is_read_as_nibabel_reads_it_or_refused():
    counts: Counter[str] = Counter()
    folders = [VOLUMES / "tests" / "data", VOLUMES / "nicom" / "tests" / "data"]
    for path in sorted(path for folder in folders for path in folder.iterdir() if path.is_file() and path.suffix != ".py"):
        values = _by_nibabel(path)
        try:
            images = [read_image(path, frame) for frame in range(count_frames(path))]
        except ImageError as error:
            counts[_out_of_scope(path, str(error)) if values is not None else "no volume"] += 1
            continue
        if values is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                np.testing.assert_array_equal(images[0].pixels, reference(pydicom.dcmread(path), 0))
            counts["DICOM"] += 1
            continue
        _equal_to_nibabel(images, values)
        counts["equal"] += 1
    assert counts == {"equal": PAGE.EQUAL["nibabel"], "refused": 14, "DICOM": 6, "no volume": 72}


def _out_of_scope(path: Path, message: str) -> str:
    reason = _reason("nibabel", path)
    assert reason
    assert reason in message
    return "refused"


def _by_nibabel(path: Path) -> np.ndarray | None:
    """The measured values of a volume; None where nibabel cannot read it, or its pixels do not come with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            values = np.asanyarray(cast(SpatialImage, nibabel.load(path)).dataobj)
        except (ImageFileError, PARRECError, AFNIHeaderError, AFNIImageError, FileNotFoundError, ModuleNotFoundError):
            values = None
        gc.collect()  # here, where nobody minds that nibabel leaves files of PAR/REC open
    return values


def _equal_to_nibabel(images: list[Image], values: np.ndarray) -> None:
    """Each slice has the values that nibabel gives, as they lie on film; a value that is no number is black."""
    slices = np.nan_to_num(values, nan=np.nanmin(values)).reshape(*values.shape[:2], -1, order="F")
    assert len(images) == slices.shape[2]
    for number, image in enumerate(images):
        slope, intercept = image.rescale or (1.0, -32768.0 if values.dtype.kind == "i" else 0.0)
        film = image.pixels * slope + intercept
        turned = [np.rot90(picture, quarter) for picture in (slices[..., number], slices[..., number].T) for quarter in range(4)]
        near = 0.51 * slope if values.dtype.itemsize == 4 else 1e-3  # floating-point numbers become 16-bit shares
        assert any(film.shape == picture.shape and np.allclose(film, picture, atol=near) for picture in turned)
