"""What changes the values of training images and leaves every pixel where it is."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tabib.config import BaseAugment
from tabib.training.draws import BIAS_CELLS, Draws

__all__ = ["recolour", "spline"]

_LUMA = torch.tensor([0.213, 0.715, 0.072]).expand(3, 3)
_HUE = torch.tensor([[-0.213, -0.715, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]])
"""What saturation and hue are made of: `feColorMatrix` of the W3C's Filter Effects Module Level 1."""

_STAINS = torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Optical density in red, green and blue of haematoxylin, eosin and DAB (Ruifrok and Johnston 2001)."""

_DARKEST = 1e-6
"""What counts as black where a logarithm is taken."""


def recolour(images: Tensor, draws: Draws, augment: BaseAugment, *, layout: torch.memory_format, slices: int = 1) -> Tensor:
    """Change the values of images as drawn; what is off costs nothing, and where all is off the images are given back.

    In the order in which they come about: coil, movement, sharpness, stain, camera, noise.

    Args:
        images: (B, C, H, W) float32 in 0..1, or (B, C x slices, H, W).
        draws: one entry per image.
        augment: the settings that the draws were made with.
        layout: memory format of the result.
        slices: of each image.
    """
    changed = images
    if augment.bias_field:
        changed = (changed.unflatten(1, (-1, slices)) * _bias_field(draws.bias_field, slices, *images.shape[2:]).to(images.device)).flatten(
            1, 2
        )
    if augment.ghosting:
        changed = _ghosts(changed, draws)
    if augment.blur:
        changed = _blur(changed, draws.blur)
    if augment.low_resolution:
        changed = _low_resolution(changed, draws.low_resolution)
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


def spline(side: int, cells: int) -> Tensor:
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
    deviation = (sigma * min(images.shape[2:])).clamp(min=1e-3)[:, None, None].to(images.device)  # at 1e-3 neighbours weigh 0

    def weights(side: int) -> Tensor:
        place = torch.arange(side, device=images.device)
        exponent = -((place[:, None] - place) ** 2) / (2 * deviation**2)
        return torch.softmax(exponent.masked_fill(exponent < -30, -math.inf), dim=-1)  # numbers near 1e-38 are slow to multiply

    return _mix_pixels(images, weights)


def _low_resolution(images: Tensor, lost: Tensor) -> Tensor:
    """Fewer and larger pixels, each the mean of what it covers, interpolated back between their middles (Isensee et al. 2021 take the nearest)."""

    def weights(side: int) -> Tensor:
        few = ((1 - lost) * side).round().clamp(min=1).to(images.device)[:, None, None]
        fine = torch.arange(side, device=images.device) / side * few  # where a pixel begins, (B, 1, side), in large pixels
        large = torch.arange(side, device=images.device)[:, None]
        covered = (torch.minimum(fine + few / side, large + 1) - torch.maximum(fine, large)).clamp(min=0)
        middle = torch.minimum((fine + few / side / 2).mT.clamp(min=0.5), few - 0.5)
        return (1 - (middle - large.mT - 0.5).abs()).clamp(min=0) @ covered

    return _mix_pixels(images, weights)


def _mix_pixels(images: Tensor, weights: Callable[[int], Tensor]) -> Tensor:
    """Rows, then columns, times the matrices (B, side, side) that `weights` makes for a side."""
    pixels = images.permute(0, 2, 3, 1)
    matrices = {side: weights(side) for side in set(images.shape[2:])}  # once where the image is square
    for side in images.shape[2:]:
        # The other side comes first next: one product of large matrices for each image and side.
        pixels = (matrices[side] @ pixels.flatten(2)).unflatten(2, pixels.shape[2:]).transpose(1, 2)
    return pixels.permute(0, 3, 1, 2)


def _bias_field(logarithm: Tensor, *sides: int) -> Tensor:
    """A smooth factor (B, 1, D, H, W) in 0..1, largest 1: nothing gets brighter than it can be, and no bright tissue is cut off."""
    depth, down, right = (spline(side, BIAS_CELLS) for side in sides)
    field = down @ (torch.einsum("bklm,dk->bdlm", logarithm, depth) @ right.T)  # one after another, so that little is multiplied
    return (field - field.amax(dim=(1, 2, 3), keepdim=True)).exp()[:, None]


def _ghosts(images: Tensor, draws: Draws) -> Tensor:
    """Copies to both sides, which periodic movement leaves: a line of k-space is weighted by 1 + strength x cos(2 pi line / period).

    The period in lines is one by the distance of the copies as a fraction of the side (Wood and Henkelman 1985, "MR image artifacts
    from periodic motion"). Lines run around the border as they do in the scanner; the mean stays.
    """
    strength, shift = draws.ghost.to(images.device), draws.ghost_shift.to(images.device)
    changed = images
    for axis, wanted in ((2, draws.ghost_down), (3, ~draws.ghost_down)):
        where = wanted.nonzero()[:, 0].to(images.device)
        side = images.shape[axis]
        line = torch.arange(side // 2 + 1, device=images.device)
        share = strength[where, None]
        weight = (1 + share * (2 * math.pi * line * shift[where, None]).cos()) / (1 + share)
        weight = weight[:, None, :, None] if axis == 2 else weight[:, None, None]
        seen = torch.fft.irfft(torch.fft.rfft(changed[where], dim=axis) * weight, n=side, dim=axis)
        changed = changed.index_copy(0, where, seen)
    return changed


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
