"""Tabib's own training of a segmenter, step by step, as `benchmarks/segmentation.py` times it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import torch

from tabib.config import Segmentation
from tabib.dataset import CaseCache, build_cases, index_folder, split_dataset
from tabib.engines import tame_allocator
from tabib.records import Findings
from tabib.training.checkpoint import State
from tabib.training.mask_work import MaskWork
from tabib.training.patches import load_patches
from tabib.training.segment import build_for
from tabib.training.segment_resolve import resolve_segmentation
from tabib.training.step import start, train_step

PATCH = {2: [160, 160], 3: [8, 128, 128]}
FILTERS = {2: "auto", 3: [16, 32, 64, 128]}
BATCH = {2: 8, 3: 2}
LABELS = {"rv": 1, "myocardium": 2, "lv": 3}
MONAIS: dict[str, float] = {  # what MONAI has a transform for, and each script applies to each patch
    "rotation_degrees": 15, "shift": 0.05, "zoom": 0.15, "shear_degrees": 5, "brightness": 0.1, "contrast": 0.2, "gamma": 0.2,
    "blur": 0.01, "noise": 0.03,
}  # fmt: skip
EVERYTHING = MONAIS | {"stretch": 0.1, "crop": 0.1, "elastic": 0.03, "bias_field": 0.3, "ghosting": 0.1, "low_resolution": 0.3}


@dataclass(frozen=True)
class Prepared:
    """A resolved study and its cases, of which each trains."""

    study: Segmentation
    cases: CaseCache
    rows: pl.DataFrame  # of the index


def prepare(folder: Path, work: Path, *, dimensions: int, augment: dict[str, float], threads: int, precision: str = "auto") -> Prepared:
    """Everything before the first step, as the road does it; the precision is chosen by timed steps where it is `auto`."""
    tame_allocator()
    training = {"batch": BATCH[dimensions], "patches": 400, "learning_rate": 1e-3, "schedule": "constant", "clip": None}
    study = Segmentation.model_validate(
        {
            "task": "segmentation",
            "name": "speed",
            "data": {"folder": folder, "layout": "acdc", "labels": LABELS},
            "input": {"dimensions": dimensions, "patch": PATCH[dimensions], "spacing_mm": "keep"},
            "augment": augment,
            "model": {"filters": FILTERS[dimensions]},
            "training": training | {"threads": threads, "device": "cpu", "precision": precision},
        }
    )
    index = index_folder(study.data)
    split = split_dataset(index, Findings(findings=[]), study)
    study = resolve_segmentation(study, index, split)
    torch.set_num_threads(threads)
    usable = index.filter(pl.col("refused").is_null() & pl.col("mask").is_not_null())
    return Prepared(study, build_cases(study.data, index, study.input, folder=work / "cache"), usable)


def steps_on_cases(prepared: Prepared) -> Callable[[int], None]:
    """A function that does so many training steps from the cache, with everything that Tabib does in a step."""
    state, work = begin(prepared)
    batches = iter(work.batches(1))

    def go(steps: int) -> None:
        for _ in range(steps):
            train_step(state, work, next(batches)).item()

    return go


def steps_on_ready_patches(prepared: Prepared) -> Callable[[int], None]:
    """The same step on one batch that lies ready: same network, layout, precision, loss, optimiser, threads and allocator."""
    state, work = begin(prepared)
    images, truth = work.train.load(work.batches(1)[0], work.augment, foreground=0.33, seed=0, epoch=1)
    loss_of, half = work.loss, prepared.study.training.precision == "bf16"

    def go(steps: int) -> None:
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                logits = state.network(images)
            loss = loss_of(logits, truth)
            state.optimizer.zero_grad()
            loss.backward()
            state.optimizer.step()
            loss.item()

    return go


def begin(prepared: Prepared) -> tuple[State, MaskWork]:
    """The state before the first step, and what it is trained on."""
    study, device = prepared.study, torch.device("cpu")
    patch = study.input.patch
    assert patch != "auto"
    patches = load_patches(prepared.cases, prepared.rows, structures=len(LABELS), patch=patch, device=device)
    network, _ = build_for(study, seed=0, device=device)
    work = MaskWork(study.training, study.augment, study.data.structures, 0, patches, patches, tuple(patch))
    state = start(network, study.training)
    state.network.train()
    return state, work


def timed(go: Callable[[int], None], steps: int, *, batch: int) -> dict[str, float]:
    """Patches per second, and per second of processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    go(steps)
    return {"wall": batch * steps / (time.perf_counter() - wall), "processor": batch * steps / (time.process_time() - processor)}
