"""The first member of a study before its first step, for what is tried out and thrown away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from tabib.config import AnyStudy, BaseTraining, Study
from tabib.dataset import build_cache, build_cases
from tabib.progress import Progress
from tabib.training.batches import load_samples, normalise
from tabib.training.class_work import ClassWork
from tabib.training.classify import build, class_names
from tabib.training.mask_work import STILL, MaskWork
from tabib.training.members import plans
from tabib.training.networks import Network
from tabib.training.prefix import UNCHANGED
from tabib.training.rates import losses_at
from tabib.training.segment import build_for, work_for
from tabib.training.session import running

__all__ = ["Starting", "losses_of", "starting"]

_FEW = 8
"""Images, or patches, that are to be learnt by heart."""


@dataclass(frozen=True)
class Starting:
    """A network with its starting weights, and what it is to be trained on."""

    network: Network
    work: ClassWork | MaskWork
    few: ClassWork | MaskWork  # the same few in every step, as they are, without what keeps a network from learning them by heart
    fed: Tensor  # of the few, as the network is fed


@contextmanager
def starting(
    index: pl.DataFrame,
    split: pl.DataFrame,
    study: AnyStudy,
    *,
    cache_folder: Path,
    own: nn.Module | None,
    offline: bool,
    progress: Progress,
) -> Iterator[Starting]:
    """Build the network of a resolved study and what its first member is trained on; arguments as `check_training`."""
    threads = study.training.threads
    assert threads != "auto"
    with running(study.training.device, threads=threads) as device:
        plan = next(iter(plans(split, study)))
        if isinstance(study, Study):
            classes = class_names(split, study)
            cache = build_cache(study.data, index, study.input, folder=cache_folder, progress=progress)
            train, validation = (
                load_samples(cache, rows, classes=classes, device=device, several=study.several) for rows in (plan.train, plan.validation)
            )
            network, _ = build(study, classes=classes, seed=plan.seed, device=device, own=own, offline=offline, progress=progress)
            told: dict[str, Any] = {"classes": len(classes), "seed": plan.seed}
            work = ClassWork.of(study.training, study.augment, study.input.intensity, train, validation, **told)
            some = train.take(_few_of(train.labels))
            plain = _plain(study.training).model_copy(
                update={"label_smoothing": 0.0, "class_weights": None, "sampling": "uniform", "loss": "cross_entropy", "batch": len(some)}
            )
            few = ClassWork.of(plain, UNCHANGED, study.input.intensity, some, some, **told)
            images, statistics, _ = some.load(np.arange(len(some)))
            yield Starting(network, work, few, normalise(images, statistics, study.input.intensity, network))
        else:
            cases = build_cases(study.data, index, study.input, folder=cache_folder, progress=progress)
            network, _ = build_for(study, seed=plan.seed, device=device, offline=offline, progress=progress)
            work = work_for(plan, cases, study, device=device)
            few = replace(work, augment=STILL, training=_plain(study.training).model_copy(update={"patches": _FEW, "batch": _FEW}))
            images, _ = few.train.load(np.arange(_FEW), STILL, foreground=study.training.foreground, seed=plan.seed, epoch=1)
            yield Starting(network, work, few, images)


def losses_of(made: Starting, *, rate: float, steps: int, few: bool = False, enough: float = -np.inf) -> list[float]:
    """The training loss of each step at one constant rate, from the starting weights, until it is enough or is no number.

    The network has its starting weights again afterwards. `few` learns the same few images in every step.
    """
    work: Any = made.few if few else made.work  # of either task: its batches are its own
    return losses_at(made.network, work, rate=rate, steps=steps, same=few, enough=enough)


def _plain(training: BaseTraining) -> Any:
    return training.model_copy(update={"optimizer": "adamw", "weight_decay": 0.0, "clip": None, "accumulate": 1, "precision": "fp32"})


def _few_of(labels: Tensor) -> np.ndarray:
    """Places of a few images of which every class has as many as another, to within one; of several labels the first few."""
    if labels.ndim == 2:
        return np.arange(min(_FEW, len(labels)))
    of_class = [torch.nonzero(labels == number)[:, 0].tolist() for number in labels.unique()]
    taken = [places[turn] for turn in range(_FEW) for places in of_class if turn < len(places)]
    return np.array(taken[: max(_FEW, 2 * len(of_class))])
