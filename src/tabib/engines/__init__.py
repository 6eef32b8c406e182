"""Where work runs: several processes on this machine, and how the allocator is set for a CPU."""

from tabib.engines.allocator import tame_allocator
from tabib.engines.local import Crashed, keep_busy, map_in_processes, waiting_processes

__all__ = ["Crashed", "keep_busy", "map_in_processes", "tame_allocator", "waiting_processes"]
