"""From rows of the cache to what the network takes: order, slices, normalisation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from tabib.config import Augment
from tabib.dataset import STATISTICS, Cache
from tabib.records import labels_of
from tabib.training.augment import apply
from tabib.training.draws import draw
from tabib.training.networks import Network
from tabib.training.randomness import bits

__all__ = [
    "Intensity",
    "Samples",
    "balanced",
    "change",
    "copy_keys",
    "in_order",
    "label_numbers",
    "load_samples",
    "normalise",
    "on_device",
    "shuffled",
    "unit_range",
    "with_copies",
]

Intensity = Literal["network", "unit", "minmax", "zscore", "percentile", "none"]
"""As in the study; `none` where samples hold features, which are what the network takes."""


@dataclass(frozen=True)
class Samples:
    """The images of one part of the data, and what is known of them. Takes 48 bytes a row beside the images."""

    images: Tensor  # (N, C, H, W) uint8 or uint16: the mapped cache, or on a GPU the part itself; or features (N, ...) float32
    positions: Tensor  # (n,) int64, where the images of the part stand in `images`; on the device of `images`
    statistics: Tensor  # (n, 6) float32; like the labels always on the CPU
    content: np.ndarray  # (n,) uint64, the first eight bytes of each image's SHA-256
    labels: Tensor  # (n,) int64, class numbers; of several labels (n, L), 1 where one is present
    device: torch.device  # where batches are wanted
    altered: np.ndarray | None = None  # (n,) bool, which are fixed changed copies; None where images are changed anew in every epoch

    def __len__(self) -> int:
        """Number of images."""
        return len(self.content)

    @property
    def several(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.labels.ndim == 2

    def load(self, places: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Images as float32 in 0..1 (B, C, H, W), or features, their statistics (B, 6) and their labels (B,), by place in the part."""
        where = torch.from_numpy(places)
        pixels = self.images[self.positions[where.to(self.positions.device)]].to(self.device)
        images = pixels if pixels.is_floating_point() else unit_range(pixels)
        return images, self.statistics[where].to(self.device), self.labels[where].to(self.device)

    def take(self, places: np.ndarray) -> Samples:
        """Some of the images, by place in the part."""
        where = torch.from_numpy(places)
        return replace(
            self,
            positions=self.positions[where.to(self.positions.device)],
            statistics=self.statistics[where],
            content=self.content[places],
            labels=self.labels[where],
            altered=None if self.altered is None else self.altered[places],
        )


def load_samples(cache: Cache, rows: pl.DataFrame, *, classes: list[str], device: torch.device, several: bool = False) -> Samples:
    """Gather the images of some rows.

    On the CPU they stay in the mapped file. On a GPU they are copied there as integers where they fill no more than
    half of its free memory, and are read from the file otherwise.

    Args:
        cache: the decoded images.
        rows: `row`, `content` and `label` of each.
        classes: class names in the order of their numbers.
        device: where the network runs.
        several: whether these are labels of which an image may have several or none.
    """
    positions = cache.positions(rows["row"].to_numpy().astype(np.int64))
    statistics = torch.from_numpy(cache.statistics[positions])
    labels = torch.from_numpy(label_numbers(rows["label"], classes, several=several))
    content = np.array([int(text[:16], 16) for text in rows["content"]], np.uint64)
    images, where = on_device(torch.from_numpy(cache.images), torch.from_numpy(positions), device)
    return Samples(images=images, positions=where, statistics=statistics, content=content, labels=labels, device=device)


def on_device(images: Tensor, positions: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images of a part and their positions: on a GPU where they fill no more than half of its free memory, else as they are."""
    if device.type == "cuda" and len(positions) * images[0].nbytes <= torch.cuda.mem_get_info(device)[0] // 2:
        return images[positions].to(device), torch.arange(len(positions), device=device)
    return images, positions


def label_numbers(labels: pl.Series, classes: list[str], *, several: bool) -> np.ndarray:
    """The class number of each of (n,) labels; of `several` labels (n, L), 1 where one is present."""
    if not several:
        return labels.replace_strict(classes, range(len(classes)), return_dtype=pl.Int64).to_numpy().copy()
    present = [labels_of(text, several=True) for text in labels]
    return np.array([[name in names for name in classes] for names in present], np.int64).reshape(-1, len(classes))


def shuffled(samples: Samples, size: int, *, seed: int, epoch: int) -> list[np.ndarray]:
    """Places of the images of each batch of an epoch.

    An image's place depends on (seed, epoch, its content) and on no other file. The last batch may be smaller; it is
    left out where it has one image, whose batch-norm statistics would be nothing but itself.
    """
    order = np.argsort(bits("order", seed=seed, epoch=epoch, content=samples.content), kind="stable")
    return [places for places in _slices(order, size) if len(places) > 1]


def balanced(samples: Samples, *, seed: int, epoch: int) -> Samples:
    """As many images with an equal share of every class, to within one image.

    Of a class with more images than its share some are left out, of one with fewer each is taken as often as another, or once more.
    Which ones is a function of (seed, epoch, content). A copy has a content key of its own, so that it is augmented differently.
    """
    present = samples.labels.unique().tolist()
    chosen = []
    for number, label in enumerate(present):
        of_class = torch.nonzero(samples.labels == label)[:, 0].numpy()
        share = (len(samples) + len(present) - 1 - number) // len(present)
        order = np.argsort(bits("share", seed=seed, epoch=epoch, content=samples.content[of_class]), kind="stable")
        chosen.append((np.resize(of_class[order], share), np.arange(share) // len(of_class)))
    places, copies = (np.concatenate(parts) for parts in zip(*chosen, strict=True))
    drawn = samples.take(places)
    for copy in range(1, copies.max() + 1):
        drawn.content[copies == copy] = bits("copy", seed=0, epoch=copy, content=drawn.content[copies == copy])
    return drawn


def copy_keys(content: np.ndarray, number: int) -> np.ndarray:
    """Content keys (n,) of the changed copies of this number, 1 or more: each is changed by the draws of its own key."""
    return bits("augmented_copy", seed=0, epoch=number, content=content)


def with_copies(samples: Samples, copies: int) -> Samples:
    """Every image as it is and in so many changed copies, which take 48 bytes each: their pixels are made when they are loaded."""
    if not copies:
        return samples
    return replace(
        samples,
        positions=samples.positions.repeat(copies + 1),
        statistics=samples.statistics.repeat(copies + 1, 1),
        content=np.concatenate([samples.content, *(copy_keys(samples.content, number) for number in range(1, copies + 1))]),
        labels=torch.cat([samples.labels] * (copies + 1)),
        altered=np.arange(len(samples) * (copies + 1)) >= len(samples),
    )


def change(images: Tensor, samples: Samples, places: np.ndarray, augment: Augment, *, seed: int, epoch: int) -> Tensor:
    """The images at `places` after their random changes; fixed copies are changed alike in every epoch, and their originals not at all."""
    fixed = samples.altered is not None
    changed = apply(images, draw(augment, seed=seed, epoch=0 if fixed else epoch, content=samples.content[places]), augment)
    if samples.altered is None:
        return changed
    return torch.where(torch.from_numpy(samples.altered[places]).to(images.device)[:, None, None, None], changed, images)


def in_order(samples: Samples, size: int) -> Iterator[np.ndarray]:
    """Places of all images, batch by batch, in the order of the rows."""
    return _slices(np.arange(len(samples)), size)


def unit_range(images: Tensor) -> Tensor:
    """uint8 or uint16 images as float32 in 0..1, channels last."""
    return images.to(torch.float32, memory_format=torch.channels_last).div_(torch.iinfo(images.dtype).max)


def normalise(images: Tensor, statistics: Tensor, intensity: Intensity, network: Network) -> Tensor:
    """Bring images in 0..1 to the scale that the network is fed.

    `minmax`, `zscore` and `percentile` use the statistics of the image as it is in the file, so an augmented image and
    the same image at test are scaled alike. An image of one flat value is only shifted.

    Args:
        images: (B, C, H, W) float32 in 0..1.
        statistics: (B, 6), `tabib.dataset.intensity_statistics` of each.
        intensity: as in the study.
        network: gives what its weights expect.

    Returns:
        (B, C, H, W) float32, in the layout and on the device of the network.
    """
    images = images.to(network.mean.device)
    if intensity == "none":
        return _laid_out(images, network) if images.ndim == 4 else images
    if intensity == "unit":
        return _laid_out(images, network)
    if intensity == "network":
        low, span = network.mean, network.std
    else:
        of = {name: statistics[:, place, None, None, None].to(images.device) for place, name in enumerate(STATISTICS)}
        low, high = {
            "minmax": (of["minimum"], of["maximum"]),
            "zscore": (of["mean"], of["mean"] + of["deviation"]),
            "percentile": (of["percentile_1"], of["percentile_99"]),
        }[intensity]
        span = torch.where(high > low, high - low, 1.0)
    return _laid_out((images - low) / span, network)


def _laid_out(images: Tensor, network: Network) -> Tensor:
    if network.layout == torch.channels_last:
        return images.contiguous(memory_format=torch.channels_last)
    return images.clone(memory_format=network.layout)  # of one channel, images are contiguous in both layouts, and their strides say one


def _slices(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (order[start : start + size] for start in range(0, len(order), size))
