from __future__ import annotations

import csv
import dataclasses
import hashlib
import math
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tabib.errors import StudyError
from tabib.images.read_volume import read_volume
from tabib.phantoms import HEART_FAULTS, HEART_GROUPS, HeartScans, make_heart_scans, plan_heart_scans, render_heart
from tabib.phantoms.heart import UNDECLARED
from tabib.phantoms.ventricles import LABELS, Ventricles, label_slice, volume_bound, volumes

SMALL = HeartScans(patients=5, side=72, pixel=(2.4, 2.6))


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()
    }


def rows(folder: Path) -> list[dict[str, str]]:
    with folder.with_name(f"{folder.name}.truth.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def array(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)  # pyright: ignore[reportAttributeAccessIssue, reportPrivateImportUsage]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "hearts"
    make_heart_scans(folder, SMALL)
    return folder


PLAIN = Ventricles(
    radius=25,
    length=80,
    oval=0,
    oval_at=0,
    wall=9,
    scar=0,
    scar_at=0,
    right_depth=0,
    right_length=70,
    right_reach=1.4,
    right_at=math.pi,
)


def test_volumes_of_half_ellipsoids_are_those_of_geometry() -> None:
    found = volumes(PLAIN)
    cavity, outside = 2 / 3 * math.pi * 25**2 * 80 / 1000, 2 / 3 * math.pi * 34**2 * 89 / 1000
    assert found == pytest.approx({"lv": cavity, "myocardium": outside - cavity, "rv": 0}, rel=1e-9)


def test_oval_cavity_and_scar_are_integrated() -> None:
    shape = dataclasses.replace(PLAIN, oval=0.1, scar=0.6)
    found = volumes(shape)
    assert found["lv"] == pytest.approx(2 / 3 * math.pi * 25**2 * (1 + 0.1**2 / 2) * 80 / 1000, rel=1e-9)
    angle = np.linspace(-np.pi, np.pi, 200_000, endpoint=False)
    outer = 25 * (1 + 0.1 * np.cos(2 * angle)) + 9 * (1 - 0.6 * np.cos(angle / 2) ** 4)
    assert found["lv"] + found["myocardium"] == pytest.approx(2 / 3 * 89 * 0.5 * 2 * np.pi * (outer**2).mean() / 1000, rel=1e-9)


def test_right_ventricle_is_integrated() -> None:
    shape = dataclasses.replace(PLAIN, right_depth=38)
    angle, z = np.meshgrid(np.linspace(-1.4, 1.4, 2001), np.linspace(0, 70, 2001))
    inner = 34 * np.sqrt(1 - (z / 89) ** 2)
    outer = inner + 38 * (1 - (angle / 1.4) ** 2) * (1 - (z / 70) ** 2)
    known = np.trapezoid(np.trapezoid((outer**2 - inner**2) / 2, angle[0], axis=1), z[:, 0]) / 1000
    assert volumes(shape)["rv"] == pytest.approx(known, rel=1e-6)


def test_right_ventricle_agrees_with_a_fine_grid() -> None:
    shape = dataclasses.replace(PLAIN, right_depth=38, oval=0.05, scar=0.5)
    x, y = np.meshgrid(np.arange(-80, 60, 0.5), np.arange(-70, 70, 0.5))
    slices = [label_slice(shape, z, x, y) for z in np.arange(0.5, 90, 1.0)]
    for name, value in LABELS.items():
        counted = sum(int((labels == value).sum()) for labels in slices) * 0.25 / 1000
        assert volumes(shape)[name] == pytest.approx(counted, rel=2e-3), name


@pytest.mark.parametrize("shift", [(0, 0), (0.31, 0.77), (1.2, 0.4)])
@pytest.mark.parametrize(("pixel", "thickness"), [(1.5, 8.0), (4.0, 5.0), (0.8, 14.0)])
def test_voxels_lie_within_the_bound(pixel: float, thickness: float, shift: tuple[float, float]) -> None:
    shape = dataclasses.replace(PLAIN, right_depth=38, scar=0.5)
    x, y = np.meshgrid(np.arange(-90, 70, pixel) + shift[0], np.arange(-80, 80, pixel) + shift[1])
    bounds = volume_bound(shape, pixel=pixel, slice_thickness=thickness)
    for name, value in LABELS.items():
        counted = sum(int((label_slice(shape, z, x, y) == value).sum()) for z in np.arange(thickness / 2, 110, thickness))
        assert abs(volumes(shape)[name] - counted * pixel**2 * thickness / 1000) < bounds[name], name


def test_bound_shrinks_with_the_voxels() -> None:
    coarse, fine = (volume_bound(PLAIN, pixel=pixel, slice_thickness=4 * pixel)["lv"] for pixel in (2.0, 0.5))
    assert fine < coarse / 3.5


def test_voxels_of_the_files_lie_near_the_true_volumes(made: Path) -> None:
    for row in rows(made):
        for name, value in LABELS.items():
            true, counted, bound = (float(row[f"{name}_{what}"]) for what in ("ml", "voxels_ml", "bound_ml"))
            assert abs(true - counted) < bound
            assert counted == pytest.approx(true, rel=0.05)
            labels = nibabel.load(made / row["mask"])  # pyright: ignore[reportPrivateImportUsage]
            sides = labels.header.get_zooms()  # pyright: ignore[reportAttributeAccessIssue]
            counts = int((array(made / row["mask"]) == value).sum())
            assert counts * float(np.prod(sides)) / 1000 == pytest.approx(counted, rel=1e-3)


def test_groups_differ_as_their_names_say() -> None:
    truth = plan_heart_scans(HeartScans(patients=25))
    ejection, left, right, wall = ({group: [] for group in HEART_GROUPS} for _ in range(4))
    for heart in truth.hearts[::2]:
        ejection[heart.group].append(truth.ejection_fraction(heart.patient))
        left[heart.group].append(heart.volumes_ml["lv"])
        right[heart.group].append(heart.volumes_ml["rv"])
        wall[heart.group].append(heart.shape.wall)
    assert max(ejection["DCM"]) < 0.4 < min(ejection["NOR"])
    assert max(ejection["MINF"]) < 0.45
    assert min(left["DCM"]) > max(left["NOR"])
    assert min(right["RV"]) > max(right["NOR"])
    assert min(wall["HCM"]) > 1.4 * max(wall["NOR"])


def test_myocardium_neither_grows_nor_shrinks_and_thickens() -> None:
    hearts = plan_heart_scans(HeartScans(patients=10)).hearts
    for diastole, systole in zip(hearts[::2], hearts[1::2], strict=True):
        assert (diastole.phase, systole.phase, diastole.patient) == ("ED", "ES", systole.patient)
        assert systole.volumes_ml["myocardium"] == pytest.approx(diastole.volumes_ml["myocardium"], abs=1e-3)
        assert systole.volumes_ml["lv"] < diastole.volumes_ml["lv"]
        assert systole.shape.wall > diastole.shape.wall


def test_folder_is_laid_out_as_acdc(made: Path) -> None:
    truth = plan_heart_scans(SMALL)
    assert files(made).keys() == {
        *(heart.image for heart in truth.hearts),
        *(heart.mask for heart in truth.hearts),
        *(f"patient{patient:03d}/Info.cfg" for patient in range(1, 6)),
    }
    card = dict(line.split(": ") for line in (made / "patient002" / "Info.cfg").read_text().splitlines())
    assert card.keys() == {"ED", "ES", "Group", "Height", "NbFrame", "Weight"}
    assert card["Group"] == "DCM"
    assert (made / f"patient002/patient002_frame{int(card['ES']):02d}.nii.gz").exists()
    assert len(rows(made)) == truth.images == 10


def test_files_have_their_place_in_the_body(made: Path) -> None:
    heart = plan_heart_scans(SMALL).hearts[0]
    picture, labels = render_heart(heart, SMALL)
    for path, voxels in ((heart.image, picture), (heart.mask, labels)):
        image = nibabel.load(made / path)  # pyright: ignore[reportPrivateImportUsage]
        assert nibabel.aff2axcodes(image.affine) == ("L", "P", "I")  # pyright: ignore[reportAttributeAccessIssue, reportPrivateImportUsage]
        assert image.header.get_zooms() == pytest.approx((heart.pixel, heart.pixel, heart.slice_thickness))  # pyright: ignore[reportAttributeAccessIssue]
        assert np.array_equal(array(made / path), voxels.transpose(2, 1, 0))
        assert array(made / path).dtype == voxels.dtype
        read = read_volume(made / path)
        assert np.array_equal(read.voxels, voxels)
        assert read.spacing_mm == pytest.approx((heart.slice_thickness, heart.pixel, heart.pixel))


def test_slices_go_from_above_the_base_to_the_apex() -> None:
    for heart in plan_heart_scans(SMALL).hearts:
        _, labels = render_heart(heart, SMALL)
        present = [set(np.unique(labels[number])) for number in range(heart.slices)]
        assert all(values == {0} for values in present[: heart.base])
        assert present[heart.base] == {0, 1, 2, 3}
        assert 1 not in present[-1]


def test_structures_differ_in_brightness() -> None:
    scans = dataclasses.replace(SMALL, side=128, pixel=(1.5, 1.5))
    picture, labels = render_heart(plan_heart_scans(scans).hearts[0], scans)
    grey = {name: np.median(picture[labels == value]) for name, value in LABELS.items()}
    assert grey["lv"] > 1.8 * grey["myocardium"]
    assert grey["rv"] > 1.8 * grey["myocardium"]


def test_same_settings_give_same_bytes_and_another_seed_others(made: Path, tmp_path: Path) -> None:
    few = dataclasses.replace(SMALL, patients=1)
    make_heart_scans(tmp_path / "again", few)
    again = files(tmp_path / "again")
    assert again == {name: digest for name, digest in files(made).items() if name.startswith("patient001/")}  # more leave the others alone
    make_heart_scans(tmp_path / "other", dataclasses.replace(few, seed=1))
    assert not set(again.values()) & set(files(tmp_path / "other").values())


def test_planted_faults_are_what_they_are_called(made: Path, tmp_path: Path) -> None:
    scans = dataclasses.replace(SMALL, faults=0.5)
    truth = make_heart_scans(tmp_path / "hearts", scans)
    assert sorted(heart.fault for heart in truth.hearts if heart.fault) == sorted(HEART_FAULTS)
    assert [row["fault"] or None for row in rows(tmp_path / "hearts")] == [heart.fault for heart in truth.hearts]
    for heart in truth.hearts:
        spoilt, clean = (array(folder / heart.mask) for folder in (tmp_path / "hearts", made))
        assert np.array_equal(array(tmp_path / "hearts" / heart.image), array(made / heart.image))
        if heart.fault is None:
            assert np.array_equal(spoilt, clean)
        elif heart.fault == "shifted":
            assert np.bincount(spoilt.ravel()).tolist() == np.bincount(clean.ravel()).tolist()
            assert not np.array_equal(spoilt, clean)
        elif heart.fault == "swapped":
            assert np.array_equal(spoilt == 1, clean == 3)
            assert np.array_equal(spoilt == 3, clean == 1)
        elif heart.fault == "missing_slice":
            gone = [number for number in range(heart.slices) if clean[..., number].any() and not spoilt[..., number].any()]
            assert len(gone) == 1
            assert spoilt[..., gone[0] - 1].any()
            assert spoilt[..., gone[0] + 1].any()
        elif heart.fault == "other_shape":
            assert spoilt.shape[2] == clean.shape[2]
            assert spoilt.shape[0] < clean.shape[0]
        else:
            assert set(np.unique(spoilt)) == {0, 1, 2, 3, UNDECLARED}


@pytest.mark.parametrize(
    "wrong",
    [
        {"patients": 0},
        {"side": 20},
        {"faults": 2.0},
        {"fault_kinds": ("torn",)},
        {"slice_thickness": ()},
        {"pixel": (2.0, 1.0)},
        {"noise": -1.0},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(StudyError, match="must"):
        HeartScans(**wrong)  # pyright: ignore[reportArgumentType]
