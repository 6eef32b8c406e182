from __future__ import annotations

import numpy as np
import pytest
import torch

from tabib.config import ModelPart, Segmentation
from tabib.errors import StudyError
from tabib.explanation.feature_maps import MAPS, draw_maps, feature_maps, level_maps
from tabib.training.networks import Network, build_network
from tabib.training.segmenters import Form, build_segmenter

IMAGE = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network() -> Network:
    return build_network(ModelPart(network="small_resnet"), classes=2, channels=1, height=32, width=32).eval()


def test_maps_of_a_layer_are_what_the_layer_says_those_that_vary_most_first(network: Network) -> None:
    maps = feature_maps(network, IMAGE, ["stem", "stage2.0"])
    assert {name: array.shape for name, array in maps.items()} == {"stem": (16, 32, 32), "stage2.0": (16, 16, 16)}
    with torch.no_grad():
        whole = network.features.get_submodule("stem")(IMAGE)[0].numpy()
    spread = np.sort(whole.var((1, 2)))[::-1]
    np.testing.assert_allclose(maps["stem"].var((1, 2)), spread[:MAPS], rtol=1e-4)


def test_a_layer_that_is_not_there_is_refused_with_the_nearest(network: Network) -> None:
    with pytest.raises(StudyError, match=r"'stge2'.*stage2"):
        feature_maps(network, IMAGE, ["stge2"])
    with pytest.raises(StudyError, match="no map over the image"):
        feature_maps(network, IMAGE, ["flatten"])


def test_maps_are_drawn_in_a_grid_each_in_its_own_range() -> None:
    maps = np.stack([np.array([[0.0, 1.0], [2.0, 4.0]]), np.full((2, 2), 7.0), np.array([[-1.0, 0.0], [0.0, 0.0]])])
    drawn = draw_maps(maps, side=12)
    assert drawn.shape == (10, 10)
    assert drawn[:4, :4].tolist() == np.kron([[0, 64], [128, 255]], np.ones((2, 2), int)).tolist()
    assert drawn[:5, 5:].max() == 0, "a flat map"
    assert drawn[5:9, :4].tolist() == np.kron([[0, 255], [255, 255]], np.ones((2, 2), int)).tolist()
    assert drawn[5:, 5:].max() == 0, "no fourth map"


def segmenter(patch: tuple[int, ...], **model: object) -> Network:
    values = {"task": "segmentation", "name": "s", "data": {"folder": "x", "labels": {"a": 1, "b": 2}}, "model": model}
    spacing = (1.0,) * len(patch)
    return build_segmenter(Segmentation.model_validate(values).model, Form(1, 3, patch, spacing), structures=["a", "b"])[0]


def test_levels_of_a_segmenter_go_down_and_up_again() -> None:
    network = segmenter((32, 32), filters=[8, 16, 32])
    maps = level_maps(network, IMAGE, outputs=3)
    assert {name: each.shape for name, each in maps.items()} == {
        "down.0": (8, 32, 32),
        "down.1": (16, 16, 16),
        "down.2": (16, 8, 8),
        "up.1": (16, 16, 16),
        "up.0": (8, 32, 32),
    }
    with torch.no_grad():
        whole = network.features(IMAGE)[0]
    assert np.array_equal(np.sort(maps["up.0"].ravel()), np.sort(whole.numpy().ravel())), "the last level is what the answer is made of"


@pytest.mark.parametrize("network", ["attention_unet", "dynunet", "segresnet"])
def test_levels_of_networks_of_others_have_each_size(network: str) -> None:
    sides = [each.shape[1] for each in level_maps(segmenter((32, 32), network=network), IMAGE, outputs=3).values()]
    lowest = sides.index(min(sides))
    assert sides[: lowest + 1] == [32 // 2**level for level in range(lowest + 1)]
    assert (lowest >= 2, sides[-1]) == (True, 32)


def test_a_block_is_shown_at_the_slice_that_is_asked_for() -> None:
    network = segmenter((8, 16, 16), filters=[8, 16]).eval()
    block = torch.rand(1, 1, 8, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = network.features(block)[0]
    for number in (1, 6):
        maps = level_maps(network, block, outputs=3, depth=(number + 0.5) / 8)
        assert np.array_equal(np.sort(maps["up.0"].ravel()), np.sort(whole[:, number].numpy().ravel()))
        assert maps["down.1"].shape == (16, 8, 8)
