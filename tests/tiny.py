"""The study that the tests of the road run: seconds, on one thread."""

from __future__ import annotations

from pathlib import Path

from tabib.config import Study
from tabib.study_file import check_study

SETTINGS = {
    "name": "tiny",
    "positive": "PNEUMONIA",
    "data": {"group": r"(patient\d+)"},
    "input": {"height": 32, "width": 32, "channels": 1},
    "training": {"epochs": 2, "batch": 16, "learning_rate": 3e-3, "threads": 1, "precision": "fp32", "device": "cpu"},
    "evaluate": {"draws": 200},
    "report": {"languages": ["en"]},
}


def tiny_study(folder: Path, changes: dict[str, dict[str, object]] | None = None) -> Study:
    """The tiny study with some fields changed, part by part."""
    values: dict[str, object] = {}
    for part in {*SETTINGS, *(changes or {})}:
        settings, changed = SETTINGS.get(part, {}), (changes or {}).get(part, {})
        values[part] = {**settings, **changed} if isinstance(settings, dict) and isinstance(changed, dict) else changed or settings
    values["data"] = {"folder": str(folder), **dict(values["data"])}  # pyright: ignore[reportArgumentType, reportCallIssue]
    return check_study(values, source="the tiny study")
