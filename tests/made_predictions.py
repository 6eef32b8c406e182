"""Made-up predictions with a known truth."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import expit, softmax

from tabib.config import Data, Study
from tabib.records import INDEX_SCHEMA, SPLIT_SCHEMA, prediction_schema


def made_study(changes: dict[str, object] | None = None) -> Study:
    return Study.model_validate({"name": "made", "data": Data(folder=Path("films")), "evaluate": {"draws": 500}, **(changes or {})})


@dataclass(frozen=True)
class Made:
    """Groups of one to three rows; a score of known strength; every table that `evaluate` takes."""

    groups: dict[str, int] = field(default_factory=lambda: {"train": 80, "validation": 60, "test": 60})
    classes: Sequence[str] = ("NORMAL", "PNEUMONIA")
    shares: Sequence[float] | None = None
    signal: dict[str, float] = field(default_factory=lambda: {"validation": 3.0, "test": 3.0})  # distance of the classes' scores
    confounder: float = 0.0  # how often the width of an image tells its class
    patients: bool = True
    seed: int = 0

    def tables(self) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """Predictions, index, split."""
        generator, number = np.random.default_rng(self.seed), len(self.classes)
        index, split, predictions = [], [], []
        for part, groups in self.groups.items():
            signal = self.signal.get(part, 0.0)
            for group in range(groups):
                label = int(generator.choice(number, p=self.shares)) if group >= 2 * number else group % number
                own = generator.normal(0, 0.7, number)
                for _ in range(generator.integers(1, 4)):
                    row, noise = len(index), generator.normal(0, 0.7, number)
                    score = signal * (np.arange(number) == label) + own + noise
                    told = label if generator.random() < self.confounder else int(generator.integers(number))
                    name = f"{part}{group}" if self.patients else None
                    index.append(_index_row(row, self.classes[label], name, width=100 + 50 * told, mean=generator.random()))
                    split.append({"row": row, "path": f"{row}.png", "label": self.classes[label], "group": name, "part": part})
                    if part == "train":
                        continue
                    positive = float(expit(score[1] - score[0]))
                    chances = [1 - positive, positive] if number == 2 else softmax(score).tolist()
                    predictions.append(
                        {
                            "row": row,
                            "path": f"{row}.png",
                            "group": name,
                            "part": part,
                            "label": self.classes[label],
                            "predicted": self.classes[int(np.argmax(chances))],
                            "refused": None,
                            **{f"p_{each}": chance for each, chance in zip(self.classes, chances, strict=True)},
                        }
                    )
        return (
            pl.DataFrame(predictions, schema=prediction_schema(list(self.classes))),
            pl.DataFrame(index, schema=INDEX_SCHEMA),
            pl.DataFrame(
                [{"fold": None, "reason": None, "content": index[each["row"]]["content"], **each} for each in split], schema=SPLIT_SCHEMA
            ),
        )


def _index_row(row: int, label: str, group: str | None, *, width: int, mean: float) -> dict[str, object]:
    content = hashlib.sha256(str(row).encode()).hexdigest()
    facts = {
        "bytes": 5000,
        "format": "PNG",
        "height": 100,
        "width": width,
        "channels": 1,
        "bits": 8,
        "mode": "L",
        "mean": mean,
        "border": 0.0,
    }
    known = {"row": row, "path": f"{row}.png", "label": label, "group": group, "content": content, "pixels": content[::-1], **facts}
    return {name: known.get(name) for name in INDEX_SCHEMA}
