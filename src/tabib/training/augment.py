"""Random changes of training images: numbers are drawn apart from being applied, so any image can be replayed.

Every number is a pure function of (seed, epoch, content of the image, name of the draw). No generator state is kept:
the draws do not depend on the batch, the order, the workers, or on files added elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tabib.config import Augment
from tabib.training.randomness import bits

__all__ = ["Draws", "apply", "draw"]

_PADDING = {"nearest": "border", "constant": "zeros", "reflect": "reflection"}


@dataclass(frozen=True)
class Draws:
    """What happens to each of B images. Tensors (B,) on the CPU, float32 unless said otherwise."""

    rotation_degrees: Tensor  # clockwise
    shift_x: Tensor  # to the right, as a fraction of the width
    shift_y: Tensor  # downwards, as a fraction of the height
    scale: Tensor  # above 1 enlarges
    shear_degrees: Tensor  # moves lower rows to the left
    flip_horizontal: Tensor  # bool, left to right, before the rest of the geometry
    flip_vertical: Tensor  # bool, top to bottom
    brightness: Tensor  # added, as a fraction of the range
    contrast: Tensor  # factor around the mean of the image
    gamma: Tensor  # exponent
    noise: Tensor  # standard deviation, as a fraction of the range
    noise_seed: Tensor  # int64, seed of the image's noise


def draw(augment: Augment, *, seed: int, epoch: int, content: np.ndarray) -> Draws:
    """Draw what happens to each image in one epoch.

    Args:
        augment: largest changes; a change that is off draws its neutral value.
        seed: seed of the member, 0 or more.
        epoch: number of the epoch.
        content: (B,) uint64, a key of each image's content, such as the first eight bytes of its SHA-256. Images with one
            key are changed in one way.
    """

    def random(name: str) -> np.ndarray:
        return bits(name, seed=seed, epoch=epoch, content=content)

    def within(name: str, largest: float) -> np.ndarray:
        # The upper 53 bits are what a float64 can hold; the half keeps the draw symmetrical about zero.
        return ((random(name) >> np.uint64(11)) + 0.5) / 2.0**52 * largest - largest

    def number(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32))

    def coin(name: str, wanted: bool) -> Tensor:
        return torch.from_numpy((random(name) >> np.uint64(63)).astype(bool) & wanted)

    return Draws(
        rotation_degrees=number(within("rotation", augment.rotation_degrees)),
        shift_x=number(within("shift_x", augment.shift)),
        shift_y=number(within("shift_y", augment.shift)),
        scale=number(1 + within("zoom", augment.zoom)),
        shear_degrees=number(within("shear", augment.shear_degrees)),
        flip_horizontal=coin("flip_horizontal", augment.flip_horizontal),
        flip_vertical=coin("flip_vertical", augment.flip_vertical),
        brightness=number(within("brightness", augment.brightness)),
        contrast=number(1 + within("contrast", augment.contrast)),
        gamma=number(np.exp(within("gamma", augment.gamma))),
        noise=number(np.abs(within("noise", augment.noise))),
        noise_seed=torch.from_numpy((random("noise_seed") >> np.uint64(1)).astype(np.int64)),
    )


def apply(images: Tensor, draws: Draws, augment: Augment) -> Tensor:
    """Change a batch of images as drawn: all geometry in one bilinear resampling, then contrast and brightness, gamma, noise.

    Args:
        images: (B, C, H, W) float32 in 0..1, in any memory format, which the result keeps; not changed.
        draws: one entry per image.
        augment: the settings that the draws were made with.

    Returns:
        (B, C, H, W) float32 in 0..1 on the device of `images`. Noise repeats on one kind of device, and differs between CPU and GPU.
    """
    layout = torch.channels_last if images.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    changed = images
    theta = _output_to_input(draws, height=images.shape[2], width=images.shape[3])
    moved = (theta != torch.eye(2, 3)).any(dim=(1, 2))
    if moved.all():
        changed = _resample(images, theta, augment).contiguous(memory_format=layout)
    elif moved.any():  # an image that stays where it is keeps its pixels to the bit
        where = moved.nonzero()[:, 0].to(images.device)
        changed = images.index_copy(0, where, _resample(images[where], theta[moved], augment)).contiguous(memory_format=layout)
    if augment.brightness or augment.contrast:
        factor = _per_image(draws.contrast, images)
        offset = changed.mean(dim=(1, 2, 3), keepdim=True) * (1 - factor) + _per_image(draws.brightness, images)
        changed = torch.addcmul(offset, changed, factor).clamp_(0, 1)
    if augment.gamma:
        changed = changed.pow(_per_image(draws.gamma, images))
    if augment.noise:
        changed = torch.addcmul(changed, _gaussian(draws.noise_seed, like=changed), _per_image(draws.noise, images))
    return images.clone() if changed is images else changed.clamp_(0, 1)


def _output_to_input(draws: Draws, *, height: int, width: int) -> Tensor:
    """Affine (B, 2, 3) from a place in the result to its place in the source, both -1..1 between the outer edges of the pixels.

    Forwards an image is flipped, sheared, rotated about its centre, scaled and shifted; here the inverses stand in reverse order.
    """
    angle = draws.rotation_degrees.double().deg2rad()
    shear = draws.shear_degrees.double().deg2rad().tan()
    sine, cosine, scale = angle.sin(), angle.cos(), draws.scale.double()
    x_from_x, x_from_y = (cosine - shear * sine) / scale, (sine + shear * cosine) / scale
    y_from_x, y_from_y = -sine / scale, cosine / scale
    # Angles are angles in pixels, so the unequal units of the two axes are undone here.
    x_from_y, y_from_x = x_from_y * (height / width), y_from_x * (width / height)
    right, down = 2 * draws.shift_x.double(), 2 * draws.shift_y.double()
    x = torch.stack([x_from_x, x_from_y, -x_from_x * right - x_from_y * down], dim=-1)
    y = torch.stack([y_from_x, y_from_y, -y_from_x * right - y_from_y * down], dim=-1)
    x = torch.where(draws.flip_horizontal[:, None], -x, x)
    y = torch.where(draws.flip_vertical[:, None], -y, y)
    return torch.stack([x, y], dim=1).float()


def _resample(images: Tensor, theta: Tensor, augment: Augment) -> Tensor:
    theta = theta.to(images.device)
    y, x = ((torch.arange(side, device=images.device) * 2 + 1) / side - 1 for side in images.shape[2:])
    # Not affine_grid: its matrix product loses bits where TF32 or autocast is on, and two broadcasts cost less.
    grid = theta[:, None, None, :, 0] * x[:, None] + (theta[:, None, None, :, 1] * y[:, None, None] + theta[:, None, None, :, 2])
    value = augment.fill_value if augment.fill == "constant" else 0.0  # sampling fills with zero, so zero is made to mean the value
    shifted = images - value if value else images
    sampled = functional.grid_sample(shifted, grid, mode="bilinear", padding_mode=_PADDING[augment.fill], align_corners=False)
    return sampled.add_(value) if value else sampled


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images.device)[:, None, None, None]


def _gaussian(seeds: Tensor, *, like: Tensor) -> Tensor:
    """Standard normal noise (B, C, H, W), each image from its own seed."""
    noise = torch.empty_like(like, memory_format=torch.contiguous_format)
    generator = torch.Generator(like.device)
    for image, seed in zip(noise, seeds.tolist(), strict=True):
        image.normal_(generator=generator.manual_seed(seed))
    return noise
