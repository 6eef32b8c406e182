"""Are planted wrong labels found?

Made-up chest films of 120 patients, of whom one in ten lies in the wrong class folder with all films. `tabib label-trouble` trains a
small network in four turns, each judging patients it has not seen, and what it lists is compared with what was planted. Whoever lists
films by lot has the share of wrong labels as precision. Stopped and started again, it goes on.

    python benchmarks/label_trouble.py [--folder DIR]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from speed import machine
from tabib.experiments import find_label_trouble
from tabib.phantoms import ChestFilms, make_chest_films, plan_chest_films
from tabib.study_file import check_study

FILMS = ChestFilms(patients=120, films_per_patient=(1, 2), side=32, lesion=8.0, label_noise=0.1)
PRECISION, RECALL = 0.7, 0.5
"""The least of the films listed as probably wrong that are so, and of the planted ones that are listed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-label-trouble"))
    folder: Path = parser.parse_args().folder
    films = folder / "films"
    truth = plan_chest_films(FILMS) if films.exists() else make_chest_films(films, FILMS)
    values = {
        "name": "label_trouble",
        "positive": "PNEUMONIA",
        "data": {"folder": str(films), "group": r"(patient\d+)"},
        "split": {"train": 0.5, "validation": 0.25, "test": 0.25},
        "input": {"height": 32, "width": 32, "channels": 1},
        "training": {"epochs": 30, "batch": 16, "learning_rate": 3e-3, "threads": 1, "precision": "fp32", "device": "cpu"},
        "evaluate": {"draws": 200},
        "report": {"languages": ["en"]},
    }
    trouble = find_label_trouble(check_study(values, source="the benchmark"), root=folder / "runs")
    planted = {film.path for film in truth.films if film.patient in truth.mislabelled}
    wrong = {each.path for each in trouble.doubts if each.list == "wrong"}
    either = {each.path for each in trouble.doubts}
    precision, recall = len(wrong & planted) / len(wrong), len(wrong & planted) / len(planted)
    print(f"### Label trouble\n\n{machine()}\n")
    print(
        "| films | wrong labels planted | listed as probably wrong | precision | recall | by lot | recall of both lists | of films in both |"
    )
    print("|---|---|---|---|---|---|---|---|")
    print(
        f"| {trouble.rows} | {len(planted)} | {len(wrong)} | {precision:.2f} | {recall:.2f} | {len(planted) / trouble.rows:.2f} "
        f"| {len(either & planted) / len(planted):.2f} | {len(either) / trouble.rows:.2f} |"
    )
    if precision < PRECISION or recall < RECALL:
        sys.exit(f"Expected a precision of {PRECISION} or more, and a recall of {RECALL} or more.")


if __name__ == "__main__":
    main()
