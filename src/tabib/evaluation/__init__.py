"""Is it any good, and for whom."""

from tabib.evaluation.evaluate import evaluate

__all__ = ["evaluate"]
