"""Steps, rates and averages against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, OneCycleLR, ReduceLROnPlateau, SequentialLR

from tabib.config import ModelPart, Plateau, Training
from tabib.training.networks import Network, build_network
from tabib.training.optimise import ReducedRate, build_optimizer, learning_rate, reduce_on_plateau, start_average, update_average


def network() -> Network:
    return build_network(ModelPart(network="tiny"), classes=2, channels=1, height=20, width=20)


@pytest.mark.parametrize("steps", [4, 10, 137])
def test_one_cycle_is_pytorchs(steps: int) -> None:
    training = Training(schedule="one_cycle", learning_rate=0.3)
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1)
    theirs = OneCycleLR(optimizer, max_lr=0.3, total_steps=steps, pct_start=0.3, div_factor=25, final_div_factor=1e4, cycle_momentum=False)
    for step in range(steps):
        assert learning_rate(training, 0.3, step=step, steps=steps) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < steps - 1:
            theirs.step()


@pytest.mark.parametrize("warm_up", [0.0, 0.05, 0.3])
def test_cosine_is_pytorchs(warm_up: float) -> None:
    steps, rising = 40, round(40 * warm_up)
    training = Training(schedule="cosine", learning_rate=0.3, warm_up=warm_up)
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    falling = CosineAnnealingLR(optimizer, T_max=steps - rising)
    theirs = (
        SequentialLR(optimizer, [LinearLR(optimizer, start_factor=1 / (rising + 1), total_iters=rising), falling], milestones=[rising])
        if rising
        else falling
    )
    for step in range(steps):
        assert learning_rate(training, 0.3, step=step, steps=steps) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
@pytest.mark.parametrize("warm_up", [0.0, 0.05, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_schedule_of_few_steps_is_a_rate(schedule: str, warm_up: float, steps: int) -> None:
    training = Training.model_validate({"schedule": schedule, "learning_rate": 0.3, "warm_up": warm_up})
    assert all(0 < learning_rate(training, 0.3, step=step, steps=steps) <= 0.3 for step in range(steps))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(1, 3))
def test_plateau_is_pytorchs(values: list[int], patience: int) -> None:
    rule = Plateau(factor=0.3, patience=patience, minimum=0.01)
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1)
    theirs = ReduceLROnPlateau(optimizer, factor=0.3, patience=patience, threshold=0, min_lr=0.01, eps=0)
    state = ReducedRate(1.0)
    for value in values:
        theirs.step(value)
        state = reduce_on_plateau(state, value, rule)
        assert state.rate == pytest.approx(optimizer.param_groups[0]["lr"])
    assert learning_rate(Training(schedule="plateau"), state.rate, step=0, steps=1) == state.rate


def test_plateau_never_raises_a_rate_that_began_below_its_minimum() -> None:
    state = ReducedRate(1e-7)
    for _ in range(10):
        state = reduce_on_plateau(state, 1.0, Plateau(patience=1))
    assert state.rate == 1e-7


def test_constant_is_constant() -> None:
    assert learning_rate(Training(schedule="constant", learning_rate=0.2), 9, step=7, steps=9) == 0.2


def _by_hand(optimizer: str, weight: float, gradients: list[float], *, rate: float, decay: float) -> float:
    """The papers' formulas, one weight, with `momentum` 0.8."""
    first = second = 0.0
    for step, gradient in enumerate(gradients, start=1):
        if optimizer == "adamw":
            weight -= rate * decay * weight
        else:
            gradient += decay * weight
        if optimizer == "sgd":
            first = gradient if step == 1 else 0.8 * first + gradient
            weight -= rate * (gradient + 0.8 * first)
        elif optimizer == "rmsprop":
            second = 0.9 * second + 0.1 * gradient**2
            weight -= rate * gradient / (second**0.5 + 1e-7)
        else:
            first, second = 0.8 * first + 0.2 * gradient, 0.999 * second + 0.001 * gradient**2
            epsilon = 1e-8 if optimizer == "adamw" else 1e-7
            weight -= rate * (first / (1 - 0.8**step)) / ((second / (1 - 0.999**step)) ** 0.5 + epsilon)
    return weight


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "rmsprop"])
def test_steps_are_the_papers(optimizer: str, decay: float) -> None:
    training = Training.model_validate({"optimizer": optimizer, "momentum": 0.8, "learning_rate": 0.1, "weight_decay": decay})
    layer = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(layer.weight, 0.5)
    built = build_optimizer(layer, training)
    gradients = [0.3, -0.02, 1e-7, 2.0]
    for gradient in gradients:
        layer.weight.grad = torch.tensor([[gradient]], dtype=torch.float64)
        built.step()
    assert float(layer.weight.detach()) == pytest.approx(_by_hand(optimizer, 0.5, gradients, rate=0.1, decay=decay), rel=1e-9)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_biases_and_norms_are_not_decayed(optimizer: str) -> None:
    training = Training.model_validate({"optimizer": optimizer, "weight_decay": 0.5, "learning_rate": 0.1, "momentum": 0})
    built, trained = network(), network()
    for weight in trained.parameters():
        weight.grad = torch.zeros_like(weight)
    build_optimizer(trained, training).step()
    for (name, before), after in zip(built.named_parameters(), trained.parameters(), strict=True):
        if before.ndim <= 1:
            assert torch.equal(before, after), name
        else:
            torch.testing.assert_close(after, before * (1 - 0.1 * 0.5))


def test_frozen_weights_are_not_in_the_optimizer() -> None:
    frozen = network()
    frozen.features.requires_grad_(False)
    groups = build_optimizer(frozen, Training()).param_groups
    assert sum(weight.numel() for group in groups for weight in group["params"]) == sum(
        weight.numel() for weight in frozen.head.parameters()
    )


def test_the_average_is_the_average() -> None:
    """By hand over a few steps, batch-norm statistics and counters included."""
    moving = network()
    average = start_average(moving)
    wanted = {name: value.clone() for name, value in moving.state_dict().items()}
    for step in range(1, 15):
        with torch.no_grad():
            for value in moving.state_dict().values():
                value.add_(1 if not value.is_floating_point() else torch.randn(value.shape))
        update_average(average, moving, decay=0.6, step=step)
        decay = min(0.6, (1 + step) / (10 + step))
        for name, value in moving.state_dict().items():
            wanted[name] = decay * wanted[name] + (1 - decay) * value if value.is_floating_point() else value.clone()
    for name, value in average.state_dict().items():
        torch.testing.assert_close(value, wanted[name])
