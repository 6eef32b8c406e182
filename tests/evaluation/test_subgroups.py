from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from made_predictions import Made, made_study
from tabib.errors import StudyError
from tabib.evaluation import check_subgroups, evaluate
from tabib.metrics import auc
from tabib.records import Evaluation

MADE = Made(groups={"train": 20, "validation": 40, "test": 120})


def judged(columns: list[str], facts: dict[str, list[str | None]] | None = None, *, spoil: np.ndarray | None = None) -> Evaluation:
    """The made-up study with facts of each row, and with the answers of some rows turned round."""
    predictions, index, split = MADE.tables()
    for name, values in (facts or {}).items():
        if name in index.columns:
            index = index.with_columns(pl.Series(name, values, dtype=pl.String()))
        else:
            told = [None if value is None else json.dumps({name: value}) for value in values]
            index = index.with_columns(facts=pl.Series(told, dtype=pl.String()))
    if spoil is not None:
        turned = pl.Series(spoil)[predictions["row"]]
        swapped = {"p_NORMAL": "p_PNEUMONIA", "p_PNEUMONIA": "p_NORMAL"}
        predictions = predictions.with_columns(
            pl.when(turned).then(pl.col(other)).otherwise(pl.col(name)).alias(name) for name, other in swapped.items()
        )
        predictions = predictions.with_columns(
            predicted=pl.when(pl.col("p_PNEUMONIA") >= 0.5).then(pl.lit("PNEUMONIA")).otherwise(pl.lit("NORMAL"))
        )
    return evaluate(predictions, index, split, made_study({"evaluate": {"draws": 300, "subgroups": columns}}))


def of_groups(words: list[str | None]) -> list[str | None]:
    """A word for every row, the same for the rows of one group."""
    names = MADE.tables()[1]["group"].to_list()
    place = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [words[place[name] % len(words)] for name in names]


def test_a_hospital_in_which_the_model_fails_is_named() -> None:
    sites = of_groups(["A", "B", "C", None])
    evaluation = judged(["site"], {"site": sites}, spoil=np.array([site == "C" for site in sites]))
    assert [subgroup.name for subgroup in evaluation.subgroups] == ["site = A", "site = B", "site = C", "site = ?"]
    said = {str(remark.figures["subgroup"]) for remark in evaluation.remarks if remark.code == "subgroup_differs" and remark.page_one}
    assert said == {"site = C"}
    bad = next(subgroup for subgroup in evaluation.subgroups if subgroup.low == "C")
    test = MADE.tables()[0].filter(pl.col("part") == "test")
    mine = test.filter(pl.Series([sites[row] == "C" for row in test["row"]]))
    expected = 1 - auc((mine["label"] == "PNEUMONIA").to_numpy(), mine["p_PNEUMONIA"].to_numpy())
    assert bad.measures[0].value == pytest.approx(expected)
    assert bad.rows == len(mine)
    assert bad.groups == mine["group"].n_unique()
    assert sum(subgroup.rows for subgroup in evaluation.subgroups) == len(test)


def test_where_the_model_does_alike_nothing_is_said_to_differ() -> None:
    evaluation = judged(["site"], {"site": of_groups(["A", "B"])})
    assert "subgroups_alike" in {remark.code for remark in evaluation.remarks}


def test_numbers_of_a_table_are_cut_in_thirds_and_days_too() -> None:
    ages = of_groups([str(age) for age in range(20, 80)])
    subgroups = judged(["age"], {"age": ages}).subgroups
    assert subgroups[0].low == 20
    assert len(subgroups) == 3
    assert max(subgroup.rows for subgroup in subgroups) < 2 * min(subgroup.rows for subgroup in subgroups)
    days = judged(["date"], {"date": of_groups([f"2020-01-{day:02}" for day in range(1, 31)])}).subgroups
    assert days[0].low == "2020-01-01"
    assert len(days) == 3


def test_the_rarest_words_are_one_subgroup() -> None:
    subgroups = judged(["ward"], {"ward": of_groups([f"ward {number:02}" for number in range(20)])}).subgroups
    assert len(subgroups) == 12
    assert subgroups[-1].joined == 9


def test_a_small_subgroup_is_said_and_has_no_interval() -> None:
    evaluation = judged(["site"], {"site": of_groups(["rare" if number == 79 else "A" for number in range(60 * 3)])})
    rare = next(subgroup for subgroup in evaluation.subgroups if subgroup.low == "rare")
    assert rare.groups < 8
    assert all(measure.low is None for measure in rare.measures)
    assert "site = rare" in {str(remark.figures.get("subgroup")) for remark in evaluation.remarks if remark.code == "subgroup_small"}


def test_patients_on_both_sides_shorten_the_interval_of_the_difference() -> None:
    within = [("even", "odd")[row % 2] for row in range(len(MADE.tables()[1]))]
    between = of_groups(["even", "odd"])
    lengths = []
    for sites in (within, between):
        gap = judged(["site"], {"site": list(sites)}).subgroups[0].differences[0]
        assert gap.low is not None
        assert gap.high is not None
        lengths.append(gap.high - gap.low)
    assert lengths[0] < lengths[1]


def test_a_fact_that_is_not_there_is_refused_with_the_nearest() -> None:
    index = MADE.tables()[1].with_columns(facts=pl.lit('{"hospital": "A"}'))
    with pytest.raises(StudyError, match="Did you mean hospital"):
        check_subgroups(index, ["hosptal"])
    check_subgroups(index, ["hospital", "site", "format"])
