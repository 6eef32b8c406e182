"""Random changes of training images: numbers are drawn apart from being applied, so any image can be replayed.

Every number is a pure function of (seed, epoch, content of the image, name of the draw). No generator state is kept:
the draws do not depend on the batch, the order, the workers, or on files added elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tabib.config import BaseAugment
from tabib.training.randomness import bits

__all__ = ["Draws", "apply", "apply_with_masks", "draw"]

_LUMA = torch.tensor([0.213, 0.715, 0.072]).expand(3, 3)
_HUE = torch.tensor([[-0.213, -0.715, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]])
"""What saturation and hue are made of: `feColorMatrix` of the W3C's Filter Effects Module Level 1."""

_STAINS = torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Optical density in red, green and blue of haematoxylin, eosin and DAB (Ruifrok and Johnston 2001)."""

_DARKEST = 1e-6
"""What counts as black where a logarithm is taken."""

_PADDING = {"nearest": "border", "constant": "zeros", "reflect": "reflection"}


@dataclass(frozen=True)
class Draws:
    """What happens to each of B images. Tensors (B,) on the CPU, float32 unless said otherwise."""

    rotation_degrees: Tensor  # clockwise
    shift_x: Tensor  # to the right, as a fraction of the width
    shift_y: Tensor  # downwards, as a fraction of the height
    scale: Tensor  # above 1 enlarges
    stretch: Tensor  # how much more the width is enlarged than the height, a factor
    shear_degrees: Tensor  # moves lower rows to the left
    crop: Tensor  # share of each side left out
    crop_x: Tensor  # where the crop lies: -1 at the left edge, 1 at the right
    crop_y: Tensor  # -1 at the top, 1 at the bottom
    elastic: Tensor  # (B, 2, n, n), x then y: displacement of the points of a coarse grid, as fractions of the sides
    flip_horizontal: Tensor  # bool, left to right, before the rest of the geometry
    flip_vertical: Tensor  # bool, top to bottom
    brightness: Tensor  # added, as a fraction of the range
    contrast: Tensor  # factor around the mean of the image
    gamma: Tensor  # exponent
    saturation: Tensor  # factor
    hue_degrees: Tensor
    stain_factor: Tensor  # (B, 3), of haematoxylin, eosin and DAB
    stain_added: Tensor  # (B, 3), optical density
    blur: Tensor  # standard deviation, as a fraction of the shorter side
    noise: Tensor  # standard deviation, as a fraction of the range
    noise_seed: Tensor  # int64, seed of the image's noise


def draw(augment: BaseAugment, *, seed: int, epoch: int, content: np.ndarray) -> Draws:
    """Draw what happens to each image in one epoch.

    Args:
        augment: largest changes; a change that is off draws its neutral value.
        seed: seed of the member, 0 or more.
        epoch: number of the epoch.
        content: (B,) uint64, a key of each image's content, such as the first eight bytes of its SHA-256. Images with one
            key are changed in one way.
    """

    def random(name: str, of: np.ndarray = content) -> np.ndarray:
        return bits(name, seed=seed, epoch=epoch, content=of)

    def within(name: str, largest: float, of: np.ndarray = content) -> np.ndarray:
        # The upper 53 bits are what a float64 can hold; the half keeps the draw symmetrical about zero.
        return ((random(name, of) >> np.uint64(11)) + 0.5) / 2.0**52 * largest - largest

    def number(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32))

    def coin(name: str, wanted: bool) -> Tensor:
        return torch.from_numpy((random(name) >> np.uint64(63)).astype(bool) & wanted)

    def several(name: str, largest: float, *shape: int) -> Tensor:
        counted = random(name)[:, None] + np.arange(math.prod(shape), dtype=np.uint64)
        return number(within(name, largest, counted)).unflatten(1, shape)

    points = augment.elastic_cells + 3
    return Draws(
        rotation_degrees=number(within("rotation", augment.rotation_degrees)),
        shift_x=number(within("shift_x", augment.shift)),
        shift_y=number(within("shift_y", augment.shift)),
        scale=number(1 + within("zoom", augment.zoom)),
        stretch=number(np.exp(within("stretch", math.log1p(augment.stretch)))),
        shear_degrees=number(within("shear", augment.shear_degrees)),
        crop=number(np.abs(within("crop", augment.crop))),
        crop_x=number(within("crop_x", 1)),
        crop_y=number(within("crop_y", 1)),
        elastic=several("elastic", augment.elastic, 2, points, points),
        flip_horizontal=coin("flip_horizontal", augment.flip_horizontal),
        flip_vertical=coin("flip_vertical", augment.flip_vertical),
        brightness=number(within("brightness", augment.brightness)),
        contrast=number(1 + within("contrast", augment.contrast)),
        gamma=number(np.exp(within("gamma", augment.gamma))),
        saturation=number(1 + within("saturation", augment.saturation)),
        hue_degrees=number(within("hue", augment.hue_degrees)),
        stain_factor=1 + several("stain_factor", augment.stain, 3),
        stain_added=several("stain_added", augment.stain, 3),
        blur=number(np.abs(within("blur", augment.blur))),
        noise=number(np.abs(within("noise", augment.noise))),
        noise_seed=torch.from_numpy((random("noise_seed") >> np.uint64(1)).astype(np.int64)),
    )


def apply(images: Tensor, draws: Draws, augment: BaseAugment) -> Tensor:
    """Change a batch of images as drawn: all geometry in one bilinear resampling, then blur, colours, contrast and brightness, gamma, noise.

    Args:
        images: (B, C, H, W) float32 in 0..1, in any memory format, which the result keeps; not changed. Saturation, hue and
            stain need three channels.
        draws: one entry per image.
        augment: the settings that the draws were made with.

    Returns:
        (B, C, H, W) float32 in 0..1 on the device of `images`. Noise repeats on one kind of device, and differs between CPU and GPU.

    Source: elastic distortion after Simard et al. 2003, "Best practices for convolutional neural networks applied to visual
    document analysis", with cubic B-splines between the points (Rueckert et al. 1999); stains after Tellez et al. 2018,
    "Whole-slide mitosis detection in H&E breast histology using PHH3 as a reference to train distilled stain-invariant
    convolutional networks".
    """
    changed = images
    theta = _output_to_input(draws, height=images.shape[2], width=images.shape[3])
    moved = (theta != torch.eye(2, 3)).any(dim=(1, 2)) | (draws.elastic != 0).any(dim=(1, 2, 3))
    if moved.all():
        changed = _resample(images, theta, draws.elastic, augment)
    elif moved.any():  # an image that stays where it is keeps its pixels to the bit
        where = moved.nonzero()[:, 0].to(images.device)
        changed = images.index_copy(0, where, _resample(images[where], theta[moved], draws.elastic[moved], augment))
    layout = torch.channels_last if images.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    changed = _recolour(changed, draws, augment, layout=layout)
    return images.clone() if changed is images else changed.clamp_(0, 1)


def apply_with_masks(images: Tensor, masks: Tensor, draws: Draws, augment: BaseAugment, *, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Change images and their masks as drawn, and cut out the middle: what a turn brings in from outside it is the image itself.

    Every slice of a volume is moved alike. Sides and fractions of sides are those of the result.

    Args:
        images: (B, C, H, W) float32 in 0..1, the slices of a volume as channels; not changed.
        masks: (B, D, H, W) of any integer type; values are taken from the nearest pixel, and 0 from beyond the border.
        draws: one entry per image.
        augment: the settings that the draws were made with.
        size: height and width of the result, at most those of the images.

    Returns:
        (B, C, *size) and (B, D, *size).
    """
    theta = _output_to_input(draws, height=size[0], width=size[1])
    part = torch.tensor([size[1] / images.shape[3], size[0] / images.shape[2]], device=images.device)
    grid = _grid(theta, draws.elastic, augment, *size, device=images.device) * part
    changed = _recolour(_sample(images, grid, augment), draws, augment, layout=torch.contiguous_format).clamp_(0, 1)
    moved = functional.grid_sample(masks.float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return changed, moved.to(masks.dtype)


def _recolour(images: Tensor, draws: Draws, augment: BaseAugment, *, layout: torch.memory_format) -> Tensor:
    """Blur, colours, contrast and brightness, gamma and noise; what is off costs nothing, and where all is off the images are given back."""
    changed = images
    if augment.blur:
        changed = _blur(changed, draws.blur)
    if augment.stain:
        changed = _stain(changed, draws)
    if augment.saturation or augment.hue_degrees:
        changed = _mix_channels(changed, _saturation_and_hue(draws)).clamp_(0, 1)
    changed = changed.contiguous(memory_format=layout)
    if augment.brightness or augment.contrast:
        factor = _per_image(draws.contrast, images)
        offset = changed.mean(dim=(1, 2, 3), keepdim=True) * (1 - factor) + _per_image(draws.brightness, images)
        changed = torch.addcmul(offset, changed, factor).clamp_(0, 1)
    if augment.gamma:
        changed = changed.pow(_per_image(draws.gamma, images))
    if augment.noise:
        changed = torch.addcmul(changed, _gaussian(draws.noise_seed, like=changed), _per_image(draws.noise, images))
    return changed


def _output_to_input(draws: Draws, *, height: int, width: int) -> Tensor:
    """Affine (B, 2, 3) from a place in the result to its place in the source, both -1..1 between the outer edges of the pixels.

    Forwards an image is flipped, sheared, rotated about its centre, scaled and stretched, shifted and cropped; here the inverses
    stand in reverse order.
    """
    angle = draws.rotation_degrees.double().deg2rad()
    shear = draws.shear_degrees.double().deg2rad().tan()
    sine, cosine = angle.sin(), angle.cos()
    stretch = draws.stretch.double().sqrt()
    right_scale, down_scale = draws.scale.double() * stretch, draws.scale.double() / stretch
    x_from_x, x_from_y = (cosine - shear * sine) / right_scale, (sine + shear * cosine) / down_scale
    y_from_x, y_from_y = -sine / right_scale, cosine / down_scale
    # Angles are angles in pixels, so the unequal units of the two axes are undone here.
    x_from_y, y_from_x = x_from_y * (height / width), y_from_x * (width / height)
    cut = draws.crop.double()
    kept, right, down = 1 - cut, cut * draws.crop_x - 2 * draws.shift_x.double(), cut * draws.crop_y - 2 * draws.shift_y.double()
    x = torch.stack([x_from_x * kept, x_from_y * kept, x_from_x * right + x_from_y * down], dim=-1)
    y = torch.stack([y_from_x * kept, y_from_y * kept, y_from_x * right + y_from_y * down], dim=-1)
    x = torch.where(draws.flip_horizontal[:, None], -x, x)
    y = torch.where(draws.flip_vertical[:, None], -y, y)
    return torch.stack([x, y], dim=1).float()


def _resample(images: Tensor, theta: Tensor, elastic: Tensor, augment: BaseAugment) -> Tensor:
    height, width = images.shape[2:]
    return _sample(images, _grid(theta, elastic, augment, height, width, device=images.device), augment)


def _grid(theta: Tensor, elastic: Tensor, augment: BaseAugment, height: int, width: int, *, device: torch.device) -> Tensor:
    """Places (B, height, width, 2) in the source, x then y, of each pixel of the result."""
    theta = theta.to(device)[:, None, None]
    y, x = ((torch.arange(side, device=device) * 2 + 1) / side - 1 for side in (height, width))
    y = y[:, None]
    if augment.elastic:
        down, right = (_spline(side, augment.elastic_cells).to(device) for side in (height, width))
        x, y = (place + 2 * (down @ moves.to(device) @ right.T) for place, moves in zip((x, y), elastic.unbind(1), strict=True))
    # Not affine_grid: its matrix product loses bits where TF32 or autocast is on, and two broadcasts cost less.
    return theta[..., 0] * x[..., None] + (theta[..., 1] * y[..., None] + theta[..., 2])


def _sample(images: Tensor, grid: Tensor, augment: BaseAugment) -> Tensor:
    value = augment.fill_value if augment.fill == "constant" else 0.0  # sampling fills with zero, so zero is made to mean the value
    shifted = images - value if value else images
    sampled = functional.grid_sample(shifted, grid, mode="bilinear", padding_mode=_PADDING[augment.fill], align_corners=False)
    return sampled.add_(value) if value else sampled


def _spline(side: int, cells: int) -> Tensor:
    """Weights (side, cells + 3) of the points of a coarse grid at each pixel, by the uniform cubic B-spline.

    They add up to 1 and none is negative, so no pixel is displaced further than the points are. The first point lies one cell
    before the image.
    """
    away = ((torch.arange(side)[:, None] + 0.5) * cells / side + 1 - torch.arange(cells + 3)).abs()
    return torch.where(away < 1, 2 / 3 - away**2 + away**3 / 2, (2 - away).clamp(min=0) ** 3 / 6)


def _blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian means of the pixels around each; beyond the border there are none.

    As two products of matrices: the images of a batch are blurred each in its own way, which convolutions do one by one.
    """
    height, width = images.shape[2:]
    deviation = (sigma * min(height, width)).clamp(min=1e-3)[:, None, None].to(images.device)  # at 1e-3 neighbours weigh 0
    pixels = images.permute(0, 2, 3, 1)
    for side in (height, width):
        place = torch.arange(side, device=images.device)
        exponent = -((place[:, None] - place) ** 2) / (2 * deviation**2)
        weights = torch.softmax(exponent.masked_fill(exponent < -30, -math.inf), dim=-1)  # numbers near 1e-38 are slow to multiply
        # The other side comes first next: one product of large matrices for each image and side.
        pixels = (weights @ pixels.flatten(2)).unflatten(2, pixels.shape[2:]).transpose(1, 2)
    return pixels.permute(0, 3, 1, 2)


def _stain(images: Tensor, draws: Draws) -> Tensor:
    """The amount of each stain times a factor and plus another, seen in optical density, which adds up where stains overlap."""
    mixed = (draws.stain_factor[:, :, None] * _STAINS).mT @ _STAINS.inverse().T
    added = math.log(10) * draws.stain_added @ _STAINS  # logarithms to e are twice as quick as those to 10
    light = _mix_channels(images.clamp(min=_DARKEST).log_(), mixed).sub_(added.to(images.device)[:, :, None, None])
    return light.exp_().clamp_(0, 1)


def _saturation_and_hue(draws: Draws) -> Tensor:
    """What each image's red, green and blue are multiplied with, (B, 3, 3)."""
    angle, factor = draws.hue_degrees.deg2rad()[:, None, None], draws.saturation[:, None, None]
    return _LUMA + factor * (angle.cos() * (torch.eye(3) - _LUMA) + angle.sin() * _HUE)


def _mix_channels(images: Tensor, matrix: Tensor) -> Tensor:
    return (images.movedim(1, 3).flatten(1, 2) @ matrix.mT.to(images.device)).unflatten(1, images.shape[2:]).movedim(3, 1)


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images.device)[:, None, None, None]


def _gaussian(seeds: Tensor, *, like: Tensor) -> Tensor:
    """Standard normal noise (B, C, H, W), each image from its own seed."""
    noise = torch.empty_like(like, memory_format=torch.contiguous_format)
    generator = torch.Generator(like.device)
    for image, seed in zip(noise, seeds.tolist(), strict=True):
        image.normal_(generator=generator.manual_seed(seed))
    return noise
