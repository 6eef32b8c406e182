"""Several studies, one after the other or two at once: the same figures, and each lost or kept by itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from listens import Listens
from paces import SetPace
from tabib.config import AnyStudy
from tabib.engines import Crashed
from tabib.experiments import Row, run_rows, trainings
from tabib.experiments.trainings import Missed, Ran, missed_by
from tabib.phantoms import ChestFilms, make_chest_films
from tabib.records import Pace
from tabib.reports.compared import paced
from tabib.reports.text import language, plain
from tabib.runs import Run, read_run, study_id
from tabib.study import run_study
from tiny import tiny_study

ROWS: dict[str, dict[str, Any]] = {
    "plain": {},
    "without its weights": {"model": {"weights": "nowhere.safetensors"}},
    "a rate that is refused": {"training": {"learning_rate": 0.5}},
    "dropout": {"model": {"dropout": [0.5]}},
    "other seed": {"training": {"seeds": [1]}},
}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trainings") / "films"
    make_chest_films(folder, ChestFilms(patients=30, films_per_patient=(1, 2), side=32, lesion=6.0))
    return folder


def rows_of(films: Path, **training: object) -> list[Row]:
    return [
        Row(name, tiny_study(films, {**changes, "training": {"epochs": 1, **changes.get("training", {}), **training}}), explained=False)
        for name, changes in ROWS.items()
    ]


def figures(ran: Ran) -> list[Any]:
    """Everything that a training comes to, to the bit; or why there is none."""
    told: list[Any] = []
    for found in ran.found:
        if isinstance(found, Missed):
            told.append(found)
            continue
        run = read_run(found)
        times = {"seconds", "images_per_second"}
        history = [[{name: each[name] for name in each.keys() - times} for each in lines] for lines in run.histories().values()]
        evaluation = {name: each for name, each in json.loads(run.path("evaluation").read_text()).items() if name != "test_looks"}
        told.append([[member.weights_sha256 for member in run.read("model").members], history, run.read("predictions").rows(), evaluation])
    return told


def steps_of(rows: Sequence[Row], root: Path) -> tuple[Ran, list[str], list[str]]:
    """What was run, the steps that were not loaded, and what was said."""
    steps: list[str] = []
    hears = Listens()
    ran = run_rows(rows, root=root, progress=hears, on_step=lambda name, loaded: None if loaded else steps.append(name))
    return ran, steps, hears.said


@pytest.mark.slow
def test_two_at_once_come_to_the_same_as_one_after_the_other(films: Path, tmp_path: Path, set_pace: SetPace) -> None:
    found: list[Ran] = []
    for processes in (1, 2):
        set_pace(processes)
        ran, steps, said = steps_of(rows_of(films), tmp_path / str(processes))
        found.append(ran)
        assert [steps.count(name) for name in ("index", "findings", "split")] == [1, 1, 1], "made once, for all"
        assert steps.count("model") == (3 if processes == 1 else 0), "another process tells of no step"
        assert sum("not run" in each for each in said) == 2
        assert sum(": done, " in each for each in said) == (0 if processes == 1 else 3)
    assert [getattr(each, "why", None) for each in found[0].found] == [None, "weights", "error", None, None]
    assert figures(found[0]) == figures(found[1])


@pytest.mark.slow
def test_what_is_finished_stays_at_its_pace(films: Path, tmp_path: Path, set_pace: SetPace) -> None:
    set_pace(2, precision="fp32")
    rows = [rows_of(films, threads="auto", precision="auto")[place] for place in (0, 3)]
    first = run_rows(rows, root=tmp_path)
    trained = [read_run(Path(str(found))).read("study").training for found in first.found]
    assert [(each.threads, each.precision) for each in trained] == [(1, "fp32")] * 2
    weights = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("weights.safetensors")}
    assert len(weights) == 2
    set_pace(1, precision="bf16")  # what another timing would say
    again, steps, _ = steps_of(rows, tmp_path)
    assert (again, steps) == (first, [])
    assert {path: path.stat().st_mtime_ns for path in weights} == weights


def test_one_at_a_time_the_first_is_the_run_that_it_has_by_itself(films: Path, tmp_path: Path, set_pace: SetPace) -> None:
    set_pace(1, threads=7)
    rows = [Row(row.name, row.study) for row in rows_of(films, precision="auto", threads="auto")[:1] * 2]
    folder = tmp_path / rows[0].study.name / study_id(rows[0].study)
    ran = run_rows([rows[0], Row("again", rows[1].study, explained=False)], root=tmp_path)
    assert ran.found[0] == folder
    assert ran.found[1] != folder, "what is open in the others is what the first took"


def test_where_the_first_cannot_be_begun_the_next_says_the_pace(films: Path, tmp_path: Path, set_pace: SetPace) -> None:
    set_pace(1)
    rows = rows_of(films)
    ran, steps, said = steps_of([rows[1], rows[2], rows[0]], tmp_path)
    assert [getattr(each, "why", None) for each in ran.found] == ["weights", "error", None]
    assert steps.count("pace") == 1
    assert [each.partition(":")[0] for each in said if "not run" in each] == ["without its weights", "a rate that is refused"]
    alone = run_rows(rows[1:2], root=tmp_path)
    assert (alone.found, alone.pace) == (ran.found[:1], None)


def test_ctrl_c_keeps_what_is_finished(films: Path, tmp_path: Path, set_pace: SetPace, monkeypatch: pytest.MonkeyPatch) -> None:
    set_pace(1)
    begun: list[str] = []

    def stopped(study: AnyStudy, run: Run, **told: Any) -> Run:
        begun.append(run.folder.name)
        if len(begun) == 3:  # the first looks at what all share
            raise KeyboardInterrupt
        return run_study(study, run, **told)

    monkeypatch.setattr(trainings, "run_study", stopped)
    rows = [rows_of(films)[place] for place in (0, 3, 4)]
    ran, _, said = steps_of(rows, tmp_path)
    assert [getattr(each, "why", None) for each in ran.found] == [None, "stopped", "stopped"]
    assert said[-1] == "Stopped. What is done is kept: the same command goes on from here."
    monkeypatch.setattr(trainings, "prepare", lambda *told, **where: stopped_at_once())
    assert {found.why for found in run_rows(rows, root=tmp_path).found if isinstance(found, Missed)} == {"stopped"}


def stopped_at_once() -> None:
    raise KeyboardInterrupt


def test_a_process_that_died_says_why() -> None:
    assert missed_by(Crashed("killed by signal 9 (Killed, as when memory runs out)")).why == "memory"
    found = missed_by(Crashed("ended with exit code 4"))
    assert (found.why, found.reason) == ("error", "The process of the training: ended with exit code 4.")


@pytest.mark.parametrize(
    ("pace", "words"),
    [
        (
            Pace(processes=1, threads=2, precision="bf16", alone=10.03, beside=9.12),
            (
                "One training was at work at a time, with 2 threads, in bf16",
                "10 steps a second, and two together 9.12 (0.909 times",
                "هر بار یک",
            ),
        ),
        (
            Pace(processes=2, threads=1, precision="fp32", alone=10.0, beside=16.2),
            ("Two trainings were at work at once, with 1 thread each, in fp32", "16.2 (1.62 times as many)", "هم‌زمان دو"),
        ),
    ],
)
def test_the_page_says_what_was_timed(pace: Pace, words: tuple[str, str, str]) -> None:
    english, persian = (plain(paced(pace, language(code))) for code in ("en", "fa"))
    assert english.startswith(words[0])
    assert words[1] in english
    assert persian.startswith(words[2])
