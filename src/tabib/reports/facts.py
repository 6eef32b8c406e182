"""From the plain files of a run to one plain structure that every page reads.

Only the index must be there; a report of a run that stopped half-way says what there is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from tabib.config import AnyData, AnyStudy, Data, Segmentation, SegmentationData, Study
from tabib.dataset import patients_known, rename_labels, without
from tabib.dataset.listing import NOT_UNPACKED
from tabib.errors import RunError
from tabib.records import (
    GALLERY,
    PARTS,
    BasePart,
    Checks,
    Confusion,
    Decision,
    Evaluation,
    Explained,
    Explanations,
    External,
    Finding,
    Findings,
    Known,
    Measure,
    MeasuredCase,
    Model,
    OfLabel,
    Overfit,
    PartEvaluation,
    PostProcessing,
    Published,
    SegmentationEvaluation,
    SegmentationModel,
    Sweep,
    labels_of,
)
from tabib.reports.text import reason_kind
from tabib.runs import FILES, read_histories, read_manifest, read_result

__all__ = [
    "Augmented",
    "ExplainedImage",
    "Facts",
    "PartCount",
    "Refusal",
    "external_facts",
    "published_works",
    "read_facts",
    "see_facts",
    "shown_labels",
]

LEVELS = ("fail", "warn", "pass")
"""Levels of findings, most urgent first."""

TRAINING_REMARKS = ("overfitting_none", "overfitting_late", "overfitting_early", "still_improving", "unstable_validation")
"""Remarks of the judge that are told beside the curves of the training."""

NO_LABEL = ""
"""Counts the images that have none of several labels."""

EXAMPLES = 3
SAMPLES_PER_CLASS = 6
CELLS = 240
"""Most cells of the confusion matrix whose pictures are shown."""


@dataclass(frozen=True)
class PartCount:
    """How much one part holds."""

    part: str  # one of PARTS, or "left_out"
    images: int
    groups: int
    by_class: Mapping[str, int]  # of several labels an image counts for each of its own; NO_LABEL for those of none
    rows: Sequence[int]  # of the index


@dataclass(frozen=True)
class Refusal:
    """Images that were not used for one reason."""

    kind: str | None  # a value of `REASONS`, or None
    reason: str  # in English, of the first image
    images: int
    paths: Sequence[str]  # the first few


@dataclass(frozen=True)
class Augmented:
    """One training image as the network sees it: as it is, and as it was changed at random."""

    row: int
    original: Path
    versions: Sequence[Path]


@dataclass(frozen=True)
class ExplainedImage:
    """Why one image was answered as it was, and those of its pictures that are there."""

    explained: Explained
    pictures: Sequence[tuple[Explained | OfLabel, str, Path]]  # the answer that each is about, what it shows, and the file


@dataclass(frozen=True)
class Facts:
    """All that a report tells. What a run has no file for is `None` or empty."""

    study: AnyStudy | None
    data: AnyData
    cache_folder: Path  # where an archive is unpacked
    index: pl.DataFrame
    classes: Sequence[str]
    positive: str | None
    findings: Findings
    parts: Sequence[PartCount]
    refused: Sequence[Refusal]
    left_out: Sequence[Refusal]
    folds: int
    checks: Checks | None
    overfit: Overfit | None
    sweep: Sweep | None
    model: Model | SegmentationModel | None
    decision: Decision | PostProcessing | None
    histories: Mapping[str, Sequence[Mapping[str, Any]]]
    augmented: Sequence[Augmented]
    predictions: Mapping[int, Mapping[str, Any]]  # by row of the index
    evaluation: Evaluation | SegmentationEvaluation | None
    explanations: Explanations
    explained: Sequence[ExplainedImage]
    layer_maps: Mapping[str, Path]  # feature maps of the first explained image, by layer
    manifest: Mapping[str, Any]
    label: int | None = None  # which of several labels these facts are about
    folder: Path | None = None  # of the run

    @property
    def several(self) -> bool:
        """Whether an image may have several labels, or none, and all are told of."""
        return self.data.several and self.label is None

    @property
    def masked(self) -> bool:
        """Whether the images have masks, and their labels are the structures these show."""
        return isinstance(self.data, SegmentationData)

    def said(self, words: str, of_classes: str) -> str:
        """The key of some words: of structures, of several labels, or `of_classes`."""
        return f"structures.{words}" if self.masked else f"labels.{words}" if self.several else of_classes

    def labels(self, row: int) -> str:
        """The class of an image as it is shown, or its labels."""
        label = self.index["label"][row]
        return shown_labels(label) if self.data.several else label

    def of_labels(self, name_without: Callable[[str], str] = without) -> list[Facts]:
        """The facts of each of several labels, judged as two classes; `name_without` names the other class."""
        return [self._of_label(number, name_without) for number in range(len(self.classified.labels))] if self.classified else []

    def _of_label(self, number: int, name_without: Callable[[str], str]) -> Facts:
        assert self.classified is not None
        label, mine = self.classes[number], self.classified.labels[number]
        other = name_without(label)
        names = {without(label): other, label: label}

        def named(text: str | None) -> str | None:
            return text if text is None else label if label in labels_of(text, several=True) else other

        return replace(
            self,
            label=number,
            classes=[other, label],
            positive=label,
            evaluation=Evaluation.model_validate(_renamed(mine.model_dump(), names)),
            decision=self.decided and self.decided.model_copy(update={"threshold": self.decided.thresholds[number]}),
            predictions={
                row: {
                    "part": each["part"],
                    "label": named(each["label"]),
                    "predicted": named(each["predicted"]),
                    f"p_{label}": each[f"p_{label}"],
                    f"p_{other}": None if each[f"p_{label}"] is None else 1 - each[f"p_{label}"],
                }
                for row, each in self.predictions.items()
            },
        )

    @property
    def good(self) -> pl.DataFrame:
        """The rows of the index that can be used."""
        return self.index.filter(pl.col("refused").is_null())

    @property
    def used(self) -> pl.DataFrame:
        """The rows of the index that train, choose or judge; without a split, those that can be used."""
        return self.rows_of(*PARTS) if self.study and self.parts else self.good

    @property
    def patients(self) -> Known:
        """Of how many of the used images the patient is known."""
        return patients_known(self.used["group"])

    def rows_of(self, *names: str) -> pl.DataFrame:
        """The rows of the index that stand in these parts of the split."""
        return self.index.filter(pl.col("row").is_in([row for part in self.parts if part.part in names for row in part.rows]))

    def people(self, rows: pl.DataFrame) -> int:
        """Number of known patients in some rows of the index."""
        restarts = self.study is not None and self.study.split.group_scope == "split"
        return rows.drop_nulls("group").select("group", *(["given"] if restarts else [])).n_unique()

    def unnamed(self, rows: pl.DataFrame) -> int:
        """Number of some rows of the index whose patient is unknown."""
        return rows["group"].null_count()

    @property
    def threshold(self) -> float | None:
        """The operating point of a two-class model."""
        return self.decided.threshold if self.decided else self.classified.threshold if self.classified else None

    @property
    def classified(self) -> Evaluation | None:
        """The judgement of a classifier."""
        return self.evaluation if isinstance(self.evaluation, Evaluation) else None

    @property
    def segmented(self) -> SegmentationEvaluation | None:
        """The judgement of a segmenter."""
        return self.evaluation if isinstance(self.evaluation, SegmentationEvaluation) else None

    @property
    def decided(self) -> Decision | None:
        """What was chosen for a classifier after its training."""
        return self.decision if isinstance(self.decision, Decision) else None

    def part(self, name: str) -> BasePart | None:
        """What was measured on one part."""
        return next((part for part in self.evaluation.parts if part.part == name), None) if self.evaluation else None

    def answered(self, name: str) -> PartEvaluation | None:
        """What was measured on one part of a classifier's answers."""
        return next((part for part in self.classified.parts if part.part == name), None) if self.classified else None

    def measured(self, name: str) -> list[MeasuredCase]:
        """The cases of one part whose masks were measured."""
        return next((part.cases for part in self.segmented.parts if part.part == name), []) if self.segmented else []

    def counted(self, name: str) -> PartCount | None:
        """How much one part of the split holds."""
        return next((part for part in self.parts if part.part == name), None)

    def measure(self, name: str, of: str | None = None, part: str = "test") -> Measure | None:
        """One measure of one part."""
        judged = self.part(part)
        return next((each for each in judged.measures if each.name == name and each.of == of), None) if judged else None

    def everything(self) -> list[Finding]:
        """All findings, checks and remarks, in the order of the pages."""
        return [
            *self.findings.findings,
            *self.all_checks(),
            *(self.evaluation.remarks if self.evaluation else []),
            *self.explanations.remarks,
        ]

    @property
    def published(self) -> list[Published]:
        """What others published, as the study names it."""
        return published_works(self.study) if self.study else []

    @property
    def negative(self) -> str | None:
        """Of two classes the one that is not looked for."""
        others = [name for name in self.classes if name != self.positive]
        return others[0] if self.positive is not None and len(others) == 1 else None

    @property
    def positive_guessed(self) -> bool:
        """Whether the class that is looked for was taken from the names of the classes."""
        return any(finding.code == "positive_guessed" for finding in self.everything())

    @property
    def leak_kept(self) -> bool:
        """Whether test images share a patient or a copy with training, because the study asked for it."""
        return any(finding.code == "given_leak_kept" for finding in self.everything())

    def warnings(self) -> list[Finding]:
        """What must not be trusted: everything that was marked for the first page, most urgent first."""
        return self.by_urgency([finding for finding in self.everything() if finding.page_one])

    def smaller_warnings(self) -> list[Finding]:
        """Warnings that stand further below only."""
        return self.by_urgency([finding for finding in self.everything() if not finding.page_one and finding.level != "pass"])

    def by_urgency(self, findings: Sequence[Finding]) -> list[Finding]:
        """Findings, the most urgent first."""
        return sorted(findings, key=lambda finding: LEVELS.index(finding.level))

    def remarks(self, chapter: str) -> list[Finding]:
        """What the judge remarks that belongs to the chapter `training` or `results`."""
        remarks = self.evaluation.remarks if self.evaluation else []
        return self.by_urgency([remark for remark in remarks if (remark.code in TRAINING_REMARKS) == (chapter == "training")])

    def all_checks(self) -> list[Finding]:
        """What was found before and while training."""
        looks = (self.checks, self.overfit, self.sweep)
        return [*(check for look in looks if look for check in look.checks), *(self.model.remarks if self.model else [])]

    def masked_samples(self) -> list[int]:
        """A few images with masks, drawn as `samples` are."""
        return self.good.filter(pl.col("mask").is_not_null()).sort("content")["row"].head(GALLERY).to_list() if self.masked else []

    def samples(self) -> dict[str, list[int]]:
        """A few images of each class, drawn by content hash: not by choice, and the same in every report."""
        rows = self.good.sort("content")
        several = self.data.several
        own = {row: labels_of(label, several=several) for row, label in rows.select("row", "label").iter_rows()}
        return {name: [row for row, labels in own.items() if name in labels][:SAMPLES_PER_CLASS] for name in self.classes}

    def confident_mistakes(self) -> list[int]:
        """Test rows that were called wrong with the highest probability."""
        wrong = [
            (-float(guess[f"p_{guess['predicted']}"]), row)
            for row, guess in self.predictions.items()
            if not self.several
            and guess["part"] == "test"
            and guess["predicted"] is not None
            and guess["label"] not in (None, guess["predicted"])
        ]
        return [row for _, row in sorted(wrong)[:GALLERY]]

    def filled_cells(self) -> list[Confusion]:
        """Cells of the confusion matrix of the test part that hold an image."""
        test = self.answered("test")
        return [cell for cell in test.confusion if cell.count] if test else []

    def cells(self) -> list[Confusion]:
        """The cells whose pictures are shown; mistakes first, the most frequent first."""
        return sorted(self.filled_cells(), key=lambda cell: (cell.truth == cell.predicted, -cell.count))[:CELLS]


def published_works(study: AnyStudy) -> list[Published]:
    """What others published on the question of a study, with the figures that it names."""
    return [
        Published(
            name=work.name,
            protocol={code: text for code, text in work.protocol.model_dump().items() if text} if work.protocol else {},
            link=work.link,
            figures=work.figures.model_dump(exclude_none=True),
        )
        for work in study.notes.past_work
    ]


def read_facts(run_folder: Path, study: AnyStudy) -> Facts:
    """Read the files of a run. Raises `RunError` where there is no index yet."""
    index = read_result(run_folder, "index")
    if index is None:
        raise RunError(
            f"{run_folder} has no {FILES['index'].path}: nothing has been done yet that a report could tell. Run: tabib run STUDY"
        )
    split = read_result(run_folder, "split")
    model = read_result(run_folder, "model")
    evaluation = read_result(run_folder, "evaluation")
    predictions = read_result(run_folder, "predictions")
    explanations = read_result(run_folder, "explanations") or Explanations(images=[])
    pictures = (run_folder / FILES["explanations"].path).parent
    judge = evaluation or model
    return Facts(
        study=study,
        data=study.data,
        cache_folder=run_folder.parent.parent / ".cache",
        index=index,
        classes=_judged_classes(judge) or _study_classes(study, index),
        positive=judge.positive if isinstance(judge, Evaluation | Model) else study.positive if isinstance(study, Study) else None,
        findings=read_result(run_folder, "findings") or Findings(findings=[]),
        parts=[] if split is None else _parts(split, several=study.several),
        refused=_refusals(index, "refused"),
        left_out=[] if split is None else _refusals(split.filter(~pl.col("reason").str.starts_with("refused")), "reason"),
        folds=0 if split is None else split["fold"].drop_nulls().n_unique(),
        checks=read_result(run_folder, "checks"),
        overfit=read_result(run_folder, "overfit"),
        sweep=read_result(run_folder, "sweep"),
        model=model,
        decision=read_result(run_folder, "decision"),
        histories=read_histories(run_folder),
        augmented=_augmented(run_folder / "model" / "augmented"),
        predictions={} if predictions is None else {row["row"]: row for row in predictions.iter_rows(named=True)},
        evaluation=evaluation,
        explanations=explanations,
        explained=[
            ExplainedImage(
                each, [(of, kind, path) for of in (each, *each.labels) for kind, path in _present(pictures, of.pictures).items()]
            )
            for each in explanations.images
        ],
        layer_maps=_present(pictures, explanations.feature_maps),
        manifest=read_manifest(run_folder),
        folder=run_folder,
    )


def see_facts(data: AnyData, index: pl.DataFrame, findings: Findings, *, cache_folder: Path) -> Facts:
    """The facts of a first look at a folder: no study, no network."""
    return Facts(
        study=None,
        data=data,
        cache_folder=cache_folder,
        index=index,
        classes=data.structures if isinstance(data, SegmentationData) else _classes(index, several=data.several),
        positive=None,
        findings=findings,
        parts=_parts(_given(index), several=data.several) if index["given"].drop_nulls().len() else [],
        refused=_refusals(index, "refused"),
        left_out=[],
        folds=0,
        checks=None,
        overfit=None,
        sweep=None,
        model=None,
        decision=None,
        histories={},
        augmented=[],
        predictions={},
        evaluation=None,
        explanations=Explanations(images=[]),
        explained=[],
        layer_maps={},
        manifest={},
    )


def external_facts(run_folder: Path, study: AnyStudy, external: External, index: pl.DataFrame, predictions: pl.DataFrame) -> Facts:
    """The facts of a page on images of another source: those of a first look, and how the model did there."""
    judged, answers = external.evaluation, predictions
    masked = isinstance(judged, SegmentationEvaluation)
    data = (SegmentationData if masked else Data).model_validate(external.data)
    if not masked and judged.labels:  # what was said of labels that are not judged is neither right nor wrong
        answers = answers.with_columns(rename_labels(answers["predicted"], {label: label for label in judged.classes}))
    looked = see_facts(
        data,
        index.with_columns(given=pl.lit(None, dtype=pl.String())),
        Findings(findings=external.found),
        cache_folder=run_folder.parent.parent / ".cache",
    )
    return replace(
        looked,
        study=study.model_copy(update={"data": data, "notes": type(study.notes)()}),
        classes=_judged_classes(judged),
        positive=None if masked else judged.positive,
        folder=run_folder / "external" / external.name,
        predictions={row["row"]: row for row in answers.iter_rows(named=True)},
        evaluation=judged.model_copy(update={"remarks": [remark for remark in judged.remarks if remark not in external.found]}),
    )


def shown_labels(label: str | None) -> str:
    """Several labels as a page shows them."""
    return ", ".join(labels_of(label, several=True)) or "–"


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """The same JSON with some words in the place of others."""
    if isinstance(value, dict):
        return {names.get(key, key): _renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value


def _classes(index: pl.DataFrame, *, several: bool) -> list[str]:
    return sorted({name for label in index["label"].unique() for name in labels_of(label, several=several)})


def _judged_classes(judge: Evaluation | Model | SegmentationEvaluation | SegmentationModel | None) -> list[str]:
    return [] if judge is None else judge.classes if isinstance(judge, Evaluation | Model) else judge.structures


def _study_classes(study: AnyStudy, index: pl.DataFrame) -> list[str]:
    return study.data.structures if isinstance(study, Segmentation) else _classes(index, several=study.several)


def _given(index: pl.DataFrame) -> pl.DataFrame:
    return index.filter(pl.col("refused").is_null()).select(
        "row", "label", "group", part=pl.col("given").str.replace(r"^fold \d+$", "train").fill_null("left_out")
    )


def _parts(split: pl.DataFrame, *, several: bool) -> list[PartCount]:
    counts = []
    for part in (*PARTS, "left_out"):
        rows = split.filter(pl.col("part") == part)
        by_class = Counter(name for label in rows["label"].drop_nulls() for name in labels_of(label, several=several) or [NO_LABEL])
        counts.append(PartCount(part, rows.height, rows["group"].drop_nulls().n_unique(), by_class, rows["row"].to_list()))
    return counts


def _refusals(table: pl.DataFrame, column: str) -> list[Refusal]:
    """Rows with a reason, alike reasons together, the most frequent first."""
    together: dict[tuple[str | None, str], list[tuple[str, str]]] = {}
    for path, reason in table.drop_nulls(column).sort("path").select("path", column).iter_rows():
        words = reason.removeprefix(f"{path}: ")
        kind = reason_kind(words)
        words = words.removeprefix(NOT_UNPACKED)
        alike = re.sub(r"[\d,.]+|'[^']*'", "#", words) if kind in (None, "not_unpacked") else ""
        together.setdefault((kind, alike), []).append((path, words))
    found = [Refusal(kind, rows[0][1], len(rows), [path for path, _ in rows[:EXAMPLES]]) for (kind, _), rows in together.items()]
    return sorted(found, key=lambda each: -each.images)


def _present(folder: Path, names: Mapping[str, str]) -> dict[str, Path]:
    return {key: folder / name for key, name in names.items() if (folder / name).exists()}


def _augmented(folder: Path) -> list[Augmented]:
    originals = sorted((path for path in folder.glob("*.png") if path.stem.isdigit()), key=lambda path: int(path.stem))
    return [
        Augmented(int(path.stem), path, versions)
        for path in originals
        if (versions := sorted(folder.glob(f"{path.stem}_*.png"), key=lambda version: (len(version.stem), version.stem)))
    ]
