"""Small images with masks, in files, for tests of what lists, reads and judges them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tabib.config import Segmentation
from tabib.images import ImageFacts, Volume, encode_nifti, encode_png

FACTS = ImageFacts(format="NIfTI", bits=8, mode="uint8")


def picture(seed: int = 0, height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def square(number: int = 1, height: int = 24, width: int = 32) -> np.ndarray:
    """One structure of 8 x 10 pixels, away from the frame."""
    mask = np.zeros((height, width), np.uint8)
    mask[8:16, 10:20] = number
    return mask


def save_png(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(pixels))
    return path


def save_nifti(path: Path, voxels: np.ndarray, *, spacing: tuple[float, float, float] = (8.0, 1.4, 1.3), shift: float = 0.0) -> Path:
    """Write (D, H, W) voxels; `shift` moves them along the patient, in mm."""
    affine = np.array([[0, 0, spacing[2], shift], [0, spacing[1], 0, 0], [spacing[0], 0, 0, 0], [0, 0, 0, 1.0]])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_nifti(Volume(voxels, affine, spacing, FACTS)))
    return path


def pairs(folder: Path, count: int = 6) -> Path:
    """`count` pictures and masks of one structure, of number 1."""
    for number in range(count):
        save_png(folder / "images" / f"cell{number}.png", picture(number))
        save_png(folder / "masks" / f"cell{number}.png", square())
    return folder


def study(folder: Path, *, labels: dict[str, Any] | None = None, split: dict[str, Any] | None = None, **data: Any) -> Segmentation:
    values = {"folder": folder, "labels": labels or {"cell": 1}, **data}
    return Segmentation.model_validate({"task": "segmentation", "name": "test", "data": values, "split": split or {}})
