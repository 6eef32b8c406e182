"""Quality of masks on real images, from what `tabib plan` proposes: `make bench-quality`. An hour for each model; never in CI.

    python benchmarks/quality_masks.py [hearts] [nuclei] ... [--minutes 60]

Each study is planned for the minutes given and trained as it was planned; nothing is tuned by hand. A plan is made once and kept
in `runs/plans`; a run that was interrupted goes on where it was. The test images are looked at here.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabib.config import Segmentation
from tabib.console import ConsoleProgress
from tabib.plan import plan_study, write_plan
from tabib.records import Measure, SegmentationEvaluation
from tabib.runs import open_run
from tabib.study import run_study
from tabib.study_file import check_study, load_study

SHARED = Path(__file__).parents[2] / "shared" / "data"
RUNS = Path("runs")
_HEARTS = {"folder": SHARED / "cardiac_acdc", "layout": "acdc", "labels": {"rv": 1, "myocardium": 2, "lv": 3}, "spacing": "nominal"}
_NUCLEI = {"masks": "labels", "labels": {"nucleus": 1}, "instances": True}


@dataclass(frozen=True)
class Question:
    """What is asked, of which images, in what time."""

    minutes: float
    data: dict[str, Any]
    split: dict[str, Any]
    changes: tuple[str, ...] = ()  # of the plan


_HEART_SPLIT = {"train": 0.7, "validation": 0.1, "test": 0.2}
QUESTIONS = {
    "hearts": Question(60, _HEARTS, _HEART_SPLIT),
    "hearts_attention_unet": Question(60, _HEARTS, _HEART_SPLIT, ("model.network=attention_unet",)),
    "hearts_vnet": Question(60, _HEARTS, _HEART_SPLIT, ("model.network=vnet", "model.filters=auto")),
    "hearts_dynunet": Question(60, _HEARTS, _HEART_SPLIT, ("model.network=dynunet", "model.filters=auto")),
    "nuclei": Question(30, {"folder": SHARED / "nuclei/stained", "kind": "tissue", **_NUCLEI}, {}),
    "nuclei_fluorescence": Question(30, {"folder": SHARED / "nuclei/fluorescence", **_NUCLEI}, {}),
}
"""By the name on the command line. All networks of one question have its plan but for what `changes` says, and so see as many patches."""


def main() -> None:
    """Run and print a row a question."""
    parser = argparse.ArgumentParser()
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=", ".join(QUESTIONS))
    parser.add_argument("--minutes", type=float)
    given = parser.parse_args()
    for name in given.questions or QUESTIONS:
        question = QUESTIONS[name]
        minutes = given.minutes or question.minutes
        study = load_study(planned(question, minutes), overrides=[*question.changes, f"name={name}"])
        started = time.monotonic()
        progress = ConsoleProgress()
        with open_run(study, command=sys.argv, on_step=progress.step) as run:
            run_study(study, run, progress=progress)
        evaluation: SegmentationEvaluation = run.read("evaluation")
        test = next(part for part in evaluation.parts if part.part == "test")
        shown = [measure for measure in test.measures if measure.name in ("dice", "aji", "panoptic_quality", "pixel_accuracy")]
        print(f"\n### {name}, planned for {minutes:g} minutes: {test.rows} images of {test.groups} patients or images\n", flush=True)
        print("| " + " | ".join(f"{each.name} of {each.of}" for each in shown) + " | minutes |\n|" + "---|" * (len(shown) + 1))
        print("| " + " | ".join(map(_cell, shown)) + f" | {(time.monotonic() - started) / 60:.0f} |", flush=True)


def planned(question: Question, minutes: float) -> Path:
    """The plan of a question, made where it is not there yet."""
    name = f"{Path(question.data['folder']).name}-{minutes:g}"
    path = RUNS / "plans" / f"{name}.yaml"
    if not path.exists():
        asked = check_study({"task": "segmentation", "name": name, "data": question.data, "split": question.split}, source=__file__)
        assert isinstance(asked, Segmentation)
        path.parent.mkdir(parents=True, exist_ok=True)
        progress = ConsoleProgress()
        write_plan(
            plan_study(asked.data, name=name, minutes=minutes, split=asked.split, cache_folder=RUNS / ".cache", progress=progress), path
        )
    return path


def _cell(measure: Measure) -> str:
    if measure.value is None:
        return "-"
    return f"{measure.value:.3f}" + ("" if measure.low is None else f" [{measure.low:.3f}, {measure.high:.3f}]")


if __name__ == "__main__":
    main()
