"""Planted wrong masks are found, by models that had not seen the patient, and told apart from cases on which trainings differ."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from planted_masks import write_pictures
from tabib.config import Segmentation
from tabib.experiments import find_label_trouble, mask_trouble, write_label_trouble
from tabib.experiments.mask_trouble import weigh_masks
from tabib.metrics import weigh_dice
from tabib.records import LabelTrouble
from tabib.runs import read_run
from tabib.study_file import check_study

STUDY = {
    "task": "segmentation",
    "name": "scenes",
    "model": {"filters": [8, 16]},
    "split": {"train": 0.3, "validation": 0.2, "test": 0.5},
    "training": {
        "epochs": 12,
        "batch": 4,
        "patches": 32,
        "learning_rate": 0.02,
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
        "log_to": [],
    },
    "evaluate": {"draws": 200},
    "report": {"languages": ["en"]},
}
MOVED, SWAPPED, LEFT_OUT = "p03_0.png", "p08_1.png", "p12_0.png"


def trouble_of(folder: Path, seeds: tuple[int, ...]) -> LabelTrouble:
    data = {"folder": str(folder / "pictures"), "labels": {"disc": 1, "square": 2}, "group": r"(p\d+)"}
    study = check_study({**STUDY, "data": data}, source="a test")
    assert isinstance(study, Segmentation)
    return find_label_trouble(study, root=folder / "runs", seeds=seeds)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disc that was moved, a disc and a square under each other's number, and a square that nobody drew."""
    folder = tmp_path_factory.mktemp("scenes")
    write_pictures(folder / "pictures", patients=14)
    masks = folder / "pictures" / "masks"
    for name in (MOVED, SWAPPED, LEFT_OUT):
        mask = np.array(Image.open(masks / name))
        disc, square = mask == 1, mask == 2
        if name == MOVED:
            mask[disc] = 0
            mask[np.roll(disc, 7, axis=0) & ~square] = 1
        elif name == SWAPPED:
            mask[disc], mask[square] = 2, 1
        else:
            mask[square] = 0
        Image.fromarray(mask).save(masks / name)
    return folder


@pytest.fixture(scope="module")
def trouble(place: Path) -> LabelTrouble:
    return trouble_of(place, (0, 1))


def wrong(trouble: LabelTrouble) -> set[tuple[str, str]]:
    return {(Path(each.case.path).name, each.structure) for each in trouble.masks if each.list == "wrong"}


@pytest.mark.slow
def test_planted_wrong_masks_are_found(trouble: LabelTrouble) -> None:
    assert (trouble.masked, trouble.rows, trouble.groups, trouble.doubts) == (True, 28, 14, [])
    assert [(each.name, each.of, each.groups, each.rows) for each in trouble.reached] == [
        ("dice", "disc", 14, 28),
        ("dice", "square", 14, 28),
    ]
    for each in trouble.reached:
        assert each.value is not None
        assert 0.5 < (each.low or 0) < each.value < trouble.thresholds[each.of or ""], (
            "wrong masks count in the mean, and hardly in the usual"
        )
    assert wrong(trouble) == {(MOVED, "disc"), (SWAPPED, "disc"), (SWAPPED, "square"), (LEFT_OUT, "square")}
    found = {(Path(each.case.path).name, each.structure): each for each in trouble.masks}
    moved, swapped, left_out = found[MOVED, "disc"], found[SWAPPED, "disc"], found[LEFT_OUT, "square"]
    assert (swapped.called, moved.called, left_out.called) == ("square", None, None)
    assert swapped.called_share > 0.8
    assert 0.1 < moved.dice < 0.8 < trouble.thresholds["disc"]
    assert (left_out.voxels, left_out.dice) == (0, 0)
    assert left_out.drawn > 50
    assert all(each.agreement is not None and each.agreement > 0.8 for each in (moved, swapped, left_out))
    assert moved.group is not None
    assert moved.group.startswith("p03")
    assert [each.deviations for each in trouble.masks[:4]] == sorted((each.deviations for each in trouble.masks[:4]), reverse=True)


@pytest.mark.slow
def test_worklist_and_pages_of_masks(trouble: LabelTrouble, tmp_path: Path) -> None:
    english, persian = (page.read_text(encoding="utf-8") for page in write_label_trouble(trouble, tmp_path))
    assert LabelTrouble.model_validate(json.loads((tmp_path / "label_trouble.json").read_text())) == trouble
    lines = list(csv.DictReader((tmp_path / "worklist.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert len(lines) == len(trouble.masks)
    first = trouble.masks[0]
    assert [lines[0][name] for name in ("list", "path", "structure", "dice", "corrected")] == [
        "wrong",
        first.case.path,
        first.structure,
        f"{first.dice:.3f}",
        "",
    ]
    for page, words in ((english, "Probably wrong masks"), (persian, "ماسک‌هایی که به احتمال زیاد نادرست‌اند")):
        assert words in page
        assert page.count("<img") == 3 * len(trouble.masks), "the mask, and what each of two trainings drew"
        assert "Iglewicz" in page
    assert "disc: Dice" in re.sub("</?bdi[^>]*>", "", english)


@pytest.mark.slow
def test_what_the_trainings_draw_differently_is_hard(place: Path, trouble: LabelTrouble, monkeypatch: pytest.MonkeyPatch) -> None:
    trainings = [[read_run(run) for run in sorted({Path(each.case.answers[seed].run) for each in trouble.masks})] for seed in range(2)]
    rows = [row for runs in trainings[:1] for row in sorted(mask_trouble._drawn(runs))]
    wanted = rows.index(next(each.case.answers[0].row for each in trouble.masks if Path(each.case.path).name == MOVED))
    told = iter(range(len(rows)))
    monkeypatch.setattr(mask_trouble, "_agreement", lambda drawn, structures: [0.3 if next(told) == wanted else 0.9] * len(structures))
    found, _ = weigh_masks(trainings)
    assert {each.list for each in found if Path(each.case.path).name == MOVED} == {"hard"}


@pytest.mark.slow
def test_a_case_is_weighed_by_the_seeds_that_judged_it(place: Path, trouble: LabelTrouble) -> None:
    first, second = ([read_run(run) for run in sorted({Path(each.case.answers[seed].run) for each in trouble.masks})] for seed in range(2))
    whole = weigh_masks([first, second])[0]
    alone, usual_alone = weigh_masks([first])
    assert (alone, usual_alone) == weigh_masks([first, []]) == weigh_masks([[], first])
    found, _ = weigh_masks([first, second[:1]])
    judged = {case.path for case in second[0].read("evaluation").parts[-1].cases}
    seeds = {each.case.path: len(each.case.answers) for each in found}
    assert set(seeds.values()) == {1, 2}
    assert all(number == 1 + (path in judged) for path, number in seeds.items())
    assert all((each.agreement is None) == (each.case.path not in judged) for each in found)
    assert {each.case.path for each in found if each.list == "wrong"} == {each.case.path for each in whole if each.list == "wrong"}
    english, _ = (
        page.read_text(encoding="utf-8") for page in write_label_trouble(trouble.model_copy(update={"masks": found}), place / "fewer")
    )
    assert english.count("<img") == sum(1 + number for path, number in seeds.items() for each in found if each.case.path == path)


def test_the_usual_dice_is_that_of_the_cases_below_it() -> None:
    dice = np.array([0.90, 0.91, 0.92, 0.93, 0.99, 0.50, np.nan])
    found = weigh_dice(dice)
    spread = 1.4826 * np.median([0.015, 0.005, 0.415])
    assert found.usual == pytest.approx(0.915)
    np.testing.assert_allclose(found.below, (0.915 - dice) / spread)
    np.testing.assert_allclose(weigh_dice(np.array([0.9, 0.9, 0.9, 0.2])).below, [0, 0, 0, 70])
    assert np.isnan(weigh_dice(np.array([np.nan])).usual)
