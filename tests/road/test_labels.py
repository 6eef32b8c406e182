"""A study of several labels goes the whole road."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from tabib.cli import app
from tabib.errors import StudyError
from tabib.phantoms import CHEST_LABELS, ChestFilms, make_chest_films
from tabib.prediction import Predictor, predict_paths
from tabib.records import labels_of
from tabib.reports.text import language
from tabib.runs import Run, open_run
from tabib.study import run_study
from tabib.study_file import check_study


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("labels")
    make_chest_films(place / "chest", ChestFilms(patients=100, films_per_patient=(1, 1), side=48, lesion=8.0, several=True))
    study = check_study(
        {
            "name": "labels",
            "data": {
                "folder": str(place / "chest" / "films"),
                "layout": "table",
                "table": str(place / "chest" / "labels.csv"),
                "columns": {"labels": list(CHEST_LABELS), "group": "patient"},
            },
            "input": {"height": 32, "width": 32},
            "augment": {"rotation_degrees": 0, "shift": 0, "zoom": 0, "brightness": 0, "contrast": 0},
            "training": {"epochs": 6, "batch": 16, "learning_rate": 5e-3, "threads": 1, "precision": "fp32", "device": "cpu"},
            "evaluate": {"draws": 200, "subgroups": ["mean"]},
        },
        source="a test",
    )
    with open_run(study, root=place / "runs", command=["tabib", "run"]) as run:
        return run_study(study, run)


def test_each_label_is_learnt_and_judged(run: Run) -> None:
    test = run.read("predictions").filter(pl.col("part") == "test")
    evaluation, checks = run.read("evaluation"), run.read("checks")
    assert checks.expected_initial_loss == pytest.approx(0.6931, abs=1e-4)
    assert "initial_loss_off" not in {check.code for check in checks.checks}
    for label, judged in zip(sorted(CHEST_LABELS), evaluation.labels, strict=True):
        truth = [label in labels_of(text, several=True) for text in test["label"]]
        auc = next(each.value for each in judged.parts[1].measures if each.name == "auc")
        assert auc == pytest.approx(roc_auc_score(truth, test[f"p_{label}"]))
        assert auc > 0.65
        assert judged.subgroups
    history = next(iter(run.histories().values()))
    assert {"validation_loss", "validation_auc", "validation_accuracy", "validation_balanced_accuracy"} <= set(history[0])
    assert history[-1]["validation_loss"] < history[0]["validation_loss"]


def test_what_is_judged_is_what_is_served_and_printed(run: Run) -> None:
    judged = run.read("predictions").filter(pl.col("part") == "test").sort("path")
    predictor = Predictor.load(run.folder / "model")
    films = [run.read("study").data.folder / path for path in judged["path"]]
    served = predict_paths(predictor, films, workers=1)
    assert served["predicted"].to_list() == judged["predicted"].to_list()
    for place, name in enumerate(predictor.classes):
        assert (served[f"p_{name}"] - judged[f"p_{name}"]).abs().max() < 1e-6  # pyright: ignore[reportOptionalOperand, reportOperatorIssue]
        has = [name in labels_of(text, several=True) for text in judged["predicted"]]
        assert has == (judged[f"p_{name}"] >= predictor.decision.thresholds[place]).to_list()
    done = CliRunner().invoke(app, ["predict", str(run.folder), str(films[0])])
    assert done.exit_code == 0, done.output
    assert all(f"{name} {served[f'p_{name}'][0]:.3f}" in done.output for name in CHEST_LABELS)


def test_verbs_speak_of_labels(run: Run, tmp_path: Path) -> None:
    data = run.read("study").data
    columns = ["--column", f"labels={','.join(CHEST_LABELS)}", "--column", "group=patient"]
    done = CliRunner().invoke(app, ["look", str(data.folder), "--table", str(data.table), *columns, "--runs", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    kinds = [labels_of(text, several=True) for text in run.read("index")["label"]]
    assert told["classes"] == {
        **{name: sum(name in kind for kind in kinds) for name in sorted(CHEST_LABELS)},
        "no label": sum(not kind for kind in kinds),
    }
    before = run.path("evaluation").read_text()
    done = CliRunner().invoke(app, ["evaluate", str(run.folder)])
    assert done.exit_code == 0, done.output
    assert run.path("evaluation").read_text() == before
    assert "auc of MASS" in done.output


@pytest.mark.parametrize(("code", "words"), [("en", "without MASS"), ("fa", "بدون MASS")])
def test_the_report_shows_every_label(run: Run, code: str, words: str) -> None:
    page = (run.folder / f"report.{code}.html").read_text(encoding="utf-8")
    shown = page.replace("<bdi>", "").replace("</bdi>", "")
    assert words in shown
    assert "not MASS" not in shown
    assert not [key for key in language(code).words["labels"] if f"labels.{key}" in shown]
    assert page.count('<details class="curves label"') == len(CHEST_LABELS)
    targets = [part.split('"')[0] for part in page.split('id="cell-')[1:]]
    assert len(targets) == len(set(targets)) > 0


def test_each_label_that_an_image_has_or_was_given_is_explained(run: Run) -> None:
    found, folder = run.read("explanations"), run.path("explanations").parent
    test = {row["row"]: row for row in run.read("predictions").filter(pl.col("part") == "test").iter_rows(named=True)}
    assert len(found.images) == 12
    for each in found.images:
        row = test[each.row]
        said, there = (set(labels_of(row[column], several=True)) for column in ("predicted", "label"))
        likeliest = max(CHEST_LABELS, key=lambda name: row[f"p_{name}"])
        assert [of.name for of in each.labels] == (sorted(said | there) or [likeliest])
        assert (each.predicted, each.label, each.probability) == (row["predicted"], row["label"], None)
        for of in each.labels:
            assert (of.said, of.there, of.probability) == (of.name in said, of.name in there, row[f"p_{of.name}"])
            assert set(of.pictures) == {"gradcam", "occlusion"}
            assert all((folder / name).exists() for name in of.pictures.values())
            assert of.covered is not None
        assert (each.chosen == "mistake") <= (said != there)
        assert (each.chosen == "right") <= (said == there)
        assert len(each.neighbours) == 4
    assert [each.depth for each in found.likeness] == ["head", "half", "all"]
    assert {remark.code for remark in found.remarks} <= {"heat_maps_change", "heat_maps_ignore_weights"}


def test_the_label_that_is_asked_for_is_explained(run: Run, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in run.path("explanations").parent.iterdir()}
    done = CliRunner().invoke(app, ["explain", str(run.folder), "--label", "MASS", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)["images"]
    assert [[of["name"] for of in each["labels"]] for each in told] == [["MASS"]] * 12
    assert all(of["said"] != of["there"] for each in told if each["chosen"] == "mistake" for of in each["labels"])
    assert CliRunner().invoke(app, ["explain", str(run.folder)]).exit_code == 0
    assert {path: path.read_bytes() for path in run.path("explanations").parent.iterdir()} == before
    film, out = next(run.read("study").data.folder.iterdir()), tmp_path / "out"
    done = CliRunner().invoke(app, ["explain", str(run.folder), str(film), "--label", "MASS", "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert len(list(out.glob("0000_*_gradcam.png"))) == 1
    assert "MASS 0." in done.output
    refused = CliRunner().invoke(app, ["explain", str(run.folder), "--label", "MAS"])
    assert "Did you mean MASS" in str(refused.exception)


@pytest.mark.parametrize("code", ["en", "fa"])
def test_the_report_speaks_of_labels(run: Run, code: str) -> None:
    page, words = (run.folder / f"report.{code}.html").read_text(encoding="utf-8"), language(code).words
    for key in ("samples", "distribution", "distribution_note"):
        assert words["labels"][key] in page
        assert words["data"][key] not in page
    assert words["settings"]["outputs"] not in page
    assert words["why"]["neighbours_pooled"] in page


def test_what_is_not_done_for_labels_is_said(run: Run) -> None:
    film = next(run.read("study").data.folder.iterdir())
    for command in (
        ["evaluate", str(run.folder), "--on", str(film.parent)],
        ["compare", str(run.folder)],
    ):
        done = CliRunner().invoke(app, command)
        assert isinstance(done.exception, StudyError)
        assert "several labels" in str(done.exception)
