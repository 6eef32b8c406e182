"""A step of a training: on what, with which rate, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence, Sized
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from tabib.config import BaseTraining
from tabib.records import Finding
from tabib.training.checkpoint import State
from tabib.training.freezing import set_training
from tabib.training.networks import Network
from tabib.training.optimise import ReducedRate, build_optimizer, learning_rate, start_average, update_average
from tabib.training.randomness import step_seed

__all__ = ["Work", "seconds_per_step", "start", "train_step"]

B = TypeVar("B", bound=Sized)
"""What one step is trained on; its length is a number of images."""


class Work(Protocol[B]):
    """What one member is trained on and how it is measured: all that one task does otherwise than another."""

    @property
    def training(self) -> BaseTraining:
        """How the weights are found."""
        ...

    @property
    def best(self) -> str:
        """The validation metric that says which epoch's weights are kept, smaller is better for `loss`."""
        ...

    @property
    def seed(self) -> int:
        """Seed of the member."""
        ...

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        ...

    @property
    def shown(self) -> Mapping[str, str]:
        """Columns of the growing table of epochs, and the fields of `history.jsonl` that they show."""
        ...

    def at(self, rate: float) -> Self:
        """The same at one rate, to try it."""
        ...

    def batches(self, epoch: int) -> Sequence[B]:
        """What each step of an epoch, from 1, is trained on."""
        ...

    def backward(self, network: Network, batch: B, *, epoch: int) -> Tensor:
        """Add the gradients of one step to the weights; the loss before it, on the device."""
        ...

    def settle(self, network: Network, *, epoch: int) -> None:
        """Bring what follows from the weights, as the statistics of batch norm, to what they now are."""
        ...

    def measure(self, network: Network) -> dict[str, Any]:
        """What is measured on the validation images: `loss`, the `best` one and more, the `validation_...` of `history.jsonl`."""
        ...

    def measure_train(self, network: Network) -> tuple[int, dict[str, Any]]:
        """The same of training images that are not changed: on how many, at most as many as validate, and what."""
        ...

    def look_at(self, history: Sequence[dict[str, Any]]) -> list[Finding]:
        """What a person should hear of the epochs so far."""
        ...


def start(network: Network, training: BaseTraining) -> State:
    """The state before the first step."""
    network.to(memory_format=network.layout)  # pyright: ignore[reportCallIssue]
    return State(
        network=network,
        average=start_average(network) if training.average else None,
        optimizer=build_optimizer(network, training),
        plateau=ReducedRate(training.rate),
    )


def train_step(state: State, work: Work[B], batch: B) -> Tensor:
    """One step; the loss before it, on the device."""
    training, network = work.training, state.network
    rate = learning_rate(training, state.rate, step=state.step, steps=work.steps)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    # Not torch.manual_seed, which also asks for every other kind of device.
    device = next(network.parameters()).device
    generator = torch.cuda.default_generators[device.index or 0] if device.type == "cuda" else torch.default_generator
    generator.manual_seed(step_seed(work.seed, state.step))
    state.optimizer.zero_grad()
    loss = work.backward(network, batch, epoch=state.epoch + 1)
    if training.clip is not None:
        nn.utils.clip_grad_norm_(network.parameters(), training.clip)
    state.optimizer.step()
    state.step += 1
    if state.average is not None and training.average is not None:
        update_average(state.average, network, decay=training.average, step=state.step)
    return loss


def seconds_per_step(state: State, work: Work[B], *, steps: int = 3) -> float:
    """Time of a training step, by the fastest of a few after one to warm up: other programs can only make a step slower.

    The state is trained by it and should be thrown away.
    """
    set_training(state.network)
    batch = work.batches(1)[0]
    times = []
    for _ in range(1 + steps):
        started = time.perf_counter()
        float(train_step(state, work, batch))  # waits for a GPU
        times.append(time.perf_counter() - started)
    return min(times[1:])
