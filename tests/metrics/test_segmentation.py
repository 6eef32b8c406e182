"""Structures: analytic answers, a slow reference, MONAI, and invariances."""

from __future__ import annotations

import itertools
from math import inf, isnan, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tabib.errors import DataError
from tabib.metrics.definitions import STRUCTURES
from tabib.metrics.intervals import Sureness, mean_interval
from tabib.metrics.segmentation import Overlap, StructureMeasures, macro_mean, measure_structure, measure_structures, micro_overlap
from tabib.metrics.surfaces import bounding_box, surface, surface_distances

SPACING = (8.0, 1.4, 1.7)
NAMES = list(STRUCTURES)


def blob(seed: int, shape: tuple[int, ...] = (5, 14, 16)) -> np.ndarray:
    """A lumpy mask, different for every seed."""
    random = np.random.default_rng(seed)
    grid = np.indices(shape).astype(float)
    middle = np.array(shape) / 2 + random.uniform(-1, 1, len(shape))
    far = sum(((axis - centre) / (0.36 * side)) ** 2 for axis, centre, side in zip(grid, middle, shape, strict=True))
    return far + 0.25 * random.standard_normal(shape) < 1


def values(measures: StructureMeasures) -> dict[str, float]:
    return {name: getattr(measures, name) for name in NAMES}


def slow(truth: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...], tolerance: float) -> dict[str, float]:
    """Every measure from its words, voxel by voxel; every pair of surface voxels is measured."""

    def places(mask: np.ndarray) -> list[tuple[int, ...]]:
        return [tuple(int(number) for number in place) for place in np.argwhere(mask)]

    def edge(mask: np.ndarray) -> list[tuple[int, ...]]:
        steps = [tuple(sign * (axis == moved) for axis in range(mask.ndim)) for moved in range(mask.ndim) for sign in (-1, 1)]
        inside = set(places(mask))
        return [place for place in inside if any(tuple(map(sum, zip(place, step, strict=True))) not in inside for step in steps)]

    def apart(one: list[tuple[int, ...]], other: list[tuple[int, ...]]) -> list[float]:
        return [
            min(sum(((a - b) * side) ** 2 for a, b, side in zip(here, there, spacing, strict=True)) ** 0.5 for there in other)
            for here in one
        ]

    t, p = set(places(truth)), set(places(prediction))
    there, back = apart(edge(prediction), edge(truth)), apart(edge(truth), edge(prediction))
    voxel = float(np.prod(spacing)) / 1000
    return {
        "dice": 2 * len(t & p) / (len(t) + len(p)),
        "iou": len(t & p) / len(t | p),
        "precision": len(t & p) / len(p),
        "recall": len(t & p) / len(t),
        "hausdorff_mm": max(there + back),
        "hausdorff95_mm": max(rank(there, 0.95), rank(back, 0.95)),
        "surface_distance_mm": sum(there + back) / len(there + back),
        "surface_dice": sum(distance <= tolerance for distance in there + back) / len(there + back),
        "truth_ml": len(t) * voxel,
        "prediction_ml": len(p) * voxel,
        "volume_error_ml": (len(p) - len(t)) * voxel,
        "volume_error": (len(p) - len(t)) / len(t),
    }


def rank(distances: list[float], share: float) -> float:
    """A percentile, linear between ranks."""
    ordered, place = sorted(distances), share * (len(distances) - 1)
    low = int(place)
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


@pytest.mark.parametrize("seed", range(6))
def test_every_measure_is_that_of_the_slow_reference(seed: int) -> None:
    truth, prediction = blob(seed), blob(seed + 100)
    found = values(measure_structure(truth, prediction, spacing=SPACING, tolerance=2.5))
    assert found == pytest.approx(slow(truth, prediction, SPACING, 2.5), rel=1e-9, abs=1e-12)


@pytest.mark.filterwarnings("ignore:monai.metrics.utils:FutureWarning")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(4, 12, 14), (18, 20)], ids=["volume", "picture"])
def test_measures_are_those_of_monai(seed: int, shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    from monai.metrics import DiceMetric, HausdorffDistanceMetric, SurfaceDiceMetric, SurfaceDistanceMetric

    truth, prediction = blob(seed, shape), blob(seed + 50, shape)
    spacing = SPACING[-len(shape) :]
    batch = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (prediction, truth)]
    found = measure_structure(truth, prediction, spacing=spacing, tolerance=1.5)
    for name, metric in {
        "hausdorff95_mm": HausdorffDistanceMetric(percentile=95, include_background=True),
        "hausdorff_mm": HausdorffDistanceMetric(include_background=True),
        "surface_distance_mm": SurfaceDistanceMetric(symmetric=True, include_background=True),
        "surface_dice": SurfaceDiceMetric([1.5], include_background=True),
    }.items():
        assert getattr(found, name) == pytest.approx(float(metric(*batch, spacing=spacing)), rel=1e-5), name
    assert found.dice == pytest.approx(float(DiceMetric(include_background=True)(*batch)), rel=1e-5)


def test_shifted_cube_has_the_distances_of_geometry() -> None:
    truth = np.zeros((20, 20, 20), bool)
    truth[5:11, 5:11, 5:11] = True
    found = measure_structure(truth, np.roll(truth, 3, axis=2), spacing=(2, 1, 0.5), tolerance=0)
    assert found.dice == pytest.approx(0.5)
    assert found.iou == pytest.approx(1 / 3)
    assert found.hausdorff_mm == pytest.approx(1.5)  # three voxels of half a millimetre
    assert found.truth_ml == pytest.approx(0.216)
    assert found.volume_error_ml == 0


@pytest.mark.parametrize("side", [0.1, 0.7, 1.4])
def test_tolerance_holds_what_is_as_far_away(side: float) -> None:
    truth = np.zeros((12, 30), bool)
    truth[2:10, 4:20] = True
    prediction = np.roll(truth, 3, axis=1)
    assert measure_structure(truth, prediction, spacing=(1.0, side), tolerance=3 * side).surface_dice == 1


@pytest.mark.parametrize("gap", [1, 4, 6])
def test_concentric_spheres_are_their_radii_apart(gap: int) -> None:
    grid = np.indices((45, 45, 45)) - 22
    far = np.sqrt((grid**2).sum(0))
    found = measure_structure(far <= 20, far <= 20 - gap, spacing=(1, 1, 1), tolerance=gap + 1)
    assert found.surface_distance_mm == pytest.approx(gap, abs=0.35)  # surfaces of voxels are rough by half a diagonal
    assert found.hausdorff_mm == pytest.approx(gap, abs=0.9)
    assert found.surface_dice == 1
    assert found.truth_ml == pytest.approx(4 / 3 * np.pi * 20.0**3 / 1000, rel=0.01)


def test_one_far_voxel_moves_the_largest_distance_alone() -> None:
    truth = np.zeros((60, 60), bool)
    truth[10:40, 10:40] = True
    prediction = truth.copy()
    prediction[58, 58] = True
    found = measure_structure(truth, prediction, spacing=(1, 1), tolerance=1)
    assert found.hausdorff_mm == pytest.approx(19 * 2**0.5)
    assert found.hausdorff95_mm == 0


EMPTY = {"both_empty": (0, 0), "truth_empty": (0, 1), "prediction_empty": (1, 0)}


@pytest.mark.parametrize("case", EMPTY)
def test_empty_masks_have_the_values_of_the_table(case: str) -> None:
    masks = []
    for filled in EMPTY[case]:
        mask = np.zeros((12, 12, 12), bool)
        mask[1:11, 1:11, 1:11] = filled
        masks.append(mask)
    found = values(measure_structure(masks[0], masks[1], spacing=(1, 1, 1), tolerance=1))
    expected = {name: getattr(definition, case) for name, definition in STRUCTURES.items()}
    assert found == pytest.approx(expected, nan_ok=True)


def test_without_spacing_nothing_is_in_millimetres() -> None:
    assert measure_structure(blob(0)[2:3], blob(1)[2:3], spacing=None, tolerance=1).dice > 0
    found = values(measure_structure(blob(0), blob(1), spacing=None, tolerance=1))
    assert {name for name, value in found.items() if isnan(value)} == {
        *(name for name in NAMES if name.endswith(("_mm", "_ml"))),
        "surface_dice",
    }


def test_picture_has_distances_and_no_volume() -> None:
    found = measure_structure(blob(0, (20, 20)), blob(1, (20, 20)), spacing=(1, 1), tolerance=1)
    assert isnan(found.truth_ml)
    assert found.hausdorff_mm > 0


def test_stack_of_one_slice_is_measured_as_a_picture() -> None:
    truth, prediction = blob(3, (20, 22)), blob(4, (20, 22))
    flat = measure_structure(truth, prediction, spacing=(1.5, 1.2), tolerance=1)
    stack = measure_structure(truth[None], prediction[None], spacing=(8, 1.5, 1.2), tolerance=1)
    for name in ("hausdorff95_mm", "surface_distance_mm", "surface_dice", "dice"):
        assert getattr(stack, name) == getattr(flat, name)
    assert stack.truth_ml == pytest.approx(truth.sum() * 8 * 1.5 * 1.2 / 1000)
    unknown = measure_structure(truth[None], prediction[None], spacing=(None, 1.5, 1.2), tolerance=1)
    assert unknown.hausdorff95_mm == flat.hausdorff95_mm
    assert isnan(unknown.truth_ml)


def test_structure_in_one_slice_of_many_has_all_its_voxels_on_the_surface() -> None:
    mask = np.zeros((5, 9, 9), bool)
    mask[2, 2:7, 2:7] = True
    inner = mask.copy()
    inner[2, 2:7, 2] = False
    assert measure_structure(mask, inner, spacing=(1, 1, 1), tolerance=0).surface_dice == pytest.approx(40 / 45)


def test_labels_are_measured_one_by_one() -> None:
    truth = np.zeros((6, 8, 8), np.uint8)
    truth[1:5, 1:4, 1:4] = 3
    truth[1:5, 5:7, 5:7] = 7
    prediction = np.where(truth == 7, 0, truth)
    found = measure_structures(truth, prediction, {"lv": 3, "rv": 7}, spacing=(8, 1, 1), tolerance={"lv": 2, "rv": 3})
    assert list(found) == ["lv", "rv"]
    assert found["lv"].dice == 1
    assert found["rv"].dice == 0
    assert found["rv"].hausdorff95_mm == inf


masks = arrays(bool, (3, 5, 6), elements=st.booleans())


@settings(max_examples=60, deadline=None)
@given(one=masks, other=masks)
def test_turning_round_truth_and_prediction_turns_round_precision_and_recall(one: np.ndarray, other: np.ndarray) -> None:
    there, back = (values(measure_structure(*pair, spacing=SPACING, tolerance=2)) for pair in ((one, other), (other, one)))
    for name in ("dice", "iou", "hausdorff_mm", "hausdorff95_mm", "surface_distance_mm", "surface_dice"):
        assert there[name] == pytest.approx(back[name], nan_ok=True), name
    assert there["precision"] == pytest.approx(back["recall"], nan_ok=True)
    assert there["volume_error_ml"] == pytest.approx(-back["volume_error_ml"])


@settings(max_examples=60, deadline=None)
@given(one=masks, other=masks, before=st.integers(0, 3), after=st.integers(0, 3))
def test_place_in_the_volume_changes_nothing(one: np.ndarray, other: np.ndarray, before: int, after: int) -> None:
    here = values(measure_structure(one, other, spacing=SPACING, tolerance=2))
    moved = [np.pad(mask, [(before, after), (after, before), (before, 0)]) for mask in (one, other)]
    assert values(measure_structure(*moved, spacing=SPACING, tolerance=2)) == pytest.approx(here, nan_ok=True, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(one=masks, other=masks, scale=st.floats(0.1, 10))
def test_distances_grow_with_the_spacing_and_volumes_with_its_cube(one: np.ndarray, other: np.ndarray, scale: float) -> None:
    # A tolerance between distances that occur: rounding must not decide what lies within.
    here = values(measure_structure(one, other, spacing=(3, 1, 1), tolerance=1.2))
    there = values(measure_structure(one, other, spacing=(3 * scale, scale, scale), tolerance=1.2 * scale))
    for name in NAMES:
        power = 3 if name.endswith("_ml") else 1 if name.endswith("_mm") else 0
        assert there[name] == pytest.approx(here[name] * scale**power, nan_ok=True), name


@settings(max_examples=60, deadline=None)
@given(mask=masks)
def test_mask_equals_itself(mask: np.ndarray) -> None:
    found = measure_structure(mask, mask, spacing=SPACING, tolerance=0)
    if mask.any():
        assert (found.dice, found.iou, found.hausdorff_mm, found.surface_distance_mm, found.surface_dice) == (1, 1, 0, 0, 1)


@settings(max_examples=60, deadline=None)
@given(mask=masks)
def test_surface_is_what_erosion_takes_away(mask: np.ndarray) -> None:
    from scipy.ndimage import binary_erosion

    assert np.array_equal(surface(mask), mask & ~binary_erosion(mask))


@pytest.mark.parametrize("spacing", [SPACING, (1, 1, 1), (1, 90, 200)], ids=["slices", "cubes", "needles"])
@pytest.mark.parametrize("count", [1, 3, 30])
def test_distances_are_those_of_a_distance_transform(spacing: tuple[float, ...], count: int) -> None:
    from scipy.ndimage import distance_transform_edt

    random = np.random.default_rng(count)
    for _ in range(8):  # few voxels, far apart: those that no short step finds
        one, other = np.zeros((2, 30, 20, 25), bool)
        for mask in (one, other):
            mask.ravel()[random.integers(0, mask.size, count)] = True
        there, back = surface_distances(one, other, spacing=spacing)
        for edge, distances, aim in ((one, there, other), (other, back, one)):
            transform = np.asarray(distance_transform_edt(~surface(aim), sampling=spacing))
            assert distances == pytest.approx(transform[surface(edge)], rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(mask=masks)
def test_bounding_box_holds_all_and_cannot_be_smaller(mask: np.ndarray) -> None:
    box = bounding_box(mask)
    assert mask[box].sum() == mask.sum()
    for axis, side in itertools.product(range(mask.ndim), (0, -1)):
        if mask.any():
            assert mask[box].take(side, axis).any()


def test_maps_that_do_not_fit_are_refused() -> None:
    labels = np.zeros((2, 3, 4), np.uint8)
    with pytest.raises(DataError, match=r"2 x 3 x 4 voxels and the prediction 2 x 3 x 5"):
        measure_structures(labels, np.zeros((2, 3, 5), np.uint8), {"lv": 1}, spacing=None, tolerance=1)
    with pytest.raises(DataError, match="float64"):
        measure_structures(labels, labels.astype(float), {"lv": 1}, spacing=None, tolerance=1)
    for spacing in ((1, 1), (1, 1, 0), (1, nan, 1), (None, 1, 1)):
        with pytest.raises(DataError, match="lengths above 0"):
            measure_structures(labels, labels, {"lv": 1}, spacing=spacing, tolerance=1)


def test_macro_counts_cases_and_micro_counts_voxels() -> None:
    overlaps = [Overlap(90, 10, 10), Overlap(1, 0, 9), Overlap(0, 0, 0)]
    macro = macro_mean([overlap.dice for overlap in overlaps])
    assert macro.value == pytest.approx((0.9 + 2 / 11) / 2)
    assert (macro.cases, macro.undefined, macro.infinite) == (2, 1, 0)
    assert micro_overlap(overlaps).dice == pytest.approx(182 / 211)
    assert macro_mean([1.0, inf, nan, 3.0]) == type(macro)(2.0, 2, undefined=1, infinite=1)
    assert isnan(macro_mean([nan]).value)


def test_interval_of_a_signed_mean_is_not_cut_at_0() -> None:
    errors = np.random.default_rng(0).normal(0, 5, 40)
    interval = mean_interval(errors, np.arange(40) // 2, Sureness(), smallest=-inf)
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < errors.mean() < interval.high
    assert interval.low < 0
