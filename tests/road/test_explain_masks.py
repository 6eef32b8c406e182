"""`tabib explain` of a segmenter: pictures of the probabilities that its masks are made of, in a folder and in the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from planted_masks import write_pictures, write_volumes
from tabib.config import Segmentation
from tabib.images import box_around, read_image, read_volume
from tabib.prediction import Segmenter
from tabib.runs import open_run
from tabib.study import run_study
from verbs import Tabib


@pytest.fixture(scope="module", params=["pictures", "volumes"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("explained")
    (write_pictures if request.param == "pictures" else write_volumes)(root / "data")
    values = {
        "task": "segmentation",
        "name": "planted",
        "data": {"folder": root / "data", "labels": {"disc": 1, "square": 2}, "group": r"(p\d+)"},
        "input": {"patch": [32, 32]},
        "model": {"filters": [8, 16]},
        "training": {"epochs": 3, "batch": 4, "patches": 32, "learning_rate": 0.02, "device": "cpu", "precision": "fp32", "threads": 1},
    }
    with open_run(Segmentation.model_validate(values), root=root / "runs") as run:
        return run_study(run.given, run).folder


def test_new_images_are_explained_in_a_folder(finished: Path, tabib: Tabib, tmp_path: Path) -> None:
    images = finished.parents[2] / "data" / "images"
    one = min(images.iterdir())
    (tmp_path / "broken.png").write_bytes(b"x")
    code, said = tabib("explain", finished, one, tmp_path / "broken.png", "-o", "why")
    assert (code, list(said["refused"])) == (3, [str(tmp_path / "broken.png")])
    told = said["images"][0]
    assert [each["name"] for each in told["labels"]] == ["disc", "square"]
    assert list(said["feature_maps"]) == ["down.0", "down.1", "up.0"]
    named = {*told["pictures"].values(), *(each["pictures"]["probability"] for each in told["labels"]), *said["feature_maps"].values()}
    assert {file.name for file in (tmp_path / "why").iterdir()} == {*named, "explanations.json"}

    segmenter = Segmenter.load(finished / "model", device="cpu")
    probabilities = segmenter.probabilities(read_volume(one))
    box = box_around(segmenter.labels(probabilities))
    for number, each in enumerate(told["labels"], start=1):
        assert each["probability"] == pytest.approx(float(probabilities[number].max()), abs=1e-5)
        drawn = read_image(tmp_path / "why" / each["pictures"]["probability"]).pixels.astype(int)
        shown = probabilities[number, told["slice"] - 1][box]
        likely, unlikely = (
            drawn[tuple((np.add(place, 0.5) * drawn.shape[:2] / shown.shape).astype(int))]
            for place in (np.unravel_index(shown.argmax(), shown.shape), np.unravel_index(shown.argmin(), shown.shape))
        )
        assert likely[0] - likely[2] > 40, "the colours of much are warm"
        assert abs(unlikely[0] - unlikely[2]) < 25, "where nothing is probable the picture is grey as it was"


def test_test_images_are_explained_in_the_report_and_a_structure_can_be_asked_for(finished: Path, tabib: Tabib) -> None:
    code, said = tabib("explain", finished)
    assert code == 0
    chosen = [each["chosen"] for each in said["images"]]
    assert chosen == (["worst", "worst", "worst", "best"] if len(chosen) == 4 else ["worst", "worst"])
    assert tabib("report", finished)[0] == 0
    for language, words in (("en", "What the network makes of the three test images"), ("fa", "حاشیهٔ پهن")):
        page = (finished / f"report.{language}.html").read_text("utf-8")
        assert words in page
        assert page.count('<article class="why">') == len(said["images"])
        assert "down.1" in page
    code, said = tabib("explain", finished, "--label", "square")
    assert [each["name"] for each in said["images"][0]["labels"]] == ["square"]
    code, said = tabib("explain", finished, "--label", "squar")
    assert code == 2
    assert "Did you mean square?" in str(said)
