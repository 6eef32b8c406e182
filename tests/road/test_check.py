"""`tabib check`: what every run looks at, what is tried out beside it, and a rate that is chosen by trying."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from tabib.config import BaseTraining, Study
from tabib.records import Checks, Finding, Sweep
from tabib.reports import phrase
from tabib.runs import Reached, Run, open_run
from tabib.study import check_study, run_study
from tabib.study_file import dump_study
from tabib.training import draw_checks
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
        said = re.sub(r"<[^>]*>|[\u200f\u2066-\u2069]", "", chapter)
        assert ("10% of where it began" if code == "en" else "۱۰٪ مقدار آغازین") in said, "how far the loss of the few had to fall"
        never = "At 0.03 and above the optimiser does not train" if code == "en" else "بهینه‌ساز با نرخ ۰٫۰۳ و بالاتر از آن آموزش نمی‌دهد"
        assert never in said, "why a lower loss beside the mark was not chosen"


def drawn(run: Run) -> EventAccumulator:
    (file,) = run.folder.glob("tensorboard/checks/events*")
    return EventAccumulator(str(file), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def test_tensorboard_has_every_check_once_also_where_a_run_goes_on(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "quick", quick)
    study = tiny_study(films, {"model": {"network": "quick"}, "training": {"epochs": 1}})

    def go(road: Callable[[Study, Run], Run]) -> Run:
        with open_run(study, root=tmp_path / "runs") as run:
            return road(study, run)

    run = go(run_study)
    before = run.read("checks").checks
    assert {tag.removesuffix("/text_summary") for tag in drawn(run).Tags()["tensors"]} == {f"checks/{check.code}" for check in before}
    go(check_study)
    overfit, sweep = run.read("overfit"), run.read("sweep")
    found = [*run.read("checks").checks, *overfit.checks, *sweep.checks]
    events, file = drawn(run), next(run.folder.glob("tensorboard/checks/events*"))
    scalars = {tag: [(each.step, each.value) for each in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    for check in found:
        (text,) = events.Tensors(f"checks/{check.code}/text_summary")
        said = text.tensor_proto.string_val[0].decode()
        assert said.startswith(f"**{check.level}** {phrase(check).title}.")
        for name, value in check.figures.items():
            assert f"- {name}: {value}" in said
            if isinstance(value, (int, float)):
                assert scalars.pop(f"checks/{check.code}/{name}") == [(0, pytest.approx(value))]
    curves = {"overfit/loss": overfit.losses} | {f"sweep/{one.rate:g}/loss": one.losses for one in sweep.tried}
    assert scalars == {tag: [(step, pytest.approx(loss)) for step, loss in enumerate(losses, 1)] for tag, losses in curves.items()}
    written = file.stat().st_mtime_ns
    for road in (run_study, check_study):
        go(road)
        assert [each.stat().st_mtime_ns for each in run.folder.glob("tensorboard/checks/events*")] == [written]


def test_checks_are_drawn_only_where_it_is_asked(films: Path, tmp_path: Path) -> None:
    study = tiny_study(films, {"training": {"log_to": []}})
    with open_run(study, root=tmp_path / "runs", until="model") as run, pytest.raises(Reached):
        run_study(study, run)
    assert not (run.folder / "tensorboard").exists()


def test_a_code_that_comes_twice_is_counted_by_steps(tmp_path: Path) -> None:
    twice = [
        Finding(code="augmentation_against_kind", level="warn", figures={"field": name, "most": most})
        for name, most in (("a", 1), ("b", 2.5))
    ]
    checks = Checks(checks=twice, initial_loss=0, expected_initial_loss=0, seconds_per_step=0, predicted_seconds=0)
    for _ in range(2):
        draw_checks(BaseTraining(), tmp_path, checks, words=lambda finding: str(finding.figures["field"]))
    (file,) = tmp_path.glob("tensorboard/checks/events*")
    events = EventAccumulator(str(file)).Reload()
    assert [(each.step, each.value) for each in events.Scalars("checks/augmentation_against_kind/most")] == [(0, 1), (1, 2.5)]
    assert [each.step for each in events.Tensors("checks/augmentation_against_kind/text_summary")] == [0, 1]
    assert events.Tags()["scalars"] == ["checks/augmentation_against_kind/most"], "words are no numbers"
    draw_checks(BaseTraining(), tmp_path, checks.model_copy(update={"checks": twice[:1]}), words=lambda finding: "")
    (file,) = tmp_path.glob("tensorboard/checks/events*")
    assert len(EventAccumulator(str(file)).Reload().Scalars("checks/augmentation_against_kind/most")) == 1, (
        "what is new takes the place of the old"
    )


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
