"""People of two classes with several pictures each, and what is known of them: the plan that smears and brain slices share.

As with made-up chest films, every person has an amount of what is looked for, normal with variance 1 and mean 0 in the one class and `lesion` in
the other, and the class touches the pictures through this amount alone. So no reader can expect a larger AUC than that of the amount,
Phi(lesion / sqrt 2) (Green and Swets 1966). A person is a function of the seed and of the number: more people change none of the others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from tabib.errors import StudyError
from tabib.images.write import encode_png
from tabib.phantoms.folder import write_folder
from tabib.progress import SILENT, Progress

__all__ = ["Draw", "People", "PeopleTruth", "PlantedPicture", "make_people", "plan_people", "random_of"]

_AMOUNT, _PERSON, _PICTURE = range(3)  # what a random draw is for: the second number of its seed


@dataclass(frozen=True, kw_only=True)
class People:
    """What to make."""

    patients: int = 40  # at least 2; every second one is of the class that is looked for
    pictures: int = 4  # of each
    side: int = 96  # height and width in pixels, 32 to 512
    lesion: float = 3.0  # distance of the classes in standard deviations; the best AUC is Phi(lesion / sqrt 2)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.patients < 2 or self.pictures < 1:
            raise StudyError(f"patients is {self.patients} and pictures {self.pictures}, and must be at least 2 and 1")
        if not 32 <= self.side <= 512:
            raise StudyError(f"side is {self.side}, and must be from 32 to 512 pixels")


@dataclass(frozen=True, kw_only=True)
class PlantedPicture:
    """One file and the truth about it."""

    path: str  # below the folder
    patient: int
    picture: int  # of this patient, from 1
    label: str
    amount: float  # of what is looked for


@dataclass(frozen=True)
class PeopleTruth:
    """What was made."""

    settings: People
    pictures: tuple[PlantedPicture, ...]

    @property
    def images(self) -> int:
        """How many images there are."""
        return len(self.pictures)

    @property
    def best_auc(self) -> float:
        """The largest AUC that a reader can expect."""
        return float(ndtr(self.settings.lesion / math.sqrt(2)))


Draw = Callable[[PlantedPicture, People], NDArray[np.uint8]]
"""Draws one picture: (side, side) or (side, side, 3)."""


def plan_people(people: People, classes: tuple[str, str], name: str) -> PeopleTruth:
    """Decide who is of which class and has how much of it, without drawing a picture.

    Args:
        people: how many, and how far apart.
        classes: the one without and the one with what is looked for.
        name: of a file, with places for the numbers of patient and picture.
    """

    def pictures() -> Iterator[PlantedPicture]:
        for patient in range(1, people.patients + 1):
            ill = patient % 2 == 0
            amount = float(np.random.default_rng([people.seed, _AMOUNT, patient]).standard_normal()) + people.lesion * ill
            for picture in range(1, people.pictures + 1):
                path = f"{classes[ill]}/{name.format(patient, picture)}"
                yield PlantedPicture(path=path, patient=patient, picture=picture, label=classes[ill], amount=amount)

    return PeopleTruth(people, tuple(pictures()))


def make_people(folder: Path, truth: PeopleTruth, draw: Draw, *, progress: Progress = SILENT) -> PeopleTruth:
    """Write the pictures as PNG, one folder per class, and the truth to `<folder>.truth.json` (`write_folder`).

    The same settings give the same bytes with the same versions of NumPy, SciPy and Pillow.
    """
    files = ((planted.path, encode_png(draw(planted, truth.settings))) for planted in truth.pictures)

    def told() -> str:
        return json.dumps(asdict(truth) | {"best_auc": truth.best_auc}, indent=1) + "\n"

    write_folder(folder, files, number=truth.images, truth=(".truth.json", told), progress=progress)
    return truth


def random_of(planted: PlantedPicture, people: People) -> tuple[np.random.Generator, np.random.Generator]:
    """What is drawn alike for all pictures of a person, and what for each."""
    person = np.random.default_rng([people.seed, _PERSON, planted.patient])
    return person, np.random.default_rng([people.seed, _PICTURE, planted.patient, planted.picture])
