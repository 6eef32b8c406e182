from __future__ import annotations

from collections.abc import Iterator

import pytest

from planted import tiny_network
from tabib.training.networks import NETWORKS


@pytest.fixture(autouse=True, scope="session")
def tiny() -> Iterator[None]:
    NETWORKS["tiny"] = tiny_network
    yield
    NETWORKS.pop("tiny", None)
