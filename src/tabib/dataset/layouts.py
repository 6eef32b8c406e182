"""How a folder says what its images are: the files a layout sees, with label and given part, before any is opened.

| layout          | on disk                                                                                        |
|-----------------|------------------------------------------------------------------------------------------------|
| `class_folders` | `FOLDER/<class>/...` or `FOLDER/{train,val,test}/<class>/...`, files at any depth below the class |
| `npz`           | one MedMNIST v2 file with `train_images`, `train_labels`, `val_...`, `test_...`                  |

Nothing is skipped in silence: what cannot be an image by its name, place or kind is listed with the reason.

Links are followed, also out of the folder (laboratories keep films in one place and link them by class), and an image
is labelled by where its link stands. A folder is read once: a link to one that was read before, or that contains
itself, is listed with that reason, so loops end.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tabib.config import Data
from tabib.dataset.npz import npz_file, read_headers, read_labels
from tabib.errors import DataError

__all__ = ["LAYOUTS", "NO_IMAGES", "PART_NAMES", "Listed", "junk", "list_folder"]

BY_NAME = "refused by name: "
"""How the reason of a file begins that its name shows to be no image: what systems leave in folders, a text beside the classes."""

_SECOND_COPY, _EMPTY = "second copy of ", "an empty folder"

NO_IMAGES = (BY_NAME, _SECOND_COPY, _EMPTY)
"""How the reasons of rows begin that take no image away."""

IMAGE_SUFFIXES = (".bmp", ".dcm", ".dicom", ".gif", ".heic", ".jp2", ".jpeg", ".jpg", ".nii", ".nii.gz", ".png", ".tif", ".tiff", ".webp")
"""What the names of images end in. A file among the classes is opened whatever its name; one that lies elsewhere is judged by it."""

PART_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""Names of folders, in small letters, that give a part of the split."""

_JUNK = {
    "__macosx": "written by macOS into archives, holds no images",
    "thumbs.db": "written by Windows, not an image",
    "desktop.ini": "written by Windows, not an image",
}

_OUTSIDE = "lies outside every class folder"
_DRAWING = """Expected one folder per class, with or without folders for the parts of a split above them:
    {folder}/NORMAL/film1.png             {folder}/train/NORMAL/film1.png
    {folder}/PNEUMONIA/film2.png    or    {folder}/test/PNEUMONIA/film2.png"""


@dataclass(frozen=True)
class Listed:
    """One file (or array row) that a layout sees; `refused` says why it cannot be an image."""

    path: str  # relative to the data folder, "/" between parts; "train_images[17]" for npz
    label: str | None = None
    given: str | None = None  # one of PARTS
    refused: str | None = None


def list_folder(data: Data) -> list[Listed]:
    """List what the study's layout sees in its folder, sorted by path; no image is opened.

    Returns:
        At least two classes among the entries that are not refused.

    Raises:
        DataError: the folder is missing or empty, holds no class folders or one class only, or mixes classes and parts.
    """
    listed = sorted(LAYOUTS[data.layout](data.folder), key=lambda entry: entry.path)
    counts: dict[str, int] = {}
    for entry in listed:
        if entry.refused is None and entry.label is not None:
            counts[entry.label] = counts.get(entry.label, 0) + 1
    if not counts:
        refused = f" Refused by name or place: {', '.join(repr(entry.path) for entry in listed[:3])}." if listed else ""
        raise DataError(f"{data.folder} holds class folders and no image in them.{refused} Put the images of each class into its folder.")
    if len(counts) == 1:
        ((label, count),) = counts.items()
        raise DataError(
            f"{data.folder} holds one class, {label!r} ({count} files), and a classifier needs at least two to tell apart. "
            f"{_DRAWING.format(folder=data.folder)}\n"
            f"If the classes are folders inside {label!r}, point data.folder at it; if the other class is elsewhere, put it beside this one."
        )
    spellings: dict[str, str] = {}
    for label in sorted(counts):
        other = spellings.setdefault(label.casefold(), label)
        if other != label:
            raise DataError(
                f"{data.folder} holds the classes {other!r} and {label!r}, which differ in capital letters only. Rename the folders to one spelling."
            )
    return listed


def _class_folders(folder: Path) -> list[Listed]:
    if not folder.exists():
        raise DataError(f"There is no folder {folder}. Check its name; in a study, data.folder is relative to the study file.")
    if not folder.is_dir():
        hint = " Use layout: npz to read it." if folder.suffix.lower() == ".npz" else ""
        raise DataError(f"{folder} is a file, and layout class_folders expects a folder.{hint}")
    walk = _Walk({os.path.realpath(folder): "."})
    folders, listed = walk.one_level(folder, "")
    if not folders:
        flat = sum((entry.refused or "").endswith(_OUTSIDE) for entry in listed)
        found = f"holds {flat} files and no class folders: the files lie flat" if flat else "is empty"
        unread = f" ({listed[0].refused})" if listed and not flat else ""
        raise DataError(f"The folder {folder} {found}{unread}.\n{_DRAWING.format(folder=folder)}")
    parts = [name for name in folders if name.casefold() in PART_NAMES]
    nested = [name for name in folders if parts and name not in parts and _holds_only_parts(folder / name)]
    classes = [name for name in folders if name not in parts and name not in nested]
    if parts and classes:
        raise DataError(
            f"{folder} mixes folders of a split ({_names(parts)}) with other folders ({_names(classes)}), so it is not clear which are classes. "
            f"Move or rename the ones that do not belong.\n{_DRAWING.format(folder=folder)}"
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
            f"{folder} holds the folders of a split ({_names(parts)}) and no images in class folders inside them.\n{_DRAWING.format(folder=folder)}"
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
    return Listed(entry.path, refused=f"{_SECOND_COPY}{twin!r}, by place and size")


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
            f"would be taken for the classes. Rename them to train, val and test.\n{_DRAWING.format(folder=folder)}"
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


def junk(name: str) -> str | None:
    """Why a name in a folder of images is nobody's image, or None."""
    reason = _JUNK.get(name.casefold())
    if reason is None and name.startswith("."):
        reason = "written by macOS, not an image" if name == ".DS_Store" or name.startswith("._") else "hidden"
    return reason and BY_NAME + reason


def _out_of_place(name: str) -> str:
    return _OUTSIDE if "." not in name or name.casefold().endswith(IMAGE_SUFFIXES) else BY_NAME + _OUTSIDE


def _is_text(name: str) -> bool:
    """Whether a name is UTF-8; other bytes fit into no table or page."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass
class _Walk:
    """Reads folders, each real one once."""

    read: dict[str, str]  # real path -> where it was first seen

    def entries(self, folder: Path, prefix: str) -> tuple[list[os.DirEntry[str]], list[Listed]]:
        """The files and folders of a folder, and what is refused of them by name, kind or place."""
        try:
            # Links last: a folder keeps its own name when a link to it stands beside it.
            entries = sorted(os.scandir(folder), key=lambda entry: (entry.is_symlink(), entry.name))
        except OSError as error:
            return [], [Listed(prefix, refused=f"the folder cannot be read: {error.strerror}")]
        kept: list[os.DirEntry[str]] = []
        refused: list[Listed] = []
        for entry in entries:
            path = os.fsencode(prefix + entry.name).decode("utf-8", "backslashreplace")
            try:
                reason = self._refusal(entry, path)
            except OSError as error:  # a link to itself, a folder without permission
                reason = f"cannot be followed: {error.strerror}"
            if reason is None:
                kept.append(entry)
            else:
                refused.append(Listed(path, refused=reason))
        return kept, refused

    def _refusal(self, entry: os.DirEntry[str], path: str) -> str | None:
        reason = junk(entry.name)
        if reason is not None:
            return reason
        if not _is_text(entry.name):
            return "the name is not UTF-8; rename the file"
        if entry.is_dir():
            first = self.read.setdefault(os.path.realpath(entry.path), path)
            return None if first == path else f"a link to a folder that was read as {first!r}"
        if not entry.is_file():
            return "a link to nothing" if entry.is_symlink() else "not a file (a pipe, socket or device)"
        return None

    def one_level(self, folder: Path, prefix: str) -> tuple[list[str], list[Listed]]:
        """The names of the folders in a folder, and its other entries, refused."""
        entries, refused = self.entries(folder, prefix)
        folders = [entry.name for entry in entries if entry.is_dir()]
        flat = [Listed(prefix + entry.name, refused=_out_of_place(entry.name)) for entry in entries if not entry.is_dir()]
        return folders, refused + flat

    def part(self, folder: Path, path: str) -> Iterator[Listed]:
        """Every file in the folder of a part of the split, with the classes in it."""
        classes, refused = self.one_level(folder, f"{path}/")
        yield from refused
        for name in classes:
            yield from self.below(folder / name, f"{path}/{name}", given=PART_NAMES[folder.name.casefold()])

    def below(self, folder: Path, path: str, *, given: str | None = None) -> Iterator[Listed]:
        """Every file at any depth below a class folder; the last part of `path` is the class."""
        label = unicodedata.normalize("NFC", folder.name)  # macOS writes é as two characters, others as one
        waiting = [(folder, path)]
        while waiting:
            current, prefix = waiting.pop()
            entries, refused = self.entries(current, prefix + "/")
            if not entries and not refused:
                yield Listed(prefix, refused=_EMPTY)
            yield from refused
            for entry in entries:
                if entry.is_dir():
                    waiting.append((Path(entry.path), f"{prefix}/{entry.name}"))
                else:
                    yield Listed(f"{prefix}/{entry.name}", label, given)


def _npz(folder: Path) -> list[Listed]:
    file = npz_file(folder)
    headers = read_headers(file)
    listed: list[Listed] = []
    for part in headers:
        labels = read_labels(file, part)
        listed += [Listed(f"{part}_images[{position}]", str(label), PART_NAMES[part]) for position, label in enumerate(labels.tolist())]
    return listed


LAYOUTS: dict[str, Callable[[Path], list[Listed]]] = {"class_folders": _class_folders, "npz": _npz}
