"""Experiments killed outright from the command line, with all their processes: what is finished is not trained again, and nothing comes out otherwise."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tabib.runs import read_run

pytestmark = pytest.mark.slow

STUDY = """
name: films
positive: PNEUMONIA
data: {folder: nowhere}
input: {height: 32, width: 32, channels: 1}
split: {train: 0.4, validation: 0.4, test: 0.2}
training: {epochs: 6, batch: 8, threads: 1, device: cpu, precision: fp32, log_to: []}
evaluate: {draws: 200}
report: {languages: [en]}
phantom: {make: chest, patients: 24, set: {data.group: '(patient\\d+)'}}
"""

SEARCH = """
study: films.yaml
fields: {training.learning_rate: {low: 1e-4, high: 1e-2, log: true}, model.dropout: [[0], [0.5]]}
method: optuna
trials: 6
"""

ABLATION = """
study: films.yaml
changes: [{name: no rotation, set: {augment.rotation_degrees: 0}}, {name: a rate that fails, set: {training.learning_rate: 0.5}}, {name: dropout, set: {model.dropout: [0.5]}}]
"""

TABIB = """
import os, signal, sys
from tabib.cli import main
from tabib.training import pace

processes, name, write = int(sys.argv.pop(1)), sys.argv.pop(1), int(sys.argv.pop(1))
pace.WORTH_TIMING, pace.TWO_PAY = (0, 0) if processes == 2 else (float("inf"), 1)
real, writes = os.fsync, iter(range(1, 1000))


def fsync(handle):
    if os.path.basename(os.readlink(f"/proc/self/fd/{handle}")).startswith(f".{name}-") and next(writes) == write:
        os.ftruncate(handle, os.fstat(handle).st_size // 2)
        os.killpg(0, signal.SIGKILL)
    real(handle)


os.fsync = fsync
main()
"""
"""The command line with so many trainings at once, which kills itself and all its processes in the middle of the n-th writing of a file."""


def start(place: Path, *words: str, processes: int = 1, file: str = "none", write: int = 0) -> subprocess.Popen[str]:
    """A verb in a session of its own, by the runs of `place`."""
    for name, text in (("films.yaml", STUDY), ("search.yaml", SEARCH), ("ablation.yaml", ABLATION)):
        (place / name).write_text(text)
    command = [sys.executable, "-c", TABIB, str(processes), file, str(write), *words, "--phantom", "--json"]
    return subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def result(process: subprocess.Popen[str], *codes: int) -> dict[str, Any]:
    out, said = process.communicate(timeout=1200)
    assert process.returncode in codes, said
    return json.loads(out)


def kill_in_training(process: subprocess.Popen[str], place: Path, *, finished: int) -> None:
    """Kill the verb and all its processes once so many trainings are finished, and one more is on its way."""
    deadline = time.monotonic() + 1200
    while len(trained(place)) < finished or not unfinished(place):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert unfinished(place), "one was at work"


def trained(place: Path) -> dict[str, int]:
    """When the weights of each finished training were written, by run."""
    return {
        mark.parents[1].name: next(mark.parents[1].glob("model/members/*/weights.safetensors")).stat().st_mtime_ns
        for mark in place.glob("runs/films/*/done/model.json")
    }


def unfinished(place: Path) -> set[str]:
    """Runs that have trained two epochs or more, and whose training is not finished."""
    begun = {
        path.parents[3].name for path in place.glob("runs/films/*/model/members/*/history.jsonl") if path.read_bytes().count(b"\n") > 1
    }
    return begun - set(trained(place))


def weights(run: str, place: Path) -> list[str]:
    return [member.weights_sha256 for member in read_run(place / run).read("model").members]


def without_times(found: Any) -> Any:
    """A result without the times in it."""
    if isinstance(found, dict):
        return {name: without_times(each) for name, each in found.items() if "second" not in name and name not in ("ended", "pace")}
    return [without_times(each) for each in found] if isinstance(found, list) else found


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """Where nothing is killed, and where it is."""
    found = tmp_path / "whole", tmp_path / "killed"
    for place in found:
        place.mkdir()
    return found


def kept(before: dict[str, int], place: Path) -> bool:
    """Whether nothing that was finished was trained again."""
    after = trained(place)
    return all(after[run] == when for run, when in before.items())


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_search_goes_on_to_the_same_winner(places: tuple[Path, Path], processes: int) -> None:
    whole, killed = places
    expected = result(start(whole, "search", "search.yaml"), 0)["search"]

    torn = start(killed, "search", "search.yaml", processes=processes, file="trials", write=4)
    torn.communicate(timeout=1200)
    assert torn.returncode == -signal.SIGKILL
    (ledger,) = killed.glob("runs/search-search-phantom/trials-*.json")
    assert len(json.loads(ledger.read_text())["trials"]) == 2, "the third was finished, and what was said of it was torn"
    assert list(ledger.parent.glob(".trials-*.part"))
    first = trained(killed)
    assert len(first) >= 3

    kill_in_training(start(killed, "search", "search.yaml", processes=processes), killed, finished=4)
    assert kept(first, killed)
    second = trained(killed)
    found = result(start(killed, "search", "search.yaml", processes=processes), 0)["search"]
    assert kept(second, killed)

    assert len(expected["trials"]) == 6
    assert without_times(found) == without_times(expected)
    best = next(trial["run"] for trial in found["trials"] if trial["number"] == found["best"])
    assert weights(best, killed) == weights(best, whole)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_ablation_goes_on_to_the_same_figures(places: tuple[Path, Path], processes: int) -> None:
    whole, killed = places
    expected = result(start(whole, "ablate", "ablation.yaml"), 3)["ablation"]
    kill_in_training(start(killed, "ablate", "ablation.yaml", processes=processes), killed, finished=1)
    before = trained(killed)
    found = result(start(killed, "ablate", "ablation.yaml", processes=processes), 3)["ablation"]
    assert kept(before, killed)
    assert [[run["not_run"] for run in row["runs"]] for row in found["rows"]] == [[None], [None], ["error"], [None]]
    assert without_times(found) == without_times(expected)
    assert [weights(run["run"], killed) for row in found["rows"] for run in row["runs"] if run["run"]] == [
        weights(run["run"], whole) for row in expected["rows"] for run in row["runs"] if run["run"]
    ]
