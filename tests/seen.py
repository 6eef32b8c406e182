"""What a person would compare of two runs, and the fields of a study that may make the difference."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from tabib.config import parts_in
from tabib.records import Measure
from tabib.runs import Run

Change = dict[str, Any]

PLACES = {
    "title": r"<h1>(.*?)</h1>",
    "problem": r'<p class="lead">(.*?)</p>',
    "suggestions": r'<p>([^<]*)</p>\s*</section>\s*<section class="chapter" id="(?:why|definitions)">',
}
"""Where in a report the words of a study stand. The report ends with the whole study, where every word is."""


def words(name: str, code: str, run: Run) -> str | None:
    found = re.search(PLACES[name], (run.folder / f"report.{code}.html").read_text(encoding="utf-8"), re.DOTALL)
    return found and found.group(1)


def rows_in(part: str, run: Run) -> int:
    return int((run.read("split")["part"] == part).sum())


def rates(run: Run) -> list[float]:
    """What the optimizer was set to, epoch by epoch."""
    return [epoch["learning_rate"] for history in run.histories().values() for epoch in history]


def measures(run: Run) -> list[Measure]:
    return [measure for part in run.read("evaluation").parts for measure in part.measures]


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every field that holds a value, by its dotted name."""
    for name, info in model.model_fields.items():
        parts = list(parts_in(info.annotation))
        members = get_args(info.annotation) if get_origin(info.annotation) in (Union, UnionType) else (info.annotation,)
        if any(member not in parts and member is not type(None) for member in members):
            yield prefix + name
        for part in parts:
            yield from fields(part, f"{prefix}{name}.")
