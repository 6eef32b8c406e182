"""How wrong a map of structures is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["MaskLoss"]

_MISSES, _FALSE_ALARMS, _GAMMA = 0.7, 0.3, 2.0


@dataclass(frozen=True)
class MaskLoss:
    """What is minimised, in float32 whatever the network's precision.

    `dice` is one minus the soft Dice of each structure over all pixels of a batch, with the squares of Milletari et al. (2016), the mean over
    structures; `tversky` the same with misses counted 0.7 and false alarms 0.3 (Salehi et al. 2017); `cross_entropy` and
    `focal` (gamma 2, Lin et al. 2017) are means over pixels.
    """

    kind: Literal["dice_cross_entropy", "dice", "cross_entropy", "tversky", "focal"] = "dice_cross_entropy"

    def __call__(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The loss of logits (B, 1 + S, ...), or (B, levels, 1 + S, ...) of deep supervision, whose truth is (B, ...) int64."""
        if logits.ndim == truth.ndim + 2:
            # Each lower level counts half of the one above it (Isensee et al. 2021).
            shares = torch.tensor([0.5**level for level in range(logits.shape[1])])
            losses = [self(each, truth) for each in logits.unbind(1)]
            return sum((share * loss for share, loss in zip(shares / shares.sum(), losses, strict=True)), torch.zeros(()))
        logarithms = functional.log_softmax(logits.float(), dim=1)
        loss = torch.zeros((), device=logits.device)
        if self.kind in ("dice_cross_entropy", "cross_entropy"):
            loss = loss + functional.nll_loss(logarithms, truth)
        if self.kind == "focal":
            right = logarithms.gather(1, truth[:, None])[:, 0]
            loss = loss - ((1 - right.exp()).clamp(min=1e-6) ** _GAMMA * right).mean()
        if self.kind in ("dice_cross_entropy", "dice", "tversky"):
            loss = loss + _overlap_loss(logarithms.exp(), truth, tversky=self.kind == "tversky")
        return loss


def _overlap_loss(probability: Tensor, truth: Tensor, *, tversky: bool) -> Tensor:
    present = torch.stack([truth == structure for structure in range(1, probability.shape[1])], dim=1).float()
    said = probability[:, 1:]
    axes = (0, *range(2, probability.ndim))
    both = (said * present).sum(axes)
    # A pixel's worth is added, so that a structure which is nowhere and hardly said to be anywhere is right.
    if tversky:
        false_alarms, misses = said.sum(axes) - both, present.sum(axes) - both
        return (1 - (both + 1) / (both + _FALSE_ALARMS * false_alarms + _MISSES * misses + 1)).mean()
    return (1 - (2 * both + 1) / (said.square().sum(axes) + present.sum(axes) + 1)).mean()
