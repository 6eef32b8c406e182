"""How nearly two pictures of one data set are the same.

**What is compared.** Films of one region look alike, so their whole pictures say little. What is left of a 32 x 32
thumbnail without its coarse shading (a Gaussian of 2 pixels), without the mean of the data set and without its few main
directions of variation is what one picture has and another has not: its *detail*. Two pictures are compared by the
correlation of their details after the best small affine movement of one of them (tangent distance, Simard et al. 1993,
repeated as in Lucas and Kanade 1981). That forgives another cut, scale or turn of a few per cent, brightness, contrast and
lossy compression. A mirrored picture is another picture here: left and right matter in medicine.

**What is near.** The correlation of pictures that are known to differ (drawn pairs, of different patients where those are
known) is measured in the data set itself. The threshold is where not one such pair is expected in a hundred data sets
of that size, and always between `FLOOR` and `CEILING`.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from tabib.images import THUMBNAIL_SIDE

__all__ = ["CEILING", "FLOOR", "Eye", "Gallery", "main_directions", "similarity", "spread", "threshold", "unit"]

FLOOR = 0.9
"""Correlation of details below which two pictures are never called copies: they share less than four fifths of the variance."""

CEILING = 0.97
"""Correlation from which two pictures are always called copies; a copy that was only saved again has more."""

_NORMAL = NormalDist()  # scipy's is slower to import than all else that a worker of the index needs

_FEW = 30  # pictures below which the data set cannot be measured, and the threshold is the following
_FLOOR_OF_FEW = 0.95
_FALSE_ALARMS = 0.01  # data sets without copies in which a pair is found
_TAIL = 1.4  # tails of real films are up to 1.25 times as wide as the normal one that is extrapolated
_DIRECTIONS = 8  # main directions of variation taken out: projections, devices, body regions
_SAMPLE = 2048  # pictures that the data set is measured on
_ALIKE = 0.95  # correlation from which one of two pictures is not measured
_MOVERS, _TARGETS = 256, 512  # pictures drawn, each with each, as pairs that are known to differ
_PLAIN = 0.5  # correlation before any movement below which no small movement makes two pictures one
_WORTH_MOVING = 0.6  # correlation after the first movement below which further ones do not
_ROUNDS = 3  # of movement
_FURTHEST = 2.0  # thumbnail pixels that a movement may reach at the edge: 6 % of the side
_STEP = 0.4 / 127  # of rough details; a pixel of a detail of norm 1 is about 0.03
_CHUNK = 4096
_PIXELS = THUMBNAIL_SIDE**2
_AT_Y, _AT_X = np.mgrid[-1 : 1 : THUMBNAIL_SIDE * 1j, -1 : 1 : THUMBNAIL_SIDE * 1j].astype(np.float32)


@dataclass(frozen=True)
class Eye:
    """What the pictures of one data set have in common, and so what is left when it is taken away."""

    learnt_from: np.ndarray  # (M,) places of pictures that are no copies of one another
    shading: np.ndarray  # (side, side) Gaussian along one axis
    mean: np.ndarray  # (pixels,) of details before this
    directions: np.ndarray  # (k, pixels) orthonormal

    @staticmethod
    def of(thumbnails: np.ndarray) -> Eye:
        """Learn it from (N, pixels) uint8 thumbnails."""
        shading = _shading()
        places = spread(len(thumbnails))
        details = _coarse_removed(thumbnails[places], shading)
        different = _without_copies(details)
        places, details = places[different], details[different]
        mean = details.mean(axis=0) * (len(details) >= _FEW)
        directions, _ = main_directions(details - mean, min(_DIRECTIONS, len(details) // 25))
        return Eye(places, shading, mean, directions)

    def details(self, thumbnails: np.ndarray) -> np.ndarray:
        """(N, pixels) float32 details of mean 0 and norm 1."""
        return unit(self._own(_coarse_removed(thumbnails, self.shading) - self.mean))

    def tangents(self, thumbnails: np.ndarray) -> np.ndarray:
        """(N, 7, pixels) the detail itself, and how it changes by six small affine movements of one pixel at the edge."""
        plain = _coarse_removed(thumbnails, self.shading)
        picture = plain.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE)
        down, across = np.gradient(picture, axis=1), np.gradient(picture, axis=2)
        moved = np.stack([step * at for step in (down, across) for at in (1, _AT_Y, _AT_X)], axis=1)
        tangents = self._own(np.concatenate([(plain - self.mean)[:, None], moved.reshape(len(picture), 6, _PIXELS)], axis=1))
        return tangents - tangents.mean(axis=2, keepdims=True)

    def _own(self, details: np.ndarray) -> np.ndarray:
        return details - (details @ self.directions.T) @ self.directions


def _without_copies(details: np.ndarray) -> np.ndarray:
    """(N,) whether no earlier row is nearly the same: a picture that is there often is not what pictures have in common."""
    own = unit(details - details.mean(axis=0))
    return np.max(np.triu(own @ own.T, 1), axis=0, initial=0) < _ALIKE


def spread(count: int) -> np.ndarray:
    """At most 2,048 of `count` places, evenly apart: what a data set is measured on."""
    return np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64)


def unit(values: np.ndarray) -> np.ndarray:
    """(N, pixels) of mean 0 and norm 1; 0 where all values are equal."""
    values = values - values.mean(axis=-1, keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-6)


def main_directions(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, pixels) orthonormal directions in which rows (N, pixels) vary most, and (count,) standard deviations.

    By subspace iteration: a fiftieth of the time of a whole decomposition, and exact where the directions stand out.
    """
    basis = np.random.default_rng(0).standard_normal((values.shape[1], count)).astype(np.float32)
    for _ in range(8):
        basis = np.linalg.qr(values.T @ (values @ basis))[0]
    _, lengths, turn = np.linalg.svd(values @ basis, full_matrices=False)
    return turn @ basis.T, lengths / np.sqrt(len(values))


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


def _coarse_removed(thumbnails: np.ndarray, shading: np.ndarray) -> np.ndarray:
    pictures = thumbnails.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE).astype(np.float32)
    return unit((pictures - shading @ pictures @ shading.T).reshape(thumbnails.shape))


@dataclass(frozen=True)
class Gallery:
    """The pictures of one data set, ready to be compared."""

    thumbnails: np.ndarray  # (N, pixels) uint8
    eye: Eye
    rough: np.ndarray  # (N, pixels) int8 details in steps of _STEP

    @staticmethod
    def of(thumbnails: np.ndarray) -> Gallery:
        """Make it from (N, pixels) uint8 thumbnails; takes another byte a pixel."""
        eye = Eye.of(thumbnails)
        rough = np.empty(thumbnails.shape, np.int8)
        for start in range(0, len(thumbnails), _CHUNK):
            part = slice(start, start + _CHUNK)
            rough[part] = np.clip(np.rint(eye.details(thumbnails[part]) / _STEP), -127, 127)
        return Gallery(thumbnails, eye, rough)


def similarity(gallery: Gallery, pairs: np.ndarray, *, enough: float = 1.0) -> np.ndarray:
    """How nearly the pictures of each pair are the same.

    Args:
        gallery: of N pictures.
        pairs: (P, 2) places in it.
        enough: a value from which a pair is not looked at more closely.

    Returns:
        (P,) correlation of details after movement, the mean of moving either picture; 0 where they are far apart.
    """
    result = np.zeros(len(pairs), np.float32)
    for start in range(0, len(pairs), _CHUNK):
        first, second = pairs[start : start + _CHUNK].T
        plain = np.einsum("ij,ij->i", gallery.rough[first].astype(np.float32), gallery.rough[second].astype(np.float32)) * _STEP**2
        hopeful = np.flatnonzero(plain >= _PLAIN)
        for here in np.array_split(hopeful, len(hopeful) // 512 + 1):
            one, other = gallery.thumbnails[first[here]], gallery.thumbnails[second[here]]
            there = _moved(gallery.eye, one, gallery.eye.details(other), enough)
            back = _moved(gallery.eye, other, gallery.eye.details(one), enough)
            result[start + here] = (there + back) / 2
    return result


def _moved(eye: Eye, thumbnails: np.ndarray, targets: np.ndarray, enough: float) -> np.ndarray:
    """(P,) best correlation of the details of thumbnails (P, pixels) with those of targets (P, pixels)."""
    best = np.zeros(len(thumbnails), np.float32)
    movement = np.zeros((len(thumbnails), 6), np.float32)
    open_ = np.arange(len(thumbnails))
    for turn in range(_ROUNDS):
        tangents = eye.tangents(_warped(thumbnails[open_], movement[open_]) if turn else thumbnails[open_])
        correlation, weights = _explained(tangents, targets[open_][:, :, None])
        best[open_] = np.maximum(best[open_], correlation[:, 0])
        movement[open_] += weights[:, 1:, 0] / np.maximum(weights[:, :1, 0], 0.3)
        movement = np.clip(movement, -_FURTHEST, _FURTHEST)
        open_ = open_[(best[open_] >= _WORTH_MOVING) & (best[open_] < enough)]
    return best


def _explained(tangents: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Multiple correlation (P, T) of targets (P, pixels, T) with tangents (P, 7, pixels), and weights (P, 7, T)."""
    onto = tangents @ targets
    # The ridge keeps pictures with little detail from being explained by anything.
    gram = tangents @ tangents.transpose(0, 2, 1) + 1e-3 * np.eye(7, dtype=np.float32)
    weights = np.linalg.solve(gram, onto)
    return np.sqrt(np.clip((onto * weights).sum(axis=1), 0, 0.9999)), weights


def _warped(thumbnails: np.ndarray, movement: np.ndarray) -> np.ndarray:
    """(P, pixels) thumbnails sampled (bilinear) where an affine movement (P, 6) in pixels points."""
    grid = np.stack([np.ones_like(_AT_Y), _AT_Y, _AT_X]).reshape(3, _PIXELS)
    last = THUMBNAIL_SIDE - 1
    y = np.clip((_AT_Y.ravel() + 1) * last / 2 + movement[:, :3] @ grid, 0, last - 1e-3)
    x = np.clip((_AT_X.ravel() + 1) * last / 2 + movement[:, 3:] @ grid, 0, last - 1e-3)
    top, left = y.astype(np.int64), x.astype(np.int64)
    y, x = y - top, x - left
    corner = top * THUMBNAIL_SIDE + left

    def at(offset: int) -> np.ndarray:
        return np.take_along_axis(thumbnails, corner + offset, axis=1).astype(np.float32)

    upper = at(0) * (1 - x) + at(1) * x
    lower = at(THUMBNAIL_SIDE) * (1 - x) + at(THUMBNAIL_SIDE + 1) * x
    return upper * (1 - y) + lower * y


def threshold(gallery: Gallery, patients: np.ndarray) -> tuple[float, float]:
    """The similarity from which pictures of a data set are copies, and the median of those known to differ.

    Fisher's transform of the correlation of drawn pairs is nearly normal. Its upper spread is read between the median
    and the 95th percentile, where look-alikes that are left among the drawn pairs do not reach.

    Args:
        gallery: of N pictures.
        patients: (N,) a number per patient, 0 where unknown.
    """
    different = gallery.eye.learnt_from
    if len(different) < _FEW:
        return _FLOOR_OF_FEW, 0.0
    random = np.random.default_rng(0)
    movers, targets = (random.permutation(different)[:drawn] for drawn in (_MOVERS, _TARGETS))
    tangents = gallery.eye.tangents(gallery.thumbnails[movers])
    correlation, _ = _explained(tangents, gallery.eye.details(gallery.thumbnails[targets]).T[None])
    same = (movers[:, None] == targets) | ((patients[movers][:, None] == patients[targets]) & (patients[targets] > 0))
    middle, upper = np.quantile(np.arctanh(correlation[~same]), [0.5, 0.95])
    deviation = (upper - middle) / _NORMAL.inv_cdf(0.95)
    extreme = -_NORMAL.inv_cdf(2 * _FALSE_ALARMS / len(gallery.thumbnails) ** 2)
    wanted = float(np.tanh(middle + _TAIL * extreme * deviation))
    return min(max(wanted, FLOOR), CEILING), float(np.tanh(middle))
