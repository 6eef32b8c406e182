"""Dividing units that must stay whole over parts, so that every class has its share in every part."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import numpy as np

__all__ = ["divide"]

_ATTEMPTS = 16
_DECIMALS = 9  # equal changes must be equal on every machine, or the draw would depend on how it rounds
_MOST_KINDS = 400  # pairs are weighed only where units are so few that single moves leave the shares uneven


def divide(
    counts: np.ndarray, names: Sequence[str], shares: Sequence[float], *, seed: str, rounding: Literal["floor", "nearest"] = "floor"
) -> np.ndarray | None:
    """Give each unit one part so that every class has its shares as nearly as moving and exchanging units can bring them.

    A unit starts where its hash falls on the shares laid end to end. Then, as long as moving one unit (or exchanging
    two) lowers the sum over classes and parts of (images - wanted)^2 / images of the class, the change that lowers it
    most is made. With one class, no two parts are in the end off by more, together, than the smallest unit of the part
    that has too many.

    Args:
        counts: (units, classes) images of each class in each unit.
        names: a name per unit; they, the seed and the counts decide the draw, the order of units does not.
        shares: of each part, above 0 and adding up to 1; equal ones ask for no whole numbers.
        seed: any text; another one is another draw.
        rounding: of the images wanted of a class. "floor" rounds down and gives the rest to the last part; "nearest" gives
            the rest to the largest remainders (Hamilton's method), so that no part is off by a whole image.

    Returns:
        (units,) part of each unit, or None where some class did not reach every part.
    """
    total = counts.sum(0)
    wanted = np.outer(total, shares)
    if len(set(shares)) > 1:
        wanted = _whole(wanted, total, rounding)
    for attempt in range(_ATTEMPTS):
        drawn = np.array([_uniform(f"{seed}|{attempt}|{name}") for name in names])
        start = np.searchsorted(np.cumsum(shares)[:-1], drawn, side="right")
        balance = _Balance(counts, start, drawn, wanted)
        while balance.move() or balance.exchange():
            pass
        if (balance.bearers > 0).all():
            return balance.part
    return None


def _whole(wanted: np.ndarray, total: np.ndarray, rounding: Literal["floor", "nearest"]) -> np.ndarray:
    """Whole numbers (classes, parts) that add up to the images of each class."""
    whole = np.floor(wanted + 1e-9)
    rest = total - whole.sum(1)
    if rounding == "floor":
        whole[:, -1] += rest
        return whole
    order = np.argsort(-(wanted - whole).round(_DECIMALS), axis=1, kind="stable")  # (classes, parts), largest remainder first
    rank = np.argsort(order, axis=1, kind="stable")
    return whole + (rank < rest[:, None])


class _Balance:
    """Units on their parts, and the changes that bring the classes nearer to what is wanted.

    Units with the same images of every class are interchangeable, so changes are weighed once per *kind* of unit.
    """

    def __init__(self, counts: np.ndarray, part: np.ndarray, drawn: np.ndarray, wanted: np.ndarray) -> None:
        self.part = part
        self._kinds, kind_of = np.unique(counts, axis=0, return_inverse=True)
        kind_of = kind_of.reshape(-1)  # numpy 2.0 gives it a second axis
        self._held: list[list[list[int]]] = [[[] for _ in wanted.T] for _ in self._kinds]
        for unit in np.argsort(-drawn, kind="stable").tolist():
            self._held[kind_of[unit]][part[unit]].append(unit)
        self._holds = np.array([[len(units) for units in row] for row in self._held])  # (kinds, parts) units
        self._present = (self._kinds > 0).astype(np.int64)
        self._off = self._kinds.T @ self._holds - wanted  # (classes, parts) images too many
        self.bearers = self._present.T @ self._holds  # (classes, parts) units that have the class
        self._weighed = self._kinds / counts.sum(0)
        self._shared = self._weighed @ self._kinds.T  # (kinds, kinds)
        self._empty = 2.0 * counts.sum() + 1  # a class missing in a part weighs more than any distance from its shares

    def move(self) -> bool:
        """Move the unit whose move lowers the sum most; False where none does."""
        pull = self._weighed @ self._off
        leave = pull - self._empty * (self._present @ (self.bearers == 1))
        enter = pull - self._empty * (self._present @ (self.bearers == 0))
        change = np.diag(self._shared)[:, None, None] - leave[:, :, None] + enter[:, None, :]  # (kinds, from, to)
        change = change.round(_DECIMALS)
        change[self._holds == 0] = np.inf
        change[:, range(len(pull.T)), range(len(pull.T))] = np.inf
        kind, source, target = np.unravel_index(np.argmin(change), change.shape)
        if change[kind, source, target] >= 0:
            return False
        self._carry(int(kind), int(source), int(target))
        return True

    def exchange(self) -> bool:
        """Exchange the two units whose exchange lowers the sum most; False where none does."""
        kinds, parts = self._holds.shape
        if kinds > _MOST_KINDS:
            return False
        pull = self._weighed @ self._off
        own = np.diag(self._shared)
        apart = own[:, None] + own - 2 * self._shared
        best = (0.0, 0, 0, 0, 0)
        for one, other in combinations(range(parts), 2):
            gained = pull[:, other] - pull[:, one]
            change = (apart + gained[:, None] - gained).round(_DECIMALS)
            change[self._holds[:, one] == 0] = np.inf
            change[:, self._holds[:, other] == 0] = np.inf
            while (lowest := change.min()) < best[0]:
                first, second = (int(kind) for kind in np.unravel_index(np.argmin(change), change.shape))
                change[first, second] = np.inf
                if self._all_stay(first, one, second, other):
                    best = (lowest, first, one, second, other)
        _, first, one, second, other = best
        if one == other:
            return False
        self._carry(first, one, other)
        self._carry(second, other, one)
        return True

    def _all_stay(self, first: int, one: int, second: int, other: int) -> bool:
        """Whether an exchange leaves no class without a unit where it had one."""
        gained = self._present[second] - self._present[first]
        return bool((self.bearers[:, one] + gained).all() and (self.bearers[:, other] - gained).all())

    def _carry(self, kind: int, source: int, target: int) -> None:
        unit = self._held[kind][source].pop()
        self._held[kind][target].append(unit)
        self.part[unit] = target
        for part, sign in ((source, -1), (target, 1)):
            self._holds[kind, part] += sign
            self._off[:, part] += sign * self._kinds[kind]
            self.bearers[:, part] += sign * self._present[kind]


def _uniform(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
