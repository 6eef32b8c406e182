"""The study: what a person asks for, as frozen, checked records.

A field's description is its documentation: the reference page is made from it. Units are in the names; fractions say
of what. `none` in YAML is Python's `None`; `auto` is replaced by a value in the resolved study before training.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from tabib.kinds import KINDS, Kind

__all__ = [
    "METRICS",
    "OWN",
    "Augment",
    "Bilingual",
    "Calibrate",
    "Columns",
    "Data",
    "Evaluate",
    "Explain",
    "Freeze",
    "Goals",
    "Input",
    "ModelPart",
    "Notes",
    "PastWork",
    "Plateau",
    "Report",
    "Split",
    "Study",
    "Threshold",
    "Training",
    "parts_in",
    "run_named",
]

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]

METRICS = (
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "f1",
    "mcc",
    "auc",
    "average_precision",
    "brier",
    "ece",
    "log_loss",
)
"""Every measure of a classifier, by its name in goals, evaluation files and reports."""


def _pattern(text: str, todo: str = "put the part that names the patient in parentheses, as in '(person\\d+)'") -> str:
    try:
        compiled = re.compile(text)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    if compiled.groups == 0:
        raise ValueError(f"has no capture: {todo}")
    return text


PATTERN_GROUPS = ("label", "group", "part", "scanner", "site", "date")
"""What the named groups of `data.pattern` may be called."""


def _named_pattern(text: str) -> str:
    names = re.compile(_pattern(text, "name its groups, as in '(?P<label>[^/]+)/(?P<group>p\\d+)_'")).groupindex
    for name in names:
        if name not in PATTERN_GROUPS:
            near = difflib.get_close_matches(name, PATTERN_GROUPS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(PATTERN_GROUPS)}"
            raise ValueError(f"has a group called {name}, which says nothing of an image; {hint}")
    if "label" not in names:
        raise ValueError("has no group (?P<label>...), which the class of an image is read from")
    return text


def _place(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("is no name of a file: it holds the character 0")
    return path


def _each_once(names: list[str]) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"names {name!r} twice; keep one")
    return names


Place = Annotated[Path, AfterValidator(_place)]


OWN = "own"
"""What `model.network` says of a module that a Python program gives with the study."""

RunFolder = Annotated[str, Field(pattern=r"^run:[^\x00]+$")]


def run_named(weights: str | Path | None) -> Path | None:
    """The run folder of `model.weights: run:FOLDER`; nothing where the weights come from elsewhere."""
    return Path(weights.removeprefix("run:")) if isinstance(weights, str) and weights.startswith("run:") else None


def parts_in(annotation: object) -> Iterator[type[BaseModel]]:
    """The parts that a field may hold, through Optional, Union, Annotated and list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, Annotated, list):
        for argument in get_args(annotation):
            yield from parts_in(argument)


class Part(BaseModel):
    """Base of every part of a study: frozen, no unknown fields, and every number finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True, use_attribute_docstrings=True)


class Bilingual(Part):
    """A text in the report's languages; a missing one is replaced by the other."""

    en: str | None = None
    """The text in English."""
    fa: str | None = None
    """The text in Persian."""


class Columns(Part):
    """Which columns of the table say what, by the names in its first line."""

    path: str = "path"
    """Column of the image's file: its path below the folder, or its name alone, with or without the suffix; of `layout: dicom` the column of an identifier."""
    label: str = "label"
    """Column of the class; an image with no value in it is not used."""
    labels: Annotated[list[str], AfterValidator(_each_once)] = []
    """Instead of `label`, a column for each of several findings of which an image may have some, all or none: 1 or 0, yes or no, true or false in each line."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """What stands between the findings where the column of the class names several, as in `Effusion|Mass`."""
    no_finding: str = "No Finding"
    """The word in that column for an image without any finding."""
    group: str | None = None
    """Column of the patient."""
    part: str | None = None
    """Column of the given part of the split: train, validation (val, valid), test, or the number of a fold."""
    scanner: str | None = None
    """Column of the device, where the files do not say it."""
    site: str | None = None
    """Column of the hospital, where the files do not say it."""
    date: str | None = None
    """Column of the day of the image, where the files do not say it."""
    facts: Annotated[list[str], AfterValidator(_each_once)] = []
    """Further columns that are kept per image, as in [age, sex]."""

    @property
    def several(self) -> bool:
        """Whether an image may have several labels, or none."""
        return bool(self.labels) or self.separator is not None

    @model_validator(mode="after")
    def _labels_in_one_way(self) -> Self:
        if self.labels and self.separator is not None:
            raise ValueError("labels: (a column for each finding) and separator: (one column names them all) are two ways; keep one")
        if len(self.labels) == 1:
            raise ValueError(
                f"labels names one column, {self.labels[0]!r}, and one finding makes two classes: give that column as label: {self.labels[0]}"
            )
        if any("|" in name for name in self.labels):
            raise ValueError("labels: the name of a finding must not hold |, which stands between names in results; rename the column")
        return self


class Data(Part):
    """Which images, and what belongs to one patient."""

    folder: Place
    """Folder of the images, an archive of one (`.zip`, `.tar`, `.tar.gz` and the like), or the `.npz` file, relative to the study file."""
    layout: Literal["class_folders", "npz", "table", "pattern", "dicom"] = "class_folders"
    """How the data say what an image is: one folder per class, the arrays of a MedMNIST v2 file, a table with a line per image, a pattern that every path follows, or the headers of DICOM files and a table that names their UIDs."""
    pattern: Annotated[str, AfterValidator(_named_pattern)] | None = None
    """Regular expression on the path below the folder, of `layout: pattern`; its named groups say what an image is: `label`, and as they are there `group` (the patient), `part`, `scanner`, `site`, `date`."""
    table: Place | None = None
    """The table (CSV, TSV or Parquet) of `layout: table` or `layout: dicom`, relative to the study file."""
    columns: Columns = Columns()
    """What the columns of the table say."""
    kind: Kind | None = None
    """Kind of image: decides which random changes `augment` makes where it does not say, and which are said to be wrong."""
    group: Annotated[str, AfterValidator(_pattern)] | None = None
    """Regular expression on the path below the folder; its joined non-empty captures name the patient."""
    copies: Literal["keep_one", "tie", "keep"] = "keep_one"
    """What to do with exact copies: leave all but one out (`keep_one`), keep all, which a drawn split holds on one side (`tie`), or keep all as if they were different images, also under two labels, and warn (`keep`)."""

    @model_validator(mode="after")
    def _table_with_its_layout(self) -> Self:
        if self.layout != "dicom" and (self.layout == "table") != (self.table is not None):
            raise ValueError(
                "layout: table (or dicom) and table: go together; give both, as in {folder: images, layout: table, table: labels.csv}"
            )
        if (self.layout == "pattern") != (self.pattern is not None):
            raise ValueError(
                "layout: pattern and pattern: go together; give both, as in {folder: images, layout: pattern, pattern: '(?P<label>[^/]+)/'}"
            )
        if self.table is None and self.columns != Columns():
            raise ValueError("columns: says what the columns of a table mean, and there is no table:; give it, or take columns: away")
        if self.group is not None and self.patients_listed:
            raise ValueError("group: and the group of the table or the pattern are two answers to one question; keep one")
        return self

    @property
    def patients_listed(self) -> str | None:
        """The column, or the pattern with a group, that says whose an image is."""
        return self.pattern if self.pattern and "(?P<group>" in self.pattern else self.columns.group


class Split(Part):
    """Who trains, who chooses and who judges. Groups are not divided, unless `by: image` asks for it, or a given split does so and `leaks` keeps it."""

    train: Fraction = 0.6
    """Share of the images that trains, by ratio."""
    validation: Fraction = 0.2
    """Share that chooses; with a given test set and no given validation set, the share of the given training images."""
    test: Fraction = 0.2
    """Share that judges, once, at the end."""
    seed: Seed = 0
    """Seed of the draw."""
    by: Literal["group", "image"] = "group"
    """What is drawn: groups (a patient with all copies and near copies), or single images, whoever they show, with a warning on the first page."""
    rounding: Literal["floor", "nearest"] = "floor"
    """How the images of a class are rounded: each share down and the rest to the last part, or each to the nearest. Groups are drawn as near to it as they allow."""
    folds: Annotated[int, Field(ge=2, le=20)] | None = None
    """Number of folds: the images outside the test set are divided into so many, and each trains one member."""
    given: bool = False
    """Whether the parts that the data come with are kept: folders named train, validation and test, or a column of the table, which may also number folds."""
    test_fold: Annotated[int, Field(ge=0, le=999)] | None = None
    """Of given folds the one that judges; each of the others is left out once, to choose on. Not needed where some images are given to test."""
    leaks: Literal["refuse", "drop", "keep"] = "refuse"
    """Given parts that share a patient or a copy: refuse the study, leave the images out of the part that judges less (training before validation, both before test), or keep them and warn."""
    group_scope: Literal["all", "split"] = "all"
    """Whether one patient name means one person in all given parts, or numbering restarts in each (`split`)."""
    file: Place | None = None
    """A split written before (CSV with `path` and `part`), used instead of a draw."""

    @model_validator(mode="after")
    def _every_part_has_images(self) -> Self:
        if not self.given and self.file is None:
            total = self.train + self.validation + self.test
            if abs(total - 1) > 1e-6:
                raise ValueError(f"train + validation + test is {total:g}, and must be 1")
            if self.test == 0:
                raise ValueError("test is 0, and a model that nothing judges is not worth training; give it a share, as in 0.2")
            if self.folds is not None and self.test == 1:
                raise ValueError("test is 1, and no images are left for the folds to train on; give it a share, as in 0.2")
            if self.folds is None and (self.train == 0 or self.validation == 0):
                raise ValueError(
                    f"{'train' if self.train == 0 else 'validation'} is 0, and no images are left for that part: training needs "
                    "some, and choosing the best weights and the threshold needs others; give both a share"
                )
        if self.test_fold is not None and not self.given:
            raise ValueError(
                f"test_fold is {self.test_fold}, and folds are not given; with given: true the table says the fold of each image"
            )
        if self.given and self.file is not None:
            raise ValueError("given: true and file: are two answers to one question; keep one")
        if self.by == "image" and self.file is not None:
            raise ValueError("by: image and file: are two answers to one question: a written split is not drawn; keep one")
        return self


class Input(Part):
    """What the network sees of an image."""

    height: Annotated[int, Field(ge=8, le=2048)] = 128
    """Height in pixels after resizing."""
    width: Annotated[int, Field(ge=8, le=2048)] = 128
    """Width in pixels after resizing."""
    channels: Literal["auto"] | Annotated[int, Field(ge=1, le=3)] = "auto"
    """1 for grey, 3 for colour; `auto` looks whether any image has colour."""
    fit: Literal["stretch", "pad", "crop"] = "stretch"
    """How another shape is brought to this one: stretched, padded with black, or cropped at the centre."""
    intensity: Literal["network", "unit", "minmax", "zscore", "percentile"] = "network"
    """Scaling: what the weights expect, 0 to 1 of the nominal range, each image's own range, mean 0 and standard deviation 1 per image, or 1st to 99th percentile."""

    @model_validator(mode="after")
    def _grey_or_colour(self) -> Self:
        if self.channels == 2:
            raise ValueError("channels is 2, and must be 1, 3 or auto")
        return self


class Augment(Part):
    """Random changes of training images, drawn anew in every epoch. Zero is off. With `data.kind`, the defaults are those of the kind."""

    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 10.0
    """Largest rotation either way, in degrees."""
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """Largest shift either way, as a fraction of the side."""
    zoom: Annotated[float, Field(ge=0, le=0.9)] = 0.1
    """Largest zoom either way, as a fraction: 0.1 draws scales from 0.9 to 1.1."""
    stretch: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Largest unequal zoom either way, as a fraction: 0.1 makes one side up to 1.1 times as long against the other."""
    shear_degrees: Annotated[float, Field(ge=0, le=60)] = 0.0
    """Largest horizontal shear either way, in degrees."""
    crop: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """Largest share of each side that a random crop leaves out; what stays is brought back to the full size."""
    flip_horizontal: bool = False
    """Mirror half of the images left to right. Wrong for chests: the heart is on the left."""
    flip_vertical: bool = False
    """Mirror half of the images top to bottom."""
    elastic: Annotated[float, Field(ge=0, le=0.2)] = 0.0
    """Elastic distortion: largest displacement of a place either way, as a fraction of the side."""
    elastic_cells: Annotated[int, Field(ge=1, le=32)] = 4
    """Cells per side of the coarse grid that is displaced at random and interpolated smoothly; more make finer waves."""
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Largest value added either way, as a fraction of the range."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Largest change of contrast either way, as a fraction: 0.1 draws factors from 0.9 to 1.1."""
    gamma: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Largest logarithm of the exponent either way: 0.3 draws exponents from 0.74 to 1.35."""
    saturation: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Largest change of saturation either way, as a fraction: 0.1 draws factors from 0.9 to 1.1. Colour images only."""
    hue_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest turn of the hue either way, in degrees of the colour circle. Colour images only."""
    stain: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest change of haematoxylin, eosin and DAB either way, each by itself: 0.05 draws factors from 0.95 to 1.05 and adds up to 0.05 of optical density. Colour images only."""
    blur: Annotated[float, Field(ge=0, le=0.1)] = 0.0
    """Largest standard deviation of a Gaussian blur, as a fraction of the shorter side: 0.01 is 1.28 pixels of 128."""
    noise: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest standard deviation of added Gaussian noise, as a fraction of the range."""
    fill: Literal["nearest", "constant", "reflect"] = "nearest"
    """What stands where the moved image has nothing: its edge, one value, or its mirror."""
    fill_value: Fraction = 0.0
    """The value for `fill: constant`, as a fraction of the range."""
    copies: Annotated[int, Field(ge=0, le=50)] = 0
    """Train on each image as it is and on so many changed copies of it, the same in every epoch; 0 draws new changes in every epoch."""
    to_disk: bool = False
    """Whether the copies are also written, as PNG files in the run's folder `augmented_images`."""

    @model_validator(mode="after")
    def _copies_that_differ(self) -> Self:
        if self.to_disk and not self.copies:
            raise ValueError("to_disk writes the copies, and copies is 0: give their number, as in copies: 4")
        if self.copies and self.off:
            raise ValueError(
                f"copies is {self.copies}, and every change is off: the copies would be the images again; give a change, as in zoom: 0.1"
            )
        return self

    @property
    def off(self) -> bool:
        """Whether no image is changed."""
        return not any(value for name, value in self if name not in ("elastic_cells", "fill", "fill_value", "copies", "to_disk"))


class Freeze(Part):
    """Which layers of the backbone keep their weights. Exactly one field."""

    through: str | None = None
    """Everything up to and including this block or layer, in the order of the forward pass, as in `blocks.0.0.bn1`."""
    trainable: Annotated[int, Field(ge=1)] | None = None
    """Freeze as deep as leaves the number of trainable weights nearest to this."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if (self.through is None) == (self.trainable is None):
            raise ValueError("give exactly one of through and trainable")
        return self


class ModelPart(Part):
    """The network."""

    network: str = "small_resnet"
    """`small_resnet` (Tabib's own, for small grey images), a plain network of published work (`blast_cnn`, `mri_cnn_selected`, `mri_cnn_test1`, `mri_cnn_test2`, `alexnet_2012`, `alexnet_2014`), any backbone of timm, as in `tf_efficientnet_b2`, or `own`: the PyTorch module that a Python program gives with the study."""
    own_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Which module `network: own` is: the hash of its layers, its starting weights and what it answers. Written by the run, not by hand."""
    weights: Literal["imagenet"] | RunFolder | Place | None = None
    """Where the weights start: `imagenet` (asks for a download where no installed package has them), a local file, another run (`run:FOLDER`), or `none`."""
    initialiser: Literal["usual", "glorot", "he", "zeros", "ones"] = "usual"
    """How weights are drawn where `weights` is `none`: as is usual for the network, uniformly (Glorot and Bengio 2010), normally (He et al. 2015), or all as one number, with which nothing can be learnt."""
    head: list[Annotated[int, Field(ge=1)]] = []
    """Widths of the dense ReLU layers between the pooled features and the output; plain networks have dense layers of their own."""
    dropout: Literal["auto"] | list[Annotated[float, Field(ge=0, lt=1)]] = "auto"
    """Dropout after each dense layer of the head; one value, before the output, where there is none. Of a plain network, one value for each of its own dropout layers. `auto` is 0.2 everywhere, and of a plain network what was published."""
    outputs: Literal["auto", "one", "one_per_class"] = "auto"
    """Outputs for two classes: one (the logistic function makes a probability of it) or one per class (the softmax does). `auto` is one, but for plain networks one per class, as they were published."""
    freeze: Literal["all_but_head"] | Freeze | None = None
    """Which layers keep their weights."""

    @model_validator(mode="after")
    def _one_dropout_per_layer(self) -> Self:
        if self.head and self.dropout != "auto" and len(self.dropout) != len(self.head):
            raise ValueError(f"dropout has {len(self.dropout)} values, and must have {len(self.head)}: one per layer of the head")
        return self

    @model_validator(mode="after")
    def _weights_from_one_place(self) -> Self:
        if self.weights is not None and self.initialiser != "usual":
            raise ValueError(f"weights: {self.weights} and initialiser: {self.initialiser} are two answers to one question; keep one")
        return self

    @model_validator(mode="after")
    def _own_as_it_is(self) -> Self:
        if self.network == OWN:
            given = {
                "weights": self.weights,
                "initialiser": self.initialiser if self.initialiser != "usual" else None,
                "head": self.head,
                "dropout": self.dropout if self.dropout != "auto" else None,
            }
            if said := [name for name, value in given.items() if value]:
                raise ValueError(
                    f"network is own, and the module has its own {' and '.join(said)}: leave out model.{' and model.'.join(said)}"
                )
        elif self.own_sha256 is not None:
            raise ValueError(f"own_sha256 names a module of one's own, and network is {self.network}: leave it out, or set network: own")
        return self


class Plateau(Part):
    """Reduce the learning rate when validation no longer improves."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """What the rate is multiplied with."""
    patience: Annotated[int, Field(ge=1)] = 5
    """Epochs without improvement before it is."""
    minimum: Annotated[float, Field(ge=0)] = 1e-6
    """The rate is never below this."""


class Training(Part):
    """How the weights are found."""

    epochs: Annotated[int, Field(ge=1, le=10000)] = 15
    """Largest number of passes over the training images."""
    batch: Annotated[int, Field(ge=2, le=4096)] = 32
    """Images that are in memory at once: one step, or the `accumulate`-th part of one."""
    accumulate: Annotated[int, Field(ge=1, le=1024)] = 1
    """Batches per step: their gradients are added up, as if a step had one batch so many times as large."""
    sampling: Literal["uniform", "class_balanced"] = "uniform"
    """What an epoch sees: every training image once, or as many images with an equal share of every class."""
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    """What is minimised: cross-entropy (of two classes the binary cross-entropy), or focal loss, in which sure answers count less."""
    focal_gamma: Annotated[float, Field(ge=0, le=10)] = 2.0
    """How much less, for `loss: focal`: each image counts (1 - p)^gamma, with p the probability of its class."""
    optimizer: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    """The rule of the step."""
    learning_rate: Positive = 1e-3
    """Learning rate: the peak of `one_cycle` and `cosine`, the start of `plateau`, the value of `constant`."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD (Nesterov); first beta of AdamW and Adam. RMSprop has none."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Weight decay, on weights of two or more dimensions. AdamW takes rate x decay off each; the others add decay x weight to the gradient (L2)."""
    schedule: Literal["one_cycle", "cosine", "plateau", "constant"] = "one_cycle"
    """How the learning rate moves."""
    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the steps over which the rate of `schedule: cosine` rises, in a straight line."""
    plateau: Plateau = Plateau()
    """Settings of `schedule: plateau`."""
    class_weights: Literal["balanced"] | None = None
    """Weight of each class in the loss: equal per image, or inversely as the class is frequent."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each label that is spread over all classes."""
    clip: Positive | None = 1.0
    """Largest norm of the gradient of one step; `none` does not clip."""
    average: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay per step of an exponential average of the weights, which is then what is validated and kept."""
    best: Literal["loss", "auc", "accuracy", "balanced_accuracy"] = "loss"
    """The validation metric that says which epoch's weights are kept."""
    stop_after: Annotated[int, Field(ge=1)] | None = None
    """Stop after so many epochs in which `best` did not improve."""
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    """One member is trained per seed; the mean of the members predicts."""
    frozen_features: Literal["auto", "keep", "compute"] = "auto"
    """What frozen layers say of images that are not augmented, or of their fixed copies: kept in the cache and computed once (in fp32), or computed in every epoch; `auto` keeps it where that can be and takes at most half of the free disk."""
    log_to: Annotated[list[Literal["tensorboard", "wandb"]], AfterValidator(_each_once)] = ["tensorboard"]
    """Where the curves are drawn while it trains, beside `history.jsonl`: TensorBoard, and Weights & Biases (`pip install 'tabib[wandb]'`), which writes into the run folder and sends nothing."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network runs; `auto` takes a GPU where there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the network's arithmetic; `auto` takes bf16 where a few timed steps show that it pays."""
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = "auto"
    """Processor threads; results repeat to the bit for one number of threads."""

    @model_validator(mode="after")
    def _one_patience_at_a_time(self) -> Self:
        if self.schedule == "plateau" and self.stop_after is not None and self.stop_after <= self.plateau.patience:
            raise ValueError(
                f"stop_after is {self.stop_after} and plateau.patience is {self.plateau.patience}: training would stop when the "
                "rate is first reduced; make stop_after at least twice the patience"
            )
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds has the same seed twice")
        return self

    @model_validator(mode="after")
    def _one_cure_for_one_ill(self) -> Self:
        if self.sampling == "class_balanced" and self.class_weights is not None:
            raise ValueError(
                "sampling: class_balanced and class_weights: balanced both make rare classes count as much as frequent ones; keep one"
            )
        if self.loss == "focal" and self.label_smoothing > 0:
            raise ValueError(
                f"label_smoothing is {self.label_smoothing:g} and loss is focal: both keep answers from becoming too sure; set label_smoothing: 0 or "
                "loss: cross_entropy"
            )
        return self


class Threshold(Part):
    """The operating point of a two-class study by a rule with a number. Exactly one field."""

    fixed: Annotated[float, Field(gt=0, lt=1)] | None = None
    """This probability."""
    sensitivity: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The highest threshold that reaches this sensitivity on the validation rows."""
    specificity: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The lowest threshold that reaches this specificity on the validation rows."""
    cost_ratio: Positive | None = None
    """How many false positives one false negative costs: the threshold of the least expected cost on the validation rows, at `evaluate.prevalence` or else at theirs."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError(f"give exactly one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def rule(self) -> str:
        """The name of the one field."""
        return next(iter(self.model_dump(exclude_none=True)))


class Calibrate(Part):
    """What is chosen after training, on validation rows only."""

    temperature: bool = True
    """Whether probabilities are softened or sharpened to fit the validation rows (one number, Guo et al. 2017)."""
    threshold: Literal["youden"] | Threshold = "youden"
    """The operating point of a two-class study: `youden` (largest sensitivity + specificity), or a rule with a number."""


class Evaluate(Part):
    """How sure the numbers are."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Level of every interval."""
    draws: Annotated[int, Field(ge=200, le=100000)] = 2000
    """Bootstrap draws over groups."""
    subgroups: list[str] = []
    """Facts of the images by which the test set is divided and judged apart: `site`, `scanner`, `date`, any of `data.columns.facts`, or what the files are (`format`, `width`, `mean`)."""
    prevalence: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of ill people where the model is to be used: predictive values are given for it as well, and `cost_ratio` counts with it."""


class Explain(Part):
    """Why the model answered as it did, in pictures for the report. Changing it repeats no training."""

    images: Annotated[int, Field(ge=0, le=60)] = 12
    """Test images that are explained: a third the most confident mistakes, a third the worst answers, the rest right answers drawn by chance; 0 explains nothing."""
    occlusion: bool = True
    """Whether parts of each image are covered to see what its answer loses, at 50 forward passes an image and member."""
    neighbours: Annotated[int, Field(ge=0, le=12)] = 4
    """Nearest training images shown beside each; finding them costs a forward pass of every training image and member."""
    layers: list[str] = []
    """Layers of the backbone, as in `stage1.0`, whose feature maps of the first explained image are shown."""


class Goals(Part):
    """Figures on the test set that were asked for, shown beside what was reached."""

    accuracy: Fraction | None = None
    """Wanted accuracy."""
    balanced_accuracy: Fraction | None = None
    """Wanted balanced accuracy."""
    sensitivity: Fraction | None = None
    """Wanted sensitivity."""
    specificity: Fraction | None = None
    """Wanted specificity."""
    ppv: Fraction | None = None
    """Wanted positive predictive value."""
    npv: Fraction | None = None
    """Wanted negative predictive value."""
    f1: Fraction | None = None
    """Wanted F1 score."""
    auc: Fraction | None = None
    """Wanted area under the ROC curve."""
    average_precision: Fraction | None = None
    """Wanted average precision."""


class Report(Part):
    """The pages a person reads."""

    languages: Annotated[list[Literal["en", "fa"]], Field(min_length=1)] = ["en", "fa"]
    """One report is written per language."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.languages)) != len(self.languages):
            raise ValueError("languages has the same language twice")
        return self


class PastWork(Part):
    """What others published on the same question. Its figures stand in comparisons, beside their protocol."""

    name: str
    """Who, or which report."""
    protocol: Bilingual | None = None
    """How it was judged: on which images, divided how."""
    link: str | None = None
    """Where to read it."""
    figures: Goals = Goals()
    """What was published, by the names of goals."""


class Notes(Part):
    """Words for the report that no measurement can give."""

    problem: Bilingual | None = None
    """What is asked, and why it matters."""
    suggestions: Bilingual | None = None
    """What could be done next."""
    past_work: list[PastWork] = []
    """What others reached."""


class Study(Part):
    """A whole study. `load_study` reads one from YAML."""

    task: Literal["classification"] = "classification"
    """What is learnt: the class of an image."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    """Short name in Latin letters, digits, `_` and `-`; the run folder is called so."""
    title: Bilingual = Bilingual()
    """Title of the report."""
    positive: str | None = None
    """The class that is looked for, of two; `none` takes the one that is not named like health, and says so, or asks where names do not say."""
    scale: Literal["full", "bench"] = "full"
    """`bench` is a try-out of everything on few images (of each class 40 train, 20 choose and 20 judge) in 2 epochs; its figures say nothing of the study, and its report says so."""
    data: Data
    split: Split = Split()
    input: Input = Input()
    augment: Augment = Augment()
    model: ModelPart = ModelPart()
    training: Training = Training()
    calibrate: Calibrate = Calibrate()
    evaluate: Evaluate = Evaluate()
    explain: Explain = Explain()
    goals: Goals = Goals()
    report: Report = Report()
    notes: Notes = Notes()
    expect: list[str] = []
    """Codes of findings that the study knows of: they are shown, and do not refuse it."""

    @model_validator(mode="before")
    @classmethod
    def _changes_of_the_kind(cls, values: Any) -> Any:
        # Here and not where images are changed: the values must stand in the study that names the run.
        data, augment = (
            part.model_dump(exclude_unset=True) if isinstance(part, Part) else part
            for part in ((values.get("data"), values.get("augment", {})) if isinstance(values, dict) else (None, None))
        )
        if isinstance(data, dict) and isinstance(augment, dict) and isinstance(data.get("kind"), str):
            rules = KINDS.get(data["kind"], {})
            return values | {"augment": {name: rule.default for name, rule in rules.items()} | augment}
        return values

    @property
    def several(self) -> bool:
        """Whether an image may have several labels, or none: each is then learnt and judged by itself."""
        return self.data.columns.several

    @model_validator(mode="after")
    def _each_label_by_itself(self) -> Self:
        if self.several and self.positive is not None:
            raise ValueError(f"positive is {self.positive!r}, and each of several labels is looked for; leave positive out")
        if self.several and self.training.sampling == "class_balanced":
            raise ValueError(
                "training.sampling is class_balanced, and an image may have several labels: no choice of images gives every label an equal share. "
                "Use class_weights: balanced"
            )
        if self.several and self.evaluate.prevalence is not None:
            raise ValueError("evaluate.prevalence is one number, and each of several labels has a prevalence of its own; leave it out")
        if self.several and self.model.outputs == "one":
            raise ValueError("model.outputs is one, and each of several labels has an output of its own; leave outputs out")
        return self

    @model_validator(mode="after")
    def _intensity_of_the_weights(self) -> Self:
        if self.model.weights == "imagenet" and self.input.intensity != "network":
            raise ValueError(
                f"input.intensity is {self.input.intensity}, and pretrained weights expect intensity: network (what they were trained on)"
            )
        return self

    @model_validator(mode="after")
    def _channels_of_the_module(self) -> Self:
        if self.model.network == OWN and self.input.channels == "auto":
            raise ValueError("input.channels is auto, and a module of one's own takes one number of channels: set it to 1 or 3")
        return self
