from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabib.images import content_box


def sides(voxels: np.ndarray) -> list[tuple[int, int]]:
    return [(part.start, part.stop) for part in content_box(voxels)]


@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    before=st.tuples(*[st.integers(1, 3)] * 3),
    after=st.tuples(*[st.integers(1, 3)] * 3),
    background=st.sampled_from([0, -1024, 7]),
    channels=st.sampled_from([None, 1, 3]),
)
@settings(max_examples=60, deadline=None)
def test_the_box_is_what_was_framed(
    shape: tuple[int, int, int], before: tuple[int, int, int], after: tuple[int, int, int], background: int, channels: int | None
) -> None:
    inner = np.full((*shape, *([] if channels is None else [channels])), background, np.int16)
    # What reaches the faces of the box, in one channel alone.
    for corner in (0, -1):
        inner[(corner, corner, corner, *([] if channels is None else [-1]))] = background + 1
    framed = np.pad(inner, [*zip(before, after, strict=True), *([] if channels is None else [(0, 0)])], constant_values=background)
    assert sides(framed) == [(first, first + side) for first, side in zip(before, shape, strict=True)]


@pytest.mark.parametrize(
    ("corners", "box"),
    [((0, 0, 0, 9), [(0, 1), (2, 6), (1, 6)]), ((0, 0, 9, 9), [(0, 1), (0, 6), (0, 6)]), ((9, 9, 9, 9), [(0, 1), (0, 6), (0, 6)])],
    ids=["most_agree", "half_agree", "all_but_the_middle"],
)
def test_the_background_is_what_most_corners_have(corners: tuple[int, ...], box: list[tuple[int, int]]) -> None:
    slice_ = np.zeros((1, 6, 6), np.int16)
    slice_[0, 2, 1] = 5
    slice_[0, [0, 0, -1, -1], [0, -1, 0, -1]] = corners
    assert sides(slice_) == box


def test_an_image_of_one_value_is_its_own_box() -> None:
    assert sides(np.full((2, 3, 4), 5)) == [(0, 2), (0, 3), (0, 4)]


def test_it_is_the_box_of_what_is_not_zero_where_the_background_is_zero() -> None:
    voxels = np.zeros((5, 12, 12))
    voxels[1:4, 3:9, 2:10] = np.random.default_rng(0).normal(size=(3, 6, 8))
    found = np.argwhere(voxels)
    assert sides(voxels) == [*zip(found.min(0).tolist(), (found.max(0) + 1).tolist(), strict=True)]


def test_a_background_without_a_value_is_one_too() -> None:
    voxels = np.full((5, 12, 12), np.nan)
    voxels[1:4, 3:9, 2:10] = 7
    assert sides(voxels) == [(1, 4), (3, 9), (2, 10)]
