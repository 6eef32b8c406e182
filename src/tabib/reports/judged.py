"""What the results chapter shows beyond its tables of measures: the decision curve, and predictive values elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tabib.records import Curve
from tabib.reports.facts import Facts
from tabib.reports.figures import Line, Plot, plot, ticks
from tabib.reports.text import Language
from tabib.reports.views import Figure, bracketed, places_of, whole_measure, written_interval, written_number

__all__ = ["Decided", "decision_curve", "predictive_rows"]


@dataclass(frozen=True)
class Decided:
    """The decision curve, and what it says."""

    figure: Figure
    sentences: Sequence[str]


def decision_curve(facts: Facts, reader: Language) -> Decided | None:
    """The net benefit of the model on test beside that of treating everybody and nobody; `None` where there is no curve."""
    test = facts.part("test")
    curve = next((curve for curve in test.curves if curve.name == "net_benefit"), None) if test else None
    if test is None or curve is None:
        return None
    share = test.class_counts[curve.of] / test.rows
    x, model = np.array(curve.x), np.array(curve.y)
    everybody = _of_everybody(share, x)
    heights = ticks(-0.1 * share, max(share, float(model.max())), 4)
    quarters = [0.0, 0.25, 0.5, 0.75, 1.0]
    title = reader.text("decision.title")
    picture = Plot(
        title=title,
        x_name=reader.text("decision.threshold"),
        y_name=reader.text("decision.net_benefit"),
        lines=[
            Line([0, 1], [0, 0], "chance"),
            Line(curve.x, _above(heights[0], everybody), "train"),
            Line(curve.x, _above(heights[0], model), "test"),
        ],
        x_range=(0, 1),
        y_range=(heights[0], heights[-1]),
        x_ticks=quarters,
        y_ticks=heights,
        write_x=reader.percent,
        write_y=reader.number,
    )
    key = [(style, reader.text(f"decision.{words}")) for style, words in (("test", "model"), ("train", "all"), ("chance", "nobody"))]
    return Decided(Figure(title, plot(reader, picture), key), list(_said(facts, reader, curve, share, everybody)))


def _of_everybody(share: float, thresholds: np.ndarray) -> np.ndarray:
    return share - (1 - share) * thresholds / (1 - thresholds)


def _above(lowest: float, values: np.ndarray) -> list[float]:
    """Values that fall below the picture are gaps."""
    return np.where(values >= lowest, values, math.nan).tolist()


def _said(facts: Facts, reader: Language, curve: Curve, share: float, everybody: np.ndarray) -> list[str]:
    better = np.array(curve.y) > np.maximum(everybody, 0) + 1e-12
    first, last = _longest(better)
    if first == last:
        return [reader.text("decision.never")]
    said = [reader.text("decision.better", {"low": curve.x[first], "high": curve.x[last - 1]})]
    found, spared = (whole_measure(facts, name) for name in ("sensitivity", "specificity"))
    at = facts.threshold
    if at is not None and 0 < at < 1 and found and spared and found.value is not None and spared.value is not None:
        worth = share * found.value - (1 - share) * (1 - spared.value) * at / (1 - at)
        figures = {"threshold": at, "weight": (1 - at) / at, "worth": 100 * worth, "all": 100 * float(_of_everybody(share, np.array(at)))}
        said.append(reader.text("decision.at_point", figures))
    return said


def _longest(marks: np.ndarray) -> tuple[int, int]:
    """Where the longest run of true marks begins and ends; the end is not in it."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marks.astype(np.int8), [0]])))
    runs = edges.reshape(-1, 2)
    return (0, 0) if not len(runs) else tuple(runs[np.argmax(runs[:, 1] - runs[:, 0])].tolist())


def predictive_rows(facts: Facts, reader: Language) -> list[tuple[str, str, str]]:
    """PPV and NPV: name, as measured on test, and at the prevalence of the study, each with its interval."""
    rows = []
    for there in facts.evaluation.at_prevalence if facts.evaluation else []:
        here = facts.measure(there.name)
        shown = [
            f"{written_number(reader, each.value, places_of(facts))} {bracketed(written_interval(facts, reader, each))}".strip()
            for each in (here, there)
            if each is not None
        ]
        rows.append((reader.name("measures", there.name), *shown))
    return rows
