"""From prepared cases to the patches that a segmenter is trained on: which, where, and how they are changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from tabib.config import SegmentationAugment
from tabib.dataset import CaseCache
from tabib.training.augment import apply_with_masks
from tabib.training.draws import draw
from tabib.training.randomness import bits

__all__ = ["Drawn", "Patches", "load_patches"]

_PLACES = 4096
"""Places of each structure that are remembered of a case: a patch is drawn around one of them."""

_WIDEST = 1.5
"""Largest side of what is read for a patch, as a multiple of the patch: what turns and zooms bring in from outside it."""


class Drawn(NamedTuple):
    """Patches as they are read, with what lies around them, before they are changed."""

    keys: np.ndarray  # (B,) uint64, which their changes are drawn by
    rows: list[int]  # of the index, that they are of
    images: np.ndarray  # (B, C, D, H, W)
    masks: np.ndarray  # (B, D, H, W)


@dataclass(frozen=True)
class Patches:
    """The cases of one part of the data, from which patches are drawn."""

    cases: CaseCache
    rows: list[int]  # of the index
    content: np.ndarray  # (n,) uint64, the first eight bytes of each case's SHA-256
    places: list[dict[int, np.ndarray]]  # of each case: by structure (k, 3) int32, some of its voxels: slice, row, column
    patch: tuple[int, int, int]  # slices, rows and columns
    device: torch.device
    thickness: float = 1.0  # how far slices lie apart, as a multiple of how far pixels do

    def __len__(self) -> int:
        """Number of cases."""
        return len(self.rows)

    @property
    def slices(self) -> int:
        """Slices of all cases."""
        return sum(self.cases.image(row).shape[1] for row in self.rows)

    def load(self, numbers: np.ndarray, augment: SegmentationAugment, *, foreground: float, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
        """Patches of an epoch by their numbers: images (B, C, *patch) and masks (B, *patch) int64, without the slices where the patch has one.

        Which case, where and how it is changed are functions of (seed, epoch, number) and of the cases alone.
        """
        return self.change(self.draw(numbers, augment, foreground=foreground, seed=seed, epoch=epoch), augment, seed=seed, epoch=epoch)

    def draw(self, numbers: np.ndarray, augment: SegmentationAugment, *, foreground: float, seed: int, epoch: int) -> Drawn:
        """Read the patches of an epoch by their numbers, with as much around each as its changes may bring in."""
        keys = bits("patch", seed=seed, epoch=epoch, content=numbers.astype(np.uint64))
        order = np.argsort(bits("order", seed=seed, epoch=epoch, content=self.content), kind="stable")
        window = _window(self.patch, augment, thickness=self.thickness)
        places = [int(order[number % len(self)]) for number in numbers]
        rows = [self.rows[place] for place in places]
        image, mask = self.cases.image(rows[0]), self.cases.mask(rows[0])
        images = np.empty((len(rows), len(image), *window), image.dtype)
        masks = np.zeros((len(rows), *window), mask.dtype)
        for number, (row, place) in enumerate(zip(rows, places, strict=True)):
            centre = self._centre(place, keys[number], foreground=foreground)
            filled = _cut(self.cases.image(row), centre, images[number])
            _cut(self.cases.mask(row)[None], centre, masks[number, None])
            _continue(images[number], filled)
        return Drawn(keys, rows, images, masks)

    def _centre(self, place: int, key: np.uint64, *, foreground: float) -> tuple[int, int, int]:
        """Around which voxel: of a structure of the case, each as often as another, or of anywhere."""
        shares = [float(share) for share in _shares(key, 6)]
        known = self.places[place]
        if shares[0] < foreground and known:
            structure = sorted(known)[int(shares[1] * len(known))]
            found = known[structure][int(shares[2] * len(known[structure]))]
            depth, row, column = (int(each) for each in found)
        else:
            shape = self.cases.mask(self.rows[place]).shape
            depth, row, column = (int(share * side) for share, side in zip(shares[3:], shape, strict=True))
        return depth, row, column

    def change(self, drawn: Drawn, augment: SegmentationAugment, *, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
        """Change patches that were drawn for `augment`; as `load` gives them."""
        values = torch.from_numpy(drawn.images).to(self.device).float()  # (B, C, D, H, W)
        truth = torch.from_numpy(drawn.masks).to(self.device)  # (B, D, H, W)
        if not augment.off:
            # Changes of brightness and the like are shares of a range: each patch has its own, and each channel that is an image of its own.
            own = (2, 3, 4) if self.cases.separate else (1, 2, 3, 4)
            low, high = values.amin(dim=own, keepdim=True), values.amax(dim=own, keepdim=True)
            span = (high - low).clamp(min=1e-6)
            draws = draw(augment, seed=seed, epoch=epoch, content=drawn.keys)
            each = None
            if self.cases.separate:
                numbered = drawn.keys[:, None] + np.arange(1, values.shape[1] + 1, dtype=np.uint64)
                each = draw(augment, seed=seed, epoch=epoch, content=bits("channel", seed=seed, epoch=epoch, content=numbered).ravel())
            values, truth = apply_with_masks(
                (values - low) / span, truth, draws, augment, size=self.patch, thickness=self.thickness, each=each
            )
            values = values * span + low
        if self.patch[0] == 1:
            return values[:, :, 0].contiguous(memory_format=torch.channels_last), truth[:, 0].long()
        return values.contiguous(), truth.long()


def load_patches(
    cases: CaseCache,
    rows: pl.DataFrame,
    *,
    structures: int,
    patch: Sequence[int],
    device: torch.device,
    spacing_mm: Sequence[float] | None = None,
) -> Patches:
    """Gather the cases of some rows.

    Args:
        cases: prepared.
        rows: `row` and `content` of each.
        structures: how many there are.
        patch: rows and columns, or slices, rows and columns.
        device: where the network runs.
        spacing_mm: of the sides of the patch; of blocks it says by how much slices lie further apart than pixels.
    """
    wanted = rows["row"].to_list()
    content = np.array([int(text[:16], 16) for text in rows["content"]], np.uint64)
    places = [_places_of(cases.mask(row), structures, key) for row, key in zip(wanted, content, strict=True)]
    depth, height, width = (1,) * (3 - len(patch)) + tuple(patch)
    thickness = spacing_mm[0] / math.sqrt(spacing_mm[1] * spacing_mm[2]) if spacing_mm and len(spacing_mm) == 3 else 1.0
    return Patches(cases, wanted, content, places, (depth, height, width), device, thickness)


def _places_of(mask: np.ndarray, structures: int, key: np.uint64) -> dict[int, np.ndarray]:
    """By structure that is there, some of its voxels: which ones depends on the case alone."""
    places = {}
    for structure in range(1, structures + 1):
        inside = np.flatnonzero(mask == structure)
        if len(inside) > _PLACES:
            inside = inside[np.sort((_shares(key, _PLACES) * len(inside)).astype(np.int64))]
        if len(inside):
            places[structure] = np.stack(np.unravel_index(inside, mask.shape), axis=1).astype(np.int32)
    return places


def _shares(key: np.uint64, count: int) -> np.ndarray:
    """Numbers in 0..1 (count,) from a key."""
    drawn = bits("share", seed=0, epoch=0, content=np.uint64(key) + np.arange(count, dtype=np.uint64))
    return (drawn >> np.uint64(11)) / 2.0**53


def _window(patch: tuple[int, int, int], augment: SegmentationAugment, *, thickness: float) -> tuple[int, int, int]:
    """How much is read for a patch, so that moving it brings in as little from nowhere as can be."""
    angle = math.radians(min(augment.rotation_degrees, 45.0))
    wider = (math.cos(angle) + math.sin(angle)) * (1 + augment.zoom) * math.sqrt(1 + augment.stretch)
    wider += 2 * (augment.shift + augment.elastic) + math.tan(math.radians(augment.shear_degrees))
    depth, side = patch[0] * thickness, min(patch[1:])
    tilt = math.sin(math.radians(augment.tilt_degrees))
    deeper = min(_WIDEST, 1 + tilt * sum(patch[1:]) / depth)
    factor = min(_WIDEST, wider + tilt * depth / side)
    return math.ceil(patch[0] * deeper), math.ceil(patch[1] * factor), math.ceil(patch[2] * factor)


def _cut(voxels: np.ndarray, centre: tuple[int, int, int], out: np.ndarray) -> list[slice]:
    """Copy what lies around a voxel of (C, D, H, W) into `out` (C, *window), moved inwards where that would leave the image.

    Returns:
        Which part of the three sides of `out` was filled: all, but of a side that is too short its middle.
    """
    cuts, filled = [], []
    for place, side, wanted in zip(centre, voxels.shape[1:], out.shape[1:], strict=True):
        start = min(max(place - wanted // 2, 0), max(side - wanted, 0))
        kept, before = min(side, wanted), max(0, wanted - side) // 2
        cuts.append(slice(start, start + kept))
        filled.append(slice(before, before + kept))
    out[:, *filled] = voxels[:, *cuts]
    return filled


def _continue(out: np.ndarray, filled: list[slice]) -> None:
    """Go on beyond what was filled with the nearest values, one side after another."""
    for axis, part in enumerate(filled, start=1):
        lines = np.moveaxis(out, axis, 0)
        lines[: part.start], lines[part.stop :] = lines[part.start], lines[part.stop - 1]
