"""The training doctor's look at a segmenter."""

from __future__ import annotations

import time
from pathlib import Path

import polars as pl
import torch

from tabib.config import Segmentation
from tabib.dataset import build_cases
from tabib.progress import SILENT, Progress
from tabib.records import Checks, Finding
from tabib.training.doctor import against_kind, high_rate, initial_loss, seen_test, two_patiences
from tabib.training.freezing import set_inference
from tabib.training.loop import seconds_per_step, start
from tabib.training.mask_work import STILL
from tabib.training.members import plans
from tabib.training.segment import build_for, work_for
from tabib.training.session import running
from tabib.training.windows import segment

__all__ = ["check_segmentation"]

_PATCHES = 16


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
    - `adam_rate_high`, `two_patiences`, `weights_saw_test`, `augmentation_against_kind`, `budget_estimate`: as for a classifier.

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
        began = time.perf_counter()
        row = members[0].validation["row"][0]
        segment(network, torch.from_numpy(cases.image(row)), patch=work.patch)
        shown = cases.mask(row).size
        per_voxel = (time.perf_counter() - began) / shown
        step = seconds_per_step(start(network, training), work)
        voxels = sum(cases.mask(row).size for member in members for row in member.validation["row"])
    steps = work.steps * len(members)
    seconds = steps * step + training.epochs * per_voxel * voxels
    budget = {"seconds": round(seconds, 1), "steps": steps, "seconds_per_step": step, "members": len(members), "epochs": training.epochs}
    checks = [
        *([] if study.model.weights else initial_loss(loss, expected)),
        *high_rate(training),
        *seen_test(study.model, index, split),
        *two_patiences(training),
        *against_kind(study),
        Finding(code="budget_estimate", level="pass", figures=budget),
    ]
    for check in checks:
        progress.tell(check)
    return Checks(checks=checks, initial_loss=loss, expected_initial_loss=expected, seconds_per_step=step, predicted_seconds=seconds)
