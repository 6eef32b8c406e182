"""How wrong a map of structures is."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional

from tabib.metrics.surfaces import bounding_box

__all__ = ["MaskLoss", "signed_distances"]

_MISSES, _FALSE_ALARMS, _GAMMA, _BOUNDARY = 0.7, 0.3, 2.0, 0.01


@dataclass(frozen=True)
class MaskLoss:
    """What is minimised, in float32 whatever the network's precision.

    `dice` is one minus the soft Dice of each structure over all pixels of a batch, with the squares of Milletari et al. (2016), the mean over
    structures; `tversky` the same with misses counted 0.7 and false alarms 0.3 (Salehi et al. 2017); `cross_entropy` and
    `focal` (gamma 2, Lin et al. 2017) are means over pixels. `dice_boundary` adds to Dice 0.01 times the boundary loss of Kervadec et
    al. ("Boundary loss for highly unbalanced segmentation", 2019, equation 3 with its constant, so that the truth is at 0): the mean over pixels and
    structures of what is wrongly said or not said, times how many pixels it lies from the outline.
    """

    kind: Literal["dice_cross_entropy", "dice_boundary", "dice", "cross_entropy", "tversky", "focal"] = "dice_cross_entropy"
    dimensions: int = 2  # of what the network sees: of 2, outlines are those of each slice
    thickness: float = 1.0  # of 3 dimensions: how far slices lie apart, as a multiple of how far pixels do

    def __call__(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The loss of logits (B, 1 + S, ...), or (B, levels, 1 + S, ...) of deep supervision, whose truth is (B, ...) int64."""
        away = None
        if self.kind == "dice_boundary":
            structures = logits.shape[logits.ndim - truth.ndim] - 1
            away = signed_distances(truth, structures, dimensions=self.dimensions, thickness=self.thickness)
        if logits.ndim == truth.ndim + 1:
            return self._of_level(logits, truth, away)
        # Each lower level counts half of the one above it (Isensee et al. 2021).
        shares = torch.tensor([0.5**level for level in range(logits.shape[1])])
        losses = [self._of_level(each, truth, away) for each in logits.unbind(1)]
        return sum((share * loss for share, loss in zip(shares / shares.sum(), losses, strict=True)), torch.zeros(()))

    def _of_level(self, logits: Tensor, truth: Tensor, away: Tensor | None) -> Tensor:
        logarithms = functional.log_softmax(logits.float(), dim=1)
        loss = torch.zeros((), device=logits.device)
        if self.kind in ("dice_cross_entropy", "cross_entropy"):
            loss = loss + functional.nll_loss(logarithms, truth)
        if self.kind == "focal":
            right = logarithms.gather(1, truth[:, None])[:, 0]
            loss = loss - ((1 - right.exp()).clamp(min=1e-6) ** _GAMMA * right).mean()
        if self.kind in ("dice_cross_entropy", "dice_boundary", "dice", "tversky"):
            loss = loss + _overlap_loss(logarithms.exp(), truth, tversky=self.kind == "tversky")
        if away is not None:
            loss = loss + _BOUNDARY * (away * (logarithms[:, 1:].exp() - _present(truth, away.shape[1]))).mean()
        return loss


def signed_distances(truth: Tensor, structures: int, *, dimensions: int, thickness: float = 1.0) -> Tensor:
    """How far each voxel lies outside each structure, in pixels, (B, structures, ...) float32 on the device of `truth`.

    Inside it is negative, and 0 next to the outside. Of a structure that is nowhere or everywhere it is 0.

    Args:
        truth: (B, ...) int64, 0 background, k the k-th structure.
        structures: how many there are.
        dimensions: 2 for the outlines of each slice, 3 for surfaces of blocks.
        thickness: of 3 dimensions, how far slices lie apart, as a multiple of how far pixels do.
    """
    sides = truth.shape[-dimensions:]
    spacing = (thickness, 1.0, 1.0)[-dimensions:]
    pictures = truth.cpu().numpy().reshape(-1, *sides)
    result = np.zeros((structures, *pictures.shape), np.float32)
    for structure, place in product(range(structures), range(len(pictures))):
        inside = pictures[place] == structure + 1
        if not inside.any() or inside.all():
            continue
        away = np.asarray(distance_transform_edt(~inside, sampling=spacing))
        # The nearest voxel outside lies in the box or beside it: what is small need not be looked for everywhere.
        box = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in bounding_box(inside))
        depth = np.asarray(distance_transform_edt(inside[box], sampling=spacing))
        away[box] -= np.where(inside[box], (depth - 1).clip(0), 0)
        result[structure, place] = away
    return torch.from_numpy(result).to(truth.device).reshape(structures, *truth.shape).movedim(0, 1)


def _present(truth: Tensor, structures: int) -> Tensor:
    return torch.stack([truth == structure + 1 for structure in range(structures)], dim=1).float()


def _overlap_loss(probability: Tensor, truth: Tensor, *, tversky: bool) -> Tensor:
    present = _present(truth, probability.shape[1] - 1)
    said = probability[:, 1:]
    axes = (0, *range(2, probability.ndim))
    both = (said * present).sum(axes)
    # A pixel's worth is added, so that a structure which is nowhere and hardly said to be anywhere is right.
    if tversky:
        false_alarms, misses = said.sum(axes) - both, present.sum(axes) - both
        return (1 - (both + 1) / (both + _FALSE_ALARMS * false_alarms + _MISSES * misses + 1)).mean()
    return (1 - (2 * both + 1) / (said.square().sum(axes) + present.sum(axes) + 1)).mean()
