"""What the header of a DICOM file says it is and belongs to: the few elements up to the size of the picture, and no pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tabib.errors import ImageError
from tabib.images.quiet import quiet
from tabib.images.read import read_file

__all__ = ["ABOUT_PICTURES", "IDENTIFIERS", "NO_DICOM", "NO_PICTURE", "DicomHeader", "identify_dicom"]

IDENTIFIERS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "AccessionNumber", "PatientID")
"""What can name a picture, the nearest to it first."""

NO_DICOM, NO_PICTURE = "is no DICOM file", "is a DICOM object without a picture"
"""How the reasons begin of files that a tree of DICOM files holds beside its pictures."""

ABOUT_PICTURES = (
    "1.2.840.10008.5.1.4.1.1.30",  # parametric map
    "1.2.840.10008.5.1.4.1.1.66.4",  # segmentation
    "1.2.840.10008.5.1.4.1.1.66.7",  # label map segmentation
    "1.2.840.10008.5.1.4.1.1.481.2",  # dose
)
"""Objects with pixels that say something of a picture and are none."""

_LAST = 0x00280010  # Rows, the highest tag that is read


@dataclass(frozen=True)
class DicomHeader:
    """Who and what a file is by its header; `refused` says why it is no picture."""

    identifiers: dict[str, str] = field(default_factory=dict)  # of IDENTIFIERS, those that the file has
    refused: str | None = None


def identify_dicom(path: Path) -> DicomHeader:
    """Read the identifiers of a DICOM file (PS3.3 C.7.1 to C.12.1), from its header alone.

    A file is refused that is no DICOM file, a directory (DICOMDIR), or an object without a picture: a report, a presentation
    state, contours. One that cannot be read is refused with another reason, as it may well be a picture.
    """
    try:
        with open(path, "rb") as stream, quiet():
            start = stream.read(132)
            return _of_dicom(stream, path) if start[128:] == b"DICM" else DicomHeader(refused=_not_dicom(start, path))
    except OSError as error:
        return DicomHeader(refused=f"cannot be opened: {error.strerror}")
    except ImageError as error:
        return DicomHeader(refused=str(error))


def _of_dicom(stream: BinaryIO, path: Path) -> DicomHeader:
    try:
        return _of_header(stream, path)
    except ImageError:
        raise
    except Exception as error:  # pydicom raises nearly anything for a damaged header
        raise ImageError(f"has a damaged DICOM header ({type(error).__name__}); copy or export the file again") from error


def _of_header(stream: BinaryIO, path: Path) -> DicomHeader:
    from pydicom.datadict import tag_for_keyword  # takes longer to import than all else here
    from pydicom.filereader import read_partial
    from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

    from tabib.images.dicom import parse, transfer_syntax

    if transfer_syntax(stream) == DeflatedExplicitVRLittleEndian:
        file, _ = parse(read_file(path))  # which bounds what it inflates
    else:
        stream.seek(0)
        wanted = [tag for name in ("SOPClassUID", *IDENTIFIERS, "Rows") if (tag := tag_for_keyword(name)) is not None]
        file = read_partial(stream, stop_when=lambda tag, vr, length: tag > _LAST, specific_tags=list(wanted))
    kind = UID(str(file.get("SOPClassUID") or file.file_meta.get("MediaStorageSOPClassUID") or ""))
    if file.get("Rows") is None and "Image Storage" in kind.name:
        raise ImageError("is a DICOM picture whose header ends before its size; copy or export it again")
    if file.get("Rows") is None or kind in ABOUT_PICTURES:
        return DicomHeader(refused=f"{NO_PICTURE} ({kind.name or 'of unknown kind'})")
    found = {name: " ".join(str(file.get(name) or "").split()) for name in IDENTIFIERS}
    return DicomHeader({name: value for name, value in found.items() if value})


def _not_dicom(start: bytes, path: Path) -> str:
    """Why a file is not used that does not begin as DICOM files do; one that was meant to be a picture is not passed over."""
    if not start.strip(b"\0"):
        return "the file is empty; copy it again"
    if path.suffix.casefold() in (".dcm", ".dicom"):
        return "does not begin as a DICOM file, whatever its name says; copy or export it again"
    if start[:2] in (b"\x02\0", b"\x08\0") and start[3:4] == b"\0":  # an element of the first groups
        return "seems to be a DICOM file without its preamble, which is not read; export it again"
    return NO_DICOM
