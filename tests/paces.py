"""What the fixture `set_pace` of the tests of experiments is."""

from __future__ import annotations

from collections.abc import Callable

SetPace = Callable[..., None]
"""Has so many trainings at work at once (`processes`, `threads`, `precision`), whatever is faster."""
