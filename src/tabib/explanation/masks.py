"""Show what a segmenter makes of images: the probability of each structure, where it is unsure, and the feature maps of its levels."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from tabib.config import Segmentation, SegmentationExplain
from tabib.dataset import prepare, read_case, seen_box, slice_image
from tabib.errors import DataError, ImageError, StudyError
from tabib.explanation.feature_maps import draw_maps, level_maps
from tabib.images import Volume, box_around, drawn_size, encode_png, lay_heat, overlay, resize, to_eight_bit
from tabib.prediction import Segmenter, entropy_of, gather
from tabib.prediction.folder import files_of
from tabib.prediction.segmenter import as_grid
from tabib.progress import SILENT, Progress
from tabib.records import LABEL_SEPARATOR, Explained, Explanations, OfLabel, SegmentationEvaluation, labels_of
from tabib.runs import atomic_write
from tabib.training.session import running

__all__ = ["explain_mask_paths", "explain_masks"]

_SIDE = 160
"""Pictures are drawn with so many pixels along their longer side, as a report shows them."""

_BEST = 4
"""Of so many test images that are explained one is a best one, by the mean Dice, and the others are the worst."""


def explain_masks(
    index: pl.DataFrame,
    evaluation: SegmentationEvaluation,
    study: Segmentation,
    settings: SegmentationExplain,
    *,
    place: Path,
    structures: Sequence[str] = (),
    progress: Progress = SILENT,
) -> Explanations:
    """Show how the masks of test images came about: of those with the lowest mean Dice, and of one in four with the highest.

    Args:
        index: INDEX_SCHEMA.
        evaluation: of the test images.
        study: resolved.
        settings: its `explain`, which the hash of a study leaves out.
        place: the run's `model` folder; pictures go to `explanations` beside it, in place of those there.
        structures: those to show; all when not given.
        progress: told of each image.

    Raises:
        StudyError: a structure that the model does not know.
        DataError: an image that could be read when it was indexed no longer can.
    """
    folder = place.parent / "explanations"
    for old in folder.glob("*.png"):
        old.unlink()
    cases = [case for part in evaluation.parts if part.part == "test" for case in part.cases]
    ranked = [row for _, row in sorted((case.dice, case.row) for case in cases if case.dice is not None)]
    best = settings.images // _BEST
    worst = ranked[: settings.images - best]
    chosen = list(dict.fromkeys([*worst, *ranked[len(ranked) - best :]]))
    if not chosen:
        return Explanations(images=[])
    drawer = _Drawer.of(Segmenter.load(place), folder, structures)
    assert study.training.threads != "auto"
    explained: list[Explained] = []
    maps: dict[str, str] = {}
    with running(study.training.device, threads=study.training.threads), progress.bar("explain", len(chosen)) as advance:
        for row in chosen:
            why = "worst" if row in worst else "best"
            path, label = index["path"][row], index["label"][row]
            try:
                image = read_case(study.data, path, None).image
            except ImageError as error:
                raise DataError(f"{path} could be read when it was indexed, and now cannot: {error}. Run the study again.") from None
            one, layers = drawer.explain(
                image, str(row), Explained(row=row, path=path, chosen=why, label=label, predicted="", probability=None)
            )
            explained.append(one)
            maps = maps or drawer.write_layers(layers, str(row))
            advance(1)
    return Explanations(images=explained, feature_maps=maps)


def explain_mask_paths(
    segmenter: Segmenter, paths: Sequence[Path], *, folder: Path, structures: Sequence[str] = (), progress: Progress = SILENT
) -> Explanations:
    """Show how the masks of new images come about, which are those of `segment_paths`.

    Args:
        segmenter: a loaded model.
        paths: as of `segment_paths`.
        folder: where pictures are written, under the number of the image.
        structures: those to show; all when not given.
        progress: told of each image.

    Raises:
        StudyError: a structure that the model does not know.
        DataError: a folder that holds no files.
    """
    drawer = _Drawer.of(segmenter, folder, structures)
    images = gather(files_of(paths), segmenter.model)
    explained: list[Explained] = []
    refused: dict[str, str] = {}
    maps: dict[str, str] = {}
    with progress.bar("explain", len(images)) as advance:
        for source in images:
            path, stem = source.path, f"{len(explained):04}"
            blank = Explained(row=None, path=path, chosen="given", label=None, predicted="", probability=None)
            try:
                one, layers = drawer.explain(source.read(), stem, blank)
            except ImageError as error:
                refused[path] = str(error)
            else:
                explained.append(one)
                maps = maps or drawer.write_layers(layers, stem)
            advance(1)
    return Explanations(images=explained, feature_maps=maps, refused=refused)


@dataclass(frozen=True)
class _Drawer:
    """Draws what one model makes of images."""

    segmenter: Segmenter
    folder: Path  # of the pictures
    structures: Sequence[str]  # that are shown

    @classmethod
    def of(cls, segmenter: Segmenter, folder: Path, structures: Sequence[str]) -> _Drawer:
        known = segmenter.model.structures
        for name in structures:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                raise StudyError(
                    f"The model knows no structure {name}. {f'Did you mean {near[0]}? ' if near else ''}There are: {', '.join(known)}."
                )
        return cls(segmenter, folder, structures or known)

    def explain(self, image: Volume, stem: str, blank: Explained) -> tuple[Explained, dict[str, np.ndarray]]:
        """Write the pictures of one image, of the slice that shows most of what was found; and the maps of the levels there."""
        model = self.segmenter.model
        probabilities = self.segmenter.answer(image).probabilities
        labels = self.segmenter.labels(probabilities)
        shown = np.count_nonzero(labels, axis=(1, 2))
        number = int(shown.argmax()) if shown.any() else len(shown) // 2
        box = box_around(labels)
        seen = slice_image(image, number)
        pixels = to_eight_bit(np.ascontiguousarray(seen.pixels[box]), seen.low, seen.high)
        objects = self.segmenter.objects(labels[number : number + 1])[0][box] if model.instances else None
        pictures = {
            "image": self._write(f"{stem}_image.png", overlay(pixels, labels[number][box], objects=objects, side=_SIDE)),
            "entropy": self._heat(f"{stem}_entropy.png", pixels, entropy_of(probabilities[:, number : number + 1])[0][box]),
        }
        there = labels_of(blank.label, several=True)
        of_structures = []
        for name in self.structures:
            place = 1 + model.structures.index(name)
            file = self._heat(f"{stem}_probability_{place}.png", pixels, probabilities[place, number][box])
            of_structures.append(
                OfLabel(
                    name=name,
                    said=bool((labels == place).any()),
                    there=None if blank.label is None else name in there,
                    probability=float(probabilities[place].max()),
                    pictures={"probability": file},
                )
            )
        said = [name for place, name in enumerate(model.structures, start=1) if (labels == place).any()]
        told = {
            "predicted": LABEL_SEPARATOR.join(said),
            "slice": number + 1,
            "slices": len(labels),
            "pictures": pictures,
            "labels": of_structures,
        }
        return blank.model_copy(update=told), self._layers(image, labels, number)

    def write_layers(self, maps: dict[str, np.ndarray], stem: str) -> dict[str, str]:
        """Write the maps of each level; the file by the layer."""
        return {
            name: self._write(f"{stem}_layer_{place}.png", draw_maps(each, side=_SIDE))
            for place, (name, each) in enumerate(maps.items(), start=1)
        }

    def _layers(self, image: Volume, labels: np.ndarray, number: int) -> dict[str, np.ndarray]:
        """What the first member's levels make of the window around what was found in a slice."""
        model = self.segmenter.model
        found = np.argwhere(labels[number])
        middle = found.mean(0) if len(found) else np.array(labels.shape[1:]) / 2
        grid = as_grid(model)
        prepared = prepare(image, grid)
        starts, sides = zip(*((part.start, part.stop - part.start) for part in seen_box(image, grid)), strict=True)
        place = (np.array([number, *middle]) - starts + 0.5) / sides * prepared.shape[1:]
        place = place.clip(0, np.array(prepared.shape[1:]) - 1)
        window, depth = _window(prepared, place.astype(int).tolist(), model.patch)
        return level_maps(self.segmenter.networks[0], window, outputs=1 + len(model.structures), depth=depth)

    def _heat(self, name: str, pixels: np.ndarray, values: np.ndarray) -> str:
        height, width = drawn_size(pixels.shape[0], pixels.shape[1], _SIDE)
        heat = resize(np.rint(255 * values).astype(np.uint8), height, width) / np.float32(255)
        return self._write(name, lay_heat(resize(pixels, height, width), heat))

    def _write(self, name: str, pixels: np.ndarray) -> str:
        with atomic_write(self.folder / name) as file:
            file.write(encode_png(pixels))
        return name


def _window(prepared: np.ndarray, place: Sequence[int], patch: Sequence[int]) -> tuple[Tensor, float]:
    """What the network sees at once around a voxel of a prepared image (C, D, H, W), as a batch of one; and how deep in it the voxel lies, 0 to 1."""
    size = (*(1,) * (3 - len(patch)), *patch)
    missing = [max(0, wanted - side) for side, wanted in zip(prepared.shape[1:], size, strict=True)]
    padded = np.pad(prepared, [(0, 0), *((gap // 2, gap - gap // 2) for gap in missing)], mode="edge")
    cuts, depth = [slice(None)], 0.0
    for axis, (centre, gap, side, wanted) in enumerate(zip(place, missing, padded.shape[1:], size, strict=True)):
        at = centre + gap // 2
        start = min(max(at - wanted // 2, 0), side - wanted)
        depth = (at - start + 0.5) / wanted if axis == 0 else depth
        cuts.append(slice(start, start + wanted))
    window = torch.from_numpy(padded[tuple(cuts)]).float()[None]
    return (window[:, :, 0] if len(patch) == 2 else window), depth
