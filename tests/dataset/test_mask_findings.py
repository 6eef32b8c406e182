"""What is said of masks: planted faults in the columns that the index has of them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from made_index import film, make_index
from masked import study
from tabib.config import Segmentation
from tabib.dataset import MaskFacts, inspect_dataset
from tabib.images import series
from tabib.records import Finding
from tabib.reports import LANGUAGES, phrase

FILMS = [film(seed) for seed in range(12)]
NONE: dict[str, int] = {}


def facts(**changes: Any) -> str:
    return json.dumps({**asdict(MaskFacts(None, {"lv": 3}, NONE, NONE, [])), **changes})


def index_of(
    changes: Mapping[str, Mapping[int, Any]] | None = None, *, films: Sequence[Any] = FILMS, **columns: Sequence[Any]
) -> pl.DataFrame:
    """Twelve good cases of four slices with a structure; `changes` replaces single values of columns."""
    count = len(films)
    values: dict[str, list[Any]] = {
        "label": ["lv"] * count,
        "group": [f"p{number // 2}" for number in range(count)],
        "mask": [f"masks/{number}.png" for number in range(count)],
        "structures": ['{"1": 50}'] * count,
        "mask_facts": [facts()] * count,
        "slices": [4] * count,
        "spacing_row_mm": [1.367] * count,
        "spacing_column_mm": [1.367] * count,
        "spacing_slice_mm": [8.0] * count,
        "facts": [json.dumps({"phase": "ES" if number % 2 else "ED"}) for number in range(count)],
        **{name: list(column) for name, column in columns.items()},
    }
    for name, replaced in (changes or {}).items():
        for row, value in replaced.items():
            values[name][row] = value
    paths = [f"images/{number}.png" for number in range(count)]
    return make_index(films, labels=values.pop("label"), paths=paths, columns=values)


def look(
    index: pl.DataFrame, *, input: Mapping[str, Any] | None = None, labels: dict[str, Any] | None = None, **data: Any
) -> list[Finding]:
    asked = study(Path("."), labels=labels or {"lv": 1}, **data)
    asked = Segmentation.model_validate({**asked.model_dump(), "input": input or {}})
    found = inspect_dataset(index, asked).findings
    for finding in found:  # every finding has words in every language, with every figure in its place
        for code in LANGUAGES:
            words = phrase(finding, code)
            assert finding.code.replace("_", " ") not in words.title, finding.code
            assert "{" not in words.sentence
    return found


def one(found: list[Finding], code: str) -> Finding:
    (finding,) = [finding for finding in found if finding.code == code]
    return finding


def codes(found: list[Finding], *levels: str) -> set[str]:
    return {finding.code for finding in found if not levels or finding.level in levels}


def test_good_masks_say_what_was_looked_at() -> None:
    found = look(index_of())
    assert codes(found, "warn", "fail") == set()
    assert codes(found) >= {"structures_counted", "masks_in_order", "patients_of_masks", "exact_copies_none", "files_readable"}
    assert one(found, "structures_counted").figures == {"images": 12, "by_structure": {"lv": [12]}}


def test_nothing_is_said_of_classes() -> None:
    telling = index_of(label=["lv"] * 6 + [""] * 6, width=[64] * 6 + [80] * 6, marks=["left"] * 6 + [""] * 6)
    spoken = codes(look(telling))
    assert not spoken & {
        "acquisition_confounder",
        "marks_tell_class",
        "class_imbalance",
        "small_class",
        "labels_counted",
        "positive_unclear",
    }
    assert not spoken & {"near_copies_with_two_labels", "copies_with_two_labels", "mixed_sizes", "mixed_shapes"}
    assert "sizes_kept" in spoken
    assert "class" not in phrase(one(look(telling), "patients_of_masks"), "en").sentence


def test_images_and_masks_that_have_no_partner() -> None:
    refused = [None] * 12
    index = index_of(
        {
            "mask": {3: None, 7: None},
            "label": {3: None, 5: None, 7: None},
            "structures": {3: None, 7: None},
            "mask_facts": {3: None, 7: None},
        },
        refused=[*refused[:5], "a mask without an image: no image is called 'x'", *refused[6:]],
    )
    found = look(index)
    assert one(found, "images_without_mask").rows == [3, 7]
    assert one(found, "masks_without_image").figures == {"files": 1, "example": "images/5.png"}
    assert "unreadable_files" not in codes(found)


def test_numbers_that_the_study_does_not_name_stop_it() -> None:
    index = index_of({"structures": {0: '{"1": 5, "4": 10}', 2: '{"4": 7, "255": 1}'}})
    finding = one(look(index), "numbers_undeclared")
    assert (finding.level, finding.rows) == ("fail", [0, 2])
    assert finding.figures == {"numbers": 2, "by_number": {"4": [17], "255": [1]}, "images": 2, "first": 4}
    assert "numbers_undeclared" not in codes(look(index, ignored=[4, 255]))
    assert "numbers_undeclared" not in codes(look(index, labels={"lv": [1, 4, 255]}))
    assert "numbers_undeclared" not in codes(look(index, instances=True))


def test_a_structure_that_never_occurs_stops_the_study() -> None:
    finding = one(look(index_of(), labels={"lv": 1, "rv": 2}), "structures_never_shown")
    assert (finding.level, finding.figures) == ("fail", {"structures": "rv", "found": "1"})


def test_objects_are_counted() -> None:
    index = index_of({"structures": {0: "{}", 1: '{"1": 5, "9": 5, "7": 2}'}, "label": {0: ""}})
    figures = one(look(index, instances=True, ignored=[7]), "objects_counted").figures
    assert figures == {"images": 12, "structure": "lv", "objects": 12, "median": 1, "least": 0, "most": 2}


def test_empty_masks() -> None:
    finding = one(look(index_of({"structures": {4: "{}"}, "label": {4: ""}})), "masks_empty")
    assert (finding.level, finding.rows, finding.figures["share"]) == ("warn", [4], 1 / 12)
    assert "masks_empty" not in codes(look(index_of({"structures": {4: '{"7": 9}'}, "label": {4: ""}}))), "of a number without a name"
    assert "masks_empty" in codes(look(index_of({"structures": {4: '{"7": 9}'}, "label": {4: ""}}), ignored=[7]))


@pytest.mark.parametrize(("code", "field"), [("mask_islands", "islands"), ("mask_holes", "holes")])
def test_specks_and_holes(code: str, field: str) -> None:
    found = look(index_of({"mask_facts": {2: facts(**{field: {"lv": 4}}), 8: facts(**{field: {"lv": 1}})}}))
    finding = one(found, code)
    assert (finding.level, finding.rows) == ("warn", [2, 8])
    assert finding.figures["by_structure"] == {"lv": [2]}
    assert "masks_in_order" not in codes(found)


def test_structures_at_the_frame_are_odd_where_they_are_rare() -> None:
    cut = facts(border=["lv"])
    assert one(look(index_of({"mask_facts": {2: cut}})), "masks_at_border").level == "warn"
    assert one(look(index_of({"mask_facts": dict.fromkeys(range(9), cut)})), "masks_at_border").level == "pass"


def test_masks_that_say_another_place_the_furthest_first() -> None:
    finding = one(look(index_of({"mask_facts": {1: facts(moved_mm=2.0), 6: facts(moved_mm=31.5)}})), "masks_moved")
    assert (finding.rows, finding.figures["most"], finding.page_one) == ([6, 1], 31.5, True)


def test_voxels_that_are_no_numbers_the_most_first() -> None:
    finding = one(look(index_of({"mask_facts": {1: facts(without_value=0.1), 6: facts(without_value=0.4)}})), "voxels_without_value")
    assert (finding.level, finding.rows, finding.figures["most"]) == ("warn", [6, 1], 0.4)


def test_one_picture_with_two_masks() -> None:
    twice = [*FILMS[:11], FILMS[3]]
    finding = one(look(index_of({"structures": {11: '{"1": 51}'}}, films=twice)), "copies_with_two_masks")
    assert (finding.rows, finding.figures) == ([3, 11], {"sets": 1, "images": 2})
    assert "copies_with_two_masks" not in codes(look(index_of(films=twice)))


def test_resolutions_that_differ() -> None:
    index = index_of({"spacing_row_mm": {0: 0.7}, "spacing_slice_mm": {1: 3.0}})
    finding = one(look(index), "spacing_spread")
    assert (finding.level, finding.figures["axis"]) == ("pass", "spacing_row_mm")
    assert finding.figures["ratio"] == pytest.approx(1.367 / 0.7)
    assert one(look(index, input={"spacing_mm": "keep"}), "spacing_spread").level == "warn"
    slices = index_of({"spacing_slice_mm": {1: 3.0}})
    assert "spacing_spread" not in codes(look(slices))
    assert one(look(slices, input={"dimensions": 3}), "spacing_spread").figures["axis"] == "spacing_slice_mm"
    missing = index_of({"spacing_row_mm": {4: None}, "spacing_column_mm": {4: None}})
    assert one(look(missing), "spacing_partly_unknown").rows == [4]


def test_one_round_spacing_in_every_file_is_asked_about() -> None:
    round_: dict[str, Any] = {"spacing_row_mm": [1.5] * 12, "spacing_column_mm": [1.5] * 12, "spacing_slice_mm": [10.0] * 12}
    finding = one(look(index_of(**round_)), "spacing_round")
    assert (finding.level, finding.page_one, finding.figures["spacing"]) == ("warn", True, "1.5 × 1.5 × 10")
    assert "spacing_round" not in codes(look(index_of(**round_), spacing="nominal"))
    assert "spacing_round" not in codes(look(index_of({"spacing_slice_mm": {3: 8.0}}, **round_)))
    assert "spacing_round" not in codes(look(index_of()))


def test_a_patient_of_one_phase() -> None:
    lacking = index_of({"facts": {4: json.dumps({"phase": "ES"}), 9: None}})
    finding = one(look(lacking), "phases_incomplete")
    assert (finding.rows, finding.figures["patients"], finding.figures["all"]) == ([4, 5, 8, 9], 2, 6)
    unknown = one(look(index_of({"facts": {4: None, 5: None}})), "phases_incomplete")
    assert (unknown.rows, unknown.figures["phases"]) == ([4, 5], "ED · ES"), "one of whom no phase is known"
    same = one(look(index_of(facts=[json.dumps({"phase": "ED"})] * 12)), "phases_incomplete")
    assert (same.figures["patients"], same.figures["all"]) == (6, 6), "where all lack the same one"
    assert one(look(index_of(facts=[None] * 12), layout="acdc"), "phases_incomplete").figures["phases"] == "ED · ES"
    other = index_of(facts=[json.dumps({"phase": "arterial"})] * 12)
    assert not codes(look(other)) & {"phases_incomplete"}, "phases that are none of a heart beat"
    assert "phases_incomplete" not in codes(look(index_of(facts=[None] * 12)))


def test_one_slice_where_blocks_are_wanted() -> None:
    flat = index_of(slices=[1] * 12)
    assert one(look(flat, input={"dimensions": 3}), "single_slices").level == "fail"
    assert one(look(index_of({"slices": {2: 1}}), input={"dimensions": 3}), "single_slices").level == "warn"
    assert "single_slices" not in codes(look(flat))


# --- DICOM ---

STACK_FAULTS = {
    "slice_missing": {"after": 3, "gap_mm": 20.0, "spacing_mm": 10.0, "missing": 1},
    "slices_uneven": {"least_mm": 4.0, "most_mm": 13.0, "spacing_mm": 10.0},
    "slice_doubled": {"slice": 2, "copies": 2},
    "slices_tilted": {"degrees": 12.5},
    "slices_shifted": {"most_mm": 31.0},
    "phases_differ": {"slice": 2, "found": 19, "expected": 20},
    "orientations_mixed": {"stacks": 2},
    "sizes_mixed": {"stacks": 2},
    "spacings_mixed": {"stacks": 3},
}


def test_every_fault_of_a_series_has_words() -> None:
    named = set(re.findall(r'"((?:slices?|phases|orientations|sizes|spacings)_[a-z]+)"', inspect.getsource(series)))
    assert STACK_FAULTS.keys() == named


@pytest.mark.parametrize("code", STACK_FAULTS)
def test_slices_that_do_not_fit_together(code: str) -> None:
    said = json.dumps([{"code": code, "figures": STACK_FAULTS[code]}])
    finding = one(look(index_of({"stack_faults": {4: said, 9: said}}, stack_faults=[None] * 12)), code)
    assert (finding.rows, finding.figures["example"], finding.page_one) == ([4, 9], "images/4.png", False)
    assert finding.level == ("pass" if code == "slices_tilted" else "warn")
    counted = {name: value + 1 for name, value in STACK_FAULTS[code].items() if name in ("slice", "after")}
    assert counted.items() <= finding.figures.items()
    lost = look(index_of({"stack_faults": {4: said}, "refused": {4: "no volume"}}, stack_faults=[None] * 12, refused=[None] * 12))
    assert one(lost, code).page_one


def test_segments_that_only_a_number_names() -> None:
    same = [facts(by_number={"lv": "Segment_1"})] * 12
    assert one(look(index_of(mask_facts=same)), "segments_by_number").level == "pass"
    for other in (facts(by_number={"lv": "Tumour"}), facts()):
        finding = one(look(index_of({"mask_facts": {3: other}}, mask_facts=same)), "segments_by_number")
        assert (finding.level, finding.page_one) == ("fail", True)
    assert one(look(index_of(mask_facts=[*same[:11], facts(by_number={"lv": "Tumour"})])), "segments_by_number").figures["segments"] == (
        "lv: Segment_1, Tumour"
    )


def test_segments_that_the_study_does_not_name() -> None:
    finding = one(
        look(index_of({"mask_facts": {2: facts(left_out=["kidney", "spleen"]), 5: facts(left_out=["spleen"])}})), "segments_left_out"
    )
    assert (finding.level, finding.rows, finding.figures["by_name"]) == ("pass", [2, 5], {"spleen": [2], "kidney": [1]})
