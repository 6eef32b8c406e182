"""Predict images of another source with a finished model, and say what its network makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from tabib.config import Data, Study
from tabib.dataset import build_cache
from tabib.prediction.predictor import Predictor
from tabib.progress import SILENT, Progress
from tabib.records import prediction_schema
from tabib.training.batches import load_samples
from tabib.training.inference import log_probabilities, pooled_features
from tabib.training.session import running

__all__ = ["features_of", "predict_external"]


def predict_external(
    predictor: Predictor, rows: pl.DataFrame, data: Data, study: Study, *, cache_folder: Path, progress: Progress = SILENT
) -> pl.DataFrame:
    """Predict usable, labelled rows of an index.

    Args:
        predictor: a loaded model.
        rows: INDEX_SCHEMA; each with a class of the model.
        data: where the images lie.
        study: resolved; its input and threads.
        cache_folder: where decoded images are kept.
        progress: told of decoding.

    Returns:
        `prediction_schema` with the part `test`, in the order of `rows`.
    """
    assert study.training.threads != "auto"
    model = predictor.model
    with running(study.training.device, threads=study.training.threads) as device:
        cache = build_cache(data, rows, study.input, folder=cache_folder, progress=progress)
        samples = load_samples(cache, rows, classes=model.classes, device=device, several=model.several)
        probability = predictor.decide([log_probabilities(network, samples, intensity=model.intensity) for network in predictor.networks])
    answers = {f"p_{name}": probability[:, number] for number, name in enumerate(model.classes)}
    table = rows.with_columns(part=pl.lit("test"), predicted=pl.Series(predictor.name(probability), dtype=pl.String), **answers)
    return table.select(pl.col(name).cast(kind) for name, kind in prediction_schema(model.classes).items())


def features_of(
    predictor: Predictor,
    rows: pl.DataFrame,
    index: pl.DataFrame,
    data: Data,
    study: Study,
    *,
    cache_folder: Path,
    progress: Progress = SILENT,
) -> np.ndarray:
    """Pooled features (n, F) that the first member makes of usable, labelled rows of `index`, all of which is decoded, once.

    Other arguments as `predict_external`.
    """
    assert study.training.threads != "auto"
    model = predictor.model
    with running(study.training.device, threads=study.training.threads) as device:
        cache = build_cache(data, index, study.input, folder=cache_folder, progress=progress)
        samples = load_samples(cache, rows, classes=model.classes, device=device, several=model.several)
        return pooled_features(predictor.networks[0], samples, intensity=model.intensity)
