"""From a run folder to pages a person reads: one self-contained HTML file a language. No torch."""

from tabib.reports.facts import published_works
from tabib.reports.html import (
    write_ablation_pages,
    write_comparison_pages,
    write_external,
    write_label_trouble_pages,
    write_learning_curve_pages,
    write_look,
    write_reports,
    write_search_pages,
    write_twin_pages,
)
from tabib.reports.text import LANGUAGES, Phrase, finding_codes, phrase

__all__ = [
    "LANGUAGES",
    "Phrase",
    "finding_codes",
    "phrase",
    "published_works",
    "write_ablation_pages",
    "write_comparison_pages",
    "write_external",
    "write_label_trouble_pages",
    "write_learning_curve_pages",
    "write_look",
    "write_reports",
    "write_search_pages",
    "write_twin_pages",
]
