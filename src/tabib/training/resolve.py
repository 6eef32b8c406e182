"""From the study as given to the study as run: every `auto` becomes a value, once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import polars as pl
import torch
from torch import nn

from tabib.config import BaseAugment, Segmentation, Study
from tabib.dataset import positive_class
from tabib.errors import StudyError
from tabib.progress import SILENT, Progress
from tabib.training.batches import Intensity, Samples
from tabib.training.class_work import ClassWork
from tabib.training.classify import build, class_names
from tabib.training.curves import refuse_missing
from tabib.training.networks import resolve_model
from tabib.training.prefix import UNCHANGED, cut_off, features_of, find_cut
from tabib.training.session import running
from tabib.training.step import seconds_per_step, start

__all__ = [
    "available_threads",
    "faster_of",
    "faster_precision",
    "find_device",
    "refuse_colours",
    "resolve_study",
    "time_step",
    "with_channels",
]

_BF16_PAYS = 1.15
_DISK_SHARE = 0.5
"""Share of the free disk that kept features may take."""
_BENCH_EPOCHS = 2

S = TypeVar("S", Study, Segmentation)


def resolve_study(
    study: Study,
    index: pl.DataFrame,
    split: pl.DataFrame,
    *,
    cache_folder: Path | None = None,
    own: nn.Module | None = None,
    progress: Progress = SILENT,
) -> Study:
    """Fill in what the study left to be found: positive class, channels, dropout, outputs, device, threads, whether frozen features are kept, precision.

    The result repeats the run: nothing is measured again. Precision `auto` is decided by a few timed training steps, and
    is bf16 only where those are at least 1.15 times as fast.

    Args:
        study: as given.
        index: INDEX_SCHEMA.
        split: SPLIT_SCHEMA.
        cache_folder: where frozen features would be kept; its disk is not looked at where it is not given.
        own: the module of `network: own`.
        progress: told of the timed steps.

    Raises:
        StudyError: a positive class that is no class or cannot be told, changes of colour where there is none, a head that the
            network does not have, a GPU that is not there, or features that are to be kept and cannot be.
        MissingPackageError: `training.log_to` names what is not installed.
    """
    refuse_missing(study.training)
    classes = class_names(split, study)
    study = study if study.several else study.model_copy(update={"positive": positive_class(study.positive, classes)})
    colour = bool(index.filter(pl.col("refused").is_null())["colour"].any())
    refuse_colours(study.augment, "no image has colour" if not colour else "input.channels is 1" if study.input.channels == 1 else None)
    study = with_channels(study, index)
    study = study.model_copy(update={"model": resolve_model(study.model, classes=len(classes), several=study.several)})
    training = study.training
    if study.scale == "bench":
        training = training.model_copy(update={"epochs": min(training.epochs, _BENCH_EPOCHS)})
        study = study.model_copy(update={"augment": study.augment.model_copy(update={"copies": min(study.augment.copies, 1)})})
    device = find_device(training.device)
    threads = available_threads() if training.threads == "auto" else training.threads
    study = study.model_copy(update={"training": training.model_copy(update={"device": device, "threads": threads})})
    study = study.model_copy(
        update={"training": study.training.model_copy(update={"frozen_features": _frozen_features(study, split, cache_folder, own)})}
    )
    if training.precision == "auto":
        precision = faster_precision(study, len(classes), own=own, progress=progress)
        study = study.model_copy(update={"training": study.training.model_copy(update={"precision": precision})})
    return study


def with_channels(study: Study, index: pl.DataFrame) -> Study:
    """The study with `input.channels` given: 3 where any usable image has colour."""
    if study.input.channels != "auto":
        return study
    colour = index.filter(pl.col("refused").is_null())["colour"].any()
    return study.model_copy(update={"input": study.input.model_copy(update={"channels": 3 if colour else 1})})


def available_threads() -> int:
    """Physical cores this process may use: its affinity without hyper-threads, within the quota of its container."""
    cores = {_siblings(cpu) for cpu in os.sched_getaffinity(0)} if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(len(cores), int(quota) // int(period)))
    except (OSError, ValueError):  # no container, or "max"
        return len(cores)


def _siblings(cpu: int) -> str:
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
    except OSError:
        return str(cpu)


def refuse_colours(augment: BaseAugment, why: str | None) -> None:
    """Raise `StudyError` for changes of colour where there is none that they could change, which `why` says; `None` where there is."""
    changes = {"saturation": augment.saturation, "hue_degrees": augment.hue_degrees, "stain": augment.stain}
    on = [f"augment.{name} is {value:g}" for name, value in changes.items() if value]
    if on and why:
        raise StudyError(f"{' and '.join(on)}, and {why}: there is no colour that it could change. Set it to 0.")


def find_device(wanted: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    """Where the network runs; StudyError where a GPU is asked for and none is there."""
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise StudyError("training.device is cuda, and PyTorch sees no GPU here. Set device: cpu or auto, or check the driver.")
    return "cuda" if wanted != "cpu" and there else "cpu"


def _frozen_features(study: Study, split: pl.DataFrame, cache_folder: Path | None, own: nn.Module | None) -> Literal["keep", "compute"]:
    wanted = study.training.frozen_features
    if wanted == "compute":
        return "compute"
    reason = None
    if study.model.freeze is None:
        reason = "model.freeze is none: no layer is frozen"
    elif not study.augment.off and not study.augment.copies:
        reason = "augment changes the images anew in every epoch; set all of its changes to 0, or augment.copies"
    else:
        fresh = study.model_copy(update={"model": study.model.model_copy(update={"weights": None})})
        network, _ = build(fresh, classes=class_names(split, study), seed=0, device=torch.device("cpu"), own=own)
        cut = find_cut(network, study.input)
        if cut is None:
            reason = "the network has no place behind its frozen layers at which it can be cut; freeze whole blocks, or all_but_head"
        elif cache_folder is not None:
            parts = split["part"].to_list()
            images = (1 + study.augment.copies) * parts.count("train") + parts.count("validation")
            needed = cut.bytes_per_image * images
            free = shutil.disk_usage(next(folder for folder in (cache_folder, *cache_folder.absolute().parents) if folder.exists())).free
            if needed > _DISK_SHARE * free:
                reason = (
                    f"they take {needed / 2**30:.2g} GiB, more than half of the {free / 2**30:.2g} GiB that are free beside {cache_folder}"
                )
    if reason and wanted == "keep":
        raise StudyError(f"training.frozen_features is keep, and {reason}; or set frozen_features: auto.")
    return "compute" if reason else "keep"


def faster_precision(study: Study, classes: int, *, own: nn.Module | None = None, progress: Progress = SILENT) -> Literal["fp32", "bf16"]:
    """The number format of a resolved study's network, by a few timed training steps: bf16 where they are 1.15 times as fast or more."""
    return faster_of(study, lambda tried: time_step(tried, classes, own=own), progress=progress)


def faster_of(study: S, seconds: Callable[[S], float], *, progress: Progress = SILENT) -> Literal["fp32", "bf16"]:
    """The same for a study of any task, from `seconds`, the time of a step of a resolved study."""
    if study.training.device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "fp32"
    taken = []
    with progress.bar("number format", 2) as advance:
        for precision in ("fp32", "bf16"):
            training = study.training.model_copy(update={"precision": precision})
            taken.append(seconds(study.model_copy(update={"training": training})))
            advance(1)
    return "bf16" if taken[0] >= _BF16_PAYS * taken[1] else "fp32"


def time_step(study: Study, classes: int, *, own: nn.Module | None = None) -> float:
    """Seconds of a training step of a resolved study, on made-up images; its starting weights are not looked for."""
    training = study.training
    assert study.input.channels != "auto"
    assert training.threads != "auto"
    with running(training.device, threads=training.threads) as device:
        shape = (training.batch, study.input.channels, study.input.height, study.input.width)
        grey = Samples(
            images=torch.full(shape, 128, dtype=torch.uint8, device=device),
            positions=torch.arange(training.batch, device=device),
            statistics=torch.tensor([0.0, 1, 0.5, 0.25, 0.01, 0.99]).expand(training.batch, -1),
            content=np.arange(training.batch, dtype=np.uint64),
            labels=(torch.arange(training.batch)[:, None] + torch.arange(classes)) % 2
            if study.several
            else torch.arange(training.batch) % classes,
            device=device,
        )
        fresh = study.model_copy(update={"model": study.model.model_copy(update={"weights": None})})
        network, _ = build(fresh, classes=[str(number) for number in range(classes)], seed=0, device=device, own=own)
        intensity: Intensity = study.input.intensity
        augment = study.augment
        if training.frozen_features == "keep" and (cut := find_cut(network, study.input)):
            grey, intensity, augment = features_of(network, cut, grey, intensity=intensity), "none", UNCHANGED
            cut_off(network, cut.layers)
        work = ClassWork.of(training, augment, intensity, grey, grey, classes=classes, seed=0)
        return seconds_per_step(start(network, training), work)
