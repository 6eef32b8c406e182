"""`tabib check`: what every run looks at, what is tried out beside it, and a rate that is chosen by trying."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from torch import nn

from tabib.records import Sweep
from tabib.runs import Run, open_run
from tabib.study import check_study
from tabib.study_file import dump_study
from tabib.training.networks import NETWORKS
from tiny import tiny_study
from verbs import Tabib


def quick(channels: int, height: int, width: int) -> nn.Module:
    """Learns anything by heart in a few steps of milliseconds."""
    convolution = nn.Conv2d(channels, 16, 5, stride=2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())


def test_a_rate_is_chosen_once_and_stands_in_the_study_and_the_report(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "quick", quick)
    changes = {"model": {"network": "quick"}, "training": {"learning_rate": "sweep"}, "report": {"languages": ["en", "fa"]}}
    study = tiny_study(films, changes)  # pyright: ignore[reportArgumentType]
    heard: list[tuple[str, bool]] = []

    def look() -> Run:
        with open_run(study, root=tmp_path / "runs", on_step=lambda name, loaded: heard.append((name, loaded))) as run:
            return check_study(study, run)

    look()
    run = look()
    steps = ["index", "findings", "split", "sweep", "study", "checks", "overfit"]
    assert heard == [(name, loaded) for loaded in (False, True) for name in steps]
    sweep: Sweep = run.read("sweep")
    assert run.read("study").training.learning_rate == sweep.best
    found = [*run.read("checks").checks, *run.read("overfit").checks, *sweep.checks]
    assert {check.code for check in found} >= {"input_right", "layers_right", "initial_loss_right", "few_learnt", "rate_chosen"}
    assert {check.level for check in found} == {"pass"}, "a sound study"
    for code in ("en", "fa"):
        page = (run.folder / f"report.{code}.html").read_text(encoding="utf-8")
        chapter = page[page.index('id="training"') :]
        assert len(re.findall(r"<figure", chapter)) == 1, "the curve of the rates"


@pytest.mark.slow
def test_without_a_study_that_asks_the_sweep_only_advises(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "quick", quick)
    study = tiny_study(films, {"model": {"network": "quick"}, "training": {"learning_rate": 1e-5}})
    with open_run(study, root=tmp_path / "runs") as run:
        check_study(study, run)
    assert run.read("study").training.learning_rate == 1e-5
    assert [check.code for check in run.read("sweep").checks] == ["rate_far_from_sweep"]


def test_a_fast_first_evaluation_looks_at_no_test_image(films: Path, tmp_path: Path, tabib: Tabib, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "quick", quick)
    file = tmp_path / "study.yaml"
    file.write_text(dump_study(tiny_study(films, {"model": {"network": "quick"}, "training": {"epochs": 50}})), encoding="utf-8")
    code, said = tabib("check", file, "--fast")
    assert code == 0, said
    assert said["validation"]["seed0"]["epoch"] <= 2
    assert 0 <= said["validation"]["seed0"]["validation_accuracy"] <= 1
    assert said["seconds"] > 0
    assert said["predicted_seconds"] > 0
    (run,) = (tmp_path / "runs" / "tiny").iterdir()
    assert not (run / "predictions.parquet").exists()
    assert not (run.parent / "test_looks.jsonl").exists()
