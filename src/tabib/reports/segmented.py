"""What the pages of a segmenter show: its cases, structures, hearts and objects, and what its network looks like."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from tabib.config import Segmentation
from tabib.images import strides_of
from tabib.records import Agreement, MeasuredCase, MeasuredStructure, OfLabel, PostProcessing, SegmentationModel, Subgroup
from tabib.reports.facts import Facts
from tabib.reports.figures import Block, Line, Plot, case_strip, network, plot, ticks
from tabib.reports.judged import Forest, forests, subgroup_note
from tabib.reports.pictures import Overlay
from tabib.reports.text import Language, Value, isolated, shortened
from tabib.reports.views import Figure, bracketed, outline_colour, sides, written_interval, written_number

__all__ = [
    "AgreementRow",
    "Discussed",
    "ExplainedCase",
    "PatientTable",
    "Shown",
    "agreement_figures",
    "agreement_patients",
    "agreement_rows",
    "definitions",
    "discussed",
    "drawn_network",
    "entropy_words",
    "error_forests",
    "explained_cases",
    "legend",
    "object_counts",
    "shown_cases",
    "strips",
    "uncertain_cases",
    "wanted_overlays",
    "workflow",
]

CONFUSED = 0.05
"""From this share of a structure's voxels on, called another, it is told of a case."""

BALANCED = 0.25
"""Voxels added and missed that differ by less than this share of both are neither over- nor under-segmented."""

FEWEST_DISCUSSED = 5

UNCERTAIN = 3
"""Cases that are shown because the answers on them differ most."""

PATIENTS = 20
"""Patients whose volumes are written out, those with the largest errors."""

FORMULAS = {"dice": "2 TP / (2 TP + FP + FN)", "iou": "TP / (TP + FP + FN)", "precision": "TP / (TP + FP)", "recall": "TP / (TP + FN)"}

DEFINED = (
    "dice",
    "iou",
    "precision",
    "recall",
    "surface_dice",
    "hausdorff95_mm",
    "surface_distance_mm",
    "volume_error_ml",
    "voxel_accuracy",
)
DEFINED_OF_OBJECTS = ("aji", "panoptic_quality", "object_f1", "segmentation_quality", "count_error")
DEFINED_OF_HEARTS = ("ejection_fraction", "mass_g")


@dataclass(frozen=True)
class Shown:
    """A case of a structure that is shown: truth and prediction side by side, and what they say."""

    place: str  # "best", "median" or "worst", in words
    caption: str
    truth: Overlay
    prediction: Overlay
    entropy: Overlay | None = None


@dataclass(frozen=True)
class Discussed:
    """A case told by numbers."""

    title: str
    sentences: Sequence[str]  # of each structure, and of the objects
    truth: Overlay
    prediction: Overlay
    entropy: Overlay


@dataclass(frozen=True)
class ExplainedCase:
    """What the network made of a case, in pictures."""

    chosen: str  # why this one
    title: str
    pictures: Sequence[tuple[str, Path]]  # words and file


@dataclass(frozen=True)
class AgreementRow:
    """How one quantity agrees with the truth, written out."""

    quantity: str
    structure: str
    patients: str
    bias: str
    limits: str
    correlation: str


@dataclass(frozen=True)
class PatientTable:
    """What was read of each patient beside the truth, written out."""

    quantities: Sequence[str]  # heads of the columns
    rows: Sequence[tuple[str, Sequence[str]]]  # patient, and of each quantity what was read, with the truth in brackets
    more: int  # patients that are not shown


def legend(facts: Facts) -> list[tuple[str, str]]:
    """Each structure with the colour of its outlines, the same in every picture."""
    return [(isolated(name), outline_colour(number)) for number, name in enumerate(facts.classes)]


# --- Cases ---


def strips(facts: Facts, reader: Language) -> tuple[list[tuple[str, str, str, Markup]], list[float]]:
    """Of each structure its name, its number of test cases, their median with quartiles, and a drawing of all; and the axis."""
    cases = facts.measured("test")
    values = [[value for case in cases if (value := case.structures[place].dice) is not None] for place in range(len(facts.classes))]
    lowest = min((value for mine in values for value in mine), default=0.0)
    axis = ticks(min(0.8, math.floor(10 * lowest) / 10), 1.0, 4)
    rows = []
    for name, mine in zip(facts.classes, values, strict=True):
        if not mine:
            continue
        first, median, third = (written_number(reader, float(each), 2) for each in np.quantile(mine, (0.25, 0.5, 0.75)))
        said = f"{median} {bracketed(reader.interval(first, third))}"
        rows.append((isolated(name), reader.integer(len(mine)), said, case_strip(mine, axis, f"{name}: {said}")))
    return rows, axis


def shown_cases(facts: Facts, reader: Language) -> list[tuple[str, str, list[Shown]]]:
    """Of each structure its name, its colour, and the cases with the best, the median and the worst Dice."""
    found = []
    for place, (name, colour) in enumerate(legend(facts)):
        chosen = []
        for key, case in _ranked(facts, place):
            mine = case.structures[place]
            number = _slice_of(case, mine, worst=key == "worst")
            caption = reader.text(
                "segmented.shown", {"case": called(facts, reader, case), "dice": mine.dice, "slice": number, "slices": case.slices}
            )
            words = (
                caption
                if case.slices > 1
                else reader.text("segmented.shown_flat", {"case": called(facts, reader, case), "dice": mine.dice})
            )
            overlays = Overlay(case.row, number, "truth"), Overlay(case.row, number, "prediction")
            chosen.append(Shown(reader.text(f"segmented.{key}_case"), words, *overlays))
        if chosen:
            found.append((name, colour, chosen))
    return found


def _ranked(facts: Facts, place: int) -> list[tuple[str, MeasuredCase]]:
    cases = [(dice, case.row, case) for case in facts.measured("test") if (dice := case.structures[place].dice) is not None]
    cases.sort(key=lambda each: each[:2])
    if not cases:
        return []
    chosen = {"best": cases[-1], "median": cases[len(cases) // 2], "worst": cases[0]}
    return [(key, case) for key, (_, _, case) in chosen.items()]


def _slice_of(case: MeasuredCase, mine: MeasuredStructure, *, worst: bool) -> int:
    """The slice to show, counted from 1: of a bad case where most is wrong, else where most of the structure is."""
    return mine.worst_slice if worst and mine.worst_slice is not None else mine.largest_slice


def discussed(facts: Facts, reader: Language) -> list[Discussed]:
    """Test cases told by numbers: the worst, the median, the best, and as many drawn by chance as make five."""
    cases = {case.row: case for case in facts.measured("test")}
    if facts.segmented is None or not cases:
        return []
    ranked = sorted((case for case in cases.values() if case.dice is not None), key=lambda case: (case.dice or 0, case.row))
    order = [*ranked[:2], *ranked[len(ranked) // 2 :][:1], *ranked[-1:], *(cases[row] for row in facts.segmented.random if row in cases)]
    chosen = list({case.row: case for case in order}.values())[:FEWEST_DISCUSSED]
    return [_discussed(facts, reader, case) for case in chosen]


def _discussed(facts: Facts, reader: Language, case: MeasuredCase) -> Discussed:
    number = _worst_slice(case)
    title = reader.text("segmented.case_title", {"case": called(facts, reader, case), "dice": case.dice})
    said = [" ".join(_said_of(case, place, reader)) for place in range(len(case.structures))]
    if case.objects is not None:
        figures = {
            "truth": case.objects.truth,
            "prediction": case.objects.prediction,
            "matched": case.objects.matched,
            "aji": case.objects.aji,
        }
        said.append(reader.text("segmented.objects_said", figures))
    return Discussed(title, said, *_three(case.row, number))


def uncertain_cases(facts: Facts, reader: Language) -> list[Shown]:
    """The test cases on which the answers differ most; none of one answer alone."""
    cases = [(each.disagreement, each.row, each) for each in facts.measured("test") if each.disagreement is not None]
    shown = []
    for disagreement, row, case in sorted(cases, key=lambda each: (-each[0], each[1]))[:UNCERTAIN]:
        number = _worst_slice(case)
        figures = {"case": called(facts, reader, case), "disagreement": disagreement, "slice": number, "slices": case.slices}
        words = reader.text("segmented.uncertain" if case.slices > 1 else "segmented.uncertain_flat", figures)
        if case.dice is not None:
            words += " " + reader.text("segmented.uncertain_dice", {"dice": case.dice})
        shown.append(Shown("", words, *_three(row, number)))
    return shown


def entropy_words(facts: Facts, reader: Language) -> list[str]:
    """What the maps of the entropy show, and of which answers they are where that is known."""
    words = [reader.text("segmented.entropy_note")]
    if isinstance(facts.model, SegmentationModel) and isinstance(facts.decision, PostProcessing):
        members = len(facts.model.members)
        flips = facts.decision.flips
        words.append(
            reader.text("segmented.entropy_flips" if flips else "segmented.entropy_members", {"members": members, "answers": 4 * members})
        )
    return words


def _three(row: int, number: int) -> tuple[Overlay, Overlay, Overlay]:
    return Overlay(row, number, "truth"), Overlay(row, number, "prediction"), Overlay(row, number, "entropy")


def _worst_slice(case: MeasuredCase) -> int:
    """Where the structure with most errors has most of them, counted from 1."""
    return _slice_of(case, max(case.structures, key=lambda each: each.false_positive + each.false_negative), worst=True)


def _said_of(case: MeasuredCase, place: int, reader: Language) -> Iterator[str]:
    mine = case.structures[place]
    name = mine.structure
    if mine.truth == 0:
        yield reader.text(
            "segmented.said_made_up" if mine.prediction else "segmented.said_absent", {"name": name, "voxels": mine.prediction}
        )
        return
    if mine.missed:
        yield reader.text("segmented.said_missed", {"name": name, "voxels": mine.truth})
        return
    wrong = mine.false_positive + mine.false_negative
    if not wrong:
        yield reader.text("segmented.said_perfect", {"name": name})
        return
    tilt = (mine.false_positive - mine.false_negative) / wrong
    verdict = "both" if abs(tilt) < BALANCED else "over" if tilt > 0 else "under"
    figures = {"name": name, "dice": mine.dice, "added": mine.false_positive / mine.prediction, "missed": mine.false_negative / mine.truth}
    yield reader.text(f"segmented.said_{verdict}", figures)
    if case.slices > 1 and mine.worst_slice is not None:
        yield reader.text("segmented.said_slice", {"slice": mine.worst_slice, "slices": case.slices, "share": mine.worst_share})
    if mine.missed_slices:
        yield reader.text("segmented.said_missed_slices", {"n": mine.missed_slices})
    if mine.added_slices:
        yield reader.text("segmented.said_added_slices", {"n": mine.added_slices})
    for other, voxels in enumerate(case.confusion[place + 1]):
        if other not in (0, place + 1) and voxels >= CONFUSED * mine.truth:
            figures = {"share": voxels / mine.truth, "other": case.structures[other - 1].structure}
            yield reader.text("segmented.said_confused", figures)


def called(facts: Facts, reader: Language, case: MeasuredCase) -> str:
    """What a case is called: its patient where that is known, with its moment, or its file."""
    return " · ".join([_owner(facts, case), *([case.phase] if case.phase else [])])


def _owner(facts: Facts, case: MeasuredCase) -> str:
    known = facts.index["group"][case.row]
    return str(known) if known is not None else shortened(case.path).split("/")[-1]


def wanted_overlays(facts: Facts, reader: Language) -> list[Overlay]:
    """What the pages show of cases, the most telling first."""
    shown: list[Shown | Discussed] = [each for _, _, cases in shown_cases(facts, reader) for each in cases]
    shown += [*discussed(facts, reader), *uncertain_cases(facts, reader)]
    return [overlay for each in shown for overlay in (each.truth, each.prediction, each.entropy) if overlay is not None]


def explained_cases(facts: Facts, reader: Language) -> list[ExplainedCase]:
    """What the network made of some test images; none before `tabib explain` was run."""
    cases = {case.row: case for case in facts.measured("test")}
    found = []
    for each in facts.explained:
        one = each.explained
        case = cases.get(one.row) if one.row is not None else None
        if case is None:
            continue
        figures: dict[str, Value] = {"case": called(facts, reader, case), "dice": case.dice, "slice": one.slice, "slices": one.slices}
        title = reader.text("segmented.shown" if one.slices != 1 else "segmented.shown_flat", figures)
        pictures = [
            (
                reader.text(f"why.{kind}", {"name": of.name, "p": of.probability})
                if isinstance(of, OfLabel)
                else reader.text(f"why.{kind}_mask"),
                path,
            )
            for of, kind, path in each.pictures
        ]
        found.append(ExplainedCase(reader.name("chosen", one.chosen), title, pictures))
    return found


# --- Where it goes wrong ---


def error_forests(facts: Facts, reader: Language) -> list[tuple[str, str, list[Forest]]]:
    """Thirds of slices, thirds by size, and subgroups: each with its heading, what it says, and its tables."""
    judged = facts.segmented
    if judged is None:
        return []
    kinds: list[tuple[str, Sequence[Subgroup], str]] = [
        ("heart_thirds" if judged.heart else "slice_thirds", judged.thirds, ""),
        ("sizes", judged.sizes, ""),
        ("subgroups", judged.subgroups, subgroup_note(facts, reader)),
    ]
    return [
        (reader.text(f"segmented.{key}"), f"{reader.text(f'segmented.{key}_note')} {more}".strip(), forests(facts, reader, subgroups))
        for key, subgroups, more in kinds
        if subgroups
    ]


# --- Volumes and hearts ---


def agreement_rows(facts: Facts, reader: Language) -> list[AgreementRow]:
    """Of each quantity its mean difference to the truth, the limits of agreement and the correlation."""
    return [_agreement_row(facts, reader, each) for each in (facts.segmented.agreements if facts.segmented else [])]


def agreement_patients(facts: Facts, reader: Language) -> PatientTable | None:
    """Of each patient the quantities that were read and the true ones, the largest errors first: of ejection fractions where there are any."""
    judged = facts.segmented.agreements if facts.segmented else []
    if not judged:
        return None
    owners = {case.group: _owner(facts, case) for case in facts.measured("test")}
    pairs = [dict(zip(each.groups, zip(each.truth, each.prediction, strict=True), strict=True)) for each in judged]
    telling = [pair for each, pair in zip(judged, pairs, strict=True) if each.name == "ejection_fraction"] or pairs

    def error(group: str) -> float:
        return max((abs(pair[group][1] - pair[group][0]) for pair in telling if group in pair), default=-1.0)

    def cell(each: Agreement, pair: dict[str, tuple[float, float]], group: str) -> str:
        if group not in pair:
            return ""
        true, said = (_written(reader, each, value) for value in pair[group])
        return f"{said} {bracketed(true)}"

    groups = sorted(dict.fromkeys(group for each in judged for group in each.groups), key=lambda group: (-error(group), owners[group]))
    return PatientTable(
        quantities=[f"{reader.name('quantities', each.name)} · {isolated(each.of)}" for each in judged],
        rows=[
            (isolated(owners[group]), [cell(each, pair, group) for each, pair in zip(judged, pairs, strict=True)])
            for group in groups[:PATIENTS]
        ],
        more=max(0, len(groups) - PATIENTS),
    )


def _written(reader: Language, each: Agreement, value: float | None) -> str:
    if value is None:
        return written_number(reader, None, 0)
    return reader.decimal(100 * value if each.name == "ejection_fraction" else value, 1)


def _agreement_row(facts: Facts, reader: Language, each: Agreement) -> AgreementRow:
    def written(value: float | None) -> str:
        return _written(reader, each, value)

    bias = each.bias
    interval = "" if bias.low is None or bias.high is None else bracketed(reader.interval(written(bias.low), written(bias.high)))
    return AgreementRow(
        quantity=reader.name("quantities", each.name),
        structure=isolated(each.of),
        patients=reader.integer(len(each.groups)),
        bias=f"{written(bias.value)} {interval}".strip(),
        limits=reader.interval(written(each.low.value), written(each.high.value)) if each.low.value is not None else "",
        correlation=f"{written_number(reader, each.correlation.value, 2)} {bracketed(written_interval(facts, reader, each.correlation))}".strip(),
    )


def agreement_figures(facts: Facts, reader: Language) -> list[Figure]:
    """Bland-Altman plots: the difference of each patient's two values over their mean."""
    return [_bland_altman(reader, each) for each in (facts.segmented.agreements if facts.segmented else [])]


def _bland_altman(reader: Language, each: Agreement) -> Figure:
    scale = 100 if each.name == "ejection_fraction" else 1
    truth, said = (scale * np.array(side) for side in (each.truth, each.prediction))
    middle, difference = (truth + said) / 2, said - truth
    levels = [scale * value for value in (each.low.value, each.bias.value, each.high.value) if value is not None]
    x_ticks = ticks(float(middle.min()), float(middle.max()), 4)
    y_ticks = ticks(min(0.0, float(difference.min()), *levels), max(0.0, float(difference.max()), *levels), 4)
    ends = [x_ticks[0], x_ticks[-1]]
    lines = [Line(ends, [0, 0], "chance")]
    if len(levels) == 3:
        lines += [Line(ends, [level, level], style) for level, style in zip(levels, ("validation", "test", "validation"), strict=True)]
    title = f"{reader.name('quantities', each.name)} · {isolated(each.of)}"
    picture = Plot(
        title=title,
        x_name=reader.text("segmented.mean_of_both"),
        y_name=reader.text("segmented.said_less_true"),
        lines=lines,
        x_range=(x_ticks[0], x_ticks[-1]),
        y_range=(y_ticks[0], y_ticks[-1]),
        x_ticks=x_ticks,
        y_ticks=y_ticks,
        write_x=reader.number,
        write_y=reader.number,
        marks=[(float(x), float(y), "of-case") for x, y in zip(middle, difference, strict=True)],
    )
    key = [("test", reader.text("segmented.key_bias")), ("validation", reader.text("segmented.key_limits"))]
    return Figure(title, plot(reader, picture), key)


def object_counts(facts: Facts, reader: Language) -> Figure | None:
    """The number of objects found in each picture over the number that is there."""
    counts = [(case.objects.truth, case.objects.prediction) for case in facts.measured("test") if case.objects]
    if not counts:
        return None
    ends = ticks(0, max(max(pair) for pair in counts), 4)
    title = reader.text("segmented.counts")
    picture = Plot(
        title=title,
        x_name=reader.text("segmented.count_true"),
        y_name=reader.text("segmented.count_said"),
        lines=[Line([0, ends[-1]], [0, ends[-1]], "chance")],
        x_range=(0, ends[-1]),
        y_range=(0, ends[-1]),
        x_ticks=ends,
        y_ticks=ends,
        write_x=reader.number,
        write_y=reader.number,
        marks=[(float(truth), float(said), "of-case") for truth, said in counts],
        square=True,
    )
    return Figure(title, plot(reader, picture), [("chance", reader.text("segmented.key_equal"))])


# --- The network and the work ---


def drawn_network(facts: Facts, reader: Language) -> Markup | None:
    """The network as it was trained, level by level; `None` before there is a model."""
    model = facts.model
    if not isinstance(model, SegmentationModel):
        return None
    blocks = [
        Block(
            reader.text("segmented.maps", {"n": maps}) if maps else isolated(model.encoder or model.network),
            sides(reader, size),
            reader.text("segmented.halved", {"stride": sides(reader, step)}) if step else "",
        )
        for maps, size, step in _levels(model)
    ]
    image = reader.text("segmented.image", {"n": model.channels})
    answer = reader.text("segmented.answer", {"n": 1 + len(model.structures)})
    title = reader.text("segmented.network_alt", {"network": model.network, "n": len(blocks)})
    gated = model.network == "attention_unet"
    skip = reader.text("segmented.skip_gated" if gated else "segmented.skip")
    return network(reader, blocks, image=image, answer=answer, skip=skip, title=title, gated=gated)


def _levels(model: SegmentationModel) -> list[tuple[int | None, list[int], tuple[int, ...]]]:
    """Of each level its feature maps where they are known, the size of what it sees, and by how much it is coarser than the level above."""
    axes = len(model.patch)
    if model.encoder is not None:
        filters: list[int | None] = [None] * 6
    elif model.network == "vnet":
        filters = [16, 32, 64, 128, 256]
    elif model.network == "segresnet":
        filters = [model.filters[0] * 2**level for level in range(4)]
    else:
        filters = list(model.filters)
    plain = model.encoder is not None or model.network in ("vnet", "segresnet")
    strides = [(1,) * axes, *[(2,) * axes] * 5] if plain else strides_of(model.patch, model.spacing_mm)
    levels, size = [], list(model.patch)
    for place, (maps, stride) in enumerate(zip(filters, strides, strict=False)):
        size = [side // step for side, step in zip(size, stride, strict=True)]
        levels.append((maps, list(size), stride if place else ()))
    return levels


def workflow(facts: Facts, reader: Language) -> list[tuple[str, str]]:
    """The steps from images to judgement, each with what this run did in it."""
    study, model = facts.study, facts.model
    if not isinstance(study, Segmentation):
        return []
    counts = {part.part: part for part in facts.parts}

    def of(part: str) -> int:
        return counts[part].images if part in counts else 0

    named = facts.patients == "known"
    steps: list[tuple[str, dict[str, Value] | None]] = [
        ("data" if named else "data_unknown", {"images": facts.used.height, "patients": facts.people(facts.used)})
    ]
    divided = "split_image" if study.split.by == "image" else "split" if named else "split_groups"
    steps.append((divided, {"train": of("train"), "validation": of("validation"), "test": of("test")} if counts else None))
    patch = sides(reader, study.input.patch) if isinstance(study.input.patch, list) else None
    spacing = study.input.spacing_mm
    spaced = sides(reader, spacing) if isinstance(spacing, list) else None
    steps.append(("prepare_spaced", {"spacing": spaced, "patch": patch}) if spaced else ("prepare", {"patch": patch}))
    if model:
        steps.append(("train", {"network": model.network, "weights": model.weights_total, "members": len(model.members)}))
        steps.append(("choose", {"epochs": reader.series([reader.integer(member.best_epoch) for member in model.members])}))
    steps.append(("post", None if facts.decision is None else {"rows": getattr(facts.decision, "validation_rows", None)}))
    test = facts.part("test")
    steps.append(("judge" if named else "judge_groups", {"rows": test.rows, "groups": test.groups} if test else None))
    return [
        (
            reader.text(f"workflow.{key}.title"),
            reader.text(f"workflow.{key}.text", figures) if figures and None not in figures.values() else "",
        )
        for key, figures in steps
    ]


# --- Definitions ---


def definitions(facts: Facts) -> list[tuple[str, str]]:
    """The measures that this study has, each with the formula that every language writes alike, or ""."""
    judged = facts.segmented
    names = [*DEFINED]
    if judged and not any(case.millimetres for part in judged.parts for case in part.cases):
        names = [name for name in names if not name.endswith(("_mm", "_ml")) and name != "surface_dice"]
    names += DEFINED_OF_OBJECTS if judged and judged.instances else ()
    names += DEFINED_OF_HEARTS if judged and any(each.name in DEFINED_OF_HEARTS for each in judged.agreements) else ()
    return [(name, FORMULAS.get(name, "")) for name in names]
