"""The members of a model: who is trained on what, kept when done, and refused before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from safetensors.torch import load_file
from torch import Tensor

from tabib.config import AnyStudy, BaseTraining
from tabib.errors import DataError, RunError, StudyError
from tabib.progress import Progress
from tabib.records import Checks, Finding, Member, Record
from tabib.runs import file_hash, save
from tabib.training.budget import budget_taken
from tabib.training.checkpoint import State, write_weights
from tabib.training.loop import Watch, fit
from tabib.training.step import B, Work

__all__ = ["Plan", "Trained", "plans", "refuse_failed", "remarks_of", "train_member", "trained_before", "weights_of"]


@dataclass(frozen=True)
class Plan:
    """One member to be trained."""

    name: str  # "seed0", "fold3", "fold3_seed1"
    seed: int
    fold: int | None
    train: pl.DataFrame  # rows of the split
    validation: pl.DataFrame


class Trained(Record):
    """What is written when a member is done."""

    key: str
    member: Member
    remarks: list[Finding]


def plans(split: pl.DataFrame, study: AnyStudy) -> Iterator[Plan]:
    """The members of a study: its seeds, or its folds (times its seeds where there are several).

    Raises:
        DataError: a member without rows to train or to choose on.
    """
    folds: list[int | None] = sorted(split["fold"].drop_nulls().unique()) or [None]
    for fold in folds:
        training = split.filter(pl.col("part") == "train")
        if fold is None:
            validation = split.filter(pl.col("part") == "validation")
        else:
            validation, training = training.filter(pl.col("fold") == fold), training.filter(pl.col("fold") != fold)
        if len(training) < 2 or not len(validation):
            raise DataError(
                f"{len(training)} images train and {len(validation)} validate{'' if fold is None else f' in fold {fold}'}, and at least 2 and 1 "
                "must. Give validation a share in split, or more images."
            )
        for seed in study.training.seeds:
            names = [f"fold{fold}"] if fold is not None else []
            if fold is None or len(study.training.seeds) > 1:
                names.append(f"seed{seed}")
            yield Plan(name="_".join(names), seed=seed, fold=fold, train=training, validation=validation)


def trained_before(folder: Path, *, key: str) -> Trained | None:
    """What was written of a member that is done and was made from the same; None where there is none, or its note is damaged."""
    done, weights = folder / "member.json", folder / "weights.safetensors"
    if done.exists() and weights.exists():
        with suppress(ValueError):
            trained = Trained.model_validate_json(done.read_bytes())
            if trained.key == key and trained.member.weights_sha256 == file_hash(weights):
                return trained
    return None


def train_member(
    plan: Plan,
    state: State,
    work: Work[B],
    *,
    folder: Path,
    logs: Path,
    key: str,
    before: dict[str, Tensor] | None = None,
    probe: Callable[[dict[str, Tensor]], list[list[float]]] | None = None,
    watch: Watch | None = None,
    progress: Progress,
) -> Trained:
    """Train a member, write its weights, and last the note that it is done.

    Args:
        plan: of the member.
        state: fresh.
        work: on what, and how.
        folder: of the member.
        logs: the run folder, in which curves are drawn.
        key: of everything the result depends on.
        before: weights of the whole network, where only a part of it is trained.
        probe: what a network of the user's own answers with given weights.
        watch: may stop it after an epoch.
        progress: told of batches, epochs and remarks.
    """
    state = fit(state, work, folder=folder, logs=logs, key=key, watch=watch, progress=progress)
    state.kept.load_state_dict(state.best)
    train_images, train = work.measure_train(state.kept)
    weights = folder / "weights.safetensors"
    write_weights(weights, best := (before or {}) | state.best)
    member = Member(
        name=plan.name,
        seed=plan.seed,
        fold=plan.fold,
        epochs=state.epoch,
        best_epoch=state.best_epoch,
        best_value=state.history[state.best_epoch - 1][f"validation_{work.best}"],
        train_images=train_images,
        train=train,
        weights_sha256=file_hash(weights),
        seconds=round(state.seconds, 3),
        memory=state.memory,
        rounds=state.rounds,
        probe=[] if probe is None else probe(best),
    )
    trained = Trained(key=key, member=member, remarks=state.remarks)
    save(folder / "member.json", trained)
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    return trained


def remarks_of(trained: Sequence[Trained], checks: Checks, training: BaseTraining, *, progress: Progress) -> list[Finding]:
    """What was remarked while the members of a model were trained, and what they took against what was reckoned."""
    taken = budget_taken(checks, [done.member for done in trained], training)
    for finding in taken:
        progress.tell(finding)
    return [*(remark for done in trained for remark in done.remarks), *taken]


def refuse_failed(checks: Checks, study: AnyStudy) -> None:
    """Raise `StudyError` for a failed check that the study does not expect."""
    failed = [check.code for check in checks.checks if check.level == "fail" and check.code not in study.expect]
    if failed:
        raise StudyError(
            f"The training doctor refuses this study: {', '.join(failed)}. Change what it points at, or, if it is meant, "
            f"write it into the study: expect: [{', '.join(failed)}]"
        )


def weights_of(place: Path, member: Member) -> dict[str, Tensor]:
    """The trained weights of a member, below the run's `model` folder.

    Raises:
        RunError: the file is missing, or is not the one that was trained.
    """
    path = place / "members" / member.name / "weights.safetensors"
    if not path.exists():
        raise RunError(f"{path} is missing: the weights of member {member.name}. Copy the run folder whole, or start its run again.")
    if file_hash(path) != member.weights_sha256:
        raise RunError(f"{path} does not hold the weights that were trained and judged. Copy them again, or start the run again.")
    return load_file(path)
