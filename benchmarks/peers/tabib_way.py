"""Tabib's own training, timed after warm-up. Prints one JSON line, as its peers do."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tabib.config import Study
from tabib.dataset import build_cache, index_folder
from tabib.engines import tame_allocator
from tabib.training.batches import load_samples, normalise
from tabib.training.class_work import ClassBatch, ClassWork
from tabib.training.classify import build
from tabib.training.step import start, train_step

REPORT_B = {
    "rotation_degrees": 30,
    "shift": 0.2,
    "zoom": 0.2,
    "shear_degrees": 0.2,
    "flip_horizontal": True,
    "brightness": 0,
    "contrast": 0,
}


def study_of(folder: Path, batch: int, network: str) -> Study:
    """Report B's study on a folder."""
    head = {"head": [128, 64], "dropout": [0.3, 0.2]} if network == "tf_efficientnet_b2" else {}
    return Study.model_validate(
        {
            "name": "speed",
            "positive": "PNEUMONIA",
            "data": {"folder": folder},
            "input": {"height": 128, "width": 128, "channels": 3},
            "augment": REPORT_B,
            "model": {"network": network, **head},
            "training": {"batch": batch, "learning_rate": 1e-4, "schedule": "constant", "precision": "fp32", "clip": None},
        }
    )


def steps_on_cache(folder: Path, work: Path, *, batch: int, threads: int, network: str = "tf_efficientnet_b2") -> Callable[[int], None]:
    """A function that does so many training steps from the cache, with everything that Tabib does in a step."""
    tame_allocator()
    torch.set_num_threads(threads)
    study = study_of(folder, batch, network)
    index = index_folder(study.data)
    cache = build_cache(study.data, index, study.input, folder=work / "cache")
    classes = ["NORMAL", "PNEUMONIA"]
    samples = load_samples(cache, index, classes=classes, device=torch.device("cpu"))
    net, _ = build(study, classes=classes, seed=0, device=torch.device("cpu"))
    trained = ClassWork.of(study.training, study.augment, study.input.intensity, samples, samples, classes=2, seed=0)
    state = start(net, study.training)
    net.train()
    batches: list[ClassBatch] = []

    def go(steps: int) -> None:
        for _ in range(steps):
            if not batches:
                batches.extend(each for each in trained.batches(1) if len(each) == batch)
            train_step(state, trained, batches.pop()).item()

    return go


def steps_on_ready_tensors(*, batch: int) -> Callable[[int], None]:
    """The same step on one batch that lies ready: same network, layout, precision, optimiser, threads and allocator."""
    study = study_of(Path(), batch, "tf_efficientnet_b2")
    net, _ = build(study, classes=["NORMAL", "PNEUMONIA"], seed=0, device=torch.device("cpu"))
    state = start(net, study.training)
    net.train()
    images = normalise(torch.rand(batch, 3, 128, 128).contiguous(memory_format=torch.channels_last), torch.zeros(batch, 6), "network", net)
    labels = torch.arange(batch) % 2

    def go(steps: int) -> None:
        for _ in range(steps):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(net(images)[:, 0], labels.float())
            state.optimizer.zero_grad()
            loss.backward()
            state.optimizer.step()
            loss.item()

    return go


if __name__ == "__main__":
    folder, batch, steps, threads = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    network = sys.argv[5] if len(sys.argv) > 5 else "tf_efficientnet_b2"
    with tempfile.TemporaryDirectory() as work:
        go = steps_on_cache(folder, Path(work), batch=batch, threads=threads, network=network)
        go(3)
        started = time.perf_counter()
        go(steps)
        print(json.dumps({"images_per_second": batch * steps / (time.perf_counter() - started)}))
