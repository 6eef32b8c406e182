"""A complete made-up run folder of a segmenter: what a run leaves behind, without a network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from scipy.ndimage import binary_erosion

from made_masks import Masked
from tabib.config import Segmentation
from tabib.dataset import inspect_dataset
from tabib.evaluation import evaluate_masks
from tabib.images import encode_nifti, encode_png, read_mask
from tabib.records import Checks, Finding, Member, PostProcessing, Record, SegmentationModel


def spoil_hearts(labels: np.ndarray, patient: str, phase: str) -> np.ndarray:
    """Every outline a little off, by patient; patient 20 has no right ventricle, patient 17 a left one at the wrong place in the apex."""
    number = int(patient[-3:])
    labels = np.roll(labels, (number % 3, 1), axis=(1, 2))
    if number % 2:
        inner = binary_erosion(labels == 3, np.ones((1, 3, 3)))
        labels[(labels == 3) & ~inner] = 2
    if number == 20:
        labels[labels == 1] = 0
    if number == 17:
        labels[5] = np.roll(labels[5], 9, axis=0)
        labels[0] = labels[1]
    if phase == "ES":
        labels[5][labels[5] == 3] = 2
    return labels


def finish(made: Masked, *, network: str = "unet") -> tuple[Path, Segmentation]:
    """Write every further file of a run folder; returns it and its study."""
    resolved = {
        "title": {"en": "Both ventricles in cine MRI", "fa": "دو بطن در MRI سینه"},
        "input": {"patch": [48, 48], "spacing_mm": [1.5, 1.5] if not made.study.data.instances else "keep", "channels": 1},
        "model": {"network": network},
        "training": {"epochs": 12, "patches": 40, "threads": 1, "precision": "fp32", "device": "cpu"},
        "augment": {"rotation_degrees": 15},
        "goals": {"dice": 0.95},
        "evaluate": {"subgroups": ["diagnosis"] if not made.study.data.instances else []},
    }
    study = Segmentation.model_validate({**made.study.model_dump(), **resolved})
    run = made.run
    (run / "model" / "members" / "seed0").mkdir(parents=True)
    made.index.write_parquet(run / "index.parquet")
    made.split.write_csv(run / "split.csv")
    made.predictions.write_parquet(run / "predictions.parquet")
    structures = study.data.structures
    model = SegmentationModel(
        structures=structures,
        numbers=[given if isinstance(given, int) else given[0] for given in study.data.labels.values()],
        instances=study.data.instances,
        network=network,
        encoder=None,
        filters=[32, 64, 128, 256],
        norm="auto",
        dropout=0.0,
        deep_supervision=False,
        dimensions=2,
        patch=[48, 48],
        spacing_mm=None if study.data.instances else [1.5, 1.5],
        channels=1,
        intensity="zscore",
        window=None,
        weights_total=1_925_604,
        weights_trainable=1_925_604,
        weights_source="none",
        weights_source_sha256=None,
        members=[
            Member(
                name="seed0",
                seed=0,
                fold=None,
                epochs=12,
                best_epoch=10,
                best_value=0.88,
                train_images=4,
                train={"loss": 0.3, "dice": 0.91} | {f"dice_{name}": 0.9 for name in structures},
                weights_sha256="ab" * 32,
                seconds=312.0,
            )
        ],
        remarks=[Finding(code="structure_not_learnt", level="warn", figures={"structure": structures[0], "epoch": 5})],
    )
    decision = PostProcessing(
        structures=structures,
        largest_component=structures[-1:],
        fill_holes=[],
        flips=False,
        weights_sha256=["ab" * 32],
        validation_rows=4,
        validation_groups=2,
        dice_before=dict.fromkeys(structures, 0.86),
        dice_after=dict.fromkeys(structures, 0.87),
    )
    lines = [
        {
            "epoch": epoch,
            "train_loss": 1.2 * 0.8**epoch + 0.1,
            "validation_loss": 1.2 * 0.82**epoch + 0.15,
            "validation_dice": 0.9 - 0.6 * 0.75**epoch,
            **{f"validation_dice_{name}": 0.92 - 0.05 * place - 0.6 * 0.75**epoch for place, name in enumerate(structures)},
            "learning_rate": 1e-3,
        }
        for epoch in range(1, 13)
    ]
    (run / "model" / "members" / "seed0" / "history.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    _write(run / "findings.json", inspect_dataset(made.index, study))
    _write(
        run / "checks.json", Checks(checks=[], initial_loss=2.1, expected_initial_loss=2.3, seconds_per_step=0.2, predicted_seconds=300.0)
    )
    _write(run / "model" / "model.json", model)
    _write(run / "model" / "decision.json", decision)
    judged = evaluate_masks(made.predictions, made.index, made.split, decision, study, folder=run, histories={"seed0": lines})
    _write(run / "evaluation.json", judged)
    _write_entropy(made)
    (run / "manifest.json").write_text(json.dumps({"study": study.name, "finished": "2026-03-02T10:00:00+00:00", "seconds": 400.0}))
    return run, study


def _write_entropy(made: Masked) -> None:
    """Of every test image a map that is 200 of 255 where a structure was said."""
    (made.run / "entropy").mkdir()
    for name in made.predictions.filter(pl.col("part") == "test")["mask"]:
        said = read_mask(made.run / name)
        unsure = np.where(said.voxels > 0, 200, 0).astype(np.uint8)
        content = encode_png(unsure[0]) if name.endswith("png") else encode_nifti(replace(said, voxels=unsure))
        (made.run / "entropy" / Path(name).name).write_bytes(content)


def _write(path: Path, record: Record) -> None:
    path.write_text(record.model_dump_json(indent=1))
