"""Which made-up data sets there are, and the one that a study asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tabib import config
from tabib.phantoms.brains import make_brains
from tabib.phantoms.chest import ChestFilms, make_chest_films
from tabib.phantoms.heart import HeartScans, make_heart_scans
from tabib.phantoms.nuclei import Nuclei, make_nuclei
from tabib.phantoms.people import People
from tabib.phantoms.smears import make_smears
from tabib.progress import SILENT, Progress
from tabib.runs import code_of

__all__ = ["PHANTOMS", "Phantom", "ready_phantom"]


class Planted(Protocol):
    """What is true of a data set."""

    @property
    def images(self) -> int:
        """How many images there are."""
        ...


@dataclass(frozen=True)
class Phantom:
    """A kind of made-up data set; `make` writes it into an empty or a new folder, with so many patients, or slides of tissue."""

    title: str
    make: Callable[[Path, int, Progress], Planted]
    patients: int


PHANTOMS: dict[str, Phantom] = {
    "chest": Phantom(
        "Chest films of healthy people and of people with pneumonia",
        lambda folder, patients, progress: make_chest_films(folder, ChestFilms(patients=patients), progress=progress),
        patients=120,
    ),
    "chest_labels": Phantom(
        "Chest films that may show several findings, named in a table",
        lambda folder, patients, progress: make_chest_films(folder, ChestFilms(patients=patients, several=True), progress=progress),
        patients=120,
    ),
    "heart": Phantom(
        "Cine slices of beating hearts with the outlines of both ventricles, as ACDC lays them out",
        lambda folder, patients, progress: make_heart_scans(folder, HeartScans(patients=patients), progress=progress),
        patients=20,
    ),
    "nuclei": Phantom(
        "Stained tissue with touching nuclei, one by one in label maps",
        lambda folder, patients, progress: make_nuclei(folder, Nuclei(slides=patients), progress=progress),
        patients=10,
    ),
    "nuclei_fluorescence": Phantom(
        "The same nuclei in fluorescence",
        lambda folder, patients, progress: make_nuclei(folder, Nuclei(slides=patients, stain="fluorescence"), progress=progress),
        patients=10,
    ),
    "smears": Phantom(
        "White cells in blood smears, benign ones and blasts",
        lambda folder, patients, progress: make_smears(folder, People(patients=patients), progress=progress),
        patients=40,
    ),
    "brains": Phantom(
        "Brain slices, several of each person, of Alzheimer's disease and of mild impairment",
        lambda folder, patients, progress: make_brains(folder, People(patients=patients), progress=progress),
        patients=40,
    ),
}
"""Every phantom by its name on the command line."""


def ready_phantom(asked: config.Phantom, *, root: Path, progress: Progress = SILENT) -> Path:
    """Give the folder of the made-up images that a study file asks for; they are made the first time.

    Args:
        asked: which, and how many patients.
        root: where run folders are kept; the images stay in its folder `phantoms`, under a name that changes with what makes them.
        progress: told of each file.

    Raises:
        RunError: the folder cannot be written; nothing half-made stays.
    """
    kind = PHANTOMS[asked.make]
    patients = asked.patients or kind.patients
    folder = root / "phantoms" / f"{asked.make}-{patients}-{code_of(__name__)[:8]}"
    if not folder.exists():  # a folder takes its name when it is whole
        kind.make(folder, patients, progress)
    return folder
