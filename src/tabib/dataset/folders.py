"""One folder per class, with or without folders for the parts of a split above them."""

from __future__ import annotations

import filecmp
import os
import re
from dataclasses import replace
from pathlib import Path

from tabib.config import Data
from tabib.dataset.listing import BY_NAME, OUTSIDE, PART_NAMES, SECOND_COPY, Listed, Walk, junk, out_of_place
from tabib.errors import DataError
from tabib.runs import files_below

__all__ = ["DRAWING", "list_class_folders"]

DRAWING = """Expected one folder per class, with or without folders for the parts of a split above them:
    {folder}/NORMAL/film1.png             {folder}/train/NORMAL/film1.png
    {folder}/PNEUMONIA/film2.png    or    {folder}/test/PNEUMONIA/film2.png"""


def list_class_folders(data: Data) -> list[Listed]:
    """List the files below the class folders; `DataError` where a folder has none, or mixes classes and parts of a split.

    Folders that hold nothing but one folder, as archives leave them, are passed through. A folder that holds all the others
    again is no class.
    """
    folder = data.folder
    if not folder.exists():
        raise DataError(f"There is no folder {folder}. Check its name; in a study, data.folder is relative to the study file.")
    if not folder.is_dir():
        hint = " Use layout: npz to read it." if folder.suffix.lower() == ".npz" else ""
        raise DataError(f"{folder} is a file, and layout class_folders expects a folder.{hint}")
    inner, passed = _wrapped(folder)
    if inner:
        below = list_class_folders(data.model_copy(update={"folder": folder / inner}))
        return [*passed, *(replace(entry, path=f"{inner}/{entry.path}") for entry in below)]
    walk = Walk({os.path.realpath(folder): "."})
    folders, listed = walk.one_level(folder, "")
    if not folders:
        flat = sum((entry.refused or "").endswith(OUTSIDE) for entry in listed)
        found = f"holds {flat} files and no class folders: the files lie flat" if flat else "is empty"
        unread = f" ({listed[0].refused})" if listed and not flat else ""
        raise DataError(f"The folder {folder} {found}{unread}.\n{DRAWING.format(folder=folder)}")
    parts = [name for name in folders if name.casefold() in PART_NAMES]
    nested = [name for name in folders if name not in parts and _holds_again(folder, name, set(folders) - {name}, parts=bool(parts))]
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
        for again in inner:
            files = (walk.part if parts else walk.below)(folder / name / again, f"{name}/{again}")
            listed += (_unless_second_copy(folder, entry, name, outer) for entry in files)
    if all(entry.refused for entry in listed) and not classes:
        raise DataError(
            f"{folder} holds the folders of a split ({_names(parts)}) and no images in class folders inside them.\n{DRAWING.format(folder=folder)}"
        )
    return listed


def _names(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _unless_second_copy(folder: Path, entry: Listed, nested: str, outer: set[str]) -> Listed:
    """Public archives hold all of themselves again, one level down; a file of the same place and content is not read twice."""
    twin = entry.path[len(nested) + 1 :]
    if entry.refused or twin not in outer or not _same(folder / twin, folder / entry.path):
        return entry
    return Listed(entry.path, refused=f"{SECOND_COPY}{twin!r}, by place and content")


def _same(one: Path, other: Path) -> bool:
    """Whether two files are there and hold the same, and not nothing."""
    try:
        return one.stat().st_size > 0 and filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _wrapped(folder: Path) -> tuple[str, list[Listed]]:
    """Where the class folders are, when a folder holds nothing but one folder; "" where they are in it. And what is passed on the way."""
    walk = Walk({os.path.realpath(folder): "."})
    inner, passed = "", list[Listed]()
    while True:
        folders, listed = walk.one_level(folder / inner, f"{inner}/" if inner else "")
        if len(folders) != 1 or folders[0].casefold() in PART_NAMES:
            return (inner, passed) if folders else ("", [])
        if not all((entry.refused or "").startswith(BY_NAME) for entry in listed):
            return "", []
        passed += listed
        inner = f"{inner}/{folders[0]}" if inner else folders[0]


def _holds_again(folder: Path, name: str, beside: set[str], *, parts: bool) -> bool:
    """Whether a folder holds nothing but folders for parts of a split or, where its neighbours are none, folders named like them.

    One such folder, which might be called so by chance, must hold a file of its namesake again. Raises `DataError` where it does,
    and other folders lie beside it: neither a class nor a second copy.
    """
    try:
        entries = [entry for entry in os.scandir(folder / name) if junk(entry.name) is None]
        inner = [entry.name for entry in entries if entry.is_dir()]
    except OSError:
        return False
    if parts:
        return bool(inner) and all(name.casefold() in PART_NAMES for name in inner)
    if len(inner) > 1 and beside.issuperset(inner):
        return True
    if any(not entry.is_dir() and not out_of_place(entry.name, OUTSIDE).startswith(BY_NAME) for entry in entries):
        return False  # with images of its own it is a class
    again = next((each for each in sorted(beside.intersection(inner)) if _doubled(folder / each, folder / name / each)), None)
    if again is not None and not beside.issuperset(inner):
        others = sorted(set(inner) - beside)
        raise DataError(
            f"{folder / name} holds the folder {again!r} with files of {folder / again} again, and beside it {_names(others)}, so it is neither "
            f"a class nor a second copy. Move {again!r} or the others out of {name!r}.\n{DRAWING.format(folder=folder)}"
        )
    return again is not None


def _doubled(folder: Path, inner: Path) -> bool:
    """Whether a folder holds any file of another one again, in the same place."""
    return any(_same(folder / file.relative_to(inner), file) for file in files_below(inner))


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
