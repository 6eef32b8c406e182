"""Is it any good, and for whom."""

from tabib.evaluation.evaluate import evaluate
from tabib.evaluation.subgroups import check_subgroups

__all__ = ["check_subgroups", "evaluate"]
