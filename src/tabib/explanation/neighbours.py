"""Which training images lie nearest to an image, as the network sees them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["nearest"]


def nearest(training: Sequence[np.ndarray], images: Sequence[np.ndarray], count: int) -> tuple[np.ndarray, np.ndarray]:
    """The training images with the smallest cosine distance of pooled features, by an exact search.

    Args:
        training: of each member the features of the training images, (N, F).
        images: of each member the features of the images asked about, (n, F).
        count: how many are wanted.

    Returns:
        Places of the nearest in the training images, (n, k), nearest first, and their distances (n, k), 0 to 2: one minus the cosine,
        meaned over members; infinite where every member's features of one of the two are all zero, which are near nothing. k is
        `count`, or N where there are fewer. Of equals the first comes first.
    """
    cosines = [_unit(mine) @ _unit(theirs).T for mine, theirs in zip(images, training, strict=True)]
    distance = np.clip(1 - np.mean(cosines, axis=0), 0, 2)
    distance[_all_zero(images)] = distance[:, _all_zero(training)] = np.inf
    places = np.argsort(distance, axis=1, kind="stable")[:, :count]
    return places, np.take_along_axis(distance, places, axis=1)


def _all_zero(features: Sequence[np.ndarray]) -> np.ndarray:
    return np.all([~each.any(axis=1) for each in features], axis=0)


def _unit(features: np.ndarray) -> np.ndarray:
    features = features.astype(np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
