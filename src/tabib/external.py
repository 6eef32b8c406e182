"""From a finished run and a folder of images of another source to what the model is worth there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
from torch import nn

from tabib.config import AnyData, Data, Segmentation, SegmentationData, Study
from tabib.dataset import index_folder, rename_labels
from tabib.errors import DataError, StudyError
from tabib.evaluation import (
    Features,
    check_structures,
    evaluate_external,
    evaluate_external_masks,
    find_known,
    take_labels,
)
from tabib.prediction import Predictor, Segmenter, features_of, predict_external, predict_external_masks
from tabib.progress import SILENT, Progress
from tabib.records import External, Model
from tabib.reports import write_external
from tabib.runs import Run, keep_apart, save

__all__ = ["judge_external"]


def judge_external(
    run: Run,
    data: AnyData,
    *,
    name: str,
    labels: Mapping[str, str] | None = None,
    network: nn.Module | None = None,
    progress: Progress = SILENT,
) -> tuple[External, list[Path]]:
    """Judge the model of a finished run, as it is, on images of another source.

    Weights, temperature and operating point, or what is done with masks, are those of the run; nothing is chosen. What is written
    lies in `external/<name>/` of the run folder, and the pages beside its reports.

    Args:
        run: finished and entered, as `with read_run(folder) as run`.
        data: where the images lie, and how they say what they are; of masks, which numbers the run's structures have there.
        name: what to call them: Latin letters, digits, `_` and `-`.
        labels: what their classes, or their labels, are called in the run; "" leaves one out.
        network: the module of a run whose network is the user's own.
        progress: told of reading and decoding.

    Returns:
        The record of `external/<name>/evaluation.json`, and the pages.

    Raises:
        DataError: a class that the model does not know, or no image that can be judged.
        StudyError: another task than the run's, several labels of an image on one side and one class on the other, a structure that the
            run does not know, or a name that is none.
        RunError: a run that is not finished.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise StudyError(
            f"The name {name!r} of the external images may hold Latin letters, digits, _ and -, and no more than 64. Give another with --name."
        )
    study = run.read("study")
    keep_apart(run.folder, data.folder)
    if isinstance(study, Segmentation) and isinstance(data, SegmentationData):
        external, index, predictions = _judge_masks(run, data, study, name=name, progress=progress)
    elif isinstance(study, Study) and isinstance(data, Data):
        external, index, predictions = _judge_classes(run, data, study, name=name, labels=labels or {}, network=network, progress=progress)
    else:
        raise StudyError(
            f"The run is of task: {study.task}, and these images are told of as for the other task. Of masks say which number each structure "
            "has, as in --label lv=1; of classes, --layout, --table or --column."
        )
    place = run.folder / "external" / name
    save(place / "index.parquet", index)
    save(place / "predictions.parquet", predictions)
    save(place / "evaluation.json", external)
    return external, write_external(run.folder, run.worded(), external, index=index, predictions=predictions)


Judged = tuple[External, pl.DataFrame, pl.DataFrame]
"""The judgement, the index of the images, and what was predicted of them."""


def _judge_classes(
    run: Run, data: Data, study: Study, *, name: str, labels: Mapping[str, str], network: nn.Module | None, progress: Progress
) -> Judged:
    split, own_index = run.read("split"), run.read("index")
    if study.several != data.columns.several:
        kinds = ("several labels of an image", "one class of an image")
        tells, told = kinds if study.several else kinds[::-1]
        raise StudyError(
            f"The run tells {tells}, and these images come with {told}. Several labels are said by data.columns.labels, a column for each, "
            "or data.columns.separator, one column for all; with --column labels=effusion,mass, or --column separator=."
        )
    predictor = Predictor.load(run.folder / "model", network=network)
    found = index_folder(data, cache_folder=run.cache_folder, progress=progress)
    index, classes = take_labels(found, predictor.classes, labels, several=study.several)
    rows, copies = _unknown(index, own_index, data, classes)
    predictions = predict_external(predictor, rows, data, study, cache_folder=run.cache_folder, progress=progress)
    external = evaluate_external(
        predictions,
        index,
        run.read("evaluation"),
        own_index,
        split,
        study,
        name=name,
        data=data,
        labels=labels,
        classes=classes,
        copies=copies,
        features=_features(run, predictor, rows, classes, data, own_index, split, study, progress),
        test_looks=_look(run, rows),
    )
    return external, index, predictions


def _judge_masks(run: Run, data: SegmentationData, study: Segmentation, *, name: str, progress: Progress) -> Judged:
    segmenter = Segmenter.load(run.folder / "model")
    check_structures(data, segmenter.model)
    # In the order of the run, so that a structure has one colour on all pages.
    data = data.model_copy(update={"labels": {each: data.labels[each] for each in study.data.structures if each in data.labels}})
    own_index, folder = run.read("index"), run.folder / "external" / name
    index = index_folder(data, cache_folder=run.cache_folder, progress=progress)
    rows, copies = _unknown(index, own_index, data, data.structures)
    predictions = predict_external_masks(segmenter, rows, data, study, folder=folder, progress=progress)
    external = evaluate_external_masks(
        predictions,
        index,
        run.read("evaluation"),
        own_index,
        run.read("split"),
        study,
        name=name,
        data=data,
        copies=copies,
        folder=folder,
        test_looks=_look(run, rows),
        progress=progress,
    )
    return external, index, predictions


def _unknown(index: pl.DataFrame, own_index: pl.DataFrame, data: AnyData, classes: Sequence[str]) -> tuple[pl.DataFrame, list[int]]:
    """Rows to judge, and those that are copies of images of the run. `classes` that they tell anything of."""
    copies = find_known(index, own_index)
    rows = index.filter(pl.col("refused").is_null() & pl.col("label").is_not_null() & ~pl.col("row").is_in(copies))
    if rows.is_empty() or not classes:
        raise DataError(
            f"None of the {len(index)} files of {data.folder} can be judged: {int(index['refused'].count())} could not be used, "
            f"{len(copies)} are copies of images of the run, the others have no {'mask' if isinstance(data, SegmentationData) else 'label'}."
        )
    return rows, copies


def _look(run: Run, rows: pl.DataFrame) -> int:
    return run.look_at_test(rows.with_columns(part=pl.lit("test")), run.read("decision"))


def _features(
    run: Run,
    predictor: Predictor,
    rows: pl.DataFrame,
    classes: Sequence[str],
    data: Data,
    index: pl.DataFrame,
    split: pl.DataFrame,
    study: Study,
    progress: Progress,
) -> tuple[Features, Features, Features] | None:
    """Of the own test, of the external images, and for reference of own images that the first member was not trained on."""
    if not study.data.folder.exists():  # the own images have gone; all else can be judged without them
        return None
    model: Model = predictor.model
    fold = model.members[0].fold
    unseen = pl.col("part") == "validation" if fold is None else (pl.col("part") == "train") & (pl.col("fold") == fold)

    def of(table: pl.DataFrame, whole: pl.DataFrame, where: Data) -> Features:
        judged = pl.col("label").is_not_null() if model.several else pl.col("label").is_in(classes)
        good = table.filter(pl.col("refused").is_null() & judged)
        units = good.select(pl.coalesce("group", "content")).to_series().to_list()
        values = features_of(predictor, good, whole, where, study, cache_folder=run.cache_folder, progress=progress)
        labels = rename_labels(good["label"], {name: name for name in classes}) if model.several else good["label"]
        return Features(values, labels.to_list(), units)

    test, reference = (index.join(split.filter(part).select("row"), on="row", how="semi") for part in (pl.col("part") == "test", unseen))
    return of(test, index, study.data), of(rows, rows, data), of(reference, index, study.data)
