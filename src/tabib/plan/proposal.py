"""From a look at a folder to a proposed study: every choice with its reason.

The rules are few. Patients, given parts and the positive class are what the look found; the network, the images and the length of
the training come from training steps that are timed here.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Generic, TypeVar, overload

import polars as pl

from tabib.config import AnyStudy, Data, Segmentation, SegmentationData, Split, Study
from tabib.dataset import index_folder, inspect_dataset, patients_by, split_dataset
from tabib.errors import LeakError, StudyError
from tabib.images import printable
from tabib.kinds import KINDS
from tabib.plan import classes, masks
from tabib.plan.choices import Choice, study_of
from tabib.progress import SILENT, Progress
from tabib.records import Findings
from tabib.reports import phrase
from tabib.runs import atomic_write
from tabib.study_file import dump_fields

__all__ = ["TRAINING", "Plan", "plan_study", "write_plan"]

TRAINING = 0.8
"""Share of the minutes that is for training; the rest is for decoding, judging and the report."""

LAYOUTS = {
    "class_folders": "a folder for each class",
    "npz": "the arrays of one file",
    "table": "a table with a line for each image",
    "pattern": "what the paths of the files say",
    "dicom": "a tree of DICOM files, named in a table",
    "image_mask_pairs": "every image has a mask of its name",
    "acdc": "the folders of the ACDC challenge",
    "nnunet": "the raw data of nnU-Net",
    "dicom_seg": "DICOM series, and segmentation objects that outline them",
    "sunnybrook": "the folders of the Sunnybrook data",
}
"""Why a layout stands in a plan: what the folder is."""


S = TypeVar("S", bound=AnyStudy)


@dataclass(frozen=True)
class Plan(Generic[S]):
    """A proposed study."""

    study: S
    choices: list[Choice]
    findings: Findings
    images: int
    minutes: float


@overload
def plan_study(
    data: Data,
    *,
    name: str,
    minutes: float = ...,
    positive: str | None = ...,
    split: Split | None = ...,
    cache_folder: Path | None = ...,
    progress: Progress = ...,
) -> Plan[Study]: ...
@overload
def plan_study(
    data: SegmentationData,
    *,
    name: str,
    minutes: float = ...,
    positive: str | None = ...,
    split: Split | None = ...,
    cache_folder: Path | None = ...,
    progress: Progress = ...,
) -> Plan[Segmentation]: ...
def plan_study(
    data: Data | SegmentationData,
    *,
    name: str,
    minutes: float = 20.0,
    positive: str | None = None,
    split: Split | None = None,
    cache_folder: Path | None = None,
    progress: Progress = SILENT,
) -> Plan[Any]:
    """Propose a study of a folder that can be trained in the minutes given, on this machine.

    Args:
        data: folder and layout; a `group` that is not given is proposed where names have one.
        name: of the study.
        minutes: for the whole run: decoding, training, judging.
        positive: the class that is looked for; where it is not given and no name says it, the rarer one is proposed.
        split: how the images are to be divided, where that is wanted otherwise than a study does by itself.
        cache_folder: where an archive is unpacked, and images with masks are decoded to; not needed for a folder of classes.
        progress: told of each file and of the timed steps.

    Returns:
        A resolved way to write the study down: `write_plan` puts the reasons beside the fields.

    Raises:
        DataError: a folder that no study can be made of.
        StudyError: minutes that are none, a class that is looked for in images with masks, or masks and no `cache_folder`.
    """
    if not 0 < minutes < math.inf:
        raise StudyError(f"minutes is {minutes:g}, and must be a number of minutes above 0")
    began = perf_counter()
    index = index_folder(data, cache_folder=cache_folder, progress=progress)
    decoding = perf_counter() - began
    if isinstance(data, SegmentationData):
        asked, network_and_time = masks.question(data, positive), masks.network_and_time
    else:
        asked, network_and_time = classes.question(index, data, positive), classes.network_and_time
    choices = [Choice("name", name), *asked, *_given("data", data), *_given("split", split or Split()), *_colourless(index, data)]
    findings = inspect_dataset(index, study_of(choices), progress=progress)
    if findings.group_pattern is not None:
        index = index.with_columns(group=patients_by(findings.group_pattern, index["path"]))
        patients = index["group"].n_unique() - index["group"].has_nulls()
        choices.append(Choice("data.group", findings.group_pattern, f"reads {patients:,} patients from the file names; check some of them"))
        findings = inspect_dataset(index, study_of(choices), progress=progress)
    chosen, parts = _parts(index, findings, choices)
    choices += chosen
    choices += network_and_time(
        index, parts, choices, seconds=60 * minutes * TRAINING - decoding, cache_folder=cache_folder, progress=progress
    )
    return Plan(study_of(choices), choices, findings, index["refused"].null_count(), minutes)


def write_plan(plan: Plan[Any], path: Path) -> None:
    """Write the proposed study as YAML that a person can read and change: the reasons stand above the fields.

    Raises:
        RunError: the file cannot be written.
    """
    lines = [
        f"Proposed from {plan.images:,} images, for {plan.minutes:g} minutes on this machine. Change what you know better; then",
        f"    tabib run {path.name}",
    ]
    if plan.study.data.kind is None:
        plain = "No kind of image is said. Name what the images show, as data.kind"
        lines += ["", f"{plain} ({', '.join(KINDS)}), leave augment out, and the random changes of training images follow from that."]
    for level, said in (("fail", "This stops the study until it is mended, or named under expect:"), ("warn", "Found, and to be read")):
        words = [(finding.code, phrase(finding, "en")) for finding in plan.findings.findings if finding.level == level]
        lines += ["", f"{said}:", *(f"- {text.title} ({code}). {text.sentence}" for code, text in words)] if words else []
    base = path.resolve().parent
    fields = [(choice.field, _relative(choice, base), choice.reason) for choice in plan.choices]
    with atomic_write(path) as file:
        file.write(dump_fields(fields, heading=[printable(line) for line in lines]).encode())


def _relative(choice: Choice, base: Path) -> Any:
    """The value as the file needs it: paths are relative to it."""
    return os.path.relpath(Path(choice.value).resolve(), base) if choice.field in ("data.folder", "data.table") else choice.value


def _given(part: str, given: Data | SegmentationData | Split) -> list[Choice]:
    """What was given of the data or the split, as it was given."""
    values = given.model_dump(mode="json", exclude_defaults=True)
    if not isinstance(given, Split):
        values = {"folder": values["folder"], "layout": given.layout, **values}
    return [Choice(f"{part}.{field}", value, LAYOUTS[value] if field == "layout" else "") for field, value in values.items()]


def _colourless(index: pl.DataFrame, data: Data | SegmentationData) -> list[Choice]:
    """Off is what the kind of image would change of colours, where there are none."""
    if data.kind is None or index.filter(pl.col("refused").is_null())["colour"].any():
        return []
    rules = KINDS[data.kind]
    of_colour = [name for name in ("saturation", "hue_degrees", "stain") if name in rules and rules[name].default]
    return [Choice(f"augment.{name}", 0.0, "the images are grey") for name in of_colour]


def _parts(index: pl.DataFrame, findings: Findings, choices: list[Choice]) -> tuple[list[Choice], pl.DataFrame]:
    given = sorted(set(index["given"].drop_nulls()))
    folds = [part for part in given if part.startswith("fold ")]
    if not ({"train", "test"} <= set(given) or len(folds) > 2 or (folds and "test" in given)):
        return [], split_dataset(index, findings, study_of(choices))
    kept = [Choice("split.given", value=True, reason=f"the data say which images are for {', '.join(given)}")]
    if "test" not in given:
        kept.append(Choice("split.test_fold", int(folds[-1].removeprefix("fold ")), "the last of the given folds judges"))
    try:
        return kept, split_dataset(index, findings, study_of([*choices, *kept]))
    except LeakError:
        kept.append(Choice("split.leaks", "drop", "patients or copies stand on both sides: what judges stays, the others are left out"))
        return kept, split_dataset(index, findings, study_of([*choices, *kept]))
