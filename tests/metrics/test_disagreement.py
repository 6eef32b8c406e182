from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from tabib.metrics.disagreement import disagreement, rank_correlation
from tabib.metrics.intervals import Sureness

SURE = Sureness(0.95, 200, 0)


def test_masks_whose_dice_is_known() -> None:
    first, second, third = (np.array([each]) for each in ([1, 1, 0, 2], [1, 0, 0, 2], [0, 0, 0, 2]))
    # Of structure 1 the three pairs have 2/3, 0 and 0; of structure 2 all have 1.
    assert disagreement([first, second, third], 2) == pytest.approx(1 - (2 / 9 + 1) / 2)
    assert disagreement([first, first], 2) == 0
    assert disagreement([first, first, first], 5) == 0
    assert disagreement([np.array([1, 0]), np.array([0, 1])], 1) == 1


def test_what_no_mask_shows_is_agreed_on_and_one_mask_says_nothing() -> None:
    empty = np.zeros((2, 3), np.uint8)
    assert disagreement([empty, empty], 2) == 0
    # Neither of the last two shows anything: that pair has no Dice.
    assert disagreement([np.ones((2, 3)), empty, empty], 1) == 1
    assert disagreement([empty], 2) is None


def test_spearman_is_that_of_scipy_with_ties() -> None:
    random = np.random.default_rng(3)
    first, second = random.integers(0, 9, 40), random.integers(0, 9, 40)
    value, interval = rank_correlation(first, first + second, np.arange(40), SURE)
    assert value == pytest.approx(float(spearmanr(first, first + second).statistic))
    assert interval.low is not None
    assert interval.high is not None
    assert 0 < interval.low < value < interval.high < 1


def test_the_interval_of_spearman_covers_the_truth() -> None:
    random = np.random.default_rng(4)
    truth = 6 / np.pi * np.arcsin(0.6 / 2)  # of a normal distribution with the correlation 0.6
    covered = 0
    for _ in range(150):
        first, noise = random.normal(size=(2, 40))
        _, interval = rank_correlation(first, 0.6 * first + 0.8 * noise, np.arange(40), SURE)
        covered += interval.low is not None and interval.high is not None and interval.low <= truth <= interval.high
    assert 0.88 <= covered / 150 <= 0.99


def test_copies_of_a_patient_make_nothing_surer() -> None:
    random = np.random.default_rng(5)
    first, second = random.normal(size=(2, 20))
    _, once = rank_correlation(first, second, np.arange(20), SURE)
    _, twice = rank_correlation(np.tile(first, 2), np.tile(second, 2), np.tile(np.arange(20), 2), SURE)
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high))


@pytest.mark.parametrize("first", [[1.0, 1, 1, 1], [1.0, 2]])
def test_there_is_no_correlation_without_spread(first: list[float]) -> None:
    value, interval = rank_correlation(np.array(first), np.arange(len(first)), np.arange(len(first)), SURE)
    assert np.isnan(value)
    assert interval.low is None
