"""A `Progress` that keeps what it is told."""

from __future__ import annotations

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

    @contextmanager
    def bar(self, name: str, total: int) -> Iterator[Advance]:
        done: list[int] = []
        yield done.append
        assert sum(done) == total

    def row(self, values: Mapping[str, Any]) -> None:
        self.rows.append(values)

    def say(self, message: str) -> None:
        self.said.append(message)

    def tell(self, finding: Finding) -> None:
        self.said.append(finding.code)
