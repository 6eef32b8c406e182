"""Temperature and operating point come from validation rows, and from members that did not train on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from planted import Planted, plant, train_planted
from tabib import metrics
from tabib.dataset import build_cache
from tabib.errors import RunError
from tabib.records import Decision, Model
from tabib.training import calibrate
from tabib.training.batches import load_samples
from tabib.training.calibrate import load_networks, predict_validation
from tabib.training.inference import log_probabilities, mean_of_members
from tabib.training.session import running


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


@pytest.fixture(scope="module")
def seeds(films: Path) -> tuple[Planted, Model, Path]:
    planted = plant(films, training={"epochs": 6, "seeds": [0, 1]})
    return planted, train_planted(planted, films / "seeds"), films / "seeds"


def decide(planted: Planted, model: Model, run: Path, **settings: Any) -> Decision:
    study = planted.study.model_copy(update={"calibrate": planted.study.calibrate.model_validate(settings)})
    return calibrate(model, planted.index, planted.split, study, place=run / "model", cache_folder=planted.cache_folder)


def answers(planted: Planted, model: Model, run: Path) -> tuple[pl.DataFrame, np.ndarray]:
    with running("cpu", threads=1) as device:
        cache = build_cache(planted.study.data, planted.index, planted.study.input, folder=planted.cache_folder)
        return predict_validation(model, load_networks(model, run / "model", device=device), planted.split, cache, device=device)


def test_the_mean_of_members_is_a_mean_of_probabilities() -> None:
    members = [np.log([[0.9, 0.1]]), np.log([[0.1, 0.9]]), np.log([[0.5, 0.5]])]
    np.testing.assert_allclose(np.exp(mean_of_members(members)), [[0.5, 0.5]])


def test_reads_validation_rows_and_nothing_else(seeds: tuple[Planted, Model, Path]) -> None:
    planted, model, run = seeds
    decision = decide(planted, model, run)
    validation = planted.split.filter(pl.col("part") == "validation")
    assert (decision.validation_rows, decision.validation_groups) == (len(validation), validation["group"].n_unique())
    others = planted.split.with_columns(label=pl.when(pl.col("part") == "validation").then("label").otherwise(pl.lit("HEALTHY")))
    assert decide(Planted(planted.study, planted.index, others), model, run) == decision


def test_temperature_and_threshold_are_those_of_the_metrics(seeds: tuple[Planted, Model, Path]) -> None:
    planted, model, run = seeds
    rows, logarithms = answers(planted, model, run)
    truth = (rows["label"] == "ILL").to_numpy().astype(int)
    decision = decide(planted, model, run)
    assert decision.temperature == metrics.fit_temperature(logarithms, truth)
    probability = metrics.apply_temperature(logarithms, decision.temperature)
    assert decision.threshold == metrics.choose_threshold(probability[:, 1], truth, "youden")
    assert decision.log_loss_after == pytest.approx(metrics.log_loss(truth, probability))
    assert decision.log_loss_after <= decision.log_loss_before


def test_settings_decide(seeds: tuple[Planted, Model, Path]) -> None:
    assert decide(*seeds, temperature=False).temperature == 1.0
    fixed = decide(*seeds, threshold={"fixed": 0.3})
    assert (fixed.threshold, fixed.rule) == (0.3, "fixed")
    assert decide(*seeds, threshold={"sensitivity": 0.9}).rule == "sensitivity"
    assert decide(*seeds).rule == "youden"


def test_under_folds_no_member_answers_for_what_it_trained_on(films: Path) -> None:
    planted = plant(films, split={"folds": 3}, training={"epochs": 2})
    run = films / "folds"
    model = train_planted(planted, run)
    rows, logarithms = answers(planted, model, run)
    assert rows["row"].to_list() == planted.split.filter(pl.col("fold").is_not_null())["row"].to_list()
    with running("cpu", threads=1) as device:
        cache = build_cache(planted.study.data, planted.index, planted.study.input, folder=planted.cache_folder)
        networks = load_networks(model, run / "model", device=device)
        for fold, network in enumerate(networks):
            own = rows["fold"] == fold
            samples = load_samples(cache, rows.filter(own), classes=model.classes, device=device)
            np.testing.assert_allclose(logarithms[own.to_numpy()], log_probabilities(network, samples, intensity="network"), rtol=1e-6)
    assert decide(planted, model, run).validation_rows == len(rows)


def test_weights_that_are_not_there(seeds: tuple[Planted, Model, Path], tmp_path: Path) -> None:
    planted, model, _ = seeds
    with pytest.raises(RunError, match=r"weights\.safetensors is missing"):
        decide(planted, model, tmp_path)
