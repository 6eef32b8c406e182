"""From a study of images and masks as given to the study as run: every `auto` becomes a value, once."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
import torch

from tabib.config import AnyStudy, Segmentation, SegmentationInput
from tabib.dataset import CaseCache, Grid, channel_names, prepared_shapes
from tabib.errors import StudyError
from tabib.progress import SILENT, Progress
from tabib.training.curves import refuse_missing
from tabib.training.mask_work import MaskWork
from tabib.training.patches import Patches
from tabib.training.resolve import available_threads, faster_of, find_device, refuse_colours
from tabib.training.segment import build_for
from tabib.training.session import running
from tabib.training.step import seconds_per_step, start
from tabib.training.windows import count_windows, segment

__all__ = ["MaskTimes", "must_be_fp32", "resolve_input", "resolve_segmentation", "time_masks"]

_WIDEST = {2: 256, 3: 128}
"""Largest rows and columns of a patch that is planned, by dimensions."""
_DEEPEST = 64
"""Most slices of a patch that is planned."""
_TIMED = 16  # slices of the made-up case whose prediction is timed
_BENCH = {"epochs": 2, "patches": 16}


def resolve_segmentation(
    study: Segmentation, index: pl.DataFrame, split: pl.DataFrame, *, cache_folder: Path | None = None, progress: Progress = SILENT
) -> Segmentation:
    """Fill in what the study left to be found: channels, spacing, patch, patches of an epoch, device, threads, precision.

    The result repeats the run: nothing is measured again. Spacing and patch are those of the median training image; precision
    `auto` is decided by a few timed training steps.

    Args:
        study: as given.
        index: INDEX_SCHEMA.
        split: SPLIT_SCHEMA.
        cache_folder: not looked at.
        progress: told of the timed steps.

    Raises:
        StudyError: changes of colour where there is none, a patch that the network cannot have, a GPU that is not there.
        MissingPackageError: `training.log_to` names what is not installed.
    """
    refuse_missing(study.training)
    study = resolve_input(study, index, split)
    refuse_colours(study.augment, _colourless(study.input))
    shapes, training = _shapes(study.input, _training_images(index, split)), study.training
    patches = training.patches if training.patches != "auto" else _patches(shapes, study.input.dimensions)
    update: dict[str, object] = {"patches": max(2, patches)}
    if study.scale == "bench":
        update = {"epochs": min(training.epochs, _BENCH["epochs"]), "patches": min(max(2, patches), _BENCH["patches"])}
    update |= {"device": find_device(training.device), "threads": available_threads() if training.threads == "auto" else training.threads}
    study = study.model_copy(update={"training": training.model_copy(update=update)})
    return study.model_copy(update={"training": study.training.model_copy(update={"precision": _precision(study, progress=progress)})})


def resolve_input(study: Segmentation, index: pl.DataFrame, split: pl.DataFrame) -> Segmentation:
    """Fill in what the network sees, as `resolve_segmentation` does: channels, spacing and patch."""
    train = _training_images(index, split)
    channels = _channels(study, index)
    spacing = _spacing(study.input, train) if study.input.spacing_mm == "auto" else study.input.spacing_mm
    shape = study.input.model_copy(update={"channels": channels, "spacing_mm": spacing})
    patch = _patch(np.median(_shapes(shape, train), axis=0), shape.dimensions) if shape.patch == "auto" else shape.patch
    return study.model_copy(update={"input": shape.model_copy(update={"patch": patch})})


def _channels(study: Segmentation, index: pl.DataFrame) -> int | list[str]:
    given, names = study.input.channels, channel_names(study.data, index)
    if given != "auto" and len(names) != len(study.input.channel_names):
        found = f"{len(names)} channels with files of their own ({', '.join(names)})" if names else "no channels with files of their own"
        raise StudyError(f"input.channels is {given}, and the images have {found}. Leave it out: auto takes what there is.")
    if given != "auto":
        return given
    return names or (3 if index.filter(pl.col("refused").is_null())["colour"].any() else 1)


def _training_images(index: pl.DataFrame, split: pl.DataFrame) -> pl.DataFrame:
    return index.join(split.filter(pl.col("part") == "train").select("row"), on="row", how="semi")


def _patches(shapes: list[tuple[int, int, int]], dimensions: int) -> int:
    return sum(slices for slices, _, _ in shapes) if dimensions == 2 else 2 * len(shapes)


def _precision(study: Segmentation, *, progress: Progress) -> Literal["fp32", "bf16"]:
    precision = study.training.precision
    if must_be_fp32(study):
        if precision == "bf16":
            raise StudyError(
                "training.precision is bf16, and input.dimensions is 3 on a processor, where PyTorch's convolutions of blocks in that "
                "format can destroy memory. Set fp32, or auto, which takes it."
            )
        return "fp32"
    return faster_of(study, _time_step, progress=progress) if precision == "auto" else precision


def must_be_fp32(study: AnyStudy) -> bool:
    """Whether `precision: auto` is fp32 without any timing, as for volumes on a processor."""
    # PyTorch 2.15 with AMX: the gradient of a 1 x 1 x 1 convolution in bf16, of 16 maps of 8 x 128 x 128, writes past its memory.
    return isinstance(study, Segmentation) and study.input.dimensions == 3 and find_device(study.training.device) == "cpu"


def _colourless(shape: SegmentationInput) -> str | None:
    """Why there is no colour; None where there is."""
    if shape.channel_names:
        return "the channels of the images are no colours"
    return "the images are grey" if shape.channels == 1 else "input.dimensions is 3" if shape.dimensions == 3 else None


def _spacing(shape: SegmentationInput, train: pl.DataFrame) -> Literal["keep"] | list[float]:
    """The median of the training images; what they have where any does not say."""
    names = ["spacing_slice_mm", "spacing_row_mm", "spacing_column_mm"][3 - shape.dimensions :]
    known = train.select(names)
    if not len(known) or any(known.null_count().row(0)):
        return "keep"
    return [round(float(known[name].median() or 0), 4) for name in names]  # pyright: ignore[reportArgumentType]


def _shapes(shape: SegmentationInput, train: pl.DataFrame) -> list[tuple[int, int, int]]:
    return prepared_shapes(train, Grid.of(shape))


def _patch(median: np.ndarray, dimensions: int) -> list[int]:
    """Sides that cover the median image, multiples of what a network of five levels halves, within what memory and time allow."""
    depth, *sides = (float(side) for side in median)
    plane = [min(_WIDEST[dimensions], max(32, 32 * math.ceil(side / 32))) for side in sides]
    if dimensions == 2:
        return plane
    step = 16 if depth > 32 else 8 if depth > 12 else 4
    return [min(_DEEPEST, max(16, step * math.ceil(depth / step))), *plane]


class MaskTimes(NamedTuple):
    """What a resolved study costs on this machine."""

    step: float  # seconds of a training step
    window: float  # seconds of one window of a whole image


def time_masks(study: Segmentation) -> MaskTimes:
    """Time a training step and the prediction of a window, on a made-up case; the starting weights are not looked for."""
    training, shape = study.training, study.input
    assert training.threads != "auto"
    assert shape.patch != "auto"
    depth, height, width = (1,) * (3 - len(shape.patch)) + tuple(shape.patch)
    size = (depth, height, width)
    with running(training.device, threads=training.threads) as device:
        cases = CaseCache(
            key="",
            images=np.linspace(0, 1, shape.channel_count * math.prod(size), dtype=np.float16),
            masks=np.zeros(math.prod(size), np.uint8),
            channels=shape.channel_count,
            separate=bool(shape.channel_names),
            rows={0: 0},
            shapes=[size],
            starts=np.array([0, math.prod(size)]),
        )
        patches = Patches(cases, [0], np.zeros(1, np.uint64), [{}], size, device)
        fresh = study.model_copy(update={"model": study.model.model_copy(update={"weights": None})})
        network, _ = build_for(fresh, seed=0, device=device)
        one = training.model_copy(update={"patches": training.batch * training.accumulate})
        work = MaskWork(one, study.augment, study.data.structures, 0, patches, patches, tuple(shape.patch))
        step = seconds_per_step(start(network, training), work)
        image = torch.from_numpy(cases.image(0)).repeat(1, _TIMED if size[0] == 1 else 1, 1, 1)
        began = time.perf_counter()
        segment(network, image, patch=shape.patch)
        return MaskTimes(step, (time.perf_counter() - began) / count_windows(image.shape[1:], shape.patch))


def _time_step(study: Segmentation) -> float:
    return time_masks(study).step
