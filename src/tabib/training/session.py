"""What holds while networks run: the device, the number of threads, repeatable arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tabib.engines import tame_allocator

__all__ = ["running"]


@contextmanager
def running(device: str, *, threads: int | None = None) -> Iterator[torch.device]:
    """Use `threads` processor threads and repeatable algorithms on a device; everything is as it was afterwards.

    The generators of random numbers are restored too: what is drawn inside depends on the study alone. The allocator
    stays tamed (see `engines.allocator`).
    """
    tame_allocator()
    before = torch.get_num_threads()
    devices = range(torch.cuda.device_count()) if device == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        try:
            if threads is not None:
                torch.set_num_threads(threads)
            yield torch.device(device)
        finally:
            torch.set_num_threads(before)
