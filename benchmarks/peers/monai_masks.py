"""A segmenter of slices trained as a script of MONAI's parts does it: CacheDataset, random dictionary transforms, DataLoader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from math import radians
from typing import Literal

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandCropByPosNegLabeld,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    SpatialPadd,
)
from tabib_masks import BATCH, LABELS, PATCH, Prepared

from tabib.config import SegmentationModel
from tabib.training.mask_losses import MaskLoss
from tabib.training.segmenters import Form, build_segmenter

SIDES = ["image", "label"]


def steps_of_monai(
    prepared: Prepared, *, network: Literal["unet", "dynunet"], precision: str, layout: torch.memory_format, ready: bool = False
) -> Callable[[int], None]:
    """A function that does so many training steps on the same cases, with the changes of `tabib_masks.MONAIS`; `ready` on one batch again and again."""
    net, _ = build_segmenter(SegmentationModel(network=network), Form(1, 1 + len(LABELS), tuple(PATCH[2]), None))
    net.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    net.train()
    optimizer, loss_of = torch.optim.AdamW(net.parameters(), 1e-3), MaskLoss()
    batches = _batches(prepared)
    if ready:
        batches = repeat(next(batches))

    def go(steps: int) -> None:
        for _ in range(steps):
            given = next(batches)
            images, truth = (given[side].as_tensor() for side in SIDES)  # pyright: ignore[reportAttributeAccessIssue]
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                logits = net(images.contiguous(memory_format=layout))
            loss = loss_of(logits, truth[:, 0].long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

    return go


def _batches(prepared: Prepared) -> Iterator[dict[str, torch.Tensor]]:
    """Batches without end."""
    cases, patch = prepared.cases, PATCH[2]
    volumes = [(cases.image(row), cases.mask(row)[None]) for row in cases.rows]  # (1, D, H, W)
    slices = [(image[:, k], mask[:, k]) for image, mask in volumes for k in range(image.shape[1])]
    transform = Compose(
        [
            SpatialPadd(SIDES, patch),
            RandCropByPosNegLabeld(SIDES, label_key="label", spatial_size=patch, pos=1, neg=2, num_samples=1),
            RandAffined(
                SIDES,
                prob=1,
                rotate_range=radians(15),
                shear_range=[radians(5), 0],
                translate_range=[0.05 * side for side in patch],
                scale_range=[0.15, 0.15],
                mode=["bilinear", "nearest"],
                padding_mode="zeros",
            ),
            RandGaussianSmoothd("image", prob=1, sigma_x=(0, 1.6), sigma_y=(0, 1.6)),
            RandScaleIntensityd("image", factors=0.2, prob=1),
            RandShiftIntensityd("image", offsets=0.1, prob=1),
            RandAdjustContrastd("image", gamma=(0.82, 1.22), prob=1),
            RandGaussianNoised("image", std=0.03, prob=1),
        ]
    )
    rows = [dict(zip(SIDES, (image.astype(np.float32), mask.copy()), strict=True)) for image, mask in slices]
    loader = DataLoader(CacheDataset(rows, transform, progress=False), batch_size=BATCH[2], shuffle=True, drop_last=True)
    return chain.from_iterable(repeat(loader))
