"""A training that is killed comes out as one that was not, to the bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest

from listens import Interrupts, Killed, KillsAfter, Listens
from planted import CHECKS, Planted, history_of, plant, train_planted, weights_of
from tabib.progress import Advance
from tabib.training import loop, train

EVERYTHING: dict[str, Any] = {
    "model": {"dropout": [0.5]},
    "training": {"epochs": 4, "average": 0.8, "schedule": "plateau", "plateau": {"factor": 0.5, "patience": 1, "minimum": 1e-5}},
}
"""What has a state that could be lost: dropout, an average of the weights, a plateau."""


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
    monkeypatch.setattr(loop, "_KILLED_EVERY", 0.0)
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


@pytest.fixture
def terminal() -> Iterator[None]:
    """Ctrl-C as it is for a person: who runs the tests may have set it aside."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler, "what was held back is let go"


@pytest.mark.parametrize("batches", [1, 3, 5, 7, 20])
def test_ctrl_c_repeats_no_step(planted: Planted, uninterrupted: Any, tmp_path: Path, terminal: None, batches: int) -> None:
    """Wherever in an epoch of five batches: after a step, and after the last one."""
    run = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        train_planted(planted, run, progress=Interrupts(batches))
    listens = Listens()
    train_planted(planted, run, progress=listens)
    assert (weights_of(run), history_of(run)) == uninterrupted
    assert listens.said[1] == f"seed0: continued after epoch {(batches - 1) // 5} and step {(batches - 1) % 5 + 1} of the next."


def test_ctrl_c_in_the_validation_waits_for_its_end(
    planted: Planted, uninterrupted: Any, tmp_path: Path, terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = loop._record, iter(range(99))

    def measured(*args: Any, **named: Any) -> Any:
        if next(calls) == 1:
            signal.raise_signal(signal.SIGINT)
        return real(*args, **named)

    monkeypatch.setattr(loop, "_record", measured)
    monkeypatch.setattr(loop, "_KILLED_EVERY", 1e9)
    with pytest.raises(KeyboardInterrupt):
        train_planted(planted, tmp_path / "stopped")
    listens = Listens()
    train_planted(planted, tmp_path / "stopped", progress=listens)
    assert listens.said[1] == "seed0: continued after epoch 2."
    assert (weights_of(tmp_path / "stopped"), history_of(tmp_path / "stopped")) == uninterrupted


def test_a_second_ctrl_c_does_not_wait(planted: Planted, uninterrupted: Any, tmp_path: Path, terminal: None) -> None:
    """It may come in the middle of a step, so nothing is written of it."""
    run = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        train_planted(planted, run, progress=Interrupts(3, times=2))
    assert not list(run.rglob("checkpoint*"))
    train_planted(planted, run)
    assert (weights_of(run), history_of(run)) == uninterrupted


def test_ctrl_c_that_somebody_set_aside_stays_aside(planted: Planted, uninterrupted: Any, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        train_planted(planted, tmp_path / "run", progress=Interrupts(3))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert weights_of(tmp_path / "run") == uninterrupted[0]


def test_what_is_stopped_after_an_epoch_repeats_none(planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whoever watches, as a search does whose time is over."""
    monkeypatch.setattr(loop, "_KILLED_EVERY", 1e9)

    def watch(member: str, history: Sequence[Mapping[str, Any]]) -> None:
        if len(history) == 3:
            raise loop.Pruned

    place = {"place": tmp_path / "model", "cache_folder": planted.cache_folder}
    with pytest.raises(loop.Pruned):
        train(planted.index, planted.split, CHECKS, planted.study, **place, watch=watch)
    listens = Listens()
    train(planted.index, planted.split, CHECKS, planted.study, **place, progress=listens)
    assert listens.said[1] == "seed0: continued after epoch 3."


def test_a_checkpoint_is_written_as_often_as_it_pays(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 6 s each, with a kill an hour: every root of 2 * 6 * 3600 = 208 s, here of epochs of 30 s."""
    now, write, written = [0.0], loop.write_checkpoint, list[int]()

    class Clock:
        perf_counter = staticmethod(lambda: now[0])

    class Passes(Listens):
        def bar(self, name: str, total: int) -> AbstractContextManager[Advance]:
            now[0] += 30 * name.startswith("epoch")
            return super().bar(name, total)

    def takes_six(path: Path, state: Any, *, key: str) -> None:
        write(path, state, key=key)
        written.append(state.epoch)
        now[0] += 6

    monkeypatch.setattr(loop, "time", Clock)
    monkeypatch.setattr(loop, "write_checkpoint", takes_six)
    train_planted(plant(films, training={"epochs": 16}), tmp_path / "run", progress=Passes())
    assert written == [1, 8, 15]


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


@pytest.mark.parametrize(
    "training",
    [
        {"optimizer": "adam", "schedule": "cosine", "accumulate": 2, "loss": "focal"},
        {"optimizer": "rmsprop", "sampling": "class_balanced", "accumulate": 3},
    ],
    ids=["adam", "rmsprop"],
)
def test_other_rules_of_the_step_are_continued(films: Path, tmp_path: Path, training: dict[str, Any]) -> None:
    planted = plant(films, model={"dropout": [0.5]}, training={"epochs": 3, **training})
    train_planted(planted, tmp_path / "whole")
    with pytest.raises(Killed):
        train_planted(planted, tmp_path / "killed", progress=KillsAfter(4))
    listens = Listens()
    train_planted(planted, tmp_path / "killed", progress=listens)
    assert any("continued after epoch" in said for said in listens.said)
    assert weights_of(tmp_path / "killed") == weights_of(tmp_path / "whole")
    assert history_of(tmp_path / "killed") == history_of(tmp_path / "whole")


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


NURSERY = """
import os, signal, sys, time
sys.path.insert(0, {tests!r})
import torch._dynamo, torch.utils.tensorboard  # what takes seconds to import
from pathlib import Path
from planted import plant, tiny_network, train_planted
from tabib.progress import Advance
from tabib.training import loop, train
from tabib.training.networks import NETWORKS
NETWORKS["tiny"] = tiny_network
loop._KILLED_EVERY = 0.0
for line in sys.stdin:
    run, seconds = line.rsplit(" ", 1)
    began, child = time.perf_counter(), os.fork()
    if child == 0:
        train_planted(plant(Path({films!r}), **{parts!r}), Path(run))
        os._exit(0)
    ended, status = 0, 0
    while not ended and time.perf_counter() - began < float(seconds):
        time.sleep(0.001)
        ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    print(status, time.perf_counter() - began, flush=True)
"""
"""Starts trainings as processes of their own and kills them: a fork of what is already imported, and has no thread yet."""


@pytest.mark.slow
def test_sigkill_at_random_instants(films: Path, tmp_path: Path) -> None:
    """Real processes, really killed, at least 20 times; checkpoints are written after every epoch, so some kills hit one."""
    parts = {**EVERYTHING, "training": {**EVERYTHING["training"], "epochs": 30}}
    code = NURSERY.format(tests=str(Path(__file__).parents[1]), films=str(films), parts=parts)
    command, environment = [sys.executable, "-c", code], {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as nursery:

        def child(run: Path, seconds: float) -> tuple[int, float]:
            assert nursery.stdin is not None
            assert nursery.stdout is not None
            nursery.stdin.write(f"{run} {seconds}\n")
            nursery.stdin.flush()
            status, lived = nursery.stdout.readline().split()
            return int(status), float(lived)

        plant(films, **parts)
        assert child(tmp_path / "whole", 600)[0] == 0
        status, seconds = child(tmp_path / "whole again", 600)
        whole = weights_of(tmp_path / "whole"), history_of(tmp_path / "whole")
        assert (weights_of(tmp_path / "whole again"), history_of(tmp_path / "whole again")) == whole

        choose, kills, runs = random.Random(5), 0, 0
        while kills < 20:
            run, status = tmp_path / f"killed{runs}", int(signal.SIGKILL)
            while status == signal.SIGKILL:
                status, _ = child(run, choose.uniform(0.1, 0.5) * seconds)
                kills += status == signal.SIGKILL
            assert status == 0
            assert (weights_of(run), history_of(run)) == whole
            runs += 1


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
