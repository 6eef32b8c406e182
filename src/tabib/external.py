"""From a finished run and a folder of images of another source to what the model is worth there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
from torch import nn

from tabib.config import Data, Study
from tabib.dataset import index_folder, rename_labels
from tabib.errors import DataError, StudyError
from tabib.evaluation import Features, evaluate_external, find_known, take_labels
from tabib.prediction import Predictor, features_of, predict_external
from tabib.progress import SILENT, Progress
from tabib.records import External, Model
from tabib.reports import write_external
from tabib.runs import Run, keep_apart, save
from tabib.study_file import of_classes

__all__ = ["judge_external"]


def judge_external(
    run: Run,
    data: Data,
    *,
    name: str,
    labels: Mapping[str, str] | None = None,
    network: nn.Module | None = None,
    progress: Progress = SILENT,
) -> tuple[External, list[Path]]:
    """Judge the model of a finished run, as it is, on images of another source.

    Weights, temperature and operating point are those of the run; nothing is chosen. What is written lies in `external/<name>/` of
    the run folder, and the pages beside its reports.

    Args:
        run: finished and entered, as `with read_run(folder) as run`.
        data: where the images lie, and how they say what they are.
        name: what to call them: Latin letters, digits, `_` and `-`.
        labels: what their classes, or their labels, are called in the run; "" leaves one out.
        network: the module of a run whose network is the user's own.
        progress: told of reading and decoding.

    Returns:
        The record of `external/<name>/evaluation.json`, and the pages.

    Raises:
        DataError: a class that the model does not know, or no image that can be judged.
        StudyError: several labels of an image on one side and one class on the other, or a name that is none.
        RunError: a run that is not finished.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise StudyError(
            f"The name {name!r} of the external images may hold Latin letters, digits, _ and -, and no more than 64. Give another with --name."
        )
    split, study, own_index = run.read("split"), of_classes(run.read("study")), run.read("index")
    if study.several != data.columns.several:
        kinds = ("several labels of an image", "one class of an image")
        tells, told = kinds if study.several else kinds[::-1]
        raise StudyError(
            f"The run tells {tells}, and these images come with {told}. Several labels are said by data.columns.labels, a column for each, "
            "or data.columns.separator, one column for all; with --column labels=effusion,mass, or --column separator=."
        )
    keep_apart(run.folder, data.folder)
    predictor = Predictor.load(run.folder / "model", network=network)
    found = index_folder(data, cache_folder=run.cache_folder, progress=progress)
    index, classes = take_labels(found, predictor.classes, labels or {}, several=study.several)
    copies = find_known(index, own_index)
    rows = index.filter(pl.col("refused").is_null() & pl.col("label").is_not_null() & ~pl.col("row").is_in(copies))
    if rows.is_empty() or not classes:
        raise DataError(
            f"None of the {len(index)} files of {data.folder} can be judged: {int(index['refused'].count())} could not be used, "
            f"{len(copies)} are copies of images of the run, the others have no label."
        )
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
        labels=labels or {},
        classes=classes,
        copies=copies,
        features=_features(run, predictor, rows, classes, data, own_index, split, study, progress),
        test_looks=run.look_at_test(rows.with_columns(part=pl.lit("test")), run.read("decision")),
    )
    place = run.folder / "external" / name
    save(place / "index.parquet", index)
    save(place / "predictions.parquet", predictions)
    save(place / "evaluation.json", external)
    return external, write_external(run.folder, of_classes(run.worded()), external, index=index, predictions=predictions)


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
