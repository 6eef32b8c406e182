"""A search: which values of some fields do best on validation. The file that says so, and what it may ask."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tabib.config import AnyStudy, Study
from tabib.errors import StudyError
from tabib.experiments.series import only_fields, read_title
from tabib.study_file import MakePhantom, load_study, read_fields, written

__all__ = ["Choices", "Range", "Search", "Values", "read_search"]

FIELDS = ("study", "title", "fields", "method", "trials", "minutes", "measure", "prune", "seed", "ensemble")
SEARCHED = ("input", "augment", "model", "training", "calibrate")
"""Parts of a study whose fields may be searched: what others say is the question, who is judged, or what is shown."""

UNSEARCHED = {
    "training.seeds": "is chance, and no choice; ensemble: [0, 1, 2] trains the best with several",
    "training.log_to": "changes no figure",
    "training.device": "changes no figure",
    "training.threads": "is chosen for the whole search",
    "model.own_sha256": "is written by the run",
}
"""Fields of these parts that are none the less not searched, and why."""

METHODS = ("grid", "random", "optuna")
Method = Literal["grid", "random", "optuna"]

Values = Mapping[str, str]
"""The values of one trial by field, as `--set` takes them."""


@dataclass(frozen=True)
class Choices:
    """Values to choose from."""

    values: Sequence[str]


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    log: bool = False  # drawn evenly by its logarithm
    whole: bool = False

    def written(self, number: float) -> str:
        """A number of the range as a study has it: whole, or with four digits."""
        number = round(number) if self.whole else float(f"{number:.4g}")
        return f"{min(max(number, self.low), self.high):{'.0f' if self.whole else 'g'}}"


@dataclass(frozen=True)
class Search:
    """A study, and what of it is tried."""

    title: Mapping[str, str]  # by language
    study: AnyStudy
    fields: Mapping[str, Choices | Range]
    method: Method
    measure: str  # of the validation images; more is better
    trials: int | None  # most of them
    minutes: float | None
    prune: bool
    seed: int
    ensemble: Sequence[int]  # seeds of the study of the winner
    place: Path  # of the study file
    overrides: Sequence[str]
    made: Path | None = None  # folder of the made-up images that take the place of the data

    def with_values(self, values: Values) -> AnyStudy:
        """The study of one trial. Raises `StudyError` where these values do not go together."""
        changes, made = [f"{field}={value}" for field, value in values.items()], self.made
        return load_study(self.place, changes=changes, overrides=self.overrides, phantom=None if made is None else lambda _: made)


def measures_of(study: AnyStudy) -> Sequence[str]:
    """What a search may look at: measured after each epoch, and of the finished model; more is better in each."""
    if not isinstance(study, Study):
        return ("dice",)
    return ("auc",) if study.several else ("auc", "balanced_accuracy", "accuracy")


def read_search(path: Path, *, overrides: Sequence[str] = (), phantom: MakePhantom | None = None) -> Search:
    """Read a search file.

        study: films.yaml
        title: {en: Which rate, fa: کدام نرخ}
        fields:
          training.learning_rate: {low: 1e-4, high: 1e-2, log: true}
          augment.rotation_degrees: [0, 5, 10]
        method: optuna
        trials: 30
        minutes: 60

    Args:
        path: YAML; `study` is relative to it.
        overrides: texts such as `training.epochs=2`, which change the study.
        phantom: as of `load_study`.

    Raises:
        StudyError: with file and field; of values that the study cannot have all are named at once.
    """
    values = read_fields(path, kind="search file")
    if "data" in values:
        raise StudyError(
            f"{path} is a study, and a search was expected: a file that names a study and fields, with the values that are tried. "
            f"To run the study: tabib run {path}"
        )
    only_fields(values, FIELDS, str(path))
    for name in ("study", "fields"):
        if name not in values:
            raise StudyError(f"{path}: there is no {name}. Expected study: FILE and fields: {{training.batch: [16, 32], ...}}")
    place = path.parent / str(values["study"])
    load = partial(load_study, place, overrides=overrides, phantom=phantom)
    study = load()
    method = _one_of(values, "method", METHODS, path, "random")
    search = Search(
        title=read_title(values, path),
        study=study,
        fields=_read_values(values["fields"], path, partial(_study_with, load)),
        method=method,  # pyright: ignore[reportArgumentType] - one of METHODS
        measure=_one_of(values, "measure", measures_of(study), path, measures_of(study)[0]),
        trials=_whole(values, "trials", path, least=1),
        minutes=_minutes(values, path),
        prune=_one_of(values, "prune", ("true", "false"), path, "true" if method == "optuna" else "false") == "true",
        seed=_whole(values, "seed", path, least=0) or 0,
        ensemble=_seeds(values, path),
        place=place,
        overrides=overrides,
        made=None if phantom is None else study.data.folder,
    )
    _refuse(search, path)
    return search


def _refuse(search: Search, path: Path) -> None:
    """Raise `StudyError` for what does not go together."""
    ranges = [name for name, values in search.fields.items() if isinstance(values, Range)]
    if search.method == "grid" and ranges:
        raise StudyError(
            f"{path}: {ranges[0]} is a range, and a grid needs lists. Give its values, as in {ranges[0]}: [..., ...], or random."
        )
    if search.method != "grid" and search.trials is None and search.minutes is None:
        raise StudyError(f"{path}: there is no end. Give trials: 20, or minutes: 60, or both.")
    if search.prune and "training.epochs" in search.fields:
        raise StudyError(
            f"{path}: training.epochs is searched, and prune is true: trainings of other lengths are at other points after the same epoch. "
            "Set prune: false, or leave training.epochs out."
        )
    for override in search.overrides:
        name = override.partition("=")[0].strip()
        if hit := next((field for field in search.fields if _same(name, field)), None):
            raise StudyError(f"--set {override}: {hit} is searched by {path}. Leave one of them out.")


def _read_values(given: object, path: Path, study_with: Callable[[str, str], AnyStudy]) -> dict[str, Choices | Range]:
    if not isinstance(given, dict) or not given:
        raise StudyError(f"{path}: fields is {given!r}. Expected fields with values, as in fields: {{training.batch: [16, 32]}}")
    found: dict[str, Choices | Range] = {}
    wrong: list[str] = []
    for name, asked in given.items():
        refused = next((why for field, why in UNSEARCHED.items() if _same(field, name)), None)
        if name.partition(".")[0] not in SEARCHED or "." not in name:
            refused = (
                f"is not searched: only fields of {', '.join(SEARCHED)} are, so that all trials answer one question on the same images"
            )
        try:
            if refused:
                raise StudyError(f"{path}, {name}: {refused}.")
            if part := next((other for other in given if other.startswith(f"{name}.")), None):
                raise StudyError(f"{path}: {name} and {part} are both searched, and {part} is a part of {name}. Leave one of them out.")
            found[name] = (_range if isinstance(asked, dict) else _choices)(asked, f"{path}, {name}", partial(study_with, name))
        except StudyError as error:
            wrong.append(str(error))
    if wrong:
        raise StudyError("\n".join(wrong))
    return found


def _same(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _choices(asked: Any, where: str, study_with: Callable[[str], AnyStudy]) -> Choices:
    if not isinstance(asked, list) or not asked:
        raise StudyError(
            f"{where}: is {asked!r}. Expected a list of values, as in [16, 32], or a range, as in {{low: 1e-4, high: 1e-2, log: true}}"
        )
    values = [written(value) for value in asked]
    studies: list[AnyStudy] = []
    wrong: list[str] = []
    for number, value in enumerate(values, start=1):
        try:
            study = study_with(value)
            if study in studies:
                raise StudyError(f"{value} is given twice.")
            studies.append(study)
        except StudyError as error:
            wrong.append(f"{where}, value {number}: {error}")
    if wrong:
        raise StudyError("\n".join(wrong))
    return Choices(values)


def _range(asked: Any, where: str, study_with: Callable[[str], AnyStudy]) -> Range:
    only_fields(asked, ("low", "high", "log"), where)
    low, high = (_number(asked.get(end), f"{where}, {end}") for end in ("low", "high"))
    log = _one_of(asked, "log", ("true", "false"), where, "false") == "true"
    if low >= high or (log and low <= 0):
        raise StudyError(f"{where}: low is {low:g} and high is {high:g}. Expected low below high{', and above 0 for log' if log else ''}")
    whole = low.is_integer() and high.is_integer()
    if whole:
        with suppress(StudyError):  # a field of whole numbers refuses what lies between two
            study_with(str(low + 0.5))
            whole = False
    found = Range(low, high, log, whole)
    for end, value in (("low", low), ("high", high)):
        try:
            study_with(found.written(value))
        except StudyError as error:
            raise StudyError(f"{where}, {end}: {error}") from None
    return found


def _study_with(load: Callable[..., AnyStudy], name: str, value: str) -> AnyStudy:
    """The study with a value of one field; `StudyError` where the schema refuses it."""
    change = f"{name}={value}"
    try:
        return load(changes=[change])
    except StudyError as error:
        raise StudyError(str(error).removeprefix(f"{change}: ")) from None


def _one_of(values: Mapping[str, Any], name: str, allowed: Sequence[str], where: object, usual: str) -> str:
    given = values.get(name, usual)
    if given not in allowed:
        raise StudyError(f"{where}: {name} is {given!r}. Expected {' or '.join(allowed)}.")
    return given


def _whole(values: Mapping[str, Any], name: str, path: Path, *, least: int) -> int | None:
    given = values.get(name)
    if given is None:
        return None
    if not isinstance(given, str) or not given.isdecimal() or not least <= int(given) < 2**31:
        raise StudyError(f"{path}: {name} is {given!r}. Expected a whole number of {least} or more.")
    return int(given)


def _number(given: object, where: str) -> float:
    try:
        number = float(given) if isinstance(given, str) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise StudyError(
            f"{where}: is {'not given' if given is None else repr(given)}. Expected a number, as in {{low: 1e-4, high: 1e-2, log: true}}"
        )
    return number


def _minutes(values: Mapping[str, Any], path: Path) -> float | None:
    if values.get("minutes") is None:
        return None
    minutes = _number(values["minutes"], f"{path}, minutes")
    if minutes <= 0:
        raise StudyError(f"{path}: minutes is {minutes:g}. Expected a number above 0.")
    return minutes


def _seeds(values: Mapping[str, Any], path: Path) -> list[int]:
    given = values.get("ensemble", [])
    if not isinstance(given, list) or not all(isinstance(each, str) and each.isdecimal() and int(each) < 2**31 for each in given):
        raise StudyError(f"{path}: ensemble is {given!r}. Expected a list of seeds, as in ensemble: [0, 1, 2]")
    if len(set(given)) < len(given):
        raise StudyError(f"{path}: ensemble has the same seed twice.")
    return [int(each) for each in given]
