"""What the page of image files says: its tables, as `docs/make_reference.py` has them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("make_reference", Path(__file__).parents[2] / "docs" / "make_reference.py")
assert _spec
assert _spec.loader
PAGE = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(PAGE)
