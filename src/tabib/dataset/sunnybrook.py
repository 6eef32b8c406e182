"""The Sunnybrook cardiac data (Radau et al. 2009): cine DICOM files, and outlines of the left ventricle drawn on some of them.

A case is what was outlined at one moment of a heart. Slices without an outline are no part of it: nobody looked at them, which is not the
same as nothing being there.

A path of the index names its files, as `dicoms/SCD0000101/{59,79,99}.dcm`; its mask is the folder of the patient's outlines.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np

from tabib.config import SegmentationData
from tabib.dataset.listing import WITHOUT_IMAGE, WITHOUT_MASKS, Listed, list_files, out_of_place
from tabib.dataset.stacks import Stack, named_files, together
from tabib.engines import Crashed, map_in_processes
from tabib.errors import DataError, ImageError
from tabib.images import Series, Volume, fill_contour, find_series, read_contour
from tabib.progress import SILENT, Progress

__all__ = ["list_sunnybrook", "outlines_of", "read_outlines"]

DRAWING = """Expected DICOM files in a folder for each patient, outlines in one for each, and a table that joins the two names:
    {folder}/link.csv    patient_id,original_id
    {folder}/dicoms/SCD0000101/48.dcm    (or IM-0001-0048.dcm)
    {folder}/contourfiles/SC-HF-I-1/i-contours/IM-0001-0048-icontour-manual.txt"""

LINK = "link.csv"

LV, MYOCARDIUM = 1, 2
"""The numbers that this layout gives: what the inner outline encloses, and what lies between it and the outer one."""

INNER, OUTER = "i", "o"

_OUTLINE = re.compile(r"^(?:.*-)?(?P<number>\d+)-(?P<kind>[io])contour-manual\.txt$", re.IGNORECASE)
_GROUPS = re.compile(r"^SC-(?P<group>[A-Z]+(?:-[A-Z]+)?)-\d+$", re.IGNORECASE)

_Outlines = dict[int, dict[str, str]]  # by number of the picture the paths of its outlines, by kind


@dataclass(frozen=True)
class _Patient:
    """What lies in the folder of one patient."""

    data: SegmentationData
    patient: str
    drawn_as: str  # what the outlines call the patient
    pictures: list[str]
    outlines: _Outlines


def list_sunnybrook(data: SegmentationData, *, workers: int | None = None, progress: Progress = SILENT) -> list[Listed]:
    """List the moments at which a heart was outlined, each with the slices that have the outlines which `data.labels` asks for.

    Of two outlined moments the one with the larger cavity is end-diastole and the other end-systole. Headers are read, to know
    which pictures are of one moment; their place decides, not their numbers.

    Raises:
        DataError: no `link.csv`, no outlines, or labels that this layout does not have.
    """
    _check_labels(data)
    drawn_as = _link(data.folder)
    owners = {_plain(original): patient for patient, original in drawn_as.items()}
    listed: list[Listed] = []
    pictures: dict[str, list[str]] = defaultdict(list)
    outlines: dict[str, _Outlines] = defaultdict(lambda: defaultdict(dict))
    for entry in list_files(data.folder):
        path = PurePosixPath(entry.path)
        outline = _OUTLINE.match(path.name)
        owner = next((owners[_plain(part)] for part in path.parts[:-1] if _plain(part) in owners), None)
        of_picture = next((part for part in path.parts[:-1] if part in drawn_as), None)
        if entry.refused:
            listed.append(entry)
        elif outline and owner:
            other = outlines[owner][int(outline["number"])].setdefault(outline["kind"].lower(), entry.path)
            if other != entry.path:
                listed.append(Listed(entry.path, refused=f"a second outline of one picture; {other!r} is used, keep the one that counts"))
        elif of_picture and not path.name.lower().endswith(".txt"):
            pictures[of_picture].append(entry.path)
        elif entry.path != LINK:
            place = f"lies in no folder of a patient that {LINK} names"
            reason = out_of_place(entry.path, f"{WITHOUT_MASKS}: {place}") if outline is None else f"{WITHOUT_IMAGE}: {place}"
            listed.append(Listed(entry.path, refused=reason))
    if not outlines:
        raise DataError(
            f"{data.folder} holds no outlines of the {len(drawn_as)} patients that {LINK} names.\n{DRAWING.format(folder=data.folder)}"
        )
    patients = [_Patient(data, name, drawn_as[name], pictures[name], outlines[name]) for name in sorted(pictures.keys() | outlines.keys())]
    found = map_in_processes(_list_patient, patients, workers=workers, progress=progress, name="headers")
    for patient, cases in zip(patients, found, strict=True):
        if isinstance(cases, Crashed):
            listed += [Listed(path, refused=f"reading the header crashed: {cases.reason}") for path in patient.pictures]
        else:
            listed += cases
    return listed


def outlines_of(data: SegmentationData, mask: str, stack: Stack) -> list[Path]:
    """The outlines on the slices of a case that the study asks for."""
    drawn = _outlines_below(data.folder / mask)
    return [file for one in stack.files for kind, file in drawn.get(_number(one.name), {}).items() if kind in _kinds(data)]


def read_outlines(data: SegmentationData, mask: str, stack: Stack, image: Volume) -> Volume:
    """Read the mask that the outlines on the slices of a case enclose.

    Raises:
        ImageError: an outline that is missing, cannot be read or leaves the image.
    """
    drawn = _outlines_below(data.folder / mask)
    numbers = [_number(file.name) for file in stack.files]
    voxels = np.stack([_filled(drawn.get(number, {}), number, image.voxels.shape[1:3], data) for number in numbers])
    voxels.flags.writeable = False
    return replace(image, voxels=voxels)


def _filled(drawn: Mapping[str, Path], number: int, shape: tuple[int, int], data: SegmentationData) -> np.ndarray:
    """The mask of a slice, (H, W) uint8."""
    inside: dict[str, np.ndarray] = {}
    for kind in _kinds(data):
        if kind not in drawn:
            raise ImageError(f"there is no {NAMES[kind]} outline of picture {number} any more; fetch the file again")
        try:
            inside[kind] = fill_contour(read_contour(drawn[kind]), shape)
        except ImageError as error:
            name = drawn[kind].name
            raise ImageError(str(error) if str(error).startswith(name) else f"{name}: {error}") from None
    mask = np.zeros(shape, np.uint8)
    if OUTER in inside:
        mask[inside[OUTER]] = MYOCARDIUM
    mask[inside[INNER]] = LV if LV in _asked(data) else 0
    return mask


NAMES = {INNER: "inner", OUTER: "outer"}


def _asked(data: SegmentationData) -> set[int]:
    """The numbers that the study has a use for."""
    given = [[numbers] if isinstance(numbers, int) else numbers for numbers in data.labels.values()]
    return {*chain.from_iterable(given), *data.ignored}


def _kinds(data: SegmentationData) -> tuple[str, ...]:
    """The outlines that a slice must have: of the myocardium both."""
    return (INNER, OUTER) if MYOCARDIUM in _asked(data) else (INNER,)


def _check_labels(data: SegmentationData) -> None:
    if data.instances or _asked(data) - {LV, MYOCARDIUM}:
        raise DataError(
            f"data.labels is {data.labels}, and outlines of layout sunnybrook give the numbers {LV}, the cavity of the left ventricle, and "
            f"{MYOCARDIUM}, its wall, which are no objects. Write labels: {{lv: {LV}}}, or labels: {{lv: {LV}, myocardium: {MYOCARDIUM}}} to use "
            "only the moments at which both were outlined."
        )


def _link(folder: Path) -> dict[str, str]:
    """What the outlines call each patient."""
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}. Check its name; in a study, data.folder is relative to the study file.")
    try:
        with (folder / LINK).open(encoding="utf-8-sig", newline="") as file:
            rows = [{(name or "").strip().lower(): (value or "").strip() for name, value in row.items()} for row in csv.DictReader(file)]
    except (OSError, ValueError, csv.Error, AttributeError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise DataError(f"{folder / LINK} {reason}.\n{DRAWING.format(folder=folder)}") from None
    pairs = {row.get("patient_id", ""): row.get("original_id", "") for row in rows}
    if not pairs or "" in pairs or "" in pairs.values() or len(set(map(_plain, pairs.values()))) < len(rows):
        raise DataError(
            f"{folder / LINK} must have the columns patient_id and original_id, both filled in every line, and no value twice; it has "
            f"{len(rows)} lines of the columns {', '.join(rows[0]) if rows else 'none'}.\n{DRAWING.format(folder=folder)}"
        )
    return pairs


def _plain(name: str) -> str:
    """A name of a patient with its numbers written plainly: SC-HF-I-01 and SC-HF-I-1 are one."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", name).casefold()


def _number(path: str) -> int:
    """The number of a picture: 48 of `48.dcm` and of `IM-0001-0048.dcm`; -1 of a name without one."""
    found = re.search(r"(\d+)(\.[^./\d]*)?$", path)
    return int(found[1]) if found else -1


def _outlines_below(folder: Path) -> dict[int, dict[str, Path]]:
    found: dict[int, dict[str, Path]] = defaultdict(dict)
    for file in sorted(folder.rglob("*")):
        if outline := _OUTLINE.match(file.name):
            found[int(outline["number"])].setdefault(outline["kind"].lower(), file)
    return found


# --- One patient ---


def _list_patient(patient: _Patient) -> list[Listed]:
    """The cases of a patient, and what is no part of any."""
    folder = patient.data.folder
    series, refused = find_series([folder / path for path in patient.pictures])
    reasons = {path: refused[folder / path] for path in patient.pictures if folder / path in refused}
    listed = [Listed(path, refused=reason) for path, reason in reasons.items()]
    good = [path for path in patient.pictures if path not in reasons]
    numbered: dict[int, list[str]] = defaultdict(list)
    for path in good:
        numbered[_number(path)].append(path)
    used: set[str] = set()
    drawn: dict[str, dict[str, str]] = {}  # outlines by path of their picture
    for number, outlines in sorted(patient.outlines.items()):
        paths = numbered.get(number, [])
        if len(paths) == 1:
            drawn[paths[0]] = outlines
        elif paths:
            reason = f"{len(paths)} pictures have the number of one outline, {' and '.join(map(repr, paths[:2]))}; keep the one that counts"
            listed += [Listed(path, refused=reason) for path in paths]
            used |= set(paths)
        else:
            reason = f"{WITHOUT_IMAGE}: no picture of {patient.patient!r} has the number {number}"
            listed += [Listed(path, refused=reason) for path in outlines.values()]
    for one in series if drawn else ():
        cases = list(_cases(one, patient, drawn))
        used |= set(chain.from_iterable(named_files(case.path) for case in cases))
        listed += cases
    rest = sorted(set(good) - used)
    if rest:
        said = "at other moments or places than the outlined ones" if drawn else "of a heart without outlines"
        place = os.path.commonpath([os.path.dirname(path) for path in rest])
        listed.append(Listed(place, refused=f"{WITHOUT_MASKS}: {len(rest)} of {len(patient.pictures)} pictures, {said}"))
    return listed


def _cases(series: Series, patient: _Patient, drawn: Mapping[str, Mapping[str, str]]) -> Iterator[Listed]:
    """A case for each outlined moment of a series."""
    folder, depth, kinds = patient.data.folder, len(series.slices[0]), _kinds(patient.data)
    moments: dict[int, dict[int, str]] = {}  # by time point the outlined pictures by their place
    for time, slices in enumerate(series.slices):
        paths = {place: one.path.relative_to(folder).as_posix() for place, one in enumerate(slices) if one is not None}
        if found := {place: path for place, path in paths.items() if path in drawn}:
            moments[time] = found
    phases = _phases(moments, {path: _area(folder, drawn[path]) for pictures in moments.values() for path in pictures.values()})
    mask = os.path.commonpath([os.path.dirname(outline) for outlines in drawn.values() for outline in outlines.values()])
    group = _GROUPS.match(patient.drawn_as)
    for time, pictures in moments.items():
        whole = {place: path for place, path in pictures.items() if all(kind in drawn[path] for kind in kinds)}
        gap = next((place for place in range(min(whole, default=0), max(whole, default=0)) if place not in whole), None)
        refused = None
        if not whole:
            refused = f"{WITHOUT_MASKS}: no {' and '.join(NAMES[kind] for kind in kinds)} outline of one slice at this moment, as data.labels asks"
        elif gap is not None:
            refused = (
                f"slice {gap + 1} of {depth} has no outline, and slices on both sides have, so the volume is not known; outline it too"
            )
        facts = {"time_point": str(time), "slices_outlined": f"{len(whole)} of {depth}"}
        facts |= {"phase": phases[time], "phase_from": "outlines"} if time in phases else {}
        facts |= {"diagnosis": group["group"].upper()} if group else {}
        path = together(sorted((whole or pictures).values()))
        yield Listed(path, refused=refused, group=patient.patient, facts={"facts": json.dumps(facts)}, mask=mask)


def _phases(moments: Mapping[int, Mapping[int, str]], areas: Mapping[str, float]) -> dict[int, str]:
    """End-diastole and end-systole of two moments: the cavity is larger in the first, over the slices that both show."""
    if len(moments) != 2:
        return {}
    shared = set.intersection(*(set(pictures) for pictures in moments.values()))
    small, large = sorted((sum(areas[pictures[place]] for place in shared), time) for time, pictures in moments.items())
    return {large[1]: "ED", small[1]: "ES"} if 0 < small[0] < large[0] else {}


def _area(folder: Path, outlines: Mapping[str, str]) -> float:
    """Pixels that the inner outline on a picture encloses; 0 where there is none that can be read, which is said when the mask is made."""
    try:
        x, y = read_contour(folder / outlines[INNER]).T
    except (KeyError, ImageError):
        return 0.0
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)
