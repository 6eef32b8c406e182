"""A `Progress` that keeps what it is told."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tabib.progress import Advance
from tabib.records import Finding


class Listens:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[Mapping[str, Any]] = []
        self.said: list[str] = []
        self.heard: list[str] = []  # everything in its order: names of bars, sentences, codes

    @contextmanager
    def bar(self, name: str, total: int) -> Iterator[Advance]:
        self.heard.append(name)
        done: list[int] = []
        yield done.append
        assert sum(done) == total

    def row(self, values: Mapping[str, Any]) -> None:
        self.rows.append(values)

    def say(self, message: str) -> None:
        self.said.append(message)
        self.heard.append(message)

    def tell(self, finding: Finding) -> None:
        self.said.append(finding.code)
        self.heard.append(finding.code)


class Interrupts(Listens):
    """Presses Ctrl-C, once or more often, after so many batches."""

    def __init__(self, batches: int, times: int = 1) -> None:
        super().__init__()
        self.batches, self.times, self.done = batches, times, 0

    @contextmanager
    def bar(self, name: str, total: int) -> Iterator[Advance]:
        def advance(units: int) -> None:
            self.done += name.startswith("epoch")
            if self.done == self.batches:
                for _ in range(self.times):
                    signal.raise_signal(signal.SIGINT)

        yield advance


class Killed(BaseException):
    """What `KillsAfter` raises."""


class KillsAfter:
    """Ends the training after so many batches, or so many advances of another bar, as a kill would: nothing is tidied up."""

    def __init__(self, batches: int, of: str = "epoch") -> None:
        self.left, self.of = batches, of

    @contextmanager
    def bar(self, name: str, total: int) -> Iterator[Advance]:
        def advance(units: int) -> None:
            if name.startswith(self.of):
                self.left -= 1
                if self.left < 0:
                    raise Killed

        yield advance

    def row(self, values: object) -> None:
        pass

    def say(self, message: str) -> None:
        pass

    def tell(self, finding: object) -> None:
        pass
