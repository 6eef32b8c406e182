"""Hearts: known volumes, and agreement against SciPy and simulation."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from tabib.errors import DataError, StudyError
from tabib.metrics.heart import bland_altman, correlation, ejection_fraction, myocardial_mass, volumes_ml
from tabib.metrics.intervals import Sureness
from tabib.phantoms import HeartScans, plan_heart_scans, render_heart
from tabib.phantoms.ventricles import LABELS


def test_volumes_are_voxels_times_their_size() -> None:
    labels = np.zeros((4, 10, 10), np.uint8)
    labels[1:3, :5, :5] = 3
    labels[1, 5:, 5:] = 1
    found = volumes_ml(labels, {"rv": 1, "myocardium": 2, "lv": 3}, spacing=(10, 2, 2))
    assert found == pytest.approx({"rv": 1.0, "myocardium": 0.0, "lv": 2.0})


def test_without_spacing_there_are_no_millilitres() -> None:
    for unknown in (None, (None, 1.5, 1.5)):
        with pytest.raises(StudyError, match="need the true spacing"):
            volumes_ml(np.zeros((2, 3, 4), int), {"lv": 1}, spacing=unknown)
    for labels, spacing in ((np.zeros((3, 4), int), (1, 1, 1)), (np.zeros((2, 3, 4), int), (0, 1, 1))):
        with pytest.raises(DataError, match="three axes"):
            volumes_ml(labels, {"lv": 1}, spacing=spacing)


def test_ejection_fraction_and_mass() -> None:
    assert ejection_fraction(150, 60) == pytest.approx(0.6)
    assert isnan(ejection_fraction(0, 10))
    assert myocardial_mass(100) == pytest.approx(105)


def test_bias_and_limits_of_agreement() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(150, 30, 30)
    prediction = truth + random.normal(-4, 6, 30)
    found = bland_altman(truth, prediction, Sureness())
    difference = prediction - truth
    assert found.bias == pytest.approx(difference.mean())
    assert (found.low, found.high) == pytest.approx((found.bias - 1.959964 * found.deviation, found.bias + 1.959964 * found.deviation))
    interval = ttest_1samp(difference, 0).confidence_interval()  # pyright: ignore[reportAttributeAccessIssue]
    assert (found.bias_interval.low, found.bias_interval.high) == pytest.approx((interval.low, interval.high))
    assert found.patients == found.bias_interval.groups == 30


def test_intervals_of_the_limits_hold_the_truth_as_often_as_they_say() -> None:
    random, held = np.random.default_rng(1), []
    for _ in range(1500):
        found = bland_altman(np.zeros(25), random.normal(2, 5, 25), Sureness())
        for true, interval in ((2 + 1.959964 * 5, found.high_interval), (2 - 1.959964 * 5, found.low_interval)):
            assert interval.low is not None
            assert interval.high is not None
            held.append(interval.low <= true <= interval.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


def test_patients_without_a_measurement_are_left_out() -> None:
    found = bland_altman(np.array([1.0, np.nan, 3.0]), np.array([2.0, 5.0, 5.0]), Sureness())
    assert (found.bias, found.patients) == (1.5, 2)
    assert found.bias_interval.low is None  # too few patients
    assert isnan(bland_altman(np.array([1.0]), np.array([2.0]), Sureness()).deviation)
    assert isnan(bland_altman(np.array([]), np.array([]), Sureness()).bias)


def test_correlation_by_fisher_z() -> None:
    random = np.random.default_rng(2)
    truth = random.normal(150, 30, 40)
    prediction = truth + random.normal(0, 15, 40)
    value, interval = correlation(truth, prediction, Sureness())
    assert value == pytest.approx(np.corrcoef(truth, prediction)[0, 1])
    half = 1.959964 / np.sqrt(37)
    assert (interval.low, interval.high) == pytest.approx((np.tanh(np.arctanh(value) - half), np.tanh(np.arctanh(value) + half)))


@pytest.mark.parametrize("prediction", [[1.0, 2.0], [2.0, 2.0, 2.0, 2.0]], ids=["two", "constant"])
def test_correlation_that_does_not_exist(prediction: list[float]) -> None:
    value, interval = correlation(np.arange(float(len(prediction))), np.array(prediction), Sureness())
    assert isnan(value)
    assert interval.low is None


def test_perfect_correlation_has_no_interval() -> None:
    value, interval = correlation(np.arange(12.0), 2 * np.arange(12.0), Sureness())
    assert value == pytest.approx(1)
    assert interval.low is None or interval.low > 0.99


def test_volumes_and_ejection_fractions_of_phantoms_come_back() -> None:
    scans = HeartScans(patients=5)
    truth = plan_heart_scans(scans)
    found, known = [], []
    for diastole, systole in zip(truth.hearts[::2], truth.hearts[1::2], strict=True):
        measured = []
        for heart in (diastole, systole):
            spacing = (heart.slice_thickness, heart.pixel, heart.pixel)
            measured.append(
                volumes_ml(render_heart(heart, scans)[1], {str(name): value for name, value in LABELS.items()}, spacing=spacing)
            )
            for name, value in measured[-1].items():
                assert abs(value - heart.volumes_ml[name]) < heart.bounds_ml[name]
        found.append(ejection_fraction(measured[0]["lv"], measured[1]["lv"]))
        known.append(truth.ejection_fraction(diastole.patient))
    assert found == pytest.approx(known, abs=0.01)
    assert correlation(np.array(known), np.array(found), Sureness())[0] > 0.99
