"""Is it any good, and for whom."""

from tabib.evaluation.differences import Features
from tabib.evaluation.evaluate import evaluate, judge
from tabib.evaluation.external import evaluate_external, find_known, take_labels
from tabib.evaluation.external_masks import check_structures, evaluate_external_masks
from tabib.evaluation.mask_pairs import paired_differences
from tabib.evaluation.masks import evaluate_masks
from tabib.evaluation.subgroups import check_subgroups

__all__ = [
    "Features",
    "check_structures",
    "check_subgroups",
    "evaluate",
    "evaluate_external",
    "evaluate_external_masks",
    "evaluate_masks",
    "find_known",
    "judge",
    "paired_differences",
    "take_labels",
]
