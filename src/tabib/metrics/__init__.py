"""Numbers in, numbers out: measures, calibration, thresholds and intervals. NumPy only."""

from tabib.metrics.calibration import apply_temperature, ece, fit_temperature, reliability
from tabib.metrics.classification import (
    accuracy,
    auc,
    average_precision,
    balanced_accuracy,
    brier,
    confusion,
    f1,
    log_loss,
    mcc,
    npv,
    ppv,
    sensitivity,
    specificity,
)
from tabib.metrics.label_errors import DiceMargins, LabelMargins, weigh_dice, weigh_labels
from tabib.metrics.table import METRICS, Metric
from tabib.metrics.thresholds import choose_threshold, net_benefit

__all__ = [
    "METRICS",
    "DiceMargins",
    "LabelMargins",
    "Metric",
    "accuracy",
    "apply_temperature",
    "auc",
    "average_precision",
    "balanced_accuracy",
    "brier",
    "choose_threshold",
    "confusion",
    "ece",
    "f1",
    "fit_temperature",
    "log_loss",
    "mcc",
    "net_benefit",
    "npv",
    "ppv",
    "reliability",
    "sensitivity",
    "specificity",
    "weigh_dice",
    "weigh_labels",
]
