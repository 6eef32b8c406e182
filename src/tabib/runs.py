"""The run folder: what lies where, written so that a kill at any instant loses nothing.

    runs/<study>/test_looks.jsonl          every look at a test set, over all runs of the study
    runs/<study>/<id>/study.yaml           the study with every `auto` resolved
    runs/<study>/<id>/manifest.json        versions, hardware, seeds, hashes, command, the study as given
    runs/<study>/<id>/<FILES>              one file per step, in the order of the road
    runs/<study>/<id>/done/<step>.json     written last: the step is whole, and this is what it was made from
    runs/.cache/                           decoded images and unpacked archives, shared by all runs: patient data

`Run.step` is the one place that saves and skips. A step is loaded when the hash of its inputs, of the code it runs and of
its file still matches. Of its keywords numbers count as inputs; what says where to work and how loudly does not.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from itertools import takewhile
from pathlib import Path
from types import TracebackType, UnionType
from typing import IO, Any, Self, TypeVar, cast

import polars as pl
from pydantic import BaseModel, TypeAdapter, ValidationError

from tabib.config import TASKS, AnyStudy, BaseData, Segmentation, Study, run_named
from tabib.errors import DataError, RunError, StudyError, TabibError, WeightsError
from tabib.records import (
    INDEX_SCHEMA,
    SPLIT_SCHEMA,
    Checks,
    Decision,
    Evaluation,
    Explanations,
    Findings,
    Model,
    Overfit,
    Pace,
    PostProcessing,
    SegmentationEvaluation,
    SegmentationModel,
    SegmentedPart,
    Sweep,
)
from tabib.study_file import dump_study, load_study, what_is_wrong

T = TypeVar("T")
R = TypeVar("R", bound=BaseModel)

__all__ = [
    "FILES",
    "Reached",
    "Run",
    "atomic_write",
    "check_folder_place",
    "check_table_place",
    "code_of",
    "file_hash",
    "files_below",
    "fingerprint",
    "for_spreadsheet",
    "keep_apart",
    "list_data",
    "open_run",
    "read_histories",
    "read_jsonl",
    "read_manifest",
    "read_record",
    "read_result",
    "read_run",
    "save",
    "study_id",
    "write_json",
    "writing",
]


@dataclass(frozen=True)
class _Kind:
    """Where a step's result lies, and what it is."""

    path: str
    record: type[BaseModel] | UnionType | None = None  # a JSON record, of one task or another; a table otherwise
    schema: dict[str, pl.DataType] | None = None


FILES: dict[str, _Kind] = {
    "index": _Kind("index.parquet", schema=INDEX_SCHEMA),
    "findings": _Kind("findings.json", record=Findings),
    "split": _Kind("split.csv", schema=SPLIT_SCHEMA),
    "study": _Kind("study.yaml", record=Study),
    "checks": _Kind("checks.json", record=Checks),
    "model": _Kind("model/model.json", record=Model | SegmentationModel),
    "decision": _Kind("model/decision.json", record=Decision | PostProcessing),
    "predictions": _Kind("predictions.parquet"),
    "evaluation": _Kind("evaluation.json", record=Evaluation | SegmentationEvaluation),
    "explanations": _Kind("explanations/explanations.json", record=Explanations),
}
"""Every step that leaves a file, in the order of the road."""

BESIDE: dict[str, _Kind] = {
    "sweep": _Kind("sweep.json", record=Sweep),
    "overfit": _Kind("overfit.json", record=Overfit),
    "pace": _Kind("pace.json", record=Pace),
    "validation": _Kind("validation.parquet"),
    "validation_masks": _Kind("validation_masks.json", record=SegmentedPart),
}
"""Steps that only `tabib check` and the verbs of several trainings take, or that a study asks for."""

SHARED = ("index", "findings", "split")
"""Steps whose result is one file and the same for many settings: taken over from another run of the study that made it."""

TABLES = (".csv", ".parquet")
"""What a table can be written as."""

FORMULA, NUMBER = r"^[=+\-@＝＋－＠\t\r]", r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
"""How a text begins that a spreadsheet takes for a formula, and a whole text that is one number."""

MANIFEST = "manifest.json"

AFTERWARDS = {"title", "notes", "report", "explain"}
"""Parts of a study that no number hangs on: changing them repeats no step but the explanations and the report."""

TOLD = {"remarks": True, "members": {"__all__": {"seconds", "memory"}}}
"""Of a model what its training took and what was said of it: no number that is made with the model hangs on it."""

CARRIES = {"config", "errors", "progress", "records", "runs", "study_file"}
"""Rooms in which no number is made: what they hold reaches a step as an input, or is written by it."""

PACKAGES = (
    "numpy",
    "pillow",
    "polars",
    "pydantic",
    "pydicom",
    "scikit-learn",
    "scipy",
    "tabib",
    "tifffile",
    "timm",
    "torch",
    "torchvision",
)
"""Packages whose versions a manifest records."""


# --- Hashes ---


def fingerprint(*values: object) -> str:
    """SHA-256 of values by their content: tables by their cells, records and studies by their fields, paths by name.

    A study counts without the parts in `AFTERWARDS` and without where its files lie, a model without what its training took; `Data` counts with the names, sizes and
    times of the files in its folder.
    """
    digest = hashlib.sha256()
    for value in values:
        digest.update(type(value).__name__.encode() + b"\0")
        if isinstance(value, pl.DataFrame):
            buffer = io.BytesIO()
            value.rechunk().write_ipc(buffer, compression="uncompressed")
            digest.update(buffer.getbuffer())
        elif isinstance(value, (Study, Segmentation)):
            digest.update(_anywhere(value).model_dump_json(exclude=AFTERWARDS).encode())
        elif isinstance(value, BaseData):
            table = file_hash(value.table) if value.table else ""
            digest.update(
                (value.model_dump_json(exclude={"folder", "table", "kind"}) + table + list_data(value.folder, times=True)).encode()
            )
        elif isinstance(value, (Model, SegmentationModel)):
            digest.update(value.model_dump_json(exclude=TOLD).encode())
        elif isinstance(value, BaseModel):
            digest.update(value.model_dump_json().encode())
        elif isinstance(value, (str, int, float, Path)) or value is None:
            digest.update(str(value).encode() + b"\0")
        else:
            raise TypeError(f"{type(value).__name__} has no fingerprint")
    return digest.hexdigest()


def list_data(folder: Path, *, times: bool = False) -> str:
    """Hash of the names and sizes (and modification times) of all files below a folder, links followed, or of one file."""
    digest = hashlib.sha256()
    for file in [folder] if folder.is_file() else sorted(files_below(folder)):
        status = file.stat() if file.exists() else file.lstat()
        digest.update(
            f"{os.path.relpath(file, folder)}\0{status.st_size}\0{status.st_mtime_ns if times else 0}\0".encode("utf-8", "surrogateescape")
        )
    return digest.hexdigest()


def files_below(folder: Path) -> Iterator[Path]:
    """Every file at any depth below a folder; links are followed, and each real folder is read once."""
    entered = {folder.resolve()}
    for path, folders, names in os.walk(folder, followlinks=True):
        yield from (Path(path, name) for name in names)
        places = {name: Path(path, name).resolve() for name in folders}
        folders[:] = [name for name, place in places.items() if place not in entered]  # a link may lead back to where it hangs
        entered.update(places.values())


def study_id(study: AnyStudy) -> str:
    """Twelve hexadecimal digits that name a study (defaults written out, words left out) and its data, wherever they lie."""
    files = [path for path in _files(study) if path.is_file()]
    return fingerprint(study, list_data(study.data.folder), *map(file_hash, files))[:12]


def _files(study: AnyStudy) -> list[Path]:
    """The files that a study names beside its images."""
    run = run_named(study.model.weights)
    weights = study.model.weights if run is None else run / FILES["model"].path
    return [path for path in (study.data.table, study.split.file, weights) if isinstance(path, Path)]


def _anywhere(study: AnyStudy) -> AnyStudy:
    """The study without where its files lie, and what they are called there."""
    return _with_paths(study, lambda path: Path())


def _with_paths(study: AnyStudy, change: Callable[[Path], Path]) -> AnyStudy:
    data = study.data.model_copy(update={"folder": change(study.data.folder), "table": study.data.table and change(study.data.table)})
    split = study.split.model_copy(update={"file": study.split.file and change(study.split.file)})
    weights, run = study.model.weights, run_named(study.model.weights)
    if run is not None:
        weights = f"run:{change(run)}"
    model = study.model.model_copy(update={"weights": change(weights) if isinstance(weights, Path) else weights})
    return study.model_copy(update={"data": data, "split": split, "model": model})


@cache
def code_of(module: str) -> str:
    """Hash of the code that a step runs: the room its function lives in (`tabib.training`, say), and the rooms this one works with.

    What only carries, stores or words a result (`CARRIES`) is left out: a better error message repeats no training.
    """
    if not module.startswith("tabib."):
        return file_hash(Path(str(sys.modules[module].__file__)))
    waiting, rooms = [module.split(".")[1]], dict[str, str]()
    while waiting:
        room = waiting.pop()
        if room not in rooms and room not in CARRIES:
            rooms[room] = _source(room)
            waiting += re.findall(r"^\s*from tabib\.(\w+)", rooms[room], re.MULTILINE)
    return fingerprint(*(f"{room}\n{rooms[room]}" for room in sorted(rooms)))


def _source(room: str) -> str:
    place = Path(__file__).parent / room
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    return "".join(file.read_text(encoding="utf-8") for file in files)


# --- Files ---


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name whole or not at all: temporary name, synced, renamed.

    Raises `RunError` where the disk is full or the folder cannot be written; nothing half-written stays.
    """
    temporary = None
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
            temporary = Path(name)
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says against writing `path` into a `RunError` that names it."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise RunError(f"The disk is full: {path} could not be written. Free some space and start the same command again.") from error
        raise RunError(f"{path} could not be written: {error.strerror}.") from error


def check_table_place(path: Path) -> None:
    """Refuse, before the work that fills it, a table that `save` could not write or whose suffix names no format.

    Raises:
        StudyError: the suffix is neither `.csv` nor `.parquet`.
        RunError: the folder cannot be written, or a folder has the name.
    """
    if path.suffix not in TABLES:
        raise StudyError(
            f"{path} has the suffix {path.suffix!r}, and a table is written as {' or '.join(TABLES)}. Give it one of these names."
        )
    with writing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()


def check_folder_place(folder: Path) -> None:
    """Raise `StudyError`, before the work that fills it, where a folder is to be written and a file has its name or one above it."""
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise StudyError(f"{place} is a file, and a folder was expected there to write into. Name another folder, or remove the file.")


def write_json(path: Path, value: object) -> None:
    """Write plain values as JSON, atomically."""
    with atomic_write(path) as file:
        file.write(json.dumps(value, ensure_ascii=False, indent=1).encode())


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a file of one JSON object a line; a last line cut off by a kill is left out. Empty where there is no file."""
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1] if line]
    except ValueError as error:
        raise _damaged(path, error) from None


def read_histories(run_folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The epochs of each member of a run, by the member's name."""
    return {path.parent.name: read_jsonl(path) for path in sorted(run_folder.glob("model/members/*/history.jsonl"))}


def save(path: Path, value: object) -> None:
    """Write a table (CSV or Parquet, by its suffix), a record (JSON) or a study (YAML), atomically."""
    with atomic_write(path) as file:
        if isinstance(value, (Study, Segmentation)):
            file.write(dump_study(value).encode())
        elif isinstance(value, BaseModel):
            file.write(value.model_dump_json(indent=1).encode())
        elif isinstance(value, pl.DataFrame):
            buffer = io.BytesIO()  # a full disk is an error of the system here, and one of polars where it writes itself
            value.write_csv(buffer) if path.suffix == ".csv" else value.write_parquet(buffer)
            file.write(buffer.getbuffer())
        else:
            raise TypeError(f"{type(value).__name__} has no file format")


def for_spreadsheet(table: pl.DataFrame) -> pl.DataFrame:
    """The table with an apostrophe before each text that a spreadsheet would take for a formula, as of a file `=1+1.png`; numbers stay.

    Of CSV that a person opens; what Tabib or another program reads again (`split.csv`, Parquet) holds texts as they are.
    """
    text = pl.col(pl.String)
    formula = text.str.contains(FORMULA) & ~text.str.contains(NUMBER)
    return table.with_columns(pl.when(formula).then("'" + text).otherwise(text).name.keep())


def read_result(run_folder: Path, name: str) -> Any:
    """The result of a step as its file has it; None where the step has not been done. Raises `RunError` where it is damaged."""
    kind = (FILES | BESIDE)[name]
    path = run_folder / kind.path
    if not path.exists():
        return None
    if kind.record is Study:
        return load_study(path)
    if kind.record is not None:
        return read_record(path, kind.record)
    try:
        table = pl.read_csv(path, schema=kind.schema) if path.suffix == ".csv" else pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _damaged(path, error) from None
    later = {name: dtype for name, dtype in (kind.schema or {}).items() if name not in table.columns}
    if not later:
        return table
    # An older Tabib wrote it, which did not know all that is asked today.
    return table.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in later.items()).select(*kind.schema or {})


def read_record(path: Path, kind: type[R] | UnionType) -> R:
    """Read a record from its JSON file. Raises `RunError` where the file is damaged."""
    try:
        return TypeAdapter(cast(Any, kind)).validate_json(path.read_bytes())
    except (ValueError, OSError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> RunError:
    if isinstance(error, ValidationError):
        first = what_is_wrong(error)
    elif isinstance(error, json.JSONDecodeError):
        first = f"it is no JSON from line {error.lineno} on: cut short, or changed by hand"
    else:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return RunError(f"{path} is damaged ({first}). Delete it, and start the run's command again: what is missing is made anew.")


# --- The run ---


class Reached(Exception):
    """The last step that was asked for (`until`) is done. Not an error: it leaves the road."""


class Run:
    """A run folder, and the only hand that writes its step files.

    Use `open_run` to start or continue the run of a study, `read_run` to read a finished one.
    """

    def __init__(
        self,
        folder: Path,
        given: AnyStudy,
        *,
        command: Sequence[str] = (),
        until: str | None = None,
        on_step: Callable[[str, bool], None] | None = None,
    ) -> None:
        """`given` is the study as the user wrote it, its paths from the root; `until` names the last step; `on_step` hears each step and whether it was loaded."""
        self.folder = folder
        self.given = given
        self.until = until
        self._command = command
        self._on_step = on_step or (lambda name, loaded: None)
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        self._lock = _lock(self.folder)
        manifest = read_manifest(self.folder)
        if self._command or manifest.get("given") != self.given.model_dump(mode="json"):
            write_json(self.folder / MANIFEST, {**manifest, **_manifest(self.given, self._command, manifest.get("started"))})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._lock is not None:
            self._lock.close()

    @property
    def cache_folder(self) -> Path:
        """Where decoded images are kept, for all runs beside this one."""
        return self.folder.parent.parent / ".cache"

    def path(self, name: str) -> Path:
        """The file of a step."""
        return self.folder / (FILES | BESIDE)[name].path

    def step(self, name: str, function: Callable[..., T], /, *inputs: object, **where: object) -> T:
        """Load the result of a step where nothing it was made from has changed; else compute it and save it.

        `inputs` are what the result depends on, and so are numbers in `where`; the rest of it says where to work and how
        loudly, and is not part of the hash.
        """
        path = self.path(name)
        done = self.folder / "done" / f"{name}.json"
        numbers = [value for _, value in sorted(where.items()) if isinstance(value, (int, float)) and not isinstance(value, bool)]
        key = fingerprint(name, code_of(function.__module__), *inputs, *numbers)
        loaded = _is_done(done, key, path) and (name != "model" or self._has_weights())
        loaded = loaded or (name in SHARED and self._take_over(name, key))
        if not loaded:
            self._on_step(name, False)
            done.unlink(missing_ok=True)
            started = time.monotonic()
            result = function(*inputs, **where)
            save(path, result)
            write_json(done, {"key": key, "file": file_hash(path), "seconds": round(time.monotonic() - started, 3)})
        else:
            self._on_step(name, True)
        # Read back even what was just made, so that a continued run and an uninterrupted one hand on the same values.
        value = self.read(name)
        if self.until == name:
            raise Reached
        return value

    def _take_over(self, name: str, key: str) -> bool:
        """Copy the result of a step from another run of the study, made from the same inputs; whether there is one."""
        for done in sorted(self.folder.parent.glob(f"*/done/{name}.json")):
            path = done.parent.parent / FILES[name].path
            if done.parent.parent != self.folder and _is_done(done, key, path):
                with atomic_write(self.path(name)) as file:
                    file.write(path.read_bytes())
                write_json(self.folder / "done" / f"{name}.json", json.loads(done.read_text(encoding="utf-8")))
                return True
        return False

    def read(self, name: str) -> Any:
        """The result of a step that was done before. Raises `RunError` where it was not."""
        value = read_result(self.folder, name)
        if value is None:
            raise self._undone(name)
        if isinstance(value, Study | Segmentation):
            # It may have been resolved before the project was moved, or before what does not count changed.
            model = value.model.model_copy(update={"weights": self.given.model.weights})
            words = AFTERWARDS & set(type(value).model_fields)
            given = {name: getattr(self.given, name) for name in ("data", "split", *words)}
            value = value.model_copy(update={**given, "model": model})
        return value

    def _undone(self, name: str) -> RunError:
        return RunError(f"{self.folder} has no {(FILES | BESIDE)[name].path}: the step '{name}' has not been done. Run: tabib run STUDY")

    def must_be_whole(self) -> None:
        """Raise `RunError` where a step up to the evaluation is not done, as in a run that is made anew, or its file is not the one that it wrote.

        The evaluation's own file may be another, which `tabib evaluate` writes again.
        """
        for name in list(FILES)[: list(FILES).index("evaluation") + 1]:
            path, mark = self.path(name), _mark(self.folder / "done" / f"{name}.json")
            if not path.exists():
                raise self._undone(name)
            if mark is None:
                raise RunError(
                    f"{self.folder}: the step '{name}' was begun anew and is not done, and what came after it is of before. Finish it: tabib run STUDY"
                )
            if name != "evaluation" and mark.get("file") != file_hash(path):
                raise RunError(
                    f"{path} is not what the step '{name}' wrote: it was cut short or changed by hand, and what came after it does not belong to it. "
                    "Copy the run folder whole, or start its run again, which makes it anew."
                )
        for member in self.read("model").members:
            if member.name not in self.histories():
                raise RunError(
                    f"{self.folder / 'model' / 'members' / member.name / 'history.jsonl'} is missing: the epochs of member {member.name}. "
                    "Copy the run folder whole."
                )

    def write(self, name: str, value: object) -> None:
        """Replace the result of a step outside the road (`tabib evaluate` on a finished run)."""
        save(self.path(name), value)

    def _has_weights(self) -> bool:
        """Whether the members' weights are those that were trained."""
        model: Model = self.read("model")
        files = {self.folder / "model" / "members" / member.name / "weights.safetensors": member for member in model.members}
        return all(file.exists() and file_hash(file) == member.weights_sha256 for file, member in files.items())

    def histories(self) -> dict[str, list[dict[str, Any]]]:
        """The epochs of each member, by the member's name."""
        return read_histories(self.folder)

    def look_at_test(self, split: pl.DataFrame, decision: Decision) -> int:
        """Note that this decision is about to be judged on these test rows, and say the how manieth look at them this is, over all runs.

        The same decision judged again is the same look, with the number that it had: what came after it changed nothing in its figures.
        """
        rows = fingerprint(*sorted(split.filter(pl.col("part") == "test")["content"]))
        look = {"rows": rows, "decision": fingerprint(decision), "run": self.folder.name}
        path = self.folder.parent / "test_looks.jsonl"
        with path.with_name(".test_looks.lock").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)  # two runs of a study may end at one time
            looks = read_jsonl(path)
            if not any(look.items() <= other.items() for other in looks):
                looks.append({**look, "time": _now()})
                with atomic_write(path) as file:
                    file.write("".join(json.dumps(line) + "\n" for line in looks).encode())
        before = takewhile(lambda other: not look.items() <= other.items(), looks)
        return 1 + sum(other["rows"] == rows for other in before)

    def finish(self, write_reports: Callable[[Path, AnyStudy], list[Path]]) -> list[Path]:
        """Complete the manifest and write the reports."""
        finished = {
            "finished": _now(),
            "seconds": {path.stem: json.loads(path.read_text())["seconds"] for path in self.folder.glob("done/*.json")},
        }
        model: Model = self.read("model")
        hashes = {"weights_sha256": {member.name: member.weights_sha256 for member in model.members}}
        write_json(self.folder / MANIFEST, {**read_manifest(self.folder), **finished, **hashes})
        return self.report(write_reports)

    def worded(self) -> AnyStudy:
        """The resolved study, as far as there is one, with the words it was last given."""
        return self.read("study") if self.path("study").exists() else self.given

    def report(self, write_reports: Callable[[Path, AnyStudy], list[Path]]) -> list[Path]:
        """Write the reports of what there is, always anew: they are cheap, and words may have changed. Other languages' are removed."""
        pages = write_reports(self.folder, self.worded())
        for old in {*self.folder.glob("report.*.html")} - {*pages}:
            old.unlink()
        return pages


def open_run(
    study: AnyStudy,
    *,
    root: Path = Path("runs"),
    command: Sequence[str] = (),
    until: str | None = None,
    must_exist: bool = False,
    on_step: Callable[[str, bool], None] | None = None,
) -> Run:
    """Start the run of a study, or continue the one it has.

    `must_exist` is for those who mean to continue: a study that has changed has another run, and that is an error that
    says what changed. Raises `RunError`; `DataError` and `WeightsError` where a file that the study names cannot be read.
    """
    if not study.data.folder.exists():
        raise RunError(f"There is no data at {study.data.folder}. Check data.folder: it is relative to the study file.")
    _refuse_lost(study)
    keep_apart(root, study.data.folder)
    study = _with_paths(study, lambda path: Path(os.path.abspath(path)))
    folder = root / study.name / study_id(study)
    if must_exist and not folder.exists():
        raise RunError(_what_changed(study, folder))
    return Run(folder, study, command=command, until=until, on_step=on_step)


def _refuse_lost(study: AnyStudy) -> None:
    """Raise `DataError` or `WeightsError` where a file that a study names beside its images is not there, or no file."""
    named: tuple[tuple[str, object, str, type[TabibError]], ...] = (
        ("table", study.data.table, "data.table", DataError),
        ("split file", study.split.file, "split.file", DataError),
        ("file of weights", study.model.weights, "model.weights", WeightsError),
    )
    for what, path, field, error in named:
        if isinstance(path, Path):
            try:
                path.open("rb").close()
            except OSError as lost:
                raise error(
                    f"The {what} {path} cannot be read: {lost.strerror}. Check {field}; it is relative to the study file."
                ) from None


def keep_apart(root: Path, images: Path) -> None:
    """Raise `RunError` where runs would be written among the images of a study, `StudyError` where a file is in their place."""
    check_folder_place(root)
    if root.resolve().is_relative_to(images.resolve()):
        raise RunError(
            f"Runs would be written to {root}, inside the images of {images}, and be taken for images the next time. "
            "Start from another folder, or choose one with --runs."
        )


def read_run(folder: Path) -> Run:
    """A run that was started before, by its folder. Raises `RunError` where the folder is none."""
    manifest = read_manifest(folder)
    if not manifest:
        raise RunError(f"{folder} is not a run: it has no {MANIFEST}. A run looks like runs/<study>/<id>.")
    try:
        return Run(folder, TASKS[manifest["given"].get("task", "classification")].model_validate(manifest["given"]))
    except (KeyError, ValueError) as error:
        raise _damaged(folder / MANIFEST, error) from None


def _is_done(done: Path, key: str, path: Path) -> bool:
    mark = _mark(done)
    return mark is not None and path.exists() and mark.get("key") == key and mark.get("file") == file_hash(path)


def _mark(done: Path) -> dict[str, Any] | None:
    """What is written of a step that is done; None where it is not, or the note is damaged."""
    try:
        return json.loads(done.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lock(folder: Path) -> IO[str]:
    """Hold the run folder for this process; the system lets go of it when the process ends, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}. Choose another place with --runs.") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise RunError(f"{folder} is in use by another process. Wait for it, or stop it; then start the same command again.") from None
    return file


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a run folder says of itself; nothing where it is none. Raises `RunError` where the file is damaged."""
    path = folder / MANIFEST
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise _damaged(path, error) from None


def _manifest(study: AnyStudy, command: Sequence[str], started: str | None) -> dict[str, Any]:
    versions = {name: version for name in PACKAGES if (version := _version(name))}
    return {
        "study": study.name,
        "command": list(command),
        "started": started or _now(),
        "seeds": {"split": study.split.seed, "training": study.training.seeds},
        "python": platform.python_version(),
        "packages": versions,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "data_sha256": list_data(study.data.folder),
        "given": study.model_dump(mode="json"),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found.group(1) if found else platform.processor()


def _what_changed(study: AnyStudy, folder: Path) -> str:
    """Why there is no run to continue: none at all, or the fields in which the latest one differs."""
    others = sorted(folder.parent.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime)
    if not others:
        return f"There is no run of '{study.name}' to continue in {folder.parent.parent}. Start one without --resume."
    before = _flat(json.loads(others[-1].read_text(encoding="utf-8"))["given"])
    now = _flat(study.model_dump(mode="json"))
    changed = [f"{key}: {before.get(key)} -> {now.get(key)}" for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    files = [f"the content of {path}" for path in _files(study)]
    what = "\n  ".join(changed) or " or ".join(["the files of the data folder", *files])
    return f"The study has changed since {others[-1].parent}:\n  {what}\nStart a new run without --resume, or undo the change."


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {key: inner for name, part in value.items() for key, inner in _flat(part, f"{prefix}.{name}".strip(".")).items()}
