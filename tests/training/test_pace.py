"""One training at a time or two, by timed steps; and what a study leaves open is the same for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import polars as pl
import pytest

from tabib.config import Segmentation, Study
from tabib.engines import Crashed
from tabib.records import Checks, Pace
from tabib.study_file import check_study
from tabib.training import pace
from tabib.training.pace import choose_pace, paced

SPLIT = pl.DataFrame({"label": ["ill", "well"], "part": ["train", "train"]})


def study_of(**training: object) -> Study:
    values = {"name": "x", "data": {"folder": "films"}, "input": {"height": 32, "width": 32, "channels": 1}}
    study = check_study({**values, "training": {"epochs": 1, "batch": 4, **training}}, source="a test")
    assert isinstance(study, Study)
    return study


RESOLVED = study_of(threads=2, device="cpu", precision="bf16")


def checks_of(seconds: float, memory: int | None = None) -> Checks:
    told = {"predicted_seconds": seconds, "predicted_memory": memory}
    return Checks.model_validate({"checks": [], "initial_loss": 1, "expected_initial_loss": 1, "seconds_per_step": 1, **told})


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Two cores, on which one makes 10 steps a second and each of two what is given; notes with how many threads was timed."""

    def given(each: float | Crashed) -> list[int]:
        seen: list[int] = []

        @contextmanager
        def processes(function: object, *, workers: int) -> Iterator[Callable[[Any], Future[Any]]]:
            def hand_on(item: Any) -> Future[Any]:
                seen.append(item[0].training.threads)
                future: Future[Any] = Future()
                future.set_result(each)
                return future

            yield hand_on

        monkeypatch.setattr(pace, "available_threads", lambda: 2)
        monkeypatch.setattr(pace, "waiting_processes", processes)
        monkeypatch.setattr(pace, "step_rate", lambda item: seen.append(item[0].training.threads) or 10.0)
        return seen

    return given


@pytest.mark.parametrize(("each", "processes", "threads"), [(5.4, 1, 2), (5.6, 2, 1)])
def test_two_are_taken_where_they_pay(timed: Any, each: float, processes: int, threads: int) -> None:
    seen = timed(each)
    found = choose_pace(study_of(), RESOLVED, SPLIT, checks_of(60))
    assert found == Pace(processes=processes, threads=threads, precision="bf16", alone=10.0, beside=2 * each)
    assert seen == [2, 1, 1, 1, 1], "one with all threads; two with half of them, after a first that starts them"


def test_threads_that_a_study_says_are_those_of_each(timed: Any) -> None:
    one = RESOLVED.model_copy(update={"training": RESOLVED.training.model_copy(update={"threads": 1})})
    seen = timed(9.0)
    assert choose_pace(study_of(threads=1), one, SPLIT, checks_of(60)).threads == 1
    assert set(seen) == {1}


@pytest.mark.parametrize(
    ("given", "resolved", "seconds"),
    [
        ({"threads": 2}, {}, 60),  # all cores for each
        ({}, {"device": "cuda"}, 60),
        ({}, {}, 1),  # done before the timing is
    ],
    ids=["threads", "device", "short"],
)
def test_nothing_is_timed_where_one_it_must_be(timed: Any, given: dict[str, object], resolved: dict[str, object], seconds: float) -> None:
    seen = timed(9.0)
    study = RESOLVED.model_copy(update={"training": RESOLVED.training.model_copy(update=resolved)})
    assert choose_pace(study_of(**given), study, SPLIT, checks_of(seconds)) == Pace(processes=1, threads=2, precision="bf16")
    assert seen == []


def test_one_is_taken_where_two_do_not_fit(timed: Any) -> None:
    timed(Crashed("killed by signal 9 (Killed, as when memory runs out)"))
    assert choose_pace(study_of(), RESOLVED, SPLIT, checks_of(60)) == Pace(processes=1, threads=2, precision="bf16", alone=10.0)


@pytest.mark.parametrize(("free", "processes"), [(1999, 1), (2000, 2), (None, 2)])
def test_two_are_not_tried_where_the_memory_is_not_enough(
    timed: Any, monkeypatch: pytest.MonkeyPatch, free: int | None, processes: int
) -> None:
    seen = timed(9.0)
    monkeypatch.setattr(pace, "memory_free", lambda: free)
    assert choose_pace(study_of(), RESOLVED, SPLIT, checks_of(60, memory=1000)).processes == processes
    assert bool(seen) == (processes == 2)
    assert choose_pace(study_of(), RESOLVED, SPLIT, checks_of(60)).processes == 2, "what is not known stops nothing"


@pytest.mark.slow
def test_steps_are_timed_for_real(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "available_threads", lambda: 2)
    found = choose_pace(study_of(), RESOLVED, SPLIT, checks_of(60))
    assert found.alone
    assert found.beside
    assert (found.processes, found.threads) == ((2, 1) if found.beside >= 1.1 * found.alone else (1, 2))


def test_what_is_open_is_the_same_for_all_and_what_is_said_stays() -> None:
    two, one = (Pace(processes=n, threads=3 - n, precision="bf16") for n in (2, 1))
    assert _asked(paced(study_of(), two)) == (1, "bf16")
    assert _asked(paced(study_of(), one)) == ("auto", "bf16"), "alone it takes all, as by itself"
    assert _asked(paced(study_of(threads=4, precision="fp32"), two)) == (4, "fp32")


def test_volumes_are_not_trained_in_a_format_that_they_cannot_have() -> None:
    values = {"task": "segmentation", "name": "x", "data": {"folder": "scans", "labels": {"lv": 1}}, "training": {"device": "cpu"}}
    flat, deep = (check_study({**values, "input": {"dimensions": number}}, source="a test") for number in (2, 3))
    assert isinstance(deep, Segmentation)
    found = Pace(processes=2, threads=1, precision="bf16")
    assert [_asked(paced(study, found)) for study in (flat, deep)] == [(1, "bf16"), (1, "fp32")]


def _asked(study: Any) -> tuple[object, object]:
    return study.training.threads, study.training.precision
