"""What a segmenter is trained on, and how it is measured after an epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from tabib.config import SegmentationAugment, SegmentationTraining
from tabib.dataset import CaseCache
from tabib.records import Finding
from tabib.training.freezing import set_inference
from tabib.training.mask_losses import MaskLoss
from tabib.training.networks import Network
from tabib.training.optimise import at_one_rate
from tabib.training.patches import Patches
from tabib.training.windows import segment

__all__ = ["STILL", "MaskWork"]

_STUCK_EPOCHS, _STUCK_DICE, _STUCK_SPREAD = 5, 0.01, 0.05
STILL = SegmentationAugment(rotation_degrees=0, shift=0, zoom=0, brightness=0, contrast=0)
_SETTLED = 64
"""Patches on which batch norm's statistics are measured."""


@dataclass(frozen=True)
class MaskWork:
    """Cases that train and cases that choose, and what is done with them."""

    training: SegmentationTraining
    augment: SegmentationAugment
    structures: list[str]
    seed: int
    train: Patches
    validation: Patches
    patch: tuple[int, ...]  # rows and columns, or slices, rows and columns

    @property
    def loss(self) -> MaskLoss:
        """What is minimised."""
        return MaskLoss(self.training.loss, dimensions=len(self.patch), thickness=self.train.thickness)

    @property
    def best(self) -> str:
        """The validation metric that says which epoch's weights are kept."""
        return self.training.best

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.training.epochs * len(self.batches(1))

    @property
    def shown(self) -> dict[str, str]:
        """Columns of the growing table of epochs, and the fields of the history that they show."""
        return {"dice": "validation_dice"}

    def at(self, rate: float) -> Self:
        """The same at one rate, to try it."""
        return replace(self, training=at_one_rate(self.training, rate))

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        """Numbers of the patches of each step."""
        assert self.training.patches != "auto"
        size = self.training.batch * self.training.accumulate
        wanted = max(2, self.training.patches)
        return np.array_split(np.arange(wanted), max(1, round(wanted / size)))

    def backward(self, network: Network, batch: np.ndarray, *, epoch: int) -> Tensor:
        """Add the gradients of a step on these patches, in as many parts as `training.accumulate` makes; the loss."""
        device = next(network.parameters()).device
        total = torch.zeros((), device=device)
        for part in np.array_split(batch, max(1, min(math.ceil(len(batch) / self.training.batch), len(batch) // 2))):
            images, truth = self.train.load(part, self.augment, foreground=self.training.foreground, seed=self.seed, epoch=epoch)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.training.precision == "bf16"):
                logits = network(images)
            loss = self.loss(logits, truth) * (len(part) / len(batch))
            loss.backward()
            total += loss.detach()
        return total

    @torch.no_grad()
    def settle(self, network: Network, *, epoch: int) -> None:
        """Measure batch norm's statistics of the weights as they now are, on patches that are not changed."""
        kinds = (nn.BatchNorm2d, nn.BatchNorm3d)
        set_inference(network)
        frozen = tuple(f"{name}." for name in network.frozen)
        norms = [
            norm
            for name, norm in network.features.named_modules()
            if isinstance(norm, kinds) and norm.track_running_stats and not f"{name}.".startswith(frozen)
        ]
        if not norms:
            return
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.train().reset_running_stats()
            norm.momentum = None  # a plain mean over the passes below
        numbers = np.arange(max(2, min(_SETTLED, self.training.patches if self.training.patches != "auto" else _SETTLED)))
        for part in np.array_split(numbers, max(1, len(numbers) // max(2, self.training.batch))):
            images, _ = self.train.load(part, STILL, foreground=self.training.foreground, seed=self.seed, epoch=epoch)
            network.features(images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    def measure(self, network: Network) -> dict[str, Any]:
        """Loss and Dice of each structure over all voxels of the validation cases, predicted whole, and how far the answers differ."""
        return self._measure(network, self.validation.cases, self.validation.rows)

    def measure_train(self, network: Network) -> tuple[int, dict[str, Any]]:
        """The same of training cases, the first by their content: of no order that the folder has."""
        first = np.argsort(self.train.content, kind="stable")[: len(self.validation)]
        return len(first), self._measure(network, self.train.cases, [self.train.rows[place] for place in first])

    def _measure(self, network: Network, cases: CaseCache, rows: Sequence[int]) -> dict[str, Any]:
        counts, moments = np.zeros((len(self.structures), 3)), np.zeros((2, len(self.structures)))
        losses, voxels = 0.0, 0
        for row in rows:
            image = torch.from_numpy(cases.image(row))
            truth = torch.from_numpy(cases.mask(row)).long()
            probability = segment(network, image, patch=self.patch)
            losses += float(self.loss(probability.clamp(min=1e-7).log()[None], truth[None])) * truth.numel()
            voxels += truth.numel()
            moments += [(probability[1:].double() ** power).sum((1, 2, 3)).numpy() for power in (1, 2)]
            said = probability.argmax(0)
            for place in range(len(self.structures)):
                mine, real = said == place + 1, truth == place + 1
                counts[place] += [float((mine & real).sum()), float(mine.sum()), float(real.sum())]
        both, mine, real = counts.T
        there = mine + real > 0
        dice = np.divide(2 * both, mine + real, out=np.full(len(both), np.nan), where=there)
        return {
            "loss": losses / voxels,
            "dice": float(np.nanmean(dice)) if there.any() else None,
            "spread": _spread(moments[0] / voxels, moments[1] / voxels, real / voxels),
            **{f"dice_{name}": None if math.isnan(value) else float(value) for name, value in zip(self.structures, dice, strict=True)},
        }

    def look_at(self, history: Sequence[dict[str, Any]]) -> list[Finding]:
        """Findings that the latest five epochs show.

        - `constant_masks`: every place of every image is given the same probability of each structure.
        - `structure_not_learnt`: a structure is found nowhere, though others are told apart.
        """
        last = history[-_STUCK_EPOCHS:]
        if len(last) < _STUCK_EPOCHS:
            return []
        spreads = [epoch["validation_spread"] for epoch in last]
        if all(spread is not None and spread < _STUCK_SPREAD for spread in spreads):
            figures = {"epoch": last[-1]["epoch"], "spread": max(spreads)}
            return [Finding(code="constant_masks", level="warn", figures=figures)]
        lost = [name for name in self.structures if all((epoch[f"validation_dice_{name}"] or 0) < _STUCK_DICE for epoch in last)]
        return (
            [Finding(code="structure_not_learnt", level="warn", figures={"structure": ", ".join(lost), "epoch": last[-1]["epoch"]})]
            if lost
            else []
        )


def _spread(mean: np.ndarray, square: np.ndarray, share: np.ndarray) -> float | None:
    """How far the probability of a structure differs from place to place, as a part of how far the truth does: the most of any structure.

    Args:
        mean: (S,) of the probability of each over all voxels.
        square: (S,) of its square.
        share: (S,) of the voxels that are it; one that is nowhere, or everywhere, says nothing.
    """
    there = (share > 0) & (share < 1)
    deviation = np.sqrt(np.maximum(0, square - mean**2)[there] / (share * (1 - share))[there])
    return float(deviation.max()) if len(deviation) else None
