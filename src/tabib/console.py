"""What a person at a terminal sees of long work: bars, the growing table of epochs, and remarks while they matter."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from tabib.progress import Advance
from tabib.records import Finding, Level
from tabib.reports import phrase

if TYPE_CHECKING:
    from tabib.training.summary import Summary

__all__ = ["ConsoleProgress", "summary_lines"]

MARKS: dict[Level, str] = {"pass": "[green]✓[/]", "warn": "[yellow]![/]", "fail": "[red]✗[/]"}

BAR_AFTER_SECONDS = 1.0
"""Shorter work than this shows no bar."""


class ConsoleProgress:
    """A `Progress` that draws on standard error, so that standard output stays for results."""

    def __init__(self) -> None:
        """Draw bars on a terminal only; elsewhere every line is plain text."""
        self.console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._columns: tuple[str, ...] = ()

    @contextmanager
    def bar(self, name: str, total: int) -> Iterator[Advance]:
        """Draw a bar from the first second on."""
        bars = RichProgress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        task = bars.add_task(escape(name), total=total)
        started = time.monotonic()

        def advance(units: int) -> None:
            bars.advance(task, units)
            if not bars.live.is_started and time.monotonic() - started > BAR_AFTER_SECONDS:
                bars.start()

        try:
            yield advance
        finally:
            bars.stop()

    def row(self, values: Mapping[str, float | int | str]) -> None:
        """Print a line of a table, with its header when the columns change."""
        columns = tuple(values)
        widths = [max(len(column), 9) for column in columns]
        if columns != self._columns:
            self._columns = columns
            self.console.print(
                "  [dim]" + "  ".join(f"{escape(column):>{width}}" for column, width in zip(columns, widths, strict=True)) + "[/]"
            )
        cells = (f"{_cell(value):>{width}}" for value, width in zip(values.values(), widths, strict=True))
        self.console.print("  " + escape("  ".join(cells)))

    def say(self, message: str) -> None:
        """Print a sentence."""
        self.console.print(f"  {escape(message)}")

    def tell(self, finding: Finding) -> None:
        """Print a finding with its mark, and what to do."""
        words = phrase(finding)
        todo = "" if finding.level == "pass" else f" [dim]{escape(words.todo)}[/]"
        self.console.print(f"  {MARKS[finding.level]} {escape(words.title)}. {escape(words.sentence)}{todo}")

    def step(self, name: str, loaded: bool) -> None:
        """Print which step of the road begins, or that it was done before."""
        self.console.print(f"[bold]{name}[/]" + (" [dim]done before[/]" if loaded else ""))


def summary_lines(summary: Summary) -> list[str]:
    """A network as a table, a line per layer, and its totals."""
    table = Table("layer", "kind", "output", box=None, pad_edge=False)
    for column in ("weights", "trainable", "multiply-adds"):
        table.add_column(column, justify="right")
    for layer in summary.layers:
        shape = "×".join(map(str, layer.shape))
        table.add_row(layer.name, layer.kind, shape, f"{layer.weights:,}", f"{layer.trainable:,}", f"{layer.multiply_adds:,}")
    page = Console(file=io.StringIO(), width=200, color_system=None, record=True)
    page.print(table)
    channels, *sides = summary.image
    size = "×".join(map(str, (*sides, channels)))
    seen = (
        f"patches of {size}, background and {summary.classes - 1} structures"
        if summary.patch
        else f"images of {size} and {summary.classes} classes"
    )
    return [
        *(line.rstrip() for line in page.export_text().splitlines()),
        "",
        f"{summary.network} for {seen}: {summary.weights:,} weights, {summary.trainable:,} of them trainable; "
        f"{summary.multiply_adds / 1e6:,.1f} million multiply-adds {'a patch' if summary.patch else 'an image'}",
        *(
            [f"With the {summary.statistics:,} means and variances that batch norm measures: {summary.weights + summary.statistics:,}"]
            if summary.statistics
            else []
        ),
    ]


def _cell(value: float | int | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
