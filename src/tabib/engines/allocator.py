"""The memory allocator, told not to give memory back to the system after every step.

A training step frees and asks again for activations of hundreds of megabytes. glibc serves each from fresh pages of the
system, and a CPU then spends as long clearing pages as it does on arithmetic. Kept pages cost resident memory no higher
than the peak of a step: EFFICIENTNET figures.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["tame_allocator"]

# <malloc.h> of glibc: parameters of mallopt.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def tame_allocator() -> bool:
    """Let this process keep the memory it frees: no `mmap` for large blocks, no trimming, growth in steps of 256 MiB.

    Linux with glibc only; call it before the first large tensor. It holds for the rest of the process, and calling it
    again changes nothing.

    Returns:
        Whether it was done. It never raises: without it training is slower, not wrong.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has no mallopt
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 * 2**20))
    done = [mallopt(name, value) == 1 for name, value in settings]
    return all(done)
