"""Anonymous memory of predicting volumes: `make bench`.

    python benchmarks/volumes.py

An untrained U-Net predicts made-up volumes of more and more slices of 256 x 256 with two structures, as `tabib predict` does: the `.nii.gz`
file is read, brought to the spacing of the network, predicted by windows, brought back, tidied and written. Each is a process of its own, of
which the largest `RssAnon` counts: memory that the system cannot take back.
"""

from __future__ import annotations

import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from speed import machine, peak_anonymous_mib
from tabib.config import SegmentationModel as Part
from tabib.engines import tame_allocator
from tabib.images import ImageFacts, Volume, nifti_pieces, scratch
from tabib.prediction import Segmenter
from tabib.prediction.masks import segment_paths
from tabib.records import PostProcessing, SegmentationModel
from tabib.training.segmenters import Form, build_segmenter

SIDE, SLICES = 256, (64, 128, 256, 512)
STRUCTURES = ["disc", "rest"]
PATCHES = {2: [256, 256], 3: [16, 256, 256]}


def write_made_up(path: Path, slices: int) -> None:
    """A noisy tube, int16: what is noise everywhere takes long to pack."""
    random = np.random.default_rng(1)
    voxels = scratch((slices, SIDE, SIDE), np.int16)
    y, x = np.mgrid[:SIDE, :SIDE]
    for place in voxels:
        place[...] = random.normal(220, 12, (SIDE, SIDE)) * ((y - 128) ** 2 + (x - 128) ** 2 < 60**2)
    affine = np.array([[0, 0, 1.5, 0], [0, 1.5, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1]], float)
    with path.open("wb") as file:
        file.writelines(nifti_pieces(Volume(voxels, affine, (2, 1.5, 1.5), ImageFacts(format="NIfTI", bits=16, mode="int16"))))


def segmenter(dimensions: int) -> Segmenter:
    """An untrained U-Net that resamples, with all that is done after it."""
    torch.set_num_threads(1)
    tame_allocator()
    torch.manual_seed(0)
    spacing = (1.7, 1.7) if dimensions == 2 else (2.5, 1.7, 1.7)
    network, _ = build_segmenter(Part(network="unet", filters=[4, 8]), Form(1, 3, tuple(PATCHES[dimensions]), spacing))
    model = SegmentationModel.model_construct(
        structures=STRUCTURES, numbers=[1, 2], instances=False, dimensions=dimensions, patch=PATCHES[dimensions], spacing_mm=list(spacing),
        channels=1, intensity="zscore", window=None,
    )  # fmt: skip
    after = PostProcessing.model_construct(
        structures=STRUCTURES, largest_component=STRUCTURES, fill_holes=STRUCTURES, flips=False, smallest_object=1
    )
    return Segmenter(model, after, [network.eval()])  # pyright: ignore[reportArgumentType]


def peak_of(dimensions: int, file: Path, folder: Path) -> float:
    """The largest RssAnon, in MiB, of a process that predicts one file."""
    process = get_context("fork").Process(target=lambda: segment_paths(segmenter(dimensions), [file], folder))
    process.start()
    peak = peak_anonymous_mib(process.pid, lambda: process.exitcode is None)
    if process.exitcode:
        raise SystemExit("the prediction failed")
    print(f"{file.name}, {dimensions} dimensions: {peak:.0f} MiB", file=sys.stderr, flush=True)
    return peak


def main() -> None:
    """A row for each dimension."""
    print(machine())
    print("\n### Anonymous memory of predicting a volume (largest RssAnon of the process, MiB; slices of 256 x 256)\n")
    print(f"| network | {' | '.join(f'{slices} slices' for slices in SLICES)} | last / first | most / least | wanted |")
    print(f"|{'---|' * (len(SLICES) + 4)}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for slices in SLICES:
            write_made_up(folder / f"{slices}.nii.gz", slices)
        for dimensions in PATCHES:
            peaks = [peak_of(dimensions, folder / f"{slices}.nii.gz", folder / f"masks{dimensions}") for slices in SLICES]
            shown = " | ".join(f"{peak:.0f}" for peak in peaks)
            ratios = f"**{peaks[-1] / peaks[0]:.2f}** | {max(peaks) / min(peaks):.2f}"
            print(f"| in {dimensions} dimensions | {shown} | {ratios} | at most 1.10 |", flush=True)


if __name__ == "__main__":
    main()
