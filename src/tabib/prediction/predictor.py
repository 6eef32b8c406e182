"""The one Predictor: what was judged is what is served.

It reads `model.json`, `decision.json` and the members' weights, and makes the test predictions of the road, those of
`tabib predict` and every other. Nothing is chosen here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from tabib.dataset import enough_side, fit_image, intensity_statistics
from tabib.engines import tame_allocator
from tabib.errors import RunError
from tabib.images import read_image
from tabib.metrics import apply_temperature
from tabib.records import LABEL_SEPARATOR, Decision, Model, PostProcessing, SegmentationModel
from tabib.runs import read_record
from tabib.training.batches import unit_range
from tabib.training.calibrate import load_networks
from tabib.training.inference import INFERENCE_BATCH, mean_of_members, say
from tabib.training.networks import Network

__all__ = ["Predictor", "prepare", "read_decided", "to_tensors"]


def prepare(path: Path, model: Model) -> np.ndarray:
    """An image file as the model's networks see it, (C, H, W) uint8 or uint16, decoded as the images it was trained on were.

    Needs no network, so other processes can do it. Raises `ImageError` where the file cannot be read.
    """
    image = read_image(path, least=enough_side(model.height, model.width))
    return fit_image(image, height=model.height, width=model.width, channels=model.channels, fit=model.fit)


def to_tensors(prepared: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Images as `prepare` gives them, of one shape, as float32 in 0..1 (B, C, H, W), and their statistics (B, 6)."""
    statistics = torch.from_numpy(np.stack([intensity_statistics(pixels) for pixels in prepared]))
    # One by one: 8 and 16 bits may stand side by side.
    return torch.cat([unit_range(torch.tensor(pixels)[None]) for pixels in prepared]), statistics


M = TypeVar("M", Model, SegmentationModel)
D = TypeVar("D", Decision, PostProcessing)


def read_decided(folder: Path, model: type[M], decision: type[D]) -> tuple[M, D]:
    """Read the model of a run and what was decided for its weights.

    Raises:
        RunError: a file is missing, or the decision was made for other weights.
    """
    for name in ("model.json", "decision.json"):
        if not (folder / name).exists():
            raise RunError(f"{folder} has no {name}: its run is not finished. Finish it with: tabib run STUDY")
    found, decided = read_record(folder / "model.json", model), read_record(folder / "decision.json", decision)
    if decided.weights_sha256 != [member.weights_sha256 for member in found.members]:
        raise RunError(
            f"{folder / 'decision.json'} was made for other weights than those of the model, which was trained again since and not judged. "
            "Finish its run with: tabib run STUDY"
        )
    return found, decided


@dataclass(frozen=True)
class Predictor:
    """A trained model with everything that was chosen after training."""

    model: Model
    decision: Decision
    networks: list[Network]

    @classmethod
    def load(cls, folder: Path, *, device: str | None = None, network: nn.Module | None = None) -> Self:
        """Load from the `model` folder of a run.

        Args:
            folder: holds `model.json`, `decision.json` and `members/`.
            device: "cpu" or "cuda"; a GPU where there is one if not given.
            network: the module of a model whose network is the user's own; its weights do not matter.

        Raises:
            RunError: a file is missing, or is not the one that belongs to the model; or the module is not.
            StudyError: the network is the user's own, and no module is given.
        """
        tame_allocator()
        model, decision = read_decided(folder, Model, Decision)
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls(model, decision, load_networks(model, folder, device=where, own=network))

    @property
    def classes(self) -> list[str]:
        """Names of the classes (or labels), in the order of the probabilities."""
        return self.decision.classes

    def predict(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        """Calibrated probabilities (N, C), float64, of images as `prepare` gives them. Of several labels each stands by itself."""
        answers = [self._predict(prepared[start : start + INFERENCE_BATCH]) for start in range(0, len(prepared), INFERENCE_BATCH)]
        return np.concatenate([np.empty((0, len(self.classes))), *answers])

    def answer(self, images: Tensor, statistics: Tensor) -> np.ndarray:
        """Calibrated probabilities (B, C) of images (B, channels, H, W) in 0..1 and their statistics (B, 6)."""
        logarithms = [
            say(network, images, statistics, intensity=self.model.intensity, several=self.model.several) for network in self.networks
        ]
        return self.decide([values.double().cpu().numpy() for values in logarithms])

    def decide(self, members: Sequence[np.ndarray]) -> np.ndarray:
        """Calibrated probabilities (N, C) from the logarithms of each member's, (N, C), or of several labels (N, C, 2)."""
        logarithms = mean_of_members(members)
        if self.decision.temperature is not None:
            return apply_temperature(logarithms, self.decision.temperature)
        each = zip(logarithms.swapaxes(0, 1), self.decision.temperatures, strict=True)
        return np.stack([apply_temperature(pair, temperature)[:, 1] for pair, temperature in each], axis=1)

    def name(self, probability: np.ndarray) -> list[str]:
        """The class of each row of calibrated probabilities (N, C), at the operating point, or its labels (`labels_of`)."""
        if self.model.several:
            present = probability >= self.decision.thresholds
            return [LABEL_SEPARATOR.join(np.array(self.classes)[row]) for row in present]
        threshold = self.decision.threshold
        numbers = probability.argmax(1) if threshold is None else (probability[:, 1] >= threshold).astype(int)
        return [self.classes[number] for number in numbers]

    def _predict(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        return self.answer(*to_tensors(prepared))
