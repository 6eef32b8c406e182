"""Batch-norm statistics are measured for the weights that are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tabib.config import Freeze, ModelPart
from tabib.training.batches import Samples
from tabib.training.freezing import freeze, set_inference
from tabib.training.networks import Network, build_network
from tabib.training.norms import measure_batch_norms

IMAGES = torch.randint(0, 256, (12, 1, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def network() -> Network:
    return build_network(ModelPart(network="tiny", dropout=[0.5]), classes=2, channels=1, height=20, width=20)


def measure(network: Network, *, batch: int = 12) -> None:
    content = np.arange(12, dtype=np.uint64)
    statistics = torch.zeros(12, 6)
    here, labels = torch.device("cpu"), torch.zeros(12)
    samples = Samples(images=IMAGES, positions=torch.arange(12), statistics=statistics, content=content, labels=labels, device=here)
    measure_batch_norms(network, samples, batch=batch, intensity="unit", seed=0, epoch=1)


def norms(network: Network) -> list[nn.BatchNorm2d]:
    return [norm for norm in network.modules() if isinstance(norm, nn.BatchNorm2d)]


def test_statistics_are_those_of_the_present_weights(network: Network) -> None:
    first = norms(network)[0]
    first.running_mean = torch.full((8,), 1e6)
    measure(network)
    seen = next(iter(network.features.children()))(IMAGES / 255)
    torch.testing.assert_close(first.running_mean, seen.mean((0, 2, 3)))
    torch.testing.assert_close(first.running_var, seen.var((0, 2, 3)))


def test_weights_and_momentum_stay(network: Network) -> None:
    before = [weight.clone() for weight in network.parameters()]
    measure(network, batch=5)
    assert all(torch.equal(one, other) for one, other in zip(before, network.parameters(), strict=True))
    assert [norm.momentum for norm in norms(network)] == [0.1, 0.1]
    assert all(weight.grad is None for weight in network.parameters())


def test_frozen_layers_keep_theirs(network: Network) -> None:
    freeze(network, Freeze(through="1"), sample=torch.zeros(2, 1, 20, 20))
    frozen, free = norms(network)
    measure(network)
    assert torch.equal(torch.as_tensor(frozen.running_mean), torch.zeros(8))
    assert not torch.equal(torch.as_tensor(free.running_mean), torch.zeros(8))


def test_norms_of_dense_layers_are_measured_without_dropout() -> None:
    network = build_network(ModelPart(network="mri_cnn_selected", dropout=[0.9, 0, 0]), classes=2, channels=1, height=20, width=20)
    measure(network)
    seen: list[torch.Tensor] = []
    (dense,) = (norm for norm in network.modules() if isinstance(norm, nn.BatchNorm1d) and norm.num_features == 128)
    dense.register_forward_hook(lambda module, given, result: seen.append(given[0]))
    set_inference(network)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.train()
    with torch.no_grad():
        network.features(IMAGES / 255)
    torch.testing.assert_close(dense.running_mean, seen[0].mean(0), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(dense.running_var, seen[0].var(0), atol=1e-3, rtol=1e-3)
