"""What the results chapter shows beyond its tables of measures: the decision curve, predictive values elsewhere, subgroups."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from tabib.records import Beside, Curve, External, Measure, Subgroup
from tabib.reports.facts import Facts
from tabib.reports.figures import Line, Plot, interval_strip, plot, ticks
from tabib.reports.text import Language, isolated
from tabib.reports.views import Figure, axis_of, bracketed, of_what, places_of, whole_measure, written_interval, written_number

__all__ = [
    "Decided",
    "Forest",
    "SubgroupRow",
    "beside_rows",
    "decision_curve",
    "drop_rows",
    "expected_rows",
    "forests",
    "predictive_rows",
    "subgroup_forests",
    "subgroup_note",
]


@dataclass(frozen=True)
class Decided:
    """The decision curve, and what it says."""

    figure: Figure
    sentences: Sequence[str]


@dataclass(frozen=True)
class SubgroupRow:
    """One measure of one subgroup, written out."""

    name: str
    count: str
    value: str
    interval: str
    approximate: bool
    strip: Markup
    difference: str
    sure: bool  # whether the interval of the difference holds no zero


@dataclass(frozen=True)
class Forest:
    """The subgroups of one column, measure by measure, on one axis."""

    column: str
    axis: Sequence[float]
    blocks: Sequence[tuple[str, Sequence[SubgroupRow]]]

    @property
    def compared(self) -> bool:
        """Whether any row says how it differs from all others."""
        return any(row.difference for _, rows in self.blocks for row in rows)


def decision_curve(facts: Facts, reader: Language) -> Decided | None:
    """The net benefit of the model on test beside that of treating everybody and nobody; `None` where there is no curve."""
    test = facts.answered("test")
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
        write_x=reader.number,
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
    there = facts.classified.at_prevalence if facts.classified else []
    return _side_by_side(facts, reader, [(each, facts.measure(each.name), each) for each in there])


def subgroup_forests(facts: Facts, reader: Language) -> list[Forest]:
    """Each column's subgroups; a tick in each drawing marks the whole test set."""
    return forests(facts, reader, facts.evaluation.subgroups if facts.evaluation else [])


def forests(facts: Facts, reader: Language, subgroups: Sequence[Subgroup]) -> list[Forest]:
    """Some subgroups, column by column."""
    found = []
    for column in dict.fromkeys(subgroup.column for subgroup in subgroups):
        mine = [subgroup for subgroup in subgroups if subgroup.column == column]
        asked = [(each.name, each.of) for each in mine[0].measures]
        marked = [[_beside_whole(facts, subgroup.measures[place]) for subgroup in mine] for place in range(len(asked))]
        axis = axis_of([each for row in marked for each in row])
        blocks = [
            (
                reader.name("measures", name) + (f" · {isolated(of)}" if of is not None and of in facts.classes and facts.masked else ""),
                list(_subgroup_rows(facts, reader, mine, row, axis)),
            )
            for (name, of), row in zip(asked, marked, strict=True)
        ]
        found.append(Forest(reader.name("columns", column), axis, blocks))
    return found


def _beside_whole(facts: Facts, measure: Measure) -> Measure:
    whole = facts.measure(measure.name, measure.of)
    return measure.model_copy(update={"baselines": {"whole": whole.value} if whole and whole.value is not None else {}})


def _subgroup_rows(
    facts: Facts, reader: Language, subgroups: Sequence[Subgroup], measures: Sequence[Measure], axis: Sequence[float]
) -> Iterator[SubgroupRow]:
    for subgroup, measure in zip(subgroups, measures, strict=True):
        name, value = _subgroup_name(reader, subgroup), written_number(reader, measure.value, places_of(facts))
        interval = written_interval(facts, reader, measure)
        gap = next((each for each in subgroup.differences if (each.name, each.of) == (measure.name, measure.of)), None)
        written = f"{written_number(reader, gap.value, places_of(facts))} {bracketed(written_interval(facts, reader, gap))}" if gap else ""
        yield SubgroupRow(
            name=name,
            count=f"{reader.integer(measure.rows)} ({reader.integer(measure.groups)})",
            value=value,
            interval=interval,
            approximate=measure.approximate,
            strip=interval_strip(measure, axis, f"{name}: {value} {bracketed(interval)}"),
            difference=written.strip(),
            sure=gap is not None and gap.low is not None and gap.high is not None and not gap.low <= 0 <= gap.high,
        )


def _subgroup_name(reader: Language, subgroup: Subgroup) -> str:
    if subgroup.joined:
        return reader.text("subgroups.joined", {"n": subgroup.joined})
    ends = [
        reader.number(end, 4) if isinstance(end, float) else reader.name("thirds", end)
        for end in (subgroup.low, subgroup.high)
        if end is not None
    ]
    if not ends:
        return reader.text("subgroups.unknown")
    return ends[0] if ends[0] == ends[1] else reader.interval(*ends)


def subgroup_note(facts: Facts, reader: Language) -> str:
    """How many differences are shown, and how many of them would look real by chance."""
    assert facts.evaluation
    compared = sum(each.low is not None for subgroup in facts.evaluation.subgroups for each in subgroup.differences)
    figures = {"compared": compared, "chance": (1 - facts.evaluation.confidence) * compared, "confidence": facts.evaluation.confidence}
    return reader.text("subgroups.caution", figures) if compared else ""


def drop_rows(facts: Facts, reader: Language, drop: Sequence[Measure]) -> list[tuple[str, str, str, str]]:
    """Of each measure: name, on the run's own test, on the external images, and the difference with its interval."""
    rows = []
    for gap in drop:
        there = facts.measure(gap.name, gap.of)
        if there is None or there.value is None or gap.value is None:
            continue
        shown = [written_number(reader, number, places_of(facts)) for number in (there.value - gap.value, there.value, gap.value)]
        name = reader.name("measures", gap.name) + (f" · {of_what(facts, reader, gap.of)}" if gap.of else "")
        rows.append((name, shown[0], shown[1], f"{shown[2]} {bracketed(written_interval(facts, reader, gap))}".strip()))
    return rows


def beside_rows(reader: Language, external: External) -> list[tuple[str, str, str]]:
    """What is typical of the run's own images and of the external ones: its name, and both."""

    def written(each: Beside, values: Sequence[float]) -> str:
        write = reader.percent if each.name in ("shown", "share") else reader.number
        if len(values) != 3:
            return write(values[0]) if values else reader.text("external.not_known")
        low, median, high = map(write, values)
        return f"{median} {bracketed(reader.interval(low, high))}" if low != high else median

    return [
        (reader.text(f"beside.{each.name}", {"structure": each.of}), written(each, each.own), written(each, each.external))
        for each in external.beside
    ]


def expected_rows(facts: Facts, reader: Language, external: External) -> list[tuple[str, str, str]]:
    """PPV and NPV: name, what the own test's sensitivity and specificity give at the external prevalence, and what was measured."""
    return _side_by_side(facts, reader, [(each, each, facts.measure(each.name)) for each in external.expected])


def _side_by_side(
    facts: Facts, reader: Language, pairs: Sequence[tuple[Measure, Measure | None, Measure | None]]
) -> list[tuple[str, str, str]]:
    """Of each: the name, and two measures with their intervals."""

    def written(measure: Measure | None) -> str:
        if measure is None:
            return ""
        return f"{written_number(reader, measure.value, places_of(facts))} {bracketed(written_interval(facts, reader, measure))}".strip()

    return [(reader.name("measures", named.name), written(one), written(other)) for named, one, other in pairs]
