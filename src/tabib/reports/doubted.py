"""What the page of label trouble shows: labels to look at, in the reader's words."""

from __future__ import annotations

from tabib.dataset import without
from tabib.records import LabelDoubt, LabelTrouble
from tabib.reports.text import Language, isolated

__all__ = ["LISTS", "SHOWN", "label_name", "listed", "rows"]

LISTS = ("wrong", "hard")
"""Lists of a worklist, in the order of the page."""

SHOWN = 100
"""Labels of each list on the page; the table has all of them."""


def listed(trouble: LabelTrouble, name: str) -> list[LabelDoubt]:
    """The labels of one list, the worst first."""
    return [each for each in trouble.doubts if each.list == name]


def rows(trouble: LabelTrouble) -> list[int]:
    """Rows whose pictures the page shows, the worst first."""
    return list(dict.fromkeys(each.row for name in LISTS for each in listed(trouble, name)[:SHOWN]))


def label_name(trouble: LabelTrouble, label: str, reader: Language) -> str:
    """A class as the page writes it; of several labels one that is not there, too."""
    if trouble.several:
        for name in trouble.thresholds:
            if label == without(name):
                return reader.text("labels.without", {"label": name})
    return isolated(label)
