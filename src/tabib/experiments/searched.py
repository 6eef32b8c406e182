"""What a search found: the best, how sure that is, which fields mattered, and its study file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from tabib.evaluation.answers import Answers, value
from tabib.evaluation.mask_measures import numbered
from tabib.evaluation.pairs import asked_of_cases
from tabib.evaluation.parts import seed_of
from tabib.experiments.same_rows import Said, differences, validation_of
from tabib.experiments.search import Choices, Range, Search
from tabib.experiments.trials import Ledger, study_of
from tabib.metrics.classification import CHANCE
from tabib.metrics.intervals import FEWEST
from tabib.records import Measure, PairedMeasure, Searched, SearchedField, SearchTrial
from tabib.reports import write_search_pages
from tabib.runs import read_run, save, write_json
from tabib.study_file import written_fields

__all__ = ["judge_search", "write_search"]

FEWEST_TRIALS = 8
"""Finished trials below which nothing is said of which fields mattered."""

DRAWS = 500
"""Draws of patients with which the best is chosen again."""


def judge_search(search: Search, ledger: Ledger) -> Searched:
    """Say what the finished trials of a search show, on the validation images that all of them answered.

    A trial whose run folder was deleted keeps its score and stays among those from which the best is chosen. Its answers have gone with the
    folder, so it is not compared (`gone`).
    """
    done = [trial for trial in ledger.trials if trial.state == "done" and trial.measure is not None]
    best = max(done, key=lambda trial: (_score(trial), -trial.number), default=None)
    said = {trial.number: found for trial in done if (found := _said(trial)) is not None}
    found = said.get(best.number) if best else None
    names = next((len(each.names) for each in said.values()), None)
    alike = {number: other for number, other in said.items() if found is not None and found.like(other)}
    told = _differences(best.number, alike, best.measure, of=len(done)) if best and best.measure and best.number in alike else {}
    before = written_fields(search.study)
    return Searched(
        title=dict(search.title),
        study=search.study.name,
        method=search.method,
        measure=search.measure,
        seed=search.seed,
        prune=search.prune,
        wanted=search.trials,
        minutes=search.minutes,
        seconds=ledger.seconds,
        whole=ledger.whole,
        interrupted=ledger.interrupted,
        reckoned=ledger.reckoned,
        enough=ledger.enough,
        fields=[_field(name, values, before.get(name, ""), done) for name, values in search.fields.items()],
        trials=[trial.model_copy(update={"difference": told.get(trial.number)}) for trial in ledger.trials],
        best=best.number if best else None,
        guessed=_guessed(search.measure, names),
        ensemble=list(search.ensemble),
        rows=best.measure.rows if best and best.measure else 0,
        groups=best.measure.groups if best and best.measure else 0,
        gone=[trial.number for trial in done if trial.number not in said],
        folds=search.study.split.folds,
        chosen_again=_chosen_again(list(alike.values()), best.measure) if best and best.measure and len(alike) > 1 else None,
        pace=ledger.pace,
        scale=search.study.scale,
        confidence=search.study.evaluate.confidence,
    )


def write_search(search: Search, searched: Searched, folder: Path) -> tuple[Searched, list[Path]]:
    """Write `search.json`, a page per language and, of the best, `best.yaml` into a folder. Gives what was written, and the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    best = next((trial for trial in searched.trials if trial.number == searched.best), None)
    if best is not None and searched.pace is not None:
        study = study_of(search, best.values, searched.pace)
        seeds = searched.ensemble or study.training.seeds
        place = folder / "best.yaml"
        save(place, study.model_copy(update={"training": study.training.model_copy(update={"seeds": seeds})}))
        searched = searched.model_copy(update={"best_study": str(place)})
    write_json(folder / "search.json", searched.model_dump(mode="json"))
    return searched, write_search_pages(searched, folder)


def _score(trial: SearchTrial) -> float:
    return -math.inf if trial.measure is None or trial.measure.value is None else trial.measure.value


def _guessed(measure: str, classes: int | None) -> float | None:
    """What an answer reaches that knows nothing; None where that depends on the images, or on the number of classes and that is not known."""
    return {"auc": CHANCE, "balanced_accuracy": 1 / classes if classes else None}.get(measure)


def _said(trial: SearchTrial) -> Said | None:
    """What a trial said of its validation images; None where its run has gone."""
    folder = Path(trial.run or "")
    return validation_of(read_run(folder)) if (folder / "done" / "validation.json").exists() else None


def _differences(best: int, said: Mapping[int, Said], measure: Measure, *, of: int) -> dict[int, PairedMeasure]:
    """The best of so many trials less each other one.

    Who is compared was seen in the same answers: the largest of all differences between two trials is one of the best. So each p-value is
    corrected for every pair (Bonferroni), and not for those with the best alone.
    """
    pairs, found = math.comb(of, 2), dict[int, PairedMeasure]()
    for number in said:
        if number != best:
            row = differences([said[best]], [said[number]])
            gap = next(each for each in row if (each.name, each.of) == (measure.name, measure.of))
            found[number] = gap.model_copy(update={"corrected": None if gap.p is None else min(1.0, pairs * gap.p)})
    return found


def _field(name: str, values: Choices | Range, before: str, done: Sequence[SearchTrial]) -> SearchedField:
    share = _share(name, values, done)
    if isinstance(values, Choices):
        return SearchedField(field=name, before=before, share=share, values=list(values.values))
    return SearchedField(field=name, before=before, share=share, low=values.low, high=values.high, log=values.log)


def _share(name: str, values: Choices | Range, done: Sequence[SearchTrial]) -> float | None:
    """Share of the variance of the scores that goes with one field, without what as many groups would take by chance.

    Epsilon squared (Kelley, PNAS 1935;21:554) of the values, or of the lower, middle and upper third of a range. Equal values are in the same
    third, that of their mean rank, so that the order of the trials changes nothing.
    """
    if len(done) < FEWEST_TRIALS:
        return None
    scores = np.array([_score(trial) for trial in done])
    if isinstance(values, Choices):
        places = np.array([values.values.index(trial.values[name]) for trial in done])
    else:
        ranks = rankdata([float(trial.values[name]) for trial in done])  # from 1, those of equal values are their mean
        places = (3 * (ranks - 0.5) / len(ranks)).astype(int)
    groups = [scores[places == place] for place in np.unique(places)]
    if len(groups) == len(scores):
        return None  # each value was tried once
    if len(groups) == 1 or (scores == scores[0]).all():
        return 0.0
    whole, inside = float(((scores - scores.mean()) ** 2).sum()), sum(float(((each - each.mean()) ** 2).sum()) for each in groups)
    return max(0.0, 1 - inside / (len(scores) - len(groups)) * (len(scores) - 1) / whole)


def _chosen_again(said: Sequence[Said], measure: Measure) -> float | None:
    """What the best reaches on patients that it was not chosen on, when patients are drawn with replacement and the choice is made again.

    Bootstrap bias corrected cross-validation: Tsamardinos, Greasidou and Borboudakis, Machine Learning 2018;107:1895.
    """
    first = said[0]
    if first.groups < FEWEST:
        return None
    statistics = [_weighted(each, measure) for each in said]
    groups = first.answers[0].groups if first.cases is None else numbered([first.cases[content].group for content, _ in first.rows])
    draws = np.random.default_rng(seed_of("validation", [content for content, _ in first.rows])).multinomial(
        first.groups, np.full(first.groups, 1 / first.groups), size=DRAWS
    )
    with np.errstate(divide="ignore", invalid="ignore"):  # a draw may leave no row of a class
        chosen_on, left = (
            np.stack([each(weights[:, groups].astype(np.float64)) for each in statistics]) for weights in (draws, draws == 0)
        )
    there = np.isfinite(chosen_on).all(0) & np.isfinite(left).all(0)
    if not there.any():
        return None
    chosen = chosen_on[:, there].argmax(0)
    return float(left[:, there][chosen, np.arange(int(there.sum()))].mean())


def _weighted(said: Said, measure: Measure) -> Callable[[np.ndarray], np.ndarray]:
    """A measure of one trial, from weights (D, N) of its rows."""
    if said.cases is not None:
        read = next(read for name, of, read in asked_of_cases(said.cases, said.names) if (name, of) == (measure.name, measure.of))
        values = np.array([read(said.cases[content]) for content, _ in said.rows], dtype=np.float64)
        there = np.isfinite(values)
        return lambda weights: weights[:, there] @ values[there] / weights[:, there].sum(1)
    of = None if len(said.answers) > 1 else measure.of
    each = [partial(_value, answers, measure.name, of) for answers in said.answers]
    return lambda weights: np.mean([one(weights) for one in each], axis=0)


def _value(answers: Answers, name: str, of: str | None, weights: np.ndarray) -> np.ndarray:
    return np.asarray(value(answers, name, of, weights=weights))
