"""Are planted wrong labels and masks found?

Made-up chest films of 120 patients, of whom one in ten lies in the wrong class folder with all films; and made-up hearts of 30 patients, of
whose 60 volumes one in ten has outlines that were moved by 12 mm, has both cavities under each other's number, or lacks a slice in the middle.
`tabib label-trouble` trains a small network in turns, each judging patients it has not seen, and what it lists is compared with what was
planted. Whoever lists images by lot has the share of wrong ones as precision. Stopped and started again, it goes on.

    python benchmarks/label_trouble.py [films] [hearts] [--folder DIR]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

from speed import machine
from tabib.experiments import find_label_trouble
from tabib.phantoms import ChestFilms, HeartScans, make_chest_films, make_heart_scans, plan_chest_films, plan_heart_scans
from tabib.study_file import check_study

FILMS = ChestFilms(patients=120, films_per_patient=(1, 2), side=32, lesion=8.0, label_noise=0.1)
HEARTS = HeartScans(patients=30, side=64, pixel=(2.8, 3.2), faults=0.1, fault_kinds=("shifted", "swapped", "missing_slice"))
PRECISION, RECALL = 0.7, 0.5
"""The least of the images listed as probably wrong that are so, and of the planted ones that are listed."""


class Listed(NamedTuple):
    """Images that were looked at, those that were planted, and those that were listed."""

    images: int
    planted: set[str]
    wrong: set[str]
    either: set[str]

    @property
    def precision(self) -> float:
        return len(self.wrong & self.planted) / max(1, len(self.wrong))

    @property
    def recall(self) -> float:
        return len(self.wrong & self.planted) / len(self.planted)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=", ".join(SETS))
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-label-trouble"))
    given = parser.parse_args()
    found = {name: SETS[name](given.folder) for name in given.what or SETS}
    print(f"### Label trouble\n\n{machine()}\n")
    print("| of | wrong ones planted | listed as probably wrong | precision | recall | by lot | recall of both lists | of all in both |")
    print("|---|---|---|---|---|---|---|---|")
    for name, each in found.items():
        print(
            f"| {each.images} {name} | {len(each.planted)} | {len(each.wrong)} | {each.precision:.2f} | {each.recall:.2f} "
            f"| {len(each.planted) / each.images:.2f} | {len(each.either & each.planted) / len(each.planted):.2f} | {len(each.either) / each.images:.2f} |"
        )
    if min(each.precision for each in found.values()) < PRECISION or min(each.recall for each in found.values()) < RECALL:
        sys.exit(f"Expected a precision of {PRECISION} or more, and a recall of {RECALL} or more.")


def films(folder: Path) -> Listed:
    """Films in the wrong class folder."""
    place = folder / "films"
    truth = plan_chest_films(FILMS) if place.exists() else make_chest_films(place, FILMS)
    study = {
        "name": "label_trouble",
        "positive": "PNEUMONIA",
        "data": {"folder": str(place), "group": r"(patient\d+)"},
        "split": {"train": 0.5, "validation": 0.25, "test": 0.25},
        "input": {"height": 32, "width": 32, "channels": 1},
        "training": {"epochs": 30, "batch": 16, "learning_rate": 3e-3, "threads": 1, "precision": "fp32", "device": "cpu"},
        "evaluate": {"draws": 200},
        "report": {"languages": ["en"]},
    }
    trouble = trouble_of(study, folder)
    planted = {film.path for film in truth.films if film.patient in truth.mislabelled}
    return Listed(
        trouble.rows, planted, {each.path for each in trouble.doubts if each.list == "wrong"}, {each.path for each in trouble.doubts}
    )


def hearts(folder: Path) -> Listed:
    """Volumes with wrong outlines, listed with any of their structures."""
    place = folder / "hearts"
    truth = plan_heart_scans(HEARTS) if place.exists() else make_heart_scans(place, HEARTS)
    study = {
        "task": "segmentation",
        "name": "mask_trouble",
        "data": {"folder": str(place), "layout": "acdc", "labels": {"rv": 1, "myocardium": 2, "lv": 3}},
        "split": {"train": 0.5, "validation": 0.25, "test": 0.25},
        "input": {"dimensions": 2, "patch": [48, 48]},
        "model": {"network": "unet", "filters": [16, 32, 64]},
        "training": {"epochs": 12, "batch": 16, "patches": 240, "learning_rate": 3e-3, "threads": 1, "precision": "fp32", "device": "cpu"},
        "evaluate": {"draws": 200},
        "report": {"languages": ["en"]},
    }
    trouble = trouble_of(study, folder)
    planted = {heart.image for heart in truth.hearts if heart.fault}
    return Listed(
        trouble.rows,
        planted,
        {each.case.path for each in trouble.masks if each.list == "wrong"},
        {each.case.path for each in trouble.masks},
    )


SETS = {"films": films, "hearts": hearts}


def trouble_of(study: dict[str, Any], folder: Path) -> Any:
    """What label trouble says of a study."""
    return find_label_trouble(check_study(study, source="the benchmark"), root=folder / "runs")


if __name__ == "__main__":
    main()
