"""DICOM with compressed frames: lossless ones come back to the bit, lossy ones as another library decodes them."""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from pydicom.pixels.encoders.native import _encode_frame as encode_run_lengths
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    MPEG4HP41,
    UID,
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from images.made import dicom
from tabib.errors import ImageError
from tabib.images import MAX_BYTES, read_image_bytes

RANDOM = np.random.default_rng(19)


def picture(bits: int, *channels: int, height: int = 24, width: int = 32) -> np.ndarray:
    """A smooth slope with sharp squares and a little noise, of all `bits`."""
    slope = np.linspace(0, 2**bits - 1, width) * np.linspace(0.3, 1, height)[:, None]
    slope[4:9, 4:12], slope[14:20, 16:30] = 2**bits - 1, 0
    if channels:
        slope = np.stack([slope, slope[::-1], slope[:, ::-1]], axis=-1)
    noisy = slope + RANDOM.integers(-(2**bits // 50), 2**bits // 50 + 1, slope.shape)
    return noisy.clip(0, 2**bits - 1).astype(np.uint8 if bits <= 8 else np.uint16)


def run_lengths(pixels: np.ndarray) -> bytes:
    runner = pydicom.pixels.encoders.base.EncodeRunner(RLELossless)
    height, width, *channels = pixels.shape
    options = {"rows": height, "columns": width, "samples_per_pixel": channels[0] if channels else 1}
    options |= {"bits_allocated": 8 * pixels.itemsize, "bits_stored": 8 * pixels.itemsize, "pixel_representation": 0}
    options |= {"photometric_interpretation": "RGB" if channels else "MONOCHROME2", "number_of_frames": 1, "planar_configuration": 0}
    runner.set_options(**options)
    return bytes(encode_run_lengths(pixels.astype(pixels.dtype.newbyteorder("<")).tobytes(), runner))


def encoded(pixels: np.ndarray, syntax: UID, bits: int | None = None) -> bytes:
    """A frame without loss (baseline and extended JPEG: with little)."""
    bits = bits or 8 * pixels.itemsize
    if syntax == RLELossless:
        return run_lengths(pixels)
    if syntax in (JPEGLossless, JPEGLosslessSV1):
        predictor = 1 if syntax == JPEGLosslessSV1 else 4
        return bytes(imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=predictor, bitspersample=bits))
    if syntax in (JPEGBaseline8Bit, JPEGExtended12Bit):
        return bytes(imagecodecs.jpeg8_encode(pixels, level=95, bitspersample=bits))
    if syntax == JPEGLSLossless:
        return bytes(imagecodecs.jpegls_encode(pixels))
    if syntax == JPEGLSNearLossless:
        return bytes(imagecodecs.jpegls_encode(pixels, level=2))
    if syntax in (HTJ2KLossless, HTJ2K):
        return bytes(imagecodecs.htj2k_encode(pixels, reversible=True))
    return bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True, bitspersample=bits))


LOSSLESS = (JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless, RLELossless)
ALL = (*LOSSLESS, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K)


def compressed(pixels: np.ndarray, syntax: UID, bits: int, **options) -> bytes:
    return dicom(pixels, syntax=syntax, bits=bits, frames=[encoded(pixels, syntax)], **options)


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.keyword)
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("colour", ["MONOCHROME1", "MONOCHROME2"])
def test_lossless_grey_comes_back_to_the_bit(syntax, bits, colour):
    pixels = picture(bits)
    image = read_image_bytes(compressed(pixels, syntax, bits, colour=colour), "a.dcm")
    np.testing.assert_array_equal(image.pixels, pixels if colour == "MONOCHROME2" else 2**bits - 1 - pixels)
    assert (image.low, image.high, image.facts.bits) == (0, 2**bits - 1, bits)
    assert image.facts.compression == syntax.name


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.keyword)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_signed_grey_comes_back(syntax, bits):
    stored = picture(bits).astype(int) - 2 ** (bits - 1)
    signed = stored.astype(f"i{1 if bits == 8 else 2}")
    words = signed.view(f"u{signed.itemsize}")
    data = dicom(signed, syntax=syntax, bits=bits, frames=[encoded(words, syntax)])
    np.testing.assert_array_equal(read_image_bytes(data, "a.dcm").pixels, stored + 2 ** (bits - 1))


def test_jpeg_2000_with_the_sign_it_should_have_and_with_the_wrong_one():
    stored = picture(12).astype(np.int16) - 2048
    right = bytes(imagecodecs.jpeg2k_encode(stored, codecformat="j2k", reversible=True))
    np.testing.assert_array_equal(
        read_image_bytes(dicom(stored, syntax=JPEG2000Lossless, bits=12, frames=[right]), "a").pixels, stored + 2048
    )
    words = (stored & 0xFFF).astype(np.uint16)  # 12-bit two's complement that the codestream calls unsigned
    wrong = bytes(imagecodecs.jpeg2k_encode(words, codecformat="j2k", reversible=True, bitspersample=12))
    for bits in (12, 16):
        image = read_image_bytes(dicom(stored, syntax=JPEG2000Lossless, bits=bits, frames=[wrong]), "a")
        np.testing.assert_array_equal(image.pixels, stored.astype(int) + 2 ** (bits - 1))


@pytest.mark.parametrize("syntax", [*LOSSLESS], ids=lambda uid: uid.keyword)
def test_lossless_colour_comes_back(syntax):
    for bits in (8, 16) if syntax != HTJ2KLossless else (8,):
        pixels = picture(bits, 3)
        colour = "YBR_RCT" if syntax in (JPEG2000Lossless, HTJ2KLossless) and bits == 8 else "RGB"
        image = read_image_bytes(compressed(pixels, syntax, bits, colour=colour), "a.dcm")
        np.testing.assert_array_equal(image.pixels, pixels)
        assert image.high == 2**bits - 1


def test_lossy_frames_stay_near():
    for syntax, bits, tolerance in ((JPEGBaseline8Bit, 8, 12), (JPEGExtended12Bit, 12, 300), (JPEGLSNearLossless, 12, 2)):
        pixels = picture(bits)
        data = dicom(pixels, syntax=syntax, bits=bits, frames=[encoded(pixels, syntax, bits)])
        image = read_image_bytes(data, "a.dcm")
        assert 0 < np.abs(image.pixels.astype(int) - pixels).max() <= tolerance


def test_loss_never_turns_white_to_black():
    for low, dtype in ((0, np.uint16), (-2048, np.int16)):
        pixels = np.where(picture(12) > 2000, low + 4095, low).astype(dtype)
        frame = bytes(imagecodecs.jpegls_encode(pixels.view(np.uint16), level=9))  # of 16 bits, of which 12 are stored
        image = read_image_bytes(dicom(pixels, syntax=JPEGLSNearLossless, bits=12, frames=[frame]), "a.dcm")
        assert np.abs(image.pixels.astype(int) - pixels + low).max() <= 9


@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
def test_jpeg_colour_is_what_pillow_decodes(subsampling):
    pixels = picture(8, 3)
    frame = bytes(imagecodecs.jpeg8_encode(pixels, level=90, subsampling=subsampling))
    image = read_image_bytes(dicom(pixels, syntax=JPEGBaseline8Bit, bits=8, colour="YBR_FULL_422", frames=[frame]), "a.dcm")
    expected = np.asarray(Pillow.open(io.BytesIO(frame)))
    assert np.abs(image.pixels.astype(int) - expected).max() <= 2  # two roundings of the same formula


def test_the_frame_says_whether_its_colours_are_luma_and_chroma():
    """What JFIF and Adobe markers say comes before the file's photometric interpretation, which is often wrong."""
    pixels = picture(8, 3)
    luma_chroma = bytes(imagecodecs.jpeg8_encode(pixels, level=95, subsampling="444"))
    plain = bytes(imagecodecs.jpeg8_encode(pixels, level=95, colorspace="RGB", outcolorspace="RGB"))
    assert b"JFIF" in luma_chroma
    assert b"Adobe" in plain
    for colour in ("RGB", "YBR_FULL_422"):
        for frame in (luma_chroma, plain):
            image = read_image_bytes(dicom(pixels, syntax=JPEGBaseline8Bit, bits=8, colour=colour, frames=[frame]), "a.dcm")
            assert np.abs(image.pixels.astype(int) - pixels).mean() < 8
    unmarked = _without_segment(luma_chroma, b"\xff\xe0")
    image = read_image_bytes(dicom(pixels, syntax=JPEGBaseline8Bit, bits=8, colour="YBR_FULL_422", frames=[unmarked]), "a.dcm")
    assert np.abs(image.pixels.astype(int) - pixels).mean() < 8
    image = read_image_bytes(dicom(pixels, syntax=JPEGBaseline8Bit, bits=8, colour="RGB", frames=[unmarked]), "a.dcm")
    raw = convert_color_space(image.pixels, "YBR_FULL", "RGB")
    assert np.abs(raw.astype(int) - pixels).mean() < 8


def _without_segment(data: bytes, mark: bytes) -> bytes:
    start = data.find(mark)
    return data[:start] + data[start + 2 + struct.unpack(">H", data[start + 2 : start + 4])[0] :]


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEG2000Lossless], ids=lambda uid: uid.keyword)
def test_a_frame_in_fragments(syntax, fragments):
    pixels = picture(12)
    data = dicom(pixels, syntax=syntax, bits=12, frames=[encoded(pixels, syntax)], fragments=fragments)
    np.testing.assert_array_equal(read_image_bytes(data, "a.dcm").pixels, pixels)


def test_a_file_that_says_one_frame_and_holds_more():
    pixels = picture(8)
    data = dicom(pixels, syntax=JPEG2000Lossless, bits=8, frames=[encoded(pixels, JPEG2000Lossless)] * 3)
    file = pydicom.dcmread(io.BytesIO(data))
    file.NumberOfFrames = 1
    stream = io.BytesIO()
    file.save_as(stream)
    with pytest.raises(ImageError, match="says one frame and holds 3"):
        read_image_bytes(stream.getvalue(), "a.dcm")


def test_deflated_files():
    for bits in (8, 12):
        pixels = picture(bits)
        image = read_image_bytes(_deflated(pixels, bits), "a.dcm")
        np.testing.assert_array_equal(image.pixels, pixels)
        assert image.facts.compression == "Deflated Explicit VR Little Endian"


def _deflated(pixels: np.ndarray, bits: int) -> bytes:
    file = pydicom.dcmread(io.BytesIO(dicom(pixels, bits=bits)))
    file.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    stream = io.BytesIO()
    file.save_as(stream)
    return stream.getvalue()


def test_a_deflate_bomb_is_not_inflated(monkeypatch):
    assert MAX_BYTES == 750_000_000
    monkeypatch.setattr("tabib.images.dicom.MAX_BYTES", 10_000)
    with pytest.raises(ImageError, match="too large"):
        read_image_bytes(_deflated(np.zeros((300, 300), np.uint8), 8), "a.dcm")


def test_a_film_is_refused_by_name():
    data = dicom(picture(8), syntax=MPEG4HP41, bits=8, frames=[b"\0\0\0\x1cftypisom"])
    with pytest.raises(ImageError, match=r"MPEG-4 .*which is not read; save"):
        read_image_bytes(data, "a.dcm")


@pytest.mark.parametrize("syntax", [*ALL, DeflatedExplicitVRLittleEndian], ids=lambda uid: uid.keyword)
def test_cut_short_anywhere_is_refused(syntax):
    pixels = picture(8)
    data = _deflated(pixels, 8) if syntax == DeflatedExplicitVRLittleEndian else compressed(pixels, syntax, 8)
    read_image_bytes(data, "a.dcm")
    frame = b"" if syntax == DeflatedExplicitVRLittleEndian else encoded(pixels, syntax)
    for share in range(1, 20):
        with pytest.raises(ImageError, match=r"^a\.dcm: .*(copy|export|convert)"):
            read_image_bytes(data[: len(data) * share // 20], "a.dcm")
        if frame:  # the file is whole, the frame in it is not
            with pytest.raises(ImageError, match=r"^a\.dcm: .*(copy|export)"):
                read_image_bytes(dicom(pixels, syntax=syntax, bits=8, frames=[frame[: len(frame) * share // 20]]), "a.dcm")


@pytest.mark.parametrize("syntax", [s for s in ALL if s != RLELossless], ids=lambda uid: uid.keyword)
def test_a_frame_of_another_size_is_refused_before_it_is_decoded(syntax, monkeypatch):
    pixels = picture(8)
    frame = bytearray(encoded(pixels, syntax))
    if (place := frame.find(b"\xff\x4f\xff\x51")) >= 0:
        frame[place + 8 : place + 16] = struct.pack(">II", 60_000, 60_000)
    else:
        place = max(frame.find(mark) for mark in (b"\xff\xc0", b"\xff\xc1", b"\xff\xc3", b"\xff\xf7"))
        frame[place + 5 : place + 9] = struct.pack(">HH", 60_000, 60_000)
    for name in ("jpeg2k_decode", "jpeg_decode", "jpegls_decode"):
        monkeypatch.setattr(imagecodecs, name, lambda *arguments, **options: pytest.fail("was decoded"))
    with pytest.raises(ImageError, match="is of 60,000 x 60,000 with 1 of 8"):
        read_image_bytes(dicom(pixels, syntax=syntax, bits=8, frames=[bytes(frame)]), "a.dcm")


def test_run_lengths_that_give_more_than_the_pixels_are_refused():
    runs = b"\x81\0" * 100_000  # 128 zeros each
    frame = struct.pack("<16I", 1, 64, *[0] * 14) + runs
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_image_bytes(dicom(picture(8), syntax=RLELossless, bits=8, frames=[frame]), "a.dcm")


def test_a_frame_that_is_no_picture():
    for syntax in ALL:
        for frame in (b"\0\0", b"\xff\xd8", b"\xff\x4f\xff\x51", RANDOM.bytes(500)):
            with pytest.raises(ImageError, match=r"^a\.dcm: "):
                read_image_bytes(dicom(picture(8), syntax=syntax, bits=8, frames=[frame]), "a.dcm")


@pytest.mark.parametrize(
    "syntax", [JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless], ids=lambda uid: uid.keyword
)
def test_every_frame_of_a_compressed_film(syntax):
    pictures = [picture(8) for _ in range(4)]
    data = dicom(pictures[0], syntax=syntax, bits=8, frames=[encoded(pixels, syntax) for pixels in pictures])
    for number, pixels in enumerate(pictures):
        image = read_image_bytes(data, "a.dcm", number)
        assert np.abs(image.pixels.astype(int) - pixels).max() <= (12 if syntax == JPEGBaseline8Bit else 0)
    with pytest.raises(ImageError, match="is a DICOM file of 4 frames, and nothing says which one counts"):
        read_image_bytes(data, "a.dcm")
    with pytest.raises(ImageError, match="has no frame 4"):
        read_image_bytes(data, "a.dcm", 4)
