"""A made-up study of the heart: cine slices at end-diastole and end-systole, with outlines and known volumes.

**How well it is known.** The shape of every heart has a volume (`volumes`), found by quadrature of its surfaces, and the sum of
its voxels lies within a proven bound of it (`volume_bound`); both stand in the truth, beside the ejection fraction. The base
of the ventricles lies between two slices at both moments, as the bound needs: from diastole to systole it comes down by a whole
slice or stays.

**Groups.** As in ACDC (Bernard et al., IEEE TMI 2018;37:2514) patients are in turn healthy (NOR), or have a dilated (DCM), a
hypertrophic (HCM) or an infarcted left ventricle (MINF), or an abnormal right one (RV). The infarct is a wall that is thin and
does not thicken.

**Independence.** A patient is a function of the seed and of his number; planted faults change only the outlines they touch.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tabib.errors import StudyError
from tabib.images.image import ImageFacts
from tabib.images.volume import Volume
from tabib.images.write import encode_nifti
from tabib.phantoms.folder import write_folder
from tabib.phantoms.ventricles import (
    LABELS,
    Scene,
    Ventricles,
    contract,
    draw_scene,
    label_slice,
    render_slice,
    shape_ventricles,
    volume_bound,
    volumes,
)
from tabib.progress import SILENT, Progress

__all__ = [
    "HEART_FAULTS",
    "HEART_GROUPS",
    "HeartScans",
    "HeartTruth",
    "PlantedHeart",
    "make_heart_scans",
    "plan_heart_scans",
    "render_heart",
]

Group = Literal["NOR", "DCM", "HCM", "MINF", "RV"]
Phase = Literal["ED", "ES"]
HeartFault = Literal["shifted", "swapped", "missing_slice", "other_shape", "undeclared"]

HEART_GROUPS: tuple[Group, ...] = ("NOR", "DCM", "HCM", "MINF", "RV")
"""What patients have, in turn."""

HEART_FAULTS: tuple[HeartFault, ...] = ("shifted", "swapped", "missing_slice", "other_shape", "undeclared")
"""What can be wrong with outlines: moved by 12 mm, both cavities swapped, a slice in the middle left out, fewer rows and columns
than the picture, a part of the left cavity under a value that means nothing."""

UNDECLARED = 5

_BODY, _SCENE, _GRAIN, _FAULT = range(4)  # what a random draw is for: the second number of its seed


@dataclass(frozen=True)
class _Kind:
    """What is usual in a group: middle and spread of each."""

    left_ml: tuple[float, float]
    left_ejection: tuple[float, float]
    right_ml: tuple[float, float]
    right_ejection: tuple[float, float]
    wall: tuple[float, float]
    slender: float  # length of the left cavity in radii
    descent: int  # slices by which the base comes down
    scar: float = 0.0


_KINDS: dict[Group, _Kind] = {
    "NOR": _Kind((140, 14), (0.62, 0.03), (150, 14), (0.57, 0.03), (8, 0.5), 3.4, 1),
    "DCM": _Kind((270, 28), (0.24, 0.05), (175, 18), (0.42, 0.05), (8, 0.5), 2.7, 0),
    "HCM": _Kind((122, 12), (0.70, 0.03), (130, 12), (0.61, 0.03), (16.5, 1.4), 3.4, 1),
    "MINF": _Kind((195, 20), (0.32, 0.04), (150, 14), (0.51, 0.04), (8.5, 0.5), 3.2, 0, 0.65),
    "RV": _Kind((130, 12), (0.57, 0.03), (245, 22), (0.35, 0.04), (8.5, 0.5), 3.4, 1),
}


@dataclass(frozen=True, kw_only=True)
class HeartScans:
    """What to make."""

    patients: int = 20  # at least 1; two volumes each
    side: int = 128  # rows and columns, 48 to 512
    pixel: tuple[float, float] = (1.4, 1.7)  # mm, least and most; at 128 pixels a field of 18 to 22 cm
    slice_thickness: tuple[float, ...] = (8.0, 10.0)  # mm, one of these for each patient
    noise: float = 0.035  # standard deviation; blood is 1
    breath: float = 1.0  # mm by which slices lie beside each other, as each is taken in its own breath
    faults: float = 0.0  # fraction of volumes whose outlines are wrong, rounded up; in turn the kinds of `fault_kinds`
    fault_kinds: tuple[HeartFault, ...] = HEART_FAULTS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.patients < 1:
            raise StudyError(f"patients is {self.patients}, and must be at least 1")
        if not 48 <= self.side <= 512:
            raise StudyError(f"side is {self.side}, and must be from 48 to 512 pixels")
        if not 0 < self.pixel[0] <= self.pixel[1] or not self.slice_thickness or min(self.slice_thickness) <= 0:
            raise StudyError(f"pixel {self.pixel} and slice_thickness {self.slice_thickness} must be above 0 mm, the least before the most")
        if not 0 <= self.faults <= 1 or not self.fault_kinds or set(self.fault_kinds) - set(HEART_FAULTS):
            raise StudyError(
                f"faults is {self.faults:g}, and must be a fraction from 0 to 1, and fault_kinds some of {', '.join(HEART_FAULTS)}"
            )
        if self.noise < 0 or self.breath < 0:
            raise StudyError(f"noise is {self.noise:g} and breath {self.breath:g}, and must not be below 0")


@dataclass(frozen=True, kw_only=True)
class PlantedHeart:
    """One volume and the truth about it."""

    patient: int
    group: Group
    phase: Phase
    frame: int  # of the cine series, from 1
    image: str  # path below the folder
    mask: str
    slices: int
    pixel: float  # mm
    slice_thickness: float  # mm
    base: int  # slices above the base at this moment
    shape: Ventricles
    fault: HeartFault | None = None

    @property
    def volumes_ml(self) -> dict[str, float]:
        """True volume of each structure."""
        return {str(name): value for name, value in volumes(self.shape).items()}

    @property
    def bounds_ml(self) -> dict[str, float]:
        """How far a sum of voxels can be from the true volume."""
        bounds = volume_bound(self.shape, pixel=self.pixel, slice_thickness=self.slice_thickness)
        return {str(name): value for name, value in bounds.items()}


@dataclass(frozen=True)
class HeartTruth:
    """What was made and what was planted where; of each patient the volume at end-diastole and then at end-systole."""

    settings: HeartScans
    hearts: tuple[PlantedHeart, ...]

    @property
    def images(self) -> int:
        """How many images there are."""
        return len(self.hearts)

    def ejection_fraction(self, patient: int, structure: Literal["lv", "rv"] = "lv") -> float:
        """Share of the volume at end-diastole that is pumped out."""
        diastole, systole = (heart.volumes_ml[structure] for heart in self.hearts if heart.patient == patient)
        return 1 - systole / diastole


def make_heart_scans(folder: Path, scans: HeartScans, *, progress: Progress = SILENT) -> HeartTruth:
    """Write made-up hearts as ACDC publishes its own: a folder for each patient, volumes, label maps and `Info.cfg`.

    `folder` must be empty or not there yet; the truth goes to `<folder>.truth.csv`, a row for each volume (`write_folder`). The
    same settings give the same bytes with the same versions of NumPy, SciPy and nibabel.
    """
    truth = plan_heart_scans(scans)
    rows: list[dict[str, object]] = []

    def told() -> str:
        stream = io.StringIO()
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return stream.getvalue()

    number = 2 * len(truth.hearts) + scans.patients
    write_folder(folder, _files(truth, rows), number=number, truth=(".truth.csv", told), progress=progress)
    return truth


def plan_heart_scans(scans: HeartScans) -> HeartTruth:
    """Decide who has what and how every heart is shaped, without drawing it."""
    hearts = [heart for patient in range(1, scans.patients + 1) for heart in _hearts_of(patient, scans)]
    lots = [float(np.random.default_rng([scans.seed, _FAULT, heart.patient, heart.frame]).random()) for heart in hearts]
    wrong = sorted(range(len(hearts)), key=lambda k: lots[k])[: math.ceil(scans.faults * len(hearts) - 1e-9)]
    for turn, k in enumerate(wrong):
        hearts[k] = replace(hearts[k], fault=scans.fault_kinds[turn % len(scans.fault_kinds)])
    return HeartTruth(scans, tuple(hearts))


def render_heart(heart: PlantedHeart, scans: HeartScans) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """The volume and its true label map (without the planted fault), (slices, side, side), from the base to the apex."""
    random = np.random.default_rng([scans.seed, _GRAIN, heart.patient, heart.frame])
    scene = _scene(scans.seed, heart.patient)
    line = (np.arange(scans.side) - (scans.side - 1) / 2) * heart.pixel
    pictures, labels = [], []
    for number in range(heart.slices):
        z = (number - heart.base + 0.5) * heart.slice_thickness
        shift = scans.breath * random.standard_normal(2)
        x, y = np.meshgrid(line - 8 + shift[0], line + shift[1])  # the right ventricle lies left of the axis
        thin = x.astype(np.float32), y.astype(np.float32)
        picture = render_slice(heart.shape, scene, z, *thin, number=number, slice_thickness=heart.slice_thickness, pixel=heart.pixel)
        grain = scans.noise * random.standard_normal((2, *picture.shape), dtype=np.float32)
        pictures.append(np.hypot(picture + grain[0], grain[1]))  # of a magnitude: Rice's distribution
        labels.append(label_slice(heart.shape, z, x, y))
    return np.rint(400 * np.stack(pictures)).astype(np.int16), np.stack(labels)


def _hearts_of(patient: int, scans: HeartScans) -> Iterator[PlantedHeart]:
    random = np.random.default_rng([scans.seed, _BODY, patient])
    group = HEART_GROUPS[(patient - 1) % len(HEART_GROUPS)]
    kind = _KINDS[group]

    def near(usual: tuple[float, float]) -> float:
        return float(usual[0] + usual[1] * np.clip(random.standard_normal(), -2, 2))

    pixel, slice_thickness = round(float(random.uniform(*scans.pixel)), 4), float(random.choice(scans.slice_thickness))
    left_ml, right_ml = near(kind.left_ml), near(kind.right_ml)
    frame = Ventricles(
        radius=1.0,
        length=kind.slender * near((1, 0.04)),
        oval=near((0.04, 0.015)),
        oval_at=float(random.uniform(0, math.pi)),
        wall=near(kind.wall),
        scar=kind.scar,
        scar_at=float(random.uniform(-math.pi, math.pi)),
        right_depth=0.0,
        right_length=0.86 * kind.slender,
        right_reach=near((1.48, 0.04)),
        right_at=math.pi + near((0.25, 0.1)),
    )
    diastole = shape_ventricles(frame, left_ml=left_ml, right_ml=right_ml)
    systole = contract(
        diastole,
        left_ml=left_ml * (1 - near(kind.left_ejection)),
        right_ml=right_ml * (1 - near(kind.right_ejection)),
        descent=kind.descent * slice_thickness,
    )
    above, below = int(random.integers(1, 3)), int(random.integers(0, 2))
    slices = above + math.ceil((diastole.length + diastole.wall) / slice_thickness) + below
    name = f"patient{patient:03d}"
    moments: list[tuple[Phase, Ventricles, int, int]] = [
        ("ED", diastole, 1, 0),
        ("ES", systole, int(random.integers(9, 14)), kind.descent),
    ]
    for phase, shape, number, descent in moments:
        stem = f"{name}/{name}_frame{number:02d}"
        yield PlantedHeart(
            patient=patient,
            group=group,
            phase=phase,
            frame=number,
            image=f"{stem}.nii.gz",
            mask=f"{stem}_gt.nii.gz",
            slices=slices,
            pixel=pixel,
            slice_thickness=slice_thickness,
            base=above + descent,
            shape=shape,
        )


@lru_cache(maxsize=2)
def _scene(seed: int, patient: int) -> Scene:
    return draw_scene(np.random.default_rng([seed, _SCENE, patient]))


def _files(truth: HeartTruth, rows: list[dict[str, object]]) -> Iterator[tuple[str, bytes]]:
    """Every file; `rows` gets what is true of each volume."""
    for heart in truth.hearts:
        picture, labels = render_heart(heart, truth.settings)
        yield heart.image, _nifti(picture, heart)
        yield heart.mask, _nifti(_spoilt(labels, heart), heart)
        rows.append(_row(truth, heart, labels))
        if heart.phase == "ES":
            yield f"patient{heart.patient:03d}/Info.cfg", _card(heart, truth.settings.seed).encode()


def _row(truth: HeartTruth, heart: PlantedHeart, labels: NDArray[np.uint8]) -> dict[str, object]:
    voxel = heart.pixel**2 * heart.slice_thickness / 1000
    row: dict[str, object] = {name: getattr(heart, name) for name in ("image", "mask", "patient", "group", "phase", "fault")}
    true, bounds = heart.volumes_ml, heart.bounds_ml
    for name, value in LABELS.items():
        row[f"{name}_ml"] = round(true[name], 3)
        row[f"{name}_voxels_ml"] = round(int((labels == value).sum()) * voxel, 3)
        row[f"{name}_bound_ml"] = round(bounds[name], 3)
    row["lv_ejection_fraction"] = round(truth.ejection_fraction(heart.patient), 5)
    row["rv_ejection_fraction"] = round(truth.ejection_fraction(heart.patient, "rv"), 5)
    return row


def _card(heart: PlantedHeart, seed: int) -> str:
    height, weight = np.random.default_rng([seed, _BODY, heart.patient, 1]).normal((171, 76), (8, 11)).round(1).tolist()
    said = {"ED": 1, "ES": heart.frame, "Group": heart.group, "Height": height, "NbFrame": 30, "Weight": weight}
    return "".join(f"{name}: {value}\n" for name, value in said.items())


def _spoilt(labels: NDArray[np.uint8], heart: PlantedHeart) -> NDArray[np.uint8]:
    """The label map as it is written, with the planted fault."""
    result = labels.copy()
    middle = heart.base + 3  # a slice that holds all structures at both moments
    if heart.fault == "shifted":
        step = max(1, round(12 / heart.pixel))
        result = np.roll(result, (step, step), axis=(1, 2))
    elif heart.fault == "swapped":
        result[labels == LABELS["lv"]], result[labels == LABELS["rv"]] = LABELS["rv"], LABELS["lv"]
    elif heart.fault == "missing_slice":
        result[middle] = 0
    elif heart.fault == "other_shape":
        result = result[:, : -labels.shape[1] // 8, : -labels.shape[2] // 8]
    elif heart.fault == "undeclared":
        result[middle][labels[middle] == LABELS["lv"]] = UNDECLARED
    return result


def _nifti(voxels: NDArray[np.generic], heart: PlantedHeart) -> bytes:
    """A NIfTI file whose slices go to the feet, rows to the back and columns to the patient's left."""
    spacing = (heart.slice_thickness, heart.pixel, heart.pixel)
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = (-spacing[0], spacing[1], spacing[2], 1)
    affine[:3, 3] = -affine[:3, :3] @ (np.array(voxels.shape) - 1) / 2  # the middle lies in the origin
    return encode_nifti(Volume(voxels, affine, spacing, ImageFacts(format="NIfTI", bits=8 * voxels.itemsize, mode=str(voxels.dtype))))
