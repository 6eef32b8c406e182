"""One predicted mask held against the true one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tabib.config import SegmentationData
from tabib.dataset import Case, case_of, read_case, read_predicted
from tabib.errors import ImageError
from tabib.metrics.objects import measure_objects
from tabib.metrics.segmentation import StructureMeasures, measure_structure
from tabib.metrics.surfaces import bounding_box
from tabib.records import MeasuredCase, MeasuredObjects, MeasuredStructure

__all__ = ["Asked", "Baseline", "measure_case", "structure_shares"]

Baseline = list[tuple[int, int, int]]
"""Found, added and missed voxels of each structure, where a baseline answers."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A case to be measured."""

    data: SegmentationData
    row: int
    path: str
    mask: str  # the true one, below the data folder
    prediction: Path
    group: str
    phase: str | None
    tolerance_mm: float
    heart: bool  # whether the thirds of its slices run from apex to base
    shape: np.ndarray | None  # what the baseline answers, on a grid of its own
    disagreement: float | None  # of the members that predicted it


def measure_case(asked: Asked) -> tuple[MeasuredCase, Baseline | None] | str:
    """Measure one case, and what the baseline says of it; a sentence where one of its files cannot be read."""
    try:
        case = read_case(asked.data, asked.path, asked.mask)
        stored = read_predicted(asked.prediction, case.image)
    except ImageError as error:
        return str(error)
    predicted = case_of(asked.data, case.image, stored)
    said = predicted.structures
    spacing = _spacing(case, asked.data)
    names = asked.data.structures
    confusion = np.bincount(
        case.structures.ravel().astype(np.int64) * (len(names) + 1) + said.ravel(), minlength=(len(names) + 1) ** 2
    ).reshape(len(names) + 1, -1)
    upwards = _apex_first(case.structures) if asked.heart else True
    measured = MeasuredCase(
        row=asked.row,
        path=asked.path,
        group=asked.group,
        phase=asked.phase,
        slices=len(said),
        millimetres=spacing is not None,
        disagreement=asked.disagreement,
        confusion=confusion.tolist(),
        structures=[
            _measured(name, case.structures == place, said == place, spacing, asked.tolerance_mm, upwards=upwards)
            for place, name in enumerate(names, start=1)
        ],
        objects=None if case.objects is None or predicted.objects is None else _objects(case.objects, predicted.objects),
    )
    return measured, None if asked.shape is None else _of_shape(case.structures, asked.shape, len(names))


def structure_shares(item: tuple[SegmentationData, str, str, tuple[int, int, int]]) -> np.ndarray | str:
    """Where the structures of a case lie on a grid of so many slices, rows and columns: (structures + 1, D, H, W) bool."""
    data, path, mask, grid = item
    try:
        structures = read_case(data, path, mask).structures
    except ImageError as error:
        return str(error)
    return _on_grid(structures, grid) == np.arange(len(data.structures) + 1)[:, None, None, None]


def _spacing(case: Case, data: SegmentationData) -> tuple[float, ...] | None:
    """Millimetres along each axis (of a picture two); None where they are not known, or mean nothing."""
    if data.spacing == "nominal" or case.image.spacing_mm is None:
        return None
    between, rows, columns = case.image.spacing_mm
    if len(case.structures) == 1:
        return rows, columns
    return None if between is None else (between, rows, columns)


def _measured(
    name: str, truth: np.ndarray, said: np.ndarray, spacing: tuple[float, ...] | None, tolerance: float, *, upwards: bool
) -> MeasuredStructure:
    flat = len(truth) == 1
    found = measure_structure(truth[0] if flat else truth, said[0] if flat else said, spacing=spacing, tolerance=tolerance)
    by_slice = np.stack([mask.sum((1, 2)) for mask in (truth & said, said & ~truth, truth & ~said)], axis=1)
    wrong, shows = by_slice[:, 1:].sum(1), truth.any((1, 2))
    return MeasuredStructure(
        structure=name,
        true_positive=found.overlap.true_positive,
        false_positive=found.overlap.false_positive,
        false_negative=found.overlap.false_negative,
        **_finite(found),
        thirds=_thirds(by_slice, np.flatnonzero(shows), upwards=upwards),
        largest_slice=int((by_slice[:, [0, 2]] if shows.any() else by_slice).sum(1).argmax()) + 1,
        worst_slice=int(wrong.argmax()) + 1 if wrong.any() else None,
        worst_share=float(wrong.max() / wrong.sum()) if wrong.any() else 0.0,
        missed_slices=int((shows & ~said.any((1, 2))).sum()),
        added_slices=int((~shows & said.any((1, 2))).sum()),
    )


def _finite(found: StructureMeasures) -> dict[str, float | None]:
    names = ("dice", "iou", "precision", "recall", "hausdorff95_mm", "surface_distance_mm", "surface_dice", "truth_ml", "prediction_ml")
    return {name: _number(getattr(found, name)) for name in names}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _thirds(by_slice: np.ndarray, shown: np.ndarray, *, upwards: bool) -> list[tuple[int, int, int]]:
    if len(shown) < 3:
        return []
    parts = np.array_split(shown if upwards else shown[::-1], 3)
    sums = [by_slice[part].sum(0).tolist() for part in parts]
    return [(found, added, missed) for found, added, missed in sums]


def _apex_first(structures: np.ndarray) -> bool:
    """Whether the first slices show less of the heart than the last: the apex is the thin end."""
    areas = (structures > 0).sum((1, 2))
    shown = areas[areas > 0]
    third = max(1, len(shown) // 3)
    return bool(shown[:third].sum() <= shown[-third:].sum())


def _objects(truth: np.ndarray, said: np.ndarray) -> MeasuredObjects:
    box = bounding_box((truth > 0) | (said > 0))
    found = measure_objects(truth[box], said[box])
    return MeasuredObjects(
        truth=found.truth,
        prediction=found.prediction,
        matched=found.matched,
        matched_iou=found.matched_iou,
        shared=found.shared,
        joined=found.joined,
        f1=_number(found.f1),
        segmentation_quality=_number(found.segmentation_quality),
        panoptic_quality=_number(found.panoptic_quality),
        aji=_number(found.aji),
    )


def _of_shape(truth: np.ndarray, shape: np.ndarray, structures: int) -> Baseline:
    d, h, w = truth.shape
    said = _on_grid(shape, (d, h, w))
    counts = []
    for place in range(1, structures + 1):
        mine, real = said == place, truth == place
        counts.append((int((mine & real).sum()), int((mine & ~real).sum()), int((real & ~mine).sum())))
    return counts


def _on_grid(labels: np.ndarray, grid: tuple[int, int, int]) -> np.ndarray:
    """Labels on a grid of so many voxels: of each the label at its centre."""
    places = [((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(grid, labels.shape, strict=True)]
    return labels[np.ix_(*places)]
