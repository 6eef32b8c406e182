"""What every task's study is made of.

A field's description is its documentation: the reference page is made from it. Units are in the names; fractions say
of what. `none` in YAML is Python's `None`; `auto` is replaced by a value in the resolved study before training.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from tabib.kinds import KINDS, Kind, Rule

__all__ = [
    "BaseAugment",
    "BaseColumns",
    "BaseData",
    "BaseEvaluate",
    "BaseNotes",
    "BaseStudy",
    "BaseTraining",
    "Bilingual",
    "Fraction",
    "Freeze",
    "Part",
    "PastWork",
    "Phantom",
    "Place",
    "Plateau",
    "Positive",
    "Report",
    "RunFolder",
    "Split",
    "each_once",
    "parts_in",
    "pattern",
    "reading_order",
    "run_named",
]

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def pattern(text: str, todo: str = "put the part that names the patient in parentheses, as in '(person\\d+)'") -> str:
    """The regular expression, which must have a capture."""
    try:
        compiled = re.compile(text)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    if compiled.groups == 0:
        raise ValueError(f"has no capture: {todo}")
    return text


def _short_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", text):
        raise ValueError("may hold Latin letters, digits, _ and -, at most 64 of them, and begins with a letter or a digit")
    return text


def _place(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("is no name of a file: it holds the character 0")
    return path


def each_once(names: list[str]) -> list[str]:
    """The names, none of which may be given twice."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"names {name!r} twice; keep one")
    return names


Place = Annotated[Path, AfterValidator(_place)]

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


_FIRST = ("task", "name", "title", "positive", "scale", "data", "split", "input", "augment", "model", "training")


def reading_order(fields: Iterable[str]) -> list[str]:
    """Fields in the order in which a person reads a study: what it is of, its data, then the steps of the road."""
    return sorted(fields, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))


class Part(BaseModel):
    """Base of every part of a study: frozen, no unknown fields, and every number finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True, use_attribute_docstrings=True)


class Bilingual(Part):
    """A text in the report's languages; a missing one is replaced by the other."""

    en: str | None = None
    """The text in English."""
    fa: str | None = None
    """The text in Persian."""


class BaseColumns(Part):
    """Which columns of a table say what, by the names in its first line."""

    path: str = "path"
    """Column of the image's file: its path below the folder, or its name alone, with or without the suffix; of `layout: dicom` the column of an identifier."""
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
    facts: Annotated[list[str], AfterValidator(each_once)] = []
    """Further columns that are kept per image, as in [age, sex]."""


class BaseData(Part):
    """Which images, and what belongs to one patient."""

    folder: Place
    """Folder of the images, an archive of one (`.zip`, `.tar`, `.tar.gz` and the like), or the `.npz` file, relative to the study file."""
    table: Place | None = None
    """A table (CSV, TSV or Parquet) of the images, relative to the study file."""
    kind: Kind | None = None
    """Kind of image: decides which random changes `augment` makes where it does not say, and which are said to be wrong."""
    group: Annotated[str, AfterValidator(pattern)] | None = None
    """Regular expression on the path below the folder; its joined non-empty captures name the patient."""
    copies: Literal["keep_one", "tie", "keep"] = "keep_one"
    """What to do with exact copies: leave all but one out (`keep_one`), keep all, which a drawn split holds on one side (`tie`), or keep all as if they were different images, also under two labels, and warn (`keep`)."""

    @property
    def patients_listed(self) -> str | None:
        """What says whose an image is, beside `group`; nothing where nothing does."""
        return None

    @property
    def several(self) -> bool:
        """Whether an image may have several labels, or none."""
        return False


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
    learn_from: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training patients that train, the others are left out: of each class the same share, and a smaller one is part of a larger."""
    turn: Annotated[int, Field(ge=0, le=19)] | None = None
    """Which turn of a cross-validation this is, from 0: all images are divided into as many test sets as `test` goes into 1 (0.2: five), and this one judges."""
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

    @property
    def turns(self) -> int | None:
        """Test sets that all images can be divided into, or None where their share is not a half, a third, ... a twentieth."""
        turns = round(1 / self.test) if self.test > 0 else 0
        return turns if 2 <= turns <= 20 and abs(self.test - 1 / turns) < 0.005 else None

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
        if self.turn is not None:
            if self.given or self.file is not None:
                raise ValueError("turn is of a split that is drawn; leave it out, or given and file")
            if self.turns is None:
                raise ValueError(
                    f"turn asks for test sets of one size, and test is {self.test:g}; give it a half, a third, ... a twentieth"
                )
            if self.turn >= self.turns:
                raise ValueError(f"turn is {self.turn}, and with test: {self.test:g} the turns are 0 to {self.turns - 1}")
        if self.test_fold is not None and not self.given:
            raise ValueError(
                f"test_fold is {self.test_fold}, and folds are not given; with given: true the table says the fold of each image"
            )
        if self.given and self.file is not None:
            raise ValueError("given: true and file: are two answers to one question; keep one")
        if self.by == "image" and self.file is not None:
            raise ValueError("by: image and file: are two answers to one question: a written split is not drawn; keep one")
        return self


class BaseAugment(Part):
    """Random changes of training images. Zero is off."""

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
    bias_field: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Uneven brightness, as of an MR coil: largest logarithm either way of a smooth factor that differs from place to place; its largest value is then made 1."""
    ghosting: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Ghosts, as of breathing in an MR scanner: largest strength of two shifted copies, along rows or columns, as a fraction of the image."""
    low_resolution: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """Largest share of rows and columns that is lost and interpolated back: 0.5 draws from all of them to half."""
    fill: Literal["nearest", "constant", "reflect"] = "nearest"
    """What stands where the moved image has nothing: its edge, one value, or its mirror."""
    fill_value: Fraction = 0.0
    """The value for `fill: constant`, as a fraction of the range."""

    @classmethod
    def rules(cls, kind: str | None) -> dict[str, Rule]:
        """What a kind of image says of the fields that there are."""
        rules = next((rules for name, rules in KINDS.items() if name == kind), {})
        return {name: rule for name, rule in rules.items() if name in cls.model_fields}


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


class Plateau(Part):
    """Reduce the learning rate when validation no longer improves."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """What the rate is multiplied with."""
    patience: Annotated[int, Field(ge=1)] = 5
    """Epochs without improvement before it is."""
    minimum: Annotated[float, Field(ge=0)] = 1e-6
    """The rate is never below this."""


class Rounds(Part):
    """Train in rounds at one rate each, and look for another rate when validation no longer falls."""

    epochs: Annotated[int, Field(ge=1, le=1000)] = 12
    """Epochs of a round. After a round in which `best` improved, another follows with the same rate."""
    returns: Annotated[int, Field(ge=0, le=100)] = 3
    """Most times that training returns from a round without improvement to the best weights, and tries learning rates from there; then it ends."""


class BaseTraining(Part):
    """How the weights are found."""

    epochs: Annotated[int, Field(ge=1, le=10000)] = 15
    """Largest number of passes over the training images."""
    batch: Annotated[int, Field(ge=2, le=4096)] = 32
    """Images that are in memory at once: one step, or the `accumulate`-th part of one."""
    accumulate: Annotated[int, Field(ge=1, le=1024)] = 1
    """Batches per step: their gradients are added up, as if a step had one batch so many times as large."""
    optimizer: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    """The rule of the step."""
    learning_rate: Positive | Literal["sweep"] = 1e-3
    """Learning rate: the peak of `one_cycle` and `cosine`, the start of `plateau`, of the first of `rounds`, the value of `constant`. `sweep` tries 0.1, 0.01, ... 0.00001 and two finer ones for some steps before training, and writes the best that the optimizer trains with into the resolved study."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD (Nesterov); first beta of AdamW and Adam. RMSprop has none."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Weight decay, on weights of two or more dimensions. AdamW takes rate x decay off each; the others add decay x weight to the gradient (L2)."""
    schedule: Literal["one_cycle", "cosine", "plateau", "rounds", "constant"] = "one_cycle"
    """How the learning rate moves."""
    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the steps over which the rate of `schedule: cosine` rises, in a straight line."""
    plateau: Plateau = Plateau()
    """Settings of `schedule: plateau`."""
    rounds: Rounds = Rounds()
    """Settings of `schedule: rounds`, which lasts `epochs` at most."""
    clip: Positive | None = 1.0
    """Largest norm of the gradient of one step; `none` does not clip."""
    average: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay per step of an exponential average of the weights, which is then what is validated and kept."""
    stop_after: Annotated[int, Field(ge=1)] | None = None
    """Stop after so many epochs in which `best` did not improve."""
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    """One member is trained per seed; the mean of the members predicts."""
    log_to: Annotated[list[Literal["tensorboard", "wandb"]], AfterValidator(each_once)] = ["tensorboard"]
    """Where the curves are drawn while it trains, beside `history.jsonl`: TensorBoard, and Weights & Biases (`pip install 'tabib[wandb]'`), which writes into the run folder and sends nothing."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network runs; `auto` takes a GPU where there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the network's arithmetic; `auto` takes bf16 where a few timed steps show that it pays."""
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = "auto"
    """Processor threads; results repeat to the bit for one number of threads."""

    @property
    def rate(self) -> float:
        """The learning rate of a resolved study."""
        assert self.learning_rate != "sweep"
        return self.learning_rate

    @model_validator(mode="after")
    def _one_patience_at_a_time(self) -> Self:
        if self.schedule == "plateau" and self.stop_after is not None and self.stop_after <= self.plateau.patience:
            raise ValueError(
                f"stop_after is {self.stop_after} and plateau.patience is {self.plateau.patience}: training would stop when the "
                "rate is first reduced; make stop_after at least twice the patience"
            )
        if self.schedule == "rounds" and self.stop_after is not None:
            raise ValueError(
                f"stop_after is {self.stop_after}, and schedule: rounds ends by itself when validation no longer falls; leave stop_after out"
            )
        if self.schedule == "rounds" and self.epochs <= self.rounds.epochs:
            raise ValueError(
                f"epochs is {self.epochs} and rounds.epochs is {self.rounds.epochs}: training would end before the first round does; "
                "raise epochs, the most that all rounds together may have"
            )
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds has the same seed twice")
        return self


class BaseEvaluate(Part):
    """How sure the numbers are."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Level of every interval."""
    draws: Annotated[int, Field(ge=200, le=100000)] = 2000
    """Bootstrap draws over groups."""
    subgroups: list[str] = []
    """Facts of the images by which the test set is divided and judged apart: `site`, `scanner`, `date`, any of `data.columns.facts`, or what the files are (`format`, `width`, `mean`)."""


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
    """What others published on the same question. Its figures stand in reports and comparisons, beside their protocol."""

    name: str
    """Who, or which report."""
    protocol: Bilingual | None = None
    """How it was judged: on which images, divided how."""
    link: str | None = None
    """Where to read it."""


class BaseNotes(Part):
    """Words for the report that no measurement can give."""

    problem: Bilingual | None = None
    """What is asked, and why it matters."""
    suggestions: Bilingual | None = None
    """What could be done next."""


class Phantom(Part):
    """What `--phantom` makes of a study. It is of the file and not of the study: what is run without `--phantom` does not depend on it."""

    make: Literal["chest", "chest_labels", "heart", "nuclei", "nuclei_fluorescence", "smears", "brains"]
    """The made-up images that take the place of `data.folder`, as of `tabib phantom`."""
    patients: Annotated[int, Field(ge=8, le=10000)] | None = None
    """How many patients, or slides of tissue, are made; `none` makes as many as `tabib phantom`."""
    set: dict[str, Any] = {}
    """Fields that are other than the file says, as in `{data.group: '(patient\\d+)', training.epochs: 2}`."""


class BaseStudy(Part):
    """What studies of every task have."""

    name: Annotated[str, AfterValidator(_short_name)]
    """Short name in Latin letters, digits, `_` and `-`; the run folder is called so."""
    title: Bilingual = Bilingual()
    """Title of the report."""
    scale: Literal["full", "bench", "phantom"] = "full"
    """`bench` is a try-out of everything on few images (of each class 40 train, 20 choose and 20 judge; at most one copy of each) in 2 epochs; `phantom`, which `--phantom` sets, says that the images are made up. Figures of both say nothing of the study, and every page says so."""
    split: Split = Split()
    report: Report = Report()
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
            rules = type(cls.model_fields["augment"].default).rules(data["kind"])
            return values | {"augment": {name: rule.default for name, rule in rules.items()} | augment}
        return values
