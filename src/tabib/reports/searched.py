"""What the page of a search shows: the best and how sure it is, the way to it, every trial, and which fields mattered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from markupsafe import Markup

from tabib.records import Searched, SearchedField, SearchTrial
from tabib.reports.ablated import shown, signed
from tabib.reports.compared import NOT_RUN, Cell
from tabib.reports.figures import Line, Plot, plot, ticks
from tabib.reports.text import END, LEFT_TO_RIGHT, Language, Value, isolated
from tabib.reports.views import written_number

__all__ = [
    "alike",
    "best",
    "by_chance",
    "difference",
    "lead",
    "measure",
    "pictures",
    "ranked",
    "score",
    "state",
    "told",
    "tried",
    "used",
    "values_of_best",
    "why",
]

_PLACES = 3


def best(searched: Searched) -> SearchTrial | None:
    """The winner."""
    return next((trial for trial in searched.trials if trial.number == searched.best), None)


def measure(searched: Searched, reader: Language) -> str:
    """What was maximised."""
    return reader.text(f"measures.{searched.measure}")


def lead(searched: Searched, reader: Language) -> str:
    """How was searched, and how much."""
    states = [trial.state for trial in searched.trials]
    figures: dict[str, Value] = {
        "trials": len(states),
        "pruned": states.count("pruned"),
        "failed": states.count("failed"),
        "seconds": searched.seconds,
        "fields": len(searched.fields),
    }
    return reader.text(f"search.by_{searched.method}", figures) + " " + reader.text("search.counts", figures)


def used(searched: Searched, reader: Language) -> str:
    """What ended the search, and how it goes on."""
    if searched.whole:
        return reader.text("search.whole")
    if searched.interrupted or searched.minutes is None or searched.reckoned is None or searched.enough is None:
        return reader.text("search.stopped")
    figures = {"given": 60 * searched.minutes, "reckoned": searched.reckoned, "enough": searched.enough}
    return reader.text("search.out_of_time", figures)


def ranked(searched: Searched) -> list[SearchTrial]:
    """The finished trials, the best first; then the others in their order."""
    done = [trial for trial in searched.trials if trial.state == "done"]
    return [*sorted(done, key=lambda trial: (-_score(trial), trial.number)), *(trial for trial in searched.trials if trial.state != "done")]


def alike(searched: Searched) -> list[SearchTrial]:
    """Trials that cannot be told apart from the best, by a test on the same validation patients."""
    return [
        trial
        for trial in ranked(searched)
        if trial.difference is not None and trial.difference.p is not None and not shown(trial.difference, searched.confidence)
    ]


def told(searched: Searched, reader: Language) -> list[str]:
    """What can be said of the best, sentence by sentence."""
    trial = best(searched)
    if trial is None or trial.measure is None:
        return [reader.text("search.none")]
    cell = score(trial, reader)
    figures: dict[str, Value] = {
        "number": trial.number + 1,
        "measure": measure(searched, reader),
        "value": cell.value,
        "interval": cell.interval,
        "rows": searched.rows,
        "groups": searched.groups,
        "confidence": searched.confidence,
    }
    said = [reader.text("search.best" if cell.interval else "search.best_unsure", figures)]
    found = trial.measure
    if searched.guessed is not None and found.low is not None and found.low <= searched.guessed:
        said.append(reader.text("search.guessed", {"guessed": searched.guessed}))
    compared = [other for other in searched.trials if other.difference is not None and other.difference.p is not None]
    if compared:
        same = len(alike(searched))
        said.append(reader.text("search.alike" if same else "search.apart", {"same": same, "compared": len(compared)}))
    done = sum(other.state == "done" for other in searched.trials)
    if searched.gone and done > 1:
        key = "search.gone_best" if searched.best in searched.gone else "search.gone_others"
        said.append(reader.text(key, {"gone": len(searched.gone)}))
    if done > 1:
        said.append(reader.text("search.optimistic", {"trials": done}))
    if searched.chosen_again is not None:
        said.append(reader.text("search.chosen_again", {"value": written_number(reader, searched.chosen_again, _PLACES)}))
        if searched.gone:
            said.append(reader.text("search.chosen_among", {"trials": done - len(searched.gone)}))
    return said


def values_of_best(searched: Searched) -> str:
    """The fields of the best, as a study has them."""
    trial = best(searched)
    return ", ".join(f"{name}: {value}" for name, value in trial.values.items()) if trial else ""


def tried(field: SearchedField, reader: Language) -> str:
    """The values that a field might have."""
    if field.values:
        return reader.series([isolated(value) for value in field.values])
    ends = reader.interval(isolated(f"{field.low:g}"), isolated(f"{field.high:g}"))
    return ends + (reader.text("search.log") if field.log else "")


def by_chance(searched: Searched) -> float:
    """Share of the variance that a field without effect, in three groups, has in one of twenty searches with as many trials; of 8 or more.

    Where 2 and n - 3 are the degrees of freedom, F has a closed form.
    """
    trials = sum(trial.state == "done" and trial.measure is not None for trial in searched.trials)
    return 1 - 0.05 ** (2 / (trials - 3)) * (trials - 1) / (trials - 3)


def score(trial: SearchTrial, reader: Language) -> Cell:
    """What a trial reached, with its interval."""
    found = trial.measure
    if found is None:
        return Cell("", "")
    ends = [written_number(reader, end, _PLACES) for end in (found.low, found.high)]
    return Cell(written_number(reader, found.value, _PLACES), reader.interval(*ends) if found.low is not None else "")


def difference(trial: SearchTrial, reader: Language) -> Cell:
    """By how much the best is better, with its interval."""
    found = trial.difference
    if found is None:
        return Cell("", "")
    interval = ""
    if found.low is not None and found.high is not None:
        interval = reader.interval(signed(reader, found.low), signed(reader, found.high))
    return Cell(LEFT_TO_RIGHT + signed(reader, found.value) + END, interval)


def state(searched: Searched, trial: SearchTrial, reader: Language) -> tuple[str, str]:
    """What became of a trial in a word or two, and the style it is shown in."""
    if trial.state != "done":
        return reader.text(f"search.{trial.state}"), "open" if trial.state == "pruned" else "fail"
    if trial.number == searched.best:
        return reader.text("search.winner"), "pass"
    if trial.number in searched.gone:
        return reader.text("search.gone"), "open"
    found = trial.difference
    if found is None or found.p is None:
        return "", ""
    return (reader.text("search.worse"), "fail") if shown(found, searched.confidence) else (reader.text("search.not_apart"), "open")


def why(trial: SearchTrial, reader: Language) -> str:
    """Why a trial has no score."""
    if trial.stopped is not None:
        figures = {"epoch": trial.stopped.epoch, "value": trial.stopped.value, "floor": trial.stopped.floor}
        return reader.text("search.why_pruned", figures)
    return reader.text(NOT_RUN[trial.not_run]) if trial.not_run else ""


def pictures(searched: Searched, reader: Language) -> list[tuple[str, Markup]]:
    """The best so far over trials, and over the time of searching: a dot for each finished trial, a line for the best of them."""
    done = [trial for trial in searched.trials if trial.measure is not None and trial.measure.value is not None]
    if len(done) < 2:
        return []
    by_number = (reader.text("search.over_trials"), [float(trial.number + 1) for trial in done], reader.integer)
    ordered = sorted(done, key=lambda trial: trial.ended)
    by_time = (reader.text("search.over_time"), [trial.ended / 60 for trial in ordered], reader.number)
    return [
        (name, _picture(searched, name, x, [_score(trial) for trial in trials], write, reader))
        for (name, x, write), trials in ((by_number, done), (by_time, ordered))
    ]


def _picture(searched: Searched, name: str, x: Sequence[float], y: Sequence[float], write_x, reader: Language) -> Markup:
    x_ticks, y_ticks = ticks(0, max(x), 4), ticks(min(y), max(y), 4)
    reached = list(accumulate(y, max))
    # A step: the best so far holds until a better one ends.
    steps_x = [x[0], *(each for each in x[1:] for _ in (0, 1)), x_ticks[-1]]
    steps_y = [*(each for each in reached[:-1] for _ in (0, 1)), reached[-1], reached[-1]]
    return plot(
        reader,
        Plot(
            title=reader.text("search.curve_alt", {"measure": measure(searched, reader), "over": name}),
            x_name=name,
            y_name="",  # the heading above says it
            lines=[Line(steps_x, steps_y, "row0"), *(Line([at], [value], "row1", dots=[1]) for at, value in zip(x, y, strict=True))],
            x_range=(x_ticks[0], x_ticks[-1]),
            y_range=(y_ticks[0], y_ticks[-1]),
            x_ticks=x_ticks,
            y_ticks=y_ticks,
            write_x=write_x,
            write_y=reader.number,
        ),
    )


def _score(trial: SearchTrial) -> float:
    return -math.inf if trial.measure is None or trial.measure.value is None else trial.measure.value
