"""What is read from masks as a physician reads it: volumes, and of hearts the ejection fraction and the mass, against the truth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tabib.evaluation.measures import made_measure
from tabib.metrics.heart import bland_altman, correlation, ejection_fraction, myocardial_mass
from tabib.metrics.intervals import Interval, Sureness
from tabib.records import Agreement, MeasuredCase

__all__ = ["PHASES", "agreements", "chambers", "is_heart"]

PHASES = ("ED", "ES")

CHAMBERS: dict[str, tuple[str, ...]] = {
    "lv": ("lv", "lvc", "lv_cavity", "lv_blood_pool", "left_ventricle", "left_ventricular_cavity", "endocardium"),
    "myocardium": ("myocardium", "myo", "lv_myocardium", "lvm", "left_ventricular_myocardium"),
    "rv": ("rv", "rvc", "rv_cavity", "rv_blood_pool", "right_ventricle", "right_ventricular_cavity"),
}
"""What studies call the parts of a heart, in small letters, with _ between words."""

PUMPING = ("lv", "rv")
"""Chambers that have an ejection fraction."""


def chambers(structures: Sequence[str]) -> dict[str, str]:
    """The structures that are parts of a heart: what each is, by its name in the study."""
    return {
        name: part for name in structures for part, words in CHAMBERS.items() if name.lower().replace(" ", "_").replace("-", "_") in words
    }


def is_heart(structures: Sequence[str]) -> bool:
    """Whether the structures are those of a heart."""
    return bool(chambers(structures))


def agreements(cases: Sequence[MeasuredCase], structures: Sequence[str], sure: Sureness) -> list[Agreement]:
    """How volumes agree with the truth, a patient a row; of hearts whose moments are known end-diastolic and -systolic ones, ejection fraction and mass.

    Cases whose volumes are not known are left out; a patient with several cases of one moment counts with their mean.
    """
    known = [case for case in cases if case.slices > 1 and case.structures[0].truth_ml is not None]
    if any(case.phase in PHASES for case in known) and is_heart(structures):
        found = _of_hearts(known, structures)
    else:
        found = (("volume_ml", name, _volumes(known, place, None)) for place, name in enumerate(structures))
    return [_agreement(name, of, pairs, sure) for name, of, pairs in found if len(pairs) > 1]


Pairs = Mapping[str, tuple[float, float]]
"""Of each patient the truth and what was read from the prediction."""


def _of_hearts(cases: Sequence[MeasuredCase], structures: Sequence[str]) -> Iterator[tuple[str, str, Pairs]]:
    parts = chambers(structures)
    for place, name in enumerate(structures):
        part = parts.get(name)
        diastole, systole = (_volumes(cases, place, phase) for phase in PHASES)
        if part == "myocardium":
            yield "mass_g", name, {group: (myocardial_mass(true), myocardial_mass(said)) for group, (true, said) in diastole.items()}
            continue
        yield "edv_ml", name, diastole
        yield "esv_ml", name, systole
        if part in PUMPING:
            both = {group: list(zip(diastole[group], systole[group], strict=True)) for group in diastole if group in systole}
            fractions = {group: [ejection_fraction(*volumes) for volumes in pair] for group, pair in both.items()}
            yield (
                "ejection_fraction",
                name,
                {group: (true, said) for group, (true, said) in fractions.items() if math.isfinite(true + said)},
            )


def _volumes(cases: Sequence[MeasuredCase], place: int, phase: str | None) -> dict[str, tuple[float, float]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for case in cases:
        measured = case.structures[place]
        if (phase is None or case.phase == phase) and measured.truth_ml is not None and measured.prediction_ml is not None:
            found.setdefault(case.group, []).append((measured.truth_ml, measured.prediction_ml))
    return {
        group: (float(np.mean([true for true, _ in pairs])), float(np.mean([said for _, said in pairs]))) for group, pairs in found.items()
    }


def _agreement(name: str, of: str, pairs: Pairs, sure: Sureness) -> Agreement:
    truth, prediction = (np.array(side) for side in zip(*pairs.values(), strict=True))
    agreed = bland_altman(truth, prediction, sure)
    related, interval = correlation(truth, prediction, sure)
    number = len(pairs)

    def written(said: str, value: float, around: Interval) -> dict[str, object]:
        return made_measure(said, of, value, around, rows=number, groups=number).model_dump()

    return Agreement.model_validate(
        {
            "name": name,
            "of": of,
            "groups": list(pairs),
            "truth": truth.tolist(),
            "prediction": prediction.tolist(),
            "bias": written("bias", agreed.bias, agreed.bias_interval),
            "deviation": None if math.isnan(agreed.deviation) else agreed.deviation,
            "low": written("agreement_low", agreed.low, agreed.low_interval),
            "high": written("agreement_high", agreed.high, agreed.high_interval),
            "correlation": written("correlation", related, interval),
        }
    )
