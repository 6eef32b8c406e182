from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from images.made import dicom
from tabib.images import (
    encode_jpeg,
    encode_png,
    has_colour,
    read_image_bytes,
    to_eight_bit,
    to_grey,
)

RANDOM = np.random.default_rng(17)


def test_grey_is_the_luma_that_pillow_computes():
    pixels = RANDOM.integers(0, 256, (50, 60, 3), np.uint8)
    np.testing.assert_array_equal(to_grey(pixels), np.asarray(Pillow.fromarray(pixels).convert("L")))


def test_grey_of_sixteen_bits():
    pixels = RANDOM.integers(0, 65536, (50, 60, 3), np.uint16)
    expected = pixels @ np.array([0.299, 0.587, 0.114])
    grey = to_grey(pixels)
    assert grey.dtype == np.uint16
    assert np.abs(grey - expected).max() <= 1
    assert (to_grey(np.full((2, 2, 3), 65535, np.uint16)) == 65535).all()
    assert to_grey(grey) is grey


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 255), st.integers(-20, 20), st.integers(0, 2), st.sampled_from([1, 257]))
def test_one_coloured_pixel_is_colour(value, change, channel, factor):
    dtype = np.uint8 if factor == 1 else np.uint16
    pixels = np.full((5, 6, 3), value * factor, dtype)
    other = min(255, max(0, value + change))
    pixels[3, 2, channel] = other * factor
    assert has_colour(pixels) == (abs(other - value) > 8)


def test_a_grey_film_saved_as_colour_has_none():
    film = np.kron(RANDOM.integers(0, 256, (8, 8, 1), np.uint8), np.ones((8, 8, 3), np.uint8))
    for quality in (50, 90):
        assert not has_colour(read_image_bytes(encode_jpeg(film, quality=quality), "a").pixels)
    assert not has_colour(film[..., 0])


def test_eight_bits_of_a_range():
    pixels = np.array([[0, 100, 1000, 2000, 4095]], np.uint16)
    assert to_eight_bit(pixels, 0, 4095).tolist() == [[0, 6, 62, 125, 255]]
    assert to_eight_bit(pixels, 100, 1100).tolist() == [[0, 0, 230, 255, 255]]
    assert to_eight_bit(pixels).tolist() == [[0, 0, 4, 8, 16]]
    image = read_image_bytes(dicom(pixels, bits=12), "a")
    assert to_eight_bit(image).tolist() == [[0, 6, 62, 125, 255]]
    assert to_eight_bit(np.array([[0.0, 0.5, 1.0, 2.0]])).tolist() == [[0, 128, 255, 255]]
    with pytest.raises(ValueError, match="must be above"):
        to_eight_bit(pixels, 5, 5)


@pytest.mark.parametrize("shape", [(9, 11), (9, 11, 3)])
def test_what_is_written_is_read_back(shape):
    pixels = RANDOM.integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(read_image_bytes(encode_png(pixels), "a").pixels, pixels)
    smooth = np.full(shape, 120, np.uint8)
    jpeg = encode_jpeg(smooth)
    assert read_image_bytes(jpeg, "a").facts.compression == "quality 80"
    assert np.abs(read_image_bytes(jpeg, "a").pixels.astype(int) - 120).max() <= 2
    assert Pillow.open(io.BytesIO(jpeg)).format == "JPEG"
    assert len(encode_jpeg(pixels, quality=95)) > len(encode_jpeg(pixels, quality=20))


def test_pixels_cannot_be_written_to_by_mistake():
    image = read_image_bytes(encode_png(np.zeros((2, 2), np.uint8)), "a")
    with pytest.raises(ValueError, match="read-only"):
        image.pixels[0, 0] = 1
