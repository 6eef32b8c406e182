"""What the layers of a network make of images, as maps over the image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tabib.training.networks import Network

__all__ = ["as_maps", "last_map", "listening"]

_MOST_PREFIX_TOKENS = 8
"""Class, distillation and register tokens that may stand before those of the image."""


@contextmanager
def listening(modules: Sequence[nn.Module], hear: Callable[[int, Any], object]) -> Iterator[None]:
    """Call `hear(place, output)` when a module of `modules` has answered; what it returns replaces the output unless it is `None`."""
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, place=place: hear(place, output))
        for place, module in enumerate(modules)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def last_map(network: Network, images: Tensor) -> str | None:
    """Name of the layer of the backbone whose output is the last that still is a map over the image; `None` where there is none.

    It is found on a forward pass of `images`, (B, C, H, W), normalised: the last layer or block to answer with maps of more than one
    place. For most networks of convolutions that is what is pooled; for transformers the tokens that are averaged.
    """
    modules = {name: module for name, module in network.features.named_modules() if name}
    names, found = list(modules), []

    def hear(place: int, output: object) -> None:
        if as_maps(output, images, network) is not None:
            found.append(names[place])

    with torch.no_grad(), listening(list(modules.values()), hear):
        network.features(images)
    return found[-1] if found else None


def as_maps(output: object, images: Tensor, network: Network) -> Tensor | None:
    """A layer's output as maps (B, C, h, w) over the images; `None` where it has no places.

    Taken are (B, C, h, w), (B, h, w, C) where that fits the proportions of the images better (Swin and its kin), and tokens (B, N, C)
    that fill a grid of the images' proportions, after up to eight that belong to no place (a class token, registers).
    """
    if not isinstance(output, Tensor) or not output.is_floating_point() or len(output) != len(images):
        return None
    if output.ndim == 4:
        _, first, second, third = output.shape
        channels_last = _misfit(first, second, images) < _misfit(second, third, images)
        maps = output.permute(0, 3, 1, 2) if channels_last else output
    elif output.ndim == 3 and (grid := _grid(output.shape[1], images, network)):
        maps = output[:, -grid[0] * grid[1] :].transpose(1, 2).unflatten(2, grid)
    else:
        return None
    return maps if maps.shape[2] * maps.shape[3] > 1 else None


def _misfit(height: int, width: int, images: Tensor) -> float:
    """How far a grid is from the proportions of the images: 0 where it has them."""
    return abs(math.log(height / width * images.shape[3] / images.shape[2]))


def _grid(tokens: int, images: Tensor, network: Network) -> tuple[int, int] | None:
    known = getattr(network.features, "num_prefix_tokens", None)
    for prefix in range(_MOST_PREFIX_TOKENS + 1) if known is None else [known]:
        height = round(math.sqrt(max(0, tokens - prefix) * images.shape[2] / images.shape[3]))
        if height and (tokens - prefix) % height == 0:
            grid = (height, (tokens - prefix) // height)
            if grid[0] * images.shape[3] == grid[1] * images.shape[2]:
                return grid
    return None
