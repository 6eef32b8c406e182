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

__all__ = ["MAPS", "draw_maps", "feature_maps"]

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
            maps = maps[0].float()
            order = maps.var((1, 2), correction=0).argsort(descending=True, stable=True)
            found[layers[place]] = maps[order[:MAPS]].cpu().numpy()

    with torch.no_grad(), listening([network.features.get_submodule(name) for name in layers], hear):
        network.features(image)
    for name in layers:
        if name not in found:
            raise StudyError(f"explain.layers names {name!r}, whose output is no map over the image. Name a layer before the pooling.")
    return found


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
