"""Made-up nuclei under the microscope that touch one another, with an instance map: stained tissue, and fluorescence.

Stained tissue is drawn as light is absorbed: the amounts of haematoxylin and eosin in every pixel, through the colours that the
two stains let pass (Beer and Lambert's law; colours of Ruifrok and Johnston, Anal Quant Cytol Histol 2001;23:291). What differs
from slide to slide (strength and hue of the stains, size of the nuclei, how crowded they are) is a function of the seed and of
the slide, so that fields of one slide resemble one another.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tabib.errors import StudyError
from tabib.images.write import encode_png
from tabib.phantoms.folder import write_folder
from tabib.progress import SILENT, Progress

__all__ = ["NUCLEI_FAULTS", "Nuclei", "NucleiTruth", "PlantedField", "make_nuclei", "plan_nuclei", "render_nuclei"]

NucleiFault = Literal["shifted", "swapped", "empty", "other_shape", "three_channels"]
Picture = NDArray[np.floating[Any]]

NUCLEI_FAULTS: tuple[NucleiFault, ...] = ("shifted", "swapped", "empty", "other_shape", "three_channels")
"""What can be wrong with a label map: moved by a nucleus, that of another field, without a nucleus, fewer rows and columns than the
picture, or saved as a colour picture."""

_SLIDE, _FIELD, _FAULT = range(3)  # what a random draw is for: the second number of its seed

_STAINS = {"haematoxylin": (0.65, 0.70, 0.29), "eosin": (0.07, 0.99, 0.11), "erythrocytes": (0.18, 0.95, 0.55)}
"""Optical density in red, green and blue."""


@dataclass(frozen=True, kw_only=True)
class Nuclei:
    """What to make."""

    slides: int = 10  # at least 1; a slide is a group
    fields: int = 3  # of each slide
    side: int = 192  # height and width in pixels, 64 to 1024
    density: float = 0.0022  # nuclei to a pixel, before a slide makes it more or less
    touching: float = 0.5  # fraction of the nuclei that are put beside one that is there
    stain: Literal["haematoxylin_eosin", "fluorescence"] = "haematoxylin_eosin"
    faults: float = 0.0  # fraction of fields whose label map is wrong, rounded up; in turn the kinds of `fault_kinds`
    fault_kinds: tuple[NucleiFault, ...] = NUCLEI_FAULTS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.slides < 1 or self.fields < 1:
            raise StudyError(f"slides is {self.slides} and fields {self.fields}, and must be at least 1")
        if not 64 <= self.side <= 1024:
            raise StudyError(f"side is {self.side}, and must be from 64 to 1024 pixels")
        if not 0 < self.density <= 0.005:
            raise StudyError(f"density is {self.density:g}, and must be above 0 and at most 0.005 nuclei to a pixel")
        if not 0 <= self.touching <= 1:
            raise StudyError(f"touching is {self.touching:g}, and must be a fraction from 0 to 1")
        if not 0 <= self.faults <= 1 or not self.fault_kinds or set(self.fault_kinds) - set(NUCLEI_FAULTS):
            raise StudyError(
                f"faults is {self.faults:g}, and must be a fraction from 0 to 1, and fault_kinds some of {', '.join(NUCLEI_FAULTS)}"
            )


@dataclass(frozen=True, kw_only=True)
class PlantedField:
    """One picture and the truth about it."""

    image: str  # path below the folder
    mask: str
    slide: int
    field: int
    count: int  # nuclei, also those that the edge cuts
    fault: NucleiFault | None = None


@dataclass(frozen=True)
class NucleiTruth:
    """What was made and what was planted where."""

    settings: Nuclei
    fields: tuple[PlantedField, ...]

    @property
    def images(self) -> int:
        """How many images there are."""
        return len(self.fields)


def make_nuclei(folder: Path, nuclei: Nuclei, *, progress: Progress = SILENT) -> NucleiTruth:
    """Write made-up nuclei: `images/*.png`, and in `labels/*.png` under the same names 16-bit instance maps.

    `folder` must be empty or not there yet; the truth goes to `<folder>.truth.json` (`write_folder`). The same settings give the
    same bytes with the same versions of NumPy, SciPy and Pillow.
    """
    truth = plan_nuclei(nuclei)

    def told() -> str:
        return json.dumps(asdict(truth), indent=1) + "\n"

    write_folder(folder, _files(truth), number=2 * len(truth.fields), truth=(".truth.json", told), progress=progress)
    return truth


def plan_nuclei(nuclei: Nuclei) -> NucleiTruth:
    """Decide how many nuclei each field holds and where faults are planted, without drawing a picture."""
    places = [(slide, field) for slide in range(1, nuclei.slides + 1) for field in range(1, nuclei.fields + 1)]
    lots = [float(np.random.default_rng([nuclei.seed, _FAULT, *place]).random()) for place in places]
    wrong = sorted(range(len(places)), key=lambda k: lots[k])[: math.ceil(nuclei.faults * len(places) - 1e-9)]
    kinds: dict[tuple[int, int], NucleiFault] = {
        places[k]: nuclei.fault_kinds[turn % len(nuclei.fault_kinds)] for turn, k in enumerate(wrong)
    }
    planted = []
    for slide, field in places:
        name = f"slide{slide:03d}_field{field:02d}.png"
        count = int(_instances(nuclei, slide, field)[0].max())
        fault = kinds.get((slide, field))
        planted.append(PlantedField(image=f"images/{name}", mask=f"labels/{name}", slide=slide, field=field, count=count, fault=fault))
    return NucleiTruth(nuclei, tuple(planted))


def render_nuclei(nuclei: Nuclei, slide: int, field: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """A field of a slide and its true instance map (without a planted fault): (H, W, 3) stained or (H, W), and (H, W)."""
    look = _look(nuclei, slide)
    labels, rim, random = _instances(nuclei, slide, field)
    draw = _fluorescence if nuclei.stain == "fluorescence" else _stained
    return draw(labels, rim, look, random), labels


# --- Where the nuclei are ---


@dataclass(frozen=True)
class _Look:
    """What fields of a slide have in common."""

    radius: float  # pixels
    crowd: float  # times the density
    strength: tuple[float, float]  # of haematoxylin and of eosin
    hue: tuple[float, float, float]  # what is added to the stains' colours
    blur: float


def _look(nuclei: Nuclei, slide: int) -> _Look:
    random = np.random.default_rng([nuclei.seed, _SLIDE, slide])
    red, green, blue = random.normal(0, 0.04, 3).tolist()
    return _Look(
        radius=float(random.uniform(6.5, 9.5)),
        crowd=float(random.uniform(0.7, 1.2)),
        strength=(float(random.uniform(0.85, 1.25)), float(random.uniform(0.28, 0.50))),
        hue=(red, green, blue),
        blur=float(random.uniform(0.6, 1.0)),
    )


def _instances(nuclei: Nuclei, slide: int, field: int) -> tuple[NDArray[np.uint16], Picture, np.random.Generator]:
    """The instance map, how far out in its nucleus every pixel lies (0 in the middle, 1 at the rim), and the generator to go on with.

    Where two nuclei press on each other, a pixel belongs to the one in which it lies further in.
    """
    look, random = _look(nuclei, slide), np.random.default_rng([nuclei.seed, _FIELD, slide, field])
    wanted = max(2, round(nuclei.density * look.crowd * nuclei.side**2))
    centres: list[tuple[float, float, float]] = []
    labels, rim = np.zeros((nuclei.side, nuclei.side), np.uint16), np.ones((nuclei.side, nuclei.side))
    for _ in range(20 * wanted):
        if len(centres) == wanted:
            break
        radius = look.radius * float(np.exp(0.16 * random.standard_normal()))
        row, column = random.uniform(0, nuclei.side, 2).tolist()
        beside = bool(centres) and random.random() < nuclei.touching
        if beside:
            near, along, size = centres[int(random.integers(len(centres)))]
            away, turn = 0.92 * (radius + size), random.uniform(0, 2 * math.pi)
            row, column = near + away * math.sin(turn), along + away * math.cos(turn)
        lowest = 0.9 if beside else 1.25  # how near to others a nucleus may come, in sums of the radii
        inside = 0 <= row < nuclei.side and 0 <= column < nuclei.side
        if inside and all(math.hypot(row - r, column - c) > lowest * (radius + other) for r, c, other in centres):
            centres.append((row, column, radius))
            _put(labels, rim, len(centres), row, column, radius, random)
    return labels, rim, random


def _put(
    labels: NDArray[np.uint16], rim: Picture, number: int, row: float, column: float, radius: float, random: np.random.Generator
) -> None:
    """Lay a nucleus into the map: an ellipse whose outline waves a little."""
    reach = math.ceil(1.6 * radius)
    rows = slice(max(0, int(row) - reach), int(row) + reach + 1)
    columns = slice(max(0, int(column) - reach), int(column) + reach + 1)
    line = np.arange(len(labels))
    y, x = line[rows, None] - row, line[None, columns] - column
    turn, stretch = random.uniform(0, math.pi), math.sqrt(random.uniform(1.0, 1.45))
    along, across = math.cos(turn) * x + math.sin(turn) * y, math.cos(turn) * y - math.sin(turn) * x
    angle = np.arctan2(across, along)
    waves = sum(random.normal(0, 0.03) * np.cos(k * angle + random.uniform(0, 6.3)) for k in (2, 3, 4))
    out = np.hypot(along / stretch, across * stretch) / (radius * (1 + waves))
    here = (out < 1) & (out < rim[rows, columns])
    labels[rows, columns][here] = number
    rim[rows, columns][here] = out[here]


# --- What they look like ---


def _noise(shape: tuple[int, ...], sigma: float, random: np.random.Generator) -> Picture:
    smooth = gaussian_filter(random.standard_normal(shape), sigma, mode="wrap")
    return smooth / smooth.std()


def _chromatin(labels: NDArray[np.uint16], rim: Picture, random: np.random.Generator) -> Picture:
    """How much of the dye each pixel of a nucleus takes up: unlike from nucleus to nucleus, coarse within, darker at the rim."""
    each = np.append(0.0, random.lognormal(0, 0.18, int(labels.max())))[labels]
    return each * np.clip(1 + 0.22 * _noise(labels.shape, 1.1, random) + 0.25 * (rim**6 - 0.3), 0.25, None)


def _stained(labels: NDArray[np.uint16], rim: Picture, look: _Look, random: np.random.Generator) -> NDArray[np.uint8]:
    shape = labels.shape
    fibres = np.abs(_noise(shape, 5, random) + 0.5 * _noise(shape, 2, random))
    gaps = 1 / (1 + np.exp(6 * (_noise(shape, 14, random) - 1.4)))  # where the tissue is torn the glass is white
    cytoplasm = np.exp(-((np.clip(_far_from(labels), 0, None) / 7) ** 2))
    eosin = look.strength[1] * gaps * np.clip(0.55 + 0.35 * np.exp(-((fibres / 0.25) ** 2)) + 0.35 * cytoplasm, 0, None)
    red = gaussian_filter((_noise(shape, 3.2, random) > 2.35).astype(float), 0.8) * (labels == 0)
    haematoxylin = 0.06 * gaps + look.strength[0] * gaussian_filter(_chromatin(labels, rim, random), look.blur)
    amounts = {"haematoxylin": haematoxylin, "eosin": eosin * (1 - 0.5 * (labels > 0)), "erythrocytes": 0.8 * red}
    density = sum(amounts[name][..., None] * (np.array(colour) + look.hue) for name, colour in _STAINS.items())
    light = 245 * np.exp(-np.clip(density, 0, None)) + 2.5 * random.standard_normal((*shape, 3))
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


def _far_from(labels: NDArray[np.uint16]) -> Picture:
    """Roughly how far the next nucleus is, in pixels: from a blurred mask, which is enough for a halo."""
    return -6 * np.log(np.clip(gaussian_filter((labels > 0).astype(float), 5), 1e-6, None) * 1.6)


def _fluorescence(labels: NDArray[np.uint16], rim: Picture, look: _Look, random: np.random.Generator) -> NDArray[np.uint8]:
    glow = gaussian_filter(_chromatin(labels, rim, random) * (1 - 0.35 * rim**4), look.blur)
    haze = 0.08 * gaussian_filter(glow, 9) + 0.025 * np.clip(1 + 0.5 * _noise(labels.shape, 25, random), 0, None)
    light = 150 * look.strength[0] * (glow + haze)
    light = random.poisson(np.clip(light, 0, None) * 3) / 3 + 1.2 * random.standard_normal(labels.shape) + 4
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


# --- Files ---


def _files(truth: NucleiTruth) -> Iterator[tuple[str, bytes]]:
    nuclei = truth.settings
    for planted in truth.fields:
        picture, labels = render_nuclei(nuclei, planted.slide, planted.field)
        yield planted.image, encode_png(picture)
        if planted.fault == "swapped":
            other = truth.fields[(truth.fields.index(planted) + 1) % len(truth.fields)]
            labels = render_nuclei(nuclei, other.slide, other.field)[1]
        yield planted.mask, encode_png(_spoilt(labels, planted.fault))


def _spoilt(labels: NDArray[np.uint16], fault: NucleiFault | None) -> NDArray[np.integer[Any]]:
    if fault == "shifted":
        return np.roll(labels, (12, 12), axis=(0, 1))
    if fault == "empty":
        return np.zeros_like(labels)
    if fault == "other_shape":
        return labels[: -len(labels) // 8, : -len(labels) // 8]
    if fault == "three_channels":
        colours = np.stack([labels * 37, labels * 91, labels * 151], axis=-1)
        return (colours % 256).astype(np.uint8)
    return labels
