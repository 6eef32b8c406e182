"""A few images are learnt by heart, or the doctor says why not; and many learning rates are tried, alike each time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from planted import CHECKS, Planted, plant, tiny_network
from planted_masks import plant_masks
from tabib.errors import StudyError
from tabib.records import Finding, Overfit, Sweep
from tabib.training import overfit_few, sweep_rates, with_rate
from tabib.training.doctor import high_rate
from tabib.training.networks import NETWORKS
from tabib.training.rates import RATES, too_high


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("masks")


def learn(planted: Planted, *found: str) -> Overfit:
    checks = CHECKS.model_copy(update={"checks": [Finding(code=code, level="warn") for code in found]})
    return overfit_few(planted.index, planted.split, checks, planted.study, cache_folder=planted.cache_folder)


def sweep(planted: Any, rate: float | str = 0.01, **changes: object) -> Sweep:
    training = planted.study.training.model_copy(update={"learning_rate": rate, **changes})
    study = planted.study.model_copy(update={"training": training})
    return sweep_rates(planted.index, planted.split, study, cache_folder=planted.cache_folder)


# --- A few images by heart ---


def test_a_sound_network_learns_a_few_by_heart(films: Path) -> None:
    learnt = learn(plant(films, model={"dropout": [0.9]}, training={"loss": "focal", "learning_rate": 1e-9}))
    assert [(check.code, check.level) for check in learnt.checks] == [("few_learnt", "pass")]
    assert learnt.losses[-1] < 0.1 * learnt.losses[0]
    assert learnt.checks[0].figures["limit"] == 0.1
    assert learnt.losses[0] == pytest.approx(math.log(2), abs=0.1)


def test_a_sound_segmenter_learns_a_few_by_heart(pictures: Path) -> None:
    planted = plant_masks(pictures)
    learnt = overfit_few(planted.index, planted.split, CHECKS, planted.study, cache_folder=planted.cache_folder)
    assert learnt.losses[-1] < learnt.losses[0] / 2
    assert learnt.checks[0].figures["limit"] == 0.3


def blind(channels: int, height: int, width: int) -> nn.Module:
    class Blind(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(images), 3)

    return Blind()


def frozen(channels: int, height: int, width: int) -> nn.Module:
    """A backbone whose features say nothing until its first layer is trained."""
    network = nn.Sequential(*tiny_network(channels, height, width).children(), nn.LayerNorm(8))
    network[8].load_state_dict({"weight": torch.zeros(8), "bias": torch.zeros(8)})
    return network


@pytest.mark.parametrize(
    ("build", "parts", "found", "cause"),
    [
        (blind, {}, (), "unknown"),
        (blind, {}, ("layers_dead",), "layers"),
        (tiny_network, {"model": {"initialiser": "zeros"}}, ("initialiser_cannot_learn",), "start"),
        (frozen, {"model": {"freeze": "all_but_head"}}, (), "frozen"),
    ],
    ids=["blind", "dead", "zeros", "frozen"],
)
def test_why_nothing_is_learnt(
    films: Path, monkeypatch: pytest.MonkeyPatch, build: Any, parts: dict[str, Any], found: tuple[str, ...], cause: str
) -> None:
    monkeypatch.setitem(NETWORKS, "planted", build)
    parts = {"model": {"network": "planted", **parts.get("model", {})}}
    (check,) = learn(plant(films, **parts), *found).checks
    assert (check.code, check.level, check.figures["cause"]) == ("few_not_learnt", "fail", cause)


# --- Learning rates ---


def test_the_best_of_many_rates(films: Path) -> None:
    planted = plant(films)
    found = sweep(planted)
    assert {round(one.rate, 12) for one in found.tried} >= set(RATES)
    assert len(found.tried) == len(RATES) + 2
    assert len({one.losses[0] for one in found.tried}) == 1, "each starts from the same weights with the same batch"
    assert found.below == too_high("adamw") == 0.03
    ends = {one.rate: one.end for one in found.tried if one.end is not None and one.rate < 0.03}
    assert found.best == min(ends, key=lambda rate: ends[rate])
    assert 1e-3 <= (found.best or 0) < 0.03
    assert [check.code for check in found.checks] == ["rate_swept"]
    assert sweep(planted) == found, "the same study gives the same answer"


def test_the_choice_stands_in_the_study(films: Path) -> None:
    planted = plant(films)
    found = sweep(planted, "sweep", precision="auto")
    assert [check.code for check in found.checks] == ["rate_chosen"]
    assert found.best == sweep(planted).best
    assert with_rate(planted.study, found).training.rate == found.best


@pytest.mark.parametrize(("optimizer", "best"), [("adamw", 0.01), ("rmsprop", 0.00316), ("sgd", 0.1)])
def test_the_doctor_takes_every_rate_that_was_chosen(films: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str, best: float) -> None:
    monkeypatch.setattr("tabib.training.sweep.losses_of", lambda made, *, rate, steps: [1.0, abs(rate - 0.1)])
    planted = plant(films)
    found = sweep(planted, "sweep", optimizer=optimizer)
    assert (found.best, found.below) == (best, None if optimizer == "sgd" else too_high(optimizer))
    assert {one.rate for one in found.tried} >= set(RATES), "the others are tried and shown"
    study = planted.study.model_copy(update={"training": planted.study.training.model_copy(update={"optimizer": optimizer})})
    assert high_rate(with_rate(study, found).training) == []


def test_a_rate_that_is_far_off_is_said(films: Path) -> None:
    (check,) = sweep(plant(films), 1e-6).checks
    assert (check.code, check.level) == ("rate_far_from_sweep", "warn")


def test_where_no_rate_learns(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "planted", blind)
    planted = plant(films, model={"network": "planted", "initialiser": "zeros"}, split={"by": "image"})
    found = sweep(planted)
    assert [(check.code, check.level) for check in found.checks] == [("rate_none_learns", "warn")]
    with pytest.raises(StudyError, match="falls with none"):
        with_rate(planted.study, found)


@pytest.mark.slow
def test_rates_of_a_segmenter(pictures: Path) -> None:
    found = sweep(plant_masks(pictures))
    assert found.best is not None
    assert len(found.tried) == len(RATES) + 2
