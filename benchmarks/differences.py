"""How often the interval of a difference between two ways of training holds the truth, when both were trained a few times.

The difference of each patient and seed is a part that is the patient's, one that is the seed's, and one of its own; the truth is 0. The
interval that leaves patients and seeds out in turn is made by the code that makes those of `tabib ablate`; beside it stand what was tried
before (decision 12). And how often the difference that one study says it could have shown is shown by another. Writes Markdown tables to
results/differences.md.

Run: python benchmarks/differences.py [--sets 2000] [--drawn 200]
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from tabib.metrics.intervals import Sureness
from tabib.metrics.paired import POWER, Paired, detectable, paired_test

WORLDS = {
    "patients alone": (1.0, 0.0, 0.0),
    "patients and both": (1.0, 0.0, 1.0),
    "nothing but both": (0.0, 0.0, 1.0),
    "all three": (1.0, 0.3, 1.0),
    "mostly seeds": (1.0, 1.0, 1.0),
}
"""Standard deviations of the part of the patient, of the seed, and of both."""
GROUPS, SEEDS = (20, 40, 100), (2, 3, 5)
SMALL = 0.01  # of the unit: differences of measures lie between -1 and 1, and their intervals bend near the ends
DRAWS = 500
TRAINED, TESTS, PATIENTS = (1, 2, 3, 5, 10), (1, 10), 40
SURE = Sureness(confidence=0.95)


def drawn_together(values: np.ndarray, random: np.random.Generator) -> bool:
    """Whether the percentile interval of patients and seeds drawn with replacement, together, holds 0. `values`: (G, S)."""
    groups, seeds = values.shape
    of_groups = random.multinomial(groups, np.ones(groups) / groups, DRAWS) / groups
    of_seeds = random.multinomial(seeds, np.ones(seeds) / seeds, DRAWS) / seeds
    low, high = np.quantile(np.einsum("bg,gs,bs->b", of_groups, values, of_seeds), (0.025, 0.975))
    return bool(low < 0 < high)


def judged(values: np.ndarray) -> Paired:
    """The test of `tabib ablate`."""
    groups = len(values)
    means = values.mean(0)
    return paired_test(means, (groups * means[:, None] - values.T) / (groups - 1), groups=groups, sure=SURE)


def left_out(values: np.ndarray) -> bool:
    """Whether the interval of `tabib ablate` holds 0."""
    interval = judged(values).interval
    assert interval.low is not None
    assert interval.high is not None
    return interval.low < 0 < interval.high


def patients_alone(values: np.ndarray) -> bool:
    """Whether Student's interval of the patients' means holds 0, as if there were no other trainings."""
    means = values.mean(1)
    half = student.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
    return bool(abs(means.mean()) < half)


def drawn(random: np.random.Generator, sets: int, groups: int, seeds: int, parts: tuple[float, float, float]) -> np.ndarray:
    """Differences around 0, (sets, G, S)."""
    shapes = ((sets, groups, 1), (sets, 1, seeds), (sets, groups, seeds))
    patient, seed, both = (SMALL * random.normal(0, part, shape) for part, shape in zip(parts, shapes, strict=True))
    return patient + seed + both


def kept(first: np.ndarray, second: np.ndarray, tests: int) -> str:
    """Share in which a second study shows, at the first step of Holm, what the first says it could have shown; both (sets, G, S)."""
    shown = []
    for before, again in zip(first, second, strict=True):
        found = judged(before)
        assert found.error is not None
        assert found.freedom is not None
        # With two trainings nothing is said; the table shows what would be if something were.
        trainings = 1 if before.shape[1] == 2 else before.shape[1]
        seen = detectable(found.error, found.freedom, trainings=trainings, tests=tests, confidence=SURE.confidence)
        if seen is not None:
            p = judged(again + seen).p
            assert p is not None
            shown.append((again + seen).mean() > 0 and tests * p < 1 - SURE.confidence)
    return f"{100 * np.mean(shown):.0f} %"


def main() -> None:
    """Simulate, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=2000)
    parser.add_argument("--drawn", type=int, default=200, help="of these, how many are also drawn from")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "differences.md")
    asked = parser.parse_args()
    lines = [
        "# Coverage of the interval of a difference\n",
        f"Share in % of {asked.sets} simulated ablations ({asked.drawn} for those drawn together) whose 95 % interval holds the true difference, 0. Made by",
        "`benchmarks/differences.py` with the code that makes the intervals of `tabib ablate`; why they are not drawn: `docs/decisions/0012-differences.md`.",
        f"NumPy {np.__version__}, Python {platform.python_version()}.\n",
        "| what differs (standard deviations: patient, seed, both) | patients | seeds | drawn together | left out in turn (ours) | patients alone |",
        "|---|---|---|---|---|---|",
    ]
    random = np.random.default_rng(0)
    for name, parts in WORLDS.items():
        for groups in GROUPS:
            for seeds in SEEDS:
                sets = drawn(random, asked.sets, groups, seeds, parts)
                together = np.mean([drawn_together(values, random) for values in sets[: asked.drawn]])
                ours, alone = (np.mean([method(values) for values in sets]) for method in (left_out, patients_alone))
                shown = " | ".join(f"{100 * share:.0f} %" for share in (together, ours, alone))
                lines.append(f"| {name} ({', '.join(f'{part:g}' for part in parts)}) | {groups} | {seeds} | {shown} |")
    lines += [
        "\n# What could have been shown\n",
        f"One study says which difference it could have shown with a chance of {100 * POWER:.0f} % (`detectable`); another, of {PATIENTS} other patients and other",
        f"seeds, has just that difference. Share in % of {asked.sets} in which it is shown, alone or as one of {TESTS[-1]} that are corrected (Holm). With two",
        "trainings nothing is said, for the reason that the table gives. With one training a study knows nothing of other seeds, and its page says so.\n",
        "| what differs (standard deviations: patient, seed, both) | seeds | alone | one of 10 |",
        "|---|---|---|---|",
    ]
    for name, parts in WORLDS.items():
        for seeds in TRAINED:
            first, second = (drawn(random, asked.sets, PATIENTS, seeds, parts) for _ in range(2))
            shown = " | ".join(kept(first, second, tests) for tests in TESTS)
            lines.append(f"| {name} ({', '.join(f'{part:g}' for part in parts)}) | {seeds} | {shown} |")
    asked.out.write_text("\n".join([*lines, ""]), encoding="utf-8")
    print(asked.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
