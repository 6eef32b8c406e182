"""A finished segmenter on images of another source: their numbers mean what was said, and what is not outlined is not judged."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from planted_masks import scene, write_pictures, write_volumes
from tabib.cli import app
from tabib.config import Data, Segmentation, SegmentationData
from tabib.errors import StudyError
from tabib.external import judge_external
from tabib.images import ImageFacts, Volume, encode_nifti, read_mask
from tabib.records import External, SegmentationEvaluation
from tabib.runs import open_run, read_run
from tabib.study import run_study

STUDY = {
    "task": "segmentation",
    "input": {"patch": [32, 32]},
    "model": {"filters": [8, 16]},
    "split": {"train": 0.3, "validation": 0.2, "test": 0.5},
    "training": {"epochs": 6, "batch": 4, "patches": 32, "learning_rate": 0.02, "device": "cpu", "precision": "fp32", "threads": 1},
}


def finish(root: Path, data: dict[str, object]) -> Path:
    study = Segmentation.model_validate({**STUDY, "name": root.name, "data": data})
    with open_run(study, root=root / "runs") as run:
        return run_study(run.given, run).folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on volumes whose millimetres are nominal."""
    root = tmp_path_factory.mktemp("own")
    write_volumes(root / "volumes", patients=20)
    return finish(root, {"folder": root / "volumes", "labels": {"disc": 1, "square": 2}, "group": r"(p\d+)", "spacing": "nominal"})


@pytest.fixture(scope="module")
def others(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve patients with larger pixels, brighter, whose masks call the disc 7 and something else 9; and a volume of the run."""
    folder, random = tmp_path_factory.mktemp("other") / "volumes", np.random.default_rng(8)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    affine = np.array([[0, 0, 2.0, 0], [0, 2.0, 0, 0], [8.0, 0, 0, 0], [0, 0, 0, 1]])
    facts = ImageFacts(format="NIfTI", bits=16, mode="int16")
    for patient in range(12):
        image, mask = scene(random, 5)
        for part, voxels in (("images", image + np.int16(300)), ("masks", np.array([0, 7, 9], np.uint8)[mask])):
            (folder / part / f"q{patient:02}.nii.gz").write_bytes(encode_nifti(Volume(voxels, affine, (8.0, 2.0, 2.0), facts)))
    own = read_run(finished).given.data.folder
    shutil.copy(own / "images/p00.nii.gz", folder / "images/q90.nii.gz")
    shutil.copy(own / "masks/p00.nii.gz", folder / "masks/q90.nii.gz")
    return folder


@pytest.fixture(scope="module")
def judged(finished: Path, others: Path) -> tuple[External, SegmentationEvaluation, list[Path]]:
    with read_run(finished) as run:
        data = SegmentationData.model_validate({"folder": others, "labels": {"disc": 7}, "group": r"(q\d+)"})
        external, pages = judge_external(run, data, name="hospital_b")
    assert isinstance(external.evaluation, SegmentationEvaluation)
    return external, external.evaluation, pages


@pytest.mark.slow
def test_their_number_is_taken_and_what_they_do_not_outline_is_left_out(
    finished: Path, others: Path, judged: tuple[External, SegmentationEvaluation, list[Path]]
) -> None:
    external, evaluation, _ = judged
    assert evaluation.structures == ["disc"]
    assert external.unsaid == ["square"]
    assert {each.of for each in external.drop} == {"disc"}
    case = evaluation.parts[0].cases[0]
    stored = read_mask(finished / "external/hospital_b" / f"masks/{case.row}.nii.gz")
    truth = read_mask(others / case.path.replace("images", "masks")).voxels == 7
    assert set(np.unique(stored.voxels)) == {0, 7}
    assert case.structures[0].true_positive == np.sum((stored.voxels == 7) & truth)
    assert case.structures[0].dice is not None
    assert case.structures[0].dice > 0.5, "it was learnt"
    remarks = {each.code: each for each in evaluation.remarks}
    assert remarks["external_numbers"].figures == {"numbers": "9", "images": 12}
    assert len(external.copies) == 1, "the volume of the run"
    assert evaluation.parts[0].rows == 12


@pytest.mark.slow
def test_what_differs_is_said(judged: tuple[External, SegmentationEvaluation, list[Path]]) -> None:
    external, evaluation, _ = judged
    beside = {each.name: each for each in external.beside}
    assert (beside["spacing_mm"].own, beside["spacing_mm"].external) == ([], [2.0, 2.0, 2.0]), "nominal ones say nothing"
    assert beside["width_seen"].external[1] / beside["width_seen"].own[1] == pytest.approx(2 / 1.5, rel=0.1)
    assert "external_scale" in {each.code for each in evaluation.remarks}
    assert all(case.millimetres for case in evaluation.parts[0].cases)
    assert [each.name for each in evaluation.agreements] == ["volume_ml"], "theirs are true, whatever the run's are"
    drop = next(each for each in external.drop if each.name == "dice")
    assert drop.low is not None


@pytest.mark.slow
def test_a_page_in_each_language_shows_it(judged: tuple[External, SegmentationEvaluation, list[Path]]) -> None:
    _, _, pages = judged
    assert [page.name for page in pages] == ["external.hospital_b.en.html", "external.hospital_b.fa.html"]
    english, persian = (re.sub(r"<(style|svg).*?</\1>|<[^>]*>", "", page.read_text("utf-8"), flags=re.DOTALL) for page in pages)
    for words in ("disc is number 7 of their masks", "say nothing of square", "Both sets side by side", "A structure of another size"):
        assert words in english, words
    assert "دو مجموعه در کنار هم" in persian
    assert pages[0].read_text("utf-8").count('<figure class="tile"><img') > 4, "outlines of truth and prediction"
    assert not re.search(r"\b(external|beside|structures)\.[a-z]", english + persian)


@pytest.mark.slow
def test_the_command_says_what_is_missing(finished: Path, others: Path) -> None:
    def call(*options: str) -> object:
        return CliRunner().invoke(app, ["evaluate", str(finished), "--on", str(others), *options]).exception

    assert "--label disc=… --label square=…" in str(call())
    assert "Did you mean disc" in str(call("--label", "disk=7"))
    assert isinstance(call("--label", "disc=7", "--layout", "class_folders"), StudyError)
    told = others.parent / "data.yaml"
    told.write_text(f"data: {{folder: {others}, labels: {{disc: 7}}, ignored: [9], group: '(q\\d+)'}}", encoding="utf-8")
    done = CliRunner().invoke(app, ["evaluate", str(finished), "--data", str(told), "--name", "told", "--json"])
    assert done.exit_code == 0, done.output
    remarks = json.loads(done.stdout)["external"]["evaluation"]["remarks"]
    assert "external_numbers" not in {each["code"] for each in remarks}
    with read_run(finished) as run, pytest.raises(StudyError, match="task: segmentation"):
        judge_external(run, Data(folder=others), name="other")


@pytest.mark.slow
def test_objects_are_judged_as_objects_or_as_one_structure(finished: Path, tmp_path: Path) -> None:
    for name in ("own", "other"):
        write_pictures(tmp_path / name)
    for path in sorted((tmp_path / "other").rglob("*.png")):  # other pictures: turned
        with Image.open(path) as picture:
            turned = np.rot90(np.asarray(picture))
        Image.fromarray(turned).save(path)
    run = finish(tmp_path, {"folder": tmp_path / "own", "labels": {"nucleus": 1}, "instances": True, "group": r"(p\d+)"})
    found = {}
    for name, told in (("objects", {"labels": {"nucleus": 1}, "instances": True}), ("one", {"labels": {"nucleus": [1, 2]}})):
        with read_run(run) as opened:
            data = SegmentationData.model_validate({"folder": tmp_path / "other", "group": r"(p\d+)", **told})
            found[name] = judge_external(opened, data, name=name)[0]
    names = {name: {each.name for each in external.drop} for name, external in found.items()}
    assert "panoptic_quality" in names["objects"]
    assert "panoptic_quality" not in names["one"]
    dice = [next(each.value for each in external.drop if (each.name, each.of) == ("dice", "nucleus")) for external in found.values()]
    assert dice[0] == pytest.approx(dice[1], abs=0.02), "the same masks but for specks that are no objects"
    with read_run(finished) as opened, pytest.raises(StudyError, match="tells no objects apart"):
        judge_external(opened, data.model_copy(update={"labels": {"disc": 1}, "instances": True}), name="no")
