"""How wrong an answer is, and how wrong a network that learnt nothing would be."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["LabelLoss", "Loss", "balanced_weights", "class_logits", "label_logits"]


def class_logits(logits: Tensor) -> Tensor:
    """One column per class, float32: where a network of two classes gives one logit, the first class's is 0.

    With that, one formula serves any number of classes: the softmax of (0, z) is the logistic function of z.
    """
    logits = logits.float()
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits


@dataclass(frozen=True)
class Loss:
    """What is minimised, and what validation is measured with: a mean over images, in float32 whatever the network's precision."""

    weights: Tensor | None = None  # (C,) of each class; the mean is then over the weights of the images
    smoothing: float = 0.0  # share of each label spread over all classes (Szegedy et al. 2016); for gamma 0
    gamma: float = 0.0  # 0 is cross-entropy in nats; above it each image counts (1 - p)^gamma (focal loss, Lin et al. 2017)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of logits (B, C), or (B, 1) for two classes, whose labels are (B,) int64."""
        weights = None if self.weights is None else self.weights.to(logits.device)
        logits = class_logits(logits)
        if not self.gamma:
            return functional.cross_entropy(logits, labels, weight=weights, label_smoothing=self.smoothing)
        logarithms = functional.log_softmax(logits, dim=1)
        right = functional.one_hot(labels, logits.shape[1]).bool()
        # log(1 - p) from the other classes: 1 - p itself is 0 for a sure answer, and a small power of 0 has no gradient.
        of_others = logarithms.masked_fill(right, -torch.inf).logsumexp(1)
        each = -(self.gamma * of_others).exp() * logarithms[right]
        return each.mean() if weights is None else (weights[labels] * each).sum() / weights[labels].sum()

    def mass(self, labels: Tensor) -> float:
        """What the mean over these images is divided by: their number, or the sum of their weights."""
        return float(len(labels) if self.weights is None else self.weights.to(labels.device)[labels].sum())

    def uniform(self, labels: Tensor, classes: int) -> float:
        """The loss of a network that gives every class the same probability, as an untrained one should.

        ln C for cross-entropy, (1 - 1/C)^gamma ln C for focal loss.
        """
        return float(self(torch.zeros(len(labels), classes), labels))

    def constant(self, labels: Tensor, classes: int) -> float:
        """The smallest loss of a network that answers every image alike.

        A training that stays there has learnt nothing but how frequent the classes are.
        """
        counts = torch.bincount(labels, minlength=classes).double()
        target = (1 - self.smoothing) * counts + self.smoothing / classes * len(labels)
        answer = target if self.weights is None else target * self.weights.cpu()
        logits = answer.clamp(min=1e-12).log().float()
        if not self.gamma:
            return float(self(logits.expand(len(labels), classes), labels))
        # One image of each class, weighted by how many there are; the best answer has no closed form.
        loss, labels = Loss(weights=answer.float(), gamma=self.gamma), torch.arange(classes)
        logits.requires_grad_()
        search = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

        def step() -> Tensor:
            search.zero_grad()
            value = loss(logits.expand(classes, classes), labels)
            value.backward()
            return value

        search.step(step)  # pyright: ignore[reportArgumentType]
        return float(step().detach())


def label_logits(logits: Tensor) -> Tensor:
    """Of several labels, each a pair of classes: from logits (B, L) those of absent, 0, and of present, (B, L, 2) float32."""
    logits = logits.float()
    return torch.stack([torch.zeros_like(logits), logits], dim=2)


@dataclass(frozen=True)
class LabelLoss:
    """The same of several labels: each is a study of two classes, and what is minimised is the mean over images and labels.

    Without weights, smoothing and gamma that is the binary cross-entropy.
    """

    weights: Tensor | None = None  # (L, 2) of absent and present for each label
    smoothing: float = 0.0
    gamma: float = 0.0

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of logits (B, L), or (B, L, 2) as `label_logits` gives them, whose labels are (B, L) int64, 0 or 1."""
        logarithms = functional.log_softmax(logits if logits.ndim == 3 else label_logits(logits), dim=2)
        present = functional.one_hot(labels, 2)
        if self.gamma:
            # 1 - p is the probability of the other of the two.
            each = -present * (self.gamma * logarithms.flip(2)).exp() * logarithms
        else:
            each = -((1 - self.smoothing) * present + self.smoothing / 2) * logarithms
        if self.weights is None:
            return each.sum(2).mean()
        weights = self.weights.to(each.device)
        return (weights * each).sum() / (weights * present).sum()

    def mass(self, labels: Tensor) -> float:
        """What the mean is divided by: the number of labels, or the sum of their weights."""
        return float(labels.numel() if self.weights is None else (self.weights.to(labels.device) * functional.one_hot(labels, 2)).sum())

    def uniform(self, labels: Tensor, classes: int) -> float:
        """The loss where every label is as likely as not: ln 2, or 2^-gamma ln 2."""
        return float(self(torch.zeros(len(labels), classes), labels))

    def constant(self, labels: Tensor, classes: int) -> float:
        """The smallest loss of a network that answers every image alike."""
        alone = [Loss(None if self.weights is None else self.weights[number], self.smoothing, self.gamma) for number in range(classes)]
        masses = [each.mass(labels[:, number]) for number, each in enumerate(alone)]
        return sum(mass * each.constant(labels[:, number], 2) for number, (each, mass) in enumerate(zip(alone, masses, strict=True))) / sum(
            masses
        )


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Weights (C,) that make every class count the same: rows / (classes x rows of the class)."""
    counts = torch.bincount(labels, minlength=classes)
    return len(labels) / (classes * counts.clamp(min=1)).float()
