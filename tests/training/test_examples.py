"""The pictures of augmented images are what training saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image

from tabib.dataset import build_cache, index_folder
from tabib.phantoms import ChestFilms, make_chest_films
from tabib.training.augment import apply, draw
from tabib.training.batches import load_samples
from tabib.training.examples import save_examples
from tiny import tiny_study


def test_examples_are_the_draws_of_the_first_epochs(tmp_path: Path) -> None:
    make_chest_films(tmp_path / "films", ChestFilms(patients=6, films_per_patient=(1, 1), side=48))
    study = tiny_study(tmp_path / "films", {"augment": {"rotation_degrees": 30, "noise": 0.1}})
    index = index_folder(study.data)
    cache = build_cache(study.data, index, study.input, folder=tmp_path / "cache")
    classes = ["NORMAL", "PNEUMONIA"]
    save_examples(tmp_path / "augmented", cache, index, study.augment, classes=classes, seed=3)

    shown = {int(path.stem) for path in (tmp_path / "augmented").glob("*.png") if path.stem.isdigit()}
    assert len(shown) == 4
    rows = index.filter(pl.col("row").is_in(shown))
    assert sorted(rows["label"]) == ["NORMAL", "NORMAL", "PNEUMONIA", "PNEUMONIA"]
    for row in shown:
        samples = load_samples(cache, index.filter(pl.col("row") == row), classes=classes, device=torch.device("cpu"))
        image, _, _ = samples.load(np.array([0]))
        for suffix, expected in (
            ("", image),
            ("_2", apply(image, draw(study.augment, seed=3, epoch=2, content=samples.content), study.augment)),
        ):
            with Image.open(tmp_path / "augmented" / f"{row}{suffix}.png") as picture:
                assert np.array_equal(np.asarray(picture), (expected[0, 0] * 255).round().to(torch.uint8).numpy())
