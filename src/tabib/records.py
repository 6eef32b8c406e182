"""The nouns that one step hands to the next.

Tables are polars data frames with the columns named here; everything else is a frozen record that is written as JSON.

| noun          | kind   | written by                     | file                        |
|---------------|--------|--------------------------------|-----------------------------|
| index         | table  | `dataset.index_folder`         | `index.parquet`             |
| findings      | record | `dataset.inspect_dataset`      | `findings.json`             |
| split         | table  | `dataset.split_dataset`        | `split.csv`                 |
| checks        | record | `training.check_training`      | `checks.json`               |
| model         | record | `training.train`               | `model/model.json`          |
| decision      | record | `training.calibrate`           | `model/decision.json`       |
| predictions   | table  | `prediction.predict_index`     | `predictions.parquet`       |
| evaluation    | record | `evaluation.evaluate`, `evaluate_masks` | `evaluation.json`  |
| explanations  | record | `explanation.explain`          | `explanations/explanations.json` |
"""

from __future__ import annotations

from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict

__all__ = [
    "GALLERY",
    "INDEX_SCHEMA",
    "LABEL_SEPARATOR",
    "MASKS_SCHEMA",
    "PARTS",
    "SPLIT_SCHEMA",
    "THIRDS",
    "AblatedRow",
    "AblatedRun",
    "Ablation",
    "Agreement",
    "Answer",
    "BaseEvaluation",
    "BasePart",
    "Beside",
    "Change",
    "Checks",
    "Compared",
    "Comparison",
    "Confusion",
    "Curve",
    "Decision",
    "Difference",
    "Evaluation",
    "Explained",
    "Explanations",
    "External",
    "Finding",
    "Findings",
    "Known",
    "LabelDoubt",
    "LabelTrouble",
    "LeakyTwin",
    "LearningCurve",
    "LearningPoint",
    "Level",
    "Likeness",
    "Measure",
    "MeasuredCase",
    "MeasuredObjects",
    "MeasuredStructure",
    "Member",
    "Model",
    "Neighbour",
    "NotRun",
    "OfLabel",
    "Outlined",
    "PairedMeasure",
    "PartEvaluation",
    "PostProcessing",
    "Published",
    "Record",
    "SameCase",
    "SamePicture",
    "SeedFigures",
    "SegmentationEvaluation",
    "SegmentationModel",
    "SegmentedPart",
    "Subgroup",
    "Twin",
    "Typical",
    "label_columns",
    "labels_of",
    "prediction_schema",
]

Level = Literal["pass", "warn", "fail"]
"""How much a finding matters: looked at and fine, to be read, or stops a study."""

Typical = dict[str, list[float] | list[tuple[str | None, float]]]
"""What is typical of each class: of a number its 10 % quantile, median and 90 % quantile (nothing where no file says it);
of words the most frequent with their shares, `None` where the file says nothing. Of one number alone, that number."""

Known = Literal["known", "partly", "unknown"]
"""How far it is known which patient an image is of: of all images, of some, of none."""

PARTS = ("train", "validation", "test")
"""The parts of a split, in the order of the road."""

GALLERY = 12
"""Most images of one gallery: the worst, the most confident mistakes, those drawn by chance."""

LABEL_SEPARATOR = "|"
"""What stands between the labels of an image where it may have several."""

INDEX_SCHEMA: dict[str, pl.DataType] = {
    "row": pl.UInt32(),  # 0, 1, 2, ... in the order of `path`
    "path": pl.String(),  # relative to the data folder, "/" between parts; a frame of several "film.dcm[3]"; for npz "train_images[17]"
    "label": pl.String(),  # class name, or the labels or structures, "" for none (`labels_of`); null where the layout says nothing, or without a mask
    "given": pl.String(),  # "train", "validation", "test" or "fold 3" where the folder or the table names a part, else null
    "group": pl.String(),  # patient (or slide, animal); null where unknown
    "refused": pl.String(),  # why the row cannot be used, in English; null for a good row
    "content": pl.String(),  # SHA-256 of the file's bytes (a frame: of that and its number; with a mask: of both files' digests; npz: of the array's bytes and shape), hexadecimal
    "pixels": pl.String(),  # SHA-256 of the decoded pixels: equal for one picture saved twice in different files
    "perceptual": pl.UInt64(),  # perceptual hash of the grey thumbnail; null for a refused row
    "thumbnail": pl.Binary(),  # 32 x 32 (`images.THUMBNAIL_SIDE`) grey bytes, row by row, stretched to the image's own range
    "bytes": pl.Int64(),  # size of the file
    "format": pl.String(),  # "JPEG", "PNG", "TIFF", "DICOM", "NPZ"
    "height": pl.Int32(),
    "width": pl.Int32(),
    "slices": pl.Int32(),  # of a study of masks, whose rows are whole volumes; 1 for a picture. null otherwise
    "channels": pl.Int32(),
    "bits": pl.Int32(),  # bits stored per sample: 8, 12, 16
    "colour": pl.Boolean(),  # whether the channels differ from one another (a grey film saved as RGB does not)
    "mode": pl.String(),  # as the file says: "L", "RGB", "CMYK", "I;16", "MONOCHROME1"
    "compression": pl.String(),  # JPEG quantisation class, TIFF compression or DICOM transfer syntax; null where none
    "content_slices": pl.Int32(),  # sides of the box that holds all but the background (`images.content_box`), of a study of masks
    "content_height": pl.Int32(),
    "content_width": pl.Int32(),
    "spacing_row_mm": pl.Float64(),  # distance between rows; null where the file does not say
    "spacing_column_mm": pl.Float64(),
    "spacing_slice_mm": pl.Float64(),  # distance between slices; null where there is one only, or nobody says
    "mean": pl.Float64(),  # mean of the grey picture as a fraction of its nominal range, 0..1
    "contrast": pl.Float64(),  # its standard deviation, same unit
    "border": pl.Float64(),  # share of the outermost ring of pixels that is one constant value, 0..1
    "sharpness": pl.Float64(),  # deviation of the Laplacian over that of the grey picture, its shorter side reduced to 64..128 pixels; null for one flat value
    "black": pl.Float64(),  # share of the picture at that scale that is within 0.5 % of black, 0..1
    "white": pl.Float64(),  # the same of white
    "marks": pl.String(),  # where something white is burnt into the frame, as "top_left right" (`images.MARK_PLACES`); "" for nowhere
    "scanner": pl.String(),  # DICOM manufacturer and model, EXIF camera; null where the file does not say
    "site": pl.String(),  # DICOM institution; null where the file does not say
    "date": pl.String(),  # acquisition date YYYY-MM-DD; null where the file does not say
    "facts": pl.String(),  # JSON object {name: text} of `data.columns.facts` and of what the layout says, values that are there; null where there are none
    "mask": pl.String(),  # path of its mask, relative to the data folder; null where there is none, and in studies without masks
    "structures": pl.String(),  # JSON object {number: voxels} of the numbers other than 0, as stored in the mask; null without a mask
    "stack_faults": pl.String(),  # JSON list of `images.Fault`, what does not fit together among the DICOM slices of a volume; null where all does
    "mask_facts": pl.String(),  # JSON object of `dataset.masks.MaskFacts`: how the mask lies and what its structures look like; null without a mask
}

SPLIT_SCHEMA: dict[str, pl.DataType] = {
    "row": pl.UInt32(),  # row of the index
    "path": pl.String(),
    "content": pl.String(),
    "label": pl.String(),
    "group": pl.String(),  # the patient, or the near-copy cluster where patients are unknown: separated only if a study asks for it
    "part": pl.String(),  # one of PARTS, or "left_out"
    "fold": pl.Int32(),  # 0..k-1 for training rows of a k-fold split, else null
    "reason": pl.String(),  # why a row is left out; null otherwise
}


def labels_of(label: str | None, *, several: bool) -> list[str]:
    """What the `label` of an image stands for: its class, or, in a study of `several` labels, those that are present (none for "")."""
    if label is None:
        return []
    return [name for name in label.split(LABEL_SEPARATOR) if name] if several else [label]


def label_columns(classes: list[str], *, several: bool) -> list[pl.Expr]:
    """Of a table with a column `label`, how another table says it that Tabib reads: the class, or of `several` labels 1 or 0 for each."""
    if not several:
        return [pl.col("label")]
    present = pl.col("label").str.split(LABEL_SEPARATOR).list
    return [present.contains(name).cast(pl.UInt8).alias(name) for name in classes]


def prediction_schema(classes: list[str]) -> dict[str, pl.DataType]:
    """Columns of a table of predictions: one probability column per class (or label), in the order of `classes`."""
    return {
        "row": pl.UInt32(),  # row of the index
        "path": pl.String(),
        "group": pl.String(),
        "part": pl.String(),  # "validation" or "test"
        "label": pl.String(),  # the truth; null where unknown
        "predicted": pl.String(),  # the class at the operating point, or the labels as in the index; null for a refused image
        "refused": pl.String(),  # why there is no prediction; null otherwise
        **{f"p_{name}": pl.Float64() for name in classes},  # calibrated; of classes they sum to 1
    }


MASKS_SCHEMA: dict[str, pl.DataType] = {
    "row": pl.UInt32(),  # row of the index
    "path": pl.String(),
    "group": pl.String(),
    "part": pl.String(),  # "validation" or "test"
    "mask": pl.String(),  # of the prediction, below the run folder: numbers as in the masks of the data, on the voxels of the image
    "disagreement": pl.Float64(),  # `metrics.disagreement` of the members' masks; null of one answer alone
}
"""Columns of a segmenter's table of predictions."""


class Record(BaseModel):
    """Base of everything written as JSON: frozen, and no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Finding(Record):
    """Something a person should know about data, training or a result.

    The words are not here: `reports/locales/*.toml` has, for every code, a title, a sentence with the `figures` filled
    in, and what to do.
    """

    code: str  # "near_copies", "learning_rate_high", "validation_flatters"
    level: Level
    figures: dict[str, float | int | str | Typical] = {}
    rows: list[int] = []  # index rows that show it, most telling first; at most 200
    page_one: bool = False  # whether it belongs under "what must not be trusted" on the first page
    label: str | None = None  # which of several labels it is about


class Findings(Record):
    """What a look at the data found."""

    findings: list[Finding]
    near_copies: list[list[int]] = []  # clusters of index rows: the centre first, then its near copies
    group_pattern: str | None = None  # proposed for `data.group` where the study gives none and one was recognised


class Checks(Record):
    """What the training doctor found before the long run."""

    checks: list[Finding]
    initial_loss: float
    expected_initial_loss: float
    seconds_per_step: float
    predicted_seconds: float
    seconds_before_epochs: float = 0  # of these, for what frozen layers say of all images, which is computed once
    predicted_memory: int | None = None  # bytes that training holds at most; None where the system does not say


class Overfit(Record):
    """A few images learnt by heart, or not. `overfit.json`."""

    checks: list[Finding]
    losses: list[float]  # of each step


class TriedRate(Record):
    """Some steps with one learning rate."""

    rate: float
    losses: list[float]  # of each step, as far as it was a number
    end: float | None  # mean of the last ten; None where the loss was no longer a number


class Sweep(Record):
    """Steps with many learning rates, each from the same weights. `sweep.json`."""

    checks: list[Finding]
    tried: list[TriedRate]  # in the order of the rates
    steps: int  # with each, at most
    best: float | None  # None where the loss falls with none that may be chosen
    below: float | None = None  # only lower rates are chosen, as the optimizer does not train with others; None where it has no limit


class Round(Record):
    """Epochs of `schedule: rounds` with one rate."""

    number: int  # from 1
    first_epoch: int  # from 1
    rate: float
    from_epoch: int | None = None  # whose weights it began with, where those of the epoch before were given up
    tried: list[TriedRate] = []  # rates tried from these weights, one of which it has; the rate 0 shows the loss without a step


class Member(Record):
    """One trained network of the model: a seed or a fold."""

    name: str  # "seed0", "fold3"
    seed: int
    fold: int | None
    epochs: int  # epochs that ran
    best_epoch: int  # epoch whose weights are kept, counted from 1
    best_value: float  # the watched validation metric there
    train_images: int = 0  # on how many training images, or cases, `train` was measured: at most as many as validate
    train: dict[str, float | None] = {}  # what the history has of validation, of unchanged training images and the kept weights
    weights_sha256: str  # of members/<name>/weights.safetensors
    seconds: float
    memory: int | None = None  # bytes held at most, at the end of an epoch; None where the system does not say
    rounds: list[Round] = []  # of `schedule: rounds`
    probe: list[list[float]] = []  # of a network of the user's own: its logits of made-up images, which it must give again


class TrainFit(Record):
    """A metric of the kept weights, the mean over members: on training images that are not changed, and on validation images."""

    name: str  # as in `history.jsonl` behind "validation_"
    train: float
    validation: float


class Model(Record):
    """A trained model: everything needed to build its networks again, and where its weights lie."""

    network: str
    classes: list[str]  # or labels
    several: bool = False  # whether these are labels of which an image may have several or none
    positive: str | None
    channels: int
    height: int
    width: int
    head: list[int] = []  # widths of its dense layers
    dropout: list[float] = [0.2]
    outputs: Literal["auto", "one", "one_per_class"] = "auto"  # for two classes
    fit: Literal["stretch", "pad", "crop"] = "stretch"
    intensity: Literal["network", "unit", "minmax", "zscore", "percentile"] = "network"
    mean: list[float] = []  # per channel, in 0..1: what `intensity: network` subtracts
    std: list[float] = []  # and divides by
    weights_total: int
    weights_trainable: int
    weights_source: str  # "none", "own" (as the user's own module was given), or the origin with its version or file name
    weights_source_sha256: str | None
    members: list[Member]
    remarks: list[Finding] = []  # what was said while training: plateau at ln 2, exploding logits


class Decision(Record):
    """Everything chosen after training, on validation rows only, before any test row is predicted."""

    classes: list[str]  # or labels
    positive: str | None
    temperature: float | None  # None where each label has its own
    threshold: float | None  # probability of the positive class from which a row counts as positive; None for > 2 classes
    temperatures: list[float] = []  # of each of several labels
    thresholds: list[float] = []  # of each of several labels: the probability from which it counts as present
    rule: str  # "youden" or a field of `config.Threshold`; "argmax" for more than two classes
    weights_sha256: list[str]  # of the members it was chosen for, in the order of `Model.members`
    validation_rows: int
    validation_groups: int
    log_loss_before: float
    log_loss_after: float


class SegmentationModel(Record):
    """A trained segmenter: everything needed to build its networks again, and where its weights lie."""

    structures: list[str]  # in the order of the outputs, after the background
    numbers: list[int]  # what masks call each of them
    instances: bool  # whether the structure's connected parts are objects
    network: str
    encoder: str | None
    filters: list[int]  # of each level, from the top; nothing where the encoder says them
    norm: Literal["auto", "batch", "instance"] | None
    dropout: float
    deep_supervision: bool
    dimensions: int
    patch: list[int]  # rows and columns, or slices, rows and columns, that are seen at once
    crop: Literal["content"] | None = None  # what images are cut to before they are scaled
    spacing_mm: list[float] | None  # that images are resampled to; None keeps what they have
    channels: int
    channel_names: list[str] = []  # of channels that have files of their own
    intensity: Literal["zscore", "percentile", "unit", "ct_window"]
    window: list[float] | None
    weights_total: int
    weights_trainable: int
    weights_source: str
    weights_source_sha256: str | None
    members: list[Member]
    remarks: list[Finding] = []


class PostProcessing(Record):
    """What is done with a segmenter's masks, chosen on validation images before any test image is predicted."""

    structures: list[str]
    largest_component: list[str]  # structures of which only the largest connected part stays
    fill_holes: list[str]  # structures whose holes are filled, slice by slice
    flips: bool  # whether mirrored images are predicted as well
    smallest_object: int = 1  # pixels; of a model of `instances`, what is smaller is no object
    weights_sha256: list[str]  # of the members it was chosen for, in the order of `SegmentationModel.members`
    validation_rows: int
    validation_groups: int
    dice_before: dict[str, float | None]  # of each structure: mean over the validation images, of the network alone
    dice_after: dict[str, float | None]


class Measure(Record):
    """One number, how far it can be trusted, and what stands beside it."""

    name: str  # "auc", "sensitivity", ...
    of: str | None = None  # a class, or "macro" or "weighted"; None for the whole
    value: float | None  # None where undefined
    low: float | None = None
    high: float | None = None
    method: Literal["wilson", "mover", "newcombe", "jackknife_t", "bootstrap_t", "bootstrap", "t", "fisher_z", "none"] = (
        "none"  # `metrics.intervals`
    )
    approximate: bool = False  # fewer than 20 groups stand behind the value
    rows: int = 0  # what the value is computed over
    groups: int = 0
    undefined_draws: int = 0  # bootstrap draws in which the value did not exist
    baselines: dict[str, float] = {}  # "majority_class", "file_facts", "mean_intensity"
    goal: float | None = None


class PairedMeasure(Measure):
    """By how much one method is better than another on the same rows, and whether that may be chance (`metrics.paired`)."""

    p: float | None = None  # of this difference alone
    corrected: float | None = None  # for all differences of this measure beside it (Holm), or all pairs of a search (Bonferroni)
    error: float | None = None  # standard error; None where no group differs, or too few are there
    freedom: float | None = None  # degrees of freedom of the test
    detectable: float | None = None  # the difference that would be shown, so corrected, with a chance of 80 %; None if unknown
    pairs: int = 1  # trainings of each method


class Curve(Record):
    """Points of a curve of one class, at most 400."""

    name: Literal["roc", "precision_recall", "calibration", "net_benefit"]
    of: str
    x: list[float]
    y: list[float]
    counts: list[int] = []  # calibration: rows in each bin


class Confusion(Record):
    """Counts and rows of one cell of the confusion matrix."""

    truth: str
    predicted: str
    count: int
    rows: list[int]  # most confident first


class BasePart(Record):
    """What was measured on one part, whatever the task."""

    part: Literal["validation", "test"]
    rows: int
    groups: int
    refused: int
    measures: list[Measure]


class PartEvaluation(BasePart):
    """What was measured on one part."""

    class_counts: dict[str, int]
    class_groups: dict[str, int] = {}  # groups that show each class
    confusion: list[Confusion]
    curves: list[Curve]


class Subgroup(Record):
    """What was measured on the test images of which a column says the same, or of a third of them."""

    column: str
    low: float | str | None  # the smallest value, or the one; None where nothing is known, or the rarest words are joined
    high: float | str | None
    joined: int = 0  # how many words the subgroup of the rarest holds
    rows: int = 0
    groups: int = 0
    measures: list[Measure]
    differences: list[Measure]  # to all other test images

    @property
    def name(self) -> str:
        """What it is called in findings, alike in every language."""
        low, high = (f"{end:g}" if isinstance(end, float) else end for end in (self.low, self.high))
        said = f"… ({self.joined})" if self.joined else "?" if low is None else low if low == high else f"{low} – {high}"
        return f"{self.column} = {said}"


class BaseEvaluation(Record):
    """Is the model any good, how sure is that, and what must not be believed: what is said of every task."""

    patients: Known  # over all images of the three parts
    gap: list[Measure]  # test minus validation, with intervals
    subgroups: list[Subgroup] = []  # of the test part
    remarks: list[Finding]  # over-fitting, gap, goals, wide intervals, calibration, in codes
    worst: list[int]  # at most GALLERY index rows of the test part: highest loss, or lowest Dice, first
    random: list[int]  # as many, drawn by content hash, not by choice
    confidence: float
    draws: int
    test_looks: int

    @property
    def patients_known(self) -> bool:
        """Whether the patient of every image is known."""
        return self.patients == "known"


class Evaluation(BaseEvaluation):
    """The answers of a classifier, judged.

    Of several labels each is judged as a study of two classes, the last of which is the label; the whole then has the
    means over labels and the share of images on which every label is right.
    """

    classes: list[str]  # or labels
    labels: list[Evaluation] = []  # of each of several labels, in the order of `classes`
    positive: str | None
    threshold: float | None
    parts: list[PartEvaluation]  # validation, then test
    prevalence: float | None = None  # share of positives where the model is to be used
    at_prevalence: list[Measure] = []  # PPV and NPV of test there


THIRDS = ("apical", "middle", "basal"), ("first", "middle", "last")
"""What the thirds of the slices that show a structure are called: in a heart, and in any other volume, in the order of its slices."""


class MeasuredStructure(Record):
    """One structure of one case, as `tabib.metrics.definitions.STRUCTURES` defines its measures.

    None is a measure that does not exist, or a distance that is infinite as one of the masks is empty.
    """

    structure: str
    true_positive: int  # voxels
    false_positive: int
    false_negative: int
    dice: float | None
    iou: float | None
    precision: float | None
    recall: float | None
    hausdorff95_mm: float | None
    surface_distance_mm: float | None
    surface_dice: float | None
    truth_ml: float | None
    prediction_ml: float | None
    thirds: list[tuple[int, int, int]]  # found, added and missed voxels in each third of the slices that show it; none below 3 slices
    largest_slice: int  # counted from 1, that truly shows most of it; in the prediction where it truly is nowhere
    worst_slice: int | None  # counted from 1, with most voxels added or missed; None where none is
    worst_share: float  # of all voxels added or missed that lie there
    missed_slices: int  # of those that truly show it: where nothing was found
    added_slices: int  # of the others: where something was found

    @property
    def truth(self) -> int:
        """True voxels."""
        return self.true_positive + self.false_negative

    @property
    def prediction(self) -> int:
        """Predicted voxels."""
        return self.true_positive + self.false_positive

    @property
    def missed(self) -> bool:
        """Whether it is there, and nothing was found."""
        return self.truth > 0 and self.prediction == 0

    @property
    def made_up(self) -> bool:
        """Whether it is not there, and something was found."""
        return self.truth == 0 and self.prediction > 0


class MeasuredObjects(Record):
    """The objects of one case, as `tabib.metrics.definitions.OBJECTS` defines their measures."""

    truth: int  # objects
    prediction: int
    matched: int  # pairs with an IoU above a half
    matched_iou: float  # sum over them
    shared: int  # voxels of AJI's intersections
    joined: int  # and of its unions
    f1: float | None
    segmentation_quality: float | None
    panoptic_quality: float | None
    aji: float | None


class MeasuredCase(Record):
    """One image whose mask was predicted, measured."""

    row: int
    path: str
    group: str  # the patient; an image of an unknown one is a group of its own
    phase: str | None = None  # "ED" or "ES", where the index says it
    slices: int
    millimetres: bool  # whether distances in mm are known
    confusion: list[list[int]]  # voxels of each structure, the background first, by what they were called, the background first
    structures: list[MeasuredStructure]
    objects: MeasuredObjects | None = None
    disagreement: float | None = None  # of the members, as in `MASKS_SCHEMA`

    @property
    def dice(self) -> float | None:
        """Mean over the structures that have one."""
        values = [each.dice for each in self.structures if each.dice is not None]
        return sum(values) / len(values) if values else None


class SegmentedPart(BasePart):
    """What was measured on one part.

    Of measures `of` is a structure; "structures" is the mean over structures (macro), "voxels" all voxels of all structures and
    cases together (micro), "objects" all objects of all cases together (micro).
    """

    present: dict[str, int]  # cases that truly show each structure
    cases: list[MeasuredCase]  # in the order of the index


class Agreement(Record):
    """How a quantity that was read from the predicted masks agrees with the truth, patient by patient (Bland and Altman 1986)."""

    name: Literal["volume_ml", "edv_ml", "esv_ml", "ejection_fraction", "mass_g"]
    of: str  # the structure
    groups: list[str]
    truth: list[float]
    prediction: list[float]
    bias: Measure  # mean of predicted less true
    deviation: float | None  # standard deviation of the differences
    low: Measure  # limits of agreement
    high: Measure
    correlation: Measure


class SegmentationEvaluation(BaseEvaluation):
    """The masks of a segmenter, judged."""

    structures: list[str]
    instances: bool
    tolerance_mm: float  # of the surface Dice
    parts: list[SegmentedPart]  # validation, then test
    heart: bool  # whether the structures are those of a heart, and thirds of slices run from its apex to its base
    thirds: list[Subgroup] = []  # of the test part: Dice of each structure in each third of the slices that show it
    sizes: list[Subgroup] = []  # and in the thirds of cases by the true size of all structures, in mL or in voxels
    agreements: list[Agreement] = []  # of the test part
    disagreement: Measure | None = None  # of the test part: Spearman's correlation of the members' disagreement with Dice


class Beside(Record):
    """What is typical of the run's own test images, and of external ones: the 10 % quantile, the median and the 90 % quantile of the cases."""

    name: Literal["height", "width", "slices", "spacing_mm", "between_mm", "mean", "contrast", "shown", "share", "width_seen"]
    of: str | None = None  # the structure
    own: list[float]  # nothing where it is not known
    external: list[float]


class External(Record):
    """A finished model judged on images of another source, with nothing chosen anew. `external/<name>/evaluation.json`."""

    name: str
    data: dict[str, Any]  # `config.Data` or `config.SegmentationData`: where the images lie
    labels: dict[str, str]  # what their classes were taken for; "" was left out. Structures have their numbers in `data`
    evaluation: Evaluation | SegmentationEvaluation  # its one part is `test`: the external images
    drop: list[Measure]  # external minus the run's own test, with intervals; none of the whole where not all labels are judged
    label_drops: dict[str, list[Measure]] = {}  # of each of several labels
    expected: list[Measure]  # PPV and NPV that the own test's sensitivity and specificity give at the external prevalence
    copies: list[int]  # rows left out: exact or near copies of images of the run
    left_out: int  # images of classes that were left out on purpose
    unsaid: list[str] = []  # labels or structures of the run, and columns of its subgroups, that these images say nothing of
    beside: list[Beside] = []  # of masks
    own_rows: int  # of the run's test part
    own_groups: int

    @property
    def found(self) -> list[Finding]:
        """The remarks that compare the external images with those of the run."""
        return [remark for remark in self.evaluation.remarks if remark.code.startswith("external_")]


class Likeness(Record):
    """How alike the heat maps of the trained network and of one with random weights are, as means over images."""

    depth: Literal["head", "half", "all"]  # what is random: the head, with it the later half of the backbone's layers, everything
    rank_correlation: float  # -1..1
    structural_similarity: float  # -1..1


class Neighbour(Record):
    """A training image near an explained one, as the network sees them."""

    row: int
    label: str
    group: str  # what the split never separates: the patient, or the near-copy cluster where patients are unknown
    distance: float  # of `Explanations.features`: 1 - cosine, 0..2, meaned over members


class OfLabel(Record):
    """What speaks for one of several labels of an image, or for a structure."""

    name: str
    said: bool  # whether the model gives it to the image
    there: bool | None  # the truth; None where it is unknown
    probability: float  # of a structure the highest of any point
    covered: float | None = None  # as in `Explained`
    pictures: dict[str, str] = {}  # "gradcam", "occlusion"; of a structure "probability"
    flat: list[str] = []  # as in `Explained`


class Explained(Record):
    """What speaks for the answer to one image."""

    row: int | None  # of the index; None for an image of another place
    path: str
    chosen: Literal["mistake", "worst", "best", "right", "given"]  # why this image
    label: str | None  # the class, or the labels as in the index
    predicted: str
    probability: float | None  # of what was predicted; None of several labels, each of which has its own
    covered: float | None = None  # the lowest that covering a part of the image leaves of it; None without occlusion
    slice: int | None = None  # of a mask the slice that is shown, counted from 1, of so many
    slices: int | None = None
    pictures: dict[
        str, str
    ] = {}  # files beside: "image" as the network sees it (of a mask with its outlines), "gradcam", of a mistake "gradcam_truth", "occlusion", of a mask "entropy"
    flat: list[str] = []  # of the pictures those of Grad-CAM in which nothing speaks for the class
    labels: list[OfLabel] = []  # of several labels those that were asked about
    neighbours: list[Neighbour] = []  # nearest first; none where the network's features of the image are all zero, or none were asked for


class Explanations(Record):
    """Why the model answered as it did: pictures lie beside the file."""

    images: list[Explained]
    layer: str | None = None  # whose maps Grad-CAM reads; None where the network has none
    features: Literal["pooled", "last_linear", "logits"] = "pooled"  # what neighbours are near in; of an own network one of the last two
    likeness: list[Likeness] = []  # of Grad-CAM's maps
    feature_maps: dict[str, str] = {}  # by layer the picture of its maps of the first image
    remarks: list[Finding] = []
    refused: dict[str, str] = {}  # by path why an image could not be read


class Published(Record):
    """What others reached on the same question, and how it was judged."""

    name: str
    protocol: dict[str, str] = {}  # by language
    link: str | None = None
    figures: dict[str, float]


NotRun = Literal["weights", "memory", "diverged", "stopped", "error"]
"""Why a study has no run: its weights cannot be had, it did not fit into memory, its loss was no number any more, nobody waited, or else."""


Scale = Literal["full", "bench", "phantom"]
"""What figures are of: the study, a try-out on a few of its images, or made-up images."""


class TrainedRun(Record):
    """One run among others and how it was trained, or why there is none."""

    run: str | None = None  # its folder
    not_run: NotRun | None = None
    reason: str = ""  # why it was not run
    epochs: int = 0  # of all members
    seconds: float = 0.0  # of training
    images_per_second: float | None = None  # while training
    curve: list[float | None] = []  # what is watched on validation after each epoch, of the first member
    fits: list[TrainFit] = []


class Compared(TrainedRun):
    """A run beside others, with what it is judged by."""

    name: str
    network: str
    scale: Scale = "full"
    settings: dict[str, str] = {}  # fields of its resolved study in which the runs differ
    weights_total: int | None = None
    weights_trainable: int | None = None
    weights_source: str = ""
    members: int = 0
    classes: list[str] = []  # that it tells apart, or its labels, or structures
    rows: int = 0  # judged on test
    groups: int = 0
    measures: list[Measure] = []  # of test: of the whole, and means over more than two classes, or over labels
    labels: dict[str, list[Measure]] = {}  # of several labels those of the whole of each, and of each structure
    counts: dict[str, int] | None = None  # tn, fp, fn, tp; None for more than two classes, and for several labels


class Answer(Record):
    """What one run said of one picture."""

    name: str  # of the run
    predicted: str  # the class, or the labels as in the index
    probability: float | None  # of what it said; None of several labels
    right: bool


class SamePicture(Record):
    """One test picture with every run's answer."""

    run: str  # folder of a run whose index has the picture
    row: int  # in that index
    path: str
    label: str
    answers: list[Answer]


class Outlined(Record):
    """What one run outlined in a case."""

    name: str  # of the run
    run: str  # its folder
    row: int  # of its index
    mask: str  # below its folder
    dice: float | None  # mean over the structures


class SameCase(Record):
    """One test case with every run's outlines."""

    path: str
    slice: int  # counted from 1: where the worst of them has most errors
    answers: list[Outlined]


class Difference(Record):
    """Two runs on the same rows: the first less the second."""

    first: str  # names of runs
    second: str
    measures: list[PairedMeasure]


class Pace(Record):
    """How many trainings of an experiment are at work at once, and what was timed to choose it. `pace.json`."""

    processes: int
    threads: int  # of each
    precision: str
    alone: float | None = None  # steps a second of one training with all threads
    beside: float | None = None  # of two trainings together


class Change(Record):
    """A field of a resolved study, as it is in the first row of an ablation, and in another."""

    field: str
    before: str
    after: str


class AblatedRun(TrainedRun):
    """One training of a row."""

    seed: int
    fold: int | None = None  # that judges


class SeedFigures(Record):
    """A measure on test, of each training seed, and the interval of their mean over groups and seeds."""

    name: str
    of: str | None = None
    values: list[float | None]  # in the order of `AblatedRow.seeds`
    low: float | None = None  # None where there can be no interval
    high: float | None = None


class AblatedRow(Record):
    """A study with one change, or the study as it is."""

    name: str
    against: str | None = None  # name of the row that it is compared with; None of the first
    changed: list[Change] = []  # what the file changes, beside the first row
    derived: list[Change] = []  # what follows from it in the resolved study
    network: str = ""
    weights_total: int | None = None
    weights_trainable: int | None = None
    runs: list[AblatedRun]
    seeds: list[int] = []  # whose runs are done
    figures: list[SeedFigures] = []
    expected: dict[str, int] = {}  # findings that were expected, and in how many runs they were found
    differences: list[PairedMeasure] = []  # to the row `against`
    not_compared: Literal["rows", "runs"] | None = None  # not judged on the same rows, or no run of this row or of `against`


class Ablation(Record):
    """A study, changed one thing at a time. `ablation.json`."""

    title: dict[str, str]  # by language
    seeds: list[int]
    folds: list[int] = []  # each of which judges once
    rows: list[AblatedRow]  # the study as it is first
    left_out: list[str] = []  # rows of the file that a --set made the study as it is
    not_asked: list[str] = []  # rows of the file that an --only did not name
    test_rows: int = 0
    test_groups: int = 0
    masked: bool = False
    scale: Scale = "full"
    watched: str = "loss"  # of the curves
    pace: Pace | None = None  # of the trainings that were not there before
    confidence: float = 0.95


Apart = Literal["images", "classes", "truth", "groups"]


class Comparison(Record):
    """Runs side by side."""

    title: dict[str, str]  # by language
    lines: list[Compared]
    apart: list[Apart] = []  # in what they were judged otherwise than one another
    published: list[Published] = []
    pictures: list[SamePicture] = []  # none where the pictures are not the same
    masked: bool = False  # whether the runs are segmenters; their labels are structures
    turns: bool = False  # whether the lines are turns of a cross-validation
    seed: int | None = None  # of each training, where the lines are rows of an ablation: it has their differences
    pooled: Compared | None = None  # all turns together, where none is missing
    differences: list[Difference] = []  # of runs that judged the same rows, each pair
    cases: list[SameCase] = []
    watched: str = "loss"  # of the curves
    pace: Pace | None = None  # of the trainings that were not there before, where the runs were made for this comparison
    confidence: float = 0.95  # of the intervals of `differences`

    @property
    def same_test(self) -> bool:
        """Whether all answered the same question on the same test images: only then do figures beside one another compare."""
        return not {"images", "classes", "truth"} & {*self.apart}


DRAWN_WAYS = ("image", "augmented")
"""Ways of a leaky twin that draw from all images, and so set a given split aside."""


class Twin(Record):
    """A study in another way, or why there is none."""

    # Split by image; changed copies made before the split; labels drawn by chance; and a sound one: drawn by group from all images, where the
    # study's own split is given.
    way: Literal["image", "augmented", "labels", "group"]
    line: Compared | None = None
    more: list[Measure] = []  # each value less that of the row it is compared with, as if no group were in both
    shared: int = 0  # test images that the row it is compared with judges as well
    known: int = 0  # test images whose patient, or a copy of which, the model may have seen
    not_run: NotRun | None = None
    reason: str = ""


class LeakyTwin(Record):
    """A study as it is, and trained and judged the wrong way. `leaky_twin.json`."""

    title: dict[str, str]  # by language
    honest: Compared
    known: int = 0  # as of a twin; none in a sound study
    drawn: Twin | None = None  # the study drawn by group, where its split is given and a way has to set that aside
    twins: list[Twin]
    pace: Pace | None = None  # of the trainings that were not there before
    masked: bool = False
    only_image: Literal["masks", "files"] | None = None  # why no other way is shown of such a study, where that is so

    def sound(self, way: str) -> Compared | None:
        """What a way is compared with: the study as it is, or drawn by group where the way sets the given split aside. None if not run."""
        return self.honest if self.drawn is None or way not in DRAWN_WAYS else self.drawn.line


class LearningPoint(Record):
    """How many images and groups trained."""

    share: float  # of the training groups
    also: list[float] = []  # smaller shares that were asked for and are the same images, the largest first
    rows: int
    groups: int
    measures: list[Measure] = []  # on test, with intervals over its groups; none of several trainings: their mean says more


class LearningCurve(Record):
    """A study with fewer training patients. `learning_curve.json`."""

    title: dict[str, str]  # by language
    points: list[LearningPoint]  # as the rows of `ablation`
    ablation: Ablation  # all training patients first, then fewer and fewer


class SearchedField(Record):
    """A field of a study that is searched, by the values it may have."""

    field: str
    values: list[str] = []  # to choose from; else a range
    low: float | None = None
    high: float | None = None
    log: bool = False
    before: str = ""  # what the study itself has
    share: float | None = None  # of the variance of the score that goes with it alone; None where trials are too few, or each value new


class Stopped(Record):
    """Where a trial was stopped, since half of the finished ones had reached more by then."""

    member: str
    epoch: int
    value: float  # its best so far
    floor: float  # what half of the finished ones had reached


class SearchTrial(Record):
    """One set of values, and what became of it."""

    number: int  # from 0
    values: dict[str, str]  # by field
    state: Literal["done", "pruned", "failed"]
    run: str | None = None  # its folder
    measure: Measure | None = None  # of the validation images
    curves: dict[str, list[float | None]] = {}  # of each member, the measure after each epoch
    stopped: Stopped | None = None
    not_run: NotRun | None = None
    reason: str = ""
    epochs: int = 0  # of all members
    seconds: float = 0.0  # from its beginning to its end
    training_seconds: float = 0.0  # of that, epochs
    ended: float = 0.0  # seconds of searching when it ended
    difference: PairedMeasure | None = None  # of the best to it, on the same validation images


class Searched(Record):
    """A search over fields of a study, on validation images only. `search.json`."""

    title: dict[str, str]  # by language
    study: str  # its name
    method: Literal["grid", "random", "optuna"]
    measure: str
    seed: int
    prune: bool
    wanted: int | None = None  # trials that were asked for
    minutes: float | None = None
    seconds: float = 0.0  # of searching
    whole: bool = False  # whether all that was asked for was tried
    interrupted: bool = False  # whether Ctrl-C ended it
    reckoned: float | None = None  # seconds of one more trial, where the time left is too short for it
    enough: int | None = None  # minutes with which it would be begun
    fields: list[SearchedField]
    trials: list[SearchTrial]
    best: int | None = None  # number of the winner
    guessed: float | None = None  # of the measure what guessing reaches; None where that depends on the images
    best_study: str | None = None  # its study file
    ensemble: list[int] = []
    rows: int = 0  # validation images
    groups: int = 0
    gone: list[int] = []  # numbers of finished trials whose run folders, and with them their answers, are no longer there
    folds: int | None = None  # whose validation images are all development images
    chosen_again: float | None = None  # the score of the best of other patients, on those it was not chosen on
    pace: Pace | None = None
    scale: Scale = "full"
    confidence: float = 0.95


class LabelDoubt(Record):
    """A label to look at, and what models that had not seen the image's patient said of it."""

    list: Literal["wrong", "hard"]  # the label is probably wrong; or the image is hard
    row: int  # of the index
    path: str
    group: str | None  # null where unknown
    label: str  # as given
    suggested: str  # the likeliest class; of a probably wrong label the one the models are confident of
    label_probability: float
    suggested_probability: float
    disagree: bool = False  # whether trainings with other seeds say different classes


class MaskDoubt(Record):
    """A structure of one mask to look at, and what models that had not seen its patient drew."""

    list: Literal["wrong", "hard"]  # the mask is probably wrong; or the case is hard
    group: str | None  # null where unknown
    structure: str
    dice: float  # of the mask with what was drawn, the mean over the trainings
    deviations: float  # below the median of all cases, see `tabib.metrics.weigh_dice`
    agreement: float | None  # Dice of what trainings with other seeds drew with one another, mean over pairs; None of one training
    called: str | None  # another structure, which a good part of the mask is to the models
    called_share: float  # of the mask, what is another structure to them
    voxels: int  # of the mask
    drawn: int  # by the models, the mean over the trainings
    case: SameCase  # with the slice in which the first training differs most, and what every training drew


class LabelTrouble(Record):
    """The labels or masks of a study to look at. `label_trouble.json`."""

    title: dict[str, str]  # by language
    run: str  # one of the runs, whose index the rows are of
    rows: int  # images that a model judged
    groups: int
    seeds: list[int]  # of the trainings; none where the study's own were used
    missed: int  # turns that were run with no seed, whose images are not looked at
    fewer: int = 0  # trainings that are missing of the other turns, whose images were judged by fewer seeds
    stopped: bool = False  # whether some are missing because nobody waited
    pace: Pace | None = None  # of the trainings that were not there before
    several: bool = False  # whether an image may have several labels, each of which is weighed
    thresholds: dict[str, float]  # of a class or label: what the models give it on average where it is given; of a structure the usual Dice
    reached: list[
        Measure
    ] = []  # by these models on what they judged: AUC of two classes, of more its mean, of each label; Dice of each structure
    confidence: float = 0.95  # of the intervals of `reached`
    doubts: list[LabelDoubt]  # the worst first, in each list
    masked: bool = False  # whether the study is of masks, whose doubts are in `masks`
    masks: list[MaskDoubt] = []
    scale: Scale = "full"
