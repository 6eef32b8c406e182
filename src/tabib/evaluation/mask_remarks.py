"""What a reader must be told of judged masks, in codes and figures; the words are with the reports."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tabib.config import Segmentation
from tabib.evaluation.hearts import PHASES
from tabib.evaluation.mask_cases import Baseline
from tabib.evaluation.mask_measures import STRUCTURES, numbered
from tabib.evaluation.remarks import MANY_LOOKS, MANY_UNNAMED, WIDE, remark, told
from tabib.metrics.intervals import APPROXIMATE, Sureness, mean_interval
from tabib.metrics.segmentation import Overlap
from tabib.records import Agreement, Finding, Measure, MeasuredCase, SegmentedPart, Subgroup

__all__ = [
    "case_remarks",
    "disagreement_remarks",
    "heart_remarks",
    "mask_baseline_remarks",
    "mask_sureness_remarks",
    "mask_trust_remarks",
    "where_remarks",
]

CONFUSED = 0.1
"""From this share of a structure's voxels on, called another structure, it is said."""

WEAK = 0.1
"""So much less Dice in a third of the slices or cases than in the best of the others is said."""

MANY_MISSED = 0.05
"""Cases in which a structure is missed, from this share on, belong on the first page."""


def mask_sureness_remarks(part: SegmentedPart, *, unnamed: int) -> list[Finding]:
    """How much the test set can say at all. `unnamed` of its cases are of unknown patients."""
    found = []
    size = {"groups": part.groups, "rows": part.rows}
    if unnamed:
        share = unnamed / part.rows
        found.append(
            remark("intervals_without_patients", "warn", {**size, "unnamed": unnamed, "share": share}, page_one=share >= MANY_UNNAMED)
        )
    if part.rows and part.groups < APPROXIMATE:
        found.append(remark("few_test_groups" if unnamed else "few_test_patients", "warn", size, page_one=True))
    for measure in part.measures:
        wide = measure.name == "dice" and measure.low is not None and measure.high is not None and measure.high - measure.low > WIDE
        if wide and measure.of != "voxels":
            found.append(remark("wide_interval", "warn", told(measure)))
    return found


def mask_trust_remarks(part: SegmentedPart, *, leaked: Sequence[int], test_looks: int) -> list[Finding]:
    """Leaks and looks. `leaked` are rows that the model may know."""
    found = []
    if leaked:
        groups = len({case.group for case in part.cases if case.row in set(leaked)})
        figures = {"rows": len(leaked), "groups": groups, "share": len(leaked) / part.rows}
        found.append(remark("given_leak_kept", "warn", figures, rows=leaked, page_one=True))
    if test_looks > 1:
        found.append(remark("test_looked_often", "warn", {"looks": test_looks}, page_one=test_looks >= MANY_LOOKS))
    return found


def case_remarks(part: SegmentedPart, structures: Sequence[str]) -> list[Finding]:
    """Structures that are nowhere, missed, made up or taken for others; distances that are left out of means; objects joined or divided."""
    found = []
    absent = [name for name, cases in part.present.items() if not cases]
    if absent and part.rows:
        found.append(remark("structure_absent", "warn", {"part": part.part, "structures": ", ".join(absent)}, page_one=True))
    if part.part != "test":
        return found
    left_out = 0
    for place, name in enumerate(structures):
        mine = [(case.row, case.structures[place]) for case in part.cases]
        missed, made_up = [row for row, each in mine if each.missed], [row for row, each in mine if each.made_up]
        there = part.present[name]
        left_out += sum(case.millimetres for case in part.cases if case.row in {*missed, *made_up})
        if missed:
            figures = {"structure": name, "missed": len(missed), "cases": there, "share": len(missed) / there}
            found.append(remark("structure_missed", "warn", figures, rows=missed, page_one=len(missed) / there >= MANY_MISSED))
        if made_up:
            figures = {"structure": name, "made_up": len(made_up), "cases": part.rows - there}
            found.append(remark("structure_made_up", "warn", figures, rows=made_up))
    if left_out:
        found.append(remark("distances_left_out", "warn", {"masks": left_out}))
    return [*found, *_confused(part, structures), *_counted(part)]


def _confused(part: SegmentedPart, structures: Sequence[str]) -> list[Finding]:
    found = []
    if not part.cases:
        return found
    table = np.array([case.confusion for case in part.cases]).sum(0)
    for place, name in enumerate(structures, start=1):
        for called, other in enumerate(structures, start=1):
            share = table[place, called] / max(1, table[place].sum())
            if called != place and share >= CONFUSED:
                rows = sorted(part.cases, key=lambda case: -case.confusion[place][called])
                figures = {"structure": name, "other": other, "share": float(share)}
                found.append(
                    remark("structures_confused", "warn", figures, rows=[case.row for case in rows if case.confusion[place][called]])
                )
    return found


def _counted(part: SegmentedPart) -> list[Finding]:
    """Whether objects are joined or divided more than by chance: the interval of the error holds no zero, or it is the same in every image."""
    error = next((each for each in part.measures if each.name == "count_error"), None)
    if error is None or not error.value:
        return []
    alike = len({_count_error(case) for case in part.cases}) == 1
    if not alike and (error.low is None or error.high is None or error.low <= 0 <= error.high):
        return []
    low, high = (error.value if end is None else end for end in (error.low, error.high))
    truth, said = (sum(getattr(case.objects, name) for case in part.cases if case.objects) for name in ("truth", "prediction"))
    code, worst_first = ("objects_joined", 1) if error.value < 0 else ("objects_divided", -1)
    rows = sorted((case for case in part.cases if case.objects), key=lambda case: worst_first * _count_error(case))
    figures = {**told(error), "low": low, "high": high, "truth": truth, "prediction": said}
    return [remark(code, "warn", figures, rows=[case.row for case in rows])]


def _count_error(case: MeasuredCase) -> int:
    return case.objects.prediction - case.objects.truth if case.objects else 0


def heart_remarks(part: SegmentedPart, found: Sequence[Agreement], study: Segmentation, *, heart: bool) -> list[Finding]:
    """Why there are no millimetres, millilitres or ejection fractions; and volumes that are read too large or too small."""
    remarks = []
    unknown = sum(not case.millimetres for case in part.cases)
    if unknown:
        nominal = study.data.spacing == "nominal"
        figures = {"cases": unknown, "of": part.rows}
        # Pictures of a microscope or camera seldom say a spacing, and nobody misses it; a heart without it has no volume.
        remarks.append(remark("spacing_nominal" if nominal else "spacing_unknown", "warn" if heart else "pass", figures, page_one=heart))
    if heart and not unknown and part.cases and not any(case.phase in PHASES for case in part.cases):
        remarks.append(remark("heart_without_phases", "warn", {"cases": part.rows}))
    for each in found:
        if each.bias.low is not None and each.bias.high is not None and not each.bias.low <= 0 <= each.bias.high:
            figures = {"quantity": each.name, "structure": each.of, "bias": each.bias.value, "low": each.bias.low, "high": each.bias.high}
            scale = 100 if each.name == "ejection_fraction" else 1
            figures |= {name: scale * value for name, value in figures.items() if isinstance(value, float)}
            code = "quantity_too_large" if each.bias.low > 0 else "quantity_too_small"
            remarks.append(remark(code, "warn", {**figures, "groups": len(each.groups)}))
    return remarks


def where_remarks(thirds: Sequence[Subgroup], sizes: Sequence[Subgroup]) -> list[Finding]:
    """Thirds of the slices, or of the cases by size, in which a structure is outlined clearly worse than in the others."""
    found = []
    for code, strata in (("position_weak", thirds), ("size_weak", sizes)):
        for structure in dict.fromkeys(measure.of for each in strata for measure in each.measures):
            values = [
                (measure.value, place)
                for place, each in enumerate(strata)
                for measure in each.measures
                if measure.of == structure and measure.value is not None
            ]
            if len(values) < 2:
                continue
            (lowest, place), (highest, _) = min(values), max(values)
            if highest - lowest >= WEAK:
                third = strata[place].low if code == "position_weak" else ("small", "middle", "large")[place]
                figures = {"structure": structure or "", "third": third, "value": lowest, "best": highest}
                found.append(remark(code, "warn", figures))
    return found


def disagreement_remarks(found: Measure | None, cases: Sequence[MeasuredCase]) -> list[Finding]:
    """Whether the cases on which the members differ most are those whose masks are bad; these cases, the most differing first."""
    if found is None or found.low is None or found.high is None:
        return []
    rows = [case.row for case in sorted(cases, key=lambda case: (-(case.disagreement or 0), case.row)) if case.disagreement is not None]
    tells = found.high < 0
    code = "disagreement_finds_errors" if tells else "disagreement_finds_no_errors"
    return [remark(code, "pass" if tells else "warn", {**told(found), "rows": found.rows}, rows=rows)]


def mask_baseline_remarks(
    cases: Sequence[MeasuredCase], baselines: dict[str, list[Baseline]], measures: Sequence[Measure], sure: Sureness
) -> list[Finding]:
    """Whether the mean Dice is better than each baseline's, case by case."""
    found = []
    headline = next((each for each in measures if (each.name, each.of) == ("dice", STRUCTURES)), None)
    if headline is None or headline.value is None:
        return []
    for name, said in baselines.items():
        pairs = [(case.dice, _mean([Overlap(*counts).dice for counts in theirs])) for case, theirs in zip(cases, said, strict=True)]
        there = [
            (mine - other, case.group) for (mine, other), case in zip(pairs, cases, strict=True) if mine is not None and np.isfinite(other)
        ]
        differences = np.array([difference for difference, _ in there])
        groups = numbered([group for _, group in there])
        interval = mean_interval(differences, groups, sure, smallest=-1.0, largest=1.0)
        if interval.low is None:
            found.append(remark("baseline_not_compared", "warn", {"groups": len(np.unique(groups))}))
            continue
        figures = {**told(headline), "baseline": name, "baseline_value": headline.baselines[name], "difference": float(differences.mean())}
        figures |= {"low": interval.low, "high": interval.high}
        better = interval.low > 0
        found.append(
            remark(
                "better_than_baselines" if better else "not_better_than_baseline",
                "pass" if better else "warn",
                figures,
                page_one=not better,
            )
        )
    return found


def _mean(values: Sequence[float]) -> float:
    there = [value for value in values if np.isfinite(value)]
    return float(np.mean(there)) if there else float("nan")
