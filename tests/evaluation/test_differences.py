from __future__ import annotations

import polars as pl
import pytest

from tabib.evaluation.differences import prevalence_difference
from tabib.metrics.intervals import Sureness


def films(ill: int, well: int) -> pl.DataFrame:
    """A patient for each film."""
    rows = [{"label": label, "group": f"{label}{number}"} for label, count in (("ILL", ill), ("WELL", well)) for number in range(count)]
    return pl.DataFrame(rows).with_columns(content=pl.col("group"))


@pytest.mark.parametrize(
    ("own", "other", "code", "level"),
    [
        ((40, 40), (20, 60), "external_prevalence", "warn"),
        ((14, 16), (8, 22), "external_prevalence_holds", "pass"),  # 47 % and 27 %
        ((40, 40), (20, 20), "external_prevalence_holds", "pass"),
        ((14, 16), (1, 3), "external_prevalence_unsure", "warn"),
    ],
)
def test_both_prevalences_are_always_said(own: tuple[int, int], other: tuple[int, int], code: str, level: str) -> None:
    found = prevalence_difference(films(*own), films(*other), ["WELL", "ILL"], Sureness())
    assert found is not None
    assert (found.code, found.level) == (code, level)
    before, after = own[0] / sum(own), other[0] / sum(other)
    assert (found.figures["class"], found.figures["own"], found.figures["external"]) == ("ILL", before, after)
    assert found.figures["gap"] == pytest.approx(after - before)
    assert ("low" in found.figures) == (code != "external_prevalence_unsure")
    if level == "pass":
        assert found.figures["low"] <= 0 <= found.figures["high"]  # type: ignore[operator]


def test_a_set_without_images_has_no_prevalence() -> None:
    assert prevalence_difference(films(4, 4), films(0, 1).clear(), ["WELL", "ILL"], Sureness()) is None
