"""A small Sunnybrook folder: beating hearts in DICOM files, and outlines whose areas are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from images.made import dicom

SIDE, MOMENTS, DIASTOLE, SYSTOLE = 48, 4, 3, 1
SPACING = (8.0, 1.5, 1.5)


def middle_of(patient: int) -> int:
    """Row and column in whose upper left corner the middle of a heart lies."""
    return 18 + 5 * patient % 13


def square(half: int, *, middle: int) -> list[tuple[float, float]]:
    """The corners of 2 x `half` pixels, from edge to edge, where the first pixel's centre is 1."""
    low, high = middle + 0.5 - half, middle + 0.5 + half
    return [(low, low), (high, low), (high, high), (low, high)]


def write_outline(folder: Path, number: int, kind: str, points: list[tuple[float, float]]) -> Path:
    place = folder / f"{kind}-contours" / f"IM-0001-{number:04}-{kind}contour-manual.txt"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("".join(f"{x:.2f} {y:.2f}\n" for x, y in points))
    return place


def number_of(place: int, moment: int) -> int:
    """The number of a picture: the last slice comes first, so that numbers and places differ."""
    return place * MOMENTS + moment + 1


def write_sunnybrook(folder: Path, *, patients: int = 2, slices: int = 5, outlined: range = range(1, 4), name: str = "{}.dcm") -> Path:
    """Write cine series of `MOMENTS` moments; the cavity is 8 x 8 pixels at end-diastole and 4 x 4 at end-systole, its wall 2 thick.

    Slices of `outlined` have inner outlines at both, and outer ones at end-diastole.
    """
    random = np.random.default_rng(3)
    lines = ["patient_id,original_id"]
    for patient in range(1, patients + 1):
        own, drawn_as = f"SCD{patient:07}", f"SC-HF-I-{patient}"
        lines.append(f"{own},{drawn_as}")
        outlines, middle = folder / "contourfiles" / drawn_as, middle_of(patient)
        body = np.kron(random.integers(50, 250, (8, 8)), np.ones((6, 6)))
        for place in range(slices):
            for moment in range(MOMENTS):
                number, half = number_of(place, moment), 2 if moment == SYSTOLE else 4
                image = (body + random.integers(0, 20, body.shape)).astype(np.uint16)
                for edge, value in ((half + 2, 20), (half, 400 + patient)):
                    image[middle - edge : middle + edge, middle - edge : middle + edge] = value
                values = {
                    "SOPInstanceUID": f"1.2.{patient}.{number}",
                    "StudyInstanceUID": f"1.2.{patient}",
                    "SeriesInstanceUID": f"1.2.{patient}.9",
                    "Modality": "MR",
                    "PatientID": own,
                    "InstanceNumber": number,
                    "TriggerTime": 40.0 * moment,
                    "ImagePositionPatient": [0, 0, -SPACING[0] * place],
                    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
                    "PixelSpacing": [*SPACING[1:]],
                }
                file = folder / "dicoms" / own / name.format(number)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(dicom(image, bits=12, values=values))
                if place in outlined and moment in (DIASTOLE, SYSTOLE):
                    write_outline(outlines, number, "i", square(half, middle=middle))
                if place in outlined and moment == DIASTOLE:
                    write_outline(outlines, number, "o", square(half + 2, middle=middle))
    (folder / "link.csv").write_text("\n".join(lines) + "\n")
    return folder
