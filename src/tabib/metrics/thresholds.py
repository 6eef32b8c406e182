"""The operating point: from which probability on a row counts as positive."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.special import expit, logit

from tabib.config import Threshold
from tabib.errors import DataError

__all__ = ["choose_threshold"]

NEAREST = 1e-12
"""Probabilities are kept so far from 0 and 1, so that their log odds exist."""


def choose_threshold(probability: np.ndarray, truth: np.ndarray, rule: Literal["youden"] | Threshold) -> float:
    """The threshold a rule gives; a row is positive where its probability is at least that.

    `probability` (N,) of the positive class; `truth` (N,) with 1 for positive rows.

    - `youden`: the largest sensitivity + specificity (Youden, Cancer 1950;3:32). Of several cuts that are equally good
      the one where the two are most alike, then the one with the widest gap between the scores beside it.
    - `sensitivity`: as few positive calls as reach it on these rows.
    - `fixed`: the number itself.

    A threshold stands half-way, in log odds, between the scores beside it: not on a row of this sample, and where a
    temperature applied before or after would leave the same rows positive. Without any cut (all scores equal) it is 0.5.

    Raises `DataError` where the rule needs a class that has no row.
    """
    if rule != "youden" and rule.fixed is not None:
        return rule.fixed
    truth = np.asarray(truth).astype(bool)
    _need_rows(truth, both=rule == "youden")
    scores, place = np.unique(np.asarray(probability, dtype=np.float64), return_inverse=True)
    # At cut k the rows that score scores[k] or more are positive.
    found = np.cumsum(np.bincount(place[truth], minlength=len(scores))[::-1])[::-1]
    if rule != "youden":
        assert rule.sensitivity is not None
        # The margin keeps 0.95 of 20 at 19: their product is a little more in binary.
        cut = np.flatnonzero(found >= rule.sensitivity * truth.sum() - 1e-9)[-1]
        return _between(scores, int(cut))
    if len(scores) == 1:
        return 0.5
    called = np.cumsum(np.bincount(place[~truth], minlength=len(scores))[::-1])[::-1]
    sensitivity, specificity = (found / truth.sum())[1:], (1 - called / (~truth).sum())[1:]
    worth = np.round(sensitivity + specificity, 12)
    unlike = np.round(np.abs(sensitivity - specificity), 12)
    gap = np.round(np.diff(_log_odds(scores)), 9)
    cut = np.lexsort((gap, -unlike, worth))[-1] + 1
    return _between(scores, int(cut))


def _between(scores: np.ndarray, cut: int) -> float:
    if cut == 0:
        return float(scores[0])
    middle = float(expit(_log_odds(scores[cut - 1 : cut + 1]).mean()))
    # Neighbours one rounding step apart have no middle; the upper one itself cuts the same rows.
    return middle if scores[cut - 1] < middle <= scores[cut] else float(scores[cut])


def _log_odds(probability: np.ndarray) -> np.ndarray:
    return logit(np.clip(probability, NEAREST, 1 - NEAREST))


def _need_rows(truth: np.ndarray, *, both: bool) -> None:
    missing = "positive" if not truth.any() else "negative" if both and truth.all() else None
    if missing is not None:
        raise DataError(
            f"The operating point needs {missing} rows, and none of the {len(truth)} validation rows is {missing}; "
            "put more patients into validation, or set calibrate.threshold: {fixed: 0.5}"
        )
