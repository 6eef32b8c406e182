"""Which pictures might be copies of one another: a hash proposes, at a bounded cost for each picture.

Hash bits are the signs of random directions in the whitened space of the data set's own thumbnails, so they are even and
independent however alike the pictures are. (The 64 bits of a perceptual hash are not: films fall into few buckets, and
looking through those costs the square of the data.) Rows are sorted by the bits in several orders, and each is compared
with its next neighbours in each order (sorted neighbourhoods, Hernandez and Stolfo 1995): the work for a row is the same,
whatever the data.
"""

from __future__ import annotations

import numpy as np

from tabib.dataset.resemblance import main_directions, spread, unit

__all__ = ["long_hashes", "propose_pairs"]

_SAMPLE = 2048  # pictures that the space is measured on
_DIMENSIONS = 32  # of the space
_WORDS = 4  # of 64 bits
_ORDERS = 24  # in which rows are sorted
_WINDOW = 16  # neighbours before and behind that a row is compared with
_KEPT = 8  # candidates that each row keeps
_CHUNK = 4096


def long_hashes(thumbnails: np.ndarray) -> np.ndarray:
    """Hash (N, pixels) uint8 thumbnails of one data set to (N, words) uint64."""
    sample = unit(spread(thumbnails, _SAMPLE).astype(np.float32))
    centre = sample.mean(axis=0)
    axes, deviations = main_directions(sample - centre, min(_DIMENSIONS, len(sample) - 1))
    random = np.random.default_rng(0).standard_normal((len(axes), 64 * _WORDS))
    projections = (axes.T @ (random / np.maximum(deviations, 1e-4)[:, None])).astype(np.float32)
    medians = np.median((sample - centre) @ projections, axis=0)
    words = np.empty((len(thumbnails), _WORDS), np.uint64)
    for start in range(0, len(thumbnails), _CHUNK):
        part = unit(thumbnails[start : start + _CHUNK].astype(np.float32)) - centre
        words[start : start + _CHUNK] = np.packbits(part @ projections > medians, axis=1).view(np.uint64)
    return words


def propose_pairs(hashes: np.ndarray) -> np.ndarray:
    """Pair each row with the few rows whose hashes are nearest to its own, among its neighbours in some order.

    Args:
        hashes: (N, words) uint64, N at least 2.

    Returns:
        (P, 2) places, the smaller first, each pair once.
    """
    count = len(hashes)
    window = min(_WINDOW, count - 1)
    best = np.full((count, _KEPT), 64 * _WORDS, np.int16)
    with_whom = np.full((count, _KEPT), -1, np.int64)
    for turn in range(_ORDERS):
        key = np.roll(hashes, turn % _WORDS, axis=1)[:, 0]
        shift = np.uint64(64 * (turn // _WORDS) // (_ORDERS // _WORDS))
        key = (key << shift) | (key >> (np.uint64(64) - shift)) if shift else key
        order = np.argsort(key, kind="stable")
        ordered = hashes[order]
        distance = np.full((count, 2 * window), 64 * _WORDS, np.int16)
        for step in range(1, window + 1):
            apart = np.bitwise_count(ordered[step:] ^ ordered[:-step]).sum(axis=1, dtype=np.int16)
            distance[:-step, 2 * step - 2] = apart
            distance[step:, 2 * step - 1] = apart
        steps = np.repeat(np.arange(1, window + 1), 2) * np.tile([1, -1], window)
        _keep(best, with_whom, order, distance, steps)
    place = np.repeat(np.arange(count), _KEPT)
    pairs = np.sort(np.stack([place, with_whom.ravel()], axis=1), axis=1)
    pairs = pairs[pairs[:, 0] >= 0]
    return np.stack(np.divmod(np.unique(pairs[:, 0] * count + pairs[:, 1]), count), axis=1)


def _keep(best: np.ndarray, with_whom: np.ndarray, order: np.ndarray, distance: np.ndarray, steps: np.ndarray) -> None:
    """Merge the neighbours of one order into the best so far."""
    for start in range(0, len(order), 16 * _CHUNK):
        part = slice(start, start + 16 * _CHUNK)
        rows = order[part]
        few = min(_KEPT, distance.shape[1])
        nearest = np.argpartition(distance[part], few - 1, axis=1)[:, :few]
        at = np.arange(start, start + len(rows))[:, None] + steps[nearest]
        inside = (at >= 0) & (at < len(order))
        names = np.where(inside, order[np.clip(at, 0, len(order) - 1)], -1)
        apart = np.where(inside, np.take_along_axis(distance[part], nearest, axis=1), 64 * _WORDS)
        known = (names[:, :, None] == with_whom[rows][:, None, :]).any(axis=2)
        apart = np.concatenate([best[rows], np.where(known, 64 * _WORDS, apart)], axis=1)
        names = np.concatenate([with_whom[rows], np.where(known, -1, names)], axis=1)
        nearest = np.argsort(apart, axis=1, kind="stable")[:, :_KEPT]
        best[rows] = np.take_along_axis(apart, nearest, axis=1)
        with_whom[rows] = np.take_along_axis(names, nearest, axis=1)
