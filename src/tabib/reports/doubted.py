"""What the page of label trouble shows: labels or masks to look at, in the reader's words."""

from __future__ import annotations

from tabib.dataset import without
from tabib.metrics.classification import CHANCE
from tabib.records import LabelDoubt, LabelTrouble, MaskDoubt, Measure
from tabib.reports.text import Language, Value, isolated

__all__ = ["LISTS", "SHOWN", "drawn_words", "guessed", "key", "label_name", "listed", "listed_masks", "reached", "rows"]

LISTS = ("wrong", "hard")
"""Lists of a worklist, in the order of the page."""

SHOWN = 100
"""Labels or masks of each list on the page; the table has all of them."""


def reached(trouble: LabelTrouble, reader: Language) -> str:
    """How good the models are that were asked; "" where that is not known."""
    said = [_reached(trouble, each, reader) for each in trouble.reached]
    return reader.text("doubt.reached") + " " + reader.words["words"]["semicolon"].join(said) + "." if said else ""


def guessed(trouble: LabelTrouble, reader: Language) -> str:
    """That the lists mean nothing, where the models are not shown to do more than guess; else ""."""
    guesses = [each for each in trouble.reached if each.name == "auc" and each.low is not None and each.low <= CHANCE]
    if not trouble.several:
        return reader.text("doubt.guessed") if guesses else ""
    return reader.text("doubt.guessed_labels", {"labels": reader.series([isolated(str(each.of)) for each in guesses])}) if guesses else ""


def _reached(trouble: LabelTrouble, measure: Measure, reader: Language) -> str:
    ends = [None if end is None else reader.value(end, "measure") for end in (measure.low, measure.high)]
    figures: dict[str, Value] = {"measure": measure.name, "value": measure.value, "confidence": trouble.confidence}
    if None in ends:
        said = reader.text("doubt.reached_unsure", figures)
    else:
        said = reader.text("doubt.reached_by", {**figures, "interval": reader.interval(*filter(None, ends))})
    if measure.of is None:
        return said
    of = isolated(measure.of) if trouble.several or trouble.masked else reader.name("averages", measure.of)
    return f"{of}: {said}"


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
