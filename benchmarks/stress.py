"""How a trained model stands validation images that are darker, flatter, nearer or noisier than those it was chosen on.

    python benchmarks/stress.py RUN [RUN ...]

The threshold is the Youden point of the unaltered validation images. Test images are not read: this is what a recipe can be
chosen by where the validation images of one place say nothing more. Two classes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional

from tabib.dataset import build_cache, intensity_statistics
from tabib.metrics import auc, choose_threshold
from tabib.runs import read_run
from tabib.training.batches import in_order, load_samples
from tabib.training.calibrate import load_networks
from tabib.training.inference import INFERENCE_BATCH, mean_of_members, say

CPU = torch.device("cpu")


def zoomed(images: Tensor, scale: float) -> Tensor:
    """Enlarged about the centre."""
    theta = torch.tensor([[1 / scale, 0, 0], [0, 1 / scale, 0]]).repeat(len(images), 1, 1)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def blurred(images: Tensor) -> Tensor:
    """Averaged over squares of a ninth of the side."""
    side = images.shape[-1] // 18 * 2 + 1
    return functional.avg_pool2d(functional.pad(images, (side // 2,) * 4, mode="replicate"), side, stride=1)


def noisy(images: Tensor) -> Tensor:
    """With Gaussian noise of 6 % of the range."""
    return images + 0.06 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))


ALTERED: dict[str, Callable[[Tensor], Tensor]] = {
    "as they are": lambda images: images,
    "darker": lambda images: 0.7 * images,
    "lighter": lambda images: 0.7 * images + 0.3,
    "gamma 1.6": lambda images: images**1.6,
    "gamma 0.62": lambda images: images**0.62,
    "flatter": lambda images: 0.6 * (images - 0.5) + 0.5,
    "steeper": lambda images: 1.6 * (images - 0.5) + 0.5,
    "another film curve": lambda images: images + 0.12 * torch.sin(2 * torch.pi * images),
    "uneven light": lambda images: images * (1 + 0.35 * torch.linspace(-1, 1, images.shape[-1])),
    "blurred": blurred,
    "noisy": noisy,
    "nearer": lambda images: zoomed(images, 1.18),
    "farther": lambda images: zoomed(images, 0.85),
}


def main() -> None:
    """Print a table for each run."""
    for folder in map(Path, sys.argv[1:]):
        print(f"\n### {folder.name}\n\n| validation images | AUC | balanced accuracy | specificity |\n|---|---|---|---|")
        rows = stress(folder)
        for name, figures in rows.items():
            print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in figures) + " |")
        means = np.mean([figures for name, figures in rows.items() if name != "as they are"], axis=0)
        print("| mean of the altered | " + " | ".join(f"**{value:.3f}**" for value in means) + " |", flush=True)


def stress(folder: Path) -> dict[str, tuple[float, float, float]]:
    """AUC, balanced accuracy and specificity under each alteration."""
    run = read_run(folder)
    index, split, study, model = (run.read(name) for name in ("index", "split", "study", "model"))
    networks = load_networks(model, folder / "model", device=CPU)
    cache = build_cache(study.data, index, study.input, folder=run.cache_folder)
    samples = load_samples(cache, split.filter(pl.col("part") == "validation"), classes=model.classes, device=CPU)
    rows, threshold = {}, None
    for name, alter in ALTERED.items():
        said, truth = [], []
        for places in in_order(samples, INFERENCE_BATCH):
            images, _, labels = samples.load(places)
            altered = alter(images.contiguous()).clamp(0, 1)
            eight_bit = (255 * altered).round().to(torch.uint8).numpy()
            statistics = torch.from_numpy(np.stack([intensity_statistics(image) for image in eight_bit]))
            answers = [say(network, altered, statistics, intensity=model.intensity).double().numpy() for network in networks]
            said.append(np.exp(mean_of_members(answers))[:, 1])
            truth.append(labels.numpy())
        scores, ill = np.concatenate(said), np.concatenate(truth) == 1
        threshold = choose_threshold(scores, ill, "youden") if threshold is None else threshold
        right = (scores >= threshold) == ill
        rows[name] = (float(auc(ill, scores)), float(right[ill].mean() + right[~ill].mean()) / 2, float(right[~ill].mean()))
    return rows


if __name__ == "__main__":
    main()
