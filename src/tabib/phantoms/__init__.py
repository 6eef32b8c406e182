"""Made-up data sets with known answers, for demonstrations, tests and measurements of Tabib itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from tabib.phantoms.chest import (
    CHEST_CLASSES,
    CHEST_LABELS,
    ChestFilms,
    PlantedFilm,
    Truth,
    make_chest_films,
    plan_chest_films,
    render_chest_films,
)
from tabib.phantoms.heart import (
    HEART_FAULTS,
    HEART_GROUPS,
    HeartScans,
    HeartTruth,
    PlantedHeart,
    make_heart_scans,
    plan_heart_scans,
    render_heart,
)
from tabib.phantoms.nuclei import NUCLEI_FAULTS, Nuclei, NucleiTruth, PlantedField, make_nuclei, plan_nuclei, render_nuclei
from tabib.progress import SILENT, Progress

__all__ = [
    "CHEST_CLASSES",
    "CHEST_LABELS",
    "HEART_FAULTS",
    "HEART_GROUPS",
    "NUCLEI_FAULTS",
    "PHANTOMS",
    "ChestFilms",
    "HeartScans",
    "HeartTruth",
    "Nuclei",
    "NucleiTruth",
    "Phantom",
    "PlantedField",
    "PlantedFilm",
    "PlantedHeart",
    "Truth",
    "make_chest_films",
    "make_heart_scans",
    "make_nuclei",
    "plan_chest_films",
    "plan_heart_scans",
    "plan_nuclei",
    "render_chest_films",
    "render_heart",
    "render_nuclei",
]


class Planted(Protocol):
    """What is true of a data set."""

    @property
    def images(self) -> int:
        """How many images there are."""
        ...


class _Make(Protocol):
    def __call__(self, folder: Path, /, *, progress: Progress = SILENT) -> Planted: ...


@dataclass(frozen=True)
class Phantom:
    """A kind of made-up data set; `make` writes it as it is by default into an empty or a new folder."""

    title: str
    make: _Make


PHANTOMS: dict[str, Phantom] = {
    "chest": Phantom("Chest films of healthy people and of people with pneumonia", partial(make_chest_films, films=ChestFilms())),
    "chest_labels": Phantom(
        "Chest films that may show several findings, named in a table", partial(make_chest_films, films=ChestFilms(several=True))
    ),
    "heart": Phantom(
        "Cine slices of beating hearts with the outlines of both ventricles, as ACDC lays them out",
        partial(make_heart_scans, scans=HeartScans()),
    ),
    "nuclei": Phantom("Stained tissue with touching nuclei, one by one in label maps", partial(make_nuclei, nuclei=Nuclei())),
    "nuclei_fluorescence": Phantom("The same nuclei in fluorescence", partial(make_nuclei, nuclei=Nuclei(stain="fluorescence"))),
}
"""Every phantom by its name on the command line."""
