"""Learning rates, each tried for some steps from the same weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tabib.records import TriedRate
from tabib.training.freezing import set_training
from tabib.training.networks import Network
from tabib.training.step import B, Work, start, train_step

__all__ = ["RATES", "TRIES", "losses_at", "too_high", "tried", "try_rates"]

RATES = (0.1, 0.01, 0.001, 0.0001, 0.00001)
TRIES = len(RATES) + 2
_TOO_HIGH = {"adamw": 0.03, "adam": 0.03, "rmsprop": 0.01}
"""Rates from which on nothing is trained, where a step moves each weight by about the rate. RMSprop's first is three times as long as
Adam's; how long a step of SGD is depends on the gradient, and no number holds for all."""
_FINER = 10**0.5
_LAST = 10
"""Steps, at the end, whose mean loss judges a rate."""


def too_high(optimizer: str) -> float:
    """The lowest rate that an optimizer does not train with, though the loss may fall in some steps; infinite where no number holds for all.

    >>> too_high("adamw"), too_high("sgd")
    (0.03, inf)
    """
    return _TOO_HIGH.get(optimizer, math.inf)


def losses_at(
    network: Network,
    work: Work[B],
    *,
    rate: float,
    steps: int,
    epoch: int = 0,
    step: int = 0,
    same: bool = False,
    enough: float = -math.inf,
) -> list[float]:
    """The training loss of each step until it is enough or is no number; the network has its weights again afterwards.

    Args:
        network: its weights are what every step begins with.
        work: on what, and how.
        rate: of every step.
        steps: at most.
        epoch: epochs done, whose images are not seen again.
        step: steps done.
        same: the images of the first epoch again and again.
        enough: a loss.
    """
    work, losses = work.at(rate), list[float]()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    set_training(network)
    state = start(network, work.training)
    state.epoch, state.step = epoch, step
    batches = list(work.batches(state.epoch + 1))
    while len(losses) < steps:
        if not batches:
            state.epoch += not same
            batches = list(work.batches(state.epoch + 1))
        losses.append(float(train_step(state, work, batches.pop(0))))
        if not math.isfinite(losses[-1]) or losses[-1] <= enough:
            break
    network.load_state_dict(before)
    return losses


def try_rates(
    attempt: Callable[[float], Sequence[float]], *, falls: Callable[[TriedRate], bool], below: float
) -> tuple[list[TriedRate], float | None]:
    """Try 0.1, 0.01, ... 0.00001, then half powers of ten beside the best.

    Args:
        attempt: the losses of some steps with a rate.
        falls: whether the loss came down in the end, as it must with the best rate.
        below: only lower rates are chosen (`too_high`); others are tried, so that they can be shown.

    Returns:
        What was tried, in the order of the rates, and of the rates that may be chosen the one with the lowest mean loss of the last ten steps;
        None where the loss falls with none of them.
    """

    def best() -> float | None:
        ends = {one.rate: one.end for one in found if one.rate < below and one.end is not None and falls(one)}
        return min(ends, key=lambda rate: ends[rate]) if ends else None

    found = [tried(rate, attempt(rate)) for rate in RATES]
    if (coarse := best()) is not None:
        found += [tried(rate, attempt(rate)) for rate in (float(f"{coarse / _FINER:.3g}"), float(f"{coarse * _FINER:.3g}"))]
    return sorted(found, key=lambda one: one.rate), best()


def tried(rate: float, losses: Sequence[float]) -> TriedRate:
    """What steps with a rate came to."""
    end = float(np.mean(losses[-_LAST:])) if math.isfinite(losses[-1]) else None
    return TriedRate(rate=rate, losses=[loss for loss in losses if math.isfinite(loss)], end=end)
