"""A study, changed one thing at a time: the file that says so, and its runs."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tabib.config import AnyStudy
from tabib.errors import StudyError
from tabib.experiments.series import changed_study, changes_in, read_rows, read_title, refuse_set
from tabib.experiments.trainings import Missed, Row, run_rows
from tabib.progress import SILENT, Progress
from tabib.records import Pace
from tabib.reports import finding_codes
from tabib.study_file import MakePhantom, load_study, written_fields

__all__ = ["Changed", "Changes", "Trained", "read_changes", "run_changes"]

FIELDS = ("study", "title", "base", "seeds", "folds", "changes")
ROW_FIELDS = ("name", "set", "against", "together", "expect", "phantom")

UNCHANGED = {
    "name": "names the runs of all rows",
    "task": "is of the whole ablation",
    "scale": "is of all rows: --set scale=bench",
    "expect": "is a field of the row itself, beside set",
    "training.seeds": "is said once for all rows, as seeds",
    "split.test_fold": "is said once for all rows, as folds",
    "split.turn": "is said once for all rows, as folds",
    **dict.fromkeys(("title", "notes", "report", "explain", "goals"), "changes no figure"),
}
"""Fields that no row can change, and why."""

SAID_BY_FILE = {
    "training.seeds": "seeds: in the file",
    "split.test_fold": "folds: in the file",
    "split.turn": "folds: in the file",
}
"""Fields that an override would change for nothing, and what says them."""


@dataclass(frozen=True)
class Changed:
    """A row: the study with what it changes."""

    name: str
    study: AnyStudy
    fields: Sequence[str] = ()  # that the row changes
    expect: Sequence[str] = ()  # findings
    against: int = 0  # place of the row that it is compared with

    def trained_with(self, seed: int, fold: int | None) -> AnyStudy:
        """The study of one training."""
        training = self.study.training.model_copy(update={"seeds": [seed]})
        split = self.study.split
        if fold is not None:
            split = split.model_copy(update={"test_fold" if split.given else "turn": fold})
        return self.study.model_copy(update={"training": training, "split": split})


@dataclass(frozen=True)
class Changes:
    """A study and its changes, the study as it is first."""

    title: Mapping[str, str]  # by language
    rows: Sequence[Changed]
    seeds: Sequence[int]
    folds: Sequence[int | None]  # given folds, or drawn ones, that judge in turn; or one None
    left_out: Sequence[str] = ()  # names of rows that an override makes the study as it is
    not_asked: Sequence[str] = ()  # names of rows that others were asked for without


@dataclass(frozen=True)
class Trained:
    """One training of a row, and what became of it."""

    row: int
    seed: int
    fold: int | None
    found: Path | Missed
    pace: Pace | None = None  # of the ablation


def read_changes(path: Path, *, overrides: Sequence[str] = (), only: Sequence[str] = (), phantom: MakePhantom | None = None) -> Changes:
    """Read a file of changes.

        study: films.yaml
        title: {en: What matters here, fa: آنچه اینجا اهمیت دارد}
        seeds: [0, 1, 2]
        changes:
          - {name: no rotation, set: {augment.rotation_degrees: 0}}
          - {name: a larger network, set: {model.network: resnet50, input.height: 224, input.width: 224}, together: true}
          - name: the same frozen
            set: {model.network: resnet50, input.height: 224, input.width: 224, model.freeze: all_but_head}
            together: true
            against: a larger network
          - {name: weights of zero, set: {model.initialiser: zeros}, expect: [initialiser_cannot_learn]}

    Args:
        path: YAML; `study` is relative to it. `base` names the first row, which is the study as it is. Each other row is compared with it, or
            with the row that `against` names; what a row changes is always told of the first.
        overrides: texts such as `training.epochs=2`, which change every row; what a row says itself stays. A row that is then the study as it
            is, is left out.
        only: names of rows; no other is run, but for the study as it is and what these are compared with. None: all.
        phantom: as of `load_study`; what a row says under `phantom` is then changed, too.

    At a scale that is not `full` the first seed and the first fold are enough, because such figures prove nothing.

    Raises:
        StudyError: with file, and row where one is wrong: two fields changed at once without `together: true`, none, or one that no
            row can change; a row compared with itself, with none that is there, or with one that is compared with it; an override of seeds
            or folds, which the file says; or one that leaves no row; a name under `only` that no row has.
    """
    values, rows = read_rows(path, kind="ablation", fields=FIELDS, row_fields=ROW_FIELDS)
    place = path.parent / str(values["study"])
    refuse_set(overrides, SAID_BY_FILE if "folds" in values else {"training.seeds": SAID_BY_FILE["training.seeds"]})
    if not isinstance(values.get("base", ""), str):
        raise StudyError(f"{path}: base is {values['base']!r}. Expected a name for the study as it is, as in base: plain")
    base = Changed(values.get("base", ""), load_study(place, overrides=overrides, phantom=phantom))
    found, left_out = [base], []
    for where, row in rows:
        if row["name"] == base.name:
            raise StudyError(f"{where}: the name {row['name']!r} is that of the study as it is. Choose another.")
        changes = changes_in(row, where)
        if "set" not in row:
            raise StudyError(f"{where}: changes nothing, and the study as it is has a row of its own. Expected set: {{field: value}}")
        named = [text.partition("=")[0] for text in changes]
        for name in named:
            if (refused := next((each for each in UNCHANGED if name == each or name.startswith(f"{each}.")), None)) is not None:
                raise StudyError(f"{where}: set changes {name}, which {UNCHANGED[refused]}.")
        smaller = changes_in(row, where, "phantom") if phantom is not None else []
        load = partial(changed_study, place, [*changes, *smaller], where, phantom=phantom)
        study = load(overrides=overrides, changes_win=True)
        differing = fields_in_which(base.study, study)
        changed = [name for name in differing if any(name == each or name.startswith(f"{each}.") for each in named)]
        if not changed and overrides and fields_in_which(load_study(place, phantom=phantom), load()):
            left_out.append(row["name"])
            continue
        if not changed:
            raise StudyError(f"{where}: set changes nothing: the study has {', '.join(changes)} as it is. Give another value.")
        if len(changed) > 1 and row.get("together") != "true":
            raise StudyError(
                f"{where}: {' and '.join(changed)} are changed at once, and no difference could be put down to one of them. Give each a row of "
                "its own, or, where they only make sense together, say together: true."
            )
        if row.get("together") not in (None, "true"):
            raise StudyError(f"{where}: together is {row['together']!r}. Expected true, or no such field.")
        expect = _codes(row.get("expect", []), where)
        found.append(Changed(row["name"], study.model_copy(update={"expect": [*study.expect, *expect]}), changed, expect))
    if left_out and len(found) == 1:
        raise StudyError(
            f"--set {' --set '.join(overrides)}: no row is left of {path}: the study itself is then what each of them asks for."
        )
    found = _compared(found, [(where, row) for where, row in rows if row["name"] not in left_out], left_out)
    found, not_asked = _asked(found, [name for name in only if name not in left_out], path) if only else (found, [])
    folds = _numbers(values, "folds", path)
    split = base.study.split
    if folds and not split.given and (split.turns is None or max(folds) >= split.turns):
        raise StudyError(
            f"{path}: folds is {folds}, and split.test is {split.test:g} of the study, which makes {split.turns or 'no'} folds. Give split.test: 0.2 for "
            "the folds 0 to 4, or a table that numbers folds, with split.given: true."
        )
    seeds = _numbers(values, "seeds", path) or [0]
    if base.study.scale != "full":
        seeds, folds = seeds[:1], folds[:1]
    return Changes(read_title(values, path), found, seeds, folds or [None], left_out, not_asked)


def run_changes(
    changes: Changes,
    *,
    root: Path,
    command: Sequence[str] = (),
    offline: bool = False,
    progress: Progress = SILENT,
    on_step: Callable[[str, bool], None] | None = None,
) -> list[Trained]:
    """Run every row with every seed, and fold, as `run_rows` does; what is done is loaded, what was interrupted goes on.

    All rows are trained with the first seed before any is with the second, so that what is there early already compares. Each
    training is a run as any other, without explanations of its answers. All have one index, one split and one cache of decoded
    images. A row that fails stops no other; Ctrl-C stops all.

    Returns:
        Every training, in the order of rows, seeds and folds.
    """
    wanted = [(row, seed, fold) for seed in changes.seeds for fold in changes.folds for row in range(len(changes.rows))]
    rows = []
    for row, seed, fold in wanted:
        changed = changes.rows[row]
        name = f"{changed.name or 'as it is'}, seed {seed}" + ("" if fold is None else f", fold {fold}")
        rows.append(Row(name, changed.trained_with(seed, fold), explained=False))
    ran = run_rows(rows, root=root, command=command, offline=offline, progress=progress, on_step=on_step)
    done = dict(zip(wanted, ran.found, strict=True))
    return [
        Trained(row, seed, fold, done[row, seed, fold], ran.pace)
        for row in range(len(changes.rows))
        for seed in changes.seeds
        for fold in changes.folds
    ]


def fields_in_which(one: AnyStudy, other: AnyStudy) -> list[str]:
    """The fields in which two studies differ, without those that change no figure."""
    first, second = written_fields(one), written_fields(other)
    left_out = ("title", "notes", "report", "explain", "expect")
    return [name for name in first if first[name] != second.get(name) and name.partition(".")[0] not in left_out]


def _compared(found: Sequence[Changed], rows: Sequence[tuple[str, Mapping[str, Any]]], left_out: Sequence[str]) -> list[Changed]:
    """The rows, each with the place of the one that its `against` names; those that were left out are the study as it is."""
    places = {row.name: place for place, row in enumerate(found) if row.name} | dict.fromkeys(left_out, 0)
    compared = [found[0]]
    for place, (row, (where, told)) in enumerate(zip(found[1:], rows, strict=True), start=1):
        name = told.get("against", found[0].name)
        if not isinstance(name, str):
            raise StudyError(f"{where}: against is {name!r}. Expected the name of one row, as in against: {found[0].name or 'NAME'}")
        other = 0 if name == found[0].name else places.get(name)
        if other is None:
            raise StudyError(f"{where}: against: {_no_row(name, places)}")
        if other == place:
            raise StudyError(f"{where}: against names the row itself. Give another, or leave it out to compare it with the study as it is.")
        if 0 < other < place and compared[other].against == place:
            raise StudyError(f"{where}: against: {name} is compared with this row already. One of the two is enough.")
        compared.append(replace(row, against=other))
    return compared


def _asked(found: Sequence[Changed], only: Sequence[str], path: Path) -> tuple[list[Changed], list[str]]:
    """The rows of these names, the study as it is, and what they are compared with, in their order; and the names of the others."""
    places = {row.name: place for place, row in enumerate(found) if row.name}
    asked = {0}
    for name in only:
        if name not in places:
            raise StudyError(f"{path}: --only: {_no_row(name, places)}")
        place = places[name]
        while place not in asked:
            asked.add(place)
            place = found[place].against
    kept = sorted(asked)
    if len(kept) == 1:
        raise StudyError(f"{path}: --only asks for nothing but the study as it is, which always runs. Name a row that changes something.")
    return [replace(found[place], against=kept.index(found[place].against)) for place in kept], [
        row.name for place, row in enumerate(found) if place not in asked
    ]


def _no_row(name: str, rows: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, rows, n=1)
    return f"there is no row {name}. " + (f"Did you mean {near[0]}?" if near else f"Rows are {', '.join(rows)}.")


def _numbers(values: Mapping[str, Any], name: str, path: Path) -> list[int]:
    given = values.get(name, [])
    listed = given if isinstance(given, list) else None
    if (
        listed is None
        or not all(isinstance(each, str) and each.isdecimal() and int(each) < 2**31 for each in listed)
        or len(set(listed)) < len(listed)
    ):
        raise StudyError(f"{path}: {name} is {given!r}. Expected a list of whole numbers, each once, as in {name}: [0, 1, 2]")
    return [int(each) for each in listed]


def _codes(given: object, where: str) -> list[str]:
    if not isinstance(given, list):
        raise StudyError(f"{where}: expect is {given!r}. Expected a list of findings, as in expect: [initialiser_cannot_learn]")
    for code in given:
        if code not in finding_codes():
            near = difflib.get_close_matches(str(code), finding_codes(), n=1, cutoff=0.5)
            raise StudyError(f"{where}: expect: there is no finding {code}. {f'Did you mean {near[0]}?' if near else ''}")
    return given
