"""What went wrong in six published reports, planted one by one, is caught where it can be; its sound opposite is not.

Every fault has a row here, or its row in docs/reference-studies/requirements.md names the test that it has elsewhere.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy.special import expit, logit
from torch import nn

from made_index import film, make_index
from made_predictions import Made, made_study
from planted import plant, tiny_network, train_planted
from tabib.config import Data, ModelPart, Study, Training
from tabib.dataset import index_folder, inspect_dataset, split_dataset
from tabib.errors import RunError, StudyError
from tabib.evaluation import answer_differences, evaluate, moves_of
from tabib.evaluation.answers import Answers
from tabib.evaluation.history import judge_histories
from tabib.images import encode_png
from tabib.metrics.intervals import Sureness
from tabib.records import INDEX_SCHEMA, Finding, Findings
from tabib.runs import atomic_write, check_folder_place, keep_apart
from tabib.study_file import parse_study
from tabib.training import check_training
from tabib.training.doctor import against_kind, high_rate, shares_missed, two_patiences
from tabib.training.first_layer import parts_differ
from tabib.training.members import weights_of
from tabib.training.networks import NETWORKS, build_network
from tabib.training.remarks import look_at

Codes = list[str]
FILMS = [film(seed) for seed in range(40)]
LABELS = ["ILL", "WELL"] * 20
PATIENTS = [f"p{number // 4:02d}{label}" for number, label in enumerate(LABELS)]
PARTS = ["test" if number % 4 > 1 else "train" for number in range(40)]


@dataclass(frozen=True)
class Fault:
    """One fault of the reports."""

    where: str
    code: str  # of the finding, or the words of the refusal
    plant: Callable[[Path], Iterable[str]]  # what is found where it is
    sound: Callable[[Path], Iterable[str]]  # and where it is not


def codes(findings: Iterable[Finding]) -> Codes:
    return [finding.code for finding in findings if finding.level != "pass"]


def refusal(function: Callable[[], object]) -> Codes:
    try:
        function()
    except (StudyError, RunError) as error:
        return [str(error)]
    return []


def looked(pictures: Sequence[np.ndarray] = FILMS, *, positive: str | None = "ILL", pattern: str | None = "(p)", **columns: Any) -> Codes:
    paths = columns.pop("paths", None)
    index = make_index(pictures, labels=columns.pop("labels", LABELS), paths=paths, columns={"group": PATIENTS, **columns})
    study = {"name": "test", "positive": positive, "data": {"folder": ".", "group": pattern}, "split": {"given": True, "leaks": "drop"}}
    return codes(inspect_dataset(index, Study.model_validate(study)).findings)


@cache
def clean() -> Codes:
    """A sound data set; parts as given, and patients apart in them."""
    patients = [f"{part}{number // 2}" for number, part in enumerate(PARTS)]
    return looked(given=PARTS, group=patients)


def doubled(folder: Path, inner: str | None) -> Codes:
    for number in range(8):
        (folder / "films" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        (folder / "films" / "ab"[number % 2] / f"{number}.png").write_bytes(encode_png(FILMS[number]))
    if inner:
        shutil.copytree(folder / "films", folder / "films" / inner)
    study = Study(name="films", data=Data(folder=folder / "films"))
    findings = inspect_dataset(index_folder(study.data, workers=1), study).findings
    return [finding.code for finding in findings]  # the second copy is left aside, and that is said


class Divides(nn.Module):
    """A network that scales its images itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = tiny_network(channels, 20, 20)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images / 255)


def idle(channels: int, height: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.ReLU(), nn.MaxPool2d(2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


NETS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "divides": lambda channels, height, width: Divides(channels),
    "idle": idle,
}


def checked(folder: Path, **parts: Any) -> Codes:
    planted = plant(folder, **parts)
    return codes(check_training(planted.index, planted.split, planted.study, cache_folder=planted.cache_folder).checks)


def trained(folder: Path, rate: float) -> Codes:
    training = {"epochs": 6, "optimizer": "sgd", "learning_rate": rate, "schedule": "constant"}
    return codes(train_planted(plant(folder, model={"dropout": [0.0]}, training=training), folder / f"run{rate}").remarks)


def history(loss: float) -> Codes:
    line = {"train_loss": 0.3, "validation_loss": loss, "validation_spread": 0.3, "validation_accuracy": 0.9}
    lines = [{"epoch": epoch, **line, "validation_balanced_accuracy": 0.9} for epoch in (1, 2)]
    return codes(look_at(lines, classes=2, constant_loss=math.log(2), uniform_loss=math.log(2)))


def swung(swing: float) -> Codes:
    lines = [
        {"epoch": n, "train_loss": 0.3, "validation_loss": 0.4, "validation_balanced_accuracy": 0.93 + swing * (-1) ** n} for n in range(12)
    ]
    return codes(judge_histories({"seed0": lines}))


def served(folder: Path, other: bytes) -> Codes:
    run = folder / "run"
    (member,) = train_planted(plant(folder, training={"epochs": 1}), run).members
    file = run / "model/members" / member.name / "weights.safetensors"
    file.write_bytes(file.read_bytes() + other)
    return refusal(lambda: weights_of(run / "model", member))


def parsed(text: str) -> Codes:
    return refusal(lambda: parse_study(f"name: a\ndata: {{folder: x, kind: chest_film}}\n{text}", source="study.yaml"))


def of_kind(augment: str) -> Codes:
    study = parse_study(f"name: a\ndata: {{folder: x, kind: chest_film}}\naugment: {augment}", source="study.yaml")
    return codes(against_kind(study))


def fed(moved: float) -> Codes:
    groups = [str(number) for number in range(40)]
    values = np.random.default_rng(0).normal((0.5, 0.2), 0.02, (40, 2))
    return codes(parts_differ({"train": (values, groups), "test": (values + moved, groups)}))


def drawn(largest: int) -> Codes:
    """What is said of 160 films when one patient has so many of them and the others have four each."""
    rows = range(160)
    names = [f"p{0 if row < largest else 1 + (row - largest) // 4}" for row in rows]
    labels = ["WELL" if row < largest or row % 8 > 3 else "ILL" for row in rows]
    known = {"row": rows, "path": list(map(str, rows)), "content": list(map(str, rows)), "label": labels, "group": names}
    index = pl.DataFrame({name: known.get(name, [None] * 160) for name in INDEX_SCHEMA}, schema=INDEX_SCHEMA)
    study = Study(name="test", data=Data(folder=Path()))
    return codes(shares_missed(split_dataset(index, Findings(findings=[]), study), study))


def among(folder: Path) -> Codes:
    """Whether a table can be written below a folder that nobody made."""
    with atomic_write(folder / "not/made/table.csv") as file:
        file.write(b"path")
    return refusal(lambda: check_folder_place(folder / "not/made/table.csv/tables"))


def cut_at(threshold: float) -> Codes:
    """What is said of a model whose every probability is far too small."""
    predictions, index, split = Made().tables()
    low = expit(logit(predictions["p_PNEUMONIA"].to_numpy()) - 3)
    predicted = np.where(low >= threshold, "PNEUMONIA", "NORMAL")
    said = predictions.with_columns(p_NORMAL=1 - low, p_PNEUMONIA=low, predicted=pl.Series(predicted))
    return codes(evaluate(said, index, split, made_study({"calibrate": {"threshold": {"fixed": threshold}}})).remarks)


def right(first: int, second: int) -> Codes:
    """What may be said of two models of which the better is right wherever the other is, on 100 patients."""
    truth = np.arange(100) % 2
    labels = [answered(truth, np.where(np.arange(100) < count, truth, 1 - truth)) for count in (second, first)]
    found = answer_differences([moves_of([labels[0]])], [moves_of([labels[1]])], labels[0], Sureness())
    (accuracy,) = (each for each in found if each.name == "accuracy")
    assert accuracy.value == pytest.approx((second - first) / 100)
    assert accuracy.p is not None
    return ["not distinguishable"] if accuracy.p > 0.05 else []


def answered(truth: np.ndarray, predicted: np.ndarray) -> Answers:
    sure = np.eye(2)[predicted]
    return Answers(("WELL", "ILL"), np.arange(len(truth)), truth, predicted, sure, np.arange(len(truth)))


def built(network: str, *dropout: float) -> Codes:
    part = ModelPart(network=network, dropout=list(dropout), outputs="one")
    return refusal(lambda: build_network(part, classes=2, channels=3, height=64, width=64, seed=0))


def judged(looks: int) -> Codes:
    return codes(evaluate(*Made().tables(), made_study(), test_looks=looks).remarks)


def siblings() -> list[np.ndarray]:
    """Films of the test folder are films of the training folder, a little brighter."""
    return [np.clip(FILMS[number - 2] * 0.9 + 12, 0, 255).astype(np.uint8) if number % 4 > 1 else FILMS[number] for number in range(40)]


NUMBERED = [f"{label}/film{np.argsort(np.argsort(LABELS, kind='stable'))[row]:03d}.png" for row, label in enumerate(LABELS)]
NAMED = [f"{label}/patient{row // 4:03}{label[0]}_{row}.png" for row, label in enumerate(LABELS)]
SGD = {"optimizer": "sgd", "learning_rate": 0.1}

FAULTS: dict[str, Fault] = {
    "G1 siblings of training images in test": Fault(
        "look", "given_leak_copies", lambda folder: looked(siblings(), given=PARTS), lambda folder: clean()
    ),
    "G2 one person on both sides": Fault("look", "given_leak_groups", lambda folder: looked(given=PARTS), lambda folder: clean()),
    "G3 the site tells the label": Fault(
        "look",
        "acquisition_confounder",
        lambda folder: looked(scanner=["Acme" if label == "ILL" else "Other" for label in LABELS]),
        lambda folder: clean(),
    ),
    "G3 the numbering tells the label": Fault(
        "look", "numbering_separates_classes", lambda folder: looked(paths=NUMBERED), lambda folder: clean()
    ),
    "G4 divided by file although names carry patients": Fault(
        "look",
        "group_pattern_proposed",
        lambda folder: looked(paths=NAMED, group=[None] * 40, pattern=None),
        lambda folder: looked(paths=NAMED, group=[f"p{number // 4}" for number in range(40)]),
    ),
    "G5 no seed": Fault("config", "split.seed", lambda folder: parsed("split: {seed: none}"), lambda folder: parsed("split: {seed: 3}")),
    "G6 nothing but validation judges": Fault(
        "config",
        "a model that nothing judges",
        lambda folder: parsed("split: {train: 0.8, validation: 0.2, test: 0}"),
        lambda folder: parsed("split: {train: 0.6, validation: 0.2, test: 0.2}"),
    ),
    "G7 shares that make no whole": Fault(
        "config",
        "train + validation + test is 1.05",
        lambda folder: parsed("split: {train: 0.8, validation: 0.15, test: 0.1}"),
        lambda folder: parsed("split: {train: 0.8, validation: 0.1, test: 0.1}"),
    ),
    "G7 20 % declared and 8 % drawn": Fault("settings", "shares_missed", lambda folder: drawn(120), lambda folder: drawn(4)),
    "G8 test used to choose": Fault("evaluate", "test_looked_often", lambda folder: judged(3), lambda folder: judged(1)),
    "G10 a file where a folder is to be": Fault(
        "run",
        "is a file, and a folder was expected",
        among,
        lambda folder: refusal(lambda: check_folder_place(folder / "not/made")),
    ),
    "G11 folders doubled in the archive": Fault(
        "look", "folders_doubled", lambda folder: doubled(folder, "all"), lambda folder: doubled(folder, None)
    ),
    "G12 the positive class is not said": Fault("look", "positive_unclear", lambda folder: looked(positive=None), lambda folder: clean()),
    "G13 files written among the images": Fault(
        "run",
        "inside the images",
        lambda folder: refusal(lambda: keep_apart(folder / "films/runs", folder / "films")),
        lambda folder: refusal(lambda: keep_apart(folder / "runs", folder / "films")),
    ),
    "G14 train and test prepared otherwise": Fault("doctor", "input_parts_differ", lambda folder: fed(0.3), lambda folder: fed(0.0)),
    "G15 scaled twice": Fault(
        "doctor",
        "input_scale_off",
        lambda folder: checked(folder, model={"network": "divides"}, input={"intensity": "unit"}),
        lambda folder: checked(folder, input={"intensity": "unit"}),
    ),
    "G16 shear without a unit": Fault(
        "config", "shear_degrees", lambda folder: parsed("augment: {shear: 0.2}"), lambda folder: parsed("augment: {shear_degrees: 10}")
    ),
    "G17 mirrored chests": Fault(
        "doctor", "augmentation_against_kind", lambda folder: of_kind("{flip_horizontal: true}"), lambda folder: of_kind("{shift: 0.05}")
    ),
    "G18 Adam with 0.1": Fault(
        "settings",
        "adam_rate_high",
        lambda folder: codes(high_rate(Training(optimizer="adam", learning_rate=0.1))),
        lambda folder: codes([*high_rate(Training(optimizer="adam")), *high_rate(Training.model_validate(SGD))]),
    ),
    "G19 stuck at ln 2": Fault("train", "constant_output", lambda folder: trained(folder, 1e-8), lambda folder: trained(folder, 0.05)),
    "G20 loss 53 beside accuracy 0.90": Fault("train", "exploding_logits", lambda folder: history(53.0), lambda folder: history(0.3)),
    "G21 two patiences of 10": Fault(
        "config",
        "make stop_after at least twice the patience",
        lambda folder: parsed("training: {schedule: plateau, plateau: {patience: 10}, stop_after: 10}"),
        lambda folder: parsed("training: {schedule: plateau, plateau: {patience: 10}, stop_after: 20}"),
    ),
    "G21 two patiences nearly alike": Fault(
        "settings",
        "two_patiences",
        lambda folder: codes(two_patiences(Training(schedule="plateau", stop_after=6))),
        lambda folder: codes(two_patiences(Training(schedule="plateau", stop_after=10))),
    ),
    "G22 other weights than those tested": Fault(
        "manifest",
        "does not hold the weights that were trained and judged",
        lambda folder: served(folder, b" "),
        lambda folder: served(folder, b""),
    ),
    "G23 validation swings": Fault("evaluate", "unstable_validation", lambda folder: swung(0.05), lambda folder: swung(0.001)),
    "G24 layers that do nothing": Fault(
        "doctor", "layers_do_nothing", lambda folder: checked(folder, model={"network": "idle"}), lambda folder: checked(folder)
    ),
    "G25 a start from zeros": Fault(
        "doctor",
        "initialiser_cannot_learn",
        lambda folder: checked(folder, model={"network": "mri_cnn_test1", "initialiser": "zeros"}),
        lambda folder: checked(folder, model={"initialiser": "he"}),
    ),
    "G27 a threshold that nobody chose": Fault(
        "evaluate", "threshold_not_chosen", lambda folder: cut_at(0.5), lambda folder: cut_at(float(expit(-3)))
    ),
    "G28 87 and 90 of 100": Fault("compare", "not distinguishable", lambda folder: right(87, 90), lambda folder: right(80, 90)),
    "G32 an AlexNet of which year": Fault(
        "config", "alexnet_2014", lambda folder: built("alexnet", 0), lambda folder: built("alexnet_2014", 0, 0)
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_reports_is_caught_and_its_opposite_is_not(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for network, build in NETS.items():
        monkeypatch.setitem(NETWORKS, network, build)
    fault = FAULTS[name]
    (tmp_path / "planted").mkdir()
    (tmp_path / "sound").mkdir()
    assert any(fault.code in said for said in fault.plant(tmp_path / "planted")), f"not caught by {fault.where}"
    assert not any(fault.code in said for said in fault.sound(tmp_path / "sound"))
