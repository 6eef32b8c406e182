from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabib.config import Study
from tabib.dataset.splits import LEFT_OUT, read_split_csv, split_dataset
from tabib.errors import DataError, LeakError, StudyError
from tabib.records import INDEX_SCHEMA, PARTS, SPLIT_SCHEMA, Findings
from tabib.runs import save
from tabib.study_file import parse_study

Row = tuple[str, str | None, str | None, str]  # label, group, given part, content


def index_of(rows: Sequence[Row], paths: Sequence[str] | None = None, refused: Sequence[int] = ()) -> pl.DataFrame:
    columns: dict[str, list] = {name: [None] * len(rows) for name in INDEX_SCHEMA}
    columns["row"] = list(range(len(rows)))
    columns["path"] = list(paths or (f"{given or 'all'}/{label}/{row:05}.png" for row, (label, _, given, _) in enumerate(rows)))
    columns["label"], columns["group"], columns["given"], _ = (list(values) for values in zip(*rows, strict=True))
    columns["content"] = columns["pixels"] = [hashlib.sha256(content.encode()).hexdigest() for *_, content in rows]
    columns["refused"] = ["broken" if row in refused else None for row in range(len(rows))]
    return pl.DataFrame(columns, schema=INDEX_SCHEMA)


def people(label: str, count: int, films: int = 1, given: str | None = None, name: str = "") -> list[Row]:
    return [
        (label, f"{name or label}{person}", given, f"{given}{name or label}{person}.{film}")
        for person in range(count)
        for film in range(films)
    ]


def singles(label: str, count: int, given: str | None = None) -> list[Row]:
    return [(label, None, given, f"{given}{label}{row}") for row in range(count)]


def divided(rows: Sequence[Row] | pl.DataFrame, near: Sequence[list[int]] = (), copies: str = "keep_one", **split: object) -> pl.DataFrame:
    index = rows if isinstance(rows, pl.DataFrame) else index_of(rows)
    study = Study.model_validate({"name": "x", "data": {"folder": ".", "copies": copies}, "split": split})
    table = split_dataset(index, Findings(findings=[], near_copies=list(near)), study)
    assert dict(table.schema) == SPLIT_SCHEMA
    assert table["row"].to_list() == list(range(len(index)))
    assert table["path"].to_list() == index["path"].to_list()
    assert (table["part"] == LEFT_OUT).to_list() == table["reason"].is_not_null().to_list()
    return table


def counts(table: pl.DataFrame) -> dict[tuple[str, str], int]:
    return {(part, label): count for part, label, count in table.group_by("part", "label").len().iter_rows()}


def assert_undivided(table: pl.DataFrame, keys: Sequence[Sequence[object]]) -> None:
    """No two used rows that share any key stand in two parts or folds."""
    used = table.filter(pl.col("part") != LEFT_OUT)
    for key in [*keys, table["group"].to_list(), table["content"].to_list()]:
        sides: dict[object, set[tuple[str, int | None]]] = defaultdict(set)
        for row, part, fold in used.select("row", "part", "fold").iter_rows():
            if key[row] is not None:
                sides[key[row]].add((part, fold))
        assert all(len(found) == 1 for found in sides.values())


@st.composite
def folders(draw: st.DrawFn) -> tuple[list[Row], list[list[int]], list[int]]:
    """Rows of two or three classes with patients, copies, near copies and refused files, in any order."""
    classes = draw(st.integers(2, 3))
    rows: list[Row] = []
    for number in range(classes):
        for unit in range(draw(st.integers(8, 20))):
            group = f"{number}-{unit}" if draw(st.booleans()) else None
            rows += [(f"class{number}", group, None, f"{number}-{unit}-{film}") for film in range(draw(st.integers(1, 5)))]
    rows += draw(st.lists(st.sampled_from(rows), max_size=5))  # exact copies
    rows = draw(st.permutations(rows))
    pairs = st.lists(st.integers(0, len(rows) - 1), min_size=2, max_size=2, unique=True)
    return rows, draw(st.lists(pairs, max_size=2)), draw(st.lists(st.integers(0, len(rows) - 1), max_size=2))


MODES = [
    {},
    {"train": 0.5, "validation": 0.2, "test": 0.3, "seed": 7},
    {"folds": 3},
    {"folds": 2, "train": 0.9, "validation": 0.0, "test": 0.1},
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("copies", ["keep_one", "tie"])
@settings(deadline=None, max_examples=12)
@given(made=folders())
def test_no_unit_is_divided_and_every_row_has_one_place(
    mode: dict[str, object], copies: str, made: tuple[list[Row], list[list[int]], list[int]]
) -> None:
    rows, near, refused = made
    table = divided(index_of(rows, refused=refused), near, copies, **mode)
    clusters: list[list[object]] = []
    for pair in near:
        clusters.append([1 if row in pair else None for row in range(len(rows))])
    assert_undivided(table, [[group for _, group, _, _ in rows], *clusters])
    assert set(table["part"]) <= {*PARTS, LEFT_OUT}
    assert all(table["reason"][row] == "refused: broken" for row in refused)
    folded = table.filter(pl.col("fold").is_not_null())
    assert set(folded["part"]) == ({"train"} if "folds" in mode else set())


@settings(deadline=None, max_examples=12)
@given(made=folders(), order=st.randoms(use_true_random=False))
def test_the_order_of_rows_and_the_names_of_files_do_not_matter(made: tuple[list[Row], list[list[int]], list[int]], order) -> None:
    rows, near, _ = made
    places = list(range(len(rows)))
    order.shuffle(places)
    back = {old: new for new, old in enumerate(places)}
    first = divided(rows, near, "tie")
    second = divided([rows[place] for place in places], [[back[row] for row in pair] for pair in near], "tie")
    assert [second["part"][back[row]] for row in range(len(rows))] == first["part"].to_list()


@settings(deadline=None, max_examples=20)
@given(sizes=st.lists(st.lists(st.integers(1, 12), min_size=6, max_size=30), min_size=2, max_size=3), seed=st.integers(0, 99))
def test_shares_are_kept_within_the_size_of_a_unit(sizes: list[list[int]], seed: int) -> None:
    rows = [
        (f"c{label}", f"{label}-{unit}", None, f"{label}-{unit}-{film}")
        for label, units in enumerate(sizes)
        for unit, size in enumerate(units)
        for film in range(size)
    ]
    found = counts(divided(rows, seed=seed))
    for label, units in enumerate(sizes):
        for part, share in zip(PARTS, (0.6, 0.2, 0.2), strict=True):
            # Two images of rounding, and what no move of one unit can mend.
            assert abs(found[part, f"c{label}"] - share * sum(units)) <= max(units) + 2


def test_single_images_are_divided_by_the_arithmetic_of_the_shares() -> None:
    found = counts(divided(singles("NORMAL", 1583) + singles("PNEUMONIA", 4273)))
    assert [(found[part, "NORMAL"], found[part, "PNEUMONIA"]) for part in PARTS] == [(949, 2563), (316, 854), (318, 856)]


def test_folds_are_even_in_every_class() -> None:
    table = divided(people("a", 103) + people("b", 52, films=3), folds=5)
    found = counts(table)
    assert abs(found["test", "a"] - 0.2 * 103) <= 1
    assert abs(found["test", "b"] - 0.2 * 156) <= 3
    for label, size in (("a", 1), ("b", 3)):
        folds = Counter(table.filter((pl.col("part") == "train") & (pl.col("label") == label))["fold"])
        assert set(folds) == set(range(5))
        assert max(folds.values()) - min(folds.values()) <= size


@pytest.mark.parametrize("more", [{}, {"folds": 3}], ids=["validation", "folds"])
def test_in_the_turns_of_a_cross_validation_each_image_judges_once(more: dict[str, Any]) -> None:
    rows = people("a", 40) + people("b", 20, films=3)
    tables = [divided(rows, turn=turn, train=0.7, validation=0.1, **more) for turn in range(5)]
    judged = Counter(row for table in tables for row in table.filter(pl.col("part") == "test")["row"])
    assert judged == dict.fromkeys(range(100), 1)
    for table in tables:
        assert_undivided(table, [[group for _, group, _, _ in rows]])
        found = counts(table)
        assert (found["test", "a"], found["test", "b"]) == (8, 12)
        if not more:
            assert abs(found["validation", "a"] - 4) <= 1
    assert tables[0]["part"].to_list() != divided(rows, train=0.7, validation=0.1, seed=3, turn=0)["part"].to_list()


@pytest.mark.parametrize("more", [{}, {"folds": 3, "train": 0.8, "validation": 0.0}], ids=["validation", "folds"])
def test_a_smaller_share_of_the_training_patients_is_part_of_a_larger_one(more: dict[str, Any]) -> None:
    rows = people("a", 60) + people("b", 40, films=3)
    tables = {share: divided(rows, learn_from=share, **more) for share in (0.1, 0.25, 0.5, 1.0)}
    trained = {share: set(table.filter(pl.col("part") == "train")["row"]) for share, table in tables.items()}
    assert trained[0.1] < trained[0.25] < trained[0.5] < trained[1.0]
    for share, table in tables.items():
        assert table.filter(pl.col("part").is_in(["validation", "test"])).equals(
            tables[1.0].filter(pl.col("part").is_in(["validation", "test"]))
        )
        groups = table.filter(pl.col("part") == "train").group_by("label").agg(pl.col("group").n_unique())
        whole = tables[1.0].filter(pl.col("part") == "train").group_by("label").agg(pl.col("group").n_unique())
        for label, count in groups.iter_rows():
            assert abs(count - share * dict(whole.iter_rows())[label]) <= (2 if more else 1)
        kept = table.filter(pl.col("part") == "train")["group"].unique().to_list()
        gone = table.filter(pl.col("reason") == "left out by split.learn_from")["group"].unique().to_list()
        assert not set(kept) & set(gone)


def test_folds_are_drawn_apart_from_the_test_set() -> None:
    rows = singles("a", 200) + singles("b", 200)
    folds = [divided(rows, folds=3, train=1 - test, validation=0.0, test=test)["fold"].to_list() for test in (0.1, 0.2)]
    same = sum(one == other for one, other in zip(*folds, strict=True) if one is not None and other is not None)
    assert same > 200  # a larger test set takes some images from each fold, and the others stay where they are


def test_another_seed_is_another_draw_and_a_new_patient_moves_few() -> None:
    rows = [
        (label, f"{label}{person}", None, f"{label}{person}.{film}")
        for label in "ab"
        for person in range(300)
        for film in range(1 + person % 3)
    ]
    first = divided(rows, seed=1)["part"].to_list()
    assert sum(one != other for one, other in zip(first, divided(rows, seed=2)["part"], strict=True)) > 300
    wider = divided([*rows, *people("a", 1, films=2, name="new")], seed=1)["part"].to_list()
    assert sum(one != other for one, other in zip(first, wider, strict=False)) <= 30


@pytest.mark.parametrize("patients", [4, 5, 12])
def test_patients_with_films_of_every_class_reach_every_part(patients: int) -> None:
    rows = [(label, f"p{person}", None, f"{person}{label}{film}") for person in range(patients) for label in "abc" for film in range(3)]
    assert all(found >= 3 for found in counts(divided(rows)).values())


def test_patients_are_one_across_classes_and_group_is_the_patient() -> None:
    rows = people("a", 10, films=2, name="p") + people("b", 10, films=2, name="q") + [("b", "p0", None, "extra")]
    table = divided(rows)
    assert table["group"].to_list() == [group for _, group, _, _ in rows]
    assert_undivided(table, [])


def test_unknown_patients_have_a_unit_of_their_own_or_of_their_cluster() -> None:
    table = divided(singles("a", 12) + singles("b", 12), [[0, 1, 2]])
    groups = table["group"].to_list()
    assert len(set(groups[:3])) == 1
    assert groups[0].startswith("image-")
    assert len(set(groups)) == 22
    assert None not in groups


# Copies


def test_one_of_each_set_of_copies_is_kept() -> None:
    rows = [*singles("a", 10), *singles("b", 10), ("a", None, None, "Nonea3"), ("a", None, None, "Nonea3")]
    table = divided(rows)
    assert table.filter(pl.col("part") == LEFT_OUT)["reason"].to_list() == ["copy of row 3"] * 2
    tied = divided(rows, copies="tie")
    assert tied["part"].null_count() == 0
    assert len({tied["part"][row] for row in (3, 20, 21)}) == 1


def test_one_picture_in_two_files_is_a_copy() -> None:
    index = index_of(singles("a", 10) + singles("b", 10))
    pixels = index["pixels"].to_list()
    pixels[7] = pixels[2]
    table = divided(index.with_columns(pl.Series("pixels", pixels)))
    assert table["reason"][7] == "copy of row 2"


@pytest.mark.parametrize("copies", ["keep_one", "tie"])
def test_copies_with_two_labels_are_left_out_altogether(copies: str) -> None:
    table = divided([*singles("a", 10), *singles("b", 10), ("b", None, None, "Nonea3")], copies=copies)
    assert table.filter(pl.col("part") == LEFT_OUT)["row"].to_list() == [3, 20]
    assert table["reason"][3] == "copies with two labels: rows 3, 20"


# Given parts


def given_rows() -> list[Row]:
    """Patient a0 and one film by copy stand in train and test, b1 in validation and test, a2 in train and validation."""
    rows = people("a", 10, given="train", name="ta") + people("b", 10, given="train", name="tb")
    rows += people("a", 4, given="validation", name="va") + people("b", 4, given="validation", name="vb")
    rows += people("a", 5, given="test", name="ea") + people("b", 5, given="test", name="eb")
    changes: dict[int, Row] = {
        0: ("a", "ea0", "train", "one"),
        10: ("b", "tb0", "train", "testeb1.0"),
        24: ("b", "eb2", "validation", "two"),
        3: ("a", "va1", "train", "three"),
    }
    return [changes.get(row, value) for row, value in enumerate(rows)]


def test_given_leaks_are_refused_with_numbers_examples_and_choices() -> None:
    with pytest.raises(LeakError) as error:
        divided(given_rows(), given=True)
    said = str(error.value)
    assert "2 of 20 train images share a patient or a copy with test" in said
    assert "1 of 20 train images share a patient or a copy with validation" in said
    assert "1 of 8 validation images share a patient or a copy with test" in said
    assert "'train/a/00000.png' and 'test/a/00028.png'" in said
    assert all(choice in said for choice in ("leaks: drop", "leaks: keep", "group_scope: split"))


def test_given_leaks_are_dropped_and_the_test_rows_stay() -> None:
    rows = given_rows()
    table = divided(rows, given=True, leaks="drop")
    assert_undivided(table, [[group for _, group, _, _ in rows]])
    assert table.filter(pl.col("part") == LEFT_OUT)["row"].to_list() == [0, 3, 10, 24]
    assert table["reason"][0] == "leak: shares a patient or a copy with row 28 of test"
    assert table["reason"][3] == "leak: shares a patient or a copy with row 21 of validation"
    for row, (_, _, part, _) in enumerate(rows):
        assert table["part"][row] in (part, LEFT_OUT)
    assert table.filter(pl.col("part") == "test").height == 10


def test_given_leaks_are_kept_when_asked() -> None:
    table = divided(given_rows(), given=True, leaks="keep")
    # The copy of a test film is still a copy.
    assert table.filter(pl.col("part") == LEFT_OUT)["reason"].to_list() == ["copy of row 34"]
    assert divided(given_rows(), given=True, leaks="keep", copies="tie")["reason"].null_count() == 38


def test_numbering_that_restarts_in_each_part_is_no_leak() -> None:
    rows = people("a", 9, given="train", name="p") + people("b", 9, given="train", name="q")
    rows += people("a", 4, given="test", name="p") + people("b", 4, given="test", name="q")
    with pytest.raises(LeakError):
        divided(rows, given=True)
    table = divided(rows, given=True, group_scope="split")
    assert table["reason"].null_count() == len(rows)
    assert table["group"][0] == "train/p0"
    merged = divided(rows, group_scope="split")
    assert len(set(merged["group"])) == len(rows)


def test_validation_is_cut_from_the_given_training_images_only() -> None:
    rows = people("a", 40, films=2, given="train", name="ta") + people("b", 20, given="train", name="tb")
    rows += people("a", 5, given="test", name="ea") + people("b", 5, given="test", name="eb")
    table = divided(rows, given=True, validation=0.25)
    found = counts(table)
    assert (found["validation", "a"], found["validation", "b"]) == (20, 5)
    assert (found["test", "a"], found["test", "b"]) == (5, 5)
    assert_undivided(table, [])


def test_folds_beside_a_given_test_set_take_everything_else() -> None:
    rows = [row for place, row in enumerate(given_rows()) if place not in (0, 10, 24)]
    table = divided(rows, given=True, folds=3)
    assert counts(table.filter(pl.col("part") == "test")) == {("test", "a"): 5, ("test", "b"): 5}
    assert "validation" not in set(table["part"])
    assert set(table.filter(pl.col("part") == "train")["fold"]) == {0, 1, 2}
    assert_undivided(table, [])


def folded(folds: int = 4, test: bool = False) -> list[Row]:
    """Ten patients of each of two classes, dealt out to folds; the last of them to test."""
    rows = people("A", 10, films=2) + people("B", 10)
    parts = [f"fold {number % folds}" for number in range(10)]
    if test:
        parts[-1] = "test"
    return [(label, group, parts[int((group or "")[1:])], content) for label, group, _, content in rows]


def test_given_folds_are_kept_and_one_judges() -> None:
    table = divided(folded(), given=True, test_fold=2)
    assert_undivided(table, [])
    for row, (_, _, part, _) in zip(table.iter_rows(named=True), folded(), strict=True):
        assert (row["part"], row["fold"]) == (("test", None) if part == "fold 2" else ("train", int((part or "")[5:])))
    apart = divided(folded(test=True), given=True)
    assert set(apart["fold"].drop_nulls()) == {0, 1, 2, 3}
    assert set(apart.filter(pl.col("part") == "test")["group"]) == {"A9", "B9"}


def test_patients_in_two_given_folds_are_a_leak() -> None:
    rows = [(label, "A0" if group == "A1" else group, part, content) for label, group, part, content in folded()]
    with pytest.raises(LeakError, match="share a patient or a copy with train"):
        divided(rows, given=True, test_fold=2)
    table = divided(rows, given=True, test_fold=2, leaks="drop")
    assert_undivided(table, [[group for _, group, _, _ in rows]])


@pytest.mark.parametrize(
    ("classes", "positive", "words"),
    [("ab", "c", "the classes are 'a', 'b'"), ("abc", "d", "the classes are 'a', 'b', 'c'"), ("abc", "a", "there are 3 classes")],
)
def test_a_positive_class_that_is_none_is_refused_as_soon_as_classes_are_known(classes: str, positive: str, words: str) -> None:
    study = Study.model_validate({"name": "x", "data": {"folder": "."}, "positive": positive})
    with pytest.raises(StudyError, match=words):
        split_dataset(index_of([row for label in classes for row in people(label, 9)]), Findings(findings=[]), study)


def test_a_given_split_without_a_test_set_says_what_gives_it() -> None:
    said = {
        "data: {folder: films}": "films gives no image to test. Expected folders named after train",
        "data: {folder: films, layout: table, table: t.csv}": "t.csv gives no image to test. Name the column .*columns: {part: split}",
        "data: {folder: films, layout: table, table: t.csv, columns: {part: fold}}": "column 'fold' of .*t.csv gives no image to test.*data.columns.part",
        "data: {folder: films, layout: pattern, pattern: '(?P<label>a)'}": "data.pattern gives no image to test. .*its group `part` matches",
    }
    for data, words in said.items():
        study = parse_study(f"name: x\n{data}\nsplit: {{given: true}}\n")
        with pytest.raises(DataError, match=words):
            split_dataset(index_of(people("a", 9, given="train") + people("b", 9, given="train")), Findings(findings=[]), study)


def test_given_folds_that_leave_a_question_are_refused() -> None:
    with pytest.raises(DataError, match=r"gives folds and no test set.*test_fold: 3"):
        divided(folded(), given=True)
    with pytest.raises(StudyError, match="test_fold is 7, and the folds that are given are 0, 1, 2, 3"):
        divided(folded(), given=True, test_fold=7)
    with pytest.raises(StudyError, match="folds is 5, and the folds 0, 1, 3 are given"):
        divided(folded(), given=True, test_fold=2, folds=5)
    rows = folded()
    rows[0] = (*rows[0][:2], "train", rows[0][3])
    with pytest.raises(DataError, match="1 are in train or validation without one"):
        divided(rows, given=True, test_fold=2)
    with pytest.raises(ValueError, match="test_fold is 2, and folds are not given"):
        divided(folded(), test_fold=2)


def test_a_given_test_set_keeps_its_own_copies() -> None:
    rows = singles("a", 8, "train") + singles("b", 8, "train") + singles("a", 3, "test") + singles("b", 3, "test")
    rows += [("a", None, "test", "testa0"), ("b", None, "test", "testa1"), ("b", None, "train", "testa2")]
    table = divided(rows, given=True, leaks="keep")
    assert table["part"][22] == "test"  # twice in test, one label
    assert table["reason"][23] == table["reason"][17] == "copies with two labels: rows 17, 23"
    assert table["part"][18] == "test"  # contradicted by a training image only
    assert table["reason"][24] == "copy of row 18"


def test_folders_without_given_parts_cannot_be_given() -> None:
    with pytest.raises(DataError, match="gives no image to train"):
        divided(singles("a", 9) + singles("b", 9), given=True)
    with pytest.raises(DataError, match="gives no image to test"):
        divided(singles("a", 9, "train") + singles("b", 9, "train"), given=True)


# What cannot be divided


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (singles("a", 1) + singles("b", 1), "Class 'a' has 1 image, and needs at least 3 to reach train, validation and test"),
        (people("a", 1, films=9) + people("b", 9), "Class 'a' has 9 images of 1 patient or set of copies, which are never divided"),
        ([(label, "p", None, f"{label}{film}") for label in "ab" for film in range(9)], "All images together belong to one patient"),
        (people("a", 2, films=9) + people("b", 9), "Class 'a' has 18 images of 2 patients"),
    ],
)
def test_a_class_that_cannot_reach_every_part_is_named(rows: list[Row], said: str) -> None:
    with pytest.raises(DataError) as error:
        divided(rows)
    assert said in str(error.value)


def test_classes_that_only_come_together_cannot_reach_every_part() -> None:
    rows = [("a", f"p{person}", None, f"a{person}") for person in (0, 1, 2)]
    rows += [("b", f"p{person}", None, f"b{person}") for person in (0, 1, 3)]
    rows += [("c", "p2", None, "c0"), ("c", "p2", None, "c1"), ("c", "p3", None, "c2")]
    with pytest.raises(DataError, match="Class 'c' has 3 images of 2 patients"):
        divided(rows)


def test_a_class_of_refused_images_is_named() -> None:
    rows = singles("a", 9) + singles("b", 9) + singles("c", 1)
    with pytest.raises(
        DataError, match=r"No image of class 'c' is left to train on. 1 of its images are left out, the first because: refused: broken"
    ):
        divided(index_of(rows, refused=[18]))


def test_copies_that_contradict_each_other_everywhere_leave_nothing() -> None:
    with pytest.raises(DataError, match="copies with two labels"):
        divided([(label, None, None, str(film)) for label in "ab" for film in range(9)])


def test_a_test_set_of_one_class_judges_nothing() -> None:
    with pytest.raises(DataError, match="The part test holds images of 'a' only"):
        divided(singles("a", 9, "train") + singles("b", 9, "train") + singles("a", 3, "test"), given=True)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_given_parts_without_images_to_train_or_choose_on_are_refused(share: float) -> None:
    with pytest.raises(StudyError, match="is 0"):
        divided([row for label in "ab" for part in ("train", "test") for row in singles(label, 9, part)], given=True, validation=share)


# Files


@pytest.mark.parametrize("mode", [{}, {"folds": 3}])
def test_a_written_split_is_read_back_and_used_again(tmp_path: Path, mode: dict[str, object]) -> None:
    rows = [*people("a", 10, films=2), *people("b", 10), ("b", "b3", None, "Noneb3.0"), *singles("a", 3)]
    names = [
        "a,b.png",
        'say "x".png',
        "line\nbreak.png",
        "carriage\rreturn.png",
        "both\r\n.png",
        " space .png",
        "-rf.png",
        "تصویر ۱.png",
        "=1+1.png",
        "",
        "'",
    ]
    paths = [f"x/{row}{names[row % len(names)]}" for row in range(len(rows))]
    index = index_of(rows, paths, refused=[5])
    table = divided(index, [[1, 30]], **mode)
    save(tmp_path / "split.csv", table)
    assert read_split_csv(tmp_path / "split.csv").equals(table)
    again = divided(index, [[1, 30]], file=tmp_path / "split.csv", **mode)
    assert again.select("part", "fold").equals(table.select("part", "fold"))
    save(tmp_path / "again.csv", again)
    assert (tmp_path / "again.csv").read_text("utf-8").count("\n") == (tmp_path / "split.csv").read_text("utf-8").count("\n")


def written(folder: Path, *lines: str) -> Path:
    (folder / "split.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder / "split.csv"


def by_file(folder: Path, change: dict[int, str | None]) -> Path:
    """A split file of another tool for `singles('a', 8) + singles('b', 8)`."""
    places = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    lines = [f"all/{label}/{row + 8 * (label == 'b'):05}.png,{places[row]}" for label in "ab" for row in range(8)]
    return written(
        folder, "\ufeffpath,part", *(changed for row, line in enumerate(lines) if (changed := change.get(row, line)) is not None)
    )


def test_the_split_of_another_tool_is_used(tmp_path: Path) -> None:
    table = divided(singles("a", 8) + singles("b", 8), file=by_file(tmp_path, {}))
    assert counts(table) == {
        ("train", "a"): 4,
        ("train", "b"): 4,
        ("validation", "a"): 2,
        ("validation", "b"): 2,
        ("test", "a"): 2,
        ("test", "b"): 2,
    }


def test_leaks_of_a_file_are_leaks(tmp_path: Path) -> None:
    rows = singles("a", 8) + singles("b", 8)
    with pytest.raises(LeakError, match="1 of 8 train images"):
        divided(rows, [[0, 6]], file=by_file(tmp_path, {}))
    assert divided(rows, [[0, 6]], file=by_file(tmp_path, {}), leaks="drop")["part"][0] == LEFT_OUT


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({0: "all/a/wrong.png,train"}, "names 1 files that the data folder does not hold, as 'all/a/wrong.png'"),
        ({0: None, 1: None}, "does not name 2 images of the data folder, as 'all/a/00000.png', 'all/a/00001.png'"),
        ({1: "all/a/00001.png,training"}, "entry 2 ('all/a/00001.png'): the part is 'training'"),
        ({1: "all/a/00000.png,train"}, "the same path stands in entry 1"),
        ({0: "all/a/00000.png"}, "the part is None"),
    ],
)
def test_a_split_file_that_does_not_fit_says_where(tmp_path: Path, change: dict[int, str | None], said: str) -> None:
    with pytest.raises(DataError) as error:
        divided(singles("a", 8) + singles("b", 8), file=by_file(tmp_path, change))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["file,part", "a,train"], "has the columns file, part"),
        ([], "has the columns none"),
        (["path,part,fold", "a,train,x"], "fold is 'x'"),
        (["path,part", '"a,train'], "not a CSV file"),
    ],
)
def test_a_split_file_that_is_none_says_so(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(DataError) as error:
        read_split_csv(written(tmp_path, *lines))
    assert said in str(error.value)


def test_a_missing_split_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read: No such file"):
        read_split_csv(tmp_path / "none.csv")


def test_a_study_of_many_images_is_divided(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [(f"c{random.integers(3)}", f"p{random.integers(4000)}", None, str(row)) for row in range(12000)]
    found = counts(divided(rows))
    total = Counter(label for label, *_ in rows)
    for (part, label), count in found.items():
        assert count / total[label] == pytest.approx({"train": 0.6, "validation": 0.2, "test": 0.2}[part], abs=0.002)


def chest_rows() -> list[Row]:
    """As many images as the public chest archive holds, several to a patient."""
    sick = [("PNEUMONIA", f"p{row // 3}", None, f"sick{row}") for row in range(4273)]
    return [*sick, *(("NORMAL", f"n{row // 2}", None, f"well{row}") for row in range(1583))]


def test_images_drawn_one_by_one_have_the_counts_of_the_arithmetic() -> None:
    table = divided(chest_rows(), by="image")
    wanted = {"train": (949, 2563), "validation": (316, 854), "test": (318, 856)}
    assert counts(table) == {
        (part, label): count for part, both in wanted.items() for label, count in zip(("NORMAL", "PNEUMONIA"), both, strict=True)
    }
    crossing = table.group_by("group").agg((pl.col("part").n_unique() > 1).alias("crosses"))
    assert crossing["crosses"].sum() > len(crossing) / 2  # the patients stand in the table, and stand on two sides
    assert counts(divided(chest_rows(), by="image", rounding="nearest")) == {
        ("train", "NORMAL"): 950,
        ("validation", "NORMAL"): 317,
        ("test", "NORMAL"): 316,
        ("train", "PNEUMONIA"): 2564,
        ("validation", "PNEUMONIA"): 855,
        ("test", "PNEUMONIA"): 854,
    }


@settings(deadline=None, max_examples=40)
@given(
    images=st.lists(st.integers(5, 400), min_size=2, max_size=3),
    shares=st.sampled_from([(60, 20, 20), (70, 15, 15), (33, 33, 34), (80, 7, 13)]),
)
def test_nearest_is_off_by_less_than_an_image_and_floor_gives_the_rest_to_the_last(images: list[int], shares: tuple[int, int, int]) -> None:
    rows = [row for number, count in enumerate(images) for row in singles(f"class{number}", count)]
    given_shares = dict(zip(PARTS, (share / 100 for share in shares), strict=True))
    for rounding in ("nearest", "floor"):
        found = counts(divided(rows, rounding=rounding, **given_shares))
        for number, count in enumerate(images):
            held = [found[part, f"class{number}"] for part in PARTS]
            exact = [count * share / 100 for share in shares]
            if min(exact) < 1:
                continue  # a class of few images reaches every part all the same
            if rounding == "nearest":
                assert all(abs(own - wanted) < 1 for own, wanted in zip(held, exact, strict=True))
            else:
                assert held[:2] == [count * share // 100 for share in shares[:2]]


def test_images_drawn_one_by_one_still_hold_copies_that_are_tied() -> None:
    rows = [*people("a", 20, 3), *people("b", 20, 3)]
    twice = [*rows, *rows]
    tied, kept = (divided(twice, copies=copies, by="image") for copies in ("tie", "keep"))
    assert tied.group_by("content").agg(pl.col("part").n_unique())["part"].to_list() == [1] * 120
    assert 2 in kept.group_by("content").agg(pl.col("part").n_unique())["part"]
    assert kept["reason"].null_count() == tied["reason"].null_count() == 240
    near = [[0, 3], [9, 30]]
    assert_undivided(divided(rows, near), [[1 if row in pair else None for row in range(120)] for pair in near])


def test_copies_that_are_kept_hold_neither_one_another_nor_their_labels() -> None:
    rows = [*singles("a", 40), *singles("b", 40), *singles("a", 40), ("b", None, None, "Nonea3")]
    table = divided(rows, copies="keep")
    assert table["reason"].null_count() == 121
    assert 2 in table.group_by("content").agg(pl.col("part").n_unique())["part"]
    patients = [(label, f"{label}{row}", None, content) for row, (label, _, _, content) in enumerate(rows[:80])]
    again = [*patients, *((label, group, None, content) for label, group, _, content in patients)]
    assert_undivided(divided(again, copies="keep"), [[group for _, group, _, _ in again]])


def test_given_parts_that_share_a_copy_leak_also_where_copies_are_kept() -> None:
    with pytest.raises(LeakError):
        divided([*given_rows(), ("a", None, "train", "same"), ("a", None, "test", "same")], given=True, copies="keep", by="image")


def test_a_written_split_is_not_drawn_by_image() -> None:
    with pytest.raises(ValueError, match="by: image and file:"):
        divided(chest_rows(), by="image", file="split.csv")
