from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import balanced_accuracy_score

from made_index import make_index
from tabib.dataset.confounders import ACQUISITION, INTENSITY, MARKS, NAMES, NUMBERING, Telltale, try_facts

BLANK = np.zeros((32, 32), np.uint8)


def index_of(labels: Sequence[str], **columns: Sequence[Any]) -> pl.DataFrame:
    paths = columns.pop("path", None)
    return make_index([BLANK] * len(labels), labels=labels, paths=paths, columns=columns)


def each(index: pl.DataFrame) -> list[str]:
    return [str(row) for row in index["row"]]


def telling(found: Sequence[Telltale]) -> list[str]:
    return [result.fact for result in found if result.tells]


def test_a_fact_that_goes_with_the_class_is_found_with_what_is_typical() -> None:
    random = np.random.default_rng(0)
    labels = ["ILL", "WELL"] * 60
    machine = [("Acme" if label == "ILL" else "Other") if random.random() < 0.8 else "Third" for label in labels]
    index = index_of(labels, scanner=machine, border=random.random(120))
    (scanner, border) = try_facts(index, each(index), ACQUISITION)
    assert (scanner.fact, scanner.tells) == ("scanner", True)
    assert (border.fact, border.tells) == ("border", False)
    words = dict(cast("list[tuple[str, float]]", scanner.values["ILL"]))
    assert list(words) == ["Acme", "Third"]
    assert sum(words.values()) == pytest.approx(1)
    low, middle, high = cast("list[float]", border.values["ILL"])
    assert 0 <= low < middle < high <= 1
    assert {index["label"][row] for row in scanner.rows} == {"ILL", "WELL"}
    assert {machine[row] for row in scanner.rows if labels[row] == "ILL"} == {"Acme"}


def test_balanced_accuracy_is_that_of_leaving_each_patient_out() -> None:
    random = np.random.default_rng(1)
    labels = random.choice(["A", "B", "C"], 200, p=[0.5, 0.3, 0.2]).tolist()
    words = [random.choice(["x", "y", "z"], p=[0.6, 0.2, 0.2] if label == "A" else [0.2, 0.4, 0.4]) for label in labels]
    index = index_of(labels, site=words)
    (found,) = try_facts(index, each(index), ["site"])
    said = []
    for row in range(200):
        others = [other for other in range(200) if other != row]
        counts = {name: [words[other] for other in others if labels[other] == name] for name in "ABC"}
        shares = {name: of_class.count(words[row]) / len(of_class) for name, of_class in counts.items()}
        # The shares of the classes that the left-out row is not in are counted over all their rows, as here.
        said.append(max(shares, key=lambda name: shares[name]))
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, said), abs=1e-9)


@pytest.mark.slow
def test_p_is_that_of_a_plain_permutation_test() -> None:
    random = np.random.default_rng(2)
    labels = ["A", "B"] * 25
    words = [random.choice(["x", "y"], p=[0.6, 0.4] if label == "A" else [0.4, 0.6]) for label in labels]
    index = index_of(labels, site=words)
    (found,) = try_facts(index, each(index), ["site"])
    reached = []
    for _ in range(1000):
        shuffled = index.with_columns(label=pl.Series(random.permutation(labels).tolist()))
        reached.append(try_facts(shuffled, each(index), ["site"])[0].balanced_accuracy)
    plain = np.mean(np.array(reached) >= found.balanced_accuracy - 1e-12)
    assert found.p == pytest.approx(plain, abs=0.05)


def test_many_films_of_few_patients_prove_nothing() -> None:
    random = np.random.default_rng(3)
    alarms = 0
    for _ in range(40):
        sites = random.choice(["north", "south"], 24).tolist()
        patients = [f"p{number // 20}" for number in range(480)]
        labels = ["A" if number // 20 < 12 else "B" for number in range(480)]
        index = index_of(labels, site=[sites[number // 20] for number in range(480)])
        alarms += bool(telling(try_facts(index, patients, ACQUISITION)))
    assert alarms <= 1


@pytest.mark.slow
def test_false_alarms_over_many_facts_are_rare() -> None:
    random = np.random.default_rng(4)
    alarms = 0
    for _ in range(200):
        labels = random.permutation(["A", "B"] * 30).tolist()
        index = index_of(
            labels,
            site=random.choice(["n", "s", "w"], 60).tolist(),
            scanner=random.choice(["a", "b"], 60).tolist(),
            mode=random.choice(["L", "RGB"], 60).tolist(),
            compression=random.choice(["q1", "q2", "q3", "q4"], 60).tolist(),
            border=random.random(60),
            height=random.integers(90, 110, 60).tolist(),
            width=random.integers(90, 110, 60).tolist(),
        )
        alarms += bool(telling(try_facts(index, each(index), ACQUISITION)))
    assert alarms <= 4  # a hundredth of 200, and what chance adds in 99 of 100 runs


@pytest.mark.parametrize("strength", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_the_stronger_a_confounder_the_surer_it_is_found(strength: float) -> None:
    random = np.random.default_rng(5)
    found = 0
    for _ in range(20):
        labels = ["A", "B"] * 50
        second = [random.random() < (1 + (strength if label == "A" else -strength)) / 2 for label in labels]
        index = index_of(labels, width=[40 if other else 32 for other in second])
        found += bool(telling(try_facts(index, each(index), ACQUISITION)))
    least, most = {0.0: (0, 1), 0.2: (0, 20), 0.5: (16, 20), 0.8: (20, 20), 1.0: (20, 20)}[strength]
    assert least <= found <= most


def test_missing_values_can_tell_the_class() -> None:
    labels = ["A", "B"] * 30
    index = index_of(labels, spacing_row_mm=[0.14 if label == "A" else None for label in labels])
    assert telling(try_facts(index, each(index), ACQUISITION)) == ["spacing"]


def test_brightness_is_another_family() -> None:
    labels = ["A", "B"] * 30
    index = index_of(labels, mean=[0.3 if label == "A" else 0.5 for label in labels])
    assert try_facts(index, each(index), ACQUISITION) == []
    assert telling(try_facts(index, each(index), INTENSITY)) == ["mean"]


def test_a_class_of_another_time_is_found_however_many_days() -> None:
    days = pl.date_range(pl.date(2012, 1, 1), pl.date(2019, 12, 31), "17d", eager=True).dt.to_string().to_list()
    half = len(days) // 2
    labels = ["OLD"] * half + ["NEW"] * (len(days) - half)
    index = index_of(labels, date=days)
    (found,) = try_facts(index, each(index), ACQUISITION)
    assert (found.fact, found.tells) == ("period", True)
    assert found.balanced_accuracy > 0.9
    periods = [word for word, _ in cast("list[tuple[str, float]]", found.values["OLD"])]
    assert "2012-01/2012-11" in periods
    mixed = index_of(["OLD", "NEW"] * half, date=days[: 2 * half])
    assert telling(try_facts(mixed, each(mixed), ACQUISITION)) == []


def test_marks_are_tried_by_place() -> None:
    labels = ["ILL", "WELL"] * 40
    index = index_of(labels, marks=["top_left right" if label == "ILL" else "right" for label in labels])
    (found,) = try_facts(index, each(index), MARKS)
    assert (found.fact, found.tells, found.balanced_accuracy) == ("mark_top_left", True, 1.0)
    assert found.values == {"ILL": [("mark", 1.0)], "WELL": [("no_mark", 1.0)]}


def test_names_that_spell_the_label() -> None:
    labels = ["cats", "dogs"] * 30
    index = index_of(labels, path=[f"{label}/{label[:3]}.{number}.jpg" for number, label in enumerate(labels)])
    assert telling(try_facts(index, each(index), NAMES)) == ["name_pattern"]
    # The class folder is no part of the name.
    index = index_of(labels, path=[f"{label}/{number}.jpg" for number, label in enumerate(labels)])
    assert try_facts(index, each(index), NAMES) == []


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ([*range(100), *range(100, 200)], True),  # one series, one class after the other
        ([*range(0, 200, 2), *range(1, 200, 2)], False),  # one series, in turn
        ([*range(100), *range(100)], False),  # each class numbered from 0
        ([*range(30), *range(170)], False),  # and one much longer
    ],
)
def test_numbering(numbers: list[int], told: bool) -> None:
    first = 30 if numbers.count(29) == 2 and len(set(numbers)) == 170 else 100
    labels = ["A"] * first + ["B"] * (len(numbers) - first)
    index = index_of(labels, path=[f"{label}/film_{number}.png" for label, number in zip(labels, numbers, strict=True)])
    assert bool(telling(try_facts(index, each(index), NUMBERING))) is told


@pytest.mark.parametrize("labels", [["A"] * 30, ["A"] * 30 + ["B"] * 9, []])
def test_too_little_to_test(labels: list[str]) -> None:
    index = index_of(labels, mode=["L" if label == "A" else "RGB" for label in labels])
    assert try_facts(index, each(index), ACQUISITION) == []
