"""How often intervals hold the truth: simulated test sets of patients with several films each.

Every interval is made by the code that makes those of a report. Writes Markdown tables to results/coverage.md.

Run: python benchmarks/coverage.py [--sets 1000] [--processes 2]
"""

from __future__ import annotations

import argparse
import os
import platform
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy.special import softmax
from scipy.stats import norm

from tabib.config import Goals
from tabib.evaluation.answers import Answers, targets, value
from tabib.evaluation.measures import gaps, measure_all, paired_difference
from tabib.metrics.intervals import Sureness, auc_interval, leave_groups_out

CLASSES = ("NORMAL", "PNEUMONIA")
GROUPS = (10, 20, 40, 200)
STRENGTHS = (1.5, 2.3, 3.5)
POPULATION = 150_000
PERMUTATIONS = 400
REJECTED = ("accuracy", "sensitivity", "ppv", "f1", "auc", "average_precision", "brier", "log_loss")
Held = dict[str, list[tuple[bool, float]]]  # by measure: whether the truth was inside, and the width


@dataclass(frozen=True)
class Clinic:
    """Where patients come from. One to four films a patient; a quarter of the patients has one."""

    groups: int = 40
    classes: tuple[str, ...] = CLASSES
    strength: float = 2.3  # distance of the classes' scores, in standard deviations
    rare: float = 0.3  # share of patients with the last class; the others share the rest
    likeness: float = 0.5  # of the films of one patient: share of the variance that is the patient's
    both: float = 0.0  # share of patients whose films are labelled one by one
    fixed: bool = False  # whether the classes' patients are counted out, as by a stratified split
    sureness: float = 1.5  # how much too sure the probabilities are

    def answers(self, generator: np.random.Generator, *, agree: float | None = None) -> tuple[Answers, Answers]:
        """Answers of one model, and of a second one to the same films (its errors agree with the first's)."""
        number = len(self.classes)
        shares = np.append(np.full(number - 1, (1 - self.rare) / (number - 1)), self.rare)
        drawn = np.empty(0)
        while len(np.unique(drawn)) < number or np.bincount(drawn).min() < 2:
            counts = np.maximum(2, np.round(shares * self.groups)).astype(int)
            counts[0] += self.groups - counts.sum()
            drawn = np.repeat(np.arange(number), counts) if self.fixed else generator.choice(number, self.groups, p=shares)
        groups = np.repeat(np.arange(self.groups), generator.integers(1, 5, self.groups))
        truth = drawn[groups]
        alone = (generator.random(self.groups) < self.both)[groups]
        truth = np.where(alone, generator.choice(number, len(groups), p=shares), truth)
        noise = self._noise(generator, groups, number)
        models = [noise] if agree is None else [noise, agree * noise + np.sqrt(1 - agree**2) * self._noise(generator, groups, number)]
        found = [self._said(truth, groups, shares, each) for each in models]
        return found[0], found[-1]

    def _noise(self, generator: np.random.Generator, groups: np.ndarray, number: int) -> np.ndarray:
        own, film = generator.normal(size=(self.groups, number)), generator.normal(size=(len(groups), number))
        return np.sqrt(self.likeness) * own[groups] + np.sqrt(1 - self.likeness) * film

    def _said(self, truth: np.ndarray, groups: np.ndarray, shares: np.ndarray, noise: np.ndarray) -> Answers:
        # Independent normal scores, the true class's higher: the chances that follow from them by Bayes.
        distance = self.strength / np.sqrt(2)
        score = noise + distance * (truth[:, None] == np.arange(len(shares)))
        odds = distance * score + np.log(shares)
        return Answers(
            classes=self.classes,
            rows=np.arange(len(truth)),
            truth=truth,
            predicted=(odds - np.log(shares)).argmax(1),
            probability=softmax(self.sureness * odds, axis=1),
            groups=groups,
        )


@cache
def truths(clinic: Clinic) -> dict[tuple[str, str | None], float]:
    """Every measure over a population."""
    whole, _ = replace(clinic, groups=POPULATION).answers(np.random.default_rng(2024))
    return {target: float(value(whole, *target)) for target in targets(clinic.classes)}


def judged(clinic: Clinic, sure: Sureness) -> Held:
    """The intervals of a report, over one test set."""
    answers, _ = clinic.answers(np.random.default_rng([1, sure.seed]))
    right, held = truths(clinic), {}
    for measure in measure_all(answers, {}, Goals(), sure):
        if measure.low is not None and measure.high is not None and measure.of not in answers.classes:
            name = measure.name if measure.of is None else f"{measure.name}, {measure.of}"
            held[name] = [(measure.low <= right[measure.name, measure.of] <= measure.high, measure.high - measure.low)]
    return held


def compared(clinic: Clinic, sure: Sureness) -> Held:
    """Differences: between validation and test, and between two models on one test set."""
    generator = np.random.default_rng([2, sure.seed])
    first, second = clinic.answers(generator, agree=0.8)
    other, _ = clinic.answers(generator)
    held: Held = {}
    sets = [measure_all(answers, {}, Goals(), sure) for answers in (other, first)]
    for gap in gaps(*sets, apart=True):
        if gap.of is None and gap.low is not None and gap.high is not None:
            held[f"{gap.name}: test - validation"] = [(gap.low <= 0 <= gap.high, gap.high - gap.low)]
    for name in ("auc", "accuracy"):
        _, interval = paired_difference(first, second, name, None, sure)
        if interval.low is not None and interval.high is not None:
            held[f"{name}: two models"] = [(interval.low <= 0 <= interval.high, interval.high - interval.low)]
    return held


def rejected(clinic: Clinic, sure: Sureness) -> Held:
    """Percentile and BCa bootstraps over groups, of the measures that a report has by other ways."""
    answers, _ = clinic.answers(np.random.default_rng([1, sure.seed]))
    right, held = truths(clinic), {}
    ill = np.zeros(answers.group_count, dtype=int)
    ill[answers.groups] = answers.truth
    generator = np.random.default_rng(sure.seed)
    apart, together = (_draws(generator, strata, sure.draws)[:, answers.groups] for strata in (ill, 0 * ill))
    for name in REJECTED:
        statistic = partial(_weighted, answers, name)
        found, drawn = float(value(answers, name, None)), statistic(apart if name in ("auc", "average_precision") else together)
        drawn = drawn[np.isfinite(drawn)]
        without = leave_groups_out(statistic, answers.groups)
        if np.isnan(found) or not np.isfinite(without).all() or not np.ptp(without):
            continue
        below = ((drawn < found).mean() + (drawn <= found).mean()) / 2
        shift, lean = norm.ppf(np.clip(below, 0.001, 0.999)), without.mean() - without
        skew = (lean**3).sum() / (6 * (lean**2).sum() ** 1.5)
        tails = np.array([(1 - sure.confidence) / 2, (1 + sure.confidence) / 2])
        moved = shift + norm.ppf(tails)
        for method, levels in (("percentile", tails), ("BCa", norm.cdf(shift + moved / (1 - skew * moved)))):
            low, high = np.quantile(drawn, levels)
            held[f"{name}: {method}"] = [(bool(low <= right[name, None] <= high), float(high - low))]
    return held


def _draws(generator: np.random.Generator, strata: np.ndarray, draws: int) -> np.ndarray:
    """How often each group is taken when groups are drawn within strata, (draws, G)."""
    taken = np.zeros((draws, len(strata)))
    for stratum in np.unique(strata):
        inside = np.flatnonzero(strata == stratum)
        taken[:, inside] = generator.multinomial(len(inside), np.full(len(inside), 1 / len(inside)), size=draws)
    return taken


def _weighted(answers: Answers, name: str, weights: np.ndarray) -> np.ndarray:
    return np.asarray(value(answers, name, None, weights=weights))


def permuted(groups: int, by: str) -> float:
    """Share of permuted label sets whose AUC interval holds 0.5."""
    generator = np.random.default_rng(7)
    answers, _ = Clinic(groups=groups, strength=1.5).answers(generator)
    label = np.zeros(groups, dtype=int)
    label[answers.groups] = answers.truth
    held = 0
    for _ in range(PERMUTATIONS):
        truth = generator.permutation(label)[answers.groups] if by == "patients" else generator.permutation(answers.truth)
        interval = auc_interval(truth, answers.probability[:, 1], answers.groups, Sureness())
        held += interval.low is not None and interval.high is not None and interval.low <= 0.5 <= interval.high
    return held / PERMUTATIONS


@dataclass(frozen=True)
class Task:
    """Some of the sets of one point."""

    measure: Callable[[Clinic, Sureness], Held]
    clinic: Clinic
    draws: int
    seeds: range


def run(task: Task) -> Held:
    held: Held = defaultdict(list)
    for seed in task.seeds:
        for name, ones in task.measure(task.clinic, Sureness(draws=task.draws, seed=seed)).items():
            held[name] += ones
    return dict(held)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    yield from ("| " + " | ".join(row) + " |" for row in rows)
    yield ""


def cells(points: Sequence[Held]) -> list[tuple[str, ...]]:
    names = list(dict.fromkeys(name for held in points for name in held))
    return [(name, *(_cell(held.get(name, [])) for held in points)) for name in names]


def _cell(ones: list[tuple[bool, float]]) -> str:
    return f"{100 * np.mean([inside for inside, _ in ones]):.1f} ({np.median([width for _, width in ones]):.3f})" if ones else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=1000, help="test sets at each point")
    parser.add_argument("--draws", type=int, default=1000, help="of each bootstrap")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "coverage.md")
    asked = parser.parse_args()

    four = ("cyst", "normal", "stone", "tumour")
    designs = {
        "as above": Clinic(),
        "15 % ill": Clinic(rare=0.15),
        "classes counted out": Clinic(fixed=True),
        "labelled film by film in 40 %": Clinic(both=0.4),
        "films nearly alike": Clinic(likeness=0.9),
        "films hardly alike": Clinic(likeness=0.1),
    }
    chapters: dict[str, tuple[str, list[str], list[tuple[Callable[[Clinic, Sureness], Held], Clinic]]]] = {}
    for strength in STRENGTHS:
        area = truths(Clinic(strength=strength))["auc", None]
        chapters[f"Two classes, AUC {area:.3f}"] = (
            "groups",
            [str(groups) for groups in GROUPS],
            [(judged, Clinic(groups=groups, strength=strength)) for groups in GROUPS],
        )
    chapters["Two classes, 40 groups, other designs"] = ("design", list(designs), [(judged, clinic) for clinic in designs.values()])
    chapters["Four classes"] = (
        "groups",
        [str(groups) for groups in GROUPS],
        [(judged, Clinic(groups=groups, classes=four, rare=0.2)) for groups in GROUPS],
    )
    chapters["Differences (the true one is 0)"] = (
        "groups",
        [str(groups) for groups in GROUPS],
        [(compared, Clinic(groups=groups)) for groups in GROUPS],
    )
    chapters["Not used: plain bootstraps over groups (AUC and average precision within classes)"] = (
        "groups",
        [str(groups) for groups in GROUPS],
        [(rejected, Clinic(groups=groups)) for groups in GROUPS],
    )

    # Read by the libraries of the worker processes when they start.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    step = max(1, asked.sets // 10)
    tasks = [
        Task(measure, clinic, asked.draws, range(start, min(asked.sets, start + step)))
        for _, _, points in chapters.values()
        for measure, clinic in points
        for start in range(0, asked.sets, step)
    ]
    permutations = [(groups, by) for by in ("patients", "films") for groups in GROUPS[1:]]
    with ProcessPoolExecutor(asked.processes, mp_context=get_context("spawn")) as pool:
        done = iter(list(pool.map(run, tasks)))
        shares = list(pool.map(permuted, *zip(*permutations, strict=True)))
    lines = [
        "# Coverage of intervals\n",
        f"Share in % of {asked.sets} simulated test sets whose 95 % interval holds the true value, and in brackets its median width.",
        "Patients have one to four films; half of a score's variance is the patient's; three in ten patients are ill; the probabilities",
        f"are too sure by half. The standard error of a share is {100 * np.sqrt(0.95 * 0.05 / asked.sets):.1f} %. Below 20 groups a report calls",
        f"an interval approximate. Made by `benchmarks/coverage.py`; {asked.draws} draws where there is a bootstrap; {machine()}.\n",
    ]
    for title, (head, names, points) in chapters.items():
        held = []
        for _ in points:
            parts, joined = [next(done) for _ in range(0, asked.sets, step)], defaultdict(list)
            for name, ones in ((name, ones) for part in parts for name, ones in part.items()):
                joined[name] += ones
            held.append(dict(joined))
        lines += [f"## {title}\n", *table((head, *names), cells(held))]
    lines += [f"## The AUC's interval over {PERMUTATIONS} permuted label sets holds 0.5\n"]
    lines += table(
        ("labels permuted between", *(f"{groups} groups" for groups in GROUPS[1:])),
        [
            (by, *(f"{100 * share:.1f} %" for (_, how), share in zip(permutations, shares, strict=True) if how == by))
            for by in ("patients", "films")
        ],
    )
    asked.out.parent.mkdir(exist_ok=True)
    asked.out.write_text("\n".join(lines), encoding="utf-8")
    print(asked.out.read_text(encoding="utf-8"))


def machine() -> str:
    """The processor and the versions that figures depend on."""
    return f"NumPy {np.__version__}, Python {platform.python_version()}, {platform.machine()}"


if __name__ == "__main__":
    main()
