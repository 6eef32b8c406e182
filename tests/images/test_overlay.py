from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_erosion, generate_binary_structure

from tabib.images import OUTLINES, outline, overlay


def test_the_outline_of_a_square_is_its_rim() -> None:
    labels = np.zeros((7, 8), np.uint8)
    labels[2:5, 2:6] = 3
    expected = labels > 0
    expected[3, 3:5] = False
    np.testing.assert_array_equal(outline(labels), expected)


def test_what_fills_the_frame_has_no_outline() -> None:
    assert not outline(np.ones((5, 5), np.uint8)).any()


@given(arrays(np.uint8, (9, 11), elements=st.integers(0, 2)))
def test_an_outline_is_what_erosion_takes_away(labels: np.ndarray) -> None:
    plus = generate_binary_structure(2, 1)
    kept = np.zeros(labels.shape, bool)
    for number in (1, 2):
        kept |= binary_erosion(labels == number, plus, border_value=1)
    np.testing.assert_array_equal(outline(labels), (labels > 0) & ~kept)


def test_structures_have_their_colours_and_the_rest_of_the_picture_stays() -> None:
    grey = np.full((12, 12), 77, np.uint8)
    structures = np.zeros((12, 12), np.uint8)
    structures[1:5, 1:5], structures[6:11, 6:11] = 1, 2 + len(OUTLINES)
    drawn = overlay(grey, structures)
    assert drawn[1, 1].tolist() == list(OUTLINES[0])
    assert drawn[6, 6].tolist() == list(OUTLINES[1])
    assert drawn[2, 2].tolist() == drawn[8, 8].tolist() == [77, 77, 77]
    assert (drawn != 77).any(axis=2).sum() == outline(structures).sum()
    colour = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    np.testing.assert_array_equal(overlay(colour, structures)[~outline(structures)], colour[~outline(structures)])


def test_objects_that_touch_are_told_apart() -> None:
    structures = np.zeros((6, 10), np.uint8)
    structures[1:5, 1:9] = 1
    objects = structures.astype(np.int32)
    objects[1:5, 5:9] = 2
    drawn = overlay(np.zeros((6, 10), np.uint8), structures, objects=objects)
    assert drawn[2, 4].tolist() == drawn[2, 5].tolist() == list(OUTLINES[0])
    assert drawn[2, 3].tolist() == [0, 0, 0]
