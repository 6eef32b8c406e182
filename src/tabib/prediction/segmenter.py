"""The one predictor of masks: what was judged is what is served."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from tabib.dataset import Grid, prepare
from tabib.engines import tame_allocator
from tabib.images import Volume, resample
from tabib.metrics.objects import split_touching
from tabib.prediction.predictor import read_decided
from tabib.records import PostProcessing, SegmentationModel
from tabib.training.networks import Network
from tabib.training.segment_calibrate import load_segmenters, post_process
from tabib.training.windows import segment

__all__ = ["Segmenter", "as_grid"]


def as_grid(model: SegmentationModel) -> Grid:
    """How the model sees an image."""
    window = None if model.window is None else (model.window[0], model.window[1])
    spacing = None if model.spacing_mm is None else tuple(model.spacing_mm)
    return Grid(model.dimensions, spacing, model.channels, model.intensity, window)


@dataclass(frozen=True)
class Segmenter:
    """A trained model with everything that was chosen after training."""

    model: SegmentationModel
    decision: PostProcessing
    networks: list[Network]

    @classmethod
    def load(cls, folder: Path, *, device: str | None = None) -> Self:
        """Load from the `model` folder of a run, onto "cpu" or "cuda" (a GPU where there is one if not given).

        Raises:
            RunError: a file is missing, or is not the one that belongs to the model.
        """
        tame_allocator()
        model, decision = read_decided(folder, SegmentationModel, PostProcessing)
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls(model, decision, load_segmenters(model, folder, device=where))

    def probabilities(self, image: Volume) -> np.ndarray:
        """Mean probabilities of the members on the grid of the image, (1 + S, D, H, W) float32: the background first."""
        prepared = torch.from_numpy(prepare(image, as_grid(self.model)))
        answers = [segment(network, prepared, patch=self.model.patch, flips=self.decision.flips) for network in self.networks]
        shape = image.voxels.shape[:3]
        return resample(torch.stack(answers).mean(0).numpy(), (shape[0], shape[1], shape[2]))

    def labels(self, probabilities: np.ndarray) -> np.ndarray:
        """What is where, (D, H, W) uint8: 0, or the number of the structure in the model, after post-processing."""
        return post_process(probabilities.argmax(0).astype(np.uint8), self.decision)

    def objects(self, labels: np.ndarray) -> np.ndarray:
        """The objects of a model of `instances`, (D, H, W) uint16: each slice's parts, divided where they touch, numbered from 1."""
        found = np.zeros(labels.shape, np.uint16)
        for slice_, target in zip(labels, found, strict=True):
            target[...] = split_touching(slice_ > 0, smallest=self.decision.smallest_object)
        return found

    def mask(self, probabilities: np.ndarray) -> np.ndarray:
        """The mask of an image, (D, H, W): structures uint8, or objects uint16."""
        labels = self.labels(probabilities)
        return self.objects(labels) if self.model.instances else labels

    def segment(self, image: Volume) -> np.ndarray:
        """The mask of an image, as `mask` gives it."""
        return self.mask(self.probabilities(image))
