"""Every image judges once, by a model that has not seen its patient, and the pooled figures are those of all answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from planted_masks import write_pictures
from tabib.config import Segmentation
from tabib.errors import StudyError
from tabib.experiments import cross_validate, write_comparison
from tabib.phantoms import CHEST_LABELS, ChestFilms, make_chest_films
from tabib.records import Compared, Comparison, labels_of
from tabib.runs import read_run
from tabib.study_file import check_study
from tiny import tiny_study

THREE = {"train": 0.5, "validation": 0.1667, "test": 0.3333}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("turns") / "films"
    make_chest_films(folder, ChestFilms(patients=45, films_per_patient=(1, 2), side=32, lesion=6.0))
    return folder


@pytest.fixture(scope="module")
def done(films: Path) -> Comparison:
    return cross_validate(tiny_study(films, {"split": THREE, "report": {"languages": ["en", "fa"]}}), root=films.parent / "runs")


def answers(comparison: Comparison) -> pl.DataFrame:
    runs = [read_run(Path(line.run or "")) for line in comparison.lines]
    return pl.concat([run.read("predictions").filter(part="test") for run in runs])


def value(line: Compared | None, name: str, of: str | None = None) -> float:
    assert line is not None
    return next(each.value for each in line.measures if (each.name, each.of) == (name, of) and each.value is not None)


def test_each_image_judges_once_and_no_patient_on_both_sides(done: Comparison) -> None:
    judged = answers(done)
    assert judged["row"].is_unique().all()
    assert done.turns
    assert [line.name for line in done.lines] == ["turn 0", "turn 1", "turn 2"]
    split = read_run(Path(done.lines[0].run or "")).read("split")
    assert len(judged) == split.filter(pl.col("part") != "left_out").height
    for line in done.lines:
        split = read_run(Path(line.run or "")).read("split")
        groups = {part: set(split.filter(part=part)["group"]) for part in ("train", "validation", "test")}
        assert not groups["test"] & (groups["train"] | groups["validation"])


def test_the_pool_is_measured_as_one_test_set(done: Comparison) -> None:
    judged = answers(done)
    truth = judged["label"] == "PNEUMONIA"
    assert done.pooled is not None
    assert (done.pooled.rows, done.pooled.groups) == (len(judged), judged["group"].n_unique())
    assert value(done.pooled, "auc") == pytest.approx(roc_auc_score(truth, judged["p_PNEUMONIA"]), rel=1e-12)
    assert value(done.pooled, "accuracy") == pytest.approx(accuracy_score(judged["label"], judged["predicted"]), rel=1e-12)
    pooled, turns = (next(each for each in line.measures if each.name == "accuracy") for line in (done.pooled, done.lines[0]))
    assert pooled.high is not None
    assert pooled.low is not None
    assert turns.high is not None
    assert turns.low is not None
    assert pooled.high - pooled.low < turns.high - turns.low  # three times the patients


def test_pages_say_what_is_pooled(done: Comparison, tmp_path: Path) -> None:
    english, persian = (page.read_text(encoding="utf-8") for page in write_comparison(done, tmp_path))
    assert "All turns together" in english
    assert "do not compare" not in english
    assert "همهٔ نوبت‌ها با هم" in persian
    assert "at work at a time" in english
    assert "هر بار" in persian
    missing = done.model_copy(update={"pooled": None})
    assert "Not every turn was run" in write_comparison(missing, tmp_path)[0].read_text(encoding="utf-8")


def test_a_turn_that_fails_is_said_and_nothing_is_pooled(films: Path, tmp_path: Path) -> None:
    study = tiny_study(films, {"split": THREE, "model": {"weights": str(tmp_path / "nowhere.safetensors")}})
    comparison = cross_validate(study, root=tmp_path / "runs")
    assert [line.not_run for line in comparison.lines] == ["weights"] * 3
    assert comparison.pooled is None


@pytest.mark.slow
def test_several_labels_are_pooled_label_by_label(tmp_path: Path) -> None:
    make_chest_films(tmp_path / "chest", ChestFilms(patients=60, films_per_patient=(1, 1), side=32, lesion=8.0, several=True))
    values = {
        "name": "several",
        "data": {
            "folder": str(tmp_path / "chest" / "films"),
            "layout": "table",
            "table": str(tmp_path / "chest" / "labels.csv"),
            "columns": {"labels": list(CHEST_LABELS), "group": "patient"},
        },
        "split": {"train": 0.3, "validation": 0.2, "test": 0.5},
        "input": {"height": 32, "width": 32, "channels": 1},
        "training": {"epochs": 1, "batch": 16, "threads": 1, "precision": "fp32", "device": "cpu"},
        "report": {"languages": ["en"]},
    }
    comparison = cross_validate(check_study(values, source="here"), root=tmp_path / "runs")
    judged = answers(comparison)
    assert comparison.pooled is not None
    for name, measures in comparison.pooled.labels.items():
        truth = [name in labels_of(text, several=True) for text in judged["label"]]
        auc = next(each.value for each in measures if each.name == "auc")
        assert auc == pytest.approx(roc_auc_score(truth, judged[f"p_{name}"]), rel=1e-12)


@pytest.mark.slow
def test_masks_are_pooled_over_all_patients(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", patients=12)
    study = check_study(
        {
            "task": "segmentation",
            "name": "planted",
            "data": {"folder": str(tmp_path / "pictures"), "labels": {"disc": 1, "square": 2}, "group": r"(p\d+)"},
            "model": {"filters": [8, 16]},
            "split": {"train": 0.3, "validation": 0.2, "test": 0.5},
            "training": {"epochs": 1, "batch": 4, "patches": 8, "device": "cpu", "precision": "fp32", "threads": 1},
            "report": {"languages": ["en"]},
        },
        source="here",
    )
    assert isinstance(study, Segmentation)
    comparison = cross_validate(study, root=tmp_path / "runs")
    cases = [case for line in comparison.lines for case in read_run(Path(line.run or "")).read("evaluation").parts[-1].cases]
    assert comparison.pooled is not None
    assert (comparison.pooled.rows, comparison.pooled.groups) == (len(cases), 12)
    dice = next(each.value for each in comparison.pooled.labels["disc"] if each.name == "dice")
    assert dice == pytest.approx(np.mean([case.structures[0].dice for case in cases]), rel=1e-9)
    assert "All turns together" in write_comparison(comparison, tmp_path, languages=["en"])[0].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("split", "words"),
    [({"given": True}, "the split of this study is given"), ({"train": 0.5, "validation": 0.1, "test": 0.4}, "split.test is 0.4")],
    ids=["given", "uneven"],
)
def test_what_cannot_be_done_in_turns_is_refused(films: Path, tmp_path: Path, split: dict[str, object], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        cross_validate(tiny_study(films, {"split": split}), root=tmp_path)


@pytest.mark.slow
def test_the_verb(films: Path, done: Comparison) -> None:
    study = {"name": "tiny", "positive": "PNEUMONIA", "data": {"folder": "films", "group": r"(patient\d+)"}, "split": THREE}
    (films.parent / "tiny.yaml").write_text(json.dumps({**study, "input": {"height": 32, "width": 32, "channels": 1}, "scale": "bench"}))
    command = [sys.executable, "-m", "tabib", "cross-validate", "tiny.yaml"]
    said = subprocess.run(command, cwd=films.parent, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert "All turns together" in said.stdout
    assert (films.parent / "runs" / "cross-validation-tiny-bench" / "compare.fa.html").exists()
