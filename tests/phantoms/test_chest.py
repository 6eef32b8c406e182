from __future__ import annotations

import dataclasses
import hashlib
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tabib.errors import RunError, StudyError
from tabib.phantoms import CHEST_CLASSES, CHEST_LABELS, PHANTOMS, ChestFilms, Truth, make_chest_films, plan_chest_films, render_chest_films
from tabib.progress import SILENT

SMALL = ChestFilms(patients=16, films_per_patient=(1, 3), side=48)


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()
    }


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(np.float64)


# --- The same settings give the same films; each patient stands alone ---


def test_same_settings_give_same_bytes(tmp_path: Path) -> None:
    films = dataclasses.replace(SMALL, near_copies=0.2, given_leak=0.5, confounder=0.8, corrupt=0.2, label_noise=0.1)
    first, second = make_chest_films(tmp_path / "a", films), make_chest_films(tmp_path / "b", films)
    assert first == second
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert files(tmp_path / "a").keys() == {film.path for film in first.films}


def test_another_seed_gives_other_films() -> None:
    one, _ = render_chest_films(dataclasses.replace(SMALL, patients=2, films_per_patient=(1, 1)))
    other, _ = render_chest_films(dataclasses.replace(SMALL, patients=2, films_per_patient=(1, 1), seed=1))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("given", [False, True])
def test_more_patients_leave_the_others_alone(given: bool) -> None:
    few, few_truth = render_chest_films(dataclasses.replace(SMALL, patients=8, given=given))
    many, many_truth = render_chest_films(dataclasses.replace(SMALL, patients=11, given=given))
    assert many_truth.films[: len(few)] == few_truth.films
    assert np.array_equal(many[: len(few)], few)


def test_trouble_leaves_the_other_films_alone(tmp_path: Path) -> None:
    make_chest_films(tmp_path / "clean", SMALL)
    truth = make_chest_films(tmp_path / "troubled", dataclasses.replace(SMALL, near_copies=0.1, corrupt=0.2))
    clean, troubled = files(tmp_path / "clean"), files(tmp_path / "troubled")
    untouched = {film.path for film in truth.films if film.copy_of is None and film.damage is None}
    assert untouched
    assert all(clean[path] == troubled[path] for path in untouched)


@pytest.mark.parametrize("trouble", ["near_copies", "given_leak", "corrupt", "faults", "label_noise"])
def test_weaker_trouble_touches_a_part_of_what_stronger_touches(trouble: str) -> None:
    def touched(strength: float) -> set[int | str | tuple[int, int]]:
        truth = plan_chest_films(dataclasses.replace(SMALL, patients=40, films_per_patient=(2, 3), given=True, **{trouble: strength}))
        damaged = {(film.patient, film.film) for film in truth.films if film.damage or film.fault}
        return {original for _, original in truth.near_copies} | set(truth.leaked) | damaged | set(truth.mislabelled)

    assert touched(0) == set()
    assert touched(0.1) < touched(0.3)


def test_every_second_patient_is_ill_in_each_part() -> None:
    truth = plan_chest_films(dataclasses.replace(SMALL, patients=64, given=True))
    for part, patients in (("train", 48), ("test", 16)):
        ill = {film.patient: film.ill for film in truth.films if film.part == part}
        assert (len(ill), sum(ill.values())) == (patients, patients / 2)


# --- It is a chest ---


def test_heart_lies_to_the_left_of_the_body() -> None:
    films, _ = render_chest_films(ChestFilms(patients=12, films_per_patient=(1, 1), side=64, lesion=0))
    row = slice(32, 42)  # through the heart, above the diaphragm
    bright = films[:, row].mean(axis=1)
    # The patient's left is on the right of the film.
    assert (bright[:, 38:44].mean(axis=1) > bright[:, 20:26].mean(axis=1) + 15).all()


def test_lungs_are_darker_than_what_lies_around_them() -> None:
    films, _ = render_chest_films(ChestFilms(patients=12, films_per_patient=(1, 1), side=64, lesion=0))
    lung = films[:, 20:30, 14:22].mean(axis=(1, 2))
    middle, belly = films[:, 36:44, 30:35].mean(axis=(1, 2)), films[:, 56:60, 20:30].mean(axis=(1, 2))
    assert (lung + 40 < middle).all()
    assert (lung + 40 < belly).all()


def test_films_of_a_patient_are_alike_but_not_copies() -> None:
    films, truth = render_chest_films(ChestFilms(patients=10, films_per_patient=(2, 2), side=64))
    flat = films.reshape(len(films), -1).astype(float)
    alike = np.corrcoef(flat)
    people = np.array([film.person for film in truth.films])
    own = alike[(people[:, None] == people) & ~np.eye(len(people), dtype=bool)]
    assert own.max() < 0.999
    assert np.median(own) > np.median(alike[people[:, None] != people])


# --- It is as hard as promised ---


def linear_auc(films: ChestFilms) -> float:
    """AUC on the last third of the patients of a linear reader of coarse pixels."""
    pictures, truth = render_chest_films(films)
    coarse = pictures.reshape(len(pictures), 16, films.side // 16, 16, films.side // 16).mean(axis=(2, 4)).reshape(len(pictures), -1)
    label = np.array([film.label == CHEST_CLASSES[1] for film in truth.films])
    train = np.array([film.person <= films.patients * 2 / 3 for film in truth.films])
    reader = make_pipeline(StandardScaler(), RidgeClassifier(alpha=300)).fit(coarse[train], label[train])
    return float(roc_auc_score(label[~train], reader.decision_function(coarse[~train])))


def test_without_a_lesion_the_pixels_do_not_know_the_label() -> None:
    without, with_lesion = (plan_chest_films(dataclasses.replace(SMALL, lesion=lesion)).films for lesion in (0.0, 5.0))
    # Exactly: what the films are drawn from is the same whether a patient is ill or not, unless there is a lesion.
    for film, other in zip(without, with_lesion, strict=True):
        assert film.amount == pytest.approx(other.amount - 5 * film.ill)
    assert linear_auc(ChestFilms(patients=210, films_per_patient=(1, 1), side=32, lesion=0)) == pytest.approx(0.5, abs=0.15)


def test_even_a_linear_reader_sees_the_lesion() -> None:
    assert linear_auc(ChestFilms(patients=210, films_per_patient=(1, 1), side=32)) > 0.75


@pytest.mark.parametrize(("noise", "tolerance"), [(0.0, 0.015), (0.2, 0.03)])
def test_best_auc_is_that_of_a_reader_who_is_told_the_amount(noise: float, tolerance: float) -> None:
    truth = plan_chest_films(ChestFilms(patients=2000, films_per_patient=(1, 1), lesion=2, label_noise=noise))
    reached = roc_auc_score([film.label == CHEST_CLASSES[1] for film in truth.films], [film.amount for film in truth.films])
    assert reached == pytest.approx(truth.best_auc, abs=tolerance)


def test_random_labels_do_not_know_the_films() -> None:
    truth = plan_chest_films(ChestFilms(patients=2000, films_per_patient=(1, 1), random_labels=True))
    reached = roc_auc_score([film.label == CHEST_CLASSES[1] for film in truth.films], [film.amount for film in truth.films])
    assert truth.best_auc == 0.5
    assert reached == pytest.approx(0.5, abs=0.04)
    assert len({film.label for film in truth.films}) == 2


# --- What is planted is what the truth says ---


def test_near_copies_are_copies_in_other_names(tmp_path: Path) -> None:
    films = dataclasses.replace(SMALL, near_copies=0.25)
    truth = make_chest_films(tmp_path / "films", films)
    originals = {film.path: film for film in truth.films if film.copy_of is None}
    copies = [film for film in truth.films if film.copy_of is not None]
    assert len(copies) == len(truth.near_copies) == -(-len(originals) // 4)
    for copy in copies:
        original = originals[copy.copy_of or ""]
        assert copy.person == original.person
        assert copy.patient not in {film.patient for film in originals.values()}
        here, there = pixels(tmp_path / "films" / copy.path), pixels(tmp_path / "films" / original.path)
        if copy.change == "size":
            assert here.shape != there.shape
            here = np.asarray(Image.fromarray(here.astype(np.uint8)).resize(there.shape[::-1], Image.Resampling.BICUBIC))
        assert not np.array_equal(here, there)
        assert np.corrcoef(here.ravel(), there.ravel())[0, 1] > 0.98
    crossing = sum(copy.label != originals[copy.copy_of or ""].label for copy in copies)
    assert crossing == -(-len(copies) // 2)


def test_leaked_patients_stand_on_both_sides(tmp_path: Path) -> None:
    truth = make_chest_films(tmp_path / "films", dataclasses.replace(SMALL, patients=32, films_per_patient=(2, 3), side=32, given_leak=0.5))
    seen = {part: {path.name.split("_")[0] for path in (tmp_path / "films" / part).rglob("*.png")} for part in ("train", "test")}
    assert len(truth.leaked) == 4  # half of the 8 test patients
    assert {f"patient{patient:03d}" for patient in truth.leaked} == seen["train"] & seen["test"]


def test_damaged_files_are_as_bad_as_promised(tmp_path: Path) -> None:
    truth = make_chest_films(tmp_path / "films", dataclasses.replace(SMALL, patients=20, corrupt=0.3))
    damaged = [film for film in truth.films if film.damage]
    assert len(damaged) == -(-3 * len(truth.films) // 10) == len(truth.unreadable) + len(truth.misnamed)
    assert {film.damage for film in damaged} == {"truncated", "empty", "page", "misnamed"}
    for film in truth.films:
        data = (tmp_path / "films" / film.path).read_bytes()
        if film.path in truth.unreadable:
            with pytest.raises((UnidentifiedImageError, OSError)):
                Image.open(BytesIO(data)).load()
        else:
            suffix = {"PNG": ".png", "JPEG": ".jpg"}[Image.open(BytesIO(data)).format or ""]
            assert (suffix != Path(film.path).suffix) == (film.path in truth.misnamed)


def test_copies_of_damaged_films_name_files_that_exist(tmp_path: Path) -> None:
    truth = make_chest_films(tmp_path / "films", dataclasses.replace(SMALL, patients=4, near_copies=1, corrupt=1))
    for copy, original in truth.near_copies:
        assert (tmp_path / "films" / copy).exists()
        assert (tmp_path / "films" / original).exists()


@pytest.mark.parametrize(("strength", "expected"), [(0.0, 0.5), (0.6, 0.8), (1.0, 1.0)])
def test_second_machine_follows_the_label(strength: float, expected: float) -> None:
    truth = plan_chest_films(ChestFilms(patients=600, films_per_patient=(1, 1), machines=2, confounder=strength))
    agree = np.mean([film.second_machine == (film.label == CHEST_CLASSES[1]) for film in truth.films])
    assert agree == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("difference", ["size", "jpeg", "border", "plate"])
def test_second_machine_shows(tmp_path: Path, difference: str) -> None:
    films = dataclasses.replace(SMALL, films_per_patient=(1, 1), confounder=1.0)
    truth = make_chest_films(tmp_path / "films", dataclasses.replace(films, difference=difference))  # pyright: ignore[reportArgumentType]
    for film in truth.films:
        shown = pixels(tmp_path / "films" / film.path)
        traces = {
            "size": shown.shape == (60, 60),
            "jpeg": film.path.endswith(".jpg"),
            "border": bool((shown[0] == 0).all() and (shown[:, -1] == 0).all()),
            "plate": bool((shown[2:4, -8:-2] == 245).all()),
        }
        assert [name for name, there in traces.items() if there] == ([difference] if film.ill else [])


def test_mislabelled_patients_lie_whole_in_the_other_folder() -> None:
    truth = plan_chest_films(dataclasses.replace(SMALL, patients=50, label_noise=0.1))
    assert len(truth.mislabelled) == 5
    assert all(len({film.label for film in truth.films if film.patient == patient}) == 1 for patient in truth.mislabelled)


def test_clean_films_have_no_trouble(tmp_path: Path) -> None:
    truth = make_chest_films(tmp_path / "films", SMALL)
    assert (truth.near_copies, truth.leaked, truth.unreadable, truth.misnamed, truth.mislabelled) == ([], [], [], [], [])
    assert {pixels(path).shape for path in (tmp_path / "films").rglob("*.png")} == {(48, 48)}


# --- The folder and the truth beside it ---


def test_truth_is_written_beside_the_folder(tmp_path: Path) -> None:
    truth = make_chest_films(tmp_path / "films", SMALL)
    written = json.loads((tmp_path / "films.truth.json").read_text(encoding="utf-8"))
    assert {path.name for path in (tmp_path / "films").iterdir()} == set(CHEST_CLASSES)
    assert [film["path"] for film in written["films"]] == [film.path for film in truth.films]
    assert written["best_auc"] == truth.best_auc
    assert written["settings"]["patients"] == 16


def test_what_a_kill_leaves_is_no_phantom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films = ChestFilms(patients=8, side=32)

    def killed(*arguments: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tabib.phantoms.chest._file", killed)
        with pytest.raises(KeyboardInterrupt):
            make_chest_films(tmp_path / "films", films)
    assert not (tmp_path / "films").exists()
    truth = make_chest_films(tmp_path / "films", films)
    assert len(list((tmp_path / "films").rglob("*.png"))) == len(truth.films)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["films", "films.truth.json"]


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for folder in (Path("/proc/films"), tmp_path / "file", tmp_path / "file" / "films"):
        with pytest.raises(RunError, match=f"{folder} could not be written"):
            make_chest_films(folder, SMALL)
    (tmp_path / "films").mkdir()
    monkeypatch.chdir(tmp_path / "films")
    make_chest_films(Path(), SMALL)
    assert (tmp_path / "films.truth.json").exists()


def test_full_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(StudyError, match="not empty"):
        make_chest_films(tmp_path, SMALL)


@pytest.mark.parametrize(
    "wrong",
    [
        {"patients": 1},
        {"patients": 7, "given": True},
        {"films_per_patient": (3, 2)},
        {"side": 8},
        {"corrupt": 1.5},
        {"given_leak": 0.2, "films_per_patient": (1, 1)},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(StudyError, match=r"must be|needs"):
        ChestFilms(**wrong)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("trouble", [{"near_copies": 0.1}, {"corrupt": 0.1}, {"confounder": 1.0}])
def test_trouble_in_files_is_not_rendered_in_memory(trouble: dict[str, float]) -> None:
    with pytest.raises(StudyError, match="make_chest_films"):
        render_chest_films(dataclasses.replace(SMALL, **trouble))  # pyright: ignore[reportArgumentType]


def test_table_makes_the_phantom(tmp_path: Path) -> None:
    truth = PHANTOMS["chest"].make(tmp_path / "films", 8, SILENT)
    assert isinstance(truth, Truth)
    assert truth.images == len(truth.films)
    assert files(tmp_path / "films").keys() == {film.path for film in truth.films}


# --- Several findings on one film ---


def test_several_findings_stand_in_a_table(tmp_path: Path) -> None:
    truth = make_chest_films(tmp_path / "chest", dataclasses.replace(SMALL, several=True))
    lines = (tmp_path / "chest" / "labels.csv").read_text().splitlines()
    assert lines[0] == "path,patient,PNEUMONIA,CARDIOMEGALY,MASS"
    told = {name: (patient, present) for name, patient, *present in (line.split(",") for line in lines[1:])}
    assert {f"films/{name}" for name in told} == {film.path for film in truth.films} == files(tmp_path / "chest").keys() - {"labels.csv"}
    for film in truth.films:
        said = told[film.path.removeprefix("films/")]
        assert said == (str(film.patient), [str(int(name in truth.labels[film.path])) for name in CHEST_LABELS])


def test_a_large_heart_goes_with_pneumonia_and_a_mass_does_not() -> None:
    truth = plan_chest_films(ChestFilms(patients=4000, films_per_patient=(1, 1), several=True))
    ill, heart, mass = (np.array([name in labels for labels in truth.labels.values()]) for name in CHEST_LABELS)
    assert heart[ill].mean() == pytest.approx(0.5, abs=0.04)
    assert heart[~ill].mean() == pytest.approx(0.25, abs=0.04)
    assert mass[ill].mean() == pytest.approx(mass[~ill].mean(), abs=0.05)
    amounts = np.array([film.also_amounts for film in truth.films])
    for place, there in enumerate((heart, mass)):
        assert roc_auc_score(there, amounts[:, place]) == pytest.approx(truth.best_auc, abs=0.01)


def test_further_findings_leave_the_rest_of_the_plan_alone() -> None:
    alone, several = (plan_chest_films(dataclasses.replace(SMALL, several=each)).films for each in (False, True))
    kept = ("patient", "film", "ill", "amount", "exposure")
    assert [[getattr(film, name) for name in kept] for film in alone] == [[getattr(film, name) for name in kept] for film in several]
    with pytest.raises(StudyError, match="class folders"):
        ChestFilms(several=True, label_noise=0.1)
