"""What can go wrong, as one tree.

    TabibError                  anything that Tabib itself reports; exit code 1
    ├── StudyError              a study file or an option that cannot be understood or cannot be done; exit code 2
    ├── DataError               a folder that cannot make a study: empty, one class, all patients in one class
    │   ├── ImageError          one file that cannot be read as an image (never ends a job: it becomes a row with a reason)
    │   └── LeakError           a split that would let a patient or a copy stand on two sides
    ├── RunError                a run folder that is in use, changed or incomplete, and any file that cannot be written
    ├── WeightsError            network weights that cannot be had or do not fit
    ├── TrainingError           a training that cannot go on: the loss is not a number
    └── MissingPackageError     an optional package is needed; the message names the extra to install

Every message says what was found, where, what was expected and what to do.
"""

from __future__ import annotations

__all__ = [
    "DataError",
    "ImageError",
    "LeakError",
    "MissingPackageError",
    "RunError",
    "StudyError",
    "TabibError",
    "TrainingError",
    "WeightsError",
]


class TabibError(Exception):
    """Anything that Tabib itself reports. `exit_code` is what the command line ends with."""

    exit_code = 1


class StudyError(TabibError):
    """A study file or an option that cannot be understood or cannot be done."""

    exit_code = 2


class DataError(TabibError):
    """A folder that cannot make a study."""


class ImageError(DataError):
    """One file that cannot be read as an image."""


class LeakError(DataError):
    """A split that would let a patient or a copy stand on two sides."""


class RunError(TabibError):
    """A run folder that is in use, changed or incomplete, and any file that cannot be written."""


class WeightsError(TabibError):
    """Network weights that cannot be had or do not fit."""


class TrainingError(TabibError):
    """A training that cannot go on."""


class MissingPackageError(TabibError):
    """An optional package is needed; the message names the extra to install."""
