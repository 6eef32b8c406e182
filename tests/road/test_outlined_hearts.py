"""Hearts that were outlined by hand, from DICOM files and text to a judged model and back to a film."""

from __future__ import annotations

from pathlib import Path

import pytest

from outlined import DIASTOLE, write_sunnybrook
from tabib.config import Segmentation
from tabib.images import read_mask
from tabib.prediction.masks import segment_paths
from tabib.prediction.segmenter import Segmenter
from tabib.runs import open_run
from tabib.study import run_study
from verbs import Tabib


def test_a_look(tabib: Tabib, tmp_path: Path) -> None:
    code, said = tabib("look", write_sunnybrook(tmp_path / "hearts"), "--layout", "sunnybrook", "--label", "lv=1")
    assert (code, said["images"], said["refused"], said["classes"]) == (0, 4, 0, {"lv": 4})


@pytest.mark.slow
def test_the_whole_road(tmp_path: Path) -> None:
    write_sunnybrook(tmp_path / "hearts", patients=8)
    study = Segmentation.model_validate(
        {
            "task": "segmentation",
            "name": "outlined",
            "data": {"folder": tmp_path / "hearts", "layout": "sunnybrook", "labels": {"lv": 1}},
            "model": {"filters": [8, 16]},
            "training": {"epochs": 2, "batch": 4, "patches": 24, "learning_rate": 0.02, "device": "cpu", "precision": "fp32", "threads": 1},
        }
    )
    with open_run(study, root=tmp_path) as run:
        run_study(study, run)
    evaluation = run.read("evaluation")
    assert {case.phase for case in evaluation.parts[1].cases} == {"ED", "ES"}
    assert {agreement.name for agreement in evaluation.agreements} == {"edv_ml", "esv_ml", "ejection_fraction"}
    film = tmp_path / f"hearts/dicoms/SCD0000001[{DIASTOLE}]"
    said = segment_paths(Segmenter.load(run.folder / "model", device="cpu"), [film], tmp_path / "masks")
    assert said["refused"].to_list() == [None]
    assert read_mask(Path(said["mask"][0])).voxels.shape == (5, 48, 48)
