"""More than one run: a study changed one thing at a time, values searched, rows of a series, and runs side by side."""

from tabib.experiments.ablate import Changes, Trained, read_changes, run_changes
from tabib.experiments.ablated import ABLATION, compare_rows, judge_changes, write_ablation
from tabib.experiments.compare import compare_runs, write_comparison
from tabib.experiments.cross_validation import cross_validate
from tabib.experiments.label_trouble import find_label_trouble, write_label_trouble
from tabib.experiments.leaky_twin import WAYS, make_twins, write_twins
from tabib.experiments.learning_curve import SHARES, draw_learning_curve, write_learning_curve
from tabib.experiments.search import Search, read_search
from tabib.experiments.searched import judge_search, write_search
from tabib.experiments.series import Series, read_series, refuse_set, run_series
from tabib.experiments.trainings import Row, run_rows
from tabib.experiments.trials import run_trials

__all__ = [
    "ABLATION",
    "SHARES",
    "WAYS",
    "Changes",
    "Row",
    "Search",
    "Series",
    "Trained",
    "compare_rows",
    "compare_runs",
    "cross_validate",
    "draw_learning_curve",
    "find_label_trouble",
    "judge_changes",
    "judge_search",
    "make_twins",
    "read_changes",
    "read_search",
    "read_series",
    "refuse_set",
    "run_changes",
    "run_rows",
    "run_series",
    "run_trials",
    "write_ablation",
    "write_comparison",
    "write_label_trouble",
    "write_learning_curve",
    "write_search",
    "write_twins",
]
