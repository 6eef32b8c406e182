"""What the fixture `tabib` of the tests of the road is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Tabib = Callable[..., tuple[int, dict[str, Any]]]
"""Runs a verb in an empty folder: its arguments in, its exit code and its JSON out."""
