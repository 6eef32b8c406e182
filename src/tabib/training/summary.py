"""A network, layer by layer: what each makes, how many weights it has, which of them train, and what it costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tabib.config import Segmentation, Study
from tabib.errors import StudyError
from tabib.training.freezing import freeze
from tabib.training.networks import build_network
from tabib.training.segment import form_of
from tabib.training.segmenters import build_segmenter

__all__ = ["Layer", "Summary", "summarise_network", "summarise_segmenter"]


@dataclass(frozen=True)
class Layer:
    """One layer, or a block's own weights and arithmetic beside those of its layers."""

    name: str
    kind: str
    shape: tuple[int, ...]  # of what it makes of one image
    weights: int
    trainable: int
    statistics: int  # means and variances that batch norm measures: Keras counts them as weights that do not train
    multiply_adds: int  # for one image


@dataclass(frozen=True)
class Summary:
    """A network in the order of its forward pass, before any training."""

    network: str
    image: tuple[int, ...]  # channels, height, width; of a segmenter channels and the sides of a patch
    classes: int  # or labels; of a segmenter the background and the structures
    patch: bool  # whether it is a segmenter's
    layers: list[Layer]
    weights: int
    trainable: int
    statistics: int
    multiply_adds: int  # for one image, or one patch


def summarise_network(study: Study, *, classes: int, own: nn.Module | None = None) -> Summary:
    """Summarise a study's network. No weights are drawn or loaded, and no data are read.

    Multiply-adds are those of convolutions, dense layers and attention, which are nearly all of the arithmetic; PyTorch's counter of
    floating-point operations says twice as many.

    Args:
        study: its `model`, and its `input`, whose `channels` are given.
        classes: number of classes, or labels.
        own: the module of `network: own`; one image passes through it.

    Raises:
        StudyError: the number of channels is not given, or the network cannot be built or frozen so.
    """
    channels, height, width = study.input.channels, study.input.height, study.input.width
    if channels == "auto":
        raise StudyError("input.channels is auto, and no image is looked at here. Set it to 1 or 3.")
    model = study.model.model_copy(update={"weights": None})
    with torch.device("meta" if own is None else "cpu"):  # shapes without memory
        network = build_network(model, classes=classes, channels=channels, height=height, width=width, several=study.several, own=own)
        image = torch.zeros(1, channels, height, width)
        freeze(network, model.freeze, sample=image)
    return _summary(model.network, network, image, classes, patch=False)


def summarise_segmenter(study: Segmentation) -> Summary:
    """Summarise the network of a segmenter, for one patch. No weights are drawn or loaded, and no data are read.

    Args:
        study: its `model`, its structures, and its `input`, whose `channels`, `patch` and `spacing_mm` are given.

    Raises:
        StudyError: one of these is `auto`, or the network cannot be built or frozen so.
    """
    for name in ("channels", "patch", "spacing_mm"):
        if getattr(study.input, name) == "auto":
            raise StudyError(f"input.{name} is auto, and no image is looked at here. Give channels, patch and spacing_mm (or keep).")
    model, form = study.model, form_of(study)
    with torch.device("meta"):  # shapes without memory
        network, _ = build_segmenter(model.model_copy(update={"weights": None}), form)
        patch = torch.zeros(1, form.channels, *form.patch)
    return _summary(f"{model.network} on {model.encoder}" if model.encoder else model.network, network, patch, form.outputs, patch=True)


def _summary(name: str, network: nn.Module, image: Tensor, classes: int, *, patch: bool) -> Summary:
    layers = _look_through(network, image)
    return Summary(
        network=name,
        image=tuple(image.shape[1:]),
        classes=classes,
        patch=patch,
        layers=layers,
        weights=sum(weight.numel() for weight in network.parameters()),
        trainable=sum(weight.numel() for weight in network.parameters() if weight.requires_grad),
        statistics=sum(layer.statistics for layer in layers),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
    )


def _look_through(network: nn.Module, image: Tensor) -> list[Layer]:
    """Every layer in the order in which the forward pass enters it, and blocks that have weights or arithmetic of their own."""
    entered: dict[str, nn.Module] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    costs: Counter[str] = Counter()
    inside: list[str] = []  # the modules that are at work, the innermost last
    counted = 0

    def charge(counter: FlopCounterMode) -> None:
        """Lay what was computed since the last time on the innermost module: networks call modules that lie elsewhere by their names."""
        nonlocal counted
        now = counter.get_total_flops() // 2
        if inside:
            costs[inside[-1]] += now - counted
        counted = now

    def watch(name: str, module: nn.Module, counter: FlopCounterMode) -> None:
        def enter(module: nn.Module, given: object) -> None:
            charge(counter)
            inside.append(name)
            entered.setdefault(name, module)

        def leave(module: nn.Module, given: object, made: object) -> None:
            charge(counter)
            inside.pop()
            shapes[name] = tuple(made.shape[1:]) if isinstance(made, Tensor) else ()

        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for name, module in network.named_modules():
            watch(name, module, counter)
        network.eval()(image)

    layers = []
    for name, module in entered.items():
        own = list(module.parameters(recurse=False))
        if next(module.children(), None) is not None and not own and not costs[name]:
            continue
        layers.append(
            Layer(
                name=name,
                kind=type(module).__name__.strip("_"),
                shape=shapes[name],
                weights=sum(weight.numel() for weight in own),
                trainable=sum(weight.numel() for weight in own if weight.requires_grad),
                statistics=sum(
                    buffer.numel() for what, buffer in module.named_buffers(recurse=False) if what in ("running_mean", "running_var")
                ),
                multiply_adds=costs[name],
            )
        )
    return layers
