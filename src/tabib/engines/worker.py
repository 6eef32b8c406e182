"""The far end of `map_in_processes`: what runs in a worker process.

Both ends are this program, and talk over the worker's standard input and output in frames: 8 bytes of length, a pickle.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import time
import traceback
from threading import Thread
from typing import Any, BinaryIO

from tabib.engines.allocator import tame_allocator

__all__ = ["main", "receive", "send"]

LENGTH = struct.Struct("<Q")

PATIENCE = 0.05  # seconds


def send(stream: BinaryIO, value: object) -> None:
    """Write one value; ConnectionError where the other end is gone."""
    _write(stream, [pickle.dumps(value, pickle.HIGHEST_PROTOCOL)])


def receive(stream: BinaryIO) -> Any:
    """Read one value; ConnectionError where the other end is gone."""
    return pickle.loads(_read(stream, LENGTH.unpack(_read(stream, LENGTH.size))[0]))


def _write(stream: BinaryIO, pickles: list[bytes]) -> None:
    stream.write(b"".join(part for data in pickles for part in (LENGTH.pack(len(data)), data)))
    stream.flush()


def _read(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise ConnectionResetError("the other end of the pipe is gone")
    return data


def main() -> None:
    """Receive the function, then lists of items; answer each of them by (whether it went well, result or exception).

    Answers wait for one another up to `PATIENCE`: to wake the parent for each one costs as much as decoding a small film.
    """
    tame_allocator()  # pictures are blocks of the size that glibc gives back, and clears again, each time
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent ends its workers
    Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a decoder that prints must not write between the frames
    try:
        function = receive(requests)
        _write(answers, [_pickled(True, None)])
        while True:
            waiting, since = [], time.monotonic()
            for item in receive(requests):
                try:
                    good, value = True, function(item)
                except Exception as error:  # noqa: BLE001 - raised again in the parent
                    good, value = False, error
                waiting.append(_pickled(good, value))
                if time.monotonic() - since > PATIENCE:
                    _write(answers, waiting)
                    waiting, since = [], time.monotonic()
            _write(answers, waiting)
    except ConnectionError:
        os._exit(0)  # the parent has no more work or is gone; flushing the broken pipe would only complain
    except Exception as error:  # noqa: BLE001 - the function or an item did not arrive whole; raised again in the parent
        _write(answers, [_pickled(False, error)])


def _leave_with(parent: int) -> None:
    """End this worker when its parent is gone: an hour's item would be done for nobody, in a run that the next program wants to have."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def _pickled(good: bool, value: object) -> bytes:
    try:
        data = pickle.dumps((good, value), pickle.HIGHEST_PROTOCOL)
        if not good:
            pickle.loads(data)  # many exceptions go into a pickle and do not come out
    except Exception:  # noqa: BLE001 - whatever does not pickle travels as its text
        text = traceback.format_exc() if good else "".join(traceback.format_exception(value))  # pyright: ignore
        data = pickle.dumps((False, RuntimeError(f"in a worker process:\n{text}")))
    return data
