"""Do proposed studies do better than the defaults? Validation AUC of both, on made-up and, where they are there, on real images.

    python benchmarks/plan.py [--minutes 2] [--data FOLDER ...]

Both are trained on the same split with seed 0 and are judged by the validation images alone: no test image is looked at. The
defaults are those of a study that names its data and nothing else.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import suppress
from pathlib import Path

from tabib.config import Data, Study
from tabib.console import ConsoleProgress
from tabib.phantoms import ChestFilms, make_chest_films
from tabib.plan import plan_study
from tabib.runs import Reached, open_run
from tabib.study import run_study

PHANTOMS = {
    "phantom, 120 patients, 160 pixels": ChestFilms(patients=120, films_per_patient=(2, 3), side=160),
    "phantom, 300 patients, 28 pixels": ChestFilms(patients=300, films_per_patient=(1, 3), side=28),
    "phantom, faint signs, 224 pixels": ChestFilms(patients=150, films_per_patient=(1, 3), side=224, lesion=1.5),
}


def main() -> None:
    """Print a line per data set."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    given = parser.parse_args()
    print("| images | proposed | validation AUC | training | defaults: validation AUC | training |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        folders = {folder.name: folder for folder in given.data}
        for number, (name, films) in enumerate(PHANTOMS.items()):
            make_chest_films(Path(place) / f"films{number}", films)
            folders[name] = Path(place) / f"films{number}"
        for name, folder in folders.items():
            _line(name, folder, Path(place) / "runs", given.minutes)


def _line(name: str, folder: Path, runs: Path, minutes: float) -> None:
    plan = plan_study(Data(folder=folder), name="planned", minutes=minutes, cache_folder=runs / ".cache", progress=ConsoleProgress())
    plain = Study(name="defaults", positive=plan.study.positive, data=plan.study.data, split=plan.study.split)
    planned, seconds = _trained(plan.study, runs)
    default, default_seconds = _trained(plain, runs)
    shape, chosen = plan.study.input, plan.study
    said = f"{chosen.model.network}, {shape.height}x{shape.width}, {chosen.training.epochs} epochs"
    print(f"| {name} | {said} | {planned:.3f} | {seconds:.0f} s | {default:.3f} | {default_seconds:.0f} s |", flush=True)


def _trained(study: Study, runs: Path) -> tuple[float, float]:
    """Validation AUC at the epoch whose weights are kept, and seconds of training."""
    with open_run(study, root=runs, until="model") as run, suppress(Reached):
        run_study(study, run, progress=ConsoleProgress())
    (member,) = run.read("model").members
    (history,) = run.histories().values()
    return history[member.best_epoch - 1]["validation_auc"], member.seconds


if __name__ == "__main__":
    main()
