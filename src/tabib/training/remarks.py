"""What a person should hear while a training runs, read off its history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabib.records import Finding

__all__ = ["look_at"]

_STUCK_EPOCHS, _STUCK_MARGIN, _STUCK_SPREAD = 5, 0.02, 0.02
_EXPLODED_EPOCHS, _EXPLODED_FACTOR = 2, 2.0


def look_at(history: Sequence[dict[str, Any]], *, classes: int, constant_loss: float, uniform_loss: float) -> list[Finding]:
    """Findings that the latest epochs show.

    - `constant_output`: for five epochs, longer than a warm-up takes, the loss is that of the best answer that is alike for
      every image, and the answers are alike: nothing is learnt.
    - `exploding_logits`: for two epochs the validation loss is above twice that of equal shares while the classes are told apart: answers
      are far too sure, and the loss counts little but how wrong the worst of them are.

    Args:
        history: one entry per epoch, as in `history.jsonl`.
        classes: number of classes.
        constant_loss: see `Loss.constant`.
        uniform_loss: see `Loss.uniform`.
    """
    found = []
    last = history[-_STUCK_EPOCHS:]
    if len(last) == _STUCK_EPOCHS and all(
        epoch["train_loss"] > (1 - _STUCK_MARGIN) * constant_loss and epoch["validation_spread"] < _STUCK_SPREAD for epoch in last
    ):
        figures = {"epoch": last[-1]["epoch"], "loss": last[-1]["train_loss"], "constant_loss": constant_loss}
        found.append(Finding(code="constant_output", level="warn", figures=figures))
    last = history[-_EXPLODED_EPOCHS:]
    if len(last) == _EXPLODED_EPOCHS and all(
        epoch["validation_loss"] > _EXPLODED_FACTOR * uniform_loss and (epoch["validation_balanced_accuracy"] or 0) > 1.2 / classes
        for epoch in last
    ):
        figures = {
            "epoch": last[-1]["epoch"],
            "loss": last[-1]["validation_loss"],
            "accuracy": last[-1]["validation_accuracy"],
            "uniform_loss": uniform_loss,
        }
        found.append(Finding(code="exploding_logits", level="warn", figures=figures))
    return found
