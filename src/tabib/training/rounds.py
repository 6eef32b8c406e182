"""`schedule: rounds`: rounds of some epochs while validation improves, and back to the best weights and the learning rates when it does not."""

from __future__ import annotations

import time

from tabib.progress import SILENT, Progress
from tabib.records import Round, TriedRate
from tabib.training.checkpoint import State
from tabib.training.optimise import build_optimizer
from tabib.training.rates import TRIES, losses_at, too_high, tried, try_rates
from tabib.training.step import B, Work

__all__ = ["next_round", "steps_of_returns"]

_STEPS = (10, 40)
"""Fewest and most steps with each rate; between them as many as an epoch has."""


def next_round(state: State, work: Work[B], *, progress: Progress = SILENT) -> bool:
    """Begin a round where the one before is over; False where there is none to begin and training ends. True for every other schedule.

    A round in which the watched validation metric reached a new best is followed by one with the same rate. After one that did not, the best
    weights are taken back with a fresh optimizer, rates are tried from them (Karpathy's recipe, C. S. 231n 2015: back to the search from
    the best model), and of those that the optimizer trains with (`too_high`) the one with the lowest training loss begins the next, if its loss is
    lower than that of the weights left as they are.

    What is decided follows from the state after the last epoch alone, so a training that is killed here decides the same again.
    """
    training = work.training
    if training.schedule != "rounds":
        return True
    if not state.rounds:
        state.rounds.append(Round(number=1, first_epoch=1, rate=training.rate))
        return True
    last = state.rounds[-1]
    if state.epoch < last.first_epoch + training.rounds.epochs - 1:
        return True
    number, first = last.number + 1, state.epoch + 1
    if state.best_epoch >= last.first_epoch:
        state.rounds.append(Round(number=number, first_epoch=first, rate=last.rate))
        return True
    if sum(each.from_epoch is not None for each in state.rounds) == training.rounds.returns:
        progress.say(f"Round {last.number} improved nothing, and rounds.returns is {training.rounds.returns}: training ends.")
        return False
    began = time.perf_counter()
    for network in (state.network, state.average):
        if network is not None:
            network.load_state_dict(state.best)
    state.optimizer = build_optimizer(state.network, training)
    found, best = _sweep(state, work, progress=progress)
    state.seconds += time.perf_counter() - began
    if best is None:
        progress.say(
            f"Round {last.number} improved nothing, and no learning rate that {training.optimizer} trains with brings the loss below that of "
            f"epoch {state.best_epoch}: training ends."
        )
        return False
    state.rounds.append(Round(number=number, first_epoch=first, rate=best, from_epoch=state.best_epoch, tried=found))
    progress.say(
        f"Round {last.number} improved nothing. Round {number} begins with the weights of epoch {state.best_epoch} and the rate {best:g}."
    )
    return True


def steps_of_returns(work: Work[B]) -> int:
    """Steps that all returns of a training take at most."""
    return (1 + TRIES) * _steps(work) * work.training.rounds.returns if work.training.schedule == "rounds" else 0


def _sweep(state: State, work: Work[B], *, progress: Progress) -> tuple[list[TriedRate], float | None]:
    """Rates tried from the state's weights, the rate 0 first, and the best that may be chosen, with which the loss is lower than with that."""
    steps = _steps(work)
    with progress.bar("learning rates", 1 + TRIES) as advance:

        def attempt(rate: float) -> list[float]:
            losses = losses_at(state.network, work, rate=rate, steps=steps, epoch=state.epoch, step=state.step)
            advance(1)
            return losses

        still = tried(0.0, attempt(0.0))
        found, best = try_rates(
            attempt,
            falls=lambda one: one.end is not None and still.end is not None and one.end < still.end,
            below=too_high(work.training.optimizer),
        )
        advance(0 if best else 2)  # beside the best, where there is one
    return [still, *found], best


def _steps(work: Work[B]) -> int:
    fewest, most = _STEPS
    return min(most, max(fewest, len(work.batches(1))))
