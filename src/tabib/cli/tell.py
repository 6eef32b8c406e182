"""What a verb says: its result in words or as JSON, and the exit code that it leaves with."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import polars as pl

    from tabib.records import BasePart, Evaluation, Finding, Measure, SegmentationEvaluation

__all__ = [
    "HEADLINES",
    "STOPPED",
    "class_counts",
    "count_refused",
    "fail",
    "finding_lines",
    "headline_lines",
    "index_lines",
    "leave",
    "part_counts",
    "scale_lines",
    "tell",
]

REFUSED = 3
"""Exit code of a job that is done although some images could not be used."""

STOPPED = 130
"""Exit code after Ctrl-C, as shells expect it."""

MASK_HEADLINES = ("dice", "panoptic_quality", "aji", "count_error")
HEADLINES = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "exact_match")
"""Measures that are printed when a run is done; the report has all."""


def fail(message: str, code: int, kind: str) -> int:
    """Say what went wrong, as one JSON object where that was asked for; give back the exit code."""
    if "--json" in sys.argv:
        typer.echo(json.dumps({"error": message, "kind": kind, "exit_code": code}, ensure_ascii=False))
    else:
        from tabib.images import printable

        typer.echo("\n".join(map(printable, f"tabib: {message}".split("\n"))), err=True)
    return code


def tell(result: dict[str, Any], lines: list[str], as_json: bool) -> None:
    """Print a result, as JSON or in words."""
    from tabib.images import printable

    # Names of files and classes may hold line breaks, and codes that a terminal would obey.
    typer.echo(json.dumps(result, ensure_ascii=False, default=str) if as_json else "\n".join(map(printable, lines)))


def leave(refused: int) -> None:
    """Leave with the exit code of refused images, where there are any."""
    if refused:
        raise typer.Exit(REFUSED)


def count_refused(index: pl.DataFrame) -> int:
    """How many images of an index cannot be used."""
    from tabib.dataset import lost_images

    return len(lost_images(index))


def class_counts(index: pl.DataFrame, several: bool) -> dict[str, int]:
    """Usable images of each class."""
    import polars as pl

    return _tally(index.filter(pl.col("refused").is_null() & pl.col("label").is_not_null())["label"], several)


def part_counts(split: pl.DataFrame, several: bool) -> dict[str, dict[str, int]]:
    """Images of each class in each part of a split."""
    return {str(part): _tally(rows["label"], several) for (part,), rows in sorted(split.group_by("part"), key=str)}


def _tally(labels: pl.Series, several: bool) -> dict[str, int]:
    """Images of each class; of several labels, an image counts for each of its own."""
    from collections import Counter

    from tabib.records import labels_of

    counts = Counter(name for label in labels for name in labels_of(label, several=several) or ["no label"])
    return dict(sorted(counts.items(), key=lambda pair: (pair[0] == "no label", pair[0])))


def index_lines(index: pl.DataFrame, counts: dict[str, int]) -> list[str]:
    """An index in words: images, classes, patients."""
    classes = ", ".join(f"{label} {count}" for label, count in counts.items())
    groups = index["group"].n_unique() - index["group"].has_nulls()
    return [
        f"{index['refused'].null_count()} images ({classes or 'without labels'}), {count_refused(index)} refused, {groups or 'unknown'} patients"
    ]


def finding_lines(findings: list[Finding]) -> list[str]:
    """Findings in words, the gravest first, each with what to do."""
    from tabib.reports import phrase

    marks = {"pass": "ok  ", "warn": "warn", "fail": "FAIL"}
    lines = []
    for finding in sorted(findings, key=lambda finding: ("fail", "warn", "pass").index(finding.level)):
        words = phrase(finding, "en")
        lines.append(f"{marks[finding.level]}  {words.title}. {words.sentence}")
        if finding.level != "pass" and words.todo:
            lines.append(f"      -> {words.todo}")
    return lines


def headline_lines(evaluation: Evaluation | SegmentationEvaluation) -> list[str]:
    """The measures of the test images that are printed when a run is done."""
    from tabib.records import Evaluation

    test = next(part for part in evaluation.parts if part.part == "test")
    of = {"known": "patients", "partly": "groups (some patients unknown)", "unknown": "groups (patients unknown)"}[evaluation.patients]
    lines = [f"Test: {test.rows} images of {test.groups} {of}"]
    if not isinstance(evaluation, Evaluation):
        shown = [measure for measure in test.measures if measure.name in MASK_HEADLINES]
        names = (f"{measure.name} of {measure.of}" if measure.of else measure.name for measure in shown)
        return [*lines, *(_measure_line(name, measure, test) for name, measure in zip(names, shown, strict=True))]
    for measure in test.measures:
        # Of more than two classes the area under the curve is a mean over classes, of several labels over labels.
        if (measure.of is None or (measure.name, measure.of) == ("auc", "macro")) and measure.name in HEADLINES:
            lines.append(_measure_line(measure.name, measure, test))
    for label, judged in zip(evaluation.classes, evaluation.labels, strict=False):
        parts = (part for part in judged.parts if part.part == "test")
        lines += [_measure_line(f"auc of {label}", each, part) for part in parts for each in part.measures if each.name == "auc"]
    return lines


def _measure_line(name: str, measure: Measure, part: BasePart) -> str:
    from tabib.reports.text import language, plain
    from tabib.reports.views import why_no_interval

    value = "undefined" if measure.value is None else f"{measure.value:.3f}"
    interval = "" if measure.low is None else f" [{measure.low:.3f}, {measure.high:.3f}]"
    why = plain(why_no_interval(language("en"), part, measure))
    interval += f" ({why})" if why else ""
    baseline = measure.baselines.get("majority_class")
    return f"  {name:<18} {value}{interval}" + ("" if baseline is None else f"  (majority class {baseline:.3f})")


def scale_lines(scales: set[str]) -> list[str]:
    """Why figures are not of the study itself, where they are not."""
    from tabib.reports.text import language, plain

    return [plain(language("en").text(f"scales.{scale}")) for scale in sorted(scales - {"full"})]
