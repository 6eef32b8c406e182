from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from tabib.dataset.hashes import hamming, perceptual_hash


def scene(seed: int, side: int = 32) -> np.ndarray:
    """Soft blobs, as films are at this size."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC))


def test_the_bits_are_the_lowest_frequencies_of_the_cosine_transform() -> None:
    picture = scene(0)
    spectrum = dctn(picture.astype(float), type=2, norm=None)
    order = sorted((row + column, row, column) for row in range(11) for column in range(11))[1:65]
    lowest = np.array([spectrum[row, column] for _, row, column in order])
    expected = sum(1 << bit for bit, above in enumerate(lowest > np.median(lowest)) if above)
    assert int(perceptual_hash(picture)) == expected


def test_a_stack_hashes_like_its_pictures() -> None:
    stack = np.stack([scene(seed) for seed in range(5)])
    assert perceptual_hash(stack).dtype == np.uint64
    assert perceptual_hash(stack).tolist() == [int(perceptual_hash(picture)) for picture in stack]


@pytest.mark.parametrize("change", [lambda x: x // 2 + 60, lambda x: np.asarray(Image.fromarray(x).resize((97, 90)).resize((32, 32)))])
def test_a_changed_copy_stays_near(change) -> None:
    distances = [int(hamming(perceptual_hash(scene(seed)), perceptual_hash(change(scene(seed))))) for seed in range(30)]
    assert max(distances) <= 6


def test_other_pictures_are_far() -> None:
    hashes = perceptual_hash(np.stack([scene(seed) for seed in range(40)]))
    distances = hamming(hashes[:, None], hashes[None])[np.triu_indices(40, 1)]
    assert distances.min() > 8
    assert 28 < distances.mean() < 36


@pytest.mark.parametrize("value", [0, 1, 127, 255])
def test_a_flat_picture_hashes_to_zero(value: int) -> None:
    assert int(perceptual_hash(np.full((32, 32), value, np.uint8))) == 0


def test_hamming_counts_bits() -> None:
    assert hamming(np.array([0, 7, 2**64 - 1], np.uint64), np.uint64(0)).tolist() == [0, 3, 64]
