"""The summary of a network: counts and costs that are known by hand, by publication, and by PyTorch's own counter."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tabib.config import Segmentation, Study
from tabib.errors import StudyError
from tabib.training.networks import build_network
from tabib.training.segment import build_for
from tabib.training.summary import Summary, summarise_network, summarise_segmenter


def study(network: str, *, side: int = 64, channels: int | str = 3, **model: object) -> Study:
    return Study.model_validate(
        {
            "name": "summary",
            "data": {"folder": "films"},
            "input": {"height": side, "width": side, "channels": channels},
            "model": {"network": network, **model},
        }
    )


def summarise(network: str, *, classes: int = 2, side: int = 64, channels: int | str = 3, **model: object) -> Summary:
    return summarise_network(study(network, side=side, channels=channels, **model), classes=classes)


def test_a_network_known_by_hand() -> None:
    summary = summarise("mri_cnn_test1", channels=1)
    rows = {layer.name: (layer.kind, layer.shape, layer.weights, layer.statistics, layer.multiply_adds) for layer in summary.layers}
    assert list(rows)[:5] == ["features.conv1", "features.relu1", "features.batch_norm1", "features.dropout1", "features.pool1"]
    assert rows["features.conv1"] == ("Conv2d", (32, 64, 64), 320, 0, 9 * 32 * 64 * 64)
    assert rows["features.batch_norm1"] == ("BatchNorm2d", (32, 64, 64), 64, 64, 0)
    assert rows["features.conv2"] == ("Conv2d", (32, 32, 32), 9_248, 0, 9 * 32 * 32 * 32 * 32)
    assert rows["features.dense1"] == ("Linear", (128,), 1_048_704, 0, 8192 * 128)
    assert rows["head.0"] == ("Linear", (2,), 258, 0, 256)
    assert (summary.weights, summary.statistics) == (1_058_914, 384)
    assert summary.multiply_adds == sum(row[-1] for row in rows.values())


@pytest.mark.parametrize(
    ("network", "published"),  # multiply-adds at 224 x 224, in thousand millions: the table of torchvision's weights
    [("alexnet_2014", 0.71), ("vgg16", 15.47), ("resnet50", 4.09)],
)
def test_costs_are_those_that_are_published(network: str, published: float) -> None:
    summary = summarise(network, classes=1000, side=224)
    assert round(summary.multiply_adds / 1e9, 2) == published


@pytest.mark.parametrize("network", ["small_resnet", "tf_efficientnet_lite0", "vit_tiny_patch16_224", "blast_cnn"])
def test_layers_add_up_to_the_whole(network: str) -> None:
    summary = summarise(network)
    built = build_network(study(network).model, classes=2, channels=3, height=64, width=64).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        built(torch.zeros(1, 3, 64, 64))
    assert summary.multiply_adds == counter.get_total_flops() // 2
    assert sum(layer.weights for layer in summary.layers) == summary.weights == sum(weight.numel() for weight in built.parameters())
    assert summary.trainable == summary.weights


def test_what_is_frozen_does_not_train() -> None:
    summary = summarise("tf_efficientnet_b2", head=[128, 64], dropout=[0.3, 0.2], freeze={"through": "blocks.0.0.bn1"})
    assert (summary.weights, summary.trainable) == (7_889_667, 7_888_387)
    assert sum(layer.trainable for layer in summary.layers) == summary.trainable
    frozen = [layer.name for layer in summary.layers if layer.weights > layer.trainable]
    assert frozen == ["features.conv_stem", "features.bn1", "features.blocks.0.0.conv_dw", "features.blocks.0.0.bn1"]


def test_channels_are_asked_for() -> None:
    with pytest.raises(StudyError, match=r"input\.channels is auto"):
        summarise("small_resnet", channels="auto")


def test_a_summary_is_plain_values() -> None:
    summary = asdict(summarise("small_resnet", channels=1))
    assert math.isclose(summary["multiply_adds"], sum(layer["multiply_adds"] for layer in summary["layers"]))


def segmentation(shape: dict[str, object], **model: object) -> Segmentation:
    return Segmentation.model_validate(
        {
            "task": "segmentation",
            "name": "summary",
            "data": {"folder": "nowhere", "labels": {"disc": 1, "square": 2}},
            "input": {"channels": 1, "spacing_mm": "keep", **shape},
            "model": model,
        }
    )


def test_a_segmenter_known_by_hand() -> None:
    summary = summarise_segmenter(segmentation({"patch": [32, 48]}, filters=[4, 8], norm=None))
    rows = {layer.name: (layer.shape, layer.weights, layer.multiply_adds) for layer in summary.layers if layer.weights}
    assert rows == {
        "features.down.0.0": ((4, 32, 48), 9 * 4 + 4, 9 * 4 * 32 * 48),
        "features.down.0.2": ((4, 32, 48), 9 * 16 + 4, 9 * 16 * 32 * 48),
        "features.down.1.0": ((8, 16, 24), 9 * 32 + 8, 9 * 32 * 16 * 24),
        "features.down.1.2": ((8, 16, 24), 9 * 64 + 8, 9 * 64 * 16 * 24),
        "features.grow.0": ((4, 32, 48), 4 * 32 + 4, 4 * 32 * 16 * 24),
        "features.up.0.0": ((4, 32, 48), 9 * 32 + 4, 9 * 32 * 32 * 48),
        "features.up.0.2": ((4, 32, 48), 9 * 16 + 4, 9 * 16 * 32 * 48),
        "head": ((3, 32, 48), 4 * 3 + 3, 12 * 32 * 48),
    }
    assert (summary.network, summary.image, summary.classes, summary.patch) == ("unet", (1, 32, 48), 3, True)


@pytest.mark.parametrize(
    ("shape", "model"),
    [
        ({"patch": [64, 64]}, {"network": "attention_unet"}),
        ({"patch": [64, 64]}, {"network": "unet", "encoder": "tf_efficientnet_lite0", "weights": "imagenet", "freeze": "encoder"}),
        ({"patch": [64, 64]}, {"network": "dynunet", "deep_supervision": True}),
        ({"dimensions": 3, "patch": [8, 32, 32], "spacing_mm": [6, 1.5, 1.5]}, {"network": "unet"}),
        ({"dimensions": 3, "patch": [16, 32, 32]}, {"network": "vnet"}),
        ({"dimensions": 3, "patch": [16, 32, 32]}, {"network": "segresnet"}),
    ],
    ids=["attention_unet", "encoder", "dynunet", "unet 3-D", "vnet 3-D", "segresnet 3-D"],
)
def test_layers_of_segmenters_add_up_to_the_whole(shape: dict[str, object], model: dict[str, object]) -> None:
    asked = segmentation(shape, **model)
    summary = summarise_segmenter(asked)
    free = asked.model_copy(update={"model": asked.model.model_copy(update={"weights": None})})
    built, _ = build_for(free, seed=0, device=torch.device("cpu"))
    built.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        built(torch.zeros(1, *summary.image))
    assert summary.multiply_adds == counter.get_total_flops() // 2
    assert sum(layer.weights for layer in summary.layers) == summary.weights == sum(weight.numel() for weight in built.parameters())
    assert summary.trainable == sum(weight.numel() for weight in built.parameters() if weight.requires_grad)
    assert all(layer.multiply_adds >= 0 for layer in summary.layers)


@pytest.mark.parametrize("name", ["channels", "patch", "spacing_mm"])
def test_what_a_segmenter_sees_is_asked_for(name: str) -> None:
    with pytest.raises(StudyError, match=rf"input\.{name} is auto"):
        summarise_segmenter(segmentation({"patch": [32, 32], name: "auto"}))
