"""How far several answers on one image differ, and whether a number goes with another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.stats import rankdata

from tabib.metrics.intervals import Interval, Sureness, jackknife_interval, leave_groups_out

__all__ = ["disagreement", "rank_correlation"]


def disagreement(masks: Sequence[np.ndarray], structures: int) -> float | None:
    """One less the mean Dice between every two masks of one image: 0 where all are the same, 1 where no two share a voxel.

    The mean is over the structures that any mask shows, each counting the same; where none shows any it is 0. One less the
    agreement in samples of Roy et al., NeuroImage 2019;195:11, with the answers of several networks (or of mirrored images) for
    samples. None of fewer than two masks.

    Args:
        masks: alike in shape: 0 for the background, k for the k-th structure.
        structures: how many there are.
    """
    if len(masks) < 2:
        return None
    shared = np.zeros((structures, len(masks), len(masks)), np.int64)  # voxels in which two masks have a structure
    for slices in zip(*masks, strict=True):  # of masks that may be larger than memory
        for number, counts in enumerate(shared, start=1):
            mine = np.stack([slice_ == number for slice_ in slices]).reshape(len(masks), -1)
            counts += [[np.count_nonzero(one & other) for other in mine] for one in mine]
    means = []
    for counts in shared:
        pairs = [(one, other) for one, other in combinations(range(len(masks)), 2) if counts[one, one] + counts[other, other]]
        if pairs:
            means.append(float(np.mean([2 * counts[one, other] / (counts[one, one] + counts[other, other]) for one, other in pairs])))
    return 1 - float(np.mean(means)) if means else 0.0


def rank_correlation(first: np.ndarray, second: np.ndarray, groups: np.ndarray, sure: Sureness) -> tuple[float, Interval]:
    """Spearman's rank correlation of two numbers of each case, (N,) each, with an interval over groups, which are left out in turn.

    nan where there are fewer than three cases, or either number is the same in all.
    """
    value = _spearman(first, second)
    if np.isnan(value):
        return value, Interval()

    def statistic(weights: np.ndarray) -> np.ndarray:
        return np.array([_spearman(first[held], second[held]) for held in weights > 0])

    return value, jackknife_interval(value, leave_groups_out(statistic, groups), groups, sure, scale="signed")


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(np.clip(np.corrcoef(rankdata(first), rankdata(second))[0, 1], -1, 1))
