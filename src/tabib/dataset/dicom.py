"""Trees of DICOM files under any names, as hospitals export them, and a table that names them by an identifier in their headers.

What a header calls a patient, a study or a series leaves this room in no row and no message: those hold names of files,
lines of the table and counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tabib.config import Data
from tabib.dataset.listing import NOT_NAMED, Listed, list_files
from tabib.dataset.table import keep_line, read_lines, said_of
from tabib.engines import Crashed, map_in_processes
from tabib.errors import DataError
from tabib.images import IDENTIFIERS, identify_dicom
from tabib.progress import SILENT, Progress

__all__ = ["list_dicom"]

_Files = Mapping[str, list[str]]  # of one kind of identifier: the paths that have each value


def list_dicom(data: Data, *, workers: int | None = None, progress: Progress = SILENT) -> list[Listed]:
    """List the DICOM pictures below the folder, with what the table says of them; without a table they have no label.

    A line speaks of every picture with its identifier. A line without a picture is refused, and so is a file that is no
    picture or that no line names. Only headers are read.
    """
    found = list_files(data.folder)
    paths = [entry.path for entry in found if entry.refused is None]
    headers = map_in_processes(identify_dicom, [data.folder / path for path in paths], workers=workers, progress=progress, name="headers")
    listed = [entry for entry in found if entry.refused is not None]
    pictures: list[str] = []
    files: dict[str, defaultdict[str, list[str]]] = {kind: defaultdict(list) for kind in IDENTIFIERS}
    for path, header in zip(paths, headers, strict=True):
        refused = f"reading the header crashed: {header.reason}" if isinstance(header, Crashed) else header.refused
        if isinstance(header, Crashed) or refused:
            listed.append(Listed(path, refused=refused))
            continue
        pictures.append(path)
        for kind, value in header.identifiers.items():
            files[kind][value].append(path)
    if data.table is None or not pictures:
        return listed + [Listed(path) for path in pictures]
    lines = [(place, " ".join((row["path"] or "").split()), row) for place, row in read_lines(data)]
    kind = _kind_of([value for _, value, _ in lines if value], files, data)
    said: dict[str, Listed] = {}
    for place, value, row in lines:
        if value in files[kind]:
            keep_line(said, value, said_of("", row, data.columns, place), data.table)
        else:
            reason = f"no DICOM picture below the folder has this {kind}" if value else "the line names no picture"
            listed.append(replace(said_of(place, row, data.columns, place), refused=reason))
    named = {path: replace(entry, path=path) for value, entry in said.items() for path in files[kind][value]}
    return listed + [named.get(path, Listed(path, refused=NOT_NAMED)) for path in pictures]


def _kind_of(values: Sequence[str], files: Mapping[str, _Files], data: Data) -> str:
    """Which identifier the table names pictures by: the one that most of its lines are found as."""
    counts = {kind: sum(value in files[kind] for value in values) for kind in IDENTIFIERS}
    best = [kind for kind, count in counts.items() if count == max(counts.values())]
    column = data.columns.path
    if max(counts.values()) == 0:
        there = ", ".join(f"{len(files[kind]):,} values of {kind}" for kind in IDENTIFIERS)
        raise DataError(
            f"None of the {len(values):,} values in column {column!r} of {data.table} is found in the DICOM files below {data.folder}, "
            f"which have {there}. The column must hold one of these, written as in the files: check data.columns.path and data.folder."
        )
    said = [kind for kind in best if kind.casefold() == column.casefold()]
    if len(best) > 1 and not said and any(files[kind].get(value) != files[best[0]].get(value) for value in set(values) for kind in best):
        found = ", ".join(f"{count:,} as {kind}" for kind, count in counts.items())
        raise DataError(
            f"It is not clear what column {column!r} of {data.table} names: of its {len(values):,} values, {found} are found, and they speak "
            f"of different pictures. Call the column what it is, as in data.columns: {{path: {best[-1]}}}, or use a column of UIDs."
        )
    return (said or best)[0]
