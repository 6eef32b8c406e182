"""Processes that wait for what is not known beforehand."""

from __future__ import annotations

import os
import signal
import time

import pytest

from engines import labour
from engines.test_local import run_script, running
from tabib.engines import Crashed, waiting_processes


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
