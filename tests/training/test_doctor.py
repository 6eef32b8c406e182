"""The doctor sees what is wrong before the long run, and `auto` becomes a value once."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from planted import Planted, plant, tiny_network, train_planted
from tabib.errors import StudyError
from tabib.records import Checks
from tabib.training import check_training, resolve, resolve_study
from tabib.training.doctor import shares_missed
from tabib.training.first_layer import input_scale, parts_differ
from tabib.training.networks import NETWORKS, build_network
from tabib.training.resolve import available_threads

RESOLVED = {"dropout": [0.2], "outputs": "one"}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


def check(planted: Planted) -> Checks:
    return check_training(planted.index, planted.split, planted.study, cache_folder=planted.cache_folder)


def codes(checks: Checks) -> dict[str, str]:
    return {finding.code: finding.level for finding in checks.checks}


def faults(checks: Checks) -> dict[str, str]:
    return {code: level for code, level in codes(checks).items() if level != "pass"}


def figures(checks: Checks, code: str) -> dict[str, Any]:
    (finding,) = (each for each in checks.checks if each.code == code)
    return finding.figures


def test_a_sound_study_passes(films: Path) -> None:
    checks = check(plant(films))
    assert codes(checks) == dict.fromkeys(("input_right", "initial_loss_right", "layers_right", "budget_estimate"), "pass")
    assert checks.initial_loss == pytest.approx(math.log(2), abs=0.05)
    assert checks.expected_initial_loss == pytest.approx(math.log(2))


def test_an_untrained_network_is_measured_by_its_own_loss(films: Path) -> None:
    checks = check(plant(films, training={"loss": "focal", "focal_gamma": 2}))
    assert not faults(checks)
    assert checks.expected_initial_loss == pytest.approx(math.log(2) / 4)
    assert checks.initial_loss == pytest.approx(math.log(2) / 4, abs=0.02)


def test_several_batches_are_one_step(films: Path) -> None:
    checks = check(plant(films, training={"accumulate": 2, "epochs": 3}))
    assert figures(checks, "budget_estimate")["steps"] == 3 * math.ceil(36 / 16)


def test_the_budget_is_steps_times_members(films: Path) -> None:
    checks = check(plant(films, split={"folds": 3}, training={"epochs": 7, "seeds": [0, 1]}))
    budget = figures(checks, "budget_estimate")
    assert budget["members"] == 6
    assert budget["steps"] == 6 * 7 * math.ceil(32 / 8)
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


# --- What the first layer is given ---


class Scaled(nn.Module):
    """A network that does something to its images itself, before its first layer."""

    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor], channels: int, *, norm: bool = False) -> None:
        super().__init__()
        self.change = change
        self.layers = tiny_network(channels, 20, 20)
        self.norm = nn.BatchNorm2d(channels) if norm else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(self.norm(self.change(images)))


def check_changed(films: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[torch.Tensor], torch.Tensor], **parts: Any) -> Checks:
    norm = parts.pop("norm", False)
    monkeypatch.setitem(NETWORKS, "changed", lambda channels, height, width: Scaled(change, channels, norm=norm))
    return check(plant(films, model={"network": "changed"}, **parts))


@pytest.mark.parametrize(("factor", "reason"), [(1 / 255, "twice"), (255, "never"), (1, None)], ids=["divided", "multiplied", "as_it_is"])
def test_images_that_a_network_scales_again(films: Path, monkeypatch: pytest.MonkeyPatch, factor: float, reason: str | None) -> None:
    checks = check_changed(films, monkeypatch, lambda images: images * factor, input={"intensity": "unit"})
    assert (("input_scale_off" in codes(checks)), ("input_right" in codes(checks))) == (reason is not None, reason is None)
    if reason:
        assert figures(checks, "input_scale_off")["reason"] == reason


def test_a_norm_brings_any_scale_right(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "input_right" in codes(check_changed(films, monkeypatch, lambda images: images / 255, input={"intensity": "unit"}, norm=True))


def test_weights_of_another_scale(films: Path) -> None:
    planted = plant(films)
    network = build_network(planted.study.model, classes=2, channels=1, height=20, width=20)
    fed = torch.rand(8, 1, 20, 20)
    network.weights_source = "timm"
    assert [found.code for found in input_scale(network, fed, fed)] == ["input_scale_off"], (
        "in 0..1, where (image - 0.5) / 0.25 is expected"
    )
    assert [found.code for found in input_scale(network, (fed - 0.5) / 0.25, fed)] == ["input_right"]


def test_a_channel_without_anything_in_it(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(images: torch.Tensor) -> torch.Tensor:
        return images * torch.tensor([1.0, 0.0, 1.0])[:, None, None]

    checks = check_changed(films, monkeypatch, without, input={"channels": 3})
    assert figures(checks, "input_channel_constant") | {"channels": "2", "of": 3} == figures(checks, "input_channel_constant")


def test_parts_that_look_otherwise() -> None:
    random = np.random.default_rng(0)
    groups = [f"patient{number // 2}" for number in range(60)]

    def part(mean: float, contrast: float) -> tuple[np.ndarray, list[str]]:
        return np.stack([random.normal(mean, 0.1, 60), random.normal(contrast, 0.1, 60)], axis=1), groups

    train = part(0, 1)
    assert not parts_differ({"train": train, "validation": part(0.02, 1), "test": part(0, 1.02)})
    (dark, flat) = parts_differ({"train": train, "validation": part(-0.3, 1), "test": part(0, 0.7)})
    assert (dark.figures["part"], dark.figures["measure"]) == ("validation", "brightness")
    assert (flat.figures["part"], flat.figures["measure"]) == ("test", "contrast")
    few = {"train": train, "test": (part(-0.3, 1)[0][:6], groups[:6])}
    assert not parts_differ(few), "three patients may all be darker"


# --- One step, layer by layer ---


def deep(side: int, *, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    layers = [nn.Conv2d(1, side, 3, padding=1), activation()]
    for _ in range(10):
        layers += [nn.Conv2d(side, side, 3, padding=1), activation()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def dying(channels: int, height: int, width: int) -> nn.Module:
    network = tiny_network(channels, height, width)
    norm = list(network.children())[4]
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.constant_(norm.bias, -100)
    return network


def idling(channels: int, height: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.ReLU(), nn.MaxPool2d(2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Forgets(nn.Module):
    """Its first layer is cut off from the loss, and another is never called."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.layers, self.spare = nn.Conv2d(channels, 4, 3), tiny_network(4, 18, 18), nn.Linear(3, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(self.first(images).detach())


def wild(channels: int, height: int, width: int) -> nn.Module:
    network = deep(16)
    second = network[2]
    assert isinstance(second, nn.Conv2d)
    second.weight.data *= 1e-7
    return network


@pytest.mark.parametrize(
    ("build", "code", "names"),
    [
        (dying, "layers_dead", "features.5"),
        (idling, "layers_do_nothing", "features.2, features.4"),
        (lambda channels, height, width: Forgets(channels), "layers_not_learning", "features.first, features.spare"),
        (lambda channels, height, width: deep(16, activation=nn.Sigmoid), "gradients_vanish", None),
        (wild, "gradients_explode", None),
    ],
    ids=["dead", "idle", "cut_off", "sigmoids", "tiny_second_layer"],
)
def test_a_planted_fault_of_layers(films: Path, monkeypatch: pytest.MonkeyPatch, build: Any, code: str, names: str | None) -> None:
    monkeypatch.setitem(NETWORKS, "planted", build)
    checks = check(plant(films, model={"network": "planted"}))
    assert codes(checks)[code] == "warn"
    assert "layers_right" not in codes(checks)
    if names:
        assert figures(checks, code)["names"] == names


class Calls(nn.Module):
    """As `idling`, with functions in place of modules where `called`."""

    def __init__(self, channels: int, *, called: bool) -> None:
        super().__init__()
        self.first, self.called = nn.Conv2d(channels, 8, 3), called
        self.one, self.other = nn.ReLU(), nn.ReLU()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        made = self.first(images)
        return (made.relu().relu() if self.called else self.other(self.one(made))).mean((2, 3))


@pytest.mark.parametrize("called", [False, True])
def test_activations_are_looked_at_where_they_are_modules(films: Path, monkeypatch: pytest.MonkeyPatch, called: bool) -> None:
    """As docs/how-to/check.md says: a function is no layer."""
    monkeypatch.setitem(NETWORKS, "calls", lambda channels, height, width: Calls(channels, called=called))
    assert ("layers_do_nothing" in codes(check(plant(films, model={"network": "calls"})))) != called


@pytest.mark.parametrize("network", ["blast_cnn", "mri_cnn_selected", "small_resnet", "seresnet18", "mobilenetv3_small_050"])
def test_sound_networks_have_sound_layers(films: Path, network: str) -> None:
    checks = check(plant(films, model={"network": network}, input={"height": 32, "width": 32}, training={"learning_rate": 1e-3}))
    assert "layers_right" in codes(checks)


@pytest.mark.parametrize(("freeze", "found"), [("all_but_head", True), (None, False)])
def test_layers_that_stay_random(films: Path, freeze: str | None, found: bool) -> None:
    checks = check(plant(films, model={"freeze": freeze}))
    assert ("frozen_from_nothing" in codes(checks)) == found


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


@pytest.mark.parametrize(("epochs", "copies", "left"), [(9, 4, (2, 1)), (1, 0, (1, 0))])
def test_a_try_out_is_short(films: Path, epochs: int, copies: int, left: tuple[int, int]) -> None:
    asked = {"training": {"epochs": epochs}, "augment": {"copies": copies, "flip_horizontal": True}}
    tried, whole = (resolved(plant(films, **asked, scale=scale)) for scale in ("bench", "full"))
    assert (tried.training.epochs, tried.augment.copies) == left
    assert (whole.training.epochs, whole.augment.copies) == (epochs, copies)


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
    assert not faults(free), "without a kind nothing is known"


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
        assert figures(checks, "fill_unlike_border")["border"] == pytest.approx(80 / 255, abs=0.03)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"split": {"folds": 3}},
        {"split": {"train": 0.5, "validation": 0.25, "test": 0.25, "turn": 1}},
        {"split": {"learn_from": 0.2}},
        {"scale": "bench"},
    ],
    ids=["ratio", "folds", "turn", "learn_from", "bench"],
)
def test_parts_that_are_as_asked_are_not_told_of(films: Path, parts: dict[str, Any]) -> None:
    planted = plant(films, **parts)
    assert shares_missed(planted.split, planted.study) == []


@pytest.mark.parametrize(("folds", "part"), [(None, "validation"), (3, "test")])
def test_the_part_that_is_furthest_from_its_share_is_told(films: Path, folds: int | None, part: str) -> None:
    planted = plant(films, split={"train": 0.78, "validation": 0.02, "test": 0.2, "folds": folds})
    test = planted.split.filter(pl.col("part") == "test")["row"]
    moved = planted.split.with_columns(part=pl.when(pl.col("row") == test[0]).then(pl.lit("test")).otherwise(pl.lit("train")))
    found = shares_missed(planted.split if folds is None else moved, planted.study)
    assert [(each.code, each.figures["part"], each.figures["largest"]) for each in found] == [("shares_missed", part, 2)]
