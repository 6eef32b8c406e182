"""More than one run: rows of a series, and runs side by side."""

from tabib.experiments.compare import compare_runs, write_comparison
from tabib.experiments.series import Row, Series, read_series, run_series

__all__ = ["Row", "Series", "compare_runs", "read_series", "run_series", "write_comparison"]
