from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from made_index import film, make_index
from tabib.config import Data, Study
from tabib.dataset import index_folder, inspect_dataset
from tabib.dataset.quality import FAULTS, find_faults
from tabib.phantoms import ChestFilms, make_chest_films
from tabib.records import Finding

FILMS = [film(seed) for seed in range(80)]
LABELS = ["ILL", "WELL"] * 40


def faults(pictures: Sequence[np.ndarray] = FILMS, **columns: Any) -> dict[str, list[int]]:
    return find_faults(make_index(pictures, labels=LABELS[: len(pictures)], columns=columns))


def films(folder: Path, planted: ChestFilms) -> tuple[pl.DataFrame, dict[str, list[str]]]:
    """The index of a phantom, and the paths of its faulty films."""
    truth = make_chest_films(folder, planted)
    spoilt: dict[str, list[str]] = {}
    for each in truth.films:
        if each.fault:
            spoilt.setdefault(f"{each.fault}_images", []).append(each.path)
    return index_folder(Data(folder=folder, group=r"(patient\d+)"), workers=1), spoilt


def findings(index: pl.DataFrame, **study: Any) -> dict[str, Finding]:
    whole = Study.model_validate({"name": "test", "positive": LABELS[0], "data": {"folder": "."}, **study})
    return {finding.code: finding for finding in inspect_dataset(index, whole).findings}


@pytest.mark.parametrize("share", [0.06, 0.25])
def test_planted_faults_are_found_and_nothing_else(tmp_path: Path, share: float) -> None:
    index, spoilt = films(tmp_path / "films", ChestFilms(patients=40, films_per_patient=(2, 2), faults=share))
    assert len(spoilt) == 5
    found = {code: sorted(index["path"][rows].to_list()) for code, rows in find_faults(index).items()}
    assert found == {code: sorted(paths) for code, paths in spoilt.items()}


@pytest.mark.parametrize("seed", [1, 2])
def test_a_clean_phantom_alarms_nobody(tmp_path: Path, seed: int) -> None:
    index, _ = films(tmp_path / "films", ChestFilms(patients=40, films_per_patient=(1, 2), side=96, seed=seed))
    said = findings(index)
    assert not said.keys() & {*FAULTS, "marks_tell_class", "flat_range", "patients_of_two_classes"}
    assert said["pictures_alike"].figures == {"images": len(index)}


def test_false_alarms_on_normal_numbers_are_rare() -> None:
    random = np.random.default_rng(0)
    alarms = 0
    for _ in range(60):
        mean, contrast = random.normal(0.5, 0.03, 80), np.exp(random.normal(-1.6, 0.2, 80))
        alarms += bool(
            faults(mean=mean, contrast=contrast, sharpness=np.exp(random.normal(-1, 0.2, 80)), white=random.exponential(0.01, 80))
        )
    assert alarms == 0


def test_another_brightness_is_judged_within_the_class() -> None:
    dark_class = [0.2 if label == "ILL" else 0.7 for label in LABELS]
    random = np.random.default_rng(0)
    mean = [value + random.normal(0, 0.02) for value in dark_class]
    assert faults(mean=mean) == {}
    mean[4], mean[7] = 0.7, 0.2  # each usual in the other class
    assert set(faults(mean=mean)["intensity_outliers"]) == {4, 7}
    few = make_index(FILMS[:30], labels=LABELS[:30], columns={"mean": mean[:30]})
    assert find_faults(few) == {}, "with a spread of both classes neither is unusual"


def test_a_small_difference_in_a_very_even_set_is_none() -> None:
    assert faults(mean=[0.5] * 79 + [0.6], contrast=[0.2] * 79 + [0.15], sharpness=[0.4] * 79 + [0.3]) == {}
    assert faults(mean=[0.5] * 79 + [0.7], contrast=[0.2] * 80) == {"intensity_outliers": [79]}


def test_pictures_without_a_common_pattern_are_not_called_inverted() -> None:
    random = np.random.default_rng(0)
    assert "inverted_images" not in faults([random.integers(0, 256, (32, 32)).astype(np.uint8) for _ in range(80)])
    loose = [film(seed, alike=0.2) for seed in range(80)]
    assert "inverted_images" not in faults([255 - loose[0], *loose[1:]]), "photographs of anything have a little in common, too"
    inverted = [255 - picture if number in (3, 40) else picture for number, picture in enumerate(FILMS)]
    assert sorted(faults(inverted)["inverted_images"]) == [3, 40]


def test_a_whole_set_of_little_contrast_is_not_blank_but_flat() -> None:
    columns = {"contrast": [0.004] * 80, "bits": [16] * 80}
    index = make_index(FILMS, labels=LABELS, columns=columns)
    assert find_faults(index) == {}
    said = findings(index)["flat_range"]
    assert (said.level, said.page_one, len(said.rows)) == ("warn", True, 80)
    assert said.figures["range"] == pytest.approx(0.016)
    assert "flat_range" not in findings(index, input={"intensity": "percentile"})
    assert "flat_range" not in findings(make_index(FILMS, labels=LABELS, columns={**columns, "bits": [8] * 80}))


def test_the_finding_counts_the_classes() -> None:
    said = findings(make_index(FILMS, labels=LABELS, columns={"sharpness": [0.1, 0.1, 0.1, *np.linspace(0.4, 0.5, 77)]}))["blurred_images"]
    assert (said.figures["images"], said.figures["by_class"]) == (3, {"ILL": [2], "WELL": [1]})
    assert not said.page_one


def test_a_patient_in_two_classes_is_said() -> None:
    patients = [f"p{number // 4}{label}" for number, label in enumerate(LABELS)]
    patients[5] = patients[0]
    said = findings(make_index(FILMS, labels=LABELS, columns={"group": patients}))["patients_of_two_classes"]
    assert said.figures == {"patients": 1, "all": 40, "images": 3}
    assert said.rows == [0, 2, 5]
