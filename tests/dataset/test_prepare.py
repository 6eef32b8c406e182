"""What a network sees of an image: the formula, however large the image is."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabib.dataset import Grid, prepare
from tabib.images import Volume, to_grey
from tabib.images.image import ImageFacts

HOUSE = sys.modules["tabib.images.scratch"]
FACTS = ImageFacts(format="NIfTI", bits=16, mode="int16")


def scaled(values: np.ndarray, dtype: np.dtype, intensity: str) -> np.ndarray:
    """The formulas, of the whole image at once."""
    if intensity == "zscore":
        return ((values - values.mean()) / (float(values.std()) or 1.0)).clip(-10, 10)
    if intensity == "ct_window":
        low, high = 20.0, 90.0
    elif intensity == "percentile":
        low, high = map(float, np.percentile(values, [0.5, 99.5]))
    else:
        low, high = (0.0, float(np.iinfo(dtype).max)) if dtype.kind == "u" else (float(values.min()), float(values.max()))
    return ((values - low) / ((high - low) or 1.0)).clip(0, 1)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)),
    colour=st.booleans(),
    channels=st.sampled_from([1, 3]),
    dtype=st.sampled_from([np.uint8, np.int16, np.float32]),
    intensity=st.sampled_from(["zscore", "percentile", "unit", "ct_window"]),
    large=st.sampled_from([0, 2**24]),
)
def test_values_are_those_of_the_formula_to_the_bit(shape, colour, channels, dtype, intensity, large) -> None:
    voxels = np.random.default_rng(3).integers(0, 255, (*shape, 3) if colour else shape).astype(dtype)
    if colour and dtype is not np.uint8:
        voxels = voxels[..., 0]
    grid = Grid(2, None, channels, intensity, (20.0, 90.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HOUSE, "LARGE", large)
        found = prepare(Volume(voxels, None, None, FACTS), grid)
    seen = np.stack([to_grey(each) for each in voxels]) if voxels.ndim == 4 and channels == 1 else voxels
    seen = seen[..., None] if seen.ndim == 3 else seen
    wanted = np.broadcast_to(scaled(seen.astype(np.float32), voxels.dtype, intensity), (*shape, channels))
    assert found.dtype == np.float16
    assert np.array_equal(found, np.moveaxis(wanted, 3, 0).astype(np.float16))


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)),
    spacing=st.tuples(st.floats(0.5, 8), st.floats(0.5, 3), st.floats(0.5, 3)),
    dimensions=st.sampled_from([2, 3]),
)
def test_on_another_grid_an_image_in_files_is_one_in_memory(shape, spacing, dimensions) -> None:
    image = Volume(np.random.default_rng(4).normal(0, 50, shape).astype(np.int16), None, spacing, FACTS)
    grid = Grid(dimensions, (2.0, 1.0, 1.0)[-dimensions:], 1, "zscore", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HOUSE, "LARGE", 0)
        in_files = prepare(image, grid)
        patch.setattr(HOUSE, "LARGE", 2**60)
        assert in_files.tobytes() == prepare(image, grid).tobytes()
