"""Real images, with their traps: read, look, split, train a few steps."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from places import REAL, needs_real
from tabib.config import Study
from tabib.dataset import index_folder, inspect_dataset, split_dataset
from tabib.records import Evaluation, Findings
from tabib.runs import Run, open_run
from tabib.study import run_study
from tiny import tiny_study

pytestmark = [pytest.mark.real, pytest.mark.slow]

ONE_EPOCH: dict[str, dict[str, object]] = {"training": {"epochs": 1, "batch": 64}}


def travel(study: Study, root: Path) -> Run:
    with open_run(study, root=root) as run:
        return run_study(study, run)


def first_page(run: Run) -> str:
    """The report above its contents: the findings, where every warning stands, come after them."""
    first, contents, _ = (run.folder / "report.en.html").read_text(encoding="utf-8").partition('<nav class="contents"')
    assert contents
    return first


def look(study: Study) -> tuple[pl.DataFrame, Findings]:
    index = index_folder(study.data)
    return index, inspect_dataset(index, study)


def levels(findings: Findings) -> dict[str, str]:
    return {finding.code: finding.level for finding in findings.findings}


@needs_real("pneumoniamnist")
def test_pneumoniamnist_is_learnt_in_one_epoch(tmp_path: Path) -> None:
    study = tiny_study(REAL / "pneumoniamnist" / "pneumoniamnist.npz")
    data = study.data.model_copy(update={"layout": "npz", "group": None})
    split = study.split.model_copy(update={"given": True, "leaks": "drop"})
    shape = study.input.model_copy(update={"height": 28, "width": 28})
    training = study.training.model_copy(update={"epochs": 1, "batch": 64})
    run = travel(study.model_copy(update={"positive": "1", "data": data, "split": split, "input": shape, "training": training}), tmp_path)
    given = Counter(run.read("index")["given"])
    assert (given["train"], given["validation"], given["test"]) == (4708, 524, 624)
    assert (run.read("split")["part"] == "test").sum() == 624
    evaluation: Evaluation = run.read("evaluation")
    auc = next(measure for measure in evaluation.parts[1].measures if measure.name == "auc" and measure.of is None)
    assert auc.value is not None
    assert auc.value > 0.7
    assert not evaluation.patients_known


@needs_real("chest_xray")
def test_chest_films_keep_the_public_test_set_and_drop_what_leaks(tmp_path: Path) -> None:
    changes = {"data": {"group": r"(person\d+)|((?:NORMAL2-)?IM-\d+)"}, "split": {"given": True, "leaks": "drop"}, **ONE_EPOCH}
    run = travel(tiny_study(REAL / "chest_xray", changes), tmp_path)
    split = run.read("split")
    assert (split["part"] == "test").sum() == 624
    dropped = split.filter(pl.col("part") == "left_out")
    assert dropped.height > 400
    assert dropped["reason"].null_count() == 0
    assert not set(split.filter(pl.col("part") == "test")["group"]) & set(
        split.filter(pl.col("part").is_in(["train", "validation"]))["group"]
    )
    findings: Findings = run.read("findings")
    assert max(map(len, findings.near_copies), default=0) < 0.05 * split.height
    assert levels(findings)["exact_copies"] != "pass"
    history = next(iter(run.histories().values()))
    assert all(math.isfinite(epoch["train_loss"]) for epoch in history)


@needs_real("alzheimer_mri")
def test_brain_slices_without_subjects_cannot_be_trusted_and_say_so(tmp_path: Path) -> None:
    study = tiny_study(REAL / "alzheimer_mri", {"data": {"group": None}, **ONE_EPOCH})
    study = study.model_copy(update={"positive": "AD"})
    run = travel(study, tmp_path)
    findings: Findings = run.read("findings")
    patients = next(finding for finding in findings.findings if finding.code == "patients_unknown")
    assert patients.page_one
    assert "Patients unknown" in first_page(run)
    # Near copies stand on both sides of a split by image, and on one side of ours, without swallowing the set.
    rows = run.read("index").height
    assert sum(map(len, findings.near_copies)) > 0.02 * rows
    assert max(map(len, findings.near_copies)) < 0.05 * rows
    part = dict(run.read("split").select("row", "part").iter_rows())
    assert all(len({part[row] for row in cluster} - {"left_out"}) <= 1 for cluster in findings.near_copies)


@needs_real("blast_cells")
def test_names_that_give_the_label_away_are_a_note() -> None:
    _, findings = look(tiny_study(REAL / "blast_cells", {"data": {"group": None}}).model_copy(update={"positive": "blast"}))
    assert levels(findings)["names_spell_label"] == "pass"
    assert levels(findings)["patients_unknown"] == "warn"


@needs_real("cats_dogs")
def test_the_control_is_quiet() -> None:
    study = tiny_study(REAL / "cats_dogs", {"data": {"group": None}}).model_copy(update={"positive": "dogs"})
    index, findings = look(study)
    assert index.height == 802
    assert index["refused"].null_count() == 802
    alarms = {finding.code for finding in findings.findings if finding.level != "pass"}
    exposed = {"over_exposed_images", "under_exposed_images"}
    assert alarms <= {"patients_unknown", "mixed_colour", "mixed_modes", "mixed_sizes"} | exposed
    # A collage on white, a white frame, a cat before a window, and one in black and white: seen, and rightly named.
    names = {index["path"][row] for finding in findings.findings if finding.code in exposed for row in finding.rows}
    assert names == {"train/cats/cat.712.jpg", "train/dogs/dog.436.jpg", "train/cats/cat.263.jpg", "train/cats/cat.829.jpg"}
    split = split_dataset(index, findings, study)
    shares = split.group_by("part").len().with_columns(pl.col("len") / 802)
    assert {part: round(share, 1) for part, share in shares.iter_rows()} == {"train": 0.6, "validation": 0.2, "test": 0.2}
