"""Do proposed studies do better than the defaults? Validation AUC of both, on made-up and, where they are there, on real images.

    python benchmarks/plan.py [--minutes 2] [--images 400] [--data FOLDER ...]

Both are trained on the same split with the same seed and are judged by the validation images alone: no test image is looked at. The
defaults are those of a study that names its data and nothing else; a study is proposed for the minutes given, or else for as long
as the defaults took to train. Of a folder or a MedMNIST file with more images, so many are drawn.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl

from tabib.config import Data, Study, Training
from tabib.console import ConsoleProgress
from tabib.phantoms import ChestFilms, make_chest_films
from tabib.plan import TRAINING, plan_study
from tabib.runs import Reached, open_run
from tabib.study import run_study

PHANTOMS = {
    "phantom, 120 patients, 160 pixels": ChestFilms(patients=120, films_per_patient=(2, 3), side=160),
    "phantom, 200 patients, 32 pixels": ChestFilms(patients=200, films_per_patient=(1, 3), side=32),
    "phantom, faint signs, 224 pixels": ChestFilms(patients=150, films_per_patient=(1, 3), side=224, lesion=1.5),
}


def main() -> None:
    """Print a line per data set."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    given = parser.parse_args()
    print("| images | training + validation | proposed | validation AUC | training | defaults: validation AUC | training |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        folders: dict[str, Path] = {}
        for number, source in enumerate(given.data):
            drawn = _draw_arrays if source.suffix == ".npz" else _draw_files
            folders["/".join(source.parts[-2:])] = drawn(source.resolve(), given.images, Path(place) / f"drawn{number}")
        for number, (name, films) in enumerate(PHANTOMS.items()):
            folders[name] = Path(place) / f"films{number}"
            make_chest_films(folders[name], films)
        for name, folder in folders.items():
            _line(name, folder, Path(place) / "runs", minutes=given.minutes, seed=given.seed)


def _draw_files(source: Path, count: int, folder: Path) -> Path:
    """A folder of links to so many files, drawn by chance."""
    files = sorted(file for file in source.rglob("*") if file.is_file())
    for file in random.Random(0).sample(files, min(count, len(files))):
        link = folder / file.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    return folder


def _draw_arrays(source: Path, count: int, folder: Path) -> Path:
    """A file of so many rows, drawn by chance, each part with its share."""
    with np.load(source) as file:
        arrays = {name: file[name] for name in file.files}
    total = sum(len(labels) for name, labels in arrays.items() if name.endswith("_labels"))
    for part in {name.rsplit("_", 1)[0] for name in arrays}:
        images, labels = (arrays[f"{part}_{kind}"] for kind in ("images", "labels"))
        rows = np.random.default_rng(0).permutation(len(labels))[: max(1, round(len(labels) * min(1, count / total)))]
        arrays[f"{part}_images"], arrays[f"{part}_labels"] = images[rows], labels[rows]
    folder.mkdir()
    np.savez(folder / source.name, **arrays)
    return folder / source.name


def _line(name: str, folder: Path, runs: Path, *, minutes: float | None, seed: int) -> None:
    data = Data(folder=folder, layout="npz" if folder.suffix == ".npz" else "class_folders")

    def plan(minutes: float) -> Study:
        return plan_study(data, name="planned", minutes=minutes, cache_folder=runs / ".cache", progress=ConsoleProgress()).study

    seen = plan(0.01)  # for its patients, split and positive class alone
    plain = Study(name="defaults", positive=seen.positive, data=seen.data, split=seen.split, training=Training(seeds=[seed]))
    default, default_seconds, counts = _trained(plain, runs)
    proposed = plan(minutes or default_seconds / 60 / TRAINING)
    training = proposed.training.model_copy(update={"seeds": [seed]})
    planned, seconds, _ = _trained(proposed.model_copy(update={"training": training}), runs)
    shape = proposed.input
    said = f"{proposed.model.network}, {shape.height}x{shape.width}, {training.epochs} epochs of batches of {training.batch}"
    print(f"| {name} | {counts} | {said} | {planned:.3f} | {seconds:.0f} s | {default:.3f} | {default_seconds:.0f} s |", flush=True)


def _trained(study: Study, runs: Path) -> tuple[float, float, str]:
    """Validation AUC at the epoch whose weights are kept, seconds of training, and how many images trained and judged."""
    with open_run(study, root=runs, until="model") as run, suppress(Reached):
        run_study(study, run, progress=ConsoleProgress())
    (member,) = run.read("model").members
    (history,) = run.histories().values()
    parts: pl.Series = run.read("split")["part"]
    counts = " + ".join(f"{(parts == part).sum():,}" for part in ("train", "validation"))
    return history[member.best_epoch - 1]["validation_auc"], member.seconds, counts


if __name__ == "__main__":
    main()
