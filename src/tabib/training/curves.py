"""Where the curves of a training are drawn, beside `history.jsonl`: TensorBoard, and Weights & Biases without a network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tabib.config import BaseTraining
from tabib.errors import MissingPackageError
from tabib.runs import writing

__all__ = ["open_curves", "refuse_missing"]

Draw = Callable[[dict[str, float], int], None]
"""Take the values of an epoch, and its number from 1."""


def refuse_missing(training: BaseTraining) -> None:
    """Raise `MissingPackageError` where a study asks for curves in what is not installed."""
    if "wandb" in training.log_to and find_spec("wandb") is None:
        raise MissingPackageError(
            "training.log_to names wandb, and the package is not installed. pip install 'tabib[wandb]', or leave wandb out of log_to."
        )


@contextmanager
def open_curves(training: BaseTraining, run_folder: Path, member: str) -> Iterator[Callable[[Iterable[dict[str, Any]]], None]]:
    """Begin the curves of a member anew; gives what draws epochs, as `history.jsonl` has them.

    Args:
        training: its `log_to`, and what Weights & Biases shows as the settings.
        run_folder: TensorBoard's files go to `tensorboard/<member>`, those of Weights & Biases to `wandb`.
        member: its name.

    Raises:
        RunError: the curves cannot be written.
    """
    with ExitStack() as stack:
        draws: dict[str, Draw] = {}
        for place in training.log_to:
            with writing(run_folder / place):
                draws[place] = stack.enter_context(_PLACES[place](training, run_folder, member))

        def draw(records: Iterable[dict[str, Any]]) -> None:
            for record in records:
                values = {name: value for name, value in record.items() if name not in ("epoch", "step") and value is not None}
                for place, take in draws.items():
                    with writing(run_folder / place):
                        take(values, record["epoch"])

        yield draw


@contextmanager
def _tensorboard(training: BaseTraining, run_folder: Path, member: str) -> Iterator[Draw]:
    # Here, not above: it takes half a second.
    from torch.utils.tensorboard import SummaryWriter

    folder = run_folder / "tensorboard" / member
    shutil.rmtree(folder, ignore_errors=True)
    with SummaryWriter(str(folder)) as board:

        def draw(values: dict[str, float], epoch: int) -> None:
            for name, value in values.items():
                board.add_scalar(name, value, epoch)
            board.flush()

        yield draw


@contextmanager
def _wandb(training: BaseTraining, run_folder: Path, member: str) -> Iterator[Draw]:
    # Even offline, it would report its own errors over the network.
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    import wandb  # pyright: ignore[reportMissingImports]

    study, number = run_folder.absolute().parts[-2:]
    name = f"{number}-{member}"
    for old in run_folder.glob(f"wandb/offline-run-*-{name}"):
        shutil.rmtree(old)
    run = wandb.init(
        mode="offline",
        dir=str(run_folder),
        project=study,
        group=number,
        name=member,
        id=name,  # so that what is uploaded twice is one run there
        config=training.model_dump(mode="json"),
        # Curves and settings, and nothing of the machine, the user or the program.
        settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True, x_disable_meta=True, x_disable_stats=True),
    )
    with run:
        yield lambda values, epoch: run.log(values, step=epoch)


_PLACES = {"tensorboard": _tensorboard, "wandb": _wandb}
"""Where curves are drawn, by the names in `training.log_to`, which their folders have, too."""
