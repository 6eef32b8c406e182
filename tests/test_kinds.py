"""The policy of augmentation by kind of image, and how a study takes it up."""

from __future__ import annotations

from typing import get_args

import pytest

from tabib.config import Augment, Data, Segmentation, SegmentationAugment, Study
from tabib.errors import StudyError
from tabib.kinds import KINDS, Kind
from tabib.reports.text import language
from tabib.study_file import dump_study, parse_study

OFF_BY_DEFAULT = Augment(rotation_degrees=0, shift=0, zoom=0, brightness=0, contrast=0)


def study(text: str) -> Study:
    return parse_study("name: kinds\ndata: {folder: films, kind: blood_cells}\n" + text)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_kind_names_whatever_is_on_and_its_defaults_are_believable(kind: Kind) -> None:
    rules = KINDS[kind]
    on = {name for name in Augment.model_fields if getattr(Augment(), name) != getattr(OFF_BY_DEFAULT, name)}
    assert on <= set(rules), "what a kind does not name has the default of every study"
    assert all(rule.default <= rule.most for rule in rules.values())
    for fields in (Augment, SegmentationAugment):
        assert fields.model_validate({name: rule.most for name, rule in fields.rules(kind).items()}), (
            "the most is within what a study may say"
        )
    assert list(rules) == sorted(rules, key=list(SegmentationAugment.model_fields).index), "in the order of the study"
    for code in ("en", "fa"):
        assert language(code).template(f"kinds.{kind}")
        assert all(language(code).template(f"augment_reasons.{rule.reason}") for rule in rules.values())


def test_fields_that_are_not_set_are_those_of_the_kind() -> None:
    augment = study("augment: {rotation_degrees: 30, noise: 0.01}").augment
    assert (augment.rotation_degrees, augment.noise) == (30, 0.01), "what is set stays"
    assert (augment.shift, augment.flip_vertical, augment.stain, augment.fill) == (0, True, 0.03, "nearest")
    assert study("").augment.rotation_degrees == 180
    assert parse_study("name: kinds\ndata: {folder: films}\n").augment == Augment()


def test_a_study_of_masks_takes_up_its_kind_also_where_a_class_has_no_such_field() -> None:
    hearts = parse_study("task: segmentation\nname: kinds\ndata: {folder: a, kind: heart_mr, labels: {lv: 3}}\naugment: {ghosting: 0}\n")
    assert isinstance(hearts, Segmentation)
    assert (hearts.augment.bias_field, hearts.augment.ghosting, hearts.augment.tilt_degrees) == (0.3, 0, 0)
    assert study("").augment.model_copy(update={"kind": None}).ghosting == 0


def test_a_study_with_a_kind_is_the_same_from_python_and_from_its_own_file() -> None:
    written = study("augment: {zoom: 0.02}")
    made = Study(name="kinds", data=Data(folder=written.data.folder, kind="blood_cells"), augment=Augment(zoom=0.02))
    assert made == written == parse_study(dump_study(written))


@pytest.mark.parametrize("wrong", ["data: {folder: a, kind: cats}", "data: {folder: a, kind: [tissue]}", "data: 3"])
def test_a_kind_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(StudyError, match="data"):
        parse_study(f"name: kinds\n{wrong}\n")
