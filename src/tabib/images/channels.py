"""Images whose channels are files of their own, as the sequences of an MR examination are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tabib.errors import ImageError
from tabib.images.image import shown_name
from tabib.images.read_volume import read_volume
from tabib.images.scratch import scratch
from tabib.images.volume import Volume, apart_mm, laid_on, shown_sides

__all__ = ["read_channels"]


def read_channels(paths: Sequence[Path]) -> Volume:
    """Read several files of one place in the body as the channels of one volume, each on its own scale.

    Args:
        paths: of the channels, in their order; each grey, or grey saved as colour.

    Returns:
        The geometry and the facts of the first file, with voxels (D, H, W, C) of a type that holds those of all.

    Raises:
        ImageError: as of `read_volume`; a file in colour, of another size than the first, or that lies elsewhere in the body.
    """
    first = _grey(paths[0])
    channels = [first.voxels]
    for path in paths[1:]:
        other = laid_on(_grey(path), first)
        if other.voxels.shape != first.voxels.shape:
            raise ImageError(
                f"the channel {shown_name(path)!r} has {shown_sides(other.voxels.shape)}, and {shown_name(paths[0])!r} {shown_sides(first.voxels.shape)}: channels must lie on one "
                "another voxel by voxel; resample them to one grid"
            )
        if (distance := apart_mm(first, other)) is not None:
            raise ImageError(
                f"the channel {shown_name(path)!r} says that it lies elsewhere than {shown_name(paths[0])!r}, by up to {distance:g} mm: channels "
                "must lie on one another voxel by voxel; resample them to one grid, or correct the header that is wrong"
            )
        channels.append(other.voxels)
    voxels = np.stack(channels, axis=3, out=scratch((*first.voxels.shape, len(channels)), np.result_type(*channels)))
    voxels.flags.writeable = False
    return replace(first, voxels=voxels, separate=True)


def _grey(path: Path) -> Volume:
    volume = read_volume(path)
    if volume.voxels.ndim == 3:
        return volume
    if (volume.voxels != volume.voxels[..., :1]).any():
        raise ImageError(f"the channel {shown_name(path)!r} is in colour, and a channel has one value in each place; save it as grey")
    return replace(volume, voxels=volume.voxels[..., 0])
