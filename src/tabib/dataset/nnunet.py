"""The raw data of nnU-Net (Isensee et al. 2021): `imagesTr`, `labelsTr` and `dataset.json`."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import polars as pl

from tabib.config import SegmentationData
from tabib.dataset.listing import BY_NAME, WITHOUT_MASKS, Listed, list_files, without_suffix
from tabib.dataset.pairs import pair_up
from tabib.dataset.stacks import named_files, together
from tabib.errors import DataError

__all__ = ["CHANNEL", "channel_names", "files_of_image", "list_nnunet", "named_labels"]

DRAWING = """Expected the raw data of nnU-Net, an image with a file for each of its channels:
    {folder}/dataset.json
    {folder}/imagesTr/heart_001_0000.nii.gz   (and heart_001_0001.nii.gz ... where there are more)
    {folder}/labelsTr/heart_001.nii.gz"""

DATASET = "dataset.json"
_PARTS = {"Tr": "train", "Ts": "test"}


def list_nnunet(data: SegmentationData) -> list[Listed]:
    """List the images of `imagesTr`, and of `imagesTs` where `labelsTs` has their masks, which are then given as the test part.

    An image of several channels is one entry, whose path names the files as `stacks.together` writes them. One that has not the
    channels that `dataset.json` names, or where it does not say, most images have, is refused.

    Raises:
        DataError: no such folders, or labels of the study that `dataset.json` contradicts.
    """
    _check_labels(data)
    entries = list_files(data.folder)
    files = {folder: [entry for entry in entries if entry.path.startswith(f"{folder}/")] for folder in _FOLDERS}
    if not files["imagesTr"] or not files["labelsTr"]:
        missing = "imagesTr" if not files["imagesTr"] else "labelsTr"
        raise DataError(f"{data.folder} holds nothing in {missing}.\n{DRAWING.format(folder=data.folder)}")
    others = [entry for entry in entries if entry.path.partition("/")[0] not in _FOLDERS and entry.path != DATASET]
    listed = [entry if entry.refused else _beside(entry.path) for entry in others]
    listed += [entry for folder in _FOLDERS for entry in files[folder] if entry.refused]
    masks = {end: _masks(files[f"labels{end}"], f"labels{end}") for end in _PARTS}
    channels = {end: _channels(files[f"images{end}"], f"images{end}", masks[end]) for end in _PARTS}
    wanted, why = _wanted(data.folder, [found for of_part in channels.values() for found in of_part.values()])
    for end, part in _PARTS.items():
        whole: dict[str, list[str]] = {}
        lacking: set[str] = set()
        for name, found in channels[end].items():
            paths = [path for number in sorted(found) for path in found[number]]
            if len(paths) > len(found):  # one channel in two files: which counts, nobody knows
                whole[name] = paths
                continue
            path = paths[0] if len(paths) == 1 else together(paths)
            if set(found) == wanted or not masks[end]:
                whole[name] = [path]
                continue
            has = f"has the channels {', '.join(sorted(found))}, and {why} {', '.join(sorted(wanted))}"
            listed.append(Listed(path, refused=f"{has}; add what is missing, or take the image out"))
            lacking.add(name)
        if not masks[end]:
            listed += [Listed(path, refused=f"{WITHOUT_MASKS}: there is no labels{end}") for paths in whole.values() for path in paths]
            continue
        given = part if files["labelsTs"] else None
        pairs = pair_up(whole, {name: paths for name, paths in masks[end].items() if name not in lacking})
        listed += [Listed(entry.path, given=given, refused=entry.refused, mask=entry.mask) for entry in pairs]
    return listed


_FOLDERS = tuple(f"{kind}{end}" for end in _PARTS for kind in ("images", "labels"))


def _beside(path: str) -> Listed:
    return Listed(path, refused=f"{BY_NAME}lies beside imagesTr and labelsTr")


def _masks(entries: list[Listed], folder: str) -> dict[str, list[str]]:
    """The files of a folder of masks by the case they are of."""
    named: dict[str, list[str]] = defaultdict(list)
    for path in (entry.path for entry in entries if entry.refused is None):
        named[without_suffix(path.removeprefix(f"{folder}/"))].append(path)
    return named


def _channels(entries: list[Listed], folder: str, masks: Mapping[str, list[str]]) -> dict[str, dict[str, list[str]]]:
    """The files of a folder of images by case and number of the channel, which stands behind the name, unless a mask is called just so."""
    named: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in (entry.path for entry in entries if entry.refused is None):
        name = without_suffix(path.removeprefix(f"{folder}/"))
        found = None if name in masks else CHANNEL.fullmatch(name)
        named[found[1] if found else name][found[2] if found else _FIRST].append(path)
    return named


CHANNEL = re.compile(r"^(.+)_(\d{4})$")
"""The name of an image without its suffix, and the number of its channel."""
_FIRST = "0000"


def _wanted(folder: Path, images: Sequence[Mapping[str, list[str]]]) -> tuple[set[str], str]:
    """Which channels an image must have, and who says so."""
    most = Counter(frozenset(image) for image in images).most_common(1)[0][0]
    named = len(_named_channels(folder))
    # Pictures in colour are one file, of which `dataset.json` counts red, green and blue.
    in_colour = most == {_FIRST} and not any(path.endswith((".nii", ".nii.gz")) for image in images[:1] for path in image.get(_FIRST, []))
    return (set(most), "most images have") if not named or in_colour else ({f"{number:04}" for number in range(named)}, f"{DATASET} names")


def channel_names(data: SegmentationData, index: pl.DataFrame) -> list[str]:
    """What the channels of images are called that have a file for each: as in `dataset.json`, or by their numbers; nothing of other images."""
    paths = index.filter(pl.col("refused").is_null())["path"] if data.layout == "nnunet" else []
    files = next((files_of_image(data, path) for path in paths), [])
    if len(files) < 2:
        return []
    names = _named_channels(data.folder)
    return names if len(names) == len(files) else [without_suffix(file.name)[-len(_FIRST) :] for file in files]


def files_of_image(data: SegmentationData, path: str) -> list[Path]:
    """Give the files of an image by its path in the index: one, or one for each channel."""
    several = data.layout == "nnunet" and not (data.folder / path).exists()
    return [data.folder / name for name in (named_files(path) if several else [path])]


def _named_channels(folder: Path) -> list[str]:
    """The names of the channels in `dataset.json`, in their order; none where it does not say."""
    file = folder / DATASET
    said = _read(file) if file.exists() else {}
    channels = said.get("channel_names", said.get("modality"))
    return [str(channels[number]) for number in sorted(channels, key=int)] if _numbered(channels) else []


def _numbered(channels: object) -> TypeGuard[dict[str, object]]:
    return isinstance(channels, dict) and all(str(number).isdecimal() for number in channels)


def _check_labels(data: SegmentationData) -> None:
    """Refuse a study whose labels are not those of `dataset.json`; nothing is checked where that file is not there."""
    file = data.folder / DATASET
    if not file.exists():
        return
    said = _read(file)
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
