"""Made-up axial slices of brains, several of each person: Alzheimer's disease and mild impairment, told apart by the size of the ventricles.

The ventricles grow with the person's amount and with nothing else. Head, folds and position are the person's own, so that slices of one
person look alike: a split by image is rewarded for knowing the person.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tabib.phantoms.people import People, PeopleTruth, PlantedPicture, make_people, plan_people, random_of
from tabib.progress import SILENT, Progress

__all__ = ["BRAIN_CLASSES", "make_brains", "render_brain"]

BRAIN_CLASSES = ("MCI", "AD")
"""The class folders: mild impairment, Alzheimer's disease."""


def make_brains(folder: Path, people: People, *, progress: Progress = SILENT) -> PeopleTruth:
    """Write made-up slices: `AD/person002_slice01.png` and so on, grey; see `make_people`."""
    return make_people(folder, plan_people(people, BRAIN_CLASSES, "person{:03d}_slice{:02d}.png"), render_brain, progress=progress)


def render_brain(planted: PlantedPicture, people: People) -> NDArray[np.uint8]:
    """One slice, (side, side)."""
    person, scan = random_of(planted, people)
    y, x = np.mgrid[-1 : 1 : people.side * 1j, -1 : 1 : people.side * 1j]
    turn, right, down = person.normal(0, 0.1), *person.uniform(-0.06, 0.06, 2)
    x, y = (x - right) * np.cos(turn) + (y - down) * np.sin(turn), (y - down) * np.cos(turn) - (x - right) * np.sin(turn)
    width, length = person.uniform(0.62, 0.74), person.uniform(0.78, 0.9)
    folds = gaussian_filter(person.standard_normal((2 * people.side, people.side)), people.side / 40, mode="wrap")
    contrast = person.uniform(0.8, 1.2)
    # Slices of a person lie one above the other: folds move on by a part of them, and the head becomes smaller.
    height = (planted.picture - 1) / max(1, people.pictures - 1)
    moved = folds[int(height * people.side / 12) :][: people.side] / folds.std()
    width, length = width * (1 - 0.06 * height), length * (1 - 0.06 * height)

    def inside(radius: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1 / (1 + np.exp(np.clip((radius - 1) * people.side / 3, -50, 50)))

    head = np.hypot(x / width, y / length)
    picture = 0.85 * inside(head / 1.12) - 0.75 * inside(head / 1.05) + inside(head) * (0.45 + 0.06 * moved)
    picture += 0.18 * inside(head / 0.78) * (1 + 0.15 * moved)  # white matter
    # Half the width of a ventricle: 0.09 of the picture's half at no amount, 0.18 at 3.
    broad = float(np.clip(0.09 + 0.03 * planted.amount, 0.03, 0.27)) * (1 - 0.2 * height)
    for side in (-1, 1):
        away = x - side * (0.06 + 0.6 * broad + 0.12 * np.abs(y))
        picture -= 0.5 * inside(np.hypot(away / broad, y / (0.2 + 0.6 * broad)))
    picture -= 0.3 * inside(head / 0.96) * np.exp(-((x / 0.012) ** 2)) * (np.abs(y) > 0.45 * length)  # between the halves
    picture = np.clip(contrast * picture, 0, None) + 0.02 * np.abs(scan.standard_normal(x.shape))
    return np.clip(200 * picture + 0.5, 0, 255).astype(np.uint8)
