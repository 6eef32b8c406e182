"""Which labels are probably wrong, from what models that had not seen the images said of them.

Confident learning (Northcutt, Jiang and Chuang, Journal of Artificial Intelligence Research 2021;70:1373): a model is taken to be
confident of a class where it gives that class at least what it gives on average to images that bear its label, so that a model that
is cautious, or sure of itself, about one class is measured by its own caution. An image of which it is confident that it is of
another class than its label says lies off the diagonal of the paper's confident joint, and its label is probably wrong. The labels
are put in order by the normalised margin: the probability of the label less that of the likeliest other class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["LabelMargins", "weigh_labels"]


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
