"""From DICOM files to volumes and beating hearts, by what their headers say of place and time and never by their names.

What does not fit together is no error here: it is a `Fault` of the series, with its figures.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tabib.errors import ImageError
from tabib.images.identify import ABOUT_PICTURES, NO_PICTURE, identify_dicom
from tabib.images.image import shown_name
from tabib.images.quiet import quiet
from tabib.images.read import read_file, understood
from tabib.images.scratch import compact, scratch
from tabib.images.volume import Spacing, Volume, check_voxels, spacing_of

__all__ = ["Fault", "Series", "Slice", "find_series", "numbers_of", "read_series"]

SAME_MM = 0.02
"""Slices nearer to each other than this stand at the same position: headers give positions to a hundredth of a millimetre or better."""

SAME_DIRECTION = 1e-3
"""Direction cosines that differ by less are the same (0.06 degrees): headers round them."""

EVEN = 0.05
"""Gaps that differ from the usual one by a smaller share of it are even."""

TILT_DEGREES = 0.5
"""Stacks that lean by less stand upright: positions are rounded."""

TIMES = ("TriggerTime", "NominalCardiacTriggerDelayTime", "TemporalPositionIndex", "TemporalPositionIdentifier", "AcquisitionTime")
"""What tells time points at one position apart, the surest first; the number of the instance and of its frame where none does."""

CINE = ("FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate")
"""What only films have: frames that follow each other in time."""

_READ = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality"),
    *("PatientID", "InstanceNumber", "NumberOfFrames", "Rows", "Columns", "PixelSpacing", "ImagerPixelSpacing"),
    *("SliceThickness", "SpacingBetweenSlices", "ImagePositionPatient", "ImageOrientationPatient"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", *TIMES, *CINE),
)


@dataclass(frozen=True)
class Fault:
    """Something that does not fit together in a series."""

    code: str  # see `Series.faults`
    figures: dict[str, float | int]


@dataclass(frozen=True)
class Slice:
    """Where one picture is stored: a frame, from 0, of a file, which is the instance `uid`."""

    path: Path
    frame: int
    uid: str


@dataclass(frozen=True, eq=False)
class Series:
    """Pictures that stand behind each other, once or at several time points."""

    uid: str  # SeriesInstanceUID; of slices that are series of their own the first one's
    study: str  # StudyInstanceUID
    patient: str | None  # PatientID: used as the group, and never logged
    modality: str
    description: str
    shape: tuple[int, int]  # rows, columns
    slices: tuple[tuple[Slice | None, ...], ...]  # (T, D): time points of slices, along the normal; None where a time point is missing
    affine: np.ndarray | None  # (4, 4) as of `Volume`; None where the files do not say
    spacing_mm: Spacing | None
    faults: tuple[Fault, ...]
    """
    slice_missing    a gap of several spacings: `after` slice, `gap_mm`, `spacing_mm`, `missing` slices
    slices_uneven    gaps that are no whole spacings: `least_mm`, `most_mm`, `spacing_mm`
    slice_doubled    several pictures for one place and time, of which the first instance counts: `slice`, `copies`
    slices_tilted    the stack leans, as of a tilted gantry: `degrees`; the affine matrix has it
    slices_shifted   slices that stand beside the line of the others: `most_mm`
    phases_differ    a slice with fewer or more time points than the others: `slice`, `found`, `expected`
    orientations_mixed, sizes_mixed, spacings_mixed   the files of this series make several: `stacks`
    """


def find_series(paths: Iterable[Path]) -> tuple[list[Series], dict[Path, str]]:
    """Sort DICOM files into stacks of slices and their time points.

    A stack are the pictures of a series with the same size, spacing and orientation (PS3.3 C.7.6.2), in the order of their positions
    along the normal. Series of one study that are one position each, over time, as many scanners store a beating heart, are one
    stack where they are parallel. Time points of a position are in the order of the first of `TIMES` that tells them apart; as hearts
    beat faster and slower, they are matched by their number and not by milliseconds.

    Args:
        paths: files, in any order and of any name.

    Returns:
        The stacks, by study and series number, and for every file that is no DICOM picture the reason.
    """
    groups: dict[tuple[str, ...], list[_Picture]] = defaultdict(list)
    refused: dict[Path, str] = {}
    for path in paths:
        try:
            pictures = _pictures(path)
        except ImageError as error:
            refused[path] = str(error)
            continue
        for picture in pictures:
            # Pictures that stand nowhere belong together only where one file holds them.
            groups[picture.study, picture.series, "" if picture.position is not None else picture.slice.uid].append(picture)
    stacks = _joined([stack for group in groups.values() for stack in _stacks(sorted(group, key=lambda one: one.order))])
    stacks.sort(
        key=lambda stack: (stack.pictures[0].study, stack.pictures[0].series_number, stack.pictures[0].series, stack.pictures[0].order)
    )
    return [_series(stack) for stack in stacks], refused


def read_series(series: Series, time: int | None = None) -> Volume:
    """Read the slices of one time point, rescaled to what was measured (PS3.3 C.11.1.1.2), in the place that `series` found.

    Args:
        series: one stack of `find_series`.
        time: which time point, from 0; None where there is one only.

    Raises:
        ImageError: several time points and none asked for, one that a slice does not have, or a file that cannot be read.
    """
    from tabib.images.dicom import read_measured

    times, (rows, columns) = len(series.slices), series.shape
    if (time is None and times > 1) or not 0 <= (time or 0) < times:
        raise ImageError(
            f"is a DICOM series of {times} time points of {len(series.slices[0])} slices, numbered from 0, and "
            f"{'nothing says which one counts' if time is None else f'has no time point {time}'}; ask for one of 0 to {times - 1}"
        )
    wanted = series.slices[time or 0]
    check_voxels(len(wanted), rows, columns)
    voxels, facts = np.empty(0), None
    for place, one in enumerate(wanted):
        if one is None:
            raise ImageError(f"slice {place} of the DICOM series has no time point {time}; choose one that all slices have")
        data = read_file(one.path)
        pixels, own = understood(data, one.path.name, lambda _, data=data, frame=one.frame: read_measured(data, frame))
        if facts is None:
            voxels, facts = scratch((len(wanted), *pixels.shape), pixels.dtype), own
        if pixels.shape != voxels.shape[1:]:
            raise ImageError(f"{shown_name(one.path)}: has pixels of another shape than the slices before it; leave its series out")
        voxels = compact(voxels, np.result_type(voxels, pixels))
        voxels[place] = pixels
    assert facts
    voxels.flags.writeable = False
    return Volume(voxels, series.affine, series.spacing_mm, facts)


@dataclass(frozen=True)
class _Picture:
    slice: Slice
    study: str
    series: str
    series_number: int
    patient: str | None
    modality: str
    description: str
    shape: tuple[int, int]
    spacing: tuple[float, float] | None
    between: float | None  # as the header says, or the thickness; where there are no positions to go by
    position: np.ndarray | None  # (3,) mm, LPS; None where it stands nowhere
    directions: np.ndarray | None  # (2, 3): where columns and rows run to
    times: tuple[float | None, ...]  # of TIMES
    order: tuple[int, int, str]  # number of the instance, frame, uid
    cine: bool


def _pictures(path: Path) -> list[_Picture]:
    from pydicom import dcmread  # takes longer to import than all else here
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    from tabib.images.dicom import frames_in, parse, transfer_syntax

    name = shown_name(path)
    try:
        with open(path, "rb") as stream, quiet():
            if stream.read(132)[128:] == b"DICM":
                deflated = transfer_syntax(stream) == DeflatedExplicitVRLittleEndian
                stream.seek(0)
                file = parse(read_file(path))[0] if deflated else dcmread(stream, stop_before_pixels=True, specific_tags=list(_READ))
                if file.get("Rows") is not None and str(file.get("SOPClassUID")) not in ABOUT_PICTURES:
                    return [_picture(file, path, frame) for frame in range(frames_in(file))]
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    except OSError as error:
        raise ImageError(f"{name}: cannot be opened: {error.strerror}") from None
    except Exception as error:  # pydicom raises nearly anything for a damaged header
        raise ImageError(f"{name}: has a damaged DICOM header ({type(error).__name__}); copy or export it again") from error
    raise ImageError(f"{name}: {identify_dicom(path).refused or NO_PICTURE}")


def _picture(file: Any, path: Path, frame: int) -> _Picture:
    from tabib.images.dicom import frame_value, spacing_in_plane
    from tabib.images.window import number_of

    def text(name: str) -> str:
        return " ".join(str(file.get(name) or "").split())

    value = partial(frame_value, file, frame)
    position, directions = numbers_of(value("ImagePositionPatient"), 3), numbers_of(value("ImageOrientationPatient"), 6)
    if directions is not None:
        directions = directions.reshape(2, 3)
        if not np.allclose(directions @ directions.T, np.eye(2), atol=0.01):
            shown = ", ".join(f"{number:g}" for number in directions.ravel())
            raise ImageError(
                f"has an ImageOrientationPatient of {shown}, where two directions at right angles were expected; export it again"
            )
    stands = position is not None and directions is not None
    uid, instance = text("SOPInstanceUID"), int(number_of(file.get("InstanceNumber")) or 0)
    between = [number_of(value(name)) for name in ("SpacingBetweenSlices", "SliceThickness")]
    return _Picture(
        slice=Slice(path, frame, uid),
        study=text("StudyInstanceUID"),
        series=text("SeriesInstanceUID"),
        series_number=int(number_of(file.get("SeriesNumber")) or 0),
        patient=text("PatientID") or None,
        modality=text("Modality"),
        description=text("SeriesDescription"),
        shape=(int(file.Rows), int(file.Columns)),
        spacing=spacing_in_plane(value),
        between=next((abs(number) for number in between if number), None),
        position=position if stands else None,
        directions=directions if stands else None,
        times=tuple(number_of(value(name)) for name in TIMES),
        order=(instance, frame, uid),
        cine=any(file.get(name) is not None for name in CINE),
    )


def numbers_of(value: Any, count: int) -> np.ndarray | None:
    """Give the values of an attribute as (count,) numbers; None where it is missing or not so many."""
    try:
        numbers = np.array([float(number) for number in value or ()])
    except (TypeError, ValueError):
        return None
    return numbers if numbers.shape == (count,) and np.isfinite(numbers).all() else None


@dataclass(frozen=True)
class _Stack:
    pictures: list[_Picture]
    faults: tuple[Fault, ...] = ()


def _stacks(group: list[_Picture]) -> list[_Stack]:
    """The pictures of a series, those apart that cannot stand in one stack."""
    kinds: list[tuple[tuple[object, ...], np.ndarray | None, list[_Picture]]] = []
    for picture in group:
        rounded = picture.spacing and (round(picture.spacing[0], 4), round(picture.spacing[1], 4))
        key = (picture.shape, rounded)
        for known, directions, members in kinds:
            if known == key and _parallel(directions, picture.directions):
                members.append(picture)
                break
        else:
            kinds.append((key, picture.directions, [picture]))
    codes = []
    if len({key[0] for key, _, _ in kinds}) > 1:
        codes.append("sizes_mixed")
    if len({key[1] for key, _, _ in kinds}) > 1:
        codes.append("spacings_mixed")
    if any(not _parallel(kinds[0][1], directions) for _, directions, _ in kinds):
        codes.append("orientations_mixed")
    faults = tuple(Fault(code, {"stacks": len(kinds)}) for code in codes)
    return [_Stack(members, faults) for _, _, members in kinds]


def _parallel(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return (one is None) == (other is None) and (one is None or other is None or bool(np.abs(one - other).max() < SAME_DIRECTION))


def _joined(stacks: list[_Stack]) -> list[_Stack]:
    """Stacks of one position each, over time, put together where they are parallel; of a position taken twice the last series counts."""
    alone, rest = [], []
    for stack in stacks:
        single = len(stack.pictures) > 1 and stack.pictures[0].position is not None and len(_positions(stack.pictures)) == 1
        (alone if single else rest).append(stack)
    alone.sort(key=lambda stack: stack.pictures[0].series_number, reverse=True)
    whole: list[list[_Stack]] = []
    for stack in alone:
        for members in whole:
            if all(_neighbours(stack.pictures, member.pictures) for member in members):
                members.append(stack)
                break
        else:
            whole.append([stack])
    for members in whole:
        members.reverse()
        faults = {(fault.code, *fault.figures.items()): fault for member in members for fault in member.faults}
        rest.append(_Stack([picture for member in members for picture in member.pictures], tuple(faults.values())))
    return rest


def _neighbours(one: list[_Picture], other: list[_Picture]) -> bool:
    """Whether two single positions belong together; the frame of reference is not asked, as anonymisers give every file its own."""
    first, second = one[0], other[0]
    same = all(getattr(first, name) == getattr(second, name) for name in ("study", "shape", "spacing"))
    parallel = _parallel(first.directions, second.directions)
    return same and parallel and len(one) == len(other) and len(_positions([first, second])) == 2


def _along(pictures: Sequence[_Picture]) -> np.ndarray:
    """Millimetres of each along the normal of the first."""
    directions = pictures[0].directions
    assert directions is not None
    return np.array([picture.position for picture in pictures]) @ np.cross(*directions)


def _positions(pictures: list[_Picture]) -> list[list[_Picture]]:
    """The pictures at each position, in order."""
    positions: list[list[_Picture]] = []
    start = -np.inf
    along = _along(pictures)
    for place in np.argsort(along, kind="stable"):
        if along[place] - start > SAME_MM:
            positions.append([])
            start = along[place]
        positions[-1].append(pictures[place])
    return positions


def _series(stack: _Stack) -> Series:
    first = stack.pictures[0]
    if first.position is None:
        film = first.cine or len(stack.pictures) == 1
        slices = tuple((picture.slice,) for picture in stack.pictures) if film else (tuple(picture.slice for picture in stack.pictures),)
        affine, spacing, faults = None, first.spacing and (first.between, *first.spacing), ()
    else:
        positions = _positions(stack.pictures)
        slices, faults = _time_points(positions)
        affine, spacing, more = _place([at[0] for at in positions])
        faults = (*faults, *more)
    return Series(
        uid=first.series,
        study=first.study,
        patient=first.patient,
        modality=first.modality,
        description=first.description,
        shape=first.shape,
        slices=slices,
        affine=affine,
        spacing_mm=spacing,
        faults=(*stack.faults, *faults),
    )


def _time_points(positions: list[list[_Picture]]) -> tuple[tuple[tuple[Slice | None, ...], ...], tuple[Fault, ...]]:
    """Time points of slices; a picture is a copy where its time is that of another, or where no other slice has several."""
    moment = _moment(positions)
    faults, sorted_positions = [], []
    usual = Counter(len(at) for at in positions).most_common(1)[0][0]
    for place, at in enumerate(positions):
        moments: dict[object, _Picture] = {}
        for picture in sorted(at, key=lambda one: (moment(one), one.order)):
            moments.setdefault(moment(picture), picture)
        distinct = list(moments.values())[: 1 if usual == 1 else None]
        if len(distinct) < len(at):
            faults.append(Fault("slice_doubled", {"slice": place, "copies": len(at)}))
        sorted_positions.append(distinct)
    times = Counter(map(len, sorted_positions)).most_common(1)[0][0]
    for place, at in enumerate(sorted_positions):
        if len(at) != times:
            faults.append(Fault("phases_differ", {"slice": place, "found": len(at), "expected": times}))
    slices = tuple(tuple(at[time].slice if time < len(at) else None for at in sorted_positions) for time in range(times))
    return slices, tuple(faults)


def _moment(positions: list[list[_Picture]]) -> Callable[[_Picture], tuple[float, ...]]:
    """What tells time points apart: the first of TIMES with a value of its own for most pictures at most positions."""
    several = [at for at in positions if len(at) > 1]
    for number in range(len(TIMES)):
        told = 0
        for at in several:
            values = [picture.times[number] for picture in at]
            told += None not in values and 2 * len(set(values)) > len(at)
        if 2 * told > len(several):
            return lambda picture, number=number: (picture.times[number] or 0.0,)
    return lambda picture: tuple(map(float, picture.order[:2]))


def _place(slices: list[_Picture]) -> tuple[np.ndarray | None, Spacing | None, tuple[Fault, ...]]:
    """The affine matrix and the spacing of slices in order, from their positions alone."""
    first, faults = slices[0], []
    assert first.position is not None
    assert first.directions is not None
    columns, rows = first.directions
    normal = np.cross(columns, rows)
    along = _along(slices)
    if len(slices) == 1:
        step = None if first.between is None else normal * first.between
    else:
        gaps = np.diff(along)
        usual = float(np.median(gaps))
        faults += _gaps(gaps, usual)
        places = np.array([picture.position for picture in slices]) - first.position
        line = places.T @ (along - along[0]) / ((along - along[0]) @ (along - along[0]))  # by least squares, millimetres for each
        step = line * (usual if faults else float(gaps.mean()))
        degrees = float(np.degrees(np.arctan(np.linalg.norm(line - normal))))
        beside = float(np.linalg.norm(places - np.outer(along - along[0], line), axis=1).max())
        if beside > (min(first.spacing) if first.spacing else 1) / 2:
            faults.append(Fault("slices_shifted", {"most_mm": beside}))
        elif degrees > TILT_DEGREES:
            faults.append(Fault("slices_tilted", {"degrees": degrees}))
    if first.spacing is None:
        return None, None, tuple(faults)
    if step is None:
        return None, (None, *first.spacing), tuple(faults)
    affine = np.eye(4)
    affine[:3] = np.stack([step, rows * first.spacing[0], columns * first.spacing[1], first.position], 1)
    return affine, (spacing_of(affine)[0], *first.spacing), tuple(faults)


def _gaps(gaps: np.ndarray, usual: float) -> list[Fault]:
    faults, uneven = [], False
    for after, gap in enumerate(gaps):
        spacings = round(gap / usual)
        if abs(gap - spacings * usual) > EVEN * usual or spacings < 1:
            uneven = True
        elif spacings > 1:
            figures = {"after": after, "gap_mm": float(gap), "spacing_mm": usual, "missing": spacings - 1}
            faults.append(Fault("slice_missing", figures))
    if uneven:
        faults.append(Fault("slices_uneven", {"least_mm": float(gaps.min()), "most_mm": float(gaps.max()), "spacing_mm": usual}))
    return faults
