"""What a cardiologist reads from the outlines of a heart, and how far it agrees with the truth.

Volumes are sums of voxels (Simpson's method of discs), so they are as physical as the spacing is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm, pearsonr
from scipy.stats import t as student

from tabib.errors import DataError, StudyError
from tabib.metrics.intervals import FEWEST, Interval, Sureness

__all__ = ["MYOCARDIAL_DENSITY", "BlandAltman", "bland_altman", "correlation", "ejection_fraction", "myocardial_mass", "volumes_ml"]

MYOCARDIAL_DENSITY = 1.05
"""Grams per millilitre: Schulz-Menger et al., J Cardiovasc Magn Reson 2020;22:19."""


@dataclass(frozen=True)
class BlandAltman:
    """How two measurements of the same patients agree, in their unit: predicted less true."""

    bias: float  # mean difference
    deviation: float  # standard deviation of the differences
    low: float  # limits of agreement
    high: float
    bias_interval: Interval
    low_interval: Interval
    high_interval: Interval
    patients: int


def volumes_ml(labels: np.ndarray, structures: Mapping[str, int], *, spacing: Sequence[float | None] | None) -> dict[str, float]:
    """Volume of each structure of a label map (D, H, W) in mL, from the spacing in mm along each axis.

    Without a spacing there are no millilitres (`StudyError`).
    """
    sides = [] if spacing is None else [side for side in spacing if side is not None]
    if spacing is None or len(sides) < len(spacing):
        raise StudyError(
            "Volumes in mL, ejection fraction and mass need the true spacing, and the study says that it is nominal or the files say none; "
            "leave these measures out, or bring files with their spacing."
        )
    if labels.ndim != 3 or len(sides) != 3 or not all(np.isfinite(side) and side > 0 for side in sides):
        raise DataError(f"A volume has three axes and three spacings above 0 mm, and this has {labels.ndim} axes and {tuple(spacing)}.")
    voxel = float(np.prod(sides)) / 1000
    return {name: int(np.count_nonzero(labels == value)) * voxel for name, value in structures.items()}


def ejection_fraction(diastole_ml: float, systole_ml: float) -> float:
    """Share of the end-diastolic volume that is pumped out, (EDV - ESV) / EDV; nan where the ventricle was not found in diastole."""
    return (diastole_ml - systole_ml) / diastole_ml if diastole_ml > 0 else float("nan")


def myocardial_mass(myocardium_ml: float) -> float:
    """Mass in grams of the myocardium, by convention from its volume at end-diastole."""
    return MYOCARDIAL_DENSITY * myocardium_ml


def bland_altman(truth: np.ndarray, prediction: np.ndarray, sure: Sureness) -> BlandAltman:
    """Bias and limits of agreement of two measurements, (N,) each with a patient a row; patients without either are left out.

    The limits are bias ± 1.96 standard deviations of the differences, with approximate intervals by Student's t: of the bias
    from s² / n, of the limits from s² (1 / n + 1.96² / (2 (n - 1))). Bland and Altman, Lancet 1986;327:307 and Statistical
    Methods in Medical Research 1999;8:135. nan with fewer than two patients.
    """
    difference = np.asarray(prediction, np.float64) - np.asarray(truth, np.float64)
    difference = difference[np.isfinite(difference)]
    number = len(difference)
    bias = float(difference.mean()) if number else float("nan")
    deviation = float(difference.std(ddof=1)) if number > 1 else float("nan")
    reach = float(norm.ppf(0.975))

    def around(value: float, factor: float) -> Interval:
        if number < FEWEST:
            return Interval(groups=number)
        half = float(student.ppf((1 + sure.confidence) / 2, number - 1)) * deviation * float(np.sqrt(factor))
        return Interval(value - half, value + half, "t", number)

    low, high = bias - reach * deviation, bias + reach * deviation
    wider = 1 / number + reach**2 / (2 * (number - 1)) if number > 1 else float("nan")
    return BlandAltman(bias, deviation, low, high, around(bias, 1 / max(1, number)), around(low, wider), around(high, wider), number)


def correlation(truth: np.ndarray, prediction: np.ndarray, sure: Sureness) -> tuple[float, Interval]:
    """Pearson's correlation of two measurements, (N,) each with a patient a row, and its interval by Fisher's z.

    nan with fewer than three patients or where either does not vary. It says nothing of agreement: a method that doubles
    every volume correlates perfectly.
    """
    both = np.stack([np.asarray(truth, np.float64), np.asarray(prediction, np.float64)])
    both = both[:, np.isfinite(both).all(0)]
    number = both.shape[1]
    if number < 3 or (both.min(1) == both.max(1)).any():
        return float("nan"), Interval(groups=number)
    found: Any = pearsonr(*both)
    if number < FEWEST or abs(found.statistic) >= 1:
        return float(found.statistic), Interval(groups=number)
    low, high = found.confidence_interval(sure.confidence)
    return float(found.statistic), Interval(float(low), float(high), "fisher_z", number)
