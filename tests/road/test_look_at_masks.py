"""`tabib look` at folders of images with masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from masked import pairs, save_nifti, save_png, square
from verbs import Tabib


def test_a_structure_named_on_the_line_makes_it_a_look_at_masks(tabib: Tabib, tmp_path: Path) -> None:
    code, said = tabib("look", pairs(tmp_path / "cells"), "--label", "cell=1")
    assert code == 0
    assert (said["images"], said["classes"]) == (6, {"cell": 6})
    assert "structures_counted" in {finding["code"] for finding in said["findings"]}


def test_of_a_study_its_data_are_looked_at(tabib: Tabib, tmp_path: Path) -> None:
    pairs(tmp_path / "cells")
    study = tmp_path / "cells.yaml"
    study.write_text("task: segmentation\nname: cells\ndata: {folder: cells, labels: {cell: 1}}\n")
    code, said = tabib("look", study)
    assert (code, said["images"], said["classes"]) == (0, 6, {"cell": 6})
    assert Path(said["page"]).parent.name == "look-cells"
    code, said = tabib("look", study, "--set", "data.labels={other: 1}")
    assert said["classes"] == {"other": 6}
    code, said = tabib("look", study, "--label", "cell=1")
    assert (code, "is a study, which says how its data lie" in said["error"]) == (2, True)


def test_any_field_of_the_data_can_be_set(tabib: Tabib, tmp_path: Path) -> None:
    for number in range(4):
        save_png(tmp_path / f"cells/{number}.png", square() + number)
        save_png(tmp_path / f"cells/{number}_m.png", square(number + 1))
    line = ["--label", "cell=1", "--set", "data.images=.", "--set", "data.masks=.", "--set", "data.mask_suffix=_m"]
    code, said = tabib("look", tmp_path / "cells", *line, "--set", "data.instances=true")
    assert (code, said["classes"]) == (0, {"cell": 4})
    code, said = tabib("look", tmp_path / "cells", *line)
    assert "numbers_undeclared" in {finding["code"] for finding in said["findings"]}
    code, said = tabib("look", tmp_path / "cells", *line[2:], "--label", "cell=1,2", "--label", "other=3,4")
    assert said["classes"] == {"cell": 2, "other": 2}


def test_a_mask_that_cannot_be_used_is_counted(tabib: Tabib, tmp_path: Path) -> None:
    save_png(pairs(tmp_path / "cells") / "masks/cell2.png", square().T)
    code, said = tabib("look", tmp_path / "cells", "--label", "cell=1")
    assert (code, said["refused"]) == (3, 1)
    found = next(finding for finding in said["findings"] if finding["code"] == "masks_unusable")
    assert "has 24 x 32 pixels, and the image 'images/cell2.png' 32 x 24 pixels" in found["figures"]["reason"]
    assert "unreadable_files" not in {finding["code"] for finding in said["findings"]}


def test_hearts(tabib: Tabib, tmp_path: Path) -> None:
    for patient in range(3):
        for frame in (1, 9):
            for end in ("", "_gt"):
                voxels = np.zeros((3, 20, 20), np.uint8)
                voxels[1, 5:9, 5:9] = 1 if end else 10 * patient + frame
                save_nifti(tmp_path / f"hearts/patient00{patient}/patient00{patient}_frame0{frame}{end}.nii.gz", voxels)
    code, said = tabib("look", tmp_path / "hearts", "--layout", "acdc", "--label", "lv=1")
    assert (code, said["images"], said["refused"]) == (0, 6, 0)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["--label", "cell"], "Write it as --label NAME=NUMBER"),
        (["--label", "cell=one"], "labels"),
        ([], "--label NAME=1"),
        (["--label", "cell=1", "--pattern", "(?P<label>a)"], "--pattern names the class"),
    ],
    ids=["no_number", "no_integer", "no_labels", "pattern"],
)
def test_wrong_use_is_said(tabib: Tabib, tmp_path: Path, line: list[str], words: str) -> None:
    code, said = tabib("look", pairs(tmp_path / "cells", 2), *line)
    assert code == 2
    assert words in said["error"]
