"""Which part of a file name names the patient, and of how many images the patient is known.

A proposal is better missing than wrong: joining two patients costs some images, but taking each image for a patient of its
own flatters every figure without a word. So only shapes of names are recognised that hospitals, scanners and archives
give to patients, most paths must have one, and patients must repeat.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import polars as pl

from tabib.records import Known

__all__ = ["frames_of", "held_together", "patients_by", "patients_known", "propose_group_pattern"]

_LAST = r"(?=[^/]*$)"  # the pattern before it ends in the file's name, not in a folder

_WORDS = ("patient", "person", "subject", "subj", "sub", "participant", "volunteer", "case", "pat", "pt")
_PART = r"(?i:train|training|val|valid|validation|test|testing)"

_SPELT: dict[str, str] = {
    **{
        f"{word} and a number": rf"(?<![A-Za-z])({word}[-_ ]?\d+)"
        for small in _WORDS
        for word in (small, small.capitalize(), small.upper())
    },
    "The Cancer Genome Atlas": r"(TCGA-[0-9A-Z]{2}-[0-9A-Z]{4})(?![0-9A-Z])",
    "DICOM export, image of a study": rf"((?<![A-Za-z0-9])(?:[A-Za-z]+\d*-)?IM-\d+)-\d{{4}}(?!\d){_LAST}",
}
"""Shapes in which a word or a standard says that it is the patient, or the study."""

PATTERNS: dict[str, str] = {
    **_SPELT,
    "letters and a number, then a view": r"(?<![A-Za-z0-9])((?!IMG|DSC|MVIM)[A-Z]{1,4}\d{3,})(?=[_-][^/]*$)",
    "a number, then a short one": rf"(?<![A-Za-z0-9])((?!(?:19|20)\d{{6}}_)\d{{4,}})_\d{{1,3}}(?!\d){_LAST}",
    "a folder for each person": rf"^(?!{_PART}/[^/]+/[^/]+$)[^/]+/(?:[^/]+/)*([A-Za-z]{{0,8}}[-_]?\d{{2,}})/[^/]+$",
}
"""Shapes of names, in the order in which they are tried; each captures the patient."""

_COVERED = 0.95  # share of paths that must name a patient
_SHARE = 0.02  # share of paths a second shape must add to be worth its place in the pattern
_REPEATING = 0.1  # share of images that must not be the only one of their patient, where only repeating says that it is one
_LARGEST = 0.5  # share of images above which one patient cannot hold them: the number is something else


def patients_known(groups: pl.Series) -> Known:
    """Say whether the patients of all images are known, of some, or of none; `groups` is the column of the index, null where unknown."""
    unknown = groups.null_count()
    return "unknown" if unknown == len(groups) else "partly" if unknown else "known"


def held_together(index: pl.DataFrame, patients: pl.Series | None = None) -> pl.Series:
    """Say of each row whose it is: the patient, or where that is unknown the file that it is a frame of; null for any other row.

    `patients` stands in for the column `group` of the index.
    """
    return (index["group"] if patients is None else patients).fill_null(frames_of(index))


def frames_of(index: pl.DataFrame) -> pl.Series:
    """Say of each row of which file it is a frame; null where it is a file, or a row of an array."""
    file = pl.col("path").str.extract(r"^(?s)(.+)\[\d+\]$")
    return index.select(pl.when(pl.col("format") != "NPZ").then(pl.lit("frames of ") + file)).to_series()


def patients_by(pattern: str, paths: pl.Series) -> pl.Series:
    """The patient that a pattern names in each path: its non-empty captures, joined; null where it does not match."""
    compiled = re.compile(pattern)
    found = (compiled.search(path) for path in paths)
    return pl.Series(["-".join(part for part in match.groups() if part) if match else None for match in found], dtype=pl.String())


def propose_group_pattern(paths: Sequence[str]) -> str | None:
    """Propose a regular expression for `data.group` from the paths of a data set.

    Args:
        paths: relative to the data folder, "/" between parts, as in the index.

    Returns:
        A pattern whose joined non-empty captures give at least two patients of whom some have several images, or None
        where no shape of name is recognised with confidence.

    >>> propose_group_pattern(["A/case1_a.png", "A/case1_b.png", "B/case2_a.png", "B/case2_b.png"])
    '(?<![A-Za-z])(case[-_ ]?\\\\d+)'
    """
    if len(paths) < 4:
        return None
    left, chosen = list(paths), []
    for pattern in PATTERNS.values():
        compiled = re.compile(pattern)
        rest = [path for path in left if not compiled.search(path)]
        if len(left) - len(rest) > _SHARE * len(paths):
            chosen.append(pattern)
            left = rest
    if not chosen or len(left) > (1 - _COVERED) * len(paths):
        return None
    pattern = "|".join(chosen)
    spelt = set(chosen) <= set(_SPELT.values())
    return pattern if _plausible(pattern, paths, least=0 if spelt else _REPEATING * len(paths)) else None


def _plausible(pattern: str, paths: Sequence[str], *, least: float) -> bool:
    """Whether a pattern gives several patients, none of whom has most images, and more than `least` images are not their patient's only one."""
    compiled = re.compile(pattern)
    found = (compiled.search(path) for path in paths)
    counts = Counter("-".join(capture for capture in match.groups() if capture) for match in found if match)
    repeating = sum(count for count in counts.values() if count > 1)
    return len(counts) >= 2 and repeating > least and max(counts.values()) <= _LARGEST * len(paths)
