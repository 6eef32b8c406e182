"""Decoders that keep their warnings and log lines to themselves."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

__all__ = ["quiet"]

LOGGERS = ("PIL.Image", "PIL.PngImagePlugin", "PIL.TiffImagePlugin", "nibabel.global", "pydicom", "tifffile")

_lock = Lock()
_inside = 0  # how many threads are in `quiet` now
_undo = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Python's warnings and the decoders' loggers: the user gets a good image or one clear error.

    What libtiff itself writes to standard error about a damaged file is not caught: that stream belongs to the whole process.

    The first thread to enter silences and the last to leave restores; with `warnings.catch_warnings` alone, two threads
    that overlap would leave the filters changed for good.
    """
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1:
            _undo.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            for logger in map(logging.getLogger, LOGGERS):
                _undo.callback(setattr, logger, "disabled", logger.disabled)
                logger.disabled = True
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _undo.close()
