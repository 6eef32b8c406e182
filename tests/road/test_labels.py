"""A study of several labels goes the whole road."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from tabib.cli import app
from tabib.config import Columns, Data, Study
from tabib.errors import DataError, StudyError
from tabib.experiments import compare_runs, write_comparison
from tabib.external import judge_external
from tabib.phantoms import CHEST_LABELS, ChestFilms, make_chest_films
from tabib.prediction import Predictor, predict_paths
from tabib.records import labels_of
from tabib.reports.text import language
from tabib.runs import Run, open_run, write_json
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
    done = CliRunner().invoke(app, ["evaluate", str(run.folder), "--subgroup", "contrast"])
    assert done.exit_code == 0, done.output
    divided = run.read("evaluation")
    assert [{each.column for each in label.subgroups} for label in divided.labels] == [{"mean", "contrast"}] * 3
    (remark,) = [remark for remark in divided.remarks if remark.code == "subgroups_afterwards"]
    assert (remark.figures, remark.page_one, remark.label) == ({"columns": "contrast"}, True, None)
    unknown = CliRunner().invoke(app, ["evaluate", str(run.folder), "--subgroup", "contrst"])
    assert "Did you mean contrast" in str(unknown.exception)
    assert CliRunner().invoke(app, ["evaluate", str(run.folder)]).exit_code == 0
    assert run.path("evaluation").read_text() == before


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
    assert {remark.code for remark in found.remarks} <= {
        "heat_maps_change",
        "heat_maps_of_unproven_model",
        "heat_maps_ignore_weights",
        "heat_maps_flat",
        "heat_maps_unchecked",
    }


@pytest.mark.slow
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


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other patients of the same kind, with a table of all labels and one of two, one of which is called otherwise."""
    folder = tmp_path_factory.mktemp("others") / "chest"
    make_chest_films(folder, ChestFilms(patients=50, films_per_patient=(1, 2), side=48, lesion=8.0, several=True, seed=9))
    table = pl.read_csv(folder / "labels.csv")
    table.select("path", "patient", "MASS", heart="CARDIOMEGALY", hernia="PNEUMONIA").write_csv(folder / "theirs.csv")
    return folder


def there(others: Path, table: str, labels: list[str]) -> Data:
    columns = Columns(labels=labels, group="patient")
    return Data(folder=others / "films", layout="table", table=others / table, columns=columns)


def test_each_label_is_judged_on_images_of_another_source(run: Run, others: Path) -> None:
    own, decision = run.read("evaluation"), run.read("decision")
    with run:
        external, pages = judge_external(run, there(others, "labels.csv", list(CHEST_LABELS)), name="b")
    said = pl.read_parquet(run.folder / "external/b/predictions.parquet")
    truth = {row["path"]: row for row in pl.read_csv(others / "labels.csv").iter_rows(named=True)}
    judged = external.evaluation
    assert (judged.classes, external.unsaid) == (own.classes, [])
    for place, (label, mine) in enumerate(zip(judged.classes, judged.labels, strict=True)):
        has = [truth[path][label] for path in said["path"]]
        auc = next(each.value for each in mine.parts[0].measures if each.name == "auc")
        assert auc == pytest.approx(roc_auc_score(has, said[f"p_{label}"]))
        assert mine.threshold == decision.thresholds[place]
        called = [label in labels_of(text, several=True) for text in said["predicted"]]
        assert called == (said[f"p_{label}"] >= mine.threshold).to_list()
        before = next(each.value for each in own.labels[place].parts[1].measures if each.name == "auc")
        drop = next(each for each in external.label_drops[label] if each.name == "auc")
        assert drop.value == pytest.approx(auc - before)
        assert drop.low is not None
        assert {each.column for each in mine.subgroups} == {"mean"}
    means = {each.name: each.value for part in (own.parts[1], judged.parts[0]) for each in part.measures}
    assert {each.name for each in external.drop} == set(means)
    assert {remark.label for remark in external.found if remark.code in ("external_drop", "external_holds", "external_gain")} == set(
        CHEST_LABELS
    )
    assert {"external_alike", "external_features_alike"} & {remark.code for remark in external.found}
    for page, code in zip(pages, ("en", "fa"), strict=True):
        text = page.read_text(encoding="utf-8")
        assert text.count('<details class="curves label"') == len(CHEST_LABELS)
        assert language(code).words["labels"]["table"] in text


@pytest.mark.slow
def test_labels_of_another_source_are_mapped_and_what_they_do_not_say_is_not_judged(run: Run, others: Path) -> None:
    theirs = there(others, "theirs.csv", ["MASS", "heart", "hernia"])
    with run, pytest.raises(DataError, match="labelled heart, hernia"):
        judge_external(run, theirs, name="c")
    names = {"heart": "CARDIOMEGALY", "hernia": ""}
    with run:
        external, pages = judge_external(run, theirs, name="c", labels=names)
        whole, _ = judge_external(run, there(others, "labels.csv", list(CHEST_LABELS)), name="d")
    judged = external.evaluation
    assert (judged.classes, external.unsaid, external.labels) == (["CARDIOMEGALY", "MASS"], ["PNEUMONIA"], names)
    assert external.drop == [], "the mean of two labels is not that of three"
    both = dict(zip(whole.evaluation.classes, whole.evaluation.labels, strict=True))
    for label, mine in zip(judged.classes, judged.labels, strict=True):
        assert mine.parts[0].measures == both[label].parts[0].measures
        assert external.label_drops[label] == whole.label_drops[label]
    assert "say nothing of PNEUMONIA" in re.sub("<[^>]*>", "", pages[0].read_text(encoding="utf-8"))
    with run, pytest.raises(StudyError, match=r"several labels of an image.*one class"):
        judge_external(run, Data(folder=others / "films"), name="e")


@pytest.mark.slow
def test_runs_of_labels_stand_side_by_side(run: Run, tmp_path: Path) -> None:
    shorter = run.given.model_copy(update={"training": run.given.training.model_copy(update={"epochs": 1})})
    with open_run(shorter, root=run.folder.parent.parent) as second:
        run_study(shorter, second)
    comparison = compare_runs([run.folder, second.folder], title={"en": "Two", "fa": "دو"}, names=["six", "one"])
    for line, each in zip(comparison.lines, (run, second), strict=True):
        evaluation = each.read("evaluation")
        assert line.measures == evaluation.parts[1].measures
        for label, judged in zip(evaluation.classes, evaluation.labels, strict=True):
            assert line.labels[label] == [measure for measure in judged.parts[1].measures if measure.of is None]
        assert line.counts is None
    assert comparison.same_test
    assert set(comparison.lines[0].settings) == {"training.epochs"}
    assert comparison.pictures
    for picture in comparison.pictures:
        for answer, each in zip(picture.answers, (run, second), strict=True):
            row = each.read("predictions").filter(path=picture.path).row(0, named=True)
            assert (answer.predicted, answer.probability) == (row["predicted"], None)
            assert answer.right == (row["predicted"] == row["label"] == picture.label)
    english, persian = (page.read_text(encoding="utf-8") for page in write_comparison(comparison, tmp_path))
    assert all(f"<th><bdi>{label}</bdi></th>" in english and label in persian for label in CHEST_LABELS)
    assert language("en").words["compare"]["fn"] not in english, "there are no cells of one matrix"
    done = CliRunner().invoke(app, ["compare", str(run.folder), str(second.folder), "-o", str(tmp_path / "cli")])
    assert done.exit_code == 0, done.output
    assert "exact_match" in done.output


def test_labels_and_classes_are_not_compared(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "classes" / "run"
    shutil.copytree(run.folder, folder)
    study = Study.model_validate({"name": "classes", "data": {"folder": tmp_path}})
    write_json(folder / "manifest.json", {"given": study.model_dump(mode="json")})
    with pytest.raises(StudyError, match="Compare runs of one kind"):
        compare_runs([run.folder, folder], title={"en": "Two"})
