"""Over-fitting, judged from the curves of the training as a person would, but by rules.

With V the validation loss by epoch, smoothed by a running median of three, and its noise the robust spread of its steps:

- over-fitting: after its lowest point V rose by more than a tenth and by more than four times the noise, while the training
  loss still fell. *Early* where that point lies in the first third of the epochs, else *late*.
- still improving: no over-fitting, and over the last quarter V fell by more than a twentieth and by more than the noise.
- none: neither.
- unstable, beside any of these: in the second half the validation accuracy, or Dice, typically moved by 0.04 or more from epoch to epoch.

Fewer than `FEWEST_EPOCHS` epochs say nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np

from tabib.records import Finding, Member, TrainFit

__all__ = ["FEWEST_EPOCHS", "judge_histories", "train_fits", "training_facts"]

FEWEST_EPOCHS = 5
RISE, FALL, SWING = 0.1, 0.05, 0.04

FITTED = ("accuracy", "balanced_accuracy", "auc", "dice")
"""What is told of training images beside validation images, and the Dice of each structure."""

LEVELS = {
    "overfitting_early": "warn",
    "unstable_validation": "warn",
    "overfitting_late": "pass",
    "still_improving": "pass",
    "overfitting_none": "pass",
}


@dataclass(frozen=True)
class Curves:
    """Epochs whose losses are numbers."""

    epoch: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    watched: np.ndarray  # what is looked at for swings; nan where it was not recorded
    watched_name: str


def judge_histories(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Finding]:
    """One finding for every verdict that a member's curves have, with the figures of the first such member.

    `histories`: for every member the lines of its `history.jsonl`, with `epoch`, `train_loss`, `validation_loss` and,
    where there is one, `validation_balanced_accuracy` or `validation_dice`.
    """
    verdicts: dict[str, list[tuple[str, dict[str, float | int | str]]]] = {}
    for member, history in histories.items():
        curves = _curves(history)
        if len(curves.epoch) < FEWEST_EPOCHS:
            continue
        for code, figures in [_fit_verdict(curves), *_swing_verdict(curves)]:
            verdicts.setdefault(code, []).append((member, figures))
    return [
        Finding(code=code, level=level, figures={"members": ", ".join(member for member, _ in verdicts[code]), **verdicts[code][0][1]})  # type: ignore[arg-type]
        for code, level in LEVELS.items()
        if code in verdicts
    ]


def train_fits(members: Sequence[Member], histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[TrainFit]:
    """What the kept weights reach on training images beside what they reach on validation images: the means over members.

    A metric that a member does not have, since a class has no such image, is left out.
    """
    found = []
    for name in members[0].train if members else ():
        if name not in FITTED and not name.startswith("dice_"):
            continue
        kept = [histories.get(member.name, [])[member.best_epoch - 1 : member.best_epoch] for member in members]
        train = [value for member in members if (value := member.train.get(name)) is not None]
        validation = [value for line in kept if line and (value := line[0].get(f"validation_{name}")) is not None]
        if len(train) == len(validation) == len(members):
            found.append(TrainFit(name=name, train=fmean(train), validation=fmean(validation)))
    return found


def training_facts(members: Sequence[Member], histories: Mapping[str, Sequence[Mapping[str, Any]]], watched: str) -> dict[str, Any]:
    """What a training took and how it went: `epochs` and `seconds` of all members, `fits`, `images_per_second` of the middle epoch,
    and `curve`, the metric `watched` on validation images after each epoch of the first member."""
    rates = [line["images_per_second"] for member in members for line in histories[member.name]]
    return {
        "epochs": sum(member.epochs for member in members),
        "seconds": sum(member.seconds for member in members),
        "fits": train_fits(members, histories),
        "images_per_second": median(rates) if rates else None,
        "curve": [line.get(f"validation_{watched}") for line in histories[members[0].name]],
    }


def _fit_verdict(curves: Curves) -> tuple[str, dict[str, float | int | str]]:
    number, loss = len(curves.epoch), _running_median(curves.validation)
    best, last = int(loss.argmin()), float(np.median(curves.validation[-3:]))
    noise = _noise(curves.validation)
    rise = last - loss[best]
    before = loss[number - 1 - max(2, number // 4)]
    figures: dict[str, float | int | str] = {
        "epochs": int(curves.epoch[-1]),
        "best_epoch": int(curves.epoch[curves.validation.argmin()]),
        "validation_loss": float(curves.validation.min()),
        "last_loss": last,
    }
    if rise > max(RISE * loss[best], 4 * noise) and np.median(curves.train[-3:]) < curves.train[best]:
        early = 3 * (best + 1) <= number
        return "overfitting_early" if early else "overfitting_late", {**figures, "rise": float(rise / loss[best])}
    if before - last > max(FALL * before, noise):
        return "still_improving", {**figures, "fall": float((before - last) / before)}
    return "overfitting_none", figures


def _swing_verdict(curves: Curves) -> list[tuple[str, dict[str, float | int | str]]]:
    second = curves.watched[len(curves.watched) // 2 :]
    if len(second) < 4 or np.isnan(second).any():
        return []
    swing = float(np.median(np.abs(np.diff(second))))
    if swing < SWING:
        return []
    figures = {"swing": swing, "measure": curves.watched_name, "lowest": float(second.min()), "highest": float(second.max())}
    return [("unstable_validation", figures)]


def _curves(history: Sequence[Mapping[str, Any]]) -> Curves:
    names = ("validation_balanced_accuracy", "validation_accuracy", "validation_dice")
    watched = next((name for name in names if any(name in line for line in history)), names[0])
    columns = ("epoch", "train_loss", "validation_loss", watched)
    table = np.array([[_number(line.get(name)) for name in columns] for line in history], dtype=np.float64).reshape(-1, 4)
    table = table[np.isfinite(table[:, :3]).all(1)]
    return Curves(*table.T, watched_name=watched.removeprefix("validation_"))


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _running_median(values: np.ndarray) -> np.ndarray:
    return np.array([np.median(values[max(0, place - 1) : place + 2]) for place in range(len(values))])


def _noise(values: np.ndarray) -> float:
    """Standard deviation of one value as its steps show it; medians keep a trend and single jumps out. (1.4826 makes a median a deviation.)"""
    steps = np.diff(values)
    return float(1.4826 * np.median(np.abs(steps - np.median(steps))) / math.sqrt(2))
