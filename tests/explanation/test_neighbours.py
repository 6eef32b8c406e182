from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from tabib.explanation.neighbours import nearest


def test_one_member_is_an_exact_cosine_search() -> None:
    random = np.random.default_rng(0)
    training, images = random.normal(size=(50, 6)).astype(np.float32), random.normal(size=(7, 6)).astype(np.float32)
    places, distance = nearest([training], [images], 4)
    oracle = NearestNeighbors(n_neighbors=4, metric="cosine", algorithm="brute").fit(training)
    theirs, which = oracle.kneighbors(images)
    np.testing.assert_array_equal(places, which)
    np.testing.assert_allclose(distance, theirs, atol=1e-6)


def test_members_are_meaned_and_length_does_not_count() -> None:
    training = [np.array([[2.0, 0.0], [0.0, 9.0]]), np.array([[0.0, 1.0], [1.0, 1.0]])]
    images = [np.array([[5.0, 0.0]]), np.array([[0.0, 3.0]])]
    places, distance = nearest(training, images, 5)
    assert places.tolist() == [[0, 1]]
    np.testing.assert_allclose(distance, [[0, 1 - (0 + np.sqrt(0.5)) / 2]], atol=1e-12)


def test_of_equals_the_first_comes_first() -> None:
    places, distance = nearest([np.ones((5, 3))], [np.ones((1, 3))], 3)
    assert places.tolist() == [[0, 1, 2]]
    np.testing.assert_allclose(distance, 0, atol=1e-12)


def test_what_is_all_zero_in_every_member_is_near_nothing() -> None:
    training = [np.array([[0.0, 0.0], [0.0, 0.0], [-1.0, 0.0]]), np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])]
    images = [np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 0.0]])]
    places, distance = nearest(training, images, 3)
    assert places.tolist() == [[1, 2, 0], [0, 1, 2]]
    np.testing.assert_array_equal(distance, [[1, 1.5, np.inf], [np.inf] * 3])
