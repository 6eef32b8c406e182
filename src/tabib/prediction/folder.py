"""Predict files: images, or folders of images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from tabib.dataset import junk
from tabib.engines import Crashed, map_in_processes
from tabib.errors import DataError, ImageError
from tabib.images import count_frames
from tabib.prediction.predictor import Predictor, prepare
from tabib.progress import SILENT, Progress
from tabib.records import Model, prediction_schema
from tabib.runs import files_below
from tabib.training.inference import INFERENCE_BATCH

__all__ = ["files_of", "image_files", "path_text", "predict_paths", "prepare_files"]

_BLOCK_BYTES = 64 * 2**20
"""Decoded images held at a time."""


def predict_paths(predictor: Predictor, paths: Sequence[Path], *, workers: int | None = None, progress: Progress = SILENT) -> pl.DataFrame:
    r"""Predict image files.

    Args:
        predictor: a loaded model.
        paths: files, frames of files (`film.dcm[3]`), and folders, of which every file at any depth is taken but what `junk` names.
        workers: processes that decode; the machine's cores if not given.
        progress: told of each image.

    Returns:
        `prediction_schema`, a row per file (of a file of several frames, per frame: `film.dcm[3]`) in the order given; `row` counts from 0, `group`, `part` and `label` are null. A file
        that cannot be read is a row with its reason in `refused`. Bytes of a name that are not UTF-8 are written `\xff`.

    Raises:
        DataError: a folder that holds no files.
    """
    files = image_files(paths, workers=workers, progress=progress)
    model = predictor.model
    block = max(INFERENCE_BATCH, _BLOCK_BYTES // (2 * model.channels * model.height * model.width))
    tables = [_predict(predictor, files[start : start + block], workers, progress) for start in range(0, len(files), block)]
    empty = pl.DataFrame(schema=prediction_schema(predictor.classes))
    return pl.concat([empty, *tables]).with_columns(row=pl.int_range(len(files), dtype=pl.UInt32))


def image_files(paths: Sequence[Path], *, workers: int | None = None, progress: Progress = SILENT) -> list[Path]:
    """Files, of folders every file at any depth but what `junk` names, and of a file of several frames each as `file[0]`, `file[1]`.

    Raises:
        DataError: a folder that holds no files.
    """
    whole = files_of(paths)
    frames = map_in_processes(_count, whole, workers=workers, progress=progress, name="index")
    return [each for file, count in zip(whole, frames, strict=True) for each in _frames(file, count)]


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Files, and of folders every file at any depth but what `junk` names. Raises `DataError` for a folder that holds no files."""
    return [file for path in paths for file in _files(path)]


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    files = [file for file in files_below(path) if not any(map(junk, file.relative_to(path).parts))]
    if not files:
        raise DataError(
            f"The folder {path} holds no files to predict (hidden ones, and what systems leave in folders, are not taken). "
            "Give image files, or a folder of them."
        )
    yield from sorted(files)


def _count(file: Path) -> int:
    try:
        return count_frames(file)
    except ImageError:
        return 1  # which is refused with its reason when it is read


def _frames(file: Path, count: int | Crashed) -> list[Path]:
    if isinstance(count, Crashed) or count == 1:
        return [file]
    return [file.with_name(f"{file.name}[{frame}]") for frame in range(count)]


def path_text(path: Path) -> str:
    """The path as text that fits into a table, a page and a terminal: a name of other bytes than UTF-8 cannot be written."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _predict(predictor: Predictor, files: Sequence[Path], workers: int | None, progress: Progress) -> pl.DataFrame:
    read = prepare_files(files, predictor.model, workers=workers, progress=progress)
    refused = [found if isinstance(found, str) else None for found in read]
    probability = predictor.predict([found for found in read if isinstance(found, np.ndarray)])
    answers = zip(predictor.name(probability), probability.tolist(), strict=True)
    rows = []
    for file, reason in zip(files, refused, strict=True):
        row: dict[str, object] = {"path": path_text(file), "refused": reason}
        if reason is None:
            row["predicted"], shares = next(answers)
            row |= {f"p_{name}": share for name, share in zip(predictor.classes, shares, strict=True)}
        rows.append(row)
    return pl.DataFrame(rows, schema=prediction_schema(predictor.classes))


def prepare_files(
    files: Sequence[Path], model: Model, *, workers: int | None = None, progress: Progress = SILENT
) -> list[np.ndarray | str]:
    """Images as the model's networks see them, (C, H, W) uint8 or uint16; of a file that cannot be read, why."""
    read = map_in_processes(partial(_prepare, model=model), files, workers=workers, progress=progress, name="predict")
    return [f"the decoder crashed: {found.reason}" if isinstance(found, Crashed) else found for found in read]


def _prepare(file: Path, *, model: Model) -> np.ndarray | str:
    try:
        return prepare(file, model)
    except ImageError as error:
        return str(error)
