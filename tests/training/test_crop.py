"""Images cut to their content: what the network sees, and masks back on the voxels of the whole image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geometries import affines, saved
from masked import study
from planted_masks import finish, mean_dice, plant_masks, untrained
from tabib.dataset import MaskFacts, build_cases, index_folder, inspect_dataset
from tabib.images import read_mask, read_volume
from tabib.prediction import Segmenter, segment_paths

SEES_CONTENT = untrained(dimensions=3, patch=[8, 8, 8], crop="content", spacing_mm=[2.0, 2.0, 2.0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("framed")


@settings(max_examples=12, deadline=None)
@given(
    affine=affines(),
    sides=st.tuples(*[st.integers(2, 9)] * 3),
    before=st.tuples(*[st.integers(0, 3)] * 3),
    after=st.tuples(*[st.integers(0, 3)] * 3),
    background=st.sampled_from([0, -1024]),
)
def test_a_frame_changes_nothing_inside_and_is_background(
    folder: Path,
    affine: np.ndarray,
    sides: tuple[int, int, int],
    before: tuple[int, int, int],
    after: tuple[int, int, int],
    background: int,
) -> None:
    inner = np.random.default_rng(sum(sides)).integers(100, 900, sides).astype(np.int16)
    framed = np.pad(inner, [(1 + first, 1 + last) for first, last in zip(before, after, strict=True)], constant_values=background)
    moved = affine.copy()
    moved[:3, 3] -= affine[:3, :3] @ (np.array(before) + 1)
    torch.set_num_threads(1)
    answers, masks = [], []
    for name, voxels, place in (("inner", inner, affine), ("framed", framed, moved)):
        (folder / name).mkdir(exist_ok=True)
        file = saved(folder / name, voxels, place)
        for old in (folder / name / "out").glob("*"):
            old.unlink()
        answers.append(SEES_CONTENT.probabilities(read_volume(file)))
        table = segment_paths(SEES_CONTENT, [file], folder / name / "out")
        written = nibabel.load(table["mask"][0])
        assert np.array_equal(written.affine, nibabel.load(file).affine)  # pyright: ignore[reportAttributeAccessIssue]
        masks.append(np.asarray(written.dataobj))  # pyright: ignore[reportAttributeAccessIssue]
    box = tuple(slice(1 + first, 1 + first + side) for first, side in zip(before, sides, strict=True))
    assert np.array_equal(masks[1][box], masks[0])
    assert masks[0].shape == sides
    assert not np.pad(np.zeros(sides), [(1 + a, 1 + b) for a, b in zip(before, after, strict=True)], constant_values=1)[masks[1] > 0].any()
    assert answers[1].sum(0) == pytest.approx(np.ones(answers[1].shape[1:]), abs=1e-5)


def framed(folder: Path, wide: Callable[[int], list[tuple[int, int]]]) -> Path:
    """Images and masks of a folder with zeros around them, of another width for each; gives the new folder."""
    for number, file in enumerate(sorted((folder / "volumes").glob("*/*.nii.gz"))):
        image = nibabel.load(file)
        voxels = np.asarray(image.dataobj)  # pyright: ignore[reportAttributeAccessIssue]
        pads = wide(number % 10)
        place = image.affine.copy()  # pyright: ignore[reportAttributeAccessIssue]
        place[:3, 3] -= place[:3, :3] @ [first for first, _ in pads]
        saved(file.parent, np.pad(voxels, pads), place, name=file.name)
    return folder


def test_training_sees_content_and_statistics_are_those_of_it(tmp_path: Path) -> None:
    shape = {"crop": "content", "spacing_mm": [3, 3]}
    plain = plant_masks(tmp_path / "plain", volumes=True, input=shape)
    plant_masks(tmp_path / "framed", volumes=True)
    framed(tmp_path / "framed", lambda number: [(1 + number, 3), (2, 1 + number), (1, 2)])
    wide = plant_masks(tmp_path / "framed", volumes=True, input=shape)
    assert plain.study.input == wide.study.input, "the patch is that of the content"
    one, other = (build_cases(each.study.data, each.index, each.study.input, folder=each.cache_folder) for each in (plain, wide))
    for row in one.rows:
        assert np.array_equal(one.image(row), other.image(row))
        assert np.array_equal(one.mask(row), other.mask(row))
    assert (wide.index["width"] > wide.index["content_width"]).all()
    wide = plant_masks(tmp_path / "framed", volumes=True, input=shape | {"patch": [32, 32]}, training={"epochs": 4, "patches": 48})
    model, predictions = finish(wide, tmp_path)
    assert model.crop == "content"
    assert mean_dice(wide, predictions, tmp_path, "test") > 0.5
    for row, mask in predictions.select("row", "mask").iter_rows():
        source = read_volume(wide.study.data.folder / wide.index["path"][row])
        written = read_mask(tmp_path / mask)
        assert written.voxels.shape == source.voxels.shape
        assert not written.voxels[source.voxels == 0].any()
    again = Segmenter.load(tmp_path / "model", device="cpu").segment(source)
    assert np.array_equal(again, written.voxels)


def test_a_structure_beyond_the_content_is_said(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for part in ("images", "masks"):
            (tmp_path / part).mkdir(exist_ok=True)
        image, mask = np.zeros((12, 12, 4), np.int16), np.zeros((12, 12, 4), np.uint8)
        image[2:10, 2:10, 1:3] = 5
        mask[4:6, 4 if name == "a" else 1 : 6, 1] = 1
        saved(tmp_path / "images", image, np.eye(4), name=f"{name}.nii.gz")
        saved(tmp_path / "masks", mask, np.eye(4), name=f"{name}.nii.gz")
    asked = study(tmp_path)
    index = index_folder(asked.data, workers=1)
    assert [MaskFacts(**json.loads(text)).beyond for text in index["mask_facts"]] == [[], ["cell"]]
    assert index.select("content_slices", "content_height", "content_width").rows() == [(2, 8, 8)] * 2
    cropped = asked.model_copy(update={"input": asked.input.model_copy(update={"crop": "content"})})
    found = {each.code: each for each in inspect_dataset(index, cropped).findings}
    assert (found["masks_beyond_content"].rows, found["masks_beyond_content"].figures["by_structure"]) == ([1], {"cell": [1]})
    assert "masks_beyond_content" not in {each.code for each in inspect_dataset(index, asked).findings}
