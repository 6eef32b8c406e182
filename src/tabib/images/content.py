"""Where an image has content: everything but a background of one value, as lies around a masked brain or a padded slice."""

from __future__ import annotations

import numpy as np

from tabib.images.scratch import slice_by_slice

__all__ = ["content_box"]

Box = tuple[slice, slice, slice]


def content_box(voxels: np.ndarray) -> Box:
    """Give the smallest box of slices, rows and columns that holds every voxel that differs from the background.

    The background is the value that more than half of the corners have (eight of a volume, four of one slice), channel by channel; a
    voxel differs where any of its channels does. An image is its own box where a channel has no such value, and where nothing differs.
    nnU-Net (Isensee et al. 2021) crops to what is not 0, which is the same where the background is 0.

    Args:
        voxels: (D, H, W) or (D, H, W, C).
    """
    channels = voxels.reshape(*voxels.shape[:3], -1)
    ends = [sorted({0, side - 1}) for side in channels.shape[:3]]
    corners = channels[np.ix_(*ends)].reshape(-1, channels.shape[3])
    whole: Box = (slice(0, voxels.shape[0]), slice(0, voxels.shape[1]), slice(0, voxels.shape[2]))
    background = np.zeros(channels.shape[3], voxels.dtype)
    for number, own in enumerate(corners.T):
        values, counts = np.unique(own, return_counts=True)
        if 2 * counts.max() <= len(own):
            return whole
        background[number] = values[counts.argmax()]
    content = slice_by_slice(lambda seen: _differs(seen, background), channels, dtype=np.bool_)
    along = [np.flatnonzero(content.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if not len(along[0]):
        return whole
    slices, rows, columns = (slice(int(found[0]), int(found[-1]) + 1) for found in along)
    return slices, rows, columns


def _differs(values: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Where any of the values (H, W, C) is not that of the background (C,); what is no number equals nothing else, and here itself."""
    alike = (values == background) | ((values != values) & (background != background))
    return ~np.logical_and.reduce(alike, axis=2)
