"""What the first layer is given: its scale, its channels, and whether the parts of the data look alike to it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from tabib.records import Finding
from tabib.training.networks import Network

__all__ = ["first_input", "input_scale", "parts_differ"]

_HARDLY, _FAR_TOO_MUCH = 0.02, 20.0
"""Standard deviations between which a first layer can be trained; 0.02 is five grey levels of 255."""
_AGAIN = 50.0  # how many times less it varies than the image in 0..1 where it was divided again: /255 is far beyond, a mean and deviation are not
_UNLIKE_WEIGHTS = 3.0  # how far the spread may be from what weights were trained with, as a factor
_APART, _SURELY = 1.0, 4.0  # how far means of parts may be apart, in standard deviations between groups, and in standard errors
_FEWEST_GROUPS = 5
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)


class _Given(Exception):
    """Leaves a forward pass at its first layer."""

    def __init__(self, layer: nn.Module, images: Tensor) -> None:
        super().__init__()
        self.layer, self.images = layer, images


@torch.no_grad()
def first_input(network: nn.Module, images: Tensor) -> tuple[nn.Module | None, Tensor]:
    """The first layer with weights that images (B, C, ...) reach, and what it is given of them: a network may scale them itself.

    The forward pass ends there. Where no layer has weights of its own, the images themselves.
    """

    def look(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        raise _Given(layer, given[0])

    hooks = [
        layer.register_forward_pre_hook(look)
        for layer in network.modules()
        if next(layer.parameters(recurse=False), None) is not None and not list(layer.children())
    ]
    try:
        network(images)
    except _Given as given:
        return given.layer, given.images.float()
    finally:
        for hook in hooks:
            hook.remove()
    return None, images


def input_scale(network: Network, fed: Tensor, images: Tensor | None = None) -> list[Finding]:
    """`input_scale_off`, `input_channel_constant`, or `input_right` where neither is so.

    The scale is off where the values vary too little (scaled twice, or dim images), by far too much (not scaled), or otherwise than
    the starting weights expect. A first layer that is a norm brings any scale right.

    Args:
        network: in inference mode.
        fed: (B, C, ...), images as the network is fed.
        images: the same in 0..1, where they are known so.
    """
    layer, given = first_input(network, fed)
    across = [axis for axis in range(given.ndim) if axis != 1]
    deviations, means = given.std(across), given.mean(across)
    flat = (deviations <= 1e-6 * means.abs().clamp(min=1)).nonzero()[:, 0].tolist()
    found = []
    if flat:
        figures = {"channels": ", ".join(str(number + 1) for number in flat), "of": given.shape[1], "value": float(means[flat[0]])}
        found.append(Finding(code="input_channel_constant", level="warn", figures=figures))
    if len(flat) < given.shape[1]:
        deviation, usual, reason = float(deviations.max()), 1.0, None
        raw = deviation if images is None else float(images.std())
        if deviation < _HARDLY:
            reason = "twice" if deviation * _AGAIN < raw else "dim"
        elif deviation > _FAR_TOO_MUCH:
            reason = "never"
        elif images is not None and network.weights_source not in ("none", "own"):
            usual = raw / float(network.std.mean())
            reason = None if 1 / _UNLIKE_WEIGHTS < float(fed.std()) / usual < _UNLIKE_WEIGHTS else "weights"
        mean = float(means.mean())
        if reason and (reason == "weights" or not isinstance(layer, _NORMS)):
            scale = {"mean": mean, "deviation": deviation, "usual": usual, "reason": reason}
            found.append(Finding(code="input_scale_off", level="warn", figures=scale))
        elif not found:
            found.append(Finding(code="input_right", level="pass", figures={"mean": mean, "deviation": deviation}))
    return found


def parts_differ(parts: Mapping[str, tuple[np.ndarray, list[str]]]) -> list[Finding]:
    """`input_parts_differ` for each of validation and test whose images are fed otherwise than those of train.

    Their mean or their contrast (standard deviation) is more than one standard deviation between groups away, and more than four standard
    errors: groups (patients) drawn at random do not differ so.

    Args:
        parts: by part the (n, 2) mean and standard deviation of each image as it is fed, and the group of each.
    """
    sides = {part: _by_group(values, groups) for part, (values, groups) in parts.items()}
    train, found = sides["train"], []
    for part, other in sides.items():
        if part == "train" or min(len(train), len(other)) < _FEWEST_GROUPS:
            continue
        spread = np.sqrt((train.var(0, ddof=1) + other.var(0, ddof=1)) / 2)
        apart = np.abs(other.mean(0) - train.mean(0)) / np.maximum(spread, 1e-6)
        place = int(apart.argmax())
        if apart[place] > max(_APART, _SURELY * np.sqrt(1 / len(train) + 1 / len(other))):
            figures = {
                "part": part,
                "measure": ("brightness", "contrast")[place],
                "train": float(train.mean(0)[place]),
                "other": float(other.mean(0)[place]),
                "apart": float(apart[place]),
            }
            found.append(Finding(code="input_parts_differ", level="warn", figures=figures))
    return found


def _by_group(values: np.ndarray, groups: list[str]) -> np.ndarray:
    """Means (g, 2) of the rows of each group."""
    _, number = np.unique(groups, return_inverse=True)
    return np.stack([np.bincount(number, column) / np.bincount(number) for column in values.T], axis=1)
