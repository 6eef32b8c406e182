"""Random changes of training images and their masks, batch by batch: one resampling of all geometry, then what changes values."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tabib.config import BaseAugment
from tabib.training.draws import Draws
from tabib.training.recolour import recolour, spline

__all__ = ["apply", "apply_with_masks"]

_PADDING = {"nearest": "border", "constant": "zeros", "reflect": "reflection"}


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
    changed = recolour(changed, draws, augment, layout=layout)
    return images.clone() if changed is images else changed.clamp_(0, 1)


def apply_with_masks(
    images: Tensor,
    masks: Tensor,
    draws: Draws,
    augment: BaseAugment,
    *,
    size: tuple[int, int, int],
    thickness: float = 1.0,
    each: Draws | None = None,
) -> tuple[Tensor, Tensor]:
    """Change images and their masks as drawn, and cut out the middle: what a turn brings in from outside it is the image itself.

    Every slice of a volume is moved alike, unless it is tilted. Sides and fractions of sides are those of the result.

    Args:
        images: (B, C, D, H, W) float32 in 0..1; not changed.
        masks: (B, D, H, W) of any integer type; values are taken from the nearest pixel, and 0 from beyond the border.
        draws: one entry per image.
        augment: the settings that the draws were made with.
        size: slices, height and width of the result, at most those of the images.
        thickness: how far slices lie apart, as a multiple of how far pixels do.
        each: where channels are images of their own, what happens to the values of each, an entry for each of B x C; `draws` moves them.

    Returns:
        (B, C, *size) and (B, *size).
    """
    height, width = size[1:]
    theta = _output_to_input(draws, height=height, width=width)
    part = [wanted / side for wanted, side in zip(size, images.shape[2:], strict=True)]
    if (draws.tilt_x_degrees != 0).any() or (draws.tilt_y_degrees != 0).any():
        grid = _block(theta, draws, augment, size, thickness=thickness, device=images.device)
        flat, truth = images, masks[:, None]
    else:  # slices stay slices: as channels of one picture they cost an eighth of it
        grid = _grid(theta, draws.elastic, augment, height, width, device=images.device)
        first = (images.shape[2] - size[0]) // 2
        flat, truth = images[:, :, first : first + size[0]].flatten(1, 2), masks[:, first : first + size[0]]
        part = part[1:]
    grid = grid * torch.tensor(part[::-1], device=images.device)
    changed = _sample(flat, grid, augment).reshape(*images.shape[:2], *size)
    changed = changed.flatten(1, 2) if each is None else changed.flatten(0, 1)
    changed = recolour(changed, each or draws, augment, layout=torch.contiguous_format, slices=size[0]).clamp_(0, 1)
    moved = functional.grid_sample(truth.float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return changed.reshape(*images.shape[:2], *size), moved.reshape(-1, *size).to(masks.dtype)


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
        down, right = (spline(side, augment.elastic_cells).to(device) for side in (height, width))
        x, y = (place + 2 * (down @ moves.to(device) @ right.T) for place, moves in zip((x, y), elastic.unbind(1), strict=True))
    # Not affine_grid: its matrix product loses bits where TF32 or autocast is on, and two broadcasts cost less.
    return theta[..., 0] * x[..., None] + (theta[..., 1] * y[..., None] + theta[..., 2])


def _block(
    theta: Tensor, draws: Draws, augment: BaseAugment, size: tuple[int, int, int], *, thickness: float, device: torch.device
) -> Tensor:
    """Places (B, *size, 3) in the source, x, y, then z, of each voxel of the result: tilted last, so its inverse comes first."""
    # Angles are angles in millimetres, so the unequal units of the three axes are undone here.
    sides = torch.tensor([size[2], size[1], size[0] * thickness], dtype=torch.float64)
    tilt = _turn(draws.tilt_x_degrees, 1) @ _turn(draws.tilt_y_degrees, 0) * sides / sides[:, None]
    matrix = torch.eye(3, dtype=torch.float64).repeat(len(tilt), 1, 1)
    matrix[:, :2, :2] = theta[:, :, :2]
    matrix = (matrix @ tilt).float().to(device)[:, None, None, None]
    shift = functional.pad(theta[:, :, 2], (0, 1)).to(device)[:, None, None, None]
    flat = torch.eye(2, 3).expand(len(tilt), 2, 3)
    plane = _grid(flat, draws.elastic, augment, *size[1:], device=device)[:, None]
    z = ((torch.arange(size[0], device=device) * 2 + 1) / size[0] - 1)[:, None, None, None]
    return plane[..., :1] * matrix[..., 0] + plane[..., 1:] * matrix[..., 1] + z * matrix[..., 2] + shift


def _turn(degrees: Tensor, axis: int) -> Tensor:
    """Matrix (B, 3, 3) that turns back what lies along an axis (0 x, 1 y) from the slices that it was turned to."""
    angle = degrees.double().deg2rad()
    matrix = torch.eye(3, dtype=torch.float64).repeat(len(angle), 1, 1)
    matrix[:, axis, axis] = matrix[:, 2, 2] = angle.cos()
    matrix[:, axis, 2], matrix[:, 2, axis] = angle.sin(), -angle.sin()
    return matrix


def _sample(images: Tensor, grid: Tensor, augment: BaseAugment) -> Tensor:
    value = augment.fill_value if augment.fill == "constant" else 0.0  # sampling fills with zero, so zero is made to mean the value
    shifted = images - value if value else images
    sampled = functional.grid_sample(shifted, grid, mode="bilinear", padding_mode=_PADDING[augment.fill], align_corners=False)
    return sampled.add_(value) if value else sampled
