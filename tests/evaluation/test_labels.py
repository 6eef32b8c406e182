"""Several labels: each judged as two classes, and their means, against scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as sklearn_metrics

from made_predictions import Made
from tabib.config import Study
from tabib.dataset import as_class, without
from tabib.evaluation import evaluate
from tabib.evaluation.labels import predictions_of_label
from tabib.records import Evaluation, labels_of, prediction_schema

LABELS = ["effusion", "mass", "nodule"]
THRESHOLDS = [0.5, 0.3, 0.6]
ALONE = {"name": "made", "data": {"folder": Path("films")}, "evaluate": {"draws": 500}}
STUDY = Study.model_validate({**ALONE, "data": {"folder": "films", "layout": "table", "table": "t.csv", "columns": {"labels": LABELS}}})


def tables() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Predictions, index and split of two correlated labels and one that the scores do not know."""
    _, index, split = Made(groups={"train": 60, "validation": 50, "test": 50}).tables()
    random = np.random.default_rng(5)
    effusion = index["label"] == "PNEUMONIA"
    there = np.column_stack([effusion, random.random(len(index)) < np.where(effusion, 0.6, 0.2), random.random(len(index)) < 0.3])
    index = index.with_columns(label=pl.Series(["|".join(np.array(LABELS)[row]) for row in there]))
    split = split.with_columns(label=index["label"])
    score = random.normal(size=there.shape) + there * [2.5, 1.5, 0.0]
    probability = 1 / (1 + np.exp(-score))
    predicted = ["|".join(np.array(LABELS)[row]) for row in probability >= THRESHOLDS]
    rows = split.with_columns(
        predicted=pl.Series(predicted), refused=pl.lit(None), **{f"p_{name}": probability[:, place] for place, name in enumerate(LABELS)}
    ).filter(pl.col("part") != "train")
    return rows.select(pl.col(name).cast(kind) for name, kind in prediction_schema(LABELS).items()), index, split


@pytest.fixture(scope="module")
def judged() -> Evaluation:
    return evaluate(*tables(), STUDY, thresholds=THRESHOLDS, test_looks=4)


def test_means_over_labels_equal_scikit_learn(judged: Evaluation) -> None:
    test = tables()[0].filter(pl.col("part") == "test")
    truth, called = (
        np.array([[name in labels_of(text, several=True) for name in LABELS] for text in test[column]]) for column in ("label", "predicted")
    )
    score = test.select(f"p_{name}" for name in LABELS).to_numpy()
    balanced = [sklearn_metrics.balanced_accuracy_score(truth[:, place], called[:, place]) for place in range(3)]
    expected = {
        "exact_match": sklearn_metrics.accuracy_score(truth, called),
        "auc": sklearn_metrics.roc_auc_score(truth, score, average="macro"),
        "average_precision": sklearn_metrics.average_precision_score(truth, score, average="macro"),
        "balanced_accuracy": np.mean(balanced),
        "accuracy": (truth == called).mean(),
        "f1": sklearn_metrics.f1_score(truth, called, average="macro"),
    }
    measures = judged.parts[1].measures
    assert {each.name: each.value for each in measures} == pytest.approx(expected)
    for each in measures:
        assert each.low is not None
        assert each.high is not None
        assert each.low < expected[each.name] < each.high
        assert (each.of, each.groups, set(each.baselines)) == (
            None if each.name == "exact_match" else "macro",
            50,
            {"majority_class", "file_facts", "mean_intensity"},
        )
    assert judged.parts[1].class_counts == {name: int(truth[:, place].sum()) for place, name in enumerate(LABELS)}
    assert {(gap.name, gap.of) for gap in judged.gap} == {(each.name, each.of) for each in measures}


def test_each_label_is_judged_as_a_study_of_two_classes(judged: Evaluation) -> None:
    predictions, index, split = tables()
    for place, (name, mine) in enumerate(zip(LABELS, judged.labels, strict=True)):
        alone = evaluate(
            predictions_of_label(predictions, name),
            index.with_columns(as_class("label", name)),
            split,
            Study.model_validate(ALONE),
            threshold=THRESHOLDS[place],
            test_looks=4,
        )
        assert mine == alone.model_copy(update={"remarks": []})
        assert (mine.classes, mine.positive, mine.threshold) == ([without(name), name], name, THRESHOLDS[place])


def test_remarks_say_which_label_they_are_about(judged: Evaluation) -> None:
    about = {(remark.code, remark.label) for remark in judged.remarks}
    assert ("test_looked_often", None) in about
    assert {label for code, label in about if code == "test_looked_often"} == {None}
    assert ("not_better_than_baseline", "nodule") in about
    assert {label for code, label in about if code == "better_than_baselines"} == {"effusion", "mass"}
    assert {label for code, label in about if code == "operating_point"} == set(LABELS)


def test_the_worst_image_is_worst_over_all_labels(judged: Evaluation) -> None:
    test = tables()[0].filter(pl.col("part") == "test")
    losses = np.zeros(len(test))
    for name in LABELS:
        has, said = (test["label"].str.split("|").list.contains(name)).to_numpy(), test[f"p_{name}"].to_numpy()
        losses -= np.log(np.where(has, said, 1 - said))
    assert judged.worst == test["row"].to_numpy()[np.argsort(-losses)][: len(judged.worst)].tolist()


def test_a_label_that_test_does_not_have_is_said_and_leaves_no_mean() -> None:
    predictions, index, split = tables()
    gone = pl.col("label").str.replace("|nodule", "", literal=True).str.replace("nodule", "", literal=True)
    test = split.filter(pl.col("part") == "test")["row"].implode()
    predictions, index = (
        table.with_columns(label=pl.when(pl.col("row").is_in(test)).then(gone).otherwise("label")) for table in (predictions, index)
    )
    judged = evaluate(predictions, index, split, STUDY, thresholds=THRESHOLDS)
    assert ("class_missing", "nodule") in {(remark.code, remark.label) for remark in judged.remarks}
    assert next(each.value for each in judged.parts[1].measures if each.name == "auc") is None
