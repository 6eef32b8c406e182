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
from tabib.images import encode_png
from tabib.runs import atomic_write
from tabib.training.augment import apply, draw
from tabib.training.batches import load_samples

__all__ = ["save_examples"]

PER_CLASS, EPOCHS = 2, 4


def save_examples(folder: Path, cache: Cache, train: pl.DataFrame, augment: Augment, *, classes: list[str], seed: int) -> None:
    """Write `<row>.png` and `<row>_<epoch>.png`: images of each class, and what training made of them in its first epochs.

    Args:
        folder: is made anew.
        cache: the decoded images.
        train: rows of the split that train; of each class those with the smallest content hash are shown.
        augment: the study's.
        classes: class names in the order of their numbers.
        seed: of the training.
    """
    shutil.rmtree(folder, ignore_errors=True)
    rows = train.sort("content").group_by("label", maintain_order=True).head(PER_CLASS)
    samples = load_samples(cache, rows, classes=classes, device=torch.device("cpu"))
    images, _, _ = samples.load(np.arange(len(rows)))
    versions = {"": images}
    for epoch in range(1, EPOCHS + 1):
        versions[f"_{epoch}"] = apply(images, draw(augment, seed=seed, epoch=epoch, content=samples.content), augment)
    for suffix, pictures in versions.items():
        for row, picture in zip(rows["row"], pictures, strict=True):
            with atomic_write(folder / f"{row}{suffix}.png") as file:
                file.write(encode_png(_eight_bit(picture)))


def _eight_bit(image: Tensor) -> np.ndarray:
    """(C, H, W) in 0..1 as (H, W) or (H, W, 3) uint8."""
    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
