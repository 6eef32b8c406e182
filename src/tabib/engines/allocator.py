"""The memory allocator, told not to give memory back to the system after every step.

A training step frees and asks again for activations of hundreds of megabytes. glibc serves each from fresh pages of the
system, and a CPU then spends as long clearing pages as it does on arithmetic. Measured on one core with EfficientNetB2 at
128 x 128, batch 64: 3.8 s of processor time a step instead of 6.0. Resident memory at its peak stays the same (3.7 GB), and
between steps the process holds 3.3 GB instead of 2.4.
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
