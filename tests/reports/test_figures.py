from __future__ import annotations

import itertools
import math
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from tabib.records import Measure
from tabib.reports.figures import INSET, STRIP_WIDTH, Line, Plot, bar, hundred, interval_strip, plot, ticks
from tabib.reports.text import language, plain


def parts(drawing: Markup, tag: str, style: str) -> list[ElementTree.Element]:
    """The elements of a drawing, which must be well-formed."""
    return [each for each in ElementTree.fromstring(drawing).iter(tag) if style in each.get("class", "").split()]


def make_plot(lines: list[Line], title: str = "a plot") -> Plot:
    return Plot(
        title=title,
        x_name="x",
        y_name="y",
        lines=lines,
        x_range=(0, 1),
        y_range=(0, 1),
        x_ticks=[0, 1],
        y_ticks=[0, 1],
        write_x=str,
        write_y=str,
        square=True,
    )


@settings(deadline=None, max_examples=100)
@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-3, 1e6), wanted=st.integers(2, 8))
def test_ticks_hold_the_range_and_are_evenly_apart(low: float, span: float, wanted: int) -> None:
    made = ticks(low, low + span, wanted)
    steps = [after - before for before, after in itertools.pairwise(made)]
    slack = 1e-6 * max(steps)
    assert made[0] <= low + slack
    assert made[-1] >= low + span - slack
    assert max(steps) - min(steps) < slack + 1e-9
    assert len(made) <= wanted + 2


def test_ticks_are_round() -> None:
    assert ticks(0, 1, 4) == [0, 0.5, 1]
    assert ticks(0, 0.93, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]


def test_a_range_of_nothing_has_ticks() -> None:
    assert len(ticks(0.5, 0.5)) > 1


def test_a_strip_puts_value_interval_baseline_and_goal_where_they_are() -> None:
    measure = Measure(name="auc", value=0.75, low=0.5, high=1.0, goal=0.5, baselines={"majority_class": 0.0})
    drawing = interval_strip(measure, [0.0, 0.5, 1.0], "AUC: 0.75")
    middle = STRIP_WIDTH / 2
    assert float(parts(drawing, "circle", "value")[0].get("cx", "")) == pytest.approx(middle + (middle - INSET) / 2, abs=0.1)
    interval = parts(drawing, "rect", "interval")[0]
    assert float(interval.get("x", "")) == pytest.approx(middle, abs=0.1)
    assert float(interval.get("width", "")) == pytest.approx(middle - INSET, abs=0.1)
    assert float(parts(drawing, "line", "baseline")[0].get("x1", "")) == pytest.approx(INSET)
    assert parts(drawing, "path", "goal")[0].get("d", "").startswith(f"M{middle:.1f}")


def test_a_measure_without_value_draws_no_dot() -> None:
    drawing = interval_strip(Measure(name="auc", value=None), [0.0, 1.0], "AUC")
    assert parts(drawing, "circle", "value") == []
    assert parts(drawing, "rect", "interval") == []


def test_a_value_outside_the_axis_stays_inside_the_drawing() -> None:
    drawing = interval_strip(Measure(name="mcc", value=-0.4), [0.0, 1.0], "MCC")
    assert float(parts(drawing, "circle", "value")[0].get("cx", "")) == INSET


def test_a_bar_grows_from_where_reading_starts() -> None:
    left = ElementTree.fromstring(bar(language("en"), 0.25, "train"))[0]
    right = ElementTree.fromstring(bar(language("fa"), 0.25, "train"))[0]
    assert (float(left.get("x", "")), float(left.get("width", ""))) == (0, 25)
    assert (float(right.get("x", "")), float(right.get("width", ""))) == (75, 25)


def test_a_hundred_dots_of_which_so_many_are_full() -> None:
    drawing = hundred(93)
    assert (len(parts(drawing, "circle", "full")), len(parts(drawing, "circle", "empty"))) == (93, 7)


def test_an_undefined_point_leaves_a_gap() -> None:
    drawing = plot(language("en"), make_plot([Line([0, 0.2, 0.4, 0.6, 0.8], [0, 1, math.nan, 1, 0], "train")]))
    drawn = [each.get("points", "").split() for each in parts(drawing, "polyline", "train")]
    assert [len(points) for points in drawn] == [2, 2]
    assert "nan" not in drawing


@pytest.mark.parametrize("code", ["en", "fa"])
@pytest.mark.parametrize("y_name", ["", "loss"])
def test_no_long_number_beside_an_axis_is_cut_off(code: str, y_name: str) -> None:
    written = language(code).number
    long = replace(make_plot([]), y_name=y_name, x_range=(0, 2360), x_ticks=[0, 2360], y_range=(0, 1.5e-8), y_ticks=[0, 5e-9, 1.5e-8])
    drawing = plot(language(code), replace(long, write_x=written, write_y=written))
    beside, below = [], []
    for each in parts(drawing, "text", "tick"):
        room = 6 * len(plain(each.text or ""))
        (below if each.get("text-anchor") == "middle" else beside).append((float(each.get("x", "")), room))
    assert all(x - room >= (18 if y_name else 0) for x, room in beside)
    assert all(x + room / 2 <= 320 for x, room in below)
    assert len(beside) == 3
    assert len(below) == 2


def test_dots_grow_with_their_counts() -> None:
    drawing = plot(language("en"), make_plot([Line([0, 1], [0, 1], "test", dots=[1, 100])]))
    small, large = (float(each.get("r", "")) for each in parts(drawing, "circle", "dot"))
    assert large > 2 * small


def test_text_in_a_figure_is_escaped_and_keeps_its_side() -> None:
    drawing = plot(language("fa"), make_plot([], title='<script>"&'))
    assert "<script>" not in drawing
    assert 'direction="rtl"' in drawing
    right = [each for each in ElementTree.fromstring(drawing).iter("text") if each.get("text-anchor") == "start"]
    assert len(right) == 2, "the ticks beside the axis end at it, which in right-to-left text is their start"
