"""A study changed one thing at a time: the file, its runs, and what is said of them.

What the differences are worth is tested in tests/metrics/test_paired.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from torch import nn
from typer.testing import CliRunner

from tabib.cli import app
from tabib.errors import RunError, StudyError
from tabib.experiments import Changes, Series, Trained, compare_rows, judge_changes, read_changes, read_series, run_changes, write_ablation
from tabib.experiments import trainings as running
from tabib.metrics.intervals import Sureness, leave_groups_out
from tabib.metrics.paired import holm, trainings_interval
from tabib.phantoms import ChestFilms, make_chest_films
from tabib.records import Ablation, Comparison
from tabib.reports.ablated import highest, main_measure
from tabib.reports.text import language, plain
from tabib.runs import Run, read_run
from tabib.training.networks import NETWORKS

STUDY = """
name: tiny
positive: PNEUMONIA
data: {folder: films, group: '(patient\\d+)'}
input: {height: 32, width: 32, channels: 1}
split: {train: 0.4, validation: 0.2, test: 0.4}
model: {network: quick}
training: {epochs: 2, batch: 16, threads: 1, device: cpu, precision: fp32}
evaluate: {draws: 200}
report: {languages: [en]}
"""

CHANGES = """
study: tiny.yaml
title: {en: What matters, fa: آنچه مهم است}
seeds: [0, 1]
changes:
  - {name: one epoch, set: {training.epochs: 1}, expect: [goal_missed]}
  - {name: from zeros, set: {model.initialiser: zeros}, expect: [initialiser_cannot_learn]}
  - {name: without weights, set: {model.weights: nowhere.safetensors}}
"""


def quick(channels: int, height: int, width: int) -> nn.Module:
    """Learns in milliseconds."""
    convolution = nn.Conv2d(channels, 16, 5, stride=2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("ablation")
    make_chest_films(folder / "films", ChestFilms(patients=40, films_per_patient=(1, 2), side=32, lesion=6.0))
    (folder / "tiny.yaml").write_text(STUDY)
    (folder / "what.yaml").write_text(CHANGES, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "quick", quick)
        yield folder


@pytest.fixture(scope="module")
def changes(place: Path) -> Changes:
    return read_changes(place / "what.yaml")


@pytest.fixture(scope="module")
def steps() -> list[str]:
    """Every step that was not loaded while the rows were run first."""
    return []


@pytest.fixture(scope="module")
def trained(place: Path, changes: Changes, steps: list[str]) -> list[Trained]:
    return run_changes(changes, root=place / "runs", on_step=lambda name, loaded: None if loaded else steps.append(name))


@pytest.fixture(scope="module")
def ablation(changes: Changes, trained: list[Trained]) -> Ablation:
    return judge_changes(changes, trained)


def runs_of(trained: list[Trained]) -> dict[tuple[int, int], Run]:
    return {(each.row, each.seed): read_run(each.found) for each in trained if isinstance(each.found, Path)}


def test_every_row_has_the_same_split_and_nothing_else_changed(trained: list[Trained]) -> None:
    runs = runs_of(trained)
    assert sorted(runs) == [(row, seed) for row in range(3) for seed in (0, 1)]
    splits = {run.path("split").read_bytes() for run in runs.values()}
    assert len(splits) == 1
    for (row, seed), run in runs.items():
        study, base = run.read("study"), runs[0, 0].read("study")
        training = study.training.model_copy(update={"seeds": [0], **({"epochs": 2} if row == 1 else {})})
        model = study.model.model_copy(update={"initialiser": "usual"}) if row == 2 else study.model
        assert study.training.seeds == [seed]
        assert study.model_copy(update={"training": training, "model": model, "expect": []}) == base
        assert [member.seed for member in run.read("model").members] == [seed]
        assert not run.path("explanations").exists(), "explaining is left to tabib explain"
        assert (run.folder / "report.en.html").exists()


def test_what_is_equal_is_made_once(trained: list[Trained], steps: list[str]) -> None:
    assert [steps.count(name) for name in ("index", "findings", "split", "model")] == [1, 1, 1, 6]


def test_a_row_that_fails_says_why_and_stops_no_other(ablation: Ablation) -> None:
    row = ablation.rows[3]
    assert [(run.seed, run.not_run) for run in row.runs] == [(0, "weights"), (1, "weights")]
    assert "nowhere.safetensors" in row.runs[0].reason
    assert (row.not_compared, row.differences, row.seeds) == ("runs", [], [])


@pytest.mark.usefixtures("trained")
def test_the_verb_loads_what_is_done(place: Path) -> None:
    weights = sorted(place.glob("runs/tiny/*/model/members/*/weights.safetensors"))
    judged = sorted(place.glob("runs/tiny/*/evaluation.json"))
    looks = (place / "runs/tiny/test_looks.jsonl").read_text()
    before = [path.stat().st_mtime_ns for path in (*weights, *judged)]
    done = CliRunner().invoke(app, ["ablate", str(place / "what.yaml"), "--runs", str(place / "runs"), "--json"])
    assert done.exit_code == 3, done.output
    said = json.loads(done.stdout)
    assert [row["name"] for row in said["ablation"]["rows"]] == ["", "one epoch", "from zeros", "without weights"]
    assert [Path(page).parent.name for page in said["pages"]] == ["ablate-what"] * 2
    assert [path.stat().st_mtime_ns for path in (*weights, *judged)] == before
    assert len(weights) == len(judged) == 6
    assert (place / "runs/tiny/test_looks.jsonl").read_text() == looks
    assert sorted(json.loads(path.read_text())["test_looks"] for path in judged) == [1, 2, 3, 4, 5, 6], (
        "each has the number of its own look"
    )
    few = [str(place / "what.yaml"), "--runs", str(place / "runs"), "-o", str(place / "few"), "--only", "from zeros"]
    done = CliRunner().invoke(app, ["ablate", *few])
    assert done.exit_code == 0, done.output
    assert "Not asked for this time: one epoch and without weights." in done.stdout
    assert "one epoch: " not in done.stdout
    assert [path.stat().st_mtime_ns for path in (*weights, *judged)] == before


def test_rows_are_put_side_by_side_by_their_first_seed(place: Path, trained: list[Trained], ablation: Ablation) -> None:
    write_ablation(ablation, place / "ablate-side")
    done = CliRunner().invoke(app, ["compare", str(place / "ablate-side"), "--runs", str(place / "runs"), "--json"])
    assert done.exit_code == 3, done.output
    said = json.loads(done.stdout)
    comparison = Comparison.model_validate(said["comparison"])
    assert [line.name for line in comparison.lines] == ["tiny", "one epoch", "from zeros", "without weights"]
    assert [line.run for line in comparison.lines] == [
        str(each.found) if isinstance(each.found, Path) else None for each in trained if each.seed == 0
    ]
    assert [line.not_run for line in comparison.lines] == [None, None, None, "weights"]
    assert "nowhere.safetensors" in comparison.lines[3].reason
    assert (comparison.title, comparison.seed, comparison.same_test) == (ablation.title, 0, True)
    assert comparison.differences == [], "those of the ablation are over all seeds"
    assert [Path(page).parent for page in said["pages"]] == [place / "runs" / "compare-side"] * 2
    assert Comparison.model_validate(json.loads((place / "runs/compare-side/comparison.json").read_text())) == comparison
    for page, words in zip(said["pages"], ("each by its training with seed 0", "هر یک با آموزش بذر ۰"), strict=True):
        text = re.sub("<[^>]*>|[\u2066-\u2069]", " ", Path(page).read_text(encoding="utf-8"))
        assert words in re.sub(r"\s+", " ", text)
        assert len(re.findall(r"one epoch\s+training\.epochs\s+2\s+1\s", text)) == 1, "what the row changes"


def test_an_ablation_of_folds_and_one_whose_run_has_gone_are_refused(place: Path, ablation: Ablation) -> None:
    write_ablation(ablation.model_copy(update={"folds": [0, 1]}), place / "ablate-folds")
    with pytest.raises(StudyError, match=r"2 folds, which judge different images.*tabib compare RUN RUN"):
        compare_rows(place / "ablate-folds")
    row = ablation.rows[1]
    gone = row.model_copy(update={"runs": [row.runs[0].model_copy(update={"run": "runs/tiny/gone"}), *row.runs[1:]]})
    write_ablation(ablation.model_copy(update={"rows": [ablation.rows[0], gone]}), place / "ablate-gone")
    with pytest.raises(
        RunError, match=r"ablate-gone/ablation\.json names the run runs/tiny/gone \(one epoch, seed 0\).*start tabib ablate again"
    ):
        compare_rows(place / "ablate-gone")
    for more in (["--phantom"], [str(place / "ablate-gone")]):
        refused = CliRunner().invoke(app, ["compare", str(place / "ablate-folds"), *more])
        assert isinstance(refused.exception, StudyError)
        assert ("change the rows of a series" if more == ["--phantom"] else "Give one ablation") in str(refused.exception)


@pytest.mark.usefixtures("trained")
def test_what_is_stopped_is_told(place: Path, changes: Changes, monkeypatch: pytest.MonkeyPatch) -> None:
    finish, count = running.run_study, 0

    def stopped(*words: object, **told: object) -> Run:
        nonlocal count
        count += 1
        if count == 4:  # the first looks at what all share
            raise KeyboardInterrupt
        return finish(*words, **told)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(running, "run_study", stopped)
    found = judge_changes(changes, run_changes(changes, root=place / "runs"))
    assert [[run.not_run for run in row.runs] for row in found.rows] == [[None, "stopped"]] * 2 + [["stopped"] * 2] * 2
    assert found.rows[1].differences[0].pairs == 1


def test_memory_that_is_not_enough_is_a_reason(place: Path, changes: Changes, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*words: object, **told: object) -> None:
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        )

    monkeypatch.setattr(running, "run_study", full)
    for rows in (1, 2):  # alone, and in what several share
        found = running.run_rows([running.Row("x", row.study) for row in changes.rows[:rows]], root=place / "others").found
        for each in found:
            assert isinstance(each, running.Missed)
            assert each.why == "memory"
            assert "training.batch" in each.reason


def test_differences_are_those_of_the_means(trained: list[Trained], ablation: Ablation) -> None:
    runs = runs_of(trained)
    accuracies = {
        key: next(each.value for each in run.read("evaluation").parts[1].measures if (each.name, each.of) == ("accuracy", None))
        for key, run in runs.items()
    }
    row = ablation.rows[2]
    figures = next(each for each in row.figures if each.name == "accuracy")
    assert figures.values == pytest.approx([accuracies[2, 0], accuracies[2, 1]])
    found = next(each for each in row.differences if each.name == "accuracy")
    mean = sum(accuracies[2, seed] - accuracies[0, seed] for seed in (0, 1)) / 2
    assert found.value == pytest.approx(mean)
    assert found.low is not None
    assert found.high is not None
    assert found.p is not None
    assert found.corrected is not None
    assert found.low < mean < found.high
    assert (found.low > 0 or found.high < 0) == (found.p < 0.05)
    assert found.p <= found.corrected <= 2 * found.p + 1e-12
    assert (ablation.test_rows, ablation.test_groups) == (found.rows, found.groups)


def test_a_mean_over_seeds_has_its_own_interval(place: Path, trained: list[Trained], ablation: Ablation, tmp_path: Path) -> None:
    figures = next(each for each in ablation.rows[0].figures if each.name == "accuracy")
    assert figures.low is not None
    assert figures.high is not None
    values = [value for value in figures.values if value is not None]
    mean = sum(values) / 2
    assert figures.low < mean < figures.high
    right = []
    for seed in (0, 1):
        said = runs_of(trained)[0, seed].read("predictions").filter(part="test")
        table = said.with_columns(right=(said["predicted"] == said["label"]).cast(float)).sort("path")
        right.append(table["right"].to_numpy())
        groups = np.unique(table["group"].to_numpy(), return_inverse=True)[1]
    left_out = np.stack([leave_groups_out(lambda weights, each=each: (weights @ each) / weights.sum(1), groups) for each in right])
    known = trainings_interval(np.array([each.mean() for each in right]), left_out, groups=groups.max() + 1, sure=Sureness())
    assert (figures.low, figures.high) == (pytest.approx(known.low), pytest.approx(known.high))
    english, _ = write_ablation(ablation, tmp_path)
    text = re.sub("[\u2066-\u2069]|<[^>]*>", "", english.read_text(encoding="utf-8"))
    ends = " to ".join(f"{value:.3f}" for value in (min(values), max(values)))
    assert f"{mean:.3f} {figures.low:.3f} to {figures.high:.3f}seeds: {ends}" in text


def test_a_row_is_compared_with_the_row_that_it_names(place: Path, trained: list[Trained], ablation: Ablation) -> None:
    named = CHANGES.replace("expect: [initialiser_cannot_learn]", "expect: [initialiser_cannot_learn], against: one epoch")
    named = named.replace("nowhere.safetensors}", "nowhere.safetensors}, against: from zeros")
    (place / "against.yaml").write_text(named, encoding="utf-8")
    found = judge_changes(read_changes(place / "against.yaml"), trained)
    assert [row.against for row in found.rows] == [None, "", "one epoch", "from zeros"]
    runs = runs_of(trained)
    right = {
        key: (run.read("predictions").filter(part="test")["predicted"] == run.read("predictions").filter(part="test")["label"]).mean()
        for key, run in runs.items()
    }
    known = sum(right[2, seed] - right[1, seed] for seed in (0, 1)) / 2
    told = {row.name: {each.name: each for each in row.differences} for row in found.rows}
    assert told["from zeros"]["accuracy"].value == pytest.approx(known)
    before = {row.name: {each.name: each for each in row.differences} for row in ablation.rows}
    assert known != pytest.approx(before["from zeros"]["accuracy"].value), "it is another difference than that to the first row"
    assert told["one epoch"]["accuracy"].value == before["one epoch"]["accuracy"].value
    ps = [told[name]["accuracy"].p for name in ("one epoch", "from zeros")]
    assert [told[name]["accuracy"].corrected for name in ("one epoch", "from zeros")] == holm(ps), (
        "one family, whatever each is compared with"
    )
    assert found.rows[2].changed == ablation.rows[2].changed, "what it changes is told of the first row"
    assert found.rows[3].not_compared == "runs"


def test_console_and_pages_name_what_a_row_is_compared_with(place: Path, trained: list[Trained]) -> None:
    rows = "changes: [{name: one epoch, set: {training.epochs: 1}}, {name: from zeros, set: {model.initialiser: zeros}, expect: [initialiser_cannot_learn], against: one epoch}]"
    (place / "named.yaml").write_text(f"study: tiny.yaml\nseeds: [0, 1]\n{rows}", encoding="utf-8")
    done = CliRunner().invoke(app, ["ablate", str(place / "named.yaml"), "--runs", str(place / "runs")])
    assert done.exit_code == 0, done.output
    said = dict(zip(done.output.splitlines(), done.output.splitlines()[1:], strict=False))
    lines = {start.split(":")[0]: after for start, after in said.items()}
    assert "the unchanged study" in lines["one epoch"]
    assert "“one epoch”" in lines["from zeros"]
    assert "What difference this test would have shown cannot be told" in lines["one epoch"], "there are two seeds"
    assert "of cases" not in done.output
    assert re.search(r"^one epoch: auc 0\.\d+ \[0\.\d+, 0\.\d+\], accuracy", done.output, flags=re.MULTILINE)
    for code, first, other in (("en", "the unchanged study", "against “one epoch”"), ("fa", "مطالعهٔ بدون تغییر", "در برابر «one epoch»")):
        page = (place / f"runs/ablate-named/ablate.{code}.html").read_text(encoding="utf-8")
        text = re.sub(r"<style.*?</style>|<[^>]*>", "", page, flags=re.DOTALL)
        assert text.count(first) >= 3, "in the sentence, in the table and beside the curves"
        assert re.sub("[\u2066-\u2069]", "", text).count(other) == 2, "in the table and beside the curves"


def test_what_differs_is_told_and_what_was_expected(ablation: Ablation) -> None:
    assert [(each.field, each.before, each.after) for each in ablation.rows[1].changed] == [("training.epochs", "2", "1")]
    assert [(each.field, each.before, each.after) for each in ablation.rows[2].changed] == [("model.initialiser", "usual", "zeros")]
    assert ablation.rows[1].derived == ablation.rows[2].derived == []
    assert ablation.rows[1].expected == {"goal_missed": 0}
    assert ablation.rows[2].expected == {"initialiser_cannot_learn": 2}
    assert [len(run.curve) for run in ablation.rows[1].runs] == [1, 1]


def test_pages_tell_every_row_in_both_languages(ablation: Ablation, tmp_path: Path) -> None:
    ablation = ablation.model_copy(update={"left_out": ["twice as long"]})
    pages = write_ablation(ablation, tmp_path)
    assert [page.name for page in pages] == ["ablate.en.html", "ablate.fa.html"]
    assert Ablation.model_validate(json.loads((tmp_path / "ablation.json").read_text())) == ablation
    english, persian = (page.read_text(encoding="utf-8") for page in pages)
    assert english.count('<polyline class="line row') == 6, "a line for every training"
    english, persian = (re.sub(r"<style.*?</style>|<[^>]*>", "", page, flags=re.DOTALL) for page in (english, persian))
    for words in (
        "What matters",
        "one epoch",
        "from zeros",
        "training.epochs",
        "not run: weights",
        "was expected, and found in none",
        "Two trainings",
        "twice as long was left out",
        "1 training was at work at a time, with 1 thread each, in fp32.",
    ):
        assert words in english, words
    assert "آنچه مهم است" in persian
    assert "کنار گذاشته شد" in persian
    assert not re.search(r"\b(ablate|compare)\.[a-z]", english + persian)


def test_the_highest_row_is_named_by_its_mean_over_seeds(ablation: Ablation) -> None:
    reader = language("en")
    done = [row for row in ablation.rows if row.figures]
    means = [sum(value or 0 for value in row.figures[0].values) / len(row.figures[0].values) for row in done]
    best = done[means.index(max(means))]
    assert plain(highest(ablation, reader)).startswith(
        f"Highest in {main_measure(ablation, reader)}: {best.name or 'as it is'}, with {max(means):.3f}"
    )
    twice = ablation.model_copy(update={"rows": [best.model_copy(update={"name": name}) for name in ("this", "that")]})
    assert ": this and that, with" in plain(highest(twice, reader)), "neither is above the other"
    assert highest(ablation.model_copy(update={"rows": ablation.rows[:1]}), reader) == "", "one row is no comparison"
    assert highest(ablation.model_copy(update={"rows": []}), reader) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("changes: [{name: a, set: {training.epochs: 1}}]", "no study"),
        ("study: tiny.yaml\nchanges: [{name: a}]", "row 1: changes nothing"),
        ("study: tiny.yaml\nchanges: [{name: a, set: {training.epochs: 2}}]", "changes nothing: the study has training.epochs=2 as it is"),
        (
            "study: tiny.yaml\nchanges: [{name: a, set: {training.epochs: 1, training.batch: 8}}]",
            "training.epochs and training.batch are changed at once",
        ),
        (
            "study: tiny.yaml\nchanges: [{name: a, set: {input: {height: 16, width: 16, channels: 1}}}]",
            "input.height and input.width are changed",
        ),
        ("study: tiny.yaml\nchanges: [{name: a, set: {training.seeds: [3]}}]", "training.seeds, which is said once for all rows"),
        ("study: tiny.yaml\nchanges: [{name: a, set: {explain.images: 3}}]", "explain.images, which changes no figure"),
        ("study: tiny.yaml\nseeds: [0, 0]\nchanges: [{name: a, set: {training.epochs: 1}}]", "seeds is ['0', '0']"),
        (
            "study: tiny.yaml\nfolds: [0, 1]\nchanges: [{name: a, set: {training.epochs: 1}}]",
            "split.test is 0.4 of the study, which makes no folds",
        ),
        ("study: tiny.yaml\nchanges: [{name: a, set: {training.epochs: 1}, expect: [goal_mised]}]", "Did you mean goal_missed"),
        ("study: tiny.yaml\nbase: a\nchanges: [{name: a, set: {training.epochs: 1}}]", "is that of the study as it is"),
        ("study: tiny.yaml\nchanges: [{name: a, set: {training.epochs: 1}, together: yes}]", "together is 'yes'"),
        (
            "study: tiny.yaml\nchanges: [{name: one, set: {training.epochs: 1}, against: on}]",
            "row 1: against: there is no row on. Did you mean one?",
        ),
        ("study: tiny.yaml\nchanges: [{name: a, set: {training.epochs: 1}, against: a}]", "row 1: against names the row itself"),
        ("study: tiny.yaml\nchanges: [{name: a, set: {training.epochs: 1}, against: [b, c]}]", "row 1: against is ['b', 'c']"),
        (
            "study: tiny.yaml\nchanges: [{name: a, set: {training.epochs: 1}, against: b}, {name: b, set: {training.batch: 8}, against: a}]",
            "row 2: against: a is compared with this row already",
        ),
        (
            "study: tiny.yaml\nchanges: [{name: a, set: {training.epochs: 1}}, {name: a, set: {training.batch: 8}, against: a}]",
            "row 2: the name 'a' is given twice",
        ),
        ("study: tiny.yaml\nbase: [a]\nchanges: [{name: b, set: {training.epochs: 1}}]", "wrong.yaml: base is ['a']. Expected a name"),
        ("study: tiny.yaml\ntitle: [a]\nchanges: [{name: b, set: {training.epochs: 1}}]", "wrong.yaml: title is ['a']. Expected a text"),
        ("study: [tiny.yaml]\nchanges: [{name: b, set: {training.epochs: 1}}]", "wrong.yaml: study is ['tiny.yaml']. Expected the name"),
    ],
    ids=range(20),
)
def test_a_wrong_file_says_where(place: Path, text: str, words: str) -> None:
    (place / "wrong.yaml").write_text(text)
    with pytest.raises(StudyError, match=re.escape(words)):
        read_changes(place / "wrong.yaml")


@pytest.mark.parametrize("read", [read_changes, read_series], ids=["ablate", "compare"])
def test_a_wrong_field_of_a_row_says_file_and_row_and_no_option_that_was_not_given(
    place: Path, read: Callable[..., Changes | Series]
) -> None:
    listed = "changes" if read is read_changes else "rows"
    (place / "wrong.yaml").write_text(
        f"study: tiny.yaml\n{listed}:\n  - {{name: a, set: {{training.epochs: 1}}}}\n  - {{name: b, set: {{model.netwrk: quick}}}}"
    )
    with pytest.raises(StudyError) as said:
        read(place / "wrong.yaml")
    assert str(said.value) == f"{place / 'wrong.yaml'}, row 2: model.netwrk=quick: model has no field netwrk. Did you mean network?"
    with pytest.raises(StudyError) as said:
        read(place / "wrong.yaml", overrides=["training.epochs=many"])
    assert str(said.value).startswith("--set training.epochs=many: "), "what is wrong without the row is not put down to it"


def test_what_a_row_makes_smaller_is_named_as_wrong_by_file_and_row(place: Path) -> None:
    (place / "made.yaml").write_text(STUDY + "phantom: {make: chest}\n")
    (place / "wrong.yaml").write_text("study: made.yaml\nchanges: [{name: a, set: {training.batch: 8}, phantom: {trainin: 3}}]")
    with pytest.raises(StudyError) as said:
        read_changes(place / "wrong.yaml", phantom=lambda _: place / "films")
    assert str(said.value).startswith(f"{place / 'wrong.yaml'}, row 1: trainin=3: a study has no field trainin.")
    (place / "made.yaml").write_text(STUDY + "phantom: {make: chest, set: {trainin: 3}}\n")
    with pytest.raises(StudyError) as said:
        read_changes(place / "wrong.yaml", phantom=lambda _: place / "films")
    assert str(said.value).startswith(f"{place / 'made.yaml'}, phantom: trainin=3: a study has no field trainin.")


def test_a_file_that_is_not_there_is_called_by_its_article(place: Path) -> None:
    with pytest.raises(StudyError, match="and an ablation file was expected"):
        read_changes(place / "nowhere.yaml")
    with pytest.raises(StudyError, match="and a series file was expected"):
        read_series(place / "nowhere.yaml")


def test_what_a_row_says_itself_stays_as_it_is(place: Path) -> None:
    (place / "rates.yaml").write_text(
        "study: tiny.yaml\nchanges: [{name: three, set: {training.epochs: 3}}, {name: once, set: {training.epochs: 1}}, "
        "{name: batch, set: {training.batch: 8}, against: once}]"
    )
    found = read_changes(place / "rates.yaml", overrides=["training.epochs=1"])
    assert [(row.name, row.study.training.epochs, row.study.training.batch) for row in found.rows] == [
        ("", 1, 16),
        ("three", 3, 16),
        ("batch", 1, 8),
    ]
    assert (found.left_out, found.rows[2].against) == (["once"], 0)
    found = read_changes(place / "rates.yaml")
    assert (found.left_out, found.rows[3].against) == ([], 2)


def test_only_the_rows_that_are_asked_for_run_with_what_they_are_compared_with(place: Path, ablation: Ablation, tmp_path: Path) -> None:
    (place / "chain.yaml").write_text(
        "study: tiny.yaml\nbase: plain\nchanges: [{name: a, set: {training.batch: 8}, against: b}, {name: b, set: {training.epochs: 3}}, "
        "{name: c, set: {training.epochs: 1}, against: a}, {name: d, set: {training.epochs: 4}, against: b}]"
    )
    found = read_changes(place / "chain.yaml", only=["c"])
    assert [(row.name, row.against) for row in found.rows] == [("plain", 0), ("a", 2), ("b", 0), ("c", 1)]
    assert found.not_asked == ["d"]
    found = read_changes(place / "chain.yaml", only=["d", "b"])
    assert [(row.name, row.against) for row in found.rows] == [("plain", 0), ("b", 0), ("d", 1)]
    assert found.not_asked == ["a", "c"]
    assert len(read_changes(place / "chain.yaml").rows) == 5
    with pytest.raises(StudyError, match=r"chain.yaml: --only: there is no row e\. Rows are plain, a, b, c, d\."):
        read_changes(place / "chain.yaml", only=["e"])
    for name, overrides in (("plain", []), ("b", ["training.epochs=3"])):
        with pytest.raises(StudyError, match="--only asks for nothing but the study as it is"):
            read_changes(place / "chain.yaml", only=[name], overrides=overrides)
    pages = write_ablation(ablation.model_copy(update={"not_asked": ["x", "y", "z"]}), tmp_path)
    english, persian = (re.sub(r"<[^>]*>", "", page.read_text(encoding="utf-8")) for page in pages)
    assert "Not asked for this time: x, y and z." in plain(english)
    assert "این بار خواسته نشد: x، y و z" in plain(persian)


def test_a_row_that_changes_nothing_is_refused_with_an_override_as_well(place: Path) -> None:
    (place / "none.yaml").write_text("study: tiny.yaml\nchanges: [{name: a, set: {training.epochs: 2}}]")
    with pytest.raises(StudyError, match="row 1: set changes nothing"):
        read_changes(place / "none.yaml", overrides=["training.batch=8"])
    (place / "none.yaml").write_text("study: tiny.yaml\nchanges: [{name: a, set: {training.epochs: 1}}]")
    with pytest.raises(StudyError, match=r"--set training.epochs=1: no row is left of .*none.yaml"):
        read_changes(place / "none.yaml", overrides=["training.epochs=1"])


def test_paths_of_a_row_start_at_the_study_also_after_an_override(place: Path) -> None:
    (place / "weights.yaml").write_text("study: tiny.yaml\nchanges: [{name: a, set: {model.weights: some.safetensors}}]")
    for overrides in ([], ["training.epochs=1"]):
        weights = read_changes(place / "weights.yaml", overrides=overrides).rows[1].study.model.weights
        assert weights == (place / "some.safetensors").resolve()


@pytest.mark.parametrize(
    ("override", "words"),
    [("training.seeds=[5]", "Say it by seeds: in the file"), ("split.turn=1", "Say it by folds: in the file")],
    ids=["seeds", "folds"],
)
def test_an_override_that_would_do_nothing_is_refused(place: Path, override: str, words: str) -> None:
    (place / "folds.yaml").write_text("study: tiny.yaml\nfolds: [0]\nchanges: [{name: a, set: {training.epochs: 1}}]")
    with pytest.raises(StudyError, match=re.escape(f"--set {override}: ") + f".*{words}"):
        read_changes(place / "folds.yaml", overrides=[override])


def test_two_changes_go_together_where_it_is_said(place: Path) -> None:
    (place / "both.yaml").write_text(
        "study: tiny.yaml\nbase: plain\nchanges: [{name: a, set: {training.epochs: 1, training.batch: 8}, together: true}, "
        "{name: kind, set: {data.kind: chest_film}}]"
    )
    found = read_changes(place / "both.yaml", overrides=["training.learning_rate=0.01"])
    assert found.rows[0].name == "plain"
    assert found.rows[1].fields == ["training.epochs", "training.batch"]
    assert found.rows[2].fields == ["data.kind"], "what the kind decides follows from it"
    assert {row.study.training.learning_rate for row in found.rows} == {0.01}


def test_a_row_with_another_split_is_refused_unless_it_asks_for_it(place: Path, changes: Changes, trained: list[Trained]) -> None:
    (place / "split.yaml").write_text("study: tiny.yaml\nchanges: [{name: other split, set: {split.seed: 3}}]")
    asked = read_changes(place / "split.yaml")
    found = run_changes(asked, root=place / "runs")
    row = judge_changes(asked, found).rows[1]
    assert (row.not_compared, row.differences) == ("rows", [])
    assert row.figures, "it has figures of its own"
    with pytest.raises(RunError, match="has another split"):
        judge_changes(changes, [trained[0], Trained(1, 0, None, found[1].found)])


def test_folds_are_drawn_where_none_are_given(place: Path) -> None:
    (place / "drawn.yaml").write_text("study: tiny.yaml\nfolds: [0, 1, 4]\nchanges: [{name: one epoch, set: {training.epochs: 1}}]")
    fifths = ["split.train=0.6", "split.validation=0.2", "split.test=0.2"]
    row = read_changes(place / "drawn.yaml", overrides=fifths).rows[1]
    assert [row.trained_with(7, fold).split.turn for fold in (0, 1, 4)] == [0, 1, 4]
    assert row.trained_with(7, None).training.seeds == [7]
    with pytest.raises(StudyError, match="makes 4 folds"):
        read_changes(place / "drawn.yaml", overrides=["split.train=0.5", "split.validation=0.25", "split.test=0.25"])


@pytest.mark.slow
def test_folds_are_put_together_so_that_every_image_counts_once(place: Path) -> None:
    films = sorted(path.relative_to(place / "films") for path in (place / "films").rglob("*.png"))
    patients = {str(path): int(re.findall(r"patient(\d+)", str(path))[0]) for path in films}
    lines = [f"{path},{Path(path).parts[0]},{number},{number % 3}" for path, number in patients.items()]
    (place / "films.csv").write_text("\n".join(["path,label,patient,fold", *lines]))
    study = STUDY.replace(
        "data: {folder: films, group: '(patient\\d+)'}",
        "data: {folder: films, layout: table, table: films.csv, columns: {label: label, group: patient, part: fold}}",
    )
    study = study.replace("split: {train: 0.4, validation: 0.2, test: 0.4}", "split: {given: true, test_fold: 0}").replace(
        "epochs: 2", "epochs: 1"
    )
    (place / "folds.yaml").write_text(study.replace("name: tiny", "name: folds"))
    (place / "rows.yaml").write_text("study: folds.yaml\nfolds: [0, 1, 2]\nchanges: [{name: smaller batch, set: {training.batch: 8}}]")
    changes = read_changes(place / "rows.yaml")
    trained = run_changes(changes, root=place / "runs")
    found = judge_changes(changes, trained)
    assert (found.folds, found.test_rows, found.test_groups) == ([0, 1, 2], len(films), len(set(patients.values())))
    right = []
    for row in (0, 1):
        tables = [
            read_run(each.found).read("predictions").filter(part="test")
            for each in trained
            if each.row == row and isinstance(each.found, Path)
        ]
        right.append(sum((table["predicted"] == table["label"]).sum() for table in tables) / len(films))
    accuracy = next(each for each in found.rows[1].differences if each.name == "accuracy")
    assert accuracy.value == pytest.approx(right[1] - right[0])
    assert accuracy.low is not None
    page = write_ablation(found, place / "pages")[0].read_text(encoding="utf-8")
    assert "trained on the other folds" in page
    one = found.model_copy(update={"folds": [0]})
    assert "trained on the other folds" not in write_ablation(one, place / "one")[0].read_text(encoding="utf-8")
    assert "Each row was trained once" in page
