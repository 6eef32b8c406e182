"""A training that is killed comes out as one that was not, to the bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from planted import Planted, history_of, plant, train_planted, weights_of
from tabib.progress import Advance
from tabib.training import loop

EVERYTHING: dict[str, Any] = {
    "model": {"dropout": [0.5]},
    "training": {"epochs": 4, "average": 0.8, "schedule": "plateau", "plateau": {"factor": 0.5, "patience": 1, "minimum": 1e-5}},
}
"""What has a state that could be lost: dropout, an average of the weights, a plateau."""


class Killed(BaseException):
    pass


class KillsAfter:
    """Ends the training after so many batches, as a kill would: nothing is tidied up."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    @contextmanager
    def bar(self, name: str, total: int) -> Iterator[Advance]:
        def advance(units: int) -> None:
            if name.startswith("epoch"):
                self.left -= 1
                if self.left < 0:
                    raise Killed

        yield advance

    def row(self, values: object) -> None:
        pass

    def say(self, level: object, message: str) -> None:
        pass


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


@pytest.fixture(scope="module")
def planted(films: Path) -> Planted:
    return plant(films, **EVERYTHING)


@pytest.fixture(scope="module")
def uninterrupted(planted: Planted, films: Path) -> tuple[dict[str, str], list[dict[str, Any]]]:
    train_planted(planted, films / "whole")
    return weights_of(films / "whole"), history_of(films / "whole")


@pytest.mark.parametrize("batches", [0, 3, 7, 11, 15])
def test_killed_anywhere_and_continued(planted: Planted, uninterrupted: Any, tmp_path: Path, batches: int) -> None:
    run = tmp_path / "killed"
    with pytest.raises(Killed):
        train_planted(planted, run, progress=KillsAfter(batches))
    train_planted(planted, run)
    assert (weights_of(run), history_of(run)) == uninterrupted


def test_killed_again_and_again(planted: Planted, uninterrupted: Any, tmp_path: Path) -> None:
    run = tmp_path / "killed"
    kills = 0
    for batches in range(1, 30):
        try:
            train_planted(planted, run, progress=KillsAfter(batches))
            break
        except Killed:
            kills += 1
    assert kills >= 2
    assert (weights_of(run), history_of(run)) == uninterrupted


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("write", range(3))
def test_killed_beside_a_checkpoint(
    planted: Planted, uninterrupted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int, when: str
) -> None:
    monkeypatch.setattr(loop, "_CHECKPOINT_SHARE", 1e9)
    _kill_at(monkeypatch, loop, "write_checkpoint", write, when)
    run = tmp_path / "killed"
    with pytest.raises(Killed):
        train_planted(planted, run)
    monkeypatch.undo()
    train_planted(planted, run)
    assert (weights_of(run), history_of(run)) == uninterrupted


def test_killed_inside_a_write(planted: Planted, uninterrupted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever file is being written: weights, checkpoint, history, the mark that a member is done."""
    run, real = tmp_path / "killed", os.replace
    for number in range(8):
        with monkeypatch.context() as patch, suppress(Killed):
            writes = iter(range(1000))
            patch.setattr(os, "replace", lambda *paths, here=number, writes=writes: real(*paths) if next(writes) != here else _die())
            train_planted(planted, run)
    train_planted(planted, run)
    assert (weights_of(run), history_of(run)) == uninterrupted


def test_a_damaged_checkpoint_is_not_used(planted: Planted, uninterrupted: Any, tmp_path: Path) -> None:
    run = tmp_path / "damaged"
    with pytest.raises(Killed):
        train_planted(planted, run, progress=KillsAfter(11))
    file = next(run.rglob("checkpoint.safetensors"))
    file.write_bytes(file.read_bytes()[:1000])
    train_planted(planted, run)
    assert (weights_of(run), history_of(run)) == uninterrupted


def test_a_checkpoint_of_other_settings_is_not_used(planted: Planted, uninterrupted: Any, films: Path, tmp_path: Path) -> None:
    run = tmp_path / "changed"
    other = plant(films, **{**EVERYTHING, "augment": {"brightness": 0.3}})
    with pytest.raises(Killed):
        train_planted(other, run, progress=KillsAfter(11))
    train_planted(planted, run)
    assert (weights_of(run), history_of(run)) == uninterrupted


def test_finished_members_are_skipped(films: Path, tmp_path: Path) -> None:
    planted = plant(films, training={"epochs": 2, "seeds": [1, 2]})
    first = train_planted(planted, tmp_path / "run")
    assert train_planted(planted, tmp_path / "run", progress=KillsAfter(0)) == first
    assert not list((tmp_path / "run").rglob("checkpoint*"))
    damaged = tmp_path / "run/model/members/seed2/weights.safetensors"
    before = damaged.read_bytes()
    damaged.write_bytes(before[:-1])
    with pytest.raises(Killed):
        train_planted(planted, tmp_path / "run", progress=KillsAfter(0))
    train_planted(planted, tmp_path / "run")
    assert damaged.read_bytes() == before


def _die() -> None:
    raise Killed


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from planted import plant, tiny_network, train_planted
from tabib.training import loop
from tabib.training.networks import NETWORKS
NETWORKS["tiny"] = tiny_network
loop._CHECKPOINT_SHARE = 1e9
planted = plant(Path({films!r}), **{parts!r})
print("ready", flush=True)
train_planted(planted, Path({run!r}))
print("done", flush=True)
"""


@pytest.mark.slow
def test_sigkill_at_random_instants(films: Path, tmp_path: Path) -> None:
    """Real processes, really killed, at least 20 times; checkpoints are written after every epoch, so some kills hit one."""
    parts = {**EVERYTHING, "training": {**EVERYTHING["training"], "epochs": 40}}
    train_planted(plant(films, **parts), tmp_path / "whole")
    whole = weights_of(tmp_path / "whole"), history_of(tmp_path / "whole")
    seconds = sum(line["seconds"] for line in _lines(tmp_path / "whole"))
    choose = random.Random(5)
    kills = 0
    attempt = 0
    while kills < 20:
        run = tmp_path / f"killed{attempt}"
        attempt += 1
        while True:
            child = _start(films, run, parts)
            time.sleep(choose.uniform(0, seconds / 3))
            child.send_signal(signal.SIGKILL)
            output, _ = child.communicate()
            if "done" in output:
                break
            kills += 1
        assert (weights_of(run), history_of(run)) == whole


def _start(films: Path, run: Path, parts: dict[str, Any]) -> subprocess.Popen[str]:
    code = CHILD.format(tests=str(Path(__file__).parents[1]), films=str(films), parts=parts, run=str(run))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def _lines(run: Path) -> list[dict[str, Any]]:
    from tabib.runs import read_jsonl

    return [line for path in run.glob("model/members/*/history.jsonl") for line in read_jsonl(path)]


def _kill_at(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, number: int, when: str) -> None:
    real: Callable[..., Any] = getattr(module, name)
    calls = 0

    def killing(*args: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number + 1 and when == "before":
            raise Killed
        result = real(*args, **named)
        if calls == number + 1:
            raise Killed
        return result

    monkeypatch.setattr(module, name, killing)
