"""Train a segmenter: one member per seed, or per fold."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import torch

from tabib.config import Segmentation
from tabib.dataset import CaseCache, build_cases
from tabib.errors import StudyError
from tabib.progress import SILENT, Progress
from tabib.records import Checks, SegmentationModel
from tabib.runs import code_of, fingerprint
from tabib.training.examples import save_patches
from tabib.training.loop import Watch
from tabib.training.mask_work import MaskWork
from tabib.training.members import Plan, Trained, plans, refuse_failed, remarks_of, train_member, trained_before
from tabib.training.networks import Network
from tabib.training.patches import load_patches
from tabib.training.segmenters import Form, build_segmenter
from tabib.training.session import running
from tabib.training.step import start

__all__ = ["build_for", "form_of", "train_segmenter", "work_for"]


def train_segmenter(
    index: pl.DataFrame,
    split: pl.DataFrame,
    checks: Checks,
    study: Segmentation,
    *,
    place: Path,
    cache_folder: Path,
    offline: bool = False,
    watch: Watch | None = None,
    progress: Progress = SILENT,
) -> SegmentationModel:
    """Train every member of a study's model; arguments and errors as `train` of a classifier.

    A training that was interrupted is continued, to the same weights to the bit; a member that is done is not trained again.
    """
    refuse_failed(checks, study)
    assert study.training.threads != "auto"
    trained: list[Trained] = []
    with running(study.training.device, threads=study.training.threads) as device:
        cases = build_cases(study.data, index, study.input, folder=cache_folder, progress=progress)
        network, filters = build_for(study, seed=study.training.seeds[0], device=device, offline=offline, progress=progress)
        total = sum(weight.numel() for weight in network.parameters())
        trainable = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
        name = f"{study.model.network} on {study.model.encoder}" if study.model.encoder else study.model.network
        progress.say(f"{name}: {total:,} weights, {trainable:,} of them trained")
        for plan in plans(split, study):
            trained.append(_train(plan, cases, study, place=place, device=device, watch=watch, progress=progress))
        first = next(iter(plans(split, study)))
        save_patches(place / "augmented", work_for(first, cases, study, device=device))
    shape = study.input
    assert shape.patch != "auto"
    assert shape.spacing_mm != "auto"
    return SegmentationModel(
        structures=study.data.structures,
        numbers=[given if isinstance(given, int) else given[0] for given in study.data.labels.values()],
        instances=study.data.instances,
        network=study.model.network,
        encoder=study.model.encoder,
        filters=filters,
        norm=study.model.norm,
        dropout=study.model.dropout,
        deep_supervision=study.model.deep_supervision,
        dimensions=shape.dimensions,
        patch=shape.patch,
        crop=shape.crop,
        spacing_mm=None if shape.spacing_mm == "keep" else shape.spacing_mm,
        channels=shape.channel_count,
        channel_names=shape.channel_names,
        intensity=shape.intensity,
        window=shape.window,
        weights_total=total,
        weights_trainable=trainable,
        weights_source=network.weights_source,
        weights_source_sha256=network.weights_source_sha256,
        members=[done.member for done in trained],
        remarks=remarks_of(trained, checks, study.training, progress=progress),
    )


def build_for(
    study: Segmentation, *, seed: int, device: torch.device, offline: bool = False, progress: Progress = SILENT
) -> tuple[Network, list[int]]:
    """The network of a resolved study with its starting weights, and the feature maps of its levels.

    Raises `StudyError` where nothing is left to train.
    """
    network, filters = build_segmenter(
        study.model, form_of(study), structures=study.data.structures, seed=seed, offline=offline, progress=progress
    )
    if not any(weight.requires_grad for weight in network.parameters()):
        raise StudyError("No weight of the network is left to train. Leave model.freeze out.")
    return network.to(device), filters


def form_of(study: Segmentation) -> Form:
    """What the network of a study whose `input` is resolved is built for."""
    shape = study.input
    assert shape.patch != "auto"
    spacing = tuple(shape.spacing_mm) if isinstance(shape.spacing_mm, list) else None
    return Form(shape.channel_count, 1 + len(study.data.structures), tuple(shape.patch), spacing)


def work_for(plan: Plan, cases: CaseCache, study: Segmentation, *, device: torch.device) -> MaskWork:
    """What a member of a resolved study is trained on."""
    assert study.input.patch != "auto"
    spacing = study.input.spacing_mm if isinstance(study.input.spacing_mm, list) else None
    train, validation = (
        load_patches(cases, rows, structures=len(study.data.structures), patch=study.input.patch, device=device, spacing_mm=spacing)
        for rows in (plan.train, plan.validation)
    )
    return MaskWork(
        training=study.training,
        augment=study.augment,
        structures=study.data.structures,
        seed=plan.seed,
        train=train,
        validation=validation,
        patch=tuple(study.input.patch),
    )


def _train(
    plan: Plan, cases: CaseCache, study: Segmentation, *, place: Path, device: torch.device, watch: Watch | None, progress: Progress
) -> Trained:
    folder = place / "members" / plan.name
    network, _ = build_for(study, seed=plan.seed, device=device)
    sources = [network.weights_source, network.weights_source_sha256]
    alone = study.model_copy(update={"training": study.training.model_copy(update={"seeds": [plan.seed]})})
    key = fingerprint(cases.key, plan.train, plan.validation, alone, plan.name, *sources, code_of(__name__), torch.__version__)
    if trained := trained_before(folder, key=key):
        return trained
    state, work = start(network, study.training), work_for(plan, cases, study, device=device)
    return train_member(plan, state, work, folder=folder, logs=place.parent, key=key, watch=watch, progress=progress)
