"""Which learning rate: a few steps with each of many."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from torch import nn

from tabib.config import AnyStudy
from tabib.errors import StudyError
from tabib.progress import SILENT, Progress
from tabib.records import Finding, Sweep, TriedRate
from tabib.training.rates import TRIES, too_high, try_rates
from tabib.training.resolve import resolve_study
from tabib.training.segment_resolve import resolve_segmentation
from tabib.training.starting import losses_of, starting

__all__ = ["sweep_rates", "with_rate"]

_STEPS = (40, 160)
"""Steps with each rate, the second where the loss falls with none in the first, as where signs are faint."""
_FALLS = 0.98  # to how much of the first loss it must fall
_FAR = 10.0  # how far the study's rate may be from the chosen one, as a factor
_RESOLVE: dict[str, Callable[..., Any]] = {"classification": resolve_study, "segmentation": resolve_segmentation}


def sweep_rates(
    index: pl.DataFrame,
    split: pl.DataFrame,
    study: AnyStudy,
    *,
    cache_folder: Path,
    own: nn.Module | None = None,
    offline: bool = False,
    progress: Progress = SILENT,
) -> Sweep:
    """Train 40 steps (160 where the loss falls with none) at each of 0.1, 0.01, ... 0.00001, then at half powers of ten beside the best.

    Each starts from the same weights, with the study's optimizer and its momentum, sees the same batches, and keeps its rate. The best is the one
    with the lowest mean loss of its last ten steps, of those that the optimizer trains with (`too_high`): the others are tried and shown, and
    never chosen, as the loss may fall in a few steps with a rate that a training goes wrong with. (The first step of the search by hand of CS231n, Karpathy and Li 2015; a step instead of the
    rising rate of Smith 2017, so that a rate is judged by its own steps alone.) The same study gives the same answer.

    `rate_swept`: what is best, and that the study's rate is within a factor of ten of it. `rate_far_from_sweep`: it is not.
    `rate_none_learns`: the loss falls with none that may be chosen.

    Args:
        index: INDEX_SCHEMA.
        split: SPLIT_SCHEMA.
        study: as given or resolved.
        cache_folder: where decoded images are kept.
        own: the module of `network: own`.
        offline: refuse to download starting weights.
        progress: told of downloads, decoding, the tries and the finding.
    """
    given = study.training.learning_rate
    update: dict[str, float | str] = {"learning_rate": 1e-3 if given == "sweep" else given}
    if study.training.precision == "auto":
        update["precision"] = "fp32"  # which number format is faster is timed, and a clock must not choose the rate
    study = study.model_copy(update={"training": study.training.model_copy(update=update)})
    told = {"cache_folder": cache_folder, "progress": progress} | ({} if own is None else {"own": own})
    study = _RESOLVE[study.task](study, index, split, **told)
    tried, best, steps, below = list[TriedRate](), None, 0, too_high(study.training.optimizer)
    with (
        starting(index, split, study, cache_folder=cache_folder, own=own, offline=offline, progress=progress) as made,
        progress.bar("learning rates", TRIES) as advance,
    ):

        def attempt(rate: float, steps: int) -> list[float]:
            losses = losses_of(made, rate=rate, steps=steps)
            advance(1)
            return losses

        for steps in _STEPS:
            tried, best = try_rates(
                partial(attempt, steps=steps),
                falls=lambda one: one.end is not None and one.end < _FALLS * one.losses[0],
                below=below,
            )
            if best is not None:
                break
    if best is None:
        finding = Finding(code="rate_none_learns", level="warn", figures={"first": tried[0].losses[0], "steps": steps})
    elif given == "sweep":
        finding = Finding(code="rate_chosen", level="pass", figures={"best": best})
    elif not best / _FAR <= given <= best * _FAR:
        finding = Finding(code="rate_far_from_sweep", level="warn", figures={"best": best, "given": given})
    else:
        finding = Finding(code="rate_swept", level="pass", figures={"best": best, "given": given})
    progress.tell(finding)
    return Sweep(checks=[finding], tried=tried, steps=steps, best=best, below=below if math.isfinite(below) else None)


def with_rate(study: AnyStudy, sweep: Sweep) -> AnyStudy:
    """The study of `learning_rate: sweep` with the rate that was chosen. Raises `StudyError` where none was."""
    if sweep.best is None:
        raise StudyError(
            "training.learning_rate is sweep, and the training loss falls with none of the rates tried that the optimizer trains with. Something "
            "else keeps the network from learning: give a rate, as in 0.001, and run tabib check."
        )
    return study.model_copy(update={"training": study.training.model_copy(update={"learning_rate": sweep.best})})
