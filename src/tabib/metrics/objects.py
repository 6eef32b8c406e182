"""Objects one by one: how well they were found and outlined, and how a mask of touching ones is divided.

An instance map holds a number per object, 0 where there is none. Objects of the truth and of the prediction are held against
each other in one sparse table of shared pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array

from tabib.errors import DataError

__all__ = ["ObjectMeasures", "measure_objects", "micro_objects", "split_touching"]

MATCHED = 0.5
"""Above this IoU a pair is a match. No object can have two: Kirillov et al., CVPR 2019, section 4.1."""


@dataclass(frozen=True, kw_only=True)
class ObjectMeasures:
    """The objects of one picture, or of several that were added up; see `tabib.metrics.definitions.OBJECTS`."""

    truth: int  # number of true objects
    prediction: int  # number of predicted objects
    matched: int  # pairs with an IoU above `MATCHED`
    matched_iou: float  # sum of the IoU of the pairs
    shared: int  # pixels of AJI's intersections
    joined: int  # pixels of AJI's unions and of the predicted objects that no true one chose

    @property
    def f1(self) -> float:
        """F1 of the objects, equal to the detection quality."""
        return _ratio(2 * self.matched, self.truth + self.prediction)

    @property
    def detection_quality(self) -> float:
        """TP / (TP + FP / 2 + FN / 2)."""
        return self.f1

    @property
    def segmentation_quality(self) -> float:
        """Mean IoU of the matched pairs; nan without one."""
        return _ratio(self.matched_iou, self.matched)

    @property
    def panoptic_quality(self) -> float:
        """Detection times segmentation quality, and 0 where nothing matches."""
        return _ratio(2 * self.matched_iou, self.truth + self.prediction)

    @property
    def aji(self) -> float:
        """Aggregated Jaccard index."""
        return _ratio(self.shared, self.joined)

    @property
    def count_error(self) -> int:
        """Predicted less true number of objects."""
        return self.prediction - self.truth


def measure_objects(truth: np.ndarray, prediction: np.ndarray) -> ObjectMeasures:
    """Match the objects of two instance maps (integers of one shape, any number of axes; `DataError` otherwise).

    For AJI every true object chooses the predicted one of the highest IoU, which more than one may choose; among equals the
    lowest number. One that overlaps none adds its own pixels to the union, as in the authors' code.
    """
    if truth.shape != prediction.shape or truth.dtype.kind not in "iub" or prediction.dtype.kind not in "iub":
        raise DataError(
            f"Instance maps are integers of one shape, and these are {truth.dtype} {truth.shape} and {prediction.dtype} {prediction.shape}; "
            "bring one to the grid of the other."
        )
    (ours, areas), (theirs, other_areas) = _numbered(truth), _numbered(prediction)
    on_both = (ours > 0) & (theirs > 0)
    pairs = coo_array((np.ones(on_both.sum(), np.int64), (ours[on_both] - 1, theirs[on_both] - 1)), (len(areas), len(other_areas)))
    pairs.sum_duplicates()
    row, column, shared = *pairs.coords, pairs.data
    union = areas[row] + other_areas[column] - shared
    iou = shared / union
    matched = iou > MATCHED

    order = np.lexsort((column, -iou, row))
    chosen = order[np.diff(row[order], prepend=-1) > 0]  # the first of each true object
    alone = np.bincount(row[chosen], minlength=len(areas)) == 0
    unchosen = np.bincount(column[chosen], minlength=len(other_areas)) == 0
    return ObjectMeasures(
        truth=len(areas),
        prediction=len(other_areas),
        matched=int(matched.sum()),
        matched_iou=float(iou[matched].sum()),
        shared=int(shared[chosen].sum()),
        joined=int(union[chosen].sum() + areas[alone].sum() + other_areas[unchosen].sum()),
    )


def micro_objects(pictures: Sequence[ObjectMeasures]) -> ObjectMeasures:
    """All pictures as one: their objects are added up before any ratio is taken, as Kirillov et al. do over a data set."""
    return ObjectMeasures(
        truth=sum(picture.truth for picture in pictures),
        prediction=sum(picture.prediction for picture in pictures),
        matched=sum(picture.matched for picture in pictures),
        matched_iou=sum(picture.matched_iou for picture in pictures),
        shared=sum(picture.shared for picture in pictures),
        joined=sum(picture.joined for picture in pictures),
    )


def split_touching(mask: np.ndarray, *, depth: float = 1.0, smallest: int = 1) -> np.ndarray:
    """Divide a mask of touching objects into an instance map by the watershed of its distance transform.

    `mask` (bool) of any number of axes. Every pixel climbs to its highest neighbour (diagonals count) until it stands on a peak
    of the distance to the outside: catchment basins by steepest ascent (Roerdink and Meijster, Fundamenta Informaticae
    2000;41:187, section 4.1). Two basins are one object unless the pass between them lies at least `depth` pixels below the
    lower of their peaks, the dynamics of a peak (Grimaud, SPIE 1992;1769:292); the highest passes are judged first, so that a
    disc, whose peaks the grid makes, is not divided. Objects of fewer than `smallest` pixels are left out. The numbers 1..N
    follow the order of the objects' first pixels.
    """
    padded = np.pad(np.asarray(mask, bool), 1)
    height = np.asarray(ndimage.distance_transform_edt(padded)).ravel()
    inside = np.flatnonzero(height)
    place = np.full(height.size, -1)
    place[inside] = np.arange(len(inside))
    offsets = _offsets(padded.shape)
    level = height[inside]

    uphill = np.arange(len(inside))
    for offset in (*offsets, *(-offset for offset in offsets)):
        neighbour = place[inside + offset]
        # Among equal heights the later place is the higher one, so that no two pixels point at each other.
        higher = (neighbour >= 0) & ((level[neighbour] > level[uphill]) | ((level[neighbour] == level[uphill]) & (neighbour > uphill)))
        uphill = np.where(higher, neighbour, uphill)
    while not np.array_equal(uphill, above := uphill[uphill]):
        uphill = above
    peaks, basin = np.unique(uphill, return_inverse=True)

    one, other, crossing = _passes(basin, level, [place[inside + offset] for offset in offsets])
    objects = _join(level[peaks], one, other, crossing, depth)[basin]
    large = np.bincount(objects, minlength=1)[objects] >= smallest
    _, first, number = np.unique(objects[large], return_index=True, return_inverse=True)
    result = np.zeros(height.size, np.int32)
    result[inside[large]] = np.argsort(np.argsort(first))[number] + 1
    return result.reshape(padded.shape)[(slice(1, -1),) * padded.ndim]


def _offsets(shape: tuple[int, ...]) -> list[int]:
    """Steps in a flattened array to those neighbours that come later."""
    strides = np.cumprod((1, *shape[:0:-1]))[::-1]
    return [int(np.dot(step, strides)) for step in product((-1, 0, 1), repeat=len(shape)) if step > (0,) * len(shape)]


def _passes(basin: np.ndarray, level: np.ndarray, neighbours: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places where basins meet: both basins and the height of the pass, the highest first."""
    ones, others, crossings = [], [], []
    for neighbour in neighbours:
        meet = np.flatnonzero((neighbour >= 0) & (basin != basin[neighbour]))
        ones.append(basin[meet])
        others.append(basin[neighbour[meet]])
        crossings.append(np.minimum(level[meet], level[neighbour[meet]]))
    one, other, crossing = (np.concatenate(parts) for parts in (ones, others, crossings))
    order = np.argsort(-crossing, kind="stable")
    _, first = np.unique(np.minimum(one, other)[order] * len(basin) + np.maximum(one, other)[order], return_index=True)
    highest = order[np.sort(first)]
    return one[highest], other[highest], crossing[highest]


def _join(peaks: np.ndarray, one: np.ndarray, other: np.ndarray, crossing: np.ndarray, depth: float) -> np.ndarray:
    """The object of each basin: the basin that stands for it (union-find)."""
    stands = list(range(len(peaks)))
    tops = peaks.tolist()

    def find(basin: int) -> int:
        while stands[basin] != basin:
            stands[basin] = stands[stands[basin]]
            basin = stands[basin]
        return basin

    for left, right, height in zip(one.tolist(), other.tolist(), crossing.tolist(), strict=True):
        low, high = sorted((find(left), find(right)), key=lambda basin: tops[basin])
        if low != high and tops[low] - height < depth:
            stands[low] = high
    return np.array([find(basin) for basin in range(len(peaks))], dtype=np.int64)


def _numbered(instances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Objects numbered 1..N without gaps, flat, and the pixels of each."""
    values, flat = np.unique(instances, return_inverse=True)
    numbers = np.cumsum(values != 0) * (values != 0)
    flat = numbers[flat.ravel()]
    return flat, np.bincount(flat, minlength=1)[1:]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
