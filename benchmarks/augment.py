"""What augmentation costs, as a share of a training step of EfficientNetB2: 64 images of 3x128x128, report B's settings.

Run: python benchmarks/augment.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from tabib.config import Augment, ModelPart
from tabib.engines import tame_allocator
from tabib.training.augment import apply
from tabib.training.draws import draw
from tabib.training.networks import build_network

BATCH, SIDE = 64, 128
REPORT_B = Augment(rotation_degrees=30, shift=0.2, zoom=0.2, shear_degrees=0.2, flip_horizontal=True, brightness=0, contrast=0)
SETTINGS = {
    "report B (geometry)": REPORT_B,
    "with brightness and contrast": REPORT_B.model_copy(update={"brightness": 0.2, "contrast": 0.3}),
    "and gamma": REPORT_B.model_copy(update={"brightness": 0.2, "contrast": 0.3, "gamma": 0.3}),
    "and noise": REPORT_B.model_copy(update={"brightness": 0.2, "contrast": 0.3, "gamma": 0.3, "noise": 0.05}),
    **{
        f"report B and {name}": REPORT_B.model_copy(update=on)
        for name, on in (
            ("elastic distortion", {"elastic": 0.05}),
            ("blur", {"blur": 0.01}),
            ("saturation and hue", {"saturation": 0.2, "hue_degrees": 10}),
            ("stain", {"stain": 0.05}),
        )
    },
}


def seconds(work: Callable[[], object], times: int) -> float:
    work()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    tame_allocator()
    model = ModelPart(network="tf_efficientnet_b2", head=[128, 64], dropout=[0.3, 0.2])
    network = build_network(model, classes=2, channels=3, height=SIDE, width=SIDE).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    images = torch.rand(BATCH, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    content = np.arange(BATCH, dtype=np.uint64)

    def step() -> None:
        optimizer.zero_grad()
        network(images).square().mean().backward()
        optimizer.step()

    whole = seconds(step, times=5)
    print(f"{'training step':30} {whole * 1000:8.1f} ms   {torch.get_num_threads()} threads")
    for name, augment in SETTINGS.items():
        cost = seconds(lambda augment=augment: apply(images, draw(augment, seed=0, epoch=0, content=content), augment), times=15)
        print(f"{name:30} {cost * 1000:8.1f} ms   {cost / whole:.2%} of the step")


if __name__ == "__main__":
    main()
