"""Folders of any shape, whose paths say what an image is: `data.pattern`."""

from __future__ import annotations

import re
import unicodedata

from tabib.config import Data
from tabib.dataset.listing import PART_NAMES, Listed, list_files, out_of_place, part_of
from tabib.errors import DataError

__all__ = ["UNMATCHED", "list_pattern"]

UNMATCHED = "data.pattern does not match its path"


def list_pattern(data: Data) -> list[Listed]:
    """List the files below the folder by what `data.pattern` finds in their paths; one that it does not match is refused."""
    assert data.pattern is not None
    pattern = re.compile(data.pattern)
    listed = [entry if entry.refused else _of_path(entry.path, pattern) for entry in list_files(data.folder)]
    if not any(entry.label for entry in listed):
        examples = "".join(f"\n    {entry.path!r}" for entry in listed[:3])
        raise DataError(
            f"data.pattern, {data.pattern!r}, finds a label in none of the {len(listed)} paths below {data.folder}, which look like{examples}\n"
            "It is searched for anywhere in the path below the folder; correct it, or data.folder."
        )
    return listed


def _of_path(path: str, pattern: re.Pattern[str]) -> Listed:
    found = pattern.search(path)
    if found is None:
        return Listed(path, refused=out_of_place(path.rpartition("/")[2], UNMATCHED))
    said = {name: unicodedata.normalize("NFC", text) for name, text in found.groupdict().items() if text}
    part = said.get("part")
    given = part_of(part) if part else None
    refused = None
    if part and given is None:
        refused = f"the part of the split is {part!r}, and must be one of {', '.join(PART_NAMES)}, or the number of a fold"
    facts = {name: said[name] for name in ("scanner", "site", "date") if name in said}
    return Listed(path, said.get("label"), given, refused, said.get("group"), facts)
