"""The leaky twin: the same study trained and judged the wrong way, to show what that would have claimed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from tabib.config import AnyStudy, Columns, Segmentation, Study
from tabib.dataset import build_cache, open_data
from tabib.dataset.listing import FOLD
from tabib.errors import StudyError
from tabib.evaluation.measures import gaps
from tabib.evaluation.parts import leaked_rows
from tabib.experiments.compare import compare_runs
from tabib.experiments.trainings import GOES_WRONG, Missed, Row, missed, prepare, run_rows
from tabib.progress import SILENT, Progress
from tabib.records import DRAWN_WAYS, Compared, Comparison, LeakyTwin, Twin, label_columns
from tabib.reports import LANGUAGES, write_twin_pages
from tabib.runs import Run, atomic_write, code_of, fingerprint, list_data, read_run, write_json
from tabib.training import class_names
from tabib.training.examples import write_copies

__all__ = ["WAYS", "make_twins", "write_twins", "wrong_study"]

WAYS = ("image", "augmented", "labels")
"""Split by image; augmented before the split; labels drawn by chance."""

ONLY_IMAGE = {
    "masks": "Of masks the only wrong way that is shown is the split by image.",
    "files": "It is shown of images that are files of their own, and no DICOM.",
}
"""Why a study has no other way than the split by image."""

_COLUMNS = {"path", "group", "part", "copy", "original"}
"""Columns of the tables that are written here, beside the labels."""

COPIES = 3
"""Changed copies of each image that are made before the split, where the study does not say."""


def make_twins(
    study: AnyStudy,
    *,
    root: Path,
    folder: Path,
    ways: Sequence[str] = (),
    command: Sequence[str] = (),
    offline: bool = False,
    progress: Progress = SILENT,
    on_step: Callable[[str, bool], None] | None = None,
) -> LeakyTwin:
    """Run a study as it is, and again in each wrong way; each is an ordinary run, whose report warns of what was done.

    A given split is set aside by the ways that draw. The study is then run once more, drawn by group from the same images with the same
    shares and seed, and these ways are compared with that: else what makes the given test images other images would be taken for a leak.

    Args:
        study: a sound one.
        root: where run folders are kept.
        folder: what a wrong way needs is written there: copies that are made before the split, or a table of labels drawn by chance.
        ways: of `WAYS`, in the order of the page; those that there are for such a study where none is named.
        command: for the manifests.
        offline: download nothing.
        progress: told of everything.
        on_step: hears each step and whether it was loaded.

    Raises:
        StudyError: there is no such way, the study leaks already, or it could not be run as it is.
    """
    only = _only_image(study)
    ways = ways or (WAYS[:1] if only else WAYS)
    for way in ways:
        if way not in WAYS:
            raise StudyError(f"There is no way {way!r} to be wrong here. Ways are {', '.join(WAYS)}.")
    if study.split.by == "image":
        raise StudyError("split.by is image: the study is itself what a leaky twin would be. Set split.by: group, and start again.")
    told: dict[str, Any] = {"root": root, "offline": offline, "progress": progress, "on_step": on_step}
    try:
        prepared, _ = prepare(study, **told)
    except GOES_WRONG as error:
        raise StudyError(_no_twin(missed(error))) from error
    studies = {way: wrong_study(way, study, prepared, folder, progress) for way in ways}
    rows = [Row(way, made, explained=False) for way, made in studies.items() if not isinstance(made, Missed)]
    aside = any(way in DRAWN_WAYS for way in ways) and (study.split.given or study.split.file is not None)
    sound = [Row("drawn by group", _drawn(study, "group"), explained=False)] if aside else []
    ran = run_rows([Row("as it is", study), *sound, *rows], command=command, **told)
    honest, *others = ran.found
    drawn = others.pop(0) if aside else None
    if isinstance(honest, Missed):
        raise KeyboardInterrupt if honest.why == "stopped" else StudyError(_no_twin(honest))
    became = {row.name: found for row, found in zip(rows, others, strict=True)}
    found: list[tuple[Any, Path | Missed]] = [(way, made if isinstance(made, Missed) else became[way]) for way, made in studies.items()]
    there = {"honest": honest, "group": drawn} | dict(found)
    there = {way: place for way, place in there.items() if isinstance(place, Path)}
    compared: Comparison = compare_runs(list(there.values()), title={}, names=list(there))
    lines = {line.name: line for line in compared.lines}

    def twin_of(way: Any, place: Path | Missed) -> Twin:
        if isinstance(place, Missed):
            return Twin(way=way, not_run=place.why, reason=place.reason)
        with_ = "group" if aside and way in DRAWN_WAYS else "honest"
        beside = _beside(way, with_, lines, there) if way != "group" and with_ in there else {}
        return Twin(way=way, line=lines[way], known=_known(read_run(place)), **beside)

    return LeakyTwin(
        title=study.title.model_dump(exclude_none=True) or dict.fromkeys(LANGUAGES, study.name),
        honest=lines["honest"],
        known=_known(read_run(honest)),
        drawn=None if drawn is None else twin_of("group", drawn),
        twins=[twin_of(way, place) for way, place in found],
        pace=ran.pace,
        masked=compared.masked,
        only_image=only,
    )


def write_twins(twin: LeakyTwin, folder: Path) -> list[Path]:
    """Write `leaky_twin.json` and a page per language into a folder. Returns the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "leaky_twin.json", twin.model_dump(mode="json"))
    return write_twin_pages(twin, folder)


def _only_image(study: AnyStudy) -> Literal["masks", "files"] | None:
    """Why no other way than the split by image can be shown of a study, where that is so; of `ONLY_IMAGE`."""
    if isinstance(study, Segmentation):
        return "masks"
    return "files" if study.data.layout in ("npz", "dicom") else None


def _no_twin(honest: Missed) -> str:
    return f"The study could not be run as it is, and has no twin. {honest.reason}"


def _beside(way: str, sound: str, lines: Mapping[str, Compared], there: Mapping[str, Path]) -> dict[str, Any]:
    """By how much a way is above a sound row, and how many test images both judge."""
    judged = [_judged(read_run(there[name])) for name in (way, sound)]
    return {"more": gaps(lines[sound].measures, lines[way].measures, apart=True), "shared": len(judged[0] & judged[1])}


def _judged(run: Run) -> set[str]:
    split: pl.DataFrame = run.read("split")
    return set(split.filter(pl.col("part") == "test")["content"])


def _drawn(study: AnyStudy, by: str) -> AnyStudy:
    """The study with its images drawn, whatever split is given; shares that a given split need not sum to 1 are brought to it."""
    asked = {name: getattr(study.split, name) for name in ("train", "validation", "test")}
    total = sum(asked.values())
    shares = asked if abs(total - 1) < 1e-6 else {name: share / total for name, share in asked.items()}
    split = study.split.model_copy(update={"by": by, "given": False, "test_fold": None, "file": None, **shares})
    return study.model_copy(update={"split": split})


def wrong_study(way: str, study: AnyStudy, run: Run, folder: Path, progress: Progress) -> AnyStudy | Missed:
    """The study in a wrong way, or why it has none.

    Args:
        way: of `WAYS`.
        study: a sound one.
        run: its own, with index and split.
        folder: as of `make_twins`.
        progress: told of what is decoded.
    """
    if way == "image":
        return _drawn(study, "image").model_copy(update={"data": study.data.model_copy(update={"copies": "keep"})})
    only = _only_image(study)
    if only or isinstance(study, Segmentation):
        return Missed("error", ONLY_IMAGE[only or "masks"])
    classes = class_names(run.read("split"), study)
    if study.several and (taken := sorted(_COLUMNS & {*classes})):
        return Missed("error", f"A finding is called {taken[0]}, as a column of the table that this way needs. Rename the finding.")
    columns = Columns(labels=classes if study.several else [], group="group")
    evaluate = study.evaluate.model_copy(update={"subgroups": []})
    if way == "labels":
        table = _labels_by_chance(run, folder / "labels.csv", classes, study)
        columns = columns.model_copy(update={"part": "part" if study.split.given else None})
        data = study.data.model_copy(update={"layout": "table", "table": table, "columns": columns, "group": None, "pattern": None})
        return study.model_copy(update={"data": data, "evaluate": evaluate})
    copies = _copies_first(run, study, folder / "copies", classes, progress)
    data = study.data.model_copy(
        update={
            "folder": copies,
            "layout": "table",
            "table": copies / "copies.csv",
            "columns": columns,
            "group": None,
            "pattern": None,
            "copies": "keep",
        }
    )
    return _drawn(study, "image").model_copy(update={"data": data, "evaluate": evaluate})


def _labels_by_chance(run: Run, path: Path, classes: list[str], study: Study) -> Path:
    """Write a table of the images in which their labels are exchanged by chance; several labels of an image stay together."""
    split: pl.DataFrame = run.read("split")
    index: pl.DataFrame = run.read("index")
    used = split.filter(pl.col("part") != "left_out").join(index.select("row", "given"), on="row").sort("content", "path")
    order = np.random.default_rng(study.split.seed).permutation(len(used))
    labels = [column.gather(order) for column in label_columns(classes, several=study.several)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        used.select("path", "group", *labels, part=pl.col("given").str.strip_prefix(FOLD)).write_csv(file)
    return path


def _copies_first(run: Run, study: Study, folder: Path, classes: list[str], progress: Progress) -> Path:
    """Write changed copies of every image, and a table of them; those of an earlier start stay where they are whole, and of the same."""
    resolved: Study = run.read("study")
    split: pl.DataFrame = run.read("split")
    index: pl.DataFrame = run.read("index")
    used = split.filter(pl.col("part") != "left_out")
    # Of one copy alone no version is left for the other side.
    augment = resolved.augment.model_copy(update={"copies": max(2, resolved.augment.copies or COPIES)})
    seed, mark = study.split.seed, folder.with_name("copies.json")
    made = fingerprint(used, augment, resolved.input, *classes, seed, code_of(write_copies.__module__))
    if _whole(mark, {"made": made, "files": list_data(folder)}):
        return folder
    mark.unlink(missing_ok=True)
    cache = build_cache(open_data(study.data, run.cache_folder).data, index, resolved.input, folder=run.cache_folder, progress=progress)
    write_copies(folder, cache, used, augment, classes=classes, seed=seed, several=study.several)
    write_json(mark, {"made": made, "files": list_data(folder)})
    return folder


def _whole(mark: Path, wanted: dict[str, str]) -> bool:
    """Whether what stands in the mark of some copies is what these are; a mark that cannot be read is none."""
    try:
        return json.loads(mark.read_text(encoding="utf-8")) == wanted
    except (OSError, ValueError):
        return False


def _known(run: Run) -> int:
    """Test images whose patient, or a copy of which, is in training or validation as well."""
    split: pl.DataFrame = run.read("split")
    return len(leaked_rows(split, run.read("index"), split.filter(pl.col("part") == "test")["row"].to_list()))
