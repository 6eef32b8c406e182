"""Batch-norm statistics of the weights as they are."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from tabib.training.batches import Intensity, Samples, normalise, shuffled
from tabib.training.freezing import set_inference, set_training
from tabib.training.networks import Network

__all__ = ["measure_batch_norms"]

_IMAGES = 256


@torch.no_grad()
def measure_batch_norms(network: Network, samples: Samples, *, batch: int, intensity: Intensity, seed: int, epoch: int) -> None:
    """Replace the running statistics of batch norm by those of the present weights on some 256 training images.

    The running ones belong to weights of the past, and an average of weights has none of its own. In a training of few
    steps that decides everything: a network that tells all images apart can be validated as one that guesses. ("Precise
    BN", Wu and Johnson 2021, "Rethinking 'batch' in BatchNorm".) Frozen layers keep theirs.

    Args:
        network: changed; its weights are not.
        samples: training images; they are not augmented, as test images are not.
        batch: images per forward pass.
        intensity: as in the study.
        seed: of the member.
        epoch: which images are taken is a function of (seed, epoch, content).
    """
    set_training(network)
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    norms = [norm for norm in network.modules() if isinstance(norm, kinds) and norm.training and norm.track_running_stats]
    if not norms:
        return
    # Nothing else as in training: what dropout leaves has another variance than what the network will see when it answers.
    set_inference(network)
    for norm in norms:
        norm.train()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the passes below
    if samples.altered is not None:
        samples = samples.take(np.flatnonzero(~samples.altered))
    for places in shuffled(samples, batch, seed=seed, epoch=epoch)[: -(-_IMAGES // batch)]:
        images, statistics, _ = samples.load(places)
        network.features(normalise(images, statistics, intensity, network))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
