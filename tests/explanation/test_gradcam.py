from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tabib.config import ModelPart
from tabib.explanation.gradcam import class_scores, gradcam, to_size
from tabib.explanation.layers import as_maps, last_map
from tabib.training.networks import Network, build_network


def pooled(features: nn.Module, weights: list[list[float]]) -> Network:
    """A network with a linear head of known weights (outputs, features)."""
    head = nn.Linear(len(weights[0]), len(weights), bias=False)
    head.weight = nn.Parameter(torch.tensor(weights))
    network = Network(
        features, nn.Sequential(head), mean=torch.zeros(1, 1, 1, 1), std=torch.ones(1, 1, 1, 1), source="none", source_sha256=None
    )
    return network.requires_grad_(False)


def average(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def random_images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_where_maps_are_averaged_it_is_the_class_activation_map() -> None:
    # Zhou et al. 2016: with average pooling and a linear head the map is the weighted sum of the maps (Selvaraju et al., section 3.1).
    network = pooled(average(nn.Identity()), [[1.0, -2.0, 0.5], [0.0, 1.0, 0.0], [-1.0, -1.0, -1.0]])
    images = random_images(3, 3, 4, 5)
    heat = gradcam(network, images, torch.tensor([0, 1, 2]), layer="0")
    for image, weights, found in zip(images, network.head[0].weight, heat, strict=True):  # pyright: ignore[reportIndexIssue, reportArgumentType]
        by_hand = torch.einsum("c,chw->hw", weights, image).clamp(min=0)
        torch.testing.assert_close(found, by_hand / by_hand.max().clamp(min=1e-12))
    assert heat[2].max() == 0, "nothing speaks for the third class"


def test_one_output_and_two_say_the_same_of_two_classes() -> None:
    images, classes = random_images(4, 2, 4, 4) - 0.5, torch.tensor([0, 1, 0, 1])
    one = gradcam(pooled(average(nn.Identity()), [[1.0, -1.0]]), images, classes, layer="0")
    two = gradcam(pooled(average(nn.Identity()), [[0.3, 0.4], [1.3, -0.6]]), images, classes, layer="0")
    torch.testing.assert_close(one, two)
    assert one.flatten(1).amax(1).tolist() == pytest.approx([1, 1, 1, 1])
    torch.testing.assert_close(class_scores(torch.tensor([[2.0]])), torch.tensor([[-2.0, 2.0]]))
    torch.testing.assert_close(class_scores(torch.tensor([[1.0, 2.0, 3.0]])), torch.tensor([[1.0, 2.0, 3.0]]))


def test_a_label_is_asked_by_its_own_logit_even_where_there_are_two() -> None:
    images = random_images(2, 2, 4, 4)
    both = gradcam(pooled(average(nn.Identity()), [[1.0, 0.5], [5.0, 5.0]]), images, torch.tensor([0, 0]), layer="0", several=True)
    alone = gradcam(pooled(average(nn.Identity()), [[1.0, 0.5]]), images, torch.tensor([0, 0]), layer="0", several=True)
    torch.testing.assert_close(both, alone)
    assert both.amax() == 1, "the other label, of which more speaks, takes nothing away"


def test_layers_that_work_in_place_after_the_map_do_no_harm() -> None:
    images, classes = random_images(2, 2, 4, 4), torch.tensor([1, 1])
    after = nn.Sequential(nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    heat = gradcam(pooled(nn.Sequential(nn.Identity(), after), [[1.0, 0.5]]), images, classes, layer="0")
    plain = gradcam(pooled(average(nn.Identity()), [[1.0, 0.5]]), images, classes, layer="0")
    torch.testing.assert_close(heat, plain)


def test_maps_of_members_are_meaned_and_brought_to_size() -> None:
    first, second = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[1.0, 0.5]]])
    heat = to_size([first, second], 2, 4)
    assert heat.shape == (1, 2, 4)
    np.testing.assert_allclose(heat[0, 0, [0, -1]], [1, 0.25])
    assert to_size([torch.zeros(1, 2, 2)], 4, 4).max() == 0


NETWORKS = {
    # name: (height, width, grid of its last map)
    "small_resnet": (32, 48, (8, 12)),
    "resnet10t": (64, 96, (2, 3)),
    "mobilenetv3_small_050": (64, 64, (2, 2)),
    "convnext_atto": (64, 96, (2, 3)),
    "vit_tiny_patch16_224": (64, 96, (4, 6)),
    "swin_tiny_patch4_window7_224": (64, 64, (2, 2)),
    "levit_128s": (224, 224, (4, 4)),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if "swin" in name or "levit" in name else name for name in NETWORKS]
)
def test_every_kind_of_network_has_a_last_map(name: str) -> None:
    height, width, grid = NETWORKS[name]
    network = build_network(ModelPart(network=name), classes=2, channels=1, height=height, width=width)
    images = random_images(2, 1, height, width)
    layer = last_map(network.eval(), images)
    assert layer is not None
    against, for_it = (gradcam(network, images, torch.full((2,), each), layer=layer) for each in (0, 1))
    assert tuple(for_it.shape) == (2, *grid)
    both = torch.maximum(against, for_it)
    assert both.amin() >= 0
    assert both.amax((1, 2)).tolist() == [1, 1], "what does not speak for one class speaks for the other"
    assert torch.minimum(against, for_it).amax() == 0
    alone = gradcam(network, images[1:], torch.tensor([1]), layer=layer)
    torch.testing.assert_close(alone[0], for_it[1], rtol=1e-3, atol=1e-4)


def test_a_network_without_a_map_has_none() -> None:
    network = pooled(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), [[1.0, 1.0, 1.0]])
    assert last_map(network, random_images(2, 1, 4, 4)) is None


@pytest.mark.parametrize(
    ("shape", "prefix", "maps"),
    [
        ((2, 5, 8, 12), None, (2, 5, 8, 12)),
        ((2, 8, 12, 5), None, (2, 5, 8, 12)),  # channels last
        ((2, 5, 1, 1), None, None),
        ((2, 96, 7), None, (2, 7, 8, 12)),
        ((2, 97, 7), None, (2, 7, 8, 12)),  # a class token
        ((2, 101, 7), 5, (2, 7, 8, 12)),  # and four registers
        ((2, 101, 7), 4, None),
        ((2, 13, 7), None, (2, 7, 2, 3)),
        ((2, 5), None, None),
        ((1, 5, 8, 12), None, None),  # not of these images
    ],
)
def test_outputs_are_seen_as_maps(shape: tuple[int, ...], prefix: int | None, maps: tuple[int, ...] | None) -> None:
    network = pooled(nn.Identity(), [[1.0]])
    if prefix is not None:
        network.features.num_prefix_tokens = prefix  # pyright: ignore[reportArgumentType]
    found = as_maps(torch.zeros(shape), torch.zeros(2, 1, 64, 96), network)
    assert (found if found is None else tuple(found.shape)) == maps


def test_tokens_lie_row_by_row_after_what_belongs_to_no_place() -> None:
    tokens = torch.arange(7.0)[None, :, None].expand(1, 7, 2)
    found = as_maps(tokens, torch.zeros(1, 1, 20, 30), pooled(nn.Identity(), [[1.0]]))
    assert found is not None
    assert found[0, 0].tolist() == [[1, 2, 3], [4, 5, 6]]
