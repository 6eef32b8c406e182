"""Freezing: which layers of the backbone keep their weights, in the order of the forward pass."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tabib.config import Freeze
from tabib.errors import StudyError
from tabib.training.networks import Network

__all__ = ["Counts", "freeze", "set_inference", "set_training"]


@dataclass(frozen=True)
class Counts:
    """Numbers of weights after freezing."""

    total: int
    trainable: int
    frozen: int
    through: str | None  # the last layer of the backbone whose weights are frozen; None where nothing is


def freeze(network: Network, rule: Freeze | Literal["all_but_head"] | None, *, sample: Tensor) -> Counts:
    """Freeze the first layers of a network's backbone; what was frozen before is trainable again.

    Args:
        network: changed: frozen weights no longer ask for gradients, and `network.frozen` names the frozen layers.
        rule: nothing, everything but the head, everything up to and including a layer or block, or as deep as leaves the number
            of trainable weights nearest to a wanted one.
        sample: (B, C, H, W) images, run forward once to learn the order in which layers are used.

    Raises:
        StudyError: no layer of this name; the message names the nearest.
    """
    network.requires_grad_(True)
    network.frozen = ()
    layers = dict(network.features.named_modules())
    order = _order(network, sample)
    own = [sum(weight.numel() for weight in layers[name].parameters(recurse=False)) for name in order]
    total = sum(weight.numel() for weight in network.parameters())
    if rule == "all_but_head":
        network.features.requires_grad_(False)  # also what the forward pass never uses
        last = len(order) - 1
    elif rule is None:
        last = -1
    elif rule.through is not None:
        last = _last_use(order, rule.through)
        if last is None or not rule.through:
            near = difflib.get_close_matches(rule.through, filter(None, order), n=3) or [
                name for name, _ in network.features.named_children()
            ]
            raise StudyError(
                f"model.freeze.through is {rule.through!r}, and the network uses no layer of this name. The nearest are: {', '.join(near)}."
            )
    else:
        last = _nearest_depth(own, total - (rule.trainable or 0))
    for name in order[: last + 1]:
        for weight in layers[name].parameters(recurse=False):
            weight.requires_grad_(False)
    # A block whose last layer still trains is not frozen, though it was entered before.
    network.frozen = tuple(name for name in order[: last + 1] if (_last_use(order, name) or 0) <= last)
    trainable = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    through = next((name for name, count in reversed(list(zip(order[: last + 1], own, strict=False))) if count), None)
    return Counts(total=total, trainable=trainable, frozen=total - trainable, through=through)


def set_training(network: Network) -> None:
    """Put a network into training mode, but its frozen layers: their batch norm neither uses nor changes by the batch."""
    network.train()
    layers = dict(network.features.named_modules())
    for name in network.frozen:
        layers[name].eval()


def set_inference(network: Network) -> None:
    """Put all of a network into inference mode."""
    network.eval()


def _order(network: Network, sample: Tensor) -> list[str]:
    """Names of the layers and blocks of the backbone in the order in which a forward pass first enters them.

    Weights that a block itself holds (a class token, positions) belong to its beginning.
    """
    order: dict[str, None] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _module, _images, name=name: order.setdefault(name))
        for name, module in network.features.named_modules()
    ]
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            network.features(sample)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training  # not train(), which would also set the layers inside
    return list(order)


def _last_use(order: list[str], name: str) -> int | None:
    """Place in `order` of the last layer that is `name` or inside it."""
    inside = [place for place, used in enumerate(order) if used == name or not name or used.startswith(f"{name}.")]
    return inside[-1] if inside else None


def _nearest_depth(weights: list[int], wanted: int) -> int:
    """Last place to freeze so that the frozen weights come nearest to `wanted`, with the layers after it that have none."""
    best, best_gap, frozen = -1, abs(wanted), 0
    for place, count in enumerate(weights):
        frozen += count
        if abs(wanted - frozen) <= best_gap:
            best, best_gap = place, abs(wanted - frozen)
    return best
