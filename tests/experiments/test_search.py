"""Values of some fields tried on validation images: what is proposed, what is trained, and what is said of it."""

from __future__ import annotations

import importlib
import json
import math
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from typer.testing import CliRunner

from paces import SetPace
from planted_masks import write_pictures
from tabib.cli import app
from tabib.errors import MissingPackageError, StudyError
from tabib.evaluation.answers import Answers
from tabib.evaluation.pairs import moves_of
from tabib.experiments import Search, judge_search, read_search, run_trials, searched, trials, write_search
from tabib.experiments.proposals import floors, propose
from tabib.experiments.same_rows import Said
from tabib.experiments.search import Choices, Range
from tabib.experiments.trials import Ledger
from tabib.metrics.intervals import Sureness
from tabib.phantoms import ChestFilms, make_chest_films
from tabib.records import Checks, Measure, Pace, Searched, SearchTrial, Stopped
from tabib.reports.ablated import shown
from tabib.reports.searched import by_chance, told
from tabib.reports.text import language, plain
from tabib.runs import open_run, read_run
from tabib.study import run_study
from tabib.study_file import load_study
from tabib.training import batches
from tabib.training.networks import NETWORKS

STUDY = """
name: tiny
positive: PNEUMONIA
data: {folder: films, group: '(patient\\d+)'}
input: {height: 32, width: 32, channels: 1}
split: {train: 0.4, validation: 0.4, test: 0.2}
model: {network: quick}
training: {epochs: 4, batch: 16, threads: 1, device: cpu, precision: fp32, log_to: []}
evaluate: {draws: 200}
report: {languages: [en]}
"""

SEARCH = """
study: tiny.yaml
title: {en: Which rate, fa: کدام نرخ}
fields:
  training.learning_rate: {low: 1e-6, high: 1e-2, log: true}
  augment.rotation_degrees: [0, 5]
"""


def quick(channels: int, height: int, width: int) -> nn.Module:
    """Learns in milliseconds."""
    convolution = nn.Conv2d(channels, 16, 5, stride=2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("search")
    make_chest_films(folder / "films", ChestFilms(patients=50, films_per_patient=(1, 2), side=32, lesion=6.0))
    (folder / "tiny.yaml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "quick", quick)
        yield folder


def asked(place: Path, text: str, name: str = "which.yaml") -> Search:
    (place / name).write_text(text, encoding="utf-8")
    return read_search(place / name)


def of(search: Search, root: Path) -> Ledger:
    return run_trials(search, root=root, folder=root / "search")


def proposed(search: Search, count: int, score: Any = None) -> list[dict[str, str]]:
    """What is proposed where each trial reaches `score` of its values."""
    found: list[dict[str, str]] = []
    known: list[SearchTrial] = []
    for number in range(count):
        values = propose(search, number, found, known[: max(0, number - 1)])
        if values is None:
            break
        found.append(dict(values))
        measure = Measure(name="auc", value=score(values) if score else 0.5)
        known.append(SearchTrial(number=number, values=found[-1], state="done", measure=measure))
    return found


# --- The file ---


def test_a_grid_is_every_combination_the_last_field_fastest(place: Path) -> None:
    search = asked(place, "study: tiny.yaml\nmethod: grid\nfields: {training.batch: [8, 16], augment.flip_horizontal: [yes, no]}")
    found = proposed(search, 9)
    assert [tuple(values.values()) for values in found] == [("8", "yes"), ("8", "no"), ("16", "yes"), ("16", "no")]


def test_what_is_drawn_repeats_and_fills_the_range(place: Path) -> None:
    text = SEARCH + "method: random\ntrials: 5\n"
    search, again = asked(place, text), asked(place, text + "minutes: 3\n")
    found = proposed(search, 200)
    assert found == proposed(again, 200), "how long is searched changes no draw"
    assert found != proposed(asked(place, text + "seed: 1\n"), 200)
    rates = [float(values["training.learning_rate"]) for values in found]
    assert min(rates) >= 1e-6
    assert max(rates) <= 1e-2
    assert abs(math.log10(median(rates)) + 4) < 0.35, "evenly by the logarithm"
    assert 70 < sum(values["augment.rotation_degrees"] == "5" for values in found) < 130


def test_whole_numbers_stay_whole_and_nothing_is_tried_twice(place: Path) -> None:
    search = asked(place, "study: tiny.yaml\nmethod: random\ntrials: 99\nfields: {training.batch: {low: 3, high: 6}}")
    assert search.fields == {"training.batch": Range(3, 6, whole=True)}
    assert sorted(values["training.batch"] for values in proposed(search, 99)) == ["3", "4", "5", "6"]
    assert not read_range(place, "training.weight_decay: {low: 0, high: 1}").whole


def read_range(place: Path, field: str) -> Range:
    (found,) = asked(place, f"study: tiny.yaml\ntrials: 1\nfields: {{{field}}}").fields.values()
    assert isinstance(found, Range)
    return found


def test_optuna_repeats_and_looks_where_it_was_good(place: Path) -> None:
    search = asked(place, SEARCH + "method: optuna\ntrials: 25\n")

    def score(values: Any) -> float:
        return -abs(math.log10(float(values["training.learning_rate"])) + 3) - (values["augment.rotation_degrees"] == "0")

    found = proposed(search, 25, score)
    assert found == proposed(search, 25, score)
    assert found[:5] == proposed(search, 25, lambda values: -score(values))[:5], "the first are drawn by chance"
    scores = [score(values) for values in found]
    assert median(scores[15:]) > median(scores[:10]) + 0.5


def test_what_was_stopped_or_failed_is_told_to_optuna(place: Path) -> None:
    search = asked(place, SEARCH + "method: optuna\ntrials: 25\n")
    found = proposed(search, 12)
    done = [SearchTrial(number=n, values=found[n], state="done", measure=Measure(name="auc", value=0.6 + n / 100)) for n in range(9)]
    stopped = SearchTrial(
        number=9, values=found[9], state="pruned", stopped=Stopped(member="seed0", epoch=1, value=0.5, floor=0.6), not_run=None
    )
    failed = SearchTrial(number=10, values=found[10], state="failed", not_run="diverged")
    better = SearchTrial(number=9, values=found[9], state="done", measure=Measure(name="auc", value=0.99))
    assert propose(search, 12, found, [*done, stopped, failed]) != propose(search, 12, found, [*done, better, failed])


def test_without_the_package_it_says_what_to_install(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'tabib\[search\]'"):
        of(asked(place, SEARCH + "method: optuna\ntrials: 2\n"), place / "none")
    assert not (place / "none").exists()


WRONG = {
    "no fields": ("study: tiny.yaml", "there is no fields"),
    "unknown": (SEARCH + "trails: 3", "no field trails. Did you mean trials"),
    "a study": ("name: x\ndata: {folder: films}", "is a study, and a search was expected"),
    "no end": (SEARCH, "there is no end"),
    "grid of a range": (SEARCH + "method: grid", "training.learning_rate is a range, and a grid needs lists"),
    "method": (SEARCH + "method: luck", "method is 'luck'. Expected grid or random or optuna"),
    "measure": (SEARCH + "trials: 2\nmeasure: dice", "measure is 'dice'. Expected auc or balanced_accuracy or accuracy"),
    "data": ("study: tiny.yaml\ntrials: 1\nfields: {split.seed: [0, 1]}", "split.seed: is not searched"),
    "seeds": ("study: tiny.yaml\ntrials: 1\nfields: {training.seeds: [[0], [1]]}", "training.seeds: is chance, and no choice"),
    "no list": ("study: tiny.yaml\ntrials: 1\nfields: {training.batch: 8}", "training.batch: is '8'. Expected a list"),
    "twice": ("study: tiny.yaml\ntrials: 1\nfields: {model.dropout: [[0.1], [0.10]]}", "model.dropout, value 2: [0.10] is given twice"),
    "order": ("study: tiny.yaml\ntrials: 1\nfields: {training.batch: {low: 9, high: 8}}", "low is 9 and high is 8"),
    "log of 0": (
        "study: tiny.yaml\ntrials: 1\nfields: {training.weight_decay: {low: 0, high: 1, log: true}}",
        "above 0 for log",
    ),
    "end": ("study: tiny.yaml\ntrials: 1\nfields: {training.batch: {low: 1, high: 8}}", "training.batch, low: training.batch is '1'"),
    "no number": ("study: tiny.yaml\ntrials: 1\nfields: {training.batch: {low: few, high: 8}}", "low: is 'few'. Expected a number"),
    "trials": (SEARCH + "trials: 0", "trials is '0'. Expected a whole number of 1 or more"),
    "minutes": (SEARCH + "minutes: -1", "minutes is -1. Expected a number above 0"),
    "a part": (
        "study: tiny.yaml\ntrials: 1\nfields: {model.freeze.trainable: [1, 2], model.freeze: [none]}",
        "wrong.yaml: model.freeze and model.freeze.trainable are both searched, and model.freeze.trainable is a part of model.freeze",
    ),
    "ensemble": (SEARCH + "trials: 1\nensemble: 3", "ensemble is '3'. Expected a list of seeds"),
    "epochs": (
        "study: tiny.yaml\nmethod: optuna\ntrials: 1\nfields: {training.epochs: [2, 4]}",
        "training.epochs is searched, and prune is true",
    ),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_file_says_what_is_wrong(place: Path, text: str, said: str) -> None:
    with pytest.raises(StudyError, match=re.escape(said)):
        asked(place, text, "wrong.yaml")


def test_all_wrong_values_are_named_at_once(place: Path) -> None:
    text = "study: tiny.yaml\ntrials: 1\nfields: {training.batch: [8, few], model.netwrk: [a], training.optimizer: [adam, best]}"
    with pytest.raises(StudyError) as caught:
        asked(place, text, "wrong.yaml")
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    for line, said in zip(lines, ("training.batch, value 2: ", "Did you mean network", "training.optimizer, value 2: "), strict=True):
        assert line.startswith(f"{place / 'wrong.yaml'}, ")
        assert said in line


def test_a_field_is_not_given_twice(place: Path) -> None:
    (place / "which.yaml").write_text(SEARCH + "trials: 1", encoding="utf-8")
    with pytest.raises(StudyError, match=r"training\.learning_rate is searched"):
        read_search(place / "which.yaml", overrides=["training.learning_rate=0.1"])


# --- Its trials ---


TRIALS = SEARCH + "method: optuna\ntrials: 7\n"


@pytest.fixture(scope="module")
def whole(place: Path) -> Ledger:
    return of(asked(place, TRIALS), place / "runs")


def without_times(ledger: Ledger, root: Path) -> list[dict[str, Any]]:
    told = [trial.model_dump(exclude={"seconds", "training_seconds", "ended"}) for trial in ledger.trials]
    return [each | {"run": each["run"] and str(Path(each["run"]).relative_to(root))} for each in told]


def test_trials_share_their_data_and_never_answer_a_test_image(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    load = batches.load_samples

    def looked(cache: object, rows: pl.DataFrame, **told: Any) -> object:
        seen.extend(rows["content"])
        return load(cache, rows, **told)  # pyright: ignore[reportArgumentType]

    for room in ("training.classify", "training.calibrate", "prediction.index"):
        monkeypatch.setattr(importlib.import_module(f"tabib.{room}"), "load_samples", looked)
    steps: list[str] = []
    root = place / "apart"
    search = asked(place, SEARCH + "method: random\ntrials: 2\n")
    ledger = run_trials(search, root=root, folder=root / "search", on_step=lambda name, loaded: None if loaded else steps.append(name))
    assert [trial.state for trial in ledger.trials] == ["done", "done"]
    assert ledger.whole
    assert [steps.count(name) for name in ("index", "findings", "split", "model", "validation", "predictions")] == [1, 1, 1, 2, 2, 0]
    runs = [read_run(Path(trial.run or "")) for trial in ledger.trials]
    parts = {part: set(rows["content"]) for (part,), rows in runs[0].read("split").group_by("part")}
    assert set(seen) == parts["train"] | parts["validation"]
    assert parts["test"]
    for run in runs:
        assert set(run.read("validation")["row"]) == set(runs[0].read("split").filter(pl.col("part") == "validation")["row"])
        assert not run.path("predictions").exists()
        assert not list(run.folder.glob("report.*"))
    assert not (root / "tiny" / "test_looks.jsonl").exists()


@pytest.mark.usefixtures("whole")
def test_a_stopped_search_goes_on_as_if_it_never_had(place: Path, whole: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    finish, begun = trials.try_study, []

    def counted(study: Any, run: Any, **told: Any) -> Any:
        begun.append(run.folder.name)
        if len(begun) == 4:
            raise KeyboardInterrupt
        return finish(study, run, **told)

    monkeypatch.setattr(trials, "try_study", counted)
    root = place / "stopped"
    first = of(asked(place, TRIALS), root)
    assert (len(first.trials), first.interrupted, first.whole) == (3, True, False)
    timed = asked(place, TRIALS + "minutes: 60\n")
    found, pages = write_search(timed, judge_search(timed, first), root / "page")
    assert found.interrupted
    for page, words, others in zip(
        pages, ("Stopped before the end", "پیش از پایان متوقف شد"), ("time was used up", "زمان به پایان رسید"), strict=True
    ):
        text = page.read_text(encoding="utf-8")
        assert words in text
        assert others not in text
    second = of(asked(place, TRIALS), root)
    assert without_times(second, root) == without_times(whole, place / "runs")
    assert second.whole
    assert len(begun) == 8
    assert begun[3] == begun[4], "only the one that was at work is begun again"
    assert len(set(begun)) == 7
    third = of(asked(place, TRIALS.replace("trials: 7", "trials: 8")), root)
    assert len(begun) == 9
    assert without_times(third, root)[:7] == without_times(second, root)


def test_a_trial_must_have_what_half_of_the_finished_ones_had(place: Path) -> None:
    search = asked(place, SEARCH + "method: optuna\ntrials: 9\n")
    curves = [[0.5, 0.6, None, 0.9], [0.7, 0.6, 0.8, 0.8], [0.6, 0.7, 0.7, 0.7], [0.4, 0.4, 0.4, 0.4], [0.8, 0.9]]
    known = [SearchTrial(number=n, values={}, state="done", curves={"seed0": curve}) for n, curve in enumerate(curves)]
    lost = SearchTrial(number=5, values={}, state="failed", not_run="diverged")
    assert floors(search, [*known, lost]) == {"seed0": {1: 0.6, 2: 0.7, 3: 0.7}}
    assert floors(search, [*known[:4], lost]) == {}, "five finished ones are needed"
    assert floors(asked(place, SEARCH + "method: optuna\nprune: false\ntrials: 9\n"), known) == {}


def test_a_trial_that_lags_behind_is_stopped_and_says_so(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = asked(place, SEARCH + "method: optuna\ntrials: 1\n")
    monkeypatch.setattr(trials, "floors", lambda *told: {"seed0": {1: 0.0, 3: 1.5}})
    (trial,) = of(search, place / "pruned").trials
    best = max(value for value in trial.curves["seed0"] if value is not None)
    assert (trial.state, trial.measure) == ("pruned", None)
    assert trial.stopped == Stopped(member="seed0", epoch=3, value=best, floor=1.5)
    run = read_run(Path(trial.run or ""))
    assert (len(run.histories()["seed0"]), run.path("model").exists()) == (3, False)


def test_a_trial_that_cannot_be_trained_is_a_row(place: Path) -> None:
    text = "study: tiny.yaml\nmethod: grid\nfields: {training.learning_rate: [0.001, 0.5], model.weights: [none, nowhere.safetensors]}"
    ledger = of(asked(place, text), place / "failed")
    assert [(trial.state, trial.not_run) for trial in ledger.trials] == [
        ("done", None),
        ("failed", "weights"),
        ("failed", "error"),
        ("failed", "weights"),  # files are looked for first
    ]
    assert "adam_rate_high" in ledger.trials[2].reason


def test_time_that_is_used_up_ends_it(place: Path, whole: Ledger) -> None:
    search = asked(place, SEARCH + "method: random\nminutes: 1\n")
    taken = [trial.model_copy(update={"state": "done", "seconds": 20.0}) for trial in whole.trials]
    assert trials._in_time(search, Ledger(trials=taken), 40.0, 5.0)
    assert not trials._in_time(search, Ledger(trials=taken), 41.0, 5.0)
    assert trials._in_time(search, Ledger(), 50.0, 10.0)
    assert not trials._in_time(search, Ledger(), 50.1, 10.0), "of the first the doctor has reckoned how long it takes"
    assert not trials._in_time(search, Ledger(trials=taken), 40.0, 30.0), "the longer of both"
    assert trials._in_time(asked(place, SEARCH + "trials: 1\n"), Ledger(), 1e9, 1e9), "there is no end"


def test_what_is_reckoned_is_of_as_many_epochs_and_at_the_pace(place: Path) -> None:
    search, done = (
        asked(place, SEARCH + "trials: 9\n"),
        [made([0.5], ["0"])[0].model_copy(update={"seconds": 1.0, "curves": {"seed0": []}})],
    )
    assert trials._needed(search, Ledger(), 8.0) == 8
    assert trials._needed(search, Ledger(trials=[done[0].model_copy(update={"epochs": 2})]), 8.0) == 4, "stopped after 2 of 4 epochs"
    assert trials._needed(search, Ledger(trials=[done[0].model_copy(update={"epochs": 2, "seconds": 6.0})]), 8.0) == 6
    checks = Checks(checks=[], initial_loss=0, expected_initial_loss=0, seconds_per_step=0, predicted_seconds=10)
    pace = Pace(processes=1, threads=2, precision="fp32", alone=6.0, beside=8.0)
    assert trials._reckon(checks, pace) == 10
    assert trials._reckon(checks, pace.model_copy(update={"processes": 2})) == 15, "two at once make 8 steps, each of them 4"
    assert trials._reckon(checks, pace.model_copy(update={"processes": 2, "beside": 16.0})) == 10, "none is faster beside another"


def test_without_time_for_the_first_trial_none_is_begun(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "_reckon", lambda checks, pace: 290.0)
    monkeypatch.setattr(trials, "_try", lambda *told, **more: pytest.fail("a trial was begun"))
    search = asked(place, SEARCH + "method: random\nminutes: 2\n")
    with pytest.raises(StudyError, match=r"minutes is 2, .* one trial is reckoned to take 290 s\. minutes: 6 would do"):
        of(search, place / "short")


class Clock:
    """The time as it is, and what is added to it."""

    added = 0.0

    def time(self) -> float:
        return time.time() + self.added

    def monotonic(self) -> float:
        return time.monotonic() + self.added


@pytest.mark.usefixtures("whole")
def test_a_trial_at_work_when_the_time_is_used_up_goes_on_with_more(place: Path, whole: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, finish, begun = Clock(), trials.try_study, []

    def slower(study: Any, run: Any, **told: Any) -> Any:
        begun.append(run.folder)
        clock.added += 4000.0 * (len(begun) == 3)
        return finish(study, run, **told)

    monkeypatch.setattr(trials, "time", clock)
    monkeypatch.setattr(trials, "try_study", slower)
    root, text = place / "used_up", TRIALS + "minutes: 60\n"
    search = asked(place, text)
    first = of(search, root)
    assert (len(first.trials), len(begun), first.whole, first.interrupted) == (2, 3, False, False)
    assert len(read_run(begun[2]).histories()["seed0"]) == 1
    assert first.seconds > 4000
    assert first.enough == math.ceil((first.seconds + (first.reckoned or 0)) / 60 + 0.5)
    found, pages = write_search(search, judge_search(search, first), root / "page")
    assert (found.reckoned, found.enough, found.interrupted) == (first.reckoned, first.enough, False)
    english, persian = (page.read_text(encoding="utf-8") for page in pages)
    assert f"With {first.enough} minutes the same command goes on" in english
    assert "زمان به پایان رسید" in persian
    second = of(asked(place, text.replace("minutes: 60", f"minutes: {first.enough}00")), root)
    assert begun[3] == begun[2], "it goes on from its epoch"
    assert (second.whole, second.reckoned) == (True, None)
    assert without_times(second, root) == without_times(whole, place / "runs")


@pytest.mark.slow
def test_folds_judge_every_development_image_once(place: Path) -> None:
    (place / "folds.yaml").write_text("study: tiny.yaml\nmethod: grid\nfields: {training.learning_rate: [0.001]}")
    search = read_search(place / "folds.yaml", overrides=["split.folds=2", "training.epochs=1"])
    ledger = of(search, place / "folds")
    (trial,) = ledger.trials
    run = read_run(Path(trial.run or ""))
    split = run.read("split")
    assert set(trial.curves) == {"fold0", "fold1"}
    assert sorted(run.read("validation")["row"]) == sorted(split.filter(pl.col("part") == "train")["row"])
    assert trial.measure is not None
    assert trial.measure.rows == (split["part"] == "train").sum()
    found = judge_search(search, ledger)
    assert (found.folds, found.rows) == (2, trial.measure.rows)


MASKED = """
task: segmentation
name: planted
data: {folder: pictures, labels: {disc: 1, square: 2}, group: '(p\\d+)'}
model: {filters: [4, 8]}
split: {train: 0.2, validation: 0.6, test: 0.2}
training: {epochs: 1, batch: 4, patches: 8, learning_rate: 0.02, device: cpu, precision: fp32, threads: 1, log_to: []}
"""


@pytest.mark.slow
def test_segmenters_are_searched_by_the_dice_of_validation(place: Path) -> None:
    write_pictures(place / "pictures", patients=14)
    (place / "masked.yaml").write_text(MASKED)
    search = asked(place, "study: masked.yaml\nmethod: grid\nfields: {training.learning_rate: [0.02, 1e-5]}")
    ledger = of(search, place / "masked")
    found = judge_search(search, ledger)
    first, second = found.trials
    assert (first.measure and first.measure.name, first.measure and first.measure.of) == ("dice", "structures")
    run = read_run(Path(first.run or ""))
    validation = set(run.read("split").filter(pl.col("part") == "validation")["row"])
    assert set(run.read("validation")["row"]) == validation
    assert {int(path.stem.split(".")[0]) for path in (run.folder / "masks").iterdir()} == validation
    best, other = (first, second) if found.best == 0 else (second, first)
    assert other.difference is not None
    assert other.difference.value == pytest.approx(
        ((best.measure and best.measure.value) or 0) - ((other.measure and other.measure.value) or 0)
    )
    assert found.chosen_again is not None


@pytest.mark.slow
def test_two_at_once_find_what_one_after_the_other_finds(place: Path, set_pace: SetPace) -> None:
    (place / "real.yaml").write_text(STUDY.replace("quick", "small_resnet").replace("epochs: 4", "epochs: 2"))
    found = []
    for processes in (1, 2):
        set_pace(processes)
        root = place / f"processes{processes}"
        found.append(without_times(of(asked(place, TRIALS.replace("tiny", "real")), root), root))
    assert found[0] == found[1]


# --- What is said of it ---


@pytest.fixture(scope="module")
def written(place: Path, whole: Ledger) -> Path:
    folder = place / "runs" / "page"
    search = asked(place, TRIALS + "ensemble: [3, 4]\n", "page.yaml")
    write_search(search, judge_search(search, whole), folder)
    return folder


def test_the_best_goes_on_from_its_trial(place: Path, whole: Ledger) -> None:
    search = asked(place, TRIALS)
    found, _ = write_search(search, judge_search(search, whole), place / "runs" / "best")
    best = max((trial for trial in whole.trials if trial.measure), key=lambda trial: (trial.measure and trial.measure.value) or 0)
    assert found.best == best.number
    study = load_study(Path(found.best_study or ""))
    assert str(study.training.learning_rate) == str(float(best.values["training.learning_rate"]))
    steps: list[str] = []
    weights = Path(best.run or "") / "model" / "members" / "seed0" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    with open_run(study, root=place / "runs", on_step=lambda name, loaded: None if loaded else steps.append(name)) as run:
        run_study(study, run)
    assert str(run.folder) == best.run
    assert steps == ["checks", "model", "predictions", "evaluation", "explanations"]
    assert weights.stat().st_mtime_ns == before, "the doctor looks at it whole, and no member is trained again"


def test_the_winners_seeds_make_an_ensemble(written: Path) -> None:
    assert load_study(written / "best.yaml").training.seeds == [3, 4]


def test_the_page_says_how_sure_the_best_is_in_both_languages(written: Path) -> None:
    said = json.loads((written / "search.json").read_text())
    assert len(said["trials"]) == 7
    for code, words in {
        "en": (
            "No test image was predicted",
            "cannot be told apart from it",
            "too good for that alone",
            "learning_rate",
            "at work at a time",
        ),
        "fa": ("هیچ تصویر آزمونی پیش‌بینی نشد", "تمایزناپذیر", "بیش از اندازه خوب", "learning_rate", "هر بار"),
    }.items():
        page = (written / f"search.{code}.html").read_text(encoding="utf-8").replace("<wbr>", "")
        for word in words:
            assert word in page
        assert "search." not in re.sub(r'(href|src)="[^"]*"|<code.*?</code>', "", page), "a key without words"


def test_a_search_without_the_folders_of_trials_says_what_is_missing(place: Path, whole: Ledger) -> None:
    search = asked(place, TRIALS)
    before = judge_search(search, whole)
    finished = [trial.number for trial in whole.trials if trial.state == "done"]
    assert before.best is not None
    assert before.gone == []
    best = searched._said(next(trial for trial in whole.trials if trial.number == before.best))
    assert best is not None
    assert (before.rows, before.groups) == (len(best.rows), best.groups)
    other = next(number for number in finished if number != before.best)

    def without(*gone: int) -> tuple[Searched, str, str]:
        trials = [trial.model_copy(update={"run": str(place / "gone")}) if trial.number in gone else trial for trial in whole.trials]
        found, pages = write_search(search, judge_search(search, whole.model_copy(update={"trials": trials})), place / "runs" / "gone")
        said = " ".join(plain(sentence) for sentence in told(found, language("en")))
        english, persian = (page.read_text(encoding="utf-8") for page in pages)
        assert english.count(">answers gone<") == persian.count(">پاسخ‌ها از دست رفته<") == len({*gone} - {found.best})
        assert (found.best, found.rows, found.groups, found.guessed) == (before.best, before.rows, before.groups, before.guessed)
        assert found.gone == sorted(gone)
        return found, said, persian

    found, said, persian = without(other)
    assert "The run folders of 1 other finished trial are no longer there" in said
    assert "این‌ها با بهترین مقایسه نشدند" in persian
    compared = [trial.number for trial in found.trials if trial.difference is not None]
    assert compared == [number for number in finished if number not in (other, before.best)]
    assert f"of the {len(compared)} trials compared with it" in said or f"every one of the {len(compared)} trials compared with it" in said
    assert (found.chosen_again is not None) == (f"only among the {len(finished) - 1} trials whose answers are there" in said)

    for gone in ([before.best], finished):
        found, said, persian = without(*gone)
        assert f"on {before.rows} validation images of {before.groups} patients or groups" in said
        assert "whether it can be told apart from the other trials" in said
        assert f"The answers of {len(gone)} finished trial{' is' if len(gone) == 1 else 's are'} gone in all." in said
        assert "پوشهٔ اجرای آن" in persian
        assert all(trial.difference is None for trial in found.trials)
        assert found.chosen_again is None


def test_the_verb_says_the_best(place: Path, whole: Ledger) -> None:
    (place / "verb.yaml").write_text(TRIALS, encoding="utf-8")
    done = CliRunner().invoke(
        app, ["search", str(place / "verb.yaml"), "--runs", str(place / "runs"), "-o", str(place / "runs" / "search"), "--json"]
    )
    assert done.exit_code == (3 if any(trial.state == "failed" for trial in whole.trials) else 0), done.output
    said = json.loads(done.stdout)
    assert [trial["values"] for trial in said["search"]["trials"]] == [trial.values for trial in whole.trials]
    assert (place / "runs" / "search" / "best.yaml").exists()


@pytest.mark.usefixtures("whole")
def test_ctrl_c_leaves_with_what_is_finished(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*words: object, **told: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trials, "try_study", stopped)
    (place / "stop.yaml").write_text(TRIALS.replace("trials: 7", "trials: 8"), encoding="utf-8")
    out = place / "runs" / "search"
    done = CliRunner().invoke(app, ["search", str(place / "stop.yaml"), "--runs", str(place / "runs"), "-o", str(out)])
    assert done.exit_code == 130
    assert "Trial" in done.stdout
    assert "Stopped before the end" in done.stdout
    assert "Stopped before the end" in (out / "search.en.html").read_text(encoding="utf-8")


def made(values: list[float], texts: list[str]) -> list[SearchTrial]:
    return [
        SearchTrial(number=n, values={"f": text}, state="done", measure=Measure(name="auc", value=value))
        for n, (value, text) in enumerate(zip(values, texts, strict=True))
    ]


def test_the_share_of_a_field() -> None:
    draw = np.random.default_rng(0)
    noise = draw.normal(size=300).tolist()
    by_chance = [str(each) for each in draw.integers(0, 3, 300)]
    shares = [
        searched._share("f", Choices(["0", "1", "2"]), made(noise, by_chance)),
        searched._share("f", Choices(["0", "1", "2"]), made([float(text) for text in by_chance], by_chance)),
        searched._share("f", Range(0, 1), made([x / 300 + 0.001 * e for x, e in enumerate(noise)], [str(x / 300) for x in range(300)])),
    ]
    assert shares[0] == pytest.approx(0, abs=0.02)
    assert shares[1] == pytest.approx(1)
    assert shares[2] == pytest.approx(8 / 9, abs=0.01), "thirds of an even slope leave a ninth of its variance"
    assert searched._share("f", Choices(["0", "1", "2"]), made(noise[:7], by_chance[:7])) is None


FEW = Range(1, 8, whole=True)


def test_a_field_that_was_not_varied_has_no_share() -> None:
    rising = [0.6 + number / 100 for number in range(12)]
    assert searched._share("f", FEW, made(rising, ["4"] * 12)) == 0
    two = ["4", "5"] * 6
    assert searched._share("f", FEW, made(rising, two)) == searched._share("f", Choices(["4", "5"]), made(rising, two)) == 0
    assert searched._share("f", FEW, made([0.7] * 12, [str(1 + number % 8) for number in range(12)])) == 0, "equal scores have no variance"
    each_once = [str(number) for number in range(12)]
    assert searched._share("f", Choices(each_once), made(rising, each_once)) is None, "each value was tried once"


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 9)), min_size=8, max_size=20), st.randoms())
def test_the_order_of_trials_changes_no_share(tried: list[tuple[int, int]], order: Random) -> None:
    def share(pairs: list[tuple[int, int]]) -> float | None:
        return searched._share("f", FEW, made([score / 10 for _, score in pairs], [str(value) for value, _ in pairs]))

    assert share(order.sample(tried, len(tried))) == pytest.approx(share(tried), abs=1e-9)


@pytest.mark.parametrize("trials", [12, 30])
def test_noise_has_about_no_share(trials: int) -> None:
    draw = np.random.default_rng(4)

    def share() -> float:
        values = [str(value) for value in draw.uniform(size=trials)]
        return searched._share("f", Range(0, 1), made(draw.normal(size=trials).tolist(), values)) or 0.0

    shares = [share() for _ in range(1000)]
    done = Searched(
        title={}, study="", method="random", measure="auc", seed=0, prune=False, fields=[], trials=made([0.5] * trials, ["1"] * trials)
    )
    assert median(shares) == 0
    assert np.mean(shares) < 1.1 / trials, "half of what would be there without the correction"
    assert np.mean(np.array(shares) >= by_chance(done)) == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize(("trials", "searches"), [(5, 200), (20, 40)])
def test_of_equal_trials_hardly_ever_one_is_called_worse(trials: int, searches: int) -> None:
    draw, truth = np.random.default_rng(5), np.arange(100) % 2
    wrong = 0
    for _ in range(searches):
        said = [said_of(truth, 1 / (1 + np.exp(-truth - draw.normal(size=100)))) for _ in range(trials)]
        values = [each.moves[0].value for each in said]
        best = int(np.argmax(values))
        told = searched._differences(best, dict(enumerate(said)), Measure(name="auc", value=values[best]), of=trials)
        assert len(told) == trials - 1
        wrong += any(shown(difference, 0.95) for difference in told.values())
    assert wrong / searches <= 0.05


def test_a_clear_difference_is_still_shown() -> None:
    draw, truth = np.random.default_rng(6), np.arange(100) % 2
    good = said_of(truth, np.clip(truth + draw.normal(0, 0.3, 100), 0, 1))
    noise = [said_of(truth, draw.uniform(size=100)) for _ in range(9)]
    told = searched._differences(0, dict(enumerate([good, *noise])), Measure(name="auc", value=good.moves[0].value), of=10)
    assert all(shown(difference, 0.95) for difference in told.values())
    assert all(difference.corrected == pytest.approx(45 * (difference.p or 0)) for difference in told.values())


def said_of(truth: np.ndarray, probability: np.ndarray) -> Said:
    """What a trial said of images of two classes, one of each patient."""
    patients = np.arange(len(truth))
    answers = Answers(("a", "b"), patients, truth, (probability > 0.5).astype(int), np.stack([1 - probability, probability], 1), patients)
    rows = tuple((str(number), str(label)) for number, label in enumerate(truth))
    return Said(rows, tuple(answers.groups.tolist()), ("a", "b"), Sureness(), [answers], moves_of([answers]))


def test_choosing_again_takes_back_what_chance_gave() -> None:
    draw = np.random.default_rng(1)
    truth = np.arange(60) % 2

    noise = [said_of(truth, draw.uniform(size=60)) for _ in range(30)]
    best = max(each.moves[0].value for each in noise)
    measure = Measure(name="auc", value=best)
    assert best > 0.63
    assert searched._chosen_again(noise, measure) == pytest.approx(0.5, abs=0.06)
    good = said_of(truth, np.clip(truth + draw.normal(0, 0.5, 60), 0, 1))
    assert searched._chosen_again([*noise, good], measure) == pytest.approx(good.moves[0].value, abs=0.02)


@pytest.mark.parametrize("scale", ["bench", "phantom"])
def test_a_page_of_a_try_out_says_that_it_is_one(place: Path, scale: str) -> None:
    asked(place, SEARCH + "trials: 2\n", "tried.yaml")
    search = read_search(place / "tried.yaml", overrides=[f"scale={scale}"])
    _, pages = write_search(search, judge_search(search, Ledger()), place / "runs" / scale)
    assert len(pages) == 2
    assert all(f"scale: {scale}" in page.read_text(encoding="utf-8") for page in pages)


@pytest.mark.parametrize(
    ("low", "high", "guesses"), [(0.13, 0.676, True), (0.5, 0.8, True), (0.13, 0.4, True), (0.501, 0.8, False), (None, None, False)]
)
def test_a_best_that_may_guess_is_said_to(place: Path, whole: Ledger, low: float | None, high: float | None, guesses: bool) -> None:
    search = asked(place, TRIALS)
    found = judge_search(search, whole)
    assert found.guessed == 0.5
    best = next(trial for trial in found.trials if trial.number == found.best)
    assert best.measure is not None
    unsure = best.model_copy(update={"measure": best.measure.model_copy(update={"low": low, "high": high})})
    trials = [unsure if trial is best else trial for trial in found.trials]
    _, pages = write_search(search, found.model_copy(update={"trials": trials}), place / "runs" / "guesses")
    english, persian = (page.read_text(encoding="utf-8") for page in pages)
    assert ("This interval does not lie above 0.5, which guessing gives" in english) == guesses
    assert ("این بازه بالاتر از ۰٫۵ نیست" in persian) == guesses


@pytest.mark.parametrize(("measure", "guessed"), [("auc", 0.5), ("balanced_accuracy", 0.5), ("accuracy", None)])
def test_what_guessing_reaches_is_known_of_some_measures(place: Path, whole: Ledger, measure: str, guessed: float | None) -> None:
    assert judge_search(asked(place, TRIALS + f"measure: {measure}\n", "measured.yaml"), whole).guessed == guessed
    assert searched._guessed("balanced_accuracy", 4) == 0.25


def test_nothing_finished_is_said(place: Path) -> None:
    search = asked(place, SEARCH + "trials: 2\n")
    found = judge_search(search, Ledger())
    assert [plain(sentence) for sentence in told(found, language("en"))] == ["No trial was finished yet."]
    assert write_search(search, found, place / "runs" / "nothing")[0].best_study is None
