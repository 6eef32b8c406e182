"""Outlines and their masks: against the winding number of each pixel's centre, and on real hearts."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from places import REAL, needs_real
from tabib.errors import ImageError
from tabib.images import fill_contour, read_contour

SHAPE = (30, 40)


def turns(points: np.ndarray) -> np.ndarray:
    """How often an outline turns about each pixel's centre: the angles its edges are seen under, summed."""
    centres = np.stack(np.meshgrid(np.arange(SHAPE[1]), np.arange(SHAPE[0])), -1)[..., None, :]
    seen = (points - centres) @ [1, 1j]
    return np.angle(np.roll(seen, -1, axis=-1) * seen.conj()).sum(-1) / (2 * np.pi)


@given(
    radii=st.lists(st.floats(0.5, 13), min_size=3, max_size=40),
    column=st.floats(14, 25),
    row=st.floats(13.5, 15.5),
    first=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_a_pixel_is_inside_where_its_centre_is(radii, column, row, first):
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    points = np.stack([column + radii * np.cos(angles), row + radii * np.sin(angles)], 1)
    mask = fill_contour(points + first, SHAPE, first_centre=first)
    winding = turns(points)
    sure = np.abs(winding - np.round(winding)) < 1e-6  # on the outline itself the angles decide nothing
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(mask[sure], np.round(winding[sure]) != 0)


def test_a_square_of_whole_pixels():
    corners = np.array([[3, 2], [7, 2], [7, 5], [3, 5]]) + 0.5  # from the left edge of pixel 4 to the right edge of pixel 7, from 1
    mask = fill_contour(corners, SHAPE)
    expected = np.zeros(SHAPE, bool)
    expected[2:5, 3:7] = True
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(fill_contour(corners[::-1], SHAPE), expected, "either way round")


@given(cut=st.integers(3, 12), slant=st.integers(-2, 2))
def test_outlines_that_share_an_edge_share_no_pixel(cut, slant):
    left = np.array([[1, 1], [cut, 1], [cut + slant, 12], [1, 12]])
    right = np.array([[cut, 1], [20, 1], [20, 12], [cut + slant, 12]])
    masks = [fill_contour(points, SHAPE) for points in (left, right, np.array([[1, 1], [20, 1], [20, 12], [1, 12]]))]
    assert not (masks[0] & masks[1]).any()
    np.testing.assert_array_equal(masks[0] | masks[1], masks[2])


def test_what_lies_in_a_hole_of_the_outline_is_outside():
    points = np.array([[1, 1], [12, 1], [12, 12], [1, 12], [1, 1], [4, 4], [9, 4], [9, 9], [4, 9], [4, 4]])
    mask = fill_contour(points, SHAPE, first_centre=0)
    assert mask[2, 2]
    assert not mask[6, 6]


@pytest.mark.parametrize("point", [(0.4, 5), (5, 0.4), (40.6, 5), (5, 30.6)])
def test_points_outside_the_image_are_refused(point):
    with pytest.raises(
        ImageError, match=rf"1 of 3 points outside its image of 40 x 30 pixels, the first at column {point[0]:g}, row {point[1]:g}"
    ):
        fill_contour(np.array([(5, 6), (7, 8), point]), SHAPE)
    edge = np.clip(point, 0.5, (40.5, 30.5))
    assert fill_contour(np.array([(5, 6), (9, 14), edge]), SHAPE).any()


def test_files_are_two_numbers_a_line(tmp_path):
    path = tmp_path / "IM-0001-0048-icontour-manual.txt"
    path.write_text("120.50 137.50\r\n121 136.5 \n\n 122.0,135\n")
    np.testing.assert_array_equal(read_contour(path), [[120.5, 137.5], [121, 136.5], [122, 135]])
    for text, words in (
        ("1 2\n3\n4 5\n", "has '3' in line 2"),
        ("1 2\n3 four\n", "line 2"),
        ("1 2\n3 nan\n", "line 2"),
        ("1 2\n3 4\n", "has 2 points"),
    ):
        path.write_text(text)
        with pytest.raises(ImageError, match=words):
            read_contour(path)


@pytest.mark.real
@needs_real("cardiac_sunnybrook")
def test_blood_is_brighter_inside_real_outlines_and_most_so_when_the_count_begins_at_one():
    root = REAL / "cardiac_sunnybrook"
    contrasts = {0.0: [], 1.0: []}
    for patient, drawn in (("SCD0000101", "SC-HF-I-1"), ("SCD0000201", "SC-HF-I-2")):
        for path in sorted((root / "contourfiles" / drawn / "i-contours").iterdir()):
            points = read_contour(path)
            pixels = pydicom.dcmread(root / "dicoms" / patient / f"{int(path.name.split('-')[2])}.dcm").pixel_array
            (left, top), (right, bottom) = points.min(0).astype(int) - 6, points.max(0).astype(int) + 6
            twice = np.column_stack([points, np.roll(points, -1, axis=0)])
            area = abs((twice[:, 0] * twice[:, 3] - twice[:, 2] * twice[:, 1]).sum()) / 2
            for first, found in contrasts.items():
                mask = fill_contour(points, pixels.shape, first_centre=first)
                assert mask.sum() == pytest.approx(area, rel=0.05, abs=4)
                around, inside = pixels[top:bottom, left:right], mask[top:bottom, left:right]
                found.append((around[inside].mean() - around[~inside].mean()) / around.std())
    assert np.mean(contrasts[1.0]) > max(1, np.mean(contrasts[0.0]) + 0.03)


@pytest.mark.real
@needs_real("cardiac_sunnybrook")
def test_brightness_falls_most_along_real_outlines_when_the_count_begins_at_one():
    """The figures of `FIRST_CENTRE`."""
    root = REAL / "cardiac_sunnybrook"
    falls: dict[str, list[list[float]]] = {"SC-HF-I-1": [], "SC-HF-I-2": []}
    firsts = np.arange(-2, 10) / 4
    for patient, drawn in (("SCD0000101", "SC-HF-I-1"), ("SCD0000201", "SC-HF-I-2")):
        for path in sorted((root / "contourfiles" / drawn / "i-contours").iterdir()):
            points = read_contour(path)
            pixels = pydicom.dcmread(root / "dicoms" / patient / f"{int(path.name.split('-')[2])}.dcm").pixel_array.astype(float)
            along = (np.roll(points, -1, axis=0) - np.roll(points, 1, axis=0)) @ [1, 1j]
            points, along = points[along != 0], along[along != 0]
            outward = np.stack([(-1j * along / abs(along)).real, (-1j * along / abs(along)).imag], 1)
            if ((points - points.mean(0)) * outward).sum() < 0:
                outward = -outward
            column, row = points.mean(0).astype(int)
            spread = pixels[row - 30 : row + 30, column - 30 : column + 30].std()

            def mean(places, pixels=pixels):
                return ndimage.map_coordinates(pixels, places[:, ::-1].T, order=1, mode="nearest").mean()

            falls[drawn].append([(mean(points - first - outward) - mean(points - first + outward)) / spread for first in firsts])
    each = np.concatenate([np.array(found) for found in falls.values()])
    at = {first: each[:, list(firsts).index(first)] for first in (0.0, 1.0)}
    assert len(each) == 36
    assert [round(at[first].mean(), 2) for first in (0.0, 1.0)] == [0.52, 0.67]
    assert [int((np.array(found)[:, 6] > np.array(found)[:, 2]).sum()) for found in falls.values()] == [18, 16]
    assert firsts[each.mean(0).argmax()] == 1.0
