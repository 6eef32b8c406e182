"""What the pictures that explain answers show, in the reader's words."""

from __future__ import annotations

from tabib.config import Explain, Study
from tabib.records import Explained, OfLabel
from tabib.reports.facts import Facts
from tabib.reports.text import Language

__all__ = ["caption", "notes", "one_group"]


def notes(facts: Facts, reader: Language) -> list[str]:
    """What the pictures that explain answers show, as far as there are any."""
    explain, layer = facts.study.explain if isinstance(facts.study, Study) else Explain(), facts.explanations.layer
    words = [reader.text("why.gradcam_note", {"layer": layer})] if layer else []
    words += [reader.text("why.occlusion_note")] if explain.occlusion else []
    return words + ([reader.text(f"why.neighbours_{facts.explanations.features}")] if explain.neighbours else [])


def caption(reader: Language, of: Explained | OfLabel, kind: str) -> str:
    """What one picture of an explained image shows, of its answer or of one of its labels."""
    name = of.name if isinstance(of, OfLabel) else of.label if kind == "gradcam_truth" else of.predicted
    if kind == "occlusion" and of.covered is not None and of.probability is not None and of.covered >= of.probability:
        return reader.text("why.occlusion_nothing", {"name": name})
    if kind in of.flat:
        return reader.text("why.gradcam_flat", {"name": name})
    key = "gradcam" if kind == "gradcam_truth" else "gradcam_label" if kind == "gradcam" and isinstance(of, OfLabel) else kind
    return reader.text(f"why.{key}", {"name": name, "p": of.probability, "before": of.probability, "after": of.covered})


def one_group(one: Explained) -> bool:
    """Whether several nearest training images are all of one patient, or of one cluster of look-alikes."""
    return len(one.neighbours) > 1 and len({near.group for near in one.neighbours}) == 1
