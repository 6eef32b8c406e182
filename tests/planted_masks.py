"""Tiny images with masks whose answer is known: a bright disc and a grey square, and patients have two images each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image

from planted import CHECKS
from tabib.config import Segmentation
from tabib.config import SegmentationModel as Part
from tabib.dataset import index_folder, read_case, split_dataset
from tabib.images import Volume, encode_nifti, read_mask
from tabib.images.image import ImageFacts
from tabib.prediction import Segmenter, predict_masks
from tabib.records import Findings, PostProcessing, SegmentationModel
from tabib.runs import save
from tabib.training import calibrate_masks, resolve_segmentation, train_segmenter
from tabib.training.segmenters import Form, build_segmenter

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


def write_channels(folder: Path, *, patients: int = 10, depth: int = 2) -> None:
    """Raw data of nnU-Net of two channels, each on a scale of its own: the disc is seen in one of them, the square in the other."""
    random = np.random.default_rng(7)
    facts = ImageFacts(format="NIfTI", bits=16, mode="int16")
    affine = np.array([[0, 0, 1.5, 0], [0, 1.5, 0, 0], [6.0, 0, 0, 0], [0, 0, 0, 1]])
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    (folder / "dataset.json").write_text('{"channel_names": {"0": "T1", "1": "FLAIR"}, "labels": {"disc": 1, "square": 2}}')
    for patient in range(patients):
        noise, mask = scene(random, depth)
        shown = noise - np.array([0, 120, 60])[mask]
        disc, square = shown + 120 * (mask == 1), 10 * (shown + 90 * (mask == 2)) - 500
        stem = f"p{patient:02}"
        files = {f"labelsTr/{stem}": mask, f"imagesTr/{stem}_0000": disc.astype(np.int16), f"imagesTr/{stem}_0001": square.astype(np.int16)}
        for file, voxels in files.items():
            (folder / f"{file}.nii.gz").write_bytes(encode_nifti(Volume(voxels, affine, (6.0, 1.5, 1.5), facts)))


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


def train(planted: PlantedMasks, folder: Path) -> SegmentationModel:
    return train_segmenter(planted.index, planted.split, CHECKS, planted.study, place=folder / "model", cache_folder=planted.cache_folder)


def finish(planted: PlantedMasks, folder: Path) -> tuple[SegmentationModel, pl.DataFrame]:
    """Train, decide and predict, as the road does."""
    model = train(planted, folder)
    where: dict[str, Any] = {"place": folder / "model", "cache_folder": planted.cache_folder}
    decision = calibrate_masks(model, planted.index, planted.split, planted.study, **where)
    save(folder / "model" / "model.json", model)
    save(folder / "model" / "decision.json", decision)
    return model, predict_masks(model, decision, planted.index, planted.split, planted.study, **where)


def mean_dice(planted: PlantedMasks, predictions: pl.DataFrame, folder: Path, part: str) -> float:
    found = []
    masks = dict(planted.index.select("row", "mask").iter_rows())
    for row, path, mask in predictions.filter(pl.col("part") == part).select("row", "path", "mask").iter_rows():
        said, truth = read_mask(folder / mask).voxels, read_case(planted.study.data, path, masks[row]).structures
        found += [2 * ((said == k) & (truth == k)).sum() / ((said == k).sum() + (truth == k).sum()) for k in (1, 2)]
    return float(np.mean(found))


def untrained(*, bias: float | None = None, **changes: Any) -> Segmenter:
    """A network for two structures that has learnt nothing; with a bias, one that sees the first in every place, or in none where it is below 0."""
    values: dict[str, Any] = {
        "structures": ["a", "b"],
        "numbers": [3, 7],
        "instances": False,
        "network": "unet",
        "encoder": None,
        "filters": [4, 8],
        "norm": None,
        "dropout": 0.0,
        "deep_supervision": False,
        "dimensions": 2,
        "patch": [32, 32],
        "spacing_mm": None,
        "channels": 1,
        "intensity": "zscore",
        "window": None,
        "weights_total": 0,
        "weights_trainable": 0,
        "weights_source": "none",
        "weights_source_sha256": None,
        "members": [],
    }
    model = SegmentationModel.model_validate(values | changes)
    chosen: dict[str, Any] = {"structures": ["a", "b"], "largest_component": [], "fill_holes": [], "flips": False, "weights_sha256": []}
    known: dict[str, Any] = {"validation_rows": 1, "validation_groups": 1, "dice_before": {}, "dice_after": {}}
    network, _ = build_segmenter(Part(filters=[4, 8], norm=None), Form(1, 3, tuple(model.patch), None), seed=4)
    if bias is not None:
        network.head.weight.detach().zero_()  # pyright: ignore[reportCallIssue]
        network.head.bias.detach().copy_(torch.tensor([0.0, bias, -99.0]))  # pyright: ignore[reportCallIssue]
    return Segmenter(model, PostProcessing(**chosen, **known), [network.eval()])
