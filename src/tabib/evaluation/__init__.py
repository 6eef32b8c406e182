"""Is it any good, and for whom."""

from tabib.evaluation.differences import Features
from tabib.evaluation.evaluate import evaluate, judge
from tabib.evaluation.external import evaluate_external, find_known, take_labels
from tabib.evaluation.external_masks import check_structures, evaluate_external_masks
from tabib.evaluation.history import train_fits, training_facts
from tabib.evaluation.masks import evaluate_masks, measure_validation
from tabib.evaluation.pairs import answer_differences, answer_intervals, case_differences, case_intervals, case_means, corrected, moves_of
from tabib.evaluation.subgroups import check_subgroups

__all__ = [
    "Features",
    "answer_differences",
    "answer_intervals",
    "case_differences",
    "case_intervals",
    "case_means",
    "check_structures",
    "check_subgroups",
    "corrected",
    "evaluate",
    "evaluate_external",
    "evaluate_external_masks",
    "evaluate_masks",
    "find_known",
    "judge",
    "measure_validation",
    "moves_of",
    "take_labels",
    "train_fits",
    "training_facts",
]
