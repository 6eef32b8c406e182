"""Networks: a backbone that makes one vector of an image, and a small dense head."""

from __future__ import annotations

import difflib
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tabib.config import OWN, ModelPart, run_named
from tabib.errors import StudyError, WeightsError
from tabib.progress import SILENT, Progress
from tabib.training.initialisers import initialise
from tabib.training.other_run import find_in_run, load_head
from tabib.training.own import check_own, refuse_mismatch
from tabib.training.plain_networks import PLAIN_NETWORKS, plain_features
from tabib.training.weights import Start, find_imagenet, find_local, load_start

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

__all__ = ["NETWORKS", "Network", "build_network", "describe_backbone", "first_convolutions", "resolve_model", "small_resnet"]

FROM_NOTHING = ((0.5,) * 3, (0.25,) * 3)
"""Mean and standard deviation in 0..1 that `intensity: network` means where no weights say otherwise."""


class Network(nn.Module):
    """A classifier of images.

    Attributes:
        features: the backbone, (B, C, H, W) to pooled features (B, F).
        head: dense layers, (B, F) to logits.
        mean, std: (1, C, 1, 1) buffers that are not saved, in 0..1: `intensity: network` is (image - mean) / std.
        weights_source: where the weights start: "none", "own" (as the module was given), or package, hub name or file name.
        weights_source_sha256: SHA-256 of the file they came from.
        frozen: names of the frozen layers of `features`; see `freezing.freeze`.
        answers: whether the head's weights come from another run, too, so that it tells classes apart before any training.
        layout: how images and feature maps lie in memory.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: nn.Module, head: nn.Module, *, mean: Tensor, std: Tensor, source: str, source_sha256: str | None) -> None:
        super().__init__()
        self.features = features
        self.head = head
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.weights_source = source
        self.weights_source_sha256 = source_sha256
        self.frozen: tuple[str, ...] = ()
        self.answers = False
        self.layout = torch.channels_last

    def forward(self, images: Tensor) -> Tensor:
        """Logits of normalised images (B, C, H, W): (B, classes), or (B, 1), of the positive class of two."""
        return self.head(self.features(images))


def build_network(
    model: ModelPart,
    *,
    classes: int,
    channels: int,
    height: int,
    width: int,
    several: bool = False,
    class_names: Sequence[str] = (),
    seed: int = 0,
    own: nn.Module | None = None,
    offline: bool = False,
    progress: Progress = SILENT,
) -> Network:
    """Build a network with its starting weights; all are trainable until `freezing.freeze`.

    Args:
        model: which network, which weights, which head.
        classes: number of classes, 2 or more.
        channels: channels of an image, 1 or 3.
        height: of an image, in pixels.
        width: of an image, in pixels.
        several: whether these are labels, each of which has an output of its own.
        class_names: in the order of the outputs; the head of another run is taken where its classes are the same.
        seed: of the initial weights; the global generator is left as it was.
        own: the module of `network: own`; a copy of it is taken, with the weights it has.
        offline: refuse downloads.
        progress: is told of a download.

    Raises:
        StudyError: no network of this name (the message names the nearest), or it cannot take such images.
        WeightsError: the weights cannot be had or do not fit; the message says how to place a file by hand.
        MissingPackageError: the weights come with an optional package that is not installed.
    """
    refuse_mismatch(model.network, own)
    model = resolve_model(model, classes=classes, several=several)
    if own is not None:
        return _own_network(own, classes=classes, several=several, channels=channels, height=height, width=width)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also reseed every GPU.
        torch.default_generator.manual_seed(seed)
        config = None
        if build := NETWORKS.get(model.network):
            features = build(channels, height, width)
        elif model.network in PLAIN_NETWORKS:
            features = _plain_features(model, channels=channels, height=height, width=width)
        else:
            features, config = _timm_features(model, channels=channels, height=height, width=width)
        wide = _count_features(features, model.network, channels, height, width)
        head = _head(wide, model, outputs=classes if model.outputs == "one_per_class" else 1)
        if model.initialiser != "usual":
            initialise(nn.ModuleList([features, head]), model.initialiser)
    start = _load_weights(model, features, config, offline=offline, progress=progress)
    mean, std = (start.mean, start.std) if start else FROM_NOTHING
    network = Network(
        features,
        head,
        mean=_per_channel(mean, channels),
        std=_per_channel(std, channels),
        source=start.source if start else "none",
        source_sha256=start.sha256 if start else None,
    )
    if run := run_named(model.weights):
        network.answers = load_head(run, head, class_names=class_names)
    return network


def resolve_model(model: ModelPart, *, classes: int, several: bool = False) -> ModelPart:
    """The model with every `auto` replaced: dropout by values, outputs by how many. Each of `several` labels has its own.

    Raises:
        StudyError: a head, a dropout or outputs that the network does not have.
    """
    if model.network == OWN:  # its module says all of it
        return model.model_copy(update={"dropout": []})
    plain = PLAIN_NETWORKS.get(model.network)
    if plain and model.head:
        raise StudyError(
            f"model.head is {model.head}, and {model.network} has dense layers of its own, as it was published. Leave head out, or choose another network."
        )
    if model.outputs == "one" and classes > 2:
        raise StudyError(f"model.outputs is one, and there are {classes} classes. Use outputs: one_per_class.")
    usual = plain.dropout if plain else [0.2] * max(1, len(model.head))
    dropout = usual if model.dropout == "auto" else model.dropout
    if len(dropout) != len(usual):
        where = f"{model.network} has {len(usual)} dropout layers" if plain else "there is one, before the output"
        raise StudyError(f"model.dropout has {len(dropout)} values, and {where}. Give one value for each, or auto.")
    outputs = ("one_per_class" if plain or several or classes > 2 else "one") if model.outputs == "auto" else model.outputs
    return model.model_copy(update={"dropout": dropout, "outputs": outputs})


def small_resnet(channels: int, height: int, width: int) -> nn.Module:
    """Build Tabib's own network for small grey images and training from nothing: 0.7 million weights.

    Three stages of two residual blocks (He et al. 2016), shortcuts averaged before they are projected (He et al. 2019,
    "Bag of tricks", ResNet-D), and the last batch norm of each block starting at zero (Goyal et al. 2017). The image is halved as
    often as brings its shorter side near 7 pixels, as late as possible: 28 pixels keep their full resolution through the first stage,
    and 128 pixels cost half as much again.
    """
    halvings = max(0, round(math.log2(min(height, width) / 7)))
    strides = [2 if halvings >= left else 1 for left in (3, 2, 1)]
    in_stem = max(0, halvings - 3)
    stem = [_convolve(channels, 32, stride=2 if in_stem else 1)] + [_convolve(32, 32, stride=2) for _ in range(in_stem - 1)]
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Sequential(*stem))
    narrow = 32
    for number, (wide, stride) in enumerate(zip((32, 64, 128), strides, strict=True), start=1):
        layers[f"stage{number}"] = nn.Sequential(_Block(narrow, wide, stride=stride), _Block(wide, wide, stride=1))
        narrow = wide
    features = nn.Sequential(OrderedDict(**layers, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten()))
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, _Block):
            nn.init.zeros_(module.norm2.weight)
    return features


NETWORKS: dict[str, Callable[[int, int, int], nn.Module]] = {"small_resnet": small_resnet}
"""Networks of our own by name: (channels, height, width) to a backbone. `PLAIN_NETWORKS` has more; every other name is timm's."""


class _Block(nn.Module):
    def __init__(self, narrow: int, wide: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(narrow, wide, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(wide)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False))
        if narrow != wide:
            self.shortcut.append(nn.Conv2d(narrow, wide, 1, bias=False)).append(nn.BatchNorm2d(wide))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm1(self.conv1(x)))  # (B, wide, H / stride, W / stride)
        return self.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def _convolve(narrow: int, wide: int, *, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(narrow, wide, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU(inplace=True))


def _own_network(module: nn.Module, *, classes: int, several: bool, channels: int, height: int, width: int) -> Network:
    own = check_own(module, channels=channels, height=height, width=width)
    if own.outputs != classes and ((own.outputs, classes) != (1, 2) or several):
        wanted = "1 or 2" if classes == 2 and not several else str(classes)
        raise StudyError(
            f"The module given as the network makes {own.outputs} numbers of an image, and there are {classes} classes. It must make {wanted}."
        )
    mean, std = (_per_channel(values, channels) for values in FROM_NOTHING)
    network = Network(own.module, nn.Identity(), mean=mean, std=std, source=OWN, source_sha256=None)
    network.layout = own.layout
    return network


def _plain_features(model: ModelPart, *, channels: int, height: int, width: int) -> nn.Module:
    plain = PLAIN_NETWORKS[model.network]
    assert model.dropout != "auto"
    try:
        features = plain_features(plain, channels, height, width, dropout=model.dropout)
    except ValueError as error:
        raise _too_small(model.network, height, width, error) from error
    if plain.initialiser:
        initialise(features, plain.initialiser)
    return features


def _timm_features(model: ModelPart, *, channels: int, height: int, width: int) -> tuple[nn.Module, PretrainedCfg]:
    # Here, not above: importing timm takes seconds, and small_resnet does not need it.
    import timm
    from timm.layers.drop import DropPath

    name = model.network
    known = [*NETWORKS, *PLAIN_NETWORKS, *timm.list_models(), *timm.list_pretrained()]
    config = timm.models.get_pretrained_cfg(name) if name in known else None
    if config is None:
        near = difflib.get_close_matches(name, known, n=3)
        raise StudyError(
            f"model.network is {name!r}, and there is no network of this name. "
            + (
                f"The nearest are: {', '.join(near)}."
                if near
                else f"Use one of {', '.join([*NETWORKS, *PLAIN_NETWORKS])}, or a network of timm."
            )
        )
    fixed = config.fixed_input_size
    if fixed and model.weights is not None and (height, width) != tuple(config.input_size[1:]):
        raise StudyError(
            f"The weights of {name} are for images of {config.input_size[1]}x{config.input_size[2]} pixels, and input is {height}x{width}. "
            "Set input.height and input.width to that, or choose a network that takes any size."
        )
    try:
        features = timm.create_model(name, num_classes=0, in_chans=channels, global_pool="avg", img_size=(height, width) if fixed else None)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise StudyError(
            f"timm cannot build {name} as a backbone for {channels}x{height}x{width} images: {error}. Choose another."
        ) from error
    for module in features.modules():
        # The head has the only dropout: what else a network drops by default would not be in the study.
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
        elif isinstance(module, DropPath):
            module.drop_prob = 0.0
    return features, config


def _count_features(features: nn.Module, name: str, channels: int, height: int, width: int) -> int:
    features.eval()
    try:
        with torch.no_grad():
            pooled = features(torch.zeros(1, channels, height, width))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise _too_small(name, height, width, error) from error
    features.train()
    if pooled.ndim != 2:
        raise StudyError(f"{name} gives features of shape {tuple(pooled.shape)[1:]}, not one vector per image. Choose another network.")
    return pooled.shape[1]


def _too_small(name: str, height: int, width: int, error: Exception) -> StudyError:
    return StudyError(
        f"{name} cannot take images of {height}x{width} pixels: {error}. Change input.height and input.width, or the network."
    )


def _head(features: int, model: ModelPart, *, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    assert model.dropout != "auto"
    for wide, dropout in zip(model.head, model.dropout, strict=False):
        dense = nn.Linear(features, wide)
        nn.init.kaiming_normal_(dense.weight, nonlinearity="relu")
        nn.init.zeros_(dense.bias)
        layers += [dense, nn.ReLU(inplace=True), nn.Dropout(dropout)]
        features = wide
    if not model.head and model.network not in PLAIN_NETWORKS:
        layers.append(nn.Dropout(model.dropout[0]))
    output = nn.Linear(features, outputs)
    # Near zero, so that an untrained network gives every class its equal share, and its loss is the logarithm of their number.
    nn.init.normal_(output.weight, std=0.01)
    nn.init.zeros_(output.bias)
    return nn.Sequential(*layers, output)


def describe_backbone(network: str, *, channels: int) -> tuple[nn.Module, PretrainedCfg]:
    """A backbone of timm without memory for its weights, of which only names and shapes count, and what timm says of those it offers.

    Raises `StudyError` where there is no network of this name.
    """
    with torch.device("meta"):  # a VGG has 100 million weights in layers that another network does not have
        return _timm_features(ModelPart(network=network), channels=channels, height=224, width=224)


def first_convolutions(config: PretrainedCfg) -> tuple[str, ...]:
    """The weights of a network of timm that read the image."""
    names = (config.first_conv,) if isinstance(config.first_conv, str) else tuple(config.first_conv or ())
    return tuple(f"{name}.weight" for name in names)


def _load_weights(
    model: ModelPart, features: nn.Module, config: PretrainedCfg | None, *, offline: bool, progress: Progress
) -> Start | None:
    if model.weights is None:
        return None
    if model.weights == "imagenet":
        if config is None:
            raise WeightsError(f"There are no ImageNet weights of {model.network}. Set model.weights: none, or choose a network of timm.")
        count = sum(weight.numel() for weight in features.parameters())
        found = find_imagenet(model.network, config, weights=count, offline=offline, progress=progress)
    elif run := run_named(model.weights):
        found = find_in_run(run)
    else:
        plain = PLAIN_NETWORKS.get(model.network)
        mean, std = (tuple(config.mean), tuple(config.std)) if config else (plain and plain.scale) or FROM_NOTHING
        found = find_local(Path(model.weights), mean=mean, std=std)
    own = ("conv1.weight",) if model.network in PLAIN_NETWORKS else ("stem.0.0.weight",)
    return load_start(found, features, network=model.network, first_convolutions=first_convolutions(config) if config else own)


def _per_channel(values: tuple[float, ...], channels: int) -> Tensor:
    tensor = torch.tensor(values)
    return (tensor if channels == len(values) else tensor.mean().expand(channels)).reshape(1, channels, 1, 1).clone()
