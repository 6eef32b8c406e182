"""Plain networks of published work, layer by layer: one column of layers, each followed by the next."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["PLAIN_NETWORKS", "PlainNetwork", "plain_features"]


@dataclass(frozen=True)
class Conv:
    """A convolution with a bias. `same` pads with zeros so that stride 1 keeps the size and stride 2 halves it, rounded up."""

    channels: int
    kernel: int
    stride: int = 1
    padding: int | Literal["same"] = 0
    groups: int = 1


@dataclass(frozen=True)
class Pool:
    """The largest value of each square."""

    kernel: int
    stride: int


@dataclass(frozen=True)
class Average:
    """The mean over `side` x `side` regions of each map; their values follow one another in one vector."""

    side: int


@dataclass(frozen=True)
class Dense:
    """A fully connected layer with a bias."""

    width: int


@dataclass(frozen=True)
class Dropout:
    """Values switched off at random while training."""

    share: float


Layer = Conv | Pool | Average | Dense | Dropout | Literal["relu", "batch_norm", "local_norm", "flatten"]


@dataclass(frozen=True)
class PlainNetwork:
    """A network up to its output layer."""

    layers: tuple[Layer, ...]
    initialiser: Literal["glorot"] | None = None  # as PyTorch draws
    scale: tuple[tuple[float, ...], tuple[float, ...]] | None = None  # mean and standard deviation, in 0..1, of what published weights saw

    @property
    def dropout(self) -> list[float]:
        """Shares of its dropout layers, in their order."""
        return [layer.share for layer in self.layers if isinstance(layer, Dropout)]


_PHOTOGRAPHS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet."""

_MRI_STAGE: tuple[Layer, ...] = (
    *(Conv(32, 3, padding="same"), "relu", "batch_norm", Dropout(0.2)),
    *(Conv(32, 3, padding="same"), "relu", "batch_norm"),
    Pool(2, 2),
)

PLAIN_NETWORKS: dict[str, PlainNetwork] = {
    # A course report on blast cells in blood smears (ALL-IDB2, 257 x 257 colour): 902,682 weights with two outputs.
    "blast_cnn": PlainNetwork(
        initialiser="glorot",
        layers=(
            *(Conv(256, 3, stride=2, padding="same"), "relu", Pool(2, 2)),
            *(Conv(128, 3, padding=2), "relu", Pool(2, 2)),
            *(Conv(96, 5, padding=3), "relu"),
            *(Conv(96, 5, padding=2), "relu"),
            *(Conv(32, 3, padding=2), "relu", Pool(3, 2)),
            Average(1),
            *(Dense(1000), "relu", Dropout(0.5)),
        ),
    ),
    # A course report on Alzheimer's disease and mild impairment (slices of MRI, 64 x 64 grey), with two outputs and with what
    # batch norm measures: 1,086,434, 1,059,298 and 4,213,410.
    "mri_cnn_selected": PlainNetwork(
        initialiser="glorot",
        layers=(
            *_MRI_STAGE,
            *_MRI_STAGE,
            "flatten",
            *(Dense(128), "relu", "batch_norm"),
            *(Dense(64), "relu", "batch_norm", Dropout(0.2)),
        ),
    ),
    "mri_cnn_test1": PlainNetwork(
        initialiser="glorot",
        layers=(
            *(Conv(32, 3, padding="same"), "relu", "batch_norm", Dropout(0.2), Pool(2, 2)),
            *(Conv(32, 3, padding="same"), "relu", "batch_norm", Pool(2, 2)),
            "flatten",
            *(Dense(128), "relu", "batch_norm"),
        ),
    ),
    "mri_cnn_test2": PlainNetwork(
        initialiser="glorot",
        layers=(
            *_MRI_STAGE,
            "flatten",
            *(Dense(128), "relu", "batch_norm"),
            *(Dense(64), "relu", "batch_norm", Dropout(0.2)),
        ),
    ),
    # Krizhevsky, Sutskever and Hinton 2012, "ImageNet classification with deep convolutional neural networks": two towers, which
    # are groups of channels here; 60,965,224 weights with 1,000 classes. Two pixels of padding make its 224 x 224 fit.
    "alexnet_2012": PlainNetwork(
        scale=_PHOTOGRAPHS,
        layers=(
            *(Conv(96, 11, stride=4, padding=2), "relu", "local_norm", Pool(3, 2)),
            *(Conv(256, 5, padding=2, groups=2), "relu", "local_norm", Pool(3, 2)),
            *(Conv(384, 3, padding=1), "relu"),
            *(Conv(384, 3, padding=1, groups=2), "relu"),
            *(Conv(256, 3, padding=1, groups=2), "relu", Pool(3, 2)),
            "flatten",
            *(Dense(4096), "relu", Dropout(0.5)),
            *(Dense(4096), "relu", Dropout(0.5)),
        ),
    ),
    # Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks", as torchvision has it: one tower, no
    # normalisation; 61,100,840 weights with 1,000 classes. This is what most people call AlexNet.
    "alexnet_2014": PlainNetwork(
        scale=_PHOTOGRAPHS,
        layers=(
            *(Conv(64, 11, stride=4, padding=2), "relu", Pool(3, 2)),
            *(Conv(192, 5, padding=2), "relu", Pool(3, 2)),
            *(Conv(384, 3, padding=1), "relu"),
            *(Conv(256, 3, padding=1), "relu"),
            *(Conv(256, 3, padding=1), "relu", Pool(3, 2)),
            Average(6),
            *(Dropout(0.5), Dense(4096), "relu"),
            *(Dropout(0.5), Dense(4096), "relu"),
        ),
    ),
}
"""Networks with dense layers of their own. Their convolutions are those of Keras or PyTorch: cross-correlations, zeros outside."""


def plain_features(network: PlainNetwork, channels: int, height: int, width: int, *, dropout: Sequence[float]) -> nn.Sequential:
    """Build a plain network up to its output layer: images (B, channels, height, width) to (B, width of its last dense layer).

    Layers are named by kind and number, as in `conv3`, `batch_norm1` and `dense2`.

    Args:
        network: its layers.
        channels: of an image.
        height: of an image, in pixels.
        width: of an image, in pixels.
        dropout: share of each of its dropout layers.

    Raises:
        ValueError: the image is too small for its layers.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    numbers: Counter[str] = Counter()
    shares = iter(dropout)
    shape = (channels, height, width)  # of what the next layer sees; (features,) once flat
    for layer in network.layers:
        kind = layer if isinstance(layer, str) else type(layer).__name__.lower()
        numbers[kind] += 1
        name = f"{kind}{numbers[kind]}"
        if isinstance(layer, Dropout):
            layers[name] = nn.Dropout(next(shares))
            continue
        layers[name], shape = _build(layer, shape)
        if min(shape) < 1:
            raise ValueError(f"nothing is left of them after {name}")
    return nn.Sequential(layers)


def _build(layer: Layer, shape: tuple[int, ...]) -> tuple[nn.Module, tuple[int, ...]]:
    """The layer for an input of this shape, and the shape of its output."""
    if isinstance(layer, Conv):
        rows, columns = (_around(size, layer) for size in shape[1:])
        sides = tuple((size + sum(pad) - layer.kernel) // layer.stride + 1 for size, pad in zip(shape[1:], (rows, columns), strict=True))
        return _Conv2d(shape[0], layer, rows=rows, columns=columns), (layer.channels, *sides)
    if isinstance(layer, Pool):
        return nn.MaxPool2d(layer.kernel, layer.stride), (shape[0], *((size - layer.kernel) // layer.stride + 1 for size in shape[1:]))
    if isinstance(layer, Average):
        return nn.Sequential(nn.AdaptiveAvgPool2d(layer.side), nn.Flatten()), (shape[0] * layer.side**2,)
    if isinstance(layer, Dense):
        return nn.Linear(shape[0], layer.width), (layer.width,)
    if layer == "flatten":
        return nn.Flatten(), (math.prod(shape),)
    if layer == "batch_norm":
        return (nn.BatchNorm2d(shape[0]) if len(shape) == 3 else nn.BatchNorm1d(shape[0])), shape
    if layer == "local_norm":
        # The paper's alpha, 1e-4, is of the sum over five maps, and PyTorch's of their mean.
        return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0), shape
    return nn.ReLU(inplace=True), shape


class _Conv2d(nn.Conv2d):
    """A convolution whose zeros may be one more on the right and below than on the left and above."""

    def __init__(self, channels: int, layer: Conv, *, rows: tuple[int, int], columns: tuple[int, int]) -> None:
        super().__init__(channels, layer.channels, layer.kernel, stride=layer.stride, groups=layer.groups)
        self.around = (*columns, *rows)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(functional.pad(input, self.around))


def _around(size: int, layer: Conv) -> tuple[int, int]:
    """Zeros before and after a side of this size."""
    if layer.padding != "same":
        return layer.padding, layer.padding
    missing = max((-(-size // layer.stride) - 1) * layer.stride + layer.kernel - size, 0)
    return missing // 2, missing - missing // 2
