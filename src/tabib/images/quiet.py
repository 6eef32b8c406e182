"""Decoders that keep their warnings and log lines to themselves."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
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
            loggers = _loggers()
            _undo.callback(_set_disabled, loggers, [logger.disabled for logger in loggers])
            _set_disabled(loggers, [True] * len(loggers))
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _undo.close()


@cache
def _loggers() -> list[logging.Logger]:
    return [logging.getLogger(name) for name in LOGGERS]


def _set_disabled(loggers: Iterable[logging.Logger], values: Iterable[bool]) -> None:
    for logger, value in zip(loggers, values, strict=True):
        logger.disabled = value
