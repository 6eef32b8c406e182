"""Networks that say of every pixel or voxel what it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tabib.config import SegmentationModel, run_named
from tabib.errors import StudyError, WeightsError
from tabib.images import strides_of
from tabib.progress import SILENT, Progress
from tabib.training.networks import Network, describe_backbone, first_convolutions
from tabib.training.other_run import find_in_run, load_head
from tabib.training.weights import Start, find_imagenet, find_local, fit_weights, load_start, names_in

__all__ = ["SEGMENTERS", "Form", "UNet", "build_segmenter"]

_FEWEST, _MOST = 32, {2: 512, 3: 320}  # feature maps of the first level, and the most of any, by dimensions


class Form(NamedTuple):
    """What a network is built for."""

    channels: int  # of the images
    outputs: int  # the background and the structures
    patch: tuple[int, ...]  # rows and columns, or slices, rows and columns
    spacing_mm: tuple[float, ...] | None  # of these axes; None where nobody says

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.patch)


class UNet(nn.Module):
    """The U-Net (Ronneberger et al. 2015), with borders kept by padding; without a norm the layers are those first published.

    (B, C, H, W) or (B, C, D, H, W) to features of the first level of the same size.
    """

    def __init__(
        self, channels: int, filters: Sequence[int], strides: Sequence[tuple[int, ...]], *, norm: str | None, dropout: float
    ) -> None:
        super().__init__()
        kinds = _KINDS[len(strides[0])]
        narrow = [channels, *filters[:-1]]
        self.down = nn.ModuleList(_twice(kinds, old, new, norm) for old, new in zip(narrow, filters, strict=True))
        self.pool = nn.ModuleList(kinds.pool(stride) for stride in strides[1:])
        self.drop = kinds.dropout(dropout)
        pairs = list(zip(filters[:-1], filters[1:], strides[1:], strict=True))
        self.grow = nn.ModuleList(kinds.up(wide, thin, stride, stride) for thin, wide, stride in pairs)
        self.up = nn.ModuleList(_twice(kinds, 2 * thin, thin, norm) for thin, _, _ in pairs)

    def forward(self, images: Tensor) -> Tensor:
        """Features of the first level."""
        kept = []
        x = self.down[0](images)
        for pool, down in zip(self.pool, list(self.down)[1:], strict=True):
            kept.append(x)
            x = down(pool(x))
        x = self.drop(x)
        for grow, up in zip(reversed(self.grow), reversed(self.up), strict=True):
            x = up(torch.cat([kept.pop(), grow(x)], dim=1))
        return x


class _Kind(NamedTuple):
    convolution: type[nn.Conv2d] | type[nn.Conv3d]
    pool: type[nn.Module]
    up: type[nn.Module]
    dropout: type[nn.Module]
    norms: dict[str, type[nn.Module]]


_KINDS = {
    2: _Kind(nn.Conv2d, nn.MaxPool2d, nn.ConvTranspose2d, nn.Dropout2d, {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}),
    3: _Kind(nn.Conv3d, nn.MaxPool3d, nn.ConvTranspose3d, nn.Dropout3d, {"batch": nn.BatchNorm3d, "instance": nn.InstanceNorm3d}),
}


def _twice(kinds: _Kind, old: int, new: int, norm: str | None) -> nn.Module:
    layers: list[nn.Module] = []
    for first in (old, new):
        convolution: nn.Conv2d | nn.Conv3d = kinds.convolution(first, new, 3, padding=1, bias=norm is None)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        layers.append(convolution)
        if norm is not None:
            layers.append(kinds.norms[norm](new, affine=True))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def build_segmenter(
    model: SegmentationModel,
    form: Form,
    *,
    structures: Sequence[str] = (),
    seed: int = 0,
    offline: bool = False,
    progress: Progress = SILENT,
) -> tuple[Network, list[int]]:
    """Build a network with its starting weights, and say the feature maps of its levels (none where it has its own).

    `network(images)` are logits of the background and the structures, (B, outputs, ...) of the size of the images; with
    `deep_supervision` and in training mode (B, levels, outputs, ...), each level's as large.

    Args:
        model: which network, which weights.
        form: channels, outputs, patch and spacing.
        structures: in the order of the outputs after the background; the last layer of another run is taken where its are the same.
        seed: of the initial weights; the global generator is left as it was.
        offline: refuse downloads.
        progress: told of a download.

    Raises:
        StudyError: a patch or filters that the network cannot have.
        WeightsError: the weights cannot be had or do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        features, head, filters, first = SEGMENTERS[model.network](model, form)
    source, digest = "none", None
    run = run_named(model.weights)
    if model.weights is not None and model.encoder is not None and not run and not _is_whole(model.weights):
        begun = _load_encoder(
            features.get_submodule("encoder"), model.encoder, model.weights, channels=form.channels, offline=offline, progress=progress
        )
        source, digest = begun.source, begun.sha256
    elif model.weights is not None:
        found = find_in_run(run) if run else find_local(Path(model.weights), mean=(0.0,), std=(1.0,))
        begun = load_start(found, features, network=model.network, first_convolutions=first)
        source, digest = begun.source, begun.sha256
        if run:
            load_head(run, head, class_names=structures)
    shape = (1, form.channels, *(1 for _ in form.patch))
    network = Network(features, head, mean=torch.zeros(shape), std=torch.ones(shape), source=source, source_sha256=digest)
    if form.dimensions == 3:
        network.layout = torch.contiguous_format
    if model.freeze == "encoder":
        _freeze_encoder(network, model)
    return network, filters


_Built = tuple[nn.Module, nn.Module, list[int], tuple[str, ...]]
"""Features, head, feature maps of the levels, and the weights that read the image."""


def _unet(model: SegmentationModel, form: Form) -> _Built:
    if model.encoder is not None:
        return _unet_of(model.encoder, form)
    filters, strides = _levels(model, form)
    norm = "batch" if model.norm == "auto" else model.norm
    features = UNet(form.channels, filters, strides, norm=norm, dropout=model.dropout)
    return features, _last(filters[0], form), filters, ("down.0.0.weight",)


def _unet_of(encoder: str, form: Form) -> _Built:
    """A U-Net whose way down is a backbone of timm, built by segmentation_models_pytorch."""
    import segmentation_models_pytorch

    if form.dimensions == 3:
        raise StudyError(f"model.encoder is {encoder}, a backbone for pictures, and input.dimensions is 3. Leave encoder out, or set 2.")
    try:
        whole = segmentation_models_pytorch.Unet(f"tu-{encoder}", encoder_weights=None, in_channels=form.channels, classes=form.outputs)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise StudyError(
            f"model.encoder is {encoder!r}, of which no U-Net can be built: {error}. Take another backbone of timm."
        ) from error
    head = whole.segmentation_head
    whole.add_module("segmentation_head", nn.Identity())
    if any(side % 32 for side in form.patch):
        raise StudyError(f"input.patch is {list(form.patch)}, and the sides of {encoder} must be multiples of 32. Change it, or take auto.")
    return whole, head, [], ()


def _attention_unet(model: SegmentationModel, form: Form) -> _Built:
    from monai.networks.nets.attentionunet import AttentionUnet

    filters, strides = _levels(model, form)
    whole = AttentionUnet(form.dimensions, form.channels, form.outputs, filters, strides[1:])  # pyright: ignore[reportArgumentType]
    return whole, nn.Identity(), filters, ()


def _vnet(model: SegmentationModel, form: Form) -> _Built:
    from monai.networks.nets.vnet import VNet

    if any(side % 16 for side in form.patch):
        raise StudyError(f"input.patch is {list(form.patch)}, and the sides of vnet must be multiples of 16. Change it, or take auto.")
    if 16 % form.channels:  # its first layer adds the image to its features
        raise StudyError(
            f"The images have {form.channels} channels, and the 16 feature maps with which vnet begins must be a multiple of them. Take another network."
        )
    whole = VNet(form.dimensions, form.channels, form.outputs, dropout_dim=form.dimensions)
    return whole, nn.Identity(), [], ()


def _dynunet(model: SegmentationModel, form: Form) -> _Built:
    from monai.networks.nets.dynunet import DynUNet

    filters, strides = _levels(model, form, least=3)
    kernels = _kernels(form, strides)
    whole = DynUNet(
        form.dimensions,
        form.channels,
        form.outputs,
        kernels,
        strides,
        strides[1:],
        filters=filters,
        norm_name=("BATCH" if model.norm == "batch" else "INSTANCE", {"affine": True}),
        deep_supervision=model.deep_supervision,
        deep_supr_num=max(1, min(3, len(strides) - 2)),
    )
    return whole, nn.Identity(), filters, ()


def _segresnet(model: SegmentationModel, form: Form) -> _Built:
    from monai.networks.nets.segresnet import SegResNet

    first = 16 if model.filters == "auto" else model.filters[0]
    if first % 8:
        raise StudyError(
            f"model.filters is {[first]}, and segresnet normalises groups of 8 feature maps. Give a multiple of 8, as in [16]."
        )
    if any(side % 8 for side in form.patch):
        raise StudyError(f"input.patch is {list(form.patch)}, and the sides of segresnet must be multiples of 8. Change it, or take auto.")
    whole = SegResNet(form.dimensions, first, form.channels, form.outputs)
    return whole, nn.Identity(), [first], ()


SEGMENTERS: dict[str, Callable[[SegmentationModel, Form], _Built]] = {
    "unet": _unet,
    "attention_unet": _attention_unet,
    "vnet": _vnet,
    "dynunet": _dynunet,
    "segresnet": _segresnet,
}
"""Networks by their names in a study."""


def _levels(model: SegmentationModel, form: Form, *, least: int = 2) -> tuple[list[int], list[tuple[int, ...]]]:
    """Feature maps and strides of each level."""
    strides = strides_of(form.patch, form.spacing_mm)
    if model.filters == "auto":
        filters = [min(_FEWEST * 2**level, _MOST[form.dimensions]) for level in range(len(strides))]
    else:
        filters = list(model.filters)
    if not least <= len(filters) <= len(strides):
        raise StudyError(
            f"input.patch is {list(form.patch)}, which can be halved {len(strides) - 1} times, and the network has {max(least, len(filters))} levels or more. "
            f"Make its sides multiples of {2 ** (max(least, len(filters)) - 1)}, or change model.filters."
        )
    return filters, strides[: len(filters)]


def _kernels(form: Form, strides: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Sides of each level's convolutions: 1 along an axis whose spacing is still at least twice the finest, else 3."""
    spacing = list(form.spacing_mm or [1.0] * form.dimensions)
    kernels = []
    for stride in strides:
        spacing = [each * step for each, step in zip(spacing, stride, strict=True)]
        kernels.append(tuple(1 if each >= 2 * min(spacing) else 3 for each in spacing))
    return kernels


def _last(wide: int, form: Form) -> nn.Module:
    # As large as PyTorch draws it: from near zero, a structure of few pixels is given up before it is found.
    return _KINDS[form.dimensions].convolution(wide, form.outputs, 1)


def _is_whole(weights: str | Path) -> bool:
    """Whether a file holds a U-Net with its way up, and not a backbone alone."""
    return weights != "imagenet" and Path(weights).is_file() and any("decoder." in name for name in names_in(Path(weights)))


def _load_encoder(encoder: nn.Module, name: str, weights: str | Path, *, channels: int, offline: bool, progress: Progress) -> Start:
    """Give the encoder the weights of the whole backbone, whose last layers it does not have: in order, by their shapes."""
    backbone, config = describe_backbone(name, channels=channels)
    whole, own = backbone.state_dict(), encoder.state_dict()
    names = iter(whole)
    pairs = {mine: next((other for other in names if whole[other].shape == tensor.shape), "") for mine, tensor in own.items()}
    if not all(pairs.values()):
        raise WeightsError(f"The weights of {name} do not fit the layers that its U-Net has. Take another encoder.")
    if weights == "imagenet":
        count = sum(weight.numel() for weight in backbone.parameters())
        found = find_imagenet(name, config, weights=count, offline=offline, progress=progress)
    else:
        found = find_local(Path(weights), mean=tuple(config.mean), std=tuple(config.std))
    spare = whole.keys() - set(pairs.values())
    fitted, start = fit_weights(found, whole, network=name, first_convolutions=first_convolutions(config), spare=spare)
    encoder.load_state_dict({mine: fitted[other] for mine, other in pairs.items() if other in fitted}, strict=False)
    return start


def _freeze_encoder(network: Network, model: SegmentationModel) -> None:
    inside = {"unet": "encoder" if model.encoder else "down"}.get(model.network)
    if inside is None:
        raise StudyError(f"model.freeze is encoder, and {model.network} has no way down of its own. Take network: unet.")
    layers = [name for name, _ in network.features.named_modules() if name == inside or name.startswith(f"{inside}.")]
    for weight in network.features.get_submodule(inside).parameters():
        weight.requires_grad_(False)
    network.frozen = tuple(layers)
