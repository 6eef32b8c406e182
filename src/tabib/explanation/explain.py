"""Explain answers: those of the test images that a report shows, and those to new images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from tabib.config import Explain, Study
from tabib.dataset import Cache, build_cache
from tabib.errors import StudyError
from tabib.evaluation.gallery import drawn
from tabib.explanation.feature_maps import draw_maps, feature_maps
from tabib.explanation.gradcam import gradcam, to_size
from tabib.explanation.layers import last_map
from tabib.explanation.neighbours import nearest
from tabib.explanation.occlusion import occlusion
from tabib.explanation.sanity import check_maps
from tabib.images import encode_png, lay_heat, resize
from tabib.prediction import Predictor
from tabib.prediction.folder import image_files, path_text, prepare_files
from tabib.prediction.predictor import to_tensors
from tabib.progress import SILENT, Advance, Progress
from tabib.records import Decision, Evaluation, Explained, Explanations, Finding, Likeness, Model, Neighbour, Typical
from tabib.runs import atomic_write
from tabib.training.batches import load_samples, normalise
from tabib.training.calibrate import load_networks
from tabib.training.examples import eight_bit
from tabib.training.inference import INFERENCE_BATCH, pool, pooled_features
from tabib.training.networks import Network
from tabib.training.session import running

__all__ = ["explain", "explain_paths"]

_SIDE = 160
"""Pictures are drawn with at least so many pixels along their longer side, as a report shows them."""

_ALIKE = 0.5
"""From this rank correlation on, either way, maps of trained and of random weights count as alike."""


def explain(
    model: Model,
    decision: Decision,
    index: pl.DataFrame,
    split: pl.DataFrame,
    predictions: pl.DataFrame,
    evaluation: Evaluation,
    study: Study,
    settings: Explain,
    *,
    place: Path,
    cache_folder: Path,
    own: nn.Module | None = None,
    progress: Progress = SILENT,
) -> Explanations:
    """Explain answers to test images: the most confident mistakes, the worst answers, and right ones drawn by chance.

    Answers of several labels are not explained, which a remark says.

    Args:
        model: trained.
        decision: made on validation rows.
        index: INDEX_SCHEMA.
        split: SPLIT_SCHEMA.
        predictions: `prediction_schema`.
        evaluation: of the predictions; the rows that it drew by chance are those on which the heat maps are checked.
        study: resolved.
        settings: its `explain`, which the hash of a study leaves out.
        place: the run's `model` folder; pictures go to `explanations` beside it, in place of those there.
        cache_folder: where decoded images are kept.
        own: the module of `network: own`.
        progress: told of decoding, images and remarks.

    Raises:
        StudyError: `explain.layers` names a layer that the network does not have, or that makes no maps.
    """
    folder = place.parent / "explanations"
    for old in folder.glob("*.png"):
        old.unlink()
    if model.several:
        return Explanations(images=[], remarks=[Finding(code="labels_not_explained", level="pass", figures={"labels": len(model.classes)})])
    blanks = _choose(predictions, evaluation, split, settings.images)
    if not blanks:
        return Explanations(images=[])
    assert study.training.threads != "auto"
    with running(study.training.device, threads=study.training.threads) as device:
        predictor = Predictor(model, decision, load_networks(model, place, device=device, own=own))
        cache = build_cache(study.data, index, study.input, folder=cache_folder, progress=progress)

        def load(rows: Sequence[int]) -> tuple[Tensor, Tensor]:
            table = pl.DataFrame({"row": rows}, schema={"row": pl.UInt32}).join(split, on="row", how="left", maintain_order="left")
            return load_samples(cache, table, classes=model.classes, device=device).load(np.arange(len(table)))[:2]

        explainer = _Explainer.of(predictor, split, cache, settings, folder)
        images, statistics = load([blank.row for blank in blanks if blank.row is not None])
        with progress.bar("explain", len(blanks)) as advance:
            explained = explainer.fill(blanks, images, statistics, advance=advance)
        maps = explainer.draw_layers(explained[0], images[:1], statistics[:1])
        likeness = explainer.check(*load(evaluation.random))
    remarks = [*_judge_maps(explainer.layer, likeness, len(evaluation.random)), *_judge_neighbours(explained, split)]
    for remark in remarks:
        progress.tell(remark)
    return Explanations(images=explained, layer=explainer.layer, likeness=likeness, feature_maps=maps, remarks=remarks)


def explain_paths(
    predictor: Predictor,
    paths: Sequence[Path],
    index: pl.DataFrame,
    split: pl.DataFrame,
    study: Study,
    *,
    folder: Path,
    cache_folder: Path,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> Explanations:
    """Explain the answers to new images, which are those of `predict_paths`.

    Args:
        predictor: a loaded model.
        paths: files, and folders of them.
        index: INDEX_SCHEMA, of the model's run.
        split: SPLIT_SCHEMA, of the run.
        study: of the run, resolved; its `explain`, of which `images` does not count here.
        folder: where the pictures are written, under the number of the image.
        cache_folder: where the decoded training images are kept.
        workers: processes that decode; the machine's cores if not given.
        progress: told of decoding and of each image.

    Raises:
        StudyError: a model of several labels.
        DataError: a folder that holds no files, or a training image that can no longer be read.
    """
    if predictor.model.several:
        raise StudyError("The model tells several labels of one image, and only answers that name one class are explained, so far.")
    files = image_files(paths, workers=workers, progress=progress)
    settings = study.explain
    cache = build_cache(study.data, index, study.input, folder=cache_folder, progress=progress) if settings.neighbours else None
    explainer = _Explainer.of(predictor, split, cache, settings, folder)
    explained: list[Explained] = []
    refused: dict[str, str] = {}
    maps: dict[str, str] = {}
    with progress.bar("explain", len(files)) as advance:
        for start in range(0, len(files), INFERENCE_BATCH):
            block = files[start : start + INFERENCE_BATCH]
            read = dict(zip(map(path_text, block), prepare_files(block, predictor.model, workers=workers), strict=True))
            refused |= {path: found for path, found in read.items() if isinstance(found, str)}
            good = {path: found for path, found in read.items() if not isinstance(found, str)}
            advance(len(read) - len(good))
            if good:
                images, statistics = to_tensors(list(good.values()))
                probability = predictor.answer(images, statistics)
                names = zip(good, predictor.name(probability), probability, strict=True)
                blanks = [
                    Explained(
                        row=None, path=path, chosen="given", label=None, predicted=name, probability=shares[predictor.classes.index(name)]
                    )
                    for path, name, shares in names
                ]
                explained += explainer.fill(blanks, images, statistics, advance=advance, first=len(explained))
                maps = maps or explainer.draw_layers(explained[0], images[:1], statistics[:1])
    return Explanations(images=explained, layer=explainer.layer, feature_maps=maps, refused=refused)


@dataclass(frozen=True)
class _Explainer:
    """What it takes to explain answers of one model."""

    predictor: Predictor
    layer: str | None  # whose maps Grad-CAM reads
    training: pl.DataFrame  # rows of the split
    features: list[np.ndarray]  # of the training images, of each member (N, F); none where no neighbours are wanted
    settings: Explain
    folder: Path  # of the pictures

    @classmethod
    def of(cls, predictor: Predictor, split: pl.DataFrame, cache: Cache | None, settings: Explain, folder: Path) -> Self:
        model, device = predictor.model, predictor.networks[0].mean.device
        blank = torch.zeros(1, model.channels, model.height, model.width, device=device)
        training = split.filter(pl.col("part") == "train")
        features = []
        if settings.neighbours and cache is not None:
            samples = load_samples(cache, training, classes=model.classes, device=device)
            features = [pooled_features(network, samples, intensity=model.intensity) for network in predictor.networks]
        return cls(predictor, last_map(predictor.networks[0], blank), training, features, settings, folder)

    def fill(self, blanks: Sequence[Explained], images: Tensor, statistics: Tensor, *, advance: Advance, first: int = 0) -> list[Explained]:
        """Explain up to `INFERENCE_BATCH` images (n, C, H, W) in 0..1; those that are in no row of the index are numbered from `first`."""
        number = {name: place for place, name in enumerate(self.predictor.classes)}
        predicted = [number[blank.predicted] for blank in blanks]
        truth = [number[blank.label or blank.predicted] for blank in blanks]
        height, width = _shown_size(images)
        heat = self.maps(self.predictor.networks, images, statistics, predicted, height, width)
        heat_of_truth = self.maps(self.predictor.networks, images, statistics, truth, height, width)
        neighbours = self._neighbours(images, statistics)
        explained = []
        for place, blank in enumerate(blanks):
            image = images[place].cpu()
            picture = resize(eight_bit(image), height, width)
            pictures, covered = {"image": picture}, None
            if self.layer is not None:
                pictures["gradcam"] = lay_heat(picture, heat[place])
                if truth[place] != predicted[place]:
                    pictures["gradcam_truth"] = lay_heat(picture, heat_of_truth[place])
            if self.settings.occlusion:
                fall, covered = occlusion(partial(self._answer, statistics[place]), image.numpy(), predicted[place])
                pictures["occlusion"] = lay_heat(picture, to_size([torch.from_numpy(fall)[None]], height, width)[0])
            stem = f"{first + place:04}" if blank.row is None else str(blank.row)
            files = {kind: self._write(f"{stem}_{kind}.png", pixels) for kind, pixels in pictures.items()}
            explained.append(blank.model_copy(update={"pictures": files, "covered": covered, "neighbours": neighbours[place]}))
            advance(1)
        return explained

    def maps(
        self, networks: Sequence[Network], images: Tensor, statistics: Tensor, classes: Sequence[int], height: int, width: int
    ) -> np.ndarray:
        """Grad-CAM's maps of the classes, (n, height, width) in 0..1; zeros where the network has no maps."""
        if self.layer is None:
            return np.zeros((len(images), height, width), np.float32)
        asked = torch.tensor(classes)
        heat = [gradcam(network, self._normalised(network, images, statistics), asked, layer=self.layer) for network in networks]
        return to_size(heat, height, width)

    def check(self, images: Tensor, statistics: Tensor) -> list[Likeness]:
        """How alike the maps of the predicted classes stay when weights become random."""
        if self.layer is None:
            return []
        predicted = [self.predictor.classes.index(name) for name in self.predictor.name(self.predictor.answer(images, statistics))]
        height, width = images.shape[2:]
        return check_maps(
            self.predictor.networks, lambda networks: self.maps(networks, images, statistics, predicted, height, width), seed=0
        )

    def draw_layers(self, shown: Explained, image: Tensor, statistics: Tensor) -> dict[str, str]:
        """Write the feature maps that the first member's layers make of one image, (1, C, H, W); the file by the layer."""
        network = self.predictor.networks[0]
        maps = feature_maps(network, self._normalised(network, image, statistics), self.settings.layers)
        stem = shown.pictures["image"].removesuffix("_image.png")
        return {
            name: self._write(f"{stem}_layer_{place}.png", draw_maps(each, side=_SIDE))
            for place, (name, each) in enumerate(maps.items(), start=1)
        }

    def _answer(self, statistics: Tensor, images: np.ndarray) -> np.ndarray:
        """Probabilities of altered views of one image; its statistics stay those of the image as it is."""
        return self.predictor.answer(torch.from_numpy(images), statistics.expand(len(images), -1))

    def _neighbours(self, images: Tensor, statistics: Tensor) -> list[list[Neighbour]]:
        if not self.features:
            return [[] for _ in images]
        asked = [pool(network, images, statistics, intensity=self.predictor.model.intensity) for network in self.predictor.networks]
        places, distances = nearest(self.features, [each.cpu().numpy() for each in asked], self.settings.neighbours)
        rows = [self.training[near.tolist()].iter_rows(named=True) for near in places]
        return [
            [
                Neighbour(row=row["row"], label=row["label"], group=row["group"], distance=float(distance))
                for row, distance in zip(near, far, strict=True)
            ]
            for near, far in zip(rows, distances, strict=True)
        ]

    def _normalised(self, network: Network, images: Tensor, statistics: Tensor) -> Tensor:
        return normalise(images, statistics, self.predictor.model.intensity, network)

    def _write(self, name: str, pixels: np.ndarray) -> str:
        with atomic_write(self.folder / name) as file:
            file.write(encode_png(pixels))
        return name


def _choose(predictions: pl.DataFrame, evaluation: Evaluation, split: pl.DataFrame, count: int) -> list[Explained]:
    """Which test images are explained, without an explanation yet."""
    test = predictions.filter((pl.col("part") == "test") & pl.col("predicted").is_not_null() & pl.col("label").is_in(evaluation.classes))
    rows = {row["row"]: row for row in test.iter_rows(named=True)}
    sure = {number: row[f"p_{row['predicted']}"] for number, row in rows.items()}
    mistakes = sorted((number for number, row in rows.items() if row["predicted"] != row["label"]), key=lambda number: -sure[number])
    right = drawn(
        [number for number, row in rows.items() if row["predicted"] == row["label"]], dict(zip(split["row"], split["content"], strict=True))
    )
    third = -(-count // 3)
    chosen: dict[int, Literal["mistake", "worst", "right"]] = dict.fromkeys(mistakes[:third], "mistake")
    chosen |= dict.fromkeys([number for number in evaluation.worst if number not in chosen][: min(third, count - len(chosen))], "worst")
    chosen |= dict.fromkeys([number for number in right if number not in chosen][: count - len(chosen)], "right")
    return [
        Explained(
            row=number,
            path=rows[number]["path"],
            chosen=why,
            label=rows[number]["label"],
            predicted=rows[number]["predicted"],
            probability=sure[number],
        )
        for number, why in chosen.items()
    ]


def _shown_size(images: Tensor) -> tuple[int, int]:
    """Height and width of the pictures."""
    height, width = images.shape[2:]
    scale = max(1.0, _SIDE / max(height, width))
    return round(height * scale), round(width * scale)


def _judge_maps(layer: str | None, likeness: Sequence[Likeness], images: int) -> list[Finding]:
    if layer is None:
        return [Finding(code="heat_maps_none", level="warn")]
    figures: dict[str, float | int | str | Typical] = {each.depth: each.rank_correlation for each in likeness}
    alike = next(each for each in likeness if each.depth == "all")
    figures |= {"images": images, "similarity": alike.structural_similarity}
    if abs(alike.rank_correlation) >= _ALIKE:  # two classes may also change places
        return [Finding(code="heat_maps_ignore_weights", level="warn", figures=figures)]
    return [Finding(code="heat_maps_change", level="pass", figures=figures)]


def _judge_neighbours(explained: Sequence[Explained], split: pl.DataFrame) -> list[Finding]:
    group = dict(zip(split["row"], split["group"], strict=True))
    rows = [each.row for each in explained if each.row is not None and any(near.group == group[each.row] for near in each.neighbours)]
    return [Finding(code="neighbours_same_group", level="warn", figures={"images": len(rows)}, rows=rows)] if rows else []
