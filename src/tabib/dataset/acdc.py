"""The folders of the ACDC challenge (Bernard et al., IEEE TMI 2018): a heart at end-diastole and end-systole for each patient."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path, PurePosixPath

from tabib.config import SegmentationData
from tabib.dataset.listing import BY_NAME, PART_NAMES, WITHOUT_MASKS, Listed, list_files
from tabib.dataset.pairs import pair_up
from tabib.errors import DataError

__all__ = ["is_acdc_mask", "list_acdc"]

DRAWING = """Expected the names of the challenge, in folders of any depth:
    {folder}/patient001/patient001_frame01.nii.gz
    {folder}/patient001/patient001_frame01_gt.nii.gz
    {folder}/patient001/Info.cfg   (where it is there: which frame is which phase, and the diagnosis)"""

_FRAME = re.compile(r"^(?P<patient>patient\d+)_frame(?P<frame>\d+)(?P<mask>_gt)?\.nii(\.gz)?$", re.IGNORECASE)
_FILM = re.compile(r"^patient\d+_4d\.nii(\.gz)?$", re.IGNORECASE)

INFO = "Info.cfg"

PHASES = ("ED", "ES")
"""End-diastole and end-systole, by the names of `Info.cfg`."""


def is_acdc_mask(name: str) -> bool:
    """Whether a mask of the challenge is called so."""
    found = _FRAME.match(name)
    return bool(found and found["mask"])


def list_acdc(data: SegmentationData) -> list[Listed]:
    """List the frames that have a name of the challenge, each with its mask, patient, phase and diagnosis.

    `Info.cfg` says which frame is ED and which ES, and the group of diagnoses. Where it is not there, the first of two frames
    is taken for ED and the other for ES, and the fact `phase_from` says so. The films of all phases (`_4d`) are left aside.

    Raises:
        DataError: no file has such a name.
    """
    listed: list[Listed] = []
    images: dict[str, list[str]] = defaultdict(list)
    masks: dict[str, list[str]] = defaultdict(list)
    for entry in list_files(data.folder):
        path = PurePosixPath(entry.path)
        found = _FRAME.match(path.name)
        if entry.refused:
            listed.append(entry)
        elif path.name == INFO:
            continue  # read below, with the frames of its folder
        elif found is None:
            reason = f"{WITHOUT_MASKS}: a film of all phases" if _FILM.match(path.name) else f"{BY_NAME}no name of the ACDC challenge"
            listed.append(Listed(entry.path, refused=reason))
        else:
            name = f"{path.parent}/{found['patient']}_frame{int(found['frame']):02}"
            (masks if found["mask"] else images)[name].append(entry.path)
    if not images:
        raise DataError(f"{data.folder} holds no file called as those of the ACDC challenge are.\n{DRAWING.format(folder=data.folder)}")
    frames: dict[str, set[int]] = defaultdict(set)
    for name in images:
        folder, number = name.rsplit("_frame", 1)
        frames[folder].add(int(number))
    told = {folder: _facts(data.folder / PurePosixPath(folder).parent / INFO, numbers) for folder, numbers in frames.items()}
    return listed + [_told(entry, told) for entry in pair_up(images, masks)]


def _told(entry: Listed, told: dict[str, dict[int, dict[str, str]]]) -> Listed:
    """A frame with its patient, its part of the data and its facts."""
    path = PurePosixPath(entry.path)
    found = _FRAME.match(path.name)
    assert found is not None
    patient = found["patient"]
    part = next((PART_NAMES[name.casefold()] for name in path.parts[:-1] if name.casefold() in PART_NAMES), None)
    facts = told.get(f"{path.parent}/{patient}", {}).get(int(found["frame"]), {})
    return Listed(entry.path, None, part, entry.refused, patient, {"facts": json.dumps(facts)} if facts else {}, mask=entry.mask)


def _facts(info: Path, frames: set[int]) -> dict[int, dict[str, str]]:
    """What is known of each frame of a patient."""
    said = _read(info)
    phase_of = {int(said[phase]): phase for phase in PHASES if said.get(phase, "").isdecimal()}
    source = INFO
    if not phase_of and len(frames) == len(PHASES):
        phase_of, source = dict(zip(sorted(frames), PHASES, strict=True)), "frame numbers"
    facts: dict[int, dict[str, str]] = {}
    for frame in frames:
        facts[frame] = {"frame": str(frame)}
        if frame in phase_of:
            facts[frame] |= {"phase": phase_of[frame], "phase_from": source}
        if said.get("Group"):
            facts[frame]["diagnosis"] = said["Group"]
    return facts


def _read(info: Path) -> dict[str, str]:
    """The lines `name: value` of a file; none where it is not there."""
    try:
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}
