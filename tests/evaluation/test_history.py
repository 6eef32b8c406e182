from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tabib.evaluation.history import FEWEST_EPOCHS, judge_histories, train_fits, training_facts
from tabib.records import Member

EPOCHS = 30


def history(
    validation: Callable[[float], float], *, noise: float = 0.0, accuracy: Callable[[int], float] = lambda epoch: 0.9
) -> list[dict[str, Any]]:
    """A training loss that falls all the way, and a validation loss of a known shape over 0..1 of the training."""
    generator = np.random.default_rng(0)
    return [
        {
            "epoch": epoch,
            "train_loss": 0.7 * math.exp(-3 * epoch / EPOCHS),
            "validation_loss": validation(epoch / EPOCHS) + noise * generator.normal(),
            "validation_balanced_accuracy": accuracy(epoch),
        }
        for epoch in range(1, EPOCHS + 1)
    ]


def verdicts(lines: list[dict[str, Any]]) -> dict[str, str]:
    return {finding.code: finding.level for finding in judge_histories({"seed0": lines})}


SHAPES = {
    "overfitting_none": lambda share: 0.3 + 0.4 * math.exp(-12 * share),
    "overfitting_early": lambda share: 0.3 + abs(share - 0.2),
    "overfitting_late": lambda share: 0.3 + abs(share - 0.6),
    "still_improving": lambda share: 0.9 - 0.6 * share,
}


@pytest.mark.parametrize("code", SHAPES)
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_a_planted_shape_is_named(code: str, noise: float) -> None:
    assert set(verdicts(history(SHAPES[code], noise=noise))) == {code}


def test_noise_alone_is_no_over_fitting() -> None:
    generator = np.random.default_rng(1)
    for _ in range(50):
        lines = [{"epoch": epoch, "train_loss": 1 / epoch, "validation_loss": 0.4 + 0.02 * generator.normal()} for epoch in range(1, 31)]
        assert not {"overfitting_early", "overfitting_late"} & set(verdicts(lines))


def test_a_loss_that_rises_with_the_training_loss_is_no_over_fitting() -> None:
    lines = [{**line, "train_loss": line["validation_loss"]} for line in history(SHAPES["overfitting_late"])]
    assert "overfitting_late" not in verdicts(lines)


def test_a_swinging_curve_is_said_beside_the_verdict() -> None:
    swings = history(SHAPES["overfitting_none"], accuracy=lambda epoch: 0.98 if epoch % 2 else 0.88)
    assert verdicts(swings) == {"unstable_validation": "warn", "overfitting_none": "pass"}
    finding = judge_histories({"seed0": swings})[0]
    assert finding.figures["swing"] == pytest.approx(0.1)
    assert finding.figures["measure"] == "balanced_accuracy"


def test_figures_tell_the_epochs_and_members_with_one_verdict_stand_together() -> None:
    late, none = history(SHAPES["overfitting_late"]), history(SHAPES["overfitting_none"])
    found = {finding.code: finding.figures for finding in judge_histories({"seed0": late, "seed1": late, "seed2": none})}
    assert found["overfitting_late"]["members"] == "seed0, seed1"
    assert found["overfitting_late"]["best_epoch"] == 18
    assert found["overfitting_late"]["epochs"] == EPOCHS
    assert found["overfitting_none"]["members"] == "seed2"


def test_short_empty_and_broken_histories_say_nothing_false() -> None:
    lines = history(SHAPES["overfitting_early"])
    assert judge_histories({}) == judge_histories({"seed0": []}) == judge_histories({"seed0": lines[: FEWEST_EPOCHS - 1]}) == []
    broken = [{**lines[0], "validation_loss": None}, {**lines[1], "train_loss": math.nan}, {"epoch": 3}, *lines[3:]]
    assert set(verdicts(broken)) == {"overfitting_early"}


def member(name: str, *, best_epoch: int, **train: float | None) -> Member:
    return Member(name=name, seed=0, fold=None, epochs=2, best_epoch=best_epoch, best_value=0, weights_sha256="", seconds=1, train=train)


def test_the_fit_is_the_mean_over_members_of_the_epochs_they_kept() -> None:
    lines = [{"validation_accuracy": 0.5, "validation_auc": 0.6}, {"validation_accuracy": 0.8, "validation_auc": None}]
    members = [member("a", best_epoch=1, accuracy=0.9, auc=1.0, spread=0.3), member("b", best_epoch=2, accuracy=1.0, auc=1.0, spread=0.3)]
    (fit,) = train_fits(members, {"a": lines, "b": lines})
    assert (fit.name, fit.train, fit.validation) == ("accuracy", pytest.approx(0.95), pytest.approx(0.65))


def test_a_training_is_told_by_its_middle_rate_and_its_first_members_curve() -> None:
    rates, losses = [10.0, 30.0, 50.0], [0.9, None, 0.7]
    lines = [{"images_per_second": rate, "validation_loss": loss} for rate, loss in zip(rates, losses, strict=True)]
    told = training_facts([member("a", best_epoch=1), member("b", best_epoch=2)], {"a": lines, "b": lines[1:2]}, "loss")
    assert (told["epochs"], told["seconds"], told["images_per_second"], told["curve"]) == (4, 2, 30, losses)
    assert training_facts([member("a", best_epoch=1)], {"a": lines}, "auc")["curve"] == [None, None, None]


def test_runs_of_before_have_no_fit() -> None:
    assert train_fits([member("a", best_epoch=1)], {"a": [{"validation_accuracy": 0.5}]}) == []
