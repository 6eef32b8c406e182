"""Verbs along the road of one study: each goes up to its step."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tabib.cli.described import study_in
from tabib.cli.options import DEFAULT_RUNS, AsJson, Offline, OnPhantom, Overrides, Resume, Runs, StudyFile
from tabib.cli.tell import STOPPED, count_refused, fail, finding_lines, headline_lines, leave, part_counts, scale_lines, tell
from tabib.errors import StudyError

if TYPE_CHECKING:
    from tabib.config import AnyStudy
    from tabib.runs import Run

__all__ = ["calibrate", "check", "demo", "run", "split", "summary", "train"]


def _travel(
    study_file: Path,
    overrides: list[str] | None,
    *,
    runs: Path,
    phantom: bool,
    until: str | None = None,
    resume: bool = False,
    offline: bool = False,
) -> tuple[Run, int]:
    """Go along the road up to a step; give back the run and how many images were refused."""
    study = study_in(study_file, overrides, runs=runs, phantom=phantom)
    return _travel_study(study, runs=runs, until=until, resume=resume, offline=offline)


def _travel_study(
    study: AnyStudy, *, runs: Path, until: str | None = None, resume: bool = False, offline: bool = False, checks_only: bool = False
) -> tuple[Run, int]:
    from tabib.console import ConsoleProgress
    from tabib.runs import Reached, open_run
    from tabib.study import check_study, run_study

    progress = ConsoleProgress()
    with open_run(study, root=runs, command=sys.argv, until=until, must_exist=resume, on_step=progress.step) as run, suppress(Reached):
        try:
            (check_study if checks_only else run_study)(study, run, offline=offline, progress=progress)
        except KeyboardInterrupt:
            message = "Stopped. What is done is kept: the same command goes on from here."
            raise typer.Exit(fail(message, STOPPED, "KeyboardInterrupt")) from None
    return run, count_refused(run.read("index"))


def split(study: StudyFile, set_: Overrides = None, phantom: OnPhantom = False, runs: Runs = DEFAULT_RUNS, as_json: AsJson = False) -> None:
    """Divide the images: who trains, who chooses, who judges."""
    run, refused = _travel(study, set_, runs=runs, phantom=phantom, until="split")
    counts = part_counts(run.read("split"), run.given.several)
    lines = [f"{part}: " + ", ".join(f"{label} {count}" for label, count in labels.items()) for part, labels in counts.items()]
    folds = dict(sorted(run.read("split").drop_nulls("fold").group_by("fold").len().iter_rows()))
    lines += (
        [f"folds of train, each left out once to choose on: {', '.join(f'{fold} ({count})' for fold, count in folds.items())}"]
        if folds
        else []
    )
    tell(
        {"split": run.path("split"), "counts": counts, "folds": folds, "refused": refused}, [*lines, f"Split: {run.path('split')}"], as_json
    )
    leave(refused)


def summary(
    study: StudyFile,
    classes: Annotated[
        int | None,
        typer.Option(
            min=2, metavar="N", help="Number of classes of a classifier, where no data are to be looked at; input.channels is given then."
        ),
    ] = None,
    set_: Overrides = None,
    phantom: OnPhantom = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Show a study's network, layer by layer: shape, weights, what trains, and what it costs."""

    from tabib.config import Study
    from tabib.console import summary_lines
    from tabib.training import resolve_input, summarise_network, summarise_segmenter
    from tabib.training.classify import class_names
    from tabib.training.resolve import with_channels

    asked, refused = study_in(study, set_, runs=runs, phantom=phantom), 0
    if isinstance(asked, Study):
        if classes is None:
            run, refused = _travel_study(asked, runs=runs, until="split")
            classes = len(class_names(run.read("split"), asked))
            asked = with_channels(asked, run.read("index"))
        found = summarise_network(asked, classes=classes)
    else:
        if classes is not None:
            raise StudyError("--classes counts those of a classifier, and data.labels names the structures of a segmenter. Leave it out.")
        if "auto" in (asked.input.channels, asked.input.patch, asked.input.spacing_mm):
            run, refused = _travel_study(asked, runs=runs, until="split")
            asked = resolve_input(asked, run.read("index"), run.read("split"))
        found = summarise_segmenter(asked)
    tell(asdict(found), summary_lines(found), as_json)
    leave(refused)


def check(
    study: StudyFile,
    fast: Annotated[
        bool,
        typer.Option("--fast", help="Instead train 2 epochs on few images (scale: bench) and judge on validation: a first evaluation."),
    ] = False,
    set_: Overrides = None,
    phantom: OnPhantom = False,
    offline: Offline = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Check a training before it starts: the images as fed, every layer, a few images learnt by heart, learning rates, time."""
    if fast:
        run, refused = _travel(study, [*(set_ or ()), "scale=bench"], runs=runs, phantom=phantom, until="model", offline=offline)
        _tell_fast(run, as_json)
        leave(refused)
        return
    asked = study_in(study, set_, runs=runs, phantom=phantom)
    run, refused = _travel_study(asked, runs=runs, offline=offline, checks_only=True)
    checks, overfit, sweep = (run.read(name) for name in ("checks", "overfit", "sweep"))
    tried = [
        f"      {one.rate:<8g} {'ran away' if one.end is None else f'{one.end:.4g}'}"
        + ("  (never chosen: too high for the optimizer)" if sweep.below is not None and one.rate >= sweep.below else "")
        for one in sweep.tried
    ]
    lines = [
        *finding_lines([*checks.checks, *overfit.checks, *sweep.checks]),
        f"      rate     training loss after {sweep.steps} steps",
        *tried,
    ]
    pages = sorted(run.folder.glob("report.*.html"))
    tell(
        {**checks.model_dump(), "overfit": overfit.model_dump(), "sweep": sweep.model_dump(), "reports": pages},
        [*lines, f"Checks: {run.path('checks')}", *(f"Report: {page}" for page in pages)],
        as_json,
    )
    leave(refused)


def _tell_fast(run: Run, as_json: bool) -> None:
    """What a try-out on few images reached on validation, and the time it took against the time it was reckoned at."""
    checks, model, histories = run.read("checks"), run.read("model"), run.histories()
    best = {member.name: histories[member.name][member.best_epoch - 1] for member in model.members}
    taken = sum(member.seconds for member in model.members)
    lines = [
        f"{name}: "
        + ", ".join(
            f"{key.replace('_', ' ')} {value:.3f}" for key, value in epoch.items() if key.startswith("validation") and value is not None
        )
        for name, epoch in best.items()
    ]
    tell(
        {**checks.model_dump(), "validation": best, "seconds": taken},
        [*finding_lines([*checks.checks, *model.remarks]), *lines, f"Run: {run.folder}"],
        as_json,
    )


def train(
    study: StudyFile,
    set_: Overrides = None,
    phantom: OnPhantom = False,
    resume: Resume = False,
    offline: Offline = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Train the model, or go on where it was stopped."""
    run, refused = _travel(study, set_, runs=runs, phantom=phantom, until="model", resume=resume, offline=offline)
    model = run.read("model")
    lines = [f"{member.name}: best epoch {member.best_epoch} of {member.epochs}, value {member.best_value:.4f}" for member in model.members]
    tell(model.model_dump(), [*lines, f"Model: {run.path('model')}"], as_json)
    leave(refused)


def calibrate(
    study: StudyFile,
    set_: Overrides = None,
    phantom: OnPhantom = False,
    offline: Offline = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Choose temperature and operating point on the validation images."""
    run, refused = _travel(study, set_, runs=runs, phantom=phantom, until="decision", offline=offline)
    decision = run.read("decision")
    each = zip(decision.classes, decision.temperatures, decision.thresholds, strict=False)
    said = [f"{label}: temperature {softened:.4f}, threshold {cut:.4f} ({decision.rule})" for label, softened, cut in each]
    if decision.temperature is not None:
        threshold = "" if decision.threshold is None else f", threshold {decision.threshold:.4f} ({decision.rule})"
        said = [f"temperature {decision.temperature:.4f}{threshold}"]
    tell(decision.model_dump(), [*said, f"Decision: {run.path('decision')}"], as_json)
    leave(refused)


def run(
    study: StudyFile,
    set_: Overrides = None,
    phantom: OnPhantom = False,
    resume: Resume = False,
    offline: Offline = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Go the whole road: from the folder to the report."""
    done, refused = _travel(study, set_, runs=runs, phantom=phantom, resume=resume, offline=offline)
    _tell_run(done, refused, as_json)


def demo(runs: Runs = DEFAULT_RUNS, set_: Overrides = None, as_json: AsJson = False) -> None:
    """Make a phantom and go the whole road on it: no data, no network connection."""
    from tabib.console import ConsoleProgress
    from tabib.phantoms import PHANTOMS
    from tabib.study_file import parse_study

    data, films = runs / "demo-data", PHANTOMS["chest"]
    if not data.exists() or not any(data.iterdir()):
        films.make(data, films.patients, ConsoleProgress())
    text = resources.files("tabib").joinpath("demo.yaml").read_text(encoding="utf-8")
    done, refused = _travel_study(parse_study(text, source="demo.yaml", base=runs, overrides=set_ or ()), runs=runs)
    _tell_run(done, refused, as_json)


def _tell_run(run: Run, refused: int, as_json: bool) -> None:
    evaluation = run.read("evaluation")
    pages = sorted(run.folder.glob("report.*.html"))
    scale = run.given.scale
    result = {"run": run.folder, "scale": scale, "evaluation": evaluation.model_dump(), "reports": pages, "refused": refused}
    tell(result, [*scale_lines({scale}), *headline_lines(evaluation), *(f"Report: {page}" for page in pages)], as_json)
    leave(refused)
