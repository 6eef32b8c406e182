"""Order, slices and scales of batches."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tabib.config import ModelPart
from tabib.dataset import intensity_statistics
from tabib.training.batches import Intensity, Samples, balanced, in_order, normalise, shuffled, unit_range, with_copies
from tabib.training.networks import Network, build_network
from tabib.training.randomness import bits, step_seed


def samples(content: np.ndarray, *, dtype: type = np.uint8) -> Samples:
    images = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (len(content), 3, 6, 5), dtype, endpoint=True)
    return Samples(
        images=torch.from_numpy(images),
        positions=torch.arange(len(content)),
        statistics=torch.from_numpy(np.stack([intensity_statistics(image) for image in images])),
        content=content,
        labels=torch.zeros(len(content), dtype=torch.int64),
        device=torch.device("cpu"),
    )


def contents(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 2**64, number, np.uint64)


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 60), st.integers(2, 20), st.integers(0, 99))
def test_an_epoch_has_every_image_once_but_for_a_lonely_last(number: int, size: int, epoch: int) -> None:
    batches = shuffled(samples(contents(number)), size, seed=0, epoch=epoch)
    seen = np.concatenate(batches)
    assert len(set(seen)) == len(seen) == number - (number % size == 1)
    assert all(2 <= len(batch) <= size for batch in batches)


def test_order_depends_on_seed_epoch_and_content_alone() -> None:
    content = contents(50)
    turned = np.random.default_rng(0).permutation(50)

    def order(content: np.ndarray, **of: int) -> list[int]:
        return content[np.concatenate(shuffled(samples(content), 10, **{"seed": 1, "epoch": 2, **of}))].tolist()

    assert order(content) == order(content[turned])
    assert order(content) != order(content, seed=2) != order(content, epoch=3)
    without = [value for value in order(content) if value != content[9]]
    assert without == order(np.delete(content, 9)), "another file moves no one past another"


def labelled(*counts: int) -> Samples:
    of = samples(contents(sum(counts)))
    return replace(of, labels=torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=4).filter(any), st.integers(0, 9))
def test_a_balanced_epoch_has_as_many_images_and_equal_classes(counts: list[int], epoch: int) -> None:
    given = labelled(*counts)
    drawn = balanced(given, seed=0, epoch=epoch)
    assert len(drawn) == len(given)
    shares = Counter(drawn.labels.tolist())
    assert set(shares) == {label for label, count in enumerate(counts) if count}
    assert max(shares.values()) - min(shares.values()) <= 1
    taken = Counter(drawn.positions.tolist())
    for label in shares:
        often = [taken[place] for place in given.positions[given.labels == label].tolist()]
        assert max(often) - min(often) <= 1, "no image is taken twice while another waits"
    assert torch.equal(drawn.labels, given.labels[drawn.positions])
    assert len(set(drawn.content)) == len(drawn), "copies are augmented differently"


def test_a_balanced_epoch_depends_on_seed_epoch_and_content_alone() -> None:
    given = labelled(40, 4)

    def drawn(of: Samples, *, seed: int = 1, epoch: int = 2) -> set[int]:
        return set(balanced(of, seed=seed, epoch=epoch).content.tolist())

    turned = torch.from_numpy(np.random.default_rng(0).permutation(44))
    assert drawn(given) == drawn(replace(given, positions=turned, labels=given.labels[turned], content=given.content[turned.numpy()]))
    assert len({frozenset(drawn(given)), frozenset(drawn(given, seed=2)), frozenset(drawn(given, epoch=3))}) == 3
    seen = set[int]().union(*(drawn(given, epoch=epoch) & set(given.content.tolist()) for epoch in range(20)))
    assert seen == set(given.content.tolist()), "every image has its turn"


def test_places_in_an_epoch_are_even() -> None:
    """Over many epochs every image stands everywhere: mean place (n - 1) / 2, and neighbours are not correlated."""
    content = contents(20)
    places = np.array([np.argsort(np.concatenate(shuffled(samples(content), 5, seed=0, epoch=epoch))) for epoch in range(400)])
    assert np.abs(places.mean(0) - 9.5).max() < 4 * np.sqrt((20**2 - 1) / 12 / 400)
    assert abs(np.corrcoef(places[:-1].ravel(), places[1:].ravel())[0, 1]) < 0.05


def test_names_and_steps_draw_independently() -> None:
    content = contents(2000)
    one, other = (bits(name, seed=0, epoch=0, content=content) / 2.0**64 for name in ("one", "other"))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.1
    assert len({step_seed(seed, step) for seed in range(3) for step in range(500)}) == 1500


def test_copies_have_keys_of_their_own_and_the_pixels_of_their_image() -> None:
    one = samples(contents(6))
    all_of_them = with_copies(one, 3)
    assert len(all_of_them) == len(set(all_of_them.content.tolist())) == 24
    assert all_of_them.altered is not None
    assert all_of_them.altered.tolist() == [False] * 6 + [True] * 18
    for number in range(4):
        images, statistics, _ = all_of_them.load(np.arange(6) + 6 * number)
        assert torch.equal(images, one.load(np.arange(6))[0])
        assert torch.equal(statistics, one.statistics)
    without = with_copies(samples(np.delete(contents(6), 2)), 3)
    assert set(without.content.tolist()) < set(all_of_them.content.tolist()), "another file changes no copy"
    assert with_copies(one, 0) is one


def test_in_order_is_in_order() -> None:
    assert [part.tolist() for part in in_order(samples(contents(5)), 2)] == [[0, 1], [2, 3], [4]]


def test_eight_bits_and_the_same_in_sixteen_are_the_same_numbers() -> None:
    eight = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    sixteen = torch.from_numpy(eight.numpy().astype(np.uint16) * np.uint16(257))
    assert torch.equal(unit_range(eight), unit_range(sixteen))
    assert unit_range(sixteen).max() == 1


@pytest.fixture
def network() -> Network:
    return build_network(ModelPart(network="tiny"), classes=2, channels=3, height=20, width=20)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("intensity", ["network", "unit", "minmax", "zscore", "percentile"])
def test_scales_are_what_they_say(network: Network, intensity: Intensity, dtype: type) -> None:
    images, statistics, _ = samples(contents(4), dtype=dtype).load(np.arange(4))
    scaled = normalise(images, statistics, intensity, network)
    assert scaled.is_contiguous(memory_format=torch.channels_last)
    for image, result in zip(images.double().numpy(), scaled.double().numpy(), strict=True):
        low, high = np.percentile(image, [1, 99], method="inverted_cdf")
        wanted = {
            "network": (image - 0.5) / 0.25,
            "unit": image,
            "minmax": (image - image.min()) / (image.max() - image.min()),
            "zscore": (image - image.mean()) / image.std(),
            "percentile": (image - low) / (high - low),
        }[intensity]
        np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("intensity", ["minmax", "zscore", "percentile"])
def test_augmentation_does_not_change_the_scale(network: Network, intensity: Intensity) -> None:
    images, statistics, _ = samples(contents(2)).load(np.arange(2))
    half = normalise(images / 2, statistics, intensity, network)
    whole = normalise(images, statistics, intensity, network)
    assert not torch.allclose(half, whole), "scaled by its own values, a darkened image would look as before"


@pytest.mark.parametrize("intensity", ["minmax", "zscore", "percentile"])
def test_a_flat_image_is_no_division_by_zero(network: Network, intensity: Intensity) -> None:
    pixels = np.full((3, 6, 5), 77, np.uint8)
    scaled = normalise(unit_range(torch.from_numpy(pixels)[None]), torch.from_numpy(intensity_statistics(pixels))[None], intensity, network)
    assert torch.all(scaled.abs() < 1e-6)


def test_copies_keep_all_labels_of_their_image() -> None:
    labels = torch.tensor([[0, 1], [1, 1], [0, 0]])
    copied = with_copies(replace(samples(contents(3)), labels=labels), 2)
    assert copied.several
    assert copied.labels.tolist() == labels.tolist() * 3
    assert copied.take(np.array([1, 8])).labels.tolist() == [[1, 1], [0, 0]]
