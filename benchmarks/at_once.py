"""One training at a time, or two at once? Steps a second by the timing that experiments choose by, and whole trials by the clock.

    python benchmarks/at_once.py [classifier] [unet] [--seconds 60]

A search of four trials of about so many seconds each, on made-up images: first one at a time with every core, then two at once with half of
them each, in turn twice. The time of a trial beyond its epochs is its fixed cost; on one core (`taskset -c 0`) it alone is measured.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

from speed import machine
from tabib.config import AnyStudy, Study
from tabib.experiments import read_search, run_trials
from tabib.experiments.search import Search
from tabib.experiments.trainings import prepare
from tabib.experiments.trials import Ledger
from tabib.phantoms import ready_phantom
from tabib.runs import Run
from tabib.training import AT_ONCE, class_names, pace
from tabib.training.resolve import available_threads

STUDIES = {
    "classifier": """
name: classifier
positive: PNEUMONIA
data: {folder: nowhere}
input: {height: 96, width: 96, channels: 1}
split: {train: 0.6, validation: 0.2, test: 0.2}
training: {epochs: 1, batch: 32, log_to: []}
phantom: {make: chest, patients: 120, set: {data.group: '(patient\\d+)', expect: [acquisition_confounder]}}
""",
    "unet": """
name: unet
task: segmentation
data: {folder: nowhere, masks: labels, labels: {nucleus: 1}, instances: true}
input: {patch: [96, 96], intensity: percentile}
model: {network: unet, filters: [16, 32, 64, 128]}
split: {train: 0.6, validation: 0.2, test: 0.2}
training: {epochs: 1, batch: 8, patches: 64, log_to: []}
phantom: {make: nuclei, patients: 12, set: {data.group: '(slide\\d+)'}}
""",
}
TITLES = {
    "classifier": "classifier (small_resnet, 96 x 96, batch 32)",
    "unet": "U-Net (16 to 128 maps, patches of 96 x 96, batch 8)",
}
SEARCH = "study: study.yaml\nmethod: grid\nfields: {training.learning_rate: [1e-3, 2e-3, 3e-3, 4e-3]}\n"
TRIALS, TURNS = 4, 2


def main() -> None:
    """Print three tables; of one core, as by `taskset`, the first alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=", ".join(STUDIES))
    parser.add_argument("--seconds", type=float, default=60, help="of a trial; 60 by itself")
    given = parser.parse_args()
    rows = []
    for name in given.studies or STUDIES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measured(name, Path(folder), given.seconds))
    print(f"\n### Trainings at once\n\n{machine()}\n")
    print("| one trial at a time | epochs, median | beyond them | of a trial of a minute |")
    print("|---|---|---|---|")
    for title, _, (alone, *_) in rows:
        beyond = statistics.median(beyond_epochs(*turn) for turn in alone)
        epochs = statistics.median(trial.training_seconds for _, ledger in alone for trial in ledger.trials)
        print(f"| {title} | {epochs:.0f} s | {beyond:.2f} s | **{beyond / (60 + beyond):.1%}** |")
    if available_threads() < AT_ONCE:
        return
    print("\n| steps a second | one, every core | one, one thread | two at once, one thread each | two / one, every core |")
    print("|---|---|---|---|---|")
    for title, steps, (_, both) in rows:
        together = next(ledger.pace.beside for _, ledger in both if ledger.pace and ledger.pace.beside)
        print(f"| {title} | {steps[0]:.2f} | {steps[1]:.2f} | {together:.2f} | **{together / steps[0]:.2f}** |")
    print(f"\n| {TRIALS} trials, by the clock | one at a time | two at once | throughput, two / one |")
    print("|---|---|---|---|")
    for title, _, sides in rows:
        cells = [" and ".join(f"{seconds:.0f}" for seconds, _ in turns) + " s" for turns in sides]
        ratios = [f"{one / two:.2f}" for (one, _), (two, _) in zip(*sides, strict=True)]
        print(f"| {title} | {cells[0]} | {cells[1]} | **{' and '.join(ratios)}** |")


def measured(name: str, folder: Path, seconds: float) -> tuple[str, list[float], list[list[tuple[float, Ledger]]]]:
    """Steps a second of one training, with every core and with one; and what four trials took, one at a time and two at once, in each turn."""
    (folder / "study.yaml").write_text(STUDIES[name])
    (folder / "search.yaml").write_text(SEARCH)
    pace.WORTH_TIMING = float("inf")
    run, _ = prepare(asked_of(folder).study, root=folder / "runs")
    study = run.read("study")
    steps = [rate(run, study, threads) for threads in (study.training.threads, 1)]
    epochs = max(1, round(seconds / run.read("checks").predicted_seconds))
    ways = [1, AT_ONCE][: available_threads()]
    turns = [[tried(folder, epochs, turn, processes=processes) for processes in ways] for turn in range(TURNS if len(ways) > 1 else 1)]
    return f"{TITLES[name]}, {study.training.precision}", steps, [list(side) for side in zip(*turns, strict=True)]


def asked_of(folder: Path, *overrides: str) -> Search:
    """The search, on made-up images."""
    return read_search(folder / "search.yaml", overrides=overrides, phantom=partial(ready_phantom, root=folder))


def rate(run: Run, study: AnyStudy, threads: int) -> float:
    """Training steps a second of one training."""
    asked = study.model_copy(update={"training": study.training.model_copy(update={"threads": threads})})
    return pace.step_rate((asked, len(class_names(run.read("split"), study)) if isinstance(study, Study) else 0, pace.TIMED))


def tried(folder: Path, epochs: int, turn: int, *, processes: int) -> tuple[float, Ledger]:
    """Seconds of all trials, without what they share; and what is known of them."""
    pace.WORTH_TIMING, pace.TWO_PAY = (0, 0) if processes > 1 else (float("inf"), 1)
    root = folder / f"{turn}-{processes}"
    search = asked_of(folder, f"training.epochs={epochs}")
    prepare(search.study, root=root)
    began = time.monotonic()
    ledger = run_trials(search, root=root, folder=root)
    assert [trial.state for trial in ledger.trials] == ["done"] * TRIALS, [trial.reason for trial in ledger.trials]
    return time.monotonic() - began, ledger


def beyond_epochs(seconds: float, ledger: Ledger) -> float:
    """Seconds of a trial that are none of its epochs'."""
    return (seconds - sum(trial.training_seconds for trial in ledger.trials)) / TRIALS


if __name__ == "__main__":
    main()
