"""Tabib: from a folder of medical images to a trained, honestly judged and documented model.

    from pathlib import Path
    from tabib import load_study, open_run, run_study

    study = load_study(Path("study.yaml"))
    with open_run(study) as run:
        run_study(study, run)

Nothing is imported before it is used, so `import tabib` is quick and brings no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tabib.config import Study
    from tabib.dataset import index_folder, inspect_dataset, split_dataset
    from tabib.evaluation import evaluate
    from tabib.explanation import explain, explain_paths
    from tabib.plan import plan_study, write_plan
    from tabib.prediction import Predictor, predict_index, predict_paths
    from tabib.reports import write_look, write_reports
    from tabib.runs import open_run, read_run
    from tabib.study import run_study
    from tabib.study_file import dump_study, load_study
    from tabib.training import calibrate, check_training, resolve_study, summarise_network, train

__version__ = "0.1.0"

_HOMES = {
    "Predictor": "prediction",
    "Study": "config",
    "calibrate": "training",
    "check_training": "training",
    "dump_study": "study_file",
    "evaluate": "evaluation",
    "explain": "explanation",
    "explain_paths": "explanation",
    "index_folder": "dataset",
    "inspect_dataset": "dataset",
    "load_study": "study_file",
    "open_run": "runs",
    "plan_study": "plan",
    "predict_index": "prediction",
    "predict_paths": "prediction",
    "read_run": "runs",
    "resolve_study": "training",
    "run_study": "study",
    "split_dataset": "dataset",
    "summarise_network": "training",
    "train": "training",
    "write_look": "reports",
    "write_plan": "plan",
    "write_reports": "reports",
}
"""The public names and the rooms they live in."""

__all__ = [
    "Predictor",
    "Study",
    "__version__",
    "calibrate",
    "check_training",
    "dump_study",
    "evaluate",
    "explain",
    "explain_paths",
    "index_folder",
    "inspect_dataset",
    "load_study",
    "open_run",
    "plan_study",
    "predict_index",
    "predict_paths",
    "read_run",
    "resolve_study",
    "run_study",
    "split_dataset",
    "summarise_network",
    "train",
    "write_look",
    "write_plan",
    "write_reports",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tabib' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tabib.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
