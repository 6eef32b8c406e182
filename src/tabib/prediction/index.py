"""Predict the rows of a study: test by all members, validation by those that did not train on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from torch import nn

from tabib.config import Study
from tabib.dataset import build_cache
from tabib.prediction.predictor import Predictor
from tabib.progress import SILENT, Progress
from tabib.records import Decision, Model, prediction_schema
from tabib.training.batches import load_samples
from tabib.training.calibrate import load_networks, predict_validation
from tabib.training.inference import log_probabilities
from tabib.training.session import running

__all__ = ["predict_index"]


def predict_index(
    model: Model,
    decision: Decision,
    index: pl.DataFrame,
    split: pl.DataFrame,
    study: Study,
    *,
    place: Path,
    cache_folder: Path,
    own: nn.Module | None = None,
    progress: Progress = SILENT,
) -> pl.DataFrame:
    """Predict the validation and test rows of a study.

    Args:
        model: trained.
        decision: made on validation rows.
        index: INDEX_SCHEMA.
        split: SPLIT_SCHEMA; without its test rows, none is predicted.
        study: resolved.
        place: the run's `model` folder.
        cache_folder: where decoded images are kept.
        own: the module of `network: own`.
        progress: told of decoding.

    Returns:
        `prediction_schema`: validation, then test, each in the order of the index. Under folds the validation rows are the
        training rows, each answered by the members that did not train on it.
    """
    assert study.training.threads != "auto"
    with running(study.training.device, threads=study.training.threads) as device:
        predictor = Predictor(model, decision, load_networks(model, place, device=device, own=own))
        cache = build_cache(study.data, index, study.input, folder=cache_folder, progress=progress)
        validation, logarithms = predict_validation(model, predictor.networks, split, cache, device=device)
        answered = [predictor.decide([logarithms])]
        test = split.filter(pl.col("part") == "test").sort("row")
        if len(test):
            samples = load_samples(cache, test, classes=model.classes, device=device, several=model.several)
            answered.append(
                predictor.decide([log_probabilities(network, samples, intensity=model.intensity) for network in predictor.networks])
            )
    probability = np.concatenate(answered)
    rows = pl.concat([validation.with_columns(part=pl.lit("validation")), test])
    answers = {f"p_{name}": probability[:, number] for number, name in enumerate(model.classes)}
    schema = prediction_schema(model.classes)
    return rows.with_columns(predicted=pl.Series(predictor.name(probability), dtype=pl.String), refused=pl.lit(None), **answers).select(
        pl.col(name).cast(kind) for name, kind in schema.items()
    )
