"""Functions for the pool: a worker imports this module."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path


class Awkward(Exception):
    """Goes into a pickle and does not come out."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def square(value: int) -> int:
    return value * value


def process(value: int) -> int:
    return os.getpid()


def deadly(value: int) -> int:
    if value == 13:
        os._exit(7)
    if value == 17:
        ctypes.string_at(0)  # a real segmentation fault, as in a decoder
    if value == 19:
        os.kill(os.getpid(), signal.SIGKILL)
    return value + 1


def failing(value: int) -> int:
    if value == 5:
        raise ValueError("five is not wanted")
    return value


def end_of_file(value: int) -> int:
    raise EOFError("a decoder at its end")


def lost_connection(value: int) -> int:
    raise ConnectionResetError("not of the pool's own pipe")


def awkward(value: int) -> int:
    raise Awkward("this", "that")


def unpicklable(value: int) -> object:
    return lambda: value


def talkative(value: int) -> int:
    sys.stdout.write("from Python\n")
    os.write(1, b"from C\n")
    sys.stdout.flush()
    return value


def slow_first(value: int) -> int:
    time.sleep(0.3 if value == 0 else 0)
    return value


def leave_trace(folder: str) -> None:
    Path(folder, f"worker.{os.getpid()}").touch()
    time.sleep(0.02)


def threads_wanted(value: int) -> str:
    return os.environ["OMP_NUM_THREADS"]


def main_module(value: int) -> bool:
    return hasattr(sys.modules["__main__"], "__file__")


def slow_square(value: int) -> int:
    time.sleep(0.5 if value == 0 else 0)
    return value * value


def long(folder: str) -> None:
    Path(folder, f"worker.{os.getpid()}").touch()
    time.sleep(600)
