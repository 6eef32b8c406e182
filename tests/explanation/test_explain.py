from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from listens import Listens
from planted import Planted, plant, train_planted
from tabib.config import Explain
from tabib.errors import StudyError
from tabib.evaluation import evaluate
from tabib.explanation import explain, explain_paths
from tabib.explanation.sanity import MapCheck
from tabib.images import read_image
from tabib.prediction import Predictor, predict_index, predict_paths
from tabib.records import Decision, Evaluation, Explanations, Finding, Likeness, Model
from tabib.runs import save
from tabib.training import calibrate
from tabib.training.classify import build, class_names
from tabib.training.inference import pool

HOME = importlib.import_module("tabib.explanation.explain")
"""The module: the room gives the function under the same name."""


@dataclass(frozen=True)
class Judged:
    planted: Planted
    model: Model
    decision: Decision
    predictions: pl.DataFrame
    evaluation: Evaluation
    run: Path

    def explain(self, *, split: pl.DataFrame | None = None, progress: Any = None, **settings: Any) -> Explanations:
        split = self.planted.split if split is None else split
        given = (self.model, self.decision, self.planted.index, split, self.predictions, self.evaluation, self.planted.study)
        heard = progress or Listens()
        return explain(*given, Explain(**settings), place=self.run / "model", cache_folder=self.planted.cache_folder, progress=heard)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """Two members, trained too shortly to be always right."""
    folder = tmp_path_factory.mktemp("planted")
    planted, run = plant(folder, training={"epochs": 2, "seeds": [0, 1]}, evaluate={"draws": 200}), folder / "run"
    model = train_planted(planted, run)
    here: dict[str, Any] = {"place": run / "model", "cache_folder": planted.cache_folder}
    decision = calibrate(model, planted.index, planted.split, planted.study, **here)
    save(run / "model/model.json", model)
    save(run / "model/decision.json", decision)
    predictions = predict_index(model, decision, planted.index, planted.split, planted.study, **here)
    evaluation = evaluate(predictions, planted.index, planted.split, planted.study, threshold=decision.threshold)
    return Judged(planted, model, decision, predictions, evaluation, run)


def test_mistakes_come_first_then_the_worst_then_right_ones(judged: Judged) -> None:
    test = judged.predictions.filter(pl.col("part") == "test")
    wrong = test.filter(pl.col("predicted") != pl.col("label"))["row"].to_list()
    found = judged.explain(images=6, occlusion=False, neighbours=0)
    assert len(found.images) == min(6, len(test)) > 3
    assert [each.chosen for each in found.images][: min(2, len(wrong))] == ["mistake"] * min(2, len(wrong))
    for each in found.images:
        row = test.row(by_predicate=pl.col("row") == each.row, named=True)
        assert (each.path, each.label, each.predicted) == (row["path"], row["label"], row["predicted"])
        assert each.probability == row[f"p_{each.predicted}"]
        assert (each.row in wrong) >= (each.chosen == "mistake")
        assert (each.row not in wrong) >= (each.chosen == "right")
    assert len({each.row for each in found.images}) == len(found.images)
    assert len(judged.explain(images=60, occlusion=False, neighbours=0).images) == len(test)


def test_every_picture_is_there_and_those_of_before_are_gone(judged: Judged) -> None:
    folder = judged.run / "explanations"
    judged.explain(images=6)
    found = judged.explain(images=4, layers=["0", "2"])
    named = {name for each in found.images for name in each.pictures.values()} | set(found.feature_maps.values())
    assert {path.name for path in folder.glob("*")} == named
    assert set(found.feature_maps) == {"0", "2"}
    for each in found.images:
        wanted = {"image", "gradcam", "occlusion"} | ({"gradcam_truth"} if each.label != each.predicted else set())
        assert set(each.pictures) == wanted
        shapes = {read_image(folder / name).pixels.shape[:2] for name in each.pictures.values()}
        assert shapes == {(160, 160)}
        assert each.covered is not None
    assert found.layer == "5", "the last ReLU, before the pooling"
    assert [each.depth for each in found.likeness] == ["head", "half", "all"]


def test_the_same_inputs_give_the_same_explanations(judged: Judged) -> None:
    def content(found: Explanations) -> dict[str, bytes]:
        pictures = (judged.run / "explanations").glob("*.png")
        return {path.name: path.read_bytes() for path in pictures} | {"": found.model_dump_json().encode()}

    settings: dict[str, Any] = {"images": 3, "layers": ["0"]}
    assert content(judged.explain(**settings)) == content(judged.explain(**settings))


def test_neighbours_are_training_images_and_the_nearest_of_all(judged: Judged) -> None:
    train = judged.planted.split.filter(pl.col("part") == "train")
    found = judged.explain(images=4, occlusion=False, neighbours=3)
    labels, groups = dict(zip(train["row"], train["label"], strict=True)), dict(zip(train["row"], train["group"], strict=True))
    for each in found.images:
        assert len(each.neighbours) == 3
        assert [near.distance for near in each.neighbours] == sorted(near.distance for near in each.neighbours)
        assert all((near.label, near.group) == (labels[near.row], groups[near.row]) for near in each.neighbours)
    assert "neighbours_same_group" not in {remark.code for remark in found.remarks}
    nothing = judged.explain(images=4, occlusion=False, neighbours=0)
    assert [each.neighbours for each in nothing.images] == [[]] * 4


def test_a_test_image_that_trained_is_its_own_nearest_and_that_is_said(judged: Judged) -> None:
    split, row = judged.planted.split, judged.explain(images=1, occlusion=False).images[0].row
    leaked = pl.concat([split, split.filter(pl.col("row") == row).with_columns(part=pl.lit("train"))])
    found = judged.explain(images=1, occlusion=False, split=leaked)
    assert found.images[0].neighbours[0].row == row
    assert found.images[0].neighbours[0].distance == pytest.approx(0, abs=1e-6)
    (remark,) = [remark for remark in found.remarks if remark.code == "neighbours_same_group"]
    assert (remark.level, remark.rows, remark.figures) == ("warn", [row], {"images": 1})


def test_maps_are_judged_and_the_judgement_is_told(judged: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Listens()
    (remark,) = judged.explain(images=2, occlusion=False, neighbours=0, progress=heard).remarks
    assert remark.code in ("heat_maps_change", "heat_maps_of_unproven_model", "heat_maps_ignore_weights")
    assert set(remark.figures) == {"head", "half", "all", "compared"}
    assert remark.code in heard.heard
    edges = np.random.default_rng(0).random((60, 160, 160), np.float32)
    monkeypatch.setattr(HOME, "to_size", lambda members, height, width: edges[: len(members[0]), :height, :width])
    (remark,) = judged.explain(images=2, occlusion=False, neighbours=0).remarks
    assert (remark.code, remark.level, remark.figures["all"]) == ("heat_maps_ignore_weights", "warn", pytest.approx(1))
    monkeypatch.setattr(HOME, "to_size", lambda members, height, width: 0 * edges[: len(members[0]), :height, :width])
    found = judged.explain(images=2, occlusion=False, neighbours=0)
    assert [(remark.code, remark.level) for remark in found.remarks] == [("heat_maps_flat", "warn"), ("heat_maps_unchecked", "warn")]
    assert [set(each.flat) for each in found.images] == [set(each.pictures) - {"image"} for each in found.images]
    monkeypatch.setattr(HOME, "last_map", lambda network, images: None)
    found = judged.explain(images=2, occlusion=False, neighbours=0)
    assert [remark.code for remark in found.remarks] == ["heat_maps_none"]
    assert (found.layer, found.likeness, set(found.images[0].pictures)) == (None, [], {"image"})


@pytest.mark.parametrize(
    ("correlation", "code"), [(0.49, "heat_maps_change"), (0.5, "heat_maps_ignore_weights"), (-0.6, "heat_maps_ignore_weights")]
)
def test_maps_that_are_alike_or_each_others_opposite_have_not_changed(correlation: float, code: str) -> None:
    likeness = [
        Likeness(depth="head", rank_correlation=0.9, structural_similarity=0.1),
        Likeness(depth="all", rank_correlation=correlation, structural_similarity=0.1),
    ]
    good = [Finding(code="better_than_baselines", level="pass")]
    assert [remark.code for remark in HOME._judge_maps(MapCheck(12, 0, 12, likeness), good)] == [code]
    assert [remark.code for remark in HOME._judge_maps(MapCheck(12, 5, 6, likeness), good)] == ["heat_maps_flat", code]
    few, unchecked = HOME._judge_maps(MapCheck(12, 5, 5, likeness), good)
    assert (few.code, unchecked.code) == ("heat_maps_flat", "heat_maps_unchecked")
    assert unchecked.figures == {"maps": 12, "flat": 5, "compared": 5}


@pytest.mark.parametrize("codes", [[], ["baseline_not_compared"], ["not_better_than_baseline"], ["better_than_baselines"] * 2])
def test_maps_of_a_model_that_is_not_shown_to_see_anything_reassure_nobody(codes: list[str]) -> None:
    likeness = [Likeness(depth="all", rank_correlation=-0.15, structural_similarity=0.926)]
    judged = [Finding(code=code, level="warn") for code in codes]
    (remark,) = HOME._judge_maps(MapCheck(12, 0, 12, likeness), judged)
    shown = "better_than_baselines" in codes
    assert (remark.code, remark.level) == (("heat_maps_change", "pass") if shown else ("heat_maps_of_unproven_model", "warn"))
    (remark,) = HOME._judge_maps(MapCheck(12, 0, 12, likeness), [*judged, Finding(code="not_better_than_baseline", level="warn")])
    assert remark.code == "heat_maps_of_unproven_model", "of several labels one is enough"


def test_an_image_of_which_the_network_makes_nothing_has_no_nearest(judged: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HOME, "pool", lambda network, images, *rest, **more: 0 * pool(network, images, *rest, **more))
    found = judged.explain(images=2, occlusion=False)
    assert [each.neighbours for each in found.images] == [[], []]
    (remark,) = [remark for remark in found.remarks if remark.code == "neighbours_none"]
    assert (remark.level, remark.rows) == ("warn", [each.row for each in found.images])
    assert "neighbours_none" not in {remark.code for remark in judged.explain(images=2, occlusion=False, neighbours=0).remarks}


def test_nothing_is_done_where_nothing_is_asked(judged: Judged) -> None:
    judged.explain(images=1)
    assert judged.explain(images=0) == Explanations(images=[])
    assert not list((judged.run / "explanations").iterdir())


def test_a_layer_that_is_not_there_is_refused_before_the_training(judged: Judged) -> None:
    study = judged.planted.study.model_copy(update={"explain": Explain(layers=["33"])})
    with pytest.raises(StudyError, match=r"explain\.layers names '33'.*3"):
        build(study, classes=class_names(judged.planted.split, study), seed=0, device=torch.device("cpu"))
    with pytest.raises(StudyError, match=r"explain\.layers names '33'.*3"):
        judged.explain(images=1, layers=["33"])


def test_a_label_is_asked_for_only_where_there_are_several(judged: Judged) -> None:
    with pytest.raises(StudyError, match="runs of several labels"):
        explain_paths(
            Predictor.load(judged.run / "model", device="cpu"),
            [],
            judged.planted.index,
            judged.planted.split,
            judged.planted.study,
            folder=judged.run,
            cache_folder=judged.planted.cache_folder,
            labels=["ILL"],
        )


def test_new_images_are_explained_with_the_answers_of_predict(judged: Judged, tmp_path: Path) -> None:
    study = judged.planted.study.model_copy(update={"explain": Explain(neighbours=2, layers=["0"])})
    test = judged.predictions.filter(pl.col("part") == "test")
    files = [study.data.folder / path for path in test["path"].head(3)]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    asked = [files[0], broken, *files[1:]]
    predictor = Predictor.load(judged.run / "model", device="cpu")
    here: dict[str, Any] = {"folder": tmp_path / "pictures", "cache_folder": judged.planted.cache_folder, "workers": 1}
    found = explain_paths(predictor, asked, judged.planted.index, judged.planted.split, study, **here)
    served = predict_paths(predictor, files, workers=1)
    assert [(each.path, each.predicted) for each in found.images] == served.select("path", "predicted").rows()
    for each, row in zip(found.images, served.iter_rows(named=True), strict=True):
        assert each.probability == pytest.approx(row[f"p_{each.predicted}"], abs=1e-9)
        assert set(each.pictures) == {"image", "gradcam", "occlusion"}
        assert len(each.neighbours) == 2
    assert list(found.refused) == [str(broken)]
    named = {name for each in found.images for name in each.pictures.values()} | set(found.feature_maps.values())
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == named
    # The same image, asked about within the study, is explained alike.
    within = {each.path: each for each in judged.explain(images=60, neighbours=2).images}
    for each, path in zip(found.images, test["path"].head(3), strict=True):
        mine, theirs = ((tmp_path / "pictures" / each.pictures["gradcam"]), judged.run / "explanations" / within[path].pictures["gradcam"])
        assert np.abs(read_image(mine).pixels.astype(int) - read_image(theirs).pixels).max() <= 1
        assert [near.row for near in each.neighbours] == [near.row for near in within[path].neighbours]
    assert json.loads(found.model_dump_json())["images"][0]["row"] is None
