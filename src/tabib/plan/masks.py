"""The plan of a segmenter: slices or blocks, a patch that covers what is looked for, the widest network that sees enough in the time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from tabib.config import Segmentation, SegmentationData
from tabib.dataset import CaseCache, build_cases, open_data, read_case
from tabib.errors import DataError, ImageError, StudyError
from tabib.images import strides_of
from tabib.kinds import Kind
from tabib.plan.choices import Choice, study_of
from tabib.progress import Progress
from tabib.training import MaskTimes, count_windows, plans, resolve_segmentation, time_masks

__all__ = ["Recipe", "dimensions_of", "network_and_time", "patch_of", "question", "window_of"]

WIDTHS = (8, 16, 24, 32)
"""Feature maps of a U-Net's first level that are tried, the narrowest and quickest first."""

KIND_OF_LAYOUT: dict[str, Kind] = {"acdc": "heart_mr", "sunnybrook": "heart_mr"}
"""What the images of a layout show, where it is of one kind alone; it decides the random changes."""

_FLAT = 3.0  # times as far apart as the pixels of a slice: from there on slices say little of one another (nnU-Net's limit)
_THIN = 16  # slices; of fewer no block can be made
_AROUND = 1.4  # sides of a patch over those of what is looked for
_MEASURED = 0.1  # largest share of the time that goes into measuring validation images after epochs
_FEWEST, _MOST = 10, 60  # epochs
_LARGEST = {2: 256, 3: 128}  # sides of a patch, by dimensions
_WIDEST_LEVEL = {2: 320, 3: 256}  # feature maps
_LEVELS = 5

_HOUNSFIELD = (-3100.0, -500.0)  # where the lowest value of a CT image lies: air is -1000, what scanners pad with -1024 to -3024
_LOOKED_AT = 12  # images whose values are read


_ENOUGH = 3.2e8  # voxels that training should have seen, counted as often as they were
_PATCHES = {2: (5_000, 20_000), 3: (500, 4_000)}  # that should be seen at least, and need not be more, by dimensions
_FURTHER = 8  # times what is enough: more brings little
_AT_ONCE = {2: 16 * 160**2, 3: 2 * 96**3}  # voxels of a batch, about


@dataclass(frozen=True)
class Recipe:
    """How slices or blocks of one size are trained on."""

    dimensions: int
    batch: int
    wanted: int  # patches that are to be seen in all
    most: int  # more than that bring little

    @classmethod
    def of(cls, patch: Sequence[int]) -> Recipe:
        """For patches of so many rows and columns, or slices, rows and columns."""
        dimensions, size = len(patch), math.prod(patch)
        fewest, enough = _PATCHES[dimensions]
        wanted = int(min(enough, max(fewest, _ENOUGH / size)))
        batch = 2 ** round(math.log2(_AT_ONCE[dimensions] / size))
        return cls(dimensions, min(16, max(8 if dimensions == 2 else 2, batch)), wanted, _FURTHER * wanted)


def question(data: SegmentationData, positive: str | None) -> list[Choice]:
    """What is asked of the images: where the structures are; and what the images show, where the layout is of one kind alone."""
    if positive is not None:
        raise StudyError(f"{positive!r} is given as the class that is looked for, and images with masks have none. Leave it out.")
    kind = KIND_OF_LAYOUT.get(data.layout) if data.kind is None else None
    return [Choice("task", "segmentation"), *([Choice("data.kind", kind, "images of this layout show nothing else")] if kind else [])]


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
    given = study_of(choices)
    assert isinstance(given, Segmentation)
    scaled = window_of(open_data(given.data, cache_folder).data, train)
    tried: list[_Tried] = []
    for dimensions, reason in ways(train):
        fixed = [*_fixed(dimensions, reason, choices), *scaled]
        tried += _widths(index, split, choices, fixed, seconds, cache_folder, progress)
        if any(each.seen >= each.recipe.wanted for each in tried):
            break
    best = max(tried, key=lambda each: (min(1.0, each.seen / each.recipe.wanted), each.width))
    return best.choices()


def ways(train: pl.DataFrame) -> list[tuple[int, str]]:
    """Dimensions that are tried, and why, the better first: blocks where slices are many and lie close, then slices."""
    dimensions, reason = dimensions_of(train)
    return [(2, reason)] if dimensions == 2 else [(3, reason), (2, "blocks would need more than the time, so slices are seen one by one")]


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


def window_of(data: SegmentationData, train: pl.DataFrame) -> list[Choice]:
    """Of CT images the window of their structures; nothing for others, whose values mean nothing from one image to the next.

    After nnU-Net (Isensee et al., Nature Methods 2021;18:203): CT values are cut off at the 0.5 and 99.5 % quantiles of what is drawn, and all
    images are scaled alike. An image is of CT where its lowest value is one of air in Hounsfield units.
    """
    drawn: list[np.ndarray] = []
    for path, mask in train.filter(pl.col("mask").is_not_null()).select("path", "mask").head(_LOOKED_AT).iter_rows():
        try:
            case = read_case(data, path, mask)
        except ImageError:
            continue
        voxels = case.image.voxels
        if voxels.shape != case.structures.shape or not _HOUNSFIELD[0] <= float(voxels.min()) <= _HOUNSFIELD[1]:
            return []
        drawn.append(np.asarray(voxels[case.structures > 0], dtype=np.float64))
    if not sum(each.size for each in drawn):
        return []
    low, high = (float(round(value)) for value in np.quantile(np.concatenate(drawn), (0.005, 0.995)))
    if low >= high:
        return []
    why = f"the lowest values are those of air in Hounsfield units, so this is CT, where a value means the same in every image; 99 % of what is drawn lies within {low:g} to {high:g}"
    return [Choice("input.intensity", "ct_window", why), Choice("input.window", [low, high])]


def _fixed(dimensions: int, reason: str, choices: Sequence[Choice]) -> list[Choice]:
    """What no timed step decides."""
    why = "a mask moves with its image, so more change is believable than for a class; no data.kind is said"
    changes = [
        Choice("augment.rotation_degrees", 30.0, why),
        Choice("augment.zoom", 0.2),
        Choice("augment.elastic", 0.03),
        Choice("augment.contrast", 0.2),
        Choice("augment.gamma", 0.3),
        Choice("augment.noise", 0.03),
    ]
    return [
        Choice("input.dimensions", dimensions, reason),
        *([] if any(choice.field == "data.kind" for choice in choices) else changes),
        Choice("model.network", "unet", "a U-Net with batch norm: of the networks here the one that learns most in a minute"),
        Choice("training.schedule", "one_cycle", "up and down once"),
        Choice("training.learning_rate", 3e-3 if dimensions == 2 else 1e-3, "the peak of the cycle"),
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
    fixed: list[Choice],
    seconds: float,
    cache_folder: Path,
    progress: Progress,
) -> list[_Tried]:
    """Networks of one recipe, the narrowest first, until one sees too little in the time."""
    study = _resolved([*choices, *fixed, Choice("training.precision", "fp32")], index, split)
    dimensions = study.input.dimensions
    cases = build_cases(study.data, index, study.input, folder=cache_folder, progress=progress)
    members = list(plans(split, study))
    spacing = study.input.spacing_mm if isinstance(study.input.spacing_mm, list) else None
    patch, why = patch_of(cases, members[0].train["row"].to_list(), dimensions)
    recipe = Recipe.of(patch)
    fields = [
        *fixed,
        Choice("input.patch", patch, why),
        Choice("input.spacing_mm", spacing or "keep", "the median of the training images" if spacing else "not every image says its own"),
        Choice("training.batch", recipe.batch, "patches at once, as many as make some 400,000 pixels (of blocks, 2 million voxels)"),
    ]
    windows = sum(count_windows(cases.mask(row).shape, patch) for row in members[0].validation["row"])
    share = seconds / len(members)
    levels = min(_LEVELS, len(strides_of(patch, spacing)))
    tried: list[_Tried] = []
    for width in WIDTHS:
        filters = [min(width * 2**level, _WIDEST_LEVEL[dimensions]) for level in range(levels)]
        progress.say(f"Timing a U-Net of {filters} feature maps on patches of {' x '.join(map(str, patch))}.")
        one = _resolved([*choices, *fields, Choice("model.filters", filters), Choice("training.patches", recipe.batch)], index, split)
        times = time_masks(one)
        epochs, patches = length_of(times, windows, share, recipe)
        taken = len(members) * epochs * (patches / recipe.batch * times.step + windows * times.window)
        best = [
            *fields,
            Choice("model.filters", filters, "feature maps of the levels, from the top: the widest that sees enough patches in the time"),
            Choice("training.precision", one.training.precision, "by timed steps here; of blocks on a processor always fp32"),
        ]
        tried.append(_Tried(recipe, width, best, epochs, patches, taken))
        if tried[-1].seen < recipe.wanted:
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
    """Sides of a patch that covers what is looked for and what lies around it, in multiples of 32 (of blocks, 16), within the images.

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
    steps = [32, 32] if dimensions == 2 else [16, 16, 16]
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
