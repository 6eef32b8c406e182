"""A finished segmenter on images of another source: how good its masks are there, how much is lost, and in what the images differ."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl

from tabib.config import Segmentation, SegmentationData
from tabib.dataset import GEOMETRY, Grid, MaskFacts, patients_known, prepared_shape, rename_labels
from tabib.errors import StudyError
from tabib.evaluation.differences import fact_differences
from tabib.evaluation.mask_measures import OBJECTS, STRUCTURES, VOXELS
from tabib.evaluation.masks import join_masks, judge_masks, mean_shape
from tabib.evaluation.measures import gaps
from tabib.evaluation.remarks import drop_remarks, remark
from tabib.evaluation.subgroups import said_columns
from tabib.progress import SILENT, Progress
from tabib.records import PARTS, Beside, External, Finding, SegmentationEvaluation, SegmentationModel

__all__ = ["check_structures", "evaluate_external_masks"]

FEWEST = 10
"""Facts of files are compared where each set has so many patients."""

OTHER_SCALE = 1.25
"""A structure that is so many times as wide as on the run's own images, or as many times narrower, is said."""


def check_structures(data: SegmentationData, model: SegmentationModel) -> None:
    """Raise `StudyError` where masks tell of structures that the model does not know, or of objects that it does not tell apart."""
    for name in data.structures:
        if name not in model.structures:
            near = difflib.get_close_matches(name, model.structures, n=1, cutoff=0.5)
            raise StudyError(
                f"The run knows no structure {name}. {f'Did you mean {near[0]}? ' if near else ''}It has: {', '.join(model.structures)}. "
                f"Say which number of these masks each of them is, as in --label {model.structures[0]}=1; what the masks do not show is left out."
            )
    if data.instances and not model.instances:
        raise StudyError(
            "data.instances is true: each number of these masks is one object; and the run tells no objects apart. Leave it out, and "
            f"name every number under labels, as in {{{data.structures[0]}: [1, 2, 3]}}."
        )


def evaluate_external_masks(
    predictions: pl.DataFrame,
    index: pl.DataFrame,
    own: SegmentationEvaluation,
    own_index: pl.DataFrame,
    own_split: pl.DataFrame,
    study: Segmentation,
    *,
    name: str,
    data: SegmentationData,
    copies: Sequence[int],
    folder: Path,
    test_looks: int,
    progress: Progress = SILENT,
) -> External:
    """Judge the masks of a finished model on images of another source.

    Structures that their masks do not tell of are in no measure: where the model sees them is background here.

    Args:
        predictions: MASKS_SCHEMA with the part `test`, of the rows that have a mask and are no copies.
        index: INDEX_SCHEMA of the external images.
        own: the run's evaluation.
        own_index: INDEX_SCHEMA of the run.
        own_split: SPLIT_SCHEMA of the run.
        study: resolved.
        name: of the external images.
        data: where they lie, and which numbers of their masks the structures are (`check_structures`).
        copies: rows that are copies of images of the run.
        folder: in which the predicted masks lie.
        test_looks: times these images were judged, this one included.
        progress: told of each image.
    """
    said = said_columns(index, study.evaluate.subgroups)
    there = study.model_copy(update={"data": data, "evaluate": study.evaluate.model_copy(update={"subgroups": said})})
    # In the order of their structures, so that the numbers of the mean shape are those of the masks.
    labels = {each: study.data.labels[each] for each in data.structures}
    shape = mean_shape(study.data.model_copy(update={"labels": labels}), own_index, own_split, progress=progress)
    usable = index.filter(pl.col("refused").is_null() & ~pl.col("row").is_in(list(copies)))
    unlabelled = usable.filter(pl.col("mask").is_null())["row"].to_list()
    lost = index.filter(pl.col("refused").is_not_null() & pl.col("mask").is_not_null())["row"].to_list()
    test = judge_masks("test", predictions, index, index, there, folder=folder, shape=shape, lost=lost, progress=progress)
    asked = index[[case.row for case in test.part.cases]]
    evaluation = join_masks([test], index, there, patients=patients_known(asked["group"]), leaked=[], test_looks=test_looks)
    same = set(data.structures) == set(own.structures)
    measured = own.parts[-1]
    over = (*data.structures, *((None, STRUCTURES, VOXELS, OBJECTS) if same else ()))
    drop = gaps(measured.measures, test.part.measures, apart=True, of=over)
    named = [("dice", STRUCTURES), ("panoptic_quality", None)] if same else [("dice", each) for each in data.structures]
    used = own_index.join(own_split.filter(pl.col("part").is_in(PARTS)).select("row"), on="row", how="semi").drop_nulls("mask")
    train = own_index.join(own_split.filter(pl.col("part") == "train").select("row"), on="row", how="semi")
    beside = _beside(used, asked, study, data)
    remarks = [
        *drop_remarks(drop, measured.measures, test.part.measures, names=named),
        *_differences(used, asked, train, study, data, beside, name=name),
        *([remark("external_copies", "warn", {"rows": len(copies)}, rows=copies, page_one=True)] if copies else []),
        *_unnamed(asked, data),
        *([remark("unlabelled_rows", "warn", {"part": "test", "rows": len(unlabelled)}, rows=unlabelled)] if unlabelled else []),
    ]
    return External(
        name=name,
        data=data.model_dump(mode="json"),
        labels={},
        evaluation=evaluation.model_copy(update={"remarks": [*remarks, *evaluation.remarks]}),
        drop=drop,
        expected=[],
        copies=list(copies),
        left_out=0,
        unsaid=[each for each in (*own.structures, *study.evaluate.subgroups) if each not in {*data.structures, *said}],
        beside=beside,
        own_rows=measured.rows,
        own_groups=measured.groups,
    )


# --- What differs ---


def _beside(own: pl.DataFrame, other: pl.DataFrame, study: Segmentation, data: SegmentationData) -> list[Beside]:
    """What is typical of both sets: sizes, spacing, brightness, and of each structure how often, how much and how large it is."""
    sides = ((own, study.data), (other, data))

    def column(name: str, *, millimetres: bool = False) -> list[list[float]]:
        return [[] if millimetres and whose.spacing == "nominal" else _typical(table[name].to_list()) for table, whose in sides]

    names = {"height": "height", "width": "width", "slices": "slices", "spacing_row_mm": "spacing_mm"}
    names |= {"spacing_slice_mm": "between_mm", "mean": "mean", "contrast": "contrast"}
    rows = [(said, None, *column(name, millimetres=name.endswith("_mm"))) for name, said in names.items()]
    grid = Grid.of(study.input)
    for structure in data.structures:
        found = [_shown(table, whose, structure, grid) for table, whose in sides]
        rows += [
            ("shown", structure, *([len(share) / max(1, len(table))] for (share, _), (table, _) in zip(found, sides, strict=True))),
            ("share", structure, *(_typical(share) for share, _ in found)),
            ("width_seen", structure, *(_typical(width) for _, width in found)),
        ]
    flat = {"slices": [1.0] * 3}
    return [
        Beside.model_validate({"name": said, "of": of, "own": mine, "external": theirs})
        for said, of, mine, theirs in rows
        if (mine or theirs) and not (mine == theirs == flat.get(said))
    ]


def _typical(values: Sequence[float | None]) -> list[float]:
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    return np.quantile(known, (0.1, 0.5, 0.9)).tolist() if len(known) else []


def _shown(table: pl.DataFrame, data: SegmentationData, structure: str, grid: Grid) -> tuple[list[float], list[float]]:
    """Of every image that shows a structure its share of the image, and how wide it is as the network sees it, in pixels.

    The width is that of a disc as large as the structure is in a slice, or as one of its objects is.
    """
    given = data.labels[structure]
    numbers = {str(number) for number in ([given] if isinstance(given, int) else given)}
    shares, widths = [], []
    for text, facts, *geometry in table.select("structures", "mask_facts", *GEOMETRY).iter_rows():
        stored = {number: voxels for number, voxels in json.loads(text).items() if int(number) not in data.ignored}
        voxels = sum(stored.values()) if data.instances else sum(stored.get(number, 0) for number in numbers)
        if not voxels:
            continue
        slices, height, width = geometry[:3]
        _, rows, columns = prepared_shape((slices, height, width), tuple(geometry[3:]), grid)
        pieces = len(stored) if data.instances else MaskFacts(**json.loads(facts)).slices[structure]
        shares.append(voxels / (slices * height * width))
        widths.append(2 * math.sqrt(voxels / pieces * rows / height * columns / width / math.pi))
    return shares, widths


def _differences(
    own: pl.DataFrame,
    other: pl.DataFrame,
    train: pl.DataFrame,
    study: Segmentation,
    data: SegmentationData,
    beside: Sequence[Beside],
    *,
    name: str,
) -> list[Finding]:
    """What of the images differs more than by chance, and structures of another size; or that too few patients are there to say."""
    found = []
    for each in beside:
        if each.name == "width_seen" and each.own and each.external:
            before, after = each.own[1], each.external[1]
            if not 1 / OTHER_SCALE < after / before < OTHER_SCALE:
                figures = {"structure": each.of, "own": before, "external": after, "ratio": after / before}
                found.append(remark("external_scale", "warn", figures, page_one=True))
    patients = [table.select(pl.coalesce("group", "content")).n_unique() for table in (own, other)]
    if min(patients) < FEWEST:
        return [*found, remark("external_few", "warn", {"own": patients[0], "external": patients[1], "fewest": FEWEST})]
    kept = {each: each for each in data.structures}
    nominal = "nominal" in (study.data.spacing, data.spacing)
    sets = [
        table.with_columns(rename_labels(table["label"], kept), *([pl.lit(None, pl.Float64).alias("spacing_row_mm")] if nominal else []))
        for table in (own, other)
    ]
    differences = fact_differences(sets[0], sets[1], train, names=(study.name, name))
    return [*found, *differences] or [Finding(code="external_masks_alike", level="pass")]


def _unnamed(masked: pl.DataFrame, data: SegmentationData) -> list[Finding]:
    """Numbers of their masks that nobody named: they count as background."""
    named = {*data.ignored, *chain.from_iterable([given] if isinstance(given, int) else given for given in data.labels.values())}
    rows = {row: {int(number) for number in json.loads(text)} - named for row, text in masked.select("row", "structures").iter_rows()}
    numbers = sorted(set().union(*rows.values()))
    if data.instances or not numbers:
        return []
    figures = {"numbers": ", ".join(map(str, numbers[:8])), "images": sum(map(bool, rows.values()))}
    return [remark("external_numbers", "warn", figures, rows=[row for row, mine in rows.items() if mine])]
