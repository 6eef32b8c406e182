"""The pictures of augmented images are what training saw."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from planted_masks import plant_masks
from tabib.dataset import build_cache, build_cases, index_folder
from tabib.images import OUTLINES, read_image
from tabib.phantoms import ChestFilms, make_chest_films
from tabib.training.augment import apply
from tabib.training.batches import copy_keys, load_samples
from tabib.training.draws import draw
from tabib.training.examples import save_examples, save_patches, write_copies
from tabib.training.mask_work import STILL
from tabib.training.members import plans
from tabib.training.segment import work_for
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


MOVED = {"rotation_degrees": 30, "shift": 0.1, "noise": 0.02}
RECOLOURED = {"rotation_degrees": 0, "shift": 0, "zoom": 0, "brightness": 0.2}


@pytest.mark.parametrize("volumes", [False, True], ids=["pictures", "volumes"])
def test_patches_of_masks_are_what_training_saw_of_them(tmp_path: Path, volumes: bool) -> None:
    shape = {"dimensions": 3, "patch": [4, 32, 32], "spacing_mm": "keep"} if volumes else {"patch": [32, 32]}
    planted = plant_masks(tmp_path, volumes=volumes, input=shape, augment=MOVED)
    study = planted.study
    cases = build_cases(study.data, planted.index, study.input, folder=planted.cache_folder)
    work = work_for(next(iter(plans(planted.split, study))), cases, study, device=torch.device("cpu"))
    save_patches(tmp_path / "augmented", work)

    shown = sorted(int(path.stem) for path in (tmp_path / "augmented").glob("*.png") if path.stem.isdigit())
    assert len(shown) == 4
    assert set(shown) <= set(planted.split.filter(pl.col("part") == "train")["row"])
    where = {"foreground": study.training.foreground, "seed": work.seed, "epoch": 1}
    rows = [work.train.draw(np.array([number]), study.augment, **where).rows[0] for number in range(16)]
    images, masks = (np.asarray(each) for each in work.train.load(np.arange(16), study.augment, **where))
    images, masks = (each[..., 2, :, :] for each in (images, masks)) if volumes else (images, masks)
    for row in shown:
        picture = read_image(tmp_path / "augmented" / f"{row}_1.png").pixels
        assert picture.shape == (96, 96, 3), "three times as large as the patch"
        told = [_tells(picture, images[number, 0], masks[number]) for number in range(16) if rows[number] == row]
        assert any(told), row


def _tells(picture: np.ndarray, image: np.ndarray, mask: np.ndarray) -> bool:
    """Whether a picture shows this patch, and has outlines of each structure within it and nowhere else."""
    coloured = np.ptp(picture, axis=2) > 0
    large = mask.repeat(3, axis=0).repeat(3, axis=1)
    shown = np.where(coloured, np.nan, picture[..., 0])
    grey = shown[1::3, 1::3]
    alike = np.corrcoef(grey[~np.isnan(grey)], image[~np.isnan(grey)])[0, 1] > 0.97
    lines = all(((picture[large == number] == OUTLINES[number - 1]).all(axis=1)).any() for number in np.unique(mask[mask > 0]))
    return bool(alike and lines and not coloured[large == 0].any())


def test_a_patch_that_stays_in_place_keeps_its_outlines(tmp_path: Path) -> None:
    planted = plant_masks(tmp_path, input={"patch": [48, 48]}, augment=RECOLOURED)
    study = planted.study
    cases = build_cases(study.data, planted.index, study.input, folder=planted.cache_folder)
    work = work_for(next(iter(plans(planted.split, study))), cases, study, device=torch.device("cpu"))
    save_patches(tmp_path / "augmented", work)
    before, after = (read_image(path).pixels for path in sorted((tmp_path / "augmented").glob("*.png"))[:2])
    assert np.array_equal(np.ptp(before, axis=2) > 0, np.ptp(after, axis=2) > 0)
    assert not np.array_equal(before, after)

    save_patches(tmp_path / "augmented", dataclasses.replace(work, augment=STILL))
    assert not list(tmp_path.glob("augmented/*")), "nothing is changed"
