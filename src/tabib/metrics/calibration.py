"""Whether a probability of 0.8 is right four times in five, and what makes it so."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from tabib.metrics.classification import Numbers, log_loss, plain, ratio

__all__ = ["BINS", "TEMPERATURES", "apply_temperature", "bin_gaps", "ece", "fit_temperature", "reliability"]

BINS = 10
"""Bins of equal width in which probability and outcome are compared: [0, 0.1), [0.1, 0.2), ... [0.9, 1]."""

TEMPERATURES = (0.25, 10.0)
"""Range of the temperature. On rows that are all right the best one is 0, which would call every answer certain."""


def ece(truth: np.ndarray, probability: np.ndarray, *, bins: int = BINS, weights: np.ndarray | None = None) -> Numbers:
    """Expected calibration error: mean distance of probability and outcome over bins of equal width, weighted by their rows.

    For `probability` (N,) the positive class's probability is compared with how often it is true; for (N, C) the
    probability of the most likely class with how often it is the right one. `weights` (..., N) as in
    `tabib.metrics.classification`; nan without rows. It is never negative, so that few rows make it too large.
    Naeini et al., AAAI 2015; Guo et al., ICML 2017.
    """
    return plain(np.abs(bin_gaps(truth, probability, bins=bins, weights=weights)).sum(-1))


def bin_gaps(truth: np.ndarray, probability: np.ndarray, *, bins: int = BINS, weights: np.ndarray | None = None) -> np.ndarray:
    """Probability minus outcome summed in each bin, over all rows, (..., bins): `ece` is the sum of their sizes."""
    confidence, outcome = _confidence(truth, probability)
    inside = _bin(confidence, bins)[:, None] == np.arange(bins)
    taken = np.ones(len(outcome)) if weights is None else np.asarray(weights, dtype=np.float64)
    return ratio(taken @ (inside * (confidence - outcome)[:, None]), taken.sum(-1)[..., None])


def reliability(truth: np.ndarray, probability: np.ndarray, *, bins: int = BINS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean probability, share that came true, and number of rows of every bin that holds a row."""
    confidence, outcome = _confidence(truth, probability)
    place = _bin(confidence, bins)
    rows = np.bincount(place, minlength=bins)
    held = rows > 0
    means = (np.bincount(place, weights=values, minlength=bins)[held] / rows[held] for values in (confidence, outcome))
    return *means, rows[held]  # type: ignore[return-value]


def fit_temperature(log_probability: np.ndarray, truth: np.ndarray) -> float:
    """The temperature T that makes softmax(log_probability / T) fit best, by log loss. Guo et al., ICML 2017.

    `log_probability` (N, C): natural logarithms of probabilities, or logits; `truth` (N,) class numbers. One number for
    all classes, which cannot change which class is likeliest. Kept inside `TEMPERATURES`.
    """
    if not len(truth):
        return 1.0
    bounds = (np.log(TEMPERATURES[0]), np.log(TEMPERATURES[1]))
    found = minimize_scalar(
        lambda logarithm: log_loss(truth, apply_temperature(log_probability, float(np.exp(logarithm)))),
        bounds=bounds,
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def apply_temperature(log_probability: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(log_probability / temperature) over the last axis, (N, C)."""
    scaled = np.asarray(log_probability, dtype=np.float64) / temperature
    return np.exp(scaled - logsumexp(scaled, axis=-1, keepdims=True))


def _confidence(truth: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    truth, probability = np.asarray(truth), np.asarray(probability, dtype=np.float64)
    if probability.ndim == 1:
        return probability, truth.astype(np.float64)
    return probability.max(1), (probability.argmax(1) == truth).astype(np.float64)


def _bin(confidence: np.ndarray, bins: int) -> np.ndarray:
    return np.clip((confidence * bins).astype(np.int64), 0, bins - 1)
