"""Prediction of whole images of any size by overlapping windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from tabib.training.freezing import set_inference
from tabib.training.networks import Network
from tabib.training.patches import pad_to

__all__ = ["MIRRORED", "count_windows", "segment"]

MIRRORED = ((), (-1,), (-2,), (-1, -2))
"""Axes along which an image is mirrored where mirrored images are predicted as well: not, columns, rows, both."""

_OVERLAP = 0.5
_WINDOWS = 16
"""Windows of one forward pass in two dimensions; in three they are predicted one by one."""


@torch.inference_mode()
def segment(network: Network, image: Tensor, *, patch: Sequence[int], mirrored: Sequence[tuple[int, ...]] = MIRRORED[:1]) -> Tensor:
    """Probabilities of the background and the structures, (1 + S, D, H, W) float32, of a prepared image (C, D, H, W) float16. Always in fp32.

    The windows are as large as what training saw, half of each overlaps its neighbours, and where they overlap the answers
    are weighted by how near the middle of the window a voxel is (a Gaussian of an eighth of the side; Isensee et al. 2021).

    Args:
        network: on the device where it is to run.
        image: every slice is a picture of its own where `patch` has two sides.
        patch: rows and columns, or slices, rows and columns.
        mirrored: of `MIRRORED` those whose mean is taken: each costs as much as the first.
    """
    set_inference(network)
    device = next(network.parameters()).device
    depth, height, width = (1,) * (3 - len(patch)) + tuple(patch)
    size = (depth, height, width)
    padded = pad_to(image.float()[None], size)[0] if min(image.shape[1:]) < max(size) else image.float()
    sides = padded.shape[1:]
    starts = list(product(*(_starts(side, window) for side, window in zip(sides, size, strict=True))))
    weights = _gaussian(size)
    total, mass = torch.zeros(0), torch.zeros(1, *sides)
    at_once = _WINDOWS if depth == 1 else 1
    for first in range(0, len(starts), at_once):
        places = [tuple(slice(a, a + n) for a, n in zip(start, size, strict=True)) for start in starts[first : first + at_once]]
        windows = torch.stack([padded[(slice(None), *place)] for place in places]).to(device)
        windows = windows[:, :, 0] if depth == 1 else windows
        answers = _answer(network, windows, mirrored).cpu()
        answers = answers[:, :, None] if depth == 1 else answers
        if not len(total):
            total = torch.zeros(answers.shape[1], *sides)
        for place, answer in zip(places, answers, strict=True):
            total[(slice(None), *place)] += answer * weights
            mass[(slice(None), *place)] += weights
    total /= mass
    cut = tuple(slice((long - side) // 2, (long - side) // 2 + side) for long, side in zip(sides, image.shape[1:], strict=True))
    return total[(slice(None), *cut)]


def count_windows(shape: Sequence[int], patch: Sequence[int]) -> int:
    """By how many windows an image of so many slices, rows and columns is predicted."""
    size = (1,) * (3 - len(patch)) + tuple(patch)
    return math.prod(len(_starts(max(side, window), window)) for side, window in zip(shape, size, strict=True))


def _answer(network: Network, windows: Tensor, mirrored: Sequence[tuple[int, ...]]) -> Tensor:
    windows = windows.contiguous(memory_format=torch.channels_last) if windows.ndim == 4 else windows
    answers = [torch.softmax(network(windows.flip(axes)).float(), dim=1).flip(axes) for axes in mirrored]
    return torch.stack(answers).mean(0)


def _starts(side: int, window: int) -> list[int]:
    """Where windows begin along one axis: as few as overlap by half, evenly."""
    last = side - window
    steps = -(-last // max(1, round(window * _OVERLAP)))
    return [round(last * step / steps) for step in range(steps + 1)] if last > 0 else [0]


def _gaussian(size: Sequence[int]) -> Tensor:
    weights = torch.ones(())
    for side in size:
        place = (torch.arange(side) - (side - 1) / 2) / (side / 8)
        weights = weights[..., None] * torch.exp(-(place**2) / 2).clamp(min=1e-3)
    return weights
