from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from tabib.images import resize
from tabib.images.resize import reduce

RANDOM = np.random.default_rng(13)
SIDE = st.integers(1, 40)
DTYPE = st.sampled_from([np.uint8, np.uint16])
CHANNELS = st.sampled_from([(), (3,)])


@settings(max_examples=60, deadline=None)
@given(SIDE, SIDE, SIDE, SIDE, DTYPE, CHANNELS, st.sampled_from(["stretch", "crop"]), st.floats(0, 1))
@example(1, 13, 1, 15, np.uint8, (), "crop", 0.0)  # rounding once put a corner of the cut below zero
def test_a_constant_stays_constant(rows, columns, height, width, dtype, channels, fit, share):
    value = round(share * np.iinfo(dtype).max)
    result = resize(np.full((rows, columns, *channels), value, dtype), height, width, fit=fit)
    assert result.shape == (height, width, *channels)
    assert result.dtype == dtype
    assert (result == value).all()


@settings(max_examples=60, deadline=None)
@given(SIDE, SIDE, SIDE, SIDE, DTYPE, CHANNELS)
def test_padding_is_black_and_centred(rows, columns, height, width, dtype, channels):
    full = np.iinfo(dtype).max
    result = resize(np.full((rows, columns, *channels), full, dtype), height, width, fit="pad")
    assert result.shape == (height, width, *channels)
    assert set(np.unique(result)) <= {0, full}
    lit = (result if result.ndim == 2 else result[..., 0]) == full
    ys, xs = np.nonzero(lit)
    top, bottom, left, right = ys.min(), height - 1 - ys.max(), xs.min(), width - 1 - xs.max()
    assert lit.sum() == (height - top - bottom) * (width - left - right)  # one rectangle
    assert 0 <= bottom - top <= 1
    assert 0 <= right - left <= 1
    assert min(top + bottom, left + right) == 0  # it touches two sides
    scale = min(height / rows, width / columns)
    assert abs((height - top - bottom) - max(1, rows * scale)) <= 0.51
    assert abs((width - left - right) - max(1, columns * scale)) <= 0.51


@settings(max_examples=40, deadline=None)
@given(SIDE, SIDE, SIDE, SIDE, DTYPE, CHANNELS, st.integers(0, 1000))
def test_no_value_leaves_the_range_of_the_input(rows, columns, height, width, dtype, channels, seed):
    full = np.iinfo(dtype).max
    extreme = np.random.default_rng(seed).integers(0, 2, (rows, columns, *channels)).astype(dtype)
    result = resize(full - extreme, height, width, fit="stretch")
    assert result.min() >= full - 1  # a wrap-around at 65535 would be near 0


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_the_mean_is_kept(fit, dtype, channels):
    smooth = np.kron(RANDOM.random((6, 6, *channels)), np.ones((20, 20, *([1] if channels else []))))
    pixels = (smooth * np.iinfo(dtype).max).astype(dtype)
    for side in (30, 47, 60, 200):
        result = resize(pixels, side, side, fit=fit)
        assert result.mean() == pytest.approx(pixels.mean(), rel=0.01)


@pytest.mark.parametrize("size", [(13, 9), (90, 33), (32, 32)])
def test_sixteen_bits_agree_with_a_resampling_in_floats(size):
    pixels = RANDOM.integers(0, 65536, (64, 48), np.uint16)
    floats = Pillow.fromarray(pixels.astype(np.float32))
    expected = np.asarray(floats.resize(size[::-1], Pillow.Resampling.BILINEAR))
    assert np.abs(resize(pixels, *size).astype(float) - expected).max() <= 1


def test_eight_and_sixteen_bits_agree():
    pixels = RANDOM.integers(0, 256, (50, 70, 3), np.uint8)
    wide = resize(pixels.astype(np.uint16) * 257, 20, 30)
    assert np.abs(wide / 257 - resize(pixels, 20, 30)).max() <= 1


def test_a_reduction_averages_instead_of_dropping():
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    assert np.abs(resize(stripes, 8, 8).astype(int) - 127).max() <= 10


def test_crop_keeps_the_centre():
    pixels = np.zeros((40, 100), np.uint8)
    pixels[:, 26:74] = 200  # the filter looks a little over the edge of the cut
    assert (resize(pixels, 20, 20, fit="crop") == 200).all()
    assert (resize(pixels.T, 20, 20, fit="crop") == 200).all()


def test_the_same_size_is_the_same_image():
    pixels = RANDOM.integers(0, 256, (7, 9), np.uint8)
    assert resize(pixels, 7, 9) is pixels


def test_views_and_read_only_pixels_are_welcome():
    pixels = RANDOM.integers(0, 65536, (30, 40, 3), np.uint16)
    turned = pixels[::-1, ::2]
    turned.flags.writeable = False
    np.testing.assert_array_equal(resize(turned, 9, 9), resize(turned.copy(), 9, 9))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("factor", [1, 2, 7])
def test_reduced_pixels_are_means(dtype: type, factor: int) -> None:
    pixels = RANDOM.integers(0, np.iinfo(dtype).max, (45, 31), dtype, endpoint=True)
    rows, columns = 45 // factor, 31 // factor
    means = pixels[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor).mean(axis=(1, 3))
    result = reduce(pixels, factor)
    assert result.dtype == dtype
    assert np.abs(result - means).max() <= 0.5 + 1e-9
