"""Numbers that look random and are functions of what they are for: no generator has a state that a resume could lose."""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["bits", "key", "named", "step_seed"]


def bits(name: str, *, seed: int, epoch: int, content: np.ndarray) -> np.ndarray:
    """64 bits per image, a pure function of (seed, epoch, content, name).

    Args:
        name: what the number is for; draws of different names are independent.
        seed: seed of the member.
        epoch: number of the epoch.
        content: (B,) uint64, the first eight bytes of each image's SHA-256.

    Returns:
        (B,) uint64.

    Source: the counter-based construction of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011), with the
    mixing function of SplitMix64 (Steele et al., "Fast splittable pseudorandom number generators", 2014).
    """
    return named(name, key(seed=seed, epoch=epoch, content=content))


def key(*, seed: int, epoch: int, content: np.ndarray) -> np.ndarray:
    """What all draws of an image in an epoch have in common, (B,) uint64: arguments as of `bits`."""
    return _mix(_mix(_mix(np.array([seed], np.uint64)) + np.array([epoch], np.uint64)) ^ content.astype(np.uint64))


def named(name: str, key: np.ndarray) -> np.ndarray:
    """The bits of one draw, from the key of its images."""
    return _mix(key ^ np.frombuffer(hashlib.blake2b(name.encode(), digest_size=8).digest(), "<u8"))


def step_seed(seed: int, step: int) -> int:
    """Seed of what is drawn once per step (dropout), 0..2**63 - 1."""
    return int(bits("step", seed=seed, epoch=step, content=np.zeros(1, np.uint64))[0] >> np.uint64(1))


def _mix(value: np.ndarray) -> np.ndarray:
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
