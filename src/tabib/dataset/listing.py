"""What a layout says of one file before it is opened, and the walk through folders that every layout takes.

Links are followed, also out of the folder (laboratories keep films in one place and link them by class), and an image
is labelled by where its link stands. A folder is read once: a link to one that was read before, or that contains
itself, is listed with that reason, so loops end.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from tabib.errors import DataError
from tabib.images import NO_DICOM, NO_PICTURE

__all__ = [
    "BY_NAME",
    "FOLD",
    "NOT_NAMED",
    "NOT_UNPACKED",
    "NO_IMAGES",
    "OF_A_LINE",
    "OF_A_MASK",
    "OUTSIDE",
    "PART_NAMES",
    "SECOND_COPY",
    "WITHOUT_IMAGE",
    "WITHOUT_MASKS",
    "Listed",
    "Walk",
    "given_parts",
    "junk",
    "list_files",
    "out_of_place",
    "part_of",
    "without_suffix",
]

BY_NAME = "refused by name: "
"""How the reason of a file begins that its name shows to be no image: what systems leave in folders, a text beside the classes."""

SECOND_COPY, _EMPTY, NOT_NAMED = "second copy of ", "an empty folder", "the table does not name it"

WITHOUT_IMAGE, WITHOUT_MASKS = "a mask without an image", "none of the images with masks"
"""How the reasons of files begin that a layout of masks leaves aside."""

NO_IMAGES = (BY_NAME, SECOND_COPY, _EMPTY, NOT_NAMED, NO_DICOM, NO_PICTURE, WITHOUT_IMAGE, WITHOUT_MASKS)
"""How the reasons of rows begin that take no image away."""

OF_A_LINE = r", line \d+\)$|^stands in .* several times|names frames of it, too|^no DICOM picture below|^the line names no picture$"
"""How a reason is known that lies in a line of a table and not in a file."""

OF_A_MASK = "^the mask "
"""How a reason is known that lies in the mask of an image."""

IMAGE_SUFFIXES = (".bmp", ".dcm", ".dicom", ".gif", ".heic", ".jp2", ".jpeg", ".jpg", ".nii", ".nii.gz", ".png", ".tif", ".tiff", ".webp")
"""What the names of images end in. A file among the classes is opened whatever its name; one that lies elsewhere is judged by it."""

NOT_UNPACKED = "not unpacked: "
"""How the reason of what an archive holds begins that cannot be had safely, or not whole."""

FOLD = "fold "
"""How a given part begins that is a fold; its number follows."""

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


def part_of(word: str) -> str | None:
    """The part of the split that a word names: one of PARTS, or "fold 3" for a number; None where it names none."""
    fold = re.fullmatch(r"(?:fold[ _-]?)?(\d{1,3})(?:\.0)?", word.casefold())
    return f"{FOLD}{int(fold[1])}" if fold else PART_NAMES.get(word.casefold())


def given_parts(index: pl.DataFrame, test_fold: int | None) -> pl.Series:
    """The given part of each row of an index, with the fold that judges as "test"."""
    return index["given"].replace(f"{FOLD}{test_fold}", "test")


_JUNK = {
    "__macosx": "written by macOS into archives, holds no images",
    "thumbs.db": "written by Windows, not an image",
    "desktop.ini": "written by Windows, not an image",
}

OUTSIDE = "lies outside every class folder"


@dataclass(frozen=True)
class Listed:
    """One file (or array row) that a layout sees; `refused` says why it cannot be an image."""

    path: str  # relative to the data folder, "/" between parts; "film.dcm[3]" for one frame, "train_images[17]" for npz
    label: str | None = None
    given: str | None = None  # one of PARTS, or "fold 3"
    refused: str | None = None
    group: str | None = None
    facts: Mapping[str, str | None] = field(default_factory=dict)  # columns of the index that the table fills
    frame: int | None = None  # where one of a file was asked for
    mask: str | None = None  # path of its mask, relative to the data folder

    @property
    def file(self) -> str:
        """The path without the number of the frame."""
        return self.path if self.frame is None else self.path.removesuffix(f"[{self.frame}]")


def junk(name: str) -> str | None:
    """Why a name in a folder of images is nobody's image, or None."""
    reason = _JUNK.get(name.casefold())
    if reason is None and name.startswith("."):
        reason = "written by macOS, not an image" if name == ".DS_Store" or name.startswith("._") else "hidden"
    return reason and BY_NAME + reason


def out_of_place(name: str, reason: str) -> str:
    """Why a file is not used; by its name, where that is none of an image."""
    return reason if "." not in name or name.casefold().endswith(IMAGE_SUFFIXES) else BY_NAME + reason


def without_suffix(path: str) -> str:
    """A path without the suffix of its file, of `.nii.gz` without both."""
    return re.sub(r"(\.nii)?\.[^./]+$", "", path)


def list_files(folder: Path) -> list[Listed]:
    """Every file at any depth below a folder, without a label; `DataError` where there is no such folder."""
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}. Check its name; in a study, data.folder is relative to the study file.")
    found = Walk({os.path.realpath(folder): "."}).below(folder, ".")
    return [Listed(entry.path.removeprefix("./"), refused=entry.refused) for entry in found]


def _is_text(name: str) -> bool:
    """Whether a name is UTF-8; other bytes fit into no table or page."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass
class Walk:
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
        flat = [Listed(prefix + entry.name, refused=out_of_place(entry.name, OUTSIDE)) for entry in entries if not entry.is_dir()]
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
