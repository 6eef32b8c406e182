"""A tiny data set whose answer is known: bright squares mean ill, and patients have two films each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from tabib.config import Study
from tabib.dataset import index_folder, split_dataset
from tabib.records import Checks, Findings

CHECKS = Checks(checks=[], initial_loss=0.7, expected_initial_loss=0.7, seconds_per_step=0.1, predicted_seconds=1)


@dataclass(frozen=True)
class Planted:
    """A folder of films, looked at and divided."""

    study: Study
    index: pl.DataFrame
    split: pl.DataFrame


def write_films(
    folder: Path, *, classes: tuple[str, ...] = ("HEALTHY", "ILL"), patients: int = 30, side: int = 32, signal: float = 60
) -> None:
    random = np.random.default_rng(3)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for patient in range(patients):
            for film in range(2):
                pixels = random.normal(100, 25, (side, side))
                row, column = random.integers(4, side - 12, 2)
                pixels[row : row + 8, column : column + 8] += signal * number
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"p{number}{patient:03}_{film}.png")


def plant(folder: Path, **parts: dict) -> Planted:  # type: ignore[type-arg]
    """Write films below `folder` (once) and divide them; `parts` are parts of the study."""
    if not (folder / "films").exists():
        write_films(folder / "films")
    training = {
        "epochs": 3,
        "batch": 16,
        "learning_rate": 0.01,
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
        **parts.pop("training", {}),
    }
    study = Study.model_validate(
        {
            "name": "planted",
            "positive": "ILL",
            "data": {"folder": folder / "films", "group": r"(p\d+)"},
            "input": {"height": 32, "width": 32, "channels": 1, **parts.pop("input", {})},
            "training": training,
            **parts,
        }
    )
    index = index_folder(study.data, workers=1)
    return Planted(study, index, split_dataset(index, Findings(findings=[]), study))
