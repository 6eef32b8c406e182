"""The raw data of nnU-Net (Isensee et al. 2021): `imagesTr`, `labelsTr` and `dataset.json`."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from tabib.config import SegmentationData
from tabib.dataset.listing import BY_NAME, WITHOUT_MASKS, Listed, list_files, without_suffix
from tabib.dataset.pairs import pair_up
from tabib.errors import DataError

__all__ = ["list_nnunet", "named_labels"]

DRAWING = """Expected the raw data of nnU-Net, of one channel:
    {folder}/dataset.json
    {folder}/imagesTr/heart_001_0000.nii.gz
    {folder}/labelsTr/heart_001.nii.gz"""

DATASET = "dataset.json"

_PARTS = {"Tr": "train", "Ts": "test"}


def list_nnunet(data: SegmentationData) -> list[Listed]:
    """List the images of `imagesTr`, and of `imagesTs` where `labelsTs` has their masks, which are then given as the test part.

    Raises:
        DataError: no such folders, images of several channels, or labels of the study that `dataset.json` contradicts.
    """
    _check_dataset(data)
    entries = list_files(data.folder)
    files = {folder: [entry for entry in entries if entry.path.startswith(f"{folder}/")] for folder in _FOLDERS}
    if not files["imagesTr"] or not files["labelsTr"]:
        missing = "imagesTr" if not files["imagesTr"] else "labelsTr"
        raise DataError(f"{data.folder} holds nothing in {missing}.\n{DRAWING.format(folder=data.folder)}")
    others = [entry for entry in entries if entry.path.partition("/")[0] not in _FOLDERS and entry.path != DATASET]
    listed = [entry if entry.refused else _beside(entry.path) for entry in others]
    for end, part in _PARTS.items():
        listed += [entry for folder in (f"images{end}", f"labels{end}") for entry in files[folder] if entry.refused]
        masks = _named(files[f"labels{end}"], f"labels{end}")
        images = _named(files[f"images{end}"], f"images{end}", cases=masks)
        if not masks:
            listed += [Listed(path, refused=f"{WITHOUT_MASKS}: there is no labels{end}") for paths in images.values() for path in paths]
            continue
        given = part if files["labelsTs"] else None
        pairs = pair_up(images, masks)
        listed += [Listed(entry.path, given=given, refused=entry.refused, mask=entry.mask) for entry in pairs]
    return listed


_FOLDERS = tuple(f"{kind}{end}" for end in _PARTS for kind in ("images", "labels"))


def _beside(path: str) -> Listed:
    return Listed(path, refused=f"{BY_NAME}lies beside imagesTr and labelsTr")


def _named(entries: list[Listed], folder: str, *, cases: dict[str, list[str]] | None = None) -> dict[str, list[str]]:
    """The files of a folder by the case they are of; an image has the number of its channel behind it, unless a mask is called just so."""
    named: dict[str, list[str]] = defaultdict(list)
    channels: dict[str, set[str]] = defaultdict(set)
    for path in (entry.path for entry in entries if entry.refused is None):
        name = without_suffix(path.removeprefix(f"{folder}/"))
        found = re.fullmatch(r"(.+)_(\d{4})", name) if cases is not None and name not in cases else None
        if found:
            name = found[1]
            channels[name].add(found[2])
        named[name].append(path)
    for name, found in channels.items():
        if found != {"0000"}:
            raise DataError(
                f"{folder} holds channels {', '.join(sorted(found))} of {name!r}, as {named[name][0]!r}, and images of one channel, 0000, are "
                "read. Make a folder of the channel that counts, with 0000 behind its names."
            )
    return named


def _check_dataset(data: SegmentationData) -> None:
    """Refuse a study whose labels are not those of `dataset.json`; nothing is checked where that file is not there."""
    file = data.folder / DATASET
    if not file.exists():
        return
    said = _read(file)
    channels = said.get("channel_names", said.get("modality"))
    if isinstance(channels, dict) and len(channels) > 1:
        raise DataError(
            f"{file} says that an image has {len(channels)} channels ({', '.join(map(str, channels.values()))}), and images of one channel are "
            "read. Make a folder of the channel that counts, with 0000 behind its names."
        )
    names = _labels(said.get("labels"))
    if not names:
        return
    listed = ", ".join(f"{number} {name}" for number, name in sorted(names.items()))
    numbers = {name.casefold(): number for number, name in names.items()}
    for name, given in data.labels.items():
        own = [given] if isinstance(given, int) else given
        for number in own:
            if number not in names:
                raise DataError(
                    f"data.labels gives {name!r} the number {number}, and the numbers of {file} are {listed}. Correct data.labels."
                )
        if numbers.get(name.casefold(), own[0]) not in own:
            raise DataError(
                f"data.labels gives {name!r} the number {own[0]}, and in {file} it has {numbers[name.casefold()]} ({listed}). Correct data.labels."
            )


def named_labels(folder: Path) -> dict[str, int]:
    """The structures and their numbers as `dataset.json` says them; none where it is not there, or gives a structure several numbers."""
    file = folder / DATASET
    names = _labels(_read(file).get("labels")) if file.exists() else {}
    return {name: number for number, name in names.items()} if len(set(names.values())) == len(names) else {}


def _read(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file} cannot be read as JSON: {error}. Correct it, or take it away: without it the labels are not checked."
        ) from None
    return said if isinstance(said, dict) else {}


def _labels(said: object) -> dict[int, str]:
    """The names of the numbers: version 1 writes {"1": "liver"}, version 2 {"liver": 1} or, of regions, {"whole": [1, 2]}."""
    names: dict[int, str] = {}
    for one, other in said.items() if isinstance(said, dict) else ():
        name, numbers = (other, [one]) if str(one).isdecimal() else (one, other if isinstance(other, list) else [other])
        names |= {int(number): str(name) for number in numbers if str(number).isdecimal() and int(number) > 0 and int(number) not in names}
    return names
