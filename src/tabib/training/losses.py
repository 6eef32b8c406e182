"""How wrong an answer is, and how wrong a network that learnt nothing would be."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["balanced_weights", "class_logits", "constant_loss", "cross_entropy", "uniform_loss"]


def class_logits(logits: Tensor) -> Tensor:
    """One column per class, float32: for two classes the network gives one logit, and the first class's is 0.

    With that, one formula serves any number of classes: the softmax of (0, z) is the logistic function of z.
    """
    logits = logits.float()
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits


def cross_entropy(logits: Tensor, labels: Tensor, *, weights: Tensor | None, smoothing: float) -> Tensor:
    """Mean cross-entropy in nats, over class weights if given, in float32 whatever the network's precision.

    Args:
        logits: (B, 1) for two classes, else (B, C).
        labels: (B,) int64.
        weights: (C,) weight of each class; the mean is over the weights of the labels in the batch.
        smoothing: share of each label spread over all classes (Szegedy et al. 2016).
    """
    return functional.cross_entropy(class_logits(logits), labels, weight=weights, label_smoothing=smoothing)


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Weights (C,) that make every class count the same: rows / (classes x rows of the class)."""
    counts = torch.bincount(labels, minlength=classes)
    return len(labels) / (classes * counts.clamp(min=1)).float()


def uniform_loss(labels: Tensor, classes: int, *, weights: Tensor | None, smoothing: float) -> float:
    """The loss of a network that gives every class the same probability, as an untrained one should: ln C without smoothing."""
    return float(cross_entropy(torch.zeros(len(labels), classes), labels, weights=weights, smoothing=smoothing))


def constant_loss(labels: Tensor, classes: int, *, weights: Tensor | None, smoothing: float) -> float:
    """The smallest loss of a network that answers every image alike.

    A training that stays there has learnt nothing but how frequent the classes are.
    """
    counts = torch.bincount(labels, minlength=classes).double()
    target = (1 - smoothing) * counts + smoothing / classes * len(labels)
    answer = target if weights is None else target * weights
    logits = answer.clamp(min=1e-12).log().float().expand(len(labels), classes)
    return float(cross_entropy(logits, labels, weights=weights, smoothing=smoothing))
