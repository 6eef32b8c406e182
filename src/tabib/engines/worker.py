"""The far end of `map_in_processes`: what runs in a worker process.

Both ends are this program, and talk over the worker's standard input and output in frames: 8 bytes of length, a pickle.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import traceback
from typing import Any, BinaryIO

__all__ = ["main", "receive", "send"]

LENGTH = struct.Struct("<Q")


def send(stream: BinaryIO, value: object) -> None:
    """Write one value; ConnectionError where the other end is gone."""
    _write(stream, pickle.dumps(value, pickle.HIGHEST_PROTOCOL))


def receive(stream: BinaryIO) -> Any:
    """Read one value; ConnectionError where the other end is gone."""
    return pickle.loads(_read(stream, LENGTH.unpack(_read(stream, LENGTH.size))[0]))


def _write(stream: BinaryIO, data: bytes) -> None:
    stream.write(LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def _read(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise ConnectionResetError("the other end of the pipe is gone")
    return data


def main() -> None:
    """Receive the function, then lists of items; answer each of them by (whether it went well, result or exception)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent ends its workers
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a decoder that prints must not write between the frames
    try:
        function = receive(requests)
        _answer(answers, True, None)
        while True:
            for item in receive(requests):
                try:
                    good, value = True, function(item)
                except Exception as error:  # noqa: BLE001 - raised again in the parent
                    good, value = False, error
                _answer(answers, good, value)
    except ConnectionError:
        os._exit(0)  # the parent has no more work or is gone; flushing the broken pipe would only complain
    except Exception as error:  # noqa: BLE001 - the function or an item did not arrive whole; raised again in the parent
        _answer(answers, False, error)


def _answer(stream: BinaryIO, good: bool, value: object) -> None:
    try:
        data = pickle.dumps((good, value), pickle.HIGHEST_PROTOCOL)
        if not good:
            pickle.loads(data)  # many exceptions go into a pickle and do not come out
    except Exception:  # noqa: BLE001 - whatever does not pickle travels as its text
        text = traceback.format_exc() if good else "".join(traceback.format_exception(value))  # pyright: ignore
        data = pickle.dumps((False, RuntimeError(f"in a worker process:\n{text}")))
    _write(stream, data)
