"""The study of a segmenter: which part of an image is what."""

from __future__ import annotations

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
    Part,
    PastWork,
    Place,
    RunFolder,
)

__all__ = [
    "PostProcess",
    "Segmentation",
    "SegmentationAugment",
    "SegmentationData",
    "SegmentationEvaluate",
    "SegmentationExplain",
    "SegmentationGoals",
    "SegmentationInput",
    "SegmentationModel",
    "SegmentationNotes",
    "SegmentationTraining",
    "Segmented",
]

Number = Annotated[int, Field(ge=1, le=65535)]
AnyNumber = Annotated[int, Field(ge=1, le=2**32 - 1)]
Millimetres = Annotated[float, Field(gt=0, le=1000)]


def _apart(labels: dict[str, int | list[int]]) -> dict[str, int | list[int]]:
    numbers: dict[int, str] = {}
    for name, given in labels.items():
        if not name or "|" in name or name == "background":
            raise ValueError(f"{name!r} is no name of a structure: it must have a letter, hold no | and not be background")
        for number in [given] if isinstance(given, int) else given:
            if number in numbers:
                raise ValueError(f"gives the number {number} to {numbers[number]} and to {name}; keep one")
            numbers[number] = name
        if given == []:
            raise ValueError(f"gives {name} no number; write which numbers of the masks it is, as in {{{name}: 1}}")
    return labels


class SegmentationData(BaseData):
    """Which images and masks, and what belongs to one patient."""

    columns: BaseColumns = BaseColumns()
    """What the columns of the table say; `path` is the image's."""
    layout: Literal["image_mask_pairs", "acdc", "nnunet", "dicom_seg", "sunnybrook"] = "image_mask_pairs"
    """How images and masks lie: a folder of images and one of masks (or one of both), the patients' folders of the ACDC challenge, the raw data of nnU-Net, DICOM series with segmentation objects, or the DICOM files and outlines of the Sunnybrook data."""
    images: str = "images"
    """Folder of the images below `folder`, of `layout: image_mask_pairs`."""
    masks: str = "masks"
    """Folder of the masks below `folder`, each called as its image (another suffix, or `mask_suffix` at its end, is no other name)."""
    mask_suffix: str | None = None
    """What the name of a mask has more than that of its image, as `_mask` of `a_mask.png` beside `a.png`; images and masks may then lie in one folder."""
    labels: Annotated[dict[str, Number | list[Number]], Field(min_length=1), AfterValidator(_apart)]
    """The structures, and which numbers of the masks each of them is, as in `{rv: 1, myocardium: 2, lv: 3}`; of `instances`, one name."""
    ignored: list[AnyNumber] = []
    """Numbers of the masks that count as background."""
    instances: bool = False
    """Whether each number of a mask is one object (a nucleus), and all are of the one structure in `labels`."""
    spacing: Literal["file", "nominal"] = "file"
    """Whether the millimetres of the files are true; `nominal` ones measure nothing in millimetres and millilitres."""

    @model_validator(mode="after")
    def _one_structure_of_objects(self) -> Self:
        if self.instances and len(self.labels) != 1:
            raise ValueError(
                f"instances is true and labels names {len(self.labels)} structures; name the one that the objects are, as in {{nucleus: 1}}"
            )
        return self

    @model_validator(mode="after")
    def _columns_of_a_table(self) -> Self:
        if self.table is None and self.columns != BaseColumns():
            raise ValueError("columns: says what the columns of a table mean, and there is no table:; give it, or take columns: away")
        if self.group is not None and self.columns.group is not None:
            raise ValueError("group: and the group of the table are two answers to one question; keep one")
        return self

    @property
    def patients_listed(self) -> str | None:
        """The column that says whose an image is; the layout may say it without one."""
        return self.columns.group

    @property
    def positive(self) -> None:
        """No structure is looked for before another."""
        return

    @property
    def several(self) -> bool:
        """An image may show several structures, or none."""
        return True

    @property
    def structures(self) -> list[str]:
        """The structures in the order of the network's outputs, after the background."""
        return list(self.labels)


class SegmentationInput(Part):
    """What the network sees of an image."""

    dimensions: Annotated[int, Field(ge=2, le=3)] = 2
    """2: slice by slice; 3: whole blocks of a volume."""
    crop: Literal["content"] | None = None
    """`content`: the network sees the smallest box that holds all but the background, the value of most corners of the image; outside it is background. `none`: whole images."""
    spacing_mm: Literal["auto", "keep"] | list[Millimetres] = "auto"
    """Millimetres between rows and columns (of 3 dimensions between slices, rows and columns) to which images are resampled; `auto` is the median of the training images, and where files say none they are kept."""
    patch: Literal["auto"] | list[Annotated[int, Field(ge=4, le=1024)]] = "auto"
    """Rows and columns (of 3 dimensions slices, rows and columns) that the network sees at once; `auto` covers the median training image, within 256 (of 3 dimensions, some 128 cubed)."""
    channels: Literal["auto"] | Annotated[int, Field(ge=1, le=3)] | Annotated[list[str], Field(min_length=2, max_length=64)] = "auto"
    """1 for grey, 3 for colour, or names, as in [T1, FLAIR], of channels that have files of their own; `auto` looks for them, and whether any image has colour."""
    intensity: Literal["zscore", "percentile", "unit", "ct_window"] = "zscore"
    """Scaling of each image (of channels with files of their own, each channel): mean 0 and standard deviation 1, its 0.5th to 99.5th percentile to 0..1, the range of its type to 0..1, or `window` to 0..1."""
    window: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """Lowest and highest value of `intensity: ct_window`, in Hounsfield units."""

    @property
    def channel_count(self) -> int:
        """How many channels the network sees; `channels` is resolved."""
        assert self.channels != "auto"
        return self.channels if isinstance(self.channels, int) else len(self.channels)

    @property
    def channel_names(self) -> list[str]:
        """The names of channels that have files of their own; none of others."""
        return self.channels if isinstance(self.channels, list) else []

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        for name, value in (("spacing_mm", self.spacing_mm), ("patch", self.patch)):
            if isinstance(value, list) and len(value) != self.dimensions:
                raise ValueError(f"{name} has {len(value)} numbers, and dimensions is {self.dimensions}; give one for each")
        if self.channels == 2:
            raise ValueError("channels is 2, and must be 1, 3 or auto")
        if (self.intensity == "ct_window") != (self.window is not None):
            raise ValueError("intensity: ct_window and window: go together; give both, as in {intensity: ct_window, window: [-150, 250]}")
        if self.window is not None and self.window[0] >= self.window[1]:
            raise ValueError(f"window is {self.window}, and its first value must be below the second")
        return self


class SegmentationAugment(BaseAugment):
    """Random changes of training images, drawn anew in every epoch; a mask moves with its image. Zero is off."""

    fill: Literal["nearest", "constant", "reflect"] = "constant"
    """What stands where the moved image has nothing: its edge, one value, or its mirror. A mask has background there."""
    tilt_degrees: Annotated[float, Field(ge=0, le=45)] = 0.0
    """Largest turn of a block either way about each of its other two axes, in degrees of `input.dimensions: 3`. Between thick slices there is nothing to turn: leave it at 0 there."""

    @property
    def off(self) -> bool:
        """Whether no image is changed."""
        return not any(value for name, value in self if name not in ("elastic_cells", "fill", "fill_value"))


class SegmentationModel(Part):
    """The network."""

    network: Literal["unet", "attention_unet", "vnet", "dynunet", "segresnet"] = "unet"
    """`unet` (Ronneberger et al. 2015; with `encoder`, any backbone of timm as its way down), `attention_unet` (Oktay et al. 2018), `vnet` (Milletari et al. 2016), `dynunet` (planned as nnU-Net plans it, Isensee et al. 2021) or `segresnet` (Myronenko 2018)."""
    encoder: str | None = None
    """Backbone of timm, as in `tf_efficientnet_lite0` or `vgg19_bn`, that is the way down of `unet` in 2 dimensions."""
    weights: Literal["imagenet"] | RunFolder | Place | None = None
    """Where the weights start: `imagenet` (of the encoder), a local file of them, another run (`run:FOLDER`), or `none`."""
    filters: Literal["auto"] | list[Annotated[int, Field(ge=4, le=2048)]] = "auto"
    """Feature maps of each level, from the top, as in [32, 64, 128, 256]; `auto` is what is usual for the network, as deep as the patch allows."""
    norm: Literal["auto", "batch", "instance"] | None = "auto"
    """Normalisation after each convolution of `unet` and `dynunet`; `none` is the U-Net as first published. `auto` is batch, and of `dynunet` instance; the others have their own."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of feature maps that training leaves out at random at the lowest level."""
    deep_supervision: bool = False
    """Whether `dynunet` also learns from what its lower levels say."""
    freeze: Literal["encoder"] | None = None
    """`encoder`: the way down keeps its weights, and only the way up and the last layer are trained."""

    @model_validator(mode="after")
    def _parts_of_one_network(self) -> Self:
        if self.encoder is not None and self.network != "unet":
            raise ValueError(f"encoder is {self.encoder}, which network unet can have, and network is {self.network}; leave encoder out")
        if self.weights == "imagenet" and self.encoder is None:
            raise ValueError("weights: imagenet are those of a backbone; name it, as in encoder: tf_efficientnet_lite0")
        if self.norm != "auto" and (self.network not in ("unet", "dynunet") or self.encoder):
            raise ValueError(f"norm is {self.norm or 'none'}, and {self.encoder or self.network} has its own; leave norm out")
        if self.filters != "auto" and (self.network == "vnet" or self.encoder):
            raise ValueError(f"filters are given, and {self.encoder or self.network} has its own; leave filters out")
        if self.filters != "auto" and self.network == "segresnet" and len(self.filters) != 1:
            raise ValueError(
                f"filters has {len(self.filters)} numbers, and segresnet doubles one at each level; give the first, as in [16]"
            )
        if self.filters != "auto" and self.network != "segresnet" and len(self.filters) < 2:
            raise ValueError(
                "filters has one number, and a network of one level sees nothing around a pixel; give at least two, as in [32, 64]"
            )
        if (self.dropout and self.network in ("attention_unet", "dynunet", "vnet", "segresnet")) or (self.dropout and self.encoder):
            raise ValueError(f"dropout is {self.dropout:g}, which unet without an encoder has; leave it out")
        if self.deep_supervision and self.network != "dynunet":
            raise ValueError(f"deep_supervision is for network dynunet, and network is {self.network}; leave it out")
        return self


class SegmentationTraining(BaseTraining):
    """How the weights are found."""

    patches: Literal["auto"] | Annotated[int, Field(ge=1, le=1_000_000)] = "auto"
    """Patches that an epoch draws; `auto` is as many as there are training slices (of 3 dimensions, two for each volume)."""
    foreground: Fraction = 0.33
    """Share of the patches that are drawn around a structure, each structure as often as another; the others lie anywhere."""
    loss: Literal["dice_cross_entropy", "dice_boundary", "dice", "cross_entropy", "tversky", "focal"] = "dice_cross_entropy"
    """What is minimised: the soft Dice loss (Milletari et al. 2016) plus cross-entropy or plus a hundredth of the boundary loss (Kervadec et al. 2019), one of the first two alone, Tversky (Salehi et al. 2017; misses count 0.7, false alarms 0.3), or focal (Lin et al. 2017)."""
    best: Literal["loss", "dice"] = "dice"
    """What says which epoch's weights are kept, on the validation images: the loss, or the mean Dice of the structures."""


class PostProcess(Part):
    """What is done with a mask after the network, chosen on validation images only."""

    largest_component: Literal["auto"] | bool = "auto"
    """Whether only the largest connected part of each structure stays; `auto` where that raises the mean Dice of the validation images, and never of `instances`, of which there are many."""
    fill_holes: Literal["auto"] | bool = "auto"
    """Whether holes inside a structure are filled, slice by slice; `auto` likewise."""
    flips: bool = False
    """Whether each image is also predicted mirrored, and the mean taken: 4 times the work."""


class SegmentationEvaluate(BaseEvaluate):
    """How sure the numbers are, and what counts as near."""

    tolerance_mm: Millimetres = 2.0
    """Distance at which two surfaces still agree, of the surface Dice."""


class SegmentationExplain(Part):
    """How masks came about, in pictures for the report. Changing it repeats no training."""

    images: Annotated[int, Field(ge=0, le=20)] = 4
    """Test images that are explained: of four the three with the lowest mean Dice and the one with the highest; 0 explains nothing."""


class SegmentationGoals(Part):
    """Figures on the test set that were asked for, shown beside what was reached."""

    dice: Fraction | None = None
    """Wanted mean Dice of the structures."""
    iou: Fraction | None = None
    """Wanted mean intersection over union."""


class Segmented(PastWork):
    """What others published on the same question. Its figures stand in reports and comparisons, beside their protocol."""

    figures: SegmentationGoals = SegmentationGoals()
    """What was published, by the names of goals."""


class SegmentationNotes(BaseNotes):
    """Words for the report that no measurement can give."""

    past_work: list[Segmented] = []
    """What others reached."""


class Segmentation(BaseStudy):
    """A whole study of images and masks. `load_study` reads one from YAML."""

    task: Literal["segmentation"]
    """What is learnt: which part of an image is what."""
    data: SegmentationData
    input: SegmentationInput = SegmentationInput()
    augment: SegmentationAugment = SegmentationAugment()
    model: SegmentationModel = SegmentationModel()
    training: SegmentationTraining = SegmentationTraining()
    calibrate: PostProcess = PostProcess()
    evaluate: SegmentationEvaluate = SegmentationEvaluate()
    explain: SegmentationExplain = SegmentationExplain()
    goals: SegmentationGoals = SegmentationGoals()
    notes: SegmentationNotes = SegmentationNotes()

    @model_validator(mode="after")
    def _tilts_a_block(self) -> Self:
        if self.augment.tilt_degrees and self.input.dimensions == 2:
            raise ValueError(
                f"augment.tilt_degrees is {self.augment.tilt_degrees:g}, and input.dimensions is 2: a slice alone cannot be tilted; set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _keeps_all_objects(self) -> Self:
        if self.calibrate.largest_component is True and self.data.instances:
            raise ValueError(
                "calibrate.largest_component is true, and data.instances says that an image has many objects, of which one part would stay; "
                "leave it out"
            )
        return self

    @property
    def positive(self) -> None:
        """No structure is looked for before another."""
        return

    @property
    def several(self) -> bool:
        """An image may show several structures, or none: its label is those of its mask."""
        return True
