"""Wrong ways find what they must find: patients without any sign of disease who are remembered, and nothing in labels drawn by chance."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from torch import nn

from planted_masks import write_pictures
from tabib.cli import main
from tabib.config import Study
from tabib.errors import StudyError
from tabib.experiments import make_twins, write_twins
from tabib.experiments.leaky_twin import wrong_study
from tabib.experiments.trainings import Missed
from tabib.images import encode_png
from tabib.progress import SILENT
from tabib.records import Compared, LeakyTwin, Measure, Twin
from tabib.reports.text import language, plain
from tabib.reports.twins import only_image, told
from tabib.runs import Reached, Run, open_run, read_run
from tabib.study import run_study
from tabib.study_file import check_study, dump_study
from tabib.training.networks import NETWORKS

PATIENTS, FILMS, SIDE = 44, 5, 16


def remembers(channels: int, height: int, width: int) -> nn.Module:
    """Learns faces by heart in milliseconds."""
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, 64), nn.ReLU())


def study_of(films: Path, **more: object) -> Study:
    values = {
        "name": "faces",
        "positive": "ill",
        "data": {"folder": str(films), "group": r"(p\d+)"},
        "input": {"height": SIDE, "width": SIDE, "channels": 1},
        "augment": {"rotation_degrees": 5, "shift": 0.02, "zoom": 0, "brightness": 0, "contrast": 0},
        "model": {"network": "remembers"},
        "training": {"epochs": 30, "batch": 16, "learning_rate": 3e-3, "threads": 1, "precision": "fp32", "device": "cpu"},
        "evaluate": {"draws": 200},
        "report": {"languages": ["en"]},
        **more,
    }
    study = check_study(values, source="a test")
    assert isinstance(study, Study)
    return study


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every patient has a face of his own, seen five times with noise; who is ill, chance has said."""
    folder, draws = tmp_path_factory.mktemp("twin") / "films", np.random.default_rng(7)
    for patient in range(PATIENTS):
        face = draws.uniform(60, 190, (SIDE // 4, SIDE // 4)).repeat(4, 0).repeat(4, 1)
        place = folder / ("ill" if patient % 2 else "well")
        place.mkdir(parents=True, exist_ok=True)
        for film in range(FILMS):
            seen = np.clip(face + draws.normal(0, 12, (SIDE, SIDE)), 0, 255).astype(np.uint8)
            (place / f"p{patient:02d}_{film}.png").write_bytes(encode_png(seen))
    return folder


@pytest.fixture(scope="module")
def twins(films: Path) -> LeakyTwin:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "remembers", remembers)
        return make_twins(study_of(films), root=films.parent / "runs", folder=films.parent / "twin")


def auc(line: object) -> float:
    return next(each.value for each in line.measures if each.name == "auc")  # pyright: ignore[reportAttributeAccessIssue]


def of(twins: LeakyTwin, way: str) -> Twin:
    return next(each for each in twins.twins if each.way == way)


@pytest.mark.slow
def test_patients_are_remembered_where_they_leak_and_nowhere_else(twins: LeakyTwin) -> None:
    assert auc(twins.honest) < 0.75
    assert auc(of(twins, "image").line) > 0.9
    assert auc(of(twins, "augmented").line) > 0.9
    assert auc(of(twins, "labels").line) < 0.75


@pytest.mark.slow
def test_what_leaked_is_counted(twins: LeakyTwin) -> None:
    assert (twins.known, of(twins, "labels").known) == (0, 0)
    assert twins.drawn is None, "the split is drawn as it is"
    assert gap(of(twins, "image")).low > 0  # pyright: ignore[reportOptionalOperand]
    for way, copies in (("image", 1), ("augmented", 3)):
        twin = of(twins, way)
        assert twin.line is not None
        assert twin.known > 0.95 * twin.line.rows
        split = read_run(Path(twin.line.run or "")).read("split")
        assert split.filter(pl.col("part") != "left_out").height == PATIENTS * FILMS * copies


@pytest.mark.slow
def test_labels_drawn_by_chance_are_the_same_labels_in_another_order(films: Path, twins: LeakyTwin) -> None:
    line = of(twins, "labels").line
    assert line is not None
    run, honest = (read_run(Path(each.run or "")).read("split") for each in (line, twins.honest))
    both = run.join(honest, on="path", suffix="_honest")
    assert sorted(both["label"]) == sorted(both["label_honest"])
    assert 0.3 < (both["label"] == both["label_honest"]).mean() < 0.7
    assert both["group"].equals(both["group_honest"])


@pytest.mark.slow
def test_pages_tell_of_each_way(twins: LeakyTwin, tmp_path: Path) -> None:
    english, persian = (page.read_text(encoding="utf-8") for page in write_twins(twins, tmp_path))
    assert LeakyTwin.model_validate(json.loads((tmp_path / "leaky_twin.json").read_text())) == twins
    for words in (
        "Split by image",
        "Augmented before the split",
        "Labels drawn by chance",
        "may have seen the patient",
        "no leak of this kind",
    ):
        assert words in english
    assert "همزاد نشتی" in persian
    assert "at work at a time" in english
    assert "هر بار" in persian
    assert 'dir="rtl"' in persian


def given(folder: Path, *, patients: int, films: int, shows: tuple[float, float]) -> Study:
    """Patients in folders for training and test; in each the disease shows so many grey levels, and the face has nothing to do with it."""
    draws = np.random.default_rng(3)
    for patient in range(patients):
        part, label = int(patient % 4 == 0), ("well", "ill")[patient // 4 % 2]
        place = folder / ("train", "test")[part] / label
        place.mkdir(parents=True, exist_ok=True)
        one = draws.uniform(60, 190, (SIDE // 4, SIDE // 4)).repeat(4, 0).repeat(4, 1)
        one[: SIDE // 2] += shows[part] * (label == "ill")
        for film in range(films):
            seen = np.clip(one + draws.normal(0, 8, (SIDE, SIDE)), 0, 255).astype(np.uint8)
            (place / f"p{patient:03d}_{film}.png").write_bytes(encode_png(seen))
    return study_of(folder, split={"given": True, "validation": 0.25, "seed": 2}, expect=["acquisition_confounder"])


def made(study: Study, place: Path) -> tuple[LeakyTwin, Twin, str, str]:
    """The split by image of a study with a given split; with what is said of it in both languages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "remembers", remembers)
        found = make_twins(study, root=place / "runs", folder=place / "twin", ways=["image"])
    twin = of(found, "image")
    return found, twin, *(plain(told(found, twin, language(each))) for each in ("en", "fa"))


def gap(twin: Twin) -> Measure:
    return next(each for each in twin.more if each.name == "auc")


def test_a_harder_test_set_that_is_given_is_not_taken_for_a_leak(tmp_path: Path) -> None:
    found, twin, english, persian = made(given(tmp_path / "films", patients=160, films=1, shows=(60, 0)), tmp_path)
    assert auc(found.honest) < 0.75, "the test set that is given is harder"
    assert found.drawn is not None
    assert auc(found.drawn.line) > 0.85
    assert auc(twin.line) > 0.85, "as the others are"
    assert (found.drawn.known, twin.known) == (0, 0), "every patient has one film, and nothing leaks"
    assert gap(twin).value == pytest.approx(auc(twin.line) - auc(found.drawn.line))
    assert gap(twin).low < 0 < gap(twin).high  # pyright: ignore[reportOptionalOperand]
    assert "no difference is shown" in english
    assert "تفاوتی نشان داده نشد" in persian
    runs = [read_run(Path(line.run or "")) for line in (found.honest, found.drawn.line, twin.line) if line is not None]
    asked = [run.read("study").split for run in runs]
    assert [(each.given, each.by, each.seed) for each in asked] == [(True, "group", 2), (False, "group", 2), (False, "image", 2)]
    shares = [(each.train, each.validation, each.test) for each in asked]
    assert shares[0] == (0.6, 0.25, 0.2), "of a given split they need not sum to 1"
    assert shares[1] == shares[2] == pytest.approx([each / 1.05 for each in shares[0]])
    pools = [set(run.read("split").filter(pl.col("part") != "left_out")["content"]) for run in runs]
    assert pools[1] == pools[2], "both draw from the same images"
    tests = [set(run.read("split").filter(pl.col("part") == "test")["content"]) for run in runs]
    assert twin.shared == len(tests[1] & tests[2]) < len(tests[2])
    assert "The sound row judges other images" in english
    pages = [page.read_text(encoding="utf-8") for page in write_twins(found, tmp_path)]
    for page, words in zip(
        pages, ("the given split was set aside for both sides", "تقسیم داده‌شده برای هر دو سو کنار گذاشته شد"), strict=True
    ):
        assert words in page
    assert "Drawn by patient from all images" in pages[0]


@pytest.mark.slow
def test_a_leak_is_shown_beside_a_given_split(tmp_path: Path) -> None:
    found, twin, english, _ = made(given(tmp_path / "films", patients=60, films=5, shows=(0, 0)), tmp_path)
    assert found.drawn is not None
    assert auc(found.drawn.line) < 0.8
    assert auc(twin.line) > 0.9
    assert gap(twin).low > 0  # pyright: ignore[reportOptionalOperand]
    assert "it flatters" in english


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.01, 0.3, "it flatters"),
        (-0.01, 0.3, "no difference is shown"),
        (-0.3, -0.01, "did not flatter"),
        (None, None, "Too few patients"),
    ],
    ids=["above", "around", "below", "none"],
)
def test_a_way_is_called_flattering_only_where_chance_is_excluded(low: float | None, high: float | None, words: str) -> None:
    lines = [
        Compared(name=name, network="x", rows=20, measures=[Measure(name="auc", value=value)]) for name, value in (("a", 0.7), ("b", 0.8))
    ]
    twin = Twin(way="image", line=lines[1], known=9, shared=4, more=[Measure(name="auc", value=0.1, low=low, high=high)])
    found = LeakyTwin(title={"en": "x", "fa": "x"}, honest=lines[0], twins=[twin])
    said = plain(told(found, twin, language("en")))
    assert words in said
    assert "The model may have seen the patient, or a version, of 9 of the 20 test images." in said
    assert "4 test images of these 20 are common to both" in said
    assert "common to both" not in plain(told(found, twin.model_copy(update={"shared": 20}), language("en")))
    missing = found.model_copy(update={"drawn": Twin(way="group", not_run="memory", reason="full")})
    assert "was not run" in told(missing, twin, language("en"))


def test_labels_by_chance_at_chance_show_no_more_than_they_can() -> None:
    lines = [
        Compared(name=name, network="x", rows=20, measures=[Measure(name="auc", value=value, low=value - 0.2, high=value + 0.2)])
        for name, value in (("a", 0.7), ("b", 0.52))
    ]
    twin = Twin(way="labels", line=lines[1])
    found = LeakyTwin(title={"en": "x", "fa": "x"}, honest=lines[0], twins=[twin])
    english, persian = (plain(told(found, twin, language(each))) for each in ("en", "fa"))
    assert "no leak of this kind is shown. A patient on both sides does not show here" in english
    assert "the less this says" in english
    assert "نشتی از این گونه نشان داده نشد" in persian
    few = lines[1].model_copy(update={"measures": [Measure(name="auc", value=0.5)]})
    assert "no leak" not in plain(told(found, twin.model_copy(update={"line": few}), language("en")))


def face(number: int) -> bytes:
    return encode_png(np.random.default_rng(number).integers(0, 255, (SIDE, SIDE), dtype=np.uint8))


def zipped(folder: Path) -> dict[str, object]:
    """Films as an archive of one folder in another has them, with what a system leaves there."""
    with zipfile.ZipFile(folder / "films.zip", "w") as archive:
        for number in range(40):
            archive.writestr(f"set/{('ill', 'well')[number % 2]}/p{number // 4:02d}_{number}.png", face(number))
        archive.writestr("__MACOSX/set/ill/._p00_0.png", b"left by a system")
    return {"data": {"folder": str(folder / "films.zip"), "group": r"(p\d+)"}}


def stacked(folder: Path) -> dict[str, object]:
    """Files of several frames, of patients that nobody names."""
    for number in range(40):
        first, *others = (Image.open(io.BytesIO(face(10 * number + frame))) for frame in range(3))
        (folder / "films" / "iw"[number % 2]).mkdir(parents=True, exist_ok=True)
        first.save(folder / "films" / "iw"[number % 2] / f"{number}.tif", save_all=True, append_images=others)
    return {"data": {"folder": str(folder / "films")}, "positive": "i"}


def in_folds(folder: Path) -> dict[str, object]:
    """Folds that a table numbers."""
    (folder / "films").mkdir()
    for number in range(40):
        (folder / "films" / f"{number}.png").write_bytes(face(number))
    lines = [f"{number}.png,{('ill', 'well')[number % 2]},{number // 4 % 4},{number // 4}" for number in range(40)]
    (folder / "films.csv").write_text("\n".join(["path,label,fold,who", *lines]))
    columns = {"part": "fold", "group": "who"}
    data = {"folder": str(folder / "films"), "layout": "table", "table": str(folder / "films.csv"), "columns": columns}
    return {"data": data, "split": {"given": True, "test_fold": 3}}


def divided(study: Study, root: Path, until: str = "split") -> Run:
    with open_run(study, root=root, until=until) as run, pytest.raises(Reached):
        run_study(study, run)
    return run


@pytest.mark.parametrize("kept", [zipped, stacked, in_folds])
def test_a_table_of_exchanged_labels_finds_its_images_wherever_they_lie(kept: Callable[[Path], dict[str, object]], tmp_path: Path) -> None:
    study = study_of(tmp_path, **kept(tmp_path))
    honest = divided(study, tmp_path / "runs")
    made = wrong_study("labels", study, honest, tmp_path / "twin", SILENT)
    assert isinstance(made, Study)
    told = ["path", "content", "part", "fold"]
    one, other = (run.read("split").filter(pl.col("part") != "left_out") for run in (honest, divided(made, tmp_path / "runs")))
    assert len(one) == (120 if kept is stacked else 40)
    # Parts that are drawn are drawn for the labels that there are; those that are given stay.
    given = study.split.given
    assert one.select(told if given else told[:2]).equals(other.select(told if given else told[:2]))
    assert sorted(one["label"]) == sorted(other["label"])
    assert one["label"].to_list() != other["label"].to_list()
    groups = [run.group_by("group").agg("path")["path"].list.sort().sort().to_list() for run in (one, other)]
    assert groups[0] == groups[1]
    assert (set(pl.read_csv(tmp_path / "twin/labels.csv")["part"]) == {0, 1, 2, 3}) == given


def test_of_one_copy_a_second_is_made_that_can_leak(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at scale bench, which makes one copy of each image where a study asks for more."""
    monkeypatch.setitem(NETWORKS, "remembers", remembers)
    training = {"epochs": 1, "batch": 16, "threads": 1, "precision": "fp32", "device": "cpu"}
    study = study_of(films, scale="bench", augment={"copies": 4}, training=training)
    run = divided(study, tmp_path / "runs", "checks")
    assert run.read("study").augment.copies == 1
    made = wrong_study("augmented", study, run, tmp_path / "twin", SILENT)
    assert isinstance(made, Study)
    assert len(list(made.data.folder.glob("*.png"))) == 2 * run.read("split").filter(pl.col("part") != "left_out").height


def test_copies_are_written_once_and_again_where_they_are_not_whole(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "remembers", remembers)
    study = study_of(films, scale="bench", training={"epochs": 1, "batch": 16, "threads": 1, "precision": "fp32", "device": "cpu"})
    run = divided(study, tmp_path / "runs", "checks")

    def times(of: Study = study) -> dict[str, int]:
        made = wrong_study("augmented", of, run, tmp_path / "twin", SILENT)
        assert isinstance(made, Study)
        assert made.data.table is not None
        assert made.data.table.exists()
        return {path.name: path.stat().st_mtime_ns for path in made.data.folder.iterdir()}

    first = times()
    assert len(first) == 1 + 3 * run.read("split").filter(pl.col("part") != "left_out").height
    assert times() == first, "as they were"
    copies = tmp_path / "twin/copies"
    for damage in (
        next(copies.glob("*.png")).unlink,
        lambda: next(copies.glob("*.png")).write_bytes(b""),
        lambda: (tmp_path / "twin/copies.json").write_text("{"),
    ):
        damage()
        again = times()
        assert again.keys() == first.keys()
        assert not set(again.items()) & set(first.items()), "all of them anew"
        first = again
    assert not set(times(study.model_copy(update={"split": study.split.model_copy(update={"seed": 4})})).items()) & set(first.items())


def test_a_way_that_cannot_be_is_said_and_not_tried_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pictures(tmp_path / "pictures", patients=12)
    values = {
        "task": "segmentation",
        "name": "planted",
        "data": {"folder": str(tmp_path / "pictures"), "labels": {"disc": 1, "square": 2}, "group": r"(p\d+)"},
        "model": {"filters": [8, 16]},
        "training": {"epochs": 1, "batch": 4, "patches": 8, "device": "cpu", "precision": "fp32", "threads": 1},
        "report": {"languages": ["en"]},
    }
    twins = make_twins(check_study(values, source="here"), root=tmp_path / "runs", folder=tmp_path / "twin", ways=("image", "labels"))
    assert of(twins, "image").line is not None
    assert of(twins, "labels").line is None
    assert "Of masks" in of(twins, "labels").reason
    english, persian = (page.read_text(encoding="utf-8") for page in write_twins(twins, tmp_path))
    assert "Dice" in english
    assert "Of masks only the split by image is shown." in english
    assert "برای ماسک‌ها تنها تقسیم بر پایهٔ تصویر نشان داده می‌شود" in persian
    assert "Of masks" not in persian, "every reason is told in the language of the page"
    (tmp_path / "planted.yaml").write_text(dump_study(check_study(values, source="here")), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["tabib", "leaky-twin", str(tmp_path / "planted.yaml"), "--runs", str(tmp_path / "runs")])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code, "by itself only the ways that there are"
    told_ = capsys.readouterr().out
    assert "image: dice" in told_
    assert "not run" not in told_
    assert "Of masks only the split by image is shown." in told_


def study_of_findings(films: Path, folder: Path, first: str = "cough") -> Study:
    """A study of two findings, of the same faces: each patient has one, both or none, as chance has said."""
    paths = sorted(path.relative_to(films).as_posix() for path in films.rglob("*.png"))
    has = np.random.default_rng(3).integers(0, 2, (PATIENTS, 2))
    lines = [f"{path},{has[who, 0]},{has[who, 1]},{who}" for path in paths for who in [int(path[-8:-6])]]
    (folder / "films.csv").write_text("\n".join([f"file,{first},fever,who", *lines]))
    columns = {"path": "file", "labels": ["fever", first], "group": "who"}
    data = {"folder": str(films), "layout": "table", "table": str(folder / "films.csv"), "columns": columns}
    return study_of(films, data=data, positive=None)


@pytest.mark.slow
def test_several_labels_have_every_way(films: Path, tmp_path: Path) -> None:
    study = study_of_findings(films, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "remembers", remembers)
        found = make_twins(study, root=tmp_path / "runs", folder=tmp_path / "twin")
    assert [(each.way, each.not_run) for each in found.twins] == [(way, None) for way in ("image", "augmented", "labels")]
    assert auc(found.honest) < 0.75
    assert auc(of(found, "image").line) > 0.9
    assert auc(of(found, "augmented").line) > 0.9
    assert auc(of(found, "labels").line) < 0.75
    given = pl.read_csv(tmp_path / "films.csv").rename({"file": "path"})
    drawn = pl.read_csv(tmp_path / "twin/labels.csv")
    assert drawn.columns == ["path", "group", "cough", "fever", "part"]
    together = [sorted(table.select("fever", "cough").rows()) for table in (drawn, given)]
    assert together[0] == together[1], "labels of an image stay together"
    moved = drawn.join(given, on="path").filter((pl.col("fever") != pl.col("fever_right")) | (pl.col("cough") != pl.col("cough_right")))
    assert moved.height > 0.5 * given.height
    copies = pl.read_csv(tmp_path / "twin/copies/copies.csv").join(given, left_on="original", right_on="path")
    assert copies.height == 3 * given.height
    assert (copies["fever"] == copies["fever_right"]).all()
    assert (copies["cough"] == copies["cough_right"]).all()


def test_a_finding_called_like_a_column_is_refused(films: Path, tmp_path: Path) -> None:
    study = study_of_findings(films, tmp_path, first="group")
    with open_run(study, root=tmp_path / "runs", until="split") as run, suppress(Reached):
        run_study(study, run)
    for way in ("labels", "augmented"):
        missed = wrong_study(way, study, run, tmp_path / "twin", SILENT)
        assert isinstance(missed, Missed)
        assert "A finding is called group" in missed.reason


def test_images_of_an_array_have_only_the_split_by_image(tmp_path: Path) -> None:
    draws = np.random.default_rng(5)
    arrays = {
        f"{part}_images": draws.integers(0, 255, (count, 28, 28), dtype=np.uint8)
        for part, count in (("train", 40), ("val", 20), ("test", 20))
    }
    arrays |= {name.replace("images", "labels"): draws.integers(0, 2, (len(images), 1)) for name, images in arrays.items()}
    np.savez(tmp_path / "films.npz", **arrays)
    study = study_of(tmp_path, data={"folder": str(tmp_path / "films.npz"), "layout": "npz"}, positive=None, scale="bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "remembers", remembers)
        found = make_twins(study, root=tmp_path / "runs", folder=tmp_path / "twin")
    assert [(each.way, each.not_run) for each in found.twins] == [("image", None)]
    assert "only the split by image is shown" in only_image(found, language("en"))
    assert "برای این مطالعه تنها تقسیم بر پایهٔ تصویر" in only_image(found, language("fa"))


def test_another_way_is_refused_with_the_ways_there_are(films: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no way 'images'.*Ways are image, augmented, labels"):
        make_twins(study_of(films), root=tmp_path, folder=tmp_path, ways=["images"])


def test_a_study_that_leaks_has_no_twin(films: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"split\.by is image"):
        make_twins(study_of(films, split={"by": "image"}), root=tmp_path, folder=tmp_path)
    with pytest.raises(StudyError, match="could not be run as it is"):
        make_twins(study_of(films, model={"weights": str(tmp_path / "no.safetensors")}), root=tmp_path, folder=tmp_path)


@pytest.mark.slow
def test_the_verb(films: Path, tmp_path: Path) -> None:
    study = study_of(films, model={"network": "small_resnet"}, scale="bench")
    (tmp_path / "faces.yaml").write_text(dump_study(study), encoding="utf-8")
    command = [sys.executable, "-m", "tabib", "leaky-twin", "faces.yaml", "--way", "image"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert "as it is: accuracy" in said.stdout
    assert (tmp_path / "runs" / "leaky-twin-faces-bench" / "leaky_twin.fa.html").exists()
