from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from made_index import film, make_index, real_index
from places import needs_real
from tabib.config import Data, Study
from tabib.dataset import index_folder, inspect_dataset
from tabib.phantoms import ChestFilms, make_chest_films
from tabib.records import Finding, Findings

FILMS = [film(seed) for seed in range(80)]
LABELS = ["ILL", "WELL"] * 40
PATIENTS = [f"p{number // 4:02d}" + label for number, label in enumerate(LABELS)]


def inspect(
    index: pl.DataFrame, *, group: str | None = None, split: Mapping[str, Any] | None = None, positive: str | None = "ILL"
) -> Findings:
    study = Study.model_validate({"name": "test", "positive": positive, "data": {"folder": ".", "group": group}, "split": split or {}})
    return inspect_dataset(index, study)


def index_of(columns: Mapping[str, Sequence[Any]] | None = None, *, paths: Sequence[str] | None = None) -> pl.DataFrame:
    return make_index(FILMS, labels=LABELS, paths=paths, columns={"group": PATIENTS, **(columns or {})})


def one(findings: Findings, code: str) -> Finding:
    (found,) = [finding for finding in findings.findings if finding.code == code]
    return found


def codes(findings: Findings, *levels: str) -> set[str]:
    return {finding.code for finding in findings.findings if not levels or finding.level in levels}


def test_a_class_that_the_study_does_not_name_is_said() -> None:
    assert one(inspect(index_of(), positive=None), "positive_unclear").level == "warn"
    named = index_of().with_columns(label=pl.col("label").replace({"WELL": "healthy"}))
    assert one(inspect(named, positive=None), "positive_guessed").figures == {"positive": "ILL", "other": "healthy"}
    assert not codes(inspect(named)) & {"positive_unclear", "positive_guessed"}


def test_a_clean_data_set_says_what_was_looked_at() -> None:
    findings = inspect(index_of(), group="(p)")
    assert codes(findings, "warn", "fail") == set()
    assert codes(findings, "pass") >= {
        "files_readable",
        "patients_known",
        "classes_balanced",
        "exact_copies_none",
        "near_copies_none",
        "acquisition_facts_same",
    }
    assert one(findings, "patients_known").figures == {"patients": 40, "images": 80, "most": 2, "two_classes": 0}


def test_facts_that_do_not_vary_or_are_of_too_few_are_not_judged() -> None:
    assert codes(inspect(index_of())) & {"acquisition_facts_same", "acquisition_confounder_none"} == {"acquisition_facts_same"}
    few = make_index(FILMS[:10], labels=LABELS[:10], columns={"height": [64, 65] * 5})
    assert not codes(inspect(few)) & {"acquisition_facts_same", "acquisition_confounder_none"}
    varying = inspect(index_of({"height": [64] * 30 + [65] * 50}))
    assert one(varying, "acquisition_confounder_none").figures["facts"] == 2


def test_files() -> None:
    refused = [None] * 80
    refused[3], refused[5], refused[7] = "is empty", "is truncated", "refused by name: written by macOS"
    refused[13] = "the mask '13.png' has 2 x 2 pixels"
    labels: list[str | None] = [*LABELS]
    labels[7] = None
    formats = ["JPEG" if number == 9 else "PNG" for number in range(80)]
    contrast = [0.0 if number == 11 else 0.2 for number in range(80)]
    findings = inspect(index_of({"refused": refused, "label": labels, "format": formats, "contrast": contrast}))
    unreadable = one(findings, "unreadable_files")
    assert (unreadable.rows, unreadable.page_one, unreadable.figures["images"]) == ([3, 5], False, 79)
    assert unreadable.figures["reason"] == "is empty"
    masks = one(findings, "masks_unusable")
    assert (masks.rows, masks.page_one, masks.figures["reason"]) == ([13], False, refused[13])
    assert one(findings, "refused_names").rows == [7]
    assert one(findings, "misnamed_files").rows == [9]
    assert one(findings, "flat_images").rows == [11]


def test_many_unreadable_files_belong_on_the_first_page() -> None:
    findings = inspect(index_of({"refused": ["is empty"] * 5 + [None] * 75}))
    assert one(findings, "unreadable_files").page_one


def test_patients_unknown() -> None:
    found = inspect(index_of({"group": [None] * 80}))
    assert one(found, "patients_unknown").page_one
    assert found.group_pattern is None


def test_patients_proposed_from_names() -> None:
    paths = [f"{label}/patient{number // 4:02d}{label[0]}_{number}.png" for number, label in enumerate(LABELS)]
    found = inspect(index_of({"group": [None] * 80}, paths=paths))
    assert one(found, "group_pattern_proposed").figures["patients"] == 20
    assert one(found, "group_pattern_proposed").page_one
    assert found.group_pattern is not None
    assert "patients_unknown" not in codes(found)


def test_patients_partly_unknown_and_too_many() -> None:
    partly = inspect(index_of({"group": [None, None, *PATIENTS[2:]]}), group="(p)")
    said = one(partly, "patients_partly_unknown")
    assert (said.rows, said.page_one) == ([0, 1], True)
    assert {key: said.figures[key] for key in ("patients", "images", "unnamed")} == {"patients": 40, "images": 78, "unnamed": 2}
    assert not codes(partly) & {"patients_known", "patients_unknown"}
    alone = inspect(index_of({"group": [f"p{number}" for number in range(80)]}), group="(p)")
    assert one(alone, "every_image_a_patient").page_one


def test_classes() -> None:
    labels = ["RARE" if number < 8 else "COMMON" for number in range(80)]
    findings = inspect(index_of({"label": labels}))
    assert one(findings, "class_imbalance").figures["ratio"] == 9
    assert one(findings, "small_class").figures == {"class": "RARE", "images": 8}
    few = one(findings, "few_patients_of_class")
    assert (few.figures["class"], few.figures["patients"], few.page_one) == ("RARE", 4, True)
    # Six images of unknown patients may be of six.
    unnamed = inspect(index_of({"label": labels, "group": [PATIENTS[0], PATIENTS[0], *[None] * 8, *PATIENTS[10:]]}))
    assert one(unnamed, "few_patients_of_class").figures == {"class": "RARE", "patients": 7, "images": 8}
    many = inspect(index_of({"label": ["RARE"] * 20 + ["COMMON"] * 60, "group": ["p", *[None] * 19, *PATIENTS[20:]]}))
    assert "few_patients_of_class" not in codes(many)


def test_copies_and_their_labels() -> None:
    pictures = [*FILMS, FILMS[0], FILMS[2]]
    nearly = [np.clip(FILMS[number].astype(float) * 0.8 + 30, 0, 255).astype(np.uint8) for number in (4, 6)]
    index = make_index(
        [*pictures, *nearly], labels=[*LABELS, "ILL", "WELL", "ILL", "WELL"], columns={"group": [*PATIENTS, "a", "b", "c", "d"]}
    )
    findings = inspect(index)
    exact = one(findings, "exact_copies")
    assert (exact.level, exact.figures["sets"], exact.figures["too_many"]) == ("warn", 2, 2)
    assert set(exact.rows) == {0, 80, 2, 81}
    assert set(one(findings, "copies_with_two_labels").rows) == {2, 81}
    near = one(findings, "near_copies")
    assert (near.level, near.figures["clusters"], near.figures["across_patients"]) == ("warn", 2, 2)
    assert sorted(map(sorted, findings.near_copies)) == [[4, 82], [6, 83]]
    assert set(one(findings, "near_copies_with_two_labels").rows) == {6, 83}


def test_near_copies_of_one_patient_are_no_warning() -> None:
    nearly = np.clip(FILMS[4].astype(float) * 0.8 + 30, 0, 255).astype(np.uint8)
    index = make_index([*FILMS, nearly], labels=[*LABELS, LABELS[4]], columns={"group": [*PATIENTS, PATIENTS[4]]})
    assert one(inspect(index), "near_copies").level == "pass"


def test_a_large_cluster_is_said() -> None:
    same = [np.clip(FILMS[4].astype(float) * 0.8 + shade, 0, 255).astype(np.uint8) for shade in range(10, 40)]
    index = make_index([*FILMS, *same], labels=[*LABELS, *["ILL"] * 30], columns={"group": [*PATIENTS, *["p"] * 30]})
    large = one(inspect(index), "near_copy_cluster_large")
    assert large.figures["rows"] == 31
    assert large.page_one


def test_a_few_look_alikes_in_a_small_set_are_no_large_cluster() -> None:
    same = [np.clip(FILMS[4].astype(float) * 0.8 + shade, 0, 255).astype(np.uint8) for shade in (10, 25, 40, 55)]
    for copies in (1, 3, 4):
        labels, patients = [*LABELS[:20], *["ILL"] * copies], [*PATIENTS[:20], *["p"] * copies]
        index = make_index([*FILMS[:20], *same[:copies]], labels=labels, columns={"group": patients})
        findings = inspect(index)
        assert list(map(len, findings.near_copies)) == [1 + copies]
        assert ("near_copy_cluster_large" in codes(findings)) == (copies == 4)


def test_large_clusters_are_said_once() -> None:
    same = [
        np.clip(FILMS[film].astype(float) * 0.8 + shade, 0, 255).astype(np.uint8) for film in (4, 6) for shade in range(10, 10 + 6 + film)
    ]
    index = make_index([*FILMS, *same], labels=[*LABELS, *["ILL"] * 22], columns={"group": [*PATIENTS, *["p"] * 22]})
    assert one(inspect(index), "near_copy_cluster_large").figures["rows"] == 13


@pytest.mark.parametrize("given", [False, True])
def test_given_parts(given: bool) -> None:
    parts = ["test" if number % 4 == 0 else "train" for number in range(80)]
    patients = [f"{part}{number // 2}" for number, part in enumerate(parts)]
    split = {"given": given, "leaks": "drop"}
    clean = inspect(index_of({"given": parts, "group": patients}), split=split)
    assert "given_groups_apart" in codes(clean, "pass")
    patients[5] = patients[0]
    pictures = [*FILMS]
    pictures[7] = FILMS[4]
    index = make_index(pictures, labels=LABELS, columns={"given": parts, "group": patients})
    findings = inspect(index, split=split)
    shared = one(findings, "given_leak_groups")
    assert (shared.figures["patients"], set(shared.rows), shared.page_one) == (1, {0, 5}, given)
    assert set(one(findings, "given_leak_copies").rows) == {4, 7}
    restarting = inspect(index, split={**split, "group_scope": "split"})
    assert "given_leak_groups" not in codes(restarting)


def test_sizes_colours_and_modes() -> None:
    widths = [64 if number < 60 else 128 for number in range(80)]
    colour = [number in (3, 4) for number in range(80)]
    modes = ["RGB" if number in (3, 4) else "L" for number in range(80)]
    findings = inspect(index_of({"width": widths, "colour": colour, "mode": modes}))
    shapes = one(findings, "mixed_shapes").figures
    assert (shapes["commonest_width"], shapes["commonest_height"]) == (64, 64)
    assert one(findings, "mixed_colour").rows == [3, 4]
    modes = {"modes": 2, "mode": "L", "bits": 8, "images": 78, "next_mode": "RGB", "next_bits": 8, "next_images": 2}
    assert one(findings, "mixed_modes").figures == modes


def test_the_smallest_and_the_largest_size_are_of_an_image_each() -> None:
    sizes = [(300, 20), (40, 200), (100, 100), (5, 2100)] * 20  # width, height
    figures = one(inspect(index_of({"width": [size[0] for size in sizes], "height": [size[1] for size in sizes]})), "mixed_shapes").figures
    assert (figures["smallest_width"], figures["smallest_height"]) == (300, 20)
    assert (figures["largest_width"], figures["largest_height"]) == (5, 2100)


def test_what_tells_the_class_without_the_picture() -> None:
    scanner = ["Acme" if label == "ILL" else "Other" for label in LABELS]
    paths = [f"{label}/{label.lower()}_{number}.png" for number, label in enumerate(LABELS)]
    findings = inspect(index_of({"scanner": scanner}, paths=paths))
    confounder = one(findings, "acquisition_confounder")
    assert (confounder.level, confounder.page_one, confounder.figures["fact"]) == ("fail", True, "scanner")
    assert confounder.figures["balanced_accuracy"] == 1
    assert confounder.figures["values"] == {"ILL": [("Acme", 1.0)], "WELL": [("Other", 1.0)]}
    assert Findings.model_validate_json(findings.model_dump_json()) == findings
    names = one(findings, "names_spell_label")
    assert (names.level, names.page_one) == ("pass", False)
    assert "acquisition_confounder_none" not in codes(findings)
    mostly = [name if (number // 4) % 4 else "Other" for number, name in enumerate(scanner)]
    assert one(inspect(index_of({"scanner": mostly}, paths=paths)), "acquisition_confounder").level == "warn"


def test_a_plate_in_the_films_of_one_machine_tells_the_class(tmp_path: Path) -> None:
    films = ChestFilms(patients=60, films_per_patient=(1, 1), confounder=0.8, difference="plate")
    make_chest_films(tmp_path / "films", films)
    said = one(inspect(index_folder(Data(folder=tmp_path / "films"), workers=1), positive="PNEUMONIA"), "marks_tell_class")
    assert (said.figures["fact"], said.page_one) == ("mark_top_right", True)
    assert said.rows


def test_further_columns_of_a_table_are_tried() -> None:
    random = np.random.default_rng(0)
    facts = [
        {"series": "MPRAGE" if label == "ILL" and random.random() < 0.9 else "SPGR", "age": f"{random.integers(50, 80)}", "format": "same"}
        for label in LABELS
    ]
    findings = inspect(index_of({"facts": [json.dumps(each) for each in facts]}))
    said = one(findings, "column_tells_class")
    assert (said.level, said.page_one, said.figures["fact"]) == ("warn", True, "series")
    older = [json.dumps({"age": f"{60 + 10 * (label == 'ILL') + random.normal():.1f}"}) for label in LABELS]
    assert one(inspect(index_of({"facts": older})), "column_tells_class").figures["balanced_accuracy"] == 1


def test_numbering() -> None:
    order = np.argsort(LABELS, kind="stable")
    place = {int(row): number for number, row in enumerate(order)}
    paths = [f"{label}/film{place[row]:03d}.png" for row, label in enumerate(LABELS)]
    assert one(inspect(index_of(paths=paths)), "numbering_separates_classes").page_one


@pytest.mark.parametrize("left", [1, 2, 3])
def test_a_few_images(left: int) -> None:
    index = make_index(FILMS[:left], labels=LABELS[:left])
    assert "files_readable" in codes(inspect(index))


@pytest.mark.real
@needs_real("chest_xray")
def test_the_chest_films() -> None:
    findings = inspect(real_index("chest_xray"), split={"given": True, "leaks": "drop"})
    assert one(findings, "exact_copies").figures["identical_files"] == 30
    assert one(findings, "group_pattern_proposed").page_one
    assert sum(map(len, findings.near_copies)) < 20
    assert "near_copy_cluster_large" not in codes(findings)


@pytest.mark.real
@needs_real("blast_cells")
def test_the_names_of_the_cells_give_the_label_away() -> None:
    findings = inspect(real_index("blast_cells"))
    assert one(findings, "names_spell_label").level == "pass"
    assert one(findings, "patients_unknown").page_one
    assert "acquisition_confounder" not in codes(findings)


@pytest.mark.real
@needs_real("alzheimer_mri")
def test_the_brain_slices_cannot_be_trusted() -> None:
    findings = inspect(real_index("alzheimer_mri"))
    assert one(findings, "patients_unknown").page_one
    assert one(findings, "near_copies").level == "warn"


@pytest.mark.real
@needs_real("cats_dogs")
def test_the_control_has_nothing_alarming() -> None:
    findings = inspect(real_index("cats_dogs"))
    assert {finding.code for finding in findings.findings if finding.page_one} == {"patients_unknown"}
    assert codes(findings) >= {"exact_copies_none", "near_copies_none", "acquisition_confounder_none"}


def test_what_a_study_asks_to_be_drawn_apart_is_said_on_page_one() -> None:
    films = make_index([*FILMS, FILMS[0]], labels=[*LABELS, "ILL"], columns={"group": [*PATIENTS, PATIENTS[0]]})
    study = Study.model_validate({"name": "x", "positive": "ILL", "data": {"folder": ".", "copies": "keep"}, "split": {"by": "image"}})
    found = inspect_dataset(films, study)
    assert one(found, "copies_kept").figures == {"sets": 1, "images": 2}
    assert one(found, "split_by_image").figures == {"images": 81, "patients": 40, "rows": 81, "clusters": 0}
    assert all(one(found, code).page_one for code in ("copies_kept", "split_by_image"))
    assert not codes(inspect(films)) & {"copies_kept", "split_by_image"}
    assert "copies_kept" not in {each.code for each in inspect_dataset(index_of(), study).findings}
