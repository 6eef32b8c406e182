"""A series: one study and rows that each change some of its fields, in a file a person can read."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import OutOfMemoryError

from tabib.config import AnyStudy
from tabib.errors import MissingPackageError, StudyError, TabibError, TrainingError, WeightsError
from tabib.progress import SILENT, Progress
from tabib.records import Compared, NotRun
from tabib.reports import LANGUAGES, write_reports
from tabib.runs import Reached, open_run
from tabib.study import run_study
from tabib.study_file import MakePhantom, load_study, read_fields, written

__all__ = [
    "Missed",
    "Row",
    "Series",
    "changes_in",
    "missed",
    "only_fields",
    "read_rows",
    "read_series",
    "read_title",
    "run_row",
    "run_series",
]

FIELDS = ("study", "title", "rows")

NO_WEIGHTS = (WeightsError, MissingPackageError)


@dataclass(frozen=True)
class Row:
    """One study of a series."""

    name: str
    study: AnyStudy


@dataclass(frozen=True)
class Series:
    """A study, varied."""

    title: Mapping[str, str]  # by language
    rows: Sequence[Row]


def read_series(path: Path, *, overrides: Sequence[str] = (), phantom: MakePhantom | None = None) -> Series:
    """Read a series file.

        study: blast_cells.yaml
        title: {en: A small network and AlexNet, fa: شبکه‌ای کوچک و الکس‌نت}
        rows:
          - {name: own CNN}
          - {name: AlexNet, set: {model.network: alexnet_2014, input.height: 224, input.width: 224}}

    Args:
        path: YAML; `study` is relative to it. Each row changes fields of the study, as if they stood in its file.
        overrides: texts such as `training.epochs=2`, which change every row, after what the row changes.
        phantom: as of `load_study`.

    Raises:
        StudyError: with file, and row where one is wrong.
    """
    values, rows = read_rows(path, kind="series", fields=FIELDS, row_fields=("name", "set"))
    studies = path.parent / str(values["study"])
    return Series(
        read_title(values, path),
        [
            Row(row["name"], load_study(studies, changes=changes_in(row, where), overrides=overrides, phantom=phantom))
            for where, row in rows
        ],
    )


def read_rows(
    path: Path, *, kind: str, fields: Sequence[str], row_fields: Sequence[str]
) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    """The fields of a file that varies a study, and its rows, each with where it stands.

    Args:
        path: YAML.
        kind: what a message calls the file, as in "series".
        fields: that it may have; of the last are the rows.
        row_fields: that a row may have.

    Raises:
        StudyError: with file, and row where one is wrong.
    """
    values, listed = read_fields(path, kind=f"{kind} file"), fields[-1]
    if "data" in values:
        raise StudyError(
            f"{path} is a study, and {'an' if kind[0] in 'aeiou' else 'a'} {kind} was expected: a file that names a study and {listed}, each of which "
            f"changes some of its fields. To run the study: tabib run {path}. To compare what was run: tabib compare RUN RUN"
        )
    only_fields(values, fields, str(path))
    for name in ("study", listed):
        if name not in values:
            raise StudyError(f"{path}: there is no {name}. Expected study: FILE and {listed}: [{{name: ..., set: {{...}}}}, ...]")
    if not isinstance(values[listed], list) or not values[listed]:
        raise StudyError(f"{path}: {listed} holds no rows. Expected a list, as in\n  {listed}:\n    - {{name: first}}")
    rows: list[tuple[str, dict[str, Any]]] = []
    for number, row in enumerate(values[listed], start=1):
        where = f"{path}, row {number}"
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            raise StudyError(f"{where}: has no name. Expected {{name: ..., set: {{field: value}}}}")
        only_fields(row, row_fields, where)
        if row["name"] in (other["name"] for _, other in rows):
            raise StudyError(f"{where}: the name {row['name']!r} is given twice.")
        rows.append((where, row))
    return values, rows


def read_title(values: Mapping[str, Any], path: Path) -> Mapping[str, str]:
    """The title of such a file, by language; its name where it has none."""
    title = values.get("title") or path.stem
    if isinstance(title, dict):
        only_fields(title, LANGUAGES, f"{path}, title")
    return title if isinstance(title, dict) else dict.fromkeys(LANGUAGES, str(title))


def changes_in(row: Mapping[str, Any], where: str, name: str = "set") -> list[str]:
    """What a row changes (by `set`, or by another of its fields), as texts that `load_study` takes."""
    changes = row.get(name) or {}
    if not isinstance(changes, dict):
        raise StudyError(f"{where}: {name} is {changes!r}. Expected fields with values, as in {name}: {{training.epochs: 5}}")
    return [f"{field}={written(value)}" for field, value in changes.items()]


def run_series(
    series: Series,
    *,
    root: Path,
    command: Sequence[str] = (),
    offline: bool = False,
    progress: Progress = SILENT,
    on_step: Callable[[str, bool], None] | None = None,
) -> list[Path | Compared]:
    """Run every row of a series; a row that is done is loaded, one that was interrupted goes on.

    Returns:
        Per row its run folder, or, where it could not be run, a line that says why. Weights that cannot be had stop no other row.
    """
    done: list[Path | Compared] = []
    for row in series.rows:
        progress.say(f"{row.name}:")
        found = run_row(row.study, root=root, command=command, offline=offline, progress=progress, on_step=on_step)
        if isinstance(found, Missed):
            found = Compared(name=row.name, network=row.study.model.network, not_run=found.why, reason=found.reason)
        done.append(found)
    return done


@dataclass(frozen=True)
class Missed:
    """Why a study has no run."""

    why: NotRun
    reason: str


def run_row(
    study: AnyStudy,
    *,
    root: Path,
    command: Sequence[str] = (),
    offline: bool = False,
    explained: bool = True,
    progress: Progress = SILENT,
    on_step: Callable[[str, bool], None] | None = None,
) -> Path | Missed:
    """Run one study of several, or finish its run; what goes wrong is said and stops no other.

    Args:
        study: of the row.
        root: where run folders are kept.
        command: for the manifest.
        offline: download nothing.
        explained: whether its answers are explained, too; `tabib explain` does it later.
        progress: told of everything.
        on_step: hears each step and whether it was loaded.

    Returns:
        The run folder, or why there is none.
    """
    try:
        with open_run(study, root=root, command=list(command), until=None if explained else "evaluation", on_step=on_step) as run:
            try:
                run_study(study, run, offline=offline, progress=progress)
            except Reached:
                run.finish(write_reports)
        return run.folder
    except (TabibError, MemoryError, RuntimeError) as error:
        why = missed(error)
    progress.say(f"not run: {why.reason}")
    return why


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


def only_fields(values: Mapping[str, object], fields: Sequence[str], where: str) -> None:
    """Raise `StudyError` where something is none of the fields, with the nearest of them; `where` it stands."""
    for name in values:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Fields are {', '.join(fields)}."
            raise StudyError(f"{where}: there is no field {name}. {hint}")
