"""Tables that say what images are: CSV in whatever encoding and with whatever separator, TSV, Parquet.

Every value is text, as it stands; an empty one is null.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from tabib.config import AnyData, BaseColumns, Columns, Data
from tabib.dataset.listing import NOT_NAMED, PART_NAMES, Listed, list_files, part_of, without_suffix
from tabib.errors import DataError, StudyError
from tabib.images import name_and_frame
from tabib.records import LABEL_SEPARATOR

__all__ = ["Files", "keep_line", "list_table", "read_lines", "read_table", "said_in_table", "said_of"]

SEPARATORS = (",", ";", "\t", "|")

MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
"""How a file in Unicode may begin."""

PRESENT = frozenset(["1", "1.0", "yes", "y", "true", "t", "present", "positive", "+", "بله", "دارد", "مثبت"])
ABSENT = frozenset(["0", "0.0", "no", "n", "false", "f", "absent", "negative", "-", "خیر", "ندارد", "منفی"])
"""How a column of one of several labels says that it is there, and that it is not; in small letters."""

_SNIFFED = 50  # lines that the separator is found from


def list_table(data: Data) -> list[Listed]:
    """List what the table of a study says of the files below its folder; a file that it does not name is refused."""
    assert data.table is not None
    found = {entry.path: entry for entry in list_files(data.folder)}
    listed = said_in_table(data, [path for path, entry in found.items() if entry.refused is None])
    named = {entry.file for entry in listed.values()}
    for file in {entry.file for entry in listed.values() if entry.frame is not None} & listed.keys():
        listed[file] = replace(listed[file], refused=f"{data.table.name} names frames of it, too; name the file or its frames")
    for path, entry in found.items():
        if path not in named:
            listed[path] = Listed(path, refused=entry.refused or NOT_NAMED)
    return list(listed.values())


def said_in_table(data: AnyData, paths: list[str]) -> dict[str, Listed]:
    """What the lines of the study's table say of files, by path; a line that names none of them stands under its own name, refused."""
    assert data.table is not None
    files = Files(paths)
    said: dict[str, Listed] = {}
    for place, row in read_lines(data):
        entry = _of_line(row, files, data.columns, place)
        keep_line(said, entry.path, entry, data.table)
    return said


def read_lines(data: AnyData) -> Iterator[tuple[str, dict[str, Any]]]:
    """The lines of the study's table, each with its place: a value per field of `data.columns`; `StudyError` where a column is missing."""
    assert data.table is not None
    table = read_table(data.table)
    labels = data.columns.labels if isinstance(data.columns, Columns) else []
    no_names = {"facts", "labels", "separator", "no_finding", *(["label"] if labels else [])}
    columns = {field: name for field, name in data.columns.model_dump(exclude=no_names).items() if name is not None}
    asked = [*columns.items(), *(("labels", name) for name in labels), *(("facts", name) for name in data.columns.facts)]
    missing = [f"{field}: {name}" for field, name in asked if name not in table.columns]
    if missing:
        near = [
            f"{name[0]} for {wrong}"
            for _, wrong in asked
            if wrong not in table.columns and (name := difflib.get_close_matches(wrong, table.columns, n=1))
        ]
        raise StudyError(
            f"{data.table} has no column for {', '.join(missing)}. It has: {', '.join(table.columns)}. "
            + (f"Did you mean {', '.join(near)}? " if near else "")
            + "Name the columns of your table in data.columns, as in {path: image_id, label: diagnosis, group: patient}."
        )
    table = table.select(
        pl.struct(data.columns.facts or pl.lit(None)).alias("facts"),
        pl.struct(labels or pl.lit(None)).alias("labels"),
        **{field: pl.col(name) for field, name in columns.items()},
    )
    for line, row in enumerate(table.iter_rows(named=True), start=2):
        yield f"{data.table.name}, line {line}", row


def keep_line(said: dict[str, Listed], name: str, entry: Listed, table: Path) -> None:
    """Keep what a line says under a name; what an earlier line contradicts is refused."""
    other = said.setdefault(name, entry)
    if other != entry and not other.refused:
        said[name] = replace(other, refused=f"stands in {table.name} several times, and not with the same values")


def said_of(path: str, row: dict[str, Any], columns: BaseColumns, place: str) -> Listed:
    """What a line of a table says of the image at a path."""
    part = row.get("part")
    given, refused = part_of(part) if part else None, None
    if part and given is None:
        refused = f"the part of the split is {part!r}, and must be one of {', '.join(PART_NAMES)}, or the number of a fold ({place})"
    label, unclear = _label_of(row, columns)
    refused = refused or (unclear and f"{unclear} ({place})")
    facts = {name: row[name] for name in ("scanner", "site", "date") if row.get(name)}
    if further := {name: value for name, value in row["facts"].items() if value is not None}:
        facts["facts"] = json.dumps(further, ensure_ascii=False)
    return Listed(path, label, given, refused, row.get("group"), facts)


def _of_line(row: dict[str, Any], files: Files, columns: BaseColumns, place: str) -> Listed:
    """What one line of a table says of an image."""
    name = row["path"]
    found, frame = (files.find(name), None) if name else ([], None)
    if name and not found:
        file, frame = name_and_frame(name)
        found = files.find(file)
    if len(found) == 1:
        path = found[0] + ("" if frame is None else f"[{frame}]")
        return replace(said_of(path, row, columns, place), frame=frame)
    if not found:
        refused = f"there is no such file below the folder ({place})" if name else f"the line names no file ({place})"
    else:
        refused = f"{len(found)} files are called so, as {found[0]!r} and {found[1]!r}; write the path below the folder ({place})"
    return replace(said_of(name or place, row, columns, place), refused=refused)


def _label_of(row: dict[str, Any], columns: BaseColumns) -> tuple[str | None, str | None]:
    """The label of a line, null where it says nothing, and why it cannot be told."""
    if not isinstance(columns, Columns):
        return None, None
    if columns.labels:
        said: dict[str, str | None] = row["labels"]
        if not any(said.values()):
            return None, None
        unclear = [name for name, word in said.items() if not word or word.casefold() not in PRESENT | ABSENT]
        if unclear:
            word = said[unclear[0]]
            return None, f"{unclear[0]} is {repr(word) if word else 'empty'}, and must be 1 or 0, yes or no, or true or false"
        names = {unicodedata.normalize("NFC", name) for name, word in said.items() if word and word.casefold() in PRESENT}
        return LABEL_SEPARATOR.join(sorted(names)), None
    text = row["label"] and unicodedata.normalize("NFC", row["label"])
    if not text or columns.separator is None:
        return text, None
    words = {word.strip() for word in text.split(columns.separator)} - {""}
    names = {word for word in words if word.casefold() != columns.no_finding.casefold()}
    if names and names != words:
        return None, f"{text!r} says both that there is a finding and that there is none"
    if any(LABEL_SEPARATOR in name for name in names):
        return None, f"a finding in {text!r} holds the sign {LABEL_SEPARATOR}: data.columns.separator is {columns.separator!r}"
    return LABEL_SEPARATOR.join(sorted(names)), None


def read_table(path: Path) -> pl.DataFrame:
    """Read a table as text.

    A CSV file is read as UTF-8 or UTF-16 where it is; else as Windows-1256 (Persian, Arabic) where letters beyond ASCII
    stand side by side, as Windows-1252 where they stand alone among Latin ones. The separator is whichever of comma,
    semicolon, tab and bar divides the first lines into the same number of columns, and into most.

    Returns:
        A column of strings per column of the file, without spaces around names and values; null for an empty value.

    Raises:
        DataError: no such file, no table, columns without a name or with the same one.
    """
    try:
        parquet = path.suffix.lower() == ".parquet"
        table = pl.read_parquet(path).cast(pl.String) if parquet else _from_csv(path.read_bytes(), path)
    except OSError as error:
        raise DataError(f"The table {path} cannot be read: {error.strerror}. Check data.table; it is relative to the study file.") from None
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not a table that can be read ({reason}). Expected CSV, TSV or Parquet with a line per image.") from None
    if table.is_empty():
        raise DataError(f"{path} holds no lines below its header. Expected a line per image.")
    return table.select(pl.all().str.strip_chars().replace("", None))


def _from_csv(data: bytes, path: Path) -> pl.DataFrame:
    text = data.decode(_encoding(data), errors="replace")
    lines = text.splitlines()[:_SNIFFED]
    if not lines:
        raise DataError(f"{path} is empty. Expected a table with a line per image.")
    separator = max(SEPARATORS, key=lambda sign: _columns(lines, sign))
    names = [name.strip() for name in next(csv.reader(lines[:1], delimiter=separator))]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not all(names):
        raise DataError(
            f"{path} has {f'the column {twice[0]!r} twice' if twice and twice[0] else 'a column without a name'}. Give each column a name of its own."
        )
    try:
        return pl.read_csv(io.BytesIO(text.encode()), separator=separator, infer_schema=False, new_columns=names)
    except pl.exceptions.PolarsError:
        if (line := _bad_quotes(text, separator)) is None:
            raise
        raise DataError(
            f'{path}, line {line}: a quotation mark (") opens a value and does not close it. Close it, or write it twice.'
        ) from None


def _bad_quotes(text: str, separator: str) -> int | None:
    """The line that begins a row whose quotation marks do not fit, or `None`."""
    line, rows = 1, csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    try:
        for _ in rows:
            line = rows.line_num + 1
    except csv.Error:
        return line
    return None


def _encoding(data: bytes) -> str:
    for mark, name in MARKS:
        if data.startswith(mark):
            return name
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        beyond = re.findall(rb"[\x80-\xff]+", data)
        return "cp1256" if sum(map(len, beyond)) >= 2 * len(beyond) else "cp1252"
    return "utf-8"


def _columns(lines: list[str], separator: str) -> tuple[bool, int]:
    """Whether a separator divides every line alike, and into how many columns."""
    try:
        widths = {len(cells) for cells in csv.reader(lines, delimiter=separator) if cells}
    except csv.Error:
        return False, 0
    # The last of the lines may be cut inside a quoted value; one column is no division at all.
    return len(widths) == 1 and widths != {1}, max(widths, default=0)


class Files:
    """The files below a folder, found by whatever a table calls them.

    A table may write the path below the folder, the name alone, or either without its suffix (public sets often do). Of a path
    from the root of another machine the end is compared.
    """

    def __init__(self, paths: list[str]) -> None:
        """`paths` are relative to the folder, with "/" between parts."""
        self._paths = set(paths)
        self._called: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            for name in dict.fromkeys((path, without_suffix(path), _last(path), without_suffix(_last(path)))):
                self._called[name].append(path)

    def find(self, name: str) -> list[str]:
        """The paths that a name may stand for: one where it is clear, none where there is no such file."""
        wanted = name.replace("\\", "/").removeprefix("./")
        tails = [wanted]
        if _FROM_ROOT.match(wanted):
            parts = _FROM_ROOT.sub("", wanted).split("/")
            tails = ["/".join(parts[start:]) for start in range(len(parts))]
        for tail in tails:
            if tail in self._paths:
                return [tail]
            if found := self._called.get(tail):
                return found
        return []


_FROM_ROOT = re.compile(r"^([A-Za-z]:)?/+")


def _last(path: str) -> str:
    return path.rpartition("/")[2]
