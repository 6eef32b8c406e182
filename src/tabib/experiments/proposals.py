"""What a search tries next: a function of the file, the number of the trial and what is known, so that it repeats.

A trial knows of all before it but the last, which may still be at work beside it: with one process or two the same is tried.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import math
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from tabib.errors import MissingPackageError
from tabib.experiments.search import Choices, Range, Search, Values
from tabib.records import SearchTrial

__all__ = ["floors", "propose", "refuse_missing"]

DRAWS = 200
"""Draws after which nothing new is found."""

STARTUP = 5
"""Trials that TPE draws by chance before it chooses, and finished trials before any is pruned."""

WARM_UP = 0.25
"""Share of the epochs after which a trial may be pruned."""


def refuse_missing(search: Search) -> None:
    """Raise `MissingPackageError` where the method needs what is not installed."""
    if search.method == "optuna":
        _optuna()


def propose(search: Search, number: int, before: Sequence[Values], known: Sequence[SearchTrial]) -> Values | None:
    """The values of a trial; None where there is nothing new to try.

    Args:
        search: what may be tried.
        number: of the trial, from 0.
        before: values of all trials before it.
        known: trials that it may know the outcome of.
    """
    if search.method == "grid":
        lists = [values.values for values in search.fields.values() if isinstance(values, Choices)]
        chosen = next(itertools.islice(itertools.product(*lists), number, None), None)
        return None if chosen is None else dict(zip(search.fields, chosen, strict=True))
    draws = _drawn(search, number) if search.method == "random" else _asked(search, number, before, known)
    tried = [dict(values) for values in before]
    return next((values for values in itertools.islice(draws, DRAWS) if values not in tried), None)


def _drawn(search: Search, number: int) -> Iterator[Values]:
    for draw in itertools.count():
        yield {name: _at(values, _share(f"{search.seed} {number} {draw} {name}")) for name, values in search.fields.items()}


def _share(name: str) -> float:
    """A number from 0 up to 1, a function of its name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest()) / 2**48


def _at(values: Choices | Range, share: float) -> str:
    if isinstance(values, Choices):
        return values.values[int(share * len(values.values))]
    if values.whole and not values.log:
        return values.written(math.floor(values.low + share * (values.high - values.low + 1)))
    if values.log:
        return values.written(math.exp(math.log(values.low) + share * math.log(values.high / values.low)))
    return values.written(values.low + share * (values.high - values.low))


def _asked(search: Search, number: int, before: Sequence[Values], known: Sequence[SearchTrial]) -> Iterator[Values]:
    """What the tree-structured Parzen estimator asks for (Bergstra et al., NeurIPS 2011), fresh for each trial: it has no state to lose."""
    optuna = _optuna()
    seed = int(_share(f"{search.seed} {number} optuna") * 2**31)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP))
    spaces = {name: _space(values, optuna) for name, values in search.fields.items()}
    states = optuna.trial.TrialState
    outcomes = {trial.number: trial for trial in known}
    for place, values in enumerate(before):
        trial = outcomes.get(place)
        told: dict[str, Any] = {"state": states.RUNNING}
        if trial is not None and trial.state == "done":
            told = {"state": states.COMPLETE, "value": trial.measure.value if trial.measure else None}
        elif trial is not None:
            # What cannot be trained is as bad as what was stopped at once.
            epochs = trial.stopped
            told = {"state": states.PRUNED, "intermediate_values": {epochs.epoch: epochs.value} if epochs else {}}
        params = {name: _param(search.fields[name], value) for name, value in values.items()}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=spaces, **told))
    while True:
        asked = study.ask(spaces).params
        yield {name: asked[name] if isinstance(values, Choices) else values.written(asked[name]) for name, values in search.fields.items()}


def _space(values: Choices | Range, optuna: Any) -> Any:
    kinds = optuna.distributions
    if isinstance(values, Choices):
        return kinds.CategoricalDistribution(list(values.values))
    if values.whole:
        return kinds.IntDistribution(int(values.low), int(values.high), log=values.log)
    return kinds.FloatDistribution(values.low, values.high, log=values.log)


def _param(values: Choices | Range, value: str) -> Any:
    return value if isinstance(values, Choices) else int(value) if values.whole else float(value)


def _optuna() -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ImportError:
        raise MissingPackageError(
            "method is optuna, and the package is not installed. pip install 'tabib[search]', or set method: random."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def floors(search: Search, known: Sequence[SearchTrial]) -> dict[str, dict[int, float]]:
    """What a trial must have reached by each epoch, of each member, to go on: half of the finished trials had more by then.

    The median stopping rule: Golovin et al., "Google Vizier" (KDD 2017).
    """
    done = [trial for trial in known if trial.state == "done"]
    if not search.prune or len(done) < STARTUP:
        return {}
    found: dict[str, dict[int, float]] = {}
    first = max(1, math.ceil(WARM_UP * search.study.training.epochs))
    for member in done[0].curves:
        curves = [best_so_far(trial.curves.get(member, [])) for trial in done]
        for epoch in range(first, search.study.training.epochs):
            reached = [curve[min(epoch, len(curve)) - 1] for curve in curves if curve]
            if len(reached) >= STARTUP:
                found.setdefault(member, {})[epoch] = median(reached)
    return found


def best_so_far(values: Sequence[float | None]) -> list[float]:
    """The largest value up to each epoch; what does not exist is below all."""
    return list(itertools.accumulate((-math.inf if value is None else value for value in values), max))
