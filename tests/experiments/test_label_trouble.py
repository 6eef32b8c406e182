"""Planted wrong labels are found, by models that had not seen them, and told apart from images that are hard."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from torch import nn
from typer.testing import CliRunner

from tabib.cli import app
from tabib.config import Study
from tabib.errors import RunError
from tabib.experiments import find_label_trouble, trainings, write_label_trouble
from tabib.experiments.label_trouble import _area, weigh_answers
from tabib.images import encode_png
from tabib.metrics import auc
from tabib.metrics.intervals import Sureness
from tabib.phantoms import ChestFilms, make_chest_films
from tabib.records import LabelTrouble, Measure
from tabib.reports.doubted import guessed, reached
from tabib.reports.text import language, plain
from tabib.runs import Run
from tabib.study_file import check_study, dump_study
from tabib.training.networks import NETWORKS

SIDE = 16
WRONG, HARD = ["p05_0.png", "p12_0.png", "p33_1.png"], ["p20_0.png", "p21_0.png"]

TRAINING = {"epochs": 30, "batch": 16, "learning_rate": 3e-3, "threads": 1, "precision": "fp32", "device": "cpu"}


def sees(channels: int, height: int, width: int) -> nn.Module:
    """Weighs every pixel, and learns in milliseconds."""
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, 16), nn.ReLU())


def study_of(films: Path, **more: object) -> Study:
    values = {
        "name": "spots",
        "positive": "ill",
        "data": {"folder": str(films), "group": r"(p\d+)"},
        "split": {"train": 0.3, "validation": 0.2, "test": 0.5},
        "input": {"height": SIDE, "width": SIDE, "channels": 1},
        "augment": {"rotation_degrees": 0, "shift": 0, "zoom": 0, "brightness": 0, "contrast": 0},
        "model": {"network": "sees"},
        "training": TRAINING,
        "evaluate": {"draws": 200},
        "report": {"languages": ["en"]},
        **more,
    }
    study = check_study(values, source="a test")
    assert isinstance(study, Study)
    return study


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_films(tmp_path_factory.mktemp("trouble") / "films", bright=40)


def make_films(folder: Path, *, bright: float) -> Path:
    """The ill have a bright left half, the well a bright right one; some lie in the wrong folder, some have both sides alike."""
    draws = np.random.default_rng(3)
    for patient in range(40):
        for film in range(2):
            name = f"p{patient:02d}_{film}.png"
            side = 0 if name in HARD else bright if patient % 2 else -bright
            seen = draws.normal(120, 25, (SIDE, SIDE)) + np.where(np.arange(SIDE) < SIDE // 2, side, -side)
            place = folder / ("ill" if bool(patient % 2) != (name in WRONG) else "well")
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(encode_png(np.clip(seen, 0, 255).astype(np.uint8)))
    return folder


@pytest.fixture(scope="module")
def trouble(films: Path) -> LabelTrouble:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "sees", sees)
        return find_label_trouble(study_of(films), root=films.parent / "runs")


def names(trouble: LabelTrouble, listed: str) -> list[str]:
    return [each.path.split("/")[-1] for each in trouble.doubts if each.list == listed]


def test_planted_wrong_labels_are_found_and_hard_images_told_apart(trouble: LabelTrouble) -> None:
    assert sorted(names(trouble, "wrong")) == WRONG
    assert set(HARD) & set(names(trouble, "hard"))
    assert not set(WRONG) & set(names(trouble, "hard"))
    first = trouble.doubts[0]
    assert {first.label, first.suggested} == {"ill", "well"}
    assert first.group is not None
    assert first.group.startswith("p")
    assert first.suggested_probability > 0.9 > first.label_probability
    assert (trouble.rows, trouble.groups, trouble.missed) == (80, 40, 0)


def test_worklist_and_pages(trouble: LabelTrouble, tmp_path: Path) -> None:
    english, persian = (page.read_text(encoding="utf-8") for page in write_label_trouble(trouble, tmp_path))
    assert LabelTrouble.model_validate(json.loads((tmp_path / "label_trouble.json").read_text())) == trouble
    data = (tmp_path / "worklist.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    assert "at work at a time" in english
    assert "هر بار" in persian
    lines = list(csv.DictReader(data.decode("utf-8-sig").splitlines()))
    assert len(lines) == len(trouble.doubts)
    assert [lines[0][name] for name in ("list", "path", "corrected", "remark")] == ["wrong", trouble.doubts[0].path, "", ""]
    for page, words in ((english, "Probably wrong labels"), (persian, "برچسب‌هایی که به احتمال زیاد نادرست‌اند")):
        assert words in page
        assert page.count("<symbol") == len(trouble.doubts)
        assert "Northcutt" in page


def test_a_spreadsheet_takes_no_name_of_the_worklist_for_a_formula(trouble: LabelTrouble, tmp_path: Path) -> None:
    first, second = trouble.doubts[:2]
    names = {"path": '=HYPERLINK("http://example.org";"a").png', "group": "@patient", "label": "-1", "suggested": "+ill"}
    odd = [first.model_copy(update=names), second.model_copy(update={"path": "ill/=1.png", "group": None})]
    write_label_trouble(trouble.model_copy(update={"doubts": odd}), tmp_path)
    with (tmp_path / "worklist.csv").open(encoding="utf-8-sig", newline="") as file:
        one, other = csv.DictReader(file)
    assert [one[name] for name in ("path", "patient", "label", "suggested")] == [f"'{names['path']}", "'@patient", "-1", "'+ill"]
    assert (other["path"], other["patient"], other["probability_of_label"]) == ("ill/=1.png", "", f"{second.label_probability:.3f}")


def test_it_says_how_good_the_models_are(trouble: LabelTrouble, tmp_path: Path) -> None:
    area = trouble.reached[0]
    assert (area.name, area.of, area.rows, area.groups, len(trouble.reached)) == ("auc", None, 80, 40, 1)
    assert area.low is not None
    assert area.value is not None
    assert 0.7 < area.low < 0.9 < area.value < 1, "three labels are wrong and two images show nothing"
    english, persian = (page.read_text(encoding="utf-8") for page in write_label_trouble(trouble, tmp_path))
    assert f"Area under the ROC curve {area.value:.3f} (95% interval {area.low:.3f}" in plainly(english)
    assert "مدل‌ها بر همهٔ تصاویر با هم چقدر خوب‌اند" in persian
    assert "mean nothing" not in english
    assert "هیچ معنایی ندارند" not in persian


def test_lists_of_models_that_guess_are_said_to_mean_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Films that show nothing: half of the labels are still called probably wrong."""
    monkeypatch.setitem(NETWORKS, "sees", sees)
    films = make_films(tmp_path / "films", bright=0)
    (tmp_path / "spots.yaml").write_text(dump_study(study_of(films, training={**TRAINING, "epochs": 3})), encoding="utf-8")
    said = CliRunner().invoke(app, ["label-trouble", str(tmp_path / "spots.yaml"), "--runs", str(tmp_path / "runs")])
    assert said.exit_code == 0, said.output
    found = LabelTrouble.model_validate(json.loads((tmp_path / "runs" / "label-trouble-spots" / "label_trouble.json").read_text()))
    area = found.reached[0]
    assert area.low is not None
    assert area.high is not None
    assert area.low < 0.5 < area.high
    assert len(names(found, "wrong")) > 0.2 * found.rows
    english, persian = (
        (tmp_path / "runs" / "label-trouble-spots" / f"label_trouble.{code}.html").read_text("utf-8") for code in ("en", "fa")
    )
    for text in (said.stdout, plainly(english)):
        assert f"Area under the ROC curve {area.value:.3f} (95% interval {area.low:.3f} to {area.high:.3f})" in " ".join(text.split())
        assert "the lists below mean nothing. Train better first" in " ".join(text.split())
    assert "هیچ معنایی ندارند" in persian


def plainly(page: str) -> str:
    return re.sub("</?bdi[^>]*>", "", page)


def test_the_interval_of_the_models_is_of_patients() -> None:
    draws = np.random.default_rng(0)
    ill = draws.integers(0, 2, 40)
    score = np.clip(0.3 * ill + draws.uniform(0, 0.7, 40), 0, 1)
    table = pl.DataFrame({"row": range(40), "label": np.array(["a", "b"])[ill], "p_a": 1 - score, "p_b": score})
    alone = _area(table, ["a", "b"], {}, Sureness())
    often = pl.concat([table.with_columns(row=pl.col("row") + 40 * copy) for copy in range(5)])
    of_patients = _area(often, ["a", "b"], {row: f"patient {row % 40}" for row in range(200)}, Sureness())
    of_rows = _area(often, ["a", "b"], {}, Sureness())
    assert (alone.value, alone.groups) == (pytest.approx(of_patients.value), of_patients.groups)
    assert width(of_patients) == pytest.approx(width(alone), abs=0.005)
    assert width(of_patients) > 1.8 * width(of_rows), "five times as many images are no five times as many patients"


def width(measure: Measure) -> float:
    assert measure.low is not None
    assert measure.high is not None
    return measure.high - measure.low


def test_of_three_classes_it_is_the_mean_area(trouble: LabelTrouble) -> None:
    sure = [[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]]
    table = answers_of([*sure, *sure, *sure, sure[0]], "abcabcabcb")
    found = _area(table, ["a", "b", "c"], {}, Sureness())
    areas = [float(auc(np.array([label == name for label in "abcabcabcb"]), table[f"p_{name}"].to_numpy())) for name in "abc"]
    assert (found.name, found.of, found.value) == ("auc", "macro", pytest.approx(np.mean(areas)))
    said = plain(reached(trouble.model_copy(update={"reached": [found]}), language("en")))
    assert f"mean over classes: Area under the ROC curve {found.value:.3f}" in said


def test_labels_that_are_guessed_are_named(trouble: LabelTrouble) -> None:
    mass, fluid, few = (
        Measure(name="auc", of=name, value=0.7, low=low, high=high)
        for name, low, high in (("MASS", 0.6, 0.8), ("FLUID", 0.5, 0.9), ("FEW", None, None))
    )
    found = trouble.model_copy(update={"several": True, "reached": [mass, fluid, few]})
    assert plain(guessed(found, language("en"))).startswith("The interval of FLUID does not lie above 0.5")
    assert "FLUID" in guessed(found, language("fa"))
    assert "FEW: Area under the ROC curve 0.700 (no interval: too few patients or groups)" in plain(reached(found, language("en")))
    assert guessed(found.model_copy(update={"reached": [mass]}), language("en")) == ""


def answers_of(probability: list[list[float]], labels: str) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "row": list(range(len(labels))),
            "path": [f"{place}.png" for place in range(len(labels))],
            "group": [None] * len(labels),
            "label": list(labels),
            **{f"p_{name}": [each[place] for each in probability] for place, name in enumerate("abc")},
        },
        schema_overrides={"group": pl.String(), "row": pl.UInt32()},
    )


def test_seeds_are_put_together_and_their_disagreement_is_hard() -> None:
    sure = [[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]]
    one, other = [*sure, *sure, [0.9, 0.1, 0.0], sure[1]], [*sure, *sure, [0.3, 0.7, 0.0], sure[1]]
    doubts, thresholds = weigh_answers([answers_of(one, "abcabcac"), answers_of(other, "abcabcac")], ["a", "b", "c"])
    by_row = {each.row: each for each in doubts}
    assert {row: (each.list, each.label, each.suggested, each.disagree) for row, each in by_row.items()} == {
        6: ("hard", "a", "a", True),
        7: ("wrong", "c", "b", False),
    }
    assert by_row[6].label_probability == pytest.approx(0.6)
    assert thresholds["a"] == pytest.approx((0.9 + 0.9 + 0.6) / 3)


def test_a_row_is_weighed_by_the_seeds_that_judged_it() -> None:
    sure = [[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]]
    one, other = answers_of([*sure, *sure, [0.9, 0.1, 0.0], sure[1]], "abcabcac"), answers_of([*sure, *sure, [0.3, 0.7, 0.0]], "abcabca")
    doubts, _ = weigh_answers([one, other], ["a", "b", "c"])
    assert {each.row: (each.list, each.disagree) for each in doubts} == {6: ("hard", True), 7: ("wrong", False)}
    assert doubts == weigh_answers([other, one], ["a", "b", "c"])[0]
    doubts, thresholds = weigh_answers([one.filter(pl.col("row") != 6), other], ["a", "b", "c"])
    assert {each.row: (each.label_probability, each.disagree) for each in doubts} == {6: (0.3, False), 7: (0.05, False)}
    assert thresholds["a"] == pytest.approx((0.9 + 0.9 + 0.3) / 3)


def stop_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Ctrl-C when that run begins to train, from 1."""
    run_study, begun = trainings.run_study, []

    def counted(study: Study, run: Run, **told: Any) -> Run:
        begun.append(None)
        if len(begun) == number:
            raise KeyboardInterrupt
        return run_study(study, run, **told)

    monkeypatch.setattr(trainings, "run_study", counted)


@pytest.mark.parametrize(("done", "rows", "missed", "fewer"), [(1, 40, 1, 1), (2, 80, 0, 2), (3, 80, 0, 1)])
def test_stopped_early_it_says_what_finished_turns_say(
    films: Path, trouble: LabelTrouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int, rows: int, missed: int, fewer: int
) -> None:
    monkeypatch.setitem(NETWORKS, "sees", sees)
    study = study_of(films, training={**TRAINING, "seeds": [0]})
    stop_at(monkeypatch, 2 + done)  # what all share is made before the first
    found = find_label_trouble(study, root=tmp_path / "runs", seeds=[0, 1])
    assert (found.rows, found.groups, found.missed, found.fewer, found.stopped) == (rows, rows // 2, missed, fewer, True)
    if done == 2:
        assert found.doubts == trouble.doubts, "as of the one seed that is done"
    english, persian = (page.read_text(encoding="utf-8") for page in write_label_trouble(found, tmp_path))
    assert f"{rows} images" in english
    assert "Stopped before the end" in english
    assert "پیش از پایان متوقف شد" in persian
    assert ("missing here" in english) == bool(missed)
    assert "2 seeds were asked for, and" in english
    assert "trained with 2 seeds" not in english


def test_the_verb_leaves_with_130_when_it_is_stopped(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "sees", sees)
    (tmp_path / "spots.yaml").write_text(dump_study(study_of(films)), encoding="utf-8")
    command = ["label-trouble", str(tmp_path / "spots.yaml"), "--seed", "0", "--seed", "1", "--runs", str(tmp_path / "runs")]
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        assert CliRunner().invoke(app, command).exit_code == 130
    stop_at(monkeypatch, 4)
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 130
    assert "80 images of 40 groups judged" in said.stdout
    assert "2 trainings of the other turns were not run" in said.stdout
    assert (tmp_path / "runs" / "label-trouble-spots" / "label_trouble.fa.html").exists()


@pytest.mark.slow
def test_each_of_several_labels_is_weighed(tmp_path: Path) -> None:
    make_chest_films(tmp_path / "chest", ChestFilms(patients=24, films_per_patient=(1, 1), side=32, several=True))
    values = {
        "name": "several",
        "data": {
            "folder": str(tmp_path / "chest" / "films"),
            "layout": "table",
            "table": str(tmp_path / "chest" / "labels.csv"),
            "columns": {"labels": ["PNEUMONIA", "MASS"], "group": "patient"},
        },
        "split": {"train": 0.3, "validation": 0.2, "test": 0.5},
        "input": {"height": 32, "width": 32, "channels": 1},
        "training": {"epochs": 1, "batch": 16, "threads": 1, "precision": "fp32", "device": "cpu"},
        "evaluate": {"draws": 200},
        "report": {"languages": ["en"]},
    }
    found = find_label_trouble(check_study(values, source="here"), root=tmp_path / "runs")
    assert found.several
    assert set(found.thresholds) == {"PNEUMONIA", "MASS"}
    assert [(each.name, each.of, each.groups) for each in found.reached] == [("auc", "MASS", 24), ("auc", "PNEUMONIA", 24)]
    assert {each.label.removeprefix("not ") for each in found.doubts} == {"PNEUMONIA", "MASS"}
    assert "without MASS" in write_label_trouble(found, tmp_path)[0].read_text(encoding="utf-8").replace("<bdi>", "").replace("</bdi>", "")


def test_what_cannot_be_done_is_refused(films: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="Not one turn could be run"):
        find_label_trouble(study_of(films, model={"weights": str(tmp_path / "no.safetensors")}), root=tmp_path / "runs")


@pytest.mark.slow
def test_the_verb(films: Path, tmp_path: Path) -> None:
    study = study_of(films, model={"network": "small_resnet"}, scale="bench", training={"epochs": 1, "device": "cpu", "threads": 1})
    (tmp_path / "spots.yaml").write_text(dump_study(study), encoding="utf-8")
    command = [sys.executable, "-m", "tabib", "label-trouble", "spots.yaml", "--seed", "0", "--seed", "1"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert "images of 40 groups judged" in said.stdout
    for name in ("worklist.csv", "label_trouble.fa.html"):
        assert (tmp_path / "runs" / "label-trouble-spots-bench" / name).exists()
