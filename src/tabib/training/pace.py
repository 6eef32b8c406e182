"""How many trainings of one experiment are at work at once: timed steps say which way more are done in the same time."""

from __future__ import annotations

import polars as pl

from tabib.config import AnyStudy, Study
from tabib.engines import Crashed, waiting_processes
from tabib.progress import SILENT, Progress
from tabib.records import Checks, Pace
from tabib.training.budget import memory_free
from tabib.training.classify import class_names
from tabib.training.resolve import available_threads, time_step
from tabib.training.segment_resolve import must_be_fp32, time_masks

__all__ = ["AT_ONCE", "choose_pace", "paced", "step_rate"]

AT_ONCE = 2
"""Trainings that may be at work at once."""

TIMED = 2
"""How often steps are timed, with one process and with two."""

TWO_PAY = 1.1
"""Two trainings are at work at once where they make so many times the steps of one: they need twice the memory."""

WORTH_TIMING = 10.0
"""Seconds: of shorter trainings one is at work at a time, since to start processes and to time them takes longer."""


def choose_pace(given: AnyStudy, study: AnyStudy, split: pl.DataFrame, checks: Checks, *, progress: Progress = SILENT) -> Pace:
    """Whether one training with all threads, or two with half of them each, make more steps a second, by timed ones.

    Where the study says how many threads it takes, two take as many each, if there are so many cores. On a GPU, and where the memory is not
    enough for two, one is at work at a time.

    Args:
        given: the study as given.
        study: the same, resolved.
        split: SPLIT_SCHEMA.
        checks: of the doctor, for the time and the memory that the training takes.
        progress: told of the timing.
    """
    all_threads, asked = study.training.threads, given.training.threads
    assert all_threads != "auto"
    threads = max(1, all_threads // AT_ONCE) if asked == "auto" else asked
    one = Pace(processes=1, threads=all_threads, precision=study.training.precision)
    if study.training.device != "cpu" or AT_ONCE * threads > available_threads() or checks.predicted_seconds < WORTH_TIMING:
        return one
    needed, free = checks.predicted_memory, memory_free()
    if needed is not None and free is not None and AT_ONCE * needed > free:
        return one
    classes = len(class_names(split, study)) if isinstance(study, Study) else 0
    beside = study.model_copy(update={"training": study.training.model_copy(update={"threads": threads})})
    with progress.bar("one training or two at once", 2) as advance:
        alone = step_rate((study, classes, TIMED))
        advance(1)
        with waiting_processes(step_rate, workers=AT_ONCE) as hand_on:
            for times in (1, TIMED):  # the first starts the processes
                rates = [future.result() for future in [hand_on((beside, classes, times)) for _ in range(AT_ONCE)]]
        advance(1)
    if any(isinstance(rate, Crashed) for rate in rates):
        return one.model_copy(update={"alone": alone})
    together = sum(rate for rate in rates if not isinstance(rate, Crashed))
    found = one if together < TWO_PAY * alone else one.model_copy(update={"processes": AT_ONCE, "threads": threads})
    return found.model_copy(update={"alone": alone, "beside": together})


def step_rate(item: tuple[AnyStudy, int, int]) -> float:
    """Training steps a second of a resolved study, on made-up images; timed so many times over."""
    study, classes, times = item
    return times / sum(time_step(study, classes) if isinstance(study, Study) else time_masks(study).step for _ in range(times))


def paced(study: AnyStudy, pace: Pace) -> AnyStudy:
    """A study as it is trained at a pace: what it leaves open of the number format and the threads is the same for all.

    With one training at a time threads stay open: it takes all, and is the run that the study has by itself.
    """
    training, found = study.training, dict[str, object]()
    if training.precision == "auto":
        found["precision"] = "fp32" if must_be_fp32(study) else pace.precision
    if training.threads == "auto" and pace.processes > 1:
        found["threads"] = pace.threads
    return study.model_copy(update={"training": training.model_copy(update=found)})
