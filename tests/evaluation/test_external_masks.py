"""Masks of another source are judged by what these outline, and the heart by their millimetres."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from evaluation.test_masks import judged
from made_masks import Masked, make_hearts
from tabib.config import SegmentationData
from tabib.evaluation import evaluate_external_masks
from tabib.records import External, Measure, SegmentationEvaluation


def smaller(labels: np.ndarray, _patient: str, _phase: str) -> np.ndarray:
    """Without half the slices of the left cavity."""
    labels[3:][labels[3:] == 3] = 0
    return labels


def moved(labels: np.ndarray, patient: str, _phase: str) -> np.ndarray:
    """By a pixel, of every second patient."""
    return np.roll(labels, int(patient[-3:]) % 2, axis=1)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Masked, SegmentationEvaluation]:
    changes: dict[str, object] = {"input": {"channels": 1, "spacing_mm": "keep", "patch": [48, 48]}}
    made = make_hearts(tmp_path_factory.mktemp("own"), moved, changes=changes)
    nominal = made.study.model_copy(update={"data": made.study.data.model_copy(update={"spacing": "nominal"})})
    return Masked(made.run, nominal, made.index, made.split, made.predictions, made.truth), judged(made, nominal)


def external(own: tuple[Masked, SegmentationEvaluation], there: Masked) -> External:
    made, evaluation = own
    data = SegmentationData.model_validate({**there.study.data.model_dump(), "labels": {"lv": 3}, "ignored": [1, 2]})
    predictions = there.predictions.with_columns(part=pl.lit("test"))
    told = {"name": "other", "data": data, "copies": [], "folder": there.run, "test_looks": 1}
    return evaluate_external_masks(predictions, there.index, evaluation, made.index, made.split, made.study, **told)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Masked:
    return make_hearts(tmp_path_factory.mktemp("there"), smaller, patients=20)


@pytest.fixture(scope="module")
def found(own: tuple[Masked, SegmentationEvaluation], there: Masked) -> External:
    return external(own, there)


def of_lv(measures: list[Measure]) -> float | None:
    return next(each.value for each in measures if (each.name, each.of) == ("dice", "lv"))


def test_only_what_both_outline_is_compared(own: tuple[Masked, SegmentationEvaluation], found: External) -> None:
    there = found.evaluation
    assert isinstance(there, SegmentationEvaluation)
    assert there.structures == ["lv"]
    assert found.unsaid == ["rv", "myocardium"]
    before, after = of_lv(own[1].parts[-1].measures), of_lv(there.parts[0].measures)
    assert before is not None
    assert after is not None
    drop = next(each for each in found.drop if each.name == "dice")
    assert drop.value == pytest.approx(after - before)
    assert (drop.groups, len(found.drop)) == (8, 4), "of the smaller set; and nothing in mm, which the run has none of"
    assert "external_drop" in {each.code for each in there.remarks}
    assert not any(each.of == "structures" for each in found.drop), "the mean of other structures is another figure"


def test_the_heart_is_read_where_their_millimetres_are_true(own: tuple[Masked, SegmentationEvaluation], found: External) -> None:
    assert not own[1].agreements
    there = found.evaluation
    assert isinstance(there, SegmentationEvaluation)
    assert {each.name for each in there.agreements} == {"edv_ml", "esv_ml", "ejection_fraction"}
    assert all(each.bias.value is not None and each.bias.value < 0 for each in there.agreements if each.name != "ejection_fraction")


def test_two_patients_have_a_difference_without_an_interval(own: tuple[Masked, SegmentationEvaluation], there: Masked) -> None:
    few = there.predictions.filter(pl.col("group").is_in(["patient011", "patient013"]))
    found = external(own, Masked(there.run, there.study, there.index, there.split, few, there.truth))
    remarks = {each.code: each for each in found.evaluation.remarks}
    assert remarks["external_drop_unsure"].figures["groups"] == 2
    assert remarks["external_few"].figures == {"own": 20, "external": 2, "fewest": 10}
    assert "external_masks_alike" not in remarks, "too few to say so"
    beside = {(each.name, each.of): each for each in found.beside}
    assert beside["shown", "lv"].own == [1.0]
    truth = [mask == 3 for mask in there.truth.values()]
    assert beside["share", "lv"].external[1] == pytest.approx(np.median([mask.mean() for mask in truth]), rel=0.5)
    areas = [mask.sum() / mask.any(axis=(1, 2)).sum() for row, mask in zip(there.truth, truth, strict=True) if row in few["row"]]
    assert beside["width_seen", "lv"].external[1] == pytest.approx(np.median(2 * np.sqrt(np.array(areas) / np.pi)))
