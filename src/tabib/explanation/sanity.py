"""Whether a heat map has to do with what the network learnt: it must change when the weights are made random."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from scipy.stats import rankdata
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tabib.records import Likeness
from tabib.training.networks import Network

__all__ = ["DEPTHS", "check_maps", "randomise", "rank_correlation", "structural_similarity"]

DEPTHS: tuple[Literal["head", "half", "all"], ...] = ("head", "half", "all")
"""What is made random, cascading from the answer downwards: the head, with it the later half of the backbone's layers, everything."""


def check_maps(networks: Sequence[Network], maps: Callable[[Sequence[Network]], np.ndarray], *, seed: int) -> list[Likeness]:
    """Compare the maps of trained networks with those of the same networks with random weights.

    Args:
        networks: the members.
        maps: from members to maps (n, H, W) in 0..1 of the same images and classes.
        seed: of the random weights.

    Returns:
        One `Likeness` per `DEPTHS`. Maps that stay alike when all weights are random show the image and not what was learnt.

    Source: Adebayo et al., "Sanity checks for saliency maps", 2018 (cascading randomisation; rank correlation and structural similarity).
    """
    trained = maps(networks)
    found = []
    for depth in DEPTHS:
        random = maps([randomise(network, depth, seed=seed + place) for place, network in enumerate(networks)])
        ranks = np.mean([rank_correlation(*pair) for pair in zip(trained, random, strict=True)])
        shapes = np.mean([structural_similarity(*pair) for pair in zip(trained, random, strict=True)])
        found.append(Likeness(depth=depth, rank_correlation=float(ranks), structural_similarity=float(shapes)))
    return found


def randomise(network: Network, depth: str, *, seed: int) -> Network:
    """A copy of a network with random weights in its head, from half its backbone on, or everywhere; `depth` is one of `DEPTHS`.

    Matrices and kernels are drawn anew with the spread they had, vectors are shuffled, and batch norm goes by the batch, since its
    statistics are those of weights that are gone.
    """
    other = copy.deepcopy(network)
    layers = [module for module in other.features.modules() if next(module.parameters(recurse=False), None) is not None]
    start = {"head": len(layers), "half": len(layers) // 2, "all": 0}[depth]
    random = torch.Generator().manual_seed(seed)
    for module in [*layers[start:], *other.head.modules()]:
        _randomise_layer(module, random)
    return other


@torch.no_grad()
def _randomise_layer(module: nn.Module, random: torch.Generator) -> None:
    for weight in module.parameters(recurse=False):
        if weight.ndim > 1:
            spread = float(weight.float().std(correction=0)) or 0.02
            drawn = torch.empty(weight.shape).normal_(0, spread, generator=random)
        else:
            drawn = weight.cpu()[torch.randperm(len(weight), generator=random)] if weight.ndim else weight.cpu()
        weight.copy_(drawn)
    if isinstance(module, _BatchNorm):
        module.running_mean = module.running_var = None


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two maps of one shape; 0 where one of them is flat, which resembles nothing."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def structural_similarity(first: np.ndarray, second: np.ndarray) -> float:
    """Structural similarity of two maps (H, W) in 0..1, meaned over square windows of 7 places (Wang et al. 2004)."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    mean_1, mean_2 = uniform_filter(first, 7), uniform_filter(second, 7)
    var_1, var_2 = uniform_filter(first**2, 7) - mean_1**2, uniform_filter(second**2, 7) - mean_2**2
    shared = uniform_filter(first * second, 7) - mean_1 * mean_2
    alike = (2 * mean_1 * mean_2 + 0.01**2) * (2 * shared + 0.03**2)
    return float((alike / ((mean_1**2 + mean_2**2 + 0.01**2) * (var_1 + var_2 + 0.03**2))).mean())
