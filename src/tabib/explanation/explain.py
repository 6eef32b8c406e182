"""Explain answers: those of the test images that a report shows, and those to new images."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

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
from tabib.explanation.sanity import MapCheck, check_maps, is_flat
from tabib.images import encode_png, lay_heat, resize
from tabib.prediction import Predictor
from tabib.prediction.folder import image_files, path_text, prepare_files
from tabib.prediction.predictor import to_tensors
from tabib.progress import SILENT, Advance, Progress
from tabib.records import Decision, Evaluation, Explained, Explanations, Finding, Model, Neighbour, OfLabel, Typical, labels_of
from tabib.runs import atomic_write
from tabib.training.batches import load_samples, normalise
from tabib.training.calibrate import load_networks
from tabib.training.examples import eight_bit
from tabib.training.inference import INFERENCE_BATCH, kind_of_features, pool, pooled_features
from tabib.training.networks import Network
from tabib.training.session import running

__all__ = ["explain", "explain_paths"]

_SIDE = 160
"""Pictures are drawn with at least so many pixels along their longer side, as a report shows them."""

_ALIKE = 0.5
"""From this rank correlation on, either way, maps of trained and of random weights count as alike."""

_COMPARED = 0.5
"""A smaller share of maps that can be compared says nothing of all."""


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
    labels: Sequence[str] = (),
    own: nn.Module | None = None,
    progress: Progress = SILENT,
) -> Explanations:
    """Explain answers to test images: the most confident mistakes, the worst answers, and right ones drawn by chance.

    Of several labels each answer is explained label by label: those that the image has or was given, or else the likeliest.

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
        labels: of several labels those to ask about, in place of the image's own.
        own: the module of `network: own`.
        progress: told of decoding, images and remarks.

    Raises:
        StudyError: `explain.layers` names a layer that the network does not have, or that makes no maps; or a label is none.
    """
    _check_labels(model, labels)
    folder = place.parent / "explanations"
    for old in folder.glob("*.png"):
        old.unlink()
    blanks = _choose(predictions, model, labels, evaluation, split, settings.images)
    if not blanks:
        return Explanations(images=[])
    assert study.training.threads != "auto"
    with running(study.training.device, threads=study.training.threads) as device:
        predictor = Predictor(model, decision, load_networks(model, place, device=device, own=own))
        cache = build_cache(study.data, index, study.input, folder=cache_folder, progress=progress)

        def load(rows: Sequence[int]) -> tuple[Tensor, Tensor]:
            table = pl.DataFrame({"row": rows}, schema={"row": pl.UInt32}).join(split, on="row", how="left", maintain_order="left")
            samples = load_samples(cache, table, classes=model.classes, device=device, several=model.several)
            return samples.load(np.arange(len(table)))[:2]

        explainer = _Explainer.of(predictor, split, cache, settings, folder, labels)
        images, statistics = load([blank.row for blank in blanks if blank.row is not None])
        with progress.bar("explain", len(blanks)) as advance:
            explained = explainer.fill(blanks, images, statistics, advance=advance)
        maps = explainer.draw_layers(explained[0], images[:1], statistics[:1])
        checked = explainer.check(*load(evaluation.random))
    remarks = [*_judge_maps(checked, evaluation.remarks), *_judge_neighbours(explained, split, settings)]
    for remark in remarks:
        progress.tell(remark)
    return Explanations(
        images=explained,
        layer=explainer.layer,
        features=explainer.kind,
        likeness=checked.likeness if checked else [],
        feature_maps=maps,
        remarks=remarks,
    )


def explain_paths(
    predictor: Predictor,
    paths: Sequence[Path],
    index: pl.DataFrame,
    split: pl.DataFrame,
    study: Study,
    *,
    folder: Path,
    cache_folder: Path,
    labels: Sequence[str] = (),
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
        labels: of several labels those to ask about, in place of those that the model gives an image.
        workers: processes that decode; the machine's cores if not given.
        progress: told of decoding and of each image.

    Raises:
        StudyError: a label that the model does not know.
        DataError: a folder that holds no files, or a training image that can no longer be read.
    """
    _check_labels(predictor.model, labels)
    files = image_files(paths, workers=workers, progress=progress)
    settings = study.explain
    cache = build_cache(study.data, index, study.input, folder=cache_folder, progress=progress) if settings.neighbours else None
    explainer = _Explainer.of(predictor, split, cache, settings, folder, labels)
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
                    _blank(predictor.model, labels, chosen="given", row=None, path=path, label=None, predicted=name, shares=shares.tolist())
                    for path, name, shares in names
                ]
                explained += explainer.fill(blanks, images, statistics, advance=advance, first=len(explained))
                maps = maps or explainer.draw_layers(explained[0], images[:1], statistics[:1])
    return Explanations(images=explained, layer=explainer.layer, features=explainer.kind, feature_maps=maps, refused=refused)


@dataclass(frozen=True)
class _Explainer:
    """What it takes to explain answers of one model."""

    predictor: Predictor
    layer: str | None  # whose maps Grad-CAM reads
    training: pl.DataFrame  # rows of the split
    features: list[np.ndarray]  # of the training images, of each member (N, F); none where no neighbours are wanted
    kind: Literal["pooled", "last_linear", "logits"]  # of these features
    settings: Explain
    folder: Path  # of the pictures
    labels: Sequence[str]  # that are asked about in place of the image's own

    @classmethod
    def of(
        cls, predictor: Predictor, split: pl.DataFrame, cache: Cache | None, settings: Explain, folder: Path, labels: Sequence[str]
    ) -> Self:
        model, device = predictor.model, predictor.networks[0].mean.device
        blank = torch.zeros(1, model.channels, model.height, model.width, device=device)
        training = split.filter(pl.col("part") == "train")
        features = []
        if settings.neighbours and cache is not None:
            samples = load_samples(cache, training, classes=model.classes, device=device, several=model.several)
            features = [pooled_features(network, samples, intensity=model.intensity) for network in predictor.networks]
        kind = kind_of_features(predictor.networks[0], blank)
        return cls(predictor, last_map(predictor.networks[0], blank), training, features, kind, settings, folder, labels)

    def fill(self, blanks: Sequence[Explained], images: Tensor, statistics: Tensor, *, advance: Advance, first: int = 0) -> list[Explained]:
        """Explain up to `INFERENCE_BATCH` images (n, C, H, W) in 0..1; those that are in no row of the index are numbered from `first`."""
        asked = [self._asked(blank) for blank in blanks]
        height, width = _shown_size(images)
        pairs = [(place, target) for place, targets in enumerate(asked) for target in targets]
        heat = dict(zip(pairs, self.maps(self.predictor.networks, images, statistics, pairs, height, width), strict=True))
        neighbours = self._neighbours(images, statistics)
        explained = []
        for place, (blank, targets) in enumerate(zip(blanks, asked, strict=True)):
            image = images[place].cpu()
            picture = resize(eight_bit(image), height, width)
            stem = f"{first + place:04}" if blank.row is None else str(blank.row)
            found: dict[str, Any] = {"pictures": {"image": self._write(f"{stem}_image.png", picture)}, "neighbours": neighbours[place]}
            draw = partial(self._draw, picture, image, statistics[place])
            if blank.labels:
                found["labels"] = []
                for each, target in zip(blank.labels, targets, strict=True):
                    files, covered, flat = draw(target, {"gradcam": heat[place, target]}, stem=f"{stem}_{target}")
                    found["labels"].append(each.model_copy(update={"pictures": files, "covered": covered, "flat": flat}))
            else:
                kinds = zip(("gradcam", "gradcam_truth"), targets, strict=False)
                files, found["covered"], found["flat"] = draw(targets[0], {kind: heat[place, target] for kind, target in kinds}, stem=stem)
                found["pictures"] |= files
            explained.append(blank.model_copy(update=found))
            advance(1)
        return explained

    def _asked(self, blank: Explained) -> list[int]:
        """Numbers of the classes that an image is asked about: the answer, and of a mistake the truth; or of its labels."""
        names = [each.name for each in blank.labels] or dict.fromkeys([blank.predicted, blank.label or blank.predicted])
        return [self.predictor.classes.index(name) for name in names]

    def _draw(
        self, picture: np.ndarray, image: Tensor, statistics: Tensor, target: int, heat: Mapping[str, np.ndarray], *, stem: str
    ) -> tuple[dict[str, str], float | None, list[str]]:
        """Write the heat maps of an image over its picture, and what covering it costs a class; the files, what that leaves, the flat maps."""
        pictures = {kind: lay_heat(picture, each) for kind, each in heat.items()} if self.layer is not None else {}
        left = None
        if self.settings.occlusion:
            fall, left = occlusion(partial(self._answer, statistics), image.numpy(), target)
            pictures["occlusion"] = lay_heat(picture, to_size([torch.from_numpy(fall)[None]], *picture.shape[:2])[0])
        files = {kind: self._write(f"{stem}_{kind}.png", pixels) for kind, pixels in pictures.items()}
        return files, left, [kind for kind, each in heat.items() if kind in files and is_flat(each)]

    def maps(
        self, networks: Sequence[Network], images: Tensor, statistics: Tensor, pairs: Sequence[tuple[int, int]], height: int, width: int
    ) -> np.ndarray:
        """Grad-CAM's maps of pairs of an image and a class, (n, height, width) in 0..1; zeros where the network has no maps."""
        if self.layer is None:
            return np.zeros((len(pairs), height, width), np.float32)
        found = []
        for start in range(0, len(pairs), INFERENCE_BATCH):
            places, targets = torch.tensor(pairs[start : start + INFERENCE_BATCH]).T
            shown, told = images[places], statistics[places]
            heat = [
                gradcam(
                    network,
                    self._normalised(network, shown, told),
                    targets,
                    layer=self.layer,
                    several=self.predictor.model.several,
                )
                for network in networks
            ]
            found.append(to_size(heat, height, width))
        return np.concatenate(found)

    def check(self, images: Tensor, statistics: Tensor) -> MapCheck | None:
        """How alike the maps of the answers stay when weights become random; `None` where the network has no maps."""
        if self.layer is None:
            return None
        probability = self.predictor.answer(images, statistics)
        answers = zip(self.predictor.name(probability), probability.tolist(), strict=True)
        blanks = [
            _blank(self.predictor.model, self.labels, chosen="given", row=None, path="", label=None, predicted=name, shares=shares)
            for name, shares in answers
        ]
        pairs = [(place, target) for place, blank in enumerate(blanks) for target in self._asked(blank)]
        height, width = images.shape[2:]
        return check_maps(self.predictor.networks, lambda networks: self.maps(networks, images, statistics, pairs, height, width), seed=0)

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
                if np.isfinite(distance)
            ]
            for near, far in zip(rows, distances, strict=True)
        ]

    def _normalised(self, network: Network, images: Tensor, statistics: Tensor) -> Tensor:
        return normalise(images, statistics, self.predictor.model.intensity, network)

    def _write(self, name: str, pixels: np.ndarray) -> str:
        with atomic_write(self.folder / name) as file:
            file.write(encode_png(pixels))
        return name


def _check_labels(model: Model, labels: Sequence[str]) -> None:
    if labels and not model.several:
        raise StudyError("The run tells one class of an image, which is what is explained; a label is asked for in runs of several labels.")
    for name in labels:
        if name not in model.classes:
            near = difflib.get_close_matches(name, model.classes, n=1, cutoff=0.5)
            raise StudyError(
                f"The model knows no label {name}. {f'Did you mean {near[0]}? ' if near else ''}There are: {', '.join(model.classes)}."
            )


def _blank(
    model: Model,
    labels: Sequence[str],
    *,
    chosen: Literal["mistake", "worst", "right", "given"],
    row: int | None,
    path: str,
    label: str | None,
    predicted: str,
    shares: Sequence[float],
) -> Explained:
    """An answer without an explanation yet. `labels` are those to ask about in place of the image's own; `shares` its probabilities."""
    probability = dict(zip(model.classes, shares, strict=True))
    if not model.several:
        return Explained(row=row, path=path, chosen=chosen, label=label, predicted=predicted, probability=probability[predicted])
    said, there = (labels_of(text, several=True) for text in (predicted, label))
    shown = labels or [name for name in model.classes if name in said or name in there] or [max(probability, key=probability.__getitem__)]
    asked = [
        OfLabel(name=name, said=name in said, there=None if label is None else name in there, probability=probability[name])
        for name in shown
    ]
    return Explained(row=row, path=path, chosen=chosen, label=label, predicted=predicted, probability=None, labels=asked)


def _choose(
    predictions: pl.DataFrame, model: Model, labels: Sequence[str], evaluation: Evaluation, split: pl.DataFrame, count: int
) -> list[Explained]:
    """Which test images are explained, without an explanation yet."""
    judged = pl.col("label").is_not_null() if model.several else pl.col("label").is_in(model.classes)
    test = predictions.filter((pl.col("part") == "test") & pl.col("predicted").is_not_null() & judged)
    rows = {row["row"]: row for row in test.iter_rows(named=True)}
    sure = {number: found for number, row in rows.items() if (found := _sure_mistake(row, model, labels)) is not None}
    mistakes = sorted(sure, key=lambda number: -sure[number])
    right = drawn([number for number in rows if number not in sure], dict(zip(split["row"], split["content"], strict=True)))
    third = -(-count // 3)
    chosen: dict[int, Literal["mistake", "worst", "right"]] = dict.fromkeys(mistakes[:third], "mistake")
    chosen |= dict.fromkeys([number for number in evaluation.worst if number not in chosen][: min(third, count - len(chosen))], "worst")
    chosen |= dict.fromkeys([number for number in right if number not in chosen][: count - len(chosen)], "right")
    return [
        _blank(
            model,
            labels,
            chosen=why,
            row=number,
            path=rows[number]["path"],
            label=rows[number]["label"],
            predicted=rows[number]["predicted"],
            shares=[rows[number][f"p_{name}"] for name in model.classes],
        )
        for number, why in chosen.items()
    ]


def _sure_mistake(row: Mapping[str, Any], model: Model, labels: Sequence[str]) -> float | None:
    """How sure the model was of a mistake, of several labels of the surest, among `labels` if given; `None` where it is right."""
    if not model.several:
        return None if row["predicted"] == row["label"] else row[f"p_{row['predicted']}"]
    said, there = (set(labels_of(row[column], several=True)) for column in ("predicted", "label"))
    wrong = (said ^ there) & set(labels or model.classes)
    return max((row[f"p_{name}"] if name in said else 1 - row[f"p_{name}"] for name in wrong), default=None)


def _shown_size(images: Tensor) -> tuple[int, int]:
    """Height and width of the pictures."""
    height, width = images.shape[2:]
    scale = max(1.0, _SIDE / max(height, width))
    return round(height * scale), round(width * scale)


def _judge_maps(checked: MapCheck | None, judged: Sequence[Finding]) -> list[Finding]:
    """What the check shows. `judged` are the remarks on the model: maps of one that is not shown to see anything explain nothing."""
    if checked is None:
        return [Finding(code="heat_maps_none", level="warn")]
    counts = {"maps": checked.maps, "flat": checked.flat, "compared": checked.compared}
    found = [Finding(code="heat_maps_flat", level="warn", figures={**counts})] if checked.flat else []
    if not checked.compared or checked.compared < _COMPARED * checked.maps:
        return [*found, Finding(code="heat_maps_unchecked", level="warn", figures={**counts})]
    figures: dict[str, float | int | str | Typical] = {each.depth: each.rank_correlation for each in checked.likeness}
    alike = next(each for each in checked.likeness if each.depth == "all")
    figures["compared"] = checked.compared
    if abs(alike.rank_correlation) >= _ALIKE:  # two classes may also change places
        return [*found, Finding(code="heat_maps_ignore_weights", level="warn", figures=figures)]
    codes = {remark.code for remark in judged}
    if "better_than_baselines" in codes and "not_better_than_baseline" not in codes:
        return [*found, Finding(code="heat_maps_change", level="pass", figures=figures)]
    return [*found, Finding(code="heat_maps_of_unproven_model", level="warn", figures=figures)]


def _judge_neighbours(explained: Sequence[Explained], split: pl.DataFrame, settings: Explain) -> list[Finding]:
    found = []
    if settings.neighbours and (rows := [each.row for each in explained if each.row is not None and not each.neighbours]):
        found.append(Finding(code="neighbours_none", level="warn", figures={"images": len(rows)}, rows=rows))
    group = dict(zip(split["row"], split["group"], strict=True))
    rows = [each.row for each in explained if each.row is not None and any(near.group == group[each.row] for near in each.neighbours)]
    if rows:
        found.append(Finding(code="neighbours_same_group", level="warn", figures={"images": len(rows)}, rows=rows))
    return found
