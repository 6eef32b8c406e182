"""DICOM segmentation objects (PS3.3 A.51): masks written beside the series they were made on, and read back onto its voxels."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, MutableSequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tabib.errors import ImageError
from tabib.images.image import shown_name
from tabib.images.raster import day
from tabib.images.read import read_file, understood
from tabib.images.series import Series, numbers_of
from tabib.images.volume import Volume, check_voxels

__all__ = ["SegmentationHeader", "encode_dicom_seg", "identify_segmentation", "read_dicom_seg"]

SEGMENTATION, LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"

BETWEEN = 0.1
"""How far from the centre of a voxel, in voxels, a pixel of a segment may lie: headers round spacings and directions."""

OFTEN_MISSING = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "ReferringPhysicianName", "StudyDate", "StudyID", "StudyTime"),
)
"""What a segmentation object takes over from its source, empty where that lacks it (type 2)."""


@dataclass(frozen=True)
class SegmentationHeader:
    """What a segmentation object says of itself and of what it was made on. It holds identifiers, which are never logged."""

    names: dict[int, str]  # of its segments (SegmentLabel), by their number from 1 on
    series: frozenset[str]  # SeriesInstanceUID of those that it refers to
    slices: frozenset[tuple[str, int | None]]  # SOPInstanceUID, and the frame from 0, where it names one


def identify_segmentation(path: Path) -> SegmentationHeader | None:
    """Read the header of a segmentation object (PS3.3 A.51, C.8.20.2); None of any other file.

    Raises:
        ImageError: the file is damaged or cannot be opened.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    from tabib.images.quiet import quiet

    try:
        with quiet():
            file = dcmread(path, stop_before_pixels=True)
            if str(file.get("SOPClassUID")) not in (SEGMENTATION, LABEL_MAP):
                return None
            groups = [*file.get("SharedFunctionalGroupsSequence", ()), *file.get("PerFrameFunctionalGroupsSequence", ())]
            derived = (item for group in groups for item in group.get("DerivationImageSequence", ()))
            sources = [one for item in derived for one in item.get("SourceImageSequence", ())]
            series = file.get("ReferencedSeriesSequence", ())
            sources = sources or [one for item in series for one in item.get("ReferencedInstanceSequence", ())]
            return SegmentationHeader(
                names={int(one.SegmentNumber): str(one.SegmentLabel) for one in file.SegmentSequence if int(one.SegmentNumber)},
                series=frozenset(str(one.SeriesInstanceUID) for one in series),
                slices=frozenset((str(one.ReferencedSOPInstanceUID), _frame(one)) for one in sources),
            )
    except InvalidDicomError:
        return None
    except OSError as error:
        raise ImageError(f"cannot be opened: {error.strerror}") from None
    except Exception as error:  # pydicom raises nearly anything for a damaged header
        raise ImageError(f"has a damaged DICOM header ({type(error).__name__}); copy or export the file again") from error


def _frame(source: Any) -> int | None:
    """The frame, from 0, of what is referred to; None where that is a whole instance, or several of its frames."""
    number = source.get("ReferencedFrameNumber")
    return int(number) - 1 if number is not None and not isinstance(number, MutableSequence) else None


def read_dicom_seg(path: Path, source: Volume) -> tuple[Volume, dict[int, str]]:
    """Read a segmentation object as a mask on the voxels of its source, and the names of its segments.

    Every pixel is put where its frame says that it stands in the body, so the frames may be in any order, empty ones may be left out,
    and rows may run the other way.

    Args:
        path: a DICOM file, BINARY or LABELMAP.
        source: the volume that it was made on.

    Returns:
        A volume of segment numbers, uint8 or uint16 (D, H, W), 0 where no segment is; and number: name.

    Raises:
        ImageError: no segmentation object, or one of probabilities, with segments that overlap, or that does not lie on these voxels.
    """
    data = read_file(path)
    labels, names = understood(data, path.name, lambda _: _segments(data, source))
    labels.flags.writeable = False
    return Volume(labels, source.affine, source.spacing_mm, source.facts), names


def _segments(data: bytes, source: Volume) -> tuple[np.ndarray, dict[int, str]]:
    from pydicom.pixels.utils import pixel_array

    from tabib.images.dicom import frame_value, frames_in, parse

    file, _ = parse(data)
    kind, form = str(file.get("SOPClassUID")), str(file.get("SegmentationType"))
    if kind not in (SEGMENTATION, LABEL_MAP) or form not in ("BINARY", "LABELMAP"):
        raise ImageError(
            f"is no DICOM segmentation object of whole pixels (SegmentationType {form}), as BINARY and LABELMAP are; export it so"
        )
    if source.affine is None:
        raise ImageError("is a DICOM segmentation object, and its source does not say where it lies in the body; give a source that does")
    frames = frames_in(file)
    check_voxels(frames, int(file.Rows), int(file.Columns))
    pixels = pixel_array(file).reshape(frames, file.Rows, file.Columns)
    names = {int(segment.SegmentNumber): str(segment.SegmentLabel) for segment in file.SegmentSequence}
    labels = np.zeros(source.voxels.shape[:3], np.min_scalar_type(max(names)))
    to_voxels = np.linalg.inv(source.affine)
    for frame in range(frames):
        value = partial(frame_value, file, frame)
        places = np.argwhere(pixels[frame])
        found = _voxels(value, places, to_voxels, labels.shape)
        segments = pixels[frame][tuple(places.T)] if form == "LABELMAP" else np.full(len(places), value("ReferencedSegmentNumber"))
        before = labels[found]
        overlap = int(((before != 0) & (before != segments)).sum())
        if overlap:
            raise ImageError(
                f"is a DICOM segmentation object whose segments overlap in {overlap:,} voxels, and a mask holds one label for each"
            )
        labels[found] = segments
    return labels, names


def _voxels(value: Any, places: np.ndarray, to_voxels: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """The voxels of the source (d, h, w) in which pixels (row, column) of a frame lie."""
    position, directions = numbers_of(value("ImagePositionPatient"), 3), numbers_of(value("ImageOrientationPatient"), 6)
    spacing = numbers_of(value("PixelSpacing"), 2)
    if position is None or directions is None or spacing is None:
        raise ImageError("is a DICOM segmentation object whose frames do not say where they lie in the body; export it again")
    steps = np.stack([directions[3:] * spacing[0], directions[:3] * spacing[1]])  # from row to row, from column to column
    found = (position + places @ steps) @ to_voxels[:3, :3].T + to_voxels[:3, 3]
    nearest = np.rint(found).astype(int)
    if (np.abs(found - nearest) > BETWEEN).any():
        raise ImageError(
            "is a DICOM segmentation object whose pixels lie between the voxels of its source, so it was made on other images, or resized; "
            "give the series that it was made on"
        )
    if ((nearest < 0) | (nearest >= shape)).any():
        raise ImageError("is a DICOM segmentation object with pixels outside its source; give the series that it was made on")
    return tuple(nearest.T)


def encode_dicom_seg(
    labels: np.ndarray, series: Series, *, names: Mapping[int, str], made: datetime, version: str, time: int = 0, number: int = 9000
) -> bytes:
    """Write a mask as a DICOM segmentation object: BINARY, a segment for each structure, referring to the slices it was made on.

    The same arguments give the same bytes.

    Args:
        labels: (D, H, W) whole numbers, on the voxels that `read_series(series, time)` gives.
        series: the source; the object goes into its study.
        names: name of each label; segments are numbered from 1 in the order of the labels. 0 is no structure.
        made: when the mask was made.
        version: of this software.
        time: time point of the series.
        number: SeriesNumber of the object.

    Raises:
        ValueError: labels of another shape, without a name, or none at all.
        ImageError: a source file from which no object can be made, as it says too little of itself.
    """
    slices = [one for one in series.slices[time] if one is not None]
    if labels.shape != (len(slices), *series.shape):
        raise ValueError(f"a mask of {labels.shape} voxels is not one of {len(slices)} slices of {series.shape[0]} x {series.shape[1]}")
    present = set(np.unique(labels).tolist()) - {0}
    if not present or present - set(names):
        raise ValueError(
            f"labels {sorted(present - set(names))} of {sorted(present)} have no name, or there are none; names are {dict(names)}"
        )
    segments = np.zeros(max(*names, 0) + 1, np.uint16)
    segments[sorted(names)] = np.arange(1, len(names) + 1)
    try:
        return _encoded(segments[labels], series, [names[label] for label in sorted(names)], made, version, time, number)
    except Exception as error:  # highdicom and pydicom raise nearly anything for a header that says too little
        name = shown_name(slices[0].path)
        raise ImageError(
            f"{name}: cannot be the source of a DICOM segmentation object ({type(error).__name__}: {error}); write NIfTI"
        ) from error


def _encoded(labels: np.ndarray, series: Series, names: list[str], made: datetime, version: str, time: int, number: int) -> bytes:
    import highdicom  # takes a second to import
    from highdicom.content import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom import dcmread
    from pydicom.config import disable_value_validation
    from pydicom.sr.codedict import codes

    from tabib.images.dicom import frame_value
    from tabib.images.quiet import quiet

    wanted = [one for one in series.slices[time] if one is not None]
    spacing = series.spacing_mm
    if spacing is None:
        raise ImageError("its spacing is not said")
    with quiet(), disable_value_validation():  # identifiers of anonymised files are often no valid ones, and must stay as they are
        files = {one.path: dcmread(one.path, stop_before_pixels=True) for one in wanted}
        for file in files.values():
            for name in OFTEN_MISSING:
                if name not in file or (name.endswith("Date") and day(str(file[name].value)) is None):  # made anonymous as 00000000
                    setattr(file, name, None)
        first = files[wanted[0].path]
        belongs = {str(file.SOPInstanceUID): str(file.SeriesInstanceUID) for file in files.values()}
        for file in files.values():  # highdicom takes one series in one frame of reference, and hearts are stored otherwise
            file.SeriesInstanceUID, file.FrameOfReferenceUID = (
                first.SeriesInstanceUID,
                first.get("FrameOfReferenceUID") or f"{series.uid}.1",
            )
        values = [partial(frame_value, files[one.path], one.frame) for one in wanted]
        digest = hashlib.sha256(np.ascontiguousarray(labels).tobytes() + repr([series.uid, time, names, made, version]).encode()).digest()
        uids = [f"2.25.{int.from_bytes(digest[start : start + 10])}" for start in (0, 10, 20)]  # PS3.5 B.2
        concept = highdicom.sr.CodedConcept
        algorithm = highdicom.AlgorithmIdentificationSequence(name="Tabib", family=codes.cid7162.ArtificialIntelligence, version=version)
        file = Segmentation(
            source_images=list(files.values()),
            pixel_array=labels.astype(np.uint8 if len(names) < 256 else np.uint16),
            segmentation_type="BINARY",
            segment_descriptions=[
                SegmentDescription(
                    segment_number=segment,
                    segment_label=name,
                    segmented_property_category=codes.SCT.AnatomicalStructure,
                    segmented_property_type=concept(f"{segment}", "99TABIB", name[:64]),  # 99: a scheme of one's own (PS3.16 8.2)
                    algorithm_type="AUTOMATIC",
                    algorithm_identification=algorithm,
                )
                for segment, name in enumerate(names, 1)
            ],
            series_instance_uid=uids[0],
            series_number=number,
            sop_instance_uid=uids[1],
            instance_number=1,
            manufacturer="Tabib",
            manufacturer_model_name="Tabib",
            software_versions=version,
            device_serial_number="none",
            pixel_measures=PixelMeasuresSequence(spacing[1:], spacing[0] or 1.0, spacing[0]),
            plane_orientation=PlaneOrientationSequence("PATIENT", [float(one) for one in values[0]("ImageOrientationPatient")]),
            plane_positions=[PlanePositionSequence("PATIENT", [float(one) for one in value("ImagePositionPatient")]) for value in values],
        )
        for name in ("Content", "InstanceCreation", "Series"):
            setattr(file, f"{name}Date", f"{made:%Y%m%d}")
            setattr(file, f"{name}Time", f"{made:%H%M%S}")
        for item in file.get("ContributingEquipmentSequence", ()):
            item.ContributionDateTime = f"{made:%Y%m%d%H%M%S}"
        frames = {one.frame + 1 for one in wanted}
        for derived in (item for group in file.PerFrameFunctionalGroupsSequence for item in group.get("DerivationImageSequence", ())):
            # Of a file with several time points highdicom names the frames of all of them at a position.
            derived.SourceImageSequence = [
                one for one in derived.SourceImageSequence if one.get("ReferencedFrameNumber") in (None, *frames)
            ]
        file.ReferencedSeriesSequence = _by_series(file.ReferencedSeriesSequence, belongs)
        for item in (*file.DimensionOrganizationSequence, *file.DimensionIndexSequence):
            item.DimensionOrganizationUID = uids[2]
        stream = io.BytesIO()
        file.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _by_series(referenced: Any, belongs: Mapping[str, str]) -> Any:
    """The instances that an object refers to, under the series that each belongs to."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    series: dict[str, Dataset] = {}
    for instance in referenced[0].ReferencedInstanceSequence:
        uid = belongs[str(instance.ReferencedSOPInstanceUID)]
        if uid not in series:
            series[uid] = Dataset()
            series[uid].SeriesInstanceUID, series[uid].ReferencedInstanceSequence = uid, Sequence()
        series[uid].ReferencedInstanceSequence.append(instance)
    return Sequence(series.values())
