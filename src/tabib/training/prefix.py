"""Frozen prefixes: what layers that never change say of images that never change is computed once, and training is what lies behind.

Where a network is cut is found by trying: its frozen layers are passed by, and the rest, given their features, must say to the bit
what the whole network says. So it holds for any network, and one whose later layers look past the cut is cut before, or not at all.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from tabib.config import Augment, Input
from tabib.dataset import Cache, kept_array
from tabib.progress import SILENT, Progress
from tabib.runs import code_of, fingerprint
from tabib.training.batches import Intensity, Samples, change, in_order, load_samples, normalise, on_device, with_copies
from tabib.training.freezing import set_inference
from tabib.training.inference import INFERENCE_BATCH
from tabib.training.networks import Network

__all__ = ["UNCHANGED", "Cut", "cut_off", "features_of", "find_cut", "kept_features"]

UNCHANGED = Augment(rotation_degrees=0, shift=0, zoom=0, brightness=0, contrast=0)
"""What training on features does to them: what images were changed before their features were computed."""

_ALL = ""
"""The name of the whole backbone among its layers."""


@dataclass(frozen=True)
class Cut:
    """Where a network is cut."""

    layers: tuple[str, ...]  # of `network.features`, outermost, in the order of the forward pass; "" is all of it
    shape: tuple[int, ...]  # of the features of one image

    @property
    def bytes_per_image(self) -> int:
        """What the features of one image take, as float32."""
        return 4 * prod(self.shape)


def find_cut(network: Network, shape: Input) -> Cut | None:
    """The deepest place behind which the rest of a network needs nothing but the features there; None where nothing frozen can be cut off.

    Args:
        network: frozen, see `freezing.freeze`; not changed.
        shape: of its images, with `channels` resolved.
    """
    assert shape.channels != "auto"
    outermost = [name for name in network.frozen if not any(above in network.frozen for above in _above(name))]
    if not outermost:
        return None
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(2, shape.channels, shape.height, shape.width, generator=generator).to(network.mean.device)
    network = copy.deepcopy(network)
    set_inference(network)
    with torch.no_grad():
        for weight in network.parameters():
            # A branch that starts at nothing would hide that it looks past the cut.
            if weight.abs().max() < 1e-3:
                weight.copy_(torch.rand(weight.shape, generator=generator))
        whole = network(sample)
        for last in range(len(outermost), 0, -1):
            layers = tuple(outermost[:last])
            features = _run(network, layers, sample)
            if features is not None:
                rest = copy.deepcopy(network)
                cut_off(rest, layers)
                if _same(rest, features, whole):
                    return Cut(layers, tuple(features.shape[1:]))
    return None


def cut_off(network: Network, layers: tuple[str, ...]) -> None:
    """Take the layers of a cut out of a network, which then takes their features in the place of images."""
    for name in layers:
        network.set_submodule(f"features.{name}".rstrip("."), nn.Identity())
    left = dict(network.features.named_modules())
    network.frozen = tuple(name for name in network.frozen if name in left)


def features_of(network: Network, cut: Cut, samples: Samples, *, intensity: Intensity) -> Samples:
    """Samples with their features in the place of their images, in memory."""
    features = torch.cat([values for _, values in _compute(network, cut, samples, intensity=intensity)])
    return replace(samples, images=features, positions=torch.arange(len(samples), device=features.device))


def kept_features(
    network: Network,
    cut: Cut,
    cache: Cache,
    rows: pl.DataFrame,
    parts: tuple[pl.DataFrame, pl.DataFrame],
    *,
    classes: list[str],
    intensity: Intensity,
    augment: Augment,
    seed: int,
    folder: Path,
    device: torch.device,
    several: bool = False,
    progress: Progress = SILENT,
) -> tuple[Samples, Samples]:
    """The samples of the training and the validation part with their features in the place of their images, in a mapped file of the cache folder.

    Args:
        network: whole.
        cut: from `find_cut`.
        cache: the decoded images.
        rows: of the split, all whose features are computed and kept together, so that members share them.
        parts: rows among these, those that train first: they have their fixed copies with them, if the study has any.
        classes: class names in the order of their numbers.
        intensity: as in the study.
        augment: as in the study: off, or with fixed copies.
        seed: of the member, by which copies are changed.
        folder: the cache folder.
        device: where the network runs.
        several: whether these are labels of which an image may have several or none.
        progress: told of each batch, where the folder does not have them already.

    Raises:
        RunError: the disk is full.
    """
    rows = rows.sort("row")
    everyone = load_samples(cache, rows, classes=classes, device=device, several=several)
    count, copied = len(rows), np.flatnonzero((rows["part"] == "train").to_numpy())
    if augment.copies:  # behind the images as they are, the copies of those that may train, number by number
        copies = [number * count + copied for number in range(1, augment.copies + 1)]
        everyone = with_copies(everyone, augment.copies).take(np.concatenate([np.arange(count), *copies]))

    def fill(array: np.ndarray) -> None:
        with progress.bar("frozen layers", len(everyone)) as advance:
            for places, values in _compute(network, cut, everyone, intensity=intensity, augment=augment, seed=seed):
                array[places] = values.cpu().numpy()
                advance(len(places))

    # Threads and the kind of device change the last bits.
    made_with = [
        *([augment, seed] if augment.copies else []),
        intensity,
        torch.__version__,
        device.type,
        torch.get_num_threads(),
        code_of(__name__),
    ]
    key = fingerprint(cache.key, rows.select("row", "content"), " ".join(cut.layers), _hash(network, cut), *made_with)[:32]
    images = torch.from_numpy(kept_array(folder, key, shape=(len(everyone), *cut.shape), fill=fill))

    def part_of(part: pl.DataFrame, copies: int) -> Samples:
        where = np.searchsorted(rows["row"].to_numpy(), part["row"].to_numpy())
        behind = [count + number * len(copied) + np.searchsorted(copied, where) for number in range(copies)]
        placed, positions = on_device(images, torch.from_numpy(np.concatenate([where, *behind])), device)
        samples = with_copies(load_samples(cache, part, classes=classes, device=torch.device("cpu"), several=several), copies)
        return replace(samples, images=placed, positions=positions, device=device)

    train, validation = parts
    return part_of(train, augment.copies), part_of(validation, 0)


@torch.inference_mode()
def _compute(
    network: Network, cut: Cut, samples: Samples, *, intensity: Intensity, augment: Augment = UNCHANGED, seed: int = 0
) -> Iterator[tuple[np.ndarray, Tensor]]:
    set_inference(network)
    for places in in_order(samples, INFERENCE_BATCH):
        images, statistics, _ = samples.load(places)
        if samples.altered is not None:
            images = change(images, samples, places, augment, seed=seed, epoch=0)
        features = _run(network, cut.layers, normalise(images, statistics, intensity, network))
        assert features is not None
        yield places, features.float()


def _run(network: Network, layers: tuple[str, ...], images: Tensor) -> Tensor | None:
    """What the last of some layers gives; None where it is no tensor."""
    if layers == (_ALL,):
        return network.features(images)
    given: list[object] = []
    # A copy: the next layer may work in place.
    hook = network.features.get_submodule(layers[-1]).register_forward_hook(
        lambda _layer, _images, out: given.append(out.clone() if isinstance(out, Tensor) else None)
    )
    try:
        network.features(images)
    finally:
        hook.remove()
    return given[-1] if given and isinstance(given[-1], Tensor) else None


def _same(rest: Network, features: Tensor, whole: Tensor) -> bool:
    try:
        return torch.equal(rest(features.clone()), whole)
    except (RuntimeError, ValueError, AssertionError):  # a layer that cannot take what it is not made for
        return False


def _above(name: str) -> Iterator[str]:
    """The blocks that a layer lies in, the whole backbone among them."""
    while name:
        name = name.rpartition(".")[0]
        yield name


def _hash(network: Network, cut: Cut) -> str:
    digest = hashlib.sha256()
    for tensor in (network.mean, network.std):
        digest.update(tensor.cpu().numpy().tobytes())
    for layer in cut.layers:
        for name, tensor in network.features.get_submodule(layer).state_dict().items():
            digest.update(f"{layer}.{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
