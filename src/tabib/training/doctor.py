"""The training doctor: a minute's look before hours of training."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import nn

from tabib.config import AnyStudy, Augment, BaseTraining, ModelPart, SegmentationModel, Study, run_named
from tabib.dataset import Cache, build_cache
from tabib.progress import SILENT, Progress
from tabib.records import PARTS, Checks, Finding
from tabib.training.batches import Samples, in_order, load_samples, normalise, shuffled
from tabib.training.budget import budget_estimate, memory_of_training
from tabib.training.class_work import ClassWork
from tabib.training.classify import build, class_names
from tabib.training.first_layer import input_scale, parts_differ
from tabib.training.freezing import set_inference
from tabib.training.inference import INFERENCE_BATCH, log_probabilities
from tabib.training.members import plans
from tabib.training.networks import Network
from tabib.training.one_pass import layers_found, look_through
from tabib.training.other_run import seen_before
from tabib.training.prefix import UNCHANGED, cut_off, features_of, find_cut
from tabib.training.rates import too_high
from tabib.training.rounds import steps_of_returns
from tabib.training.session import running
from tabib.training.step import seconds_per_step, start

__all__ = [
    "against_kind",
    "check_settings",
    "check_training",
    "frozen_from_nothing",
    "high_rate",
    "initial_loss",
    "seen_test",
    "shares_missed",
    "two_patiences",
]

_LOOKED_AT = 4 * INFERENCE_BATCH
_FED = 128  # images of each part whose scale is looked at
_LOSS_FACTOR = 1.5
_LEAST_SHARE, _MOST_SHARE = 0.5, 1.5  # of the share that a part is asked to hold
_FRAMED, _UNLIKE = 64, 0.2  # images whose border is looked at; how far, as a fraction of the range, the filled value may be from it


def check_training(
    index: pl.DataFrame,
    split: pl.DataFrame,
    study: Study,
    *,
    cache_folder: Path,
    own: nn.Module | None = None,
    offline: bool = False,
    progress: Progress = SILENT,
) -> Checks:
    """Look at the untrained network, the settings and the time that training will take.

    - `input_scale_off`, `input_channel_constant`: what the first layer sees of the images is not what it can be trained on.
    - `input_parts_differ`: images of validation or test are fed otherwise than those of train.
    - `layers_dead`, `layers_not_learning`, `layers_do_nothing`, `gradients_vanish`, `gradients_explode`: one step, layer by layer.
    - `frozen_from_nothing`: layers keep weights that nothing has trained.
    - `initial_loss_off`: on unseen validation images the untrained network's loss is far from that of equal shares (ln C for cross-entropy, ln 2 for several labels):
      the last layer, the scaling of the images or the weights are not what they should be.
    - `adam_rate_high`: AdamW or Adam with a rate of 0.03 or more, RMSprop with 0.01; fails, since it does not train.
    - `initialiser_cannot_learn`: every weight starts as the same number; fails.
    - `weights_saw_test`: the run that the weights come from was trained or chosen on images of the test part; fails.
    - `two_patiences`: the rate is reduced so late that training stops before it can help.
    - `shares_missed`: a part holds half of the share that the study asks for, or less, or half as much again.
    - `augmentation_against_kind`: a random change that does not occur in this kind of image, or not so much of it.
    - `fill_unlike_border`: moved images get a frame that the images themselves do not have.
    - `budget_estimate`: the time that the training will take, from timed steps, and the memory that they took.
    - `input_right`, `initial_loss_right`, `layers_right`: what was looked at and is as it should be.

    Args:
        index: INDEX_SCHEMA.
        split: SPLIT_SCHEMA.
        study: resolved.
        cache_folder: where decoded images are kept.
        own: the module of `network: own`.
        offline: refuse to download starting weights.
        progress: told of downloads, decoding and the findings.
    """
    classes = class_names(split, study)
    training = study.training
    members = list(plans(split, study))
    first = members[0]
    assert training.threads != "auto"
    with running(training.device, threads=training.threads) as device:
        cache = build_cache(study.data, index, study.input, folder=cache_folder, progress=progress)
        train, unseen = (
            load_samples(cache, rows, classes=classes, device=device, several=study.several)
            for rows in (first.train, first.validation.head(_LOOKED_AT))
        )
        network, counts = build(study, classes=classes, seed=first.seed, device=device, own=own, offline=offline, progress=progress)
        work = ClassWork.of(training, study.augment, study.input.intensity, train, unseen, classes=len(classes), seed=first.seed)

        inputs = _inputs(network, cache, split, first.train, study, device=device)
        began = time.perf_counter()
        logarithms = torch.from_numpy(log_probabilities(network, unseen, intensity=study.input.intensity))
        seconds_per_image = (time.perf_counter() - began) / len(unseen)
        loss = float(work.loss(logarithms, unseen.labels))
        expected = work.loss.uniform(unseen.labels, len(classes))
        passed = look_through(network, work)
        frozen = frozen_from_nothing(network, counts.trainable)
        steps, timed, once = work.steps + steps_of_returns(work), work, 0.0
        if training.frozen_features == "keep" and (cut := find_cut(network, study.input)):
            # Members with weights or copies of their own have features of their own.
            starts = {0 if study.model.weights and not study.augment.copies else member.seed for member in members}
            once = seconds_per_image * len(starts) * ((1 + study.augment.copies) * len(first.train) + len(first.validation))
            few = train.take(np.arange(min(training.batch * training.accumulate, len(train))))
            few, unseen = (features_of(network, cut, part, intensity=study.input.intensity) for part in (few, unseen))
            cut_off(network, cut.layers)
            timed = replace(work, train=few, intensity="none", augment=UNCHANGED)
            began = time.perf_counter()
            log_probabilities(network, unseen, intensity="none")
            seconds_per_image = (time.perf_counter() - began) / len(unseen)
        step = seconds_per_step(start(network, training), timed)
        memory = memory_of_training(network, device)
        layers = layers_found(passed)

    steps *= len(members)
    seconds = once + steps * step + training.epochs * seconds_per_image * sum(len(member.validation) for member in members)
    checks = [
        *inputs,
        *([] if network.answers else initial_loss(loss, expected)),
        *layers,
        *frozen,
        *check_settings(index, split, study),
        *_fill(study.augment, train),
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
        seconds_before_epochs=once,
        predicted_memory=memory,
    )


def check_settings(index: pl.DataFrame, split: pl.DataFrame, study: AnyStudy) -> list[Finding]:
    """What the settings of a resolved study show by themselves, without a look at its network: the part of the doctor that takes no time."""
    return [
        *high_rate(study.training),
        *(_initialiser(study.model) if isinstance(study, Study) else []),
        *seen_test(study.model, index, split),
        *two_patiences(study.training),
        *shares_missed(split, study),
        *against_kind(study),
    ]


def _inputs(
    network: Network, cache: Cache, split: pl.DataFrame, train: pl.DataFrame, study: Study, *, device: torch.device
) -> list[Finding]:
    """What the first layer is given of some images of each part."""
    classes, intensity = class_names(split, study), study.input.intensity
    found, parts = [], dict[str, tuple[np.ndarray, list[str]]]()
    set_inference(network)
    for part in ("train", "validation", "test"):
        rows = train if part == "train" else split.filter(pl.col("part") == part)
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _FED)).astype(int))] if len(rows) else rows
        samples = load_samples(cache, rows, classes=classes, device=device, several=study.several)
        values = []
        for places in in_order(samples, INFERENCE_BATCH):
            images, statistics, _ = samples.load(places)
            fed = normalise(images, statistics, intensity, network)
            if part == "train" and not values:
                found += input_scale(network, fed, images)
            values.append(torch.stack([fed.flatten(1).mean(1), fed.flatten(1).std(1)], dim=1).cpu().numpy())
        if values:
            parts[part] = np.concatenate(values), rows["group"].to_list()
    return [*found, *parts_differ(parts)]


def initial_loss(loss: float, expected: float) -> list[Finding]:
    """`initial_loss_off` where the two are far apart, `initial_loss_right` where they are not."""
    right = expected / _LOSS_FACTOR <= loss <= expected * _LOSS_FACTOR
    code = "initial_loss_right" if right else "initial_loss_off"
    return [Finding(code=code, level="pass" if right else "warn", figures={"loss": loss, "expected": expected})]


def frozen_from_nothing(network: Network, trainable: int) -> list[Finding]:
    """`frozen_from_nothing` where frozen layers have the random weights that they start with."""
    total = sum(weight.numel() for weight in network.parameters())
    if network.weights_source != "none" or trainable == total:
        return []
    return [Finding(code="frozen_from_nothing", level="warn", figures={"frozen": total - trainable, "of": total})]


def high_rate(training: BaseTraining) -> list[Finding]:
    """`adam_rate_high` where the optimizer does not train with the rate (`too_high`), which a sweep never chooses either."""
    highest = too_high(training.optimizer)
    if training.rate < highest:
        return []
    figures = {"optimizer": training.optimizer, "learning_rate": training.rate, "highest": highest}
    return [Finding(code="adam_rate_high", level="fail", figures=figures)]


def _initialiser(model: ModelPart) -> list[Finding]:
    if model.initialiser not in ("zeros", "ones"):
        return []
    return [Finding(code="initialiser_cannot_learn", level="fail", figures={"initialiser": model.initialiser}, page_one=True)]


def seen_test(model: ModelPart | SegmentationModel, index: pl.DataFrame, split: pl.DataFrame) -> list[Finding]:
    """`weights_saw_test` where the run that the weights come from used images of the test part."""
    run = run_named(model.weights)
    if run is None or not (seen := seen_before(run, index, split)):
        return []
    figures = {"run": f"{run.parent.name}/{run.name}", "seen": len(seen), "images": int((split["part"] == "test").sum())}
    return [Finding(code="weights_saw_test", level="fail", figures=figures, rows=seen[:200], page_one=True)]


def two_patiences(training: BaseTraining) -> list[Finding]:
    """`two_patiences` where training stops before a reduced rate can help."""
    patience, stop = training.plateau.patience, training.stop_after
    if training.schedule != "plateau" or stop is None or stop >= 2 * patience:
        return []
    return [Finding(code="two_patiences", level="warn", figures={"patience": patience, "stop_after": stop})]


def shares_missed(split: pl.DataFrame, study: AnyStudy) -> list[Finding]:
    """`shares_missed` of the part of a drawn split that is furthest from the share that was asked for, where it is far."""
    asked = study.split
    if asked.given or asked.file is not None or asked.learn_from < 1 or study.scale == "bench":
        return []
    learn = {"train": 1 - asked.test} if asked.folds else {"train": asked.train, "validation": asked.validation}
    used = split.filter(pl.col("part").is_in(PARTS))
    told = []
    for part, share in {**learn, "test": asked.test}.items():
        drawn = used.filter(pl.col("part") == part).height / max(1, used.height)
        if share > 0 and not _LEAST_SHARE < drawn / share < _MOST_SHARE:
            told.append({"part": part, "asked": share, "share": drawn})
    if not told:
        return []
    figures = max(told, key=lambda each: abs(each["share"] / each["asked"] - 1))
    largest = used["group"].value_counts(sort=True)["count"][0]
    return [Finding(code="shares_missed", level="warn", figures={**figures, "images": len(used), "largest": largest})]


def against_kind(study: AnyStudy) -> list[Finding]:
    """`augmentation_against_kind` for each change that this kind of image does not have."""
    return [
        Finding(
            code="augmentation_against_kind",
            level="warn",
            figures={
                "field": f"augment.{name}",
                "value": _spelt(getattr(study.augment, name)),
                "kind": str(study.data.kind),
                "most": _spelt(rule.most),
                "reason": rule.reason,
            },
        )
        for name, rule in study.augment.rules(study.data.kind).items()
        if getattr(study.augment, name) > rule.most
    ]


def _spelt(value: float | bool) -> float | str:
    """As in a study file."""
    return str(value).lower() if isinstance(value, bool) else value


def _fill(augment: Augment, train: Samples) -> list[Finding]:
    moves = (augment.rotation_degrees, augment.shift, augment.zoom, augment.stretch, augment.shear_degrees, augment.elastic)
    if augment.fill != "constant" or not any(moves):
        return []
    images, _, _ = train.load(shuffled(train, _FRAMED, seed=0, epoch=1)[0])
    frames = torch.cat([images[:, :, 0], images[:, :, -1], images[..., 0], images[..., -1]], dim=-1).mean(1)
    border = frames.median(1).values
    if ((border - augment.fill_value).abs() > _UNLIKE).float().mean() <= 0.5:
        return []
    return [Finding(code="fill_unlike_border", level="warn", figures={"fill_value": augment.fill_value, "border": float(border.median())})]
