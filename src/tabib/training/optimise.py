"""The step: its rule, its rate, and the average over steps."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from tabib.config import BaseTraining, Plateau
from tabib.training.networks import Network

__all__ = ["ReducedRate", "at_one_rate", "build_optimizer", "learning_rate", "reduce_on_plateau", "start_average", "update_average"]

T = TypeVar("T", bound=BaseTraining)

_WARM_UP = 0.3
_START_DIVISOR, _END_DIVISOR = 25.0, 25.0 * 1e4
_BETA_2 = 0.999
_KERAS_RHO, _KERAS_EPSILON = 0.9, 1e-7


def build_optimizer(network: nn.Module, training: BaseTraining) -> Optimizer:
    """Build the rule of the step over the weights that are trained.

    - `adamw` (Loshchilov and Hutter 2019): betas `momentum` and 0.999, epsilon 1e-8; weights are decayed apart from the gradient.
    - `adam` (Kingma and Ba 2015): the same betas, epsilon 1e-7 as in Keras; decay is added to the gradient, and so divided with it.
    - `sgd`: Nesterov momentum; decay is added to the gradient.
    - `rmsprop` (Tieleman and Hinton 2012): mean of squares over alpha 0.9 and epsilon 1e-7 as in Keras, no momentum; decay as `adam`.

    Biases and the weights of norms are not decayed: their size says nothing about complexity (He et al. 2019, "Bag of tricks").
    """
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in trained if weight.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [weight for weight in trained if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    rate, momentum = training.rate, training.momentum
    if training.optimizer == "sgd":
        return SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0, fused=True)
    if training.optimizer == "rmsprop":
        return RMSprop(groups, lr=rate, alpha=_KERAS_RHO, eps=_KERAS_EPSILON)
    if training.optimizer == "adam":
        return Adam(groups, lr=rate, betas=(momentum, _BETA_2), eps=_KERAS_EPSILON, fused=True)
    return AdamW(groups, lr=rate, betas=(momentum, _BETA_2), fused=True)


@dataclass(frozen=True)
class ReducedRate:
    """Where `schedule: plateau` stands."""

    rate: float
    best: float = math.inf  # smallest watched value so far
    waited: int = 0  # epochs since, or since the last reduction


def reduce_on_plateau(state: ReducedRate, value: float, settings: Plateau) -> ReducedRate:
    """State after an epoch whose watched value (smaller is better) was `value`."""
    if value < state.best:
        return ReducedRate(state.rate, value)
    if state.waited < settings.patience:
        return ReducedRate(state.rate, state.best, state.waited + 1)
    return ReducedRate(max(state.rate * settings.factor, min(settings.minimum, state.rate)), state.best)


def learning_rate(training: BaseTraining, held: float, *, step: int, steps: int) -> float:
    """Rate of step `step` (from 0) of `steps`; of `plateau` and `rounds` the one that is `held` now.

    `one_cycle` rises from a 25th of the peak over the first 30 % of the steps and falls to nearly nothing, both along a
    cosine (Smith and Topin 2018). `cosine` rises in a straight line over `warm_up` of the steps (Goyal et al. 2017) and falls along
    half a cosine towards 0 (Loshchilov and Hutter 2017, "SGDR", without restarts).
    """
    peak = training.rate
    if training.schedule == "constant":
        return peak
    if training.schedule in ("plateau", "rounds"):
        return held
    if training.schedule == "cosine":
        rising = round(training.warm_up * steps)
        return peak * (step + 1) / (rising + 1) if step < rising else _cosine(peak, 0.0, (step - rising) / (steps - rising))
    turn, last = _WARM_UP * steps - 1, steps - 1
    if step <= turn:
        return _cosine(peak / _START_DIVISOR, peak, step / turn if turn > 0 else 1.0)
    return _cosine(peak, peak / _END_DIVISOR, (step - turn) / (last - turn))


def at_one_rate(training: T, rate: float) -> T:
    """The same training with one constant rate and no average of the weights."""
    return training.model_copy(update={"learning_rate": rate, "schedule": "constant", "average": None})


def start_average(network: Network) -> Network:
    """A copy of a network that will hold the average of its weights."""
    average = copy.deepcopy(network).requires_grad_(False)
    average.eval()
    return average


@torch.no_grad()
def update_average(average: Network, network: Network, *, decay: float, step: int) -> None:
    """Move the average towards the network after step `step` (from 1), batch-norm statistics included.

    Early on the decay is smaller, (1 + step) / (10 + step), or the average would be made of the untrained weights.
    """
    decay = min(decay, (1 + step) / (10 + step))
    for held, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if held.is_floating_point():
            held.lerp_(new, 1 - decay)
        else:
            held.copy_(new)


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
