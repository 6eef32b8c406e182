"""What a person should know about a data set before anything is trained on it."""

from __future__ import annotations

import polars as pl

from tabib.config import Study
from tabib.dataset.duplicates import find_near_copies
from tabib.progress import SILENT, Progress
from tabib.records import Finding, Findings

__all__ = ["inspect_dataset"]


def inspect_dataset(index: pl.DataFrame, study: Study, *, progress: Progress = SILENT) -> Findings:
    """Look for what would make a study of these images wrong."""
    near = find_near_copies(index)
    findings = []
    if near.clusters:
        figures = {"clusters": len(near.clusters), "rows": sum(map(len, near.clusters))}
        findings.append(Finding(code="near_copies", level="warn", figures=figures, rows=sum(near.clusters, [])[:200]))
    return Findings(findings=findings, near_copies=near.clusters)
