"""The doctor sees what is wrong before the long run, and `auto` becomes a value once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch import nn

from planted import Planted, plant, train_planted
from tabib.errors import StudyError
from tabib.records import Checks
from tabib.training import check_training, resolve, resolve_study
from tabib.training.networks import NETWORKS
from tabib.training.resolve import available_threads

RESOLVED = {"dropout": [0.2], "outputs": "one"}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


def check(planted: Planted) -> Checks:
    return check_training(planted.index, planted.split, planted.study, cache_folder=planted.cache_folder)


def codes(checks: Checks) -> dict[str, str]:
    return {finding.code: finding.level for finding in checks.checks}


def test_a_sound_study_passes(films: Path) -> None:
    checks = check(plant(films))
    assert codes(checks) == {"budget_estimate": "pass"}
    assert checks.initial_loss == pytest.approx(math.log(2), abs=0.05)
    assert checks.expected_initial_loss == pytest.approx(math.log(2))


def test_an_untrained_network_is_measured_by_its_own_loss(films: Path) -> None:
    checks = check(plant(films, training={"loss": "focal", "focal_gamma": 2}))
    assert codes(checks) == {"budget_estimate": "pass"}
    assert checks.expected_initial_loss == pytest.approx(math.log(2) / 4)
    assert checks.initial_loss == pytest.approx(math.log(2) / 4, abs=0.02)


def test_several_batches_are_one_step(films: Path) -> None:
    checks = check(plant(films, training={"accumulate": 2, "epochs": 3}))
    assert checks.checks[0].figures["steps"] == 3 * math.ceil(36 / 16)


def test_the_budget_is_steps_times_members(films: Path) -> None:
    checks = check(plant(films, split={"folds": 3}, training={"epochs": 7, "seeds": [0, 1]}))
    (budget,) = checks.checks
    assert budget.figures["members"] == 6
    assert budget.figures["steps"] == 6 * 7 * math.ceil(32 / 8)
    assert checks.predicted_seconds >= 6 * 7 * 4 * checks.seconds_per_step > 0


def test_a_last_layer_that_starts_far_off(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Loud(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 1000 * images.flatten(2).mean(2)

    monkeypatch.setitem(NETWORKS, "loud", lambda channels, height, width: Loud())
    checks = check(plant(films, model={"network": "loud"}))
    assert codes(checks)["initial_loss_off"] == "warn"
    assert checks.initial_loss > 1.5 * math.log(2)


@pytest.mark.parametrize(
    ("optimizer", "rate", "found"),
    [
        ("adamw", 0.03, True),
        ("adamw", 0.02, False),
        ("adam", 0.1, True),
        ("adam", 0.02, False),
        ("rmsprop", 0.01, True),
        ("rmsprop", 0.005, False),
        ("sgd", 0.1, False),
    ],
)
def test_a_rate_that_adam_cannot_use(films: Path, optimizer: str, rate: float, found: bool) -> None:
    checks = check(plant(films, training={"optimizer": optimizer, "learning_rate": rate}))
    assert codes(checks).get("adam_rate_high") == ("fail" if found else None)


@pytest.mark.parametrize("network", ["mri_cnn_test1", "small_resnet"])
@pytest.mark.parametrize(("initialiser", "found"), [("zeros", "fail"), ("ones", "fail"), ("he", None), ("usual", None)])
def test_a_start_from_which_nothing_is_learnt(films: Path, network: str, initialiser: str, found: str | None) -> None:
    checks = check(plant(films, model={"network": network, "initialiser": initialiser}))
    assert codes(checks).get("initialiser_cannot_learn") == found
    assert Checks.model_validate_json(checks.model_dump_json()) == checks  # a loss that is no number would not come back


@pytest.mark.parametrize(("stop", "found"), [(5, True), (8, False), (None, False)])
def test_a_reduction_that_comes_too_late(films: Path, stop: int | None, found: bool) -> None:
    checks = check(plant(films, training={"schedule": "plateau", "plateau": {"patience": 4}, "stop_after": stop}))
    assert ("two_patiences" in codes(checks)) == found


def test_looking_leaves_no_trace(films: Path, tmp_path: Path) -> None:
    planted = plant(films, training={"epochs": 1})
    before = train_planted(planted, tmp_path / "before").members[0].weights_sha256
    check(planted)
    assert train_planted(planted, tmp_path / "after").members[0].weights_sha256 == before


# --- What `auto` becomes ---


def resolved(planted: Planted) -> Any:
    return resolve_study(planted.study, planted.index, planted.split)


def test_nothing_is_left_open(films: Path) -> None:
    automatic = {"device": "auto", "precision": "auto", "threads": "auto", "frozen_features": "auto"}
    study = resolved(plant(films, positive=None, input={"channels": "auto"}, training=automatic))
    assert (study.positive, study.input.channels) == ("ILL", 1)
    assert study.training.device in ("cpu", "cuda")
    assert study.training.precision in ("fp32", "bf16")
    assert study.training.threads == available_threads() >= 1
    assert (study.model.dropout, study.model.outputs) == ([0.2], "one")
    assert study.training.frozen_features == "compute"
    assert resolve_study(study, plant(films).index, plant(films).split) == study


def test_what_is_given_stays(films: Path) -> None:
    planted = plant(films, input={"channels": 3}, model=RESOLVED)
    assert resolved(planted) == planted.study


def test_one_colour_image_asks_for_three_channels(films: Path) -> None:
    planted = plant(films, input={"channels": "auto"})
    index = planted.index.with_columns(colour=pl.col("row") == 4)
    assert resolved(Planted(planted.study, index, planted.split)).input.channels == 3
    refused = index.with_columns(refused=pl.when(pl.col("row") == 4).then(pl.lit("broken")))
    assert resolved(Planted(planted.study, refused, planted.split)).input.channels == 1


@pytest.mark.parametrize(("gain", "precision"), [(1.16, "bf16"), (1.14, "fp32"), (0.5, "fp32")])
def test_half_precision_is_chosen_where_it_pays(films: Path, monkeypatch: pytest.MonkeyPatch, gain: float, precision: str) -> None:
    monkeypatch.setattr(resolve, "time_step", lambda study, classes, own: gain if study.training.precision == "fp32" else 1.0)
    assert resolved(plant(films, training={"precision": "auto"})).training.precision == precision


def test_a_gpu_that_is_not_there(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(StudyError, match="no GPU"):
        resolved(plant(films, training={"device": "cuda"}))


@pytest.mark.parametrize("change", ["saturation", "hue_degrees", "stain"])
def test_colour_that_is_not_there_is_not_changed_aloud(films: Path, change: str) -> None:
    planted = plant(films, augment={change: 0.1})
    with pytest.raises(StudyError, match=rf"augment\.{change} is 0\.1, and no image has colour"):
        resolve_study(planted.study, planted.index, planted.split)
    coloured = planted.index.with_columns(colour=True)
    with pytest.raises(StudyError, match=r"input\.channels is 1"):
        resolve_study(planted.study, coloured, planted.split)
    in_colour = plant(films, augment={change: 0.1}, input={"channels": 3}, model=RESOLVED).study
    assert resolve_study(in_colour, coloured, planted.split) == in_colour


def test_what_does_not_occur_in_such_images_is_said_with_its_reason(films: Path) -> None:
    data = {"folder": films / "films", "group": r"(p\d+)", "kind": "chest_film"}
    checks = check(plant(films, data=data, augment={"flip_horizontal": True, "zoom": 0.5}))
    said = {check.figures["field"]: check.figures for check in checks.checks if check.code == "augmentation_against_kind"}
    assert set(said) == {"augment.flip_horizontal", "augment.zoom"}
    assert said["augment.flip_horizontal"] | {"reason": "heart_left", "value": "true", "most": "false"} == said["augment.flip_horizontal"]
    assert said["augment.zoom"] | {"value": 0.5, "most": 0.25, "kind": "chest_film"} == said["augment.zoom"]
    free = check(plant(films, augment={"flip_horizontal": True, "zoom": 0.5}))
    assert codes(free) == {"budget_estimate": "pass"}, "without a kind nothing is known"


@pytest.mark.parametrize(
    ("augment", "said"),
    [
        ({"fill": "constant", "fill_value": 0.9}, True),
        ({"fill": "constant", "fill_value": 0.3}, False),  # the films are noise about 80 of 255
        ({"fill": "nearest", "fill_value": 0.9}, False),
        ({"fill": "constant", "fill_value": 0.9, "rotation_degrees": 0, "shift": 0, "zoom": 0}, False),
    ],
    ids=["unlike", "alike", "nearest", "unmoved"],
)
def test_a_frame_that_the_images_do_not_have(films: Path, augment: dict[str, Any], said: bool) -> None:
    checks = check(plant(films, augment=augment))
    assert ("fill_unlike_border" in codes(checks)) == said
    if said:
        (finding,) = (each for each in checks.checks if each.code == "fill_unlike_border")
        assert finding.figures["border"] == pytest.approx(80 / 255, abs=0.03)
