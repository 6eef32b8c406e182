"""Processes that wait for what is not known beforehand."""

from __future__ import annotations

import os
import signal
import time

import pytest

from engines import labour
from engines.test_local import run_script, running
from tabib.engines import Crashed, keep_busy, waiting_processes


def test_what_is_handed_on_one_by_one_comes_back_from_processes_that_stay():
    with waiting_processes(labour.process, workers=2) as hand_on:
        first = [hand_on(0).result() for _ in range(3)]
        both = {future.result() for future in [hand_on(number) for number in range(12)]}
    assert os.getpid() not in both
    assert set(first) <= both
    assert len(both) <= 2
    for pid in both:
        with pytest.raises(ProcessLookupError):
            os.kill(int(str(pid)), 0)


def test_one_worker_is_this_process():
    with waiting_processes(labour.process, workers=1) as hand_on:
        assert hand_on(0).result() == os.getpid()


def test_a_process_that_dies_costs_its_item_and_an_error_comes_through():
    with waiting_processes(labour.deadly, workers=2) as hand_on:
        assert hand_on(13).result() == Crashed("ended with exit code 7")
        assert [hand_on(number).result() for number in (1, 2)] == [2, 3]
    with waiting_processes(labour.failing, workers=2) as hand_on:
        assert isinstance(hand_on(5).exception(), ValueError)
        assert hand_on(6).result() == 6


def test_a_long_item_ends_with_a_parent_that_is_killed(tmp_path):
    script = f"""
import os, signal
from pathlib import Path
from engines import labour
from tabib.engines import waiting_processes

with waiting_processes(labour.long, workers=2) as hand_on:
    hand_on({str(tmp_path)!r})
    while not list(Path({str(tmp_path)!r}).glob("worker.*")):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_script(tmp_path, script).returncode == -signal.SIGKILL
    (pid,) = [int(path.suffix[1:]) for path in tmp_path.glob("worker.*")]
    deadline = time.monotonic() + 60
    while running(pid):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)


def test_leaving_ends_what_is_at_work():
    with waiting_processes(time.sleep, workers=2) as hand_on:
        hand_on(0).result()
        began = time.monotonic()
        at_work = hand_on(600)
    assert time.monotonic() - began < 300
    assert at_work.cancelled() or at_work.exception() or isinstance(at_work.result(), Crashed)


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_are_kept_busy_until_there_is_nothing_left(workers: int):
    left, told, at_work = list(range(6)), {}, []

    def ask(working):
        at_work.append(len(working))
        return left.pop(0) if left else None

    keep_busy(labour.slow_square, ask, told.__setitem__, workers=workers)
    assert told == {number: number**2 for number in range(6)}
    assert max(at_work) == workers - 1, "nobody is asked for more than there are processes"
    assert list(told) == list(range(6)) if workers == 1 else list(told)[-1] == 0, "the first is the slowest"


def test_what_waits_for_an_outcome_is_asked_for_again():
    told: dict[int, object] = {}

    def ask(working):
        number = len(told) + len(working)
        return number if number < 4 and (number == 0 or number - 1 in told) else None

    keep_busy(labour.deadly, ask, told.__setitem__, workers=2)
    assert told == {0: 1, 1: 2, 2: 3, 3: 4}


def test_a_process_that_dies_while_busy_costs_its_item():
    left, told = [13, 1, 2], {}
    keep_busy(labour.deadly, lambda _: left.pop(0) if left else None, told.__setitem__, workers=2)
    assert told == {13: Crashed("ended with exit code 7"), 1: 2, 2: 3}
    left = [5, 6]
    with pytest.raises(ValueError, match="five"):
        keep_busy(labour.failing, lambda _: left.pop(0) if left else None, told.__setitem__, workers=2)
