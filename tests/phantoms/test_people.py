"""Made-up smears and brain slices: whether the class is in the pictures as planned, and nowhere else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata

from tabib.errors import StudyError
from tabib.images import read_image
from tabib.phantoms import People as Settings
from tabib.phantoms import PeopleTruth, make_brains, make_smears
from tabib.phantoms.people import plan_people

KINDS = pytest.mark.parametrize("make", [make_smears, make_brains], ids=["smears", "brains"])
Make = Callable[..., PeopleTruth]


def pixels(folder: Path, truth: PeopleTruth) -> list[NDArray[np.float64]]:
    """Every picture as grey values from 0 to 255, (side, side)."""
    arrays = [np.asarray(read_image(folder / planted.path).pixels, float) for planted in truth.pictures]
    return [array.mean(-1) if array.ndim == 3 else array for array in arrays]


def auc(ill: NDArray[np.bool_], values: NDArray[np.float64]) -> float:
    ranks = rankdata(values)
    return float((ranks[ill].mean() - (ill.sum() + 1) / 2) / (~ill).sum())


@KINDS
def test_what_tells_the_class_can_be_measured_in_the_pictures(make: Make, tmp_path: Path) -> None:
    truth = make(tmp_path / "made", Settings(patients=24, pictures=2))
    middle = np.hypot(*np.mgrid[-1 : 1 : 96 * 1j, -1 : 1 : 96 * 1j]) < 0.5
    # The nucleus is the darkest of a cell, the ventricles the darkest of the middle of a brain.
    dark = np.array([np.mean(picture[middle] < (90 if make is make_brains else 120)) for picture in pixels(tmp_path / "made", truth)])
    ill = np.array([planted.patient % 2 == 0 for planted in truth.pictures])
    amounts = np.array([planted.amount for planted in truth.pictures])
    assert np.corrcoef(dark, amounts)[0, 1] > 0.8
    assert auc(ill, dark) > 0.9


@pytest.mark.parametrize("lesion", [0.0, 1.0, 3.0])
def test_no_reader_can_expect_more_than_the_amounts_tell(lesion: float) -> None:
    truth = plan_people(Settings(patients=1000, pictures=1, lesion=lesion), ("NO", "YES"), "{}_{}")
    amounts = np.array([planted.amount for planted in truth.pictures])
    assert auc(np.arange(1000) % 2 == 1, amounts) == pytest.approx(truth.best_auc, abs=0.03)


@KINDS
def test_files_are_a_function_of_the_settings_and_more_people_change_no_other(make: Make, tmp_path: Path) -> None:
    few, more = Settings(patients=3, pictures=2, side=32), Settings(patients=4, pictures=2, side=32)

    def hashes(name: str, settings: Settings) -> dict[str, str]:
        truth = make(tmp_path / name, settings)
        return {planted.path: hashlib.sha256((tmp_path / name / planted.path).read_bytes()).hexdigest() for planted in truth.pictures}

    first = hashes("first", few)
    assert hashes("again", few) == first
    assert first.items() < hashes("more", more).items()
    assert not set(first.values()) & set(hashes("other", dataclasses.replace(few, seed=1)).values())
    assert json.loads((tmp_path / "first.truth.json").read_text())["pictures"][2]["label"] in ("blast", "AD")


def test_a_slice_is_most_alike_to_another_of_the_same_person(tmp_path: Path) -> None:
    truth = make_brains(tmp_path / "made", Settings(patients=8))
    first, second = (np.stack(pixels(tmp_path / "made", truth)[start::4]).reshape(8, -1) for start in (1, 2))
    alike = np.corrcoef(np.vstack([first, second]))[:8, 8:]
    assert alike.argmax(1).tolist() == list(range(8))


@pytest.mark.parametrize(
    ("wrong", "words"), [({"patients": 1}, "patients is 1"), ({"pictures": 0}, "pictures 0"), ({"side": 8}, "side is 8")]
)
def test_settings_that_make_nothing_are_refused(wrong: dict[str, int], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        Settings(**wrong)  # pyright: ignore[reportArgumentType]
