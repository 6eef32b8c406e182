"""What a network says of images: the one forward pass of validation, calibration and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tabib.config import OWN
from tabib.training.batches import Intensity, Samples, in_order, normalise
from tabib.training.freezing import set_inference
from tabib.training.losses import class_logits, label_logits
from tabib.training.networks import Network
from tabib.training.own import before_last_linear

__all__ = ["INFERENCE_BATCH", "kind_of_features", "log_probabilities", "mean_of_members", "pool", "pooled_features", "say"]

INFERENCE_BATCH = 64
"""Images per forward pass. One number everywhere, so that a row is computed alike wherever it is predicted."""


@torch.inference_mode()
def say(network: Network, images: Tensor, statistics: Tensor, *, intensity: Intensity, several: bool = False) -> Tensor:
    """Natural logarithms of class probabilities, (B, C) float32, of images (B, C, H, W) in 0..1. Always in fp32.

    Of `several` labels those of absent and present, (B, L, 2).
    """
    set_inference(network)
    logits = network(normalise(images, statistics, intensity, network))
    return functional.log_softmax((label_logits if several else class_logits)(logits), dim=-1)


def log_probabilities(network: Network, samples: Samples, *, intensity: Intensity) -> np.ndarray:
    """`say` of every image of a part, (n, C) float64, in its order; (n, L, 2) of several labels."""
    parts = []
    for places in in_order(samples, INFERENCE_BATCH):
        images, statistics, _ = samples.load(places)
        parts.append(say(network, images, statistics, intensity=intensity, several=samples.several).cpu())
    return torch.cat(parts).double().numpy()


@torch.inference_mode()
def pool(network: Network, images: Tensor, statistics: Tensor, *, intensity: Intensity) -> Tensor:
    """What the head is given of images (B, C, H, W) in 0..1: the pooled features of the backbone, (B, F) float32.

    Of the user's own network what its last linear layer is given, else its logits (`kind_of_features`).
    """
    set_inference(network)
    given = normalise(images, statistics, intensity, network)
    if network.weights_source != OWN:
        return network.features(given).float()
    logits, before = before_last_linear(network.features, given)
    return (logits if before is None else before).float()


@torch.inference_mode()
def kind_of_features(network: Network, images: Tensor) -> Literal["pooled", "last_linear", "logits"]:
    """What `pool` gives of images (B, C, H, W)."""
    set_inference(network)
    if network.weights_source != OWN:
        return "pooled"
    return "logits" if before_last_linear(network.features, images)[1] is None else "last_linear"


def pooled_features(network: Network, samples: Samples, *, intensity: Intensity) -> np.ndarray:
    """`pool` of every image of a part, (n, F) float32, in its order."""
    parts = []
    for places in in_order(samples, INFERENCE_BATCH):
        images, statistics, _ = samples.load(places)
        parts.append(pool(network, images, statistics, intensity=intensity).cpu())
    return torch.cat(parts).numpy()


def mean_of_members(members: Sequence[np.ndarray]) -> np.ndarray:
    """Logarithm of the mean of the members' probabilities, (n, C) or (n, L, 2), from their logarithms."""
    return np.logaddexp.reduce(np.stack(members), axis=0) - np.log(len(members))
