"""Which rows to look at: each cell of the confusion matrix, the worst, and some that nobody chose."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from tabib.evaluation.answers import Answers
from tabib.metrics.classification import row_losses
from tabib.records import GALLERY, Confusion

__all__ = ["confusion_cells", "drawn", "random_rows", "worst_rows"]


def confusion_cells(answers: Answers) -> list[Confusion]:
    """Every cell of the confusion matrix with its rows, the most confident answer first."""
    confidence = answers.probability[np.arange(len(answers.truth)), answers.predicted]
    order = np.lexsort((answers.rows, -confidence))
    found = []
    for true, truth in enumerate(answers.classes):
        for called, predicted in enumerate(answers.classes):
            rows = answers.rows[order][(answers.truth[order] == true) & (answers.predicted[order] == called)]
            found.append(Confusion(truth=truth, predicted=predicted, count=len(rows), rows=rows.tolist()))
    return found


def worst_rows(*labels: Answers) -> list[int]:
    """The rows with the highest log loss, highest first; of several labels by its mean over them."""
    losses = np.mean([row_losses(answers.truth, answers.probability) for answers in labels], axis=0)
    rows = labels[0].rows
    return rows[np.lexsort((rows, -losses))][:GALLERY].tolist()


def random_rows(answers: Answers, content: Mapping[int, str]) -> list[int]:
    """Rows that nobody chose."""
    return drawn(answers.rows.tolist(), content)[:GALLERY]


def drawn(rows: Sequence[int], content: Mapping[int, str]) -> list[int]:
    """Rows in the order of a hash of their image's content hash: drawn, and the same whatever the model and the other files."""
    return sorted(rows, key=lambda row: (hashlib.sha256(f"gallery {content[row]}".encode()).hexdigest(), row))
