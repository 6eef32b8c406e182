"""Is planted trouble found, and does a clean data set raise no alarm?

Made-up chest films are written to a temporary folder and looked at as `tabib look` does. For each trouble and strength:
the share of data sets in which it is found. For clean data sets: the share in which each warning is raised.

    python -m benchmarks.findings [--sets 10] [--clean 200]
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tabib.config import Study
from tabib.dataset import index_folder, inspect_dataset
from tabib.phantoms import ChestFilms, make_chest_films
from tabib.records import Findings

CLEAN = ChestFilms(patients=60, films_per_patient=(1, 3), side=96)
PATTERN = r"(patient\d+)"

# What is planted, as a setting of the phantom; the finding that must say it; the strengths.
TROUBLES: dict[str, tuple[ChestFilms, str, str, tuple[float, ...]]] = {
    "near copies of films, in other patients' names": (CLEAN, "near_copies", "near_copies", (0.01, 0.05, 0.2)),
    "near copies with another label": (CLEAN, "near_copies", "near_copies_with_two_labels", (0.01, 0.05, 0.2)),
    "patients on both sides of a given split": (replace(CLEAN, given=True), "given_leak", "given_leak_groups", (0.05, 0.1, 0.3)),
    "confounder: size": (replace(CLEAN, machines=2), "confounder", "acquisition_confounder", (0.2, 0.4, 0.6, 0.8, 1.0)),
    "confounder: compression": (
        replace(CLEAN, machines=2, difference="jpeg"),
        "confounder",
        "acquisition_confounder",
        (0.2, 0.4, 0.6, 0.8, 1.0),
    ),
    "confounder: border": (
        replace(CLEAN, machines=2, difference="border"),
        "confounder",
        "acquisition_confounder",
        (0.2, 0.4, 0.6, 0.8, 1.0),
    ),
    "damaged files": (CLEAN, "corrupt", "unreadable_files", (0.01, 0.05, 0.2)),
}


def look(films: ChestFilms) -> Findings:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "films"
        make_chest_films(folder, films)
        study = Study.model_validate({"name": "bench", "data": {"folder": folder, "group": PATTERN}, "split": {"given": films.given}})
        return inspect_dataset(index_folder(study.data, workers=1), study)


def warnings(findings: Findings) -> set[str]:
    return {finding.code for finding in findings.findings if finding.level != "pass"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=10)
    parser.add_argument("--clean", type=int, default=200)
    arguments = parser.parse_args()
    print("| planted | strength: share of data sets in which it is found |\n|---|---|")
    for name, (films, setting, code, strengths) in TROUBLES.items():
        shares = []
        for strength in strengths:
            seeds = range(1, arguments.sets + 1)
            found = sum(code in warnings(look(replace(films, seed=seed, **{setting: strength}))) for seed in seeds)
            shares.append(f"{strength:g}: {found / arguments.sets:.0%}")
        print(f"| {name} | {' · '.join(shares)} |", flush=True)
    raised: Counter[str] = Counter()
    for seed in range(1001, 1001 + arguments.clean):
        raised.update(warnings(look(replace(CLEAN, seed=seed))) or {"none"})
    print(f"\nOf {arguments.clean} clean data sets: " + ", ".join(f"{code} in {count}" for code, count in raised.most_common()))


if __name__ == "__main__":
    main()
