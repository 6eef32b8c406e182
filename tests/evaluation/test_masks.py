from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from made_masks import LABELS, SPACING, Masked, make_hearts, make_nuclei
from tabib.config import Segmentation, SegmentationData
from tabib.evaluation import evaluate_masks
from tabib.evaluation.mask_cases import Asked, measure_case
from tabib.images import ImageFacts, Volume, encode_nifti
from tabib.metrics.segmentation import measure_structures
from tabib.records import Finding, Measure, PostProcessing, SegmentationEvaluation, SegmentedPart

DECISION = PostProcessing(
    structures=list(LABELS),
    largest_component=[],
    fill_holes=[],
    flips=False,
    weights_sha256=[],
    validation_rows=4,
    validation_groups=2,
    dice_before={},
    dice_after={},
)


def judged(made: Masked, study: Segmentation | None = None) -> SegmentationEvaluation:
    return evaluate_masks(made.predictions, made.index, made.split, DECISION, study or made.study, folder=made.run)


def on_test(evaluation: SegmentationEvaluation) -> SegmentedPart:
    return evaluation.parts[1]


def measure(evaluation: SegmentationEvaluation, name: str, of: str | None) -> Measure:
    return next(each for each in on_test(evaluation).measures if (each.name, each.of) == (name, of))


def remarks(evaluation: SegmentationEvaluation) -> dict[str, Finding]:
    return {each.code: each for each in evaluation.remarks}


def spoil_hearts(labels: np.ndarray, patient: str, phase: str) -> np.ndarray:
    """Patient 15 has no right ventricle; in systole the apical slice of the left one is taken for muscle."""
    if patient == "patient015":
        labels[labels == 1] = 0
    if phase == "ES":
        labels[5][labels[5] == 3] = 2
    return labels


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Masked:
    return make_hearts(tmp_path_factory.mktemp("hearts"), spoil_hearts)


@pytest.fixture(scope="module")
def evaluation(hearts: Masked) -> SegmentationEvaluation:
    return judged(hearts)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> tuple[Masked, SegmentationEvaluation]:
    made = make_nuclei(tmp_path_factory.mktemp("nuclei"), lambda labels, _slide, _phase: np.where(labels == 2, 1, labels))
    return made, judged(made)


def test_every_case_has_the_measures_of_its_masks(hearts: Masked, evaluation: SegmentationEvaluation) -> None:
    for case in on_test(evaluation).cases:
        truth = hearts.truth[case.row]
        said = spoil_hearts(truth.copy(), case.group, case.phase or "")
        for each in case.structures:
            wanted = measure_structures(truth, said, LABELS, spacing=SPACING, tolerance=2.0)[each.structure]
            for name in ("dice", "iou", "precision", "recall", "hausdorff95_mm", "surface_distance_mm", "surface_dice", "truth_ml"):
                value = getattr(wanted, name)
                assert getattr(each, name) == (pytest.approx(value) if np.isfinite(value) else None), (case.path, each.structure, name)
        assert np.sum(case.confusion) == truth.size
        assert case.confusion[LABELS["lv"]][LABELS["myocardium"]] == np.sum((truth == 3) & (said == 2))


def test_macro_is_the_mean_of_cases_and_micro_adds_voxels(evaluation: SegmentationEvaluation) -> None:
    cases = on_test(evaluation).cases
    means = {name: np.mean([case.structures[place].dice for case in cases]) for place, name in enumerate(evaluation.structures)}
    for name, value in means.items():
        assert measure(evaluation, "dice", name).value == pytest.approx(value)
    assert measure(evaluation, "dice", "structures").value == pytest.approx(np.mean(list(means.values())))
    found, added, missed = np.sum(
        [[(each.true_positive, each.false_positive, each.false_negative) for each in case.structures] for case in cases], axis=(0, 1)
    )
    assert measure(evaluation, "dice", "voxels").value == pytest.approx(2 * found / (2 * found + added + missed))
    assert measure(evaluation, "dice", "structures").groups == 8, "intervals are over patients"
    assert measure(evaluation, "dice", "structures").rows == 16
    right = sum(np.trace(case.confusion) for case in cases) / sum(np.sum(case.confusion) for case in cases)
    assert measure(evaluation, "voxel_accuracy", None).value == pytest.approx(right)


def test_a_missed_structure_is_no_distance_and_is_said(evaluation: SegmentationEvaluation) -> None:
    distance = measure(evaluation, "hausdorff95_mm", "rv")
    assert (distance.value, distance.rows) == (0.0, 14)
    found = remarks(evaluation)
    assert found["structure_missed"].figures == {"structure": "rv", "missed": 2, "cases": 16, "share": 0.125}
    assert found["structure_missed"].page_one
    assert found["distances_left_out"].figures == {"masks": 2}
    assert "structures_confused" not in found, "few voxels of the left ventricle are called muscle"


def test_thirds_run_from_the_apex_to_the_base(evaluation: SegmentationEvaluation) -> None:
    assert [each.low for each in evaluation.thirds] == ["apical", "middle", "basal"]
    of_lv = [next(each.value for each in third.measures if each.of == "lv") for third in evaluation.thirds]
    assert of_lv[0] is not None
    assert of_lv[0] < 0.9
    assert of_lv[1:] == [1.0, 1.0]
    assert remarks(evaluation)["position_weak"].figures["third"] == "apical"


def test_hearts_are_read_in_diastole_and_systole(hearts: Masked, evaluation: SegmentationEvaluation) -> None:
    found = {(each.name, each.of): each for each in evaluation.agreements}
    assert {name for name, of in found if of == "lv"} == {"edv_ml", "esv_ml", "ejection_fraction"}
    assert ("mass_g", "myocardium") in found
    voxel = np.prod(SPACING) / 1000
    case = next(case for case in on_test(evaluation).cases if case.group == "patient013" and case.phase == "ED")
    place = found["edv_ml", "lv"].groups.index("patient013")
    assert found["edv_ml", "lv"].truth[place] == pytest.approx(np.sum(hearts.truth[case.row] == 3) * voxel)
    assert found["edv_ml", "lv"].bias.value == 0
    # Less is left in systole than there is, so that more seems to be pumped out.
    assert found["ejection_fraction", "lv"].bias.value > 0
    assert remarks(evaluation)["quantity_too_small"].figures["quantity"] == "esv_ml"
    fractions = found["ejection_fraction", "lv"]
    lost = found["esv_ml", "lv"].prediction[place] / found["edv_ml", "lv"].prediction[place]
    assert fractions.prediction[place] == pytest.approx(1 - lost)


def test_nominal_millimetres_measure_nothing(hearts: Masked) -> None:
    data = hearts.study.data.model_copy(update={"spacing": "nominal"})
    found = judged(hearts, hearts.study.model_copy(update={"data": data}))
    assert not found.agreements
    assert not any(each.name.endswith("_mm") or each.name in ("volume_error_ml", "surface_dice") for each in on_test(found).measures)
    assert remarks(found)["spacing_nominal"].page_one
    assert all(each.truth_ml is None for case in on_test(found).cases for each in case.structures)


def test_the_phase_the_diagnosis_and_any_column_divide_the_cases(hearts: Masked, evaluation: SegmentationEvaluation) -> None:
    unasked = ["phase = ED", "phase = ES", *(f"diagnosis = {name}" for name in ("DCM", "HCM", "NOR"))]
    assert [each.name for each in evaluation.subgroups] == unasked
    evaluate = hearts.study.evaluate.model_copy(update={"subgroups": ["diagnosis", "sharpness"]})
    found = judged(hearts, hearts.study.model_copy(update={"evaluate": evaluate}))
    assert [each.name for each in found.subgroups][:5] == unasked
    assert {each.column for each in found.subgroups[5:]} == {"sharpness"}
    assert sum(each.rows for each in found.subgroups[2:5]) == sum(each.rows for each in found.subgroups[5:]) == 16
    values = {case.row: case.dice for case in on_test(found).cases}
    ill = [row for row in values if json.loads(hearts.index["facts"][row])["diagnosis"] == "DCM"]
    assert found.subgroups[2].measures[0].value == pytest.approx(np.mean([values[row] for row in ill]))


def test_a_case_is_shown_where_its_structure_truly_is(tmp_path: Path) -> None:
    truth, said = np.zeros((2, 3, 8, 8), np.uint8)
    truth[1, 2:4, 2:4] = said[0] = 1
    facts = ImageFacts(format="NIfTI", bits=8, mode="uint8")
    for name, voxels in (("images/a", truth), ("masks/a", truth), ("said", said), ("images/b", truth), ("masks/b", 0 * truth)):
        file = tmp_path / f"{name}.nii.gz"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(encode_nifti(Volume(voxels, np.diag([8.0, 1, 1, 1]), (8, 1, 1), facts)))
    data = SegmentationData(folder=tmp_path, labels={"lv": 1})
    shown = []
    for name in "ab":
        asked = Asked(
            data, 0, f"images/{name}.nii.gz", f"masks/{name}.nii.gz", tmp_path / "said.nii.gz", "p", None, 2.0, heart=True, shape=None,
            disagreement=None,
        )  # fmt: skip
        measured = measure_case(asked)
        assert not isinstance(measured, str)
        shown.append(measured[0].structures[0].largest_slice)
    assert shown == [2, 1], "where there is most of it; where there is none, where it is said to be"


def test_the_worst_cases_come_first(evaluation: SegmentationEvaluation) -> None:
    dice = {case.row: case.dice for case in on_test(evaluation).cases}
    assert [dice[row] for row in evaluation.worst] == sorted(dice.values())[:12]
    first = next(case for case in on_test(evaluation).cases if case.row == evaluation.worst[0])
    assert first.group == "patient015"
    wrong = next(each for each in first.structures if each.structure == "rv")
    assert wrong.missed
    assert wrong.missed_slices == 5
    assert wrong.worst_slice == 2, "the base is the widest"


def test_the_mean_shape_of_training_answers_as_well(hearts: Masked, evaluation: SegmentationEvaluation) -> None:
    beside = measure(evaluation, "dice", "lv").baselines["mean_shape"]
    assert 0.4 < beside < 0.95
    assert remarks(evaluation)["better_than_baselines"].figures["baseline"] == "mean_shape"
    folds = hearts.split.with_columns(part=pl.when(pl.col("part") == "validation").then(pl.lit("train")).otherwise("part"))
    predicted = hearts.predictions
    found = evaluate_masks(predicted, hearts.index, folds, DECISION, hearts.study, folder=hearts.run)
    assert not any(each.baselines for each in found.parts[0].measures if each.name == "dice"), "what learnt from them is not judged on them"


def test_objects_are_counted_and_matched(cells: tuple[Masked, SegmentationEvaluation]) -> None:
    _, found = cells
    for case in on_test(found).cases:
        assert case.objects is not None
        assert (case.objects.truth, case.objects.prediction) == (9, 8)
        assert case.objects.f1 == pytest.approx(2 * case.objects.matched / 17)
    assert measure(found, "dice", "nucleus").value == 1.0
    assert measure(found, "count_error", None).value == -1.0
    assert measure(found, "panoptic_quality", "objects").value == pytest.approx(
        sum(2 * case.objects.matched_iou for case in on_test(found).cases if case.objects) / (17 * 8)
    )
    assert remarks(found)["spacing_unknown"].level == "pass"
    assert not any(each.name == "hausdorff95_mm" for each in on_test(found).measures)


def test_what_cannot_be_read_is_counted(cells: tuple[Masked, SegmentationEvaluation]) -> None:
    made, _ = cells
    lost = made.predictions.filter(pl.col("part") == "test")["mask"][0]
    whole = (made.run / lost).read_bytes()
    (made.run / lost).write_bytes(whole[:40])
    try:
        found = judged(made)
    finally:
        (made.run / lost).write_bytes(whole)
    assert (on_test(found).rows, on_test(found).refused) == (7, 1)
    assert remarks(found)["refused_rows"].figures["refused"] == 1


def test_goals_are_held_against_the_mean_over_structures(hearts: Masked) -> None:
    study = hearts.study.model_copy(update={"goals": hearts.study.goals.model_copy(update={"dice": 0.9999})})
    found = judged(hearts, study)
    assert [each.of for each in on_test(found).measures if each.goal is not None] == ["structures"]
    assert remarks(found)["goal_missed"].figures["goal"] == 0.9999


def test_it_reads_back_as_it_was_written(tmp_path: Path, evaluation: SegmentationEvaluation) -> None:
    (tmp_path / "evaluation.json").write_text(evaluation.model_dump_json())
    assert SegmentationEvaluation.model_validate_json((tmp_path / "evaluation.json").read_text()) == evaluation


@pytest.mark.parametrize("tells", [True, False])
def test_whether_disagreement_finds_the_bad_masks(hearts: Masked, evaluation: SegmentationEvaluation, tells: bool) -> None:
    dice = {case.row: case.dice or 0 for case in on_test(evaluation).cases}
    noise = np.random.default_rng(1).random(hearts.predictions.height)
    said = [1 - dice.get(row, 1.0) if tells else float(each) for row, each in zip(hearts.predictions["row"], noise, strict=True)]
    made = replace(hearts, predictions=hearts.predictions.with_columns(disagreement=pl.Series(said, dtype=pl.Float64)))
    found = judged(made)
    assert evaluation.disagreement is None
    assert "disagreement_finds_errors" not in remarks(evaluation)
    assert found.disagreement is not None
    test = on_test(found)
    both = [(case.disagreement, case.dice) for case in test.cases]
    assert found.disagreement.value == pytest.approx(spearmanr(both).statistic)
    assert (found.disagreement.rows, found.disagreement.groups) == (test.rows, test.groups)
    remark = remarks(found)["disagreement_finds_errors" if tells else "disagreement_finds_no_errors"]
    assert remark.level == ("pass" if tells else "warn")
    most = max(test.cases, key=lambda case: case.disagreement or 0)
    assert remark.rows[0] == most.row
    assert ("disagreement_finds_errors" in remarks(found)) == tells
