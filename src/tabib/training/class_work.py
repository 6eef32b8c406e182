"""What a classifier is trained on, and how it is measured after an epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from tabib import metrics
from tabib.config import Augment, Training
from tabib.records import Finding
from tabib.training.batches import Intensity, Samples, balanced, change, normalise, shuffled, with_copies
from tabib.training.inference import log_probabilities
from tabib.training.losses import LabelLoss, Loss, balanced_weights
from tabib.training.networks import Network
from tabib.training.norms import measure_batch_norms
from tabib.training.optimise import at_one_rate
from tabib.training.remarks import look_at

__all__ = ["ClassBatch", "ClassWork"]


@dataclass(frozen=True)
class ClassBatch:
    """Images of one step."""

    samples: Samples
    places: np.ndarray  # of the images in `samples`

    def __len__(self) -> int:
        """Number of images."""
        return len(self.places)


@dataclass(frozen=True)
class ClassWork:
    """Images that train and images that choose, and what is done with them."""

    training: Training
    augment: Augment
    intensity: Intensity
    classes: int  # or labels
    seed: int
    loss: Loss | LabelLoss
    train: Samples
    validation: Samples
    steps: int  # of the whole training

    @classmethod
    def of(
        cls, training: Training, augment: Augment, intensity: Intensity, train: Samples, validation: Samples, *, classes: int, seed: int
    ) -> ClassWork:
        """The work with the loss that the training and its images ask for."""
        balance = training.class_weights == "balanced"
        settings = {"smoothing": training.label_smoothing, "gamma": training.focal_gamma if training.loss == "focal" else 0.0}
        loss: Loss | LabelLoss
        if train.several:
            each = torch.stack([balanced_weights(labels, 2) for labels in train.labels.T]) if balance else None
            loss = LabelLoss(each, **settings)
        else:
            loss = Loss(balanced_weights(train.labels, classes) if balance else None, **settings)
        work = cls(training, augment, intensity, classes, seed, loss, train, validation, steps=0)
        return replace(work, steps=training.epochs * len(work._divided(with_copies(train, augment.copies), epoch=1)))

    @property
    def best(self) -> str:
        """The validation metric that says which epoch's weights are kept."""
        return self.training.best

    @property
    def shown(self) -> dict[str, str]:
        """Columns of the growing table of epochs, and the fields of the history that they show."""
        return {"auc": "validation_auc", "accuracy": "validation_accuracy"}

    def at(self, rate: float) -> Self:
        """The same at one rate, to try it."""
        return replace(self, training=at_one_rate(self.training, rate))

    def batches(self, epoch: int) -> Sequence[ClassBatch]:
        """Batches of the images that an epoch sees."""
        drawn = self._drawn(epoch)
        return [ClassBatch(drawn, places) for places in self._divided(drawn, epoch=epoch)]

    def backward(self, network: Network, batch: ClassBatch, *, epoch: int) -> Tensor:
        """Add the gradients of a step on one batch, in as many parts as `training.accumulate` makes; the loss."""
        samples, places = batch.samples, batch.places
        device = network.mean.device
        # Alike in size, and none of one image, whose batch-norm statistics would be nothing but itself.
        parts = np.array_split(places, max(1, min(math.ceil(len(places) / self.training.batch), len(places) // 2)))
        mass, total = self.loss.mass(samples.labels[torch.from_numpy(places)]), torch.zeros((), device=device)
        for part in parts:
            images, statistics, labels = samples.load(part)
            if not self.augment.off:
                images = change(images, samples, part, self.augment, seed=self.seed, epoch=epoch)
            images = normalise(images, statistics, self.intensity, network)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.training.precision == "bf16"):
                logits = network(images)
            loss = self.loss(logits, labels) * (self.loss.mass(samples.labels[torch.from_numpy(part)]) / mass)
            loss.backward()
            total += loss.detach()
        return total

    def settle(self, network: Network, *, epoch: int) -> None:
        """Measure batch norm's statistics of the weights as they now are."""
        drawn = self._drawn(epoch)
        measure_batch_norms(network, drawn, batch=self.training.batch, intensity=self.intensity, seed=self.seed, epoch=epoch)

    def measure(self, network: Network) -> dict[str, Any]:
        """Loss, AUC, accuracy, balanced accuracy on the validation images, and how far the answers differ."""
        return self._measure(network, self.validation)

    def measure_train(self, network: Network) -> tuple[int, dict[str, Any]]:
        """The same of training images, the first by their content: of no order that the folder has."""
        unaltered = np.arange(len(self.train)) if self.train.altered is None else np.flatnonzero(~self.train.altered)
        some = unaltered[np.argsort(self.train.content[unaltered], kind="stable")[: len(self.validation)]]
        return len(some), self._measure(network, self.train.take(some))

    def _measure(self, network: Network, samples: Samples) -> dict[str, Any]:
        logarithms = log_probabilities(network, samples, intensity=self.intensity)
        truth, probability = samples.labels.numpy(), np.exp(logarithms)
        # Of several labels each is measured as two classes, and the mean is taken.
        sides = [(truth, probability)] if not samples.several else list(zip(truth.T, probability.swapaxes(0, 1), strict=True))
        measured = np.mean([_measures(*side) for side in sides], axis=0)
        return {
            "loss": float(self.loss(torch.from_numpy(logarithms), samples.labels)),
            **{name: _or_none(value) for name, value in zip(("auc", "accuracy", "balanced_accuracy"), measured, strict=True)},
            "spread": float(probability.std(axis=0).max()),
        }

    def look_at(self, history: Sequence[dict[str, Any]]) -> list[Finding]:
        """Findings of the latest epochs."""
        choices = 2 if self.train.several else self.classes
        return look_at(history, classes=choices, constant_loss=self._constant, uniform_loss=self._uniform)

    @cached_property
    def _constant(self) -> float:
        return self.loss.constant(self._drawn(1).labels, self.classes)

    @cached_property
    def _uniform(self) -> float:
        return self.loss.uniform(self._drawn(1).labels, self.classes)

    def _drawn(self, epoch: int) -> Samples:
        """The images that an epoch sees."""
        samples = with_copies(self.train, self.augment.copies)
        return samples if self.training.sampling == "uniform" else balanced(samples, seed=self.seed, epoch=epoch)

    def _divided(self, samples: Samples, *, epoch: int) -> list[np.ndarray]:
        return shuffled(samples, self.training.batch * self.training.accumulate, seed=self.seed, epoch=epoch)


def _measures(truth: np.ndarray, probability: np.ndarray) -> tuple[float, float, float]:
    """AUC (of more than two classes their mean), accuracy and balanced accuracy of class numbers (n,) and probabilities (n, C)."""
    classes, predicted = probability.shape[1], probability.argmax(1)
    positives = [1] if classes == 2 else range(classes)
    auc = np.mean([float(metrics.auc(truth == number, probability[:, number])) for number in positives])
    balanced_accuracy = metrics.balanced_accuracy(truth, predicted, classes=classes)
    return float(auc), float(metrics.accuracy(truth, predicted)), float(balanced_accuracy)


def _or_none(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
