"""How well a structure was outlined: every measure of one structure in one case, and means over cases.

A structure is a value of an integer label map. A measure that does not exist is nan, never 0 and never 1: it must not pass
for a bad score nor for a good one. What is defined where a mask is empty stands in `tabib.metrics.definitions.STRUCTURES`,
and on the reference page that is made from it.

Distances are between surfaces of voxels (`tabib.metrics.surfaces`). On the same masks Dice, Hausdorff distances, average
symmetric surface distance and surface Dice are those of MONAI (`DiceMetric`, `HausdorffDistanceMetric`,
`SurfaceDistanceMetric(symmetric=True)`, `SurfaceDiceMetric`), but in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tabib.errors import DataError
from tabib.metrics.surfaces import bounding_box, surface_distances

__all__ = ["Mean", "Overlap", "StructureMeasures", "macro_mean", "measure_structure", "measure_structures", "micro_overlap"]

NONE = float("nan")
ROUNDING = 1e-9  # three voxels of 0.1 mm lie within 0.3 mm


@dataclass(frozen=True)
class Overlap:
    """Voxels of a structure that were found, added and missed, and the measures that follow from them."""

    true_positive: int
    false_positive: int
    false_negative: int

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN), the F1 of voxels. Dice, Ecology 1945;26:297."""
        return _ratio(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)

    @property
    def iou(self) -> float:
        """Intersection over union, TP / (TP + FP + FN), also called the Jaccard index."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive + self.false_negative)

    @property
    def precision(self) -> float:
        """Share of the predicted voxels that are right, TP / (TP + FP)."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def recall(self) -> float:
        """Share of the true voxels that were found, TP / (TP + FN)."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)


@dataclass(frozen=True, kw_only=True)
class StructureMeasures:
    """One structure of one case. Without a spacing nothing is known in mm or mL: those are nan."""

    overlap: Overlap
    truth_ml: float
    prediction_ml: float
    hausdorff95_mm: float
    hausdorff_mm: float
    surface_distance_mm: float
    surface_dice: float

    @property
    def dice(self) -> float:
        """See `Overlap`."""
        return self.overlap.dice

    @property
    def iou(self) -> float:
        """See `Overlap`."""
        return self.overlap.iou

    @property
    def precision(self) -> float:
        """See `Overlap`."""
        return self.overlap.precision

    @property
    def recall(self) -> float:
        """See `Overlap`."""
        return self.overlap.recall

    @property
    def volume_error_ml(self) -> float:
        """Predicted less true volume."""
        return self.prediction_ml - self.truth_ml

    @property
    def volume_error(self) -> float:
        """Predicted less true volume, as a fraction of the true one."""
        overlap = self.overlap
        return _ratio(overlap.false_positive - overlap.false_negative, overlap.true_positive + overlap.false_negative)


@dataclass(frozen=True)
class Mean:
    """A mean of the values that exist and are finite, and how many of the cases have none."""

    value: float
    cases: int  # behind the value
    undefined: int  # cases in which the measure does not exist: nan
    infinite: int  # cases in which one of two masks is empty and a distance is infinite


def measure_structures(
    truth: np.ndarray,
    prediction: np.ndarray,
    structures: Mapping[str, int],
    *,
    spacing: Sequence[float | None] | None,
    tolerance: float | Mapping[str, float],
) -> dict[str, StructureMeasures]:
    """Measure every structure of one case.

    `truth` and `prediction` are label maps of integers of one shape, (D, H, W) or (H, W) (`DataError` otherwise); `structures`
    are the values by their names; `spacing` is in mm between voxels along each axis, None where it is not known (also for the
    first axis alone, of one slice); `tolerance` of the surface Dice in mm, one or by name. Volumes exist for (D, H, W) alone.
    """
    if truth.shape != prediction.shape:
        raise DataError(
            f"The truth has {_sides(truth)} voxels and the prediction {_sides(prediction)}; bring one to the grid of the other."
        )
    if truth.dtype.kind not in "iub" or prediction.dtype.kind not in "iub":
        raise DataError(f"Label maps hold integers, and these hold {truth.dtype} and {prediction.dtype}; round or threshold them first.")
    return {
        name: measure_structure(
            truth == value,
            prediction == value,
            spacing=spacing,
            tolerance=tolerance[name] if isinstance(tolerance, Mapping) else tolerance,
        )
        for name, value in structures.items()
    }


def measure_structure(
    truth: np.ndarray, prediction: np.ndarray, *, spacing: Sequence[float | None] | None, tolerance: float
) -> StructureMeasures:
    """Measure one structure from two masks (bool) of one shape; the rest as in `measure_structures`.

    A stack of one slice is a picture: its surface are the outlines, not its front and back.
    """
    single = truth.ndim == 3 and len(truth) == 1
    sides = None if spacing is None else np.array([NONE if side is None else side for side in spacing], np.float64)
    if sides is not None and not (len(sides) == truth.ndim and all(np.isfinite(side) and side > 0 for side in sides[single:])):
        raise DataError(
            f"The spacing is {tuple(sides.tolist())}, and must be {truth.ndim} lengths above 0 in mm, or None where it is not known."
        )
    voxel = float(sides.prod()) / 1000 if sides is not None and truth.ndim == 3 else NONE
    if single:
        truth, prediction, sides = truth[0], prediction[0], None if sides is None else sides[1:]
    box = bounding_box(truth | prediction)
    truth, prediction = truth[box], prediction[box]
    both, ours, theirs = (int(np.count_nonzero(mask)) for mask in (truth & prediction, prediction, truth))
    overlap = Overlap(both, ours - both, theirs - both)
    hausdorff95 = hausdorff = mean = dice = NONE
    if sides is not None and (ours or theirs):
        hausdorff95, hausdorff, mean, dice = _between(*surface_distances(prediction, truth, spacing=sides.tolist()), tolerance)
    return StructureMeasures(
        overlap=overlap,
        truth_ml=theirs * voxel,
        prediction_ml=ours * voxel,
        hausdorff95_mm=hausdorff95,
        hausdorff_mm=hausdorff,
        surface_distance_mm=mean,
        surface_dice=dice,
    )


def _between(there: np.ndarray, back: np.ndarray, tolerance: float) -> tuple[float, float, float, float]:
    """Hausdorff distance at 95 and at 100 %, average symmetric surface distance and surface Dice."""
    distances = np.concatenate([there, back])
    if not (len(there) and len(back)):
        return np.inf, np.inf, np.inf, 0.0
    hausdorff95 = max(float(np.percentile(side, 95)) for side in (there, back))
    within = distances <= tolerance * (1 + ROUNDING)
    return hausdorff95, float(distances.max()), float(distances.mean()), float(within.mean())


def macro_mean(values: Sequence[float]) -> Mean:
    """Mean over cases, each counting the same, of the values that exist and are finite.

    An infinite distance, of a structure that was missed or made up, would drown every other; it is left out and counted, so
    read the count with the mean. For an interval over patients give the finite values to
    `tabib.metrics.intervals.mean_interval` with the patients' numbers.
    """
    numbers = np.asarray(values, np.float64)
    finite = numbers[np.isfinite(numbers)]
    infinite = int(np.isinf(numbers).sum())
    value = float(finite.mean()) if len(finite) else NONE
    return Mean(value, len(finite), undefined=len(numbers) - len(finite) - infinite, infinite=infinite)


def micro_overlap(overlaps: Sequence[Overlap]) -> Overlap:
    """All cases as one: their voxels are added up before the ratio is taken, so that large structures count more."""
    return Overlap(
        sum(overlap.true_positive for overlap in overlaps),
        sum(overlap.false_positive for overlap in overlaps),
        sum(overlap.false_negative for overlap in overlaps),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else NONE


def _sides(mask: np.ndarray) -> str:
    return " x ".join(map(str, mask.shape))
