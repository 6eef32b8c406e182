"""The state of a training in one file, so that a kill at any instant costs time and changes nothing.

The file is safetensors; its header carries the numbers as JSON. It appears under its name whole or not at all, so a file
that is there is a file that can be used.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from tabib.records import Finding, Round
from tabib.runs import atomic_write
from tabib.training.networks import Network
from tabib.training.optimise import ReducedRate

__all__ = ["Begun", "State", "read_checkpoint", "write_checkpoint", "write_weights"]


@dataclass
class Begun:
    """What there is of an epoch that was stopped between two steps."""

    batches: int = 0
    loss: float = 0.0  # sum over the images
    seconds: float = 0.0


@dataclass
class State:
    """Everything that the next epoch depends on. Random numbers are functions of the epoch and the step, and have no state."""

    network: Network
    average: Network | None
    optimizer: Optimizer
    plateau: ReducedRate
    epoch: int = 0  # epochs done
    begun: Begun = field(default_factory=Begun)  # of the epoch after them
    step: int = 0  # steps done
    seconds: float = 0.0
    memory: int | None = None  # bytes held at most
    best: dict[str, Tensor] = field(default_factory=dict)  # weights, on the CPU
    best_epoch: int = 0
    best_value: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[Finding] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)  # of `schedule: rounds`, the one at work last

    @property
    def rate(self) -> float:
        """The rate that a round has, or that a plateau has left."""
        return self.rounds[-1].rate if self.rounds else self.plateau.rate

    @property
    def kept(self) -> Network:
        """The network that is validated and kept: the average where there is one."""
        return self.average or self.network


def write_checkpoint(path: Path, state: State, *, key: str) -> None:
    """Write a state, atomically. `key` says what the training is made from. Raises `RunError` where the disk is full."""
    tensors = {
        **_under("network", state.network.state_dict()),
        **_under("average", state.average.state_dict() if state.average else {}),
        **_under("best", state.best),
        **{f"optimizer.{place}.{name}": value for place, values in _slots(state.optimizer) for name, value in values.items()},
    }
    numbers = {
        "key": key,
        "begun": asdict(state.begun),
        "plateau": asdict(state.plateau),
        "remarks": [remark.model_dump() for remark in state.remarks],
        "rounds": [each.model_dump() for each in state.rounds],
        **{name: getattr(state, name) for name in ("epoch", "step", "seconds", "memory", "best_epoch", "best_value", "history")},
    }
    with atomic_write(path) as file:
        file.write(_serialised(tensors, {"state": json.dumps(numbers)}))


def read_checkpoint(path: Path, state: State, *, key: str) -> bool:
    """Bring a fresh state to where the checkpoint was; False, and the state as it was, where there is none of this training."""
    try:
        with safe_open(path, framework="pt") as file:
            numbers = json.loads(file.metadata()["state"])
            if numbers.pop("key") != key:
                return False
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (FileNotFoundError, SafetensorError):
        return False
    state.network.load_state_dict(_taken("network", tensors))
    if state.average:
        state.average.load_state_dict(_taken("average", tensors))
    state.best = _taken("best", tensors)
    for place, weight in enumerate(_weights(state.optimizer)):
        for name, value in _taken(f"optimizer.{place}", tensors).items():
            # In the memory layout of the weight, as the optimizer itself would have made it.
            slot = torch.empty_like(weight) if value.shape == weight.shape else torch.empty_like(value, device=weight.device)
            state.optimizer.state[weight][name] = slot.copy_(value)
    state.begun = Begun(**numbers.pop("begun"))
    state.plateau = ReducedRate(**numbers.pop("plateau"))
    state.rounds = [Round.model_validate(each) for each in numbers.pop("rounds")]
    state.remarks = [Finding.model_validate(remark) for remark in numbers.pop("remarks")]
    for name, value in numbers.items():
        setattr(state, name, value)
    return True


def write_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write the weights of a network, atomically."""
    with atomic_write(path) as file:
        file.write(_serialised(weights, None))


def _serialised(tensors: dict[str, Tensor], metadata: dict[str, str] | None) -> bytes:
    written, seen = dict[str, Tensor](), set[int]()
    for name, value in tensors.items():
        tensor = value.detach().cpu().contiguous()
        # A layer that stands in a network under two names is written under both, which safetensors asks to be two tensors.
        written[name] = tensor.clone() if tensor.numel() and tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return save(written, metadata)


def _weights(optimizer: Optimizer) -> list[Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _slots(optimizer: Optimizer) -> list[tuple[int, dict[str, Tensor]]]:
    return [(place, optimizer.state[weight]) for place, weight in enumerate(_weights(optimizer)) if weight in optimizer.state]


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def _taken(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}
