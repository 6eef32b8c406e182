"""A tiny data set whose answer is known: bright squares mean ill, and patients have two films each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image
from torch import nn

from tabib.config import Study
from tabib.dataset import build_cache, index_folder, split_dataset
from tabib.progress import SILENT, Progress
from tabib.records import Checks, Findings, Model
from tabib.training import train

CHECKS = Checks(checks=[], initial_loss=0.7, expected_initial_loss=0.7, seconds_per_step=0, predicted_seconds=0)


def tiny_network(channels: int, height: int, width: int) -> nn.Module:
    """A backbone that takes milliseconds: for tests of the loop, not of the network."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 5, stride=2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
    )


@dataclass(frozen=True)
class Planted:
    """A folder of films, looked at and divided."""

    study: Study
    index: pl.DataFrame
    split: pl.DataFrame

    @property
    def cache_folder(self) -> Path:
        """Beside the films, so that one decoding serves all tests of them."""
        return self.study.data.folder.parent / "cache"


def write_films(
    folder: Path, *, classes: tuple[str, ...] = ("HEALTHY", "ILL"), patients: int = 15, side: int = 20, signal: float = 90
) -> None:
    """Noise, with a square for every class but the first, brighter from class to class."""
    random = np.random.default_rng(3)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for patient in range(patients):
            for film in range(2):
                pixels = random.normal(80, 20, (side, side))
                row, column = random.integers(2, side - 8, 2)
                pixels[row : row + 6, column : column + 6] += signal * number
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"p{number}{patient:03}_{film}.png")


def plant(folder: Path, **parts: Any) -> Planted:
    """Write films below `folder` (once) and divide them; `parts` are parts of the study. Give `tiny` to NETWORKS first."""
    if not (folder / "films").exists():
        write_films(folder / "films")
    training = {
        "epochs": 3,
        "batch": 8,
        "learning_rate": 0.01,
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
        "frozen_features": "compute",
    }
    study = Study.model_validate(
        {
            "name": "planted",
            "positive": "ILL",
            "data": {"folder": folder / "films", "group": r"(p\d+)"},
            **parts,
            "input": {"height": 20, "width": 20, "channels": 1, **parts.get("input", {})},
            "model": {"network": "tiny", **parts.get("model", {})},
            "training": {**training, **parts.get("training", {})},
        }
    )
    index = index_folder(study.data, workers=1)
    planted = Planted(study, index, split_dataset(index, Findings(findings=[]), study))
    if study.input.channels != "auto":
        build_cache(study.data, index, study.input, folder=planted.cache_folder, workers=1)
    return planted


def train_planted(
    planted: Planted, run: Path, *, own: nn.Module | None = None, progress: Progress = SILENT, checks: Checks = CHECKS
) -> Model:
    """Train in the run folder `run`."""
    place, cache = run / "model", planted.cache_folder
    return train(planted.index, planted.split, checks, planted.study, place=place, cache_folder=cache, own=own, progress=progress)


def weights_of(run: Path) -> dict[str, str]:
    """SHA-256 of the weights of each member."""
    return {
        path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(run.glob("model/members/*/weights.safetensors"))
    }


def history_of(run: Path) -> list[dict[str, Any]]:
    """The epochs of all members, without what a clock says."""
    lines = [json.loads(line) for path in sorted(run.glob("model/members/*/history.jsonl")) for line in path.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in ("seconds", "images_per_second")} for line in lines]
