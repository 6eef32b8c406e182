"""What the page of label trouble shows: labels or masks to look at, in the reader's words."""

from __future__ import annotations

from tabib.dataset import without
from tabib.records import LabelDoubt, LabelTrouble, MaskDoubt
from tabib.reports.text import Language, Value, isolated

__all__ = ["LISTS", "SHOWN", "drawn_words", "key", "label_name", "listed", "listed_masks", "rows"]

LISTS = ("wrong", "hard")
"""Lists of a worklist, in the order of the page."""

SHOWN = 100
"""Labels or masks of each list on the page; the table has all of them."""


def listed(trouble: LabelTrouble, name: str) -> list[LabelDoubt]:
    """The labels of one list, the worst first."""
    return [each for each in trouble.doubts if each.list == name]


def key(trouble: LabelTrouble, name: str) -> str:
    """Which words the page takes: those of masks, or of labels."""
    return f"doubt.masks_{name}" if trouble.masked else f"doubt.{name}"


def listed_masks(trouble: LabelTrouble, name: str) -> list[MaskDoubt]:
    """The masks of one list, the worst first."""
    return [each for each in trouble.masks if each.list == name]


def drawn_words(mask: MaskDoubt, reader: Language) -> str:
    """What the models drew in place of a mask."""
    figures: dict[str, Value] = {"drawn": mask.drawn, "voxels": mask.voxels}
    if mask.called is not None:
        return reader.text("doubt.called", {"structure": mask.called, "share": mask.called_share})
    return reader.text("doubt.nothing" if not mask.drawn else "doubt.unmasked" if not mask.voxels else "doubt.voxels", figures)


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
