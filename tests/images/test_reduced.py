from __future__ import annotations

import io
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Pillow
from pydicom.uid import HTJ2KLossless, JPEG2000Lossless

from images.made import dicom
from places import REAL, needs_real
from tabib.dataset import enough_side, fit_image
from tabib.errors import ImageError
from tabib.images import Fit, read_image, read_image_bytes, resize

MEAN, LARGEST = 1.0, 16.0
"""The tolerance that docs/decisions/0008-reduced-decoding.md states, in grey levels of 255 at the size of the input."""


def film(height: int, width: int, dtype: type = np.uint8, bits: int = 8) -> np.ndarray:
    """Structure from coarse to fine, and sharp edges: a marker as on films."""
    random = np.random.default_rng(height)
    picture = np.zeros((height, width))
    for step in (3, 12, 48):  # finer structure is fainter, as in any picture
        coarse = random.integers(0, 256, (height // step + 2, width // step + 2), dtype=np.uint8)
        picture += resize(coarse, height, width) * {3: 0.1, 12: 0.3, 48: 0.6}[step]
    picture[height // 20 : height // 10, width // 20 : width // 5] = 255
    return np.rint(picture * ((2**bits - 1) / 255)).astype(dtype)


def jpeg(pixels: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    Pillow.fromarray(pixels).save(stream, "JPEG", **{"quality": 90, **options})
    return stream.getvalue()


def jpeg_2000(pixels: np.ndarray, bits: int, **values: object) -> bytes:
    frame = bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True, bitspersample=bits))
    return dicom(pixels, syntax=JPEG2000Lossless, bits=bits, frames=[frame], values=values)


def apart(data: bytes, side: int, fit: Fit = "stretch") -> tuple[float, float, int]:
    """Mean and largest difference to the whole decoding in grey levels of 255, and how many times fewer rows were decoded."""
    whole, reduced = read_image_bytes(data, "a"), read_image_bytes(data, "a", least=enough_side(side, side))
    one, other = (fit_image(image, height=side, width=side, channels=1, fit=fit) for image in (whole, reduced))
    assert one.dtype == other.dtype
    difference = np.abs(one.astype(float) - other) * (255 / np.iinfo(one.dtype).max)
    return float(difference.mean()), float(difference.max()), round(whole.pixels.shape[0] / reduced.pixels.shape[0])


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
@pytest.mark.parametrize(("height", "width"), [(800, 640), (801, 643), (807, 650)], ids=["even", "one more", "seven more"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 50}], ids=["baseline", "progressive", "coarse"])
def test_jpeg_stays_within_the_tolerance(height: int, width: int, options: dict[str, object], fit: Fit) -> None:
    for side, fewer in ((25, 8), (50, 4), (100, 2)):
        mean, largest, times = apart(jpeg(film(height, width), **options), side, fit)
        assert mean <= MEAN
        assert largest <= LARGEST
        assert times == fewer


def test_colour_stays_within_the_tolerance() -> None:
    colour = np.stack([film(600, 640), film(600, 640)[::-1], film(600, 640)[:, ::-1]], axis=-1)
    mean, largest, times = apart(jpeg(colour), 48)
    assert (mean <= MEAN, largest <= LARGEST, times) == (True, True, 4)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize(("height", "width"), [(640, 512), (643, 515), (641, 513)], ids=["even", "three more", "one more"])
def test_jpeg_2000_stays_within_the_tolerance(height: int, width: int, bits: int) -> None:
    pixels = film(height, width, np.uint8 if bits == 8 else np.uint16, bits)
    files = [jpeg_2000(pixels, bits)]
    if bits != 12:  # the encoder knows whole bytes only
        files.append(dicom(pixels, syntax=HTJ2KLossless, bits=bits, frames=[bytes(imagecodecs.htj2k_encode(pixels, reversible=True))]))
    for data in files:
        for side in (32, 70):
            mean, largest, times = apart(data, side)
            assert mean <= MEAN
            assert largest <= LARGEST
            assert times >= 2


def test_the_geometry_is_kept_to_a_fraction_of_a_pixel() -> None:
    """A slope has its value at every place: what is moved by half a pixel shows, however little there is to see."""
    height, width = 803, 1001
    slope = np.rint(np.linspace(0, 4095, width)[None].repeat(height, 0)).astype(np.uint16)
    for data in (jpeg((slope >> 4).astype(np.uint8), quality=100), jpeg_2000(slope, 12)):
        whole, reduced = (
            fit_image(read_image_bytes(data, "a", least=least), height=40, width=40, channels=1, fit="stretch") for least in (None, 100)
        )
        step = 255 / 40 * np.iinfo(whole.dtype).max / 255  # of one pixel of the result
        moved = (reduced.astype(float) - whole)[:, 2:-2] / step
        assert abs(moved.mean()) < 0.05
        assert abs(moved).max() < 0.2


def test_both_sides_keep_what_is_asked_for() -> None:
    for data in (jpeg(film(1000, 300)), jpeg_2000(film(1000, 300), 8)):
        for least in (37, 75, 149, 150, 151, 300, 2000):
            image = read_image_bytes(data, "a", least=least)
            assert min(image.pixels.shape) >= min(least, 300)
            assert (image.box is None) == (image.pixels.shape == (1000, 300))


def test_what_cannot_be_reduced_is_decoded_whole() -> None:
    picture, deep = film(400, 400), film(400, 400, np.uint16, 12)
    turned = Pillow.Exif()
    turned[274] = 6
    signed = deep.astype(np.int16) - 2048
    table = {"VOILUTFunction": "SIGMOID", "WindowCenter": 2000, "WindowWidth": 3000}
    stream = io.BytesIO()
    Pillow.fromarray(picture).save(stream, "PNG")
    for data in (
        stream.getvalue(),
        jpeg(picture, exif=turned.tobytes()),
        jpeg_2000(signed, 12),
        jpeg_2000(deep, 12, **table),
        jpeg_2000(deep, 12, WindowCenter=2000, WindowWidth=500),
        jpeg_2000(np.stack([picture] * 3, axis=-1), 8, PhotometricInterpretation="YBR_RCT"),
    ):
        whole, asked = read_image_bytes(data, "a"), read_image_bytes(data, "a", least=50)
        np.testing.assert_array_equal(asked.pixels, whole.pixels)
        assert asked.box is None


def test_spacing_grows_with_the_pixels() -> None:
    window = {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 2000, "WindowWidth": 3200}
    data = jpeg_2000(film(512, 512, np.uint16, 12), 12, PixelSpacing=[0.2, 0.1], **window)
    whole, reduced = read_image_bytes(data, "a"), read_image_bytes(data, "a", least=120)
    assert (whole.spacing_mm, reduced.spacing_mm) == ((0.2, 0.1), (0.8, 0.4))
    assert (reduced.low, reduced.high, reduced.facts) == (whole.low, whole.high, whole.facts)
    assert apart(data, 40)[1] <= LARGEST


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_what_is_cut_short_is_refused_at_every_resolution(share: float) -> None:
    for data in (jpeg(film(640, 640)), jpeg_2000(film(640, 640), 8)):
        for least in (None, 80):
            with pytest.raises(ImageError):
                read_image_bytes(data[: int(share * len(data))], "a", least=least)


@needs_real("cats_dogs")
def test_real_photographs_stay_within_the_tolerance() -> None:
    photographs = sorted((REAL / "cats_dogs" / "train").glob("*/*"))[::40]
    found = [apart(path.read_bytes(), 40) for path in photographs]
    assert len(found) > 10
    assert max(mean for mean, _, _ in found) <= MEAN
    assert max(largest for _, largest, _ in found) <= LARGEST
    assert max(times for *_, times in found) > 1


@pytest.mark.slow
@needs_real("dicom_samples")
def test_a_real_film_stays_within_the_tolerance(tmp_path: Path) -> None:
    compressed = (REAL / "dicom_samples" / "RG1_J2KR.dcm").read_bytes()
    mean, largest, times = apart(compressed, 224)
    assert (mean <= MEAN, largest <= LARGEST, times) == (True, True, 2)
    plain = read_image(REAL / "dicom_samples" / "RG1_UNCR.dcm")
    for side in (64, 128):
        mean, largest, times = apart(
            jpeg((fit_image(plain, height=1955, width=1841, channels=1, fit="stretch")[0] >> 8).astype(np.uint8)), side
        )
        assert (mean <= MEAN, largest <= LARGEST, times >= 4) == (True, True, True)
