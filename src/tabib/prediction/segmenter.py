"""The one predictor of masks: what was judged is what is served."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch

from tabib.dataset import Grid, prepare, seen_box
from tabib.engines import tame_allocator
from tabib.images import Volume, resample, scratch, slice_by_slice
from tabib.metrics.disagreement import disagreement
from tabib.metrics.objects import split_touching
from tabib.prediction.predictor import read_decided
from tabib.records import PostProcessing, SegmentationModel
from tabib.training.networks import Network
from tabib.training.segment_calibrate import load_segmenters, post_process
from tabib.training.windows import MIRRORED, mean_of, most_probable, segment

__all__ = ["Answer", "Segmenter", "as_grid"]


def as_grid(model: SegmentationModel) -> Grid:
    """How the model sees an image."""
    window = None if model.window is None else (model.window[0], model.window[1])
    spacing = None if model.spacing_mm is None else tuple(model.spacing_mm)
    return Grid(model.dimensions, spacing, model.channels, model.intensity, window, separate=bool(model.channel_names), crop=model.crop)


class Answer(NamedTuple):
    """What the members say of an image, together, and how far they differ."""

    probabilities: np.ndarray  # their mean on the grid of the image, (1 + S, D, H, W) float32: the background first
    disagreement: float | None  # `metrics.disagreement` of their masks, before post-processing; None of one answer alone


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

    def answer(self, image: Volume) -> Answer:
        """What the members say. One member alone is held against itself on the mirrored images, where the study has these predicted."""
        grid = as_grid(self.model)
        prepared = torch.from_numpy(prepare(image, grid))
        mirrored = MIRRORED if self.decision.flips else MIRRORED[:1]
        each = [(axes,) for axes in mirrored] if len(self.networks) == 1 else [mirrored]
        masks: list[np.ndarray] = []

        def answers() -> Iterator[torch.Tensor]:
            for network, axes in product(self.networks, each):
                answer = segment(network, prepared, patch=self.model.patch, mirrored=axes)
                masks.append(most_probable(answer.numpy()))
                yield answer

        box = seen_box(image, grid)
        shape = tuple(part.stop - part.start for part in box)
        mean = resample(mean_of(answers()).numpy(), shape)
        if shape != image.voxels.shape[:3]:  # what was not seen is background
            seen, mean = mean, scratch((len(mean), *image.voxels.shape[:3]), mean.dtype)
            mean[0] = 1
            mean[(slice(None), *box)] = seen
        return Answer(mean, disagreement(masks, len(self.model.structures)))

    def probabilities(self, image: Volume) -> np.ndarray:
        """Mean probabilities of the members, as in `Answer`."""
        return self.answer(image).probabilities

    def labels(self, probabilities: np.ndarray) -> np.ndarray:
        """What is where, (D, H, W) uint8: 0, or the number of the structure in the model, after post-processing."""
        return post_process(most_probable(probabilities), self.decision)

    def objects(self, labels: np.ndarray) -> np.ndarray:
        """The objects of a model of `instances`, (D, H, W) uint16: each slice's parts, divided where they touch, numbered from 1."""
        return slice_by_slice(lambda said: split_touching(said > 0, smallest=self.decision.smallest_object), labels, dtype=np.uint16)

    def mask(self, probabilities: np.ndarray) -> np.ndarray:
        """The mask of an image, (D, H, W): structures uint8, or objects uint16."""
        labels = self.labels(probabilities)
        return self.objects(labels) if self.model.instances else labels

    def segment(self, image: Volume) -> np.ndarray:
        """The mask of an image, as `mask` gives it."""
        return self.mask(self.probabilities(image))
