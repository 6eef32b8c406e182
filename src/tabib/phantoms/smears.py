"""Made-up white cells in blood smears: benign ones and blasts, told apart by how much of the cell its nucleus fills.

A blast's nucleus fills most of the cell (Bennett et al., Br J Haematol 1976;33:451, the French-American-British classification). Here the share
grows with the person's amount and with nothing else; stain and lamp are a smear's own, the place of the cells a picture's own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tabib.phantoms.people import People, PeopleTruth, PlantedPicture, make_people, plan_people, random_of
from tabib.progress import SILENT, Progress

__all__ = ["SMEAR_CLASSES", "make_smears", "render_smear"]

SMEAR_CLASSES = ("benign", "blast")
"""The class folders."""

_RED_CELL, _CYTOPLASM, _NUCLEUS = (0.86, 0.62, 0.60), (0.68, 0.72, 0.88), (0.36, 0.20, 0.52)  # colours of a Wright-Giemsa stain


def make_smears(folder: Path, people: People, *, progress: Progress = SILENT) -> PeopleTruth:
    """Write made-up cells: `blast/smear002_cell01.png` and so on, in colour; see `make_people`."""
    return make_people(folder, plan_people(people, SMEAR_CLASSES, "smear{:03d}_cell{:02d}.png"), render_smear, progress=progress)


def render_smear(planted: PlantedPicture, people: People) -> NDArray[np.uint8]:
    """One cell among red cells, (side, side, 3)."""
    smear, cell = random_of(planted, people)
    lamp = np.array([0.95, 0.92, 0.93]) * smear.uniform(0.92, 1.0) + smear.uniform(-0.02, 0.02, 3)
    strength = smear.uniform(0.85, 1.15)  # of the stain
    y, x = np.mgrid[-1 : 1 : people.side * 1j, -1 : 1 : people.side * 1j]
    picture = np.broadcast_to(lamp, (people.side, people.side, 3)).copy()

    def cover(inside: NDArray[np.float64], colour: tuple[float, float, float], texture: NDArray[np.float64] | float = 0.0) -> None:
        absorbed = strength * (1 - np.array(colour)) * (1 + np.asarray(texture)[..., None])
        picture[...] += inside[..., None] * (lamp * (1 - absorbed) - picture)

    def disc(right: float, down: float, radius: NDArray[np.float64] | float) -> NDArray[np.float64]:
        return 1 / (1 + np.exp(np.clip((np.hypot(x - right, y - down) - radius) * people.side / 2, -50, 50)))

    for _ in range(cell.integers(7, 12)):
        direction, far = cell.uniform(0, 2 * np.pi), cell.uniform(0.72, 1.25)
        right, down, radius = far * np.cos(direction), far * np.sin(direction), cell.uniform(0.2, 0.26)
        cover(disc(right, down, radius), _RED_CELL)
        cover(0.5 * disc(right, down, 0.4 * radius), (1.0, 0.95, 0.93))  # paler in the middle
    right, down, radius = *cell.uniform(-0.08, 0.08, 2), cell.uniform(0.44, 0.54)
    # The share of the cell's radius: 0.55 at no amount, 0.73 at 3.
    share = float(np.clip(0.55 + 0.06 * planted.amount, 0.35, 0.9))
    angle = np.arctan2(y - down, x - right)
    lobes = 1 + cell.uniform(0.02, 0.06) * np.sin(cell.integers(2, 5) * angle + cell.uniform(0, 2 * np.pi))
    chromatin = gaussian_filter(cell.standard_normal(x.shape), people.side / 48, mode="wrap")
    cover(disc(right, down, radius), _CYTOPLASM)
    cover(disc(right, down, share * radius * lobes), _NUCLEUS, 0.1 * chromatin / chromatin.std())
    picture += 0.012 * cell.standard_normal(picture.shape)
    return np.clip(255 * picture + 0.5, 0, 255).astype(np.uint8)
