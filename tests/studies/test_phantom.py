"""--phantom: a study file's own made-up images, in place of its data."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import get_args

import pytest
from torch import nn
from typer.main import get_command
from typer.testing import CliRunner

from tabib import config
from tabib.cli import app
from tabib.errors import StudyError
from tabib.experiments import read_changes, read_search, read_series
from tabib.phantoms import PHANTOMS, ready_phantom
from tabib.study_file import load_study
from tabib.training import pace
from tabib.training.networks import NETWORKS

STUDY = """
name: films
positive: ILL
data: {folder: nowhere}
input: {height: 32, width: 32, channels: 1}
model: {network: quick}
training: {epochs: 9, batch: 16, threads: 1, device: cpu, precision: fp32}
evaluate: {draws: 200}
explain: {images: 0}
phantom:
  make: chest
  patients: 16
  set: {data.group: '(patient\\d+)', positive: PNEUMONIA, training.epochs: 2, training.learning_rate: 3e-3}
"""


def quick(channels: int, height: int, width: int) -> nn.Module:
    """Learns in milliseconds."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 5, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(NETWORKS, "quick", quick)  # which another process would not know
    monkeypatch.setattr(pace, "WORTH_TIMING", float("inf"))
    (tmp_path / "films.yaml").write_text(STUDY)
    return tmp_path


def made(asked: config.Phantom) -> Path:
    return Path(f"/made/{asked.make}-{asked.patients}")


def test_the_phantom_part_changes_the_study_and_rows_and_overrides_change_it_further(place: Path) -> None:
    plain, phantom = load_study(place / "films.yaml"), load_study(place / "films.yaml", phantom=made)
    assert (phantom.scale, phantom.data.folder, phantom.data.group) == ("phantom", Path("/made/chest-16"), "(patient\\d+)")
    assert (plain.training.epochs, phantom.training.epochs) == (9, 2)
    (place / "rows.yaml").write_text("study: films.yaml\nchanges:\n  - {name: longer, set: {training.epochs: 3}}\n")
    rows = read_changes(place / "rows.yaml", phantom=made, overrides=["training.batch=8"]).rows
    assert [(row.study.training.epochs, row.study.training.batch, row.study.scale) for row in rows] == [
        (2, 8, "phantom"),
        (3, 8, "phantom"),
    ]
    line = "  - {name: shift, set: {augment.shift: 0.2}, phantom: {augment.zoom: 0.3}}"
    (place / "smaller.yaml").write_text(f"study: films.yaml\nseeds: [4, 5]\nchanges:\n{line}\n")
    smaller, usual = read_changes(place / "smaller.yaml", phantom=made), read_changes(place / "smaller.yaml")
    assert [(each.rows[1].study.augment.zoom, each.rows[1].fields, each.seeds) for each in (smaller, usual)] == [
        (0.3, ["augment.shift"], [4]),
        (0.1, ["augment.shift"], [4, 5]),
    ]
    assert read_changes(place / "smaller.yaml", overrides=["scale=bench"]).seeds == [4]
    (place / "series.yaml").write_text("study: films.yaml\nrows:\n  - {name: longer, set: {training.epochs: 3}}\n")
    assert [row.study.training.epochs for row in read_series(place / "series.yaml", phantom=made).rows] == [3]
    (place / "search.yaml").write_text("study: films.yaml\nmethod: grid\nfields: {training.epochs: [3, 4], model.dropout: [[0.5]]}\n")
    search = pickle.loads(pickle.dumps(read_search(place / "search.yaml", phantom=made, overrides=["training.batch=8"])))
    tried = search.with_values({"training.epochs": "4", "model.dropout": "[0.5]"})
    for study in (search.study, tried):
        assert (study.scale, study.data.folder, study.training.batch) == ("phantom", Path("/made/chest-16"), 8)
    assert (search.study.training.epochs, tried.training.epochs, tried.model.dropout) == (2, 4, [0.5])


def test_a_phantom_is_said_to_be_one_whatever_else_is_set(place: Path) -> None:
    assert load_study(place / "films.yaml", phantom=made, overrides=["scale=bench"]).scale == "phantom"


def test_without_the_option_the_part_changes_nothing(place: Path) -> None:
    (place / "bare.yaml").write_text(STUDY.partition("phantom:")[0])
    assert load_study(place / "films.yaml") == load_study(place / "bare.yaml")
    with pytest.raises(StudyError, match=r"bare\.yaml does not say which made-up images"):
        load_study(place / "bare.yaml", phantom=made)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("{mak: chest}", ["line 2", "Did you mean make?"]),
        ("{make: chst}", ["line 2", "phantom.make is 'chst'", "Did you mean chest?"]),
        ("{make: chest, patients: 2}", ["phantom.patients is '2'", "8 or more"]),
        ("none", []),
    ],
)
def test_a_wrong_part_is_refused_also_where_it_is_not_asked_for(tmp_path: Path, wrong: str, words: list[str]) -> None:
    (tmp_path / "wrong.yaml").write_text(f"name: x\nphantom: {wrong}\ndata: {{folder: y}}\n")
    if not words:
        assert load_study(tmp_path / "wrong.yaml").name == "x"
        return
    with pytest.raises(StudyError) as caught:
        load_study(tmp_path / "wrong.yaml")
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_every_phantom_can_be_asked_for_and_is_made_once(tmp_path: Path) -> None:
    assert set(get_args(config.Phantom.model_fields["make"].annotation)) == set(PHANTOMS)
    asked = config.Phantom(make="nuclei", patients=8)
    folder = ready_phantom(asked, root=tmp_path)
    assert len({path.name.partition("_")[0] for path in (folder / "images").iterdir()}) == 8
    (folder / "images" / "slide001_field01.png").write_bytes(b"kept")
    assert ready_phantom(asked, root=tmp_path) == folder
    assert (folder / "images" / "slide001_field01.png").read_bytes() == b"kept"


def test_every_verb_of_a_study_takes_the_option() -> None:
    verbs = get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    of_a_study = {"STUDY", "FILE", "SERIES|ABLATION|RUN..."}
    first = {name: str(verb.params[0].metavar) for name, verb in verbs.items()}
    asked = {name for name in verbs if first[name] in of_a_study}
    assert {"run", "compare", "ablate", "search"} < asked
    assert {name for name, verb in verbs.items() if "--phantom" in {option for each in verb.params for option in each.opts}} == asked


def test_verbs_run_without_data_and_every_page_says_that_the_images_are_made_up(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    (place / "rows.yaml").write_text("study: films.yaml\nchanges:\n  - {name: longer, set: {training.epochs: 3}}\n")
    words = {"en": "scale: phantom", "fa": "تصاویر ساختگی"}
    run = CliRunner().invoke(app, ["run", "films.yaml", "--phantom", "--json"])
    assert run.exit_code == 0, run.output
    told = json.loads(run.stdout)
    assert told["scale"] == "phantom"
    ablated = CliRunner().invoke(app, ["ablate", "rows.yaml", "--phantom", "--json"])
    assert ablated.exit_code == 0, ablated.output
    twins = CliRunner().invoke(app, ["leaky-twin", "films.yaml", "--phantom", "--way", "image", "--json"])
    assert twins.exit_code == 0, twins.output
    (place / "search.yaml").write_text("study: films.yaml\nmethod: grid\nfields: {training.learning_rate: [3e-3, 1e-3]}\n")
    searched = CliRunner().invoke(app, ["search", "search.yaml", "--phantom", "--json"])
    assert searched.exit_code == 0, searched.output
    for pages in (told["reports"], *(json.loads(each.stdout)["pages"] for each in (ablated, twins, searched))):
        assert [words[Path(page).suffixes[0][1:]] in Path(page).read_text(encoding="utf-8") for page in pages] == [True, True]
    plain = CliRunner().invoke(app, ["run", "films.yaml", "--phantom"])
    assert "The images are made up (scale: phantom)" in plain.stdout
    refused = CliRunner().invoke(app, ["compare", told["run"], told["run"], "--phantom"])
    assert "change the rows of a series" in str(refused.exception)
