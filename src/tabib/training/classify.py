"""Train a classifier: one member per seed, or per fold."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import polars as pl
import torch
from torch import Tensor, nn

from tabib.config import AnyStudy, Study
from tabib.dataset import Cache, build_cache
from tabib.errors import StudyError
from tabib.progress import SILENT, Progress
from tabib.records import Checks, Model, labels_of
from tabib.runs import code_of, fingerprint
from tabib.training.batches import Intensity, load_samples
from tabib.training.class_work import ClassWork
from tabib.training.examples import save_examples, write_copies
from tabib.training.freezing import Counts, freeze
from tabib.training.loop import Watch
from tabib.training.members import Plan, Trained, plans, refuse_failed, remarks_of, train_member, trained_before
from tabib.training.networks import Network, build_network, resolve_model
from tabib.training.other_run import refuse_other_scale
from tabib.training.own import probe
from tabib.training.prefix import UNCHANGED, cut_off, find_cut, kept_features
from tabib.training.session import running
from tabib.training.step import start

__all__ = ["build", "check_layers", "class_names", "refuse_unknown_layers", "train"]


def train(
    index: pl.DataFrame,
    split: pl.DataFrame,
    checks: Checks,
    study: Study,
    *,
    place: Path,
    cache_folder: Path,
    own: nn.Module | None = None,
    offline: bool = False,
    watch: Watch | None = None,
    progress: Progress = SILENT,
) -> Model:
    """Train every member of a study's model.

    A training that was interrupted is continued, to the same weights to the bit; a member that is done is not trained again.

    Args:
        index: INDEX_SCHEMA.
        split: SPLIT_SCHEMA.
        checks: of the training doctor; a failed one that the study does not expect refuses the study.
        study: resolved, without `auto`.
        place: the run's `model` folder: `members/<name>/{weights.safetensors, history.jsonl}`; the files of `training.log_to` lie beside it.
        cache_folder: where decoded images are kept.
        own: the module of `network: own`; every member starts from a copy of it.
        offline: refuse to download starting weights.
        watch: may stop a member after an epoch.
        progress: told of downloads, decoding, batches, epochs and remarks.

    Raises:
        Pruned: by `watch`.
        StudyError: a failed check.
        DataError: a member without rows to train or to choose on.
        TrainingError: a loss that is no longer a number.
        RunError: the disk is full.
    """
    refuse_failed(checks, study)
    classes = class_names(split, study)
    assert study.training.threads != "auto"
    with running(study.training.device, threads=study.training.threads) as device:
        cache = build_cache(study.data, index, study.input, folder=cache_folder, progress=progress)
        members: list[Trained] = []
        network, counts = build(
            study, classes=classes, seed=study.training.seeds[0], device=device, own=own, offline=offline, progress=progress
        )
        progress.say(f"{study.model.network}: {counts.total:,} weights, {counts.trainable:,} of them trained")
        for plan in plans(split, study):
            trained = _train_member(
                plan,
                split,
                cache,
                study,
                classes=classes,
                place=place,
                cache_folder=cache_folder,
                device=device,
                own=own,
                watch=watch,
                progress=progress,
            )
            members.append(trained)
            if study.augment.to_disk:
                folder = place.parent / "augmented_images" / plan.name
                write_copies(folder, cache, plan.train, study.augment, classes=classes, seed=plan.seed, several=study.several)
        train = split.filter(pl.col("part") == "train")
        save_examples(
            place / "augmented", cache, train, study.augment, classes=classes, seed=study.training.seeds[0], several=study.several
        )
    assert study.input.channels != "auto"
    part = resolve_model(study.model, classes=len(classes), several=study.several)
    assert part.dropout != "auto"
    assert part.outputs != "auto"
    return Model(
        network=part.network,
        classes=classes,
        several=study.several,
        positive=study.positive,
        channels=study.input.channels,
        height=study.input.height,
        width=study.input.width,
        head=part.head,
        dropout=part.dropout,
        outputs=part.outputs,
        fit=study.input.fit,
        intensity=study.input.intensity,
        mean=network.mean.flatten().tolist(),
        std=network.std.flatten().tolist(),
        weights_total=counts.total,
        weights_trainable=counts.trainable,
        weights_source=network.weights_source,
        weights_source_sha256=network.weights_source_sha256,
        members=[done.member for done in members],
        remarks=remarks_of(members, checks, study.training, progress=progress),
    )


def class_names(split: pl.DataFrame, study: Study) -> list[str]:
    """Classes (or labels) in the order of the network's outputs: sorted, and of two the positive one last."""
    labels = split.filter(pl.col("part") != "left_out")["label"].unique()
    return sorted(
        {name for label in labels for name in labels_of(label, several=study.several)}, key=lambda name: (name == study.positive, name)
    )


def build(
    study: Study,
    *,
    classes: list[str],
    seed: int,
    device: torch.device,
    own: nn.Module | None = None,
    offline: bool = False,
    progress: Progress = SILENT,
) -> tuple[Network, Counts]:
    """The study's network with its starting weights, frozen as it says; `offline` refuses to download them, `progress` is told where it is done.

    Raises `StudyError` where nothing is left to train: a module of the user's own has no head but its own.
    """
    refuse_other_scale(study)
    shape = study.input
    assert shape.channels != "auto"
    network = build_network(
        study.model,
        classes=len(classes),
        channels=shape.channels,
        height=shape.height,
        width=shape.width,
        several=study.several,
        class_names=classes,
        seed=seed,
        own=own,
        offline=offline,
        progress=progress,
    )
    refuse_unknown_layers(network, study.explain.layers)
    counts = freeze(network, study.model.freeze, sample=torch.zeros(2, shape.channels, shape.height, shape.width))
    if not counts.trainable:
        raise StudyError(
            "No weight of the network is left to train. Freeze less: model.freeze.through names the last layer that keeps its weights."
        )
    return network.to(device), counts


def check_layers(study: AnyStudy, split: pl.DataFrame, *, own: nn.Module | None = None) -> None:
    """Raise `StudyError` where the resolved study's `explain.layers` names what its network does not have.

    The steps that build the network may all be done when these names change, so they are looked at in every run.
    """
    if isinstance(study, Study) and study.explain.layers:
        fresh = study.model_copy(update={"model": study.model.model_copy(update={"weights": None})})
        build(fresh, classes=class_names(split, study), seed=0, device=torch.device("cpu"), own=own)


def refuse_unknown_layers(network: Network, layers: Sequence[str]) -> None:
    """Raise `StudyError` where `explain.layers` names a layer that the backbone does not have; the message names the nearest."""
    known = [name for name, _ in network.features.named_modules() if name]
    for name in layers:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3) or [name for name, _ in network.features.named_children()]
            raise StudyError(
                f"explain.layers names {name!r}, and the network has no layer of this name. The nearest are: {', '.join(near)}."
            )


def _train_member(
    plan: Plan,
    split: pl.DataFrame,
    cache: Cache,
    study: Study,
    *,
    classes: list[str],
    place: Path,
    cache_folder: Path,
    device: torch.device,
    own: nn.Module | None,
    watch: Watch | None,
    progress: Progress,
) -> Trained:
    folder = place / "members" / plan.name
    network, _ = build(study, classes=classes, seed=plan.seed, device=device, own=own)
    sources = [network.weights_source, network.weights_source_sha256]
    alone = study.model_copy(update={"training": study.training.model_copy(update={"seeds": [plan.seed]})})
    key = fingerprint(cache.key, plan.train, plan.validation, alone, plan.name, *sources, code_of(__name__), torch.__version__)
    if trained := trained_before(folder, key=key):
        return trained

    intensity: Intensity = study.input.intensity
    augment = study.augment
    before = network.state_dict()
    if study.training.frozen_features == "keep" and (cut := find_cut(network, study.input)):
        rows = split.filter(pl.col("part").is_in(["train", "validation"]))
        train, validation = kept_features(
            network,
            cut,
            cache,
            rows,
            (plan.train, plan.validation),
            classes=classes,
            intensity=intensity,
            augment=augment,
            seed=plan.seed,
            folder=cache_folder,
            device=device,
            several=study.several,
            progress=progress,
        )
        cut_off(network, cut.layers)
        intensity, augment = "none", UNCHANGED
    else:
        train, validation = (
            load_samples(cache, rows, classes=classes, device=device, several=study.several) for rows in (plan.train, plan.validation)
        )
    work = ClassWork.of(study.training, augment, intensity, train, validation, classes=len(classes), seed=plan.seed)
    return train_member(
        plan,
        start(network, study.training),
        work,
        folder=folder,
        logs=place.parent,
        key=key,
        before=before,
        probe=None if own is None else partial(_probe, study, classes=classes, own=own),
        watch=watch,
        progress=progress,
    )


def _probe(study: Study, weights: dict[str, Tensor], *, classes: list[str], own: nn.Module) -> list[list[float]]:
    """What the module answers when it gets these weights back from a file."""
    network, _ = build(study, classes=classes, seed=0, device=torch.device("cpu"), own=own)
    network.load_state_dict(weights)
    shape = study.input
    assert shape.channels != "auto"
    return probe(network, shape.channels, shape.height, shape.width)
