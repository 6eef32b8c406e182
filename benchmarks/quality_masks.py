"""Quality of masks on real images, from what `tabib plan` proposes: `make bench-quality`. An hour for each model; never in CI.

    python benchmarks/quality_masks.py [hearts] [nuclei] ... [hearts_folds] [--minutes 60]

Each study is planned for the minutes given and trained as it was planned; nothing is tuned by hand. A plan is made once and kept
in `runs/plans`; a run that was interrupted goes on where it was. The test images are looked at here.

`hearts_folds` judges every patient once, in five folds: the plan, and beside it MONAI's DynUNet as MONAI has it (fp32, instance norm), for
the share `--share` of the plan's epochs; the time that each trained is printed beside its Dice.
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
from tabib.experiments import judge_changes, read_changes, run_changes, write_ablation
from tabib.experiments.cross_validation import pool_turns
from tabib.external import judge_external
from tabib.plan import plan_study, write_plan
from tabib.records import Compared, Measure, SegmentationEvaluation
from tabib.runs import open_run
from tabib.study import run_study
from tabib.study_file import check_study, load_study
from tabib.training.resolve import available_threads

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

FOLDS = "hearts_folds"


def main() -> None:
    """Run and print a row a question."""
    parser = argparse.ArgumentParser()
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=", ".join([*QUESTIONS, FOLDS]))
    parser.add_argument("--minutes", type=float, help="for each; by itself 60 for hearts and 30 for nuclei")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the plan's epochs that DynUNet trains for in hearts_folds; 1 by itself"
    )
    given = parser.parse_args()
    progress = ConsoleProgress()
    for name in given.questions or [*QUESTIONS, FOLDS]:
        if name == FOLDS:
            folds(given.minutes or QUESTIONS["hearts"].minutes, given.share, progress)
            continue
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


def folds(minutes: float, share: float, progress: ConsoleProgress) -> None:
    """Train and judge the plan of the hearts and DynUNet in five folds, and print their Dice over all patients, and the difference."""
    plan = planned(QUESTIONS["hearts"], minutes)
    epochs = round(share * load_study(plan).training.epochs)
    dynunet = f"model.network: dynunet, model.norm: instance, training.precision: fp32, training.epochs: {epochs}"
    path = plan.with_name(f"{FOLDS}-{minutes:g}.yaml")
    rows = f"changes: [{{name: DynUNet {epochs} epochs, set: {{{dynunet}}}, together: true}}]"
    path.write_text(f"study: {plan.name}\nbase: as planned\nfolds: [0, 1, 2, 3, 4]\n{rows}\n", encoding="utf-8")
    # With all cores for each, so that times compare: one is trained at a time.
    changes = read_changes(path, overrides=[f"training.threads={available_threads()}"])
    trained = run_changes(changes, root=RUNS, command=sys.argv, progress=progress, on_step=progress.step)
    ablation = judge_changes(changes, trained)
    print(
        f"\n### {FOLDS}, planned for {minutes:g} minutes: {ablation.test_rows} images of {ablation.test_groups} groups, each judged once\n"
    )
    for row in ablation.rows:
        turns = [Path(each.run) for each in row.runs if each.run is not None]
        if len(turns) < len(row.runs):
            print(f"- {row.name}: {len(turns)} of {len(row.runs)} folds")
            continue
        dice = [f"{each.of or 'mean'} {_cell(each)}" for each in _dice(pool_turns(turns))]
        print(f"- {row.name}: {', '.join(dice)}, {sum(each.seconds for each in row.runs) / 60:.0f} minutes of training")
        dice = [
            f"{each.of or 'mean'} {each.value:+.3f} [{each.low:+.3f}, {each.high:+.3f}]" for each in row.differences if each.name == "dice"
        ]
        print(f"  - less that as planned: {', '.join(dice)}" if dice else "")
    print(f"\nPages: {', '.join(map(str, write_ablation(ablation, RUNS / FOLDS)))}", flush=True)


def _dice(pooled: Compared) -> list[Measure]:
    named = [each.model_copy(update={"of": of}) for of, measures in pooled.labels.items() for each in measures]
    return [each for each in [*pooled.measures, *named] if each.name == "dice"]


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
