"""A series: one study and rows that each change some of its fields, in a file a person can read."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabib.config import AnyStudy
from tabib.errors import MissingPackageError, StudyError, TabibError, WeightsError
from tabib.progress import SILENT, Progress
from tabib.records import Compared
from tabib.reports import LANGUAGES
from tabib.runs import open_run
from tabib.study import run_study
from tabib.study_file import load_study, read_fields

__all__ = ["Row", "Series", "read_series", "run_series"]

FIELDS = ("study", "title", "rows")


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


def read_series(path: Path, *, overrides: Sequence[str] = ()) -> Series:
    """Read a series file.

        study: blast_cells.yaml
        title: {en: A small network and AlexNet, fa: شبکه‌ای کوچک و الکس‌نت}
        rows:
          - {name: own CNN}
          - {name: AlexNet, set: {model.network: alexnet_2014, input.height: 224, input.width: 224}}

    Args:
        path: YAML; `study` is relative to it. Each row changes fields of the study, as if they stood in its file.
        overrides: texts such as `training.epochs=2`, which change every row, after what the row changes.

    Raises:
        StudyError: with file, and row where one is wrong.
    """
    values = read_fields(path, kind="series file")
    if "data" in values:
        raise StudyError(
            f"{path} is a study, and a series was expected: a file that names a study and rows, each of which changes some of its fields. "
            f"To run the study: tabib run {path}. To compare what was run: tabib compare RUN RUN"
        )
    _only(values, FIELDS, str(path))
    for name in ("study", "rows"):
        if name not in values:
            raise StudyError(f"{path}: a series has no {name}. Expected study: FILE and rows: [{{name: ..., set: {{...}}}}, ...]")
    if not isinstance(values["rows"], list) or not values["rows"]:
        raise StudyError(f"{path}: rows holds no rows. Expected a list, as in\n  rows:\n    - {{name: first}}")
    rows: list[Row] = []
    for number, row in enumerate(values["rows"], start=1):
        where = f"{path}, row {number}"
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            raise StudyError(f"{where}: has no name. Expected {{name: ..., set: {{field: value}}}}")
        _only(row, ("name", "set"), where)
        if row["name"] in (other.name for other in rows):
            raise StudyError(f"{where}: the name {row['name']!r} is given twice.")
        changes = row.get("set") or {}
        if not isinstance(changes, dict):
            raise StudyError(f"{where}: set is {changes!r}. Expected fields with values, as in set: {{training.epochs: 5}}")
        changed = [f"{field}={_text(value)}" for field, value in changes.items()]
        rows.append(Row(row["name"], load_study(path.parent / str(values["study"]), changes=changed, overrides=overrides)))
    title = values.get("title") or path.stem
    if isinstance(title, dict):
        _only(title, LANGUAGES, f"{path}, title")
    return Series(title if isinstance(title, dict) else dict.fromkeys(LANGUAGES, str(title)), rows)


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
        try:
            with open_run(row.study, root=root, command=list(command), on_step=on_step) as run:
                run_study(row.study, run, offline=offline, progress=progress)
            done.append(run.folder)
        except TabibError as error:
            missing = isinstance(error, WeightsError | MissingPackageError)
            progress.say(f"not run: {error}")
            done.append(
                Compared(name=row.name, network=row.study.model.network, not_run="weights" if missing else "error", reason=str(error))
            )
    return done


def _text(value: object) -> str:
    """A value as `--set` takes it."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_text(each)}' for name, each in value.items())}}}"
    return str(value)


def _only(values: Mapping[str, object], fields: Sequence[str], where: str) -> None:
    for name in values:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Fields are {', '.join(fields)}."
            raise StudyError(f"{where}: there is no field {name}. {hint}")
