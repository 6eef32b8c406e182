"""Pictures that are copies of one another although no byte is the same: a hash proposes, pixels decide.

`candidates` proposes pairs at a cost that grows as the number of pictures, `resemblance` decides by their pixels, with a
threshold set in the data set itself. What is left here are the clusters, and those are no chains: a cluster is a centre
and the pictures near that centre. Near a near one is not near enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from tabib.dataset.candidates import long_hashes, propose_pairs
from tabib.dataset.groups import held_together
from tabib.dataset.resemblance import Gallery, similarity, threshold
from tabib.images import THUMBNAIL_SIDE

__all__ = ["NearCopies", "cluster_thumbnails", "find_near_copies"]

_ROUNDS = 10  # of clustering; each makes large clusters about eight times larger


@dataclass(frozen=True)
class NearCopies:
    """What the search found."""

    clusters: list[list[int]]  # index rows: the centre first, then what is near it in order of rows
    threshold: float  # correlation of details from which two pictures are copies
    typical: float  # median correlation of pictures known to differ
    compared: int  # pictures that were compared: good rows with different pixels that are not of one flat value
    candidates: int  # pairs that hashes proposed and pixels decided


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
    found = cluster_thumbnails(thumbnails, patients=held_together(index)[rows].to_list())
    return replace(found, clusters=[[int(rows[place]) for place in cluster] for cluster in found.clusters])


def cluster_thumbnails(thumbnails: np.ndarray, *, patients: Sequence[str | None] | None = None) -> NearCopies:
    """Find near copies among (N, THUMBNAIL_SIDE**2) uint8 thumbnails; clusters hold places instead of index rows.

    Patients, where known, tell which pictures surely differ.
    """
    if len(thumbnails) < 2:
        return NearCopies([], 1.0, 0.0, len(thumbnails), 0)
    names = pl.Series(patients if patients is not None else [None] * len(thumbnails), dtype=pl.String())
    gallery = Gallery.of(thumbnails)
    least, typical = threshold(gallery, names.rank("dense").fill_null(0).to_numpy().astype(np.int64))
    clusters, candidates = _cluster(gallery, least)
    return NearCopies(clusters, least, typical, len(thumbnails), candidates)


def _pictures(index: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Rows and thumbnails (N, pixels) uint8 of the good rows, one for each picture, that show anything at all."""
    good = index.filter(pl.col("refused").is_null() & pl.col("thumbnail").is_not_null()).unique("pixels", keep="first", maintain_order=True)
    thumbnails = np.frombuffer(b"".join(good["thumbnail"]), np.uint8).reshape(-1, THUMBNAIL_SIDE**2)
    shown = np.ptp(thumbnails, axis=1) > 0 if len(good) else np.zeros(0, bool)
    return good["row"].to_numpy()[shown].astype(np.int64), thumbnails[shown]


def _cluster(gallery: Gallery, least: float) -> tuple[list[list[int]], int]:
    """Stars of near pictures; in rounds, because a row whose copies outnumber its candidates does not see them all."""
    hashes = long_hashes(gallery.thumbnails)
    members: dict[int, list[int]] = {}
    pool = np.arange(len(gallery.thumbnails))
    candidates = 0
    for _ in range(_ROUNDS):
        if len(pool) < 2:
            break
        pairs = pool[propose_pairs(hashes[pool])]
        candidates += len(pairs)
        near = pairs[similarity(gallery, pairs, enough=least) >= least]
        stars = _stars(near)
        if not stars:
            break
        led = {}
        for star in stars:
            centre = max(star, key=lambda place: (len(members.get(place, ())), place == star[0], -place))
            led[centre] = sorted({row for place in star for row in (place, *members.pop(place, ()))} - {centre})
        links = np.array([(centre, row) for centre, rows in led.items() for row in rows])
        joins = similarity(gallery, links, enough=least) >= least
        for (centre, row), near_enough in zip(links.tolist(), joins.tolist(), strict=True):
            if near_enough:
                members.setdefault(centre, []).append(row)
        joined = {row for rows in members.values() for row in rows}
        pool = np.array(sorted(({*np.unique(near).tolist(), *np.unique(links).tolist()} - joined) | members.keys()))
    return [[centre, *rows] for centre, rows in sorted(members.items())], candidates


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
