"""What a reader must be told of an evaluation, in codes and figures; the words are with the reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tabib.config import Study, Threshold
from tabib.evaluation.answers import MACRO, Answers
from tabib.evaluation.measures import paired_difference
from tabib.metrics.intervals import APPROXIMATE, FEWEST, Sureness
from tabib.records import Finding, Measure, PartEvaluation

__all__ = [
    "baseline_remarks",
    "gap_remarks",
    "goal_remarks",
    "part_remarks",
    "sureness_remarks",
    "trust_remarks",
]

WIDE = 0.2
"""An interval longer than this cannot tell a good model from a middling one."""

POOR_ECE = 0.05
MANY_REFUSED = 0.05
MANY_LOOKS = 3
ROWS = 200
Figures = dict[str, float | int | str]


def part_remarks(part: PartEvaluation, *, refused_rows: Sequence[int], unlabelled: Sequence[int]) -> list[Finding]:
    """What is missing from a part: images, labels, classes, measures."""
    found = []
    if part.refused:
        share = part.refused / (part.refused + part.rows)
        figures: Figures = {"part": part.part, "refused": part.refused, "rows": part.rows, "share": share}
        found.append(
            Finding(code="refused_rows", level="warn", figures=figures, rows=list(refused_rows)[:ROWS], page_one=share > MANY_REFUSED)
        )
    if unlabelled:
        found.append(
            Finding(
                code="unlabelled_rows", level="warn", figures={"part": part.part, "rows": len(unlabelled)}, rows=list(unlabelled)[:ROWS]
            )
        )
    missing = [name for name, count in part.class_counts.items() if not count]
    if missing:
        found.append(Finding(code="class_missing", level="warn", figures={"part": part.part, "classes": ", ".join(missing)}, page_one=True))
    undefined = list(dict.fromkeys(measure.name for measure in part.measures if measure.value is None))
    if undefined:
        found.append(Finding(code="undefined_measures", level="warn", figures={"part": part.part, "measures": ", ".join(undefined)}))
    return found


def goal_remarks(measures: Sequence[Measure]) -> list[Finding]:
    """For every goal whether it is reached, missed, or cannot be decided."""
    found = []
    for measure in measures:
        if measure.goal is None:
            continue
        figures: Figures = {"measure": measure.name, "of": measure.of or "", "goal": measure.goal}
        if measure.value is None:
            found.append(Finding(code="goal_undefined", level="warn", figures=figures))
            continue
        figures |= {"value": measure.value, "groups": measure.groups}
        if measure.low is None or measure.high is None:
            found.append(Finding(code="goal_without_interval", level="warn", figures=figures))
            continue
        figures |= {"low": measure.low, "high": measure.high}
        code = "goal_reached" if measure.low >= measure.goal else "goal_missed" if measure.high < measure.goal else "goal_undecided"
        found.append(Finding(code=code, level="pass" if code == "goal_reached" else "warn", figures=figures))
    return found


def gap_remarks(gap: Sequence[Measure], validation: Sequence[Measure], test: Sequence[Measure]) -> list[Finding]:
    """Whether validation flattered: a difference to test that is larger than chance, in AUC or balanced accuracy."""
    found = []
    for measure in gap:
        if (measure.name, measure.of) not in (_headline(test), ("balanced_accuracy", None)) or measure.low is None or measure.high is None:
            continue
        before, after = (_measure(part, measure.name, measure.of) for part in (validation, test))
        figures: Figures = {"measure": measure.name}
        figures |= _present(
            {"validation": before.value, "test": after.value, "gap": measure.value, "low": measure.low, "high": measure.high}
        )
        if measure.high < 0:
            found.append(Finding(code="validation_flatters", level="warn", figures=figures, page_one=True))
        elif measure.low > 0:
            found.append(Finding(code="test_easier", level="warn", figures=figures))
        elif measure.name != "balanced_accuracy":
            found.append(Finding(code="validation_agrees", level="pass", figures=figures))
    return found


def baseline_remarks(model: Answers, baselines: Mapping[str, Answers], measures: Sequence[Measure], sure: Sureness) -> list[Finding]:
    """Whether the model is better than every baseline, by the difference in AUC on the same rows; and accuracy than the majority's."""
    if not baselines:
        return []
    name, of = _headline(measures)
    headline = _measure(measures, name, of)
    compared = {key: paired_difference(model, other, name, of, sure) for key, other in baselines.items()}
    if headline.value is None or any(interval.low is None for _, interval in compared.values()):
        return [Finding(code="baseline_not_compared", level="warn", figures={"groups": model.group_count})]
    found = []
    for key, (difference, interval) in sorted(compared.items(), key=lambda pair: pair[1][0]):
        figures: Figures = {"measure": name, "of": of or "", "baseline": key} | _present(
            {
                "value": headline.value,
                "baseline_value": headline.baselines[key],
                "difference": difference,
                "low": interval.low,
                "high": interval.high,
            }
        )
        if interval.low is not None and interval.low <= 0:
            found.append(Finding(code="not_better_than_baseline", level="warn", figures=figures, page_one=True))
        elif not found:  # the hardest baseline comes first
            found.append(Finding(code="better_than_baselines", level="pass", figures=figures))
            break
    accuracy = _measure(measures, "accuracy", None)
    difference, interval = paired_difference(model, baselines["majority_class"], "accuracy", None, sure)
    if interval.low is not None and interval.low <= 0:
        figures = _present(
            {
                "accuracy": accuracy.value,
                "majority": accuracy.baselines["majority_class"],
                "difference": difference,
                "low": interval.low,
                "high": interval.high,
            }
        )
        found.append(Finding(code="accuracy_not_above_majority", level="warn", figures=figures))
    return found


def sureness_remarks(answers: Answers, measures: Sequence[Measure], *, patients_known: bool) -> list[Finding]:
    """How much the test set can say at all."""
    found = []
    groups, rows = answers.group_count, len(answers.truth)
    if not patients_known:
        found.append(Finding(code="intervals_without_patients", level="warn", figures={"groups": groups, "rows": rows}, page_one=True))
    if groups < APPROXIMATE:
        found.append(Finding(code="few_test_groups", level="warn", figures={"groups": groups, "rows": rows}, page_one=True))
    for place, name in enumerate(answers.classes):
        inside = answers.truth == place
        held = len(np.unique(answers.groups[inside]))
        if 0 < held < FEWEST and groups >= APPROXIMATE:
            figures: Figures = {"class": name, "groups": held, "rows": int(inside.sum())}
            found.append(Finding(code="few_groups_of_class", level="warn", figures=figures))
    told = [_headline(measures), ("sensitivity", None), ("specificity", None), ("balanced_accuracy", None)]
    for measure in measures:
        if (measure.name, measure.of) not in told or measure.low is None or measure.high is None or measure.high - measure.low <= WIDE:
            continue
        figures = {"measure": measure.name, "of": measure.of or "", "groups": measure.groups}
        figures |= _present({"value": measure.value, "low": measure.low, "high": measure.high})
        found.append(Finding(code="wide_interval", level="warn", figures=figures))
    return found


def trust_remarks(answers: Answers, measures: Sequence[Measure], study: Study, *, leaked: Sequence[int], test_looks: int) -> list[Finding]:
    """Leaks, looks, calibration and the operating point on test."""
    found = []
    if leaked:
        figures: Figures = {
            "rows": len(leaked),
            "groups": len(np.unique(answers.groups[np.isin(answers.rows, leaked)])),
            "share": len(leaked) / len(answers.rows),
        }
        found.append(Finding(code="given_leak_kept", level="warn", figures=figures, rows=list(leaked)[:ROWS], page_one=True))
    if test_looks > 1:
        found.append(Finding(code="test_looked_often", level="warn", figures={"looks": test_looks}, page_one=test_looks >= MANY_LOOKS))
    ece = _measure(measures, "ece", None)
    if ece.value is not None and ece.low is not None and ece.high is not None and ece.value >= POOR_ECE and ece.low > 0:
        said, happened = _on_the_whole(answers)
        figures = _present({"ece": ece.value, "low": ece.low, "high": ece.high, "said": said, "happened": happened})
        found.append(Finding(code="poor_calibration", level="warn", figures=figures))
    if answers.positive is not None and len(set(answers.truth.tolist())) == 2:
        found += _operating_point(answers, measures, study)
    return found


def _operating_point(answers: Answers, measures: Sequence[Measure], study: Study) -> list[Finding]:
    sensitivity, specificity = (_measure(measures, name, None) for name in ("sensitivity", "specificity"))
    positive, called = answers.truth == 1, answers.predicted == 1
    figures: Figures = _present({"sensitivity": sensitivity.value, "specificity": specificity.value}) | {
        "missed": int((positive & ~called).sum()),
        "positives": int(positive.sum()),
        "alarms": int((~positive & called).sum()),
        "negatives": int((~positive).sum()),
    }
    found = [Finding(code="operating_point", level="pass", figures=figures)]
    rule = study.calibrate.threshold
    if (
        isinstance(rule, Threshold)
        and rule.sensitivity is not None
        and sensitivity.high is not None
        and sensitivity.high < rule.sensitivity
    ):
        figures = _present({"wanted": rule.sensitivity, "sensitivity": sensitivity.value, "low": sensitivity.low, "high": sensitivity.high})
        found.append(Finding(code="operating_sensitivity_missed", level="warn", figures=figures))
    return found


def _on_the_whole(answers: Answers) -> tuple[float, float]:
    """Mean probability, and share that came true: of the positive class of two, or of the likeliest class of many."""
    if answers.positive is not None:
        return float(answers.probability[:, 1].mean()), float(answers.truth.mean())
    return float(answers.probability.max(1).mean()), float((answers.probability.argmax(1) == answers.truth).mean())


def _headline(measures: Sequence[Measure]) -> tuple[str, str | None]:
    """The one figure that depends on no operating point: the AUC, with many classes its plain mean."""
    return "auc", None if any((measure.name, measure.of) == ("auc", None) for measure in measures) else MACRO


def _measure(measures: Sequence[Measure], name: str, of: str | None) -> Measure:
    return next(measure for measure in measures if (measure.name, measure.of) == (name, of))


def _present(values: dict[str, float | None]) -> Figures:
    return {name: value for name, value in values.items() if value is not None}
