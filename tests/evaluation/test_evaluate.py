from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as sklearn_metrics

from made_predictions import Made, made_study
from tabib.config import METRICS
from tabib.evaluation import evaluate
from tabib.evaluation.measures import predictive_values
from tabib.metrics.intervals import wilson
from tabib.records import GALLERY, Evaluation, Measure, PartEvaluation

MANY = Made(classes=("cyst", "normal", "stone", "tumour"), signal={"validation": 2.0, "test": 2.0})
STUDY = made_study()


def judged(made: Made, changes: dict[str, object] | None = None) -> Evaluation:
    return evaluate(*made.tables(), made_study(changes))


def part(evaluation: Evaluation, name: str = "test") -> PartEvaluation:
    return next(each for each in evaluation.parts if each.part == name)


def measure(evaluation: Evaluation, name: str, of: str | None = None, where: str = "test") -> Measure:
    return next(each for each in part(evaluation, where).measures if (each.name, each.of) == (name, of))


def codes(evaluation: Evaluation) -> set[str]:
    return {remark.code for remark in evaluation.remarks}


@pytest.fixture(scope="module")
def two() -> Evaluation:
    return judged(Made())


@pytest.fixture(scope="module")
def many() -> Evaluation:
    return judged(MANY)


def test_every_measure_of_two_classes_equals_scikit_learn(two: Evaluation) -> None:
    test = Made().tables()[0].filter(pl.col("part") == "test")
    truth, called, score = ((test[name] == "PNEUMONIA").to_numpy() for name in ("label", "predicted", "label"))
    score = test["p_PNEUMONIA"].to_numpy()
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(truth, called),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(truth, called),
        "sensitivity": sklearn_metrics.recall_score(truth, called),
        "specificity": sklearn_metrics.recall_score(~truth, ~called),
        "ppv": sklearn_metrics.precision_score(truth, called),
        "npv": sklearn_metrics.precision_score(~truth, ~called),
        "f1": sklearn_metrics.f1_score(truth, called),
        "mcc": sklearn_metrics.matthews_corrcoef(truth, called),
        "auc": sklearn_metrics.roc_auc_score(truth, score),
        "average_precision": sklearn_metrics.average_precision_score(truth, score),
        "brier": sklearn_metrics.brier_score_loss(truth, score),
        "log_loss": sklearn_metrics.log_loss(truth, score),
    }
    whole = {each.name: each for each in part(two).measures if each.of is None}
    assert set(whole) == set(METRICS)
    assert {name: whole[name].value for name in expected} == pytest.approx(expected)
    for each in whole.values():
        assert each.low is not None
        assert each.high is not None
        assert each.low < each.value < each.high  # type: ignore[operator]
        assert each.method != "none"
        assert each.groups >= 20
        assert not each.approximate


@pytest.mark.parametrize("made", [Made(), MANY], ids=["two classes", "four classes"])
def test_classes_and_averages_equal_scikit_learn(made: Made) -> None:
    evaluation, test = judged(made), made.tables()[0].filter(pl.col("part") == "test")
    report = sklearn_metrics.classification_report(test["label"], test["predicted"], output_dict=True)
    names = {"sensitivity": "recall", "ppv": "precision", "f1": "f1-score"}
    for of, key in [*((name, name) for name in made.classes), ("macro", "macro avg"), ("weighted", "weighted avg")]:
        for name, theirs in names.items():
            assert measure(evaluation, name, of).value == pytest.approx(report[key][theirs])
        if of in made.classes:
            assert measure(evaluation, "sensitivity", of).rows == report[key]["support"]


def test_many_classes_equal_scikit_learn(many: Evaluation) -> None:
    test = MANY.tables()[0].filter(pl.col("part") == "test")
    score = test.select(f"p_{name}" for name in MANY.classes).to_numpy()
    for average in ("macro", "weighted"):
        expected = sklearn_metrics.roc_auc_score(test["label"], score, multi_class="ovr", average=average, labels=list(MANY.classes))
        assert measure(many, "auc", average).value == pytest.approx(expected)
    assert measure(many, "mcc").value == pytest.approx(sklearn_metrics.matthews_corrcoef(test["label"], test["predicted"]))
    assert measure(many, "log_loss").value == pytest.approx(sklearn_metrics.log_loss(test["label"], score, labels=list(MANY.classes)))
    assert measure(many, "sensitivity", "macro").value == pytest.approx(measure(many, "balanced_accuracy").value)  # type: ignore[arg-type]
    assert all(each.low is not None for each in part(many).measures if each.value is not None)
    assert many.positive is None


def test_an_evaluation_is_the_same_after_writing_and_reading(two: Evaluation, many: Evaluation) -> None:
    for evaluation in (two, many):
        assert Evaluation.model_validate_json(evaluation.model_dump_json()) == evaluation


def test_the_order_of_rows_and_a_second_time_change_nothing(two: Evaluation) -> None:
    predictions, index, split = Made().tables()
    assert evaluate(predictions.sample(fraction=1, shuffle=True, seed=1), index, split, STUDY) == two


def test_the_confusion_matrix_counts_and_orders_rows(many: Evaluation) -> None:
    test = MANY.tables()[0].filter(pl.col("part") == "test")
    expected = sklearn_metrics.confusion_matrix(test["label"], test["predicted"])
    assert [cell.count for cell in part(many).confusion] == expected.ravel().tolist()
    sure = {line["row"]: line[f"p_{line['predicted']}"] for line in test.iter_rows(named=True)}
    for cell in part(many).confusion:
        assert len(cell.rows) == cell.count
        assert [sure[row] for row in cell.rows] == sorted((sure[row] for row in cell.rows), reverse=True)


def test_worst_rows_have_the_highest_loss(two: Evaluation) -> None:
    test = Made().tables()[0].filter(pl.col("part") == "test")
    right = test.select(pl.when(pl.col("label") == "PNEUMONIA").then("p_PNEUMONIA").otherwise("p_NORMAL")).to_series()
    assert two.worst == test.with_columns(right=right).sort("right", "row")["row"].head(GALLERY).to_list()


def test_random_rows_do_not_hang_on_the_model(two: Evaluation) -> None:
    predictions, index, split = Made().tables()
    turned = predictions.rename({"p_NORMAL": "p_PNEUMONIA", "p_PNEUMONIA": "p_NORMAL"}).select(predictions.columns)
    assert evaluate(turned, index, split, STUDY).random == two.random
    assert len(set(two.random)) == GALLERY
    assert two.random != sorted(two.random)


def test_goals_are_reached_missed_or_open() -> None:
    made = Made(signal={"validation": 2, "test": 2})
    near = measure(judged(made), "accuracy").value + 0.01  # type: ignore[operator]
    evaluation = judged(made, {"goals": {"auc": 0.5, "sensitivity": 0.999, "accuracy": near}})
    said = {remark.figures["measure"]: remark.code for remark in evaluation.remarks if remark.code.startswith("goal")}
    assert said == {"auc": "goal_reached", "sensitivity": "goal_missed", "accuracy": "goal_undecided"}
    assert measure(evaluation, "auc").goal == 0.5


def test_a_goal_of_many_classes_is_one_of_their_mean() -> None:
    evaluation = judged(MANY, {"goals": {"sensitivity": 0.1}})
    assert [each.of for each in part(evaluation).measures if each.goal is not None] == ["macro"]


def test_a_model_that_learnt_nothing_does_not_beat_the_majority() -> None:
    evaluation = judged(Made(signal={"validation": 0, "test": 0}))
    beaten_by = {remark.figures["baseline"] for remark in evaluation.remarks if remark.code == "not_better_than_baseline"}
    assert "majority_class" in beaten_by
    assert "better_than_baselines" not in codes(evaluation)
    assert "accuracy_not_above_majority" in codes(evaluation)


def test_a_good_model_beats_all_baselines(two: Evaluation, many: Evaluation) -> None:
    assert "better_than_baselines" in codes(two) & codes(many)
    assert "not_better_than_baseline" not in codes(two) | codes(many)


def test_a_confounder_is_a_baseline_that_is_hard_to_beat() -> None:
    evaluation = judged(Made(confounder=1.0, signal={"validation": 1, "test": 1}))
    assert measure(evaluation, "auc").baselines["file_facts"] == 1.0
    unbeaten = {remark.figures["baseline"] for remark in evaluation.remarks if remark.code == "not_better_than_baseline"}
    assert unbeaten == {"file_facts"}


def test_the_number_of_bytes_is_no_fact_of_the_file() -> None:
    predictions, index, split = Made().tables()
    telling = index.with_columns(bytes=pl.when(pl.col("label") == "PNEUMONIA").then(pl.lit(9000)).otherwise("bytes"))
    before, after = (measure(evaluate(predictions, table, split, STUDY), "auc").baselines["file_facts"] for table in (index, telling))
    assert before == after < 0.9


def test_baselines_are_what_they_say(two: Evaluation) -> None:
    predictions, index, split = Made().tables()
    train = split.filter(pl.col("part") == "train")["label"]
    most = train.mode()[0]
    test = predictions.filter(pl.col("part") == "test")["label"]
    assert measure(two, "accuracy").baselines["majority_class"] == pytest.approx((test == most).mean())
    assert measure(two, "auc").baselines["majority_class"] == 0.5
    share = (train == "PNEUMONIA").mean()
    assert measure(two, "brier").baselines["majority_class"] == pytest.approx((((test == "PNEUMONIA") - share) ** 2).mean())
    assert "majority_class" not in measure(two, "mcc").baselines  # undefined for one answer
    # They learn from training rows alone: other labels elsewhere in the index change nothing.
    elsewhere = index.with_columns(
        label=pl.when(pl.col("row").is_in(predictions["row"].to_list())).then(pl.lit("NORMAL")).otherwise("label")
    )
    assert evaluate(predictions, elsewhere, split, STUDY) == two


def test_a_fall_from_validation_to_test_is_said() -> None:
    evaluation = judged(Made(signal={"validation": 5, "test": 1}))
    flatters = [remark for remark in evaluation.remarks if remark.code == "validation_flatters"]
    assert {remark.figures["measure"] for remark in flatters} == {"auc", "balanced_accuracy"}
    assert all(remark.page_one for remark in flatters)
    gap = next(each for each in evaluation.gap if each.name == "auc" and each.of is None)
    assert gap.value == pytest.approx(measure(evaluation, "auc").value - measure(evaluation, "auc", where="validation").value)  # type: ignore[operator]
    assert gap.low < gap.value < gap.high < 0  # type: ignore[operator]
    assert "test_easier" in codes(judged(Made(signal={"validation": 1, "test": 5})))


def test_equal_parts_agree(two: Evaluation, many: Evaluation) -> None:
    assert "validation_agrees" in codes(two) & codes(many)


def test_refused_and_unlabelled_rows_are_counted_and_not_lost() -> None:
    predictions, index, split = Made().tables()
    test = predictions.filter(pl.col("part") == "test")["row"].to_list()
    broken, unlabelled, missing = test[:7], test[7:10], test[10]
    predictions = predictions.with_columns(
        refused=pl.when(pl.col("row").is_in(broken)).then(pl.lit("cannot be read")),
        predicted=pl.when(~pl.col("row").is_in(broken)).then("predicted"),
        label=pl.when(~pl.col("row").is_in(unlabelled)).then("label"),
        **{name: pl.when(~pl.col("row").is_in(broken)).then(name) for name in ("p_NORMAL", "p_PNEUMONIA")},
    ).filter(pl.col("row") != missing)
    evaluation = evaluate(predictions, index, split, STUDY)
    judged_part = part(evaluation)
    assert (judged_part.rows, judged_part.refused) == (len(test) - 11, 8)
    assert sum(cell.count for cell in judged_part.confusion) == judged_part.rows == sum(judged_part.class_counts.values())
    said = {remark.code: remark for remark in evaluation.remarks}
    assert said["refused_rows"].rows == [*broken, missing]
    assert said["refused_rows"].page_one
    assert said["unlabelled_rows"].rows == unlabelled


def test_unreadable_images_of_a_given_test_folder_are_counted() -> None:
    predictions, index, split = Made().tables()
    extra = index.tail(3).with_columns(row=pl.col("row") + 3, given=pl.lit("test"), refused=pl.lit("is empty"), content=pl.col("path"))
    study = made_study({"split": {"given": True}})
    assert part(evaluate(predictions, pl.concat([index, extra]), split, study)).refused == 3


@pytest.mark.parametrize("only", ["NORMAL", "PNEUMONIA"])
def test_a_part_of_one_class_has_what_exists_and_says_what_does_not(only: str) -> None:
    predictions, index, split = Made().tables()
    kept = predictions.filter((pl.col("part") == "validation") | (pl.col("label") == only))
    evaluation = evaluate(kept, index, split.join(kept.select("row"), on="row", how="semi"), STUDY)
    assert measure(evaluation, "auc").value is None
    assert measure(evaluation, "auc").low is None
    assert measure(evaluation, "sensitivity" if only == "NORMAL" else "specificity").value is None
    assert measure(evaluation, "specificity" if only == "NORMAL" else "sensitivity").value is not None
    said = {remark.code: remark for remark in evaluation.remarks}
    assert said["class_missing"].figures["part"] == "test"
    assert only not in str(said["class_missing"].figures["classes"])
    assert "auc" in str(said["undefined_measures"].figures["measures"])
    assert {curve.name for curve in part(evaluation).curves} == {"calibration"}
    assert Evaluation.model_validate_json(evaluation.model_dump_json()) == evaluation


def test_an_empty_part_has_no_numbers_and_no_error() -> None:
    predictions, index, split = Made().tables()
    evaluation = evaluate(predictions.filter(pl.col("part") == "test"), index, split.filter(pl.col("part") != "validation"), STUDY)
    assert part(evaluation, "validation").rows == 0
    assert all(each.value is None for each in part(evaluation, "validation").measures)
    assert evaluation.gap == []
    assert measure(evaluation, "auc").value is not None


def test_few_patients_have_approximate_intervals_and_fewer_none() -> None:
    some = judged(replace(Made(), groups={"train": 30, "validation": 12, "test": 12}))
    assert "few_test_patients" in codes(some)
    assert measure(some, "accuracy").approximate
    few = judged(replace(Made(), groups={"train": 30, "validation": 6, "test": 6}), {"goals": {"auc": 0.9}})
    assert {"few_test_patients", "goal_without_interval", "baseline_not_compared"} <= codes(few)
    assert all(each.low is None and each.method == "none" for each in part(few).measures)
    unknown = codes(judged(Made(patients=False, groups={"train": 30, "validation": 4, "test": 4})))
    assert unknown & {"few_test_groups", "few_test_patients"} == {"few_test_groups"}


def test_the_patients_behind_each_class_are_counted() -> None:
    predictions = MANY.tables()[0].filter(pl.col("part") == "test")
    expected = dict(predictions.group_by("label").agg(pl.col("group").n_unique()).iter_rows())
    assert part(judged(MANY)).class_groups == expected


def test_unknown_patients_are_said_and_counted_by_image() -> None:
    evaluation = judged(Made(patients=False))
    assert evaluation.patients == "unknown"
    assert part(evaluation).groups == part(evaluation).rows
    remark = next(each for each in evaluation.remarks if each.code == "intervals_without_patients")
    assert remark.page_one
    assert judged(Made()).patients == "known"


@pytest.mark.parametrize(("unnamed", "page_one"), [(1, False), (30, True)])
def test_patients_known_of_some_images_are_said_to_be_so(unnamed: int, page_one: bool) -> None:
    predictions, index, split = Made().tables()
    test = predictions.filter(pl.col("part") == "test")["row"].to_list()
    nameless = pl.when(~pl.col("row").is_in(test[:unnamed])).then("group").alias("group")
    evaluation = evaluate(predictions, index.with_columns(nameless), split, STUDY)
    assert evaluation.patients == "partly"
    remark = next(each for each in evaluation.remarks if each.code == "intervals_without_patients")
    assert (remark.figures["unnamed"], remark.page_one) == (unnamed, page_one)
    train = split.filter(pl.col("part") == "train")["row"][0]
    elsewhere = evaluate(predictions, index.with_columns(pl.when(pl.col("row") != train).then("group").alias("group")), split, STUDY)
    assert elsewhere.patients == "partly"
    assert "intervals_without_patients" not in codes(elsewhere)


def test_groups_of_the_split_make_intervals_wider() -> None:
    predictions, index, split = Made(signal={"validation": 1.5, "test": 1.5}).tables()
    alone = split.with_columns(group=pl.col("path"))
    by_patient, by_row = (measure(evaluate(predictions, index, each, STUDY), "accuracy") for each in (split, alone))
    assert by_patient.value == by_row.value
    assert by_patient.groups < by_row.groups
    assert by_patient.high - by_patient.low > by_row.high - by_row.low  # type: ignore[operator]


@pytest.mark.parametrize("column", ["group", "content", "pixels"])
def test_a_leak_that_was_kept_is_said(column: str) -> None:
    predictions, index, split = Made().tables()
    train, test = (split.filter(pl.col("part") == name)["row"].to_list() for name in ("train", "test"))
    table = split if column == "group" else index
    known = table.filter(pl.col("row") == train[0])[column][0]
    table = table.with_columns(pl.when(pl.col("row").is_in(test[:3])).then(pl.lit(known)).otherwise(column).alias(column))
    evaluation = evaluate(predictions, index if column == "group" else table, table if column == "group" else split, STUDY)
    remark = next(each for each in evaluation.remarks if each.code == "given_leak_kept")
    assert remark.rows == test[:3]
    assert remark.page_one
    assert "given_leak_kept" not in codes(judged(Made()))


def test_parts_that_share_a_patient_have_no_interval_of_their_difference() -> None:
    predictions, index, split = Made().tables()
    first = {name: split.filter(pl.col("part") == name)["row"][0] for name in ("validation", "test")}
    shared = split.with_columns(group=pl.when(pl.col("row").is_in(list(first.values()))).then(pl.lit("one")).otherwise("group"))
    evaluation = evaluate(predictions, index, shared, STUDY)
    assert evaluation.gap
    assert all(each.low is None for each in evaluation.gap)


def test_looks_at_test_are_told() -> None:
    tables = Made().tables()
    for looks, page_one in ((1, None), (2, False), (3, True)):
        evaluation = evaluate(*tables, STUDY, test_looks=looks)
        told = [remark.page_one for remark in evaluation.remarks if remark.code == "test_looked_often"]
        assert told == ([] if page_one is None else [page_one])
        assert evaluation.test_looks == looks


def test_probabilities_that_are_too_sure_are_said() -> None:
    predictions, index, split = Made(signal={"validation": 1.5, "test": 1.5}).tables()
    said = []
    for power in (1.3, 8.0):  # the scores of the phantom are spread so that 1.3 is about right
        odds = (predictions["p_PNEUMONIA"] / predictions["p_NORMAL"]) ** power
        sharp = predictions.with_columns(p_PNEUMONIA=odds / (1 + odds), p_NORMAL=1 / (1 + odds))
        said.append("poor_calibration" in codes(evaluate(sharp, index, split, STUDY)))
    assert said == [False, True]


def test_a_sensitivity_that_does_not_hold_is_said() -> None:
    rule: dict[str, object] = {"calibrate": {"threshold": {"sensitivity": 0.95}}}
    assert "operating_point_missed" in codes(judged(Made(signal={"validation": 1, "test": 1}), rule))
    assert "operating_point_missed" not in codes(judged(Made(signal={"validation": 5, "test": 5}), rule))


def test_a_specificity_that_does_not_hold_is_said() -> None:
    rule: dict[str, object] = {"calibrate": {"threshold": {"specificity": 0.99}}}
    remarks = judged(Made(signal={"validation": 1, "test": 1}), rule).remarks
    assert next(remark for remark in remarks if remark.code == "operating_point_missed").figures["measure"] == "specificity"


def test_the_cost_of_mistakes_is_told_beside_that_of_calling_all_or_none() -> None:
    rule: dict[str, object] = {"calibrate": {"threshold": {"cost_ratio": 4}}, "evaluate": {"draws": 500, "prevalence": 0.2}}
    evaluation = judged(Made(), rule)
    figures = next(remark for remark in evaluation.remarks if remark.code == "operating_cost").figures
    found, spared = (measure(evaluation, name).value or 0 for name in ("sensitivity", "specificity"))
    assert figures["cost"] == pytest.approx(100 * (4 * 0.2 * (1 - found) + 0.8 * (1 - spared)))
    assert (figures["all"], figures["nobody"]) == pytest.approx((80, 80))
    assert "operating_cost_high" in codes(judged(Made(signal={}), rule))


def test_predictive_values_at_the_prevalence_of_the_test_set_are_those_of_the_test_set() -> None:
    two = judged(Made())
    share = part(two).class_counts["PNEUMONIA"] / part(two).rows
    evaluation = judged(Made(), {"evaluate": {"draws": 500, "prevalence": share}})
    for there in evaluation.at_prevalence:
        here = measure(evaluation, there.name)
        assert there.value == pytest.approx(here.value)
        assert there.low is not None
        assert there.high is not None
        assert there.low < (there.value or 0) < there.high
    assert [each.name for each in evaluation.at_prevalence] == ["ppv", "npv"]
    rare = judged(Made(), {"evaluate": {"draws": 500, "prevalence": 0.01}}).at_prevalence
    assert (rare[0].value or 0) < (evaluation.at_prevalence[0].value or 0)
    assert (rare[1].value or 0) > (evaluation.at_prevalence[1].value or 0)
    assert two.at_prevalence == judged(MANY, {"evaluate": {"draws": 500, "prevalence": 0.01}}).at_prevalence == []


def test_intervals_of_predictive_values_hold_the_truth_as_often_as_they_say() -> None:
    draw, held = np.random.default_rng(0), np.zeros(2)
    for _ in range(1000):
        found, spared = draw.binomial(60, 0.9) / 60, draw.binomial(80, 0.95) / 80
        sides = [
            Measure(
                name=name, value=share, **dict(zip(("low", "high"), wilson(share, rows, 1.96), strict=True)), method="wilson", groups=rows
            )
            for name, share, rows in (("sensitivity", found, 60), ("specificity", spared, 80))
        ]
        ppv, npv = predictive_values(sides, 0.1)
        truth = 0.09 / (0.09 + 0.045), 0.855 / (0.855 + 0.01)
        held += [(each.low or 0) <= true <= (each.high or 1) for each, true in zip((ppv, npv), truth, strict=True)]
    assert (held / 1000 > 0.93).all()
    assert (held / 1000 < 0.98).all()


def test_the_decision_curve_begins_with_everybody_and_is_of_two_classes(two: Evaluation) -> None:
    curve = next(curve for curve in part(two).curves if curve.name == "net_benefit")
    share = part(two).class_counts["PNEUMONIA"] / part(two).rows
    assert (curve.x[0], curve.x[-1], len(curve.x)) == (0.01, 0.99, 99)
    assert curve.y[0] == pytest.approx(share - (1 - share) * 0.01 / 0.99, abs=0.01)
    assert not [curve for curve in part(judged(MANY)).curves if curve.name == "net_benefit"]


def test_the_operating_point_counts_patients_missed_and_alarmed(two: Evaluation) -> None:
    remark = next(each for each in two.remarks if each.code == "operating_point")
    cells = {(cell.truth, cell.predicted): cell.count for cell in part(two).confusion}
    assert remark.figures["missed"] == cells["PNEUMONIA", "NORMAL"]
    assert remark.figures["alarms"] == cells["NORMAL", "PNEUMONIA"]
    assert "operating_point" not in codes(judged(MANY))


def test_confidence_and_draws_have_an_effect(two: Evaluation) -> None:
    wider, fewer = (judged(Made(), {"evaluate": change}) for change in ({"confidence": 0.99}, {"draws": 250}))
    assert (wider.confidence, fewer.draws) == (0.99, 250)
    for name in METRICS:
        before, after = measure(two, name), measure(wider, name)
        assert after.low <= before.low  # type: ignore[operator]
        assert after.high >= before.high  # type: ignore[operator]
        assert (after.low, after.high) != (before.low, before.high)
    assert measure(fewer, "brier").low != measure(two, "brier").low


def test_training_curves_are_judged() -> None:
    history = [
        {"epoch": epoch, "train_loss": 0.7 / epoch, "validation_loss": 0.4 + 0.05 * abs(epoch - 4), "validation_auc": 0.9}
        for epoch in range(1, 21)
    ]
    evaluation = evaluate(*Made().tables(), STUDY, histories={"seed0": history}, threshold=0.4)
    assert "overfitting_early" in codes(evaluation)
    assert evaluation.threshold == 0.4


def test_no_torch_is_imported() -> None:
    code = "import sys, tabib.evaluation, tabib.metrics; print(sorted({'torch', 'torchvision', 'timm'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_thousands_of_patients_are_judged() -> None:
    evaluation = judged(Made(groups={"train": 50, "validation": 50, "test": 1200}))
    auc = measure(evaluation, "auc")
    assert auc.groups == 1200
    assert np.isfinite([each.value for each in part(evaluation).measures if each.value is not None]).all()
