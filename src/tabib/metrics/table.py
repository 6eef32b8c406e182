"""Every measure by its name: what it reads, and on which scale it lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tabib.metrics import calibration, classification

__all__ = ["METRICS", "Metric"]


@dataclass(frozen=True)
class Metric:
    """A measure of two classes, and what an interval has to know of it."""

    function: Callable[..., classification.Numbers]  # (truth, what it reads, *, weights)
    reads: Literal["predicted", "probability"]
    scale: Literal["unit", "signed", "positive"] = "unit"  # 0..1, -1..1, or 0..infinity


METRICS: dict[str, Metric] = {
    "accuracy": Metric(classification.accuracy, "predicted"),
    "balanced_accuracy": Metric(classification.balanced_accuracy, "predicted"),
    "sensitivity": Metric(classification.sensitivity, "predicted"),
    "specificity": Metric(classification.specificity, "predicted"),
    "ppv": Metric(classification.ppv, "predicted"),
    "npv": Metric(classification.npv, "predicted"),
    "f1": Metric(classification.f1, "predicted"),
    "mcc": Metric(classification.mcc, "predicted", "signed"),
    "auc": Metric(classification.auc, "probability"),
    "average_precision": Metric(classification.average_precision, "probability"),
    "brier": Metric(classification.brier, "probability"),
    "ece": Metric(calibration.ece, "probability"),
    "log_loss": Metric(classification.log_loss, "probability", "positive"),
}
"""Measures of a classifier, in the order of `tabib.config.METRICS`."""
