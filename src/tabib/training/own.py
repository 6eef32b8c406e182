"""A network of the user's own: a module that a Python program gives beside the study.

A module is code, and no file of a run holds code. The run keeps the weights, the module has to be given again, and it is known by what
it answers: to the same made-up images the same logits, before training (its name in the resolved study) and after (`Member.probe`).
"""

from __future__ import annotations

import copy
import hashlib
import re
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tabib.config import OWN, AnyStudy, Study
from tabib.errors import RunError, StudyError

__all__ = ["Own", "before_last_linear", "check_own", "load_own", "name_own", "probe", "refuse_mismatch"]

_PROBES = 4
_TOLERANCE = 1e-3
"""How far an answer may be from the one that was kept, as a share of the largest: other processors round otherwise."""


@dataclass(frozen=True)
class Own:
    """A module that can be trained."""

    module: nn.Module  # a copy, on the CPU
    outputs: int  # logits of an image
    layout: torch.memory_format  # `view` of feature maps works in one of them only


def name_own(study: AnyStudy, module: nn.Module | None) -> AnyStudy:
    """The study with the hash of the module that is given with it, and its number of outputs; without one, the study as it is.

    Raises:
        StudyError: a module without `network: own` or the reverse, one that is not the study's, or one that cannot be trained.
    """
    refuse_mismatch(study.model.network, module)
    if module is None or not isinstance(study, Study):
        return study
    assert study.input.channels != "auto"
    shape = (study.input.channels, study.input.height, study.input.width)
    own = check_own(module, channels=shape[0], height=shape[1], width=shape[2])
    outputs = "one" if own.outputs == 1 else "one_per_class"
    if study.model.outputs not in ("auto", outputs):
        raise StudyError(
            f"model.outputs is {study.model.outputs}, and the module given makes {own.outputs} numbers of an image. Leave it out."
        )
    found = _hash(own.module, probe(own.module, *shape))
    if study.model.own_sha256 not in (None, found):
        raise StudyError(
            f"model.own_sha256 is {study.model.own_sha256}, and the module given is another ({found}): other layers, other starting weights, "
            "or another forward. Give the one that this study was run with, or leave own_sha256 out."
        )
    return study.model_copy(update={"model": study.model.model_copy(update={"own_sha256": found, "outputs": outputs})})


def refuse_mismatch(network: str, module: nn.Module | None) -> None:
    """Raise `StudyError` where a module is given and the network is another, or the reverse."""
    if network == OWN and module is None:
        raise StudyError(
            "model.network is own: a PyTorch module, which neither a study file nor a run folder holds. This needs Python: "
            "run_study(study, run, network=module), or Predictor.load(folder, network=module) once it is trained."
        )
    if network != OWN and module is not None:
        raise StudyError(f"A module is given, and model.network is {network}. Set model.network: own, or give none.")


@torch.random.fork_rng(devices=[])
def check_own(module: nn.Module, *, channels: int, height: int, width: int) -> Own:
    """Copy a module and see that it can be trained: that it makes of images (B, C, H, W) logits (B, K), the same each time it predicts.

    Raises:
        StudyError: it cannot; the message says what it did.
    """
    if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        raise StudyError("The module given as the network has lazy layers, whose weights do not exist yet. Call it once on an image first.")
    module = copy.deepcopy(module).cpu()
    filled = [tensor.data_ptr() for tensor in module.state_dict().values() if tensor.numel()]
    if len(set(filled)) < len(filled):
        raise StudyError("Two layers of the module given as the network share one tensor of weights. Give each its own.")
    images = _images(channels, height, width)
    answers, again = (_answer(copy.deepcopy(module).eval(), images) for _ in range(2))
    if not torch.allclose(answers, again, rtol=_TOLERANCE, atol=1e-6):
        raise StudyError(
            "The module given as the network answers the same images otherwise each time, although it is in evaluation mode. "
            "Is there a functional.dropout without training=self.training?"
        )
    if answers.shape[1] > 1 and (answers >= 0).all() and torch.allclose(answers.sum(1), torch.ones(len(answers))):
        raise StudyError(
            "What the module given as the network makes of an image are probabilities: leave its softmax out, and give the logits."
        )
    layout = torch.channels_last
    try:
        _answer(copy.deepcopy(module).train().to(memory_format=layout), images.clone(memory_format=layout))  # pyright: ignore[reportCallIssue]
    except (RuntimeError, StudyError):
        layout = torch.contiguous_format
        _answer(copy.deepcopy(module).train(), images)
    return Own(module, answers.shape[1], layout)


@torch.random.fork_rng(devices=[])
def probe(network: nn.Module, channels: int, height: int, width: int) -> list[list[float]]:
    """The logits of some made-up images by a network on the CPU, for each image."""
    return _answer(copy.deepcopy(network).eval(), _images(channels, height, width)).tolist()


def load_own(network: nn.Module, weights: dict[str, Tensor], *, kept: list[list[float]], shape: tuple[int, int, int]) -> None:
    """Give a network on the CPU its trained weights back.

    Args:
        network: with the module as its backbone.
        weights: by their names in it.
        kept: what `probe` gave when it was trained.
        shape: channels, height and width of an image.

    Raises:
        RunError: the module is not the one that was trained.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(f"The module given is not the one that was trained: its layers are others. {error}") from None
    now = probe(network, *shape)
    if np.shape(now) != np.shape(kept) or not np.allclose(now, kept, rtol=0, atol=_TOLERANCE * np.abs(kept).max() + 1e-6):
        raise RunError(
            "The module given has the layers of the one that was trained, and with its weights it answers otherwise: its forward has changed. "
            "Give the module as it was, or start the run again."
        )


def before_last_linear(module: nn.Module, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """The logits (B, C) that a module makes of images, and what its last linear layer was given for them, (B, F).

    `None` where no linear layer makes the logits: its last call is of other numbers than they, as in a gate of channels.
    """
    heard: list[tuple[Tensor, Tensor]] = []

    def hear(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if inputs:
            heard.append((inputs[0], output))

    hooks = [each.register_forward_hook(hear) for each in module.modules() if isinstance(each, nn.Linear)]
    try:
        logits = module(images)
    finally:
        for hook in hooks:
            hook.remove()
    return logits, heard[-1][0] if heard and heard[-1][1].shape == logits.shape else None


def _images(channels: int, height: int, width: int) -> Tensor:
    # Not torch's generator: the stream of this one is promised to stay.
    noise = np.random.RandomState(0).standard_normal((_PROBES, channels, height, width))
    return torch.from_numpy(noise.astype(np.float32))


@torch.no_grad()
def _answer(module: nn.Module, images: Tensor) -> Tensor:
    size = "x".join(map(str, images.shape[1:]))
    try:
        answers = module(images)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise StudyError(
            f"The module given as the network cannot take images of {size} (channels, height, width): {type(error).__name__}: {error}"
        ) from error
    if not isinstance(answers, Tensor) or not answers.is_floating_point() or answers.ndim != 2 or len(answers) != len(images):
        made = f"{answers.dtype} of shape {tuple(answers.shape)}" if isinstance(answers, Tensor) else type(answers).__name__
        mode = "training" if module.training else "evaluation"
        raise StudyError(
            f"The module given as the network makes {made} of {len(images)} images of {size} in {mode} mode, "
            f"and must make one tensor of logits, ({len(images)}, classes)."
        )
    return answers.float()


def _hash(module: nn.Module, answers: list[list[float]]) -> str:
    digest = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", repr(module)).encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    # What `forward` does is in no repr. Rounded: the last digits are the processor's.
    largest = float(np.abs(answers).max())
    digest.update(f"{largest:.2e} {np.round(np.array(answers) / (largest or 1.0), 3) + 0.0}".encode())
    return digest.hexdigest()
