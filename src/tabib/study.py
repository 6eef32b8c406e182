"""The road: from a folder of images to a trained, judged and documented model."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tabib.config import AnyStudy, Study
from tabib.dataset import index_folder, inspect_dataset, split_dataset
from tabib.errors import StudyError
from tabib.evaluation import check_subgroups, evaluate_masks, judge
from tabib.explanation import explain
from tabib.prediction import predict_index, predict_masks
from tabib.progress import SILENT, Progress
from tabib.records import Finding
from tabib.reports import finding_codes, phrase, write_reports
from tabib.runs import Run
from tabib.training import (
    calibrate,
    calibrate_masks,
    check_layers,
    check_segmentation,
    check_training,
    name_own,
    resolve_segmentation,
    resolve_study,
    train,
    train_segmenter,
)

if TYPE_CHECKING:
    from torch import nn

__all__ = ["refuse_failures", "run_study"]


@dataclass(frozen=True)
class Steps:
    """The steps of the road that each task does in its own way."""

    resolve: Callable[..., Any]
    check: Callable[..., Any]
    train: Callable[..., Any]
    calibrate: Callable[..., Any]
    predict: Callable[..., Any]
    evaluate: Callable[..., Any]


STEPS: dict[str, Steps] = {
    "classification": Steps(resolve_study, check_training, train, calibrate, predict_index, judge),
    "segmentation": Steps(resolve_segmentation, check_segmentation, train_segmenter, calibrate_masks, predict_masks, evaluate_masks),
}


def run_study(study: AnyStudy, run: Run, *, network: nn.Module | None = None, offline: bool = False, progress: Progress = SILENT) -> Run:
    """Take a folder of images to a trained, judged and documented model.

    Each line is a step: its result is a file in the run folder, and a step whose inputs have not changed is loaded.
    `network` is the module of `model.network: own`, which is copied and stays as it is.
    `offline` refuses to download the weights that a study may start from.
    `run` comes from `open_run` and is entered: `with open_run(study) as run: run_study(study, run)`.
    """
    study, steps = name_own(study, network), STEPS[study.task]
    place: dict[str, Any] = {"place": run.folder / "model"}
    where: dict[str, Any] = {"cache_folder": run.cache_folder, "progress": progress}
    index = run.step("index", index_folder, study.data, **where)
    check_subgroups(index, study.evaluate.subgroups)
    findings = run.step("findings", inspect_dataset, index, study, progress=progress)
    refuse_failures(findings.findings, study)
    split = run.step("split", split_dataset, index, findings, study)
    where |= {"own": network} if network is not None else {}
    study = run.step("study", steps.resolve, study, index, split, **where)
    check_layers(study, split, own=network)
    checks = run.step("checks", steps.check, index, split, study, **where, offline=offline)
    refuse_failures(checks.checks, study)
    model = run.step("model", steps.train, index, split, checks, study, **where, **place, offline=offline)
    decision = run.step("decision", steps.calibrate, model, index, split, study, **where, **place)
    looks = run.look_at_test(split, decision)
    predictions = run.step("predictions", steps.predict, model, decision, index, split, study, **where, **place)
    told = {"folder": run.folder, "test_looks": looks, "histories": run.histories(), "progress": progress}
    evaluation = run.step("evaluation", steps.evaluate, predictions, index, split, decision, study, **told)
    if isinstance(study, Study):
        judged = (model, decision, index, split, predictions, evaluation)
        run.step("explanations", explain, *judged, study, study.explain, **where, **place)
    run.finish(write_reports)
    return run


def refuse_failures(findings: list[Finding], study: AnyStudy) -> None:
    """Raise `StudyError` for findings of level "fail" that the study does not expect, and for expectations of no known code."""
    for code in study.expect:
        if code not in finding_codes():
            near = difflib.get_close_matches(code, finding_codes(), n=1, cutoff=0.5)
            raise StudyError(f"expect: there is no finding {code}. {f'Did you mean {near[0]}?' if near else ''}")
    failures = [finding for finding in findings if finding.level == "fail" and finding.code not in study.expect]
    if failures:
        words = [(finding.code, phrase(finding, "en")) for finding in failures]
        said = "\n".join(f"  {text.title} ({code}). {text.sentence} {text.todo}" for code, text in words)
        raise StudyError(f"The study cannot be believed as it is:\n{said}\nWhat is known and wanted is named under expect:, by its code.")
