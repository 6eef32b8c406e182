"""Is it any good, and for whom."""

from tabib.evaluation.differences import Features
from tabib.evaluation.evaluate import evaluate
from tabib.evaluation.external import evaluate_external, find_known, take_labels
from tabib.evaluation.subgroups import check_subgroups

__all__ = ["Features", "check_subgroups", "evaluate", "evaluate_external", "find_known", "take_labels"]
