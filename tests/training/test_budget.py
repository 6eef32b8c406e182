"""What a training is reckoned at, and what it took."""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path

import pytest
import torch

from planted import plant, train_planted
from tabib.config import Training
from tabib.records import Checks, Finding, Member
from tabib.training import budget, loop
from tabib.training.budget import budget_taken, memory_free, memory_held, memory_of_training

CPU = torch.device("cpu")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory is anonymous")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


def checks(*, seconds: float = 100, memory: int | None = 2_000_000_000) -> Checks:
    return Checks(
        checks=[], initial_loss=0.7, expected_initial_loss=0.7, seconds_per_step=0.1, predicted_seconds=seconds, predicted_memory=memory
    )


def member(*, epochs: int = 10, seconds: float = 1, memory: int | None = 2_000_000_000) -> Member:
    return Member(
        name="seed0", seed=0, fold=None, epochs=epochs, best_epoch=1, best_value=0, weights_sha256="", seconds=seconds, memory=memory
    )


def taken(reckoned: Checks, members: list[Member]) -> dict[str, Finding]:
    return {found.code: found for found in budget_taken(reckoned, members, Training(epochs=10))}


@LINUX
def test_memory_is_what_was_written_to() -> None:
    size = 300_000_000
    before = memory_held(CPU)
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:  # no memory that was freed before is taken for it
        reserved = memory_held(CPU)
        for place in range(0, size, mmap.PAGESIZE):
            block[place] = 1
        after = memory_held(CPU)
    assert before is not None
    assert reserved is not None
    assert after is not None
    assert reserved - before == pytest.approx(0, abs=0.05 * size)
    assert after - before == pytest.approx(size, rel=0.05)


@LINUX
def test_memory_is_free_within_the_limit_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_CONTAINER", tmp_path)
    machine = memory_free()
    assert machine is not None
    assert 0 < machine < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    (tmp_path / "memory.stat").write_text("anon 600\nfile 5000\n")
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory_free() == 400
    for limit in (f"{10**15}\n", "max\n"):
        (tmp_path / "memory.max").write_text(limit)
        assert memory_free() == pytest.approx(machine, rel=0.5), "others take and give back"


@LINUX
def test_the_best_weights_lie_beside_the_network() -> None:
    network = torch.nn.Linear(4000, 4000)
    held, reckoned = memory_held(CPU), memory_of_training(network, CPU)
    assert held is not None
    assert reckoned is not None
    assert reckoned - held == pytest.approx(4 * (4000 * 4000 + 4000), rel=0.05)


def test_nothing_is_reckoned_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "open", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()), raising=False)
    assert memory_of_training(torch.nn.Linear(1, 1), CPU) is None
    (found,) = budget_taken(checks(memory=None), [member(memory=None)], Training(epochs=10))
    assert (found.code, found.figures["memory"], found.figures["reckoned_memory"]) == ("budget_taken", "", "")


def test_time_is_reckoned_for_the_epochs_that_ran() -> None:
    found = taken(checks(seconds=200), [member(epochs=10, seconds=90), member(epochs=5, seconds=60)])
    assert found["budget_taken"].figures == {
        "seconds": 150,
        "reckoned_seconds": 150,  # 15 of 2 x 10 epochs
        "epochs": 15,
        "memory": 2_000_000_000,
        "reckoned_memory": 2_000_000_000,
    }


def test_what_frozen_layers_take_before_is_no_time_of_epochs() -> None:
    found = taken(checks(seconds=200).model_copy(update={"seconds_before_epochs": 80.0}), [member(epochs=5)])
    assert found["budget_taken"].figures["reckoned_seconds"] == 60


@pytest.mark.parametrize(
    ("reckoned", "held", "missed"),
    [
        (2_000_000_000, 3_000_000_000, False),
        (2_000_000_000, 3_000_000_001, True),
        (2_000_000_000, 500_000_000, False),
        (100_000_000, 100_000_000 + 2**28, False),  # the allocator takes as much at once
        (100_000_000, 100_000_001 + 2**28, True),
    ],
)
def test_much_more_memory_is_a_warning(reckoned: int, held: int, missed: bool) -> None:
    found = taken(checks(memory=reckoned), [member(memory=held), member(memory=1)])
    assert ("memory_missed" in found) == missed
    assert found["budget_taken"].figures["memory"] == held


def test_nothing_is_said_where_nothing_was_reckoned() -> None:
    assert not taken(checks(seconds=0), [member()])


@LINUX
def test_a_training_says_what_it_took(films: Path, tmp_path: Path) -> None:
    model = train_planted(plant(films, training={"epochs": 2}), tmp_path, checks=checks(seconds=1000, memory=10**9))
    (found,) = (remark for remark in model.remarks if remark.code == "budget_taken")
    (only,) = model.members
    assert only.memory is not None
    assert 10_000_000 < only.memory < 10**11
    assert found.figures == {
        "seconds": round(only.seconds, 1),
        "reckoned_seconds": 1000,
        "epochs": 2,
        "memory": only.memory,
        "reckoned_memory": 10**9,
    }


def test_the_most_memory_survives_an_interruption(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted, held = plant(films, training={"epochs": 4}), iter([5, 7, 3])
    monkeypatch.setattr(loop, "_KILLED_EVERY", 0.0)
    monkeypatch.setattr(loop, "memory_held", lambda device: next(held))
    with pytest.raises(StopIteration):  # of the fourth epoch: as a kill would
        train_planted(planted, tmp_path)
    monkeypatch.setattr(loop, "memory_held", lambda device: 2)
    assert train_planted(planted, tmp_path).members[0].memory == 7
