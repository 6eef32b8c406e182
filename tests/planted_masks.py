"""Tiny images with masks whose answer is known: a bright disc and a grey square, and patients have two images each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from tabib.config import Segmentation
from tabib.dataset import index_folder, split_dataset
from tabib.images import Volume, encode_nifti
from tabib.images.image import ImageFacts
from tabib.records import Findings
from tabib.training import resolve_segmentation

SIDE = 48


@dataclass(frozen=True)
class PlantedMasks:
    """A folder of images with masks, looked at, divided and resolved."""

    study: Segmentation
    index: pl.DataFrame
    split: pl.DataFrame

    @property
    def cache_folder(self) -> Path:
        return self.study.data.folder.parent / "cache"


def scene(random: np.random.Generator, depth: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """An image (D, H, W) int16 and its mask uint8: 1 the disc, 2 the square."""
    place, corner = random.integers(12, 20, 2), random.integers(28, 34, 2)
    y, x = np.mgrid[:SIDE, :SIDE]
    mask = np.zeros((depth, SIDE, SIDE), np.uint8)
    for level in range(depth):
        mask[level][(y - place[0]) ** 2 + (x - place[1]) ** 2 < (8 - level % 3) ** 2] = 1
        mask[level][(abs(y - corner[0]) < 5) & (abs(x - corner[1]) < 6)] = 2
    image = random.normal(100, 12, mask.shape) + np.array([0, 120, 60])[mask]
    return image.astype(np.int16), mask


def write_pictures(folder: Path, *, patients: int = 10) -> None:
    random = np.random.default_rng(5)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for patient in range(patients):
        for number in range(2):
            image, mask = scene(random)
            stem = f"p{patient:02}_{number}.png"
            Image.fromarray(image[0].clip(0, 255).astype(np.uint8)).save(folder / "images" / stem)
            Image.fromarray(mask[0]).save(folder / "masks" / stem)


def write_volumes(folder: Path, *, patients: int = 10, depth: int = 5) -> None:
    random = np.random.default_rng(6)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    affine = np.array([[0, 0, 1.5, 0], [0, 1.5, 0, 0], [6.0, 0, 0, 0], [0, 0, 0, 1]])
    facts = ImageFacts(format="NIfTI", bits=16, mode="int16")
    for patient in range(patients):
        for part, voxels in zip(("images", "masks"), scene(random, depth), strict=True):
            volume = Volume(voxels, affine, (6.0, 1.5, 1.5), facts)
            (folder / part / f"p{patient:02}.nii.gz").write_bytes(encode_nifti(volume))


def plant_masks(folder: Path, *, volumes: bool = False, **parts: Any) -> PlantedMasks:
    """Write images below `folder` (once), divide and resolve them; `parts` are parts of the study."""
    data = folder / ("volumes" if volumes else "pictures")
    if not data.exists():
        (write_volumes if volumes else write_pictures)(data)
    training = {"epochs": 2, "batch": 4, "patches": 16, "learning_rate": 0.02, "device": "cpu", "precision": "fp32", "threads": 1}
    values: dict[str, Any] = {
        "task": "segmentation",
        "name": "planted",
        "data": {"folder": data, "labels": {"disc": 1, "square": 2}, "group": r"(p\d+)"} | parts.pop("data", {}),
        "model": {"filters": [8, 16]} | parts.pop("model", {}),
        "training": training | parts.pop("training", {}),
    }
    study = Segmentation.model_validate(values | parts)
    index = index_folder(study.data)
    split = split_dataset(index, Findings(findings=[]), study)
    return PlantedMasks(resolve_segmentation(study, index, split), index, split)
