"""The levels of a network that sees an image coarser and coarser."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["strides_of"]

_DEEPEST, _LEAST = 5, 4  # levels, and points a side at the lowest


def strides_of(patch: Sequence[int], spacing_mm: Sequence[float] | None) -> list[tuple[int, ...]]:
    """By how much each level of a network halves each axis, the first level (1, 1) or (1, 1, 1) included.

    An axis is halved while it is even and that leaves it 4 points, and while its spacing is less than twice the finest: thick slices are not
    made coarser before rows and columns are as coarse (Isensee et al. 2021, nnU-Net).
    """
    sides, spacing = list(patch), list(spacing_mm or [1.0] * len(patch))
    strides = [(1,) * len(patch)]
    while len(strides) < _DEEPEST:
        long = [side % 2 == 0 and side // 2 >= _LEAST for side in sides]
        if not any(long):
            break
        finest = min(each for each, there in zip(spacing, long, strict=True) if there)
        step = tuple(2 if there and each < 2 * finest else 1 for each, there in zip(spacing, long, strict=True))
        strides.append(step)
        sides = [side // stride for side, stride in zip(sides, step, strict=True)]
        spacing = [each * stride for each, stride in zip(spacing, step, strict=True)]
    return strides
