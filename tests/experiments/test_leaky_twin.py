"""Wrong ways find what they must find: patients without any sign of disease who are remembered, and nothing in labels drawn by chance."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from torch import nn

from planted_masks import write_pictures
from tabib.config import Study
from tabib.errors import StudyError
from tabib.experiments import make_twins, write_twins
from tabib.images import encode_png
from tabib.records import LeakyTwin, Twin
from tabib.runs import read_run
from tabib.study_file import check_study, dump_study
from tabib.training.networks import NETWORKS

PATIENTS, FILMS, SIDE = 44, 5, 16


def remembers(channels: int, height: int, width: int) -> nn.Module:
    """Learns faces by heart in milliseconds."""
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, 64), nn.ReLU())


def study_of(films: Path, **more: object) -> Study:
    values = {
        "name": "faces",
        "positive": "ill",
        "data": {"folder": str(films), "group": r"(p\d+)"},
        "input": {"height": SIDE, "width": SIDE, "channels": 1},
        "augment": {"rotation_degrees": 5, "shift": 0.02, "zoom": 0, "brightness": 0, "contrast": 0},
        "model": {"network": "remembers"},
        "training": {"epochs": 30, "batch": 16, "learning_rate": 3e-3, "threads": 1, "precision": "fp32", "device": "cpu"},
        "evaluate": {"draws": 200},
        "report": {"languages": ["en"]},
        **more,
    }
    study = check_study(values, source="a test")
    assert isinstance(study, Study)
    return study


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every patient has a face of his own, seen five times with noise; who is ill, chance has said."""
    folder, draws = tmp_path_factory.mktemp("twin") / "films", np.random.default_rng(7)
    for patient in range(PATIENTS):
        face = draws.uniform(60, 190, (SIDE // 4, SIDE // 4)).repeat(4, 0).repeat(4, 1)
        place = folder / ("ill" if patient % 2 else "well")
        place.mkdir(parents=True, exist_ok=True)
        for film in range(FILMS):
            seen = np.clip(face + draws.normal(0, 12, (SIDE, SIDE)), 0, 255).astype(np.uint8)
            (place / f"p{patient:02d}_{film}.png").write_bytes(encode_png(seen))
    return folder


@pytest.fixture(scope="module")
def twins(films: Path) -> LeakyTwin:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "remembers", remembers)
        return make_twins(study_of(films), root=films.parent / "runs", folder=films.parent / "twin")


def auc(line: object) -> float:
    return next(each.value for each in line.measures if each.name == "auc")  # pyright: ignore[reportAttributeAccessIssue]


def of(twins: LeakyTwin, way: str) -> Twin:
    return next(each for each in twins.twins if each.way == way)


@pytest.mark.slow
def test_patients_are_remembered_where_they_leak_and_nowhere_else(twins: LeakyTwin) -> None:
    assert auc(twins.honest) < 0.75
    assert auc(of(twins, "image").line) > 0.9
    assert auc(of(twins, "augmented").line) > 0.9
    assert auc(of(twins, "labels").line) < 0.75


@pytest.mark.slow
def test_what_leaked_is_counted(twins: LeakyTwin) -> None:
    assert (twins.known, of(twins, "labels").known) == (0, 0)
    for way, copies in (("image", 1), ("augmented", 3)):
        twin = of(twins, way)
        assert twin.line is not None
        assert twin.known > 0.95 * twin.line.rows
        split = read_run(Path(twin.line.run or "")).read("split")
        assert split.filter(pl.col("part") != "left_out").height == PATIENTS * FILMS * copies


@pytest.mark.slow
def test_labels_drawn_by_chance_are_the_same_labels_in_another_order(films: Path, twins: LeakyTwin) -> None:
    line = of(twins, "labels").line
    assert line is not None
    run, honest = (read_run(Path(each.run or "")).read("split") for each in (line, twins.honest))
    both = run.join(honest, on="path", suffix="_honest")
    assert sorted(both["label"]) == sorted(both["label_honest"])
    assert 0.3 < (both["label"] == both["label_honest"]).mean() < 0.7
    assert both["group"].equals(both["group_honest"])


@pytest.mark.slow
def test_pages_tell_of_each_way(twins: LeakyTwin, tmp_path: Path) -> None:
    english, persian = (page.read_text(encoding="utf-8") for page in write_twins(twins, tmp_path))
    assert LeakyTwin.model_validate(json.loads((tmp_path / "leaky_twin.json").read_text())) == twins
    for words in ("Split by image", "Augmented before the split", "Labels drawn by chance", "may have seen the patient", "nothing leaks"):
        assert words in english
    assert "همزاد نشتی" in persian
    assert 'dir="rtl"' in persian


def test_a_way_that_cannot_be_is_said(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", patients=12)
    values = {
        "task": "segmentation",
        "name": "planted",
        "data": {"folder": str(tmp_path / "pictures"), "labels": {"disc": 1, "square": 2}, "group": r"(p\d+)"},
        "model": {"filters": [8, 16]},
        "training": {"epochs": 1, "batch": 4, "patches": 8, "device": "cpu", "precision": "fp32", "threads": 1},
        "report": {"languages": ["en"]},
    }
    twins = make_twins(check_study(values, source="here"), root=tmp_path / "runs", folder=tmp_path / "twin", ways=("image", "labels"))
    assert of(twins, "image").line is not None
    assert of(twins, "labels").line is None
    assert "Of masks" in of(twins, "labels").reason
    assert "Dice" in write_twins(twins, tmp_path)[0].read_text(encoding="utf-8")


def test_another_way_is_refused_with_the_ways_there_are(films: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no way 'images'.*Ways are image, augmented, labels"):
        make_twins(study_of(films), root=tmp_path, folder=tmp_path, ways=["images"])


def test_a_study_that_leaks_has_no_twin(films: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"split\.by is image"):
        make_twins(study_of(films, split={"by": "image"}), root=tmp_path, folder=tmp_path)
    with pytest.raises(StudyError, match="could not be run as it is"):
        make_twins(study_of(films, model={"weights": str(tmp_path / "no.safetensors")}), root=tmp_path, folder=tmp_path)


@pytest.mark.slow
def test_the_verb(films: Path, tmp_path: Path) -> None:
    study = study_of(films, model={"network": "small_resnet"}, scale="bench")
    (tmp_path / "faces.yaml").write_text(dump_study(study), encoding="utf-8")
    command = [sys.executable, "-m", "tabib", "leaky-twin", "faces.yaml", "--way", "image"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert "as it is: accuracy" in said.stdout
    assert (tmp_path / "runs" / "leaky-twin-faces" / "leaky_twin.fa.html").exists()
