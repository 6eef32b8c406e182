"""Whatever is wrong with a file, the answer is one ImageError that names it, without a warning and without much memory."""

from __future__ import annotations

import gzip
import io
import os
import struct
import threading
import tracemalloc
import warnings
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless

from images.made import dicom, nifti, png, png_chunk
from tabib.errors import ImageError
from tabib.images import MAX_PIXELS, read_image, read_image_bytes, spread
from tabib.images import image as image_module
from tabib.images import nifti as nifti_module

RANDOM = np.random.default_rng(11)
PIXELS = RANDOM.integers(0, 65536, (40, 40, 3), np.uint16)
GREY, EIGHT = np.ascontiguousarray(PIXELS[..., 0]), (PIXELS >> 8).astype(np.uint8)


def _jpeg() -> bytes:
    stream = io.BytesIO()
    Pillow.fromarray((PIXELS >> 8).astype(np.uint8)).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def _saved(kind: str, **options) -> bytes:
    stream = io.BytesIO()
    Pillow.fromarray(EIGHT).save(stream, kind, **options)
    return stream.getvalue()


def _tiff(**options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, PIXELS, photometric="rgb", **options)
    return stream.getvalue()


def _pillow_tiff(compression: str) -> bytes:
    stream = io.BytesIO()
    Pillow.fromarray((PIXELS >> 8).astype(np.uint8)).save(stream, "TIFF", compression=compression)
    return stream.getvalue()


GOOD = {
    "png": png(PIXELS),
    "png8": png((PIXELS >> 8).astype(np.uint8)),
    "jpeg": _jpeg(),
    "tiff": _tiff(),
    "tiff_deflate": _tiff(compression="zlib"),
    "tiff_lzw": _pillow_tiff("tiff_lzw"),
    "tiff_jpeg": _pillow_tiff("jpeg"),
    "bmp": _saved("BMP"),
    "webp": _saved("WEBP", quality=90),
    "webp_lossless": _saved("WEBP", lossless=True),
    "nifti": nifti(GREY),
    "nifti_gzip": gzip.compress(nifti(GREY), mtime=0),
    "dicom": dicom(PIXELS[..., 0] >> 4, bits=12),
    "dicom_colour": dicom(PIXELS, colour="RGB"),
    "dicom_jpeg": dicom(EIGHT, syntax=JPEGBaseline8Bit, bits=8, colour="YBR_FULL_422", frames=[bytes(imagecodecs.jpeg8_encode(EIGHT))]),
    "dicom_lossless": dicom(GREY, syntax=JPEGLosslessSV1, frames=[bytes(imagecodecs.jpeg8_encode(GREY, lossless=True, bitspersample=16))]),
    "dicom_jpeg_ls": dicom(GREY, syntax=JPEGLSLossless, frames=[bytes(imagecodecs.jpegls_encode(GREY))]),
    "dicom_jpeg_2000": dicom(
        GREY, syntax=JPEG2000Lossless, frames=[bytes(imagecodecs.jpeg2k_encode(GREY, codecformat="j2k", reversible=True))]
    ),
    "dicom_window": dicom(GREY, values={"WindowCenter": 30000, "WindowWidth": 9000, "RescaleSlope": 2, "RescaleIntercept": -9}),
}


def refusal(data: bytes, name: str = "film.png") -> str:
    """The message of the refusal, with any warning an error and nothing printed or logged."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError) as caught:
            read_image_bytes(data, name)
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    return message


@pytest.mark.parametrize("kind", GOOD)
def test_the_good_ones_are_good(kind):
    assert read_image_bytes(GOOD[kind], kind).pixels.shape[:2] == (40, 40)


@pytest.mark.parametrize("share", [0.02, *(number / 20 for number in range(1, 20)), 0.98])
@pytest.mark.parametrize("kind", GOOD)
def test_cut_short(kind, share, capfd, caplog):
    refusal(GOOD[kind][: int(share * len(GOOD[kind]))])
    assert not caplog.records
    if kind != "tiff_jpeg":  # where libtiff itself writes a line
        assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", GOOD)
def test_garbage_behind_the_first_bytes(kind, capfd):
    head = 132 if kind.startswith("dicom") else 16
    refusal(GOOD[kind][:head] + RANDOM.bytes(3000))
    refusal(GOOD[kind][:head] + b"\0" * 3000)
    assert capfd.readouterr() == ("", "")


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(sorted(GOOD)), place=st.floats(0, 1), junk=st.binary(min_size=1, max_size=8))
def test_a_few_wrong_bytes_give_an_image_or_a_refusal(kind, place, junk):
    data = bytearray(GOOD[kind])
    start = int(place * (len(data) - 1))
    data[start : start + len(junk)] = junk
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            image = read_image_bytes(bytes(data), "a")
        except ImageError:
            return
    assert image.pixels.dtype in (np.uint8, np.uint16)
    assert image.pixels.ndim in (2, 3)
    assert image.pixels.shape[2:] in ((), (3,))
    assert image.low < image.high
    assert spread(image.pixels, image.low, image.high).dtype == image.pixels.dtype


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", r"empty \(0 bytes"),
        (b"\0" * 5000, r"empty \(5000 bytes"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"\xef\xbb\xbf<html>", "web page"),
        (b"GIF89a" + b"\0" * 20, "GIF"),
        (b"\0\0\0\x1cftypheic" + b"\0" * 20, "HEIC"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04aaaa", "ZIP"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (gzip.compress(b"hello" * 200, mtime=0), "gzip archive of something else"),
        (b"\0" * 344 + b"ni1\0", "header of a NIfTI volume, whose pixels are in another file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"hello", r"first bytes 68 65 6c 6c 6f\); DICOM, JPEG, BMP, PNG, TIFF, WebP and NIfTI are read"),
    ],
)
def test_what_it_is_instead_is_said(data, says):
    with pytest.raises(ImageError, match=says):
        read_image_bytes(data, "a.png")


HUGE = 60_000


def _huge_jpeg() -> bytes:
    data = bytearray(GOOD["jpeg"])
    frame = data.find(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", HUGE, HUGE)
    return bytes(data)


def _huge_tiff(kind: str) -> bytes:
    data = GOOD[kind]
    for tag in (256, 257):
        for code in ("H", "I"):
            entry = struct.pack("<HHI" + code, tag, 3 if code == "H" else 4, 1, 40)
            data = data.replace(entry, struct.pack("<HHI" + code, tag, 3 if code == "H" else 4, 1, HUGE), 1)
    return data


HUGE_FILES = {
    "png": png(np.zeros((2, 2, 3), np.uint8), size=(HUGE, HUGE)),
    "png16": png(np.zeros((2, 2, 3), np.uint16), size=(HUGE, HUGE)),
    "jpeg": _huge_jpeg(),
    "tiff": _huge_tiff("tiff"),
    "tiff_deflate": _huge_tiff("tiff_deflate"),
    "tiff_lzw": _huge_tiff("tiff_lzw"),
    "tiff_jpeg": _huge_tiff("tiff_jpeg"),
    "bmp": GOOD["bmp"][:18] + struct.pack("<ii", HUGE, HUGE) + GOOD["bmp"][26:],
    "dicom": dicom(PIXELS[..., 0], values={"Rows": HUGE, "Columns": HUGE}),
    "dicom_jpeg_2000": dicom(PIXELS[..., 0], values={"Rows": HUGE, "Columns": HUGE}, syntax=JPEG2000Lossless, frames=[b"\xff\x4f\xff\x51"]),
}


@pytest.mark.parametrize("kind", HUGE_FILES)
def test_a_huge_header_takes_no_memory(kind):
    tracemalloc.start()
    try:
        message = refusal(HUGE_FILES[kind])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "60,000 x 60,000 pixels, and at most 100,000,000" in message
    assert peak < 4_000_000


@pytest.mark.parametrize("kind", ["png", "dicom", "tiff"])
def test_no_pixels(kind):
    empty = {
        "png": png(np.zeros((2, 2, 3), np.uint8), size=(0, 5)),
        "dicom": dicom(PIXELS[..., 0], values={"Rows": 0}),
        "tiff": _huge_tiff("tiff").replace(struct.pack("<H", HUGE), b"\0\0"),
    }
    refusal(empty[kind])


def test_sizes_up_to_the_limit_are_read_without_a_warning(monkeypatch):
    """Pillow warns from 89 million pixels on; its limit is lowered here instead of decoding so many."""
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("png", "jpeg", "tiff"):
            assert read_image_bytes(GOOD[kind], kind).pixels.shape == (40, 40, 3)


def test_the_limit_is_where_it_is_said(monkeypatch):
    assert MAX_PIXELS == 100_000_000
    monkeypatch.setattr(image_module, "MAX_PIXELS", 1600)
    read_image_bytes(GOOD["png"], "a")
    monkeypatch.setattr(image_module, "MAX_PIXELS", 1599)
    nifti_module._volume.cache_clear()  # it keeps the last volume, which another test may have read
    for data in GOOD.values():
        assert "at most 1,599" in refusal(data)


def test_a_deflate_bomb_in_a_small_tiff_stays_small():
    bomb = zlib.compress(b"\0" * 20_000_000)
    stream = io.BytesIO()
    tifffile.imwrite(stream, iter([bomb]), shape=(40, 40), dtype=np.uint16, compression="zlib", rowsperstrip=40)
    tracemalloc.start()
    try:
        read_image_bytes(stream.getvalue(), "a.tif")
        _, peak = tracemalloc.get_traced_memory()
    except ImageError:
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000


def test_places_that_hold_no_file(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png: cannot be opened: No such file"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="is a pipe or device"):
        read_image(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with pytest.raises(ImageError, match="cannot be opened"):
        read_image(tmp_path / "loop.png")
    with pytest.raises(ImageError, match="cannot be opened"):
        read_image(tmp_path / "nul\0.png")


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def denied(path: Path) -> bytes:  # root, who runs the tests in a container, may read everything
        raise PermissionError(13, "Permission denied", str(path))

    path = tmp_path / "closed.png"
    path.write_bytes(GOOD["png"])
    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(ImageError, match=r"closed\.png: cannot be opened: Permission denied; check"):
        read_image(path)


def test_a_file_of_many_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(50 * 2**30)
    with pytest.raises(ImageError, match="has 53,687,091,200 bytes"):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb.png", r"a\nb.png"),
        ("-rf.png", "-rf.png"),
        ("\x1b[31mred.png", r"\x1b[31mred.png"),
        ("عکس سینه.png", "عکس سینه.png"),
        ("می‌شود.png", "می‌شود.png"),
        ("gnp.\u202eexe", r"gnp.\u202eexe"),
        ("bad\udcff.png", r"bad\udcff.png"),
    ],
)
def test_names_are_shown_safely(tmp_path, name, shown):
    path = tmp_path / "folder" / name
    path.parent.mkdir()
    path.write_bytes(b"junk")
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{shown}: ")
    assert "folder" not in str(caught.value)


def test_silence_ends_with_the_last_thread():
    filters = warnings.filters[:]
    threads = [threading.Thread(target=lambda: [read_image_bytes(GOOD["tiff"], "a") for _ in range(20)]) for _ in "1234"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == filters


def test_broken_png_chunk_sizes():
    header = struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)
    refusal(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header[:5]))
    refusal(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IEND", b""))
    refusal(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + struct.pack(">I", 2**31) + b"IDAT")


def test_a_webp_of_a_huge_canvas_takes_no_memory():
    """Its header can say 16,384 pixels a side for each kind of picture, and 16,777,216 for a canvas."""
    canvas = b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\xff" * 2
    plain = GOOD["webp"][:26] + struct.pack("<HH", 16383, 16383) + GOOD["webp"][30:]
    lossless = GOOD["webp_lossless"][:21] + struct.pack("<I", 2**28 - 1) + GOOD["webp_lossless"][25:]
    for data in (canvas, plain, lossless):
        tracemalloc.start()
        try:
            assert "at most 100,000,000 are read" in refusal(data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4_000_000


def test_a_nifti_slice_of_a_huge_header_takes_no_memory():
    for data in (nifti(GREY, sides=(32_000, 32_000)), gzip.compress(nifti(GREY, sides=(32_000, 32_000)))):
        assert "32,000 x 32,000 pixels, and at most 100,000,000 are read" in refusal(data)


def test_a_gzip_bomb_stays_small():
    """A slice is inflated as far as it says that it reaches, and a volume not beyond its header."""
    bomb = gzip.compress(nifti(GREY) + b"\0" * 50_000_000, mtime=0)
    volume = gzip.compress(nifti(GREY, sides=(4096, 4096, 900)) + b"\0" * 50_000_000)
    tracemalloc.start()
    try:
        read_image_bytes(bomb, "a.nii.gz")
        assert "volume of 30,198,988,800 bytes, and at most" in refusal(volume)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
