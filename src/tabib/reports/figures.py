"""The figures of a page, as SVG with text as text, so that browsers shape Persian and readers can select it.

Every function returns one `<svg>` of about 320 units a side: on a page each unit is about a pixel, so letters keep their
size from phone to paper. Axes of numbers run from left to right in every language, as Persian textbooks draw them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup, escape

from tabib.images import heat_colours
from tabib.records import Measure
from tabib.reports.text import Language, plain

__all__ = ["Block", "Line", "Plot", "axis_strip", "bar", "case_strip", "heat_key", "hundred", "interval_strip", "network", "plot", "ticks"]

Write = Callable[[float], str]
Side = Literal["left", "middle", "right"]

STRIP_WIDTH, STRIP_HEIGHT = 260, 26
INSET = 10
"""Room at both ends of a strip, so that no mark is cut."""

DIGIT = 6.5
"""Room that a letter of a tick takes at most, in either script."""


@dataclass(frozen=True)
class Line:
    """One line of a plot. `style` is a class of the style sheet: `train`, `validation`, `test`, `chance`.

    `dots` draws the points, each as large as its count.
    """

    x: Sequence[float]
    y: Sequence[float]
    style: str
    dots: Sequence[int] = ()


@dataclass(frozen=True)
class Plot:
    """What a plot shows, in the reader's words."""

    title: str  # for those who cannot see it
    x_name: str
    y_name: str
    lines: Sequence[Line]
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    write_x: Write
    write_y: Write
    marks: Sequence[tuple[float, float, str]] = ()  # x, y, style: an operating point, the kept epoch
    square: bool = False


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) from just below `low` to just above `high`."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        low, span = low - 0.5, 1.0
        high = low + span
    rough = span / wanted
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * k, 12) for k in range(first, last + 1)]


def plot(language: Language, picture: Plot) -> Markup:
    """A plot of lines over two axes."""
    width, height = 320, 312 if picture.square else 240
    beside = max((_room(picture.write_y(value)) for value in picture.y_ticks), default=0.0)
    left = max(56.0, beside + 27) if picture.y_name else max(44.0, beside + 8)
    right = max([10.0, *(_room(picture.write_x(value)) / 2 for value in picture.x_ticks[-1:])])
    top, bottom = 10, 42

    def across(value: float) -> float:
        low, high = picture.x_range
        return left + (width - left - right) * (value - low) / ((high - low) or 1)

    def down(value: float) -> float:
        low, high = picture.y_range
        return height - bottom - (height - top - bottom) * (value - low) / ((high - low) or 1)

    parts: list[Markup] = []
    for value in picture.y_ticks:
        y = down(value)
        parts += [_line(left, y, width - right, y, "grid"), _text(language, left - 7, y + 4, picture.write_y(value), "right", "tick")]
    for value in picture.x_ticks:
        x = across(value)
        parts += [
            _line(x, height - bottom, x, height - bottom + 4, "axis"),
            _text(language, x, height - bottom + 18, picture.write_x(value), "middle", "tick"),
        ]
    parts.append(_line(left, height - bottom, width - right, height - bottom, "axis"))
    for line in picture.lines:
        parts += _polyline([(across(x), down(y)) for x, y in zip(line.x, line.y, strict=True)], line)
    for x, y, style in picture.marks:
        parts.append(_mark(across(x), down(y), style))
    parts.append(_text(language, (left + width - right) / 2, height - 6, picture.x_name, "middle", "name"))
    middle = (top + height - bottom) / 2
    if picture.y_name:
        parts.append(_text(language, 12, middle, picture.y_name, "middle", "name", turn=True))
    return _svg(width, height, picture.title, "plot", parts)


def _room(text: str) -> float:
    return DIGIT * len(plain(text))


def interval_strip(measure: Measure, axis: Sequence[float], title: str) -> Markup:
    """One measure on an axis: a dot for the value, a bar for its interval, a tick for each baseline, a diamond for the goal."""
    low, high = axis[0], axis[-1]

    def across(value: float) -> float:
        return round(INSET + (STRIP_WIDTH - 2 * INSET) * (min(max(value, low), high) - low) / (high - low), 1)

    middle = STRIP_HEIGHT / 2
    parts = [_line(across(value), 0, across(value), STRIP_HEIGHT, "grid") for value in axis]
    parts.append(_line(INSET, middle, STRIP_WIDTH - INSET, middle, "axis"))
    parts += [_line(across(value), middle - 8, across(value), middle + 8, "baseline") for value in measure.baselines.values()]
    if measure.low is not None and measure.high is not None:
        start, end = across(measure.low), across(measure.high)
        parts.append(
            Markup('<rect class="interval" x="{}" y="{}" width="{}" height="7" rx="3.5"/>').format(start, middle - 3.5, max(2, end - start))
        )
    if measure.goal is not None:
        parts.append(_mark(across(measure.goal), middle, "goal"))
    if measure.value is not None:
        parts.append(_mark(across(measure.value), middle, "value"))
    return _svg(STRIP_WIDTH, STRIP_HEIGHT, title, "strip", parts)


def case_strip(values: Sequence[float], axis: Sequence[float], title: str) -> Markup:
    """Every case of one structure on an axis: a dot each, a box from the first to the third quartile, and a line at the median."""
    low, high, height = axis[0], axis[-1], 40
    middle = height / 2

    def across(value: float) -> float:
        return round(INSET + (STRIP_WIDTH - 2 * INSET) * (min(max(value, low), high) - low) / (high - low), 1)

    parts = [_line(across(value), 0, across(value), height, "grid") for value in axis]
    parts.append(_line(INSET, middle, STRIP_WIDTH - INSET, middle, "axis"))
    first, median, third = (across(float(value)) for value in np.quantile(values, (0.25, 0.5, 0.75)))
    parts.append(
        Markup('<rect class="box" x="{}" y="{}" width="{}" height="24" rx="2"/>').format(first, middle - 12, max(1, third - first))
    )
    stacked: dict[int, int] = {}
    for value in sorted(values):
        x = across(value)
        number = stacked[int(x) // 4] = stacked.get(int(x) // 4, -1) + 1
        y = middle + (number + 1) // 2 * 4.5 * (-1) ** number
        parts.append(Markup('<circle class="case" cx="{}" cy="{:.1f}" r="2.6"/>').format(x, min(max(y, 3), height - 3)))
    parts.append(_line(median, middle - 13, median, middle + 13, "median"))
    return _svg(STRIP_WIDTH, height, title, "strip", parts)


@dataclass(frozen=True)
class Block:
    """A level of a network: what it is called, and the size of what it sees."""

    maps: str
    size: str
    stride: str  # by how much the level above was made coarser; "" for the first


def network(language: Language, blocks: Sequence[Block], *, image: str, answer: str, skip: str, title: str, gated: bool) -> Markup:
    """A network in the shape of a U, drawn from its levels: boxes narrow as the image gets coarser, lines across are what is handed over."""
    width, tall, gap, top = 340, 34, 26, 30
    height = top + len(blocks) * (tall + gap) - gap + 4
    parts = [_text(language, 62, 16, image, "middle", "name"), _text(language, width - 62, 16, answer, "middle", "name")]
    last = len(blocks) - 1
    for place, block in enumerate(blocks):
        y = top + place * (tall + gap)
        sides = (width / 2,) if place == last else (62, width - 62)
        for centre in sides:
            parts.append(
                Markup('<rect class="level-box" x="{:.1f}" y="{:.1f}" width="112" height="{}" rx="3"/>').format(centre - 56, y, tall)
            )
            parts.append(_text(language, centre, y + 14, block.maps, "middle", "tick"))
            parts.append(_text(language, centre, y + 28, block.size, "middle", "tick"))
        parts.append(_arrow(62, 20, 62, y) if place == 0 else Markup(""))
        parts.append(_arrow(width - 62, y, width - 62, 20) if place == 0 else Markup(""))
        if place < last:
            parts.append(_arrow(118, y + tall / 2, width - 118, y + tall / 2, style="skip gated" if gated else "skip"))
            if place == 0:
                parts.append(_text(language, width / 2, y + tall / 2 - 5, skip, "middle", "tick"))
            below, step = y + tall + gap, blocks[place + 1].stride
            into = (width / 2 - 40, width / 2 + 40) if place + 1 == last else (62, width - 62)
            parts += [_arrow(62, y + tall, into[0], below), _arrow(into[1], below, width - 62, y + tall)]
            parts.append(
                _text(language, 62, below + 10, step, "middle", "tick")
                if place + 1 == last
                else _text(language, 70, below - 9, step, "left", "tick")
            )
    return _svg(width, height, title, "network", parts)


def _arrow(x1: float, y1: float, x2: float, y2: float, *, style: str = "way") -> Markup:
    length = math.hypot(x2 - x1, y2 - y1) or 1
    dx, dy = 5 * (x2 - x1) / length, 5 * (y2 - y1) / length
    head = f"M{x2:.1f} {y2:.1f}L{x2 - dx - dy * 0.6:.1f} {y2 - dy + dx * 0.6:.1f}L{x2 - dx + dy * 0.6:.1f} {y2 - dy - dx * 0.6:.1f}Z"
    return _line(x1, y1, x2 - dx / 2, y2 - dy / 2, style) + Markup('<path class="head {}" d="{}"/>').format(style, head)


def axis_strip(language: Language, axis: Sequence[float], write: Write) -> Markup:
    """The numbers above a column of `interval_strip`."""
    step = (STRIP_WIDTH - 2 * INSET) / (len(axis) - 1)
    parts = [
        _text(language, INSET + step * k, 12, write(value), "left" if k == 0 else "right" if k == len(axis) - 1 else "middle", "tick")
        for k, value in enumerate(axis)
    ]
    return _svg(STRIP_WIDTH, 16, "", "strip", parts)


def bar(language: Language, share: float, style: str) -> Markup:
    """A bar that fills so much (0 to 1) of its cell, from the side where reading starts."""
    width = round(100 * min(max(share, 0), 1), 2)
    x = 100 - width if language.direction == "rtl" else 0
    rectangle = Markup('<rect class="{}" x="{}" y="0" width="{}" height="10"/>').format(style, x, width)
    return Markup('<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{}</svg>').format(rectangle)


def heat_key(language: Language) -> Markup:
    """The colours of a heat map, from little to much in the direction of reading."""
    steps = 24
    colours = heat_colours(np.linspace(0, 1, steps)).tolist()
    if language.direction == "rtl":
        colours.reverse()
    parts = [
        Markup('<rect x="{}" y="0" width="6.5" height="10" fill="#{:02x}{:02x}{:02x}"/>').format(6 * place, *colour)
        for place, colour in enumerate(colours)
    ]
    return _svg(6 * steps, 10, "", "heat", parts)


def _svg(width: float, height: float, title: str, style: str, parts: Sequence[Markup]) -> Markup:
    label = Markup('role="img" aria-label="{}"').format(title) if title else Markup('aria-hidden="true"')
    # `direction` is set so that text-anchor means the same in both languages; each text sets its own.
    head = Markup('<svg class="{}" viewBox="0 0 {} {}" direction="ltr" {}>').format(style, width, height, label)
    return head + Markup("").join(parts) + Markup("</svg>")


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(style, x1, y1, x2, y2)


def _polyline(points: Sequence[tuple[float, float]], line: Line) -> list[Markup]:
    drawn: list[Markup] = []
    for piece in _pieces(points):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in piece)
        drawn.append(Markup('<polyline class="line {}" points="{}"/>').format(line.style, path))
    for (x, y), count in zip(points, line.dots, strict=False):
        radius = 2.5 + 4.5 * math.sqrt(count / max(line.dots))
        drawn.append(Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>').format(line.style, x, y, radius))
    return drawn


def _pieces(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Runs of points that exist: an undefined value leaves a gap."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if math.isfinite(point[0] + point[1]):
            pieces[-1].append(point)
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _mark(x: float, y: float, style: str) -> Markup:
    if style == "goal":
        return Markup('<path class="goal" d="M{:.1f} {:.1f}l6 6-6 6-6-6z"/>').format(x, y - 6)
    return Markup('<circle class="mark {}" cx="{:.1f}" cy="{:.1f}" r="5"/>').format(style, x, y)


def _text(language: Language, x: float, y: float, text: str, side: Side, style: str, *, turn: bool = False) -> Markup:
    anchors = {"left": "start", "middle": "middle", "right": "end"}
    if language.direction == "rtl":
        anchors |= {"left": "end", "right": "start"}
    turned = Markup(' transform="rotate(-90 {:.1f} {:.1f})"').format(x, y) if turn else ""
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}" direction="{}"{}>{}</text>').format(
        style, x, y, anchors[side], language.direction, turned, escape(text)
    )


def hundred(count: int) -> Markup:
    """A hundred dots, so many of them filled: a share as a person counts it."""
    dots = [
        Markup('<circle class="{}" cx="{}" cy="{}" r="4"/>').format("full" if k < count else "empty", 6 + 11 * (k % 10), 6 + 11 * (k // 10))
        for k in range(100)
    ]
    return _svg(111, 111, "", "hundred", dots)
