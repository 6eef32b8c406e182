"""The road: from a folder of images to a trained, judged and documented model."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from tabib.config import AnyStudy, Segmentation, Study
from tabib.dataset import index_folder, inspect_dataset, split_dataset
from tabib.errors import StudyError
from tabib.evaluation import check_subgroups, evaluate_masks, judge, measure_validation
from tabib.explanation import explain, explain_masks
from tabib.prediction import predict_index, predict_masks
from tabib.progress import SILENT, Progress
from tabib.records import Checks, Finding
from tabib.reports import finding_codes, phrase, write_reports
from tabib.runs import Run
from tabib.training import (
    Watch,
    calibrate,
    calibrate_masks,
    check_layers,
    check_segmentation,
    check_settings,
    check_training,
    draw_checks,
    name_own,
    overfit_few,
    resolve_segmentation,
    resolve_study,
    sweep_rates,
    train,
    train_segmenter,
    with_rate,
)

if TYPE_CHECKING:
    from torch import nn

__all__ = ["check_study", "refuse_failures", "run_study", "try_study"]


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
    index, split, checks, study, where = _checked(study, run, network=network, offline=offline, progress=progress)
    _draw(run, study)
    refuse_failures(checks.checks, study)
    steps, place = STEPS[study.task], {"place": run.folder / "model"}
    model = run.step("model", steps.train, index, split, checks, study, **where, **place, offline=offline)
    decision = run.step("decision", steps.calibrate, model, index, split, study, **where, **place)
    looks = run.look_at_test(split, decision)
    predictions = run.step("predictions", steps.predict, model, decision, index, split, study, **where, **place)
    told = {"folder": run.folder, "test_looks": looks, "histories": run.histories(), "progress": progress}
    evaluation = run.step("evaluation", steps.evaluate, predictions, index, split, decision, study, **told)
    if isinstance(study, Study):
        judged = (model, decision, index, split, predictions, evaluation)
        run.step("explanations", explain, *judged, study, study.explain, **where, **place)
    else:
        run.step("explanations", explain_masks, index, evaluation, study, study.explain, **place, progress=progress)
    run.finish(write_reports)
    return run


def try_study(study: AnyStudy, run: Run, *, watch: Watch | None = None, offline: bool = False, progress: Progress = SILENT) -> Run:
    """Go along the road up to the decision, and predict the validation images: no test image is predicted, and no report written.

    Of the checks only those of the settings are made. `run_study` goes on from there, and makes the others.
    `watch` may stop the training; other arguments as `run_study`.
    """
    index, split, study, where = _resolved(study, run, network=None, offline=offline, progress=progress)
    checks = Checks(
        checks=check_settings(index, split, study), initial_loss=0, expected_initial_loss=0, seconds_per_step=0, predicted_seconds=0
    )
    refuse_failures(checks.checks, study)
    steps, place = STEPS[study.task], {"place": run.folder / "model"}
    model = run.step("model", steps.train, index, split, checks, study, **where, **place, offline=offline, watch=watch)
    decision = run.step("decision", steps.calibrate, model, index, split, study, **where, **place)
    development = split.filter(pl.col("part") != "test")
    said = run.step("validation", steps.predict, model, decision, index, development, study, **where, **place)
    if isinstance(study, Segmentation):
        run.step("validation_masks", measure_validation, said, index, development, study, folder=run.folder, progress=progress)
    return run


def check_study(study: AnyStudy, run: Run, *, network: nn.Module | None = None, offline: bool = False, progress: Progress = SILENT) -> Run:
    """Go along the road up to the training, and try out beside it what takes minutes: a few images learnt by heart, and learning rates.

    Arguments as `run_study`. The report of what there is is written.
    """
    index, split, checks, study, where = _checked(study, run, network=network, offline=offline, progress=progress)
    run.step("overfit", overfit_few, index, split, checks, study, **where, offline=offline)
    if run.given.training.learning_rate != "sweep":  # else it is done, and its choice stands in the study
        run.step("sweep", sweep_rates, index, split, study, **where, offline=offline)
    _draw(run, study)
    run.report(write_reports)
    return run


def _checked(
    study: AnyStudy, run: Run, *, network: nn.Module | None, offline: bool, progress: Progress
) -> tuple[pl.DataFrame, pl.DataFrame, Checks, AnyStudy, dict[str, Any]]:
    """The road up to the checks: index, split, checks, resolved study, and where all later steps work."""
    index, split, study, where = _resolved(study, run, network=network, offline=offline, progress=progress)
    checks = run.step("checks", STEPS[study.task].check, index, split, study, **where, offline=offline)
    return index, split, checks, study, where


def _draw(run: Run, study: AnyStudy) -> None:
    """Show in TensorBoard what the doctor found, with what was tried out beside it."""
    tried = {name: run.read(name) for name in ("overfit", "sweep") if run.path(name).exists()}
    draw_checks(study.training, run.folder, run.read("checks"), **tried, words=_said)


def _said(finding: Finding) -> str:
    words = phrase(finding)
    return " ".join(filter(None, (f"{words.title}.", words.sentence, words.todo if finding.level != "pass" else "")))


def _resolved(
    study: AnyStudy, run: Run, *, network: nn.Module | None, offline: bool, progress: Progress
) -> tuple[pl.DataFrame, pl.DataFrame, AnyStudy, dict[str, Any]]:
    """The road up to the resolved study."""
    study = name_own(study, network)
    where: dict[str, Any] = {"cache_folder": run.cache_folder, "progress": progress}
    index = run.step("index", index_folder, study.data, **where)
    check_subgroups(index, study.evaluate.subgroups)
    findings = run.step("findings", inspect_dataset, index, _of_images(study), progress=progress)
    refuse_failures(findings.findings, study)
    split = run.step("split", split_dataset, index, findings, _of_images(study))
    where |= {"own": network} if network is not None else {}
    if study.training.learning_rate == "sweep":
        study = with_rate(study, run.step("sweep", sweep_rates, index, split, study, **where, offline=offline))
    study = run.step("study", STEPS[study.task].resolve, study, index, split, **where)
    check_layers(study, split, own=network)
    return index, split, study, where


def _of_images(study: AnyStudy) -> AnyStudy:
    """The study with what is learnt from its images left as it is usual: what is found in them and how they are split is the same for all."""
    learnt = ("augment", "model", "training", "calibrate", "evaluate", "goals", "expect")
    return study.model_copy(update={name: type(study).model_fields[name].default for name in learnt})


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
