"""What a person should know about masks before anything is trained on them.

Each look is a function from the good rows to findings, as in `inspection.py`. What the masks look like was seen when the index
was made (`masks.MaskFacts`); no file is opened again.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from statistics import median

import polars as pl

from tabib.config import Segmentation
from tabib.dataset.acdc import PHASES
from tabib.dataset.listing import WITHOUT_IMAGE
from tabib.dataset.masks import MaskFacts
from tabib.records import Finding, Level, Typical, labels_of

__all__ = ["inspect_masks"]

Figures = Mapping[str, float | int | str | Typical]

_SHOWN = 200  # rows of a finding
_SERIOUS = 0.05  # share of images that belongs on the first page
_NUMBERS = 8  # of a mask that a sentence can name
_RARELY = 0.2  # share of images below which a structure at the frame was cut off; above it structures lie so
_SPREAD = 1.5  # largest spacing over the smallest
_LEAST_SAME = 5  # images from which it says something that all have one spacing
_HEARTS = ("acdc", "sunnybrook")  # layouts of cases that are an end of the heart beat each
_ROUND_MM = 0.5  # a scanner divides its field of view by its matrix, and rarely gets whole halves of a millimetre three times


def inspect_masks(index: pl.DataFrame, study: Segmentation) -> Iterator[Finding]:
    """Look at the masks of an index: which are missing, which numbers they hold, how they look and how they lie.

    Args:
        index: INDEX_SCHEMA, with refused rows.
        study: its `data.labels`, `ignored`, `instances` and `spacing`, and `input`.
    """
    good = index.filter(pl.col("refused").is_null())
    masked = good.filter(pl.col("mask").is_not_null())
    yield from _partners(index, good)
    yield from _stacks(index, len(good))
    yield from _numbers(masked, study)
    yield from _segments(masked)
    yield from _shown(masked, study)
    yield from _appearance(masked)
    yield from _without_value(masked)
    if study.input.crop == "content":
        yield from _beyond(masked)
    yield from _copies(masked)
    yield from _spacing(good, study)
    yield from _phases(good, study)
    yield from _slices(good, study)


def _finding(code: str, level: Level, figures: Figures, rows: Sequence[int] = (), *, page_one: bool = False) -> Finding:
    return Finding(code=code, level=level, figures=dict(figures), rows=list(rows)[:_SHOWN], page_one=page_one)


def _partners(index: pl.DataFrame, good: pl.DataFrame) -> Iterator[Finding]:
    alone = good.filter(pl.col("mask").is_null())
    if len(alone):
        share = len(alone) / len(good)
        figures = {"images": len(alone), "share": share, "example": alone["path"][0]}
        yield _finding("images_without_mask", "warn", figures, alone["row"].to_list())
    masks = index.filter(pl.col("refused").str.starts_with(WITHOUT_IMAGE))
    if len(masks):
        yield _finding("masks_without_image", "warn", {"files": len(masks), "example": masks["path"][0]})


def _stacks(index: pl.DataFrame, good: int) -> Iterator[Finding]:
    """DICOM slices that do not fit together; the figures are those of the first such volume."""
    found: dict[str, dict[int, dict[str, float | int]]] = defaultdict(dict)
    for row, text in index.drop_nulls("stack_faults").select("row", "stack_faults").iter_rows():
        for fault in json.loads(text):
            found[fault["code"]].setdefault(row, fault["figures"])
    paths = dict(index.select("row", "path").iter_rows())
    for code, rows in found.items():
        lost = index.filter(pl.col("row").is_in([*rows]) & pl.col("refused").is_not_null()).height
        first = next(iter(rows))
        counted = {"slice", "after"} & rows[first].keys()  # from 0
        figures = {"images": len(rows), **rows[first], **{name: rows[first][name] + 1 for name in counted}, "example": paths[first]}
        level = "pass" if code in _TAKEN_AS_IT_IS else "warn"
        yield _finding(code, level, figures, [*rows], page_one=lost > _SERIOUS * (good + lost))


_TAKEN_AS_IT_IS = ("slices_tilted",)  # the affine matrix has it


def _segments(masked: pl.DataFrame) -> Iterator[Finding]:
    """Segments of DICOM objects that only their number makes a structure, and those that the study does not name."""
    facts = {row: MaskFacts(**json.loads(text)) for row, text in masked.select("row", "mask_facts").iter_rows()}
    rows = [row for row, each in facts.items() if each.by_number]
    called: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for structure, name in facts[row].by_number.items():
            called[structure].add(name)
    if rows:
        # A number that is something else in another file would be learnt as the same structure.
        doubtful = len(rows) < len(facts) or any(len(names) > 1 for names in called.values())
        said = " · ".join(f"{structure}: {', '.join(sorted(names)[:_NUMBERS])}" for structure, names in called.items())
        figures: Figures = {"images": len(rows), "all": len(facts), "segments": said}
        yield _finding("segments_by_number", "fail" if doubtful else "pass", figures, rows, page_one=doubtful)
    left = Counter(chain.from_iterable(each.left_out for each in facts.values()))
    if left:
        by_name: Typical = {name: [count] for name, count in left.most_common(_NUMBERS)}
        concerned = [row for row, each in facts.items() if each.left_out]
        yield _finding("segments_left_out", "pass", {"images": len(concerned), "names": len(left), "by_name": by_name}, concerned)


def _numbers(masked: pl.DataFrame, study: Segmentation) -> Iterator[Finding]:
    """Numbers of the masks that the study does not name, and structures that no mask shows."""
    data = study.data
    named = _named(study)
    voxels: Counter[int] = Counter()
    rows: dict[int, list[int]] = defaultdict(list)
    for row, text in masked.select("row", "structures").iter_rows():
        for number, count in json.loads(text).items():
            voxels[int(number)] += count
            rows[int(number)].append(row)
    unnamed = [] if data.instances else sorted(voxels.keys() - named, key=lambda number: -voxels[number])
    if unnamed:
        by_number: Typical = {str(number): [voxels[number]] for number in unnamed[:_NUMBERS]}
        concerned = list(dict.fromkeys(chain.from_iterable(rows[number] for number in unnamed)))
        figures: Figures = {"numbers": len(unnamed), "by_number": by_number, "images": len(concerned), "first": unnamed[0]}
        yield _finding("numbers_undeclared", "fail", figures, sorted(concerned), page_one=True)
    present = {name for label in masked["label"] for name in labels_of(label, several=True)}
    if never := [name for name in data.structures if name not in present]:
        found = ", ".join(str(number) for number in sorted(voxels)[:_NUMBERS]) or "0"
        yield _finding("structures_never_shown", "fail", {"structures": ", ".join(never), "found": found}, page_one=True)


def _named(study: Segmentation) -> set[int]:
    """The numbers of masks that the study says something of."""
    return {*chain.from_iterable([given] if isinstance(given, int) else given for given in study.data.labels.values()), *study.data.ignored}


def _shown(masked: pl.DataFrame, study: Segmentation) -> Iterator[Finding]:
    """How often each structure is there, how many objects, and which masks are empty."""
    if masked.is_empty():
        return
    counts = Counter(chain.from_iterable(labels_of(label, several=True) for label in masked["label"]))
    if study.data.instances:
        objects = [len(json.loads(text).keys() - set(map(str, study.data.ignored))) for text in masked["structures"]]
        figures: Figures = {"images": len(masked), "structure": study.data.structures[0], "objects": sum(objects)}
        yield _finding("objects_counted", "pass", {**figures, "median": median(objects), "least": min(objects), "most": max(objects)})
    else:
        by_structure: Typical = {name: [counts[name]] for name in study.data.structures if counts[name]}
        yield _finding("structures_counted", "pass", {"images": len(masked), "by_structure": by_structure})
    named = _named(study)  # a mask of other numbers is not empty, which `numbers_undeclared` says
    bare = masked.filter(pl.col("label") == "").select("row", "path", "structures").iter_rows()
    empty = {row: path for row, path, text in bare if named.issuperset(map(int, json.loads(text)))}
    if empty:
        figures = {"images": len(empty), "share": len(empty) / len(masked), "example": next(iter(empty.values()))}
        yield _finding("masks_empty", "warn", figures, [*empty])


def _appearance(masked: pl.DataFrame) -> Iterator[Finding]:
    """Specks, holes, structures at the frame, and masks that lie elsewhere than their images."""
    facts = {row: MaskFacts(**json.loads(text)) for row, text in masked.select("row", "mask_facts").iter_rows()}
    paths = dict(masked.select("row", "path").iter_rows())
    looks = {
        "mask_islands": {row: [*each.islands] for row, each in facts.items() if each.islands},
        "mask_holes": {row: [*each.holes] for row, each in facts.items() if each.holes},
        "masks_at_border": {row: each.border for row, each in facts.items() if each.border},
    }
    for code, found in looks.items():
        if found:
            by_structure: Typical = {name: [count] for name, count in sorted(Counter(chain.from_iterable(found.values())).items())}
            figures: Figures = {"images": len(found), "share": len(found) / len(facts), "by_structure": by_structure}
            usual = code == "masks_at_border" and len(found) > _RARELY * len(facts)
            yield _finding(code, "pass" if usual else "warn", {**figures, "example": paths[next(iter(found))]}, [*found])
    moved = {row: each.moved_mm for row, each in facts.items() if each.moved_mm is not None}
    if moved:
        rows = sorted(moved, key=lambda row: -moved[row])
        figures = {"images": len(rows), "share": len(rows) / len(facts), "most": moved[rows[0]], "example": paths[rows[0]]}
        yield _finding("masks_moved", "warn", figures, rows, page_one=len(rows) > _SERIOUS * len(facts))
    if facts and not looks["mask_islands"] and not looks["mask_holes"] and not moved:
        yield _finding("masks_in_order", "pass", {"images": len(facts)})


def _without_value(masked: pl.DataFrame) -> Iterator[Finding]:
    """Voxels of images that are no numbers, which count as their darkest value."""
    shares = {
        row: share for row, text in masked.select("row", "mask_facts").iter_rows() if (share := MaskFacts(**json.loads(text)).without_value)
    }
    if shares:
        rows = sorted(shares, key=lambda row: -shares[row])
        example = masked.filter(pl.col("row") == rows[0])["path"][0]
        figures: Figures = {"images": len(rows), "share": len(rows) / len(masked), "most": shares[rows[0]], "example": example}
        yield _finding("voxels_without_value", "warn", figures, rows)


def _beyond(masked: pl.DataFrame) -> Iterator[Finding]:
    """Structures where the network sees nothing, as the image is cut to its content."""
    facts = {row: MaskFacts(**json.loads(text)) for row, text in masked.select("row", "mask_facts").iter_rows()}
    found = {row: each.beyond for row, each in facts.items() if each.beyond}
    if found:
        by_structure: Typical = {name: [count] for name, count in sorted(Counter(chain.from_iterable(found.values())).items())}
        figures: Figures = {"images": len(found), "share": len(found) / len(facts), "by_structure": by_structure}
        example = dict(masked.select("row", "path").iter_rows())[next(iter(found))]
        yield _finding(
            "masks_beyond_content", "warn", {**figures, "example": example}, [*found], page_one=len(found) > _SERIOUS * len(facts)
        )


def _copies(masked: pl.DataFrame) -> Iterator[Finding]:
    """One picture with two masks: at most one of them is right."""
    sets = masked.group_by("pixels", maintain_order=True).agg("row", pl.col("structures").n_unique().alias("masks"))
    rows = list(chain.from_iterable(sets.filter(pl.col("masks") > 1)["row"].to_list()))
    if rows:
        figures = {"sets": sets.filter(pl.col("masks") > 1).height, "images": len(rows)}
        yield _finding("copies_with_two_masks", "warn", figures, rows, page_one=True)


def _spacing(good: pl.DataFrame, study: Segmentation) -> Iterator[Finding]:
    """Resolutions that differ, and one that looks as if it was never measured."""
    axes = ("spacing_slice_mm", "spacing_row_mm", "spacing_column_mm")[0 if study.input.dimensions == 3 else 1 :]
    known = good.drop_nulls(["spacing_row_mm", "spacing_column_mm"])
    for axis in axes:
        values = known[axis].drop_nulls()
        low, high = (float(value) for value in (values.quantile(0) or 0, values.quantile(1) or 0))
        if low and high > _SPREAD * low:
            kept = study.input.spacing_mm == "keep"
            figures = {"axis": axis, "low": low, "high": high, "ratio": high / low}
            yield _finding("spacing_spread", "warn" if kept else "pass", figures, known.sort(axis, nulls_last=True)["row"].to_list()[:1])
            break
    if 0 < len(known) < len(good):
        without = good.join(known.select("row"), on="row", how="anti")
        figures = {"images": len(without), "share": len(without) / len(good), "example": without["path"][0]}
        yield _finding("spacing_partly_unknown", "warn", figures, without["row"].to_list())
    each = set(known.select("spacing_row_mm", "spacing_column_mm", "spacing_slice_mm").iter_rows())
    if study.data.spacing == "file" and len(known) >= _LEAST_SAME and len(each) == 1:
        sides = [side for side in each.pop() if side is not None]
        if all(abs(side / _ROUND_MM - round(side / _ROUND_MM)) < 1e-6 for side in sides):
            said = " × ".join(f"{side:g}" for side in sides)
            yield _finding("spacing_round", "warn", {"images": len(known), "spacing": said}, page_one=True)


def _phases(good: pl.DataFrame, study: Segmentation) -> Iterator[Finding]:
    """Patients of whom one phase of two is there: their ejection fraction cannot be told."""
    phases: dict[str, set[str]] = defaultdict(set)
    rows: dict[str, list[int]] = defaultdict(list)
    for row, patient, text in good.select("row", "group", "facts").iter_rows():
        if patient is not None:
            phases[patient] |= {phase} if (phase := json.loads(text or "{}").get("phase")) else set()
            rows[patient].append(row)
    every = set(chain.from_iterable(phases.values()))
    if study.data.layout in _HEARTS or every & set(PHASES):  # the other phase may lack in all of them
        every |= set(PHASES)
    lacking = sorted(patient for patient, own in phases.items() if own != every)
    if lacking:
        concerned = sorted(chain.from_iterable(rows[patient] for patient in lacking))
        example = good.filter(pl.col("row") == concerned[0])["path"][0]
        figures = {"patients": len(lacking), "all": len(phases), "phases": " · ".join(sorted(every)), "example": example}
        yield _finding("phases_incomplete", "warn", figures, concerned)


def _slices(good: pl.DataFrame, study: Segmentation) -> Iterator[Finding]:
    flat = good.filter(pl.col("slices") == 1)
    if study.input.dimensions == 3 and len(flat):
        figures = {"images": len(flat), "all": len(good), "example": flat["path"][0]}
        yield _finding("single_slices", "fail" if len(flat) == len(good) else "warn", figures, flat["row"].to_list(), page_one=True)
