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

_DIMENSIONS = 32  # of the space
_FLATTEST = 0.05  # of the largest deviation; what varies less is noise, and is not blown up to be as large
_WORDS = 4  # of 64 bits
_ORDERS = 24  # in which rows are sorted
_WINDOW = 16  # neighbours before and behind that a row is compared with
_KEPT = 8  # candidates that each row keeps
_TOGETHER = 6  # orders whose finds are merged at a time
_PLACES = 2 * _WINDOW
_FAR = 256  # a distance that stands for nobody
_CHUNK = 4096


def long_hashes(thumbnails: np.ndarray) -> np.ndarray:
    """Hash (N, pixels) uint8 thumbnails of one data set to (N, words) uint64."""
    sample = unit(thumbnails[spread(len(thumbnails))].astype(np.float32))
    centre = sample.mean(axis=0)
    axes, deviations = main_directions(sample - centre, min(_DIMENSIONS, len(sample) // 2))
    random = np.random.default_rng(0).standard_normal((len(axes), 64 * _WORDS))
    projections = (axes.T @ (random / np.maximum(deviations, _FLATTEST * deviations[0] + 1e-6)[:, None])).astype(np.float32)
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
    words = np.ascontiguousarray(hashes.T)
    best = np.full((count, _KEPT), _FAR, np.int16)
    partner = np.tile(np.arange(count, dtype=np.int32)[:, None], _KEPT)  # a row itself: nobody
    for first in range(0, _ORDERS, _TOGETHER):
        found = [_nearest_two(words, turn) for turn in range(first, first + _TOGETHER)]
        _merge(best, partner, [distance for distance, _ in found], [row for _, row in found])
    pairs = np.sort(np.stack([np.repeat(np.arange(count), _KEPT), partner.ravel()], axis=1), axis=1)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    return np.stack(np.divmod(np.unique(pairs[:, 0] * count + pairs[:, 1]), count), axis=1)


def _nearest_two(words: np.ndarray, turn: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances (N, 2) and rows (N, 2) of the two nearest among the neighbours in one order of the rows."""
    count = words.shape[1]
    order = np.argsort(_key(words, turn), kind="stable").astype(np.int32)
    ordered = words[:, order]
    # One number holds the distance and, in its last bits, where the neighbour stands.
    nearest = np.full((2, count), _FAR * _PLACES, np.int16)
    for step in range(1, min(_WINDOW, count - 1) + 1):
        apart = np.zeros(count - step, np.int16)
        for word in ordered:
            apart += np.bitwise_count(word[step:] ^ word[:-step])
        apart = np.minimum(apart, _FAR - 1) * np.int16(_PLACES)
        _keep_two(nearest[:, :-step], apart + np.int16(2 * step - 2))
        _keep_two(nearest[:, step:], apart + np.int16(2 * step - 1))
    distance, place = np.divmod(nearest.T, np.int16(_PLACES))
    step = (place // 2 + 1) * np.where(place % 2, -1, 1)
    at = np.arange(count)[:, None] + np.where(distance < _FAR, step, 0)
    result = np.empty((2, count, 2), np.int32)
    result[0, order], result[1, order] = distance, order[at]
    return result[0].astype(np.int16), result[1]


def _keep_two(nearest: np.ndarray, new: np.ndarray) -> None:
    worse = np.maximum(nearest[0], new)
    np.minimum(nearest[0], new, out=nearest[0])
    np.minimum(nearest[1], worse, out=nearest[1])


def _key(words: np.ndarray, turn: int) -> np.ndarray:
    """(N,) 64 bits to sort by: another word in each turn, turned by more bits when all have had theirs."""
    count = len(words)
    shift = np.uint64(64 * (turn // count) // -(-_ORDERS // count))
    word = words[turn % count]
    return (word << shift) | (word >> (np.uint64(64) - shift)) if shift else word


def _merge(best: np.ndarray, partner: np.ndarray, distances: list[np.ndarray], rows: list[np.ndarray]) -> None:
    """Keep, of what is known and what is new, the nearest different partners of each row."""
    for start in range(0, len(best), 4 * _CHUNK):
        part = slice(start, start + 4 * _CHUNK)
        distance = np.concatenate([best[part], *(values[part] for values in distances)], axis=1)
        who = np.concatenate([partner[part], *(values[part] for values in rows)], axis=1)
        by_name = np.argsort(who, axis=1, kind="stable")
        who, distance = np.take_along_axis(who, by_name, axis=1), np.take_along_axis(distance, by_name, axis=1)
        distance[:, 1:][who[:, 1:] == who[:, :-1]] = _FAR
        nearest = np.argpartition(distance, _KEPT - 1, axis=1)[:, :_KEPT]
        best[part] = np.take_along_axis(distance, nearest, axis=1)
        myself = np.arange(start, start + len(who), dtype=np.int32)[:, None]
        partner[part] = np.where(best[part] < _FAR, np.take_along_axis(who, nearest, axis=1), myself)
