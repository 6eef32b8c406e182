from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from masked import FACTS, pairs, picture, save_nifti, save_png, square, study
from places import REAL, needs_real
from tabib.dataset import MaskFacts, index_folder, inspect_dataset, read_case, read_row_pixels, slice_image, split_dataset, telling_slice
from tabib.errors import DataError, ImageError
from tabib.images import Volume
from tabib.records import INDEX_SCHEMA


def index(folder: Path, **data: Any) -> pl.DataFrame:
    return index_folder(study(folder, **data).data, workers=1)


def row(folder: Path, **data: Any) -> dict[str, object]:
    """The first row of the index of a folder."""
    return index(folder, **data).row(0, named=True)


def facts(folder: Path, mask: np.ndarray, **data: Any) -> MaskFacts:
    """What is seen in one mask."""
    if mask.ndim == 2:
        save_png(folder / "images/a.png", picture(0, *mask.shape))
        save_png(folder / "masks/a.png", mask)
    else:
        save_nifti(folder / "images/a.nii.gz", np.zeros(mask.shape, np.uint8))
        save_nifti(folder / "masks/a.nii.gz", mask)
    return MaskFacts(**json.loads(str(row(folder, **data)["mask_facts"])))


def test_a_row_says_what_image_and_mask_are(tmp_path: Path) -> None:
    mask = np.zeros((3, 20, 24), np.uint8)
    mask[1, 5:9, 6:12], mask[2, 5:7, 6:8] = 2, 7
    volume = np.arange(mask.size, dtype=np.int16).reshape(mask.shape)
    files = [save_nifti(tmp_path / "images/h.nii.gz", volume), save_nifti(tmp_path / "masks/h.nii.gz", mask)]
    found = index(tmp_path, labels={"rv": 1, "lv": [2, 3]}, ignored=[7])
    assert dict(found.schema) == INDEX_SCHEMA
    first = found.row(0, named=True)
    digests = "+".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    assert first["content"] == hashlib.sha256(digests.encode()).hexdigest()
    assert (first["path"], first["mask"], first["label"], first["refused"]) == ("images/h.nii.gz", "masks/h.nii.gz", "lv", None)
    assert (first["slices"], first["height"], first["width"], first["channels"]) == (3, 20, 24, 1)
    assert [first[f"spacing_{axis}_mm"] for axis in ("slice", "row", "column")] == pytest.approx([8, 1.4, 1.3])
    assert json.loads(first["structures"]) == {"2": 24, "7": 4}
    assert MaskFacts(**json.loads(first["mask_facts"])) == MaskFacts(None, {"lv": 1}, {}, {}, [])
    assert first["bytes"] == files[0].stat().st_size
    # The middle slice, in shares of the range of the volume.
    assert first["mean"] == pytest.approx(volume[1].mean() / volume.max(), abs=1e-4)


def test_a_corrected_mask_is_another_case_and_the_same_picture(tmp_path: Path) -> None:
    pairs(tmp_path, 1)
    before = row(tmp_path)
    save_png(tmp_path / "masks/cell0.png", np.roll(square(), 1, 0))
    after = row(tmp_path)
    assert before["content"] != after["content"]
    assert before["pixels"] == after["pixels"]


def test_all_slices_count_for_the_pixels_of_a_volume(tmp_path: Path) -> None:
    volume = np.zeros((3, 16, 16), np.uint8)
    for name, value in (("a", 0), ("b", 0), ("c", 9)):
        volume[0, 0, 0] = value
        save_nifti(tmp_path / f"images/{name}.nii.gz", volume)
        save_nifti(tmp_path / f"masks/{name}.nii.gz", np.ones((3, 16, 16), np.uint8))
    pixels = index(tmp_path)["pixels"]
    assert pixels[0] == pixels[1] != pixels[2]


def test_an_empty_mask_is_a_label_and_no_mask_is_none(tmp_path: Path) -> None:
    pairs(tmp_path, 3)
    save_png(tmp_path / "masks/cell1.png", square() * 0)
    (tmp_path / "masks/cell2.png").unlink()
    found = index(tmp_path)
    assert found["label"].to_list() == ["cell", "", None]
    assert found["structures"][1] == "{}"
    assert found["mask_facts"][2] is None


# --- What cannot be used ---


def test_a_mask_of_another_shape_is_refused_with_both_sizes(tmp_path: Path) -> None:
    pairs(tmp_path, 2)
    save_png(tmp_path / "masks/cell0.png", square().T)
    found = index(tmp_path)
    assert "'masks/cell0.png' has 24 x 32 pixels, and the image 'images/cell0.png' 32 x 24 pixels" in found["refused"][0]
    assert found["refused"][1] is None
    with pytest.raises(ImageError, match="Nothing is resized"):
        read_case(study(tmp_path).data, "images/cell0.png", "masks/cell0.png")


def test_a_volume_and_a_mask_of_fewer_slices(tmp_path: Path) -> None:
    pairs(tmp_path, 1)
    save_nifti(tmp_path / "images/v.nii.gz", np.zeros((4, 16, 20), np.uint8))
    save_nifti(tmp_path / "masks/v.nii.gz", np.zeros((3, 16, 20), np.uint8))
    assert "20 x 16 pixels in 3 slices, and the image 'images/v.nii.gz' 20 x 16 pixels in 4 slices" in index(tmp_path)["refused"][1]


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.full((2, 16, 20), 0.5, np.float32), "the value 0.5, and labels are whole numbers"),
        (np.full((2, 16, 20), -1, np.int16), "the label -1"),
        (np.full((2, 16, 20), np.nan, np.float32), "the value nan"),
    ],
    ids=["float", "negative", "nan"],
)
def test_masks_whose_values_are_no_labels(tmp_path: Path, mask: np.ndarray, words: str) -> None:
    pairs(tmp_path, 1)
    save_nifti(tmp_path / "images/v.nii.gz", np.zeros(mask.shape, np.uint8))
    save_nifti(tmp_path / "masks/v.nii.gz", mask)
    reason = index(tmp_path)["refused"][1]
    assert reason.startswith("the mask 'masks/v.nii.gz' of 'images/v.nii.gz' cannot be used: ")
    assert words in reason


def test_a_mask_of_three_channels_that_differ_is_refused_and_a_grey_one_is_read(tmp_path: Path) -> None:
    pairs(tmp_path, 2)
    save_png(tmp_path / "masks/cell0.png", np.stack([square(), square(2), square(3)], axis=-1))
    save_png(tmp_path / "masks/cell1.png", np.stack([square()] * 3, axis=-1))
    found = index(tmp_path)
    assert "its colours are no labels" in found["refused"][0]
    assert (found["refused"][1], found["label"][1]) == (None, "cell")


def test_whole_numbers_in_a_file_of_floats_are_labels(tmp_path: Path) -> None:
    mask = np.zeros((2, 16, 20), np.float32)
    mask[1, 4:6, 4:6] = 1
    save_nifti(tmp_path / "images/v.nii.gz", np.zeros(mask.shape, np.uint8))
    save_nifti(tmp_path / "masks/v.nii.gz", mask)
    assert row(tmp_path)["structures"] == '{"1": 4}'


def test_an_image_that_cannot_be_read_and_a_mask_that_is_gone(tmp_path: Path) -> None:
    pairs(tmp_path, 3)
    (tmp_path / "images/cell0.png").write_bytes(b"no picture")
    (tmp_path / "masks/cell1.png").write_bytes(b"")
    found = index(tmp_path)
    assert found["refused"].null_count() == 1
    with pytest.raises(ImageError):
        read_case(study(tmp_path).data, "images/cell2.png", "masks/gone.png")


# --- What a mask looks like, with known answers ---


def test_specks_and_pieces(tmp_path: Path) -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[5:35, 5:35] = 1  # 900 pixels
    mask[50, 50] = mask[50, 20] = 1  # two specks
    mask[40:44, 5:9] = 1  # 16 of 900: a piece of its own
    assert facts(tmp_path, mask).islands == {"cell": 2}


def test_pieces_that_touch_at_corners_or_across_slices_are_one(tmp_path: Path) -> None:
    mask = np.zeros((2, 40, 40), np.uint8)
    mask[0, 5:35, 5:35] = 1
    mask[0, 4, 4] = 1
    mask[1, 6, 6] = 1
    assert facts(tmp_path, mask).islands == {}


def test_holes_belong_to_what_is_around_them(tmp_path: Path) -> None:
    mask = np.zeros((3, 30, 30), np.uint8)
    mask[:, 5:25, 5:25] = 1
    mask[:, 10:20, 10:20] = 2  # a cavity in a wall is no hole
    mask[0, 12, 12] = mask[0, 15:17, 15:17] = 0  # two holes in the cavity
    mask[1, 7, 7] = 0  # one in the wall
    mask[2, 5, 5] = 0  # a dent
    found = facts(tmp_path, mask, labels={"wall": 1, "cavity": 2})
    assert found.holes == {"wall": 1, "cavity": 2}
    assert found.slices == {"wall": 3, "cavity": 3}


def test_structures_that_touch_the_frame(tmp_path: Path) -> None:
    mask = np.zeros((3, 20, 20), np.uint8)
    mask[0, 5:8, 5:8] = 1  # the first slice is no frame
    mask[1, 19, 3] = 2
    assert facts(tmp_path, mask, labels={"a": 1, "b": 2}).border == ["b"]


def test_objects_have_their_own_pieces_and_holes(tmp_path: Path) -> None:
    mask = np.zeros((40, 40), np.uint16)
    mask[2:10, 2:10], mask[2:10, 10:18] = 5, 300  # two that touch
    mask[5, 5] = 0
    mask[20:24, 20:24], mask[30:34, 30:34] = 7, 7  # one in two pieces
    found = facts(tmp_path, mask, instances=True)
    assert (found.islands, found.holes, found.border) == ({"cell": 1}, {"cell": 1}, [])
    case = read_case(study(tmp_path, instances=True).data, "images/a.png", "masks/a.png")
    assert case.objects is not None
    assert sorted(np.unique(case.objects)) == [0, 1, 2, 3]
    assert [int(np.unique(case.objects[0][mask == number])[0]) for number in (5, 7, 300)] == [1, 2, 3]
    np.testing.assert_array_equal(case.structures[0], mask > 0)


def test_a_mask_whose_file_says_another_place(tmp_path: Path) -> None:
    for name, shift in (("a", 0.0), ("b", 0.001), ("c", 2.5)):
        save_nifti(tmp_path / f"images/{name}.nii.gz", np.zeros((2, 16, 20), np.uint8))
        save_nifti(tmp_path / f"masks/{name}.nii.gz", np.ones((2, 16, 20), np.uint8), shift=shift)
    moved = [json.loads(text)["moved_mm"] for text in index(tmp_path)["mask_facts"]]
    assert moved == [None, None, pytest.approx(2.5, abs=1e-3)]


# --- Cases ---


def test_a_case_has_the_structures_of_the_study_in_their_order(tmp_path: Path) -> None:
    mask = np.arange(1, 9, dtype=np.uint8)[None, :, None].repeat(2, 0).repeat(16, 2)
    save_nifti(tmp_path / "images/v.nii.gz", np.zeros(mask.shape, np.uint8))
    save_nifti(tmp_path / "masks/v.nii.gz", mask)
    data = study(tmp_path, labels={"b": [3, 4], "a": 1}, ignored=[7]).data
    case = read_case(data, "images/v.nii.gz", "masks/v.nii.gz")
    assert case.structures.dtype == np.uint8
    assert case.structures[0, :, 0].tolist() == [2, 0, 1, 1, 0, 0, 0, 0]
    assert case.objects is None
    without = read_case(data, "images/v.nii.gz", None)
    assert without.structures.shape == mask.shape
    assert not without.structures.any()


def test_numbers_beyond_16_bits_are_objects_and_no_structure(tmp_path: Path) -> None:
    mask = np.zeros((2, 16, 20), np.uint32)
    mask[0, 4:6, 4:6], mask[1, 4, 4] = 100_001, 1
    save_nifti(tmp_path / "images/v.nii.gz", np.zeros(mask.shape, np.uint8))
    save_nifti(tmp_path / "masks/v.nii.gz", mask)
    case = read_case(study(tmp_path).data, "images/v.nii.gz", "masks/v.nii.gz")
    assert case.structures.sum() == 1
    objects = read_case(study(tmp_path, instances=True, ignored=[1]).data, "images/v.nii.gz", "masks/v.nii.gz")
    assert (objects.structures.sum(), objects.objects is not None and objects.objects.max()) == (4, 1)


def test_the_slice_that_is_shown_has_most_of_the_structures(tmp_path: Path) -> None:
    mask = np.zeros((5, 16, 16), np.uint8)
    mask[3, 4:9, 4:9] = 1
    volume = np.zeros(mask.shape, np.int16)
    volume[3], volume[4] = 500, 1000
    save_nifti(tmp_path / "images/v.nii.gz", volume)
    save_nifti(tmp_path / "masks/v.nii.gz", mask)
    data = study(tmp_path).data
    assert telling_slice(read_case(data, "images/v.nii.gz", "masks/v.nii.gz")) == 3
    assert telling_slice(read_case(data, "images/v.nii.gz", None)) == 2
    pixels = read_row_pixels(data, index(tmp_path), 0).pixels
    assert np.unique(pixels).tolist() == [32768]  # half of the range of the volume


# --- On the road ---


def patients(folder: Path, count: int = 12) -> None:
    for number in range(count):
        for frame in (1, 9):
            name = folder / f"patient{number:03}/patient{number:03}_frame{frame:02}"
            save_nifti(
                name.with_name(name.name + ".nii.gz"), np.random.default_rng(100 * number + frame).integers(0, 99, (2, 16, 16), np.uint8)
            )
            mask = np.zeros((2, 16, 16), np.uint8)
            mask[0, 4:8, 4:8] = 1
            mask[1, 4:8, 4:8] = 1 + number % 2
            save_nifti(name.with_name(name.name + "_gt.nii.gz"), mask)


def test_both_phases_of_a_patient_are_in_one_part_and_structures_have_their_shares(tmp_path: Path) -> None:
    patients(tmp_path)
    asked = study(tmp_path, layout="acdc", labels={"lv": 1, "rv": 2}, split={"train": 0.5, "validation": 0.25, "test": 0.25})
    found = index_folder(asked.data, workers=1)
    split = split_dataset(found, inspect_dataset(found, asked), asked)
    assert split.group_by("group").agg(pl.col("part").n_unique())["part"].to_list() == [1] * 12
    assert split["part"].value_counts().sort("part").rows() == [("test", 6), ("train", 12), ("validation", 6)]
    with_rv = split.filter(pl.col("label").str.contains("rv"))["part"].value_counts()
    assert dict(with_rv.iter_rows())["train"] == 6


def test_images_that_all_show_the_same_can_be_split_and_those_without_a_mask_take_no_part(tmp_path: Path) -> None:
    pairs(tmp_path, 10)
    (tmp_path / "masks/cell3.png").unlink()
    asked = study(tmp_path)
    found = index_folder(asked.data, workers=1)
    split = split_dataset(found, inspect_dataset(found, asked), asked)
    assert split["reason"].to_list() == [None, None, None, "has no mask", *[None] * 6]
    assert set(split["part"]) == {"train", "validation", "test", "left_out"}


def test_no_masks_at_all_cannot_be_split(tmp_path: Path) -> None:
    pairs(tmp_path, 4)
    asked = study(tmp_path)
    found = index_folder(asked.data, workers=1).with_columns(label=pl.lit(None, pl.String()))
    with pytest.raises(DataError, match="has a mask"):
        split_dataset(found, inspect_dataset(found, asked), asked)


@pytest.mark.real
@pytest.mark.slow
@needs_real("cardiac_acdc")
def test_the_forty_patients_are_divided_by_patient() -> None:
    values = {"layout": "acdc", "labels": {"rv": 1, "myocardium": 2, "lv": 3}}
    asked = study(REAL / "cardiac_acdc", **values, split={"train": 0.7, "validation": 0.1, "test": 0.2})
    found = index_folder(asked.data)
    findings = inspect_dataset(found, asked)
    assert {finding.code for finding in findings.findings if finding.level != "pass"} == {"mask_holes", "mask_islands", "spacing_round"}
    split = split_dataset(found, findings, asked)
    assert split["part"].value_counts().sort("part").rows() == [("test", 16), ("train", 56), ("validation", 8)]
    assert split.group_by("group").agg(pl.col("part").n_unique())["part"].unique().to_list() == [1]
    in_folds = split_dataset(
        found, findings, study(REAL / "cardiac_acdc", **values, split={"train": 0.8, "validation": 0, "test": 0.2, "folds": 5})
    )
    train = in_folds.filter(pl.col("part") == "train")
    assert train.group_by("group").agg(pl.col("fold").n_unique())["fold"].unique().to_list() == [1]
    assert sorted(train["fold"].value_counts()["count"]) == [12, 12, 12, 14, 14]


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_a_few_bright_voxels_leave_the_others_as_bright_as_they_were(kind: type) -> None:
    voxels = np.random.default_rng(0).integers(100, 200, (4, 64, 64)).astype(kind)
    plain = Volume(voxels.copy(), np.eye(4), (1.0, 1.0, 1.0), FACTS)
    voxels[0, :4, :4] = 60_000
    if kind is np.float32:
        voxels[1, 0, :4] = np.nan
    shown = slice_image(Volume(voxels, np.eye(4), (1.0, 1.0, 1.0), FACTS), 2).pixels
    assert abs(shown.mean() / slice_image(plain, 2).pixels.mean() - 1) < 0.02
    assert slice_image(Volume(voxels, np.eye(4), (1.0, 1.0, 1.0), FACTS), 0).pixels[0, 0] == 65535


def test_what_is_bright_alone_is_seen_and_no_number_is_black() -> None:
    voxels = np.zeros((1, 64, 64), np.float32)
    voxels[0, 5, 5] = 7
    assert slice_image(Volume(voxels, np.eye(4), (1.0, 1.0, 1.0), FACTS), 0).pixels[5, 5] == 65535
    voxels[:] = np.nan
    assert not slice_image(Volume(voxels, np.eye(4), (1.0, 1.0, 1.0), FACTS), 0).pixels.any()
