"""What a plan is made of: fields of a study with their reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tabib.config import AnyStudy
from tabib.study_file import check_study

__all__ = ["Choice", "study_of"]


@dataclass(frozen=True)
class Choice:
    """One field of the study, and why it is so."""

    field: str  # "training.epochs"
    value: Any
    reason: str = ""


def study_of(choices: Sequence[Choice]) -> AnyStudy:
    """The study that the choices make."""
    values: dict[str, Any] = {}
    for choice in choices:
        *parts, last = choice.field.split(".")
        inner = values
        for part in parts:
            inner = inner.setdefault(part, {})
        inner[last] = choice.value
    return check_study(values, source="tabib plan")
