"""With fewer training patients: the same test images, and words that say whether more would help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from planted_masks import write_pictures
from tabib.cli import app
from tabib.errors import StudyError
from tabib.experiments import draw_learning_curve, write_learning_curve
from tabib.phantoms import ChestFilms, make_chest_films
from tabib.records import LearningCurve, PairedMeasure
from tabib.reports.learned import figure, same, told
from tabib.reports.text import language, plain
from tabib.runs import read_run
from tabib.study_file import check_study, dump_study
from tiny import tiny_study


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curve") / "films"
    make_chest_films(folder, ChestFilms(patients=60, films_per_patient=(1, 2), side=32, lesion=8.0))
    return folder


@pytest.fixture(scope="module")
def curve(films: Path) -> LearningCurve:
    return draw_learning_curve(tiny_study(films), root=films.parent / "runs", shares=[0.2, 0.5])


def test_fewer_patients_train_and_the_same_images_judge(curve: LearningCurve) -> None:
    assert [point.share for point in curve.points] == [1.0, 0.5, 0.2]
    splits = [read_run(Path(row.runs[0].run or "")).read("split") for row in curve.ablation.rows]
    trained = [split.filter(pl.col("part") == "train") for split in splits]
    assert [(point.rows, point.groups) for point in curve.points] == [(len(each), each["group"].n_unique()) for each in trained]
    assert set(trained[2]["row"]) < set(trained[1]["row"]) < set(trained[0]["row"])
    for split in splits[1:]:
        for part in ("validation", "test"):
            assert split.filter(part=part)["row"].equals(splits[0].filter(part=part)["row"])


def test_shares_that_are_the_same_images_are_trained_once_and_said(films: Path, curve: LearningCurve, tmp_path: Path) -> None:
    found = draw_learning_curve(tiny_study(films), root=films.parent / "runs", shares=[0.5, 0.2, 0.1999, 0.9999])
    assert [(point.share, point.also) for point in found.points] == [(1.0, [0.9999]), (0.5, []), (0.2, [0.1999])]
    assert found.ablation.rows == curve.ablation.rows, "no comparison more, and no other figure"
    for page, said in zip(write_learning_curve(found, tmp_path), ("they were trained once", "یک بار آموزش داده شدند"), strict=True):
        assert page.read_text(encoding="utf-8").count(said) == 2
    assert not same(curve, language("en"))


def test_pages_hold_every_share(curve: LearningCurve, tmp_path: Path) -> None:
    english, persian = (page.read_text(encoding="utf-8") for page in write_learning_curve(curve, tmp_path))
    assert LearningCurve.model_validate(json.loads((tmp_path / "learning_curve.json").read_text())) == curve
    assert "Would more patients help?" in english
    assert "<svg" in english
    for share in ("20%", "50%", "100%"):
        assert share in english
    assert "منحنی یادگیری" in persian
    assert "at work at a time" in english
    assert "هر بار" in persian


def test_every_point_has_the_interval_of_its_run(curve: LearningCurve, tmp_path: Path) -> None:
    assert curve.ablation.seeds == [0]
    for point, row in zip(curve.points, curve.ablation.rows, strict=True):
        assert point.measures == read_run(Path(row.runs[0].run or "")).read("evaluation").parts[-1].measures
        found = {(each.name, each.of): each for each in point.measures}
        for each in row.figures:
            assert found[each.name, each.of].value == pytest.approx(each.values[0]), "the interval is of the value beside it"
        name, of = row.figures[0].name, row.figures[0].of
        said = found[name, of]
        assert said.low is not None
        assert said.high is not None
        cell = figure(point, row, name, of, language("en"))
        assert plain(cell.interval) == f"{said.low:.3f} to {said.high:.3f}"
    english, persian = (page.read_text(encoding="utf-8") for page in write_learning_curve(curve, tmp_path))
    assert english.count('<polyline class="line row0 reach"') == len(curve.points)
    for page, words in (
        (english, ("no other training", "one draw by", "A bar shows")),
        (persian, ("نه آموزشی دیگر را", "یک قرعه با", "میله‌ای")),
    ):
        for each in words:
            assert each in page


def test_intervals_of_several_seeds_are_not_those_of_one(curve: LearningCurve, tmp_path: Path) -> None:
    rows = [
        row.model_copy(update={"figures": [each.model_copy(update={"values": [*each.values, 0.5]}) for each in row.figures]})
        for row in curve.ablation.rows
    ]
    several = curve.model_copy(
        update={
            "points": [point.model_copy(update={"measures": []}) for point in curve.points],
            "ablation": curve.ablation.model_copy(update={"rows": rows, "seeds": [0, 1]}),
        }
    )
    page = write_learning_curve(several, tmp_path)[0].read_text(encoding="utf-8")
    assert page.count('<polyline class="line row0 reach"') == len(several.points)
    assert "The bars cover other patients and other trainings" in page
    assert "Each dot is a training with another seed" in page
    sure = rows[0].figures[0]
    cell = figure(several.points[0], rows[0], rows[0].figures[0].name, rows[0].figures[0].of, language("en"))
    assert plain(cell.interval) == f"{sure.low:.3f} to {sure.high:.3f}", "of the mean, over patients and trainings"


def test_points_of_masks_have_the_intervals_of_their_runs_too(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", patients=24)
    values = {
        "task": "segmentation",
        "name": "planted",
        "data": {"folder": str(tmp_path / "pictures"), "labels": {"disc": 1, "square": 2}, "group": r"(p\d+)"},
        "split": {"train": 0.3, "validation": 0.2, "test": 0.5},
        "model": {"filters": [8, 16]},
        "training": {"epochs": 1, "batch": 4, "patches": 8, "device": "cpu", "precision": "fp32", "threads": 1},
        "report": {"languages": ["en"]},
    }
    curve = draw_learning_curve(check_study(values, source="here"), root=tmp_path / "runs", shares=[0.5])
    for point, row in zip(curve.points, curve.ablation.rows, strict=True):
        found = {(each.name, each.of): each for each in point.measures}
        assert row.figures
        for each in row.figures:
            assert found[each.name, each.of].value == pytest.approx(each.values[0])
            assert found[each.name, each.of].low is not None


@pytest.mark.slow
def test_several_seeds_leave_the_interval_of_one_out(films: Path) -> None:
    curve = draw_learning_curve(tiny_study(films), root=films.parent / "runs", shares=[0.5], seeds=[0, 1])
    assert [point.measures for point in curve.points] == [[], []]
    assert [len(row.figures[0].values) for row in curve.ablation.rows] == [2, 2]
    assert all(row.figures[0].low is not None for row in curve.ablation.rows), "what the bars show"


@pytest.mark.parametrize(
    ("value", "p", "words"),
    [
        (-0.1, 0.001, "the curve still rises"),
        (-0.01, 0.6, "chance may explain"),
        (0.1, 0.001, "went down"),
        (-0.1, None, "too few test patients"),
    ],
    ids=["rises", "level", "falls", "few"],
)
def test_words_follow_what_the_last_patients_brought(curve: LearningCurve, value: float, p: float | None, words: str) -> None:
    first, half, fifth = curve.ablation.rows
    name, of = first.figures[0].name, first.figures[0].of
    ends = {} if p is None else {"low": value - 0.02, "high": value + 0.02}
    found = PairedMeasure(name=name, of=of, value=value, rows=24, p=p, **ends)
    rows = [first, half.model_copy(update={"differences": [found]}), fifth]
    changed = curve.model_copy(update={"ablation": curve.ablation.model_copy(update={"rows": rows})})
    assert words in told(changed, language("en"))
    assert told(changed, language("fa"))


def test_wrong_shares_are_refused(films: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="A share is 1"):
        draw_learning_curve(tiny_study(films), root=tmp_path, shares=[1.0])
    with pytest.raises(StudyError, match=r"split\.learn_from is 0\.5"):
        draw_learning_curve(tiny_study(films, {"split": {"learn_from": 0.5}}), root=tmp_path)


@pytest.mark.parametrize(("seeds", "words"), [([0, 0], "seeds are 0, 0"), ([-1], "seeds are -1"), ([2**31], "seeds are"), ([], "none")])
def test_wrong_seeds_are_refused_before_any_training(films: Path, tmp_path: Path, seeds: list[int], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        draw_learning_curve(tiny_study(films), root=tmp_path, seeds=seeds)
    assert not list(tmp_path.iterdir())


def test_seeds_are_not_taken_from_an_override(films: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(dump_study(tiny_study(films)), encoding="utf-8")
    with pytest.raises(StudyError, match="Say it by --seed"):
        CliRunner().invoke(
            app,
            ["learning-curve", str(tmp_path / "tiny.yaml"), "--set", "training.seeds=[5]", "--runs", str(tmp_path / "runs")],
            catch_exceptions=False,
        )


@pytest.mark.slow
def test_the_verb(films: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(dump_study(tiny_study(films).model_copy(update={"scale": "bench"})), encoding="utf-8")
    command = [sys.executable, "-m", "tabib", "learning-curve", "tiny.yaml", "--share", "0.5"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert "Would more patients help?" in said.stdout
    assert (tmp_path / "runs" / "learning-curve-tiny-bench" / "learning_curve.fa.html").exists()
