"""Feature maps: what named layers make of an image, as small pictures in a grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tabib.errors import StudyError
from tabib.explanation.layers import as_maps, listening
from tabib.training.classify import refuse_unknown_layers
from tabib.training.freezing import set_inference
from tabib.training.networks import Network

__all__ = ["MAPS", "draw_maps", "feature_maps", "level_maps"]

MAPS = 16
"""Most maps of a layer that are shown: those that vary most over the image."""


def feature_maps(network: Network, image: Tensor, layers: Sequence[str]) -> dict[str, np.ndarray]:
    """The maps that layers of the backbone make of one image.

    Args:
        network: answers in inference mode.
        image: (1, C, H, W), normalised.
        layers: names as in `tabib.training.freezing`: of blocks or layers, such as `stage1.0`.

    Returns:
        By layer (k, h, w) float32: at most `MAPS`, those that vary most over the image first.

    Raises:
        StudyError: a layer that the backbone does not have (the message names the nearest), or whose output is no map.
    """
    refuse_unknown_layers(network, layers)
    set_inference(network)
    found: dict[str, np.ndarray] = {}

    def hear(place: int, output: object) -> None:
        maps = as_maps(output, image, network)
        if maps is not None:
            found[layers[place]] = _most_varied(maps[0])

    with torch.no_grad(), listening([network.features.get_submodule(name) for name in layers], hear):
        network.features(image)
    for name in layers:
        if name not in found:
            raise StudyError(f"explain.layers names {name!r}, whose output is no map over the image. Name a layer before the pooling.")
    return found


@torch.no_grad()
def level_maps(network: Network, window: Tensor, *, outputs: int, depth: float = 0.5) -> dict[str, np.ndarray]:
    """The maps that the levels of a segmenter make of what it sees at once, on its way down and up again.

    A level is a stretch of layers whose maps are of one size, and of it stand those of the last layer with weights that is not the answer.

    Args:
        network: answers in inference mode.
        window: (1, C, H, W) or (1, C, D, H, W), prepared.
        outputs: how many maps the answer has.
        depth: which slice of blocks is shown, as a share of their slices.

    Returns:
        By layer (k, h, w) float32, as `feature_maps`, in the order of the network.
    """
    set_inference(network)
    modules = {name: module for name, module in network.features.named_modules() if name and any(True for _ in module.parameters())}
    names = list(modules)
    levels: list[tuple[tuple[int, ...], str, np.ndarray]] = []

    def hear(place: int, output: object) -> None:
        if not isinstance(output, Tensor) or output.ndim != window.ndim or len(output) != 1 or output.shape[1] == outputs:
            return
        size, maps = tuple(output.shape[2:]), output[0]
        if levels and levels[-1][0] == size:
            levels.pop()
        levels.append((size, names[place], _most_varied(maps if maps.ndim == 3 else maps[:, int(depth * size[0])])))

    with listening(list(modules.values()), hear):
        network.features(window.to(next(network.parameters()).device))
    return {name: maps for _, name, maps in levels}


def _most_varied(maps: Tensor) -> np.ndarray:
    """At most `MAPS` of maps (C, h, w): those that vary most over the image first."""
    order = maps.float().var((1, 2), correction=0).argsort(descending=True, stable=True)
    return maps.float()[order[:MAPS]].cpu().numpy()


def draw_maps(maps: np.ndarray, *, side: int) -> np.ndarray:
    """Maps (k, h, w) side by side in a grid of about `side` pixels, (H, W) uint8, each from its own lowest (black) to its highest (white)."""
    columns = int(np.ceil(np.sqrt(len(maps))))
    rows = -(-len(maps) // columns)
    times = max(1, side // (columns * (max(maps.shape[1:]) + 1)))
    low, high = (edge(maps, axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
    grey = np.rint((maps - low) / np.maximum(high - low, 1e-12) * 255).astype(np.uint8)
    large = grey.repeat(times, axis=1).repeat(times, axis=2)
    framed = np.pad(large, ((0, rows * columns - len(maps)), (0, 1), (0, 1)))
    return framed.reshape(rows, columns, *framed.shape[1:]).swapaxes(1, 2).reshape(rows * framed.shape[1], columns * framed.shape[2])
