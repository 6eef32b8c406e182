"""From a finished run and a folder of images of another source to what the model is worth there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import polars as pl
from torch import nn

from tabib.config import Data, Study
from tabib.dataset import index_folder
from tabib.errors import DataError, StudyError
from tabib.evaluation import Features, evaluate_external, find_known, take_labels
from tabib.prediction import Predictor, features_of, predict_external
from tabib.progress import SILENT, Progress
from tabib.records import External, Model
from tabib.reports import write_external
from tabib.runs import Run, keep_apart, save

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
        labels: what their classes are called in the run; "" leaves a class out.
        network: the module of a run whose network is the user's own.
        progress: told of reading and decoding.

    Returns:
        The record of `external/<name>/evaluation.json`, and the pages.

    Raises:
        DataError: a class that the model does not know, or no image that can be judged.
        StudyError: a run of several labels, or a name that is none.
        RunError: a run that is not finished.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise StudyError(
            f"The name {name!r} of the external images may hold Latin letters, digits, _ and -, and no more than 64. Give another with --name."
        )
    if run.read("study").several:
        raise StudyError(
            "The run tells several labels of one image, and images of another source are judged by classes only, so far. "
            "Predict them with tabib predict, and compare the table with their labels."
        )
    keep_apart(run.folder, data.folder)
    split, study, own_index = run.read("split"), run.read("study"), run.read("index")
    predictor = Predictor.load(run.folder / "model", network=network)
    index = take_labels(index_folder(data, cache_folder=run.cache_folder, progress=progress), predictor.classes, labels or {})
    copies = find_known(index, own_index)
    rows = index.filter(pl.col("refused").is_null() & pl.col("label").is_not_null() & ~pl.col("row").is_in(copies))
    if rows.is_empty():
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
        copies=copies,
        features=_features(run, predictor, rows, data, own_index, split, study, progress),
        test_looks=run.look_at_test(rows.with_columns(part=pl.lit("test")), run.read("decision")),
    )
    place = run.folder / "external" / name
    save(place / "index.parquet", index)
    save(place / "predictions.parquet", predictions)
    save(place / "evaluation.json", external)
    return external, write_external(run.folder, run.worded(), external, index=index, predictions=predictions)


def _features(
    run: Run,
    predictor: Predictor,
    rows: pl.DataFrame,
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
        good = table.filter(pl.col("refused").is_null() & pl.col("label").is_in(model.classes))
        units = good.select(pl.coalesce("group", "content")).to_series().to_list()
        values = features_of(predictor, good, whole, where, study, cache_folder=run.cache_folder, progress=progress)
        return Features(values, good["label"].to_list(), units)

    test, reference = (index.join(split.filter(part).select("row"), on="row", how="semi") for part in (pl.col("part") == "test", unseen))
    return of(test, index, study.data), of(rows, rows, data), of(reference, index, study.data)
