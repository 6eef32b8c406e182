"""The trials of a search: each is a run up to its validation images; what is finished is written down and never trained again."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from tabib.config import AnyStudy, Goals, SegmentationGoals
from tabib.engines import Crashed, keep_busy
from tabib.errors import DataError, RunError, StudyError
from tabib.evaluation.labels import mean_measures
from tabib.evaluation.mask_measures import measure_masks
from tabib.evaluation.measures import measure_all
from tabib.experiments.proposals import best_so_far, floors, propose, refuse_missing
from tabib.experiments.same_rows import figures, validation_of
from tabib.experiments.search import Search, Values
from tabib.experiments.trainings import GOES_WRONG, Missed, missed, missed_by, prepare
from tabib.progress import SILENT, Progress
from tabib.records import Checks, Measure, Pace, Record, SearchTrial, Stopped
from tabib.runs import Run, code_of, fingerprint, open_run, read_record, save, study_id
from tabib.study import try_study
from tabib.training import AT_ONCE, Pruned, paced

__all__ = ["Ledger", "run_trials", "study_of"]


class Ledger(Record):
    """What is known of a search. `trials-<hash>.json`, written whole after every trial."""

    seconds: float = 0.0  # of searching
    pace: Pace | None = None
    trials: list[SearchTrial] = []  # noqa: RUF012 - pydantic copies it; in the order of their numbers
    whole: bool = False  # whether nothing is left to try
    interrupted: bool = False  # by Ctrl-C, this time
    reckoned: float | None = None  # seconds of one more trial, where the time left is too short for it
    enough: int | None = None  # minutes with which it would be begun


class OutOfTime(Pruned):
    """The minutes of a search are used up while a trial is at work."""


@dataclass(frozen=True)
class Asked:
    """A trial, as it is handed to the process that does it."""

    search: Search
    number: int
    values: Values
    floors: Mapping[str, Mapping[int, float]]  # by member and epoch
    pace: Pace
    root: Path
    command: Sequence[str]
    offline: bool
    ends: float | None = None  # when the time is used up, in seconds since 1970, which all processes share


def study_of(search: Search, values: Values, pace: Pace) -> AnyStudy:
    """The study of a trial, with what is equal for all of them. Raises `StudyError` where its values do not go together."""
    return paced(search.with_values(values), pace)


def run_trials(
    search: Search,
    *,
    root: Path,
    folder: Path,
    command: Sequence[str] = (),
    offline: bool = False,
    progress: Progress = SILENT,
    on_step: Callable[[str, bool], None] | None = None,
) -> Ledger:
    """Try values until the trials or the time are used up; what is finished is kept, and the same search goes on from there.

    All trials have one index, one split and one cache of decoded images, and the number format that timed steps chose for the study as
    it is. No trial is begun that would not end in time, if it took as long as the doctor reckons or as others did, and one at work when
    the time is used up is stopped after its epoch, to go on from there another time. Ctrl-C ends what is at work and gives what is finished.

    Args:
        search: what is tried.
        root: where run folders are kept.
        folder: of the search, in which its ledger is.
        command: for the manifests.
        offline: download nothing.
        progress: told of everything.
        on_step: hears each step of what all trials share, and whether it was loaded.

    Raises:
        TabibError: the study as it is cannot be trained.
        StudyError: the time is too short for even one trial.
        MissingPackageError: the method needs what is not installed.
    """
    refuse_missing(search)
    began = time.monotonic()
    shared, pace = prepare(search.study, root=root, offline=offline, progress=progress, on_step=on_step)
    place = folder / f"trials-{_key(search)}.json"
    ledger = read_record(place, Ledger) if place.exists() else Ledger()
    before, pace = ledger.seconds, ledger.pace or pace
    one = _reckon(shared.read("checks"), pace)
    ends = None if search.minutes is None else time.time() + 60 * search.minutes - before - (time.monotonic() - began)
    asked_of = partial(Asked, search, pace=pace, root=root, command=command, offline=offline, ends=ends)

    def searched() -> float:
        return round(before + time.monotonic() - began, 3)

    def keep(**changes: Any) -> None:
        nonlocal ledger
        ledger = ledger.model_copy(update={**changes, "seconds": searched()})
        save(place, ledger)

    def ask(working: Sequence[Asked]) -> Asked | None:
        asked = _next(search, ledger, working, asked_of)
        if asked is None or not _in_time(search, ledger, searched(), one):
            return None
        progress.say(f"trial {asked.number + 1}: {', '.join(f'{name} {value}' for name, value in asked.values.items())}")
        return asked

    def tell(asked: Asked, found: SearchTrial | Crashed | None) -> None:
        if found is None:
            progress.say(f"trial {asked.number + 1}: stopped, since the time is used up; with more minutes it goes on from there")
            return
        found = _failed(asked, missed_by(found)) if isinstance(found, Crashed) else found
        keep(trials=sorted([*ledger.trials, found.model_copy(update={"ended": searched()})], key=lambda trial: trial.number))
        progress.say(f"trial {found.number + 1}: {_said(found)}")
        advance(1)

    here = pace.processes == 1
    bar = nullcontext(lambda _: None) if here or search.trials is None else progress.bar("trials", search.trials)
    try:
        keep(pace=pace, whole=False, reckoned=None, enough=None)
        if not ledger.trials and not _in_time(search, ledger, searched(), one):
            raise StudyError(
                f"minutes is {search.minutes:g}, {searched():.0f} s are used already, and one trial is reckoned to take {one:.0f} s. "
                f"minutes: {_enough(one, searched())} would do, or fewer training.epochs."
            )
        with bar as advance:
            advance(len(ledger.trials))
            keep_busy(partial(_try, progress=progress, on_step=on_step) if here else _try, ask, tell, workers=pace.processes)
        whole, needed = _next(search, ledger, [], asked_of) is None, _needed(search, ledger, one)
        keep(whole=whole, **({} if whole else {"reckoned": needed, "enough": _enough(needed, searched())}))
    except KeyboardInterrupt:
        progress.say("Stopped. What is done is kept: the same command goes on from here.")
        return ledger.model_copy(update={"interrupted": True})
    return ledger


def _key(search: Search) -> str:
    """What scores and proposals depend on; how long is searched is not among it, so that a search can be given more time."""
    asked = {
        "fields": {name: [type(values).__name__, *vars(values).values()] for name, values in search.fields.items()},
        "method": search.method,
        "measure": search.measure,
        "prune": search.prune,
        "seed": search.seed,
    }
    return fingerprint(study_id(search.study), json.dumps(asked), code_of("tabib.training"))[:12]


def _next(search: Search, ledger: Ledger, working: Sequence[Asked], asked_of: Callable[..., Asked]) -> Asked | None:
    """The next trial; None where there is none, or one that it must know of is still at work."""
    values = {each.number: each.values for each in (*ledger.trials, *working)}
    number = next(number for number in range(len(values) + 1) if number not in values)
    known = [trial for trial in ledger.trials if trial.number <= number - AT_ONCE]
    if (search.trials is not None and number >= search.trials) or len(known) < number - AT_ONCE + 1:
        return None
    chosen = propose(search, number, [values[each] for each in range(number)], known)
    return None if chosen is None else asked_of(number=number, values=chosen, floors=floors(search, known))


def _reckon(checks: Checks, pace: Pace) -> float:
    """Seconds that the doctor reckons for all epochs of the study as it is, beside another where two are at work at once."""
    if pace.processes == 1 or pace.alone is None or pace.beside is None:
        return checks.predicted_seconds
    return checks.predicted_seconds * max(1.0, pace.processes * pace.alone / pace.beside)


def _needed(search: Search, ledger: Ledger, reckoned: float) -> float:
    """Seconds that one more trial may take: what is reckoned of as many epochs as finished ones had, or what those took, whichever is more."""
    done = [trial for trial in ledger.trials if trial.state == "done"]
    if not done:
        return reckoned
    epochs = median(trial.epochs / max(1, len(trial.curves)) for trial in done) / search.study.training.epochs
    return max(reckoned * epochs, median(trial.seconds for trial in done))


def _in_time(search: Search, ledger: Ledger, seconds: float, reckoned: float) -> bool:
    """Whether one more trial would end in time."""
    return search.minutes is None or seconds + _needed(search, ledger, reckoned) <= 60 * search.minutes


def _enough(needed: float, seconds: float) -> int:
    """Minutes with which one more trial would be begun, with half a minute to get there again."""
    return math.ceil((seconds + needed) / 60 + 0.5)


def _try(asked: Asked, *, progress: Progress = SILENT, on_step: Callable[[str, bool], None] | None = None) -> SearchTrial | None:
    """Train with the values of a trial, and measure the validation images. None where the time is used up before."""
    began = time.monotonic()
    measure, stopped = None, None
    try:
        study = study_of(asked.search, asked.values, asked.pace)
        with open_run(study, root=asked.root, command=list(asked.command), on_step=on_step) as run:
            try:
                try_study(study, run, watch=partial(_watch, asked, study.training.epochs), offline=asked.offline, progress=progress)
                measure = _measured(run, asked.search.measure)
            except OutOfTime:
                return None
            except Pruned as stop:
                stopped = Stopped(**stop.args[0])
    except RunError:  # nothing to do with these values: the disk is full, or the run is in use
        raise
    except GOES_WRONG as error:
        return _failed(asked, missed(error), time.monotonic() - began)
    histories = run.histories()
    training = sum(line["seconds"] for lines in histories.values() for line in lines)
    return SearchTrial(
        number=asked.number,
        values=dict(asked.values),
        state="pruned" if stopped else "done",
        run=str(run.folder),
        measure=measure,
        curves={name: [line[f"validation_{asked.search.measure}"] for line in lines] for name, lines in histories.items()},
        stopped=stopped,
        epochs=sum(len(lines) for lines in histories.values()),
        seconds=round(max(training, time.monotonic() - began), 3),
        training_seconds=round(training, 3),
    )


def _failed(asked: Asked, why: Missed, seconds: float = 0.0) -> SearchTrial:
    values = dict(asked.values)
    return SearchTrial(number=asked.number, values=values, state="failed", not_run=why.why, reason=why.reason, seconds=round(seconds, 3))


def _watch(asked: Asked, epochs: int, member: str, history: Sequence[Mapping[str, Any]]) -> None:
    """Stop a trial whose best is below what half of the finished ones had reached by an epoch, or for which there is no time."""
    if asked.ends is not None and time.time() >= asked.ends and len(history) < epochs:
        raise OutOfTime
    reached = best_so_far([line[f"validation_{asked.search.measure}"] for line in history])
    for epoch, floor in asked.floors.get(member, {}).items():
        if epoch <= len(reached) and reached[epoch - 1] < floor:
            raise Pruned({"member": member, "epoch": epoch, "value": reached[epoch - 1], "floor": floor})


def _measured(run: Run, wanted: str) -> Measure:
    """What is maximised, of the validation images, with its interval over patients."""
    said = validation_of(run)
    name, of, value = next(each for each in figures(said) if each[0] == wanted)
    if value is None:
        raise DataError(
            f"measure is {name}, which does not exist on these validation images: a class has none. Choose another, or another split."
        )
    if said.cases is not None:
        found = measure_masks(list(said.cases.values()), {}, SegmentationGoals(), said.sure)
    elif len(said.answers) > 1:
        found = mean_measures(said.answers, [{}] * len(said.answers), said.sure)
    else:
        found = measure_all(said.answers[0], {}, Goals(), said.sure, only=[(name, of)])
    return next(each for each in found if (each.name, each.of) == (name, of))


def _said(trial: SearchTrial) -> str:
    if trial.stopped is not None:
        return f"stopped after epoch {trial.stopped.epoch}: {trial.stopped.value:.3f} so far, and half of the others had {trial.stopped.floor:.3f}"
    if trial.measure is None:
        return f"not run: {trial.reason}"
    return f"{trial.measure.name} {trial.measure.value:.3f} on validation, {trial.seconds:.0f} s"
