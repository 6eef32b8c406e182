"""What a training is reckoned to take, and what it took."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from tabib.config import BaseTraining
from tabib.records import Checks, Finding, Member, Typical

__all__ = ["budget_estimate", "budget_taken", "memory_free", "memory_held", "memory_of_training"]

_MORE, _STEP = 1.5, 256 * 2**20
"""How much more memory than reckoned is worth a warning: so many times, and more bytes than the allocator takes at once."""

_CONTAINER = Path("/sys/fs/cgroup")
"""What limits the container that this runs in, if any."""


def memory_held(device: torch.device) -> int | None:
    """Bytes that cannot be given back while a network is trained.

    On a GPU the most that torch had at any time; else the anonymous memory of this process as it is now, which is the most it had, as what is
    freed is kept (see `engines.allocator`). None where the system does not say.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("RssAnon"))
    except (OSError, StopIteration):  # no Linux
        return None


def memory_of_training(network: nn.Module, device: torch.device) -> int | None:
    """Bytes that a training will hold, asked after some of its steps: what is held now, and on a processor the best weights beside it."""
    held = memory_held(device)
    if held is None or device.type == "cuda":
        return held
    return held + sum(tensor.nbytes for tensor in network.state_dict().values())


def memory_free() -> int | None:
    """Bytes that programs may still take here, within the limit of the container. None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            free = next(1024 * int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # no Linux
        return None
    try:
        most = int((_CONTAINER / "memory.max").read_text())
        taken = dict(line.split() for line in (_CONTAINER / "memory.stat").read_text().splitlines())["anon"]  # what cannot be given back
    except (OSError, ValueError, KeyError):  # no container, or "max"
        return free
    return min(free, most - int(taken))


def budget_estimate(training: BaseTraining, *, seconds: float, steps: int, step: float, members: int, memory: int | None) -> Finding:
    """Time and memory of a training: `seconds` in all, `step` of one of the `steps`, `memory` in bytes."""
    figures = {"seconds": round(seconds, 1), "steps": steps, "seconds_per_step": step, "members": members, "epochs": training.epochs}
    return Finding(code="budget_estimate", level="pass", figures={**figures, "memory": "" if memory is None else memory})


def budget_taken(checks: Checks, members: Sequence[Member], training: BaseTraining) -> list[Finding]:
    """`budget_taken`, time and memory beside what they were reckoned at, and `memory_missed` where it was much more memory.

    Time is that of the epochs that ran, and not judged: other programs on the machine make it longer. Nothing is found where nothing was
    reckoned.
    """
    epochs = sum(member.epochs for member in members)
    reckoned = (checks.predicted_seconds - checks.seconds_before_epochs) * epochs / (training.epochs * len(members))
    if not reckoned:
        return []
    memory, most = checks.predicted_memory, max((member.memory for member in members if member.memory is not None), default=None)
    times = {"seconds": round(sum(member.seconds for member in members), 1), "reckoned_seconds": round(reckoned, 1), "epochs": epochs}
    if memory is None or most is None:
        return [Finding(code="budget_taken", level="pass", figures={**times, "memory": "", "reckoned_memory": ""})]
    held: dict[str, float | int | str | Typical] = {"memory": most, "reckoned_memory": memory}
    missed = most > max(_MORE * memory, memory + _STEP)
    return [
        Finding(code="budget_taken", level="pass", figures=times | held),
        *([Finding(code="memory_missed", level="warn", figures=held)] if missed else []),
    ]
