"""Windows: the answer to a volume that is larger than memory is that to the same volume held whole."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from tabib.training.windows import MIRRORED, _gaussian, _starts, count_windows, mean_of, segment

HOUSE = sys.modules["tabib.images.scratch"]


class Tiny(nn.Module):
    """Two layers that see their neighbours, so that mirroring and edges matter."""

    def __init__(self, dimensions: int, channels: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        layer = nn.Conv2d if dimensions == 2 else nn.Conv3d
        self.layers = nn.Sequential(layer(channels, 4, 3, padding=1), nn.ReLU(), layer(4, 3, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


@torch.inference_mode()
def held_whole(network: Any, image: Tensor, patch: tuple[int, ...], mirrored: Sequence[tuple[int, ...]]) -> Tensor:
    """The same sums over an image that is padded first, window by window."""
    size = (1,) * (3 - len(patch)) + patch
    missing = [max(0, window - side) for window, side in zip(size, image.shape[1:], strict=True)]
    around = [end for gap in reversed(missing) for end in (gap // 2, gap - gap // 2)]
    padded = functional.pad(image.float()[None], around, mode="replicate")[0]
    starts = list(product(*(_starts(side, window) for side, window in zip(padded.shape[1:], size, strict=True))))
    total, mass = torch.zeros(3, *padded.shape[1:]), torch.zeros(1, *padded.shape[1:])
    at_once = 16 if len(patch) == 2 else 1
    for first in range(0, len(starts), at_once):
        places = [(slice(None), *(slice(a, a + n) for a, n in zip(start, size, strict=True))) for start in starts[first : first + at_once]]
        windows = torch.stack([padded[place] for place in places])
        windows = windows[:, :, 0] if len(patch) == 2 else windows
        windows = windows.contiguous(memory_format=torch.channels_last) if len(patch) == 2 else windows
        answers = torch.stack([network(windows.flip(axes)).softmax(1).flip(axes) for axes in mirrored]).mean(0)
        for place, answer in zip(places, answers, strict=True):
            total[place] += (answer[:, None] if len(patch) == 2 else answer) * _gaussian(size)
            mass[place] += _gaussian(size)
    cut = [slice((long - side) // 2, (long - side) // 2 + side) for long, side in zip(padded.shape[1:], image.shape[1:], strict=True)]
    return (total / mass)[(slice(None), *cut)]


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(3, 21), st.integers(3, 21)),
    patch=st.sampled_from([(8, 8), (6, 10), (4, 8, 8), (3, 6, 10)]),
    channels=st.sampled_from([1, 3]),
    members=st.integers(1, 4),
    mirrored=st.sampled_from([MIRRORED, MIRRORED[:1], MIRRORED[2:3]]),
    large=st.sampled_from([0, 2**40]),
)
def test_a_volume_in_files_is_answered_as_one_in_memory(shape, patch, channels, members, mirrored, large) -> None:
    networks: list[Any] = [Tiny(len(patch), channels, seed) for seed in range(members)]
    image = torch.randn(channels, *shape, generator=torch.Generator().manual_seed(0)).half()
    wanted = torch.stack([held_whole(network, image, patch, mirrored) for network in networks]).mean(0)
    with pytest.MonkeyPatch.context() as change:
        change.setattr(HOUSE, "LARGE", large)
        found = mean_of(segment(network, image, patch=patch, mirrored=mirrored) for network in networks)
    assert torch.equal(found, wanted)
    assert np.allclose(found.sum(0), 1, atol=1e-5)
    assert count_windows(shape, patch) >= shape[0] // patch[-3] if len(patch) == 3 else shape[0]
