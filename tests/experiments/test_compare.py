"""Rows of a series, run one after the other, and put side by side."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner

from tabib.cli import app
from tabib.config import ModelPart, Study
from tabib.errors import RunError, StudyError
from tabib.experiments import compare_runs, read_series, run_series, write_comparison
from tabib.experiments.compare import watched_by
from tabib.phantoms import ChestFilms, make_chest_films
from tabib.records import Compared, Comparison
from tabib.reports.compared import highest, measures_of
from tabib.reports.text import language, plain
from tabib.runs import Reached, open_run, read_run
from tabib.study import run_study
from tabib.study_file import load_study
from tabib.training.networks import build_network

STUDY = """
name: tiny
positive: PNEUMONIA
scale: bench
data: {folder: films, group: '(patient\\d+)'}
input: {height: 32, width: 32, channels: 1}
training: {epochs: 1, batch: 16, threads: 1, precision: fp32, device: cpu}
report: {languages: [en]}
notes:
  past_work:
    - {name: Somebody, protocol: {en: their own split, fa: تقسیم خودشان}, figures: {accuracy: 0.9, auc: 0.95}, link: 'https://example.org/paper'}
    - {name: Somebody else, figures: {accuracy: 0.99}}
"""

EN = language("en")
SMALLEST = {"name": "tiny", "data": {"folder": "films"}}

SERIES = """
study: tiny.yaml
title: {en: Three rows, fa: سه ردیف}
rows:
  - {name: plain}
  - {name: from a file, set: {model.weights: start.safetensors}}
  - {name: without weights, set: {model.weights: nowhere.safetensors}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    make_chest_films(folder / "films", ChestFilms(patients=40, films_per_patient=(1, 2), side=32, lesion=6.0))
    (folder / "tiny.yaml").write_text(STUDY)
    (folder / "three.series.yaml").write_text(SERIES)
    network = build_network(ModelPart(), classes=2, channels=1, height=32, width=32, seed=5)
    save_file({name: tensor.contiguous() for name, tensor in network.features.state_dict().items()}, folder / "start.safetensors")
    return folder


@pytest.fixture(scope="module")
def done(place: Path) -> list[Path | Compared]:
    return run_series(read_series(place / "three.series.yaml"), root=place / "runs")[0]


def test_a_row_without_its_weights_stops_no_other(done: list[Path | Compared]) -> None:
    plain, from_file, missing = done
    assert isinstance(plain, Path)
    assert isinstance(from_file, Path)
    assert isinstance(missing, Compared)
    assert (missing.not_run, missing.run) == ("weights", None)
    assert "nowhere.safetensors" in missing.reason
    assert read_run(from_file).read("model").weights_source == "file start.safetensors"


def test_rows_that_are_done_are_not_run_again(place: Path, done: list[Path | Compared]) -> None:
    steps: list[tuple[str, bool]] = []
    again, _ = run_series(
        read_series(place / "three.series.yaml"), root=place / "runs", on_step=lambda name, loaded: steps.append((name, loaded))
    )
    assert again[:2] == done[:2]
    assert not {name for name, loaded in steps if not loaded} & {"model", "decision", "predictions"}


def compared(done: list[Path | Compared]) -> Comparison:
    return compare_runs(done, title={"en": "Three rows"}, names=["plain", "from a file", "without weights"])


def test_lines_say_what_the_runs_say(done: list[Path | Compared]) -> None:
    comparison = compared(done)
    plain, from_file, missing = comparison.lines
    run = read_run(Path(plain.run or ""))
    model, evaluation = run.read("model"), run.read("evaluation")
    assert (plain.weights_total, plain.weights_trainable) == (model.weights_total, model.weights_trainable)
    assert plain.measures == [measure for measure in evaluation.parts[1].measures if measure.of is None]
    said = run.read("predictions").filter(part="test").select("label", "predicted").rows()
    ill = "PNEUMONIA"
    kinds = {"tn": (False, False), "fp": (False, True), "fn": (True, False), "tp": (True, True)}
    assert plain.counts == {kind: sum(((truth == ill), (answer == ill)) == cell for truth, answer in said) for kind, cell in kinds.items()}
    assert plain.scale == "bench"
    assert plain.classes == evaluation.classes
    assert comparison.watched == "loss"
    assert [plain.curve] == [[line["validation_loss"] for line in lines] for lines in run.histories().values()]
    assert plain.images_per_second == run.histories()["seed0"][0]["images_per_second"]
    assert comparison.same_test
    assert set(plain.settings) == {"model.weights"}, "what differs, and nothing else"
    assert (plain.settings["model.weights"], from_file.settings["model.weights"].rpartition("/")[2]) == ("none", "start.safetensors")
    assert missing.settings == {}
    assert comparison.published[0].figures == {"accuracy": 0.9, "auc": 0.95}


def test_curves_show_what_all_choose_by_and_else_the_loss() -> None:
    by_auc, by_loss = (Study.model_validate({**SMALLEST, "training": {"best": best}}) for best in ("auc", "loss"))
    assert [watched_by(studies) for studies in ([by_auc, by_auc], [by_auc, by_loss], [])] == ["auc", "loss", "loss"]


def test_differences_of_two_runs_are_those_of_their_figures(done: list[Path | Compared]) -> None:
    comparison = compared(done)
    (pair,) = comparison.differences
    plain, from_file = ({each.name: each.value for each in line.measures} for line in comparison.lines[:2])
    assert (pair.first, pair.second) == ("plain", "from a file")
    assert [each.name for each in pair.measures] == ["auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity"]
    for each in pair.measures:
        assert each.value == pytest.approx((plain[each.name] or 0) - (from_file[each.name] or 0))
        assert (each.rows, each.groups, each.pairs) == (comparison.lines[0].rows, comparison.lines[0].groups, 1)
        assert each.corrected == each.p, "one pair is no family"


def test_every_run_answers_the_same_pictures(done: list[Path | Compared]) -> None:
    comparison = compared(done)
    assert comparison.pictures
    for picture in comparison.pictures:
        assert [answer.name for answer in picture.answers] == ["plain", "from a file"]
        for answer, line in zip(picture.answers, comparison.lines, strict=False):
            run = read_run(Path(line.run or ""))
            row = run.read("predictions").filter(path=picture.path).row(0, named=True)
            assert (answer.predicted, answer.probability) == (row["predicted"], row[f"p_{row['predicted']}"])
            assert answer.right == (row["predicted"] == row["label"] == picture.label)


def test_runs_of_other_test_images_share_no_pictures(place: Path, done: list[Path | Compared]) -> None:
    other, _ = run_series(read_series(place / "three.series.yaml", overrides=["split.seed=3", "model.weights=none"]), root=place / "runs")
    comparison = compare_runs([done[0], other[0]], title={"en": "Two"})
    assert not comparison.same_test
    assert comparison.pictures == []
    assert set(comparison.lines[0].settings) == {"split.seed"}


def test_pages_hold_every_figure_in_both_languages(done: list[Path | Compared], tmp_path: Path) -> None:
    comparison = compared(done)
    pages = write_comparison(comparison, tmp_path)
    assert [page.name for page in pages] == ["compare.en.html", "compare.fa.html"]
    assert Comparison.model_validate(json.loads((tmp_path / "comparison.json").read_text())) == comparison
    english, persian = (page.read_text(encoding="utf-8") for page in pages)
    for words in (
        "not run: weights",
        "Somebody",
        "their own split",
        "https://example.org/paper",
        "scale: bench",
        "start.safetensors",
        "not stated",
    ):
        assert words in re.sub(r"</?wbr>|<[^>]*>", "", english)
    for line in comparison.lines[:2]:
        assert f"{line.weights_total:,}" in english
    assert 'dir="rtl"' in persian
    assert "تقسیم خودشان" in persian
    first = measures_of(comparison)[0]
    reached = {line.name: each.value for line in comparison.lines for each in line.measures if each.name == first}
    best = max(reached, key=lambda name: reached[name] or 0)
    assert plain(highest(comparison, EN)).startswith(f"Highest in {EN.text(f'measures.{first}')}: {best}, with")
    assert "chosen on the test images" in plain(highest(comparison, EN))
    assert highest(comparison.model_copy(update={"apart": ["images"]}), EN) == "", "figures on other images do not compare"
    assert "Whether more than chance makes it so" in english
    assert english.count("<symbol") == len(comparison.pictures)
    assert english.count('<polyline class="line row') == persian.count('<polyline class="line row') == 2, "a line for each run"
    assert "different questions" not in english


@pytest.fixture(scope="module")
def judged(place: Path) -> dict[str, Path]:
    """Runs on one split of the same films, with other patients, another class that is looked for, and other labels."""
    given = place / "given"
    with open_run(load_study(place / "tiny.yaml"), root=place / "runs", until="split") as run, suppress(Reached):
        run_study(load_study(place / "tiny.yaml"), run)
    for path, part in run.read("split").select("path", "part").iter_rows():
        name = "test" if part == "test" else "train"
        (given / name / Path(path).parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(place / "films" / path, given / name / path)
    shutil.copytree(given, place / "relabelled")
    for film in sorted((place / "relabelled/test/NORMAL").iterdir())[:2]:
        film.rename(place / "relabelled/test/PNEUMONIA" / film.name)
    changes = {
        "plain": [],
        "alone": ["data.group=none"],
        "turned": ["positive=NORMAL"],
        "relabelled": [f"data.folder={place / 'relabelled'}"],
    }
    runs = {}
    for name, overrides in changes.items():
        study = load_study(place / "tiny.yaml", overrides=["split.given=true", f"data.folder={place / 'given'}", *overrides])
        with open_run(study, root=place / "runs") as run:
            run_study(study, run)
        runs[name] = run.folder
    return runs


@pytest.mark.parametrize(
    ("other", "apart", "words"),
    [
        ("alone", ["groups"], "do not sort them into the same patients"),
        ("turned", ["classes"], "look for another of them"),
        ("relabelled", ["truth"], "with different labels"),
    ],
)
def test_runs_that_were_judged_otherwise_are_said_to_be(
    judged: dict[str, Path], tmp_path: Path, other: str, apart: list[str], words: str
) -> None:
    runs = [judged["plain"], judged[other]]
    said = CliRunner().invoke(app, ["compare", *map(str, runs), "-o", str(tmp_path)])
    assert said.exit_code == 0, said.output
    found = Comparison.model_validate(json.loads((tmp_path / "comparison.json").read_text()))
    assert found.apart == apart
    assert found.differences == [], "only what was judged alike has paired differences"
    assert bool(found.pictures) == found.same_test == (other == "alone")
    assert words in " ".join(said.output.split())
    assert words in (tmp_path / "compare.en.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("until", "file"), [("split", "study.yaml"), ("model", "model/decision.json")])
def test_an_unfinished_run_is_said(place: Path, until: str, file: str) -> None:
    study = load_study(place / "tiny.yaml", overrides=["split.seed=9"])
    with open_run(study, root=place / "runs", until=until) as run, suppress(Reached):
        run_study(study, run)
    with pytest.raises(RunError, match=f"has no {file}: .* Run: tabib run"):
        compare_runs([run.folder], title={"en": "One"})


def test_a_run_that_is_not_what_it_was_is_refused(judged: dict[str, Path], tmp_path: Path) -> None:
    """Cut short, half made anew, or copied in part."""
    history = "model/members/seed0/history.jsonl"
    damages: dict[str, tuple[Callable[[Path], object], str]] = {
        "split.csv": (
            lambda file: file.write_text("".join(file.read_text().splitlines(keepends=True)[:5])),
            "is not what the step 'split' wrote",
        ),
        "done/model.json": (Path.unlink, "the step 'model' was begun anew"),
        history: (Path.unlink, "history.jsonl is missing: .* Copy the run folder whole"),
    }
    for number, (file, (damage, words)) in enumerate(damages.items()):
        run = tmp_path / str(number)
        shutil.copytree(judged["plain"], run)
        damage(run / file)
        with pytest.raises(RunError, match=words):
            compare_runs([run], title={"en": "One"})


def test_a_run_that_was_judged_again_is_whole(judged: dict[str, Path], tmp_path: Path) -> None:
    run = shutil.copytree(judged["plain"], tmp_path / "run")
    file = run / "evaluation.json"
    file.write_text(json.dumps(json.loads(file.read_text()), indent=2))
    assert compare_runs([run], title={"en": "One"}).lines[0].rows > 0


def test_the_same_run_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    with pytest.raises(StudyError, match="here is given twice"):
        compare_runs([tmp_path / "here", tmp_path / "." / "there" / ".." / "here"], title={"en": "One"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rows: [{name: a}]", "no study"),
        ("study: tiny.yaml\nrows: []", "rows holds no rows"),
        ("study: tiny.yaml\nrow: [{name: a}]\n", "no field row. Did you mean rows"),
        ("study: tiny.yaml\nrows: [{set: {scale: full}}]", "row 1: has no name"),
        ("study: tiny.yaml\nrows: [{name: a}, {name: a}]", "row 2: the name 'a' is given twice"),
        ("study: tiny.yaml\nrows: [{name: a, sets: {}}]", "row 1: there is no field sets. Did you mean set"),
        ("study: tiny.yaml\nrows: [{name: a, set: [x]}]", "row 1: set is"),
        ("study: tiny.yaml\nrows: [{name: a, set: {training.epoch: 3}}]", "training has no field epoch. Did you mean epochs"),
    ],
    ids=range(8),
)
def test_a_wrong_series_says_where(place: Path, text: str, words: str) -> None:
    (place / "wrong.yaml").write_text(text)
    with pytest.raises(StudyError, match=re.escape(words)):
        read_series(place / "wrong.yaml")


def test_values_of_a_row_reach_the_study(place: Path) -> None:
    (place / "rich.yaml").write_text(
        "study: tiny.yaml\nrows: [{name: a, set: {model.freeze: {through: stage1}, model.head: [8, 4], model.dropout: [0.1, 0.2], scale: full}}]"
    )
    study = read_series(place / "rich.yaml", overrides=["training.epochs=7"]).rows[0].study
    assert (study.model.head, study.model.dropout, study.training.epochs, study.scale) == ([8, 4], [0.1, 0.2], 7, "full")
    assert getattr(study.model.freeze, "through", None) == "stage1"


@pytest.mark.slow
def test_the_verb(place: Path, done: list[Path | Compared], tmp_path: Path) -> None:
    def tabib(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "tabib", "compare", *words], cwd=place, capture_output=True, text=True, check=False)

    series = tabib("three.series.yaml", "--json")
    assert series.returncode == 3, series.stderr
    assert [line["not_run"] for line in json.loads(series.stdout)["comparison"]["lines"]] == [None, None, "weights"]
    runs = tabib(*(str(run) for run in done if isinstance(run, Path)), "-o", str(tmp_path / "pages"))
    assert runs.returncode == 0, runs.stderr
    assert (tmp_path / "pages" / "compare.fa.html").exists()
    assert tabib("three.series.yaml", "tiny.yaml").returncode == 2


def test_console_and_page_say_what_could_have_been_shown(done: list[Path | Compared], place: Path) -> None:
    runs = [each for each in done if isinstance(each, Path)]
    said = CliRunner().invoke(app, ["compare", *map(str, runs), "-o", str(place / "two")])
    assert said.exit_code == 0, said.output
    (pair,) = Comparison.model_validate(json.loads((place / "two/comparison.json").read_text())).differences
    first = pair.measures[0]
    assert first.detectable is not None
    (line,) = [line for line in said.output.splitlines() if line.startswith(f"{pair.first}, ")]
    assert f"“{pair.second}”" in line
    assert f"it would have shown a difference of {first.detectable:.3f} in about 80% of cases" in line
    for code, words in (("en", r"could show \d"), ("fa", "توان نشان‌دادن [۰-۹]")):
        text = re.sub("<[^>]*>", "", (place / f"two/compare.{code}.html").read_text(encoding="utf-8"))
        assert len(re.findall(words, text)) == sum(each.detectable is not None for each in pair.measures) > 0
