"""The training loop, from fresh or restored weights to the best ones."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tabib import metrics
from tabib.config import Augment, Training
from tabib.errors import DataError, TrainingError
from tabib.progress import SILENT, Progress
from tabib.runs import atomic_write, writing
from tabib.training.batches import Intensity, Samples, balanced, change, normalise, shuffled, with_copies
from tabib.training.checkpoint import State, read_checkpoint, write_checkpoint
from tabib.training.curves import open_curves
from tabib.training.freezing import set_training
from tabib.training.inference import log_probabilities
from tabib.training.losses import LabelLoss, Loss, balanced_weights
from tabib.training.networks import Network
from tabib.training.norms import measure_batch_norms
from tabib.training.optimise import ReducedRate, build_optimizer, learning_rate, reduce_on_plateau, start_average, update_average
from tabib.training.randomness import step_seed
from tabib.training.remarks import look_at

__all__ = ["Recipe", "fit", "seconds_per_step", "start", "train_step"]

_LOOK_EVERY = 10
"""Steps between looks at whether the loss is a number: each look waits for a GPU."""

_CHECKPOINT_SHARE = 0.05
"""Share of the time that checkpoints may take; where epochs are shorter than that allows, some are not written."""


@dataclass(frozen=True)
class Recipe:
    """What one member is trained with."""

    training: Training
    augment: Augment
    intensity: Intensity
    classes: int  # or labels
    seed: int
    loss: Loss | LabelLoss
    steps: int  # of the whole training

    @classmethod
    def of(cls, training: Training, augment: Augment, intensity: Intensity, samples: Samples, *, classes: int, seed: int) -> Recipe:
        """The recipe for these training images."""
        balance = training.class_weights == "balanced"
        settings = {"smoothing": training.label_smoothing, "gamma": training.focal_gamma if training.loss == "focal" else 0.0}
        loss: Loss | LabelLoss
        if samples.several:
            each = torch.stack([balanced_weights(labels, 2) for labels in samples.labels.T]) if balance else None
            loss = LabelLoss(each, **settings)
        else:
            loss = Loss(balanced_weights(samples.labels, classes) if balance else None, **settings)
        return cls(
            training=training,
            augment=augment,
            intensity=intensity,
            classes=classes,
            seed=seed,
            loss=loss,
            steps=training.epochs
            * len(shuffled(with_copies(samples, augment.copies), training.batch * training.accumulate, seed=seed, epoch=1)),
        )

    def drawn(self, samples: Samples, *, epoch: int) -> Samples:
        """The images that an epoch sees."""
        samples = with_copies(samples, self.augment.copies)
        return samples if self.training.sampling == "uniform" else balanced(samples, seed=self.seed, epoch=epoch)


def start(network: Network, training: Training) -> State:
    """The state before the first step."""
    network.to(memory_format=network.layout)  # pyright: ignore[reportCallIssue]
    return State(
        network=network,
        average=start_average(network) if training.average else None,
        optimizer=build_optimizer(network, training),
        plateau=ReducedRate(training.learning_rate),
    )


def fit(
    state: State,
    train: Samples,
    validation: Samples,
    recipe: Recipe,
    *,
    folder: Path,
    logs: Path,
    key: str,
    progress: Progress = SILENT,
) -> State:
    """Train until the last epoch or until validation no longer improves; `state.best` then has the best weights.

    Args:
        state: from `start`.
        train: images that train.
        validation: images that choose the epoch.
        recipe: how.
        folder: for `checkpoint.safetensors` and `history.jsonl`, with the name of the member; a checkpoint of the same `key` there is continued.
        logs: the run folder, in which TensorBoard and others have their files.
        key: of everything the result depends on.
        progress: told of batches, epochs and remarks.

    Raises:
        TrainingError: the loss is no longer a number.
        DataError: the watched metric does not exist on these validation images.
        RunError: a checkpoint, the history or the logs cannot be written.
    """
    training = recipe.training
    checkpoint = folder / "checkpoint.safetensors"
    if read_checkpoint(checkpoint, state, key=key):
        progress.say(f"{folder.name}: continued after epoch {state.epoch}.")
    _write_history(folder, state.history)
    with open_curves(training, logs, folder.name) as draw:
        draw(state.history)
        labels = recipe.drawn(train, epoch=1).labels
        constant, uniform = recipe.loss.constant(labels, recipe.classes), recipe.loss.uniform(labels, recipe.classes)
        written, cost = time.perf_counter(), 0.0

        while state.epoch < training.epochs and not _gives_up(state, training):
            started = time.perf_counter()
            try:
                drawn = recipe.drawn(train, epoch=state.epoch + 1)
                train_loss = _train_epoch(state, drawn, recipe, progress=progress)
                measure_batch_norms(
                    state.kept, drawn, batch=training.batch, intensity=recipe.intensity, seed=recipe.seed, epoch=state.epoch + 1
                )
                record = _record(state, validation, recipe, train_loss=train_loss)
            except TrainingError:
                _write_history(folder, [{"epoch": state.epoch + 1, "step": state.step, "train_loss": None}], append=True)
                raise
            elapsed = time.perf_counter() - started
            record |= {"seconds": round(elapsed, 3), "images_per_second": round(len(drawn) / elapsed, 1)}
            state.seconds += elapsed
            state.epoch += 1
            state.history.append(record)
            _write_history(folder, state.history[-1:], append=True)
            draw([record])
            _show(state, training, progress)

            value = _watched(record, training)
            if not state.best or value < state.best_value:
                state.best = {name: tensor.detach().cpu().clone() for name, tensor in state.kept.state_dict().items()}
                state.best_epoch, state.best_value = state.epoch, value
            state.plateau = reduce_on_plateau(state.plateau, value, training.plateau)
            choices = 2 if train.several else recipe.classes
            for finding in look_at(state.history, classes=choices, constant_loss=constant, uniform_loss=uniform):
                if finding.code not in {remark.code for remark in state.remarks}:
                    finding = finding.model_copy(update={"figures": {**finding.figures, "member": folder.name}})
                    state.remarks.append(finding)
                    progress.tell(finding)

            now = time.perf_counter()
            if cost <= _CHECKPOINT_SHARE * (now - written):
                write_checkpoint(checkpoint, state, key=key)
                written = time.perf_counter()
                cost = written - now
    return state


def train_step(state: State, samples: Samples, places: np.ndarray, recipe: Recipe) -> Tensor:
    """One step on the images at `places`, in as many batches as they make; the loss before it, on the device."""
    training, network = recipe.training, state.network
    rate = learning_rate(training, state.plateau, step=state.step, steps=recipe.steps)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    # Not torch.manual_seed, which also asks for every other kind of device.
    device = network.mean.device
    generator = torch.cuda.default_generators[device.index or 0] if device.type == "cuda" else torch.default_generator
    generator.manual_seed(step_seed(recipe.seed, state.step))
    state.optimizer.zero_grad()
    # Alike in size, and none of one image, whose batch-norm statistics would be nothing but itself.
    batches = np.array_split(places, max(1, min(math.ceil(len(places) / training.batch), len(places) // 2)))
    mass, total = recipe.loss.mass(samples.labels[torch.from_numpy(places)]), torch.zeros((), device=device)
    for batch in batches:
        images, statistics, labels = samples.load(batch)
        if not recipe.augment.off:
            images = change(images, samples, batch, recipe.augment, seed=recipe.seed, epoch=state.epoch + 1)
        images = normalise(images, statistics, recipe.intensity, network)
        with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bf16"):
            logits = network(images)
        loss = recipe.loss(logits, labels) * (recipe.loss.mass(samples.labels[torch.from_numpy(batch)]) / mass)
        loss.backward()
        total += loss.detach()
    if training.clip is not None:
        nn.utils.clip_grad_norm_(network.parameters(), training.clip)
    state.optimizer.step()
    state.step += 1
    if state.average is not None and training.average is not None:
        update_average(state.average, network, decay=training.average, step=state.step)
    return total


def seconds_per_step(state: State, samples: Samples, recipe: Recipe, *, steps: int = 3) -> float:
    """Time of a training step, by the fastest of a few after one to warm up: other programs can only make a step slower.

    The state is trained by it and should be thrown away.
    """
    set_training(state.network)
    samples = with_copies(samples, recipe.augment.copies)
    places = np.arange(min(recipe.training.batch * recipe.training.accumulate, len(samples)))
    times = []
    for _ in range(1 + steps):
        started = time.perf_counter()
        float(train_step(state, samples, places, recipe))  # waits for a GPU
        times.append(time.perf_counter() - started)
    return min(times[1:])


def _train_epoch(state: State, samples: Samples, recipe: Recipe, *, progress: Progress) -> float:
    """One pass over the training images; the mean loss of its images."""
    set_training(state.network)
    batches = shuffled(samples, recipe.training.batch * recipe.training.accumulate, seed=recipe.seed, epoch=state.epoch + 1)
    total = torch.zeros((), device=state.network.mean.device)
    with progress.bar(f"epoch {state.epoch + 1} of {recipe.training.epochs}", sum(map(len, batches))) as advance:
        for number, places in enumerate(batches, start=1):
            total += train_step(state, samples, places, recipe) * len(places)
            if number % _LOOK_EVERY == 0 or number == len(batches):
                _must_be_number(float(total), state, recipe)
            advance(len(places))
    return float(total) / sum(map(len, batches))


def _record(state: State, samples: Samples, recipe: Recipe, *, train_loss: float) -> dict[str, Any]:
    """What is measured after an epoch; see the fields of `history.jsonl`."""
    logarithms = log_probabilities(state.kept, samples, intensity=recipe.intensity)
    truth, probability = samples.labels.numpy(), np.exp(logarithms)
    loss = float(recipe.loss(torch.from_numpy(logarithms), samples.labels))
    _must_be_number(loss, state, recipe)
    # Of several labels each is measured as two classes, and the mean is taken.
    sides = [(truth, probability)] if not samples.several else list(zip(truth.T, probability.swapaxes(0, 1), strict=True))
    measured = np.mean([_measures(*side) for side in sides], axis=0)
    return {
        "epoch": state.epoch + 1,
        "step": state.step,
        "learning_rate": state.optimizer.param_groups[0]["lr"],
        "train_loss": train_loss,
        "validation_loss": loss,
        **{f"validation_{name}": _or_none(value) for name, value in zip(("auc", "accuracy", "balanced_accuracy"), measured, strict=True)},
        "validation_spread": float(probability.std(axis=0).max()),
    }


def _measures(truth: np.ndarray, probability: np.ndarray) -> tuple[float, float, float]:
    """AUC (of more than two classes their mean), accuracy and balanced accuracy of class numbers (n,) and probabilities (n, C)."""
    classes, predicted = probability.shape[1], probability.argmax(1)
    positives = [1] if classes == 2 else range(classes)
    auc = np.mean([float(metrics.auc(truth == number, probability[:, number])) for number in positives])
    balanced_accuracy = metrics.balanced_accuracy(truth, predicted, classes=classes)
    return float(auc), float(metrics.accuracy(truth, predicted)), float(balanced_accuracy)


def _watched(record: dict[str, Any], training: Training) -> float:
    """The value that decides which epoch is best, turned so that smaller is better."""
    value = record[f"validation_{training.best}"]
    if value is None:
        raise DataError(
            f"training.best is {training.best}, which does not exist on these validation images: a class has none. "
            "Use best: loss, or a split in which every class has validation images."
        )
    return value if training.best == "loss" else -value


def _gives_up(state: State, training: Training) -> bool:
    return training.stop_after is not None and state.epoch - state.best_epoch >= training.stop_after and bool(state.best)


def _must_be_number(loss: float, state: State, recipe: Recipe) -> None:
    if math.isfinite(loss):
        return
    training = recipe.training
    lower = f"a learning rate ten times lower ({training.learning_rate / 10:g})"
    others = [*(["clip: 1.0"] if training.clip is None else []), *(["precision: fp32"] if training.precision == "bf16" else [])]
    raise TrainingError(
        f"The loss is not a number in epoch {state.epoch + 1}, at step {state.step} of {recipe.steps}: the weights have run away. "
        f"Try {', or '.join([lower, *others])}."
    )


def _show(state: State, training: Training, progress: Progress) -> None:
    record = state.history[-1]
    progress.row(
        {
            "epoch": f"{state.epoch}/{training.epochs}",
            "rate": record["learning_rate"],
            "train loss": record["train_loss"],
            "validation loss": record["validation_loss"],
            "auc": "-" if record["validation_auc"] is None else record["validation_auc"],
            "accuracy": record["validation_accuracy"],
            "images/s": record["images_per_second"],
            "left": _clock(state.seconds / state.epoch * (training.epochs - state.epoch)),
        }
    )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _write_history(folder: Path, records: Iterable[dict[str, Any]], *, append: bool = False) -> None:
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    path = folder / "history.jsonl"
    if append:
        with writing(path), path.open("ab") as file:
            file.write(lines)
    else:
        with atomic_write(path) as file:
            file.write(lines)


def _or_none(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
