"""Images whose channels are files of their own, from the folder to the masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from masked import save_nifti, save_png, study
from planted_masks import PlantedMasks, finish, mean_dice, plant_masks, write_channels
from tabib.config import SegmentationAugment, SegmentationModel
from tabib.dataset import Grid, build_cases, index_folder, prepare, read_case, read_row_pixels
from tabib.errors import ImageError, StudyError
from tabib.images import read_channels, read_file, read_mask, read_volume
from tabib.prediction import Segmenter, segment_paths
from tabib.training.augment import apply_with_masks
from tabib.training.draws import draw
from tabib.training.patches import Drawn, load_patches
from tabib.training.segmenters import Form, build_segmenter

RAW = {"layout": "nnunet"}
IMAGE = "imagesTr/p00_{0000,0001}.nii.gz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("channels")
    write_channels(folder / "pictures")
    return folder


@pytest.fixture(scope="module")
def planted(folder: Path) -> PlantedMasks:
    return plant_masks(folder, data=RAW, input={"patch": [32, 32]}, training={"epochs": 4, "patches": 40})


def test_a_row_of_the_index_is_an_image_with_all_its_channels(planted: PlantedMasks) -> None:
    good = planted.index.filter(pl.col("refused").is_null())
    first = good.row(0, named=True)
    assert (first["path"], first["channels"], first["colour"]) == (IMAGE, 2, False)
    assert good["pixels"].n_unique() == len(good) == 10
    folder = planted.study.data.folder
    files = [folder / f"imagesTr/p00_000{number}.nii.gz" for number in range(2)]
    image = read_case(planted.study.data, first["path"], None).image
    assert image.separate
    for channel, file in enumerate(files):
        assert np.array_equal(image.voxels[..., channel], read_volume(file).voxels)
    assert first["bytes"] == sum(len(read_file(file)) for file in files)
    shown = read_row_pixels(planted.study.data, planted.index, first["row"])
    assert shown.pixels.ndim == 2, "pages show the first channel"
    assert planted.study.input.channels == ["T1", "FLAIR"]


def test_each_channel_is_scaled_by_itself(planted: PlantedMasks) -> None:
    image = read_case(planted.study.data, IMAGE, None).image
    for intensity in ("zscore", "percentile"):
        grid = Grid(2, None, 2, intensity, None, separate=True)
        both = prepare(image, grid)
        for channel, name in enumerate(("0000", "0001")):
            alone = prepare(read_volume(planted.study.data.folder / f"imagesTr/p00_{name}.nii.gz"), Grid(2, None, 1, intensity, None))
            assert np.array_equal(both[channel], alone[0])


def test_values_of_channels_change_each_in_its_own_way_and_places_together(planted: PlantedMasks) -> None:
    cases = build_cases(planted.study.data, planted.index, planted.study.input, folder=planted.cache_folder)
    twice = planted.index.filter(pl.col("refused").is_null()).select("row", "content").head(2)
    told = {"structures": 2, "patch": [32, 32], "device": torch.device("cpu")}
    keys = np.array([3, 4], np.uint64)
    images = torch.rand(2, 1, 1, 40, 40).repeat(1, 2, 1, 1, 1)
    for augment, alike in (
        (SegmentationAugment(rotation_degrees=45, contrast=0, brightness=0), True),
        (SegmentationAugment(gamma=0.5), False),
    ):
        patches = load_patches(cases, twice, **told)
        drawn = Drawn(keys, [0, 1], images.numpy(), np.zeros((2, 1, 40, 40), np.uint8))
        moved, _ = patches.change(drawn, augment, seed=0, epoch=1)
        assert torch.equal(moved[:, 0], moved[:, 1]) == alike
    one, _ = apply_with_masks(images, torch.zeros(2, 1, 40, 40), draw(augment, seed=0, epoch=1, content=keys), augment, size=(1, 32, 32))
    assert torch.equal(one[:, 0], one[:, 1]), "colours of one picture change together"


def test_learns_from_both_channels_and_serves_what_it_judged(planted: PlantedMasks, tmp_path: Path) -> None:
    model, predictions = finish(planted, tmp_path)
    assert (model.channels, model.channel_names) == (2, ["T1", "FLAIR"])
    assert mean_dice(planted, predictions, tmp_path, "test") > 0.7
    segmenter = Segmenter.load(tmp_path / "model", device="cpu")
    found = segment_paths(segmenter, [planted.study.data.folder / "imagesTr"], tmp_path / "out")
    assert found["refused"].null_count() == len(found) == 10
    assert (tmp_path / "out/p00_mask.nii.gz").exists()
    for row, mask in predictions.select("row", "mask").head(3).iter_rows():
        judged = read_mask(tmp_path / mask)
        source = read_case(planted.study.data, planted.index["path"][row], None).image
        assert np.array_equal(judged.affine, source.affine)
        name = planted.index["path"][row][len("imagesTr/") :].partition("_")[0]
        assert np.array_equal(judged.voxels, read_mask(tmp_path / f"out/{name}_mask.nii.gz").voxels)
    alone = segment_paths(segmenter, [planted.study.data.folder / "imagesTr/p00_0001.nii.gz"], tmp_path / "alone")
    assert "has 1 of the 2 channels (T1, FLAIR)" in alone["refused"][0]
    with pytest.raises(ImageError, match="is an image of one file, and the network sees images of 2 channels"):
        segmenter.answer(read_volume(planted.study.data.folder / "imagesTr/p00_0000.nii.gz"))


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"voxels": np.zeros((3, 20, 25), np.int16)}, "'a_0001.nii.gz' has 25 x 20 pixels in 3 slices, and 'a_0000.nii.gz' 24 x 20"),
        ({"voxels": np.zeros((3, 20, 24), np.int16), "spacing": (8.0, 1.5, 1.3)}, "lies elsewhere than 'a_0000.nii.gz', by up to 1.9 mm"),
        ({"voxels": np.zeros((3, 20, 24), np.int16), "shift": 3.0}, "by up to 3 mm"),
    ],
    ids=["shape", "spacing", "place"],
)
def test_channels_that_do_not_lie_on_one_another_are_refused(tmp_path: Path, second: dict[str, object], words: str) -> None:
    for name in ("a", "b"):
        save_nifti(tmp_path / f"imagesTr/{name}_0000.nii.gz", np.zeros((3, 20, 24), np.int16))
        save_nifti(tmp_path / f"labelsTr/{name}.nii.gz", np.ones((3, 20, 24), np.uint8))
    save_nifti(tmp_path / "imagesTr/b_0001.nii.gz", np.ones((3, 20, 24), np.float32))
    save_nifti(tmp_path / "imagesTr/a_0001.nii.gz", **second)  # pyright: ignore[reportArgumentType]
    index = index_folder(study(tmp_path, layout="nnunet").data, workers=1)
    assert words in index["refused"][0]
    assert index["refused"][1] is None


def test_a_channel_in_colour_is_refused_and_grey_saved_in_colour_is_grey(tmp_path: Path) -> None:
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    files = [save_png(tmp_path / "a_0000.png", grey), save_png(tmp_path / "a_0001.png", np.stack([grey] * 3, axis=2))]
    assert read_channels(files).voxels.shape == (1, 6, 8, 2)
    save_png(files[1], np.stack([grey, grey, grey // 2], axis=2))
    with pytest.raises(ImageError, match=r"'a_0001\.png' is in colour"):
        read_channels(files)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"input": {"channels": 1}}, "2 channels with files of their own \\(T1, FLAIR\\)"),
        ({"input": {"channels": ["a", "b", "c"]}}, "2 channels with files of their own"),
        ({"augment": {"hue_degrees": 10}}, "the channels of the images are no colours"),
    ],
    ids=["number", "names", "colour"],
)
def test_what_is_asked_of_channels_must_be_there(folder: Path, part: dict[str, dict[str, object]], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        plant_masks(folder, data=RAW, **part)


def test_channels_may_be_named_and_pictures_have_none(folder: Path, tmp_path: Path) -> None:
    assert plant_masks(folder, data=RAW, input={"channels": ["a", "b"]}).study.input.channel_names == ["a", "b"]
    with pytest.raises(StudyError, match="the images have no channels with files of their own"):
        plant_masks(tmp_path, input={"channels": ["a", "b"]})


def test_vnet_says_how_many_channels_it_can_have() -> None:
    model = SegmentationModel(network="vnet")
    build_segmenter(model, Form(2, 3, (32, 32), None))
    with pytest.raises(StudyError, match="The images have 3 channels"):
        build_segmenter(model, Form(3, 3, (32, 32), None))
