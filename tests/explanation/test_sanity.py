from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from tabib.config import ModelPart
from tabib.explanation.sanity import MapCheck, check_maps, randomise, rank_correlation, structural_similarity
from tabib.training.networks import Network, build_network


@pytest.fixture(scope="module")
def network() -> Network:
    return build_network(ModelPart(network="tiny", head=[4]), classes=3, channels=1, height=20, width=20).requires_grad_(False).eval()


def test_randomising_goes_down_from_the_answer_and_leaves_the_network_itself(network: Network) -> None:
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    changed = {}
    for depth in ("head", "half", "all"):
        other = randomise(network, depth, seed=1)
        changed[depth] = {
            name.split(".")[0] + "." + name.split(".")[1]
            for name, weight in other.named_parameters()
            if not torch.equal(weight, before[name])
        }
        again = randomise(network, depth, seed=1)
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(other.parameters(), again.parameters(), strict=True))
        assert not torch.equal(next(randomise(network, depth, seed=2).head.parameters()), next(other.head.parameters()))
        assert torch.isfinite(other(torch.rand(4, 1, 20, 20))).all()
    assert all(torch.equal(weight, before[name]) for name, weight in network.named_parameters())
    assert {name.split(".")[0] for name in changed["head"]} == {"head"}
    assert changed["head"] < changed["half"] < changed["all"]


def test_maps_that_ignore_the_weights_stay_alike_and_maps_of_weights_do_not(network: Network) -> None:
    images = np.random.default_rng(0).random((5, 20, 20))
    edges = check_maps([network], lambda members: np.abs(np.diff(images, axis=1)), seed=0)
    assert [(each.depth, each.rank_correlation, each.structural_similarity) for each in edges.likeness] == [
        (depth, pytest.approx(1), pytest.approx(1)) for depth in ("head", "half", "all")
    ]

    def first_kernels(members: object) -> np.ndarray:
        return np.stack([np.abs(member.features[0].weight[:, 0].numpy()).mean(0) for member in members])  # pyright: ignore[reportGeneralTypeIssues]

    kernels = check_maps([network, network], first_kernels, seed=0)
    assert [round(each.rank_correlation, 3) for each in kernels.likeness[:2]] == [1, 1]
    assert abs(kernels.likeness[2].rank_correlation) < 0.5


def test_flat_maps_are_counted_and_say_nothing(network: Network) -> None:
    images = np.random.default_rng(0).random((5, 20, 20))
    alone = check_maps([network], lambda members: images[:3], seed=0)
    images[3:] = [[[0.0]], [[1.0]]]
    found = check_maps([network], lambda members: images, seed=0)
    assert (found.maps, found.flat, found.compared) == (5, 2, 3)
    assert found.likeness == alone.likeness
    assert check_maps([network], lambda members: np.zeros((5, 20, 20)), seed=0) == MapCheck(5, 5, 0, [])


def test_random_weights_are_drawn_anew_where_their_maps_are_flat(network: Network) -> None:
    calls: list[int] = []

    def maps(members: object) -> np.ndarray:
        """The first random weights at each depth show nothing of the first map, and no weights but the trained ones anything of the last."""
        shown = np.random.default_rng(len(calls)).random((3, 20, 20))
        calls.append(len(calls))
        if len(calls) > 1:
            shown[2] = 0
            shown[0] *= len(calls) not in (2, 6, 10)
        return shown

    found = check_maps([network], maps, seed=0)
    assert (found.maps, found.flat, found.compared) == (3, 0, 2)
    assert len(calls) == 1 + 3 * 4, "tried four times at each depth for the map that always is flat"


def test_measures_of_likeness_are_known() -> None:
    random = np.random.default_rng(1)
    first, second = random.random((9, 11)), random.random((9, 11)).round(1)
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first.ravel(), second.ravel())[0])
    assert structural_similarity(first, first) == pytest.approx(1)
    assert structural_similarity(first, 1 - first) < 0
    # One window of 7 x 7, by the formula of Wang et al.
    a, b = random.random((7, 7)), random.random((7, 7))
    tiled = [np.pad(each, 21, mode="symmetric") for each in (a, b)]
    by_hand = [
        (2 * p.mean() * q.mean() + 1e-4)
        * (2 * ((p * q).mean() - p.mean() * q.mean()) + 9e-4)
        / ((p.mean() ** 2 + q.mean() ** 2 + 1e-4) * (p.var() + q.var() + 9e-4))
        for row in range(7)
        for column in range(7)
        for p, q in [tuple(each[18 + row : 25 + row, 18 + column : 25 + column] for each in tiled)]
    ]
    assert structural_similarity(a, b) == pytest.approx(np.mean(by_hand))
