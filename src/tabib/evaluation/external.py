"""A finished model on images of another source: how good it is there, how much is lost, and in what the images differ."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from tabib.config import Data, Study
from tabib.dataset import as_class, patients_known, rename_labels
from tabib.dataset.duplicates import find_near_copies
from tabib.errors import DataError, StudyError
from tabib.evaluation.differences import Features, fact_differences, feature_difference, prevalence_difference
from tabib.evaluation.evaluate import Judged, join_labels, judge_part
from tabib.evaluation.gallery import random_rows, worst_rows
from tabib.evaluation.labels import predictions_of_label
from tabib.evaluation.measures import gaps, predictive_values
from tabib.evaluation.remarks import (
    baseline_remarks,
    drop_remarks,
    goal_remarks,
    part_remarks,
    subgroup_remarks,
    sureness_remarks,
    trust_remarks,
)
from tabib.evaluation.subgroups import measure_subgroups, said_columns
from tabib.records import Evaluation, External, Finding, Measure, labels_of

__all__ = ["evaluate_external", "find_known", "take_labels"]


def take_labels(index: pl.DataFrame, classes: Sequence[str], labels: Mapping[str, str], *, several: bool) -> tuple[pl.DataFrame, list[str]]:
    """The index with the run's classes as labels, and which of them it says anything of.

    A class that was left out has no label any more, and `given` says "left_out". Of several labels an image keeps
    those that are left.

    Args:
        index: INDEX_SCHEMA.
        classes: of the run, or its labels.
        labels: what theirs are called in the run; "" leaves one out.
        several: whether an image may have several labels.

    Raises:
        DataError: a class is neither one of the run nor named.
        StudyError: `labels` names what is not there.
    """
    theirs = sorted({name for label in index["label"].unique() for name in labels_of(label, several=several)})
    for name in labels:
        if name not in theirs:
            near = difflib.get_close_matches(name, theirs, n=1, cutoff=0.5)
            raise StudyError(f"No image has the label {name}. {f'Did you mean {near[0]}? ' if near else ''}There are: {', '.join(theirs)}.")
    for name, ours in labels.items():
        if ours and ours not in classes:
            near = difflib.get_close_matches(ours, classes, n=1, cutoff=0.5)
            raise StudyError(
                f"{name} is to be called {ours}, which is no class of the run. {f'Did you mean {near[0]}? ' if near else ''}"
                f"There are: {', '.join(classes)}."
            )
    told = {name: labels.get(name, name) for name in theirs}
    unknown = [name for name, ours in told.items() if ours and ours not in classes]
    if unknown:
        raise DataError(
            f"The model knows the classes {', '.join(classes)}, and images are labelled {', '.join(unknown)}. "
            "Say what each is called here with --label THEIRS=OURS, or leave it out with --label THEIRS="
        )
    if several:
        renamed = index.with_columns(rename_labels(index["label"], told), given=pl.lit(None, dtype=pl.String()))
        return renamed, [name for name in classes if name in told.values()]
    left_out = pl.col("label").is_in([name for name, ours in told.items() if not ours])
    index = index.with_columns(
        given=pl.when(left_out).then(pl.lit("left_out")).otherwise(None),
        label=pl.col("label").replace({name: ours or None for name, ours in told.items()}),
    )
    return index, list(classes)


def find_known(index: pl.DataFrame, own: pl.DataFrame) -> list[int]:
    """Rows of an external index that are exact or near copies of any image of the run. Both INDEX_SCHEMA."""
    mine, theirs = (table.filter(pl.col("refused").is_null()) for table in (own, index))
    known = pl.any_horizontal(pl.col(name).is_in(mine[name].implode()) for name in ("content", "pixels"))
    exact = theirs.filter(known)["row"].to_list()
    # One number may be another person in another hospital.
    both = pl.concat([mine, theirs.filter(~known).with_columns(group=pl.lit("external ") + pl.col("group"))])
    rows = both["row"].to_list()
    clusters = find_near_copies(both.with_columns(row=pl.int_range(len(both), dtype=pl.UInt32))).clusters
    near = [place for cluster in clusters if min(cluster) < len(mine) for place in cluster if place >= len(mine)]
    return sorted({*exact, *(rows[place] for place in near)})


def evaluate_external(
    predictions: pl.DataFrame,
    index: pl.DataFrame,
    own: Evaluation,
    own_index: pl.DataFrame,
    own_split: pl.DataFrame,
    study: Study,
    *,
    name: str,
    data: Data,
    labels: Mapping[str, str],
    classes: Sequence[str],
    copies: Sequence[int],
    features: tuple[Features, Features, Features] | None,
    test_looks: int,
) -> External:
    """Judge the predictions of a finished model on images of another source.

    Args:
        predictions: `prediction_schema` with the part `test`, of the rows that have a label and are no copies.
        index: INDEX_SCHEMA of the external images, with the run's classes (`take_labels`).
        own: the run's evaluation.
        own_index: INDEX_SCHEMA of the run.
        own_split: SPLIT_SCHEMA of the run.
        study: resolved.
        name: of the external images.
        data: where they lie.
        labels: what their classes were taken for.
        classes: of the run, or those of its labels that the index says anything of.
        copies: rows that are copies of images of the run.
        features: of the own test, of the external images, and of own images for reference; None where there are none.
        test_looks: times these images were judged, this one included.
    """
    train = own_index[own_split.filter(pl.col("part") == "train")["row"].to_numpy()]
    ours = own_index.join(own_split.filter(pl.col("part") == "test").select("row"), on="row", how="semi")
    ours = ours.filter(pl.col("label").is_not_null() & pl.col("refused").is_null())
    test, drops = own.parts[-1], dict[str, list[Measure]]()
    if own.labels:
        mine = dict(zip(own.classes, own.labels, strict=True))
        found = [
            _judge(
                predictions_of_label(predictions, label),
                *(table.with_columns(as_class("label", label)) for table in (index, ours, train)),
                own=mine[label],
                study=study,
                test_looks=test_looks,
            )
            for label in classes
        ]
        judged = found[0][0]
        evaluation = join_labels(classes, [(each,) for each, _, _ in found], [each for _, each, _ in found])
        drops = {label: drop for label, (_, _, drop) in zip(classes, found, strict=True)}
        # The mean of other labels is another figure.
        drop = gaps(test.measures, evaluation.parts[0].measures, apart=True) if list(classes) == own.classes else []
        ours = ours.with_columns(rename_labels(ours["label"], {label: label for label in classes}))
    else:
        ours = ours.filter(pl.col("label").is_in(own.classes))
        judged, evaluation, drop = _judge(predictions, index, ours, train, own=own, study=study, test_looks=test_looks)
    asked = index[judged.answers.rows.astype(np.int64)]
    differences = fact_differences(ours, asked, train, names=(study.name, name))
    distance = feature_difference(*features) if features else None
    share = judged.evaluation.class_counts[own.positive] / judged.evaluation.rows if own.positive and judged.evaluation.rows else 0.0
    rows = list(copies)
    known = [Finding(code="external_copies", level="warn", figures={"rows": len(rows)}, rows=rows[:200], page_one=True)] if rows else []
    told = [remark for remark in evaluation.remarks if remark.code.startswith("external_")]
    alike = not differences and not any(remark.code in ("external_prevalence", "external_prevalence_unsure") for remark in told)
    remarks = [
        *told,
        *differences,
        *([distance] if distance else []),
        *([Finding(code="external_alike", level="pass")] if alike else []),
        *known,
        *(remark for remark in evaluation.remarks if remark not in told),
    ]
    divided = {subgroup.column for subgroup in (evaluation.labels or [evaluation])[0].subgroups}
    return External(
        name=name,
        data=data.model_dump(mode="json"),
        labels=dict(labels),
        evaluation=evaluation.model_copy(update={"remarks": remarks}),
        drop=drop,
        label_drops=drops,
        expected=predictive_values(test.measures, share) if 0 < share < 1 else [],
        copies=rows,
        left_out=int((index["given"] == "left_out").sum()),
        unsaid=[each for each in (*own.classes, *study.evaluate.subgroups) if each not in divided | set(classes)],
        own_rows=test.rows,
        own_groups=test.groups,
    )


def _judge(
    predictions: pl.DataFrame,
    index: pl.DataFrame,
    ours: pl.DataFrame,
    train: pl.DataFrame,
    *,
    own: Evaluation,
    study: Study,
    test_looks: int,
) -> tuple[Judged, Evaluation, list[Measure]]:
    """How classes are told apart there, what the judge remarks, and the drop. `ours` and `train` INDEX_SCHEMA, of the run."""
    table = predictions.join(index.select("row", "content"), on="row")
    lost = index.filter(pl.col("refused").is_not_null())["row"].to_list()
    unlabelled = index.filter(pl.col("refused").is_null() & pl.col("label").is_null() & pl.col("given").is_null())["row"].to_list()
    judged = judge_part("test", table, own.classes, index, train, study, lost=lost)
    measures, test = judged.evaluation.measures, own.parts[-1].measures
    drop = gaps(test, measures, apart=True)
    asked = index[judged.answers.rows.astype(np.int64)]
    shares = prevalence_difference(ours, asked, own.classes, judged.sure)
    subgroups = measure_subgroups(judged.answers, index, said_columns(index, study.evaluate.subgroups), judged.sure)
    evaluation = Evaluation(
        classes=own.classes,
        positive=own.positive,
        threshold=own.threshold,
        patients=patients_known(asked["group"]),
        parts=[judged.evaluation],
        gap=[],
        subgroups=subgroups,
        remarks=[
            *drop_remarks(drop, test, measures),
            *([shares] if shares else []),
            *sureness_remarks(judged.answers, measures, unnamed=int(asked["group"].null_count())),
            *trust_remarks(judged.answers, measures, study, leaked=[], test_looks=test_looks),
            *baseline_remarks(judged.answers, judged.baselines, measures, judged.sure),
            *goal_remarks(measures),
            *part_remarks(judged.evaluation, refused=judged.refused, unlabelled=unlabelled),
            *subgroup_remarks(subgroups, confidence=study.evaluate.confidence),
        ],
        worst=worst_rows(judged.answers),
        random=random_rows(judged.answers, dict(zip(table["row"], table["content"], strict=True))),
        confidence=study.evaluate.confidence,
        draws=study.evaluate.draws,
        test_looks=test_looks,
    )
    return judged, evaluation, drop
