from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label

from tabib.errors import StudyError
from tabib.metrics.objects import measure_objects, split_touching
from tabib.phantoms import NUCLEI_FAULTS, Nuclei, make_nuclei, plan_nuclei, render_nuclei

SMALL = Nuclei(slides=3, fields=2, side=96)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("stain", ["haematoxylin_eosin", "fluorescence"])
def test_pictures_and_label_maps_lie_under_the_same_names(stain: str, tmp_path: Path) -> None:
    truth = make_nuclei(tmp_path / "nuclei", dataclasses.replace(SMALL, stain=stain))  # pyright: ignore[reportArgumentType]
    names = {path.name for path in (tmp_path / "nuclei" / "images").iterdir()}
    assert names == {path.name for path in (tmp_path / "nuclei" / "labels").iterdir()}
    assert len(names) == truth.images == 6
    for field in truth.fields:
        picture, labels = pixels(tmp_path / "nuclei" / field.image), pixels(tmp_path / "nuclei" / field.mask)
        assert picture.dtype == np.uint8
        assert picture.shape == ((96, 96, 3) if stain == "haematoxylin_eosin" else (96, 96))
        assert labels.dtype == np.uint16
        assert np.unique(labels).tolist() == list(range(field.count + 1))
    assert json.loads((tmp_path / "nuclei.truth.json").read_text())["fields"][0]["count"] == truth.fields[0].count


def test_nuclei_are_in_one_piece_and_many_touch() -> None:
    nuclei = Nuclei(slides=4, fields=1)
    joined = counted = 0
    for field in plan_nuclei(nuclei).fields:
        _, labels = render_nuclei(nuclei, field.slide, field.field)
        whole = [label(labels == number, np.ones((3, 3)))[1] for number in range(1, field.count + 1)]  # pyright: ignore[reportIndexIssue]
        assert whole == [1] * field.count
        counted += field.count
        joined += label(labels > 0, np.ones((3, 3)))[1]  # pyright: ignore[reportIndexIssue]
    assert joined < 0.75 * counted


def test_without_touching_every_nucleus_stands_alone() -> None:
    nuclei = Nuclei(slides=2, fields=1, touching=0, density=0.001)
    for field in plan_nuclei(nuclei).fields:
        _, labels = render_nuclei(nuclei, field.slide, field.field)
        assert label(labels > 0)[1] >= 0.9 * field.count  # pyright: ignore[reportIndexIssue]


def test_watershed_finds_the_planted_count() -> None:
    nuclei = Nuclei(slides=6, fields=1)
    for field in plan_nuclei(nuclei).fields:
        _, labels = render_nuclei(nuclei, field.slide, field.field)
        found = measure_objects(labels, split_touching(labels > 0))
        assert abs(found.count_error) <= 0.08 * field.count
        assert found.f1 > 0.88
        assert found.aji > 0.85


def test_nuclei_are_dark_and_blue_in_stained_tissue_and_bright_in_fluorescence() -> None:
    stained, labels = render_nuclei(SMALL, 1, 1)
    inside, outside = stained[labels > 0].mean(0), stained[labels == 0].mean(0)
    assert (inside < outside - 20).all()
    assert inside[2] > inside[0] + 20  # more blue than red
    bright, same = render_nuclei(dataclasses.replace(SMALL, stain="fluorescence"), 1, 1)
    assert np.array_equal(same, labels)
    assert bright[labels > 0].mean() > 4 * bright[labels == 0].mean()


def test_fields_of_a_slide_resemble_one_another() -> None:
    nuclei = dataclasses.replace(SMALL, slides=6, fields=3)
    colour = np.array([[render_nuclei(nuclei, slide, field)[0].mean((0, 1)) for field in (1, 2, 3)] for slide in range(1, 7)])
    within = colour.std(1).mean()
    assert colour.mean(1).std(0).mean() > 2 * within


def test_same_settings_give_same_bytes_and_more_slides_leave_the_others_alone(tmp_path: Path) -> None:
    make_nuclei(tmp_path / "few", dataclasses.replace(SMALL, slides=1))
    make_nuclei(tmp_path / "many", SMALL)
    few, many = files(tmp_path / "few"), files(tmp_path / "many")
    assert few == {name: many[name] for name in few}
    make_nuclei(tmp_path / "other", dataclasses.replace(SMALL, slides=1, seed=1))
    assert not set(few.values()) & set(files(tmp_path / "other").values())


def test_planted_faults_are_what_they_are_called(tmp_path: Path) -> None:
    make_nuclei(tmp_path / "clean", SMALL)
    truth = make_nuclei(tmp_path / "faulty", dataclasses.replace(SMALL, faults=0.8))
    assert sorted(field.fault for field in truth.fields if field.fault) == sorted(NUCLEI_FAULTS)
    for field in truth.fields:
        spoilt, clean = (pixels(tmp_path / folder / field.mask) for folder in ("faulty", "clean"))
        assert np.array_equal(pixels(tmp_path / "faulty" / field.image), pixels(tmp_path / "clean" / field.image))
        if field.fault is None:
            assert np.array_equal(spoilt, clean)
        elif field.fault == "shifted":
            assert np.array_equal(spoilt, np.roll(clean, (12, 12), (0, 1)))
        elif field.fault == "swapped":
            others = [pixels(tmp_path / "clean" / other.mask) for other in truth.fields if other != field]
            assert sum(np.array_equal(spoilt, other) for other in others) == 1
        elif field.fault == "empty":
            assert not spoilt.any()
        elif field.fault == "other_shape":
            assert spoilt.shape == (84, 84)
        else:
            assert spoilt.shape == (96, 96, 3)
            assert (spoilt[..., 0] != spoilt[..., 1]).any()


@pytest.mark.parametrize(
    "wrong", [{"slides": 0}, {"side": 20}, {"density": 0.1}, {"touching": 2.0}, {"faults": -1.0}, {"fault_kinds": ()}], ids=str
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(StudyError, match="must"):
        Nuclei(**wrong)  # pyright: ignore[reportArgumentType]
