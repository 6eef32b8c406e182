"""The road: from a folder of images to a trained, judged and documented model."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from tabib.config import Study
from tabib.dataset import index_folder, inspect_dataset, split_dataset
from tabib.errors import StudyError
from tabib.evaluation import check_subgroups, evaluate
from tabib.explanation import explain
from tabib.prediction import predict_index
from tabib.progress import SILENT, Progress
from tabib.records import Finding
from tabib.reports import finding_codes, phrase, write_reports
from tabib.runs import Run
from tabib.training import calibrate, check_layers, check_training, name_own, resolve_study, train

if TYPE_CHECKING:
    from torch import nn

__all__ = ["refuse_failures", "run_study"]


def run_study(study: Study, run: Run, *, network: nn.Module | None = None, offline: bool = False, progress: Progress = SILENT) -> Run:
    """Take a folder of images to a trained, judged and documented model.

    Each line is a step: its result is a file in the run folder, and a step whose inputs have not changed is loaded.
    `network` is the module of `model.network: own`, which is copied and stays as it is.
    `offline` refuses to download the weights that a study may start from.
    `run` comes from `open_run` and is entered: `with open_run(study) as run: run_study(study, run)`.
    """
    study = name_own(study, network)
    place, cache = run.folder / "model", run.cache_folder
    index = run.step("index", index_folder, study.data, cache_folder=cache, progress=progress)
    check_subgroups(index, study.evaluate.subgroups)
    findings = run.step("findings", inspect_dataset, index, study, progress=progress)
    refuse_failures(findings.findings, study)
    split = run.step("split", split_dataset, index, findings, study)
    study = run.step("study", resolve_study, study, index, split, cache_folder=cache, own=network, progress=progress)
    check_layers(study, split, own=network)
    checks = run.step("checks", check_training, index, split, study, cache_folder=cache, own=network, offline=offline, progress=progress)
    refuse_failures(checks.checks, study)
    model = run.step(
        "model", train, index, split, checks, study, place=place, cache_folder=cache, own=network, offline=offline, progress=progress
    )
    decision = run.step("decision", calibrate, model, index, split, study, place=place, cache_folder=cache, own=network, progress=progress)
    looks = run.look_at_test(split, decision)
    predictions = run.step(
        "predictions", predict_index, model, decision, index, split, study, place=place, cache_folder=cache, own=network, progress=progress
    )
    evaluation = run.step(
        "evaluation",
        evaluate,
        predictions,
        index,
        split,
        study,
        threshold=decision.threshold,
        thresholds=decision.thresholds,
        test_looks=looks,
        histories=run.histories(),
    )
    judged = (model, decision, index, split, predictions, evaluation)
    run.step("explanations", explain, *judged, study, study.explain, place=place, cache_folder=cache, own=network, progress=progress)
    run.finish(write_reports)
    return run


def refuse_failures(findings: list[Finding], study: Study) -> None:
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
