"""The training loop, from fresh or restored weights to the best ones."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from tabib.config import BaseTraining
from tabib.errors import DataError, TrainingError
from tabib.progress import SILENT, Progress
from tabib.runs import atomic_write, writing
from tabib.training.budget import memory_held
from tabib.training.checkpoint import Begun, State, read_checkpoint, write_checkpoint
from tabib.training.curves import open_curves
from tabib.training.freezing import set_training
from tabib.training.optimise import reduce_on_plateau
from tabib.training.rounds import next_round
from tabib.training.step import B, Work, train_step

__all__ = ["Pruned", "Watch", "fit"]

_LOOK_EVERY = 10
"""Steps between looks at whether the loss is a number: each look waits for a GPU."""

_KILLED_EVERY = 3600.0
"""Seconds between two kills, of which the interval between checkpoints follows that costs least: a longer one loses more to a kill, a shorter one
more to writing. The root of twice this times what writing one takes (Young, Communications of the ACM 1974): of 0.1 s 27 s, of 6 s 3.5 minutes."""


class Pruned(Exception):
    """A `Watch` has seen enough of a training. Not an error: it leaves the training, which may be continued later."""


Watch = Callable[[str, Sequence[Mapping[str, Any]]], None]
"""Is told the name of a member and its epochs so far, as `history.jsonl` has them, after each of them; raises `Pruned` to stop."""


def fit(
    state: State,
    work: Work[B],
    *,
    folder: Path,
    logs: Path,
    key: str,
    watch: Watch | None = None,
    progress: Progress = SILENT,
) -> State:
    """Train until the last epoch or until validation no longer improves; `state.best` then has the best weights.

    Ctrl-C waits for the step at work, or for the validation after an epoch, and the state is written: what goes on from there repeats nothing.
    A second one does not wait, and costs what a kill costs: what came after the last checkpoint.

    Args:
        state: from `start`.
        work: on what, and how.
        folder: for `checkpoint.safetensors` and `history.jsonl`, with the name of the member; a checkpoint of the same `key` there is continued.
        logs: the run folder, in which TensorBoard and others have their files.
        key: of everything the result depends on.
        watch: may stop it after an epoch.
        progress: told of batches, epochs and remarks.

    Raises:
        KeyboardInterrupt: by Ctrl-C.
        Pruned: by `watch`.
        TrainingError: the loss is no longer a number.
        DataError: the watched metric does not exist on these validation images.
        RunError: a checkpoint, the history or the logs cannot be written.
    """
    training = work.training
    checkpoint, device = folder / "checkpoint.safetensors", next(state.network.parameters()).device
    if read_checkpoint(checkpoint, state, key=key):
        into = f" and step {state.begun.batches} of the next" if state.begun.batches else ""
        progress.say(f"{folder.name}: continued after epoch {state.epoch}{into}.")
    _write_history(folder, state.history)
    with open_curves(training, logs, folder.name) as draw, _held_back() as asked:
        draw(state.history)
        if watch is not None and state.history:
            watch(folder.name, state.history)
        written, cost = time.perf_counter(), 0.0

        while not asked() and state.epoch < training.epochs and not _gives_up(state, training):
            if not state.begun.batches and not next_round(state, work, progress=progress):
                break
            started, begun = time.perf_counter() - state.begun.seconds, state.begun
            try:
                images = _train_epoch(state, work, asked=asked, progress=progress)
                work.settle(state.kept, epoch=state.epoch + 1)
                record = _record(state, work, train_loss=state.begun.loss / images)
            except TrainingError:
                _write_history(folder, [{"epoch": state.epoch + 1, "step": state.step, "train_loss": None}], append=True)
                raise
            except KeyboardInterrupt:
                if state.begun is not begun:  # between two steps: in the middle of one the weights belong to none
                    state.begun.seconds = time.perf_counter() - started
                    write_checkpoint(checkpoint, state, key=key)
                raise
            elapsed = time.perf_counter() - started
            record |= {"seconds": round(elapsed, 3), "images_per_second": round(images / elapsed, 1)}
            state.seconds += elapsed
            state.epoch += 1
            state.begun = Begun()
            state.history.append(record)
            _write_history(folder, state.history[-1:], append=True)
            draw([record])
            _show(state, work, progress)

            value = _watched(record, work.best)
            if not state.best or value < state.best_value:
                state.best = {name: tensor.detach().cpu().clone() for name, tensor in state.kept.state_dict().items()}
                state.best_epoch, state.best_value = state.epoch, value
            state.memory = max((held for held in (state.memory, memory_held(device)) if held is not None), default=None)
            state.plateau = reduce_on_plateau(state.plateau, value, training.plateau)
            for finding in work.look_at(state.history):
                if finding.code not in {remark.code for remark in state.remarks}:
                    finding = finding.model_copy(update={"figures": {**finding.figures, "member": folder.name}})
                    state.remarks.append(finding)
                    progress.tell(finding)

            now = time.perf_counter()
            try:
                if watch is not None:
                    watch(folder.name, state.history)
            except Pruned:
                write_checkpoint(checkpoint, state, key=key)
                raise
            if asked() or now - written >= math.sqrt(2 * cost * _KILLED_EVERY):
                write_checkpoint(checkpoint, state, key=key)
                written = time.perf_counter()
                cost = written - now
        if asked():
            raise KeyboardInterrupt
    return state


@contextmanager
def _held_back() -> Iterator[Callable[[], bool]]:
    """Hold back the first Ctrl-C of a person at a terminal; what is given says whether there was one."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    came = threading.Event()

    def hold(number: int, frame: FrameType | None) -> None:
        if came.is_set():
            signal.default_int_handler(number, frame)
        came.set()

    signal.signal(signal.SIGINT, hold)
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _train_epoch(state: State, work: Work[B], *, asked: Callable[[], bool], progress: Progress) -> int:
    """One pass over the training images, or what of it is left; how many they are. `state.begun` has the sum of their losses.

    Raises `KeyboardInterrupt` after the step at which it was `asked` for.
    """
    set_training(state.network)
    batches, before = work.batches(state.epoch + 1), state.begun
    images, total = sum(map(len, batches)), before.loss
    with progress.bar(f"epoch {state.epoch + 1} of {work.training.epochs}", images) as advance:
        if before.batches:
            advance(sum(map(len, batches[: before.batches])))
        for number, batch in enumerate(batches[before.batches :], start=before.batches + 1):
            total = total + train_step(state, work, batch) * len(batch)
            if number % _LOOK_EVERY == 0 or number == len(batches):
                _must_be_number(float(total), state, work)
            advance(len(batch))
            if asked():
                state.begun = Begun(number, float(total))
                raise KeyboardInterrupt
    state.begun = Begun(len(batches), float(total))
    return images


def _record(state: State, work: Work[B], *, train_loss: float) -> dict[str, Any]:
    """What is written after an epoch; see the fields of `history.jsonl`."""
    measured = {f"validation_{name}": value for name, value in work.measure(state.kept).items()}
    _must_be_number(measured["validation_loss"], state, work)
    rate = state.optimizer.param_groups[0]["lr"]
    turn = {"round": state.rounds[-1].number} if state.rounds else {}
    return {"epoch": state.epoch + 1, **turn, "step": state.step, "learning_rate": rate, "train_loss": train_loss, **measured}


def _watched(record: dict[str, Any], best: str) -> float:
    """The value that decides which epoch is best, turned so that smaller is better."""
    value = record[f"validation_{best}"]
    if value is None:
        raise DataError(
            f"training.best is {best}, which does not exist on these validation images: a class has none. "
            "Use best: loss, or a split in which every class has validation images."
        )
    return value if best == "loss" else -value


def _gives_up(state: State, training: BaseTraining) -> bool:
    return training.stop_after is not None and state.epoch - state.best_epoch >= training.stop_after and bool(state.best)


def _must_be_number(loss: float, state: State, work: Work[B]) -> None:
    if math.isfinite(loss):
        return
    training = work.training
    lower = f"a learning rate ten times lower ({training.rate / 10:g})"
    others = [*(["clip: 1.0"] if training.clip is None else []), *(["precision: fp32"] if training.precision == "bf16" else [])]
    raise TrainingError(
        f"The loss is not a number in epoch {state.epoch + 1}, at step {state.step} of {work.steps}: the weights have run away. "
        f"Try {', or '.join([lower, *others])}."
    )


def _show(state: State, work: Work[B], progress: Progress) -> None:
    record, epochs = state.history[-1], work.training.epochs
    progress.row(
        {
            "epoch": f"{state.epoch}/{epochs}",
            **({"round": record["round"]} if "round" in record else {}),
            "rate": record["learning_rate"],
            "train loss": record["train_loss"],
            "validation loss": record["validation_loss"],
            **{column: "-" if record[field] is None else record[field] for column, field in work.shown.items()},
            "images/s": record["images_per_second"],
            "left": _clock(state.seconds / state.epoch * (epochs - state.epoch)),
        }
    )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _write_history(folder: Path, records: Iterable[dict[str, Any]], *, append: bool = False) -> None:
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    path = folder / "history.jsonl"
    if append:
        with writing(path), path.open("ab") as file:
            file.write(lines)
    else:
        with atomic_write(path) as file:
            file.write(lines)
