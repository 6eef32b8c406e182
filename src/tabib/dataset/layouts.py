"""How the data say what their images are: the files a layout sees, with label and given part, before any is opened.

| layout          | on disk                                                                                           | room           |
|-----------------|---------------------------------------------------------------------------------------------------|----------------|
| `class_folders` | `FOLDER/<class>/...` or `FOLDER/{train,val,test}/<class>/...`, files at any depth below the class | `folders.py`   |
| `npz`           | one MedMNIST v2 file with `train_images`, `train_labels`, `val_...`, `test_...`                   | `npz.py`       |
| `table`         | files at any depth below FOLDER, and a table with a line per image                                | `table.py`     |
| `pattern`       | files at any depth below FOLDER, whose paths all follow one pattern                               | `pattern.py`   |
| `dicom`         | DICOM files at any depth below FOLDER, and a table that names them by an identifier, or none      | `dicom.py`     |

Those of a study of masks are in `mask_layouts.py`. Nothing is skipped in silence: what cannot be an image by its name, place or kind is listed with the reason.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from tabib.config import AnyData, Data, SegmentationData
from tabib.dataset.dicom import list_dicom
from tabib.dataset.folders import DRAWING, list_class_folders
from tabib.dataset.listing import Listed
from tabib.dataset.mask_layouts import list_cases
from tabib.dataset.npz import list_arrays
from tabib.dataset.pattern import list_pattern
from tabib.dataset.table import list_table
from tabib.errors import DataError
from tabib.progress import SILENT, Progress
from tabib.records import labels_of

__all__ = ["LAYOUTS", "list_folder"]


def list_folder(data: AnyData, *, workers: int | None = None, progress: Progress = SILENT) -> list[Listed]:
    """List what the study's layout sees in its folder, sorted by path; no pixels are read.

    Args:
        data: folder and layout.
        workers: processes that read headers, of layouts of DICOM files; the machine's cores when not given.
        progress: told of each header.

    Returns:
        At least two classes among the entries that are not refused; of DICOM files without a table, no labels. Of a study of masks,
        at least one image with its mask.

    Raises:
        DataError: the folder is missing or empty, holds no class folders or one class only, or mixes classes and parts.
    """
    if isinstance(data, SegmentationData):
        return list_cases(data, workers=workers, progress=progress)
    found = list_dicom(data, workers=workers, progress=progress) if data.layout == "dicom" else LAYOUTS[data.layout](data)
    listed = sorted(found, key=lambda entry: entry.path)
    if data.layout == "dicom" and data.table is None:
        return listed
    counts: dict[str, int] = {}
    for entry in listed:
        for label in [] if entry.refused else labels_of(entry.label, several=data.columns.several):
            counts[label] = counts.get(label, 0) + 1
    if not counts and data.table is not None:
        reasons = "".join(f"\n    {entry.path!r}: {entry.refused or 'has no label'}" for entry in listed[:3])
        raise DataError(
            f"{data.table} gives no image below {data.folder} a label.{reasons}\nCheck data.folder, data.table and data.columns."
        )
    if not counts:
        refused = f" Refused by name or place: {', '.join(repr(entry.path) for entry in listed[:3])}." if listed else ""
        raise DataError(f"{data.folder} holds class folders and no image in them.{refused} Put the images of each class into its folder.")
    if never := [name for name in data.columns.labels if unicodedata.normalize("NFC", name) not in counts]:
        raise DataError(
            f"{data.table} says of no image that it has {never[0]!r}, and what never occurs cannot be learnt. Take it out of data.columns.labels."
        )
    if len(counts) == 1:
        ((label, count),) = counts.items()
        if data.columns.several:
            raise DataError(
                f"{data.table} gives one finding, {label!r} ({count} images, column {data.columns.label!r}), and one finding makes two classes. "
                "Check data.columns.separator, or write the classes into the column and leave the separator out."
            )
        if data.table is not None:
            raise DataError(
                f"{data.table} gives one class, {label!r} ({count} images, column {data.columns.label!r}), and a classifier needs at least two "
                "to tell apart. Check data.columns.label."
            )
        if data.layout == "pattern":
            raise DataError(
                f"data.pattern, {data.pattern!r}, finds one class, {label!r} ({count} files), and a classifier needs at least two to tell apart. "
                "Check its group `label`."
            )
        raise DataError(
            f"{data.folder} holds one class, {label!r} ({count} files), and a classifier needs at least two to tell apart. "
            f"{DRAWING.format(folder=data.folder)}\n"
            f"If the classes are folders inside {label!r}, point data.folder at it; if the other class is elsewhere, put it beside this one."
        )
    spellings: dict[str, str] = {}
    for label in sorted(counts):
        other = spellings.setdefault(label.casefold(), label)
        if other != label:
            raise DataError(
                f"{data.folder} holds the classes {other!r} and {label!r}, which differ in capital letters only. Bring them to one spelling."
            )
    return listed


LAYOUTS: dict[str, Callable[[Data], list[Listed]]] = {
    "class_folders": list_class_folders,
    "npz": list_arrays,
    "table": list_table,
    "pattern": list_pattern,
    "dicom": list_dicom,
}
"""What lists the images of each layout."""
