"""One folder per class, with or without folders for the parts of a split above them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tabib.config import Data
from tabib.dataset.listing import OUTSIDE, PART_NAMES, SECOND_COPY, Listed, Walk, junk
from tabib.errors import DataError

__all__ = ["DRAWING", "list_class_folders"]

DRAWING = """Expected one folder per class, with or without folders for the parts of a split above them:
    {folder}/NORMAL/film1.png             {folder}/train/NORMAL/film1.png
    {folder}/PNEUMONIA/film2.png    or    {folder}/test/PNEUMONIA/film2.png"""


def list_class_folders(data: Data) -> list[Listed]:
    """List the files below the class folders; `DataError` where a folder has none, or mixes classes and parts of a split."""
    folder = data.folder
    if not folder.exists():
        raise DataError(f"There is no folder {folder}. Check its name; in a study, data.folder is relative to the study file.")
    if not folder.is_dir():
        hint = " Use layout: npz to read it." if folder.suffix.lower() == ".npz" else ""
        raise DataError(f"{folder} is a file, and layout class_folders expects a folder.{hint}")
    walk = Walk({os.path.realpath(folder): "."})
    folders, listed = walk.one_level(folder, "")
    if not folders:
        flat = sum((entry.refused or "").endswith(OUTSIDE) for entry in listed)
        found = f"holds {flat} files and no class folders: the files lie flat" if flat else "is empty"
        unread = f" ({listed[0].refused})" if listed and not flat else ""
        raise DataError(f"The folder {folder} {found}{unread}.\n{DRAWING.format(folder=folder)}")
    parts = [name for name in folders if name.casefold() in PART_NAMES]
    nested = [name for name in folders if parts and name not in parts and _holds_only_parts(folder / name)]
    classes = [name for name in folders if name not in parts and name not in nested]
    if parts and classes:
        raise DataError(
            f"{folder} mixes folders of a split ({_names(parts)}) with other folders ({_names(classes)}), so it is not clear which are classes. "
            f"Move or rename the ones that do not belong.\n{DRAWING.format(folder=folder)}"
        )
    _refuse_parts_by_other_names(folder, classes)
    for name in classes:
        listed += walk.below(folder / name, name)
    for name in parts:
        listed += walk.part(folder / name, name)
    outer = {entry.path for entry in listed}
    for name in nested:
        inner, held = walk.one_level(folder / name, f"{name}/")
        listed += held
        for part in inner:
            listed += (_unless_second_copy(folder, entry, name, outer) for entry in walk.part(folder / name / part, f"{name}/{part}"))
    if all(entry.refused for entry in listed) and not classes:
        raise DataError(
            f"{folder} holds the folders of a split ({_names(parts)}) and no images in class folders inside them.\n{DRAWING.format(folder=folder)}"
        )
    return listed


def _names(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _unless_second_copy(folder: Path, entry: Listed, nested: str, outer: set[str]) -> Listed:
    """Public archives hold all of themselves again, one level down; a file of the same place and size is not read twice."""
    twin = entry.path[len(nested) + 1 :]
    if entry.refused or twin not in outer or (folder / twin).stat().st_size != (folder / entry.path).stat().st_size:
        return entry
    return Listed(entry.path, refused=f"{SECOND_COPY}{twin!r}, by place and size")


def _holds_only_parts(folder: Path) -> bool:
    try:
        inner = [entry.name for entry in os.scandir(folder) if entry.is_dir() and junk(entry.name) is None]
    except OSError:
        return False
    return bool(inner) and all(name.casefold() in PART_NAMES for name in inner)


def _refuse_parts_by_other_names(folder: Path, classes: list[str]) -> None:
    """Refuse `train_set/A` beside `test_set/A`, where the parts of a split would become the classes."""
    parts = {name: part for name in classes if (part := _part_meant(name))}
    if len(set(parts.values())) < 2:
        return
    inner = [_folders_only(folder / name) for name in parts]
    shared = sorted(set.intersection(*inner))
    if shared:
        raise DataError(
            f"{folder} holds {_names([*parts])}, and in each of them the folders {_names(shared)}. They look like the parts of a split, and "
            f"would be taken for the classes. Rename them to train, val and test.\n{DRAWING.format(folder=folder)}"
        )


def _part_meant(name: str) -> str | None:
    """The part of a split that a folder's name speaks of: `train_set`, `TestImages`, `01-val`."""
    words = (re.sub(r"(set|data|images)$", "", word) for word in re.findall(r"[a-z]+", name.casefold()))
    return next((PART_NAMES[word] for word in words if word in PART_NAMES), None)


def _folders_only(folder: Path) -> set[str]:
    """The names of the folders in a folder that holds nothing else; no names where it does."""
    try:
        entries = [entry for entry in os.scandir(folder) if junk(entry.name) is None]
        return {entry.name for entry in entries} if all(entry.is_dir() for entry in entries) else set()
    except OSError:
        return set()
