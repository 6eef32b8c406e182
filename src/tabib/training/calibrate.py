"""Choose temperature and operating point on validation rows, before any test row is predicted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn

from tabib.config import ModelPart, Study
from tabib.dataset import Cache, build_cache
from tabib.errors import DataError
from tabib.metrics import apply_temperature, choose_threshold, fit_temperature, log_loss
from tabib.progress import SILENT, Progress
from tabib.records import Decision, Model
from tabib.training.batches import label_numbers, load_samples
from tabib.training.inference import log_probabilities, mean_of_members
from tabib.training.members import weights_of
from tabib.training.networks import Network, build_network
from tabib.training.own import load_own
from tabib.training.session import running

__all__ = ["calibrate", "load_networks", "predict_validation"]


def calibrate(
    model: Model,
    index: pl.DataFrame,
    split: pl.DataFrame,
    study: Study,
    *,
    place: Path,
    cache_folder: Path,
    own: nn.Module | None = None,
    progress: Progress = SILENT,
) -> Decision:
    """Choose everything that is chosen after training.

    The temperature makes the mean of the members fit the validation rows (Guo et al. 2017); the threshold is the study's
    rule on the probabilities so calibrated; each of several labels has its own. Under folds every row is answered by the members that did not train on it.

    Args:
        model: trained.
        index: INDEX_SCHEMA.
        split: SPLIT_SCHEMA.
        study: resolved; its `calibrate`.
        place: the run's `model` folder.
        cache_folder: where decoded images are kept.
        own: the module of `network: own`.
        progress: told of decoding.
    """
    assert study.training.threads != "auto"
    with running(study.training.device, threads=study.training.threads) as device:
        networks = load_networks(model, place, device=device, own=own)
        cache = build_cache(study.data, index, study.input, folder=cache_folder, progress=progress)
        rows, logarithms = predict_validation(model, networks, split, cache, device=device)
    truth = label_numbers(rows["label"], model.classes, several=model.several)
    rule = study.calibrate.threshold
    said = {
        "classes": model.classes,
        "positive": model.positive,
        "weights_sha256": [member.weights_sha256 for member in model.members],
        "validation_rows": len(rows),
        "validation_groups": rows["group"].n_unique(),
    }
    if model.several:
        return _of_labels(said, logarithms, truth, study)
    temperature = fit_temperature(logarithms, truth) if study.calibrate.temperature else 1.0
    probability = apply_temperature(logarithms, temperature)
    two = len(model.classes) == 2
    return Decision(
        **said,
        temperature=temperature,
        threshold=choose_threshold(probability[:, 1], truth, rule, prevalence=study.evaluate.prevalence) if two else None,
        rule="argmax" if not two else rule if isinstance(rule, str) else rule.rule,
        log_loss_before=float(log_loss(truth, np.exp(logarithms))),
        log_loss_after=float(log_loss(truth, probability)),
    )


def _of_labels(said: dict[str, Any], logarithms: np.ndarray, truth: np.ndarray, study: Study) -> Decision:
    """The same for each of several labels, from logarithms (n, L, 2): a temperature and a threshold of its own."""
    rule = study.calibrate.threshold
    temperatures, thresholds, losses = [], [], []
    for number, label in enumerate(said["classes"]):
        mine, present = logarithms[:, number], truth[:, number]
        temperatures.append(fit_temperature(mine, present) if study.calibrate.temperature else 1.0)
        probability = apply_temperature(mine, temperatures[-1])
        try:
            thresholds.append(choose_threshold(probability[:, 1], present, rule, prevalence=study.evaluate.prevalence))
        except DataError as error:
            raise DataError(f"{label}: {error}") from None
        losses.append((log_loss(present, np.exp(mine)), log_loss(present, probability)))
    before, after = np.mean(losses, axis=0).tolist()
    name = rule if isinstance(rule, str) else rule.rule
    chosen = {"temperature": None, "threshold": None, "temperatures": temperatures, "thresholds": thresholds}
    return Decision(**said, **chosen, rule=name, log_loss_before=before, log_loss_after=after)


def predict_validation(
    model: Model, networks: list[Network], split: pl.DataFrame, cache: Cache, *, device: torch.device
) -> tuple[pl.DataFrame, np.ndarray]:
    """Validation rows of the split and the logarithms of their probabilities, (n, C) or of labels (n, L, 2), before the temperature.

    Under folds these are the training rows, each answered by the members that were not trained on its fold.
    """
    rows, answers = [], []
    for fold, members in _by_fold(model, networks):
        part = split.filter(pl.col("part") == "validation" if fold is None else (pl.col("part") == "train") & (pl.col("fold") == fold))
        samples = load_samples(cache, part, classes=model.classes, device=device, several=model.several)
        rows.append(part)
        answers.append(mean_of_members([log_probabilities(network, samples, intensity=model.intensity) for network in members]))
    table = pl.concat(rows).with_row_index("place").sort("row")
    return table.drop("place"), np.concatenate(answers)[table["place"].to_numpy()]


def load_networks(model: Model, place: Path, *, device: torch.device, own: nn.Module | None = None) -> list[Network]:
    """The members' networks with their trained weights, in the order of `model.members`, ready to predict.

    Raises:
        RunError: a file of weights is missing, or is not the one that was trained; or the module `own` is not.
        StudyError: the model is a network of the user's own, and there is no `own`.
    """
    part = ModelPart(network=model.network, weights=None, head=model.head, dropout=model.dropout, outputs=model.outputs)
    networks = []
    for member in model.members:
        weights = weights_of(place, member)
        network = build_network(part, classes=len(model.classes), channels=model.channels, height=model.height, width=model.width, own=own)
        if own is None:
            network.load_state_dict(weights)
        else:
            load_own(network, weights, kept=member.probe, shape=(model.channels, model.height, model.width))
        network.mean.copy_(torch.tensor(model.mean).reshape(network.mean.shape))
        network.std.copy_(torch.tensor(model.std).reshape(network.std.shape))
        network.to(device=device, memory_format=network.layout)  # pyright: ignore[reportCallIssue]
        networks.append(network.requires_grad_(False).eval())
    return networks


def _by_fold(model: Model, networks: list[Network]) -> Iterator[tuple[int | None, list[Network]]]:
    for fold in sorted({member.fold for member in model.members}, key=lambda fold: -1 if fold is None else fold):
        yield fold, [network for member, network in zip(model.members, networks, strict=True) if member.fold == fold]
