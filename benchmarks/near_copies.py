"""Does the search for near copies cost the same for each picture, however many there are?

Made-up thumbnails that are alike as films are: few modes of variation with most of the energy, a little detail of their
own, and one in a hundred an altered copy of another. A 64-bit perceptual hash cannot part them (the share of rows with a
neighbour within 8 bits is printed). Printed are ratios to the smallest size.

    python benchmarks/near_copies.py [--largest 1000000]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from speed import machine
from tabib.dataset.candidates import long_hashes, propose_pairs
from tabib.dataset.duplicates import cluster_thumbnails
from tabib.dataset.hashes import hamming, perceptual_hash
from tabib.images import THUMBNAIL_SIDE

MODES = 24
COPIES = 0.01
CHUNK = 20_000


def film_thumbnails(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(count, pixels) uint8 thumbnails, and (copies, 2) which pairs are copies."""
    side = THUMBNAIL_SIDE
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : side * 1j, 0 : 1 : side * 1j]
    waves = [np.cos(np.pi * (a * y + 0.3)) * np.cos(np.pi * (b * x + 0.2)) for a in range(6) for b in range(6)][1 : MODES + 1]
    modes = np.stack([wave.ravel() / (1 + number) for number, wave in enumerate(waves)]).astype(np.float32)
    lungs = np.exp(-(((x - 0.28) / 0.12) ** 2) - ((y - 0.45) / 0.3) ** 2) + 0.9 * np.exp(
        -(((x - 0.73) / 0.1) ** 2) - ((y - 0.4) / 0.27) ** 2
    )
    film = (np.clip(1.2 - np.hypot(x - 0.52, 0.8 * (y - 0.6)), 0, 0.9) - 0.6 * lungs + 0.3 * (y > 0.85) - 0.4 * (y < 0.08)).ravel()
    pictures = np.empty((count, side * side), np.uint8)
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        values = film + 0.35 * random.standard_normal((size, len(modes)), dtype=np.float32) @ modes
        own = random.standard_normal((size, side, side), dtype=np.float32)
        own = own + np.roll(own, 1, axis=1) + np.roll(own, 1, axis=2)
        pictures[start : start + size] = _stretched(values + 0.06 * own.reshape(size, -1))
    copies = random.choice(count, 2 * max(1, int(COPIES * count / 2)), replace=False).reshape(-1, 2)
    for start in range(0, len(copies), CHUNK):
        original, copy = copies[start : start + CHUNK].T
        altered = 255 * (pictures[original] / np.float32(255)) ** 0.9 + random.standard_normal((len(copy), side * side), dtype=np.float32)
        pictures[copy] = _stretched(altered)
    return pictures, copies


def _stretched(values: np.ndarray) -> np.ndarray:
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    return np.rint(255 * (values - low) / (high - low)).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=1_000_000)
    largest = parser.parse_args().largest
    print(f"### Search for near copies\n\n{machine()}\n")
    print(
        "| pictures | alike to 8 of 64 bits | hash and propose, time per picture | candidates per picture | decide and cluster too | copies found | others joined |"
    )
    print("|---|---|---|---|---|---|---|")
    first: tuple[float, float, float] | None = None
    for count in (1_000, 10_000, 100_000, 1_000_000):
        if count > largest:
            break
        pictures, copies = film_thumbnails(count)
        short = perceptual_hash(pictures[:2000].reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        near = (hamming(short[:, None], short[None]) <= 8).sum(axis=1) > 1
        start = time.perf_counter()
        pairs = propose_pairs(long_hashes(pictures))
        proposed = (time.perf_counter() - start) / count
        candidates = len(pairs) / count
        start = time.perf_counter()
        clusters = cluster_thumbnails(pictures).clusters
        whole = (time.perf_counter() - start) / count
        first = first or (proposed, candidates, whole)
        leader = {row: cluster[0] for cluster in clusters for row in cluster}
        found = np.mean([leader.get(a, -1) == leader.get(b, -2) for a, b in copies.tolist()])
        others = sum(map(len, clusters)) - 2 * len(copies) * found
        ratios = [f"{value / base:.2f}x" for value, base in zip((proposed, candidates, whole), first, strict=True)]
        print(
            f"| {count:,} | {near.mean():.0%} of 2,000 | {ratios[0]} ({proposed * 1e6:.0f} µs) | {ratios[1]} | {ratios[2]} ({whole * 1e6:.0f} µs) | {found:.1%} | {others:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
