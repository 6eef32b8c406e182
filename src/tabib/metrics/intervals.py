"""How far a number can be trusted: intervals over groups, never over rows.

Rows of one patient resemble one another, so a group (patient) is the unit that is drawn, counted and left out. Each
measure has the interval that covers best in simulation (`benchmarks/coverage.py`, tables in `benchmarks/results`). Where
95 % is promised, the plain bootstraps over groups, percentile and BCa, hold the truth of AUC, average precision, Brier
score and log loss in 78-92 % at 20 and 40 groups and an AUC of 0.95; these in 92-99 %. What remains short: log loss at 20
groups and an AUC of 0.99, 88 %, as most such test sets have no error to show.

| measure                                                  | method        | how                                                    |
|----------------------------------------------------------|---------------|--------------------------------------------------------|
| accuracy, sensitivity, specificity, PPV, NPV             | `wilson`      | Wilson's score on the effective number of groups       |
| balanced accuracy                                        | `mover`       | the intervals of its parts, put together               |
| AUC                                                      | `newcombe`    | score on the clustered variance of DeLong              |
| F1, MCC, average precision, averages over classes        | `jackknife_t` | groups left out in turn, on the log-odds scale         |
| Brier score, log loss                                    | `bootstrap_t` | studentised bootstrap over groups: errors are skewed   |
| expected calibration error                               | `bootstrap`   | wide on purpose: it is biased upwards, see there       |
| difference of two parts; predictive values elsewhere     | `mover`       | the intervals of both, put together                    |

An interval speaks of drawing other patients, not of training another network. Below `FEWEST` groups there is none;
below `APPROXIMATE` groups behind the number it is called approximate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from tabib.metrics.calibration import bin_gaps

__all__ = [
    "APPROXIMATE",
    "FEWEST",
    "Interval",
    "Sureness",
    "auc_interval",
    "calibration_interval",
    "difference_interval",
    "group_draws",
    "jackknife_interval",
    "leave_groups_out",
    "mean_interval",
    "mean_of_intervals",
    "ratio_interval",
    "share_interval",
    "wilson",
]

FEWEST = 8
"""Below this number of groups a value has no interval."""

APPROXIMATE = 20
"""Below this number of groups an interval is called approximate."""

LEFT_OUT = 200
"""Most estimates of a jackknife; more groups than this are left out in even bundles (Kott, J. Official Statistics 2001)."""

LEAST = 0.7
"""Part of the variance of independent rows below which an observed one is luck. Measured: from 20 groups and true areas
of 0.86 to 0.99 the interval holds the truth in 93.4-98.3 %, with 1 in 94.1-98.7 %, with 0.5 in 91.5-98.2 %."""

NUMBERS_AT_ONCE = 4_000_000
"""Largest number of weights held in memory."""

Statistic = Callable[[np.ndarray], np.ndarray]  # weights (D, N) -> values (D,)


@dataclass(frozen=True)
class Sureness:
    """How sure an interval is to be."""

    confidence: float = 0.95
    draws: int = 2000  # of a bootstrap
    seed: int = 0


@dataclass(frozen=True)
class Interval:
    """From where to where, how it was found, and the groups behind it. Without `low` and `high` there is none."""

    low: float | None = None
    high: float | None = None
    method: Literal["wilson", "mover", "newcombe", "jackknife_t", "bootstrap_t", "bootstrap", "t", "fisher_z", "none"] = "none"
    groups: int = 0
    undefined_draws: int = 0  # draws of a bootstrap in which the value did not exist; they are left out

    @property
    def approximate(self) -> bool:
        """Whether few groups stand behind it."""
        return self.method != "none" and self.groups < APPROXIMATE


def wilson(share: float, size: float, quantile: float) -> tuple[float, float]:
    """Wilson's score interval of a share of `size` independent units, which need not be a whole number. JASA 1927;22:209."""
    centre = share + quantile**2 / (2 * size)
    half = quantile * np.sqrt(share * (1 - share) / size + quantile**2 / (4 * size**2))
    scale = 1 + quantile**2 / size
    return max(0.0, float((centre - half) / scale)), min(1.0, float((centre + half) / scale))


def share_interval(right: np.ndarray, counted: np.ndarray, groups: np.ndarray, sure: Sureness) -> Interval:
    """Interval of the share of `counted` rows that are `right`: Wilson's on the effective number of units.

    `right` and `counted` (N,) bool; `groups` (N,) numbers 0..G-1. The effective number is p (1 - p) / V, with V the
    variance of a ratio between groups (Cochran, Sampling Techniques, 3rd ed., eq. 6.9). It lies between the rows and
    Kish's (sum of n)^2 / sum of n^2 of the groups' row counts n, which stand for no and for full likeness within a
    group; full likeness is assumed where the share is 0 or 1 and V is 0. Student's t with G - 1 degrees replaces the
    normal quantile, as V is itself estimated (Korn and Graubard, Survey Methodology 1998;24:193).
    """
    total = _count(groups)
    rows = np.bincount(groups[counted], minlength=total).astype(np.float64)
    hits = np.bincount(groups[counted & right], minlength=total).astype(np.float64)
    held = int((rows > 0).sum())
    if total < FEWEST or held < 2:
        return Interval(groups=held)
    share = hits.sum() / rows.sum()
    variance = held / (held - 1) * ((hits - share * rows) ** 2).sum() / rows.sum() ** 2
    smallest, largest = _kish(rows), float(rows.sum())
    spread = share * (1 - share)
    size = smallest if spread == 0 else largest if variance == 0 else float(np.clip(spread / variance, smallest, largest))
    return Interval(*wilson(share, size, _t(sure, total - 1)), "wilson", held)


def mean_of_intervals(values: Sequence[float], intervals: Sequence[Interval], *, groups: int) -> Interval:
    """Interval of the mean of values that vary apart, as sensitivity and specificity do.

    The distances from each value to its own limits are added as squares, so that limits stay inside the scale and the
    interval lies as unevenly as its parts: MOVER, Zou and Donner, Statistics in Medicine 2008;27:1693.
    """
    if any(interval.low is None for interval in intervals):
        return Interval(groups=groups)
    below, above = _distances(values, intervals)
    mean, number = float(np.mean(values)), len(values)
    return Interval(mean - float(np.sqrt((below**2).sum())) / number, mean + float(np.sqrt((above**2).sum())) / number, "mover", groups)


def difference_interval(value: float, interval: Interval, other: float, other_interval: Interval, *, correlation: float = 0.0) -> Interval:
    """Interval of `value` - `other` from the interval of each (MOVER, as in `mean_of_intervals`).

    `correlation` of the two values from sample to sample: 0 where they were measured on different groups.
    """
    groups = min(interval.groups, other_interval.groups)
    if interval.low is None or other_interval.low is None:
        return Interval(groups=groups)
    below, above = _distances([value, other], [interval, other_interval])

    def joined(distance: float, other_distance: float) -> float:
        return float(np.sqrt(max(0.0, distance**2 + other_distance**2 - 2 * correlation * distance * other_distance)))

    difference = value - other
    return Interval(difference - joined(below[0], above[1]), difference + joined(above[0], below[1]), "mover", groups)


def ratio_interval(value: float, interval: Interval, other: float, other_interval: Interval) -> Interval:
    """Interval of `value` / `other`, two shares that vary apart, from the interval of each; the upper limit may be infinite.

    MOVER for ratios: Donner and Zou, Statistical Methods in Medical Research 2012;21:347, its lower limit with
    numerator and denominator widened so that it holds where a limit of `other` makes both 0.
    """
    groups = min(interval.groups, other_interval.groups)
    if None in (interval.low, interval.high, other_interval.low, other_interval.high):
        return Interval(groups=groups)
    low, high, other_low, other_high = (
        end * (2 * number - end)
        for number, part in ((value, interval), (other, other_interval))
        for end in (part.low, part.high)
        if end is not None
    )
    product = value * other
    least = product + float(np.sqrt(max(0.0, product**2 - low * other_high)))
    most = product + float(np.sqrt(max(0.0, product**2 - high * other_low)))
    return Interval(low / least if least else 0.0, most / other_low if other_low > 0 else np.inf, "mover", groups)


def auc_interval(truth: np.ndarray, probability: np.ndarray, groups: np.ndarray, sure: Sureness) -> Interval:
    """Interval of the area under the ROC curve by the score method.

    `truth` (N,) 0 or 1, `probability` (N,), `groups` (N,) numbers 0..G-1. It holds every area a with
    (A - a)^2 <= t^2 r V(a): V is Hanley and McNeil's variance at a for as many patients as there are effective groups
    of each class (Newcombe, Statistics in Medicine 2006;25:559, method 5), so that limits stay inside 0..1 and exist
    at A = 1. r is the variance that was observed, DeLong's summed over groups within strata of groups that hold
    positive rows, negative rows or both (Obuchowski, Biometrics 1997;53:567), over V(A); it is at least `LEAST` of
    what independent rows would have. Degrees of freedom of t by Satterthwaite over the strata.
    """
    truth, total = np.asarray(truth).astype(bool), _count(groups)
    positive, negative = (np.bincount(groups[side], minlength=total).astype(np.float64) for side in (truth, ~truth))
    if total < FEWEST or min((positive > 0).sum(), (negative > 0).sum()) < 2:
        return Interval(groups=total)
    area, parts = _delong(truth, np.asarray(probability, dtype=np.float64))
    variance, freedom = _stratified_variance(np.bincount(groups, parts, total), (positive > 0) + 2 * (negative > 0))
    inside = float(np.clip(area, 1e-6, 1 - 1e-6))
    units = _kish(positive), _kish(negative)
    known = area if 0 < area < 1 and variance > 0 else None
    ratio = _hanley(inside, positive.sum(), negative.sum()) / _hanley(inside, *units)
    ratio = 1.0 if known is None else max(LEAST * ratio, variance / _hanley(known, *units))
    reach = _t(sure, freedom) if known is not None else _normal(sure)

    def outside(limit: float) -> float:
        return abs(area - limit) - reach * float(np.sqrt(ratio * _hanley(limit, *units)))

    return Interval(_root(outside, 0.0, area), _root(outside, 1.0, area), "newcombe", total)


def leave_groups_out(statistic: Statistic, groups: np.ndarray) -> np.ndarray:
    """Values of `statistic` with each group left out in turn, (min(G, LEFT_OUT),).

    `statistic` takes weights (D, N), one row a draw, and gives (D,) values.
    """
    bundle = groups % min(_count(groups), LEFT_OUT)
    return _values(statistic, (bundle != np.arange(start, stop)[:, None] for start, stop in _chunks(bundle.max() + 1, len(groups))))


def jackknife_interval(
    value: float,
    left_out: np.ndarray,
    groups: np.ndarray,
    sure: Sureness,
    *,
    scale: Literal["unit", "signed"] = "unit",
    behind: np.ndarray | None = None,
) -> Interval:
    """Interval of any smooth measure from `leave_groups_out`, by Student's t on the scale of log odds.

    `scale` says whether the measure lies in 0..1 (log odds) or -1..1 (inverse hyperbolic tangent, the same bent
    around 0). `behind` (N,) bool marks the rows that a measure rests on where these are not all, as positive rows for
    average precision: degrees of freedom are the groups that hold one, less one. A value at the end of its scale has no
    spread to see; its other limit is then Wilson's for the effective number of those groups. Efron and Stein, Annals of
    Statistics 1981;9:586.
    """
    total = _count(groups)
    rows = np.bincount(groups if behind is None else groups[behind], minlength=total).astype(np.float64)
    held = int((rows > 0).sum())
    if total < FEWEST or held < 2 or not np.isfinite(left_out).all():
        return Interval(groups=held)
    number = len(left_out)
    error = float(np.sqrt((number - 1) / number * ((left_out - left_out.mean()) ** 2).sum()))
    share = value if scale == "unit" else (1 + value) / 2
    if not 0 < share < 1 or error == 0:
        low, high = wilson(share, _kish(rows), _normal(sure))
    else:
        half = _t(sure, held - 1) * (error if scale == "unit" else error / 2) / (share * (1 - share))
        low, high = (float(expit(logit(share) + side * half)) for side in (-1, 1))
    if scale == "signed":
        low, high = 2 * low - 1, 2 * high - 1
    return Interval(low, high, "jackknife_t", held)


def mean_interval(values: np.ndarray, groups: np.ndarray, sure: Sureness, *, smallest: float = 0.0, largest: float = np.inf) -> Interval:
    """Interval of the mean of `values` (N,) between `smallest` and `largest`, by the studentised bootstrap over groups.

    Losses are skewed: a few rows carry most of the sum, and a draw without them has both a low mean and a small
    spread. Dividing each draw's error by that draw's own standard error puts this right to second order (Davison and
    Hinkley, Bootstrap Methods, 1997, sections 2.4 and 5.2). Draws without spread are left out and counted.
    """
    total = _count(groups)
    if total < FEWEST:
        return Interval(groups=total)
    sums, rows = np.bincount(groups, values, total), np.bincount(groups, minlength=total).astype(np.float64)
    pairs = np.stack([sums, rows, sums**2, sums * rows, rows**2], axis=1)

    def of(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sum_, row, sum_sum, sum_row, row_row = (weights @ pairs).T
        mean = sum_ / row
        spread = total / (total - 1) * (sum_sum - 2 * mean * sum_row + mean**2 * row_row) / row**2
        return mean, np.sqrt(np.maximum(spread, 0))

    mean, error = (float(value[0]) for value in of(np.ones((1, total))))
    drawn = [of(weights) for weights in group_draws(total, sure)]
    means, errors = (np.concatenate(column) for column in zip(*drawn, strict=True))
    usable = errors > 1e-9 * error
    undefined = int((~usable).sum())
    if error == 0 or undefined > sure.draws / 2:
        return Interval(groups=total, undefined_draws=undefined)
    low, high = np.quantile((means[usable] - mean) / errors[usable], _tails(sure))
    return Interval(max(smallest, mean - high * error), min(largest, mean - low * error), "bootstrap_t", total, undefined)


def calibration_interval(truth: np.ndarray, probability: np.ndarray, groups: np.ndarray, sure: Sureness) -> Interval:
    """Interval of the expected calibration error, from 40 groups with at least the level asked for.

    The error is a sum of sizes |d| of the bins' gaps d, so that chance alone makes it larger, and no bootstrap mends
    that at gaps near 0. What holds always is ||d'| - |d|| <= |d' - d|: the lower limit lies below the value by the
    97.5 % quantile (for 95 %) of how far the gaps themselves move between bootstrap draws, summed over bins. The upper
    limit may lean on the bias, which points there, and is Student's t on the bootstrap's standard deviation.
    """
    total = _count(groups)
    if total < FEWEST:
        return Interval(groups=total)
    gaps = bin_gaps(truth, probability)
    drawn = np.concatenate(
        [bin_gaps(truth, probability, weights=weights[:, groups]) for weights in group_draws(total, sure, rows=len(groups))]
    )
    value, moved = float(np.abs(gaps).sum()), np.abs(drawn - gaps).sum(1)
    low = max(0.0, value - float(np.quantile(moved, _tails(sure)[1])))
    high = min(1.0, value + _t(sure, total - 1) * float(np.abs(drawn).sum(1).std()))
    return Interval(low, high, "bootstrap", total)


def group_draws(total: int, sure: Sureness, *, rows: int = 0) -> Iterator[np.ndarray]:
    """How often each of `total` groups is taken in each draw of a bootstrap, (D, G) at a time, `sure.draws` in all.

    The draws depend on the seed and the number of groups alone. `rows` of the table they will be spread over limits D.
    """
    generator = np.random.default_rng(sure.seed)
    for start, stop in _chunks(sure.draws, max(total, rows)):
        drawn = generator.integers(total, size=(stop - start, total)) + total * np.arange(stop - start)[:, None]
        yield np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)


def _values(statistic: Statistic, weights: Iterator[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.asarray(statistic(some.astype(np.float64))) for some in weights])


def _chunks(number: int, width: int) -> Iterator[tuple[int, int]]:
    step = max(1, NUMBERS_AT_ONCE // max(1, width))
    return ((start, min(number, start + step)) for start in range(0, number, step))


def _count(groups: np.ndarray) -> int:
    return int(groups.max()) + 1 if len(groups) else 0


def _kish(rows: np.ndarray) -> float:
    return float(rows.sum() ** 2 / (rows**2).sum())


def _tails(sure: Sureness) -> tuple[float, float]:
    return (1 - sure.confidence) / 2, (1 + sure.confidence) / 2


def _t(sure: Sureness, freedom: float) -> float:
    return float(student.ppf(_tails(sure)[1], freedom))


def _normal(sure: Sureness) -> float:
    return float(norm.ppf(_tails(sure)[1]))


def _distances(values: Sequence[float], intervals: Sequence[Interval]) -> tuple[np.ndarray, np.ndarray]:
    lows = np.array([interval.low for interval in intervals], dtype=np.float64)
    highs = np.array([interval.high for interval in intervals], dtype=np.float64)
    return np.asarray(values) - lows, highs - np.asarray(values)


def _delong(truth: np.ndarray, probability: np.ndarray) -> tuple[float, np.ndarray]:
    """The area, and what each row adds to its error (N,); they sum to 0. DeLong et al., Biometrics 1988;44:837."""
    positive, negative = int(truth.sum()), int((~truth).sum())
    everywhere, placed = rankdata(probability), np.empty(len(truth))
    placed[truth] = (everywhere[truth] - rankdata(probability[truth])) / negative
    placed[~truth] = 1 - (everywhere[~truth] - rankdata(probability[~truth])) / positive
    area = float(placed[truth].mean())
    return area, (placed - area) / np.where(truth, positive, negative)


def _stratified_variance(parts: np.ndarray, strata: np.ndarray) -> tuple[float, float]:
    """Variance of a sum of the groups' parts drawn within strata, and its degrees of freedom. A stratum of one has no spread to see."""
    variances, freedoms = [], []
    for stratum in np.unique(strata):
        inside = parts[strata == stratum]
        if len(inside) > 1:
            variances.append(len(inside) * inside.var(ddof=1))
            freedoms.append(len(inside) - 1)
    total = float(np.sum(variances))
    squares = float((np.square(variances) / freedoms).sum()) if variances else 0.0
    return total, total**2 / squares if squares > 0 else float(len(parts) - 1)


def _hanley(area: float, positive: float, negative: float) -> float:
    """Variance of an area with the sample sizes evened out. Newcombe 2006, method 5."""
    even = (positive + negative) / 2 - 1
    return area * (1 - area) * (1 + even * (1 - area) / (2 - area) + even * area / (1 + area)) / (positive * negative)


def _root(outside: Callable[[float], float], end: float, value: float) -> float:
    """Where `outside` changes its sign between the end of the scale and the value."""
    near = value + np.sign(end - value) * 1e-9
    if value == end or outside(end) <= 0:
        return end
    return float(brentq(outside, end, near)) if outside(near) < 0 else value  # type: ignore[arg-type]
