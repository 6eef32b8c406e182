from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest

from masked import pairs, picture, save_nifti, save_png, square, study
from places import REAL, needs_real
from tabib.config import SegmentationData
from tabib.dataset import MASK_LAYOUTS, Listed, list_folder
from tabib.errors import DataError, StudyError

VOLUME = np.zeros((3, 20, 24), np.uint8)


def listed(folder: Path, **data: Any) -> dict[str, Listed]:
    return {entry.path: entry for entry in list_folder(study(folder, **data).data)}


def masks(folder: Path, **data: Any) -> dict[str, str | None]:
    return {path: entry.mask for path, entry in listed(folder, **data).items() if not entry.refused}


def test_there_is_a_function_for_every_layout_of_the_study() -> None:
    assert set(MASK_LAYOUTS) == set(get_args(SegmentationData.model_fields["layout"].annotation))


# --- Pairs ---


def test_an_image_has_the_mask_of_its_name_whatever_the_suffix_and_the_folders_inside(tmp_path: Path) -> None:
    for name in ("a", "inner/b", "c"):
        save_png(tmp_path / "images" / f"{name}.png", picture())
    save_png(tmp_path / "masks/a.tiff", square())
    save_png(tmp_path / "masks/inner/b.png", square())
    save_png(tmp_path / "masks/d.png", square())
    save_png(tmp_path / "preview/a.png", square())
    found = listed(tmp_path)
    assert {path: entry.mask for path, entry in found.items() if not entry.refused} == {
        "images/a.png": "masks/a.tiff",
        "images/inner/b.png": "masks/inner/b.png",
        "images/c.png": None,
    }
    assert found["masks/d.png"].refused == "a mask without an image: no image is called 'd'"
    assert found["preview/a.png"].refused == "none of the images with masks: lies neither in 'images' nor in 'masks'"


def test_a_suffix_parts_masks_from_images_in_one_folder(tmp_path: Path) -> None:
    for name in ("a", "a_mask", "p1/b", "p1/b_mask"):
        save_png(tmp_path / f"{name}.png", square())
    assert masks(tmp_path, images=".", masks=".", mask_suffix="_mask") == {"a.png": "a_mask.png", "p1/b.png": "p1/b_mask.png"}


def test_a_suffix_is_taken_off_masks_in_a_folder_of_their_own(tmp_path: Path) -> None:
    save_png(tmp_path / "images/a.png", picture())
    save_nifti(tmp_path / "labels/a_seg.nii.gz", VOLUME)
    assert masks(tmp_path, masks="labels", mask_suffix="_seg") == {"images/a.png": "labels/a_seg.nii.gz"}


@pytest.mark.parametrize("shape", ["{part}/{kind}/a.png", "{kind}/{part}/a.png"])
def test_folders_of_a_split_stand_above_the_two_folders_or_in_them(tmp_path: Path, shape: str) -> None:
    for part in ("train", "Test"):
        for kind in ("images", "masks"):
            save_png(tmp_path / shape.format(part=part, kind=kind), square())
    found = listed(tmp_path)
    assert {entry.given for entry in found.values()} == {"train", "test"}
    for path, entry in found.items():
        assert entry.mask == path.replace("images", "masks")


def test_a_name_that_stands_for_two_files_is_refused_with_both(tmp_path: Path) -> None:
    pairs(tmp_path, 3)
    save_png(tmp_path / "masks/cell0.bmp", square())
    save_png(tmp_path / "images/cell1.tif", picture())
    found = listed(tmp_path)
    assert "2 masks are called so, 'masks/cell0.bmp' and 'masks/cell0.png'" in str(found["images/cell0.png"].refused)
    assert "2 images are called so" in str(found["images/cell1.png"].refused)
    assert found["images/cell2.png"].refused is None


@pytest.mark.parametrize(
    ("files", "data", "words"),
    [
        (["pictures/a.png", "masks/a.png"], {}, "in 'images'; it holds 'masks/', 'pictures/'"),
        (["images/a.png", "labels/a.png"], {}, "no masks in 'masks'; it holds 'images/', 'labels/'"),
        (["images/a.png", "masks/a_seg.png"], {}, "mask_suffix: _seg would join them"),
        (["images/a.png", "masks/b.png"], {}, "Give them the same names"),
        (["a.png", "b.png"], {"images": ".", "masks": ".", "mask_suffix": "_m"}, "with names that end in '_m'"),
    ],
    ids=["images", "masks", "suffix", "names", "one_folder"],
)
def test_a_folder_without_pairs_says_what_it_holds_and_what_was_expected(
    tmp_path: Path, files: list[str], data: dict[str, str], words: str
) -> None:
    for name in files:
        save_png(tmp_path / name, square())
    with pytest.raises(DataError) as error:
        listed(tmp_path, **data)
    assert words in str(error.value)
    assert "Expected two folders with the same names" in str(error.value)


# --- ACDC ---


def patient(folder: Path, number: int, frames: tuple[int, ...] = (1, 12), info: str | None = None) -> None:
    place = folder / f"patient{number:03}"
    for frame in frames:
        for end in ("", "_gt"):
            save_nifti(place / f"patient{number:03}_frame{frame:02}{end}.nii.gz", VOLUME)
    if info is not None:
        (place / "Info.cfg").write_text(info)


def facts(entry: Listed) -> dict[str, str]:
    return json.loads(entry.facts.get("facts") or "{}")


def test_info_says_the_phase_and_the_diagnosis(tmp_path: Path) -> None:
    patient(tmp_path / "training", 1, frames=(4, 1), info="ED: 4\nES: 1\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\n")
    save_nifti(tmp_path / "training/patient001/patient001_4d.nii.gz", VOLUME)
    (tmp_path / "training/MANDATORY_CITATION.md").write_text("cite")
    found = listed(tmp_path, layout="acdc")
    entry = found["training/patient001/patient001_frame04.nii.gz"]
    assert (entry.group, entry.given, entry.mask) == ("patient001", "train", "training/patient001/patient001_frame04_gt.nii.gz")
    assert facts(entry) == {"frame": "4", "phase": "ED", "phase_from": "Info.cfg", "diagnosis": "DCM"}
    assert facts(found["training/patient001/patient001_frame01.nii.gz"])["phase"] == "ES"
    assert found["training/patient001/patient001_4d.nii.gz"].refused == "none of the images with masks: a film of all phases"
    assert "training/patient001/Info.cfg" not in found, "it is read, and no file that was found and not used"


def test_without_info_the_first_of_two_frames_is_end_diastole_and_the_facts_say_so(tmp_path: Path) -> None:
    patient(tmp_path, 1, frames=(1, 9))
    patient(tmp_path, 2, frames=(7,))
    patient(tmp_path, 3, frames=(1, 5, 9))
    found = listed(tmp_path, layout="acdc")
    assert facts(found["patient001/patient001_frame01.nii.gz"]) == {"frame": "1", "phase": "ED", "phase_from": "frame numbers"}
    assert facts(found["patient001/patient001_frame09.nii.gz"])["phase"] == "ES"
    assert facts(found["patient002/patient002_frame07.nii.gz"]) == {"frame": "7"}
    assert facts(found["patient003/patient003_frame05.nii.gz"]) == {"frame": "5"}


def test_a_folder_that_is_not_of_the_challenge_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="patient001_frame01_gt"):
        listed(pairs(tmp_path), layout="acdc")


@needs_real("cardiac_acdc")
def test_the_forty_patients_have_two_phases_each() -> None:
    found = [entry for entry in listed(REAL / "cardiac_acdc", layout="acdc").values() if not entry.refused]
    assert len(found) == 80
    assert len({entry.group for entry in found}) == 40
    assert all(entry.mask == entry.path.replace(".nii.gz", "_gt.nii.gz") for entry in found)
    assert sorted(facts(entry)["phase"] for entry in found) == ["ED"] * 40 + ["ES"] * 40


# --- nnU-Net ---

DATASET = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "RV": 1, "LV": 3}, "file_ending": ".nii.gz"}


def raw(folder: Path, dataset: object = None, *, names: tuple[str, ...] = ("imagesTr/h_001_0000", "labelsTr/h_001")) -> Path:
    for name in names:
        save_nifti(folder / f"{name}.nii.gz", VOLUME)
    (folder / "dataset.json").write_text(json.dumps(DATASET if dataset is None else dataset))
    return folder


def test_raw_data_of_nnunet(tmp_path: Path) -> None:
    names = ("imagesTr/h_001_0000", "labelsTr/h_001", "imagesTr/h_0002", "labelsTr/h_0002", "imagesTs/h_009_0000")
    found = listed(raw(tmp_path, names=names), layout="nnunet", labels={"RV": 1, "cavity": 3})
    assert {path: entry.mask for path, entry in found.items() if not entry.refused} == {
        "imagesTr/h_001_0000.nii.gz": "labelsTr/h_001.nii.gz",
        "imagesTr/h_0002.nii.gz": "labelsTr/h_0002.nii.gz",
    }
    assert found["imagesTs/h_009_0000.nii.gz"].refused == "none of the images with masks: there is no labelsTs"
    assert {entry.given for entry in found.values()} == {None}
    assert "dataset.json" not in found, "it is read, and no file that is left aside"


def test_a_test_set_with_masks_is_given(tmp_path: Path) -> None:
    names = ("imagesTr/a_0000", "labelsTr/a", "imagesTs/b_0000", "labelsTs/b")
    found = listed(raw(tmp_path, names=names), layout="nnunet", labels={"RV": 1})
    assert (found["imagesTr/a_0000.nii.gz"].given, found["imagesTs/b_0000.nii.gz"].given) == ("train", "test")


@pytest.mark.parametrize(
    ("dataset", "labels", "words"),
    [
        (None, {"lv": 4}, "the numbers of .* are 1 RV, 3 LV"),
        (None, {"rv": 3}, "in .* it has 1"),
        ({"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}}, {"tumour": 2}, "are 1 liver"),
        ({"labels": {"background": 0, "whole": [1, 2]}}, {"core": 3}, "are 1 whole, 2 whole"),
    ],
    ids=["number", "name", "version_1", "regions"],
)
def test_labels_that_dataset_json_contradicts_are_refused(tmp_path: Path, dataset: object, labels: dict[str, int], words: str) -> None:
    with pytest.raises(DataError, match=words):
        listed(raw(tmp_path, dataset), layout="nnunet", labels=labels)


def test_channels_are_one_image_and_one_without_all_of_them_is_refused(tmp_path: Path) -> None:
    names = [f"images{part}_{channel}" for part in ("Tr/a", "Tr/b", "Ts/d") for channel in ("0000", "0001")]
    raw(tmp_path, {"labels": {"RV": 1}}, names=(*names, "imagesTr/c_0001", *(f"labelsTr/{name}" for name in "abc")))
    found = listed(tmp_path, layout="nnunet", labels={"RV": 1})
    assert {path: entry.mask for path, entry in found.items() if not entry.refused} == {
        "imagesTr/a_{0000,0001}.nii.gz": "labelsTr/a.nii.gz",
        "imagesTr/b_{0000,0001}.nii.gz": "labelsTr/b.nii.gz",
    }
    assert "the channels 0001, and most images have 0000, 0001" in str(found["imagesTr/c_0001.nii.gz"].refused)
    assert found["imagesTs/d_{0000,0001}.nii.gz"].refused == "none of the images with masks: there is no labelsTs"
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1", "1": "T2", "2": "FLAIR"}}))
    with pytest.raises(DataError, match=r"channels 0000, 0001, and dataset\.json names 0000, 0001, 0002"):
        listed(tmp_path, layout="nnunet", labels={"RV": 1})


def test_a_picture_in_colour_is_one_file_whatever_its_colours_are_called(tmp_path: Path) -> None:
    raw(tmp_path, {"channel_names": {"0": "R", "1": "G", "2": "B"}}, names=())
    for part, shown in (("imagesTr/a_0000", picture()), ("labelsTr/a", square())):
        save_png(tmp_path / f"{part}.png", shown)
    assert listed(tmp_path, layout="nnunet")["imagesTr/a_0000.png"].mask == "labelsTr/a.png"


def test_missing_folders_and_a_damaged_dataset_json_are_refused(tmp_path: Path) -> None:
    raw(tmp_path)
    with pytest.raises(DataError, match="holds nothing in imagesTr"):
        listed(pairs(tmp_path / "other"), layout="nnunet")
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        listed(tmp_path, layout="nnunet")


# --- A table beside ---


def test_a_table_adds_patients_parts_and_facts_to_what_the_layout_says(tmp_path: Path) -> None:
    patient(tmp_path, 1)
    patient(tmp_path, 2)
    table = pl.DataFrame(
        {
            "file": ["patient001_frame01.nii.gz", "patient002_frame12", "gone"],
            "who": ["x", None, "z"],
            "part": ["test", "train", None],
            "diagnosis": ["HCM", "NOR", "?"],
        }
    )
    table.write_csv(tmp_path / "t.csv")
    columns = {"path": "file", "group": "who", "part": "part", "facts": ["diagnosis"]}
    found = listed(tmp_path, layout="acdc", table=tmp_path / "t.csv", columns=columns)
    first, second = found["patient001/patient001_frame01.nii.gz"], found["patient002/patient002_frame12.nii.gz"]
    assert (first.group, first.given, first.mask) == ("x", "test", "patient001/patient001_frame01_gt.nii.gz")
    assert facts(first) == {"frame": "1", "phase": "ED", "phase_from": "frame numbers", "diagnosis": "HCM"}
    assert (second.group, second.given, facts(second)["diagnosis"]) == ("patient002", "train", "NOR")
    assert found["patient001/patient001_frame12.nii.gz"].given is None
    assert "there is no such file" in str(found["gone"].refused)
    assert "t.csv" not in found


def test_a_table_of_other_images_is_refused(tmp_path: Path) -> None:
    pairs(tmp_path)
    (tmp_path / "t.csv").write_text("path,group\nother.png,a\n")
    with pytest.raises(DataError, match="names none of the images"):
        listed(tmp_path, table=tmp_path / "t.csv", columns={"group": "group"})
    with pytest.raises(StudyError, match="has no column"):
        listed(tmp_path, table=tmp_path / "t.csv", columns={"group": "patient"})
