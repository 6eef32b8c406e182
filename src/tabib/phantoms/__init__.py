"""Made-up data sets with known answers, for demonstrations, tests and measurements of Tabib itself."""

from __future__ import annotations

from dataclasses import dataclass
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
from tabib.progress import SILENT, Progress

__all__ = [
    "CHEST_CLASSES",
    "CHEST_LABELS",
    "PHANTOMS",
    "ChestFilms",
    "Phantom",
    "PlantedFilm",
    "Truth",
    "make_chest_films",
    "plan_chest_films",
    "render_chest_films",
]


class _Write(Protocol):
    def __call__(self, folder: Path, films: ChestFilms, /, *, progress: Progress = SILENT) -> Truth: ...


@dataclass(frozen=True)
class Phantom:
    """A kind of made-up data set."""

    title: str
    defaults: ChestFilms
    write: _Write

    def make(self, folder: Path, *, progress: Progress = SILENT) -> Truth:
        """Write the data set as it is by default into an empty or a new folder."""
        return self.write(folder, self.defaults, progress=progress)


PHANTOMS: dict[str, Phantom] = {
    "chest": Phantom("Chest films of healthy people and of people with pneumonia", ChestFilms(), make_chest_films),
    "chest_labels": Phantom("Chest films that may show several findings, named in a table", ChestFilms(several=True), make_chest_films),
}
"""Every phantom by its name on the command line."""
