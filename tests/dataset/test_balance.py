from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabib.dataset.balance import divide

SHARES = (0.6, 0.2, 0.2)


def named(count: int) -> list[str]:
    return [f"unit{number:04}" for number in range(count)]


@settings(deadline=None, max_examples=60)
@given(sizes=st.lists(st.integers(1, 40), min_size=3, max_size=40), seed=st.text(max_size=3))
def test_with_one_class_no_move_of_a_unit_would_help(sizes: list[int], seed: str) -> None:
    counts = np.array(sizes)[:, None]
    part = divide(counts, named(len(sizes)), SHARES, seed=seed)
    assert part is not None
    wanted = np.floor(sum(sizes) * np.array(SHARES) + 1e-9)
    wanted[2] = sum(sizes) - wanted[:2].sum()
    off = np.array([counts[part == place].sum() for place in range(3)]) - wanted
    units = [np.array(sizes)[part == place] for place in range(3)]
    assert all(len(held) for held in units)
    for many, few in ((many, few) for many in range(3) for few in range(3) if off[many] > off[few]):
        if len(units[many]) > 1:  # the last unit stays where it is
            assert off[many] - off[few] <= units[many].min()


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(30)))
def test_the_order_of_units_does_not_matter(order: list[int]) -> None:
    counts = np.random.default_rng(0).integers(0, 4, (30, 3)) + np.eye(3, dtype=int)[np.arange(30) % 3]
    names = named(30)
    first = divide(counts, names, SHARES, seed="0")
    second = divide(counts[order], [names[unit] for unit in order], SHARES, seed="0")
    assert first is not None
    assert second is not None
    assert second.tolist() == first[order].tolist()


def test_few_units_of_many_classes_are_found_a_division() -> None:
    # a needs units 0, 1, 2 apart and b needs 1, 2, 3 apart, so 0 and 3 must go together.
    counts = np.array([[5, 0], [1, 1], [1, 1], [0, 5]])
    part = divide(counts, named(4), SHARES, seed="0")
    assert part is not None
    assert part[0] == part[3]
    assert len(set(part.tolist())) == 3


def test_what_cannot_be_divided_is_none() -> None:
    # Each class has three units, and any two units share a class: four units cannot lie on three parts.
    counts = np.array([[1, 1, 0, 1], [1, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 0]])
    assert divide(counts, named(4), SHARES, seed="0") is None


def test_one_large_unit_goes_where_it_fits() -> None:
    counts = np.array([[60], *[[1]] * 40])
    for seed in range(10):
        part = divide(counts, named(41), SHARES, seed=str(seed))
        assert part is not None
        assert part[0] == 0
        assert np.bincount(part).tolist() == [1, 20, 20]


@pytest.mark.parametrize("parts", [2, 5])
def test_equal_shares_are_even(parts: int) -> None:
    part = divide(np.ones((23, 1), int), named(23), [1 / parts] * parts, seed="0")
    assert part is not None
    assert np.ptp(np.bincount(part)) == 1
