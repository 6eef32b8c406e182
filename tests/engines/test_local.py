from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from engines import labour
from tabib.engines import Crashed, local, map_in_processes


class Bar:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.name, self.total, self.done = "", 0, 0
        self.threads: set[int] = set()

    @contextmanager
    def bar(self, name: str, total: int) -> Iterator:
        self.name, self.total = name, total
        yield self._advance

    def _advance(self, units: int) -> None:
        self.done += units
        self.threads.add(threading.get_ident())

    def row(self, values) -> None: ...

    def say(self, message) -> None: ...

    def tell(self, finding) -> None: ...


@pytest.mark.parametrize(("items", "workers", "chunk"), [(0, 2, 4), (3, 2, 4), (40, 1, 4), (41, 2, 4), (41, 3, 1)])
def test_results_come_in_order(items, workers, chunk):
    bar = Bar()
    results = map_in_processes(labour.square, range(items), workers=workers, chunk=chunk, progress=bar, name="squares")
    assert results == [value * value for value in range(items)]
    assert (bar.name, bar.total, bar.done) == ("squares", items, items)
    assert bar.threads <= {threading.get_ident()}


def test_order_holds_where_the_first_is_the_slowest():
    assert map_in_processes(labour.slow_first, range(8), workers=2, chunk=1) == list(range(8))


def test_few_items_stay_in_this_process():
    assert set(map_in_processes(labour.process, range(32), workers=4)) == {os.getpid()}
    assert set(map_in_processes(labour.process, range(33), workers=1)) == {os.getpid()}
    others = set(map_in_processes(labour.process, range(33), workers=2))
    assert os.getpid() not in others
    assert 1 <= len(others) <= 2


def test_a_dying_worker_costs_only_its_item(capfd):
    results = map_in_processes(labour.deadly, range(40), workers=2, chunk=8)
    assert results[13] == Crashed("ended with exit code 7")
    assert results[17] == Crashed("killed by signal 11 (Segmentation fault)")
    assert results[19] == Crashed("killed by signal 9 (Killed, as when memory runs out)")
    alive = [value for value in range(40) if value not in (13, 17, 19)]
    assert [results[value] for value in alive] == [value + 1 for value in alive]


def test_all_dying():
    assert map_in_processes(os._exit, [3] * 4, workers=2, chunk=2) == [Crashed("ended with exit code 3")] * 4


@pytest.mark.parametrize("workers", [1, 2])
def test_exceptions_come_through(workers):
    before = threading.active_count()
    with pytest.raises(ValueError, match="five is not wanted"):
        map_in_processes(labour.failing, range(20), workers=workers, chunk=2)
    with pytest.raises(EOFError, match="a decoder at its end"):
        map_in_processes(labour.end_of_file, range(20), workers=workers, chunk=2)
    with pytest.raises(ConnectionResetError, match="own pipe"):
        map_in_processes(labour.lost_connection, range(20), workers=workers, chunk=2)
    assert threading.active_count() == before


def test_what_does_not_pickle_is_told():
    with pytest.raises(RuntimeError, match=r"(?s)in a worker process:.*Awkward: this and that"):
        map_in_processes(labour.awkward, range(4), workers=2, chunk=2)
    with pytest.raises(RuntimeError, match=r"(?s)in a worker process:.*pickle"):
        map_in_processes(labour.unpicklable, range(4), workers=2, chunk=2)
    with pytest.raises((AttributeError, TypeError), match=r"pickle|local"):
        map_in_processes(lambda value: value, range(4), workers=2, chunk=2)


def test_a_function_that_a_worker_cannot_import_is_told(monkeypatch):
    only_here = ModuleType("only_here")
    exec("def twice(value): return 2 * value", only_here.__dict__)  # its `__module__` is the name of the module
    monkeypatch.setitem(sys.modules, "only_here", only_here)
    with pytest.raises(ModuleNotFoundError, match="only_here"):
        map_in_processes(only_here.twice, range(4), workers=2, chunk=2)


def test_a_worker_that_does_not_start_is_told(monkeypatch):
    monkeypatch.setattr(local, "START", "raise SystemExit(4)")
    with pytest.raises(RuntimeError, match="did not start: it ended with exit code 4"):
        map_in_processes(labour.square, range(4), workers=2, chunk=2)


def test_a_talkative_function_does_not_garble_its_results(capfd):
    assert map_in_processes(labour.talkative, range(4), workers=2, chunk=2) == [0, 1, 2, 3]
    assert capfd.readouterr().out == ""


def test_workers_do_not_multiply_threads():
    assert set(map_in_processes(labour.threads_wanted, range(4), workers=2, chunk=2)) == {"1"}


def test_partial_functions_and_large_items_pass():
    power = partial(pow, 2)
    assert map_in_processes(power, range(6), workers=2, chunk=2) == [1, 2, 4, 8, 16, 32]
    megabytes = [bytes([number]) * 3_000_000 for number in range(4)]
    assert map_in_processes(bytes, megabytes, workers=2, chunk=2) == megabytes


SCRIPT = """
import sys
{torch}
from engines import labour
from tabib.engines import map_in_processes
print("the script runs")
def own(value): return value + 1
assert map_in_processes(labour.square, range(6), workers=2, chunk=2) == [0, 1, 4, 9, 16, 25]
assert not any(map_in_processes(labour.main_module, range(6), workers=2, chunk=2))
assert map_in_processes(own, range(6), workers=2, chunk=2) == [1, 2, 3, 4, 5, 6]
print("done")
"""


def run_script(tmp_path, script: str) -> subprocess.CompletedProcess:
    path = tmp_path / "script.py"
    path.write_text(script)
    tests = os.path.dirname(os.path.dirname(os.path.abspath(labour.__file__)))
    return subprocess.run(
        [sys.executable, str(path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_script_needs_no_guard_and_runs_once(tmp_path):
    ended = run_script(tmp_path, SCRIPT.format(torch=""))
    assert ended.stdout == "the script runs\ndone\n"
    assert ended.stderr == ""
    assert ended.returncode == 0


@pytest.mark.slow
def test_it_works_beside_threads_of_torch(tmp_path):
    ended = run_script(tmp_path, SCRIPT.format(torch="import torch; torch.ones(900, 900) @ torch.ones(900, 900)"))
    assert (ended.stdout, ended.returncode) == ("the script runs\ndone\n", 0)


def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = f"""
import os, signal, threading, time
from pathlib import Path
from types import ModuleType
from engines import labour
from tabib.engines import map_in_processes

def die_at_work():
    while not list(Path({str(tmp_path)!r}).glob("worker.*")):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=die_at_work).start()
map_in_processes(labour.leave_trace, [{str(tmp_path)!r}] * 1000, workers=2, chunk=2)
"""
    assert run_script(tmp_path, script).returncode == -signal.SIGKILL
    pids = [int(path.suffix[1:]) for path in tmp_path.glob("worker.*")]
    assert pids
    deadline = time.monotonic() + 20
    while any(running(pid) for pid in pids):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.02)


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process without a parent stays as a zombie where nothing collects it, as in many containers.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
