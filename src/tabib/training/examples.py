"""A few training images as the network saw them, for the report, which draws without torch."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from tabib.config import Augment
from tabib.dataset import Cache
from tabib.images import encode_png, overlay, to_eight_bit
from tabib.records import label_columns, labels_of
from tabib.runs import atomic_write
from tabib.training.augment import apply
from tabib.training.batches import copy_keys, in_order, load_samples
from tabib.training.draws import draw
from tabib.training.mask_work import MaskWork
from tabib.training.patches import Drawn

__all__ = ["eight_bit", "save_examples", "save_patches", "write_copies"]

PER_CLASS, EPOCHS = 2, 4

_AT_A_TIME = 64

_PATCHES, _LOOKED_AT = 4, 64
"""Patches of a segmenter that are shown, and among how many they are looked for."""

_SIDE = 160
"""Longer side of the picture of a patch, as a report shows it: its outlines must not be made smaller."""

_SHOWN = (0.5, 99.5)
"""Percentiles of a patch that its pictures show as black and as white."""


def save_examples(
    folder: Path, cache: Cache, train: pl.DataFrame, augment: Augment, *, classes: list[str], seed: int, several: bool = False
) -> None:
    """Write `<row>.png` and `<row>_<epoch>.png`: images of each class, and what training made of them in its first epochs (or its first copies).

    Args:
        folder: is made anew.
        cache: the decoded images.
        train: rows of the split that train; of each class those with the smallest content hash are shown.
        augment: the study's.
        classes: class names in the order of their numbers.
        seed: of the training.
        several: whether these are labels of which an image may have several or none.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shown = train.sort("content")
    of_class = [[name in labels_of(label, several=several) for label in shown["label"]] for name in classes]
    rows = pl.concat([shown.filter(pl.Series(inside)).head(PER_CLASS) for inside in of_class]).unique("row", maintain_order=True)
    samples = load_samples(cache, rows, classes=classes, device=torch.device("cpu"), several=several)
    images, _, _ = samples.load(np.arange(len(rows)))
    versions = {"": images}
    for number in range(1, min(EPOCHS, augment.copies or EPOCHS) + 1):
        epoch, content = (0, copy_keys(samples.content, number)) if augment.copies else (number, samples.content)
        versions[f"_{number}"] = apply(images, draw(augment, seed=seed, epoch=epoch, content=content), augment)
    for suffix, pictures in versions.items():
        for row, picture in zip(rows["row"], pictures, strict=True):
            with atomic_write(folder / f"{row}{suffix}.png") as file:
                file.write(encode_png(eight_bit(picture)))


def save_patches(folder: Path, work: MaskWork) -> None:
    """Write `<row>.png` and `<row>_<epoch>.png`: patches of the first epoch, and what the changes of the first epochs make of each.

    Of a block the middle slice is shown, with the outlines of the mask. They are the first patches of as many images whose middle
    slice shows a structure. Nothing is written where nothing is changed.

    Args:
        folder: is made anew.
        work: of the first member.
    """
    shutil.rmtree(folder, ignore_errors=True)
    assert work.training.patches != "auto"
    patches, augment, seed = work.train, work.augment, work.seed
    colours = (
        3 if patches.cases.channels == 3 and not patches.cases.separate else 1
    )  # of channels with files of their own the first is shown
    shown = dict[int, Drawn]()
    for number in range(0 if augment.off else min(_LOOKED_AT, work.training.patches)):
        drawn = patches.draw(np.array([number]), augment, foreground=work.training.foreground, seed=seed, epoch=1)
        if _middle(drawn.masks[0], patches.patch).any():
            shown.setdefault(drawn.rows[0], drawn)
        if len(shown) == _PATCHES:
            break
    for row, drawn in shown.items():
        versions = {"": (drawn.images[0], drawn.masks[0])}
        for epoch in range(1, EPOCHS + 1):
            images, masks = patches.change(drawn, augment, seed=seed, epoch=epoch)
            versions[f"_{epoch}"] = images.cpu().numpy().reshape(-1, *patches.patch), masks.cpu().numpy().reshape(patches.patch)
        low, high = (float(value) for value in np.percentile(_middle(drawn.images[0, :colours], patches.patch), _SHOWN))
        for suffix, (image, mask) in versions.items():
            values = np.moveaxis(_middle(image[:colours], patches.patch), 0, -1)
            pixels = to_eight_bit(values[:, :, 0] if colours == 1 else values, low, max(high, low + 1e-6))
            with atomic_write(folder / f"{row}{suffix}.png") as file:
                file.write(encode_png(overlay(pixels, _middle(mask, patches.patch), side=_SIDE)))


def _middle(voxels: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
    """The middle slice (..., H, W) of the middle `size` of (..., D, H, W)."""
    starts = [(side - wanted) // 2 for side, wanted in zip(voxels.shape[-3:], size, strict=True)]
    rows, columns = (slice(start, start + wanted) for start, wanted in zip(starts[1:], size[1:], strict=True))
    return voxels[..., starts[0] + size[0] // 2, rows, columns]


def write_copies(
    folder: Path, cache: Cache, train: pl.DataFrame, augment: Augment, *, classes: list[str], seed: int, several: bool = False
) -> None:
    """Write `<row>_<number>.png` of every fixed copy of the training images, and last `copies.csv`, a table of them.

    Args:
        folder: is made anew; of a run, so that no image of a source is ever overwritten.
        cache: the decoded images.
        train: rows of the split that train the member.
        augment: the study's.
        classes: class names in the order of their numbers.
        seed: of the member.
        several: whether these are labels of which an image may have several or none.
    """
    shutil.rmtree(folder, ignore_errors=True)
    samples = load_samples(cache, train, classes=classes, device=torch.device("cpu"), several=several)
    deep = samples.images.dtype == torch.uint16 and samples.images.shape[1] == 1
    for number in range(1, augment.copies + 1):
        for places in in_order(samples, _AT_A_TIME):
            images, _, _ = samples.load(places)
            draws = draw(augment, seed=seed, epoch=0, content=copy_keys(samples.content[places], number))
            for row, picture in zip(train["row"].gather(places), apply(images, draws, augment), strict=True):
                with atomic_write(folder / f"{row}_{number}.png") as file:
                    file.write(encode_png((picture[0] * 65535).round().numpy().astype(np.uint16) if deep else eight_bit(picture)))
    copies = train.join(pl.DataFrame({"copy": range(1, augment.copies + 1)}), how="cross")
    with atomic_write(folder / "copies.csv") as file:
        named = pl.format("{}_{}.png", "row", "copy").alias("path")
        copies.select(named, *label_columns(classes, several=several), "group", "copy", original="path").write_csv(file)


def eight_bit(image: Tensor) -> np.ndarray:
    """(C, H, W) in 0..1 as (H, W) or (H, W, 3) uint8."""
    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
