"""Choose what is done with a segmenter's masks on validation images, before any test image is predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import torch

from tabib.config import Segmentation
from tabib.config import SegmentationModel as Part
from tabib.dataset import CaseCache, build_cases, read_case
from tabib.images import fill_holes, keep_largest
from tabib.progress import SILENT, Progress
from tabib.records import PostProcessing, SegmentationModel
from tabib.training.members import weights_of
from tabib.training.networks import Network
from tabib.training.segmenters import Form, build_segmenter
from tabib.training.session import running
from tabib.training.windows import MIRRORED, mean_of, most_probable, segment

__all__ = ["calibrate_masks", "load_segmenters", "member_rows", "post_process"]


def calibrate_masks(
    model: SegmentationModel,
    index: pl.DataFrame,
    split: pl.DataFrame,
    study: Segmentation,
    *,
    place: Path,
    cache_folder: Path,
    progress: Progress = SILENT,
) -> PostProcessing:
    """Choose the post-processing: for each structure what raises its mean Dice over the validation images.

    Of many objects none is the largest part of all, which is not tried. The smallest that counts is read off the validation masks. Under folds every image is answered by the members that did not
    train on it. Arguments as `calibrate` of a classifier.
    """
    assert study.training.threads != "auto"
    asked = study.calibrate
    maps: list[tuple[np.ndarray, np.ndarray]] = []
    groups: set[str] = set()
    with running(study.training.device, threads=study.training.threads) as device:
        networks = load_segmenters(model, place, device=device)
        cases = build_cases(study.data, index, study.input, folder=cache_folder, progress=progress)
        parts = list(member_rows(model, networks, split))
        with progress.bar("decision", sum(len(rows) for rows, _ in parts)) as advance:
            for rows, members in parts:
                for row, group in rows.select("row", "group").iter_rows():
                    probability = predict_case(members, cases, row, patch=model.patch, flips=asked.flips)
                    maps.append((most_probable(probability), cases.mask(row)))
                    groups.add(group)
                    advance(1)
    before = _dice(maps, model.structures)
    chosen: dict[str, list[str]] = {"largest_component": [], "fill_holes": []}
    for step, change in _STEPS.items():
        wanted = False if model.instances and change is keep_largest else getattr(asked, step)
        for number, name in enumerate(model.structures, start=1):
            changed = [(change(said, number), truth) for said, truth in maps]
            if wanted is True or (wanted == "auto" and _better(changed, maps, number)):
                chosen[step].append(name)
                maps = changed
    return PostProcessing(
        structures=model.structures,
        **chosen,
        flips=asked.flips,
        smallest_object=_smallest(study, index, [row for rows, _ in parts for row in rows["row"]]) if model.instances else 1,
        weights_sha256=[member.weights_sha256 for member in model.members],
        validation_rows=len(maps),
        validation_groups=len(groups),
        dice_before=before,
        dice_after=_dice(maps, model.structures),
    )


_STEPS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {"largest_component": keep_largest, "fill_holes": fill_holes}
"""In the order in which they are done."""


def post_process(labels: np.ndarray, decision: PostProcessing) -> np.ndarray:
    """A map of structures (D, H, W) after everything that was chosen."""
    for step, change in _STEPS.items():
        for name in getattr(decision, step):
            labels = change(labels, decision.structures.index(name) + 1)
    return labels


def predict_case(networks: list[Network], cases: CaseCache, row: int, *, patch: list[int], flips: bool) -> np.ndarray:
    """Mean probabilities of the members, (1 + S, D, H, W) float32, on the grid of the prepared case."""
    image = torch.from_numpy(cases.image(row))
    mirrored = MIRRORED if flips else MIRRORED[:1]
    return mean_of(segment(network, image, patch=patch, mirrored=mirrored) for network in networks).numpy()


def member_rows(model: SegmentationModel, networks: list[Network], split: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, list[Network]]]:
    """Validation rows, and the members that did not train on them: of folds, each fold's."""
    for fold in sorted({member.fold for member in model.members}, key=lambda fold: -1 if fold is None else fold):
        rows = split.filter(pl.col("part") == "validation" if fold is None else (pl.col("part") == "train") & (pl.col("fold") == fold))
        yield rows, [network for member, network in zip(model.members, networks, strict=True) if member.fold == fold]


def load_segmenters(model: SegmentationModel, place: Path, *, device: torch.device) -> list[Network]:
    """The members' networks with their trained weights, ready to predict.

    Raises `RunError` where a file of weights is missing, or is not the one that was trained.
    """
    part = Part(
        network=model.network,  # pyright: ignore[reportArgumentType] - as it was written
        encoder=model.encoder,
        filters=model.filters if model.filters and not model.encoder else "auto",
        norm=model.norm,
        dropout=model.dropout,
        deep_supervision=model.deep_supervision,
    )
    spacing = tuple(model.spacing_mm) if model.spacing_mm else None
    form = Form(model.channels, 1 + len(model.structures), tuple(model.patch), spacing)
    networks = []
    for member in model.members:
        network, _ = build_segmenter(part, form)
        network.load_state_dict(weights_of(place, member))
        network.to(device=device, memory_format=network.layout)  # pyright: ignore[reportCallIssue]
        networks.append(network.requires_grad_(False).eval())
    return networks


def _smallest(study: Segmentation, index: pl.DataFrame, rows: list[int]) -> int:
    """Half of what all but a hundredth of the objects of the validation images have, in pixels of the image."""
    paths = {row: (path, mask) for row, path, mask in index.select("row", "path", "mask").iter_rows()}
    sizes = [np.bincount(objects.ravel())[1:] for row in rows if (objects := read_case(study.data, *paths[row]).objects) is not None]
    present = np.concatenate([np.zeros(0), *sizes])
    return max(1, int(np.quantile(present[present > 0], 0.01) / 2)) if present.any() else 1


def _better(changed: list[tuple[np.ndarray, np.ndarray]], maps: list[tuple[np.ndarray, np.ndarray]], number: int) -> bool:
    return _mean_dice(changed, number) > _mean_dice(maps, number) + 1e-6


def _dice(maps: list[tuple[np.ndarray, np.ndarray]], structures: list[str]) -> dict[str, float | None]:
    found = {name: _mean_dice(maps, number) for number, name in enumerate(structures, start=1)}
    return {name: None if np.isnan(value) else value for name, value in found.items()}


def _mean_dice(maps: list[tuple[np.ndarray, np.ndarray]], number: int) -> float:
    """Mean over the images in which the structure is, or was said to be."""
    values = []
    for said, truth in maps:
        mine, real = said == number, truth == number
        if total := int(mine.sum()) + int(real.sum()):
            values.append(2 * int((mine & real).sum()) / total)
    return float(np.mean(values)) if values else float("nan")
