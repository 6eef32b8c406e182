"""More than one run: a study changed one thing at a time, rows of a series, and runs side by side."""

from tabib.experiments.ablate import Changes, Trained, read_changes, run_changes
from tabib.experiments.ablated import judge_changes, write_ablation
from tabib.experiments.compare import compare_runs, write_comparison
from tabib.experiments.cross_validation import cross_validate
from tabib.experiments.leaky_twin import WAYS, make_twins, write_twins
from tabib.experiments.learning_curve import SHARES, draw_learning_curve, write_learning_curve
from tabib.experiments.series import Row, Series, read_series, run_series

__all__ = [
    "SHARES",
    "WAYS",
    "Changes",
    "Row",
    "Series",
    "Trained",
    "compare_runs",
    "cross_validate",
    "draw_learning_curve",
    "judge_changes",
    "make_twins",
    "read_changes",
    "read_series",
    "run_changes",
    "run_series",
    "write_ablation",
    "write_comparison",
    "write_learning_curve",
    "write_twins",
]
