"""Curves in Weights & Biases: offline, of the epochs and the settings, and refused in time where the package is missing."""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Self

import pytest

from listens import Killed, KillsAfter
from planted import history_of, plant, train_planted, weights_of
from tabib.errors import MissingPackageError
from tabib.training import curves, resolve_study

WANDB = {"log_to": ["wandb"], "epochs": 3, "seeds": [1, 2]}


class Recorded:
    """A run of the package: what it was begun with, what it was told, whether it ended."""

    def __init__(self, **given: Any) -> None:
        self.given, self.told, self.ended = given, list[tuple[int, dict[str, float]]](), False
        folder = Path(given["dir"]) / "wandb" / f"offline-run-{len(os.listdir(Path(given['dir'])))}-{given['id']}"
        folder.mkdir(parents=True)

    def log(self, values: dict[str, float], *, step: int) -> None:
        self.told.append((step, values))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.ended = True


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    begun: list[Recorded] = []

    def init(**given: Any) -> Recorded:
        assert os.environ["WANDB_ERROR_REPORTING"] == "false"
        begun.append(Recorded(**given))
        return begun[-1]

    fake = ModuleType("wandb")
    fake.__spec__ = ModuleSpec("wandb", None)
    fake.__dict__.update(init=init, Settings=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "true")  # is put back
    return begun


def test_epochs_and_settings_and_never_online(tmp_path: Path, begun: list[Recorded]) -> None:
    planted, run = plant(tmp_path, training=WANDB), tmp_path / "runs/films/0123456789ab"
    train_planted(planted, run)
    assert [each.given["name"] for each in begun] == ["seed1", "seed2"]
    first = begun[0]
    assert (first.given["mode"], first.given["dir"]) == ("offline", str(run))
    assert (first.given["project"], first.given["group"], first.given["id"]) == ("films", "0123456789ab", "0123456789ab-seed1")
    assert first.given["config"] == planted.study.training.model_dump(mode="json")
    assert (first.given["settings"].x_disable_meta, first.given["settings"].disable_git) == (True, True)
    assert str(tmp_path) not in str(first.given["config"])
    history = history_of(run)[:3]
    assert [step for step, _ in first.told] == [1, 2, 3]
    for (_, values), epoch in zip(first.told, history, strict=True):
        assert epoch.items() - {("epoch", epoch["epoch"]), ("step", epoch["step"])} <= values.items()
    assert all(each.ended for each in begun)
    assert not (run / "tensorboard").exists()


def test_a_training_that_goes_on_is_drawn_whole_and_once(tmp_path: Path, begun: list[Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tabib.training.loop._KILLED_EVERY", 0.0)
    planted, run = plant(tmp_path, training=WANDB | {"seeds": [1]}), tmp_path / "runs/films/0123456789ab"
    with pytest.raises(Killed):
        train_planted(planted, run, progress=KillsAfter(8))
    assert begun[0].ended
    train_planted(planted, run)
    assert [step for step, _ in begun[1].told] == [1, 2, 3]
    assert len(list(run.glob("wandb/offline-run-*"))) == 1


def test_nothing_of_the_training_depends_on_it(tmp_path: Path, begun: list[Recorded]) -> None:
    for number, log_to in enumerate(([], ["tensorboard"], ["wandb", "tensorboard"])):
        train_planted(plant(tmp_path, training={"epochs": 1, "log_to": log_to}), tmp_path / str(number))
    assert weights_of(tmp_path / "0") == weights_of(tmp_path / "1") == weights_of(tmp_path / "2")
    assert len(begun) == 1


def test_a_package_that_is_missing_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = plant(tmp_path, training=WANDB)
    monkeypatch.setattr(curves, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'tabib\[wandb\]'"):
        resolve_study(planted.study, planted.index, planted.split)


def test_one_place_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names 'wandb' twice"):
        plant(tmp_path, training={"log_to": ["wandb", "wandb"]})
