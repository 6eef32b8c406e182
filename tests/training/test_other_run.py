"""Weights from another run: taken whole, known by their hash, and refused where they have seen what judges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from planted import Planted, plant, train_planted
from tabib.config import Study
from tabib.errors import StudyError, WeightsError
from tabib.records import Checks, Model
from tabib.runs import save, study_id
from tabib.study_file import dump_study, parse_study
from tabib.training import check_training
from tabib.training.classify import build

CPU = torch.device("cpu")
NAMES = ["HEALTHY", "ILL"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A finished run on the films of `folder`."""
    place = folder / "runs" / "first" / "0123456789ab"
    planted = plant(folder, training={"epochs": 4, "seeds": [3, 4]})
    save(place / "model/model.json", train_planted(planted, place))
    save(place / "index.parquet", planted.index)
    save(place / "split.csv", planted.split)
    return place


def later(folder: Path, run: Path, **parts: Any) -> Planted:
    return plant(folder, **{**parts, "model": {"weights": f"run:{run}", **parts.get("model", {})}})


def taken(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items() if not name.endswith("num_batches_tracked"))


def check(planted: Planted) -> Checks:
    return check_training(planted.index, planted.split, planted.study, cache_folder=planted.cache_folder)


def test_the_first_member_is_taken_with_its_head_and_its_scale(folder: Path, run: Path) -> None:
    network, _ = build(later(folder, run).study, classes=NAMES, seed=9, device=CPU)
    file = run / "model/members/seed3/weights.safetensors"
    theirs = load_file(file)
    assert taken(network.state_dict(), theirs)
    assert network.answers
    assert network.weights_source == "run first/0123456789ab, seed3 (tiny)"
    assert network.weights_source_sha256 == Model.model_validate_json((run / "model/model.json").read_bytes()).members[0].weights_sha256


@pytest.mark.parametrize(("names", "model"), [(["ILL", "HEALTHY"], {}), (["A", "B", "C"], {}), (NAMES, {"head": [4]})])
def test_other_classes_or_another_head_begin_anew(folder: Path, run: Path, names: list[str], model: dict[str, object]) -> None:
    network, _ = build(later(folder, run, model=model).study, classes=names, seed=9, device=CPU)
    theirs = load_file(run / "model/members/seed3/weights.safetensors")
    assert taken({name: tensor for name, tensor in network.state_dict().items() if name.startswith("features.")}, theirs)
    assert not network.answers
    last = list(network.state_dict())[-2]
    assert network.state_dict()[last].std() < 0.02  # as drawn


def test_the_same_split_has_nothing_to_say(folder: Path, run: Path) -> None:
    checks = check(later(folder, run))
    assert all(finding.level == "pass" for finding in checks.checks)
    assert checks.initial_loss < 0.6  # it goes on where the other stopped


def test_another_split_is_refused_with_the_images_that_were_seen(folder: Path, run: Path) -> None:
    planted = later(folder, run, split={"seed": 5})
    (found,) = [finding for finding in check(planted).checks if finding.code == "weights_saw_test"]
    test = planted.split.filter(pl.col("part") == "test")
    others = pl.read_csv(run / "split.csv").filter(pl.col("part") != "test")["content"]
    seen = test.filter(pl.col("content").is_in(others.implode()))["row"].to_list()
    assert found.rows == sorted(seen)
    assert (found.level, found.page_one, found.figures) == (
        "fail",
        True,
        {"run": "first/0123456789ab", "seen": len(seen), "images": len(test)},
    )


def test_another_scale_is_refused(folder: Path, run: Path) -> None:
    with pytest.raises(StudyError, match=r"intensity is unit, and the weights of .* were trained on intensity: network"):
        build(later(folder, run, input={"intensity": "unit"}).study, classes=NAMES, seed=0, device=CPU)


def test_weights_that_the_run_did_not_train_are_refused(folder: Path, run: Path) -> None:
    file = run / "model/members/seed3/weights.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-4] + b"\0\0\0\1")
    try:
        with pytest.raises(WeightsError, match="does not hold the weights that its run trained"):
            build(later(folder, run).study, classes=NAMES, seed=0, device=CPU)
    finally:
        file.write_bytes(whole)


def test_a_folder_that_is_no_run_is_said(folder: Path, run: Path) -> None:
    with pytest.raises(WeightsError, match="holds no trained model"):
        build(later(folder, run.parent).study, classes=NAMES, seed=0, device=CPU)
    with pytest.raises(WeightsError, match="does not fit small_resnet"):
        build(later(folder, run, model={"network": "small_resnet"}).study, classes=NAMES, seed=0, device=CPU)


def test_the_study_names_a_run_relative_to_itself(tmp_path: Path) -> None:
    study = parse_study("name: a\ndata: {folder: films}\nmodel: {weights: 'run:../runs/first/0'}", base=tmp_path / "studies")
    assert study.model.weights == f"run:{tmp_path}/runs/first/0"
    assert parse_study(dump_study(study)) == study


def test_the_id_of_a_run_follows_the_weights_it_starts_from(tmp_path: Path) -> None:
    def identify(name: str, content: str) -> str:
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "model/model.json").write_text(content)
        (tmp_path / "films").mkdir(exist_ok=True)
        return study_id(
            Study.model_validate({"name": "a", "data": {"folder": tmp_path / "films"}, "model": {"weights": f"run:{tmp_path / name}"}})
        )

    assert identify("one", "x") == identify("copy", "x") != identify("other", "y")
