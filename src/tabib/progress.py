"""How long work tells of itself, without anything below the command line printing.

A step takes `progress: Progress = SILENT`. The command line hands in one that draws bars and tables; tests and
library users get silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from tabib.records import Finding

__all__ = ["SILENT", "Advance", "Progress"]

Advance = Callable[[int], None]


class Progress(Protocol):
    """Where a step reports to. No method may raise or change the result of the step."""

    def bar(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """Work of `total` units; the value entered is called with the number of units just done."""
        ...

    def row(self, values: Mapping[str, float | int | str]) -> None:
        """One line of a growing table: an epoch of training."""
        ...

    def say(self, message: str) -> None:
        """Something a person may like to know now, in one plain sentence."""
        ...

    def tell(self, finding: Finding) -> None:
        """A finding that should be known while the work goes on; it is also part of the result."""
        ...


class _Silent:
    @contextmanager
    def bar(self, name: str, total: int) -> Iterator[Advance]:
        yield lambda units: None

    def row(self, values: Mapping[str, float | int | str]) -> None:
        pass

    def say(self, message: str) -> None:
        pass

    def tell(self, finding: Finding) -> None:
        pass


SILENT: Progress = _Silent()
