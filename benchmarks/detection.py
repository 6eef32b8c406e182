"""How often planted trouble is found, by its strength, and how often a clean data set is accused.

Each point is a number of phantoms, each with its own patients. Writes Markdown tables to results/detection.md.

Run: python benchmarks/detection.py [--phantoms 20] [--clean 240] [--processes 2]
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl
from scipy.stats import beta
from sklearn.linear_model import RidgeClassifier

from tabib.config import Data, Split, Study
from tabib.dataset import index_folder, inspect_dataset, split_dataset
from tabib.evaluation import evaluate
from tabib.phantoms import CHEST_CLASSES, ChestFilms, Truth, make_chest_films
from tabib.records import Findings, prediction_schema

BASE = ChestFilms(patients=60, films_per_patient=(2, 3), side=64)
GROUP = r"(patient\d+)"

# Trouble in the pictures' acquisition, their files or their copies: who is asked, and which code should answer.
STRENGTHS: dict[str, tuple[float, ...]] = {
    "near_copies": (0.01, 0.02, 0.05, 0.1, 0.2),
    "given_leak": (0.05, 0.1, 0.25, 0.5),
    "corrupt": (0.01, 0.05, 0.2),
    "confounder": (0.2, 0.4, 0.5, 0.6, 1.0),
}
NOISE = (0.0, 0.1, 0.2, 0.3, 0.4)
DIFFERENCES = ("size", "jpeg", "border", "plate")

# Every code that accuses; true of none of the clean phantoms.
ACCUSING = (
    "unreadable_files",
    "misnamed_files",
    "flat_images",
    "mixed_colour",
    "patients_unknown",
    "patients_partly_unknown",
    "every_image_a_patient",
    "class_imbalance",
    "small_class",
    "few_patients_of_class",
    "exact_copies",
    "copies_with_two_labels",
    "near_copies",
    "near_copies_with_two_labels",
    "near_copy_cluster_large",
    "given_leak_groups",
    "given_leak_copies",
    "acquisition_confounder",
    "numbering_separates_classes",
)


@dataclass(frozen=True)
class Task:
    films: ChestFilms
    patients_known: bool = True


@dataclass(frozen=True)
class Seen:
    """What was found in one phantom, beside what was planted."""

    accusations: frozenset[str]  # codes of level warn or fail
    figures: dict[str, dict[str, float | int | str]]
    planted: int  # copies, patients or files
    right: dict[str, tuple[int, int]]  # planted pieces found, planted pieces; by kind


@dataclass(frozen=True)
class Judged:
    """What was concluded about a reader trained on one phantom."""

    remarks: frozenset[str]
    auc: float
    best_auc: float


def look(task: Task) -> Seen:
    films = task.films
    folder = Path(tempfile.mkdtemp(prefix="tabib-detection-"))
    try:
        truth = make_chest_films(folder / "films", films)
        data = Data(folder=folder / "films", group=GROUP if task.patients_known else None)
        study = Study(name="detection", data=data, split=Split(given=films.parted))
        index = index_folder(data, workers=1)
        findings = inspect_dataset(index, study)
    finally:
        shutil.rmtree(folder)
    return Seen(
        accusations=frozenset(finding.code for finding in findings.findings if finding.level != "pass"),
        figures={finding.code: finding.figures for finding in findings.findings},
        planted=len(truth.near_copies) + len(truth.leaked) + len(truth.unreadable) + len(truth.misnamed),
        right=_right(truth, index, findings),
    )


def _right(truth: Truth, index: pl.DataFrame, findings: Findings) -> dict[str, tuple[int, int]]:
    row = dict(zip(index["path"], index["row"], strict=True))
    cluster = {member: number for number, rows in enumerate(findings.near_copies) for member in rows}
    changes: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for film in truth.films:
        if film.copy_of is not None and film.change is not None:
            changes[film.change] += 1
            own, original = cluster.get(row[film.path]), cluster.get(row[film.copy_of])
            found[film.change] += own is not None and own == original
    refused = set(index.filter(pl.col("refused").is_not_null())["path"])
    misnamed = next((finding.rows for finding in findings.findings if finding.code == "misnamed_files"), [])
    files = {
        "refused": (len(refused & set(truth.unreadable)), len(truth.unreadable)),
        "misnamed": (len({row[path] for path in truth.misnamed} & set(misnamed)), len(truth.misnamed)),
    }
    return {change: (found[change], count) for change, count in changes.items()} | files


def judge(films: ChestFilms) -> Judged:
    """Train a linear reader of the thumbnails and have it judged as a network would be."""
    folder = Path(tempfile.mkdtemp(prefix="tabib-detection-"))
    try:
        truth = make_chest_films(folder / "films", films)
        data = Data(folder=folder / "films", group=GROUP)
        study = Study(name="detection", positive=CHEST_CLASSES[1], data=data, split=Split(train=0.5, validation=0.1, test=0.4))
        index = index_folder(data, workers=1)
    finally:
        shutil.rmtree(folder)
    split = split_dataset(index, inspect_dataset(index, study), study)
    table = index.with_columns(split["part"])
    pictures = np.frombuffer(b"".join(table["thumbnail"]), np.uint8).reshape(len(table), 16, 2, 16, 2).mean(axis=(2, 4))
    pictures = pictures.reshape(len(table), -1) / 255
    label, train = (table["label"] == CHEST_CLASSES[1]).to_numpy(), (table["part"] == "train").to_numpy()
    reader = RidgeClassifier(alpha=10).fit(pictures[train], label[train])
    probability = 1 / (1 + np.exp(-2 * reader.decision_function(pictures)))
    rows = table.with_columns(
        p_NORMAL=pl.Series(1 - probability),
        p_PNEUMONIA=pl.Series(probability),
        predicted=pl.Series(np.where(probability >= 0.5, CHEST_CLASSES[1], CHEST_CLASSES[0])),
    ).filter(pl.col("part").is_in(["validation", "test"]))
    schema = prediction_schema(list(CHEST_CLASSES))
    evaluation = evaluate(rows.select(list(schema)).cast(schema), index, split, study, threshold=0.5)  # pyright: ignore[reportArgumentType]
    auc = next(measure.value for measure in evaluation.parts[1].measures if measure.name == "auc")
    return Judged(frozenset(remark.code for remark in evaluation.remarks), float("nan") if auc is None else auc, truth.best_auc)


# --- What is asked ---


def troubled(count: int) -> dict[tuple[str, float], list[Task]]:
    """Tasks by trouble and strength; the same patients at every strength."""
    points: dict[tuple[str, float], list[Task]] = {}
    for trouble, strengths in STRENGTHS.items():
        for strength in strengths:
            films = [replace(BASE, seed=1000 + k, **{trouble: strength}) for k in range(count)]
            if trouble != "confounder":
                points[trouble, strength] = [Task(one) for one in films]
                continue
            for difference in DIFFERENCES:
                points[f"confounder: {difference}", strength] = [Task(replace(one, difference=difference)) for one in films]
    return points


def clean(count: int) -> list[Task]:
    """Nothing wrong: one machine or two that do not know the label, given parts or none, patients known or only in names."""
    kinds = [replace(BASE, machines=1), *(replace(BASE, machines=2, difference=difference) for difference in ("size", "jpeg", "border"))]
    return [
        Task(replace(kinds[k % len(kinds)], seed=5000 + k, given=k // 4 % 2 == 1), patients_known=k // 8 % 2 == 0) for k in range(count)
    ]


def mislabelled(count: int) -> dict[str, list[ChestFilms]]:
    films = replace(BASE, patients=240, films_per_patient=(1, 1))
    points = {f"{noise:.0%} of the patients": [replace(films, seed=9000 + k, label_noise=noise) for k in range(count)] for noise in NOISE}
    return points | {"all labels by lot": [replace(films, seed=9000 + k, random_labels=True) for k in range(4 * count)]}


# --- What is told ---


def at_least(found: int, of: int) -> float:
    """Lower end of the exact 95 % interval (Clopper and Pearson 1934)."""
    return float(beta.ppf(0.025, found, of - found + 1)) if found else 0.0


def at_most(found: int, of: int) -> float:
    return float(beta.ppf(0.975, found + 1, of - found)) if found < of else 1.0


def machine() -> str:
    model = platform.processor() or "unknown processor"
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, {os.cpu_count()} cores"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    return ["| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *rows)] + [""]


def share(found: int, of: int) -> str:
    return f"{found}/{of} ({at_least(found, of):.0%} - {at_most(found, of):.0%})"


def detection_lines(points: dict[tuple[str, float], list[Seen]]) -> Iterator[str]:
    def raised(seen: Sequence[Seen], code: str) -> str:
        return share(sum(code in one.accusations for one in seen), len(seen))

    def mean(seen: Sequence[Seen]) -> str:
        return f"{np.mean([one.planted for one in seen]):.1f}"

    def of_kind(seen: Sequence[Seen], kind: str) -> str:
        found, planted = (sum(one.right.get(kind, (0, 0))[k] for one in seen) for k in (0, 1))
        return f"{found}/{planted}" if planted else ""

    yield "### Near copies in the name of other patients, every second one in the other class\n"
    head = ("of the films", "copies (mean)", "`near_copies`", "`near_copies_with_two_labels`", "pairs found: JPEG", "resized", "brighter")
    rows = [
        (
            f"{strength:.0%}",
            mean(seen),
            raised(seen, "near_copies"),
            raised(seen, "near_copies_with_two_labels"),
            *(of_kind(seen, change) for change in ("jpeg", "size", "brightness")),
        )
        for (trouble, strength), seen in points.items()
        if trouble == "near_copies"
    ]
    yield from table(head, rows)

    yield "### Patients on both sides of a given split\n"
    rows = [
        (f"{strength:.0%}", mean(seen), raised(seen, "given_leak_groups"), share(sum(_counted_leak(one) for one in seen), len(seen)))
        for (trouble, strength), seen in points.items()
        if trouble == "given_leak"
    ]
    yield from table(("of the test patients", "patients (mean)", "`given_leak_groups`", "phantoms with the right number"), rows)

    yield "### Damaged files: in turn truncated, empty, a web page, misnamed\n"
    rows = [
        (f"{strength:.0%}", mean(seen), raised(seen, "unreadable_files"), of_kind(seen, "refused"), of_kind(seen, "misnamed"))
        for (trouble, strength), seen in points.items()
        if trouble == "corrupt"
    ]
    yield from table(("of the films", "files (mean)", "`unreadable_files`", "files refused", "files in `misnamed_files`"), rows)

    yield "### An acquisition that follows the class: `acquisition_confounder`\n"
    yield "The strength s sends (1 + s)/2 of the ill and (1 - s)/2 of the healthy to the second machine: knowing the machine is worth a"
    yield "balanced accuracy of (1 + s)/2. A plate in the picture leaves no trace in the facts of a file, and no look at facts can find it.\n"
    by_difference = [f"confounder: {difference}" for difference in DIFFERENCES]
    rows = [
        (strength, f"{(1 + strength) / 2:.2f}", *(raised(points[name, strength], "acquisition_confounder") for name in by_difference))
        for strength in STRENGTHS["confounder"]
    ]
    yield from table(("strength", "worth", "other size", "JPEG", "black border", "plate in the picture"), rows)


def _counted_leak(seen: Seen) -> bool:
    return seen.figures.get("given_leak_groups", {}).get("patients", 0) == seen.planted


def clean_lines(tasks: Sequence[Task], seen: Sequence[Seen]) -> Iterator[str]:
    alarms = Counter(code for one in seen for code in one.accusations)
    # True where the study does not name the patients, and then it has to be right.
    nameless = [one for task, one in zip(tasks, seen, strict=True) if not task.patients_known]
    proposed = sum(one.figures.get("group_pattern_proposed", {}).get("patients") == BASE.patients for one in nameless)
    codes = [*ACCUSING, *sorted(alarms.keys() - {*ACCUSING, "group_pattern_proposed"})]
    yield f"## False alarms over {len(seen)} clean phantoms\n"
    yield "A quarter each from one machine and from two machines of other size, format or border that do not know the label; half with given"
    yield "train and test folders; half with patients known to the study.\n"
    rows = [(f"`{code}`", alarms[code], f"{alarms[code] / len(seen):.1%}", f"{at_most(alarms[code], len(seen)):.1%}") for code in codes]
    yield from table(("code", "alarms", "rate", "at most (95 %)"), rows)
    accused = sum(bool(one.accusations - {"group_pattern_proposed"}) for one in seen)
    yield f"Accused of anything: {share(accused, len(seen))}."
    yield f"The right patients were proposed from the names where the study does not name them: {proposed}/{len(nameless)}.\n"


def judged_lines(points: dict[str, list[Judged]]) -> Iterator[str]:
    yield "## Wrong labels\n"
    yield "No look at the files can see a wrong label; it shows where a reader is judged. Here a linear reader of 16 x 16 pixels learns from"
    yield "half of 240 patients and is tested on 40 %. The best AUC is the phantom's own limit against such labels.\n"
    rows = [
        (
            name,
            f"{judged[0].best_auc:.3f}",
            f"{np.nanmean([one.auc for one in judged]):.3f}",
            share(sum("not_better_than_baseline" in one.remarks for one in judged), len(judged)),
            share(sum("better_than_baselines" in one.remarks for one in judged), len(judged)),
        )
        for name, judged in points.items()
    ]
    yield from table(("labels that are wrong", "best AUC", "AUC (mean)", "`not_better_than_baseline`", "`better_than_baselines`"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phantoms", type=int, default=20, help="at each point")
    parser.add_argument("--clean", type=int, default=240)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "detection.md")
    asked = parser.parse_args()

    # Read by the libraries of the worker processes when they start.
    os.environ |= {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    points, control, labels = troubled(asked.phantoms), clean(asked.clean), mislabelled(asked.phantoms)
    with ProcessPoolExecutor(asked.processes, mp_context=get_context("spawn")) as pool:
        seen = iter(list(pool.map(look, [*(task for tasks in points.values() for task in tasks), *control], chunksize=8)))
        judged = iter(list(pool.map(judge, [films for many in labels.values() for films in many], chunksize=4)))
    lines = [
        "# Detection of planted trouble\n",
        f"Phantoms of {BASE.patients} patients, {BASE.films_per_patient[0]} or {BASE.films_per_patient[1]} films each, {BASE.side} pixels.",
        f"{asked.phantoms} phantoms a point; intervals are exact, 95 %. Machine: {machine()}.\n",
        f"## Found, of {asked.phantoms} phantoms\n",
        *detection_lines({point: [next(seen) for _ in tasks] for point, tasks in points.items()}),
        *clean_lines(control, list(seen)),
        *judged_lines({name: [next(judged) for _ in many] for name, many in labels.items()}),
    ]
    asked.out.parent.mkdir(exist_ok=True)
    asked.out.write_text("\n".join(lines), encoding="utf-8")
    print(asked.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
