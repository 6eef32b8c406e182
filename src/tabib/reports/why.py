"""What the pictures that explain answers show, in the reader's words."""

from __future__ import annotations

from tabib.config import Explain
from tabib.records import Explained
from tabib.reports.facts import Facts
from tabib.reports.text import Language

__all__ = ["caption", "notes", "one_group"]


def notes(facts: Facts, reader: Language) -> list[str]:
    """What the pictures that explain answers show, as far as there are any."""
    explain, layer = facts.study.explain if facts.study else Explain(), facts.explanations.layer
    words = [reader.text("why.gradcam_note", {"layer": layer})] if layer else []
    words += [reader.text("why.occlusion_note")] if explain.occlusion else []
    return words + ([reader.text("why.neighbours_note")] if explain.neighbours else [])


def caption(reader: Language, one: Explained, kind: str) -> str:
    """What one picture of an explained image shows."""
    if kind == "gradcam_truth":
        return reader.text("why.gradcam", {"name": one.label})
    if kind == "occlusion" and one.covered is not None and one.covered >= one.probability:
        return reader.text("why.occlusion_nothing", {"name": one.predicted})
    return reader.text(f"why.{kind}", {"name": one.predicted, "before": one.probability, "after": one.covered})


def one_group(one: Explained) -> bool:
    """Whether several nearest training images are all of one patient, or of one cluster of look-alikes."""
    return len(one.neighbours) > 1 and len({near.group for near in one.neighbours}) == 1
