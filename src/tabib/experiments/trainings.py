"""The trainings of one experiment: what they share is made once, and as many are at work at once as is faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import OutOfMemoryError

from tabib.config import AnyStudy
from tabib.engines import Crashed, keep_busy
from tabib.errors import MissingPackageError, TabibError, TrainingError, WeightsError
from tabib.progress import SILENT, Progress
from tabib.records import NotRun, Pace
from tabib.reports import write_reports
from tabib.runs import Reached, Run, open_run
from tabib.study import run_study
from tabib.training import choose_pace, paced

__all__ = ["GOES_WRONG", "Missed", "Ran", "Row", "missed", "missed_by", "prepare", "run_rows"]

GOES_WRONG = (TabibError, MemoryError, RuntimeError)
"""What one training may end with while others go on; `missed` looks at it and raises again what Tabib does not know."""

NO_WEIGHTS = (WeightsError, MissingPackageError)


@dataclass(frozen=True)
class Row:
    """One study of several."""

    name: str
    study: AnyStudy
    explained: bool = True  # whether its answers are explained, too; `tabib explain` does it later


@dataclass(frozen=True)
class Missed:
    """Why a study has no run."""

    why: NotRun
    reason: str


@dataclass(frozen=True)
class Ran:
    """What became of several studies."""

    found: Sequence[Path | Missed]  # run folders, in the order of the rows
    pace: Pace | None = None  # None for a single study, and where none could be begun


def prepare(
    study: AnyStudy,
    *,
    root: Path,
    offline: bool = False,
    progress: Progress = SILENT,
    on_step: Callable[[str, bool], None] | None = None,
) -> tuple[Run, Pace]:
    """Make what all trainings of an experiment share, in the run of its first study: index, split, decoded images, and how many are at work at once.

    The pace is a step as others: it stays what it was when the experiment goes on, and is that of every experiment with this study.

    Raises:
        TabibError: the study cannot be trained.
    """
    with open_run(study, root=root, until="checks", on_step=on_step) as run:
        with suppress(Reached):
            run_study(study, run, offline=offline, progress=progress)
        resolved, split, checks = (run.read(name) for name in ("study", "split", "checks"))
        pace = run.step("pace", choose_pace, run.given, resolved, split, checks, progress=progress)
    return run, pace


def run_rows(
    rows: Sequence[Row],
    *,
    root: Path,
    command: Sequence[str] = (),
    offline: bool = False,
    progress: Progress = SILENT,
    on_step: Callable[[str, bool], None] | None = None,
) -> Ran:
    """Run several studies, or finish their runs; what goes wrong with one is said and stops no other.

    Each is a run as any other: what is done is loaded, what was interrupted goes on. What the studies leave open of threads and number
    format is that of the first for all (see `paced`), so that neither how many are at work at once nor in which order they end changes any
    figure. Ctrl-C ends what is at work, and what is finished is kept.

    Args:
        rows: the studies; the first that can be trained decides the pace of all.
        root: where run folders are kept.
        command: for the manifests.
        offline: download nothing.
        progress: told of everything where one is at work at a time, of beginnings and ends where two are.
        on_step: hears each step of what all share, and with one at work at a time of each; and whether it was loaded.
    """
    found: dict[int, Path | Missed] = {}
    began: dict[int, float] = {}
    first, pace = 0, None

    def keep(place: int, became: Path | Missed) -> None:
        found[place] = became
        if isinstance(became, Missed):
            progress.say(f"{rows[place].name}: not run: {became.reason}")

    try:
        for first, row in enumerate(rows if len(rows) > 1 else ()):
            try:
                _, pace = prepare(row.study, root=root, offline=offline, progress=progress, on_step=on_step)
                break
            except GOES_WRONG as error:
                keep(first, missed(error))
        here = pace is None or pace.processes == 1
        given = first if here else None
        left = iter([_Asked(place, row, None if place == given else pace) for place, row in enumerate(rows) if place not in found])

        def ask(_: Sequence[_Asked]) -> _Asked | None:
            if (asked := next(left, None)) is not None:
                progress.say(f"{asked.place + 1} of {len(rows)}: {asked.row.name}")
                began[asked.place] = time.monotonic()
            return asked

        def tell(asked: _Asked, became: Path | Missed | Crashed) -> None:
            keep(asked.place, missed_by(became) if isinstance(became, Crashed) else became)
            if not here and isinstance(became, Path):
                progress.say(f"{asked.row.name}: done, {time.monotonic() - began[asked.place]:.0f} s")
            advance(1)

        work = partial(_run, root=root, command=command, offline=offline)
        work = partial(work, progress=progress, on_step=on_step) if here else work
        with nullcontext(lambda _: None) if here else progress.bar("trainings", len(rows)) as advance:
            advance(len(found))
            keep_busy(work, ask, tell, workers=1 if pace is None else pace.processes)
    except KeyboardInterrupt:
        progress.say("Stopped. What is done is kept: the same command goes on from here.")
    stopped = Missed("stopped", "Stopped before it.")
    return Ran([found.get(place, stopped) for place in range(len(rows))], pace)


@dataclass(frozen=True)
class _Asked:
    """A row, as it is handed to the process that runs it."""

    place: int
    row: Row
    pace: Pace | None  # None for the study as given


def _run(
    asked: _Asked,
    *,
    root: Path,
    command: Sequence[str],
    offline: bool,
    progress: Progress = SILENT,
    on_step: Callable[[str, bool], None] | None = None,
) -> Path | Missed:
    """Run one study of several, or finish its run."""
    row = asked.row
    try:
        study = row.study if asked.pace is None else paced(row.study, asked.pace)
        with open_run(study, root=root, command=list(command), until=None if row.explained else "evaluation", on_step=on_step) as run:
            try:
                run_study(study, run, offline=offline, progress=progress)
            except Reached:
                run.finish(write_reports)
        return run.folder
    except GOES_WRONG as error:
        return missed(error)


def missed(error: Exception) -> Missed:
    """Why a study has no run, from what went wrong; what Tabib does not know is raised again."""
    if isinstance(error, TabibError):
        return Missed(
            "weights" if isinstance(error, NO_WEIGHTS) else "diverged" if isinstance(error, TrainingError) else "error", str(error)
        )
    if not isinstance(error, (MemoryError, OutOfMemoryError)) and "allocate memory" not in str(error):
        raise error
    said = (str(error).splitlines() or [""])[0]
    return Missed("memory", f"The memory is not enough: {said or 'it is full'}. A smaller training.batch, or accumulate, needs less.")


def missed_by(crash: Crashed) -> Missed:
    """Why a study has no run whose process died."""
    return Missed("memory" if "memory" in crash.reason else "error", f"The process of the training: {crash.reason}.")
