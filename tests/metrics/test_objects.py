"""Objects: known pictures, a slow reference, and discs that touch."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from tabib.errors import DataError
from tabib.metrics.definitions import OBJECTS
from tabib.metrics.objects import ObjectMeasures, measure_objects, micro_objects, split_touching
from tabib.phantoms import Nuclei, render_nuclei

NAMES = list(OBJECTS)


def values(measures: ObjectMeasures) -> dict[str, float]:
    return {name: getattr(measures, name) for name in NAMES}


def slow(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Every measure from its words, pair by pair."""
    ours = [prediction == number for number in np.unique(prediction) if number]
    theirs = [truth == number for number in np.unique(truth) if number]
    ious = [[(t & p).sum() / (t | p).sum() for p in ours] for t in theirs]
    matches = [iou for row in ious for iou in row if iou > 0.5]
    half = (len(ours) + len(theirs)) / 2
    shared = joined = 0
    chosen = set()
    for t, row in zip(theirs, ious, strict=True):
        if any(row):
            best = int(np.argmax(row))
            chosen.add(best)
            shared += (t & ours[best]).sum()
            joined += (t | ours[best]).sum()
        else:
            joined += t.sum()
    joined += sum(p.sum() for k, p in enumerate(ours) if k not in chosen)
    nan = float("nan")
    return {
        "f1": len(matches) / half if half else nan,
        "detection_quality": len(matches) / half if half else nan,
        "segmentation_quality": float(np.mean(matches)) if matches else nan,
        "panoptic_quality": sum(matches) / half if half else nan,
        "aji": shared / joined if joined else nan,
        "count_error": len(ours) - len(theirs),
    }


maps = arrays(np.uint16, (6, 7), elements=st.sampled_from([0, 1, 2, 5, 900]))


@settings(max_examples=150, deadline=None)
@given(truth=maps, prediction=maps)
def test_every_measure_is_that_of_the_slow_reference(truth: np.ndarray, prediction: np.ndarray) -> None:
    found = values(measure_objects(truth, prediction))
    assert found == pytest.approx(slow(truth, prediction), rel=1e-12, nan_ok=True)
    if found["panoptic_quality"] > 0:
        assert found["panoptic_quality"] == pytest.approx(found["detection_quality"] * found["segmentation_quality"])


@settings(max_examples=50, deadline=None)
@given(truth=maps, prediction=maps)
def test_numbers_of_the_objects_do_not_matter(truth: np.ndarray, prediction: np.ndarray) -> None:
    renumbered = np.where(prediction > 0, prediction.astype(np.int64) * 7 + 3, 0)
    assert values(measure_objects(truth, renumbered)) == pytest.approx(values(measure_objects(truth, prediction)), nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_panoptic_quality_is_that_of_monai(seed: int) -> None:
    torch = pytest.importorskip("torch")
    from monai.metrics import compute_panoptic_quality

    nuclei = Nuclei(slides=1, fields=1, side=96, seed=seed)
    truth = render_nuclei(nuclei, 1, 1)[1]
    prediction = split_touching(np.roll(truth, 2, axis=1) > 0)
    found = measure_objects(truth, prediction)
    maps = [torch.from_numpy(each.astype(np.int64)) for each in (prediction, truth)]
    for metric, value in (("pq", found.panoptic_quality), ("sq", found.segmentation_quality), ("rq", found.detection_quality)):
        assert value == pytest.approx(float(compute_panoptic_quality(*maps, metric_name=metric)), rel=1e-5), metric


def squares(*places: tuple[int, int, int, int]) -> np.ndarray:
    result = np.zeros((20, 20), np.uint16)
    for number, (top, left, height, width) in enumerate(places, 1):
        result[top : top + height, left : left + width] = number
    return result


def test_one_found_one_missed_one_made_up() -> None:
    truth = squares((0, 0, 4, 5), (10, 0, 4, 4))
    prediction = squares((0, 0, 4, 4), (10, 10, 2, 2))
    found = measure_objects(truth, prediction)
    assert found.f1 == 0.5
    assert found.segmentation_quality == pytest.approx(0.8)
    assert found.panoptic_quality == pytest.approx(0.4)
    assert found.aji == pytest.approx(16 / (20 + 16 + 4))
    assert found.count_error == 0


def test_two_joined_into_one_are_chosen_twice_by_aji() -> None:
    truth = squares((0, 0, 4, 4), (0, 4, 4, 4))
    prediction = squares((0, 0, 4, 8))
    found = measure_objects(truth, prediction)
    assert found.matched == 0  # an IoU of exactly one half is no match
    assert found.aji == pytest.approx(32 / 64)
    assert found.count_error == -1


@pytest.mark.parametrize(("case", "truth", "prediction"), [("both_empty", 0, 0), ("truth_empty", 0, 1), ("prediction_empty", 1, 0)])
def test_empty_maps_have_the_values_of_the_table(case: str, truth: int, prediction: int) -> None:
    found = values(measure_objects(*(squares((2, 2, 5, 5)) * number for number in (truth, prediction))))
    assert found == pytest.approx({name: getattr(definition, case) for name, definition in OBJECTS.items()}, nan_ok=True)


def test_pictures_are_added_up_before_the_ratio() -> None:
    one = measure_objects(squares((0, 0, 4, 4)), squares((0, 0, 4, 4)))
    other = measure_objects(squares((0, 0, 4, 4), (8, 8, 4, 4), (0, 8, 4, 4)), squares())
    together = micro_objects([one, other])
    assert together.f1 == pytest.approx(2 / 5)
    assert together.aji == pytest.approx(16 / 64)
    assert isnan(micro_objects([]).f1)


def test_maps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="float64"):
        measure_objects(np.zeros((3, 3)), np.zeros((3, 3), int))
    with pytest.raises(DataError, match=r"\(3, 4\)"):
        measure_objects(np.zeros((3, 3), int), np.zeros((3, 4), int))


# --- Dividing what touches ---


def discs(*places: tuple[float, float, float], side: int = 80) -> np.ndarray:
    y, x = np.indices((side, side))
    return np.logical_or.reduce([(y - row) ** 2 + (x - column) ** 2 <= radius**2 for row, column, radius in places])


@pytest.mark.parametrize("radius", [1, 2.3, 5, 8.5, 14, 31.7])
@pytest.mark.parametrize("offset", [0.0, 0.37])
def test_disc_is_not_divided(radius: float, offset: float) -> None:
    assert split_touching(discs((40 + offset, 40 - offset, radius))).max() == 1


@pytest.mark.parametrize("angle", range(0, 180, 15))
def test_two_discs_that_touch_are_two(angle: int) -> None:
    up, along = 15 * np.sin(np.radians(angle)), 15 * np.cos(np.radians(angle))
    places = [(40 + sign * up / 2, 40 + sign * along / 2, 9) for sign in (-1, 1)]
    mask = discs(*places)
    found = split_touching(mask)
    assert found.max() == 2
    assert np.array_equal(found > 0, mask)
    y, x = np.indices(mask.shape)
    nearer = np.argmin([(y - row) ** 2 + (x - column) ** 2 for row, column, _ in places], axis=0) + 1
    assert measure_objects(nearer * mask, found).aji > 0.9


@pytest.mark.parametrize("turn", range(0, 180, 20))
def test_long_cell_is_not_divided(turn: int) -> None:
    y, x = np.indices((80, 80)) - 40.0
    sin, cos = np.sin(np.radians(turn)), np.cos(np.radians(turn))
    assert split_touching(((cos * x + sin * y) / 28) ** 2 + ((cos * y - sin * x) / 9) ** 2 <= 1).max() == 1


def test_depth_says_how_deep_a_waist_divides() -> None:
    mask = discs((40, 33, 10), (40, 47, 10))  # peaks of 10, and a pass of about 7 between them
    assert split_touching(mask, depth=1).max() == 2
    assert split_touching(mask, depth=5).max() == 1


def test_spheres_that_touch_are_two() -> None:
    z, y, x = np.indices((20, 24, 36))
    mask = np.logical_or(*(((z - 10) ** 2 + (y - 12) ** 2 + (x - middle) ** 2 <= 64) for middle in (11, 24)))
    assert split_touching(mask).max() == 2


def test_small_ones_are_left_out_and_numbers_have_no_gap() -> None:
    mask = discs((10, 10, 6), (60, 60, 6))
    mask[0, 70] = True
    found = split_touching(mask, smallest=5)
    assert list(np.unique(found)) == [0, 1, 2]
    assert found[10, 10] == 1
    assert found[60, 60] == 2
    assert split_touching(mask)[0, 70] == 1


@settings(max_examples=60, deadline=None)
@given(mask=arrays(bool, (9, 11), elements=st.booleans()))
def test_objects_are_whole_and_cover_the_mask(mask: np.ndarray) -> None:
    found = split_touching(mask)
    assert np.array_equal(found > 0, mask)
    for number in range(1, int(found.max()) + 1):
        assert ndimage.label(found == number, structure=np.ones((3, 3)))[1] == 1  # pyright: ignore[reportIndexIssue]
    undivided = split_touching(mask, depth=np.inf)
    assert np.array_equal(undivided, ndimage.label(mask, structure=np.ones((3, 3)))[0])  # pyright: ignore[reportIndexIssue]


def test_nothing_is_divided_into_nothing() -> None:
    assert split_touching(np.zeros((5, 6), bool)).max() == 0
    assert split_touching(np.ones((5, 6), bool)).min() == 1
