"""What a reader must be told of an evaluation, in codes and figures; the words are with the reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tabib.config import Study, Threshold
from tabib.evaluation.answers import MACRO, Answers, value
from tabib.evaluation.measures import paired_difference
from tabib.metrics import choose_threshold
from tabib.metrics.intervals import APPROXIMATE, FEWEST, Sureness
from tabib.records import BasePart, Finding, Level, Measure, PartEvaluation, Subgroup

__all__ = [
    "baseline_remarks",
    "drop_remarks",
    "fixed_remarks",
    "gap_remarks",
    "goal_remarks",
    "part_remarks",
    "remark",
    "subgroup_remarks",
    "sureness_remarks",
    "told",
    "trust_remarks",
]

WIDE = 0.2
"""An interval longer than this cannot tell a good model from a middling one."""

UNTUNED = 0.05
"""A fixed operating point that loses so much balanced accuracy is said."""

POOR_ECE = 0.05
"""A calibration error from here on, with an interval above 0, is said."""

MANY_REFUSED = 0.05
"""Refused images from this share on belong on the first page."""

MANY_UNNAMED = 0.05
"""Test images of unknown patients from this share on belong on the first page."""

MANY_LOOKS = 3
"""Looks at the test set from this number on belong on the first page."""

ROWS = 200
"""Most rows that a remark names."""


def part_remarks(part: BasePart, *, refused: Sequence[int], unlabelled: Sequence[int]) -> list[Finding]:
    """What is missing from a part: images, labels, classes, measures. `refused` and `unlabelled` are rows."""
    found = []
    if refused:
        share = len(refused) / (len(refused) + part.rows)
        figures = {"part": part.part, "refused": len(refused), "rows": part.rows, "share": share}
        found.append(remark("refused_rows", "warn", figures, rows=refused, page_one=share > MANY_REFUSED))
    if unlabelled:
        found.append(remark("unlabelled_rows", "warn", {"part": part.part, "rows": len(unlabelled)}, rows=unlabelled))
    if isinstance(part, PartEvaluation):
        missing = [name for name, count in part.class_counts.items() if not count]
        if missing:
            found.append(remark("class_missing", "warn", {"part": part.part, "classes": ", ".join(missing)}, page_one=True))
        undefined = dict.fromkeys(measure.name for measure in part.measures if measure.value is None)
        if undefined:
            found.append(remark("undefined_measures", "warn", {"part": part.part, "measures": ", ".join(undefined)}))
    return found


def goal_remarks(measures: Sequence[Measure]) -> list[Finding]:
    """For every goal whether it is reached, missed, or cannot be decided."""
    found = []
    for measure in measures:
        if measure.goal is None:
            continue
        if measure.value is None:
            code = "goal_undefined"
        elif measure.low is None or measure.high is None:
            code = "goal_without_interval"
        else:
            code = "goal_reached" if measure.low >= measure.goal else "goal_missed" if measure.high < measure.goal else "goal_undecided"
        found.append(remark(code, "pass" if code == "goal_reached" else "warn", {**told(measure), "goal": measure.goal}))
    return found


def gap_remarks(
    gap: Sequence[Measure], validation: Sequence[Measure], test: Sequence[Measure], *, names: Sequence[tuple[str, str | None]] = ()
) -> list[Finding]:
    """Whether validation flattered: a difference to test that is larger than chance, in the measures of these names, else in AUC or balanced accuracy."""
    found = []
    names = names or (_headline(test), ("balanced_accuracy", None))
    for name, of in names:
        measure = next((each for each in gap if (each.name, each.of) == (name, of)), None)
        if measure is None or measure.low is None or measure.high is None:
            continue
        before, after = _measure(validation, name, of), _measure(test, name, of)
        figures = {"measure": name, "validation": before.value, "test": after.value, "gap": measure.value}
        figures |= {"low": measure.low, "high": measure.high}
        if measure.high < 0:
            found.append(remark("validation_flatters", "warn", figures, page_one=True))
        elif measure.low > 0:
            found.append(remark("test_easier", "warn", figures))
        elif name == names[0][0]:
            found.append(remark("validation_agrees", "pass", figures))
    return found


def drop_remarks(
    drop: Sequence[Measure], own: Sequence[Measure], external: Sequence[Measure], *, names: Sequence[tuple[str, str | None]] = ()
) -> list[Finding]:
    """How much is lost on images of another source, in the measures of these names, else in AUC, sensitivity and specificity, or in AUC and balanced accuracy."""
    found = []
    sides = [("sensitivity", None), ("specificity", None)]
    two = any((each.name, each.of) == sides[0] for each in drop)
    for name, of in names or [_headline(external), *(sides if two else [("balanced_accuracy", None)])]:
        measure = next((each for each in drop if (each.name, each.of) == (name, of)), None)
        if measure is None:
            continue
        figures = {
            "measure": name,
            "of": (of or "") if names else "",
            "own": _measure(own, name, of).value,
            "external": _measure(external, name, of).value,
        }
        figures |= {"gap": measure.value, "low": measure.low, "high": measure.high}
        if measure.low is None or measure.high is None:
            found.append(remark("external_drop_unsure", "warn", {**figures, "groups": measure.groups}, page_one=True))
        elif measure.high < 0:
            found.append(remark("external_drop", "warn", figures, page_one=True))
        else:
            found.append(remark("external_gain" if measure.low > 0 else "external_holds", "pass", figures))
    return found


def baseline_remarks(model: Answers, baselines: Mapping[str, Answers], measures: Sequence[Measure], sure: Sureness) -> list[Finding]:
    """Whether the model is better than every baseline, by the difference in AUC on the same rows; and its accuracy than the majority's."""
    if not baselines:
        return []
    name, of = _headline(measures)
    headline, accuracy = _measure(measures, name, of), _measure(measures, "accuracy", None)
    compared = {key: paired_difference(model, other, name, of, sure) for key, other in baselines.items()}
    if any(interval.low is None for _, interval in compared.values()):
        return [remark("baseline_not_compared", "warn", {"groups": model.group_count})]
    beaten, unbeaten = [], []
    for key, (difference, interval) in sorted(compared.items(), key=lambda pair: pair[1][0]):
        figures = {**told(headline), "baseline": key, "baseline_value": headline.baselines[key], "difference": difference}
        (beaten if interval.low is not None and interval.low > 0 else unbeaten).append(
            {**figures, "low": interval.low, "high": interval.high}
        )
    # The hardest baseline comes first: where it is beaten, all are.
    found = [remark("not_better_than_baseline", "warn", figures, page_one=True) for figures in unbeaten]
    if not unbeaten:
        found.append(remark("better_than_baselines", "pass", beaten[0]))
    difference, interval = paired_difference(model, baselines["majority_class"], "accuracy", None, sure)
    if interval.low is not None and interval.low <= 0:
        figures = {"accuracy": accuracy.value, "majority": accuracy.baselines["majority_class"], "difference": difference}
        found.append(remark("accuracy_not_above_majority", "warn", {**figures, "low": interval.low, "high": interval.high}))
    return found


def sureness_remarks(answers: Answers, measures: Sequence[Measure], *, unnamed: int) -> list[Finding]:
    """How much the test set can say at all. `unnamed` of its rows are of unknown patients."""
    found = []
    size = {"groups": answers.group_count, "rows": len(answers.truth)}
    if unnamed:
        share = unnamed / len(answers.truth)
        figures = {**size, "unnamed": unnamed, "share": share}
        found.append(remark("intervals_without_patients", "warn", figures, page_one=share >= MANY_UNNAMED))
    if answers.group_count < APPROXIMATE:
        found.append(remark("few_test_groups" if unnamed else "few_test_patients", "warn", size, page_one=True))
    for place, name in enumerate(answers.classes):
        inside = answers.truth == place
        held = len(np.unique(answers.groups[inside]))
        if 0 < held < FEWEST and answers.group_count >= APPROXIMATE:
            found.append(remark("few_groups_of_class", "warn", {"class": name, "groups": held, "rows": int(inside.sum())}))
    for measure in measures:
        shown = (measure.name, measure.of) in (
            _headline(measures),
            ("sensitivity", None),
            ("specificity", None),
            ("balanced_accuracy", None),
        )
        if shown and measure.low is not None and measure.high is not None and measure.high - measure.low > WIDE:
            found.append(remark("wide_interval", "warn", told(measure)))
    return found


def trust_remarks(answers: Answers, measures: Sequence[Measure], study: Study, *, leaked: Sequence[int], test_looks: int) -> list[Finding]:
    """Leaks, looks, calibration and the operating point on test. `leaked` are rows that the model may know."""
    found = []
    if leaked:
        groups = len(np.unique(answers.groups[np.isin(answers.rows, leaked)]))
        figures = {"rows": len(leaked), "groups": groups, "share": len(leaked) / len(answers.rows)}
        found.append(remark("given_leak_kept", "warn", figures, rows=leaked, page_one=True))
    if test_looks > 1:
        found.append(remark("test_looked_often", "warn", {"looks": test_looks}, page_one=test_looks >= MANY_LOOKS))
    ece = _measure(measures, "ece", None)
    if ece.value is not None and ece.low is not None and ece.value >= POOR_ECE and ece.low > 0:
        said, happened = _on_the_whole(answers)
        figures = {"ece": ece.value, "low": ece.low, "high": ece.high, "said": said, "happened": happened}
        found.append(remark("poor_calibration", "warn", figures))
    if answers.positive is not None and 0 < answers.truth.sum() < len(answers.truth):
        found += _operating_point(answers, measures, study)
    return found


def fixed_remarks(validation: Answers, study: Study, sure: Sureness) -> list[Finding]:
    """Whether a fixed operating point divides the validation images worse than the one that Youden's index chooses on them."""
    rule = study.calibrate.threshold
    if not isinstance(rule, Threshold) or rule.fixed is None or validation.positive is None or len(np.unique(validation.truth)) < 2:
        return []
    score = validation.probability[:, 1]
    best = choose_threshold(score, validation.truth, "youden")
    chosen = validation.said((score >= best).astype(np.int64), validation.probability)
    gained, interval = paired_difference(chosen, validation, "balanced_accuracy", None, sure)
    if interval.low is None or interval.low <= 0 or gained < UNTUNED:
        return []
    names = ("sensitivity", "specificity")
    told = {name: float(value(validation, name, None)) for name in names}
    told |= {f"best_{name}": float(value(chosen, name, None)) for name in names}
    return [remark("threshold_not_chosen", "warn", {"threshold": rule.fixed, "best_threshold": best, **told})]


def subgroup_remarks(subgroups: Sequence[Subgroup], *, confidence: float) -> list[Finding]:
    """Which subgroups differ from all others, beside how many would by chance; and which are too small to say anything."""
    found = []
    compared = sum(each.low is not None for subgroup in subgroups for each in subgroup.differences)
    for subgroup in subgroups:
        for each in subgroup.differences:
            if each.low is not None and each.high is not None and (each.low > 0 or each.high < 0):
                figures = {**told(each), "subgroup": subgroup.name, "compared": compared, "chance": (1 - confidence) * compared}
                found.append(remark("subgroup_differs", "warn", figures, page_one=each.high < 0))
        if subgroup.groups < APPROXIMATE:
            figures = {"subgroup": subgroup.name, "groups": subgroup.groups, "rows": subgroup.rows}
            found.append(remark("subgroup_small", "warn", figures))
    if compared and not any(remark.code == "subgroup_differs" for remark in found):
        found.append(remark("subgroups_alike", "pass", {"compared": compared}))
    return found


def _operating_point(answers: Answers, measures: Sequence[Measure], study: Study) -> list[Finding]:
    sensitivity, specificity = (_measure(measures, name, None) for name in ("sensitivity", "specificity"))
    positive, called = answers.truth == 1, answers.predicted == 1
    figures = {"sensitivity": sensitivity.value, "specificity": specificity.value}
    figures |= {"missed": int((positive & ~called).sum()), "positives": int(positive.sum())}
    figures |= {"alarms": int((~positive & called).sum()), "negatives": int((~positive).sum())}
    found = [remark("operating_point", "pass", figures)]
    rule = study.calibrate.threshold
    if not isinstance(rule, Threshold):
        return found
    for measure, wanted in ((sensitivity, rule.sensitivity), (specificity, rule.specificity)):
        if wanted is not None and measure.high is not None and measure.high < wanted:
            found.append(remark("operating_point_missed", "warn", {**told(measure), "wanted": wanted}))
    if rule.cost_ratio is not None and sensitivity.value is not None and specificity.value is not None:
        share = study.evaluate.prevalence or float(positive.mean())
        ill, well = 100 * share * rule.cost_ratio, 100 * (1 - share)
        cost = ill * (1 - sensitivity.value) + well * (1 - specificity.value)
        figures = {"ratio": rule.cost_ratio, "prevalence": share, "cost": cost, "all": well, "nobody": ill}
        found.append(remark("operating_cost", "pass", figures) if cost < min(ill, well) else remark("operating_cost_high", "warn", figures))
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


def told(measure: Measure) -> dict[str, float | int | str | None]:
    """The figures of a measure, as the words of remarks name them."""
    return {
        "measure": measure.name,
        "of": measure.of or "",
        "value": measure.value,
        "low": measure.low,
        "high": measure.high,
        "groups": measure.groups,
    }


def remark(
    code: str, level: Level, figures: Mapping[str, float | int | str | None], *, rows: Sequence[int] = (), page_one: bool = False
) -> Finding:
    """A finding of the judge; figures that do not exist are left out."""
    return Finding(
        code=code,
        level=level,
        figures={name: value for name, value in figures.items() if value is not None},
        rows=list(rows)[:ROWS],
        page_one=page_one,
    )
