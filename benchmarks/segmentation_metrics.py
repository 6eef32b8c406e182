"""Every measure of a 256 x 256 x 10 case of four structures, against MONAI's own distances on the same masks.

MONAI is asked for Hausdorff 95 %, average symmetric surface distance and surface Dice alone, by its functions, on tensors that
are ready; Tabib gives these, the Hausdorff distance, Dice, IoU, precision, recall and volumes, from label maps. Both in this
process, with one thread, in turn.

Run: python benchmarks/segmentation_metrics.py [--repeats 7]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import gaussian_filter

from tabib.metrics.segmentation import StructureMeasures, measure_structures

STRUCTURES = {"lv": 1, "myocardium": 2, "rv": 3, "atrium": 4}
SPACING = (8.0, 1.4, 1.4)
TOLERANCE = 2.0


def labels(seed: int, *, bumps: float) -> np.ndarray:
    """A heart of four structures, (10, 256, 256) uint8, whose outlines `bumps` (in voxels) moves to and fro."""
    random = np.random.default_rng(seed)
    z, y, x = np.indices((10, 256, 256)).astype(np.float32)
    rough = gaussian_filter(random.standard_normal((10, 256, 256)), (1, 6, 6))
    rough *= bumps / rough.std()
    size = np.sqrt(np.clip(1 - ((z - 2) / 9) ** 2, 0, 1))
    far = np.hypot(y - 128, x - 140) + rough
    result = np.zeros(z.shape, np.uint8)
    result[np.hypot((y - 118) / 1.1, x - 92) + rough < 42 * size] = 3
    result[np.hypot(y - 190, x - 130) + rough < 26 * size] = 4
    result[far < 40 * size] = 2
    result[far < 28 * size] = 1
    return result


def tabib(truth: np.ndarray, prediction: np.ndarray) -> dict[str, StructureMeasures]:
    return measure_structures(truth, prediction, STRUCTURES, spacing=SPACING, tolerance=TOLERANCE)


def monai(truth: torch.Tensor, prediction: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        compute_hausdorff_distance(prediction, truth, include_background=True, percentile=95, spacing=SPACING),
        compute_average_surface_distance(prediction, truth, include_background=True, symmetric=True, spacing=SPACING),
        compute_surface_dice(prediction, truth, [TOLERANCE] * len(STRUCTURES), include_background=True, spacing=SPACING),
    )


def clocked(function: Callable[[], object]) -> float:
    """Seconds of processor time: others on the machine do not count."""
    start = time.process_time()
    function()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=FutureWarning)
    for name, bumps in (("close outlines", 1.0), ("poor outlines", 5.0)):
        truth, prediction = labels(0, bumps=0.5), labels(1, bumps=bumps)
        tensors = [
            torch.from_numpy(np.stack([side == value for value in STRUCTURES.values()])[None]).float() for side in (truth, prediction)
        ]
        ours, theirs = tabib(truth, prediction), monai(*tensors)
        for k, measures in enumerate(ours.values()):
            found = (measures.hausdorff95_mm, measures.surface_distance_mm, measures.surface_dice)
            np.testing.assert_allclose(found, [float(each[0, k]) for each in theirs], rtol=1e-5)
        dice = ", ".join(f"{measures.dice:.2f}" for measures in ours.values())
        pairs = [(clocked(lambda: tabib(truth, prediction)), clocked(lambda: monai(*tensors))) for _ in range(repeats)]  # noqa: B023
        own, other = (median(side) for side in zip(*pairs, strict=True))
        ratios = sorted(theirs / ours for ours, theirs in pairs)
        print(
            f"{name} (Dice {dice}): Tabib {own * 1000:.1f} ms, MONAI {other * 1000:.0f} ms of processor time, {median(ratios):.1f} times "
            f"as fast ({ratios[0]:.1f} to {ratios[-1]:.1f}; wanted: at least 5), equal to 1e-5"
        )


if __name__ == "__main__":
    main()
