"""The study of a classifier: the class of an image, or which of several labels it has."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tabib.config.parts import (
    BaseAugment,
    BaseColumns,
    BaseData,
    BaseEvaluate,
    BaseNotes,
    BaseStudy,
    BaseTraining,
    Fraction,
    Freeze,
    Part,
    PastWork,
    Place,
    Positive,
    RunFolder,
    each_once,
    pattern,
)

__all__ = [
    "METRICS",
    "OWN",
    "PATTERN_GROUPS",
    "Augment",
    "Calibrate",
    "Columns",
    "Data",
    "Evaluate",
    "Explain",
    "Goals",
    "Input",
    "ModelPart",
    "Notes",
    "Published",
    "Study",
    "Threshold",
    "Training",
]

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


PATTERN_GROUPS = ("label", "group", "part", "scanner", "site", "date")
"""What the named groups of `data.pattern` may be called."""


def _named_pattern(text: str) -> str:
    names = re.compile(pattern(text, "name its groups, as in '(?P<label>[^/]+)/(?P<group>p\\d+)_'")).groupindex
    for name in names:
        if name not in PATTERN_GROUPS:
            near = difflib.get_close_matches(name, PATTERN_GROUPS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(PATTERN_GROUPS)}"
            raise ValueError(f"has a group called {name}, which says nothing of an image; {hint}")
    if "label" not in names:
        raise ValueError("has no group (?P<label>...), which the class of an image is read from")
    return text


OWN = "own"
"""What `model.network` says of a module that a Python program gives with the study."""


class Columns(BaseColumns):
    """Which columns of the table say what, by the names in its first line."""

    label: str = "label"
    """Column of the class; an image with no value in it is not used."""
    labels: Annotated[list[str], AfterValidator(each_once)] = []
    """Instead of `label`, a column for each of several findings of which an image may have some, all or none: 1 or 0, yes or no, true or false in each line."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """What stands between the findings where the column of the class names several, as in `Effusion|Mass`."""
    no_finding: str = "No Finding"
    """The word in that column for an image without any finding."""

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


class Data(BaseData):
    """Which images, and what belongs to one patient."""

    layout: Literal["class_folders", "npz", "table", "pattern", "dicom"] = "class_folders"
    """How the data say what an image is: one folder per class, the arrays of a MedMNIST v2 file, a table with a line per image, a pattern that every path follows, or the headers of DICOM files and a table that names their UIDs."""
    pattern: Annotated[str, AfterValidator(_named_pattern)] | None = None
    """Regular expression on the path below the folder, of `layout: pattern`; its named groups say what an image is: `label`, and as they are there `group` (the patient), `part`, `scanner`, `site`, `date`."""
    table: Place | None = None
    """The table (CSV, TSV or Parquet) of `layout: table` or `layout: dicom`, relative to the study file."""
    columns: Columns = Columns()
    """What the columns of the table say."""

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

    @property
    def several(self) -> bool:
        """Whether an image may have several labels, or none."""
        return self.columns.several


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


class Augment(BaseAugment):
    """Random changes of training images, drawn anew in every epoch. Zero is off. With `data.kind`, the defaults are those of the kind."""

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


class Training(BaseTraining):
    """How the weights are found."""

    sampling: Literal["uniform", "class_balanced"] = "uniform"
    """What an epoch sees: every training image once, or as many images with an equal share of every class."""
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    """What is minimised: cross-entropy (of two classes the binary cross-entropy), or focal loss, in which sure answers count less."""
    focal_gamma: Annotated[float, Field(ge=0, le=10)] = 2.0
    """How much less, for `loss: focal`: each image counts (1 - p)^gamma, with p the probability of its class."""
    class_weights: Literal["balanced"] | None = None
    """Weight of each class in the loss: equal per image, or inversely as the class is frequent."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each label that is spread over all classes."""
    best: Literal["loss", "auc", "accuracy", "balanced_accuracy"] = "loss"
    """The validation metric that says which epoch's weights are kept."""
    frozen_features: Literal["auto", "keep", "compute"] = "auto"
    """What frozen layers say of images that are not augmented, or of their fixed copies: kept in the cache and computed once (in fp32), or computed in every epoch; `auto` keeps it where that can be and takes at most half of the free disk."""

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


class Evaluate(BaseEvaluate):
    """How sure the numbers are."""

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


class Published(PastWork):
    """What others published on the same question. Its figures stand in reports and comparisons, beside their protocol."""

    figures: Goals = Goals()
    """What was published, by the names of goals."""


class Notes(BaseNotes):
    """Words for the report that no measurement can give."""

    past_work: list[Published] = []
    """What others reached."""


class Study(BaseStudy):
    """A whole study. `load_study` reads one from YAML."""

    task: Literal["classification"] = "classification"
    """What is learnt: the class of an image."""
    positive: str | None = None
    """The class that is looked for, of two; `none` takes the one that is not named like health, and says so, or asks where names do not say."""
    data: Data
    input: Input = Input()
    augment: Augment = Augment()
    model: ModelPart = ModelPart()
    training: Training = Training()
    calibrate: Calibrate = Calibrate()
    evaluate: Evaluate = Evaluate()
    explain: Explain = Explain()
    goals: Goals = Goals()
    notes: Notes = Notes()

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
