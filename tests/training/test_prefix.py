"""What frozen layers say is computed once, and training on it is training on the images."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from listens import Listens
from planted import Planted, history_of, plant, tiny_network, train_planted, weights_of
from tabib.config import Augment, Freeze, Input, ModelPart
from tabib.dataset import clear_cache, list_cache
from tabib.errors import StudyError
from tabib.training import check_training, resolve_study
from tabib.training.freezing import freeze
from tabib.training.networks import NETWORKS, Network, build_network
from tabib.training.prefix import cut_off, find_cut

OFF = dict.fromkeys(("rotation_degrees", "shift", "zoom", "brightness", "contrast"), 0)
COPIES = {"copies": 2, "rotation_degrees": 20, "noise": 0.05}
SHAPE = Input(height=32, width=32, channels=1)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


def frozen(name: str, through: str) -> Network:
    network = build_network(ModelPart(network=name), classes=2, channels=1, height=32, width=32)
    freeze(network, "all_but_head" if not through else Freeze(through=through), sample=torch.zeros(2, 1, 32, 32))
    return network


@pytest.mark.parametrize(
    ("name", "through", "last"),
    [
        ("small_resnet", "", ""),
        ("small_resnet", "stage1", "stage1"),
        ("small_resnet", "stage2.0.conv1", "stage1"),  # the shortcut of the block needs what came before
        ("small_resnet", "stem.0.0", "stem.0.0"),
        ("resnet10t", "layer1", "layer1"),
        ("mobilenetv3_small_050", "blocks.1", "blocks.1"),
        ("tf_efficientnet_lite0", "blocks.1.0", "blocks.1.0"),
        ("tf_efficientnet_lite0", "blocks.0.0.bn1", "blocks.0.0.bn1"),  # a block without a shortcut
        ("densenet121", "features.denseblock1", "features.denseblock1"),
    ],
)
def test_a_network_is_cut_where_the_rest_needs_nothing_else(name: str, through: str, last: str) -> None:
    network = frozen(name, through)
    cut = find_cut(network, SHAPE)
    assert cut is not None
    assert cut.layers[-1] == last


class LooksBack(nn.Module):
    """A last layer that is given the image, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(5, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.second(torch.cat([images, self.first(images)], dim=1)).mean((2, 3))


def test_a_network_that_looks_past_the_cut_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "looks_back", lambda channels, height, width: LooksBack())
    assert find_cut(frozen("looks_back", "first"), SHAPE) is None
    assert find_cut(build_network(ModelPart(network="looks_back"), classes=2, channels=1, height=32, width=32), SHAPE) is None


def test_finding_a_cut_changes_nothing() -> None:
    network = frozen("small_resnet", "stage1")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    cut = find_cut(network, SHAPE)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert cut is not None
    cut_off(network, cut.layers)
    assert not any(name.startswith(("features.stem", "features.stage1")) for name in network.state_dict())


def pair(films: Path, run: Path, **parts: Any) -> list[tuple[list[dict[str, Any]], dict[str, Tensor]]]:
    """Histories and weights with features computed in every epoch, and kept."""
    made = []
    for how in ("compute", "keep"):
        training = {**parts.get("training", {}), "frozen_features": how}
        train_planted(plant(films, **{"augment": OFF, **parts, "training": training}), run / how)
        made.append((history_of(run / how), load_file(run / how / "model/members/seed0/weights.safetensors")))
    return made


@pytest.mark.parametrize(
    "parts",
    [
        {"model": {"freeze": "all_but_head", "head": [8], "dropout": [0.5]}},
        {"model": {"freeze": {"through": "3"}}, "training": {"average": 0.8, "class_weights": "balanced"}},
        {
            "model": {"freeze": {"through": "1"}},
            "training": {"sampling": "class_balanced", "accumulate": 2},
            "input": {"intensity": "zscore"},
        },
        {"model": {"network": "small_resnet", "freeze": {"through": "stage2"}}},
        {"model": {"freeze": "all_but_head"}, "augment": COPIES},
        {
            "model": {"freeze": {"through": "3"}},
            "augment": COPIES,
            "training": {"sampling": "class_balanced"},
            "input": {"intensity": "zscore"},
        },
    ],
    ids=["head", "norm behind", "balanced", "small_resnet", "copies", "copies and norm behind"],
)
def test_training_on_kept_features_is_training_on_images(films: Path, tmp_path: Path, parts: dict[str, Any]) -> None:
    (plain, weights), (kept, same) = pair(films, tmp_path, **parts)
    assert set(weights) == set(same)
    for name, value in weights.items():
        torch.testing.assert_close(same[name], value, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    for one, other in zip(plain, kept, strict=True):
        for name in one:
            assert other[name] == pytest.approx(one[name], rel=1e-3, abs=1e-4), name


def kept(films: Path, **training: Any) -> Planted:
    return plant(films, augment=OFF, model={"freeze": "all_but_head"}, training={"frozen_features": "keep", **training})


def test_features_are_computed_once_and_listed_and_cleared(films: Path, tmp_path: Path) -> None:
    planted = kept(films, epochs=1)
    clear_cache(planted.cache_folder)
    heard = []
    for run in ("one", "other"):
        listens = Listens()
        train_planted(planted, tmp_path / run, progress=listens)
        heard.append("frozen layers" in listens.heard)
    assert heard == [True, False]
    images, features = sorted(list_cache(planted.cache_folder), key=lambda entry: -entry.bytes)
    assert features.images == len(planted.split.filter(planted.split["part"].is_in(["train", "validation"])))
    assert features.images < images.images
    assert len(clear_cache(planted.cache_folder)) == 2
    assert list(planted.cache_folder.iterdir()) == []
    train_planted(planted, tmp_path / "again")
    assert weights_of(tmp_path / "again") == weights_of(tmp_path / "one"), "computed anew to the bit"


def test_other_weights_have_other_features(films: Path, tmp_path: Path) -> None:
    planted = kept(films, epochs=1, seeds=[0, 1])
    clear_cache(planted.cache_folder)
    train_planted(planted, tmp_path)
    assert len(list_cache(planted.cache_folder)) == 3


def test_copies_have_features_of_their_own_by_seed_and_change(films: Path, tmp_path: Path) -> None:
    def planted(seed: int, zoom: float) -> Planted:
        return plant(
            films,
            augment=COPIES | {"zoom": zoom},
            model={"freeze": "all_but_head"},
            training={"frozen_features": "keep", "epochs": 1, "seeds": [seed]},
        )

    first = planted(0, 0.1)
    clear_cache(first.cache_folder)
    for number, each in enumerate((first, first, planted(0, 0.2), planted(1, 0.2))):
        train_planted(each, tmp_path / str(number))
    parts = first.split["part"].to_list()
    kept = [entry.images for entry in list_cache(first.cache_folder) if entry.images != len(parts)]
    assert kept == [3 * parts.count("train") + parts.count("validation")] * 3
    assert weights_of(tmp_path / "0") == weights_of(tmp_path / "1")


def test_copies_of_folds_are_those_of_their_images(films: Path, tmp_path: Path) -> None:
    made = []
    for how in ("compute", "keep"):
        planted = plant(
            films,
            augment=COPIES,
            split={"folds": 2},
            model={"freeze": "all_but_head"},
            training={"frozen_features": how, "epochs": 2, "batch": 16},
        )
        train_planted(planted, tmp_path / how)
        made.append([line["train_loss"] for line in history_of(tmp_path / how)])
    assert made[0] == pytest.approx(made[1], rel=1e-4)


def test_a_damaged_file_is_made_anew(films: Path, tmp_path: Path) -> None:
    planted = kept(films, epochs=1)
    clear_cache(planted.cache_folder)
    train_planted(planted, tmp_path / "one")
    file = min((entry.path for entry in list_cache(planted.cache_folder)), key=lambda path: path.stat().st_size)
    file.write_bytes(file.read_bytes()[:200])
    train_planted(planted, tmp_path / "other")
    assert weights_of(tmp_path / "one") == weights_of(tmp_path / "other")


# --- What `auto` becomes, and what the doctor reckons with ---


@pytest.mark.parametrize(
    ("parts", "becomes"),
    [
        ({"augment": OFF, "model": {"freeze": "all_but_head"}}, "keep"),
        ({"augment": OFF, "model": {"freeze": {"through": "1"}}}, "keep"),
        ({"augment": COPIES, "model": {"freeze": "all_but_head"}}, "keep"),
        ({"augment": OFF}, "compute"),
        ({"model": {"freeze": "all_but_head"}}, "compute"),
        ({"augment": {**OFF, "noise": 0.1}, "model": {"freeze": "all_but_head"}}, "compute"),
        ({"augment": OFF, "model": {"freeze": "all_but_head"}, "training": {"frozen_features": "compute"}}, "compute"),
    ],
    ids=["head", "through", "copies", "nothing frozen", "augmented", "noise", "asked"],
)
def test_features_are_kept_where_they_can_be(films: Path, parts: dict[str, Any], becomes: str) -> None:
    planted = plant(films, **{"training": {"frozen_features": "auto"}, **parts})
    assert resolve_study(planted.study, planted.index, planted.split).training.frozen_features == becomes
    insisting = planted.study.model_copy(update={"training": planted.study.training.model_copy(update={"frozen_features": "keep"})})
    if becomes == "compute" and "training" not in parts:
        with pytest.raises(StudyError, match=r"frozen_features is keep, and .*frozen_features: auto"):
            resolve_study(insisting, planted.index, planted.split)


def test_features_that_the_disk_cannot_hold_are_not_kept(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = plant(films, augment=OFF, model={"freeze": "all_but_head"}, training={"frozen_features": "auto"})
    needed = 4 * 8 * len(planted.split.filter(planted.split["part"].is_in(["train", "validation"])))
    for free, becomes in ((2 * needed, "keep"), (2 * needed - 1, "compute")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        study = resolve_study(planted.study, planted.index, planted.split, cache_folder=tmp_path / "not yet" / "there")
        assert study.training.frozen_features == becomes


def test_the_doctor_times_what_will_be_run(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[int, ...]] = []

    class Watched(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            ran.append(tuple(input.shape))
            return super().forward(input)

    monkeypatch.setitem(NETWORKS, "watched", lambda channels, height, width: Watched(*tiny_network(channels, height, width).children()))
    # One step is looked through layer by layer; then four are timed, in place of which the features of one batch are computed once.
    for how, batches in (("compute", 1 + 4), ("keep", 1 + 1)):
        planted = plant(
            films, augment=OFF, model={"network": "watched", "freeze": "all_but_head"}, training={"frozen_features": how, "batch": 7}
        )
        ran.clear()
        checks = check_training(planted.index, planted.split, planted.study, cache_folder=planted.cache_folder)
        assert checks.predicted_seconds > checks.seconds_before_epochs
        assert (checks.seconds_before_epochs > 0) == (how == "keep")
        assert sum(shape[0] == 7 for shape in ran) == batches


def test_nothing_off_is_off() -> None:
    assert not Augment().off
    assert Augment.model_validate(OFF).off
    assert Augment.model_validate({**OFF, "fill": "constant", "fill_value": 0.5}).off
    for name, field in Augment.model_fields.items():
        if name not in ("fill", "fill_value", "elastic_cells", "copies", "to_disk"):
            assert not Augment.model_validate({**OFF, name: True if field.annotation is bool else 0.05}).off, name


class Killed(BaseException):
    pass


class KillsAt(Listens):
    """Ends the training in this epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def bar(self, name: str, total: int) -> Any:
        if name.startswith(f"epoch {self.epoch} "):
            raise Killed
        return super().bar(name, total)


def test_resumed_to_the_bit(films: Path, tmp_path: Path) -> None:
    planted = kept(films, epochs=4, average=0.8)
    train_planted(planted, tmp_path / "whole")
    with pytest.raises(Killed):
        train_planted(planted, tmp_path / "killed", progress=KillsAt(3))
    clear_cache(planted.cache_folder)
    train_planted(planted, tmp_path / "killed")
    assert weights_of(tmp_path / "killed") == weights_of(tmp_path / "whole")
    np.testing.assert_equal(history_of(tmp_path / "killed"), history_of(tmp_path / "whole"))
