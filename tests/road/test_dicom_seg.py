"""DICOM series and segmentation objects, from the folder to a report and back to a segmentation object."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.uid import MRImageStorage

from images.made import Folder
from planted_masks import SIDE, scene, untrained
from tabib.images import Series, encode_dicom_seg, find_series, laid_on, read_dicom_seg, read_mask, read_volume
from tabib.images.segmentation_object import SEGMENTATION
from tabib.prediction import segment_paths
from tabib.records import SegmentationEvaluation
from tabib.runs import read_result
from verbs import Tabib

NAMES = {1: "Disc", 2: "Square"}
STUDY = """
task: segmentation
name: objects
data: {folder: export, layout: dicom_seg, labels: {square: 1, disc: 2}}
model: {filters: [8, 16]}
input: {patch: [32, 32]}
training: {epochs: 1, batch: 4, patches: 48, learning_rate: 2e-2, device: cpu, precision: fp32, threads: 1}
split: {train: 0.5, validation: 0.25, test: 0.25}
"""


def write_patient(folder: Path, number: int) -> tuple[Series, np.ndarray]:
    """A series of three slices, whose files are not in their order, and what is where on it."""
    image, labels = scene(np.random.default_rng(number), 3)
    folder.mkdir(parents=True)
    files = Folder(folder)
    files.count = 100 * number
    for at in (2, 0, 1):
        own = {"series": f"1.2.{number}", "PatientID": f"P{number}", "StudyInstanceUID": f"1.7.{number}"}
        files.add(image[at].clip(0, 4000).astype(np.uint16), np.array([0, 0, at * 8.0]), SOPClassUID=MRImageStorage, **own)
    (series,), _ = find_series(files.files())
    return series, labels


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("objects")
    (root / "export/objects").mkdir(parents=True)
    for number in range(8):
        series, labels = write_patient(root / f"export/p{number}/series", number)
        content = encode_dicom_seg(labels, series, names=NAMES, made=datetime(2026, 1, 2, tzinfo=UTC), version="1")
        (root / f"export/objects/{number}.dcm").write_bytes(content)
    write_patient(root / "new/p9", 9)
    (root / "study.yaml").write_text(STUDY)
    return root


def test_the_whole_road_ends_in_a_segmentation_object_on_the_source(root: Path, tabib: Tabib, tmp_path: Path) -> None:
    code, said = tabib("look", root / "export", "--layout", "dicom_seg", "--label", "square=1", "--label", "disc=2")
    assert (code, said["images"], said["refused"], said["classes"]) == (0, 8, 0, {"disc": 8, "square": 8})
    code, done = tabib("run", root / "study.yaml", "--runs", tmp_path / "runs")
    assert code == 0
    run = Path(done["run"])
    index, split, findings = (read_result(run, name) for name in ("index", "split", "findings"))
    assert index is not None
    assert split is not None
    assert findings is not None
    assert sorted(index["path"]) == [f"p{number}/series" for number in range(8)]
    assert split["group"].n_unique() == 8, "patients are told apart by the headers"
    assert not {finding.code for finding in findings.findings if finding.level == "fail"}
    evaluation = read_result(run, "evaluation")
    assert isinstance(evaluation, SegmentationEvaluation)
    assert evaluation.structures == ["square", "disc"]
    assert {path.name for path in run.glob("report.*")} == {"report.en.html", "report.fa.html"}

    new = root / "new"
    code, plain = tabib("predict", run, new, "-o", tmp_path / "plain")
    assert (code, [row["path"] for row in plain["predictions"]]) == (0, [str(new / "p9")])
    code, said = tabib("predict", run, new, "-o", tmp_path / "objects", "--dicom-seg")
    assert (code, said["predictions"][0]["mask"]) == (0, str(tmp_path / "objects/p9_mask.dcm"))
    source = read_volume(new)
    assert source.affine is not None
    stored, names = read_dicom_seg(tmp_path / "objects/p9_mask.dcm", source)
    assert names == {1: "square", 2: "disc"}
    assert np.array_equal(stored.voxels, laid_on(read_mask(tmp_path / "plain/p9_mask.nii.gz"), source).voxels)
    written = dcmread(tmp_path / "objects/p9_mask.dcm")
    pictures = [dcmread(file) for file in new.rglob("*") if file.is_file()]
    assert (written.SOPClassUID, written.StudyInstanceUID, written.PatientID) == (SEGMENTATION, "1.7.9", "P9")
    referred = {one.ReferencedSOPInstanceUID for one in written.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert written.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.9"
    assert referred == {one.SOPInstanceUID for one in pictures}
    # What was written is read as any other object.
    shutil.copytree(new, tmp_path / "again/series")
    shutil.copy(tmp_path / "objects/p9_mask.dcm", tmp_path / "again/mask.dcm")
    code, said = tabib("look", tmp_path / "again", "--layout", "dicom_seg", "--label", "square=1", "--label", "disc=2")
    assert (code, said["images"]) == (0, 1)

    # Millimetres that the study does not believe make no millilitres.
    (row,) = plain["predictions"]
    assert row["ml_disc"] == pytest.approx(row["voxels_disc"] * abs(np.linalg.det(source.affine[:3, :3])) / 1000)
    manifest = json.loads((run / "manifest.json").read_text("utf-8"))
    manifest["given"]["data"]["spacing"] = "nominal"
    (run / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    code, said = tabib("predict", run, new, "-o", tmp_path / "nominal")
    assert code == 0
    assert said["predictions"][0] == row | {"mask": str(tmp_path / "nominal/p9_mask.nii.gz"), "ml_square": None, "ml_disc": None}


def test_an_object_lies_on_a_series_or_not_at_all(tmp_path: Path) -> None:
    for name, number in (("a", 1), ("b", 2)):
        write_patient(tmp_path / f"both/{name}", number)
    Image.fromarray(np.full((SIDE, SIDE), 9, np.uint8)).save(tmp_path / "both/film.png")
    made = datetime(2026, 1, 2, tzinfo=UTC)
    found = segment_paths(untrained(bias=9.0), [tmp_path / "both"], tmp_path / "out", objects_made=made)
    assert found["path"].to_list() == [str(tmp_path / "both" / name) for name in ("a", "b", "film.png")]
    assert found["mask"].to_list() == [str(tmp_path / f"out/{name}_mask.dcm") for name in ("a", "b")] + [None]
    assert "is no DICOM picture" in found["refused"][2]
    empty = segment_paths(untrained(bias=-9.0), [tmp_path / "both/a"], tmp_path / "empty", objects_made=made)
    assert "shows none of the structures" in empty["refused"][0]
    one = min((tmp_path / "both/a").iterdir())
    alone = segment_paths(untrained(bias=9.0), [one], tmp_path / "one", objects_made=made)
    assert alone["mask"][0] == str(tmp_path / f"one/{one.name}_mask.dcm")


def test_several_time_points_are_images_of_their_own(tmp_path: Path) -> None:
    files = Folder(tmp_path / "film")
    for time in range(2):
        for at in range(3):
            pixels = np.full((SIDE, SIDE), 100 * time + at, np.uint16)
            files.add(pixels, np.array([0, 0, at * 8.0]), SOPClassUID=MRImageStorage, TriggerTime=30.0 * time)
    made = datetime(2026, 1, 2, tzinfo=UTC)
    found = segment_paths(untrained(bias=9.0), [tmp_path / "film"], tmp_path / "out", objects_made=made)
    assert found["path"].to_list() == [f"{tmp_path / 'film'}[{time}]" for time in range(2)]
    for time, mask in enumerate(found["mask"]):
        stored, _ = read_dicom_seg(Path(mask), read_volume(tmp_path / f"film[{time}]"))
        assert stored.voxels.all()
    asked = segment_paths(untrained(bias=9.0), [tmp_path / "film[1]"], tmp_path / "second", objects_made=made)
    assert Path(asked["mask"][0]).read_bytes() == Path(found["mask"][1]).read_bytes()


def test_a_series_that_lacks_a_slice_is_refused_whole(tmp_path: Path) -> None:
    write_patient(tmp_path / "a", 1)
    files = Folder(tmp_path / "a")
    files.count = 200
    files.add(
        np.zeros((SIDE, SIDE), np.uint16),
        np.array([0, 0, 40.0]),
        SOPClassUID=MRImageStorage,
        series="1.2.1",
        StudyInstanceUID="1.7.1",
        PatientID="P1",
    )
    found = segment_paths(untrained(bias=9.0), [tmp_path / "a"], tmp_path / "out")
    assert len(found) == 1
    assert "after slice" in found["refused"][0]
