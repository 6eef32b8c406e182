from __future__ import annotations

import io
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from PIL import Image

from made_index import film, make_index, real_index, thumbnail
from places import needs_real
from tabib.dataset.candidates import long_hashes, propose_pairs
from tabib.dataset.duplicates import cluster_thumbnails, find_near_copies
from tabib.dataset.resemblance import Gallery, similarity


def clusters_of(index: pl.DataFrame) -> list[list[int]]:
    return find_near_copies(index).clusters


FILMS = [film(seed) for seed in range(150)]


def altered(picture: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    return np.asarray(change(Image.fromarray(picture)))


def saved_again(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def cut(image: Image.Image, share: float) -> Image.Image:
    width, height = image.size
    return image.resize(image.size, Image.Resampling.BILINEAR, (width * share, height * share, width, height))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 90": lambda image: saved_again(image, 90),
    "JPEG of quality 50": lambda image: saved_again(image, 50),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BILINEAR),
    "three quarters of the size": lambda image: image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.BILINEAR),
    "brighter": lambda image: image.point(lambda value: value * 0.8 + 50),
    "less contrast": lambda image: image.point(lambda value: value * 0.6 + 40),
    "another gamma": lambda image: image.point(lambda value: 255 * (value / 255) ** 0.8),
    "2 % cut off two sides": lambda image: cut(image, 0.02),
    "turned by 1 degree": lambda image: image.rotate(1, Image.Resampling.BILINEAR),
    "all of it": lambda image: saved_again(cut(image, 0.01).rotate(0.7, Image.Resampling.BILINEAR).point(lambda value: value * 0.9), 70),
}


def planted(change: Callable[[Image.Image], Image.Image], count: int = 40) -> pl.DataFrame:
    pictures = [*FILMS, *(altered(picture, change) for picture in FILMS[:count])]
    return make_index(pictures, labels=["A", "B"] * (len(pictures) // 2))


@pytest.mark.parametrize("name", CHANGES)
def test_altered_copies_are_found_and_nothing_else(name: str) -> None:
    clusters = clusters_of(planted(CHANGES[name]))
    found = sum(sorted(cluster) == [number, number + len(FILMS)] for cluster in clusters for number in [min(cluster)])
    assert found >= 38
    assert found == len(clusters)


@pytest.mark.parametrize(("degrees", "least", "most"), [(0.5, 1, 1), (1, 0.95, 1), (2, 0.3, 1), (8, 0, 0.05), (30, 0, 0)])
def test_the_more_a_copy_is_turned_the_fewer_are_found(degrees: float, least: float, most: float) -> None:
    clusters = clusters_of(planted(lambda image: image.rotate(degrees, Image.Resampling.BILINEAR)))
    assert least <= len(clusters) / 40 <= most


@pytest.mark.parametrize("alike", [0.3, 1.0, 4.0])
def test_films_that_all_look_alike_are_no_copies(alike: float) -> None:
    pictures = [film(seed, alike=alike) for seed in range(1000, 1200)]
    found = find_near_copies(make_index(pictures, labels=["A"] * 200))
    assert found.clusters == []
    assert found.compared == 200
    assert found.typical < 0.5 < found.threshold


def test_a_small_odd_group_is_not_taken_for_copies() -> None:
    # Twenty films of another device: a bright frame that the others have not.
    pictures = [film(seed) for seed in range(200)]
    for picture in pictures[:20]:
        picture[:6], picture[-6:], picture[:, :6], picture[:, -6:] = 255, 255, 255, 255
    assert clusters_of(make_index(pictures, labels=["A"] * 200)) == []


def test_a_mirrored_film_is_another_film() -> None:
    pictures = [*FILMS, *(picture[:, ::-1] for picture in FILMS[:30])]
    assert clusters_of(make_index(pictures, labels=["A"] * len(pictures))) == []


def test_exact_copies_count_once_and_flat_or_refused_pictures_not_at_all() -> None:
    flat = np.full((64, 64), 7, np.uint8)
    pictures = [*FILMS[:40], FILMS[0], flat, flat + 1, FILMS[50]]
    refused = [None] * 43 + ["cannot be read"]
    found = find_near_copies(make_index(pictures, labels=["A"] * 44, columns={"refused": refused}))
    assert (found.compared, found.clusters) == (40, [])


def test_clusters_are_stars_not_chains() -> None:
    # A film that slides: each frame is near the next, and the first is far from the last.
    wide = np.concatenate([film(7, side=128), film(8, side=128)], axis=1)
    frames = [wide[:, shift : shift + 128] for shift in range(0, 100, 2)]
    pictures = [*FILMS, *frames]
    clusters = clusters_of(make_index(pictures, labels=["A"] * len(pictures)))
    gallery = Gallery.of(np.stack([np.frombuffer(thumbnail(picture), np.uint8) for picture in pictures]))
    assert clusters
    assert max(map(len, clusters)) < len(frames) / 2
    for centre, *members in clusters:
        pairs = np.array([(centre, member) for member in members])
        assert similarity(gallery, pairs, enough=0.9).min() >= 0.9
        assert min(members) >= len(FILMS)
    rows = [row for cluster in clusters for row in cluster]
    assert len(rows) == len(set(rows))


def test_a_cluster_far_larger_than_what_a_row_sees_is_one_cluster() -> None:
    random = np.random.default_rng(0)
    same = [np.clip(FILMS[0] + random.normal(0, 1.5, FILMS[0].shape), 0, 255).astype(np.uint8) for _ in range(150)]
    pictures = [*FILMS, *same]
    clusters = clusters_of(make_index(pictures, labels=["A"] * len(pictures)))
    assert [len(cluster) for cluster in clusters] == [151]


def test_the_result_does_not_depend_on_what_is_ahead() -> None:
    index = planted(CHANGES["JPEG of quality 50"])
    assert clusters_of(index) == clusters_of(index)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_handful_of_pictures(count: int) -> None:
    pictures = [film(seed) for seed in range(count)]
    index = make_index(
        [*pictures, *(altered(picture, CHANGES["JPEG of quality 90"]) for picture in pictures[:1])], labels=["A"] * (count + min(count, 1))
    )
    assert clusters_of(index) == ([[0, count]] if count else [])


def test_what_hashes_propose_is_bounded_and_holds_the_copies() -> None:
    random = np.random.default_rng(0)
    count = 2000
    pictures = np.stack([np.frombuffer(thumbnail(film(seed, side=32)), np.uint8) for seed in range(count // 4)])
    pictures = np.clip(np.repeat(pictures, 4, axis=0) + random.normal(0, 3, (count, 1024)), 0, 255).astype(np.uint8)
    pairs = propose_pairs(long_hashes(pictures))
    assert len(pairs) <= 8 * count
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    proposed = {tuple(pair) for pair in pairs.tolist()}
    same = [(first, second) for start in range(0, count, 4) for first, second in pairwise(range(start, start + 4))]
    assert np.mean([pair in proposed for pair in same]) > 0.9


def test_thumbnails_without_an_index() -> None:
    thumbnails = np.stack([np.frombuffer(thumbnail(picture), np.uint8) for picture in [*FILMS, FILMS[3] // 2]])
    assert cluster_thumbnails(thumbnails).clusters == [[3, len(FILMS)]]


@pytest.mark.real
@needs_real("cats_dogs")
def test_unrelated_photographs_have_no_copies() -> None:
    index = real_index("cats_dogs")
    assert clusters_of(index) == []


@pytest.mark.real
@needs_real("alzheimer_mri")
def test_slices_of_one_brain_are_tied_without_swallowing_the_set() -> None:
    index = real_index("alzheimer_mri")
    clusters = clusters_of(index)
    assert sum(map(len, clusters)) > 0.3 * len(index)
    assert max(map(len, clusters)) <= 0.05 * len(index)
