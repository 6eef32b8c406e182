from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image as Pillow
from PIL import ImageOps

from images.made import PNG_COLOURS, png, png_chunk
from tabib.errors import ImageError
from tabib.images import count_frames, encode_png, read_image, read_image_bytes

RANDOM = np.random.default_rng(3)


def saved(picture: Pillow.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return RANDOM.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def on_black(colour: np.ndarray, opacity: np.ndarray, highest: int) -> np.ndarray:
    return np.rint(colour.astype(float) * opacity / highest + 1e-9)


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3), (1, 1), (1, 5, 3)])
def test_eight_bit_png_comes_back(shape):
    pixels = noise(*shape)
    image = read_image_bytes(saved(Pillow.fromarray(pixels), "PNG"), "a.png")
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.pixels.dtype == np.uint8
    assert (image.low, image.high) == (0, 255)
    assert (image.facts.format, image.facts.bits, image.facts.mode) == ("PNG", 8, "L" if len(shape) == 2 else "RGB")
    assert image.spacing_mm is image.orientation is image.facts.compression is None


@settings(max_examples=20, deadline=None)
@given(pixels=arrays.arrays(np.uint16, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_sixteen_bit_grey_png_round_trip(pixels):
    image = read_image_bytes(encode_png(pixels), "a.png")
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.pixels.dtype == np.uint16
    assert (image.high, image.facts.bits, image.facts.mode) == (65535, 16, "I;16")


@pytest.mark.parametrize(("channels", "mode"), [(1, "I;16"), (2, "LA;16"), (3, "RGB;16"), (4, "RGBA;16")])
def test_sixteen_bit_png_of_every_colour_keeps_sixteen_bits(channels, mode):
    pixels = noise(11, 6, channels, dtype=np.uint16)
    image = read_image_bytes(png(pixels), "a.png")
    expected = on_black(pixels[..., :-1], pixels[..., -1:], 65535) if channels in (2, 4) else pixels
    np.testing.assert_array_equal(image.pixels, expected[..., 0] if channels < 3 else expected)
    assert image.pixels.dtype == np.uint16
    assert image.facts.mode == mode


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_interlaced_png(channels, dtype):
    """Adam7, PNG specification 8.2: seven pictures of the pixels at (start, step) in rows and columns."""
    pixels = noise(9, 13, channels, dtype=dtype)
    passes = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)]
    rows = b""
    for top, down, left, across in passes:
        for row in pixels[top::down, left::across]:
            rows += b"\0" + row.astype(f">u{pixels.itemsize}").tobytes()
    header = struct.pack(">IIBBBBB", 13, 9, 8 * pixels.itemsize, PNG_COLOURS[channels], 0, 0, 1)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    image = read_image_bytes(b"\x89PNG\r\n\x1a\n" + chunks, "a.png")
    plain = read_image_bytes(png(pixels), "a.png")
    np.testing.assert_array_equal(image.pixels, plain.pixels)


def test_opaque_sixteen_bit_png_is_untouched():
    pixels = noise(5, 6, 4, dtype=np.uint16)
    pixels[..., 3] = 65535
    np.testing.assert_array_equal(read_image_bytes(png(pixels), "a.png").pixels, pixels[..., :3])


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_lies_on_black(mode):
    pixels = noise(8, 5, len(mode))
    expected = on_black(pixels[..., :-1], pixels[..., -1:], 255)
    image = read_image_bytes(saved(Pillow.fromarray(pixels, mode), "PNG"), "a.png")
    np.testing.assert_array_equal(image.pixels, expected[..., 0] if mode == "LA" else expected)


def test_palette_is_expanded():
    picture = Pillow.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image = read_image_bytes(saved(picture, "PNG"), "a.png")
    assert image.pixels.tolist() == [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [40, 50, 60]]]
    assert image.facts.mode == "P"
    clear = read_image_bytes(saved(picture, "PNG", transparency=bytes([255, 0, 51])), "a.png")
    assert clear.pixels.tolist() == [[[10, 20, 30], [0, 0, 0]], [[14, 16, 18], [0, 0, 0]]]


def test_one_transparent_colour_becomes_black():
    grey = saved(Pillow.fromarray(np.array([[7, 8]], np.uint8)), "PNG", transparency=7)
    assert read_image_bytes(grey, "a.png").pixels.tolist() == [[0, 8]]
    wide = png(np.array([[[700], [800]]], np.uint16), chunks=png_chunk(b"tRNS", struct.pack(">H", 700)))
    assert read_image_bytes(wide, "a.png").pixels.tolist() == [[0, 800]]
    colour = png(np.zeros((2, 2, 3), np.uint16), chunks=png_chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3)))
    with pytest.raises(ImageError, match="transparent colour"):
        read_image_bytes(colour, "a.png")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_are_spread_over_the_range(bits):
    steps = 2**bits - 1
    levels = noise(4, 8) % (steps + 1)
    packed = np.packbits(((levels[..., None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8).reshape(4, -1), axis=1)
    header = struct.pack(">IIBBBBB", 8, 4, bits, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    whole = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
    whole += png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    image = read_image_bytes(whole, "a.png")
    np.testing.assert_array_equal(image.pixels, levels * (255 // steps))
    assert image.facts.bits == bits


def test_animation_is_refused():
    frames = [Pillow.fromarray(noise(4, 4)) for _ in range(3)]
    data = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match=r"a\.png: holds an animation"):
        read_image_bytes(data, "a.png")


@pytest.mark.parametrize("shape", [(32, 24), (32, 24, 3)])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_what_pillow_decodes(shape, progressive):
    data = saved(Pillow.fromarray(noise(*shape)), "JPEG", quality=90, progressive=progressive)
    image = read_image_bytes(data, "a.jpg")
    np.testing.assert_array_equal(image.pixels, np.asarray(Pillow.open(io.BytesIO(data))))
    assert (image.facts.format, image.facts.bits, image.facts.compression) == ("JPEG", 8, "quality 90")


@pytest.mark.parametrize("quality", [1, 10, 30, 49, 50, 75, 85, 95, 100])
def test_jpeg_quality_is_recognised(quality):
    image = read_image_bytes(saved(Pillow.fromarray(noise(16, 16)), "JPEG", quality=quality), "a.jpg")
    assert image.facts.compression == f"quality {quality}"


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_jpeg(adobe):
    red = Pillow.new("CMYK", (16, 16), (0, 255, 255, 0))
    if not adobe:  # a file without the marker stores ink as it is, so the values written must not be inverted
        red = ImageOps.invert(Pillow.merge("RGB", red.split()[:3])).split()
        red = Pillow.merge("CMYK", (*red, Pillow.new("L", (16, 16), 255)))
    data = saved(red, "JPEG", quality=95)
    start = data.find(b"\xff\xee")
    assert data[start + 4 : start + 9] == b"Adobe"
    if not adobe:
        data = data[:start] + data[start + 2 + struct.unpack(">H", data[start + 2 : start + 4])[0] :]
    image = read_image_bytes(data, "a.jpg")
    assert image.facts.mode == "CMYK"
    assert np.abs(image.pixels.astype(int) - (255, 0, 0)).max() <= 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    picture = Pillow.fromarray(np.kron(noise(3, 4), np.ones((8, 8), np.uint8)))
    exif = Pillow.Exif()
    exif[274] = orientation
    exif[271], exif[272] = "Maker", "Model 5"
    exif.get_ifd(34665)[36867] = "2021:03:04 05:06:07"
    data = saved(picture, kind, exif=exif)
    image = read_image_bytes(data, "a")
    expected = ImageOps.exif_transpose(Pillow.open(io.BytesIO(data)))
    np.testing.assert_array_equal(image.pixels, np.asarray(expected))
    assert image.facts.scanner == "Maker Model 5"
    assert image.facts.date == (None if kind == "TIFF" else "2021-03-04")  # Pillow writes no EXIF day into a TIFF


def test_damaged_exif_says_nothing_and_costs_nothing():
    data = saved(Pillow.fromarray(noise(8, 8)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_image_bytes(data, "a.jpg")
    assert image.pixels.shape == (8, 8)
    assert image.facts.scanner is image.facts.date is None


def test_content_decides_and_not_the_name(tmp_path):
    path = tmp_path / "film.jpg"
    path.write_bytes(encode_png(noise(3, 3)))
    assert read_image(path).facts.format == "PNG"


def test_text_chunk_bomb_is_refused():
    text = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 2_000_000))
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_image_bytes(png(noise(2, 2, 1), chunks=text), "a.png")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_bmp_comes_back(mode):
    picture = Pillow.fromarray(noise(9, 7, 4) if mode == "RGBA" else noise(9, 7, 3)).convert(mode)
    image = read_image_bytes(saved(picture, "BMP"), "a.bmp")
    plain = np.asarray(picture.convert({"1": "L", "P": "RGB", "RGBA": "RGB"}.get(mode, mode)))
    np.testing.assert_array_equal(image.pixels, plain)  # the fourth byte of a plain bitmap means nothing
    assert (image.facts.format, image.facts.bits, image.high) == ("BMP", 8, 255)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [True, False])
def test_webp_is_what_pillow_decodes(mode, lossless):
    picture = Pillow.fromarray(np.kron(noise(4, 5, len(mode)), np.ones((8, 8, 1), np.uint8)).squeeze(), mode)
    data = saved(picture, "WEBP", lossless=lossless, exact=True, quality=90)
    image = read_image_bytes(data, "a.webp")
    expected = np.asarray(Pillow.open(io.BytesIO(data)))
    if mode == "RGBA":
        expected = on_black(expected[..., :3], expected[..., 3:], 255)
    np.testing.assert_array_equal(image.pixels, expected)
    if lossless and mode == "RGB":
        np.testing.assert_array_equal(image.pixels, np.asarray(picture))
    kind = "VP8X" if mode == "RGBA" and not lossless else "VP8L" if lossless else "VP8"
    assert (image.facts.format, image.facts.compression) == ("WebP", kind)


def test_an_animated_webp_is_refused():
    frames = [Pillow.fromarray(noise(8, 8, 3)) for _ in range(3)]
    with pytest.raises(ImageError, match="holds an animation of 3 pictures"):
        read_image_bytes(saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]), "a.webp")


def test_a_file_of_one_picture_has_frame_0_only(tmp_path):
    pixels = noise(3, 4)
    for kind in ("PNG", "JPEG", "BMP", "WEBP"):
        data = saved(Pillow.fromarray(pixels), kind)
        np.testing.assert_array_equal(read_image_bytes(data, "a", 0).pixels, read_image_bytes(data, "a").pixels)
        with pytest.raises(ImageError, match=r"of 1 frames, numbered from 0, and has no frame 1"):
            read_image_bytes(data, "a", 1)
        (tmp_path / "a").write_bytes(data)
        assert count_frames(tmp_path / "a") == 1
