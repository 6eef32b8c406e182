"""Who trains, who chooses and who judges.

What is never divided is a *unit*: the rows joined by a patient, by exact copies (the same bytes or the same pixels) or
by a cluster of near copies, followed through. Every way to split gives a unit one part, unless the study asks aloud for
images to be drawn one by one (`split.by: image`) or for copies not to hold one another (`data.copies: keep`):

- by ratio, into folds, or into the test sets of a cross-validation: `balance.divide`;
- *given* by folders or by a file: rows stay where they were put, a unit that stands on two sides is a leak, and
  `split.leaks` says what to do. The side that judges has precedence: test over validation over training.

Each row of the index is one row of the split; one that takes no part is "left_out" with its reason.
"""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from tabib.config import AnyData, AnyStudy, Data, Segmentation, SegmentationData, Split, Study
from tabib.dataset.balance import divide
from tabib.dataset.groups import frames_of, held_together
from tabib.dataset.listing import FOLD, given_parts
from tabib.dataset.positive import positive_class
from tabib.errors import DataError, LeakError, StudyError
from tabib.records import PARTS, SPLIT_SCHEMA, Findings, labels_of

__all__ = ["LEFT_OUT", "read_split_csv", "split_dataset"]

LEFT_OUT = "left_out"

BENCH = {"train": 40, "validation": 20, "test": 20}
"""Images of each class that `scale: bench` leaves in each part."""


def split_dataset(index: pl.DataFrame, findings: Findings, study: AnyStudy) -> pl.DataFrame:
    """Give every row of the index its part.

    The draw depends on the seed, the groups and the contents of the images, never on the order of rows or on file
    names. It is nearly stable: a unit starts in a part by its own hash alone, and only as many move as the shares ask
    for, so an image added or removed moves a few others, not all. (It is not fully stable: no draw with exact shares is.)

    Args:
        index: INDEX_SCHEMA.
        findings: its `near_copies` are held together.
        study: its `split` and `data.copies`.

    Returns:
        SPLIT_SCHEMA, in the order of the index. `group` is the unit, also where a study asked to draw it apart: a leak
        that was asked for can be seen in the table.

    Raises:
        LeakError: given parts share a unit and `split.leaks` is "refuse".
        StudyError: `positive` names no class, or `split.test_fold` or `split.folds` does not go with the folds that are given.
        DataError: no labels; a class that cannot reach every part; a split file that does not fit the index.
    """
    split = study.split
    if index["label"].null_count() == len(index):
        if isinstance(study, Segmentation):
            raise DataError(
                f"None of the {index['refused'].null_count():,} images has a mask, and a segmenter learns from masks. Check data.folder."
            )
        raise DataError(
            f"None of the {index['refused'].null_count():,} images has a label, and a classifier learns from labels. Bring a table that says them, as in "
            "data: {layout: dicom, table: labels.csv, columns: {path: StudyInstanceUID, label: diagnosis}}."
        )
    table = _Table(index, findings, study)
    if isinstance(study, Study) and study.positive is not None:
        positive_class(study.positive, sorted({label for kinds in table.kinds for label in kinds}))
    if split.given or split.file is not None:
        _place_given(table, study.data, split)
        if split.folds is not None and not any(fold is not None for fold in table.fold):
            table.part = ["train" if part == "validation" else part for part in table.part]
        _leave_out_leaks(table, split)
    if study.data.copies != "keep":
        _leave_out_copies(table, keep_one=study.data.copies == "keep_one")
    _check_classes_left(table)
    _draw(table, split)
    if not isinstance(study, Segmentation):  # every image of a part may well show the same structures
        _check_parts(table)
    if split.learn_from < 1:
        _learn_from(table, split)
    if study.scale == "bench":
        _thin(table)
    return table.frame()


class _Table:
    """The split while it is made: a value per row of the index."""

    def __init__(self, index: pl.DataFrame, findings: Findings, study: AnyStudy) -> None:
        self.path: list[str] = index["path"].to_list()
        self.content: list[str | None] = index["content"].to_list()
        self.pixels: list[str | None] = index["pixels"].to_list()
        self.label: list[str | None] = index["label"].to_list()
        self.several = study.several
        self.word = "structure" if isinstance(study, Segmentation) else "label" if study.several else "class"  # what is to be told apart
        self.kinds = [labels_of(label, several=self.several) for label in self.label]  # what each row counts for
        self.given: list[str | None] = given_parts(index, study.split.test_fold).to_list()
        self.folds_given = set(index["given"])
        self.part: list[str | None] = [None] * len(index)
        self.fold: list[int | None] = [None] * len(index)
        self.reason: list[str | None] = [None] * len(index)
        self.patient: list[str | None] = held_together(index).to_list()
        if study.split.group_scope == "split":
            self.patient = [f"{part}/{name}" if name and part else name for name, part in zip(self.patient, self.given, strict=True)]
        for row, refused in enumerate(index["refused"].to_list()):
            if refused is not None:
                self.leave_out(row, f"refused: {refused}")
            elif self.label[row] is None:
                self.leave_out(row, "has no mask" if isinstance(study, Segmentation) else "has no label")
        self.good = [row for row in range(len(index)) if self.part[row] is None]
        copies = (self.content, self.pixels)
        self.units = self._joined((self.patient, *copies), findings.near_copies)
        self.drawn = self.units  # what a draw does not divide
        held = copies if study.data.copies != "keep" else ()
        if study.split.by == "image":
            self.drawn = self._joined((frames_of(index).to_list(), *held))
        elif not held:
            self.drawn = self._joined((self.patient,), findings.near_copies)
        unit_of = {row: name for name, rows in self.units.items() for row in rows}
        self.group: list[str | None] = [unit_of.get(row, self.patient[row]) for row in range(len(index))]

    def leave_out(self, row: int, reason: str) -> None:
        self.part[row], self.fold[row], self.reason[row] = LEFT_OUT, None, reason

    def _joined(self, keys: Sequence[Sequence[str | None]], clusters: Sequence[Sequence[int]] = ()) -> dict[str, list[int]]:
        """The good rows that share a key or a cluster, followed through, each set under a name of its own."""
        joined = _Joined(len(self.path))
        for key in keys:
            first: dict[str, int] = {}
            for row in self.good:
                name = key[row]
                if name is not None:
                    joined.join(first.setdefault(name, row), row)
        good = set(self.good)
        for cluster in clusters:
            rows = [row for row in cluster if row in good]
            for row in rows[1:]:
                joined.join(rows[0], row)
        sets: dict[int, list[int]] = defaultdict(list)
        for row in self.good:
            sets[joined.root(row)].append(row)
        named: dict[str, list[list[int]]] = defaultdict(list)
        for rows in sets.values():
            named[self._name(rows, by_patient=self.patient in keys)].append(rows)
        # Copies that do not hold one another have one name; which of them gets which number changes nothing but the file.
        numbered = ((f"{name}.{number}" if number else name, rows) for name, sets in named.items() for number, rows in enumerate(sets))
        return dict(numbered)

    def _name(self, rows: Sequence[int], *, by_patient: bool) -> str:
        """A name that depends on who and what is in the set, not on where the files lie."""
        patients = [name for row in rows if (name := self.patient[row])] if by_patient else []
        if patients:
            return min(patients)
        first = min(content for row in rows if (content := self.content[row]))
        return f"image-{first[:16]}"

    def frame(self) -> pl.DataFrame:
        columns = {
            "row": range(len(self.path)),
            "path": self.path,
            "content": self.content,
            "label": self.label,
            "group": self.group,
            "part": self.part,
            "fold": self.fold,
            "reason": self.reason,
        }
        return pl.DataFrame(columns, schema=SPLIT_SCHEMA)


class _Joined:
    """Which rows belong together (disjoint sets, Tarjan 1975)."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def root(self, row: int) -> int:
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row

    def join(self, first: int, second: int) -> None:
        one, other = sorted((self.root(first), self.root(second)))
        self._parent[other] = one


def _place_given(table: _Table, data: AnyData, split: Split) -> None:
    if split.file is not None:
        _place_by_file(table, split.file)
    else:
        _place_as_given(table, split)
    for part in ("train", "test"):
        if part not in table.part:
            source, todo = _given_by(data, split)
            if part == "test" and any(fold is not None for fold in table.fold):
                raise DataError(
                    f"{source} gives folds and no test set. Say which fold judges, as in split: {{given: true, test_fold: {max(filter(None, table.fold))}}}"
                )
            raise DataError(
                f"The split is given, and {source} gives no image to {part}. {todo}; to draw a split instead, set split.given: false."
            )
    missing = [table.path[row] for row in table.good if table.part[row] is None]
    if missing:
        raise DataError(f"{len(missing)} images are in no given part, as {_examples(missing)}. {_given_by(data, split)[1]}.")


def _given_by(data: AnyData, split: Split) -> tuple[str, str]:
    """What says which part an image is in, and how it is to say it."""
    parts = ", ".join(PARTS)
    if split.file is not None:
        return str(split.file), f"Expected one of {parts} in its column `part`"
    if data.layout in ("class_folders", "npz"):
        return str(data.folder), f"Expected {'folders' if data.layout == 'class_folders' else 'arrays'} named after {parts}"
    if isinstance(data, SegmentationData) and data.columns.part is None:
        return str(data.folder), f"Expected folders named after {parts}, or a column of data.table that says them"
    if isinstance(data, Data) and data.pattern is not None:
        return "data.pattern", f"Expected one of {parts} where its group `part` matches"
    if data.columns.part is None:
        return str(data.table), f"Name the column that says {parts} or the number of a fold, as in data: {{columns: {{part: split}}}}"
    return (
        f"the column {data.columns.part!r} of {data.table}",
        f"Expected one of {parts}, or the number of a fold, in each line (data.columns.part)",
    )


def _place_as_given(table: _Table, split: Split) -> None:
    for row in table.good:
        part = table.given[row]
        table.part[row] = part
        if part is not None and part.startswith(FOLD):
            table.part[row], table.fold[row] = "train", int(part.removeprefix(FOLD))
    folds = sorted({fold for fold in table.fold if fold is not None})
    if split.test_fold is not None and f"{FOLD}{split.test_fold}" not in table.folds_given:
        raise StudyError(f"split.test_fold is {split.test_fold}, and the folds that are given are {', '.join(map(str, folds)) or 'none'}.")
    if folds and split.folds is not None:
        raise StudyError(f"split.folds is {split.folds}, and the folds {', '.join(map(str, folds))} are given. Leave split.folds out.")
    without = [table.path[row] for row in table.good if folds and table.part[row] in ("train", "validation") and table.fold[row] is None]
    if without:
        raise DataError(
            f"Some images have a fold, and {len(without)} are in train or validation without one, as {_examples(without)}. Give each a fold."
        )


def _place_by_file(table: _Table, file: Path) -> None:
    written = read_split_csv(file)
    rows = {path: row for row, path in enumerate(table.path)}
    unknown = [path for path in written["path"] if path not in rows]
    if unknown:
        raise DataError(
            f"{file} names {len(unknown)} files that the data folder does not hold, as {_examples(unknown)}. "
            "Paths are relative to data.folder; correct them or take the lines out."
        )
    for path, part, fold, reason in written.select("path", "part", "fold", "reason").iter_rows():
        row = rows[path]
        if table.part[row] is not None:
            continue
        if part == LEFT_OUT:
            table.leave_out(row, reason or "left out by the split file")
        else:
            table.part[row], table.fold[row] = part, fold
    missing = [table.path[row] for row in table.good if table.part[row] is None]
    if missing:
        raise DataError(
            f"{file} does not name {len(missing)} images of the data folder, as {_examples(missing)}. "
            f"Give each a part, or {LEFT_OUT} where it should take none."
        )


def _leave_out_leaks(table: _Table, split: Split) -> None:
    """In each unit, only the rows on the side with the highest precedence stay."""
    leaks: list[tuple[int, int]] = []
    for rows in table.units.values():
        inside = [row for row in rows if table.part[row] != LEFT_OUT]
        if len({_side(table, row) for row in inside}) < 2:
            continue
        judge = min(inside, key=lambda row: (_side(table, row), row))
        leaks += [(row, judge) for row in inside if _side(table, row) != _side(table, judge)]
    if not leaks or split.leaks == "keep":
        return
    if split.leaks == "refuse":
        raise LeakError(_leak_message(table, sorted(leaks)))
    for row, judge in leaks:
        part = table.part[judge] if table.fold[judge] is None else f"fold {table.fold[judge]}"
        table.leave_out(row, f"leak: shares a patient or a copy with row {judge} of {part}")


def _side(table: _Table, row: int) -> tuple[int, int]:
    return -PARTS.index(table.part[row] or ""), -1 if (fold := table.fold[row]) is None else fold


def _leak_message(table: _Table, leaks: Sequence[tuple[int, int]]) -> str:
    totals = {part: table.part.count(part) for part in PARTS}
    counts: dict[tuple[str | None, str | None], int] = defaultdict(int)
    for row, judge in leaks:
        counts[table.part[row], table.part[judge]] += 1
    said = "; ".join(
        f"{count} of {totals[part or '']} {part} images share a patient or a copy with {other}" for (part, other), count in counts.items()
    )
    examples = "\n".join(f"    {table.path[row]!r} and {table.path[judge]!r}" for row, judge in leaks[:5])
    return (
        f"The given split leaks: {said}. For example:\n{examples}\n"
        "A model would be judged on people it was trained on. Choose one, in `split`:\n"
        "    leaks: drop          leave those images out of the part that does not judge (the test set is not touched)\n"
        "    group_scope: split   where the same name means another person in each part (copies still count)\n"
        "    leaks: keep          keep them, and the report warns on its first page"
    )


def _leave_out_copies(table: _Table, *, keep_one: bool) -> None:
    """Keep one of each set of exact copies. A given test set judges as it was given: of its rows only those go whose label is contradicted."""
    joined = _Joined(len(table.path))
    for key in (table.content, table.pixels):
        first: dict[str, int] = {}
        for row in table.good:
            if (name := key[row]) is not None:
                joined.join(first.setdefault(name, row), row)
    sets: dict[int, list[int]] = defaultdict(list)
    for row in table.good:
        if table.part[row] != LEFT_OUT:
            sets[joined.root(row)].append(row)
    for copies in sets.values():
        if len(copies) == 1:
            continue
        judges = [row for row in copies if table.part[row] == "test"]
        if len({table.label[row] for row in judges or copies}) > 1:
            listed = ", ".join(str(row) for row in copies[:5])
            for row in copies:
                table.leave_out(row, f"copies with two labels: rows {listed}")
            continue
        kept = judges or [min(copies, key=lambda row: (table.part[row] != "validation", table.path[row]))]
        for row in copies:
            if row not in kept and (keep_one or table.label[row] != table.label[kept[0]]):
                table.leave_out(row, f"copy of row {kept[0]}")


def _draw(table: _Table, split: Split) -> None:
    """Fill the parts that nobody gave."""
    if any(fold is not None for fold in table.fold):
        return
    drawn = [row for row in table.good if table.part[row] is None]
    if drawn:
        learn = {"train": 1 - split.test} if split.folds is not None else {"train": split.train, "validation": split.validation}
        if split.turn is None:
            _assign(table, drawn, {**learn, "test": split.test}, split)
        else:
            left = _take_turn(table, drawn, split)
            _assign(table, left, {part: share / sum(learn.values()) for part, share in learn.items()}, split)
    if split.folds is not None:
        training = [row for row in table.good if table.part[row] == "train"]
        _assign(table, training, {str(fold): 1 / split.folds for fold in range(split.folds)}, split)
        for row in training:
            table.fold[row], table.part[row] = int(table.part[row] or 0), "train"
    elif not drawn and "validation" not in table.part:
        _needs(split.validation, "split.validation")
        _needs(1 - split.validation, "1 - split.validation")
        training = [row for row in table.good if table.part[row] == "train"]
        _assign(table, training, {"train": 1 - split.validation, "validation": split.validation}, split)


def _take_turn(table: _Table, rows: Sequence[int], split: Split) -> list[int]:
    """Divide rows into the test sets of a cross-validation, give one its turn, and return the other rows."""
    turns = [f"turn {turn}" for turn in range(split.turns or 0)]
    _assign(table, rows, dict.fromkeys(turns, 1 / len(turns)), split)
    left = [row for row in rows if table.part[row] != f"turn {split.turn}"]
    for row in rows:
        table.part[row] = "test"
    return left


def _needs(share: float, name: str) -> None:
    if share <= 0:
        raise StudyError(
            f"{name} is 0, and no images are left for that part. Training needs some, and choosing the best weights and the threshold needs others."
        )


def _assign(table: _Table, rows: Sequence[int], shares: Mapping[str, float], split: Split) -> None:
    """Divide the units of some rows over parts with these shares, by the seed and the rounding of the study."""
    shares = {part: share for part, share in shares.items() if share > 0}
    labels = sorted({label for row in rows for label in table.kinds[row]})
    number = {label: place for place, label in enumerate(labels)}
    taken = set(rows)
    units = {name: inside for name, unit in table.drawn.items() if (inside := [row for row in unit if row in taken])}
    names = sorted(units)
    counts = np.zeros((len(names), len(labels)), np.int64)
    for place, name in enumerate(names):
        for row in units[name]:
            for label in table.kinds[row]:
                counts[place, number[label]] += 1
    for label, images, groups in zip(labels, counts.sum(0).tolist(), (counts > 0).sum(0).tolist(), strict=True):
        if groups < len(shares):
            raise DataError(_cannot_reach(label, images, groups, list(shares), word=table.word, alone=len(names) == 1))
    without = np.array([sum(not table.kinds[row] for row in units[name]) for name in names], np.int64)
    if (without > 0).sum() >= len(shares):  # images without any label have their shares, too
        counts = np.column_stack([counts, without])
    chosen = divide(counts, names, list(shares.values()), seed=f"{split.seed}|{' '.join(shares)}", rounding=split.rounding)
    if chosen is None:
        raise DataError(
            f"The patients of the {'labels' if table.several else 'classes'} overlap so that no division of {len(names)} patients was found in which each {table.word} reaches "
            f"{_listed(list(shares))}. Use fewer parts or folds, or leave out the rarest {table.word}."
        )
    parts = list(shares)
    for name, part in zip(names, chosen.tolist(), strict=True):
        for row in units[name]:
            table.part[row] = parts[part]


def _learn_from(table: _Table, split: Split) -> None:
    """Leave out training units of every class and fold until a share is left; a hash orders them, so that smaller shares are parts of larger ones."""
    found: dict[tuple[int | None, tuple[str | None, ...]], list[tuple[str, list[int]]]] = defaultdict(list)
    for name, unit in table.drawn.items():
        rows = [row for row in unit if table.part[row] == "train"]
        if rows:
            labels = tuple(sorted({table.label[row] or "" for row in rows}))
            found[table.fold[rows[0]], labels].append((hashlib.sha256(f"{split.seed}|{name}".encode()).hexdigest(), rows))
    for units in found.values():
        for _, rows in sorted(units)[max(1, round(split.learn_from * len(units))) :]:
            for row in rows:
                table.leave_out(row, "left out by split.learn_from")


def _thin(table: _Table) -> None:
    """Leave in each part as many images of each class as a try-out needs; which, their content decides."""
    folds = len({fold for fold in table.fold if fold is not None}) or 1
    found: dict[tuple[str | None, int | None, str | None], list[int]] = defaultdict(list)
    for row in sorted(table.good, key=lambda row: table.content[row] or ""):
        if table.part[row] != LEFT_OUT:
            found[table.part[row], table.fold[row], table.label[row]].append(row)
    for (part, fold, _), rows in found.items():
        kept = BENCH[part or ""] // (1 if fold is None else folds)
        for row in rows[kept:]:
            table.leave_out(row, "left out by scale: bench")


def _check_classes_left(table: _Table) -> None:
    """Refuse to go on where a class has lost all the images that could train."""
    left = {label for row in table.good if table.part[row] in (None, "train") for label in table.kinds[row]}
    for label in sorted({label for kinds in table.kinds for label in kinds} - left):
        reasons = [reason for own, reason in zip(table.kinds, table.reason, strict=True) if label in own and reason]
        why = f" {len(reasons)} of its images are left out, the first because: {reasons[0]}." if reasons else ""
        todo = "leave it out of the study" if table.several else "take its folder away"
        raise DataError(f"No image of {table.word} {label!r} is left to train on.{why} Add images of it, or {todo}.")


def _check_parts(table: _Table) -> None:
    """Refuse a part of one class; drawn parts hold all classes, given ones may lack some that are rare."""
    used: dict[str | None, set[str | None]] = defaultdict(set)
    for label, part in zip(table.label, table.part, strict=True):
        used[part].add(label)
    for part in PARTS:
        if len(used[part]) == 1:
            raise DataError(
                f"The part {part} holds images of {used[part].pop() or 'no label'!r} only, and cannot tell a good classifier from a bad one. Add {'images with other labels' if table.several else 'other classes'} to it."
            )


def _cannot_reach(label: str, images: int, units: int, parts: Sequence[str], *, word: str, alone: bool) -> str:
    where = _listed([f"fold {part}" if part.isdigit() else part for part in parts])
    held = f"{images} image{'s' * (images != 1)}"
    if units < images:
        held += f" of {units} patient{'s' * (units != 1)} or set{'s' * (units != 1)} of copies, which are never divided"
    todo = f"Add images of other patients, or leave the {word} out"
    if units < images:
        todo += "; if data.group joins people who are different, correct it"
    who = f"All images together belong to one patient: {word}" if alone else word.capitalize()
    return f"{who} {label!r} has {held}, and needs at least {len(parts)} to reach {where}. {todo}."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _examples(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:3])


def read_split_csv(path: Path) -> pl.DataFrame:
    """Read a split that Tabib or another tool wrote.

    Args:
        path: CSV in UTF-8 with the columns `path` and `part` (train, validation, test or left_out); other columns of
            SPLIT_SCHEMA are read where they are there, and unknown ones are left aside.

    Returns:
        SPLIT_SCHEMA, with null where the file says nothing.

    Raises:
        DataError: no such file, not UTF-8, no such columns, an unknown part, a path twice, a fold that is no number.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = list(csv.DictReader(file, strict=True))
    except OSError as error:
        raise DataError(
            f"The split file {path} cannot be read: {error.strerror}. Check split.file; it is relative to the study file."
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}. Save it as CSV with the columns path and part.") from None
    columns = list(lines[0]) if lines else []
    if "path" not in columns or "part" not in columns:
        found = ", ".join(str(name) for name in columns) or "none"
        raise DataError(f"{path} has the columns {found}, and at least one line with the columns path and part is expected.")
    seen: dict[str, int] = {}
    for place, line in enumerate(lines, start=1):
        where = f"{path}, entry {place} ({line['path']!r})"
        if line["part"] not in (*PARTS, LEFT_OUT):
            raise DataError(f"{where}: the part is {line['part']!r}. Expected one of {', '.join(PARTS)} and {LEFT_OUT}.")
        if (first := seen.setdefault(line["path"], place)) != place:
            raise DataError(f"{where}: the same path stands in entry {first}. Expected each path once.")
        for name in ("row", "fold"):
            if (value := line.get(name)) and not value.isdecimal():
                raise DataError(f"{where}: {name} is {value!r}. Expected a whole number, or nothing.")
    values = {name: [line.get(name) or None for line in lines] for name in SPLIT_SCHEMA}
    return pl.DataFrame(values, schema=dict.fromkeys(SPLIT_SCHEMA, pl.String())).cast(SPLIT_SCHEMA)  # pyright: ignore[reportArgumentType]
