"""A finished model on images of another source: what was planted is named, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageOps
from typer.testing import CliRunner

from places import REAL, needs_real
from tabib.cli import app
from tabib.config import Data
from tabib.errors import DataError, StudyError
from tabib.external import judge_external
from tabib.phantoms import ChestFilms, make_chest_films
from tabib.records import Evaluation, External, Measure
from tabib.reports.text import language
from tabib.runs import open_run, read_run
from tabib.study import run_study
from tiny import tiny_study

PATTERN = r"(patient\d+)"

DIFFERS = {"external_prevalence", "external_polarity", "external_intensity", "external_facts", "external_copies", "external_alike"}


@pytest.fixture(scope="module")
def finished(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a test set of half the patients."""
    changes: dict[str, dict[str, object]] = {
        "training": {"epochs": 3},
        "split": {"train": 0.3, "validation": 0.2, "test": 0.5},
        "report": {"languages": ["en", "fa"]},
        "evaluate": {"subgroups": ["mean", "site"]},
    }
    with open_run(tiny_study(films, changes), root=tmp_path_factory.mktemp("runs")) as run:
        return run_study(run.given, run).folder


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other patients of the same kind."""
    folder = tmp_path_factory.mktemp("others") / "films"
    make_chest_films(folder, ChestFilms(patients=60, films_per_patient=(1, 2), side=48, lesion=6.0, seed=9))
    return folder


def changed(source: Path, folder: Path, change: Callable[[Image.Image], Image.Image] | None = None, *, ill: int | None = None) -> Path:
    """A copy of the films, each changed, with so many of the ill patients left."""
    for path in sorted(source.rglob("*.png")):
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as film:
            (change(film) if change else film).save(target)
    patients = sorted({path.name.split("_")[0] for path in (folder / "PNEUMONIA").iterdir()})
    for path in (folder / "PNEUMONIA").iterdir():
        if ill is not None and path.name.split("_")[0] in patients[ill:]:
            path.unlink()
    return folder


def judge(run: Path, folder: Path, *, name: str = "other", labels: dict[str, str] | None = None) -> External:
    with read_run(run) as opened:
        return judge_external(opened, Data(folder=folder, group=PATTERN), name=name, labels=labels)[0]


def told(external: External) -> set[str]:
    """What is said to differ, facts by their name."""
    return {str(each.figures.get("fact", each.code)) for each in external.evaluation.remarks if each.code in DIFFERS}


def brighter(film: Image.Image) -> Image.Image:
    """Every value a little higher; none is as high as 255."""
    return Image.fromarray(np.asarray(film) + np.uint8(16))


PLANTED: dict[str, tuple[Callable[[Image.Image], Image.Image] | None, int | None, set[str]]] = {
    "the same kind": (None, None, {"external_alike"}),
    "another size": (lambda film: film.resize((72, 72), Image.Resampling.BICUBIC), None, {"size"}),
    "inverted": (ImageOps.invert, None, {"external_polarity"}),
    "another prevalence": (None, 6, {"external_prevalence"}),
    "brighter": (brighter, None, {"mean"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", PLANTED)
def test_what_differs_is_named_and_nothing_else(kind: str, finished: Path, others: Path, tmp_path: Path) -> None:
    change, ill, expected = PLANTED[kind]
    assert told(judge(finished, changed(others, tmp_path / "films", change, ill=ill))) == expected


@pytest.mark.slow
def test_everything_is_written_and_nothing_is_chosen_anew(finished: Path, others: Path) -> None:
    before = {path: path.read_bytes() for path in (finished / "model").rglob("*.json")}
    evaluation = (finished / "evaluation.json").read_bytes()
    with read_run(finished) as run:
        external, pages = judge_external(run, Data(folder=others, group=PATTERN), name="hospital_b")
        assert [page.name for page in pages] == ["external.hospital_b.en.html", "external.hospital_b.fa.html"]
        assert External.model_validate_json((finished / "external/hospital_b/evaluation.json").read_bytes()) == external
        assert external.evaluation.threshold == run.read("decision").threshold
        predictions = pl.read_parquet(finished / "external/hospital_b/predictions.parquet")
        assert predictions["p_PNEUMONIA"].ge(external.evaluation.threshold).to_list() == predictions["predicted"].eq("PNEUMONIA").to_list()
        assert external.evaluation.test_looks == judge_external(run, Data(folder=others), name="again")[0].evaluation.test_looks == 1
    assert before == {path: path.read_bytes() for path in (finished / "model").rglob("*.json")}
    assert evaluation == (finished / "evaluation.json").read_bytes()
    own = next(each.value for each in own_measures(finished) if each.name == "auc")
    there = next(each.value for each in external.evaluation.parts[0].measures if each.name == "auc" and each.of is None)
    drop = next(each for each in external.drop if each.name == "auc")
    assert drop.value == pytest.approx((there or 0) - (own or 0))
    assert drop.low is not None
    subgroups = external.evaluation.subgroups
    assert {each.column for each in subgroups} == {"mean"}
    assert sum(each.rows for each in subgroups) == external.evaluation.parts[0].rows
    assert external.unsaid == ["site"], "no image says where it was taken"
    assert "say nothing of site" in re.sub("<[^>]*>", "", pages[0].read_text(encoding="utf-8"))
    for page, code in zip(pages, ("en", "fa"), strict=True):
        assert language(code).words["subgroups"]["title"] in page.read_text(encoding="utf-8")


def own_measures(run: Path) -> list[Measure]:
    test = Evaluation.model_validate_json((run / "evaluation.json").read_bytes()).parts[-1]
    return [each for each in test.measures if each.of is None]


@pytest.mark.slow
def test_images_that_the_run_knows_are_left_out_aloud(finished: Path, films: Path, others: Path, tmp_path: Path) -> None:
    shutil.copytree(others, tmp_path / "films")
    known = sorted((films / "NORMAL").iterdir())[:5]
    for path in known[:3]:
        shutil.copy(path, tmp_path / "films" / "NORMAL" / f"patient900_{path.name}")
    for path in known[3:]:
        with Image.open(path) as film:
            brighter(film).save(tmp_path / "films" / "NORMAL" / f"patient901_{path.name}")
    external = judge(finished, tmp_path / "films")
    assert len(external.copies) == 5
    assert "external_copies" in {remark.code for remark in external.evaluation.remarks}
    assert not set(external.copies) & set(pl.read_parquet(finished / "external/other/predictions.parquet")["row"])


@pytest.mark.slow
def test_their_names_are_mapped_and_unknown_ones_refused(finished: Path, others: Path, tmp_path: Path) -> None:
    for theirs, name in (("NORMAL", "sain"), ("PNEUMONIA", "malade")):
        shutil.copytree(others / theirs, tmp_path / "films" / name)
    shutil.copytree(others / "NORMAL", tmp_path / "films" / "tuberculose")
    with pytest.raises(DataError, match="malade, sain, tuberculose"):
        judge(finished, tmp_path / "films")
    with pytest.raises(StudyError, match="Did you mean malade"):
        judge(finished, tmp_path / "films", labels={"malad": "PNEUMONIA"})
    labels = {"sain": "NORMAL", "malade": "PNEUMONIA", "tuberculose": ""}
    with pytest.raises(StudyError, match="Did you mean PNEUMONIA"):
        judge(finished, tmp_path / "films", labels={"malade": "PNEUMONI"})
    external = judge(finished, tmp_path / "films", labels=labels)
    assert external.labels == labels
    assert external.left_out == len(list((others / "NORMAL").iterdir()))
    assert set(external.evaluation.parts[0].class_counts) == {"NORMAL", "PNEUMONIA"}
    with pytest.raises(StudyError, match="--name"):
        judge(finished, tmp_path / "films", name="../x", labels=labels)


@pytest.mark.slow
def test_the_command_takes_the_folder_or_its_description(finished: Path, others: Path, tmp_path: Path) -> None:
    description = tmp_path / "data.yaml"
    description.write_text(f"data: {{folder: {others}, group: '{PATTERN}'}}", encoding="utf-8")
    for where in (["--on", str(others), "--group", PATTERN], ["--data", str(description)]):
        done = CliRunner().invoke(app, ["evaluate", str(finished), *where, "--name", "told", "--json"])
        assert done.exit_code == 0, done.output
    external = json.loads(done.stdout)["external"]
    assert external["evaluation"]["patients"] == "known"
    forgotten = CliRunner().invoke(app, ["evaluate", str(finished), "--label", "sain=NORMAL"])
    assert "--on FOLDER" in str(forgotten.exception)
    misspelt = CliRunner().invoke(app, ["evaluate", str(finished), "--on", str(others), "--label", "NORMAL=NORML"])
    assert "Did you mean NORMAL" in str(misspelt.exception)
    refused = CliRunner().invoke(app, ["evaluate", str(finished), "--on", str(others), "--label", "sain"])
    assert isinstance(refused.exception, StudyError)


@pytest.mark.slow
@needs_real("chest_xray")
@pytest.mark.real
def test_real_films_saved_as_negatives_are_named(tmp_path: Path) -> None:
    rooms = {part: REAL / "chest_xray" / part for part in ("train", "test")}
    rooms = {part: folder for part, folder in rooms.items() if folder.exists()} or {"train": REAL / "chest_xray"}
    source = next(iter(rooms.values()))
    for part, start in (("own", 0), ("other", 60)):
        for kind in ("NORMAL", "PNEUMONIA"):
            (tmp_path / part / kind).mkdir(parents=True)
            for path in sorted((source / kind).iterdir())[start : start + 60]:
                with Image.open(path) as film:
                    small = ImageOps.grayscale(film).resize((96, 96))
                (ImageOps.invert(small) if part == "other" else small).save(tmp_path / part / kind / f"{path.stem}.png")
    study = tiny_study(tmp_path / "own", {"data": {"group": r"(.+)"}, "split": {"train": 0.3, "validation": 0.2, "test": 0.5}})
    with open_run(study, root=tmp_path / "runs") as run:
        run_study(run.given, run)
        external, _ = judge_external(run, Data(folder=tmp_path / "other", group="(.+)"), name="negatives")
    polarity = next(each for each in external.evaluation.remarks if each.code == "external_polarity")
    assert float(str(polarity.figures["share"])) > 0.9
    assert "external_features" in {each.code for each in external.evaluation.remarks}
    assert np.isfinite(external.drop[0].value or 0)
