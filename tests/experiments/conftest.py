from __future__ import annotations

from collections.abc import Iterator

import pytest

from paces import SetPace
from tabib.experiments import trainings
from tabib.records import Pace
from tabib.training import pace


@pytest.fixture(autouse=True, scope="module")
def one_at_a_time() -> Iterator[None]:
    """However slow the machine is: networks that a test adds are not known in another process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pace, "WORTH_TIMING", float("inf"))
        yield


@pytest.fixture
def set_pace(monkeypatch: pytest.MonkeyPatch) -> SetPace:
    def chosen(processes: int, *, threads: int = 1, precision: str = "fp32") -> None:
        found = Pace(processes=processes, threads=threads, precision=precision)
        monkeypatch.setattr(trainings, "choose_pace", lambda *told, **where: found)

    return chosen
