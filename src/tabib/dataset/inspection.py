"""What a person should know about a data set before anything is trained on it.

Each look below is a function from the good rows to findings. What was looked at and is fine is a finding too, of level
"pass", so that a report can say that it was looked at.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import PurePosixPath

import polars as pl

from tabib.config import AnyStudy, Segmentation, Study
from tabib.dataset.confounders import ACQUISITION, FEWEST, INTENSITY, MARKS, NAMES, NUMBERING, Telltale, try_columns, try_facts
from tabib.dataset.duplicates import NearCopies, find_near_copies
from tabib.dataset.groups import held_together, patients_by, patients_known, propose_group_pattern
from tabib.dataset.index import lost_images
from tabib.dataset.labels import as_class
from tabib.dataset.listing import NOT_NAMED, NOT_UNPACKED, OF_A_LINE, OF_A_MASK, PART_NAMES, SECOND_COPY, given_parts
from tabib.dataset.mask_findings import inspect_masks
from tabib.dataset.positive import guess_positive
from tabib.dataset.quality import find_faults
from tabib.progress import SILENT, Progress
from tabib.records import LABEL_SEPARATOR, Finding, Findings, Level, Typical, labels_of

__all__ = ["inspect_dataset"]

Figures = dict[str, float | int | str | Typical]

_SCALES = {"bench": "bench_scale", "phantom": "phantom_scale"}  # what is said where figures are not of the study itself
_SHOWN = 200  # rows of a finding
_FEW_NAMED = 0.5  # share of the images that a table leaves out, above which it may belong to another folder
_REASONS = 12  # why entries of an archive were left in it, in the sentence of a finding
_SERIOUS = 0.05  # share of refused images, or of rows in one cluster, that belongs on the first page
_FEW_COPIES = 4  # images of a cluster that make no part uneven, however small the set
_UNEQUAL = 3.0  # images of the largest class per image of the smallest
_SMALL_CLASS = 30  # images
_FEW_PATIENTS = 10  # patients of a class
_GIVEN_AWAY = 0.95  # balanced accuracy from which a fact of the file all but says the class: no figure of a model is worth reading then
_SHAPES = 1.5  # largest aspect of the middle nine tenths over the smallest
_CALM = ("acquisition_confounder_none", "acquisition_facts_same")
_FLAT = 0.0125  # deviation as a share of the range: four of them, what nearly all pixels lie within, are a twentieth
_FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "tif": "TIFF", "tiff": "TIFF", "dcm": "DICOM", "dicom": "DICOM"}


def inspect_dataset(index: pl.DataFrame, study: AnyStudy, *, progress: Progress = SILENT) -> Findings:
    """Look for what would make a study of these images wrong.

    Args:
        index: INDEX_SCHEMA.
        study: its `data.group` says whether patients are known, `split` whether given parts are kept.
        progress: told of each look.

    Returns:
        Findings, the clusters of near copies, and a proposed `data.group` where patients are unknown and names have one.
    """
    good = index.filter(pl.col("refused").is_null())
    with progress.bar("findings", 4) as advance:
        near = find_near_copies(index)
        advance(1)
        pattern = _propose(good) if patients_known(good["group"]) == "unknown" else None
        patients = good["group"] if pattern is None else patients_by(pattern, good["path"])
        people = held_together(good, patients)
        units = _units(good, people, near)
        advance(1)
        of_masks = isinstance(study, Segmentation)
        told = [] if of_masks else list(_telltales_of_labels(good, units) if study.several else _telltales(good, units))
        advance(1)
        # That two pictures alike show other structures is no contradiction: one is of another phase, or of the slice beside it.
        alike = good.with_columns(label=pl.lit(None, pl.String())) if of_masks else good
        findings = [
            *_files(index),
            *(inspect_masks(index, study) if of_masks else chain(_where(good, study), _no_labels(good))),
            *_patients(good, study, pattern),
            *([] if of_masks else _classified(good, patients, study)),
            *_exact_copies(alike, study),
            *_near_copies(alike, people, near),
            *_given_parts(good, near, study),
            *_drawn_apart(good, people, near, study),
            *(_finding(code, "warn", {"images": len(good)}, page_one=True) for scale, code in _SCALES.items() if scale == study.scale),
            *_pictures(good, stretched=not of_masks),
            *([] if of_masks else _ranges(good, study)),
            *_faults(good, study),
            *told,
        ]
        advance(1)
    return Findings(findings=findings, near_copies=near.clusters, group_pattern=pattern)


def _finding(
    code: str, level: Level, figures: Mapping[str, float | int | str | Typical], rows: Sequence[int] = (), *, page_one: bool = False
) -> Finding:
    return Finding(code=code, level=level, figures=dict(figures), rows=list(rows)[:_SHOWN], page_one=page_one)


# --- Files ---


def _example(refused: pl.DataFrame) -> dict[str, str]:
    """One of some refused rows, and why it is."""
    return {"example": refused["path"][0], "reason": refused["refused"][0]}


def _files(index: pl.DataFrame) -> Iterator[Finding]:
    lost = lost_images(index)
    by_name = index.filter(pl.col("refused").is_not_null()).join(lost.select("row"), on="row", how="anti")
    packed = pl.col("refused").str.starts_with(NOT_UNPACKED)
    told = pl.col("refused").str.contains(OF_A_LINE)
    of_mask = pl.col("refused").str.contains(OF_A_MASK)
    unreadable, not_unpacked, lines = lost.filter(~packed & ~told & ~of_mask), lost.filter(packed), lost.filter(told)
    masks = lost.filter(of_mask)
    again = by_name.filter(pl.col("refused").str.starts_with(SECOND_COPY))
    unnamed = by_name.filter(pl.col("refused") == NOT_NAMED)
    images = len(index) - len(by_name) - len(not_unpacked) - len(lines)
    if len(unreadable):
        share = len(unreadable) / images
        figures: Figures = {"files": len(unreadable), "images": images, "share": share, **_example(unreadable)}
        yield _finding("unreadable_files", "warn", figures, unreadable["row"].to_list(), page_one=share > _SERIOUS)
    else:
        yield _finding("files_readable", "pass", {"images": images})
    if len(masks):
        share = len(masks) / images
        figures = {"masks": len(masks), "images": images, "share": share, **_example(masks)}
        yield _finding("masks_unusable", "warn", figures, masks["row"].to_list(), page_one=share > _SERIOUS)
    if len(not_unpacked):
        figures = {"files": len(not_unpacked), "example": not_unpacked["path"][0]}
        reasons = Counter(reason.removeprefix(NOT_UNPACKED) for reason in not_unpacked["refused"]).most_common()
        said = [f"{reason} ({count})" for reason, count in reasons[:_REASONS]] + ["..."] * (len(reasons) > _REASONS)
        figures["reasons"] = "; ".join(said)
        serious = len(not_unpacked) > _SERIOUS * (images + len(not_unpacked))
        yield _finding("archive_not_unpacked", "warn", figures, not_unpacked["row"].to_list(), page_one=serious)
    if len(lines):
        figures = {"lines": len(lines), **_example(lines)}
        yield _finding("lines_unused", "warn", figures, lines["row"].to_list(), page_one=len(lines) > _SERIOUS * (images + len(lines)))
    if len(unnamed):
        few = len(unnamed) > _FEW_NAMED * (images + len(unnamed))
        figures = {"files": len(unnamed), "images": images + len(unnamed), "named": images, "example": unnamed["path"][0]}
        yield _finding("files_not_in_table", "warn" if few else "pass", figures, unnamed["row"].to_list(), page_one=few)
    if len(again):
        figures = {"files": len(again), "example": again["path"][0]}
        yield _finding("folders_doubled", "pass", figures, again["row"].to_list())
    if len(named := by_name.join(pl.concat([again, unnamed]).select("row"), on="row", how="anti")):
        figures = {"files": len(named), "example": named["path"][0], "reason": named["refused"][0]}
        yield _finding("refused_names", "pass", figures, named["row"].to_list())
    suffix = (
        pl.col("path").str.extract(r"\.([A-Za-z]+)$").str.to_lowercase().replace_strict(_FORMATS, default=None, return_dtype=pl.String())
    )
    misnamed = index.filter(pl.col("refused").is_null() & (suffix != pl.col("format")))
    if len(misnamed):
        figures = {"files": len(misnamed), "example": misnamed["path"][0], "format": misnamed["format"][0]}
        yield _finding("misnamed_files", "warn", figures, misnamed["row"].to_list())


def _where(good: pl.DataFrame, study: Study) -> Iterator[Finding]:
    """Folders that were passed through to the classes: the classes are not what lies first in the data folder."""
    if study.data.layout != "class_folders" or good["label"].n_unique() < 2:
        return
    shared = PurePosixPath(os.path.commonpath([PurePosixPath(path).parent for path in good["path"]]))
    while shared.name.casefold() in PART_NAMES:
        shared = shared.parent
    if shared.name:
        named = good["given"].drop_nulls().len() > 0
        figures: Figures = {"folder": str(shared), "classes": good["label"].n_unique(), "example": good["label"][0]}
        yield _finding("classes_in_inner_folder", "pass" if named else "warn", figures)
    places = pl.Series([_above_class(path, label) for path, label in good.select("path", "label").iter_rows()], dtype=pl.String())
    outer = min(places, key=len)
    inner = good.filter(places != outer)
    if len(inner):
        figures = {
            "inner": places.filter(places != outer)[0],
            "outer": outer or study.data.folder.name,
            "images": len(inner),
            "example": inner["path"][0],
        }
        yield _finding("classes_in_two_folders", "warn", figures, inner["row"].to_list())


def _no_labels(good: pl.DataFrame) -> Iterator[Finding]:
    if good["label"].is_null().all():
        yield _finding("labels_none", "warn", {"images": len(good)}, page_one=True)


def _above_class(path: str, label: str) -> str:
    """The folder that holds the folder of a file's class, or of the part of the split above it."""
    folders = unicodedata.normalize("NFC", path).split("/")
    above = folders[: folders.index(label)] if label in folders else []
    return "/".join(above[:-1] if above and above[-1].casefold() in PART_NAMES else above)


def _pictures(good: pl.DataFrame, *, stretched: bool) -> Iterator[Finding]:
    flat = good.filter(pl.col("contrast") == 0)
    if len(flat):
        yield _finding("flat_images", "warn", {"images": len(flat), "example": flat["path"][0]}, flat["row"].to_list())
    sizes = good.group_by("width", "height").len().sort("len", "height", "width", descending=[True, False, False])
    if len(sizes) > 1:
        by_pixels = sizes.sort(pl.col("width").cast(pl.Int64) * pl.col("height"), "width")
        aspect = good.select(pl.col("width") / pl.col("height")).to_series()
        low, high = (float(aspect.quantile(share) or 1) for share in (0.05, 0.95))
        figures: Figures = {
            "sizes": len(sizes),
            "share": float(sizes["len"][0] / len(good)),
            "aspect_low": low,
            "aspect_high": high,
        }
        for name, (width, height, _) in {"commonest": sizes.row(0), "smallest": by_pixels.row(0), "largest": by_pixels.row(-1)}.items():
            figures |= {f"{name}_width": width, f"{name}_height": height}
        told = "mixed_shapes" if high / low > _SHAPES else "mixed_sizes"
        yield _finding(told if stretched else "sizes_kept", "pass", figures)
    colour = int(good["colour"].sum())
    if 0 < colour < len(good):
        rarer = good.filter(pl.col("colour") == (2 * colour <= len(good)))
        yield _finding("mixed_colour", "warn", {"colour": colour, "grey": len(good) - colour}, rarer["row"].to_list())
    modes = good.group_by("mode", "bits").len().sort("len", "mode", descending=[True, False])
    if len(modes) > 1:
        (mode, bits, images), (next_mode, next_bits, next_images) = modes.head(2).iter_rows()
        figures = {"modes": len(modes), "mode": mode, "bits": bits, "images": images}
        yield _finding("mixed_modes", "pass", figures | {"next_mode": next_mode, "next_bits": next_bits, "next_images": next_images})


def _ranges(good: pl.DataFrame, study: Study) -> Iterator[Finding]:
    """Pictures of many bits that use few of them, where nothing stretches them."""
    # Eight bits have so few steps in a twentieth of the range that stretching shows nothing more.
    flat = good.filter((pl.col("bits") > 8) & (pl.col("contrast") > 0) & (pl.col("contrast") < _FLAT))
    if len(flat) and study.input.intensity in ("network", "unit"):
        share = len(flat) / len(good)
        figures: Figures = {
            "images": len(flat),
            "share": share,
            "example": flat["path"][0],
            "range": 4 * float(flat["contrast"].quantile(0.5) or 0),
        }
        yield _finding("flat_range", "warn", figures, flat["row"].to_list(), page_one=share > _SERIOUS)


def _faults(good: pl.DataFrame, study: AnyStudy) -> Iterator[Finding]:
    labels = dict(zip(good["row"].to_list(), good["label"].to_list(), strict=True))
    paths = dict(zip(good["row"].to_list(), good["path"].to_list(), strict=True))
    # What is usual is asked of each class; of several labels, of all images: few share all of theirs.
    found = find_faults(good.with_columns(label=pl.lit("")) if study.several else good)
    for code, rows in found.items():
        by_class: Typical = {
            name: [count] for name, count in sorted(Counter(chain.from_iterable(_told_apart(labels[row], study) for row in rows)).items())
        }
        figures: Figures = {"images": len(rows), "share": len(rows) / len(good), "example": paths[rows[0]], "by_class": by_class}
        yield _finding(code, "warn", figures, rows, page_one=len(rows) > _SERIOUS * len(good))
    if not found and len(good):
        yield _finding("pictures_alike", "pass", {"images": len(good)})


def _told_apart(label: str | None, study: AnyStudy) -> list[str]:
    """The class of an image, or its labels; "" where there is none."""
    return labels_of(label, several=study.several) or [""]


# --- Patients and classes ---


def _propose(good: pl.DataFrame) -> str | None:
    return propose_group_pattern(good["path"].to_list()) if not (good["format"] == "NPZ").all() else None


def _units(good: pl.DataFrame, patients: pl.Series, near: NearCopies) -> list[str]:
    """Per good row, who it is of: the patient; where unknown, the cluster of near copies; else the picture."""
    cluster = {row: f"cluster {number}" for number, rows in enumerate(near.clusters) for row in rows}
    return [
        patient or cluster.get(row) or pixels for patient, row, pixels in zip(patients, good["row"].to_list(), good["pixels"], strict=True)
    ]


def _patients(good: pl.DataFrame, study: AnyStudy, pattern: str | None) -> Iterator[Finding]:
    state = patients_known(good["group"])
    if state == "unknown":
        if pattern is None:
            yield _finding("patients_unknown", "warn", {"images": len(good)}, page_one=True)
        else:
            names = patients_by(pattern, good["path"])
            figures: Figures = {"pattern": pattern, "patients": names.drop_nulls().n_unique(), "images": len(good)}
            figures |= {"example": good["path"][0], "patient": names[0] or ""}
            yield _finding("group_pattern_proposed", "warn", figures, page_one=True)
        return
    known = good.filter(pl.col("group").is_not_null())
    counts = known.group_by("group").agg(pl.len(), pl.col("label").drop_nulls().n_unique().alias("classes"))
    several, most = int((counts["classes"] > 1).sum()), int(counts["len"].sort()[-1])
    figures = {"patients": len(counts), "images": len(known), "most": most, "two_classes": several}
    if state == "known":
        yield _finding("patients_of_masks" if isinstance(study, Segmentation) else "patients_known", "pass", figures)
    else:
        unnamed = good.filter(pl.col("group").is_null())
        figures |= {"unnamed": len(unnamed), "share": len(unnamed) / len(good), "example": unnamed["path"][0]}
        yield _finding("patients_partly_unknown", "warn", figures, unnamed["row"].to_list(), page_one=True)
    if several and not study.several:
        both = known.filter(pl.col("label").drop_nulls().n_unique().over("group") > 1).sort("group", "row")
        yield _finding(
            "patients_of_two_classes", "warn", {"patients": several, "all": len(counts), "images": len(both)}, both["row"].to_list()
        )
    named_by = study.data.group or study.data.patients_listed
    if len(counts) == len(known) and named_by is not None:
        yield _finding("every_image_a_patient", "warn", {"images": len(known), "pattern": named_by}, page_one=True)


def _classified(good: pl.DataFrame, patients: pl.Series, study: Study) -> Iterator[Finding]:
    return _labels(good, patients) if study.several else chain(_positive(good, study), _classes(good, patients))


def _classes(good: pl.DataFrame, patients: pl.Series) -> Iterator[Finding]:
    patient = pl.col("patient")
    # An image of an unknown patient counts as a person of its own.
    people = pl.when(patient.is_not_null().any()).then(patient.drop_nulls().n_unique() + patient.null_count()).otherwise(0)
    counts = good.with_columns(patient=patients).drop_nulls("label").group_by("label").agg(pl.len(), people.alias("patients"))
    counts = counts.sort("len", "label", descending=[True, False])
    if len(counts) > 1:
        largest, smallest = counts.row(0, named=True), counts.row(-1, named=True)
        ratio = largest["len"] / smallest["len"]
        figures: Figures = {"ratio": ratio, "largest": largest["label"], "largest_images": largest["len"]}
        figures |= {"smallest": smallest["label"], "smallest_images": smallest["len"], "majority": largest["len"] / len(good)}
        unequal = ratio >= _UNEQUAL
        yield _finding("class_imbalance" if unequal else "classes_balanced", "warn" if unequal else "pass", figures)
    for label, images, people in counts.iter_rows():
        rows = good.filter(pl.col("label") == label)["row"].to_list()
        if images < _SMALL_CLASS:
            yield _finding("small_class", "warn", {"class": label, "images": images}, rows)
        if 0 < people < _FEW_PATIENTS:
            yield _finding("few_patients_of_class", "warn", {"class": label, "patients": people, "images": images}, rows, page_one=True)


def _labels(good: pl.DataFrame, patients: pl.Series) -> Iterator[Finding]:
    """How often each of several labels is there, and which are rare; an image counts for each of its own."""
    labelled = good.with_columns(patient=patients).filter(pl.col("label").is_not_null())
    each = labelled.with_columns(pl.col("label").str.split(LABEL_SEPARATOR)).explode("label").filter(pl.col("label") != "")
    number = pl.col("label").str.count_matches(LABEL_SEPARATOR, literal=True)
    counts = each.group_by("label").len().sort("len", "label", descending=[True, False])
    by_label: Typical = {label: [count] for label, count in counts.iter_rows()}
    figures: Figures = {"images": len(labelled), "labels": len(counts), "by_label": by_label}
    figures |= {"none": int((labelled["label"] == "").sum()), "several": labelled.filter(number > 0).height}
    yield _finding("labels_counted", "pass", figures)
    rare = counts.filter(pl.col("len") * (1 + _UNEQUAL) <= len(labelled))
    if len(rare):
        names, least = ", ".join(rare["label"]), counts.row(-1, named=True)
        yield _finding("labels_rare", "warn", {"labels": names, "rarest": least["label"], "share": least["len"] / len(labelled)})
    for label in counts["label"].sort():
        two = labelled.with_columns(as_class("label", label))
        # Of a label that nearly every image has, those without it are few.
        yield from (
            found.model_copy(update={"label": label})
            for found in _classes(two.drop("patient"), two["patient"])
            if found.code in ("small_class", "few_patients_of_class")
        )


def _positive(good: pl.DataFrame, study: Study) -> Iterator[Finding]:
    classes = sorted(good["label"].drop_nulls().unique())
    if study.positive is None and len(classes) == 2:
        guess = guess_positive(classes)
        if guess is None:
            yield _finding("positive_unclear", "warn", {"first": classes[0], "second": classes[1]})
        else:
            other = next(name for name in classes if name != guess)
            yield _finding("positive_guessed", "pass", {"positive": guess, "other": other})


# --- Copies ---


def _exact_copies(good: pl.DataFrame, study: AnyStudy) -> Iterator[Finding]:
    sets = good.group_by("pixels", maintain_order=True).agg(
        "row",
        pl.len().alias("copies"),
        pl.col("label").drop_nulls().n_unique().alias("labels"),
        pl.col("content").n_unique().alias("files"),
    )
    sets = sets.filter(pl.col("copies") > 1)
    if sets.is_empty():
        yield _finding("exact_copies_none", "pass", {"images": len(good)})
        return
    contradicting = sets.filter(pl.col("labels") > 1)
    figures: Figures = {
        "sets": len(sets),
        "images": int(sets["copies"].sum()),
        "too_many": int(sets["copies"].sum()) - len(sets),
        "identical_files": int((sets["files"] < sets["copies"]).sum()),
    }
    rows = list(chain.from_iterable(sets["row"].to_list()))
    yield _finding("exact_copies", "warn", figures, rows)
    if study.data.copies == "keep":
        yield _finding("copies_kept", "warn", {"sets": len(sets), "images": int(sets["copies"].sum())}, rows, page_one=True)
    if len(contradicting):
        figures = {"sets": len(contradicting), "images": int(contradicting["copies"].sum())}
        rows = list(chain.from_iterable(contradicting["row"].to_list()))
        yield _finding("copies_with_two_labels", "warn", figures, rows, page_one=True)


def _near_copies(good: pl.DataFrame, patients: pl.Series, near: NearCopies) -> Iterator[Finding]:
    compared: Figures = {"images": near.compared, "threshold": near.threshold, "typical": near.typical}
    if not near.clusters:
        yield _finding("near_copies_none", "pass", compared)
        return
    label = dict(zip(good["row"].to_list(), good["label"].to_list(), strict=True))
    patient = dict(zip(good["row"].to_list(), patients.to_list(), strict=True))
    across = [rows for rows in near.clusters if len({patient[row] or row for row in rows}) > 1]
    contradicting = [rows for rows in near.clusters if len({label[row] for row in rows}) > 1]
    figures = compared | {
        "clusters": len(near.clusters),
        "rows": sum(map(len, near.clusters)),
        "share": sum(map(len, near.clusters)) / len(good),
        "largest": max(map(len, near.clusters)),
        "across_patients": len(across),
    }
    yield _finding("near_copies", "warn" if across else "pass", figures, list(chain.from_iterable(across or near.clusters)))
    if contradicting:
        figures = {"clusters": len(contradicting), "rows": sum(map(len, contradicting))}
        yield _finding("near_copies_with_two_labels", "warn", figures, list(chain.from_iterable(contradicting)), page_one=True)
    largest = max(near.clusters, key=len)
    if len(largest) > max(_FEW_COPIES, _SERIOUS * len(good)):
        figures = {"rows": len(largest), "share": len(largest) / len(good), "threshold": near.threshold}
        yield _finding("near_copy_cluster_large", "warn", figures, largest, page_one=True)


def _given_parts(good: pl.DataFrame, near: NearCopies, study: AnyStudy) -> Iterator[Finding]:
    """What stands in the test folder and in another one: a patient, or a copy."""
    good = good.with_columns(given=given_parts(good, study.split.test_fold))
    given = dict(zip(good["row"].to_list(), good["given"].to_list(), strict=True))
    parts = set(given.values()) - {None}
    if "test" not in parts or len(parts) < 2:
        return
    kept = study.split.given
    if patients_known(good["group"]) != "unknown" and study.split.group_scope == "all":
        sides = good.filter(pl.col("group").is_not_null() & pl.col("given").is_not_null()).group_by("group", maintain_order=True)
        shared = sides.agg("row", pl.col("given")).filter(pl.col("given").list.contains("test") & (pl.col("given").list.n_unique() > 1))
        rows = list(chain.from_iterable(shared["row"].to_list()))
        if rows:
            patients = good.filter((pl.col("given") == "test") & pl.col("group").is_not_null())["group"].n_unique()
            test_rows = sum(given[row] == "test" for row in rows)
            figures: Figures = {
                "patients": len(shared),
                "test_patients": patients,
                "test_rows": test_rows,
                "other_rows": len(rows) - test_rows,
            }
            yield _finding("given_leak_groups", "warn", figures, rows, page_one=kept)
        else:
            yield _finding("given_groups_apart", "pass", {"patients": good["group"].drop_nulls().n_unique()})
    copies = [*good.group_by("pixels", maintain_order=True).agg("row")["row"].to_list(), *near.clusters]
    leaking = [rows for rows in copies if len(sides := {given[row] for row in rows} - {None}) > 1 and "test" in sides]
    if leaking:
        rows = list(dict.fromkeys(chain.from_iterable(leaking)))
        test_rows = sum(given[row] == "test" for row in rows)
        figures = {"sets": len(leaking), "test_rows": test_rows, "other_rows": len(rows) - test_rows}
        yield _finding("given_leak_copies", "warn", figures, rows, page_one=kept)


def _drawn_apart(good: pl.DataFrame, patients: pl.Series, near: NearCopies, study: AnyStudy) -> Iterator[Finding]:
    """What a draw of single images may divide."""
    if study.split.by == "image":
        several = good.with_columns(patient=patients).drop_nulls("patient").group_by("patient").len().filter(pl.col("len") > 1)
        figures: Figures = {
            "images": len(good),
            "patients": len(several),
            "rows": int(several["len"].sum()),
            "clusters": len(near.clusters),
        }
        yield _finding("split_by_image", "warn", figures, page_one=True)


# --- What tells the class without the picture ---


def _telltales(good: pl.DataFrame, units: Sequence[str]) -> Iterator[Finding]:
    labelled = good.with_columns(unit=pl.Series(units, dtype=pl.String())).filter(pl.col("label").is_not_null())
    table, owners = labelled.drop("unit"), labelled["unit"].to_list()
    for found in try_facts(table, owners, MARKS)[:1]:
        if found.tells:
            yield _told("marks_tell_class", "fail" if found.balanced_accuracy >= _GIVEN_AWAY else "warn", found, page_one=True)
    for found in try_columns(table, owners):
        if found.tells:
            yield _told("column_tells_class", "warn", found, page_one=True)
    tried = try_facts(table, owners, ACQUISITION)
    for found in tried:
        if found.tells:
            level = "fail" if found.balanced_accuracy >= _GIVEN_AWAY else "warn"
            yield _told("acquisition_confounder", level, found, page_one=True)
    if tried and not any(found.tells for found in tried):
        best = max(found.balanced_accuracy for found in tried)
        yield _finding("acquisition_confounder_none", "pass", {"facts": len(tried), "balanced_accuracy": best})
    units_of_class = labelled.group_by("label").agg(pl.col("unit").n_unique())["unit"].to_list()
    if not tried and len(units_of_class) > 1 and min(units_of_class) >= FEWEST:
        yield _finding("acquisition_facts_same", "pass", {"units": sum(units_of_class)})
    for found in try_facts(table, owners, INTENSITY)[:1]:
        if found.tells:
            yield _told("intensity_tells_class", "pass", found)
    if not (good["format"] == "NPZ").all():
        for found in try_facts(table, owners, NAMES):
            if found.tells:
                yield _told("names_spell_label", "pass", found)
        for found in try_facts(table, owners, NUMBERING):
            if found.tells:
                yield _told("numbering_separates_classes", "warn", found, page_one=True)


def _telltales_of_labels(good: pl.DataFrame, units: Sequence[str]) -> Iterator[Finding]:
    """The same of each label. That nothing was found is said once, where it is so of every label."""
    labels = sorted({name for label in good["label"] for name in labels_of(label, several=True)})
    told = [list(_telltales(good.with_columns(as_class("label", label)), units)) for label in labels]
    calm = [[finding for finding in each if finding.code in _CALM] for each in told]
    yield from (
        finding.model_copy(update={"label": label})
        for label, each in zip(labels, told, strict=True)
        for finding in each
        if finding.code not in _CALM
    )
    if calm and all(calm):
        # The figures of the label that comes nearest to being told.
        yield max((each[0] for each in calm), key=lambda finding: float(str(finding.figures.get("balanced_accuracy", 0))))


def _told(code: str, level: Level, found: Telltale, *, page_one: bool = False) -> Finding:
    figures: Figures = {"fact": found.fact, "balanced_accuracy": found.balanced_accuracy, "p": found.p, "units": found.units}
    figures["values"] = found.values
    return _finding(code, level, figures, found.rows, page_one=page_one)
