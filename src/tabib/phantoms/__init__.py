"""Made-up data sets with known answers, for demonstrations, tests and measurements of Tabib itself."""

from __future__ import annotations

from tabib.phantoms.brains import BRAIN_CLASSES, make_brains, render_brain
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
from tabib.phantoms.people import People, PeopleTruth, PlantedPicture
from tabib.phantoms.ready import PHANTOMS, Phantom, ready_phantom
from tabib.phantoms.smears import SMEAR_CLASSES, make_smears, render_smear

__all__ = [
    "BRAIN_CLASSES",
    "CHEST_CLASSES",
    "CHEST_LABELS",
    "HEART_FAULTS",
    "HEART_GROUPS",
    "NUCLEI_FAULTS",
    "PHANTOMS",
    "SMEAR_CLASSES",
    "ChestFilms",
    "HeartScans",
    "HeartTruth",
    "Nuclei",
    "NucleiTruth",
    "People",
    "PeopleTruth",
    "Phantom",
    "PlantedField",
    "PlantedFilm",
    "PlantedHeart",
    "PlantedPicture",
    "Truth",
    "make_brains",
    "make_chest_films",
    "make_heart_scans",
    "make_nuclei",
    "make_smears",
    "plan_chest_films",
    "plan_heart_scans",
    "plan_nuclei",
    "ready_phantom",
    "render_brain",
    "render_chest_films",
    "render_heart",
    "render_nuclei",
    "render_smear",
]
