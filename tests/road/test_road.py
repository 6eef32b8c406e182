"""The whole road, end to end, on a data set with a known answer."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from made_predictions import Made, made_study
from tabib.cli.tell import headline_lines
from tabib.config import Study
from tabib.evaluation import evaluate
from tabib.records import Evaluation
from tabib.runs import FILES, Run, open_run
from tabib.study import run_study
from tiny import tiny_study


def tabib(*arguments: object, blocked: str | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, started in `cwd`; importing `blocked` there is an error."""
    code = f"""
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

class Block(MetaPathFinder, Loader):
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name.partition(".")[0] == {blocked!r} else None

    def exec_module(self, module):
        raise ImportError(module.__name__ + " is blocked")

sys.meta_path.insert(0, Block())
sys.argv = ["tabib", *sys.argv[1:]]
from tabib.cli import main
main()
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=cwd)


@pytest.mark.slow
def test_strong_signs_are_learnt_and_every_file_is_there(films: Path, travel: Callable[[Study], Run]) -> None:
    run = travel(tiny_study(films, {"training": {"epochs": 12}}))
    evaluation: Evaluation = run.read("evaluation")
    test = next(part for part in evaluation.parts if part.part == "test")
    auc = next(measure for measure in test.measures if measure.name == "auc" and measure.of is None)
    assert auc.value is not None
    assert auc.value > 0.8
    assert all((run.folder / kind.path).exists() for kind in FILES.values())
    assert (run.folder / "report.en.html").exists()
    split = run.read("split")
    assert not (parts := split.group_by("group").agg(pl.col("part").n_unique()).filter(pl.col("part") > 1)).height, parts


def test_a_second_run_loads_every_step_and_a_change_of_words_repeats_none(films: Path, tmp_path: Path) -> None:
    heard: list[tuple[str, bool]] = []
    study = tiny_study(films, {"training": {"epochs": 1}})
    titled = study.model_copy(update={"title": study.title.model_copy(update={"en": "Another title"})})
    for version in (study, study, titled):
        with open_run(version, root=tmp_path / "runs", on_step=lambda name, loaded: heard.append((name, loaded))) as run:
            run_study(version, run)
    steps = len(FILES)
    assert not any(loaded for _, loaded in heard[:steps])
    assert all(loaded for _, loaded in heard[steps:])
    assert "Another title" in (run.folder / "report.en.html").read_text(encoding="utf-8")


def test_the_summary_of_a_network_with_data_and_without(films: Path, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(f"name: s\ndata: {{folder: {films}}}\ninput: {{height: 64, width: 64}}\nmodel: {{network: mri_cnn_selected}}\n")
    said = tabib("summary", file, "--classes", 2, "--set", "input.channels=1", "--set", "data.folder=nowhere", cwd=tmp_path).stdout
    assert re.search(r"^features\.dense1 +Linear +128 +1,048,704 +1,048,704 +1,048,576$", said, re.MULTILINE)
    assert "1,085,794 weights, 1,085,794 of them trainable" in said
    assert said.endswith("measures: 1,086,434\n")
    looked = json.loads(tabib("summary", file, "--json", "--runs", tmp_path / "runs", cwd=tmp_path).stdout)
    assert (looked["classes"], looked["image"], looked["weights"]) == (2, [1, 64, 64], 1_085_794)
    asked = tabib("summary", file, "--classes", 2, cwd=tmp_path)
    assert (asked.returncode, "input.channels is auto" in asked.stderr) == (2, True)


@pytest.mark.slow
def test_the_resolved_study_repeats_the_run_to_the_bit(films: Path, tmp_path: Path) -> None:
    from tabib.study_file import load_study

    study = tiny_study(films, {"training": {"epochs": 1, "device": "auto"}, "input": {"channels": "auto"}})
    hashes = []
    for version in ("given", "resolved"):
        with open_run(study, root=tmp_path / version) as run:
            run_study(study, run)
        hashes.append([member.weights_sha256 for member in run.read("model").members])
        study = load_study(run.path("study"))
    assert "auto" not in run.path("study").read_text()
    assert hashes[0] == hashes[1]


@pytest.mark.slow
def test_the_verbs_share_one_run_and_need_torch_only_for_the_network(films: Path, tmp_path: Path) -> None:
    from tabib.study_file import dump_study

    file = tmp_path / "study.yaml"
    file.write_text(dump_study(tiny_study(films, {"training": {"epochs": 1}})), encoding="utf-8")
    runs = ("--runs", tmp_path / "runs", "--json")
    answers = {}
    for verb in ("split", "check", "train", "calibrate", "run"):
        done = tabib(verb, file, *runs)
        assert done.returncode == 0, done.stderr
        answers[verb] = json.loads(done.stdout)
    folder = Path(answers["run"]["run"])
    assert len(list((tmp_path / "runs" / "tiny").glob("*/manifest.json"))) == 1
    before = (folder / "evaluation.json").read_text()
    for verb in ("evaluate", "report"):
        done = tabib(verb, folder, "--json", blocked="torch")
        assert done.returncode == 0, done.stderr
    assert (folder / "evaluation.json").read_text() == before
    assert tabib("look", films, *runs, blocked="torch").returncode == 0
    assert answers["run"]["evaluation"]["test_looks"] == 1

    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    one = next(films.rglob("*.png"))
    done = tabib("predict", folder, one, broken, "--out", tmp_path / "out.csv", "--json")
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["refused"] == 1
    assert pl.read_csv(tmp_path / "out.csv").height == 2
    formula = tmp_path / "=1+1.png"
    formula.write_bytes(one.read_bytes())
    assert tabib("predict", folder, formula.name, "--out", tmp_path / "odd.csv", cwd=tmp_path).returncode == 0
    assert pl.read_csv(tmp_path / "odd.csv")["path"].to_list() == ["'=1+1.png"]

    before = {path.name: path.read_bytes() for path in (folder / "explanations").iterdir()}
    assert tabib("explain", folder, "--json").returncode == 0
    assert {path.name: path.read_bytes() for path in (folder / "explanations").iterdir()} == before
    done = tabib("explain", folder, one, broken, "--out", tmp_path / "why", "--json")
    assert done.returncode == 3, done.stderr
    told = json.loads(done.stdout)
    assert (told["images"][0]["path"], list(told["refused"])) == (str(one), [str(broken)])
    assert {path.name for path in (tmp_path / "why").iterdir()} == {*told["images"][0]["pictures"].values(), "explanations.json"}
    assert tabib("explain", folder, one, "--out", films, "--json").returncode != 0, "pictures would be written among the images"

    listed = json.loads(tabib("cache", "list", *runs).stdout)
    assert listed["bytes"] > 0
    assert json.loads(tabib("cache", "clear", *runs).stdout)["bytes"] == listed["bytes"]
    assert json.loads(tabib("cache", "list", *runs).stdout)["kept"] == []


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["films", "films/", "./films/../films/", "films/NORMAL/..", "."])
def test_a_look_is_the_same_however_the_folder_is_spelt(films: Path, tmp_path: Path, folder: str) -> None:
    done = tabib("look", folder, "--runs", tmp_path, "--json", cwd=films if folder == "." else films.parent)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["images"] == len(list(films.rglob("*.png")))
    assert Path(told["page"]) == tmp_path / "look-films" / "look.html"
    assert re.search(r"<h1>A look at (<bdi>)?films(</bdi>)?</h1>", (tmp_path / "look-films" / "look.html").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_look_tells_what_a_split_refuses(films: Path, tmp_path: Path) -> None:
    from tabib.study_file import dump_study

    folder = tmp_path / "films"
    shutil.copytree(films, folder)
    for film in (folder / "NORMAL").iterdir():
        Image.open(film).convert("L").resize((60, 60)).save(film)
    done = tabib("look", folder, "--group", r"(patient\d+)", "--runs", tmp_path / "runs")
    assert (done.returncode, done.stdout.count("FAIL")) == (0, 1), done.stdout
    file = tmp_path / "study.yaml"
    for expect, code in (([], 2), (["acquisition_confounder"], 0)):
        file.write_text(dump_study(tiny_study(folder).model_copy(update={"expect": expect})), encoding="utf-8")
        assert tabib("split", file, "--runs", tmp_path / "runs").returncode == code


@pytest.mark.slow
def test_a_check_tells_what_training_refuses(films: Path, tmp_path: Path) -> None:
    from tabib.study_file import dump_study

    file = tmp_path / "study.yaml"
    file.write_text(dump_study(tiny_study(films, {"training": {"epochs": 1, "learning_rate": 0.2}})), encoding="utf-8")
    runs = ("--runs", tmp_path / "runs")
    done = tabib("check", file, *runs)
    assert (done.returncode, done.stdout.count("FAIL")) == (0, 1), done.stderr
    levels = {check["code"]: check["level"] for check in json.loads(tabib("check", file, *runs, "--json").stdout)["checks"]}
    assert levels["adam_rate_high"] == "fail"
    assert tabib("train", file, *runs).returncode == 2


def test_the_test_predictions_are_what_predict_says(films: Path, travel: Callable[[Study], Run]) -> None:
    from tabib.prediction import Predictor, predict_paths

    run = travel(tiny_study(films, {"training": {"epochs": 1}}))
    judged = run.read("predictions").filter(pl.col("part") == "test").sort("path")
    served = predict_paths(Predictor.load(run.folder / "model"), [films / path for path in judged["path"]])
    for name in ("p_NORMAL", "p_PNEUMONIA"):
        assert (judged[name] - served[name]).abs().max() < 1e-6  # pyright: ignore[reportOptionalOperand, reportOperatorIssue]
    assert judged["predicted"].to_list() == served["predicted"].to_list()


@pytest.mark.slow
def test_leaks_of_a_given_split_are_refused_then_dropped_or_kept_aloud(given_films: Path, travel: Callable[[Study], Run]) -> None:
    from tabib.errors import LeakError

    given = {"given": True, "validation": 0.25}
    with pytest.raises(LeakError):
        travel(tiny_study(given_films, {"split": given}))
    short = {"training": {"epochs": 1}}
    dropped = travel(tiny_study(given_films, {"split": {**given, "leaks": "drop"}, **short}))
    split = dropped.read("split")
    assert (split["part"] == "left_out").sum() > 0
    tests = set(split.filter(pl.col("part") == "test")["group"])
    assert not tests & set(split.filter(pl.col("part").is_in(["train", "validation"]))["group"])
    kept = travel(tiny_study(given_films, {"split": {**given, "leaks": "keep"}, **short}))
    page_one = {remark.code for remark in [*kept.read("findings").findings, *kept.read("evaluation").remarks] if remark.page_one}
    assert page_one & {"given_leak_kept", "given_leak_groups"}


@pytest.mark.slow
def test_folds_and_seeds_make_members(films: Path, travel: Callable[[Study], Run]) -> None:
    folds = travel(tiny_study(films, {"split": {"folds": 3}, "training": {"epochs": 1}}))
    assert [member.fold for member in folds.read("model").members] == [0, 1, 2]
    split, predictions = folds.read("split"), folds.read("predictions")
    assert predictions.filter(pl.col("part") == "validation").height == (split["part"] == "train").sum()
    seeds = travel(tiny_study(films, {"training": {"epochs": 1, "seeds": [3, 4]}}))
    assert [member.seed for member in seeds.read("model").members] == [3, 4]


@pytest.mark.parametrize("classes", [("NORMAL", "PNEUMONIA"), ("A", "B", "C")])
def test_what_is_printed_at_the_end_has_the_area_under_the_curve(classes: tuple[str, ...]) -> None:
    evaluation = evaluate(*Made(classes=classes).tables(), made_study())
    lines = "\n".join(headline_lines(evaluation))
    for name in ("auc", "accuracy", "balanced_accuracy"):
        assert lines.count(f"  {name} ") == 1
