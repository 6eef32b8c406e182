"""Work on this machine: one function over many items, in processes that may die."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, BinaryIO, Generic, TypeVar, cast

from tabib.engines.worker import receive, send
from tabib.progress import SILENT, Advance, Progress

__all__ = ["Crashed", "keep_busy", "map_in_processes", "waiting_processes"]

Item = TypeVar("Item")
Result = TypeVar("Result")

# The parent's import path goes along, so that a worker finds the function wherever the parent did. A worker is a fresh
# interpreter and not a fork: a fork of a process that holds threads (torch, polars) can hang. It never runs the user's
# script again either, so the script needs no `if __name__ == "__main__":`.
START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from tabib.engines.worker import main; main()"

# As many processes as cores: threads of libraries inside them would only stand in each other's way.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), "1")


@dataclass(frozen=True)
class Crashed:
    """The result of an item whose worker process died while it worked on it."""

    reason: str  # "killed by signal 11 (Segmentation fault)", "ended with exit code 1"


def map_in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    chunk: int = 32,
    progress: Progress = SILENT,
    name: str = "",
) -> list[Result | Crashed]:
    """Apply a function to every item, in several processes where that pays.

    A worker that dies costs only the item it was working on; a fresh worker goes on with the rest, and does again what the
    dead one had not answered yet. The work is done in
    this process instead where `workers` is 1, where everything fits into one chunk (starting an interpreter and importing
    what the function needs takes 0.2 to 0.5 s), and where the function stands in a script or notebook, which a worker
    does not run. There a crash takes everything along.

    Args:
        function: defined at the top of a module; its results must pickle.
        items: what it is applied to, each must pickle.
        workers: number of processes; the cores this process may use where None.
        chunk: items handed to a worker at a time.
        progress: where the bar is drawn.
        name: of the bar.

    Returns:
        The results in the order of `items`, a `Crashed` where the worker died.

    Raises:
        Exception: whatever the function raises, the first that is seen; the workers are ended then.
    """
    most = min(workers or _cores(), -(-len(items) // chunk))
    with progress.bar(name, len(items)) as advance:
        if most < 2 or not sys.executable or _needs_this_process(function, items[0]):
            results: list[Result | Crashed] = []
            for item in items:
                results.append(function(item))
                advance(1)
            return results
        return _Pool(function, items, chunk).run(most, advance)


@contextmanager
def waiting_processes(function: Callable[[Item], Result], *, workers: int) -> Iterator[Callable[[Item], Future[Result | Crashed]]]:
    """Processes that wait for items which are not known beforehand, as where what is tried next hangs on what was found.

    They stay until the end, so that only the first item of each waits for an interpreter and its imports. A process that dies costs the
    item it was working on; the next item gets a fresh one. With one worker the work is done in this process, at once.

    Args:
        function: as of `map_in_processes`.
        workers: number of processes.

    Yields:
        What hands on an item, and gives its future: the result, `Crashed`, or what the function raised. What is unfinished when the
        block is left is ended.
    """
    if workers < 2:
        yield lambda item: _done_here(function, item)
        return
    pool = _Pool(function, [], 1)
    idle: SimpleQueue[subprocess.Popen[bytes] | None] = SimpleQueue()
    for _ in range(workers):
        idle.put(None)

    def work_off(item: Item) -> Result | Crashed:
        process = idle.get()
        try:
            process = process or pool.start()
            if process is None:
                return Crashed("called off")
            requests, answers = _pipes(process)
            try:
                send(requests, [item])
                good, value = receive(answers)
            except ConnectionError:
                ended, process = pool.end(process), None
                return Crashed(ended)
        finally:
            idle.put(process)
        if not good:
            raise value
        return value

    threads = ThreadPoolExecutor(workers)
    try:
        yield lambda item: threads.submit(work_off, item)
    finally:
        pool.stop()
        threads.shutdown(cancel_futures=True)
        for _ in range(workers):
            if (process := idle.get()) is not None:
                pool.end(process)


def keep_busy(
    function: Callable[[Item], Result],
    ask: Callable[[Sequence[Item]], Item | None],
    tell: Callable[[Item, Result | Crashed], None],
    *,
    workers: int,
) -> None:
    """Give so many processes the next item whenever one of them is free, until there is none; as `waiting_processes` otherwise.

    Args:
        function: as of `map_in_processes`.
        ask: the next item, given those at work; None where there is none, or none before one of these is done.
        tell: hears of each item what became of it, in the order in which they are done.
        workers: number of processes; with one the work is done in this process.

    Raises:
        Exception: whatever the function raises; what is at work is ended then.
    """
    working: dict[Future[Result | Crashed], Item] = {}
    with waiting_processes(function, workers=workers) as hand_on:
        while True:
            while len(working) < workers and (item := ask(list(working.values()))) is not None:
                working[hand_on(item)] = item
            if not working:
                return
            for future in wait(working, return_when=FIRST_COMPLETED).done:
                tell(working.pop(future), future.result())


def _done_here(function: Callable[[Item], Result], item: Item) -> Future[Result | Crashed]:
    done: Future[Result | Crashed] = Future()
    done.set_result(function(item))
    return done


def _needs_this_process(function: object, item: object) -> bool:
    """Tell whether a worker, which does not run the user's script, would miss what the script defines."""
    return b"__main__" in pickle.dumps((function, item))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Pool(Generic[Item, Result]):
    """One thread for each worker process hands it chunks and waits for its answers; this thread collects them."""

    def __init__(self, function: Callable[[Item], Result], items: Sequence[Item], chunk: int) -> None:
        self.function = function
        self.items = items
        self.chunk = chunk
        self.starts: Iterator[int] = iter(range(0, len(items), chunk))
        self.answers: SimpleQueue[tuple[int, bool, Any]] = SimpleQueue()  # index, whether it succeeded, result or exception
        self.running: set[subprocess.Popen[bytes]] = set()
        self.stopped = False
        self.lock = Lock()  # of `starts`, `running` and `stopped`

    def run(self, workers: int, advance: Advance) -> list[Result | Crashed]:
        threads = [Thread(target=self._serve, daemon=True) for _ in range(workers)]
        results: list[Any] = [None] * len(self.items)
        try:
            for thread in threads:
                thread.start()
            for _ in self.items:
                index, good, value = self.answers.get()
                if not good:
                    raise value
                results[index] = value
                advance(1)
        finally:
            self.stop()
            for thread in threads:
                thread.join()
        return results

    def stop(self) -> None:
        """End every worker, whatever it does."""
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.kill()

    def _serve(self) -> None:
        process = None
        at = 0
        try:
            while (part := self._next_part()) is not None:
                at, step = part.start, self.chunk
                while at < part.stop:
                    process = process or self.start()
                    if process is None:
                        return
                    stop = min(at + step, part.stop)
                    at, alive = self._work_off(process, at, stop)
                    if alive:
                        continue
                    ended = self.end(process)
                    process = None
                    if stop - at > 1:  # answers that were on their way died too: one by one shows whose fault it is
                        step = 1
                    else:
                        self.answers.put((at, True, Crashed(ended)))
                        at += 1
        except Exception as error:  # noqa: BLE001 - raised again by `run`, in the thread of the caller
            self.answers.put((at, False, error))
        finally:
            if process is not None:
                self.end(process)

    def _next_part(self) -> range | None:
        with self.lock:
            start = None if self.stopped else next(self.starts, None)
        return None if start is None else range(start, min(start + self.chunk, len(self.items)))

    def _work_off(self, process: subprocess.Popen[bytes], at: int, stop: int) -> tuple[int, bool]:
        """Have items at..stop done; give where it stopped and whether the worker lives."""
        requests, answers = _pipes(process)
        try:
            send(requests, self.items[at:stop])
            while at < stop:
                good, value = receive(answers)
                self.answers.put((at, good, value))
                at += 1
        except ConnectionError:
            return at, False
        return at, True

    def start(self) -> subprocess.Popen[bytes] | None:
        """Start a worker that has the function; None when the work was called off."""
        with self.lock:
            if self.stopped:
                return None
            process = subprocess.Popen(
                [sys.executable, "-c", START, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | ONE_THREAD,
            )
            self.running.add(process)
        requests, answers = _pipes(process)
        try:
            send(requests, self.function)
            good, error = receive(answers)
        except ConnectionError:
            good, error = False, None
        if not good:
            ended = self.end(process)
            raise error or RuntimeError(f"a worker process did not start: it {ended}")
        return process

    def end(self, process: subprocess.Popen[bytes]) -> str:
        """Close the pipes, which ends a worker that still waits for work; say how it ended."""
        for pipe in _pipes(process):
            with suppress(ConnectionError):
                pipe.close()
        code = process.wait()
        with self.lock:
            self.running.discard(process)
        if code >= 0:
            return f"ended with exit code {code}"
        hint = ", as when memory runs out" if code == -9 else ""
        return f"killed by signal {-code} ({signal.strsignal(-code)}{hint})"


def _pipes(process: subprocess.Popen[bytes]) -> tuple[BinaryIO, BinaryIO]:
    return cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)
