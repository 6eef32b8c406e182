"""Made-up hearts and nuclei with their true masks, and predictions whose faults are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy.ndimage import gaussian_filter

from tabib.config import Segmentation
from tabib.dataset import index_folder
from tabib.images import Volume, encode_label_map, encode_nifti, encode_png, read_mask
from tabib.images.image import ImageFacts
from tabib.records import MASKS_SCHEMA, SPLIT_SCHEMA

LABELS = {"rv": 1, "myocardium": 2, "lv": 3}
SPACING = (8.0, 1.5, 1.5)
GROUPS = ("NOR", "DCM", "HCM")


def heart(patient: int, phase: str, *, side: int = 48, slices: int = 7) -> np.ndarray:
    """(slices, side, side) labels as ACDC numbers them: discs that grow from the apex (the last slice) to the base."""
    random = np.random.default_rng(patient)
    row, column = side / 2 + random.uniform(-3, 3, 2)
    wide = random.uniform(7, 10) * (1.0 if phase == "ED" else 0.75)
    wall = 2.5 if phase == "ED" else 3.5
    y, x = np.mgrid[:side, :side]
    labels = np.zeros((slices, side, side), np.uint8)
    for number in range(1, slices - 1):
        lv = wide * (1.15 - number / slices)
        away = np.hypot(y - row, x - column)
        beside = np.hypot(y - row, x - column + lv + wall + 0.4 * wide)
        labels[number][beside < 0.7 * lv] = 1
        labels[number][away < lv + wall] = 2
        labels[number][away < lv] = 3
    return labels


def heart_image(labels: np.ndarray, seed: int) -> np.ndarray:
    """Grey voxels that show these labels."""
    random = np.random.default_rng(seed)
    shown = np.array([60.0, 180, 110, 200])[labels] + random.normal(0, 8, labels.shape)
    return gaussian_filter(shown, (0, 0.7, 0.7)).clip(0, 255).astype(np.uint8)


def nuclei(seed: int, *, side: int = 64) -> np.ndarray:
    """(1, side, side) instances: nine discs that do not touch."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    labels = np.zeros((1, side, side), np.uint16)
    for number in range(9):
        row, column = (number // 3 + 0.5) * side / 3, (number % 3 + 0.5) * side / 3
        labels[0][np.hypot(y - row, x - column) < random.uniform(5, 7)] = number + 1
    return labels


@dataclass(frozen=True)
class Masked:
    """A run as far as its predictions: what `evaluate_masks` takes."""

    run: Path
    study: Segmentation
    index: pl.DataFrame
    split: pl.DataFrame
    predictions: pl.DataFrame
    truth: Mapping[int, np.ndarray]  # by row of the index


def make_hearts(
    folder: Path, spoil: Callable[[np.ndarray, str, str], np.ndarray], *, patients: int = 20, changes: dict[str, object] | None = None
) -> Masked:
    """Hearts as ACDC lays them out: half of the patients train, a tenth at least validates, the others test. `spoil(labels, patient, phase)` predicts."""
    data = folder / "hearts"
    for number in range(1, patients + 1):
        name = f"patient{number:03}"
        (data / name).mkdir(parents=True)
        (data / name / "Info.cfg").write_text(f"ED: 1\nES: 9\nGroup: {GROUPS[number % 3]}\n")
        for phase, frame in (("ED", 1), ("ES", 9)):
            labels = heart(number, phase)
            stem = data / name / f"{name}_frame{frame:02}"
            for path, voxels in ((f"{stem}.nii.gz", heart_image(labels, number)), (f"{stem}_gt.nii.gz", labels)):
                Path(path).write_bytes(encode_nifti(volume(voxels, SPACING)))
    study = Segmentation.model_validate(
        {"task": "segmentation", "name": "hearts", "data": {"folder": data, "layout": "acdc", "labels": LABELS}, **(changes or {})}
    )
    return _predicted(folder / "run", study, spoil, "nii.gz")


def make_nuclei(folder: Path, spoil: Callable[[np.ndarray, str, str], np.ndarray], *, pictures: int = 20) -> Masked:
    """Pictures with label maps of nine nuclei each, without a spacing."""
    data = folder / "nuclei"
    for inner in ("images", "masks"):
        (data / inner).mkdir(parents=True)
    for number in range(pictures):
        labels = nuclei(number)
        shown = np.where(labels[0] > 0, 90, 220) + np.random.default_rng(number).normal(0, 6, labels[0].shape)
        (data / "images" / f"slide{number:02}.png").write_bytes(encode_png(shown.clip(0, 255).astype(np.uint8)))
        (data / "masks" / f"slide{number:02}.png").write_bytes(encode_label_map(labels[0]))
    study = Segmentation.model_validate(
        {
            "task": "segmentation",
            "name": "nuclei",
            "data": {"folder": data, "labels": {"nucleus": 1}, "instances": True, "group": r"(slide\d+)"},
        }
    )
    return _predicted(folder / "run", study, spoil, "png")


def volume(voxels: np.ndarray, spacing: tuple[float, float, float]) -> Volume:
    """A volume that lies straight in the body."""
    between, rows, columns = spacing
    affine = np.array([[0, 0, columns, 0], [0, rows, 0, 0], [between, 0, 0, 0], [0, 0, 0, 1]], dtype=np.float64)
    return Volume(voxels, affine, spacing, ImageFacts(format="NIfTI", bits=8, mode="uint8"))


def _predicted(run: Path, study: Segmentation, spoil: Callable[[np.ndarray, str, str], np.ndarray], suffix: str) -> Masked:
    (run / "masks").mkdir(parents=True)
    index = index_folder(study.data, workers=1)
    good = index.filter(pl.col("refused").is_null())
    groups = sorted(set(good["group"]))
    number = len(groups)
    parts = {
        group: "train" if place < number // 2 else "validation" if place < number * 3 // 5 else "test" for place, group in enumerate(groups)
    }
    split = good.select(
        "row",
        "path",
        "content",
        "label",
        "group",
        pl.col("group").replace_strict(parts).alias("part"),
        pl.lit(None, pl.Int32).alias("fold"),
        pl.lit(None, pl.String).alias("reason"),
    )
    assert dict(split.schema) == SPLIT_SCHEMA
    rows, truth = [], {}
    for row, path, group, mask, facts in good.select("row", "path", "group", "mask", "facts").iter_rows():
        if parts[group] == "train":
            continue
        truth[row] = read_mask(study.data.folder / mask).voxels
        phase = "ES" if facts and '"ES"' in facts else "ED"
        said = spoil(np.array(truth[row]), group, phase)
        name = f"masks/{row}.{suffix}"
        (run / name).write_bytes(encode_label_map(said[0]) if suffix == "png" else encode_nifti(volume(said, SPACING)))
        rows.append({"row": row, "path": path, "group": group, "part": parts[group], "mask": name})
    predictions = pl.DataFrame(rows, schema=MASKS_SCHEMA).sort("part", "row", descending=[True, False])
    return Masked(run, study, index, split, predictions, truth)
