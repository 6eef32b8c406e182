"""Speed of training segmenters, side by side with peers, as ratios of one run: `make bench`.

    python benchmarks/segmentation.py [step] [monai] [dynunet]

Made-up hearts, slices of 160 x 160 and blocks of 8 x 128 x 128. The sides of each ratio take turns in one process, in which the allocator is tamed for all of
them; processor time stands beside the clock, as on a shared machine it is the fairer of the two. Threads: $OMP_NUM_THREADS, or every core.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from speed import PEERS, THREADS, header, machine, show

sys.path.insert(0, str(PEERS))
from monai_masks import steps_of_monai
from tabib_masks import BATCH, EVERYTHING, FILTERS, MONAIS, PATCH, prepare, steps_on_cases, steps_on_ready_patches, timed

from tabib.phantoms import HeartScans, make_heart_scans

CORES = int(os.environ.get("OMP_NUM_THREADS", THREADS))
STEPS, TURNS = 2, 9
Rates = list[dict[str, float]]


@contextmanager
def hearts() -> Iterator[tuple[Path, Path]]:
    """A folder of made-up hearts, and one to work in."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "hearts"
        make_heart_scans(folder, HeartScans(patients=8, side=192))
        yield folder, Path(place)


def compare(name: str, ours: Rates, theirs: Rates, *, wanted: str) -> None:
    """A row by the clock and a row of processor time."""
    for clock, words in (("wall", "by the clock"), ("processor", "processor time")):
        show(f"{name}, {words}", *([each[clock] for each in side] for side in (ours, theirs)), "patches/s", wanted=wanted)


def title(what: str, dimensions: int) -> str:
    """What is trained."""
    filters = "" if FILTERS[dimensions] == "auto" else f" of {', '.join(map(str, FILTERS[dimensions]))} maps"
    size = " x ".join(map(str, PATCH[dimensions]))
    return f"{what}: U-Net{filters}, {size}, batch {BATCH[dimensions]}, {CORES} thread(s), {os.getloadavg()[0]:.1f} processes at work"


def step() -> None:
    """A training step from the cache with every change, against the same step on a ready-made batch."""
    for dimensions in (2, 3):
        with hearts() as (folder, work):
            prepared = prepare(folder, work, dimensions=dimensions, augment=EVERYTHING, threads=CORES)
            (rates,) = in_turn(steps_on_cases(prepared), steps_on_ready_patches(prepared), batch=BATCH[dimensions])
        header(title("Training step with every change", dimensions))
        compare(f"end to end / ready-made tensors ({prepared.study.training.precision})", *rates, wanted="at least 0.95")


def monai() -> None:
    """Whole training steps: Tabib, and MONAI's parts with the same network and the same changes, as they come and with all but the loader as here."""
    with hearts() as (folder, work):
        prepared = prepare(folder, work, dimensions=2, augment=MONAIS, threads=CORES)
        precision = str(prepared.study.training.precision)
        plain, alike = in_turn(
            steps_on_cases(prepared),
            steps_of_monai(prepared, network="unet", precision="fp32", layout=torch.contiguous_format),
            steps_of_monai(prepared, network="unet", precision=precision, layout=torch.channels_last),
            batch=BATCH[2],
        )
    header(title("Training steps with the changes that MONAI has", 2))
    compare(f"tabib ({precision}) / MONAI as it comes (fp32)", *plain, wanted="at least 1.5")
    compare("tabib / MONAI with all but its loader as here", *alike, wanted="")


def dynunet() -> None:
    """Steps of the network that a study has without being told, on ready-made tensors, against MONAI's DynUNet in fp32 with as many maps."""
    with hearts() as (folder, work):
        prepared = prepare(folder, work, dimensions=2, augment=MONAIS, threads=CORES)
        (rates,) = in_turn(
            steps_on_ready_patches(prepared),
            steps_of_monai(prepared, network="dynunet", precision="fp32", layout=torch.contiguous_format, ready=True),
            batch=BATCH[2],
        )
    header(title("Training step of the network", 2))
    precision = prepared.study.training.precision
    compare(f"tabib ({precision}, batch norm) / DynUNet (fp32, instance norm)", *rates, wanted="at least 2 with bf16, else 1.2")


def in_turn(ours: Callable[[int], None], *theirs: Callable[[int], None], batch: int) -> list[tuple[Rates, Rates]]:
    """Rates of the first side beside those of each other, after a step to warm up."""
    sides = (ours, *theirs)
    for go in sides:
        go(1)
    turns = [[timed(go, STEPS, batch=batch) for go in sides] for _ in range(TURNS)]
    first, *others = (list(rates) for rates in zip(*turns, strict=True))
    return [(first, other) for other in others]


PARTS = {"step": step, "monai": monai, "dynunet": dynunet}

if __name__ == "__main__":
    print(machine())
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
