"""Whether heat maps depend on the weights of the network: they must change when these are made random."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from scipy.stats import rankdata
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tabib.records import Likeness
from tabib.training.networks import Network

__all__ = ["DEPTHS", "MapCheck", "check_maps", "is_flat", "randomise", "rank_correlation", "structural_similarity"]

DEPTHS: tuple[Literal["head", "half", "all"], ...] = ("head", "half", "all")
"""What is made random, cascading from the answer downwards: the head, with it the later half of the backbone's layers, everything."""

_DRAWS = 4
"""Random weights often leave nothing that speaks for a class (of two classes for one of them always), so they are drawn so often at most."""


@dataclass(frozen=True)
class MapCheck:
    """Maps of a trained network, and how alike they stay when weights become random."""

    maps: int
    flat: int  # of the trained network
    compared: int  # flat neither of the trained network nor, at any depth, of random weights
    likeness: list[Likeness]  # of those compared, one per `DEPTHS`; none where none are


def check_maps(networks: Sequence[Network], maps: Callable[[Sequence[Network]], np.ndarray], *, seed: int) -> MapCheck:
    """Compare the maps of trained networks with those of the same networks with random weights.

    Args:
        networks: the members.
        maps: from members to maps (n, H, W) in 0..1 of the same images and classes.
        seed: of the random weights.

    Returns:
        The counts, and the likeness of maps that are not flat, of which alone something can be said. Maps that stay alike when all
        weights are random show the image and not what was learnt.

    Source: Adebayo et al., "Sanity checks for saliency maps", 2018 (cascading randomisation; rank correlation and structural similarity).
    """
    trained = maps(networks)
    shown = [place for place, heat in enumerate(trained) if not is_flat(heat)]
    random = {depth: _random_maps(networks, maps, shown, depth, seed=seed) for depth in DEPTHS}
    compared = [place for place in shown if all(place in random[depth] for depth in DEPTHS)]
    likeness = []
    for depth in DEPTHS if compared else ():
        pairs = [(trained[place], random[depth][place]) for place in compared]
        ranks, shapes = (float(np.mean([alike(*pair) for pair in pairs])) for alike in (rank_correlation, structural_similarity))
        likeness.append(Likeness(depth=depth, rank_correlation=ranks, structural_similarity=shapes))
    return MapCheck(len(trained), len(trained) - len(shown), len(compared), likeness)


def is_flat(heat: np.ndarray) -> bool:
    """Whether no place of a map stands out: nothing in the image speaks for the class."""
    return bool(np.ptp(heat) == 0)


def _random_maps(
    networks: Sequence[Network], maps: Callable[[Sequence[Network]], np.ndarray], wanted: Sequence[int], depth: str, *, seed: int
) -> dict[int, np.ndarray]:
    """By place the map of random weights: of the first draw in which it is not flat."""
    found: dict[int, np.ndarray] = {}
    for first in range(seed, seed + _DRAWS * len(networks), len(networks)):
        if len(found) == len(wanted):
            break
        heat = maps([randomise(network, depth, seed=first + place) for place, network in enumerate(networks)])
        found |= {place: heat[place] for place in wanted if place not in found and not is_flat(heat[place])}
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
    """Spearman's rank correlation of two maps of one shape, neither of which is flat."""
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def structural_similarity(first: np.ndarray, second: np.ndarray) -> float:
    """Structural similarity of two maps (H, W) in 0..1, meaned over square windows of 7 places (Wang et al. 2004)."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    mean_1, mean_2 = uniform_filter(first, 7), uniform_filter(second, 7)
    var_1, var_2 = uniform_filter(first**2, 7) - mean_1**2, uniform_filter(second**2, 7) - mean_2**2
    shared = uniform_filter(first * second, 7) - mean_1 * mean_2
    alike = (2 * mean_1 * mean_2 + 0.01**2) * (2 * shared + 0.03**2)
    return float((alike / ((mean_1**2 + mean_2**2 + 0.01**2) * (var_1 + var_2 + 0.03**2))).mean())
