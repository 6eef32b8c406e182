"""A made-up study of the chest: who is ill, which films exist, and what trouble was planted on purpose.

**How hard it is.** Every patient has an amount of shadow in the lungs, normal with variance 1 and mean 0 in the healthy
and `lesion` in the ill, and the label touches the films through this amount alone. So no reader, however good, can
expect more than the AUC of someone who is told the amount, Phi(lesion / sqrt 2) (Green and Swets 1966, the equal-variance
model of signal detection): 0.5 without a lesion, where the films do not know the label, and 0.983 by default. What a
network reaches is below, because it has to find the shadow among ribs and vessels.

**Several findings.** With `several`, two more may be on a film: a large heart, in half of those with pneumonia and a quarter
of the others, and a mass, in a third of all. Each has an amount of its own, drawn and known like that of the shadow, so the
same number bounds the AUC of each. A table says which are there, instead of class folders.

**Independence.** A patient is a function of the seed and of his number: more patients do not change those who were there,
and planted trouble changes only the films it touches. A weaker trouble touches a part of what a stronger one touches.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

from tabib.errors import StudyError
from tabib.phantoms.folder import write_folder
from tabib.phantoms.thorax import Opacity, Thorax, draw_opacities, draw_pose, draw_thorax, render_film
from tabib.progress import SILENT, Progress

__all__ = [
    "CHEST_CLASSES",
    "CHEST_LABELS",
    "ChestFilms",
    "PlantedFilm",
    "Truth",
    "make_chest_films",
    "plan_chest_films",
    "render_chest_films",
]

CHEST_CLASSES = ("NORMAL", "PNEUMONIA")
"""The class folders: healthy, ill."""

CHEST_LABELS = ("PNEUMONIA", "CARDIOMEGALY", "MASS")
"""What a film may show where it may show several findings."""

Change = Literal["jpeg", "size", "brightness"]
Damage = Literal["truncated", "empty", "page", "misnamed"]
Fault = Literal["blank", "inverted", "blurred", "over_exposed", "under_exposed"]
_CHANGES: tuple[Change, ...] = ("jpeg", "size", "brightness")
_DAMAGES: tuple[Damage, ...] = ("truncated", "empty", "page", "misnamed")
_FAULTS: tuple[Fault, ...] = ("blank", "inverted", "blurred", "over_exposed", "under_exposed")

# What a random draw is for: the second number of its seed.
_BODY, _STATE, _PAIR, _FILM, _GRAIN, _COPY, _LEAK, _MACHINE, _CORRUPT, _NOISE, _LABEL, _PART, _SHADOW, _FAULT, _ALSO, _MASS = range(16)

_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True)
class ChestFilms:
    """What to make. Every trouble is off by default; a fraction counts what it says, rounded up."""

    patients: int = 120  # at least 2; every second one is ill
    films_per_patient: tuple[int, int] = (1, 4)  # least, most
    side: int = 160  # height and width in pixels, 32 to 1024
    lesion: float = 3.0  # distance of the ill from the healthy in standard deviations; best AUC is Phi(lesion / sqrt 2)
    seed: int = 0
    near_copies: float = (
        0.0  # fraction of films of which there is an altered copy in the name of another patient; every second one in the other class
    )
    given: bool = False  # whether the films lie in train and test folders, a quarter of the patients in test
    given_leak: float = 0.0  # fraction of the test patients of whom a film lies in train; makes `given` true
    machines: Literal[1, 2] = 1  # with two, patients go to either
    confounder: float = (
        0.0  # of the ill (1 + confounder) / 2 go to the second machine, of the healthy (1 - confounder) / 2; makes `machines` 2
    )
    difference: Literal["size", "jpeg", "border", "plate"] = (
        "size"  # second machine: 1.25 times the side, JPEG, black frame, or a white plate in the film
    )
    corrupt: float = 0.0  # fraction of films damaged, in turn truncated, empty, a web page, or under the suffix of another format
    faults: float = 0.0  # fraction of films that show badly, in turn blank, inverted, blurred, over-exposed and under-exposed
    label_noise: float = 0.0  # fraction of patients who lie in the wrong class folder
    random_labels: bool = False  # whether the class folders are drawn by lot
    several: bool = False  # whether films may show several findings, named in labels.csv; the films then lie in one folder `films`

    def __post_init__(self) -> None:
        least, most = self.films_per_patient
        lowest = 8 if self.parted else 2
        for name in ("near_copies", "given_leak", "confounder", "corrupt", "faults", "label_noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise StudyError(f"{name} is {getattr(self, name):g}, and must be a fraction from 0 to 1")
        if self.patients < lowest:
            raise StudyError(
                f"patients is {self.patients}, and must be at least {lowest}{' with train and test folders' if self.parted else ''}"
            )
        if not 1 <= least <= most:
            raise StudyError(f"films_per_patient is {least} to {most}, and must be at least 1, the least before the most")
        if not 32 <= self.side <= 1024:
            raise StudyError(f"side is {self.side}, and must be from 32 to 1024 pixels")
        if self.several and (self.parted or self.near_copies or self.label_noise or self.random_labels):
            raise StudyError(
                "several findings stand in a table, and near_copies, label_noise, random_labels and given are about class folders"
            )
        if self.given_leak and most < 2:
            raise StudyError("given_leak needs patients with two films: make films_per_patient at least (1, 2)")

    @property
    def parted(self) -> bool:
        """Whether the films lie in train and test folders."""
        return self.given or self.given_leak > 0


@dataclass(frozen=True, kw_only=True)
class PlantedFilm:
    """One file and the truth about it."""

    path: str  # below the folder, "/" between parts
    patient: int  # in the file's name
    film: int  # in the file's name
    label: str  # the class folder it lies in
    person: int  # whose chest it is; a near copy bears another patient's number
    exposure: int  # which of this person's films it is
    ill: bool
    amount: float  # of shadow; see the module's text
    also: tuple[str, ...] = ()  # further findings, of CHEST_LABELS
    also_amounts: tuple[float, float] | None = None  # of the large heart and of the mass
    part: Literal["train", "test"] | None = None
    second_machine: bool = False
    copy_of: str | None = None  # path of the film of which this is a near copy
    change: Change | None = None  # what the copy went through
    damage: Damage | None = None
    fault: Fault | None = None


@dataclass(frozen=True)
class Truth:
    """What was made and what was planted where."""

    settings: ChestFilms
    films: tuple[PlantedFilm, ...]

    @property
    def best_auc(self) -> float:
        """The largest AUC that a reader of the lungs can expect against the labels of the folders.

        With the fraction f of labels turned over it is f + (1 - 2 f) A, where A is Phi(lesion / sqrt 2). Machines are not
        counted: who reads a confounder can be better.
        """
        if self.settings.random_labels:
            return 0.5
        wrong = self.settings.label_noise
        return wrong + (1 - 2 * wrong) * float(ndtr(self.settings.lesion / math.sqrt(2)))

    @property
    def images(self) -> int:
        """How many images there are."""
        return len(self.films)

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """What each film shows, of several findings, by its path."""
        return {film.path: (*CHEST_LABELS[: int(film.ill)], *film.also) for film in self.films}

    @property
    def near_copies(self) -> list[tuple[str, str]]:
        """Paths of each near copy and of its original."""
        return [(film.path, film.copy_of) for film in self.films if film.copy_of is not None]

    @property
    def leaked(self) -> list[int]:
        """Patients with films in train and in test."""
        parts = {part: {film.patient for film in self.films if film.part == part} for part in ("train", "test")}
        return sorted(parts["train"] & parts["test"])

    @property
    def unreadable(self) -> list[str]:
        """Paths of the files that are no image."""
        return [film.path for film in self.films if film.damage not in (None, "misnamed")]

    @property
    def misnamed(self) -> list[str]:
        """Paths of good images under the suffix of another format."""
        return [film.path for film in self.films if film.damage == "misnamed"]

    @property
    def mislabelled(self) -> list[int]:
        """Patients who lie in the other class folder than they should."""
        return sorted({film.patient for film in self.films if film.copy_of is None and film.label != CHEST_CLASSES[film.ill]})


def make_chest_films(folder: Path, films: ChestFilms, *, progress: Progress = SILENT) -> Truth:
    """Write a data set of made-up chest films, one folder per class, and beside it what was planted where.

    `folder` must be empty or not there yet; the truth goes to `<folder>.truth.json` (`write_folder`). The same settings give
    the same bytes with the same versions of NumPy, SciPy and Pillow.
    """
    truth = plan_chest_films(films)
    files: list[tuple[str, Callable[[], bytes]]] = [(film.path, partial(_file, film, films)) for film in truth.films]
    if films.several:
        files.append(("labels.csv", lambda: _table(truth).encode()))
    made = ((path, make()) for path, make in files)

    def told() -> str:
        return json.dumps(asdict(truth) | {"best_auc": truth.best_auc}, indent=1) + "\n"

    write_folder(folder, made, number=len(files), truth=(".truth.json", told), progress=progress)
    return truth


def render_chest_films(films: ChestFilms) -> tuple[NDArray[np.uint8], Truth]:
    """Make the films in memory, for simulations: (N, side, side) uint8 in the order of the truth's films.

    Trouble that lives in files is refused (`StudyError`): near copies, damage, and a machine of another size or format.
    """
    truth = plan_chest_films(films)
    if any(film.copy_of or film.damage or (film.second_machine and films.difference in ("size", "jpeg")) for film in truth.films):
        raise StudyError("near_copies, corrupt and machines that differ in size or format are about files; use make_chest_films")
    return np.stack([_picture(film, films) for film in truth.films]), truth


def plan_chest_films(films: ChestFilms) -> Truth:
    """Decide who is ill, which films exist and where trouble is planted, without drawing a film."""
    planned = [film for person in range(1, films.patients + 1) for film in _films_of(person, films)]
    planned = _turn_labels(planned, films)
    planned = _choose_machines(planned, films)
    planned = _leak(planned, films)
    planned = [replace(film, path=_path(film, films)) for film in _spoil(planned, films)]
    planned += _near_copies(planned, films)
    return Truth(films, tuple(_damage(planned, films)))


# --- Who and what ---


def _random(films: ChestFilms, purpose: int, *numbers: int) -> np.random.Generator:
    return np.random.default_rng([films.seed, purpose, *numbers])


def _first(items: Sequence[_Item], fraction: float, lots: Sequence[float], *, of: int | None = None) -> list[_Item]:
    """The items with the smallest lots: a fraction of `of` (their own number by default), rounded up."""
    count = math.ceil(fraction * (len(items) if of is None else of) - 1e-9)
    order = sorted(range(len(items)), key=lambda k: lots[k])
    return [items[k] for k in order[:count]]


def _films_of(person: int, films: ChestFilms) -> Iterator[PlantedFilm]:
    # Patients come in pairs of an ill and a healthy one, and four pairs share a test pair: any number is balanced.
    pair = (person - 1) // 2
    ill = (_random(films, _PAIR, pair).random() < 0.5) == bool(person % 2)
    state = _random(films, _STATE, person)
    amount = float(state.standard_normal()) + films.lesion * ill
    count = int(state.integers(films.films_per_patient[0], films.films_per_patient[1] + 1))
    part = None
    also, amounts = _also(person, films, ill=ill) if films.several else ((), None)
    if films.parted:
        part = "test" if pair % 4 == _random(films, _PART, pair // 4).integers(4) else "train"
    for exposure in range(1, count + 1):
        yield PlantedFilm(
            path="",
            patient=person,
            film=exposure,
            label=CHEST_CLASSES[ill],
            person=person,
            exposure=exposure,
            ill=ill,
            amount=amount,
            also=also,
            also_amounts=amounts,
            part=part,
        )


def _also(person: int, films: ChestFilms, *, ill: bool) -> tuple[tuple[str, ...], tuple[float, float]]:
    """What else a person has, and how much of either."""
    state = _random(films, _ALSO, person)
    there = state.random(2) < (0.5 if ill else 0.25, 1 / 3)
    amounts = state.standard_normal(2) + films.lesion * there
    heart, mass = amounts.tolist()
    return tuple(name for name, present in zip(CHEST_LABELS[1:], there, strict=True) if present), (heart, mass)


def _table(truth: Truth) -> str:
    lines = [",".join(["path", "patient", *CHEST_LABELS])]
    for film in truth.films:
        present = truth.labels[film.path]
        lines.append(",".join([film.path.removeprefix("films/"), str(film.patient), *(str(int(name in present)) for name in CHEST_LABELS)]))
    return "\n".join(lines) + "\n"


def _turn_labels(planned: list[PlantedFilm], films: ChestFilms) -> list[PlantedFilm]:
    persons = range(1, films.patients + 1)
    wrong = set(_first(persons, films.label_noise, [_random(films, _NOISE, person).random() for person in persons]))
    labels = {film.person: CHEST_CLASSES[film.ill != (film.person in wrong)] for film in planned}
    if films.random_labels:
        turned = {person: _random(films, _LABEL, (person - 1) // 2).random() < 0.5 for person in persons}
        labels = {person: CHEST_CLASSES[turned[person] == bool(person % 2)] for person in persons}
    return [replace(film, label=labels[film.person]) for film in planned]


def _choose_machines(planned: list[PlantedFilm], films: ChestFilms) -> list[PlantedFilm]:
    if films.machines == 1 and films.confounder == 0:
        return planned
    lean = {CHEST_CLASSES[0]: -films.confounder, CHEST_CLASSES[1]: films.confounder}
    return [
        replace(film, second_machine=bool(_random(films, _MACHINE, film.person).random() < (1 + lean[film.label]) / 2)) for film in planned
    ]


def _leak(planned: list[PlantedFilm], films: ChestFilms) -> list[PlantedFilm]:
    test = sorted({film.person for film in planned if film.part == "test"})
    several = sorted({film.person for film in planned if film.part == "test" and film.film == 2})
    lots = [_random(films, _LEAK, person).random() for person in several]
    leaked = set(_first(several, films.given_leak, lots, of=len(test)))
    return [replace(film, part="train") if film.person in leaked and film.film == 1 else film for film in planned]


def _spoil(planned: list[PlantedFilm], films: ChestFilms) -> list[PlantedFilm]:
    lots = [_random(films, _FAULT, film.person, film.exposure).random() for film in planned]
    faults = {row: _FAULTS[k % len(_FAULTS)] for k, row in enumerate(_first(range(len(planned)), films.faults, lots))}
    return [replace(film, fault=faults.get(row)) for row, film in enumerate(planned)]


def _near_copies(planned: list[PlantedFilm], films: ChestFilms) -> list[PlantedFilm]:
    lots = [_random(films, _COPY, film.person, film.exposure).random() for film in planned]
    copies = []
    for k, original in enumerate(_first(planned, films.near_copies, lots)):
        label = original.label if k % 2 else CHEST_CLASSES[original.label == CHEST_CLASSES[0]]
        copy = replace(
            original, patient=films.patients + k + 1, film=1, label=label, copy_of=original.path, change=_CHANGES[k % len(_CHANGES)]
        )
        copies.append(replace(copy, path=_path(copy, films)))
    return copies


def _damage(planned: list[PlantedFilm], films: ChestFilms) -> list[PlantedFilm]:
    copied = {film.copy_of for film in planned}
    # A damaged film has no copies any more, so those that are to be found as copies are damaged last.
    lots = [
        _random(films, _CORRUPT, film.patient, film.film).random() + (film.copy_of is not None or film.path in copied) for film in planned
    ]
    chosen = _first(range(len(planned)), films.corrupt, lots)
    result = list(planned)
    for k, row in enumerate(chosen):
        film = replace(planned[row], damage=_DAMAGES[k % len(_DAMAGES)])
        result[row] = replace(film, path=_path(film, films))
    names = {before.path: after.path for before, after in zip(planned, result, strict=True)}
    return [replace(film, copy_of=names[film.copy_of]) if film.copy_of else film for film in result]


def _format(film: PlantedFilm, films: ChestFilms) -> Literal["PNG", "JPEG"]:
    jpeg = film.change == "jpeg" or (film.second_machine and films.difference == "jpeg")
    return "JPEG" if jpeg else "PNG"


def _path(film: PlantedFilm, films: ChestFilms) -> str:
    jpeg = (_format(film, films) == "JPEG") != (film.damage == "misnamed")
    name = f"{'films' if films.several else film.label}/patient{film.patient:03d}_film{film.film}.{'jpg' if jpeg else 'png'}"
    return name if film.part is None else f"{film.part}/{name}"


# --- From the plan to pixels and bytes ---


@lru_cache(maxsize=4)
def _person(seed: int, person: int, amount: float, also: tuple[float, float] | None) -> tuple[Thorax, tuple[Opacity, ...]]:
    thorax = draw_thorax(np.random.default_rng([seed, _BODY, person]))
    opacities = draw_opacities(np.random.default_rng([seed, _SHADOW, person]), 0.25 * _more(amount))
    if also is not None:
        wider, mass = 1 + 0.15 * _more(also[0]), 0.25 * _more(also[1])
        thorax = replace(thorax, heart_length=wider * thorax.heart_length, heart_width=wider * thorax.heart_width)
        place = np.random.default_rng([seed, _MASS, person])
        side, across, height = int(place.choice([-1, 1])), float(place.uniform(0.3, 0.6)), float(place.uniform(0.15, 0.4))
        opacities += (Opacity(side=side, across=across, height=height, radius=0.1, strength=mass),)
    return thorax, opacities


def _more(amount: float) -> float:
    """Softplus: a finding never takes away, and more is always more."""
    return math.log1p(math.exp(amount - 1))


def _picture(film: PlantedFilm, films: ChestFilms) -> NDArray[np.uint8]:
    """The film as its machine takes it, (H, W) uint8."""
    thorax, opacities = _person(films.seed, film.person, film.amount, film.also_amounts)
    other = films.difference if film.second_machine else None
    pixels = render_film(
        thorax,
        draw_pose(_random(films, _FILM, film.person, film.exposure)),
        opacities,
        _random(films, _GRAIN, film.person, film.exposure),
        side=round(1.25 * films.side) if other == "size" else films.side,
    )
    frame = max(1, round(0.04 * films.side))
    if other == "border":
        inside = pixels[frame:-frame, frame:-frame].copy()
        pixels[:] = 0
        pixels[frame:-frame, frame:-frame] = inside
    if other == "plate":
        pixels[frame : 2 * frame, -4 * frame : -frame] = 245
    return pixels if film.fault is None else _spoilt(pixels, film.fault, _random(films, _FAULT, film.person, film.exposure, 1))


def _spoilt(pixels: NDArray[np.uint8], fault: Fault, random: np.random.Generator) -> NDArray[np.uint8]:
    values = pixels.astype(np.float64)
    if fault == "blank":
        values = random.normal(120, 2, pixels.shape)
    elif fault == "inverted":
        values = 255 - values
    elif fault == "blurred":
        values = gaussian_filter(values, len(pixels) / 50)
    else:
        values += 150 if fault == "over_exposed" else -150
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _file(film: PlantedFilm, films: ChestFilms) -> bytes:
    if film.damage == "empty":
        return b""
    if film.damage == "page":
        return b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n"
    pixels = _picture(film, films)
    picture = Image.fromarray(pixels)
    if film.change == "size":
        side = round(0.8 * len(pixels))
        picture = picture.resize((side, side), Image.Resampling.LANCZOS)
    if film.change == "brightness":
        picture = Image.fromarray(np.clip(pixels * np.float32(1.06) + 6, 0, 255).astype(np.uint8))
    stream = io.BytesIO()
    if _format(film, films) == "JPEG":
        picture.save(stream, "JPEG", quality=85)
    else:
        picture.save(stream, "PNG", compress_level=3)
    data = stream.getvalue()
    return data[: len(data) // 2] if film.damage == "truncated" else data
