"""A 64-bit fingerprint of what a picture looks like, and how far two fingerprints are apart."""

from __future__ import annotations

import numpy as np

from tabib.images import THUMBNAIL_SIDE

__all__ = ["hamming", "perceptual_hash"]

_FREQUENCIES = 11


def _cosines() -> np.ndarray:
    positions = (2 * np.arange(THUMBNAIL_SIDE) + 1) * np.pi / (2 * THUMBNAIL_SIDE)
    return np.cos(np.arange(_FREQUENCIES)[:, None] * positions).astype(np.float32)


def _lowest_frequencies() -> np.ndarray:
    rows, columns = np.indices((_FREQUENCIES, _FREQUENCIES)).reshape(2, -1)
    order = np.lexsort((rows, rows + columns))
    return order[1:65]  # the first is the mean brightness, which a window setting changes


_COSINES = _cosines()
_LOWEST = _lowest_frequencies()


def perceptual_hash(thumbnails: np.ndarray) -> np.ndarray:
    """Hash pictures so that the same scene, resized, recompressed or brightened, gives nearly the same bits.

    Each bit says whether one of the 64 lowest frequencies of the cosine transform is above their median (Zauner 2010,
    "Implementation and benchmarking of perceptual image hash functions"). A picture of one flat value hashes to 0.

    Args:
        thumbnails: (..., THUMBNAIL_SIDE, THUMBNAIL_SIDE) grey, any real dtype.

    Returns:
        (...) uint64.
    """
    spectrum = _COSINES @ thumbnails.astype(np.float32) @ _COSINES.T
    lowest = spectrum.reshape(*spectrum.shape[:-2], -1)[..., _LOWEST]
    ordered = np.sort(lowest, axis=-1)
    median = (ordered[..., 31:32] + ordered[..., 32:33]) / 2
    # What rounding leaves of a zero coefficient (one part in 10^7 of the brightness) must not become a bit.
    above = lowest - median > 1e-2
    packed = np.ascontiguousarray(np.packbits(above, axis=-1, bitorder="little"))
    return packed.view("<u8")[..., 0].astype(np.uint64)


def hamming(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Number of bits, 0..64, in which hashes differ; the arguments are uint64 arrays that broadcast."""
    return np.bitwise_count(np.bitwise_xor(first, second))
