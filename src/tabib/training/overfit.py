"""Whether a network can learn a few images by heart: if not, something between the pixels and the step is broken."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import torch
from torch import Tensor, nn

from tabib.config import AnyStudy, Study
from tabib.progress import SILENT, Progress
from tabib.records import Checks, Finding, Overfit
from tabib.training.starting import Starting, losses_of, starting

__all__ = ["overfit_few"]

_STEPS = 300
_LEARNS = 0.5  # to this share of the first loss it falls only where images, network and step work together
_ENOUGH = {"classification": 0.1, "segmentation": 0.3}
"""To how much of the first loss it must fall. Every image has its own answer; of masks the voxels at the edges take longest."""
_RATES = (1e-3, 1e-2, 1e-4)  # of AdamW, tried in this order
_ALIKE = 1e-4  # how much the few may differ, as fed, where they are all alike
_CAUSES = {
    "initialiser_cannot_learn": "start",
    "input_scale_off": "scale",
    "layers_dead": "layers",
    "layers_not_learning": "layers",
    "gradients_vanish": "layers",
    "gradients_explode": "layers",
}
"""What the other checks found that explains it, and what the words call it."""


def overfit_few(
    index: pl.DataFrame,
    split: pl.DataFrame,
    checks: Checks,
    study: AnyStudy,
    *,
    cache_folder: Path,
    own: nn.Module | None = None,
    offline: bool = False,
    progress: Progress = SILENT,
) -> Overfit:
    """Train on eight images (two of each of more than four classes; patches of a segmenter) until the loss is near 0.

    They are not changed, nothing is dropped or decayed, and three rates of AdamW may try. `few_learnt` says that it was learnt,
    `few_not_learnt` that it was not (it fails where the loss does not even halve), with the likely cause: the start of the weights,
    the scale, layers that another check has found, images that are all alike, one image under two labels, or what is frozen.

    Args:
        index: INDEX_SCHEMA.
        split: SPLIT_SCHEMA.
        checks: what the doctor found before.
        study: resolved.
        cache_folder: where decoded images are kept.
        own: the module of `network: own`.
        offline: refuse to download starting weights.
        progress: told of downloads, decoding and the finding.
    """
    with starting(index, split, study, cache_folder=cache_folder, own=own, offline=offline, progress=progress) as made:
        for layer in made.network.modules():
            if isinstance(layer, nn.modules.dropout._DropoutNd):
                layer.p = 0.0
        learnt, losses = _by_heart(made, _ENOUGH[study.task])
        slow = losses[-1] < _LEARNS * losses[0]
        cause = {} if learnt else {"cause": "slow" if slow else _cause(made, checks, study)}
    finding = Finding(
        code="few_learnt" if learnt else "few_not_learnt",
        level="pass" if learnt else "warn" if cause == {"cause": "slow"} else "fail",
        figures={
            "images": len(made.fed),
            "first": losses[0],
            "last": losses[-1],
            "limit": _ENOUGH[study.task],
            "steps": len(losses),
            **cause,
        },
    )
    progress.tell(finding)
    return Overfit(checks=[finding], losses=losses)


def _by_heart(made: Starting, share: float) -> tuple[bool, list[float]]:
    """Whether a rate does it, and the losses of the one that came nearest, up to the last number."""
    tried, enough = [], share * losses_of(made, rate=_RATES[0], steps=1, few=True)[0]
    for rate in _RATES:
        losses = [loss for loss in losses_of(made, rate=rate, steps=_STEPS, few=True, enough=enough) if loss < float("inf")] or [1e30]
        if losses[-1] <= enough:
            return True, losses
        tried.append(losses)
    return False, min(tried, key=lambda losses: losses[-1])


def _cause(made: Starting, checks: Checks, study: AnyStudy) -> str:
    found = [_CAUSES[check.code] for check in checks.checks if check.code in _CAUSES]
    if found:
        return found[0]
    images = made.fed.flatten(1)
    if float(images.std(0).max()) < _ALIKE:
        return "alike"
    if isinstance(study, Study) and _contradict(images, made.few.train.labels):  # pyright: ignore[reportAttributeAccessIssue]
        return "labels"
    if any(not weight.requires_grad for weight in made.network.parameters()):
        made.network.requires_grad_(True)
        made.network.frozen = ()
        if _by_heart(made, _ENOUGH[study.task])[0]:
            return "frozen"
    return "unknown"


def _contradict(images: Tensor, labels: Tensor) -> bool:
    """Whether two images are the same and their labels are not."""
    same = torch.cdist(images, images, p=float("inf")) < _ALIKE
    sides = labels.reshape(len(labels), -1)
    unlike = (sides[:, None] != sides[None]).any(-1).to(same.device)
    return bool((same & unlike).any())
