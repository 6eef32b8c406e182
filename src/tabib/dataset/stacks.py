"""Volumes of several DICOM files: the path that names one in an index, and the way back from it to its slices.

| path                      | stack                                                              |
|---------------------------|--------------------------------------------------------------------|
| `p1/heart`                | the files in and below a folder, which are one stack                |
| `p1/IM07`                 | the stack of the folder's files that this file is a slice of        |
| `p1/heart[3]`, `p1/IM07[3]` | the same at time point 3, from 0                                  |
| `p1/{3,5,7}.dcm`          | these files                                                         |
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tabib.errors import ImageError
from tabib.images import Series, Volume, find_series, name_and_frame, read_stack

__all__ = ["Stack", "find_stack", "named_files", "together"]


@dataclass(frozen=True)
class Stack:
    """A volume that a path of the index names."""

    series: Series
    path: str
    time: int | None

    @property
    def files(self) -> list[Path]:
        """The files of its slices, in their order; one that holds several slices once."""
        return list(dict.fromkeys(one.path for one in self.series.slices[self.time or 0] if one is not None))

    @property
    def faults(self) -> str | None:
        """What does not fit together, as in the index."""
        return json.dumps([asdict(fault) for fault in self.series.faults]) if self.series.faults else None

    def read(self) -> Volume:
        """Read its slices; `ImageError` where they make no volume, or cannot be read."""
        return read_stack(self.series, self.path, time=self.time)


def find_stack(folder: Path, path: str) -> Stack:
    """Find the slices of a path; `ImageError` where they are no stack, or several."""
    several = _SEVERAL.match(path)
    file, time = (path, None) if several or (folder / path).exists() else name_and_frame(path)
    place = folder / file
    if several:
        files = [folder / name for name in named_files(path)]
    else:
        files = sorted(one for one in (place.rglob("*") if place.is_dir() else place.parent.iterdir()) if one.is_file())
    series, refused = find_series(files)
    found = [one for one in series if several or place.is_dir() or any(at is not None and at.path == place for at in one.slices[0])]
    if len(found) != 1:
        reason = refused.get(place) or next(iter(refused.values()), "there is no such DICOM picture any more")
        raise ImageError(f"{path}: makes {len(found)} stacks of slices, where one was expected" + ("" if found else f" ({reason})"))
    return Stack(found[0], path, time)


_SEVERAL = re.compile(r"^(?P<start>.*)\{(?P<parts>[^{}]*)\}(?P<end>[^{}/]*)$", re.DOTALL)


def together(paths: Sequence[str]) -> str:
    """One path for several numbered files: what they share, and in braces what they do not."""
    first = re.split(r"\d+(?=[^/\d]*$)", paths[0])
    start, end = first if len(paths) == 1 and len(first) == 2 else _shared(paths)
    return f"{start}{{{','.join(path[len(start) : len(path) - len(end)] for path in paths)}}}{end}"


def _shared(paths: Sequence[str]) -> tuple[str, str]:
    start = re.sub(r"\d+$", "", os.path.commonprefix(paths))  # noqa: RUF071 - letters are meant
    return start, re.sub(r"^\d+", "", os.path.commonprefix([path[::-1] for path in paths])[::-1])  # noqa: RUF071


def named_files(path: str) -> list[str]:
    """The files that a path names one by one: those in braces, or itself."""
    found = _SEVERAL.match(path)
    return [f"{found['start']}{part}{found['end']}" for part in found["parts"].split(",")] if found else [path]
