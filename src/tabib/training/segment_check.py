"""The training doctor's look at a segmenter."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import polars as pl
import torch

from tabib.config import Segmentation
from tabib.dataset import CaseCache, build_cases
from tabib.progress import SILENT, Progress
from tabib.records import Checks, Finding
from tabib.training.budget import budget_estimate, memory_of_training
from tabib.training.doctor import check_settings, frozen_from_nothing, initial_loss
from tabib.training.first_layer import input_scale, parts_differ
from tabib.training.freezing import set_inference
from tabib.training.mask_work import STILL
from tabib.training.members import plans
from tabib.training.one_pass import layers_found, look_through
from tabib.training.rounds import steps_of_returns
from tabib.training.segment import build_for, work_for
from tabib.training.session import running
from tabib.training.step import seconds_per_step, start
from tabib.training.windows import segment

__all__ = ["check_segmentation"]

_PATCHES = 16
_CASES = 32  # of each part whose brightness is looked at


def check_segmentation(
    index: pl.DataFrame,
    split: pl.DataFrame,
    study: Segmentation,
    *,
    cache_folder: Path,
    offline: bool = False,
    progress: Progress = SILENT,
) -> Checks:
    """Look at the untrained network, the settings and the time that training will take.

    - `initial_loss_off`: on unseen validation patches the untrained network's loss is far from that of equal shares for every structure.
    - `input_scale_off`, `input_channel_constant`, `input_parts_differ`, `layers_dead`, `layers_not_learning`, `layers_do_nothing`,
      `gradients_vanish`, `gradients_explode`, `frozen_from_nothing`, `adam_rate_high`, `two_patiences`, `shares_missed`, `weights_saw_test`, `augmentation_against_kind`, `budget_estimate`: as for a classifier.

    Arguments as `check_training`.
    """
    members = list(plans(split, study))
    training = study.training
    assert training.threads != "auto"
    with running(training.device, threads=training.threads) as device:
        cases = build_cases(study.data, index, study.input, folder=cache_folder, progress=progress)
        network, _ = build_for(study, seed=members[0].seed, device=device, offline=offline, progress=progress)
        work = work_for(members[0], cases, study, device=device)
        numbers = torch.arange(_PATCHES).numpy()
        images, truth = work.validation.load(numbers, STILL, foreground=training.foreground, seed=0, epoch=0)
        set_inference(network)
        with torch.inference_mode():
            logits = network(images)
            loss = float(work.loss(logits, truth))
            expected = float(work.loss(torch.zeros_like(logits), truth))
        inputs = [*input_scale(network, images), *_parts(cases, split, members[0].train)]
        began = time.perf_counter()
        row = members[0].validation["row"][0]
        segment(network, torch.from_numpy(cases.image(row)), patch=work.patch)
        shown = cases.mask(row).size
        per_voxel = (time.perf_counter() - began) / shown
        passed = look_through(network, work)
        trainable = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
        frozen = frozen_from_nothing(network, trainable)
        step = seconds_per_step(start(network, training), work)
        memory = memory_of_training(network, device)
        layers = layers_found(passed)
        voxels = sum(cases.mask(row).size for member in members for row in member.validation["row"])
    steps = (work.steps + steps_of_returns(work)) * len(members)
    seconds = steps * step + training.epochs * per_voxel * voxels
    checks = [
        *inputs,
        *([] if study.model.weights else initial_loss(loss, expected)),
        *layers,
        *frozen,
        *check_settings(index, split, study),
        budget_estimate(training, seconds=seconds, steps=steps, step=step, members=len(members), memory=memory),
    ]
    for check in checks:
        progress.tell(check)
    return Checks(
        checks=checks,
        initial_loss=loss,
        expected_initial_loss=expected,
        seconds_per_step=step,
        predicted_seconds=seconds,
        predicted_memory=memory,
    )


def _parts(cases: CaseCache, split: pl.DataFrame, train: pl.DataFrame) -> list[Finding]:
    """`input_parts_differ`, of whole cases as they are prepared."""
    parts = dict[str, tuple[np.ndarray, list[str]]]()
    for part in ("train", "validation", "test"):
        rows = train if part == "train" else split.filter(pl.col("part") == part)
        if len(rows):
            rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _CASES)).astype(int))]
            images = [cases.image(row) for row in rows["row"]]
            values = np.array([[image.mean(dtype=np.float64), image.std(dtype=np.float64)] for image in images])
            parts[part] = values, rows["group"].to_list()
    return parts_differ(parts)
