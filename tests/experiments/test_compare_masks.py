"""Segmenters side by side: each structure, paired differences with their intervals, and the same cases with every run's outlines."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from planted_masks import write_pictures
from tabib.errors import StudyError
from tabib.evaluation import case_differences, case_intervals
from tabib.experiments import Changes, Trained, compare_runs, judge_changes, read_series, run_series, write_ablation, write_comparison
from tabib.experiments.ablate import Changed
from tabib.metrics.intervals import Sureness
from tabib.metrics.paired import trainings_interval
from tabib.records import Comparison, MeasuredCase, MeasuredStructure
from tabib.runs import read_run

STUDY = """
task: segmentation
name: planted
data: {folder: pictures, labels: {disc: 1, square: 2}, group: '(p\\d+)'}
model: {filters: [8, 16]}
split: {train: 0.3, validation: 0.1, test: 0.6}
training: {epochs: 2, batch: 4, patches: 16, learning_rate: 0.02, device: cpu, precision: fp32, threads: 1}
notes:
  past_work: [{name: Somebody, protocol: {en: theirs}, figures: {dice: 0.9}}]
"""

SERIES = """
study: planted.yaml
title: {en: Two networks, fa: دو شبکه}
rows: [{name: plain}, {name: gated, set: {model.network: attention_unet, training.epochs: 1}}]
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("series")
    write_pictures(place / "pictures", patients=20)
    (place / "planted.yaml").write_text(STUDY)
    (place / "two.series.yaml").write_text(SERIES, encoding="utf-8")
    found, _ = run_series(read_series(place / "two.series.yaml"), root=place / "runs")
    return [each for each in found if isinstance(each, Path)]


@pytest.fixture(scope="module")
def comparison(done: list[Path]) -> Comparison:
    return compare_runs(done, title={"en": "Two networks", "fa": "دو شبکه"}, names=["plain", "gated"])


@pytest.mark.slow
def test_differences_are_those_of_the_same_cases(done: list[Path], comparison: Comparison) -> None:
    tables = []
    for run in done:
        cases = read_run(run).read("evaluation").parts[-1].cases
        tables.append(pl.DataFrame([{"path": case.path, "disc": case.structures[0].dice, "mean": case.dice} for case in cases]))
    both = tables[0].join(tables[1], on="path", suffix="_gated")
    (pair,) = comparison.differences
    found = {each.of: each for each in pair.measures}
    assert (pair.first, pair.second) == ("plain", "gated")
    assert found["disc"].value == pytest.approx((both["disc"] - both["disc_gated"]).mean())
    assert found["structures"].value == pytest.approx((both["mean"] - both["mean_gated"]).mean())
    assert found["disc"].groups == 12
    assert found["disc"].low is not None
    assert comparison.masked
    assert set(comparison.lines[0].labels) == {"disc", "square"}
    assert comparison.lines[0].settings == {"model.network": "unet", "training.epochs": "2"}
    assert not comparison.pictures


@pytest.mark.slow
def test_rows_of_an_ablation_have_the_same_differences(done: list[Path], comparison: Comparison, tmp_path: Path) -> None:
    plain, gated = (read_run(run).given for run in done)
    rows = [Changed("", plain), Changed("gated", gated, ["model.network", "training.epochs"])]
    changes = Changes({"en": "Masks", "fa": "ماسک‌ها"}, rows, [0], [None])
    found = judge_changes(changes, [Trained(row, 0, None, run) for row, run in enumerate(done)])
    assert found.masked
    assert (found.rows[0].differences, found.test_groups) == ([], 12)
    (pair,) = comparison.differences
    for mine, theirs in zip(found.rows[1].differences, pair.measures, strict=True):
        assert (mine.name, mine.of, mine.value) == (theirs.name, theirs.of, pytest.approx(-(theirs.value or 0)))
        assert mine.p == pytest.approx(theirs.p)
    assert (found.watched, len(found.rows[0].runs[0].curve)) == ("dice", 2)
    pages = [page.read_text(encoding="utf-8") for page in write_ablation(found, tmp_path)]
    for words in ("Dice", "model.network", "attention_unet"):
        assert words in re.sub("<wbr>|<[^>]*>", "", pages[0]), words


@pytest.mark.slow
def test_the_page_shows_every_answer_to_the_same_cases(done: list[Path], comparison: Comparison, tmp_path: Path) -> None:
    pages = [page.read_text(encoding="utf-8") for page in write_comparison(comparison, tmp_path)]
    english, persian = (re.sub(r"<style.*?</style>|<[^>]*>", "", page, flags=re.DOTALL) for page in pages)
    assert pages[0].count('<figure class="tile"><img') == 3 * len(comparison.cases)
    assert 4 <= len(comparison.cases) <= 8
    for words in ("Paired differences", "plain − gated", "Dice", "Somebody", "outlined by every run"):
        assert words in english, words
    assert "تفاوت‌های زوجی" in persian
    assert not re.search(r"\bcompare\.[a-z]", english + persian)


@pytest.mark.slow
def test_other_test_images_are_said_and_not_paired(done: list[Path], tmp_path: Path) -> None:
    place = done[0].parents[2]
    (place / "other.series.yaml").write_text(
        "study: planted.yaml\ntitle: x\nrows: [{name: other, set: {split.seed: 3, training.epochs: 1}}]"
    )
    ((other,), _) = run_series(read_series(place / "other.series.yaml"), root=place / "runs")
    found = compare_runs([done[0], other], title={"en": "x", "fa": "x"})
    assert not found.same_test
    assert (found.differences, found.cases) == ([], [])


def case(group: str, *dice: float | None) -> MeasuredCase:
    measured = {name: None for name in MeasuredStructure.model_fields if name.endswith(("_mm", "_ml")) or name in ("iou", "precision")}
    counts = {"true_positive": 1, "false_positive": 1, "false_negative": 1, "thirds": [], "largest_slice": 1, "worst_slice": 1}
    counts |= {"worst_share": 1.0, "missed_slices": 0, "added_slices": 0, "recall": None, "surface_dice": None}
    structures = [
        MeasuredStructure.model_validate({**measured, **counts, "structure": name, "dice": each})
        for name, each in zip("ab", dice, strict=True)
    ]
    return MeasuredCase(row=0, path=group, group=group, slices=1, millimetres=False, confusion=[[1]], structures=structures)


def test_the_interval_is_of_the_pairs() -> None:
    """What makes images hard for both widens no interval; a structure that one of them has no Dice of is left out."""
    random = np.random.default_rng(3)
    hard = random.uniform(0.2, 0.9, 20)
    first = {str(place): case(f"p{place}", value, value if place else None) for place, value in enumerate(hard)}
    second = {str(place): case(f"p{place}", value - 0.05 + random.normal(0, 0.01), value) for place, value in enumerate(hard)}
    found = {each.of: each for each in case_differences([first], [second], ["a", "b"], Sureness(0.95, 200, 0))}
    a = found["a"]
    assert a.low is not None
    assert a.high is not None
    assert 0.04 < a.low < 0.05 < a.high < 0.06
    assert (found["b"].value, found["b"].rows) == (0.0, 19)


def test_the_mean_over_trainings_has_an_interval_where_all_have_the_same_images() -> None:
    random = np.random.default_rng(4)
    scores = 0.7 + random.normal(0, 0.1, 20) + random.normal(0, 0.02, (3, 20))
    trainings = [
        {str(place): case(f"p{place}", value, value if place or number else None) for place, value in enumerate(row)}
        for number, row in enumerate(scores)
    ]
    found = {of: interval for _, of, interval in case_intervals(trainings, ["a", "b"], Sureness(0.95, 200, 0))}
    left_out = (scores.sum(1, keepdims=True) - scores) / 19
    known = trainings_interval(scores.mean(1), left_out, groups=20, sure=Sureness())
    assert (found["a"].low, found["a"].high) == (pytest.approx(known.low), pytest.approx(known.high))
    assert found["b"].low is None, "one of the means is of other images"
    fewer = [{key: each[key] for key in list(each)[number:]} for number, each in enumerate(trainings)]
    assert {interval.low for _, _, interval in case_intervals(fewer, ["a", "b"], Sureness())} == {None}
    assert {
        interval.low
        for _, _, interval in case_intervals([{key: each[key] for key in list(each)[:7]} for each in trainings], ["a"], Sureness())
    } == {None}


@pytest.mark.slow
def test_runs_of_two_tasks_are_refused(done: list[Path], tmp_path: Path) -> None:
    other = Path(shutil.copytree(done[1], tmp_path / "other"))
    read_run(other).path("study").write_text("name: films\ndata: {folder: films}\n")
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"given": {"name": "films", "data": {"folder": "films"}}}))
    with pytest.raises(StudyError, match=r"of task segmentation and .* of task classification"):
        compare_runs([done[0], other], title={"en": "x"})
