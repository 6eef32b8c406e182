"""The user's own module: trained like any network, asked for again, and refused where it is another."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from typer.testing import CliRunner

from listens import Killed, KillsAfter
from planted import Planted, history_of, plant, train_planted, weights_of
from tabib.cli import app
from tabib.config import ModelPart
from tabib.errors import RunError, StudyError
from tabib.prediction import Predictor, predict_index, predict_paths
from tabib.records import Decision, Model
from tabib.reports import write_reports
from tabib.runs import Reached, open_run, read_record, save
from tabib.study import run_study
from tabib.study_file import dump_study
from tabib.training import calibrate, name_own, summarise_network
from tabib.training.calibrate import load_networks
from tabib.training.inference import kind_of_features, pool
from tabib.training.networks import build_network

CPU = torch.device("cpu")


class Cnn(nn.Module):
    """As in a hundred tutorials: with batch norm, dropout, and a `view` that asks for one layout of memory."""

    def __init__(self, outputs: int = 2, *, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv1 = nn.Conv2d(1, 8, 5, stride=2)
            self.norm1 = nn.BatchNorm2d(8)
            self.conv2 = nn.Conv2d(8, 8, 3, stride=2)
            self.dropout = nn.Dropout(0.2)
            self.dense = nn.Linear(8 * 3 * 3, outputs)

    def forward(self, images: Tensor) -> Tensor:
        maps = torch.relu(self.conv2(torch.relu(self.norm1(self.conv1(images)))))
        return self.dense(self.dropout(maps.view(len(images), -1)))


class Changed(Cnn):
    def forward(self, images: Tensor) -> Tensor:
        maps = functional.silu(self.conv2(torch.relu(self.norm1(self.conv1(images)))))
        return self.dense(self.dropout(maps.reshape(len(images), -1)))


class Answers(nn.Module):
    """Makes of features what a function says."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Any], outputs: int = 2) -> None:
        super().__init__()
        self.dense = nn.Linear(400, outputs)
        self.function = function

    def forward(self, images: Tensor) -> Any:
        return self.function(self, self.dense(images.reshape(len(images), -1)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


def planted_own(folder: Path, module: nn.Module, **parts: Any) -> Planted:
    planted = plant(folder, **{**parts, "model": {"network": "own", **parts.get("model", {})}})
    return replace(planted, study=name_own(planted.study, module))


@pytest.fixture(scope="module")
def trained(folder: Path) -> tuple[Planted, Path, Model, Decision]:
    planted, run = planted_own(folder, Cnn(), training={"epochs": 6, "seeds": [1, 2]}), folder / "run"
    model = train_planted(planted, run, own=Cnn())
    decision = calibrate(
        model, planted.index, planted.split, planted.study, place=run / "model", cache_folder=planted.cache_folder, own=Cnn(seed=5)
    )
    save(run / "model/model.json", model)
    save(run / "model/decision.json", decision)
    return planted, run, model, decision


def test_it_is_trained_and_predicts_as_it_was_judged(trained: tuple[Planted, Path, Model, Decision]) -> None:
    planted, run, model, decision = trained
    # The weights of the module that is given again do not matter.
    again = Cnn(seed=9)
    table = predict_index(
        model, decision, planted.index, planted.split, planted.study, place=run / "model", cache_folder=planted.cache_folder, own=again
    ).filter(pl.col("part") == "test")
    assert (table["label"] == table["predicted"]).mean() > 0.8  # pyright: ignore[reportOptionalOperand, reportOperatorIssue]
    predictor = Predictor.load(run / "model", device="cpu", network=again)
    served = predict_paths(predictor, [planted.study.data.folder / path for path in table["path"]], workers=1)
    assert np.allclose(served["p_ILL"], table["p_ILL"], atol=1e-6)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(again.parameters(), Cnn(seed=9).parameters(), strict=True))
    assert (model.network, model.weights_source, model.outputs, model.head, model.dropout) == ("own", "own", "one_per_class", [], [])
    assert model.weights_total == sum(weight.numel() for weight in again.parameters())


def gate() -> nn.Module:
    """A network without a linear layer at its end: the one that it has opens and closes channels."""
    return Answers(lambda self, scores: scores[:, :1] * self.dense.weight[:2, 0], outputs=8)  # pyright: ignore[reportIndexIssue, reportAttributeAccessIssue]


@pytest.mark.parametrize(("module", "kind", "wide"), [(Cnn(), "last_linear", 72), (gate(), "logits", 2)], ids=["linear", "gate"])
def test_its_features_are_what_its_last_linear_layer_is_given(module: nn.Module, kind: str, wide: int) -> None:
    network = build_network(ModelPart(network="own"), classes=2, channels=1, height=20, width=20, own=module)
    images, statistics = torch.rand(5, 1, 20, 20, generator=torch.Generator().manual_seed(0)), torch.zeros(5, 6)
    features = pool(network, images, statistics, intensity="unit")
    assert kind_of_features(network, images) == kind
    assert features.shape == (5, wide)
    last = module.dense if kind == "last_linear" else nn.Identity()
    with torch.no_grad():
        assert torch.allclose(last(features), network(images), atol=1e-6)  # pyright: ignore[reportCallIssue]


def test_seeds_start_from_the_same_weights_and_become_different_members(
    folder: Path, trained: tuple[Planted, Path, Model, Decision]
) -> None:
    assert len(set(weights_of(trained[1]).values())) == 2
    still = {"epochs": 1, "seeds": [1, 2], "learning_rate": 1e-12, "weight_decay": 0}
    save(folder / "still/model/model.json", train_planted(planted_own(folder, Cnn(), training=still), folder / "still", own=Cnn()))
    first, second = (dict(network.named_parameters()) for network in _networks(folder / "still", Cnn()))
    start = {f"features.{name}": weight for name, weight in Cnn().named_parameters()}
    assert all(
        torch.allclose(first[name], start[name], atol=1e-6) and torch.allclose(second[name], start[name], atol=1e-6) for name in start
    )


def _networks(run: Path, module: nn.Module) -> list[Any]:
    return load_networks(read_record(run / "model/model.json", Model), run / "model", device=CPU, own=module)


def test_killed_and_continued_it_comes_out_the_same(folder: Path, tmp_path: Path) -> None:
    planted = planted_own(folder, Cnn(), training={"epochs": 3, "average": 0.8})
    train_planted(planted, tmp_path / "whole", own=Cnn())
    with pytest.raises(Killed):
        train_planted(planted, tmp_path / "killed", own=Cnn(), progress=KillsAfter(5))
    train_planted(planted, tmp_path / "killed", own=Cnn())
    assert (weights_of(tmp_path / "killed"), history_of(tmp_path / "killed")) == (
        weights_of(tmp_path / "whole"),
        history_of(tmp_path / "whole"),
    )


def test_first_layers_can_be_frozen_and_the_last_cannot(folder: Path, tmp_path: Path) -> None:
    module = Cnn()
    planted = planted_own(folder, module, model={"freeze": {"through": "norm1"}}, augment=dict.fromkeys(MOVES, 0))
    kept = replace(planted, study=_with_training(planted, frozen_features="keep"))
    for name, each in (("computed", planted), ("kept", kept)):
        save(tmp_path / name / "model/model.json", train_planted(each, tmp_path / name, own=module))
    computed, frozen = (network.state_dict() for network in (_networks(tmp_path / name, module)[0] for name in ("computed", "kept")))
    assert torch.equal(computed["features.conv1.weight"], module.conv1.weight)
    assert not torch.equal(computed["features.conv2.weight"], module.conv2.weight)
    assert all(torch.allclose(computed[name], frozen[name], atol=1e-4) for name in computed)
    with pytest.raises(StudyError, match="No weight of the network is left to train"):
        train_planted(planted_own(folder, module, model={"freeze": "all_but_head"}), tmp_path / "none", own=module)


MOVES = ("rotation_degrees", "shift", "zoom", "brightness", "contrast")


def _with_training(planted: Planted, **changes: Any) -> Any:
    return planted.study.model_copy(update={"training": planted.study.training.model_copy(update=changes)})


def test_another_module_is_refused_with_the_trained_weights(trained: tuple[Planted, Path, Model, Decision], tmp_path: Path) -> None:
    place = trained[1] / "model"
    with pytest.raises(RunError, match="its forward has changed"):
        Predictor.load(place, device="cpu", network=Changed())
    with pytest.raises(StudyError, match="makes 3 numbers of an image, and there are 2 classes"):
        Predictor.load(place, device="cpu", network=Cnn(3))
    with pytest.raises(RunError, match=r"its layers are others(?s:.*)dense"):
        Predictor.load(place, device="cpu", network=Cnn(1))
    with pytest.raises(StudyError, match="This needs Python"):
        Predictor.load(place, device="cpu")
    shutil.copytree(trained[1], tmp_path / "known")
    save(tmp_path / "known/model/model.json", trained[2].model_copy(update={"network": "mri_cnn_test1"}))
    with pytest.raises(StudyError, match=r"Set model\.network: own, or give none"):
        Predictor.load(tmp_path / "known/model", device="cpu", network=Cnn())


def test_its_name_follows_layers_weights_and_forward(folder: Path) -> None:
    study = plant(folder, model={"network": "own"}).study
    names = [name_own(study, module).model.own_sha256 for module in (Cnn(), Cnn(seed=1), Changed(), Cnn(1))]
    assert len(set(names)) == 4
    assert name_own(study, Cnn()).model.own_sha256 == names[0]
    assert name_own(name_own(study, Cnn()), Cnn()).model.own_sha256 == names[0]
    with pytest.raises(StudyError, match="the module given is another"):
        name_own(name_own(study, Cnn()), Changed())


def test_a_module_and_the_study_must_agree(folder: Path) -> None:
    with pytest.raises(StudyError, match=r"model\.network is tiny\. Set model.network: own"):
        name_own(plant(folder).study, Cnn())
    with pytest.raises(StudyError, match="This needs Python: run_study"):
        name_own(plant(folder, model={"network": "own"}).study, None)
    with pytest.raises(StudyError, match=r"model\.outputs is one, and the module given makes 2"):
        name_own(plant(folder, model={"network": "own", "outputs": "one"}).study, Cnn())
    for part, wrong in (
        ({"model": {"network": "own", "head": [4]}}, "has its own head"),
        ({"model": {"network": "own", "weights": "imagenet", "dropout": [0.1]}}, "has its own weights and dropout"),
        ({"model": {"network": "own"}, "input": {"channels": "auto"}}, "set it to 1 or 3"),
        ({"model": {"network": "tiny", "own_sha256": "0" * 64}}, "leave it out, or set network: own"),
    ):
        with pytest.raises(ValueError, match=wrong):
            plant(folder, **part)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Cnn(3), "makes 3 numbers of an image, and there are 2 classes. It must make 1 or 2"),
        (nn.Conv2d(1, 2, 3), r"makes torch.float32 of shape \(4, 2, 18, 18\) of 4 images of 1x20x20 in evaluation mode"),
        (nn.Conv2d(3, 2, 3), "cannot take images of 1x20x20 .*: RuntimeError: "),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), "Call it once on an image first"),
        (Answers(lambda module, logits: logits.softmax(1)), "are probabilities: leave its softmax out"),
        (Answers(lambda module, logits: functional.dropout(logits)), "functional.dropout without training=self.training"),
        (Answers(lambda module, logits: (logits, logits) if module.training else logits), "makes tuple of 4 images of 1x20x20 in training mode"),
        (Answers(lambda module, logits: logits.argmax(1, keepdim=True)), r"makes torch.int64 of shape \(4, 1\)"),
    ],
    ids=["classes", "maps", "channels", "lazy", "softmax", "dropout", "two_answers", "numbers_of_classes"],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_with_what_it_did(folder: Path, tmp_path: Path, module: nn.Module, said: str) -> None:
    with pytest.raises(StudyError, match=said):
        train_planted(planted_own(folder, module), tmp_path, own=module)


def test_shared_weights_are_refused(folder: Path) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(400, 400), nn.Linear(400, 400), nn.Linear(400, 2))
    module[2].weight = module[1].weight  # pyright: ignore[reportArgumentType]
    with pytest.raises(StudyError, match="share one tensor"):
        planted_own(folder, module)


def test_one_output_serves_two_classes(folder: Path, tmp_path: Path) -> None:
    assert train_planted(planted_own(folder, Cnn(1)), tmp_path, own=Cnn(1)).outputs == "one"


def test_its_summary(folder: Path) -> None:
    summary = summarise_network(plant(folder, model={"network": "own"}).study, classes=2, own=Cnn())
    assert [layer.name for layer in summary.layers] == [
        *(f"features.{name}" for name in ("conv1", "norm1", "conv2", "dropout", "dense")),
        "head",
    ]
    assert summary.weights == sum(weight.numel() for weight in Cnn().parameters())


def test_the_road_trains_a_changed_module_again_and_the_report_says_what_is_missing(folder: Path) -> None:
    study = plant(folder, model={"network": "own"}, training={"epochs": 1}).study
    heard: list[tuple[str, bool]] = []
    hashes = []
    for module, until in ((Cnn(), "model"), (Cnn(), "model"), (Changed(), None)):
        with (
            open_run(study, root=folder / "runs", until=until, on_step=lambda name, loaded: heard.append((name, loaded))) as run,
            suppress(Reached),
        ):
            run_study(study, run, network=module)
        hashes.append(run.read("model").members[0].weights_sha256)
    loaded = [loaded for name, loaded in heard if name == "model"]
    assert (loaded, hashes[0] == hashes[1], hashes[1] == hashes[2]) == ([False, True, False], True, False)
    english, persian = ((run.folder / f"report.{code}.html").read_text(encoding="utf-8") for code in ("en", "fa"))
    assert "The study file alone cannot repeat this run" in english
    assert "the user&#39;s own PyTorch module" in english
    assert "به‌تنهایی این اجرا را تکرار نمی‌کند" in persian
    assert write_reports(run.folder, run.worded())  # again, without the module
    with pytest.raises(StudyError, match="This needs Python"), open_run(study, root=folder / "runs", until="split") as run:
        run_study(study, run)


def test_the_command_line_says_that_it_needs_python(folder: Path, trained: tuple[Planted, Path, Model, Decision], tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(dump_study(plant(folder, model={"network": "own"}).study), encoding="utf-8")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/manifest.json").write_text(f'{{"given": {trained[0].study.model_dump_json()}}}')
    shutil.copytree(trained[1] / "model", tmp_path / "run/model")
    for command in (
        ["run", tmp_path / "study.yaml", "--runs", tmp_path / "runs"],
        ["summary", tmp_path / "study.yaml", "--classes", 2],
        ["predict", tmp_path / "run", trained[0].study.data.folder],
    ):
        error = CliRunner().invoke(app, [str(word) for word in command]).exception
        assert isinstance(error, StudyError), error
        assert "This needs Python" in str(error)
        assert error.exit_code == 2
