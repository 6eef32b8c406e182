"""Where the real images lie that some tests read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REAL = Path(os.environ.get("TABIB_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))


def needs_real(name: str) -> pytest.MarkDecorator:
    """Skip, with a reason, where the real images called `name` are missing."""
    return pytest.mark.skipif(not (REAL / name).exists(), reason=f"no real images {name} beside the checkout")
