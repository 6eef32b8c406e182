"""Segmenters learn what was planted, come back to the bit, and are judged as they are served."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from planted_masks import PlantedMasks, finish, mean_dice, plant_masks, train
from tabib.dataset import build_cases, read_case
from tabib.errors import StudyError
from tabib.images import read_mask, read_volume
from tabib.metrics.disagreement import disagreement
from tabib.prediction import Segmenter, segment_paths
from tabib.records import SegmentationModel
from tabib.runs import save
from tabib.training import check_segmentation, loop, mask_work
from tabib.training.segment import build_for


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


def test_learns_what_was_planted_in_pictures(pictures: Path, tmp_path: Path) -> None:
    planted = plant_masks(pictures, training={"epochs": 8, "patches": 48})
    model, predictions = finish(planted, tmp_path)
    assert mean_dice(planted, predictions, tmp_path, "test") > 0.85
    assert len(list((tmp_path / "model" / "augmented").glob("*.png"))) == 20, "four patches, and each as training changed it"
    assert (model.structures, model.numbers, model.patch, model.spacing_mm) == (["disc", "square"], [1, 2], [64, 64], None)
    history = [json.loads(line) for line in (tmp_path / "model/members/seed0/history.jsonl").read_text().splitlines()]
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
    assert model.members[0].best_value == max(line["validation_dice"] for line in history)
    assert set(predictions["part"]) == {"validation", "test"}
    kept = model.members[0]
    assert kept.train_images == planted.split["part"].to_list().count("validation")
    assert {"loss", "dice", "spread", "dice_disc", "dice_square"} == set(kept.train)
    assert 0.85 < kept.train["dice"] <= 1
    assert 0.8 < kept.train["spread"] < 1.2


@pytest.mark.parametrize("dimensions", [2, 3])
def test_learns_what_was_planted_in_volumes(pictures: Path, tmp_path: Path, dimensions: int) -> None:
    shape = {"dimensions": dimensions, "spacing_mm": [6, 3, 3][3 - dimensions :], "patch": [8, 32, 32][3 - dimensions :]}
    planted = plant_masks(pictures, volumes=True, input=shape, training={"epochs": 8, "patches": 48})
    model, predictions = finish(planted, tmp_path)
    assert len(model.patch) == dimensions
    assert mean_dice(planted, predictions, tmp_path, "test") > 0.7
    first = predictions.row(0, named=True)
    assert read_mask(tmp_path / first["mask"]).voxels.shape == (5, 48, 48)
    assert np.allclose(read_mask(tmp_path / first["mask"]).affine, read_case(planted.study.data, first["path"], None).image.affine)


def test_every_network_trains(pictures: Path, tmp_path: Path) -> None:
    for network in ("unet", "attention_unet", "vnet", "dynunet", "segresnet"):
        filters = {"segresnet": [8], "vnet": "auto", "dynunet": [4, 8, 16]}.get(network, [8, 16])
        planted = plant_masks(pictures, model={"network": network, "filters": filters}, training={"epochs": 1, "patches": 8})
        model = train(planted, tmp_path / network)
        assert model.network == network
        assert np.isfinite(model.members[0].best_value)


def test_folds_answer_what_they_were_not_trained_on(pictures: Path, tmp_path: Path) -> None:
    planted = plant_masks(pictures, split={"folds": 2, "test": 0.2}, training={"epochs": 1, "patches": 8})
    model, predictions = finish(planted, tmp_path)
    assert [member.name for member in model.members] == ["fold0", "fold1"]
    assert sorted(predictions.filter(pl.col("part") == "validation")["row"]) == sorted(
        planted.split.filter(pl.col("part") == "train")["row"]
    )


def test_what_is_served_is_what_was_judged(pictures: Path, tmp_path: Path) -> None:
    planted = plant_masks(pictures, training={"epochs": 2})
    _, predictions = finish(planted, tmp_path)
    segmenter = Segmenter.load(tmp_path / "model", device="cpu")
    for path, mask in predictions.select("path", "mask").head(3).iter_rows():
        torch.set_num_threads(1)
        again = segmenter.segment(read_case(planted.study.data, path, None).image)
        assert np.array_equal(again, read_mask(tmp_path / mask).voxels)


@pytest.mark.parametrize("volumes", [False, True])
def test_probabilities_are_kept_on_wish_where_the_image_lies(pictures: Path, tmp_path: Path, volumes: bool) -> None:
    planted = plant_masks(pictures, volumes=volumes, training={"epochs": 1, "patches": 8})
    _, predictions = finish(planted, tmp_path)
    segmenter = Segmenter.load(tmp_path / "model", device="cpu")
    kept = predictions.filter(pl.col("part") == "test")
    assert sorted(file.name for file in (tmp_path / "entropy").iterdir()) == sorted(Path(name).name for name in kept["mask"])
    path = planted.study.data.folder / kept["path"][0]
    segment_paths(segmenter, [path], tmp_path / "without")
    assert len(list((tmp_path / "without").iterdir())) == 1
    segment_paths(segmenter, [path], tmp_path / "with", probabilities=True)
    stem = path.name.split(".")[0]
    end, scale = ("nii.gz", 1) if volumes else ("png", 65535)
    wanted = segmenter.probabilities(read_volume(path))
    for number, name in enumerate(("disc", "square"), start=1):
        stored = read_volume(tmp_path / "with" / f"{stem}_probability_{name}.{end}")
        assert np.allclose(stored.voxels / scale, wanted[number], atol=1e-5)
        if volumes:
            assert np.array_equal(stored.affine, read_volume(path).affine)
            assert stored.voxels.dtype == np.float32
    unsure = read_volume(tmp_path / "with" / f"{stem}_entropy.{end}").voxels / scale
    assert np.allclose(unsure, -(wanted * np.log(wanted)).sum(0) / np.log(3), atol=1e-4)
    in_run = read_mask(tmp_path / "entropy" / Path(kept["mask"][0]).name)
    assert np.abs(in_run.voxels / 255 - unsure).max() < 1 / 255


def test_how_far_the_answers_differ_is_said_where_there_are_several(pictures: Path, tmp_path: Path) -> None:
    short = {"epochs": 1, "patches": 8}
    planted = plant_masks(pictures, training=short | {"seeds": [1, 2, 3]})
    _, predictions = finish(planted, tmp_path / "seeds")
    segmenter = Segmenter.load(tmp_path / "seeds" / "model", device="cpu")
    said = predictions.row(-1, named=True)
    image = read_case(planted.study.data, said["path"], None).image
    alone = [replace(segmenter, networks=[network]) for network in segmenter.networks]
    masks = [each.probabilities(image).argmax(0) for each in alone]  # pictures are predicted on their own grid
    assert np.isclose(said["disagreement"], disagreement(masks, 2))
    assert 0 < said["disagreement"] <= 1
    assert alone[0].answer(image).disagreement is None
    table = segment_paths(segmenter, [planted.study.data.folder / said["path"]], tmp_path / "new")
    assert table["disagreement"].to_list() == [said["disagreement"]]

    mirrored = replace(alone[0], decision=segmenter.decision.model_copy(update={"flips": True})).answer(image)
    assert mirrored.disagreement is not None
    views = [np.s_[:], np.s_[:, :, ::-1], np.s_[:, ::-1], np.s_[:, ::-1, ::-1]]
    each = [alone[0].probabilities(replace(image, voxels=image.voxels[view])) for view in views]
    turned = [answer[:, *(view if isinstance(view, tuple) else (view,))] for answer, view in zip(each, views, strict=True)]
    assert np.allclose(mirrored.probabilities, np.mean(turned, axis=0), atol=1e-5)
    assert np.isclose(mirrored.disagreement, disagreement([answer.argmax(0) for answer in turned], 2), atol=1e-3)


class Killed(Exception):
    pass


@pytest.mark.parametrize("when", [1, 2])
def test_killed_and_continued_is_the_same_to_the_bit(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int) -> None:
    planted = plant_masks(pictures, training={"epochs": 3, "patches": 8})
    whole = train(planted, tmp_path / "whole")
    monkeypatch.setattr(loop, "_KILLED_EVERY", 0.0)
    write, written = loop.write_checkpoint, []

    def die(*given: Any, **named: Any) -> None:
        write(*given, **named)
        written.append(1)
        if len(written) == when:
            raise Killed

    monkeypatch.setattr(loop, "write_checkpoint", die)
    with pytest.raises(Killed):
        train(planted, tmp_path / "killed")
    monkeypatch.setattr(loop, "write_checkpoint", write)
    continued = train(planted, tmp_path / "killed")
    assert continued.members[0].weights_sha256 == whole.members[0].weights_sha256


def test_the_doctor_looks_and_reckons(pictures: Path) -> None:
    planted = plant_masks(pictures)
    checks = check_segmentation(planted.index, planted.split, planted.study, cache_folder=planted.cache_folder)
    assert [check.code for check in checks.checks] == ["input_right", "initial_loss_right", "layers_right", "budget_estimate"]
    assert checks.initial_loss == pytest.approx(checks.expected_initial_loss, rel=0.05)
    assert checks.predicted_seconds > 0
    high = planted.study.model_copy(update={"training": planted.study.training.model_copy(update={"learning_rate": 0.1})})
    checks = check_segmentation(planted.index, planted.split, high, cache_folder=planted.cache_folder)
    codes = [check.code for check in checks.checks if check.level != "pass"]
    assert codes == ["adam_rate_high"]


def test_weights_of_another_run_are_taken_whole(pictures: Path, tmp_path: Path) -> None:
    planted = plant_masks(pictures, training={"epochs": 1, "patches": 8})
    run = tmp_path / "planted" / "0123456789ab"
    model = train(planted, run)
    save(run / "model" / "model.json", model)
    again = plant_masks(pictures, model={"weights": f"run:{run}"}, training={"epochs": 1, "patches": 8})
    network, _ = build_for(again.study, seed=3, device=torch.device("cpu"))
    fresh, _ = build_for(planted.study, seed=3, device=torch.device("cpu"))
    assert network.weights_source == f"run planted/{run.name}, seed0 (unet)"
    assert not torch.equal(network.head.weight, fresh.head.weight)
    frozen = plant_masks(pictures, model={"weights": f"run:{run}", "freeze": "encoder"}, training={"epochs": 1, "patches": 8})
    before, _ = build_for(frozen.study, seed=0, device=torch.device("cpu"))
    trained = train(frozen, tmp_path / "frozen")
    assert trained.weights_trainable < trained.weights_total
    after = weights_of(tmp_path / "frozen", trained)
    down = [name for name in before.state_dict() if name.startswith("features.down.") and "num_batches" not in name]
    assert all(torch.equal(before.state_dict()[name], after[name]) for name in down)
    assert not torch.equal(before.state_dict()["head.weight"], after["head.weight"])


def weights_of(folder: Path, model: SegmentationModel) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "members" / model.members[0].name / "weights.safetensors")


def test_a_patch_that_cannot_be_halved_so_often_is_refused(pictures: Path, tmp_path: Path) -> None:
    planted = plant_masks(pictures)
    study = planted.study.model_copy(update={"input": planted.study.input.model_copy(update={"patch": [50, 50]})})
    deep = study.model_copy(update={"model": study.model.model_copy(update={"filters": [4, 8, 16, 32]})})
    with pytest.raises(StudyError, match="multiples of 8"):
        train(PlantedMasks(deep, planted.index, planted.split), tmp_path)


def test_blocks_are_never_trained_in_bf16_on_a_processor(pictures: Path) -> None:
    shape = {"dimensions": 3, "patch": [8, 32, 32]}
    planted = plant_masks(pictures, volumes=True, input=shape, training={"precision": "auto"})
    assert planted.study.training.precision == "fp32"
    with pytest.raises(StudyError, match="destroy memory"):
        plant_masks(pictures, volumes=True, input=shape, training={"precision": "bf16"})


def test_masks_that_are_alike_everywhere_are_said(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is called a disc with three fifths: a Dice far above nothing, and nothing learnt."""

    def alike(network: object, image: torch.Tensor, *, patch: object) -> torch.Tensor:
        return torch.tensor([0.3, 0.6, 0.1]).reshape(3, 1, 1, 1).expand(3, *image.shape[1:])

    planted = plant_masks(pictures, training={"epochs": 5, "patches": 4})
    assert [remark.code for remark in train(planted, tmp_path / "learns").remarks if remark.code == "constant_masks"] == []
    monkeypatch.setattr(mask_work, "segment", alike)
    (remark,) = [
        remark for remark in train(planted, tmp_path / "alike").remarks if remark.code in ("constant_masks", "structure_not_learnt")
    ]
    assert (remark.code, remark.figures["epoch"], remark.figures["member"]) == ("constant_masks", 5, "seed0")
    assert remark.figures["spread"] == pytest.approx(0, abs=1e-3)


def test_how_far_answers_differ_is_a_part_of_how_far_the_truth_does() -> None:
    truth = np.array([[0, 0, 0, 1], [0, 0, 0, 0]])
    for said, spread in ((truth, 1), (truth / 2 + 0.1, 0.5), (np.full((2, 4), 0.7), 0)):
        assert mask_work._spread(said.mean(1), (said**2).mean(1), truth.mean(1)) == pytest.approx(spread, abs=1e-6)
    assert mask_work._spread(truth.mean(1), truth.mean(1), np.array([0.0, 1.0])) is None, "a structure that is nowhere says nothing"


def test_cases_are_decoded_once(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = plant_masks(pictures)
    first = build_cases(planted.study.data, planted.index, planted.study.input, folder=planted.cache_folder)
    monkeypatch.setattr("tabib.dataset.cases.map_in_processes", None)
    again = build_cases(planted.study.data, planted.index, planted.study.input, folder=planted.cache_folder)
    assert first.key == again.key
    row = int(planted.index["row"][3])
    case = read_case(planted.study.data, planted.index["path"][3], planted.index["mask"][3])
    assert np.array_equal(again.mask(row), case.structures)
    assert again.image(row).shape == (1, 1, 48, 48)
    assert abs(float(again.image(row).astype(np.float32).mean())) < 1e-2


def test_specks_are_no_objects_and_none_is_the_largest_part_of_all(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tabib.training.segment_calibrate._better", lambda *_: True)
    planted = plant_masks(pictures, data={"labels": {"thing": 1}, "instances": True}, training={"epochs": 1, "patches": 8})
    model, _ = finish(planted, tmp_path)
    segmenter = Segmenter.load(tmp_path / "model", device="cpu")
    assert model.instances
    assert (segmenter.decision.largest_component, segmenter.decision.fill_holes) == ([], ["thing"])
    assert segmenter.decision.smallest_object == 49  # half of the square, which is the smaller of the two
    mask = np.zeros((1, 40, 40), np.uint8)
    mask[0, 2:5, 2:5], mask[0, 10:20, 10:20] = 1, 1
    assert sorted(np.unique(segmenter.objects(mask))) == [0, 1]
    assert (segmenter.objects(mask) > 0).sum() == 100
