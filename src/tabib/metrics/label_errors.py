"""Which labels and masks are probably wrong, from what models that had not seen the images said of them.

Confident learning (Northcutt, Jiang and Chuang, Journal of Artificial Intelligence Research 2021;70:1373): a model is taken to be
confident of a class where it gives that class at least what it gives on average to images that bear its label, so that a model that
is cautious, or sure of itself, about one class is measured by its own caution. An image of which it is confident that it is of
another class than its label says lies off the diagonal of the paper's confident joint, and its label is probably wrong. The labels
are put in order by the normalised margin: the probability of the label less that of the likeliest other class.

A mask is held against the other masks of its structure: by how much more its Dice with what the models drew lies below the median than
is usual, in the robust deviations of Iglewicz and Hoaglin ("How to Detect and Handle Outliers", ASQC Quality Press 1993), of which more
than 3.5 make an outlier. Dice has a long tail below and none above, so that only the cases below the median say what is usual.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["DiceMargins", "LabelMargins", "weigh_dice", "weigh_labels"]

_NORMAL = 1.4826
"""Times the median absolute deviation, the standard deviation of normal values."""

_LEAST = 0.01
"""Of a deviation: values of the Dice that differ by less are the same."""


@dataclass(frozen=True)
class LabelMargins:
    """How labels stand to what models say."""

    thresholds: np.ndarray  # (C,) mean probability of each class over the images that bear its label; nan of a class without images
    confident: np.ndarray  # (N,) number of the class of which the models are confident, -1 of none
    margin: np.ndarray  # (N,) -1 to 1: probability of the label less that of the likeliest other class


def weigh_labels(labels: np.ndarray, probability: np.ndarray) -> LabelMargins:
    """Weigh labels against probabilities that no image had a part in.

    Args:
        labels: (N,) class numbers as given.
        probability: (N, C), rows sum to 1, C at least 2; of models that did not learn from the row (out of fold).
    """
    number = probability.shape[1]
    mine = labels[:, None] == np.arange(number)
    counts = mine.sum(0)
    thresholds = np.where(counts > 0, (probability * mine).sum(0) / np.maximum(counts, 1), np.nan)
    reached = np.where(probability >= thresholds, probability, -1.0)  # nothing reaches nan
    confident = np.where(reached.max(1, initial=-1) >= 0, reached.argmax(1), -1)
    others = np.where(mine, -np.inf, probability).max(1, initial=-np.inf)
    return LabelMargins(thresholds, confident, probability[np.arange(len(labels)), labels] - others)


@dataclass(frozen=True)
class DiceMargins:
    """How far values of the Dice lie below what is usual."""

    usual: float  # the median; nan where there is none
    below: np.ndarray  # (N,) robust deviations, each of 0.01 or more, below the median, negative above it; nan where there is no Dice


def weigh_dice(dice: np.ndarray) -> DiceMargins:
    """Weigh values of the Dice against one another.

    Args:
        dice: (N,) of masks with what models drew that had not learnt from the case; nan where neither has the structure.
    """
    known = dice[np.isfinite(dice)]
    if not len(known):
        return DiceMargins(np.nan, np.full(len(dice), np.nan))
    usual = float(np.median(known))
    spread = max(_LEAST, _NORMAL * float(np.median(usual - known[known <= usual])))
    return DiceMargins(usual, (usual - dice) / spread)
