"""The operating point: from which probability on a row counts as positive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.special import expit, logit

from tabib.config import Threshold
from tabib.errors import DataError

__all__ = ["choose_threshold", "net_benefit"]

NEAREST = 1e-12
"""Probabilities are kept so far from 0 and 1, so that their log odds exist."""

OF_ONE_CLASS = {"sensitivity": "positive", "specificity": "negative"}
"""Rules that look at the rows of one class alone."""


def choose_threshold(
    probability: np.ndarray, truth: np.ndarray, rule: Literal["youden"] | Threshold, *, prevalence: float | None = None
) -> float:
    """The threshold a rule gives; a row is positive where its probability is at least that.

    `probability` (N,) of the positive class; `truth` (N,) with 1 for positive rows.

    - `youden`: the largest sensitivity + specificity (Youden, Cancer 1950;3:32).
    - `sensitivity`: as few positive calls as reach it on these rows.
    - `specificity`: as many positive calls as leave it on these rows.
    - `cost_ratio` r: the least expected cost r π (1 - sensitivity) + (1 - π) (1 - specificity), where π is `prevalence` or
      else the share of positive rows (Metz, Seminars in Nuclear Medicine 1978;8:283). Nobody or everybody may be positive.
    - `fixed`: the number itself.

    Of several cuts that are equally good the one where sensitivity and specificity are most alike, then the one with the
    widest gap between the scores beside it. A threshold stands half-way, in log odds, between the scores beside it: not on a row
    of this sample, and where a temperature applied before or after would leave the same rows positive. Above the highest
    score it is the next number. Where all scores are equal, `youden` gives 0.5.

    Raises `DataError` where the rule needs a class that has no row.
    """
    if rule != "youden" and rule.fixed is not None:
        return rule.fixed
    truth = np.asarray(truth).astype(bool)
    name = rule if isinstance(rule, str) else rule.rule
    _need_rows(truth, [kind for kind in ("positive", "negative") if name not in OF_ONE_CLASS or OF_ONE_CLASS[name] == kind])
    scores, place = np.unique(np.asarray(probability, dtype=np.float64), return_inverse=True)
    # At cut k the rows that score scores[k] or more are positive; at the last cut none is.
    found, called = (np.append(np.cumsum(np.bincount(place[side], minlength=len(scores))[::-1])[::-1], 0) for side in (truth, ~truth))
    # The margin keeps 0.95 of 20 at 19: their product is a little more in binary.
    if rule != "youden" and rule.sensitivity is not None:
        return _between(scores, int(np.flatnonzero(found >= rule.sensitivity * truth.sum() - 1e-9)[-1]))
    if rule != "youden" and rule.specificity is not None:
        return _between(scores, int(np.flatnonzero((~truth).sum() - called >= rule.specificity * (~truth).sum() - 1e-9)[0]))
    sensitivity, specificity = found / truth.sum(), 1 - called / (~truth).sum()
    if rule == "youden":
        if len(scores) == 1:
            return 0.5
        inner, ill = slice(1, -1), 0.5  # calling every row alike is no cut
    else:
        share = truth.mean() if prevalence is None else prevalence
        inner, ill = slice(None), _balance(share, rule.cost_ratio)
    worth = np.round(ill * sensitivity + (1 - ill) * specificity, 12)
    unlike = np.round(np.abs(sensitivity - specificity), 12)
    gap = np.round(np.diff(_log_odds(scores), prepend=-np.inf, append=np.inf), 9)
    best = np.lexsort((gap[inner], -unlike[inner], worth[inner]))[-1]
    return _between(scores, int(np.arange(len(worth))[inner][best]))


def net_benefit(truth: np.ndarray, probability: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """What calling rows from a threshold t on is worth: true positives less t / (1 - t) times false positives, each per row.

    `truth` and `probability` (N,), `thresholds` (T,) between 0 and 1; gives (T,). Who acts from a probability t on says by this
    that missing one ill person is as bad as (1 - t) / t false alarms. Vickers and Elkin, Medical Decision Making 2006;26:565.
    """
    called = np.asarray(probability) >= np.asarray(thresholds)[:, None]
    positive = np.asarray(truth).astype(bool)
    return (called & positive).mean(1) - (called & ~positive).mean(1) * thresholds / (1 - thresholds)


def _balance(share: float, cost_ratio: float | None) -> float:
    """What sensitivity counts, and what is missing to 1 specificity: the expected cost, divided by that of calling all wrong."""
    assert cost_ratio is not None
    return cost_ratio * share / (cost_ratio * share + 1 - share)


def _between(scores: np.ndarray, cut: int) -> float:
    if cut == 0:
        return float(scores[0])
    if cut == len(scores):
        return float(np.nextafter(scores[-1], 2))
    middle = float(expit(_log_odds(scores[cut - 1 : cut + 1]).mean()))
    # Neighbours one rounding step apart have no middle; the upper one itself cuts the same rows.
    return middle if scores[cut - 1] < middle <= scores[cut] else float(scores[cut])


def _log_odds(probability: np.ndarray) -> np.ndarray:
    return logit(np.clip(probability, NEAREST, 1 - NEAREST))


def _need_rows(truth: np.ndarray, kinds: Sequence[str]) -> None:
    has = {"positive": truth.any(), "negative": not truth.all()}
    missing = next((kind for kind in kinds if not has[kind]), None)
    if missing is not None:
        raise DataError(
            f"The operating point needs {missing} rows, and none of the {len(truth)} validation rows is {missing}; "
            "put more patients into validation, or set calibrate.threshold: {fixed: 0.5}"
        )
