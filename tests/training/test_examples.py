"""The pictures of augmented images are what training saw."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from tabib.dataset import build_cache, index_folder
from tabib.images import read_image
from tabib.phantoms import ChestFilms, make_chest_films
from tabib.training.augment import apply
from tabib.training.batches import copy_keys, load_samples
from tabib.training.draws import draw
from tabib.training.examples import save_examples, write_copies
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


@pytest.mark.parametrize("bits", [8, 16])
def test_copies_on_disk_are_those_that_train(tmp_path: Path, bits: int) -> None:
    make_chest_films(tmp_path / "films", ChestFilms(patients=4, films_per_patient=(1, 1), side=32))
    study = tiny_study(tmp_path / "films", {"augment": {"rotation_degrees": 30, "copies": 2}})
    index = index_folder(study.data)
    cache = build_cache(study.data, index, study.input, folder=tmp_path / "cache")
    if bits == 16:
        cache = dataclasses.replace(cache, images=cache.images.astype(np.uint16) * np.uint16(257))
    classes = ["NORMAL", "PNEUMONIA"]
    write_copies(tmp_path / "copies", cache, index, study.augment, classes=classes, seed=3)

    table = pl.read_csv(tmp_path / "copies" / "copies.csv")
    assert sorted(table["path"]) == sorted(path.name for path in (tmp_path / "copies").glob("*.png"))
    assert len(table) == 2 * len(index)
    assert dict(zip(table["original"], table["label"], strict=True)) == dict(zip(index["path"], index["label"], strict=True))
    samples = load_samples(cache, index, classes=classes, device=torch.device("cpu"))
    images, _, _ = samples.load(np.arange(len(index)))
    second = apply(images, draw(study.augment, seed=3, epoch=0, content=copy_keys(samples.content, 2)), study.augment)
    for row, expected in zip(index["row"], second, strict=True):
        pixels = read_image(tmp_path / "copies" / f"{row}_2.png").pixels
        assert np.array_equal(pixels, (expected[0] * (2**bits - 1)).round().numpy().astype(f"uint{bits}"))
