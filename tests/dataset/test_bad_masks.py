"""Folders of images and masks with everything that goes wrong in practice: each a finding, or a row with a reason that helps."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import polars as pl
import pytest

from masked import pairs, save_nifti, study
from tabib.dataset import Grid, index_folder, inspect_dataset, prepare
from tabib.images import read_volume
from tabib.records import Finding

VOXELS = np.random.default_rng(2).integers(0, 99, (20, 16, 3)).astype(np.int16)  # rows and columns before slices, as nibabel has them
CUBE = np.zeros((20, 16, 3), np.uint8)
CUBE[6:12, 5:9] = 1


def save(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None, *, spacing: tuple[float, ...] | None = None) -> None:
    """Write a NIfTI file whose header says any affine matrix, or any spacing and nothing else of where its voxels lie."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = bytearray(nibabel.Nifti1Image(voxels, np.eye(4)).to_bytes())
    if spacing is None:
        rows = (np.diag([1.5, 1.5, 8.0, 1.0]) if affine is None else affine)[:3]
        file[280:328] = struct.pack("<12f", *rows.ravel())
    else:
        file[80:92] = struct.pack("<3f", *spacing)
    file[252:256] = struct.pack("<2h", 0, int(spacing is None))  # the codes of quaternion and matrix
    path.write_bytes(file)


def bad(folder: Path, name: str = "bad", *, image: dict[str, Any] | None = None, mask: dict[str, Any] | None = None) -> pl.DataFrame:
    """Good pairs, and one whose image or mask is written otherwise."""
    for number in range(3):
        save(folder / f"images/good{number}.nii", VOXELS + number)
        save(folder / f"masks/good{number}.nii", CUBE)
    written: dict[str, Any] = {"voxels": VOXELS[::-1], **(image or {})}
    save(folder / f"images/{name}.nii", **written)
    written = {"voxels": CUBE, **(mask or {})}
    save(folder / f"masks/{name}.nii", **written)
    found = index_folder(study(folder).data, workers=1)
    assert found.filter(pl.col("path").str.contains("good"))["refused"].null_count() == 3, "one bad image takes no other away"
    return found


def reason(found: pl.DataFrame, name: str = "bad") -> str:
    (said,) = found.filter(pl.col("path").str.contains(name))["refused"]
    return said or ""


def findings(found: pl.DataFrame, folder: Path, *, input: dict[str, Any] | None = None, **data: Any) -> dict[str, Finding]:
    asked = study(folder, **data)
    asked = type(asked).model_validate(asked.model_dump() | {"input": input or {}})
    return {finding.code: finding for finding in inspect_dataset(found, asked).findings}


MIRRORED = np.diag([-1.5, 1.5, 8.0, 1.0])
FLAT = np.array([[1.5, 0, 0, 0], [0, 1.5, 0, 0], [0, 3.0, 0, 0], [0, 0, 0, 1]])
FLAT[:, 2] = FLAT[:, 1]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ({"spacing": (np.nan, 1.5, 8.0)}, "spacing"),
        ({"affine": np.diag([np.nan, 1.5, 8.0, 1.0])}, "no numbers"),
        ({"affine": FLAT}, "singular affine matrix"),
        ({"affine": np.diag([1.5, 1.5, 0.0, 1.0])}, "singular affine matrix"),
        ({"voxels": np.stack([VOXELS] * 4, -1)}, "4 volumes"),
    ],
    ids=["nan_spacing", "nan_affine", "singular", "no_depth", "four_dimensions"],
)
def test_an_image_that_is_no_volume_is_refused_with_what_to_do(tmp_path: Path, image: dict[str, Any], words: str) -> None:
    said = reason(bad(tmp_path, image=image))
    assert words in said
    assert ";" in said, "says what to do"
    assert "bad.nii" in said


def test_a_mask_that_is_no_volume_names_both_files(tmp_path: Path) -> None:
    said = reason(bad(tmp_path, mask={"voxels": np.stack([CUBE] * 2, -1)}))
    assert said.startswith("the mask 'masks/bad.nii' of 'images/bad.nii' cannot be used: ")
    assert "2 volumes" in said


def test_a_mirrored_volume_is_a_good_one(tmp_path: Path) -> None:
    found = bad(tmp_path, image={"affine": MIRRORED}, mask={"affine": MIRRORED})
    assert found["refused"].null_count() == len(found)
    assert "masks_moved" not in findings(found, tmp_path)


def test_a_mirrored_mask_on_an_upright_image_says_another_place(tmp_path: Path) -> None:
    found = bad(tmp_path, image={"affine": np.diag([1.5, 1.5, 8.0, 1.0])}, mask={"affine": MIRRORED})
    assert findings(found, tmp_path)["masks_moved"].rows == found.filter(pl.col("path").str.contains("bad"))["row"].to_list()


def test_one_slice_among_volumes(tmp_path: Path) -> None:
    found = bad(tmp_path, image={"voxels": VOXELS[..., :1]}, mask={"voxels": CUBE[..., :1]})
    assert found["refused"].null_count() == len(found)
    said = findings(found, tmp_path, input={"dimensions": 3})
    assert (said["single_slices"].level, said["single_slices"].figures["images"]) == ("warn", 1)
    assert "single_slices" not in findings(found, tmp_path)


def test_labels_out_of_range_stop_the_study_and_name_the_numbers(tmp_path: Path) -> None:
    found = bad(tmp_path, mask={"voxels": np.where(CUBE, 7, 0).astype(np.int16)})
    finding = findings(found, tmp_path)["numbers_undeclared"]
    assert (finding.level, finding.figures["by_number"]) == ("fail", {"7": [72]})


def test_numbers_of_any_size_can_be_ignored(tmp_path: Path) -> None:
    found = bad(tmp_path, mask={"voxels": np.where(CUBE, 70_000, 0).astype(np.int32)})
    assert findings(found, tmp_path)["numbers_undeclared"].figures["by_number"] == {"70000": [72]}
    assert "numbers_undeclared" not in findings(found, tmp_path, ignored=[70_000, 2**32 - 1])


def test_voxels_that_are_no_numbers_are_the_darkest_and_an_image_of_nothing_else_is_refused(tmp_path: Path) -> None:
    voxels = VOXELS.astype(np.float32)
    voxels[:5] = np.nan
    voxels[5] = np.inf
    found = bad(tmp_path, image={"voxels": voxels})
    assert not reason(found)
    finding = findings(found, tmp_path)["voxels_without_value"]
    assert finding.figures["most"] == pytest.approx(6 / 20)
    image = read_volume(tmp_path / "images/bad.nii")
    for intensity in ("zscore", "percentile", "unit"):
        seen = prepare(image, Grid(2, None, 1, intensity, None))[0].astype(np.float32)
        lost = ~np.isfinite(image.voxels)
        assert np.isfinite(seen).all()
        assert (seen[lost] == seen[~lost].min()).all()
        assert seen[~lost].std() > 0.1
    (tmp_path / "again").mkdir()
    assert "holds no value that is a number" in reason(bad(tmp_path / "again", image={"voxels": np.full(VOXELS.shape, np.nan, np.float32)}))


def test_patients_of_one_phase(tmp_path: Path) -> None:
    for patient in (1, 2, 3):
        for frame in (1, 9) if patient < 3 else (1,):
            stem = tmp_path / f"patient{patient:03}/patient{patient:03}_frame{frame:02}"
            save_nifti(stem.with_name(f"{stem.name}.nii.gz"), (np.moveaxis(VOXELS, 2, 0) + 10 * patient + frame).astype(np.int16))
            save_nifti(stem.with_name(f"{stem.name}_gt.nii.gz"), np.moveaxis(CUBE, 2, 0))
        (tmp_path / f"patient{patient:03}/Info.cfg").write_text("ED: 1\nES: 9\nGroup: DCM\nNbFrame: 30\n")
    asked = study(tmp_path, layout="acdc")
    found = index_folder(asked.data, workers=1)
    assert found["refused"].null_count() == len(found) == 5
    assert [json.loads(text) for text in found["facts"]][4] == {"frame": "1", "phase": "ED", "phase_from": "Info.cfg", "diagnosis": "DCM"}
    finding = findings(found, tmp_path, layout="acdc")["phases_incomplete"]
    assert (finding.rows, finding.figures["patients"]) == ([4], 1)
    assert "refused_names" not in findings(found, tmp_path, layout="acdc")


def test_a_crowd_of_faults_leaves_the_good_ones(tmp_path: Path) -> None:
    pairs(tmp_path, 4)
    (tmp_path / "masks/cell0.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "images/cell1.png").write_bytes(b"")
    found = index_folder(study(tmp_path).data, workers=1)
    assert [said is None for said in found["refused"]] == [False, False, True, True]
