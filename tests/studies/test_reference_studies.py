"""The six reference studies: whole without data by --phantom, and their first steps on real images."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from places import REAL, needs_real
from tabib.cli import app
from tabib.experiments import read_changes
from tabib.records import AblatedRun, Comparison, NotRun
from tabib.runs import Reached, Run, open_run, read_run
from tabib.study import run_study
from tabib.study_file import load_study

STUDIES = Path(__file__).parents[2] / "studies"
SIX = ("chest_xray", "cardiac_lv", "blast_cells", "alzheimer", "cats_dogs", "nuclei")
EACH = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in SIX]

NEED_WEIGHTS = {  # rows whose weights no package brings
    "chest_xray": {"B2", "B2, base frozen", "B2, first 10 layers frozen", "B2, first 70 % frozen"},
    "cats_dogs": {
        "VGG16",
        "VGG16 augmented",
        "VGG16 with its last block",
        "ResNet-50",
        "ResNet-50 augmented",
        "ResNet-50 with its last block",
    },
    "nuclei": {"on VGG19"},
}

LATIN_DIGITS = str.maketrans("۰۱۲۳۴۵۶۷۸۹٫", "0123456789.")

MADE_UP = {"en": "scale: phantom", "fa": "تصاویر ساختگی"}

Invoke = Callable[..., Result]


@pytest.fixture(scope="module")
def tabib(tmp_path_factory: pytest.TempPathFactory) -> Invoke:
    """A verb on a reference study, by the module's own runs, which lie beside the studies: what `run` has done `ablate` finds."""
    place = tmp_path_factory.mktemp("reference")
    shutil.copytree(STUDIES, place / "studies")

    def go(verb: str, file: str) -> Result:
        asked = [verb, str(place / "studies" / file), "--phantom", "--offline", "--runs", str(place / "runs"), "--json"]
        return CliRunner().invoke(app, asked)

    return go


def told(result: Result, *codes: int) -> dict[str, Any]:
    assert result.exit_code in codes, f"{result.exception}\n{result.output[-2000:]}"
    return json.loads(result.stdout)


def say_that_the_images_are_made_up(pages: list[str]) -> bool:
    return sorted(Path(page).suffixes[-2] for page in pages) == [".en", ".fa"] and all(
        MADE_UP[Path(page).suffixes[-2][1:]] in Path(page).read_text(encoding="utf-8") for page in pages
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH)
def test_run_goes_the_whole_road_without_data_and_finds_nothing_wrong(name: str, tabib: Invoke) -> None:
    done = told(tabib("run", f"{name}.yaml"), 0)
    assert say_that_the_images_are_made_up(done["reports"])
    run = read_run(Path(done["run"]))
    assert unexpected(run) == set()


def unexpected(run: Run) -> set[str]:
    """What the data and the doctor bring up that the study does not know of, beside that it is no study of patients."""
    said = [*run.read("findings").findings, *run.read("checks").checks]
    return {finding.code for finding in said if finding.level != "pass"} - {*run.given.expect, f"{run.given.scale}_scale"}


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH)
def test_ablate_trains_every_row_whose_weights_are_there_and_finds_what_each_expects(name: str, tabib: Invoke) -> None:
    if name == "nuclei":  # as make does: the other stain first
        other = Path(told(tabib("run", "nuclei_fluorescence.yaml"), 0)["run"])
        (other.parents[1] / "trained").mkdir()
        (other.parents[1] / "trained" / "nuclei_fluorescence").symlink_to(other)
    done = told(tabib("ablate", f"{name}.ablate.yaml"), 3 if name in NEED_WEIGHTS else 0)
    assert say_that_the_images_are_made_up(done["pages"])
    rows = done["ablation"]["rows"]
    missed = {row["name"]: {run["not_run"] for run in row["runs"]} - {None} for row in rows}
    assert {row: why for row, why in missed.items() if why} == {row: {"weights"} for row in NEED_WEIGHTS.get(name, ())}
    assert {row["name"]: row["expected"] for row in rows if row["seeds"] and 0 in row["expected"].values()} == {}


@pytest.mark.slow
@pytest.mark.xdist_group("chest_xray")
def test_compare_shows_what_report_b_asks_of_the_rows_of_its_ablation(tabib: Invoke) -> None:
    rows = told(tabib("ablate", "chest_xray.ablate.yaml"), 3)  # read where they have been run
    folder = Path(rows["pages"][0]).parent
    compared = CliRunner().invoke(app, ["compare", str(folder), "--runs", str(folder.parent), "--json"])
    pages = told(compared, 3)["pages"]
    assert {Path(page).parent.name for page in pages} == {"compare-chest_xray.ablate-phantom"}
    assert say_that_the_images_are_made_up(pages)
    comparison = Comparison.model_validate_json((folder.parent / "compare-chest_xray.ablate-phantom" / "comparison.json").read_bytes())
    ran = [line for line in comparison.lines if line.run]
    assert {line.name for line in comparison.lines if line.not_run == "weights"} == NEED_WEIGHTS["chest_xray"]
    assert {line.name for line in comparison.lines} == {row["name"] for row in rows["ablation"]["rows"]}
    published = load_study(STUDIES / "chest_xray.yaml").notes.past_work
    assert [work.name for work in comparison.published] == [work.name for work in published]
    assert comparison.pictures
    for picture in comparison.pictures:
        assert [answer.name for answer in picture.answers] == [line.name for line in ran]
    for page in pages:
        text = re.sub("<[^>]*>|[\u2066-\u2069]", " ", Path(page).read_text(encoding="utf-8")).translate(LATIN_DIGITS)
        for line in ran:
            assert line.counts is not None
            assert sum(line.counts.values()) == line.rows
            counts = r"\s+".join(str(line.counts[kind]) for kind in ("tn", "fp", "fn", "tp"))
            assert re.search(rf"{re.escape(line.name)}\s+{line.rows}\s*\(\s*{line.groups}\s*\)\s+{counts}\s", text), line.name
        for work in published:
            assert work.name in text
            assert all(f"{figure:.3f}" in text for figure in work.figures.model_dump(exclude_none=True).values())
        assert len(re.findall(r'<figure class="tile">', Path(page).read_text(encoding="utf-8"))) == len(comparison.pictures)


@pytest.mark.parametrize(("scale", "beside"), [("full", ""), ("bench", "-bench")])
def test_make_compares_the_rows_of_report_b_before_its_leaky_twin(scale: str, beside: str) -> None:
    steps = [step for step in made("chest_xray", f"SCALE={scale}").splitlines() if "tabib" in step]
    (ablated, compared, twin) = steps[-3:]
    assert [" ablate " in ablated, " leaky-twin " in twin] == [True, True]
    assert f" compare runs/ablate-chest_xray.ablate{beside} || test $? -eq 3" in compared


@pytest.mark.parametrize("name", SIX)
def test_every_study_has_its_changes_its_page_and_its_word_in_the_makefile(name: str) -> None:
    study = load_study(STUDIES / f"{name}.yaml")
    assert (study.name, study.scale) == (name, "full")
    assert study.title.en
    assert study.title.fa
    assert len(read_changes(STUDIES / f"{name}.ablate.yaml").rows) > 3
    root = STUDIES.parent
    page = (root / "docs" / "reference-studies" / f"{name}.md").read_text(encoding="utf-8")
    assert all(words in page for words in (f"make study-{name}", f"studies/{name}.yaml", f"studies/{name}.ablate.yaml", "--phantom"))
    steps = made(name)
    assert steps.count("--set scale=bench") == steps.count(f"--set data.folder=/elsewhere/{SMALL[name][0]} ") + (
        "fluorescence.yaml" in steps
    )
    assert f"run studies/{name}.yaml" in steps
    assert f"ablate studies/{name}.ablate.yaml" in steps


def made(name: str, *changes: str) -> str:
    """What make would do for a study, line by line."""
    return subprocess.run(
        ["make", "-n", f"study-{name}", "DATA=/elsewhere", *changes], cwd=STUDIES.parent, check=True, capture_output=True, text=True
    ).stdout


def test_make_leaves_the_other_stain_where_it_lies() -> None:
    steps = made("nuclei", "SCALE=full", "SET=--set data.folder=/other").splitlines()
    (fluorescence,) = [step for step in steps if "nuclei_fluorescence.yaml" in step]
    assert "data.folder=/elsewhere/nuclei/fluorescence" in fluorescence
    assert "/other" not in fluorescence
    assert "scale=full" in fluorescence


@pytest.mark.parametrize(("scale", "beside"), [("full", ""), ("bench", "-bench")])
@pytest.mark.parametrize(("why", "code"), [("weights", 0), ("error", 1)])
def test_make_stops_where_a_training_broke(why: NotRun, code: int, scale: str, beside: str, tmp_path: Path) -> None:
    (step,) = [step for step in made("blast_cells", f"SCALE={scale}").splitlines() if "ablate" in step]
    pages = tmp_path / "runs" / f"ablate-blast_cells.ablate{beside}"
    pages.mkdir(parents=True)
    (pages / "ablation.json").write_text(AblatedRun(seed=0, not_run=why).model_dump_json(indent=2))
    _, _, after = step.partition(" || ")
    assert subprocess.run(["sh", "-c", f"(exit 3) || {after}"], cwd=tmp_path, capture_output=True, check=False).returncode == code


@pytest.mark.parametrize("name", SIX)
def test_an_expected_finding_stands_beside_its_reason(name: str) -> None:
    lines = (STUDIES / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    for code in load_study(STUDIES / f"{name}.yaml").expect:
        assert any(code in before and reason for before, _, reason in (line.partition("  # ") for line in lines)), code


def few(name: str, to: Path) -> Path:
    """Links to a few of the real images, in their own folders."""
    source = REAL / name
    if name == "cardiac_acdc":
        for patient in sorted(source.iterdir())[::5]:
            (to / patient.name).symlink_to(patient)
        return to
    pairs = name.startswith("nuclei")
    for folder in sorted(path for path in [source, *source.rglob("*")] if path.is_dir()):
        for file in sorted(path for path in folder.iterdir() if path.is_file())[: 14 if pairs else 24]:
            place = to / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file)
    return to


SMALL = {  # what makes a few steps of each take seconds
    "chest_xray": ("chest_xray", ["split.given=true", "input.height=64", "input.width=64", "training.batch=16"]),
    "cardiac_lv": (
        "cardiac_acdc",
        [
            "input.patch=[64, 64]",
            "model.filters=[8, 16]",
            "training.patches=32",
            "split.train=0.5",
            "split.validation=0.25",
            "split.test=0.25",
        ],
    ),
    "blast_cells": ("blast_cells", ["input.height=65", "input.width=65", "augment.copies=0", "training.batch=16"]),
    "alzheimer": ("alzheimer_mri", ["augment.copies=0", "training.batch=16"]),
    "cats_dogs": ("cats_dogs", ["input.height=64", "input.width=64", "training.batch=16"]),
    "nuclei": ("nuclei/stained", ["input.patch=[64, 64]", "model.filters=[8, 16]", "training.patches=32"]),
}


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_real(SMALL[name][0].partition("/")[0])) for name in SIX])
def test_real_images_are_read_divided_and_learnt_from(name: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    source, changes = SMALL[name]
    changes = [
        f"data.folder={few(source, tmp_path / 'images')}",
        "training.epochs=1",
        "training.precision=fp32",
        "training.threads=1",
        *changes,
    ]
    study = load_study(STUDIES / f"{name}.yaml", overrides=changes)
    with open_run(study, root=tmp_path / "runs", command=["tabib", "train"], until="model") as run:
        with pytest.raises(Reached):
            run_study(study, run, offline=True)
        parts = run.read("split")["part"].value_counts()
        assert {"train", "validation", "test"} <= set(parts["part"])
        assert [len(epochs) for epochs in run.histories().values()] == [1]


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_real(SMALL[name][0].partition("/")[0])) for name in SIX])
def test_a_look_at_all_the_real_images_brings_up_what_the_study_knows_and_nothing_else(name: str, tmp_path: Path) -> None:
    study = load_study(STUDIES / f"{name}.yaml", overrides=[f"data.folder={REAL / SMALL[name][0]}"])
    with open_run(study, root=tmp_path, command=["tabib", "look"], until="findings") as run:
        with pytest.raises(Reached):
            run_study(study, run, offline=True)
        assert {finding.code for finding in run.read("findings").findings if finding.level != "pass"} == set(study.expect)


def test_each_study_asks_for_the_images_that_suit_it(tmp_path: Path) -> None:
    asked: list[str] = []

    def note(phantom: Any) -> Path:
        asked.append(phantom.make)
        return tmp_path

    for name in SIX:
        assert load_study(STUDIES / f"{name}.yaml", phantom=note).data.folder == tmp_path
    assert asked == ["chest", "heart", "smears", "brains", "smears", "nuclei"]
