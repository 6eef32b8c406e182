"""The plan of a segmenter: slices or blocks, a patch that covers what is looked for, the widest network that sees enough in the time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from tabib.config import Segmentation
from tabib.dataset import CaseCache, build_cases
from tabib.errors import DataError, StudyError
from tabib.images import strides_of
from tabib.plan.choices import Choice, study_of
from tabib.progress import Progress
from tabib.training import MaskTimes, count_windows, faster_of, plans, resolve_segmentation, time_masks

__all__ = ["Recipe", "dimensions_of", "network_and_time", "patch_of", "question"]

WIDTHS = (32, 24, 16, 8)
"""Feature maps of a U-Net's first level that are tried, the widest first."""

_FLAT = 3.0  # times as far apart as the pixels of a slice: from there on slices say little of one another (nnU-Net's limit)
_THIN = 16  # slices; of fewer no block can be made
_AROUND = 1.4  # sides of a patch over those of what is looked for
_MEASURED = 0.1  # largest share of the time that goes into measuring validation images after epochs
_FEWEST, _MOST = 10, 60  # epochs
_LARGEST = {2: 256, 3: 128}  # sides of a patch, by dimensions
_WIDEST_LEVEL = {2: 320, 3: 256}  # feature maps
_LEVELS = 5


@dataclass(frozen=True)
class Recipe:
    """How slices or blocks are trained on."""

    dimensions: int
    batch: int
    wanted: int  # patches that are to be seen in all
    most: int  # more than that bring little
    reason: str


def question(positive: str | None) -> list[Choice]:
    """What is asked of the images: where the structures are."""
    if positive is not None:
        raise StudyError(f"{positive!r} is given as the class that is looked for, and images with masks have none. Leave it out.")
    return [Choice("task", "segmentation")]


def network_and_time(
    index: pl.DataFrame,
    split: pl.DataFrame,
    choices: list[Choice],
    *,
    seconds: float,
    cache_folder: Path | None,
    progress: Progress,
) -> list[Choice]:
    """What this machine can train in the time: slices or blocks, spacing, patch, network, batch, epochs.

    Args:
        index: INDEX_SCHEMA.
        split: SPLIT_SCHEMA.
        choices: so far.
        seconds: for training.
        cache_folder: where images and masks are decoded to; the run of the study finds them there.
        progress: told of each case and of the timed steps.
    """
    if cache_folder is None:
        raise StudyError("A plan for images with masks needs cache_folder, in which they are decoded once, for it and for the run.")
    train = index.join(split.filter(pl.col("part") == "train").select("row"), on="row", how="semi")
    tried: list[_Tried] = []
    for recipe in recipes(train):
        tried += _widths(index, split, [*choices, *_recipe_choices(recipe, choices)], recipe, seconds, cache_folder, progress)
        if tried[-1].seen >= recipe.wanted:
            break
    best = max(tried, key=lambda each: (min(1.0, each.seen / each.recipe.wanted), each.width))
    return [*_recipe_choices(best.recipe, choices), *best.choices()]


def recipes(train: pl.DataFrame) -> list[Recipe]:
    """What is tried, the better first: blocks where slices are many and lie close, then slices."""
    dimensions, reason = dimensions_of(train)
    flat = Recipe(
        2, 16, 20_000, 150_000, reason if dimensions == 2 else "blocks would need more than the time, so slices are seen one by one"
    )
    return [flat] if dimensions == 2 else [Recipe(3, 2, 3_000, 15_000, reason), flat]


def dimensions_of(train: pl.DataFrame) -> tuple[int, str]:
    """Whether slices or blocks are to be seen, and why, by the median image; columns `slices` and `spacing_*_mm`."""
    slices, between, row, column = (train[name].median() for name in ("slices", "spacing_slice_mm", "spacing_row_mm", "spacing_column_mm"))
    slices = int(slices or 1)  # pyright: ignore[reportArgumentType]
    if slices == 1:
        return 2, "the images are pictures"
    if between is not None and row is not None and column is not None:
        apart = float(between) / min(float(row), float(column))  # pyright: ignore[reportArgumentType]
        if apart > _FLAT:
            return 2, f"slices lie {apart:.2g} times as far apart as their pixels, and say little of one another"
    if slices < _THIN:
        return 2, f"the images have {slices} slices, too few for a block"
    return 3, f"the images have {slices} slices that lie close"


def _recipe_choices(recipe: Recipe, choices: Sequence[Choice]) -> list[Choice]:
    flat = recipe.dimensions == 2
    changes = [
        Choice(
            "augment.rotation_degrees",
            30.0,
            "a mask moves with its image, so more change is believable than for a class; no data.kind is said",
        ),
        Choice("augment.zoom", 0.2),
        Choice("augment.elastic", 0.03),
        Choice("augment.contrast", 0.2),
        Choice("augment.gamma", 0.3),
        Choice("augment.noise", 0.03),
    ]
    return [
        Choice("input.dimensions", recipe.dimensions, recipe.reason),
        *([] if any(choice.field == "data.kind" for choice in choices) else changes),
        Choice("model.network", "unet", "a U-Net with batch norm: of the networks here the one that learns most in a minute"),
        Choice("training.batch", recipe.batch, "slices at once" if flat else "blocks at once: each has many slices"),
        Choice("training.schedule", "one_cycle", "up and down once"),
        Choice("training.learning_rate", 3e-3 if flat else 1e-3, "the peak of the cycle"),
        Choice("training.average", 0.99, "what is validated and kept are weights averaged over some hundred steps: they are steadier"),
    ]


# --- What this machine can do in the time ---


@dataclass(frozen=True)
class _Tried:
    recipe: Recipe
    width: int
    fields: list[Choice]
    epochs: int
    patches: int  # of an epoch
    seconds: float  # of all epochs

    @property
    def seen(self) -> int:
        return self.epochs * self.patches

    def choices(self) -> list[Choice]:
        length = (
            f"each ends with a look at the validation images; so many of {self.patches:,} patches take {self.seconds / 60:.2g} minutes here"
        )
        if self.seen < self.recipe.wanted:
            length += f", all that the time allows; {self.recipe.wanted:,} patches in all would be better"
        return [
            *self.fields,
            Choice("training.epochs", self.epochs, length),
            Choice("training.patches", self.patches, f"{self.seen:,} in all"),
        ]


def _widths(
    index: pl.DataFrame,
    split: pl.DataFrame,
    choices: list[Choice],
    recipe: Recipe,
    seconds: float,
    cache_folder: Path,
    progress: Progress,
) -> list[_Tried]:
    """Networks of one recipe, the widest first, as far as one sees enough in the time."""
    bare = [*choices, Choice("training.precision", "fp32"), Choice("training.patches", recipe.batch)]
    study = _resolved(bare, index, split)
    cases = build_cases(study.data, index, study.input, folder=cache_folder, progress=progress)
    members = list(plans(split, study))
    spacing = study.input.spacing_mm if isinstance(study.input.spacing_mm, list) else None
    patch, why = patch_of(cases, members[0].train["row"].to_list(), recipe.dimensions)
    fields = [
        Choice("input.patch", patch, why),
        Choice("input.spacing_mm", spacing or "keep", "the median of the training images" if spacing else "not every image says its own"),
    ]
    windows = sum(count_windows(cases.mask(row).shape, patch) for row in members[0].validation["row"])
    share = seconds / len(members)
    levels = min(_LEVELS, len(strides_of(patch, spacing)))
    precision = None
    tried: list[_Tried] = []
    for width in WIDTHS:
        filters = [min(width * 2**level, _WIDEST_LEVEL[recipe.dimensions]) for level in range(levels)]
        progress.say(f"Timing a U-Net of {filters} feature maps on patches of {' x '.join(map(str, patch))}.")
        one = _resolved([*bare, *fields, Choice("model.filters", filters)], index, split)
        precision = precision or faster_of(one, lambda study: time_masks(study).step, progress=progress)
        times = time_masks(one.model_copy(update={"training": one.training.model_copy(update={"precision": precision})}))
        epochs, patches = length_of(times, windows, share, recipe)
        taken = len(members) * epochs * (patches / recipe.batch * times.step + windows * times.window)
        best = [
            *fields,
            Choice("model.filters", filters, "feature maps of the levels, from the top: the widest that sees enough patches in the time"),
            Choice("training.precision", precision, "by timed steps here"),
        ]
        tried.append(_Tried(recipe, width, best, epochs, patches, taken))
        if tried[-1].seen >= recipe.wanted:
            break
    return tried


def _resolved(choices: Sequence[Choice], index: pl.DataFrame, split: pl.DataFrame) -> Segmentation:
    study = study_of(choices)
    assert isinstance(study, Segmentation)
    return resolve_segmentation(study, index, split)


def length_of(times: MaskTimes, windows: int, seconds: float, recipe: Recipe) -> tuple[int, int]:
    """Epochs, and patches of each, that fill the time: measuring takes a tenth of it, where that leaves enough epochs to choose from.

    Args:
        times: of a step and of a window.
        windows: that the validation images are predicted by.
        seconds: for one member.
        recipe: batch, and how many patches are enough.
    """
    measuring = windows * times.window
    epochs = min(_MOST, max(_FEWEST, math.floor(_MEASURED * seconds / measuring)))
    steps = (seconds - epochs * measuring) / times.step / epochs
    return epochs, recipe.batch * max(1, min(math.floor(steps), recipe.most // (recipe.batch * epochs)))


def patch_of(cases: CaseCache, rows: Sequence[int], dimensions: int) -> tuple[list[int], str]:
    """Sides of a patch that covers what is looked for and what lies around it, in multiples of 32 (of slices, 16), within the images.

    Args:
        cases: prepared.
        rows: that train.
        dimensions: 2 or 3.
    """
    boxes = [box for row in rows for box in _boxes(cases.mask(row), dimensions)]
    if not boxes:
        raise DataError("No mask of a training image shows any structure. Check data.labels: which numbers of the masks are what.")
    span = np.quantile(np.array(boxes), 0.95, axis=0)
    image = np.median([cases.shapes[cases.rows[row]] for row in rows], axis=0)[3 - dimensions :]
    steps = [16, 32, 32][3 - dimensions :]
    patch = [
        int(min(_LARGEST[dimensions], max(2 * step, step * math.ceil(min(_AROUND * wide, side) / step))))
        for wide, side, step in zip(span, image, steps, strict=True)
    ]
    sides = " x ".join(f"{wide:.0f}" for wide in span)
    return patch, f"voxels; what is looked for spans {sides} at most (but for one image in twenty), and the patch shows what is around it"


def _boxes(mask: np.ndarray, dimensions: int) -> list[list[int]]:
    """How far the structures reach along each axis: of the volume, or of each slice that has any."""
    blocks = [mask] if dimensions == 3 else list(mask)
    places = [np.nonzero(block) for block in blocks]
    return [[int(np.ptp(along)) + 1 for along in place] for place in places if len(place[0])]
