"""Quality of masks on real images, from what `tabib plan` proposes: `make bench-quality`. An hour for each model; never in CI.

    python benchmarks/quality_masks.py [hearts] [nuclei] ... [--minutes 60]

Each study is planned for the minutes given and trained as it was planned; nothing is tuned by hand. A plan is made once and kept
in `runs/plans`; a run that was interrupted goes on where it was. The test images are looked at here.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabib.config import Segmentation
from tabib.console import ConsoleProgress
from tabib.external import judge_external
from tabib.plan import plan_study, write_plan
from tabib.records import Measure, SegmentationEvaluation
from tabib.runs import open_run
from tabib.study import run_study
from tabib.study_file import check_study, load_study

SHARED = Path(__file__).parents[2] / "shared" / "data"
RUNS = Path("runs")
MEASURES = ("dice", "voxel_accuracy", "aji", "panoptic_quality")
_HEARTS = {"folder": SHARED / "cardiac_acdc", "layout": "acdc", "labels": {"rv": 1, "myocardium": 2, "lv": 3}, "spacing": "nominal"}
_NUCLEI = {"masks": "labels", "labels": {"nucleus": 1}, "instances": True}


@dataclass(frozen=True)
class Question:
    """What is asked, of which images, in what time."""

    minutes: float
    data: dict[str, Any]
    split: dict[str, Any]
    changes: tuple[str, ...] = ()  # of the plan; {name} is the newest run of that question
    on: dict[str, Any] | None = None  # images of another source, on which the model is judged afterwards


_HEART_SPLIT = {"train": 0.7, "validation": 0.1, "test": 0.2}
_SUNNYBROOK = {"folder": SHARED / "cardiac_sunnybrook", "layout": "sunnybrook", "labels": {"lv": 1}}
_STAINED = {"folder": SHARED / "nuclei/stained", "kind": "tissue", **_NUCLEI}
_FLUORESCENCE = {"folder": SHARED / "nuclei/fluorescence", "kind": "fluorescence", **_NUCLEI}
_LITE0 = ("model.encoder=tf_efficientnet_lite0", "model.weights=imagenet", "model.filters=auto")
QUESTIONS = {
    "hearts": Question(60, _HEARTS, _HEART_SPLIT, on=_SUNNYBROOK),
    "hearts_attention_unet": Question(60, _HEARTS, _HEART_SPLIT, ("model.network=attention_unet",)),
    "hearts_vnet": Question(60, _HEARTS, _HEART_SPLIT, ("model.network=vnet", "model.filters=auto")),
    "hearts_dynunet": Question(60, _HEARTS, _HEART_SPLIT, ("model.network=dynunet", "model.filters=auto")),
    "nuclei": Question(30, _STAINED, {}, on=_FLUORESCENCE),
    "nuclei_lite0": Question(30, _STAINED, {}, _LITE0),
    "nuclei_fluorescence": Question(30, _FLUORESCENCE, {}, ("input.channels=3",), on=_STAINED),
    "nuclei_fine_tuned": Question(30, _STAINED, {}, ("model.weights=run:{nuclei_fluorescence}", "model.freeze=encoder")),
}
"""By the name on the command line. All networks of one question have its plan but for what `changes` says, and so see as many patches."""


def main() -> None:
    """Run and print a row a question."""
    parser = argparse.ArgumentParser()
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=", ".join(QUESTIONS))
    parser.add_argument("--minutes", type=float, help="for each; by itself 60 for hearts and 30 for nuclei")
    given = parser.parse_args()
    progress = ConsoleProgress()
    for name in given.questions or QUESTIONS:
        question = QUESTIONS[name]
        minutes = given.minutes or question.minutes
        newest = {each: max((RUNS / each).glob("*/"), key=os.path.getmtime) for each in QUESTIONS if (RUNS / each).exists()}
        changes = [change.format(**newest) for change in question.changes]
        study = load_study(planned(question, minutes), overrides=[*changes, f"name={name}"])
        started = time.monotonic()
        with open_run(study, command=sys.argv, on_step=progress.step) as run:
            run_study(study, run, progress=progress)
            _row(f"{name}, planned for {minutes:g} minutes", run.read("evaluation"), (time.monotonic() - started) / 60)
            if question.on is not None:
                other = check_study({"task": "segmentation", "name": "other", "data": question.on}, source=__file__)
                external, _ = judge_external(run, other.data, name=Path(question.on["folder"]).name, progress=progress)
                assert isinstance(external.evaluation, SegmentationEvaluation)
                _row(f"{name} on {external.name}, as it is", external.evaluation, (time.monotonic() - started) / 60)


def _row(title: str, evaluation: SegmentationEvaluation, minutes: float) -> None:
    test = next(part for part in evaluation.parts if part.part == "test")
    shown = [measure for measure in test.measures if measure.name in MEASURES and measure.of not in ("voxels", "objects")]
    print(f"\n### {title}: {test.rows} images of {test.groups} groups\n", flush=True)
    names = (each.name + (f" of {each.of}" if each.of else "") for each in shown)
    print("| " + " | ".join(names) + " | minutes |\n|" + "---|" * (len(shown) + 1))
    print("| " + " | ".join(map(_cell, shown)) + f" | {minutes:.0f} |", flush=True)


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
