"""Are the masks any good, how sure is that, and where do they go wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from tabib.config import Segmentation, SegmentationData
from tabib.dataset import patients_known
from tabib.engines import Crashed, map_in_processes
from tabib.evaluation.gallery import drawn
from tabib.evaluation.hearts import agreements, is_heart
from tabib.evaluation.history import judge_histories
from tabib.evaluation.mask_cases import Asked, Baseline, measure_case, structure_shares
from tabib.evaluation.mask_errors import mask_subgroups, phase_of, size_thirds, slice_thirds
from tabib.evaluation.mask_measures import STRUCTURES, disagreement_measure, measure_masks
from tabib.evaluation.mask_remarks import (
    case_remarks,
    disagreement_remarks,
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
from tabib.records import GALLERY, PARTS, Known, PostProcessing, SegmentationEvaluation, SegmentedPart

__all__ = ["JudgedMasks", "evaluate_masks", "join_masks", "judge_masks", "mean_shape", "measure_validation"]

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
    shape = mean_shape(study.data, index, split, progress=progress)
    trained = set(split.filter(pl.col("part") == "train")["row"])
    parts = []
    for name in ("validation", "test"):
        mine = predictions.filter(pl.col("part") == name)
        # Under folds the validation rows are the training rows: what learnt from them cannot be judged on them.
        unseen = None if name == "validation" and trained & set(mine["row"]) else shape
        lost = unpredicted_rows(name, mine["row"], index, split, study)
        parts.append(judge_masks(name, mine, index, split, study, folder=folder, shape=unseen, lost=lost, progress=progress))
    used = index.join(split.filter(pl.col("part").is_in(PARTS)).select("row"), on="row").filter(pl.col("refused").is_null())
    leaked = leaked_rows(split, index, [case.row for case in parts[-1].part.cases])
    found = join_masks(parts, index, study, patients=patients_known(used["group"]), leaked=leaked, test_looks=test_looks)
    return found.model_copy(update={"remarks": [*found.remarks, *judge_histories(histories or {})]})


def measure_validation(
    predictions: pl.DataFrame, index: pl.DataFrame, split: pl.DataFrame, study: Segmentation, *, folder: Path, progress: Progress = SILENT
) -> SegmentedPart:
    """Measure the predicted masks of the validation images alone; arguments as `evaluate_masks`."""
    mine = predictions.filter(pl.col("part") == "validation")
    lost = unpredicted_rows("validation", mine["row"], index, split, study)
    return judge_masks("validation", mine, index, split, study, folder=folder, shape=None, lost=lost, progress=progress).part


def join_masks(
    parts: Sequence[JudgedMasks], index: pl.DataFrame, study: Segmentation, *, patients: Known, leaked: Sequence[int], test_looks: int
) -> SegmentationEvaluation:
    """Everything that is said of judged parts, the last of which is the test.

    Args:
        parts: validation and test, or the test alone.
        index: INDEX_SCHEMA.
        study: resolved.
        patients: how far they are known, over all images of the parts.
        leaked: test rows that the model may know.
        test_looks: how often these test images were judged, this time included.
    """
    before, test = parts[0], parts[-1]
    structures, measures, cases = study.data.structures, test.part.measures, test.part.cases
    heart = is_heart(structures)
    apart = not {case.group for case in before.part.cases} & {case.group for case in cases}
    gap = gaps(before.part.measures, measures, apart=apart) if len(parts) > 1 else []
    rows = [case.row for case in cases]
    unnamed = index.filter(pl.col("row").is_in(rows) & pl.col("group").is_null()).height
    subgroups = mask_subgroups(cases, index, study.evaluate.subgroups, test.sure)
    thirds, sizes = slice_thirds(cases, structures, test.sure, heart=heart), size_thirds(cases, structures, test.sure)
    agreed = agreements(cases, structures, test.sure)
    disagreed = disagreement_measure(cases, test.sure)
    return SegmentationEvaluation(
        structures=structures,
        instances=study.data.instances,
        tolerance_mm=study.evaluate.tolerance_mm,
        patients=patients,
        parts=[each.part for each in parts],
        gap=gap,
        heart=heart,
        subgroups=subgroups,
        thirds=thirds,
        sizes=sizes,
        agreements=agreed,
        disagreement=disagreed,
        remarks=[
            *mask_sureness_remarks(test.part, unnamed=unnamed),
            *mask_trust_remarks(test.part, leaked=leaked, test_looks=test_looks),
            *mask_baseline_remarks(cases, test.baselines, measures, test.sure),
            *goal_remarks(measures),
            *gap_remarks(gap, before.part.measures, measures, names=[("dice", STRUCTURES)]),
            *(
                remark
                for part in reversed(parts)
                for remark in (
                    *part_remarks(part.part, refused=part.refused, unlabelled=part.unlabelled),
                    *case_remarks(part.part, structures),
                )
            ),
            *heart_remarks(test.part, agreed, study, heart=heart),
            *where_remarks(thirds, sizes),
            *disagreement_remarks(disagreed, cases),
            *subgroup_remarks(subgroups, confidence=study.evaluate.confidence),
        ],
        worst=[case.row for case in sorted(cases, key=lambda case: (2.0 if case.dice is None else case.dice, case.row))][:GALLERY],
        random=drawn(rows, dict(index.select("row", "content").iter_rows()))[:GALLERY],
        confidence=study.evaluate.confidence,
        draws=study.evaluate.draws,
        test_looks=test_looks,
    )


@dataclass(frozen=True)
class JudgedMasks:
    """One part, judged, and what further remarks read."""

    part: SegmentedPart
    baselines: dict[str, list[Baseline]]
    sure: Sureness
    refused: list[int]  # rows
    unlabelled: list[int]


def judge_masks(
    part: Literal["validation", "test"],
    predictions: pl.DataFrame,
    index: pl.DataFrame,
    split: pl.DataFrame,
    study: Segmentation,
    *,
    folder: Path,
    shape: np.ndarray | None,
    lost: Sequence[int],
    progress: Progress = SILENT,
) -> JudgedMasks:
    """Measure the predicted masks of one part.

    Args:
        part: what it is called.
        predictions: MASKS_SCHEMA, of this part.
        index: INDEX_SCHEMA.
        split: with the columns `row` and `group`.
        study: resolved, with the data that the masks are of.
        folder: in which the predicted masks lie.
        shape: what the baseline answers, as `mean_shape` gives it; None for no baseline.
        lost: rows that belong to the part and have no prediction.
        progress: told of each image.
    """
    mine = (
        predictions.select("row", "path", prediction="mask")
        .join(index.select("row", "content", "facts", "mask"), on="row")
        .join(split.select("row", "group"), on="row", how="left")
        # An image without a group is known by its content, so that its group does not hang on the other files.
        .with_columns(pl.coalesce("group", pl.lit("image ") + pl.col("content")))
        .sort("row")
    )
    masked = mine.drop_nulls("mask")
    disagreements = dict(predictions.select("row", "disagreement").iter_rows()) if "disagreement" in predictions.columns else {}
    heart = is_heart(study.data.structures)
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
            shape,
            disagreements.get(each["row"]),
        )
        for each in masked.iter_rows(named=True)
    ]
    answers = map_in_processes(measure_case, asked, progress=progress, name=f"measuring {part}")
    found = [answer for answer in answers if not isinstance(answer, str | Crashed)]
    unread = [item.row for item, answer in zip(asked, answers, strict=True) if isinstance(answer, str | Crashed)]
    cases = [case for case, _ in found]
    baselines = {"mean_shape": [said for _, said in found if said is not None]} if shape is not None and found else {}
    contents = dict(index.select("row", "content").iter_rows())
    sure = Sureness(study.evaluate.confidence, study.evaluate.draws, seed_of(part, [contents[case.row] for case in cases]))
    refused = sorted({*unread, *lost})
    judged = SegmentedPart(
        part=part,
        rows=len(cases),
        groups=len({case.group for case in cases}),
        refused=len(refused),
        measures=measure_masks(cases, baselines, study.goals, sure),
        present={name: sum(case.structures[place].truth > 0 for case in cases) for place, name in enumerate(study.data.structures)},
        cases=cases,
    )
    return JudgedMasks(judged, baselines, sure, refused, mine.filter(pl.col("mask").is_null())["row"].to_list())


def mean_shape(data: SegmentationData, index: pl.DataFrame, split: pl.DataFrame, *, progress: Progress = SILENT) -> np.ndarray | None:
    """What most training masks show at each place of the frame, (D, H, W) structure numbers on a grid of its own; None without masks."""
    rows = split.filter(pl.col("part") == "train")["row"]
    train = index.filter(pl.col("row").is_in(rows.implode())).drop_nulls("mask").sort("row")
    if not train.height:
        return None
    grid = (max(1, int(np.median(train["slices"].fill_null(1).to_numpy()))), GRID, GRID)
    items = [(data, path, mask, grid) for path, mask in train.select("path", "mask").iter_rows()]
    answers = map_in_processes(structure_shares, items, progress=progress, name="averaging training masks")
    shares = [answer for answer in answers if isinstance(answer, np.ndarray)]
    return np.sum(shares, axis=0, dtype=np.float32).argmax(0).astype(np.uint8) if shares else None
