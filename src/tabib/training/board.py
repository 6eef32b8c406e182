"""What the doctor found, in TensorBoard beside the curves of the epochs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tabib.config import BaseTraining
from tabib.records import Checks, Finding, Overfit, Sweep
from tabib.runs import atomic_write, fingerprint, writing

__all__ = ["draw_checks"]


def draw_checks(
    training: BaseTraining,
    run_folder: Path,
    checks: Checks,
    *,
    overfit: Overfit | None = None,
    sweep: Sweep | None = None,
    words: Callable[[Finding], str],
) -> None:
    """Write checks to `tensorboard/checks` of a run, where `training.log_to` names TensorBoard; what stands there already is left as it is.

    Each check is a text `checks/CODE` of its level, its words and its figures, and each figure that is a number a scalar `checks/CODE/NAME`; where
    a code comes several times, the steps count them from 0. `overfit/loss` is the loss of each step on the few images, `sweep/RATE/loss` that
    with each rate that was tried, steps from 1.

    Args:
        training: its `log_to`.
        run_folder: where the run lies.
        checks: of every run.
        overfit: the few images learnt by heart, where that was tried.
        sweep: the rates, where they were tried.
        words: what is said of a check.

    Raises:
        RunError: the files cannot be written.
    """
    if "tensorboard" not in training.log_to:
        return
    found = [*checks.checks, *(overfit.checks if overfit else []), *(sweep.checks if sweep else [])]
    curves = {"overfit/loss": overfit.losses} if overfit else {}
    curves |= {f"sweep/{one.rate:g}/loss": one.losses for one in (sweep.tried if sweep else [])}
    texts = [_text(each, words(each)) for each in found]
    folder = run_folder / "tensorboard" / "checks"
    mark, key = folder / "written", fingerprint(checks, overfit, sweep, *texts)
    with writing(folder):
        if mark.exists() and mark.read_text(encoding="utf-8") == key:
            return
        shutil.rmtree(folder, ignore_errors=True)
        _write(folder, found, texts, curves)
        with atomic_write(mark) as file:
            file.write(key.encode())


def _write(folder: Path, found: Sequence[Finding], texts: Sequence[str], curves: dict[str, list[float]]) -> None:
    # Here, not above: it takes half a second.
    from torch.utils.tensorboard import SummaryWriter

    times = dict[str, int]()
    with SummaryWriter(str(folder)) as board:
        for each, text in zip(found, texts, strict=True):
            tag, step = f"checks/{each.code}", times.get(each.code, 0)
            times[each.code] = step + 1
            board.add_text(tag, text, step)
            for name, value in each.figures.items():
                if isinstance(value, (int, float)):
                    board.add_scalar(f"{tag}/{name}", value, step)
        for tag, losses in curves.items():
            for step, loss in enumerate(losses, start=1):
                board.add_scalar(tag, loss, step)


def _text(finding: Finding, words: str) -> str:
    """As TensorBoard's Markdown: level and words, then the figures."""
    return "\n".join([f"**{finding.level}** {words}", "", *(f"- {name}: {value}" for name, value in finding.figures.items())])
