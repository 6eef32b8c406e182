"""From a run folder to pages a person reads: one self-contained HTML file a language. No torch."""

from tabib.reports.html import write_look, write_reports
from tabib.reports.text import LANGUAGES, Phrase, phrase

__all__ = ["LANGUAGES", "Phrase", "phrase", "write_look", "write_reports"]
