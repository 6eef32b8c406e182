from __future__ import annotations

import re

import polars as pl
import pytest

from made_index import real_index
from places import needs_real
from tabib.config import Data
from tabib.dataset.groups import patients_known, propose_group_pattern


def patients(paths: list[str]) -> list[str]:
    pattern = propose_group_pattern(paths)
    assert pattern is not None
    Data.model_validate({"folder": ".", "group": pattern})  # the study takes it
    found = [re.search(pattern, path) for path in paths]
    return ["-".join(part for part in match.groups() if part) if match else "?" for match in found]


@pytest.mark.parametrize(
    ("groups", "state"), [(["a", "a", "b"], "known"), (["a", None, "b"], "partly"), ([None, None], "unknown"), ([], "unknown")]
)
def test_patients_are_known_of_all_images_of_some_or_of_none(groups: list[str | None], state: str) -> None:
    assert patients_known(pl.Series(groups, dtype=pl.String())) == state


NAMED = {
    "person and kind": (["P/person{p}_bacteria_{i}.jpeg", "P/person{p}_virus_{j}.jpeg"], "person{p}"),
    "film of a patient": (["A/patient{p:03d}_film1.png", "A/patient{p:03d}_film2.png"], "patient{p:03d}"),
    "DICOM export": (["N/IM-{p:04d}-0001.jpeg", "N/IM-{p:04d}-0002.jpeg"], "IM-{p:04d}"),
    "DICOM export of a second series": (["N/NORMAL2-IM-{p:04d}-0001.jpeg", "N/NORMAL2-IM-{p:04d}-0002.jpeg"], "NORMAL2-IM-{p:04d}"),
    "Sunnybrook": (["A/SCD{p:07d}/{i}.png", "A/SCD{p:07d}/{j}.png"], "SCD{p:07d}"),
    "BIDS": (["A/sub-{p:02d}_ses-01.png", "A/sub-{p:02d}_ses-02.png"], "sub-{p:02d}"),
    "left and right": (["A/P{p:04d}_L.png", "A/P{p:04d}_R.png"], "P{p:04d}"),
    "slices of a case": (["A/case_{p}_slice_{i}.png", "A/case_{p}_slice_{j}.png"], "case_{p}"),
    "long and short number": (["A/{p:08d}_000.png", "A/{p:08d}_001.png"], "{p:08d}"),
    "TCGA": (["A/TCGA-02-{p:04d}-01A.png", "A/TCGA-02-{p:04d}-02B.png"], "TCGA-02-{p:04d}"),
    "capitals": (["A/PATIENT {p} a.png", "A/PATIENT {p} b.png"], "PATIENT {p}"),
    "given parts": (["train/A/Subject{p}/{i}.png", "train/A/Subject{p}/{j}.png"], "Subject{p}"),
}


@pytest.mark.parametrize("name", NAMED)
def test_names_that_name_patients(name: str) -> None:
    shapes, wanted = NAMED[name]
    numbers = [(p, shape) for p in range(1, 21) for shape in shapes]
    paths = [shape.format(p=p, i=1000 + 2 * p, j=1001 + 2 * p) for p, shape in numbers]
    assert patients(paths) == [wanted.format(p=p) for p, _ in numbers]


def test_two_ways_of_naming_are_joined() -> None:
    paths = [f"PNEUMONIA/person{p}_virus_{p + 7}.jpeg" for p in range(1, 30) for _ in range(1)]
    paths += [f"PNEUMONIA/person{p}_bacteria_{p + 70}.jpeg" for p in range(1, 30)]
    paths += [f"NORMAL/IM-{p:04d}-{i:04d}.jpeg" for p in range(1, 30) for i in (1, 2)]
    found = patients(paths)
    assert len(set(found)) == 58
    assert {"person7", "IM-0007"} <= set(found)


def test_a_word_for_the_patient_needs_few_repeats_and_a_bare_number_many() -> None:
    few = [f"ILL/person{p}_bacteria_{p + 7}.jpeg" for p in range(1, 50)] + ["ILL/person7_bacteria_99.jpeg"]
    few += [f"WELL/{'NORMAL2-' if p % 2 else ''}IM-{p:04d}-0001.jpeg" for p in range(1, 50)]
    found = patients(few)
    assert (found.count("person7"), len(set(found))) == (2, 98)
    assert found[-1] == "NORMAL2-IM-0049"
    assert propose_group_pattern([f"A/{p:05d}_1.png" for p in range(1, 50)] + ["A/00007_2.png"]) is None


NAMELESS = {
    "numbered photographs": [f"cats/cat.{i}.jpg" for i in range(500)],
    "cells": [f"blast/WBC-Malignant-Early-{i:03d}.jpg" for i in range(100)],
    "slices without a subject": [f"AD/train_mildDem{i}.jpg" for i in range(100)] + [f"AD/test_27 ({i}).jpg" for i in range(99)],
    "camera": [f"A/IMG_{i:04d}.jpg" for i in range(100)],
    "camera with dates": [f"A/IMG_202401{i % 28 + 1:02d}_{i:03d}.jpg" for i in range(100)],
    "dates first": [f"A/202401{i % 28 + 1:02d}_{i:03d}.jpg" for i in range(100)],
    "one image of each patient": [f"A/patient{i:03d}.png" for i in range(100)],
    "classes with numbers": [f"train/grade{i % 4 + 10}/{i}.png" for i in range(100)],
    "one patient has most": [f"A/patient1_{i}.png" for i in range(90)] + [f"A/patient2_{i}.png" for i in range(9)],
    "most have no name": [f"A/patient{i // 2}_{i}.png" for i in range(40)] + [f"A/{i}.png" for i in range(60)],
    "arrays": [f"train_images[{i}]" for i in range(100)],
    "hashes": [f"A/{i * 2654435761 % 2**32:08x}f{i:x}.png" for i in range(100)],
    "three images": ["A/patient1_1.png", "A/patient1_2.png", "A/patient2_1.png"],
    "none": [],
}


@pytest.mark.parametrize("name", NAMELESS)
def test_better_none_than_wrong(name: str) -> None:
    assert propose_group_pattern(NAMELESS[name]) is None


@pytest.mark.real
@needs_real("chest_xray")
def test_the_chest_films_name_their_patients() -> None:
    found = patients(real_index("chest_xray")["path"].to_list())
    assert "?" not in found
    assert 2000 < len(set(found)) < len(found) / 1.5


@pytest.mark.real
@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_real(name)) for name in ("blast_cells", "cats_dogs", "alzheimer_mri")])
def test_other_real_names_say_nothing_of_patients(name: str) -> None:
    assert propose_group_pattern(real_index(name)["path"].to_list()) is None
