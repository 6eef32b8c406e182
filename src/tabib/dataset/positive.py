"""Which of two classes is the one that is looked for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from tabib.errors import StudyError

__all__ = ["guess_positive", "positive_class"]

HEALTHY = frozenset(
    [
        "normal",
        "healthy",
        "health",
        "negative",
        "control",
        "controls",
        "benign",
        "clear",
        "uninfected",
        "unaffected",
        "0",
        "سالم",
        "طبیعی",
        "نرمال",
        "عادی",
        "منفی",
        "شاهد",
        "خوش\u200cخیم",
    ]
)
"""Words in a class name, in small letters, that say that what is looked for is absent."""

NEGATIONS = frozenset(["no", "not", "non", "without", "بدون", "غیر", "فاقد"])
"""Words that turn what the others say."""


def positive_class(given: str | None, classes: Sequence[str]) -> str | None:
    """The class that is looked for: the given one, or of two the one not named like health. None for more than two classes.

    Raises `StudyError` for a name that is no class, and for two names that do not say which of them is looked for.
    """
    if given is not None and given not in classes:
        near = difflib.get_close_matches(given, classes, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise StudyError(f"positive is {given!r}, and the classes are {', '.join(map(repr, classes))}{hint}")
    if len(classes) != 2:
        if given is not None:
            raise StudyError(
                f"positive is {given!r}, and there are {len(classes)} classes: a positive class needs two. Leave positive out."
            )
        return None
    found = given or guess_positive(classes)
    if found is None:
        first, second = sorted(classes)
        raise StudyError(
            f"Which class is looked for, {first!r} or {second!r}? Neither name says so, and sensitivity and specificity depend on it. "
            f"Write it into the study: positive: {second}"
        )
    return found


def guess_positive(classes: Sequence[str]) -> str | None:
    """Of two classes the one not named like health, where exactly one is; None otherwise."""
    ill = [name for name in classes if not _named_like_health(name)]
    return ill[0] if len(classes) == 2 and len(ill) == 1 else None


def _named_like_health(name: str) -> bool:
    words = set(re.findall(r"[^\W\d_]+(?:\u200c[^\W\d_]+)*|\d+", name.casefold()))
    return bool(words & HEALTHY) != bool(words & NEGATIONS)
