"""One step of training, looked at layer by layer: what never fires, what never learns, and what does nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from tabib.records import Finding
from tabib.training.freezing import set_training
from tabib.training.networks import Network
from tabib.training.step import B, Work

__all__ = ["OnePass", "layers_found", "look_through"]

_ACTIVATIONS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softplus,
)
_RECTIFIERS = (nn.ReLU, nn.ReLU6)
_POSITIVE = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Softplus)
_KEEPS_SIGN = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d, nn.MaxPool3d, nn.Flatten, nn.Dropout, nn.Dropout2d)
_WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)
_FEW_UNITS = 16
"""Units of a squeeze (one value per channel of an image) below which all may be off, or on, by chance."""
_RATIO = 1e4
"""How many times stronger the first layers may be pulled than the last, or weaker, each gradient against its weights."""
_NAMED = 5


@dataclass(frozen=True)
class _Activated:
    """What an activation made, also behind layers that keep its sign."""

    made: Tensor
    version: int  # how often it had been changed in place by then
    by: nn.Module
    straight: bool  # with no layer between


@dataclass
class OnePass:
    """What the first step of an untrained network showed; layers by their names, in the order of the forward pass."""

    weights: dict[str, list[nn.Parameter]]  # that are trained, of each layer that has some
    silent: set[str] = field(default_factory=set)  # of `weights`, without any gradient
    unused: set[str] = field(default_factory=set)  # of `silent`, which the loss does not reach at all
    dead: list[str] = field(default_factory=list)  # activations that are 0 everywhere
    doubled: list[str] = field(default_factory=list)  # activations that change nothing, or repeat the one before
    pulls: list[float] = field(default_factory=list)  # of convolutions and dense layers before the last: gradient against weights


def look_through(network: Network, work: Work[B]) -> OnePass:
    """Run one step forward and backward and look at every layer. The weights stay; gradients and the statistics of norms do not."""
    seen = OnePass({name: own for name, layer in network.named_modules() if (own := _trained(layer))})
    order: dict[str, None] = {}
    squeezed: set[str] = set()
    activated: list[_Activated] = []  # the latest

    def same(given: Tensor) -> bool:
        return bool(activated) and activated[0].made is given and activated[0].version == given._version

    def enter(name: str, layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        if isinstance(layer, _ACTIVATIONS) and given and same(given[0]):
            latest = activated[0]
            if latest.straight or (isinstance(layer, nn.ReLU) and isinstance(latest.by, _POSITIVE)):
                seen.doubled.append(name)

    def leave(name: str, layer: nn.Module, given: tuple[Tensor, ...], made: object) -> None:
        if not isinstance(made, Tensor):
            return
        order.setdefault(name)
        if _few(made):
            squeezed.add(name)
        elif isinstance(layer, _RECTIFIERS) and not made.detach().any():
            seen.dead.append(name)
        if isinstance(layer, _ACTIVATIONS):
            activated[:] = [_Activated(made, made._version, layer, straight=True)]
        elif isinstance(layer, _KEEPS_SIGN) and given and same(given[0]):
            activated[:] = [_Activated(made, made._version, activated[0].by, straight=False)]

    hooks = []
    for name, layer in network.named_modules():
        if not list(layer.children()):
            hooks.append(layer.register_forward_pre_hook(lambda layer, given, name=name: enter(name, layer, given)))
            hooks.append(layer.register_forward_hook(lambda layer, given, made, name=name: leave(name, layer, given, made)))
    set_training(network)
    network.zero_grad()
    try:
        with torch.random.fork_rng(devices=[]):
            work.backward(network, work.batches(1)[0], epoch=1)
    finally:
        for hook in hooks:
            hook.remove()
        activated.clear()
    layers = dict(network.named_modules())
    last = next((name for name in reversed(order) if isinstance(layers[name], _WEIGHTED)), None)
    for name in order:
        own = seen.weights.get(name, [])
        if isinstance(layers[name], _WEIGHTED) and own and name != last and name not in squeezed and _pulled(own):
            seen.pulls.append(_pull(own[0]))
    seen.dead, seen.doubled = list(dict.fromkeys(seen.dead)), list(dict.fromkeys(seen.doubled))
    seen.silent = {name for name, own in seen.weights.items() if not _pulled(own) and name not in squeezed}
    seen.unused = {name for name in seen.silent if all(weight.grad is None for weight in seen.weights[name])}
    return seen


def layers_found(seen: OnePass) -> list[Finding]:
    """What is wrong with the layers, or `layers_right`. Call it some steps after `look_through`.

    - `layers_dead`: an activation is 0 for every image of the batch.
    - `layers_not_learning`: weights that should be trained had no gradient in the first step, and have none now. A layer behind a norm whose
      weights start at 0 has none in the first step alone.
    - `layers_do_nothing`: an activation that follows on another, or is given nothing that it would change.
    - `gradients_vanish`, `gradients_explode`: the first layers are pulled 10,000 times less, or more, than the last; each gradient's size is
      taken against that of its weights.
    """
    found = []
    if seen.dead:
        found.append(_named("layers_dead", seen.dead))
    still = [name for name in seen.weights if name in seen.silent and not _pulled(seen.weights[name])]
    if still:
        found.append(_named("layers_not_learning", still, unused=sum(name in seen.unused for name in still), of=len(seen.weights)))
    if seen.doubled:
        found.append(_named("layers_do_nothing", seen.doubled))
    quarter = len(seen.pulls) // 4
    if quarter:
        first, last = np.median(seen.pulls[:quarter]), np.median(seen.pulls[-quarter:])
        ratio = float(first / last) if np.isfinite(first) and np.isfinite(last) and last > 0 else 1e30
        if not 1 / _RATIO < ratio < _RATIO:
            code, factor = ("gradients_explode", ratio) if ratio > 1 else ("gradients_vanish", 1 / max(ratio, 1e-30))
            found.append(Finding(code=code, level="warn", figures={"factor": factor, "layers": len(seen.pulls)}))
    return found or [Finding(code="layers_right", level="pass", figures={"layers": len(seen.weights)})]


def _named(code: str, names: list[str], **figures: int) -> Finding:
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    return Finding(code=code, level="warn", figures={"layers": len(names), "names": shown, **figures})


def _trained(layer: nn.Module) -> list[nn.Parameter]:
    """Its own weights that are trained, the largest first."""
    own = [weight for weight in layer.parameters(recurse=False) if weight.requires_grad]
    return sorted(own, key=lambda weight: -weight.numel())


def _pulled(weights: list[nn.Parameter]) -> bool:
    """Whether any has a gradient."""
    return any(weight.grad is not None and bool(weight.grad.any()) for weight in weights)


def _pull(weight: nn.Parameter) -> float:
    assert weight.grad is not None
    return float(weight.grad.norm() / weight.detach().norm().clamp(min=1e-12))


def _few(images: Tensor) -> bool:
    """Whether it is one value for each of few units of an image, as in a squeeze."""
    return images.ndim == 4 and images.shape[2:] == (1, 1) and images.shape[1] < _FEW_UNITS
