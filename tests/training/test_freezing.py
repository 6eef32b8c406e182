"""Freezing: exact counts, the order of the forward pass, and that frozen layers stand still."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tabib.config import Freeze, ModelPart
from tabib.errors import StudyError
from tabib.training.freezing import freeze, set_inference, set_training
from tabib.training.networks import Network, build_network


@functools.cache
def report_b() -> Network:
    """EfficientNetB2 with the head of report B; every test freezes it anew."""
    model = ModelPart(network="tf_efficientnet_b2", head=[128, 64], dropout=[0.3, 0.2])
    return build_network(model, classes=2, channels=3, height=32, width=32)


SAMPLE = torch.zeros(1, 3, 32, 32)


@pytest.mark.parametrize(
    ("rule", "trainable", "through"),
    [
        (None, 7_889_667, None),
        ("all_but_head", 188_673, "bn2"),
        (Freeze(through="blocks.0.0.bn1"), 7_888_387, "blocks.0.0.bn1"),
        (Freeze(through="blocks.5.0.bn1"), 6_383_963, "blocks.5.0.bn1"),
        (Freeze(trainable=6_383_963), 6_383_963, "blocks.5.0.bn1"),
        (Freeze(trainable=6_384_600), 6_383_963, "blocks.5.0.bn1"),
        (Freeze(trainable=7_888_387), 7_888_387, "blocks.0.0.bn1"),
        (Freeze(trainable=10**9), 7_889_667, None),
        (Freeze(trainable=1), 188_673, "bn2"),
    ],
)
def test_counts_of_report_b_to_the_digit(rule: Freeze | None, trainable: int, through: str | None) -> None:
    network = report_b()
    counts = freeze(network, rule, sample=SAMPLE)
    assert (counts.total, counts.trainable, counts.frozen, counts.through) == (7_889_667, trainable, 7_889_667 - trainable, through)
    assert sum(weight.numel() for weight in network.parameters() if weight.requires_grad) == trainable


def test_a_block_is_frozen_whole_with_all_before_it() -> None:
    network = report_b()
    freeze(network, Freeze(through="blocks.1"), sample=SAMPLE)
    trains = {name for name, weight in network.features.named_parameters() if weight.requires_grad}
    expected = {
        name for name, _ in network.features.named_parameters() if not name.startswith(("conv_stem.", "bn1.", "blocks.0.", "blocks.1."))
    }
    assert trains == expected


@pytest.mark.parametrize("rule", [Freeze(through="blocks.3"), Freeze(trainable=6_383_963), "all_but_head", None])
def test_batch_norm_rests_exactly_where_its_weights_are_frozen(rule: Freeze | None) -> None:
    network = report_b()
    freeze(network, rule, sample=SAMPLE)
    set_training(network)
    norms = [module for module in network.features.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [module.training for module in norms] == [module.weight.requires_grad for module in norms]
    assert network.head.training
    set_inference(network)
    assert not any(module.training for module in network.modules())


@pytest.mark.parametrize("name", ["blocks.0.0.bn9", "", "head.0", "block"])
def test_an_unknown_layer_names_the_nearest(name: str) -> None:
    with pytest.raises(StudyError, match=r"through is .*The nearest are: .*b"):
        freeze(report_b(), Freeze(through=name), sample=SAMPLE)


class Crosswise(nn.Module):
    """Layers declared in another order than they run in, one of them never, and a weight of the network's own."""

    def __init__(self) -> None:
        super().__init__()
        self.third = nn.Linear(4, 4)
        self.never = nn.Linear(4, 4)
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.token = nn.Parameter(torch.zeros(4))

    def forward(self, images: Tensor) -> Tensor:
        return self.third(self.second(self.first(images + self.token)))


def test_the_order_is_that_of_the_forward_pass() -> None:
    half = torch.full((1,), 0.5)
    network = Network(Crosswise(), nn.Linear(4, 1), mean=half, std=half, source="none", source_sha256=None)
    freeze(network, Freeze(through="second"), sample=torch.zeros(1, 4))
    frozen = {name for name, weight in network.features.named_parameters() if not weight.requires_grad}
    assert frozen == {"token", "first.weight", "first.bias", "second.weight", "second.bias"}
    counts = freeze(network, "all_but_head", sample=torch.zeros(1, 4))
    assert counts.trainable == 5
    assert not network.features.get_parameter("never.weight").requires_grad


def test_learning_the_order_changes_nothing() -> None:
    network = build_network(ModelPart(), classes=2, channels=1, height=16, width=16)
    set_training(network)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    freeze(network, Freeze(through="stage1"), sample=torch.rand(2, 1, 16, 16))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_frozen_layers_stand_still_while_the_rest_trains() -> None:
    network = build_network(ModelPart(), classes=2, channels=1, height=16, width=16)
    freeze(network, Freeze(through="stage2.0"), sample=torch.zeros(1, 1, 16, 16))
    set_training(network)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.AdamW([weight for weight in network.parameters() if weight.requires_grad], lr=0.1, weight_decay=0.5)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.randn(8, 1, 16, 16)).square().mean().backward()
        optimizer.step()
        average.update_parameters(network)
    still = ("features.stem.", "features.stage1.", "features.stage2.0.")
    for states in (network.state_dict(), average.module.state_dict()):
        for name, tensor in states.items():
            assert torch.equal(tensor, before[name]) == name.startswith(still), name
