"""Real files: read as another library reads them, or refused with a reason."""

from __future__ import annotations

import hashlib

import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow

from places import REAL, needs_real
from tabib.images import count_frames, has_colour, read_image

pytestmark = pytest.mark.real


@needs_real("dicom_samples")
def test_every_frame_of_every_dicom_sample_is_read():
    frames = {}
    for path in sorted((REAL / "dicom_samples").glob("*.dcm")):
        file = pydicom.dcmread(path)
        frames[path.name] = count_frames(path)
        pictures = file.pixel_array.reshape(frames[path.name], file.Rows, file.Columns, -1)
        for number, stored in enumerate(pictures.squeeze(-1) if file.SamplesPerPixel == 1 else pictures):
            image = read_image(path, number)
            moved = stored.astype(int) + (2 ** (file.BitsStored - 1) if file.PixelRepresentation else 0)
            inverted = file.PhotometricInterpretation == "MONOCHROME1"
            np.testing.assert_array_equal(image.pixels, 2**file.BitsStored - 1 - moved if inverted else moved)
            assert image.low < image.high
            assert image.facts.patient == (file.get("PatientID") or None)
    assert len(frames) >= 7
    assert frames["MR-MONO2-8-16x-heart.dcm"] == 16


@needs_real("dicom_samples")
def test_a_film_is_the_same_whether_compressed_or_not():
    films = [REAL / "dicom_samples" / name for name in ("RG1_UNCR.dcm", "RG1_J2KR.dcm")]
    plain, compressed = (read_image(path) for path in films if path.exists())
    np.testing.assert_array_equal(plain.pixels, compressed.pixels)
    assert (plain.low, plain.high) == (compressed.low, compressed.high)


@needs_real("chest_xray")
def test_chest_films_are_what_pillow_decodes():
    for path in sorted((REAL / "chest_xray" / "test" / "NORMAL").iterdir())[:40]:
        image = read_image(path)
        np.testing.assert_array_equal(image.pixels, np.asarray(Pillow.open(path)))
        assert image.facts.format == "JPEG"
        assert not has_colour(image.pixels)


@needs_real("blast_cells")
def test_stained_cells_have_colour():
    assert all(has_colour(read_image(path).pixels) for path in sorted((REAL / "blast_cells" / "blast").iterdir())[:20])


@needs_real("nuclei")
def test_label_maps_keep_their_sixteen_bits():
    paths = sorted((REAL / "nuclei" / "fluorescence" / "labels").iterdir())[:10]
    for path in paths:
        image = read_image(path)
        assert image.pixels.dtype == np.uint16
        np.testing.assert_array_equal(image.pixels, np.asarray(Pillow.open(path)))
    assert len({hashlib.sha256(read_image(path).pixels.tobytes()).digest() for path in paths}) > 1


@needs_real("cardiac_sunnybrook")
def test_cine_frames_keep_their_spacing():
    paths = sorted((REAL / "cardiac_sunnybrook").rglob("*.dcm"))[:10]
    assert paths
    for path in paths:
        image = read_image(path)
        assert image.pixels.shape == (256, 256)
        assert image.spacing_mm == pytest.approx((1.367, 1.367), abs=0.01)
