"""Rounds go on while validation improves, return to the best weights and the learning rates when it does not, and are continued to the bit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from listens import Killed, KillsAfter, Listens
from planted import Planted, history_of, plant, train_planted, weights_of
from tabib.config import BaseTraining
from tabib.dataset import build_cache
from tabib.records import Model, Round, TriedRate
from tabib.training import loop, rounds
from tabib.training.batches import load_samples
from tabib.training.checkpoint import State
from tabib.training.class_work import ClassWork
from tabib.training.classify import build
from tabib.training.doctor import high_rate
from tabib.training.rates import RATES, losses_at, too_high, try_rates
from tabib.training.rounds import next_round
from tabib.training.step import start, train_step

ROUNDS: dict[str, Any] = {
    "model": {"dropout": [0.5]},
    "training": {"epochs": 14, "average": 0.8, "schedule": "rounds", "rounds": {"epochs": 2, "returns": 2}, "learning_rate": 0.1},
}
"""A rate so high that rounds soon improve nothing."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"), **ROUNDS)


@pytest.fixture(scope="module")
def whole(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model, Listens]:
    run, listens = tmp_path_factory.mktemp("whole"), Listens()
    return run, train_planted(planted, run, progress=listens), listens


def test_rounds_go_on_while_validation_improves_and_return_when_it_does_not(whole: tuple[Path, Model, Listens]) -> None:
    run, model, listens = whole
    (member,), history = model.members, history_of(run)
    assert [line["round"] for line in history] == [shown["round"] for shown in listens.rows]
    assert {each.from_epoch is None for each in member.rounds} == {True, False}, "some go on, and some return"
    for each, after in zip(member.rounds, [*member.rounds[1:], None], strict=True):
        lines = [line for line in history if line["round"] == each.number]
        assert [line["epoch"] for line in lines] == list(range(each.first_epoch, each.first_epoch + len(lines)))
        assert {line["learning_rate"] for line in lines} == {each.rate}
        if after is None:
            continue
        assert len(lines) == 2
        done = history[: each.first_epoch + 1]
        best = min(done, key=lambda line: line["validation_loss"])["epoch"]
        if best >= each.first_epoch:
            assert (after.rate, after.from_epoch, after.tried) == (each.rate, None, [])
        else:
            assert after.from_epoch == best
            assert [one.rate for one in after.tried] == sorted(one.rate for one in after.tried)
            assert {0.0, *RATES} < {one.rate for one in after.tried}
            assert after.rate < too_high("adamw")
            usable = (one for one in after.tried if one.end is not None and one.rate < too_high("adamw"))
            assert after.rate == min(usable, key=lambda one: one.end or 0).rate
    returns = sum(each.from_epoch is not None for each in member.rounds)
    assert returns <= 2
    assert listens.heard.count("learning rates") in (returns, returns + 1)


def test_bounded_by_epochs_and_by_returns(planted: Planted, whole: tuple[Path, Model, Listens], tmp_path: Path) -> None:
    (member,) = whole[1].members
    none = changed(planted, rounds={"epochs": 2, "returns": 0})
    (ended,) = train_planted(none, tmp_path / "none").members
    first_return = next(each.first_epoch for each in member.rounds if each.from_epoch is not None)
    assert ended.epochs == first_return - 1 < 14, "ends where the other returned"
    (cut,) = train_planted(changed(planted, epochs=3), tmp_path / "cut").members
    assert cut.epochs == 3
    assert [each.number for each in cut.rounds] == [1, 2]


@pytest.mark.parametrize(("of", "after"), [("epoch", 7), ("epoch", 30), ("learning rates", 3), ("learning rates", 11)])
def test_killed_in_a_round_or_in_a_sweep_and_continued(
    planted: Planted, whole: tuple[Path, Model, Listens], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str, after: int
) -> None:
    monkeypatch.setattr(loop, "_KILLED_EVERY", 0.0)
    with pytest.raises(Killed):
        train_planted(planted, tmp_path, progress=KillsAfter(after, of))
    killed = len(history_of(tmp_path))
    (member,) = train_planted(planted, tmp_path).members
    assert killed < member.epochs
    assert (weights_of(tmp_path), history_of(tmp_path)) == (weights_of(whole[0]), history_of(whole[0]))
    assert member.rounds == whole[1].members[0].rounds


def test_a_return_takes_the_best_weights_and_a_fresh_optimizer(planted: Planted) -> None:
    state, work = made(planted)
    state.best = {name: tensor.clone() for name, tensor in state.network.state_dict().items()}
    state.best_epoch = 1
    state.rounds = [Round(number=1, first_epoch=1, rate=0.1), Round(number=2, first_epoch=3, rate=0.1)]
    for batch in work.batches(1):
        train_step(state, work, batch)
    state.epoch = 4
    assert any(bool(state.optimizer.state[weight]) for weight in state.network.parameters())
    assert next_round(state, work)
    for network in (state.network, state.average):
        assert network is not None
        assert all(torch.equal(tensor, state.best[name]) for name, tensor in network.state_dict().items())
    assert not state.optimizer.state
    assert (state.rounds[-1].number, state.rounds[-1].from_epoch, state.rounds[-1].first_epoch) == (3, 1, 5)
    assert state.rate == state.rounds[-1].rate


def test_ends_where_no_rate_helps(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    state, work = made(planted)
    state.best, state.best_epoch, state.epoch = state.network.state_dict(), 1, 4
    state.rounds = [Round(number=1, first_epoch=3, rate=0.1)]
    monkeypatch.setattr(rounds, "losses_at", lambda *given, rate, **told: [0.5 + rate] * 10)
    listens = Listens()
    assert not next_round(state, work, progress=listens)
    assert "no learning rate that adamw trains with brings the loss below" in listens.said[-1]


def test_what_is_tried_leaves_no_trace(planted: Planted) -> None:
    state, work = made(planted)
    before = {name: tensor.clone() for name, tensor in state.network.state_dict().items()}
    first = losses_at(state.network, work, rate=0.1, steps=3)
    assert losses_at(state.network, work, rate=0.1, steps=3) == first
    assert losses_at(state.network, work, rate=0.0, steps=3)[0] == first[0] != first[1]
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.network.state_dict().items())


def test_the_finer_rates_are_beside_the_best() -> None:
    ends = {0.1: float("nan"), 0.01: 0.3, 0.001: 0.2, 0.0001: 0.4, 0.00001: 0.5, 0.000316: 0.25, 0.00316: 0.1}
    found, best = try_rates(lambda rate: [ends[rate]] * 10, falls=lambda one: one.end is not None, below=math.inf)
    assert best == 0.00316
    assert [one.rate for one in found] == sorted(ends)
    assert found[-1] == TriedRate(rate=0.1, losses=[], end=None)
    assert try_rates(lambda rate: [1.0], falls=lambda one: False, below=math.inf) == (
        [TriedRate(rate=rate, losses=[1.0], end=1.0) for rate in sorted(RATES)],
        None,
    )


@pytest.mark.parametrize(
    ("optimizer", "best", "finer"),
    [
        ("adamw", 0.01, (0.00316, 0.0316)),
        ("adam", 0.01, (0.00316, 0.0316)),
        ("rmsprop", 0.00316, (0.000316, 0.00316)),
        ("sgd", 0.1, (0.0316, 0.316)),
    ],
)
def test_a_rate_that_the_doctor_refuses_is_tried_and_never_chosen(optimizer: str, best: float, finer: tuple[float, float]) -> None:
    found, chosen = try_rates(lambda rate: [abs(rate - 0.1)], falls=lambda one: True, below=too_high(optimizer))
    assert chosen == best
    assert [one.rate for one in found] == sorted([*RATES, *finer]), "what is refined is the neighbourhood of what may be chosen"
    assert high_rate(BaseTraining.model_validate({"optimizer": optimizer, "learning_rate": chosen})) == []
    every, none = try_rates(lambda rate: [1.0], falls=lambda one: one.rate == 0.1, below=0.1)
    assert ([one.rate for one in every], none) == (sorted(RATES), None)


def test_a_round_never_begins_with_a_rate_that_the_doctor_refuses(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    state, work = made(planted)
    state.epoch, state.best_epoch, state.best = 4, 2, dict(state.network.state_dict())
    state.rounds = [Round(number=1, first_epoch=1, rate=0.02), Round(number=2, first_epoch=3, rate=0.02)]
    monkeypatch.setattr(rounds, "losses_at", lambda *given, rate, **told: [1.0 - rate] * 10)
    assert next_round(state, work)
    assert (state.rounds[-1].rate, state.rounds[-1].tried[-1].rate) == (0.01, 0.1)


def made(planted: Planted) -> tuple[State, ClassWork]:
    study = planted.study
    cache = build_cache(study.data, planted.index, study.input, folder=planted.cache_folder, workers=1)
    device = torch.device("cpu")
    told: dict[str, Any] = {"classes": ["HEALTHY", "ILL"], "device": device}
    train, validation = (load_samples(cache, planted.split.filter(part=part), **told) for part in ("train", "validation"))
    network, _ = build(study, classes=["HEALTHY", "ILL"], seed=0, device=device)
    work = ClassWork.of(study.training, study.augment, "network", train, validation, classes=2, seed=0)
    return start(network, study.training), work


def changed(planted: Planted, **training: Any) -> Planted:
    return plant(planted.study.data.folder.parent, **{**ROUNDS, "training": {**ROUNDS["training"], **training}})
