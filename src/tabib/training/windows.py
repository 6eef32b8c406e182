"""Prediction of whole images of any size by overlapping windows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor

from tabib.images import scratch, slice_by_slice
from tabib.training.freezing import set_inference
from tabib.training.networks import Network

__all__ = ["MIRRORED", "count_windows", "mean_of", "most_probable", "segment"]

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
    sides = tuple(max(side, window) for side, window in zip(image.shape[1:], size, strict=True))
    before = [(long - side) // 2 for long, side in zip(sides, image.shape[1:], strict=True)]
    starts = list(product(*(_starts(side, window) for side, window in zip(sides, size, strict=True))))
    weights = _gaussian(size)
    total = torch.zeros(0)
    mass = torch.from_numpy(scratch((1, sides[0] if depth > 1 else 1, *sides[1:]), np.float32))  # of slices, the same in each
    at_once = _WINDOWS if depth == 1 else 1
    for first in range(0, len(starts), at_once):
        begin = starts[first : first + at_once]
        windows = torch.stack([_window(image, start, size, before) for start in begin]).to(device)
        windows = windows[:, :, 0] if depth == 1 else windows
        answers = _answer(network, windows, mirrored).cpu()
        answers = answers[:, :, None] if depth == 1 else answers
        if not len(total):
            total = torch.from_numpy(scratch((answers.shape[1], *sides), np.float32))
        for start, answer in zip(begin, answers, strict=True):
            place = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
            total[(slice(None), *place)] += answer * weights
            if depth > 1 or start[0] == 0:
                mass[(slice(None), *place)] += weights
    total /= mass
    return total[(slice(None), *(slice(a, a + side) for a, side in zip(before, image.shape[1:], strict=True)))]


@torch.inference_mode()
def mean_of(answers: Iterable[Tensor]) -> Tensor:
    """The mean of one tensor or more that are alike, two of which are held at a time; the first of them becomes the mean."""
    count, total = 0, torch.zeros(0)
    for count, answer in enumerate(answers, start=1):
        total = answer if count == 1 else total.add_(answer)
    return total.div_(count)


def most_probable(probabilities: np.ndarray) -> np.ndarray:
    """The class of most probability in each voxel, (D, H, W) uint8, of (classes, D, H, W); of two as probable, the lower number."""
    return slice_by_slice(lambda *classes: np.argmax(classes, axis=0), *probabilities, dtype=np.uint8)


def count_windows(shape: Sequence[int], patch: Sequence[int]) -> int:
    """By how many windows an image of so many slices, rows and columns is predicted."""
    size = (1,) * (3 - len(patch)) + tuple(patch)
    return math.prod(len(_starts(max(side, window), window)) for side, window in zip(shape, size, strict=True))


def _window(image: Tensor, start: Sequence[int], size: Sequence[int], before: Sequence[int]) -> Tensor:
    """One window, float32; beyond the edges of the image there are the nearest values."""
    places = zip(start, size, before, image.shape[1:], strict=True)
    planes, rows, columns = ((torch.arange(a, a + n) - gap).clamp(0, side - 1) for a, n, gap, side in places)
    return image[:, planes[:, None, None], rows[:, None], columns].float()


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
