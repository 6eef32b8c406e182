"""What happens to each training image, drawn apart from being applied, so any image can be replayed.

Every number is a pure function of (seed, epoch, content of the image, name of the draw). No generator state is kept:
the draws do not depend on the batch, the order, the workers, or on files added elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tabib.config import BaseAugment, SegmentationAugment
from tabib.training.randomness import bits, key, named

__all__ = ["BIAS_CELLS", "Draws", "draw"]

BIAS_CELLS = 2
"""Cells per side of the coarse grid of a bias field: a coil's sensitivity falls off over the whole body."""

_NEAREST_GHOST = 1 / 8


@dataclass(frozen=True)
class Draws:
    """What happens to each of B images. Tensors (B,) on the CPU, float32 unless said otherwise."""

    rotation_degrees: Tensor  # clockwise
    tilt_x_degrees: Tensor  # of a block about the axis along its rows: moves what is below towards later slices
    tilt_y_degrees: Tensor  # about the axis along its columns: moves what is to the right towards later slices
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
    bias_field: Tensor  # (B, n, n, n): logarithm of a factor at the points of a coarse grid of slices, rows and columns
    ghost: Tensor  # strength, as a fraction of the image
    ghost_shift: Tensor  # how far the ghosts lie from the image, as a fraction of the side
    ghost_down: Tensor  # bool, above and below instead of left and right
    low_resolution: Tensor  # share of the rows and columns that is lost
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

    keys = key(seed=seed, epoch=epoch, content=content)

    def random(name: str) -> np.ndarray:
        return named(name, keys)

    def within(name: str, largest: float) -> np.ndarray:
        return around_zero(random(name), largest)

    def around_zero(drawn: np.ndarray, largest: float) -> np.ndarray:
        # The upper 53 bits are what a float64 can hold; the half keeps the draw symmetrical about zero.
        return ((drawn >> np.uint64(11)) + 0.5) / 2.0**52 * largest - largest

    def number(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32))

    def coin(name: str, wanted: bool) -> Tensor:
        return torch.from_numpy((random(name) >> np.uint64(63)).astype(bool) & wanted)

    def several(name: str, largest: float, *shape: int) -> Tensor:
        counted = random(name)[:, None] + np.arange(math.prod(shape), dtype=np.uint64)
        return number(around_zero(bits(name, seed=seed, epoch=epoch, content=counted), largest)).unflatten(1, shape)

    points, tilt = augment.elastic_cells + 3, augment.tilt_degrees if isinstance(augment, SegmentationAugment) else 0.0
    return Draws(
        rotation_degrees=number(within("rotation", augment.rotation_degrees)),
        tilt_x_degrees=number(within("tilt_x", tilt)),
        tilt_y_degrees=number(within("tilt_y", tilt)),
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
        bias_field=several("bias_field", augment.bias_field, *(BIAS_CELLS + 3,) * 3),
        ghost=number(np.abs(within("ghost", augment.ghosting))),
        ghost_shift=number(_NEAREST_GHOST + (0.5 - _NEAREST_GHOST) * np.abs(within("ghost_shift", 1))),
        ghost_down=coin("ghost_down", augment.ghosting > 0),
        low_resolution=number(np.abs(within("low_resolution", augment.low_resolution))),
        blur=number(np.abs(within("blur", augment.blur))),
        noise=number(np.abs(within("noise", augment.noise))),
        noise_seed=torch.from_numpy((random("noise_seed") >> np.uint64(1)).astype(np.int64)),
    )
