"""What folders of images with masks are taken for, by the names of their files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from places import REAL, needs_real
from planted_masks import write_pictures
from tabib.config import SegmentationData
from tabib.dataset import guess_masks, numbers_in_masks
from tabib.phantoms import ChestFilms, HeartScans, make_chest_films, make_heart_scans


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_hearts_of_the_challenge(tmp_path: Path) -> None:
    make_heart_scans(tmp_path / "heart", HeartScans(patients=1, side=48))
    assert guess_masks(tmp_path / "heart") == {"layout": "acdc", "labels": {"rv": 1, "myocardium": 2, "lv": 3}}


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ({"background": 0, "liver": 1, "tumour": 2}, {"liver": 1, "tumour": 2}),
        ({"0": "background", "1": "liver"}, {"liver": 1}),
        ({"background": 0, "whole": [1, 2], "core": 2}, {}),
    ],
)
def test_raw_data_of_nnunet_name_their_structures(tmp_path: Path, labels: dict[str, object], named: dict[str, int]) -> None:
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert guess_masks(tmp_path) == {"layout": "nnunet", "labels": named}


def test_two_folders_of_the_same_names(tmp_path: Path) -> None:
    touch(tmp_path, "Images/a.png", "Images/b.png", "Images/c.png", "labels/a.tif", "labels/b.tif")
    assert guess_masks(tmp_path) == {"layout": "image_mask_pairs", "images": "Images", "masks": "labels"}


def test_a_suffix_in_one_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "a_mask.png", "b.png", "b_mask.png")
    assert guess_masks(tmp_path) == {"layout": "image_mask_pairs", "images": ".", "masks": ".", "mask_suffix": "_mask"}


def test_folders_of_classes_are_no_masks(tmp_path: Path) -> None:
    make_chest_films(tmp_path / "films", ChestFilms(patients=3, side=32))
    assert guess_masks(tmp_path / "films") is None
    assert guess_masks(touch(tmp_path / "other", "images/a.png", "masks/z.png", "c.png")) is None, "their files are called otherwise"
    assert guess_masks(tmp_path / "nothing") is None


def test_the_numbers_of_masks(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", patients=2)
    assert numbers_in_masks(SegmentationData(folder=tmp_path / "pictures", labels={"any": 1})) == [1, 2]
    Image.new("L", (48, 48), 255).save(tmp_path / "pictures" / "masks" / "p00_0.png")
    assert numbers_in_masks(SegmentationData(folder=tmp_path / "pictures", labels={"any": 1})) == [1, 2, 255]


@needs_real("cardiac_acdc")
def test_real_folders() -> None:
    found = {name: (guess_masks(REAL / name) or {}).get("layout") for name in ("cardiac_acdc", "cardiac_sunnybrook", "nuclei/stained")}
    assert found == {"cardiac_acdc": "acdc", "cardiac_sunnybrook": "sunnybrook", "nuclei/stained": "image_mask_pairs"}
    assert guess_masks(REAL / "chest_xray") is None
