"""Are the masks any good, how sure is that, and where do they go wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from tabib.config import Segmentation
from tabib.dataset import patients_known
from tabib.engines import Crashed, map_in_processes
from tabib.evaluation.gallery import drawn
from tabib.evaluation.hearts import agreements, is_heart
from tabib.evaluation.history import judge_histories
from tabib.evaluation.mask_cases import Asked, Baseline, measure_case, structure_shares
from tabib.evaluation.mask_errors import mask_subgroups, phase_of, size_thirds, slice_thirds
from tabib.evaluation.mask_measures import STRUCTURES, measure_masks
from tabib.evaluation.mask_remarks import (
    case_remarks,
    heart_remarks,
    mask_baseline_remarks,
    mask_sureness_remarks,
    mask_trust_remarks,
    where_remarks,
)
from tabib.evaluation.measures import gaps
from tabib.evaluation.parts import leaked_rows, seed_of, unpredicted_rows
from tabib.evaluation.remarks import gap_remarks, goal_remarks, part_remarks, subgroup_remarks
from tabib.metrics.intervals import Sureness
from tabib.progress import SILENT, Progress
from tabib.records import GALLERY, PARTS, PostProcessing, SegmentationEvaluation, SegmentedPart

__all__ = ["evaluate_masks"]

GRID = 64
"""Rows and columns of the grid on which training masks are averaged."""


def evaluate_masks(
    predictions: pl.DataFrame,
    index: pl.DataFrame,
    split: pl.DataFrame,
    decision: PostProcessing,
    study: Segmentation,
    *,
    folder: Path,
    test_looks: int = 1,
    histories: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    progress: Progress = SILENT,
) -> SegmentationEvaluation:
    """Measure predicted masks on validation and test, with intervals over patients, a baseline and remarks.

    Every image is measured on its own voxels, and means are taken over images. What is measured in mm and mL is left out where
    the study says that the spacing is nominal, or a file says none. An image without a mask, or whose files cannot be read, is in
    no measure and counted. The baseline `mean_shape` answers every image with what most training masks show at each place.

    Args:
        predictions: MASKS_SCHEMA.
        index: INDEX_SCHEMA.
        split: SPLIT_SCHEMA.
        decision: made before any test image was predicted; the masks hold what it chose.
        study: resolved.
        folder: of the run, in which the predicted masks lie.
        test_looks: how often these test images were judged, this time included.
        histories: of every member the lines of its `history.jsonl`.
        progress: told of each image.
    """
    heart = is_heart(study.data.structures)
    shape = _mean_shape(index, split, study, progress=progress)
    validation, test = (
        _judge(part, predictions, index, split, study, folder=folder, shape=shape, heart=heart, progress=progress)
        for part in ("validation", "test")
    )
    used = index.join(split.filter(pl.col("part").is_in(PARTS)).select("row"), on="row").filter(pl.col("refused").is_null())
    apart = not {case.group for case in validation.part.cases} & {case.group for case in test.part.cases}
    gap, measures, cases = gaps(validation.part.measures, test.part.measures, apart=apart), test.part.measures, test.part.cases
    rows = [case.row for case in cases]
    unnamed = index.filter(pl.col("row").is_in(rows) & pl.col("group").is_null()).height
    structures = study.data.structures
    subgroups = mask_subgroups(cases, index, study.evaluate.subgroups, test.sure)
    thirds, sizes = slice_thirds(cases, structures, test.sure, heart=heart), size_thirds(cases, structures, test.sure)
    agreed = agreements(cases, structures, test.sure)
    return SegmentationEvaluation(
        structures=structures,
        instances=study.data.instances,
        tolerance_mm=study.evaluate.tolerance_mm,
        patients=patients_known(used["group"]),
        parts=[validation.part, test.part],
        gap=gap,
        heart=heart,
        subgroups=subgroups,
        thirds=thirds,
        sizes=sizes,
        agreements=agreed,
        remarks=[
            *mask_sureness_remarks(test.part, unnamed=unnamed),
            *mask_trust_remarks(test.part, leaked=leaked_rows(split, index, rows), test_looks=test_looks),
            *mask_baseline_remarks(cases, test.baselines, measures, test.sure),
            *goal_remarks(measures),
            *gap_remarks(gap, validation.part.measures, measures, names=[("dice", STRUCTURES)]),
            *(
                remark
                for part in (test, validation)
                for remark in (
                    *part_remarks(part.part, refused=part.refused, unlabelled=part.unlabelled),
                    *case_remarks(part.part, structures),
                )
            ),
            *heart_remarks(test.part, agreed, study, heart=heart),
            *where_remarks(thirds, sizes),
            *subgroup_remarks(subgroups, confidence=study.evaluate.confidence),
            *judge_histories(histories or {}),
        ],
        worst=[case.row for case in sorted(cases, key=lambda case: (2.0 if case.dice is None else case.dice, case.row))][:GALLERY],
        random=drawn(rows, dict(index.select("row", "content").iter_rows()))[:GALLERY],
        confidence=study.evaluate.confidence,
        draws=study.evaluate.draws,
        test_looks=test_looks,
    )


@dataclass(frozen=True)
class _Judged:
    """One part, judged, and what further remarks read."""

    part: SegmentedPart
    baselines: dict[str, list[Baseline]]
    sure: Sureness
    refused: list[int]  # rows
    unlabelled: list[int]


def _judge(
    part: Literal["validation", "test"],
    predictions: pl.DataFrame,
    index: pl.DataFrame,
    split: pl.DataFrame,
    study: Segmentation,
    *,
    folder: Path,
    shape: np.ndarray | None,
    heart: bool,
    progress: Progress,
) -> _Judged:
    mine = (
        predictions.filter(pl.col("part") == part)
        .select("row", "path", prediction="mask")
        .join(index.select("row", "content", "facts", "mask"), on="row")
        .join(split.select("row", "group"), on="row", how="left")
        # An image without a group is known by its content, so that its group does not hang on the other files.
        .with_columns(pl.coalesce("group", pl.lit("image ") + pl.col("content")))
        .sort("row")
    )
    masked = mine.drop_nulls("mask")
    # Under folds the validation rows are the training rows: what learnt from them cannot be judged on them.
    trained = set(split.filter(pl.col("part") == "train")["row"])
    unseen = None if part == "validation" and trained & set(masked["row"]) else shape
    asked = [
        Asked(
            study.data,
            each["row"],
            each["path"],
            each["mask"],
            folder / each["prediction"],
            each["group"],
            phase_of(each["facts"]),
            study.evaluate.tolerance_mm,
            heart,
            unseen,
        )
        for each in masked.iter_rows(named=True)
    ]
    answers = map_in_processes(measure_case, asked, progress=progress, name=f"measuring {part}")
    found = [answer for answer in answers if not isinstance(answer, str | Crashed)]
    lost = [item.row for item, answer in zip(asked, answers, strict=True) if isinstance(answer, str | Crashed)]
    cases = [case for case, _ in found]
    baselines = {"mean_shape": [said for _, said in found if said is not None]} if unseen is not None and found else {}
    contents = dict(index.select("row", "content").iter_rows())
    sure = Sureness(study.evaluate.confidence, study.evaluate.draws, seed_of(part, [contents[case.row] for case in cases]))
    refused = sorted({*lost, *unpredicted_rows(part, mine["row"], index, split, study)})
    judged = SegmentedPart(
        part=part,
        rows=len(cases),
        groups=len({case.group for case in cases}),
        refused=len(refused),
        measures=measure_masks(cases, baselines, study.goals, sure),
        present={name: sum(case.structures[place].truth > 0 for case in cases) for place, name in enumerate(study.data.structures)},
        cases=cases,
    )
    return _Judged(judged, baselines, sure, refused, mine.filter(pl.col("mask").is_null())["row"].to_list())


def _mean_shape(index: pl.DataFrame, split: pl.DataFrame, study: Segmentation, *, progress: Progress) -> np.ndarray | None:
    """What most training masks show at each place of the frame, (D, H, W) structure numbers on a grid of its own; None without masks."""
    rows = split.filter(pl.col("part") == "train")["row"]
    train = index.filter(pl.col("row").is_in(rows.implode())).drop_nulls("mask").sort("row")
    if not train.height:
        return None
    grid = (max(1, int(np.median(train["slices"].fill_null(1).to_numpy()))), GRID, GRID)
    items = [(study.data, path, mask, grid) for path, mask in train.select("path", "mask").iter_rows()]
    answers = map_in_processes(structure_shares, items, progress=progress, name="averaging training masks")
    shares = [answer for answer in answers if isinstance(answer, np.ndarray)]
    return np.sum(shares, axis=0, dtype=np.float32).argmax(0).astype(np.uint8) if shares else None
