"""Volumes larger than memory: what a prediction holds does not grow with the number of slices, and is the same to the bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tabib.images import ImageFacts, Volume, encode_nifti
from tabib.prediction import Segmenter
from tabib.prediction.masks import segment_paths
from tabib.records import PostProcessing, SegmentationModel

HOUSE = sys.modules["tabib.images.scratch"]
STRUCTURES = ["disc", "rest"]


def segmenter(dimensions: int, *, members: int = 1, flips: bool = False, instances: bool = False) -> Segmenter:
    """Networks of one layer that was never trained, on another spacing, with all that can be done after them."""
    structures = STRUCTURES[: 1 if instances else 2]
    patch, spacing = ([96, 96], [1.7, 1.7]) if dimensions == 2 else ([16, 96, 96], [2.5, 1.7, 1.7])
    layer = nn.Conv2d if dimensions == 2 else nn.Conv3d
    networks = []
    for seed in range(members):
        torch.manual_seed(seed)
        networks.append(layer(1, 1 + len(structures), 3, padding=1).requires_grad_(requires_grad=False).eval())
    model = SegmentationModel.model_construct(
        structures=structures, numbers=[3, 1][: len(structures)], instances=instances, dimensions=dimensions, patch=patch, channels=1,
        spacing_mm=spacing, intensity="zscore", window=None,
    )  # fmt: skip
    after = PostProcessing.model_construct(
        structures=structures, largest_component=structures, fill_holes=structures, flips=flips, smallest_object=1
    )
    return Segmenter(model, after, networks)


def saved(path: Path, slices: int, side: int) -> Path:
    """A tube in noise."""
    y, x = np.mgrid[:side, :side] - side / 2
    voxels = np.random.default_rng(1).normal(100, 12, (slices, side, side)) + 120 * (y**2 + x**2 < (side / 4) ** 2)
    affine = np.array([[0, 0, 1.5, 0], [0, 1.5, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1.0]])
    facts = ImageFacts(format="NIfTI", bits=16, mode="int16")
    path.write_bytes(encode_nifti(Volume(voxels.astype(np.int16), affine, (2, 1.5, 1.5), facts)))
    return path


@pytest.mark.parametrize(
    "served",
    [
        pytest.param(segmenter(2, members=2), id="slices, two members"),
        pytest.param(segmenter(2, flips=True, instances=True), id="slices, mirrored, objects"),
        pytest.param(segmenter(3, members=2, flips=True), id="blocks, two members, mirrored"),
    ],
)
def test_a_prediction_is_the_same_to_the_bit_wherever_its_arrays_lie(served, tmp_path, monkeypatch) -> None:
    path = saved(tmp_path / "a.nii.gz", 11, 40)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(HOUSE, "STEP", 5000)
    tables = []
    for name, large in (("files", 0), ("memory", 2**60)):
        monkeypatch.setattr(HOUSE, "LARGE", large)
        tables.append(segment_paths(served, [path], tmp_path / name, probabilities=True).drop("mask"))
    assert tables[0].equals(tables[1])
    assert tables[0]["refused"].null_count() == 1
    written = [{file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("files", "memory")]
    assert written[0] == written[1]
    assert len(written[0]) == 2 + len(served.model.structures), "a mask, probabilities, entropy"
    assert not list((tmp_path / "temporary").iterdir())


def test_an_image_without_a_number_gets_no_mask(tmp_path) -> None:
    affine = np.diag([2.0, 1.5, 1.5, 1])
    for name, voxels in (("empty", np.full((3, 8, 8), np.nan, np.float32)), ("good", np.ones((3, 8, 8), np.float32))):
        facts = ImageFacts(format="NIfTI", bits=32, mode="float32")
        (tmp_path / f"{name}.nii.gz").write_bytes(encode_nifti(Volume(voxels, affine, (2, 1.5, 1.5), facts)))
    table = segment_paths(segmenter(2), sorted(tmp_path.glob("*.nii.gz")), tmp_path / "out")
    assert table["refused"].to_list() == [f"{tmp_path}/empty.nii.gz holds no value that is a number; export it again", None]
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["good_mask.nii.gz"]


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [2, 3], ids=["slices", "blocks"])
def test_memory_is_flat_in_the_number_of_slices(dimensions, tmp_path) -> None:
    """Of four times the slices the smallest array, a mask of 8 bits, has 5 MiB more, so any one array in memory breaks the bound."""
    files = [saved(tmp_path / f"{slices}.nii.gz", slices, 192) for slices in (48, 192)]
    command = [sys.executable, __file__, str(dimensions), str(tmp_path / "masks"), *map(str, files)]
    returned = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_ARENA_MAX": "1"}  # what is freed is not counted
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | returned)
    few, many = json.loads(done.stdout)
    assert many - few < 3 * 2**20


def watched(served: Segmenter, path: Path, folder: Path) -> int:
    """The most anonymous memory of the process while it predicts, in bytes."""
    peak, done = 0, Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            status = Path("/proc/self/status").read_text()
            peak = max(peak, 1024 * int(status.split("RssAnon:")[1].split()[0]))

    thread = Thread(target=watch, daemon=True)
    thread.start()
    segment_paths(served, [path], folder)
    done.set()
    thread.join()
    return peak


def test_an_image_without_a_spacing_says_that_it_was_not_scaled(tmp_path: Path) -> None:
    picture = np.random.default_rng(2).integers(0, 255, (40, 40)).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    paths = [tmp_path / "a.png", saved(tmp_path / "b.nii.gz", 2, 40)]
    for spacing, said in (([2.0, 2.0], [True, False]), (None, [False, False])):
        usual = segmenter(2)
        served = replace(usual, model=usual.model.model_copy(update={"spacing_mm": spacing}))
        table = segment_paths(served, paths, tmp_path / f"out{spacing}")
        assert table["refused"].null_count() == 2
        assert table["unscaled"].to_list() == said


def main() -> None:
    """What the process that is measured does: every array lies in a file, and is worked on in steps that small volumes have too."""
    HOUSE.LARGE, HOUSE.STEP = 0, 2**18
    torch.set_num_threads(1)
    dimensions, folder, *files = sys.argv[1:]
    served = segmenter(int(dimensions))
    sys.stdout.write(json.dumps([watched(served, Path(file), Path(folder) / str(place)) for place, file in enumerate(files)]))


if __name__ == "__main__":
    main()
