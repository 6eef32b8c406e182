"""Quality on real images, from the study files alone: `make bench-quality`. Minutes to hours; never in CI.

    python benchmarks/quality.py [pneumoniamnist] [chest_xray] [chest_xray_split]

Each study is run with several training seeds, one run a seed; the table has every seed and their mean. Settings were
chosen on validation images and phantoms; the test images are looked at here.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tabib.console import ConsoleProgress
from tabib.records import Evaluation
from tabib.runs import open_run
from tabib.study import run_study
from tabib.study_file import load_study

STUDIES = Path(__file__).parents[1] / "studies"
SEEDS = (0, 1, 2)
MEASURES = ("auc", "accuracy", "sensitivity", "specificity")

RUNS: dict[str, tuple[str, list[str]]] = {
    "pneumoniamnist": ("pneumoniamnist.yaml", []),
    "chest_xray": ("chest_xray.yaml", []),
    "chest_xray_split": ("chest_xray.yaml", ["split.group_scope=split"]),
}
"""Study file and changes, by the name on the command line."""


def main() -> None:
    """Run and print a table a study."""
    for name in sys.argv[1:] or RUNS:
        file, changes = RUNS[name]
        print(
            f"\n### {name}\n\n| seed | "
            + " | ".join(MEASURES)
            + " | minutes | training images | left out |\n|"
            + "---|" * (len(MEASURES) + 4),
            flush=True,
        )
        values: list[list[float]] = []
        for seed in SEEDS:
            study = load_study(STUDIES / file, overrides=[*changes, f"training.seeds=[{seed}]"])
            started = time.monotonic()
            progress = ConsoleProgress()
            with open_run(study, command=sys.argv, on_step=progress.step) as run:
                run_study(study, run, progress=progress)
            minutes = (time.monotonic() - started) / 60
            evaluation: Evaluation = run.read("evaluation")
            test = next(part for part in evaluation.parts if part.part == "test")
            found = {measure.name: measure for measure in test.measures if measure.of is None}
            values.append([found[measure].value or 0.0 for measure in MEASURES])
            cells = [f"{found[measure].value:.3f} [{found[measure].low:.3f}, {found[measure].high:.3f}]" for measure in MEASURES]
            parts = run.read("split")["part"]
            print(
                f"| {seed} | " + " | ".join(cells) + f" | {minutes:.1f} | {(parts == 'train').sum()} | {(parts == 'left_out').sum()} |",
                flush=True,
            )
        means = [sum(column) / len(column) for column in zip(*values, strict=True)]
        print("| mean | " + " | ".join(f"**{mean:.3f}**" for mean in means) + " | | | |", flush=True)


if __name__ == "__main__":
    main()
