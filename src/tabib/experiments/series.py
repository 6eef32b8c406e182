"""A series: one study and rows that each change some of its fields, in a file a person can read."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabib.config import AnyStudy
from tabib.errors import StudyError
from tabib.experiments.trainings import Missed, Row, run_rows
from tabib.progress import SILENT, Progress
from tabib.records import Compared, Pace
from tabib.reports import LANGUAGES
from tabib.study_file import MakePhantom, load_study, read_fields, with_article, written

__all__ = ["Series", "changed_study", "changes_in", "only_fields", "read_rows", "read_series", "read_title", "refuse_set", "run_series"]

FIELDS = ("study", "title", "rows")


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
            Row(row["name"], changed_study(studies, changes_in(row, where), where, overrides=overrides, phantom=phantom))
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
            f"{path} is a study, and {with_article(kind)} was expected: a file that names a study and {listed}, each of which "
            f"changes some of its fields. To run the study: tabib run {path}. To compare what was run: tabib compare RUN RUN"
        )
    only_fields(values, fields, str(path))
    for name in ("study", listed):
        if name not in values:
            raise StudyError(f"{path}: there is no {name}. Expected study: FILE and {listed}: [{{name: ..., set: {{...}}}}, ...]")
    if not isinstance(values["study"], str):
        raise StudyError(f"{path}: study is {values['study']!r}. Expected the name of a study file.")
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
    if not isinstance(title, (str, dict)):
        raise StudyError(f"{path}: title is {title!r}. Expected a text, or one of each language, as in {{en: ..., fa: ...}}")
    if isinstance(title, dict):
        only_fields(title, LANGUAGES, f"{path}, title")
    return title if isinstance(title, dict) else dict.fromkeys(LANGUAGES, str(title))


def changes_in(row: Mapping[str, Any], where: str, name: str = "set") -> list[str]:
    """What a row changes (by `set`, or by another of its fields), as texts that `load_study` takes."""
    changes = row.get(name) or {}
    if not isinstance(changes, dict):
        raise StudyError(f"{where}: {name} is {changes!r}. Expected fields with values, as in {name}: {{training.epochs: 5}}")
    return [f"{field}={written(value)}" for field, value in changes.items()]


def changed_study(
    place: Path,
    changes: Sequence[str],
    where: str,
    *,
    overrides: Sequence[str] = (),
    changes_win: bool = False,
    phantom: MakePhantom | None = None,
) -> AnyStudy:
    """The study of a row, as `load_study` makes it of what the row changes; `where` the row stands.

    Raises:
        StudyError: with file and row, unless the study is wrong without the row, too.
    """
    try:
        return load_study(place, changes=changes, overrides=overrides, changes_win=changes_win, phantom=phantom)
    except StudyError as error:
        load_study(place, overrides=overrides, phantom=phantom)
        raise StudyError(f"{where}: {error}") from None


def refuse_set(overrides: Sequence[str], fields: Mapping[str, str]) -> None:
    """Raise `StudyError` where a --set changes a field that would do nothing here; `fields` name what to say in its place."""
    for text in overrides:
        field = text.partition("=")[0].strip()
        if field in fields:
            raise StudyError(f"--set {text}: {field} changes nothing here. Say it by {fields[field]}.")


def run_series(
    series: Series,
    *,
    root: Path,
    command: Sequence[str] = (),
    offline: bool = False,
    progress: Progress = SILENT,
    on_step: Callable[[str, bool], None] | None = None,
) -> tuple[list[Path | Compared], Pace | None]:
    """Run every row of a series, as `run_rows` does.

    Returns:
        Per row its run folder, or, where it could not be run, a line that says why; and the pace of all. Weights that cannot be had stop no
        other row.
    """
    ran = run_rows(series.rows, root=root, command=command, offline=offline, progress=progress, on_step=on_step)
    done = [
        Compared(name=row.name, network=row.study.model.network, not_run=found.why, reason=found.reason)
        if isinstance(found, Missed)
        else found
        for row, found in zip(series.rows, ran.found, strict=True)
    ]
    return done, ran.pace


def only_fields(values: Mapping[str, object], fields: Sequence[str], where: str) -> None:
    """Raise `StudyError` where something is none of the fields, with the nearest of them; `where` it stands."""
    for name in values:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Fields are {', '.join(fields)}."
            raise StudyError(f"{where}: there is no field {name}. {hint}")
