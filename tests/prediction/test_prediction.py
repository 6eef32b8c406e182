"""What is judged is what is served."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from made_index import film
from planted import Planted, plant, train_planted, write_films
from tabib import metrics
from tabib.errors import DataError, RunError
from tabib.prediction import Predictor, predict_index, predict_paths, prepare
from tabib.records import Decision, Model, prediction_schema
from tabib.runs import save
from tabib.training import calibrate


@dataclass(frozen=True)
class Trained:
    planted: Planted
    model: Model
    decision: Decision
    run: Path
    table: pl.DataFrame


def travel(planted: Planted, run: Path) -> Trained:
    model = train_planted(planted, run)
    here: dict[str, Any] = {"place": run / "model", "cache_folder": planted.cache_folder}
    decision = calibrate(model, planted.index, planted.split, planted.study, **here)
    save(run / "model/model.json", model)
    save(run / "model/decision.json", decision)
    return Trained(planted, model, decision, run, predict_index(model, decision, planted.index, planted.split, planted.study, **here))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("planted")
    return travel(plant(folder, training={"epochs": 8, "seeds": [0, 1]}), folder / "run")


def files(trained: Trained, part: str = "test") -> list[Path]:
    return [trained.planted.study.data.folder / path for path in trained.table.filter(pl.col("part") == part)["path"]]


def probabilities(table: pl.DataFrame) -> np.ndarray:
    return table.select(pl.selectors.starts_with("p_")).to_numpy()


def test_the_table_is_what_it_promises(trained: Trained) -> None:
    table, split = trained.table, trained.planted.split
    assert dict(table.schema) == prediction_schema(["HEALTHY", "ILL"])
    for part in ("validation", "test"):
        wanted = split.filter(pl.col("part") == part)
        assert (
            table.filter(pl.col("part") == part)
            .select("row", "path", "group", "label")
            .equals(wanted.select("row", "path", "group", "label"))
        )
    np.testing.assert_allclose(probabilities(table).sum(1), 1)
    at_least = table["p_ILL"] >= trained.decision.threshold
    assert (table["predicted"] == "ILL").to_list() == at_least.to_list()


def test_what_was_planted_is_found(trained: Trained) -> None:
    test = trained.table.filter(pl.col("part") == "test")
    assert metrics.auc((test["label"] == "ILL").to_numpy(), test["p_ILL"].to_numpy()) > 0.95


@pytest.mark.parametrize("intensity", ["network", "zscore", "percentile"])
def test_served_is_what_was_judged(tmp_path: Path, intensity: str) -> None:
    write_films(tmp_path / "films", patients=6, side=27)
    trained = travel(plant(tmp_path, input={"intensity": intensity, "fit": "pad"}, training={"epochs": 1}), tmp_path / "run")
    served = predict_paths(Predictor.load(tmp_path / "run/model", device="cpu"), files(trained), workers=1)
    judged = trained.table.filter(pl.col("part") == "test")
    np.testing.assert_allclose(probabilities(served), probabilities(judged), rtol=0, atol=1e-6)
    assert served["predicted"].equals(judged["predicted"])


def test_a_run_folder_is_all_that_is_needed(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.run / "model", tmp_path / "elsewhere")
    served = predict_paths(Predictor.load(tmp_path / "elsewhere", device="cpu"), files(trained), workers=1)
    np.testing.assert_allclose(probabilities(served), probabilities(trained.table.filter(pl.col("part") == "test")), rtol=0, atol=1e-6)


def test_company_does_not_matter(trained: Trained) -> None:
    predictor = Predictor.load(trained.run / "model", device="cpu")
    images = [prepare(path, trained.model) for path in files(trained)]
    together = predictor.predict(images)
    alone = np.concatenate([predictor.predict([image]) for image in images])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)
    assert predictor.predict([]).shape == (0, 2)


def test_sixteen_bits_are_served_like_the_same_in_eight(trained: Trained, tmp_path: Path) -> None:
    path = files(trained)[0]
    wide = np.asarray(Image.open(path)).astype(np.uint16) * np.uint16(257)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    served = predict_paths(Predictor.load(trained.run / "model", device="cpu"), [path, tmp_path / "wide.png"], workers=1)
    np.testing.assert_allclose(probabilities(served)[0], probabilities(served)[1], atol=1e-6)


def test_what_cannot_be_read_is_a_row_with_a_reason(trained: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    (folder / "deep" / ".hidden").mkdir(parents=True)
    good = files(trained)[0]
    shutil.copy(good, folder / "deep" / "b.png")
    shutil.copy(good, folder / "deep" / ".hidden" / "c.png")
    (folder / "a.png").write_text("no image")
    served = predict_paths(Predictor.load(trained.run / "model", device="cpu"), [folder, good, tmp_path / "gone.png"], workers=1)
    assert served["path"].to_list() == [str(folder / "a.png"), str(folder / "deep/b.png"), str(good), str(tmp_path / "gone.png")]
    assert [reason is not None for reason in served["refused"]] == [True, False, False, True]
    assert served["predicted"].is_null().to_list() == served["p_ILL"].is_null().to_list() == [True, False, False, True]
    assert served["row"].to_list() == [0, 1, 2, 3]


def test_what_systems_leave_in_folders_is_not_predicted_and_links_are_followed(trained: Trained, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "new", tmp_path / "elsewhere"
    (folder / "__MACOSX").mkdir(parents=True)
    elsewhere.mkdir()
    for place in (folder / "__MACOSX" / "a.png", elsewhere / "b.png"):
        shutil.copy(files(trained)[0], place)
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store"):
        (folder / name).write_bytes(b"\0")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "linked" / "back").symlink_to(folder)
    served = predict_paths(Predictor.load(trained.run / "model", device="cpu"), [folder], workers=1)
    assert served["path"].to_list() == [str(folder / "linked" / "b.png")]
    assert served["predicted"].null_count() == 0


def test_a_name_that_is_not_utf8_is_read_under_an_escaped_one(trained: Trained, tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.png")
    shutil.copy(files(trained)[0], odd)
    served = predict_paths(Predictor.load(trained.run / "model", device="cpu"), [tmp_path, Path(odd)], workers=1)
    assert served["path"].to_list() == [f"{tmp_path}/bad\\xff.png"] * 2
    assert served["predicted"].null_count() == 0


def test_a_folder_of_nothing_is_said(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text("no image")
    with pytest.raises(DataError, match="holds no files") as caught:
        predict_paths(Predictor.load(trained.run / "model", device="cpu"), [files(trained)[0], tmp_path], workers=1)
    assert str(tmp_path) in str(caught.value)


def test_nothing_to_predict(trained: Trained) -> None:
    served = predict_paths(Predictor.load(trained.run / "model", device="cpu"), [])
    assert dict(served.schema) == prediction_schema(["HEALTHY", "ILL"])
    assert len(served) == 0


def test_validation_under_folds_is_out_of_fold(tmp_path: Path) -> None:
    trained = travel(plant(tmp_path, split={"folds": 3}, training={"epochs": 1}), tmp_path / "run")
    validation = trained.table.filter(pl.col("part") == "validation")
    assert validation["row"].to_list() == trained.planted.split.filter(pl.col("fold").is_not_null())["row"].to_list()
    assert len(trained.table.filter(pl.col("part") == "test")) == (trained.planted.split["part"] == "test").sum()


def test_three_classes_take_the_likeliest(tmp_path: Path) -> None:
    write_films(tmp_path / "films", classes=("A", "B", "C"), patients=6)
    trained = travel(plant(tmp_path, positive=None, training={"epochs": 1}), tmp_path / "run")
    assert (trained.decision.threshold, trained.decision.rule) == (None, "argmax")
    likeliest = [["A", "B", "C"][number] for number in probabilities(trained.table).argmax(1)]
    assert trained.table["predicted"].to_list() == likeliest


def test_the_decision_is_served(trained: Trained) -> None:
    predictor = Predictor.load(trained.run / "model", device="cpu")
    images = [prepare(path, trained.model) for path in files(trained)]
    other = Predictor(predictor.model, predictor.decision.model_copy(update={"temperature": 5.0, "threshold": 0.999}), predictor.networks)
    assert set(other.name(other.predict(images))) == {"HEALTHY"}
    assert other.predict(images).max() < predictor.predict(images).max()


def test_every_frame_of_a_film_is_predicted(trained: Trained, tmp_path: Path) -> None:
    predictor = Predictor.load(trained.run / "model", device="cpu")
    pictures = [Image.fromarray(film(seed)) for seed in range(3)]
    pictures[0].save(tmp_path / "film.tif", save_all=True, append_images=pictures[1:])
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"single{number}.png")
    table = predict_paths(predictor, [tmp_path, tmp_path / "film.tif[1]", tmp_path / "film.tif[7]"])
    names = [f"film.tif[{frame}]" for frame in range(3)]
    assert [Path(path).name for path in table["path"]] == [*names, *(f"single{number}.png" for number in range(3)), names[1], "film.tif[7]"]
    answers = probabilities(table[:7])
    np.testing.assert_allclose(answers[:3], answers[3:6], rtol=1e-4)  # a batch of another size rounds otherwise
    np.testing.assert_allclose(answers[6], answers[1], rtol=1e-4)
    assert "has no frame 7" in table["refused"][7]


@pytest.mark.parametrize("missing", ["model.json", "decision.json", "members/seed1/weights.safetensors"])
def test_an_unfinished_run_is_said(trained: Trained, tmp_path: Path, missing: str) -> None:
    shutil.copytree(trained.run / "model", tmp_path / "model")
    (tmp_path / "model" / missing).unlink()
    with pytest.raises(RunError, match=Path(missing).name):
        Predictor.load(tmp_path / "model")


def test_a_model_that_was_trained_again_and_not_judged_is_not_served(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.run / "model", tmp_path / "model")
    decision = tmp_path / "model" / "decision.json"
    other = trained.decision.model_copy(update={"weights_sha256": ["0" * 64] * len(trained.model.members)})
    decision.write_text(other.model_dump_json())
    with pytest.raises(RunError, match="not judged"):
        Predictor.load(tmp_path / "model")


def test_other_weights_than_those_that_were_judged_are_not_served(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.run / "model", tmp_path / "model")
    members = tmp_path / "model" / "members"
    shutil.copy(members / "seed0" / "weights.safetensors", members / "seed1" / "weights.safetensors")
    with pytest.raises(RunError, match="does not hold the weights that were trained"):
        Predictor.load(tmp_path / "model")


def test_two_outputs_for_two_classes_are_judged_and_served(tmp_path: Path) -> None:
    model = {"network": "mri_cnn_test1", "dropout": [0.1]}
    two = travel(plant(tmp_path, model=model, training={"epochs": 4}), tmp_path / "run")
    assert (two.model.outputs, two.model.dropout) == ("one_per_class", [0.1])
    predictor = Predictor.load(tmp_path / "run/model")
    assert predictor.networks[0].head[-1].out_features == 2  # pyright: ignore[reportIndexIssue]
    np.testing.assert_allclose(probabilities(two.table).sum(1), 1)
    served = predict_paths(predictor, files(two), workers=1)
    np.testing.assert_allclose(probabilities(served), probabilities(two.table.filter(pl.col("part") == "test")), atol=1e-6)
    assert predictor.decision.log_loss_after < np.log(2)
