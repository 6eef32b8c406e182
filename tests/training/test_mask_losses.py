"""Losses of masks against slow references."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tabib.training.mask_losses import MaskLoss, signed_distances


def made(seed: int, *shape: int, structures: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (2, 1 + structures, *shape) and their truth."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(2, 1 + structures, *shape)) * 2
    return torch.from_numpy(logits).float(), torch.from_numpy(random.integers(0, 1 + structures, (2, *shape)))


def slow_distances(inside: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Every voxel against every voxel of the other side."""
    if not inside.any() or inside.all():
        return np.zeros(inside.shape)
    places = {side: np.argwhere(inside == side) * np.array(spacing) for side in (False, True)}
    result = np.zeros(inside.shape)
    for place in product(*map(range, inside.shape)):
        nearest = np.sqrt(((places[not inside[place]] - np.array(place) * spacing) ** 2).sum(1)).min()
        result[place] = 1 - nearest if inside[place] else nearest
    return result


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), share=st.floats(0, 1), dimensions=st.sampled_from([2, 3]))
def test_distances_are_those_of_every_pair_of_voxels(seed: int, share: float, dimensions: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(1, 3, (1, 4, 6, 7)) * (random.random((1, 4, 6, 7)) < share)
    got = signed_distances(torch.from_numpy(truth), 2, dimensions=dimensions, thickness=2.5)
    assert got.shape == (1, 2, 4, 6, 7)
    for structure in (1, 2):
        inside = truth[0] == structure
        slices = [inside] if dimensions == 3 else list(inside)
        expected = [slow_distances(each, (2.5, 1, 1)[-dimensions:]) for each in slices]
        np.testing.assert_allclose(got[0, structure - 1].reshape(np.shape(expected)), expected, atol=1e-5)


def test_the_boundary_loss_is_its_formula_and_nothing_at_the_truth() -> None:
    logits, truth = made(0, 9, 8)
    dice = MaskLoss("dice")(logits, truth)
    total = 0.0
    for image, structure in product(range(2), (1, 2)):
        inside = truth[image].numpy() == structure
        said = torch.softmax(logits[image].double(), 0)[structure].numpy()
        total += (slow_distances(inside, (1, 1)) * (said - inside)).sum()
    assert float(MaskLoss("dice_boundary")(logits, truth) - dice) == pytest.approx(0.01 * total / (2 * 2 * 72), rel=1e-4)
    right = 100.0 * torch.nn.functional.one_hot(truth, 3).movedim(-1, 1)
    assert float(MaskLoss("dice_boundary")(right, truth)) == pytest.approx(0, abs=1e-6)


def test_an_island_far_away_costs_more_than_one_at_the_edge() -> None:
    truth = torch.zeros(1, 20, 40, dtype=torch.int64)
    truth[0, 5:15, 2:12] = 1
    losses = []
    for column in (12, 36):
        said = truth.clone()
        said[0, 8:11, column : column + 3] = 1
        losses.append(MaskLoss("dice_boundary")(10.0 * torch.nn.functional.one_hot(said, 2).movedim(-1, 1), truth))
    assert losses[1] > losses[0] + 0.001


def test_the_losses_are_their_formulas() -> None:
    logits, truth = made(1, 7, 6)
    probability = torch.softmax(logits.double(), 1).numpy()
    own = np.take_along_axis(probability, truth.numpy()[:, None], 1)
    cross, focal = -np.log(own).mean(), -((1 - own) ** 2 * np.log(own)).mean()
    dice, tversky = [], []
    for structure in (1, 2):
        said, real = probability[:, structure], truth.numpy() == structure
        both = (said * real).sum()
        dice.append(1 - (2 * both + 1) / ((said**2).sum() + real.sum() + 1))
        tversky.append(1 - (both + 1) / (both + 0.3 * (said * ~real).sum() + 0.7 * ((1 - said) * real).sum() + 1))
    expected = {
        "cross_entropy": cross,
        "focal": focal,
        "dice": np.mean(dice),
        "tversky": np.mean(tversky),
        "dice_cross_entropy": np.mean(dice) + cross,
    }
    for kind, value in expected.items():
        assert float(MaskLoss(kind)(logits, truth)) == pytest.approx(value, rel=1e-5), kind  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("kind", ["dice_cross_entropy", "dice_boundary"])
def test_lower_levels_count_half_of_those_above(kind: str) -> None:
    logits, truth = made(2, 8, 8)
    other, _ = made(3, 8, 8)
    loss = MaskLoss(kind)  # pyright: ignore[reportArgumentType]
    expected = (2 * loss(logits, truth) + loss(other, truth)) / 3
    torch.testing.assert_close(loss(torch.stack([logits, other], dim=1), truth), expected)
