"""Weights from another run: whether they are whole, what images they expect, and which they have seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from safetensors.torch import load_file
from torch import nn

from tabib.config import AnyStudy, run_named
from tabib.errors import StudyError, WeightsError
from tabib.records import Model, SegmentationModel
from tabib.runs import file_hash, read_result
from tabib.training.weights import Found

__all__ = ["find_in_run", "load_head", "refuse_other_scale", "seen_before"]


def find_in_run(run: Path) -> Found:
    """Find the weights of a run's first member.

    Raises:
        WeightsError: the run has no trained model, or its weights are not those that were trained.
    """
    model = _model(run)
    member = model.members[0]
    path = _weights(run, model)
    if not path.is_file() or file_hash(path) != member.weights_sha256:
        raise WeightsError(
            f"{path} is missing, or does not hold the weights that its run trained. Copy the run folder whole, or finish its run."
        )
    source = f"run {run.parent.name}/{run.name}, {member.name} ({model.network})"
    mean, std = (tuple(model.mean), tuple(model.std)) if isinstance(model, Model) else ((0.0,), (1.0,))
    return Found(path, source, mean, std)


def load_head(run: Path, head: nn.Module, *, class_names: Sequence[str]) -> bool:
    """Load the head of a run's first member, too, where it tells the same classes (or structures) apart and has the same layers; say whether it does."""
    model = _model(run)
    tensors = load_file(_weights(run, model))
    found = {name.removeprefix("head."): tensor for name, tensor in tensors.items() if name.startswith("head.")}
    shapes = {name: tensor.shape for name, tensor in head.state_dict().items()}
    if list(class_names) != (model.classes if isinstance(model, Model) else model.structures) or shapes != {
        name: tensor.shape for name, tensor in found.items()
    }:
        return False
    head.load_state_dict(found)
    return True


def refuse_other_scale(study: AnyStudy) -> None:
    """Raise `StudyError` where the run that a study's weights come from saw images scaled otherwise."""
    run = run_named(study.model.weights)
    if run is not None and (theirs := _model(run).intensity) != study.input.intensity:
        raise StudyError(
            f"input.intensity is {study.input.intensity}, and the weights of {run} were trained on intensity: {theirs}. Give the same."
        )


def seen_before(run: Path, index: pl.DataFrame, split: pl.DataFrame) -> list[int]:
    """Rows of the test part whose picture trained another run or chose its weights, however it was saved.

    Raises:
        WeightsError: the run folder has no index or no split, so that nobody can say.
    """
    theirs, parts = read_result(run, "index"), read_result(run, "split")
    if theirs is None or parts is None:
        raise WeightsError(f"{run} has no index or no split, so what its weights have seen is unknown. Copy the run folder whole.")
    used = theirs.join(parts.filter(pl.col("part").is_in(["train", "validation"])), on="row", how="semi")["pixels"].drop_nulls()
    test = index.join(split.filter(pl.col("part") == "test"), on="row", how="semi")
    return test.filter(pl.col("pixels").is_in(used.implode()))["row"].sort().to_list()


def _weights(run: Path, model: Model | SegmentationModel) -> Path:
    return run / "model" / "members" / model.members[0].name / "weights.safetensors"


def _model(run: Path) -> Model | SegmentationModel:
    model = read_result(run, "model")
    if model is None:
        raise WeightsError(f"{run} holds no trained model. Give the folder of a run, as in run:runs/chest/0123456789ab, or finish it.")
    return model
