"""How images and their masks lie: the layouts of a study of masks.

| layout             | on disk                                                                                   | room         |
|--------------------|-------------------------------------------------------------------------------------------|--------------|
| `image_mask_pairs` | `FOLDER/images/a.png` and `FOLDER/masks/a.png`, or `a.png` and `a_mask.png` in one folder  | `pairs.py`   |
| `acdc`             | `FOLDER/.../patient001/patient001_frame01.nii.gz` and `patient001_frame01_gt.nii.gz`      | `acdc.py`    |
| `nnunet`           | `FOLDER/imagesTr/heart_001_0000.nii.gz`, `FOLDER/labelsTr/heart_001.nii.gz`               | `nnunet.py`  |
| `dicom_seg`        | DICOM series at any depth below FOLDER, and segmentation objects that refer to them       | `dicom_seg.py` |
| `sunnybrook`       | `FOLDER/.../SCD0000101/48.dcm`, `FOLDER/.../SC-HF-I-1/.../IM-0001-0048-icontour-manual.txt`, `FOLDER/link.csv` | `sunnybrook.py` |

A table of the study may say more of the images, whatever the layout.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace

from tabib.config import SegmentationData
from tabib.dataset.acdc import list_acdc
from tabib.dataset.dicom_seg import list_dicom_seg
from tabib.dataset.listing import Listed
from tabib.dataset.nnunet import list_nnunet
from tabib.dataset.pairs import list_pairs
from tabib.dataset.sunnybrook import list_sunnybrook
from tabib.dataset.table import said_in_table
from tabib.errors import DataError
from tabib.progress import SILENT, Progress

__all__ = ["MASK_LAYOUTS", "list_cases"]


def list_cases(data: SegmentationData, *, workers: int | None = None, progress: Progress = SILENT) -> list[Listed]:
    """List the images that the study's layout sees, each with its mask and what the table says of it, sorted by path.

    Args:
        data: folder, layout and table.
        workers: processes that read headers, of the layouts of DICOM files; the machine's cores when not given.
        progress: told of each header.

    Raises:
        DataError: the folder is not as the layout expects it, no image has a mask, or the table names none of the images.
    """
    own = None if data.table is None else os.path.relpath(data.table, data.folder)
    listed = {entry.path: entry for entry in MASK_LAYOUTS[data.layout](data, workers, progress) if entry.path != own}
    if not any(entry.mask for entry in listed.values() if not entry.refused):
        reasons = "".join(f"\n    {entry.path!r}: {entry.refused or 'has no mask'}" for entry in list(listed.values())[:3])
        raise DataError(f"No image below {data.folder} has a mask that can be used.{reasons}\nCheck data.folder and data.layout.")
    if data.table is not None:
        listed = _with_table(listed, data)
    return sorted(listed.values(), key=lambda entry: entry.path)


def _with_table(listed: dict[str, Listed], data: SegmentationData) -> dict[str, Listed]:
    """What the table says of images is laid over what the layout says; of a mask it says nothing."""
    said = said_in_table(data, [path for path, entry in listed.items() if not entry.refused])
    if not said.keys() & listed.keys():
        raise DataError(
            f"{data.table} names none of the images below {data.folder}, which are called as {min(listed)!r} is. Check data.columns.path."
        )
    for path, line in said.items():
        entry = listed.get(path, line)
        listed[path] = replace(
            entry,
            given=line.given or entry.given,
            refused=entry.refused or line.refused,
            group=line.group or entry.group,
            facts=_joined(entry, line),
        )
    return listed


def _joined(entry: Listed, line: Listed) -> dict[str, str | None]:
    """The facts of both; of one name that of the table."""
    facts = {**entry.facts, **line.facts}
    if entry.facts.get("facts") and line.facts.get("facts"):
        facts["facts"] = json.dumps(json.loads(entry.facts["facts"] or "") | json.loads(line.facts["facts"] or ""), ensure_ascii=False)
    return facts


MASK_LAYOUTS: dict[str, Callable[[SegmentationData, int | None, Progress], list[Listed]]] = {
    "image_mask_pairs": lambda data, workers, progress: list_pairs(data),
    "acdc": lambda data, workers, progress: list_acdc(data),
    "nnunet": lambda data, workers, progress: list_nnunet(data),
    "dicom_seg": lambda data, workers, progress: list_dicom_seg(data, workers=workers, progress=progress),
    "sunnybrook": lambda data, workers, progress: list_sunnybrook(data, workers=workers, progress=progress),
}
"""What lists the images and masks of each layout."""
