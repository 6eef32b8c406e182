"""Pictures that are copies of one another although no byte is the same: a hash proposes, pixels decide.

**What is compared.** Films of one region look alike, so their whole pictures say little. What is left of a 32 x 32
thumbnail without its coarse shading (a Gaussian of 2 pixels), without the mean of the data set and without its few main
directions of variation is what one picture has and another has not: its *detail*. Two pictures are compared by the
correlation of their details after the best small affine movement of one of them (tangent distance, Simard et al. 1993),
which forgives another cut, scale or turn of a few per cent, brightness, contrast and lossy compression. A mirrored picture is
another picture here: left and right matter in medicine.

**What is near.** The correlation of pictures that are known to differ (drawn pairs, of different patients where those are
known) is measured in the data set itself. The threshold is where not one such pair is expected in a hundred data sets
of that size, and never below `FLOOR`.

**What it costs.** Hash bits are signs of random directions in the whitened space of the data set's own thumbnails, so
they are even and independent however alike the films are. Rows are sorted by the bits in several orders, and each is
compared with its next neighbours only: the work per row is bounded, whatever the data.

**No chains.** A cluster is a centre and the pictures near that centre. Near a near one is not near enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.stats import norm

from tabib.records import THUMBNAIL_SIDE

__all__ = ["FLOOR", "NearCopies", "find_near_copies", "near_copy_clusters"]

FLOOR = 0.8
"""Correlation of details below which two pictures are never called copies: they share less than two thirds of the variance."""

_FEW = 30  # rows below which the data set cannot be measured, and the threshold is the following
_FLOOR_OF_FEW = 0.95
_FALSE_ALARMS = 0.01  # data sets without copies in which a pair is found
_TAIL = 1.4  # tails of real films are up to 1.25 times as wide as the normal one that is extrapolated
_DIRECTIONS = 8  # main directions of variation taken out: projections, devices, body regions
_SAMPLE = 2048  # rows that the data set is measured on
_MOVERS, _TARGETS = 256, 512  # pictures drawn, each with each, as pairs that are known to differ
_DIMENSIONS = 32  # of the whitened space
_WORDS = 4  # of 64 hash bits
_ORDERS = 24  # in which rows are sorted
_WINDOW = 16  # neighbours each row is compared with in an order
_KEPT = 8  # candidates each row keeps, and so those whose pixels are compared
_PLAIN = 0.5  # correlation before the movement below which no small movement makes two pictures one
_CHUNK = 4096
_PIXELS = THUMBNAIL_SIDE**2


@dataclass(frozen=True)
class NearCopies:
    """What the search found."""

    clusters: list[list[int]]  # index rows: the centre first, then what is near it in order of rows
    threshold: float  # correlation of details from which two pictures are copies
    typical: float  # median correlation of pictures known to differ
    compared: int  # pictures that were compared: good rows with different pixels that are not of one flat value
    candidates: int  # pairs that hashes proposed and pixels decided


def near_copy_clusters(index: pl.DataFrame) -> list[list[int]]:
    """Find near copies; see `find_near_copies`."""
    return find_near_copies(index).clusters


def find_near_copies(index: pl.DataFrame) -> NearCopies:
    """Find pictures that are copies of one another without being the same pixels.

    Exact copies count as one picture: the first of them by row stands for all, and the others are in no cluster.

    Args:
        index: INDEX_SCHEMA.

    Returns:
        Clusters in the order of their centres; each row is in one at most. The result does not depend on anything
        but the index.
    """
    rows, thumbnails = _pictures(index)
    groups = index["group"][rows].to_list() if len(rows) else []
    known = pl.Series(groups, dtype=pl.String()).rank("dense").fill_null(0).to_numpy().astype(np.int64)
    if len(rows) < 2:
        return NearCopies([], FLOOR, 0.0, len(rows), 0)
    eye = _Eye.of(thumbnails)
    threshold, typical = _threshold(eye, thumbnails, known)
    clusters, candidates = _cluster(eye, thumbnails, threshold)
    return NearCopies([[int(rows[place]) for place in cluster] for cluster in clusters], threshold, typical, len(rows), candidates)


def _pictures(index: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Rows and thumbnails (N, pixels) uint8 of the good rows, one for each picture, that show anything at all."""
    good = index.filter(pl.col("refused").is_null() & pl.col("thumbnail").is_not_null()).unique("pixels", keep="first", maintain_order=True)
    thumbnails = np.frombuffer(b"".join(good["thumbnail"]), np.uint8).reshape(-1, _PIXELS)
    shown = np.ptp(thumbnails, axis=1) > 0 if len(good) else np.zeros(0, bool)
    return good["row"].to_numpy()[shown].astype(np.int64), thumbnails[shown]


def _shading() -> np.ndarray:
    """(side, side) matrix of a Gaussian of 2 pixels along one axis, reflected at the edge."""
    side, reach = THUMBNAIL_SIDE, 8
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / 2.0) ** 2)
    matrix = np.zeros((side, side), np.float32)
    for offset, weight in zip(range(-reach, reach + 1), weights / weights.sum(), strict=True):
        position = np.arange(side) + offset
        position = np.where(position < 0, -1 - position, np.where(position >= side, 2 * side - 1 - position, position))
        np.add.at(matrix, (np.arange(side), position), weight)
    return matrix


def _spread(count: int, most: int) -> np.ndarray:
    """At most `most` of `count` places, evenly apart."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(np.int64)


def _main_directions(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, pixels) orthonormal directions in which rows (N, pixels) vary most, and (count,) standard deviations.

    By subspace iteration: a fiftieth of the time of a whole decomposition, and exact where the directions stand out.
    """
    basis = np.random.default_rng(0).standard_normal((values.shape[1], count)).astype(np.float32)
    for _ in range(8):
        basis = np.linalg.qr(values.T @ (values @ basis))[0]
    _, lengths, turn = np.linalg.svd(values @ basis, full_matrices=False)
    return turn @ basis.T, lengths / np.sqrt(len(values))


def _unit(values: np.ndarray) -> np.ndarray:
    values = values - values.mean(-1, keepdims=True)
    return values / np.maximum(np.sqrt(np.einsum("...i,...i->...", values, values))[..., None], 1e-6)


@dataclass(frozen=True)
class _Eye:
    """What this data set's pictures have in common, and so what is left when it is taken away."""

    shading: np.ndarray  # (side, side)
    mean: np.ndarray  # (pixels,) of unit details
    directions: np.ndarray  # (k, pixels) orthonormal
    centre: np.ndarray  # (pixels,) of unit thumbnails
    projections: np.ndarray  # (pixels, 64 x words) random directions of the whitened space, for the hash
    medians: np.ndarray  # (64 x words,)

    @staticmethod
    def of(thumbnails: np.ndarray) -> _Eye:
        sample = thumbnails[_spread(len(thumbnails), _SAMPLE)]
        shading = _shading()
        details = _coarse_removed(sample, shading)
        enough = len(sample) >= _FEW
        mean = details.mean(0) * enough
        directions, _ = _main_directions(details - mean, min(_DIRECTIONS, len(sample) // 25))
        whole = _unit(sample.astype(np.float32))
        centre = whole.mean(0)
        axes, spreads = _main_directions(whole - centre, min(_DIMENSIONS, len(sample) - 1))
        random = np.random.default_rng(0).standard_normal((len(axes), 64 * _WORDS))
        projections = (axes.T @ (random / np.maximum(spreads, 1e-4)[:, None])).astype(np.float32)
        medians = np.median((whole - centre) @ projections, axis=0)
        return _Eye(shading, mean, directions, centre, projections, medians)

    def details(self, thumbnails: np.ndarray) -> np.ndarray:
        """(..., pixels) float32 details of mean 0 and norm 1."""
        return _unit(self._own(_coarse_removed(thumbnails, self.shading) - self.mean))

    def _own(self, details: np.ndarray) -> np.ndarray:
        return details - (details @ self.directions.T) @ self.directions

    def tangents(self, thumbnails: np.ndarray) -> np.ndarray:
        """(N, 7, pixels) the detail itself and how it changes by each small affine movement."""
        plain = _coarse_removed(thumbnails, self.shading)
        picture = plain.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE)
        down, across = np.gradient(picture, axis=1), np.gradient(picture, axis=2)
        y, x = np.mgrid[-1 : 1 : THUMBNAIL_SIDE * 1j, -1 : 1 : THUMBNAIL_SIDE * 1j].astype(np.float32)
        moved = np.stack([down, down * y, down * x, across, across * y, across * x], axis=1).reshape(len(picture), 6, _PIXELS)
        return _unit(self._own(np.concatenate([(plain - self.mean)[:, None], moved], axis=1)))

    def hashes(self, thumbnails: np.ndarray) -> np.ndarray:
        """(N, words) uint64."""
        words = np.empty((len(thumbnails), _WORDS), np.uint64)
        for start in range(0, len(thumbnails), _CHUNK):
            part = _unit(thumbnails[start : start + _CHUNK].astype(np.float32)) - self.centre
            bits = np.packbits(part @ self.projections > self.medians, axis=1)
            words[start : start + _CHUNK] = bits.view(np.uint64)
        return words


def _coarse_removed(thumbnails: np.ndarray, shading: np.ndarray) -> np.ndarray:
    pictures = thumbnails.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE).astype(np.float32)
    return _unit((pictures - shading @ pictures @ shading.T).reshape(thumbnails.shape))


def _similarity(eye: _Eye, thumbnails: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(P,) correlation of the details of pairs (P, 2), moved onto one another; the mean of moving either."""
    result = np.zeros(len(pairs), np.float32)
    for start in range(0, len(pairs), _CHUNK):
        chunk = pairs[start : start + _CHUNK]
        places, number = np.unique(chunk, return_inverse=True)
        first, second = number.reshape(-1, 2).T
        details = eye.details(thumbnails[places])
        hopeful = np.flatnonzero(np.einsum("ij,ij->i", details[first], details[second]) >= _PLAIN)
        result[start + hopeful] = _moved(eye, thumbnails[places], details, first[hopeful], second[hopeful])
    return result


def _moved(eye: _Eye, thumbnails: np.ndarray, details: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Multiple correlation of each detail with the other and its tangents."""
    total = np.zeros(len(first), np.float32)
    for mover, target in ((first, second), (second, first)):
        for start in range(0, len(mover), 512):
            part = slice(start, start + 512)
            places, number = np.unique(mover[part], return_inverse=True)
            tangents = eye.tangents(thumbnails[places])
            gram = _gram(tangents)
            onto = np.einsum("pki,pi->pk", tangents[number], details[target[part]])
            weights = np.linalg.solve(gram[number], onto[..., None])[..., 0]
            total[part] += np.sqrt(np.clip(np.einsum("pk,pk->p", onto, weights), 0, 1))
    return total / 2


def _gram(tangents: np.ndarray) -> np.ndarray:
    """(N, 7, 7); the ridge keeps pictures without any detail from making it singular."""
    return tangents @ tangents.transpose(0, 2, 1) + 1e-4 * np.eye(7, dtype=np.float32)


def _threshold(eye: _Eye, thumbnails: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """The correlation from which pictures are copies, and the median of pictures known to differ.

    Fisher's transform of the correlation of drawn pairs is nearly normal. Its upper spread is read between the median
    and the 95th percentile, so that sets in which every picture has several copies do not hide them.
    """
    if len(thumbnails) < _FEW:
        return _FLOOR_OF_FEW, 0.0
    random = np.random.default_rng(0)
    movers = random.permutation(len(thumbnails))[:_MOVERS]
    targets = random.permutation(len(thumbnails))[:_TARGETS]
    tangents = eye.tangents(thumbnails[movers])
    onto = tangents @ eye.details(thumbnails[targets]).T  # (movers, 7, targets)
    weights = np.linalg.solve(_gram(tangents), onto)
    correlation = np.sqrt(np.clip((onto * weights).sum(axis=1), 0, 0.9999))
    same = (movers[:, None] == targets) | ((groups[movers][:, None] == groups[targets]) & (groups[targets] > 0))
    middle, upper = np.quantile(np.arctanh(correlation[~same]), [0.5, 0.95])
    spread = (upper - middle) / norm.isf(0.05)
    extreme = norm.isf(2 * _FALSE_ALARMS / len(thumbnails) ** 2)
    return max(FLOOR, float(np.tanh(middle + _TAIL * extreme * spread))), float(np.tanh(middle))


def _propose(hashes: np.ndarray) -> np.ndarray:
    """(P, 2) pairs of places, each row with the few whose hashes are nearest among its neighbours in some order."""
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


def _cluster(eye: _Eye, thumbnails: np.ndarray, threshold: float) -> tuple[list[list[int]], int]:
    """Stars of near pictures; in rounds, because a row whose copies outnumber its candidates does not see them all."""
    hashes = eye.hashes(thumbnails)
    members: dict[int, list[int]] = {}
    pool = np.arange(len(thumbnails))
    candidates = 0
    while len(pool) > 1:
        pairs = pool[_propose(hashes[pool])]
        candidates += len(pairs)
        near = pairs[_similarity(eye, thumbnails, pairs) >= threshold]
        stars = _stars(near)
        alone = set(np.unique(near).tolist())
        for star in stars:
            centre = max(star, key=lambda place: (len(members.get(place, ())), place == star[0], -place))
            joining = sorted({row for place in star for row in (place, *members.pop(place, ()))} - {centre})
            similarity = _similarity(eye, thumbnails, np.stack([np.full(len(joining), centre), joining], axis=1))
            members[centre] = [row for row, value in zip(joining, similarity, strict=True) if value >= threshold]
            alone.update(joining)
        alone -= {row for joined in members.values() for row in joined}
        pool = np.array(sorted(alone | members.keys())) if stars else pool[:0]
    return [[centre, *joined] for centre, joined in sorted(members.items()) if joined], candidates


def _stars(pairs: np.ndarray) -> list[list[int]]:
    """Greedily: who has most near ones leads them, then who has most among those left."""
    near: dict[int, list[int]] = {}
    for first, second in pairs.tolist():
        near.setdefault(first, []).append(second)
        near.setdefault(second, []).append(first)
    taken: set[int] = set()
    stars = []
    for centre in sorted(near, key=lambda place: (-len(near[place]), place)):
        free = [place for place in near[centre] if place not in taken]
        if centre not in taken and free:
            stars.append([centre, *free])
            taken.update(stars[-1])
    return stars
