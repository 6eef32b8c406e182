"""Training learns, repeats, keeps what it should, and says what goes wrong."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from listens import Listens
from planted import CHECKS, Planted, history_of, plant, train_planted, weights_of, write_films
from tabib.dataset import build_cache, index_folder
from tabib.errors import DataError, RunError, StudyError, TrainingError
from tabib.records import SPLIT_SCHEMA, Finding
from tabib.training import class_work
from tabib.training.batches import load_samples, normalise
from tabib.training.classify import build
from tabib.training.inference import log_probabilities
from tabib.training.networks import NETWORKS
from tabib.training.remarks import look_at


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


def test_learns_what_was_planted(films: Path, tmp_path: Path) -> None:
    listens = Listens()
    model = train_planted(plant(films, training={"epochs": 12, "best": "auc"}), tmp_path, progress=listens)
    (member,) = model.members
    assert member.best_value > 0.95
    assert member.epochs == len(listens.rows) == 12
    history = history_of(tmp_path)
    assert history[member.best_epoch - 1]["validation_auc"] == member.best_value == max(line["validation_auc"] for line in history)
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
    assert model.weights_total == model.weights_trainable == sum(v.numel() for v in network_of("tiny").parameters()) + 9
    assert (model.classes, model.positive, model.weights_source) == (["HEALTHY", "ILL"], "ILL", "none")


def test_the_fit_is_that_of_the_kept_weights_on_training_images_as_they_are(films: Path, tmp_path: Path) -> None:
    planted = plant(films, augment={"copies": 1, "brightness": 0.5}, training={"epochs": 3, "batch": 16})
    (member,) = train_planted(planted, tmp_path).members
    network, _ = build(planted.study, classes=["HEALTHY", "ILL"], seed=0, device=torch.device("cpu"))
    network.load_state_dict(load_file(tmp_path / "model/members/seed0/weights.safetensors"))
    cache = build_cache(planted.study.data, planted.index, planted.study.input, folder=planted.cache_folder)
    counts = dict(planted.split["part"].value_counts().iter_rows())
    rows = planted.split.filter(pl.col("part") == "train").sort("content").head(counts["validation"])
    samples = load_samples(cache, rows, classes=["HEALTHY", "ILL"], device=torch.device("cpu"))
    said = log_probabilities(network, samples, intensity=planted.study.input.intensity)
    right = float((said.argmax(1) == samples.labels.numpy()).mean())
    assert member.train_images == len(rows) < counts["train"]
    assert member.train["accuracy"] == pytest.approx(right, abs=1e-12)
    assert member.train["loss"] == pytest.approx(-said[np.arange(len(rows)), samples.labels.numpy()].mean(), rel=1e-5)
    assert {f"validation_{name}" for name in member.train} < set(history_of(tmp_path)[0])


def test_fixed_copies_train_beside_their_originals_and_are_the_same_in_every_epoch(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def watch(images: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.extend(hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in images.contiguous())
        return normalise(images, *rest)

    monkeypatch.setattr(class_work, "normalise", watch)
    planted = plant(films, augment={"copies": 3, "to_disk": True}, training={"epochs": 2, "batch": 64})
    train_planted(planted, tmp_path)
    cache = build_cache(planted.study.data, planted.index, planted.study.input, folder=planted.cache_folder)
    rows = planted.split.filter(pl.col("part") == "train")
    samples = load_samples(cache, rows, classes=["HEALTHY", "ILL"], device=torch.device("cpu"))
    originals = {hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest() for image in samples.load(np.arange(len(rows)))[0]}
    first, second = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert len(first) == len(set(first)) == 4 * len(rows)
    assert set(first) == set(second)
    assert originals < set(first)
    assert history_of(tmp_path)[-1]["step"] == 2 * math.ceil(4 * len(rows) / 64)
    assert len(list((tmp_path / "augmented_images" / "seed0").glob("*.png"))) == 3 * len(rows)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({}, "tiny: 817 weights, 817 of them trained"),
        ({"model": {"freeze": "all_but_head"}}, "tiny: 817 weights, 9 of them trained"),
        ({"model": {"freeze": {"through": "1"}, "head": [200]}}, "tiny: 2,809 weights, 2,593 of them trained"),
    ],
)
def test_the_weights_are_counted_before_they_are_trained(films: Path, tmp_path: Path, parts: dict[str, Any], said: str) -> None:
    # The backbone: 8 x 25 + 16, then 8 x 72 + 16. The head: 8 + 1, or 8 x 200 + 200 and 200 + 1.
    listens = Listens()
    train_planted(plant(films, **parts, training={"epochs": 1}), tmp_path, progress=listens)
    assert listens.heard.index(said) < listens.heard.index("epoch 1 of 1")


def network_of(name: str) -> nn.Module:
    return NETWORKS[name](1, 20, 20)


def test_repeats_to_the_bit_and_another_seed_does_not(films: Path, tmp_path: Path) -> None:
    parts: dict[str, Any] = {"model": {"dropout": [0.5]}}
    for run in ("one", "again"):
        train_planted(plant(films, **parts), tmp_path / run)
    train_planted(plant(films, **parts, training={"seeds": [1]}), tmp_path / "other")
    assert weights_of(tmp_path / "one") == weights_of(tmp_path / "again")
    assert history_of(tmp_path / "one") == history_of(tmp_path / "again")
    assert weights_of(tmp_path / "one")["seed0"] != weights_of(tmp_path / "other")["seed1"]


def test_leaves_the_callers_generator_and_threads_as_they_were(films: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train_planted(plant(films, training={"threads": 2, "epochs": 1}), tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_files_added_elsewhere_change_nothing(tmp_path: Path) -> None:
    """Films that take no part, with names that come before all others, move every row of the index and no weight."""
    few = plant(tmp_path / "few")
    write_films(tmp_path / "many" / "films", classes=("HEALTHY", "ILL"))
    for film in sorted((tmp_path / "many" / "films").glob("*/*.png"))[::7]:
        film.with_name(f"a{film.name}").write_bytes(film.read_bytes() + b"\0")
    many = plant(tmp_path / "many")
    index = index_folder(many.study.data, workers=1)
    split = (
        index.select("row", "path", "content", "label", "group")
        .join(few.split.select("path", "part", "fold", "reason"), on="path", how="left")
        .with_columns(pl.col("part").fill_null("left_out"))
        .select(pl.col(name).cast(kind) for name, kind in SPLIT_SCHEMA.items())
    )
    train_planted(few, tmp_path / "one")
    train_planted(Planted(few.study.model_copy(update={"data": many.study.data}), index, split), tmp_path / "other")
    assert len(index) > len(few.index)
    assert weights_of(tmp_path / "one") == weights_of(tmp_path / "other")


@pytest.mark.parametrize("average", [None, 0.9])
def test_frozen_stays_frozen(films: Path, tmp_path: Path, average: float | None) -> None:
    parts = {"model": {"freeze": {"through": "1"}}, "training": {"average": average}}
    model = train_planted(plant(films, **parts), tmp_path)
    trained = load_file(tmp_path / "model/members/seed0/weights.safetensors")
    network, _ = build(plant(films).study, classes=["HEALTHY", "ILL"], seed=0, device=torch.device("cpu"))
    fresh = network.state_dict()
    for name, value in trained.items():
        same = torch.equal(value, fresh[name])
        assert same == (name.startswith(("features.0.", "features.1."))), name
    assert model.weights_total - model.weights_trainable == 8 * 25 + 16


def test_the_average_is_what_is_validated_and_kept(films: Path, tmp_path: Path) -> None:
    parts: dict[str, Any] = {"training": {"epochs": 2, "schedule": "constant"}}
    train_planted(plant(films, **parts), tmp_path / "without")
    parts["training"]["average"] = 0.99
    train_planted(plant(films, **parts), tmp_path / "with")
    without, averaged = history_of(tmp_path / "without"), history_of(tmp_path / "with")
    assert [line["train_loss"] for line in without] == [line["train_loss"] for line in averaged], "the steps are the same"
    assert [line["validation_loss"] for line in without] != [line["validation_loss"] for line in averaged]


def test_stops_when_validation_no_longer_improves(films: Path, tmp_path: Path) -> None:
    parts = {"training": {"epochs": 40, "stop_after": 3, "best": "accuracy"}}
    (member,) = train_planted(plant(films, **parts), tmp_path).members
    assert member.epochs == member.best_epoch + 3 < 40
    assert not (tmp_path / "model/members/seed0/checkpoint.safetensors").exists()


def test_a_rate_is_reduced_on_a_plateau(films: Path, tmp_path: Path) -> None:
    plateau = {"epochs": 6, "schedule": "plateau", "best": "accuracy", "learning_rate": 1e-6, "plateau": {"patience": 1, "minimum": 1e-7}}
    train_planted(plant(films, training=plateau), tmp_path)
    rates = [line["learning_rate"] for line in history_of(tmp_path)]
    assert rates[0] == 1e-6
    assert rates[-1] < 1e-6


@pytest.mark.parametrize(
    ("part", "settings"),
    [
        ("training", {"optimizer": "sgd"}),
        ("training", {"class_weights": "balanced"}),
        ("training", {"sampling": "class_balanced"}),
        ("training", {"label_smoothing": 0.2}),
        ("training", {"clip": 0.01}),
        ("training", {"clip": None}),
        ("training", {"weight_decay": 0.5}),
        ("training", {"momentum": 0.5}),
        ("training", {"precision": "bf16"}),
        ("model", {"dropout": [0.6]}),
        ("input", {"intensity": "zscore"}),
        ("augment", {"brightness": 0.0}),
    ],
)
def test_every_setting_reaches_the_weights(films: Path, tmp_path: Path, part: str, settings: dict[str, Any]) -> None:
    unequal = plant(films, training={"epochs": 1})
    train_planted(_unbalanced(unequal), tmp_path / "plain")
    parts: dict[str, Any] = {"training": {"epochs": 1}}
    parts[part] = {**parts.get(part, {}), **settings}
    train_planted(_unbalanced(plant(films, **parts)), tmp_path / "set")
    assert weights_of(tmp_path / "plain") != weights_of(tmp_path / "set")


def _unbalanced(planted: Planted) -> Planted:
    """Without half of the healthy films that train, so that class weights have something to balance."""
    few = (pl.col("part") == "train") & (pl.col("label") == "HEALTHY") & (pl.col("row") % 2 == 0)
    return Planted(planted.study, planted.index, planted.split.with_columns(part=pl.when(few).then(pl.lit("left_out")).otherwise("part")))


@pytest.mark.parametrize(
    "training", [{}, {"class_weights": "balanced", "label_smoothing": 0.1}, {"loss": "focal"}], ids=["", "weighted", "focal"]
)
def test_batches_that_are_added_up_are_one_large_batch(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training: dict[str, Any]
) -> None:
    """Without batch norm, which sees its own batch alone, and dropout."""
    monkeypatch.setitem(NETWORKS, "plain", lambda channels, height, width: nn.Sequential(nn.Conv2d(channels, 8, 5, stride=2), nn.Flatten()))
    losses = []
    for batch, times in ((16, 1), (8, 2), (4, 4)):
        parts = {
            "model": {"network": "plain", "dropout": [0.0]},
            "training": {"batch": batch, "accumulate": times, "optimizer": "sgd", **training},
        }
        train_planted(_unbalanced(plant(films, **parts)), tmp_path / str(batch))
        history = history_of(tmp_path / str(batch))
        losses.append([(line["train_loss"], line["validation_loss"]) for line in history])
        assert [line["step"] for line in history] == [2, 4, 6]
    np.testing.assert_allclose(losses[1:], [losses[0]] * 2, rtol=1e-4)


def test_members_of_folds_and_seeds(films: Path, tmp_path: Path) -> None:
    planted = plant(films, split={"folds": 3}, training={"epochs": 1})
    model = train_planted(planted, tmp_path)
    assert [(member.name, member.fold, member.seed) for member in model.members] == [("fold0", 0, 0), ("fold1", 1, 0), ("fold2", 2, 0)]
    assert len(set(weights_of(tmp_path).values())) == 3
    several = plant(films, split={"folds": 2}, training={"epochs": 1, "seeds": [3, 4]})
    assert [member.name for member in train_planted(several, tmp_path / "b").members] == [
        "fold0_seed3",
        "fold0_seed4",
        "fold1_seed3",
        "fold1_seed4",
    ]


def test_three_classes(tmp_path: Path) -> None:
    write_films(tmp_path / "films", classes=("HEALTHY", "ILL", "WORSE"), signal=60)
    model = train_planted(plant(tmp_path, positive=None, training={"epochs": 12, "best": "auc"}), tmp_path / "run")
    assert (model.classes, model.positive) == (["HEALTHY", "ILL", "WORSE"], None)
    assert model.members[0].best_value > 0.9


def test_tensorboard_has_the_history(films: Path, tmp_path: Path) -> None:
    train_planted(plant(films, training={"epochs": 2}), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard" / "seed0"))
    events.Reload()
    read = [(event.step, event.value) for event in events.Scalars("validation_loss")]
    assert read == [(line["epoch"], pytest.approx(line["validation_loss"])) for line in history_of(tmp_path)]


@pytest.mark.parametrize("file", ["history.jsonl", "tensorboard"])
def test_a_full_disk_is_said_while_training(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    opened = Path.open
    if file == "tensorboard":
        monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.flush", full)
    else:
        monkeypatch.setattr(Path, "open", lambda path, mode="r", **more: full() if mode == "ab" else opened(path, mode, **more))
    with pytest.raises(RunError, match=f"The disk is full: .*{file}.* could not be written"):
        train_planted(plant(films, training={"epochs": 1}), tmp_path)


def test_history_has_its_fields(films: Path, tmp_path: Path) -> None:
    train_planted(plant(films, training={"epochs": 1}), tmp_path)
    line = json.loads((tmp_path / "model/members/seed0/history.jsonl").read_text())
    assert set(line) == {
        *("epoch", "step", "learning_rate", "train_loss", "seconds", "images_per_second"),
        *("validation_loss", "validation_auc", "validation_accuracy", "validation_balanced_accuracy", "validation_spread"),
    }


def test_a_loss_that_is_no_number_is_said_with_advice(films: Path, tmp_path: Path) -> None:
    parts = {"training": {"optimizer": "sgd", "learning_rate": 1e30, "schedule": "constant", "clip": None}}
    with pytest.raises(TrainingError, match=r"not a number in epoch 1.*lower.*clip: 1.0"):
        train_planted(plant(films, **parts), tmp_path)
    assert history_of(tmp_path)[-1]["train_loss"] is None


def test_a_constant_answer_is_said_while_it_happens(films: Path, tmp_path: Path) -> None:
    listens = Listens()
    parts = {"model": {"dropout": [0.0]}, "training": {"epochs": 5, "optimizer": "sgd", "learning_rate": 1e-8}}
    model = train_planted(plant(films, **parts), tmp_path, progress=listens)
    (remark,) = model.remarks
    assert (remark.code, remark.figures["epoch"], remark.figures["member"]) == ("constant_output", 5, "seed0")
    assert remark.figures["loss"] == pytest.approx(math.log(2), abs=0.02)
    assert "constant_output" in listens.said


def test_remarks_are_read_off_the_history() -> None:
    def line(epoch: int, **values: float) -> dict[str, Any]:
        good = {
            "train_loss": 0.3,
            "validation_loss": 0.3,
            "validation_spread": 0.3,
            "validation_accuracy": 0.9,
            "validation_balanced_accuracy": 0.9,
        }
        return {"epoch": epoch, **good, **values}

    def codes(*history: dict[str, Any], classes: int = 2) -> list[str]:
        found = look_at(history, classes=classes, constant_loss=math.log(classes), uniform_loss=math.log(classes))
        return [finding.code for finding in found]

    good, stuck = line(1), line(1, train_loss=0.69, validation_spread=0.001)
    wild = line(1, validation_loss=53.0)
    assert codes(*[good] * 5) == codes(*[stuck] * 4) == codes(stuck, good, *[stuck] * 3) == codes(wild) == []
    assert codes(good, *[stuck] * 5) == ["constant_output"]
    assert codes(good, wild, wild) == ["exploding_logits"]
    assert codes(wild, wild, classes=50) == ["exploding_logits"]
    guessing = line(1, validation_loss=53.0, validation_balanced_accuracy=0.5)
    assert codes(guessing, guessing) == []


def test_a_failed_check_refuses_unless_it_is_expected(films: Path, tmp_path: Path) -> None:
    failed = CHECKS.model_copy(update={"checks": [Finding(code="adam_rate_high", level="fail")]})
    with pytest.raises(StudyError, match=r"expect: \[adam_rate_high\]"):
        train_planted(plant(films), tmp_path, checks=failed)
    expected = plant(films, expect=["adam_rate_high"], training={"epochs": 1})
    assert train_planted(expected, tmp_path, checks=failed).members


def test_nothing_to_choose_on_is_an_error(films: Path, tmp_path: Path) -> None:
    planted = plant(films)
    lost = planted.split.with_columns(part=pl.col("part").replace("validation", "left_out"))
    with pytest.raises(DataError, match="0 validate"):
        train_planted(Planted(planted.study, planted.index, lost), tmp_path)


def test_a_metric_that_does_not_exist_is_an_error(films: Path, tmp_path: Path) -> None:
    planted = plant(films, training={"best": "auc"})
    alone = (pl.col("part") == "validation") & (pl.col("label") == "ILL")
    lost = planted.split.with_columns(part=pl.when(alone).then(pl.lit("left_out")).otherwise("part"))
    with pytest.raises(DataError, match="best is auc"):
        train_planted(Planted(planted.study, planted.index, lost), tmp_path)


def test_no_memory_of_the_batch_size_of_validation(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation in batches of another size gives the same history, up to rounding."""
    train_planted(plant(films), tmp_path / "one")
    monkeypatch.setattr("tabib.training.inference.INFERENCE_BATCH", 5)
    train_planted(plant(films), tmp_path / "other")
    for one, other in zip(history_of(tmp_path / "one"), history_of(tmp_path / "other"), strict=True):
        np.testing.assert_allclose(one["validation_loss"], other["validation_loss"], rtol=1e-5)
        assert one["train_loss"] == other["train_loss"]
