from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image as Pillow
from PIL import ImageOps, TiffImagePlugin

from images.made import tiff
from tabib.errors import ImageError
from tabib.images import count_frames, read_image, read_image_bytes

RANDOM = np.random.default_rng(5)
SHORT, LONG = 3, 4


def noise(*shape: int, dtype: type = np.uint16) -> np.ndarray:
    return RANDOM.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def by_tifffile(pixels: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def by_pillow(picture: Pillow.Image, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "TIFF", **options)
    return stream.getvalue()


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3)])
@pytest.mark.parametrize("layout", ["strips", "one strip", "predictor", "tiles", "big"])
def test_every_layout_comes_back(compression, byteorder, dtype, shape, layout):
    options = {
        "strips": {"rowsperstrip": 2},
        "one strip": {},
        "predictor": {"predictor": compression is not None},
        "tiles": {"tile": (16, 16)},
        "big": {"bigtiff": True},
    }[layout]
    pixels = noise(*shape, dtype=dtype)
    photometric = "rgb" if len(shape) == 3 else "minisblack"
    data = by_tifffile(pixels, compression=compression, byteorder=byteorder, photometric=photometric, **options)
    image = read_image_bytes(data, "a.tif")
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.pixels.dtype == dtype
    assert image.high == np.iinfo(dtype).max
    assert (image.facts.format, image.facts.bits) == ("TIFF", 8 * pixels.itemsize)
    assert image.facts.compression == (None if compression is None else "adobe_deflate")


@settings(max_examples=15, deadline=None)
@given(pixels=arrays.arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_sixteen_bit_round_trip(pixels):
    np.testing.assert_array_equal(read_image_bytes(by_tifffile(pixels), "a.tif").pixels, pixels)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "raw"])
@pytest.mark.parametrize("mode", ["1", "L", "I;16", "RGB", "RGBA", "P", "CMYK"])
def test_what_pillow_compresses(compression, mode):
    if mode == "I;16":
        picture = Pillow.fromarray(noise(12, 10))
    elif mode == "RGBA":
        picture = Pillow.fromarray(noise(12, 10, 4, dtype=np.uint8))
    else:
        picture = Pillow.fromarray(noise(12, 10, 3, dtype=np.uint8)).convert(mode)
    data = by_pillow(picture, compression=compression)
    if mode == "RGBA":
        stored = np.asarray(picture).astype(float)
        expected = np.rint(stored[..., :3] * stored[..., 3:] / 255 + 1e-9)
    else:
        plain = {"1": "L", "P": "RGB", "CMYK": "RGB"}.get(mode, mode)
        expected = np.asarray(picture if plain == mode else picture.convert(plain))
    np.testing.assert_array_equal(read_image_bytes(data, "a.tif").pixels, expected)


def test_lzw_of_sixteen_bit_colour_keeps_sixteen_bits():
    """Pillow would write 8 bits, so libtiff is given the bytes of a 16-bit picture as three times as many grey samples."""
    pixels = noise(6, 5, 3)
    grey = by_pillow(Pillow.fromarray(pixels.reshape(6, 15)), compression="tiff_lzw")
    strip = Pillow.open(io.BytesIO(grey))
    assert isinstance(strip, TiffImagePlugin.TiffImageFile)
    start, length = strip.tag_v2[273][0], strip.tag_v2[279][0]
    tags = {256: (LONG, 1, 5), 257: (LONG, 1, 6), 258: (SHORT, 1, 16), 259: (SHORT, 1, 5), 262: (SHORT, 1, 2)}
    data = tiff(grey[start : start + length], tags | {277: (SHORT, 1, 3), 258: (SHORT, 3, 0)})
    # Three bit depths do not fit into a directory entry, so the entry points to them behind the file's end.
    data = data.replace(b"\x02\x01\x03\x00\x03\x00\x00\x00\x00\x00", b"\x02\x01\x03\x00\x03\x00\x00\x00" + b"%s")
    where = len(data.replace(b"%s", b"\0\0"))
    data = data.replace(b"%s", where.to_bytes(2, "little")) + np.array([16, 16, 16], "<u2").tobytes()
    image = read_image_bytes(data, "a.tif")
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.facts.compression == "lzw"


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_white_is_zero_is_inverted(compression):
    for dtype in (np.uint8, np.uint16):
        pixels = noise(5, 4, dtype=dtype)
        data = by_tifffile(pixels, photometric="miniswhite", compression=compression)
        np.testing.assert_array_equal(read_image_bytes(data, "a.tif").pixels, np.iinfo(dtype).max - pixels)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_signed_values_move_up(compression, byteorder):
    pixels = noise(5, 4, dtype=np.int16)
    data = by_tifffile(pixels, compression=compression, byteorder=byteorder)
    np.testing.assert_array_equal(read_image_bytes(data, "a.tif").pixels, pixels.astype(int) + 32768)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified"])
def test_sixteen_bit_opacity(compression, kind):
    pixels = noise(5, 4, 4)
    data = by_tifffile(pixels, photometric="rgb", extrasamples=[kind], compression=compression)
    expected = pixels[..., :3]
    if kind == "unassalpha":
        expected = np.rint(expected.astype(float) * pixels[..., 3:] / 65535)
    np.testing.assert_array_equal(read_image_bytes(data, "a.tif").pixels, expected)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_planes_are_brought_together(dtype, compression):
    pixels = noise(3, 6, 5, dtype=dtype)
    data = by_tifffile(pixels, photometric="rgb", planarconfig="separate", compression=compression)
    np.testing.assert_array_equal(read_image_bytes(data, "a.tif").pixels, np.moveaxis(pixels, 0, -1))


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_sixteen_bits(compression, channels, orientation):
    pixels = noise(4, 6, 3) if channels == 3 else noise(4, 6)
    data = by_tifffile(
        pixels,
        compression=compression,
        photometric="rgb" if channels == 3 else "minisblack",
        extratags=[(274, "H", 1, orientation, True)],
    )
    picture = Pillow.fromarray((pixels >> 8).astype(np.uint8))
    picture.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(read_image_bytes(data, "a.tif").pixels >> 8, expected)


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        (np.zeros((3, 8, 8), np.uint8), {"photometric": "minisblack"}, "TIFF file of 3 frames"),
        (np.zeros((3, 8, 8), np.uint16), {"imagej": True}, "TIFF file of 3 frames"),
        (np.zeros((3, 8, 8), np.uint16), {"photometric": "minisblack", "truncate": True}, "several planes in one page"),
        (np.zeros((8, 8), np.float32), {}, "32-bit ieeefp values"),
        (np.zeros((8, 8), np.float16), {}, "16-bit ieeefp values"),
        (np.zeros((8, 8), np.uint32), {}, "32-bit uint values"),
        (np.zeros((8, 8), np.int8), {}, "8-bit int values"),
        (np.zeros((8, 8), np.complex64), {}, "complex"),
        (np.zeros((8, 8, 3), np.uint8), {"photometric": "cielab"}, "CIELAB"),
        (np.zeros((8, 8, 4), np.uint16), {"photometric": "separated"}, "SEPARATED"),
        (np.zeros((8, 8, 2), np.uint16), {"photometric": "minisblack", "planarconfig": "contig"}, "2 channels"),
        (np.zeros((8, 8, 3), np.uint8), {"photometric": "minisblack", "planarconfig": "contig"}, "3 channels"),
        (np.zeros((2, 16, 16), np.uint8), {"photometric": "minisblack", "volumetric": True, "tile": (2, 16, 16)}, "several planes in one page"),
        (np.zeros((8, 8, 5), np.uint8), {"photometric": "rgb"}, "5 channels"),
        (np.zeros((8, 8), np.uint16), {"photometric": "cfa"}, "CFA"),
    ],
)  # fmt: skip
def test_what_would_be_half_read_is_refused(pixels, options, message):
    with pytest.raises(ImageError, match=message):
        read_image_bytes(by_tifffile(pixels, **options), "a.tif")


def test_a_strip_that_is_too_short_is_refused():
    tags = {256: (LONG, 1, 8), 257: (LONG, 1, 8), 258: (SHORT, 1, 16), 259: (SHORT, 1, 1), 262: (SHORT, 1, 1)}
    for depth in (8, 16):
        data = tiff(np.zeros(20, np.uint8), tags | {258: (SHORT, 1, depth)})
        with pytest.raises(ImageError, match=r"20 bytes of pixels cannot hold 64 values"):
            read_image_bytes(data, "a.tif")


def test_camera_and_day():
    data = by_tifffile(noise(4, 4), extratags=[(271, "s", 0, "Maker", True), (272, "s", 0, "Model", True)])
    image = read_image_bytes(data, "a.tif")
    assert image.facts.scanner == "Maker Model"
    assert image.facts.mode == "MINISBLACK;16"


@pytest.mark.parametrize("compression", ["lzw", "packbits", "zlib", "deflate", "zstd", "lzma"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(20, 35), (20, 35, 3)])
@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}, {"rowsperstrip": 7}, {"bigtiff": True, "byteorder": ">"}])
def test_every_lossless_compression_comes_back(compression, dtype, shape, layout):
    pixels = noise(*shape, dtype=dtype)
    photometric = "rgb" if len(shape) == 3 else "minisblack"
    data = by_tifffile(pixels, compression=compression, photometric=photometric, **layout)
    np.testing.assert_array_equal(read_image_bytes(data, "a.tif").pixels, pixels)


@pytest.mark.parametrize("photometric", ["minisblack", "rgb", "ycbcr"])
@pytest.mark.parametrize("tile", [None, (32, 48)])
def test_jpeg_in_tiff_stays_near(photometric, tile):
    pixels = np.kron(noise(6, 5, dtype=np.uint8), np.ones((16, 16), np.uint8))
    pixels = pixels if photometric == "minisblack" else np.stack([pixels] * 3, axis=-1)
    colours = {"photometric": "rgb", "compressionargs": {"colorspace": "rgb", "outcolorspace": photometric}}
    options = {"photometric": photometric} if photometric == "minisblack" else colours
    data = by_tifffile(pixels, compression="jpeg", tile=tile, **options)
    assert read_image_bytes(data, "a.tif").facts.mode == photometric.upper()
    assert np.abs(read_image_bytes(data, "a.tif").pixels.astype(int) - pixels).max() <= 12


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind", ["grey", "wide", "colour", "palette"])
def test_every_page_comes_back(compression, kind):
    dtype = np.uint16 if kind == "wide" else np.uint8
    pages = [noise(6 + number, 9, *((3,) if kind == "colour" else ()), dtype=dtype) for number in range(3)]
    colours = noise(3, 256)
    options = {"palette": {"photometric": "palette", "colormap": colours}, "colour": {"photometric": "rgb"}}.get(
        kind, {"photometric": "minisblack"}
    )
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for page in pages:
            writer.write(page, compression=compression, contiguous=False, **options)
    for number, page in enumerate(pages):
        expected = (colours[:, page] >> 8).transpose(1, 2, 0) if kind == "palette" else page
        np.testing.assert_array_equal(read_image_bytes(stream.getvalue(), "a.tif", number).pixels, expected)
    with pytest.raises(ImageError, match=r"is a TIFF file of 3 frames, and nothing says which one counts; ask for one of 0 to 2"):
        read_image_bytes(stream.getvalue(), "a.tif")


def test_pages_are_counted_without_their_small_copies(tmp_path):
    pixels = noise(64, 48, dtype=np.uint8)
    path = tmp_path / "pyramid.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(pixels, photometric="minisblack", tile=(16, 16))
        writer.write(pixels[::2, ::2], photometric="minisblack", tile=(16, 16), subfiletype=1)
    assert count_frames(path) == 1
    np.testing.assert_array_equal(read_image(path).pixels, pixels)
    with tifffile.TiffWriter(path) as writer:
        for _ in range(4):
            writer.write(pixels, photometric="minisblack", contiguous=False)
    assert count_frames(path) == 4


@pytest.mark.parametrize("compression", ["jpeg2000", "png", "webp", "jpegxl", "lerc"])
def test_pictures_inside_a_tiff_are_refused_by_name(compression):
    """They have sizes of their own, which may be huge where the TIFF's are not."""
    data = by_tifffile(noise(16, 16, 3, dtype=np.uint8), photometric="rgb", compression=compression)
    with pytest.raises(ImageError, match=r"is a TIFF of 8 bits compressed as [A-Z0-9_]+, which is not read; save it as LZW"):
        read_image_bytes(data, "a.tif")


def test_old_style_jpeg_is_refused_by_name():
    tags = {256: (LONG, 1, 8), 257: (LONG, 1, 8), 258: (SHORT, 1, 8), 259: (SHORT, 1, 6), 262: (SHORT, 1, 1)}
    with pytest.raises(ImageError, match="old-style JPEG"):
        read_image_bytes(tiff(np.zeros(64, np.uint8), tags), "a.tif")


def test_a_page_that_points_to_itself():
    data = bytearray(by_tifffile(noise(8, 8)))
    directory = int.from_bytes(data[4:8], "little")
    end = directory + 2 + 12 * int.from_bytes(data[directory : directory + 2], "little")
    data[end : end + 4] = directory.to_bytes(4, "little")
    with pytest.raises(ImageError, match="lead back to themselves"):
        read_image_bytes(bytes(data), "a.tif", 1)
