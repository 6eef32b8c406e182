"""Predict the images of a study with masks: test by all members, validation by those that did not train on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from scipy.stats import entropy

import tabib
from tabib.config import Segmentation, SegmentationData
from tabib.dataset import files_of_image, read_case
from tabib.errors import DataError, ImageError
from tabib.images import Spacing, Volume, encode_dicom_seg, encode_png, nifti_pieces, nifti_pieces_like, slice_by_slice
from tabib.prediction.folder import files_of
from tabib.prediction.gathered import Gathered, gather
from tabib.prediction.segmenter import Segmenter
from tabib.progress import SILENT, Progress
from tabib.records import MASKS_SCHEMA, PostProcessing, SegmentationModel
from tabib.runs import atomic_write
from tabib.training.segment_calibrate import load_segmenters, member_rows
from tabib.training.session import running

__all__ = [
    "entropy_of",
    "predict_external_masks",
    "predict_masks",
    "segment_paths",
    "write_mask",
    "write_probabilities",
]


def predict_masks(
    model: SegmentationModel,
    decision: PostProcessing,
    index: pl.DataFrame,
    split: pl.DataFrame,
    study: Segmentation,
    *,
    place: Path,
    cache_folder: Path,
    progress: Progress = SILENT,
) -> pl.DataFrame:
    """Write the mask of every validation and test image into `masks/` of the run folder, on the voxels of the image.

    Beside them, in `entropy/` and called alike, lies of each test image where the answer is unsure, in 8 bits: 255 is all that can be.

    Args:
        model: trained.
        decision: made on validation images.
        index: INDEX_SCHEMA.
        split: SPLIT_SCHEMA; without its test rows, none is predicted.
        study: resolved.
        place: the run's `model` folder.
        cache_folder: not looked at: images are read anew, as they are when the model is put to use.
        progress: told of each image.

    Returns:
        MASKS_SCHEMA: validation, then test. Under folds the validation images are the training ones, each answered by the
        members that did not train on it.

    Raises:
        DataError: an image that could be read when it was indexed no longer can.
    """
    assert study.training.threads != "auto"
    rows: list[dict[str, object]] = []
    with running(study.training.device, threads=study.training.threads) as device:
        whole = Segmenter(model, decision, load_segmenters(model, place, device=device))
        parts = [("validation", part, replace(whole, networks=members)) for part, members in member_rows(model, whole.networks, split)]
        parts.append(("test", split.filter(pl.col("part") == "test").sort("row"), whole))
        with progress.bar("predictions", sum(len(part) for _, part, _ in parts)) as advance:
            for name, part, segmenter in parts:
                rows += _predicted(segmenter, part, name, study.data, folder=place.parent, advance=advance)
    return pl.DataFrame(rows, schema=MASKS_SCHEMA)


def predict_external_masks(
    segmenter: Segmenter, rows: pl.DataFrame, data: SegmentationData, study: Segmentation, *, folder: Path, progress: Progress = SILENT
) -> pl.DataFrame:
    """Write the masks of images of another source into `masks/` of a folder, as the masks of that source call the structures.

    Their entropy lies beside, as of a run's own test images.

    Args:
        segmenter: a loaded model.
        rows: INDEX_SCHEMA; of the images to predict.
        data: where they lie, and which numbers their masks have; a structure without one is background.
        study: resolved; its device and threads.
        folder: where `masks/` is written.
        progress: told of each image.

    Returns:
        MASKS_SCHEMA with the part `test`.

    Raises:
        DataError: an image that could be read when it was indexed no longer can.
    """
    assert study.training.threads != "auto"
    numbers = [_first(data.labels[name]) if name in data.labels else 0 for name in segmenter.model.structures]
    told = {"numbers": numbers, "instances": segmenter.model.instances and data.instances}
    judged = replace(segmenter, model=segmenter.model.model_copy(update=told))
    with running(study.training.device, threads=study.training.threads), progress.bar("predictions", len(rows)) as advance:
        return pl.DataFrame(_predicted(judged, rows, "test", data, folder=folder, advance=advance), schema=MASKS_SCHEMA)


def _predicted(
    segmenter: Segmenter, rows: pl.DataFrame, part: str, data: SegmentationData, *, folder: Path, advance: Callable[[int], None]
) -> list[dict[str, object]]:
    """Write the masks of some rows of an index, and give the rows of MASKS_SCHEMA."""
    found: list[dict[str, object]] = []
    for row, path, group in rows.select("row", "path", "group").iter_rows():
        try:
            image = read_case(data, path, None).image
            answer = segmenter.answer(image)
            mask = segmenter.mask(answer.probabilities)
            source = files_of_image(data, path)[0]
            file = write_mask(folder / "masks" / str(row), mask, image, source, segmenter.model)
            if part == "test":
                unsure = slice_by_slice(lambda each: np.rint(255 * each), entropy_of(answer.probabilities), dtype=np.uint8)
                _write(folder / "entropy" / str(row), unsure, image, source)
        except ImageError as error:
            raise DataError(
                f"{path} could be read when it was indexed, and now cannot: {error}. Start again to index the folder anew."
            ) from None
        said = {"mask": f"masks/{file.name}", "disagreement": answer.disagreement}
        found.append({"row": row, "path": path, "group": group, "part": part, **said})
        advance(1)
    return found


def _first(given: int | list[int]) -> int:
    return given if isinstance(given, int) else given[0]


def write_mask(stem: Path, mask: np.ndarray, image: Volume, source: Path, model: SegmentationModel) -> Path:
    """Write a mask on the voxels of its image: NIfTI where that is NIfTI or has several slices, else PNG; give back the file.

    Args:
        stem: of the file that is written; the suffix is added.
        mask: (D, H, W): 0 or the number of a structure in the model, or objects.
        image: that it lies on.
        source: the image's file, or the first of them.
        model: says what masks call its structures.
    """
    numbers = np.arange(int(mask.max()) + 1) if model.instances else np.array([0, *model.numbers])
    stored = np.uint8 if numbers.max() < 256 else np.uint16
    return _write(stem, slice_by_slice(lambda said: numbers[said], mask, dtype=stored), image, source)


def write_probabilities(stem: Path, probabilities: np.ndarray, image: Volume, source: Path, model: SegmentationModel) -> list[Path]:
    """Write the probability of each structure and their entropy on the voxels of the image, a file each; give back the files.

    The entropy of the mean probabilities, background included, is that of Shannon over its highest, so that 0 is sure of one
    answer and 1 has no notion; of several networks: Mehrtash et al., IEEE TMI 2020;39:3868.

    NIfTI holds them as 32-bit floats, PNG in 16 bits: 65,535 is 1.

    Args:
        stem: of the files that are written; `_probability_` with the name of the structure, without what a file's name cannot hold,
            or `_entropy`, and the suffix are added.
        probabilities: (1 + S, D, H, W), the background first.
        image: that they lie on.
        source: the image's file, or the first of them.
        model: says the names of the structures.
    """
    maps = {f"probability_{name}": voxels for name, voxels in zip(_file_names(model.structures), probabilities[1:], strict=True)}
    maps["entropy"] = entropy_of(probabilities)
    return [_write(stem.with_name(f"{stem.name}_{name}"), voxels, image, source) for name, voxels in maps.items()]


def entropy_of(probabilities: np.ndarray) -> np.ndarray:
    """Shannon's entropy (D, H, W) float32 of probabilities (1 + S, D, H, W), slice by slice, as a share of its highest."""
    return slice_by_slice(lambda *classes: (entropy(classes) / np.log(len(classes))).clip(0, 1), *probabilities, dtype=np.float32)


def _file_names(structures: Sequence[str]) -> list[str]:
    """Names as files can hold them; where two would be one, all have their number too."""
    names = [re.sub(r"[^\w.-]", "_", name) for name in structures]
    return names if len(set(map(str.casefold, names))) == len(names) else [f"{number}_{name}" for number, name in enumerate(names, start=1)]


def _write(stem: Path, voxels: np.ndarray, image: Volume, source: Path) -> Path:
    if image.facts.format == "NIfTI":
        path, pieces = stem.with_name(f"{stem.name}.nii.gz"), nifti_pieces_like(voxels, source)
    elif len(voxels) > 1:
        path, pieces = stem.with_name(f"{stem.name}.nii.gz"), nifti_pieces(replace(image, voxels=voxels))
    else:
        pixels = np.rint(65535 * voxels[0]).astype(np.uint16) if voxels.dtype.kind == "f" else voxels[0]
        path, pieces = stem.with_name(f"{stem.name}.png"), [encode_png(pixels)]
    with atomic_write(path) as file:
        file.writelines(pieces)
    return path


def segment_paths(
    segmenter: Segmenter,
    paths: Sequence[Path],
    folder: Path,
    *,
    probabilities: bool = False,
    objects_made: datetime | None = None,
    nominal: bool = False,
    progress: Progress = SILENT,
) -> pl.DataFrame:
    """Write the mask of each image file.

    Args:
        segmenter: a loaded model.
        paths: image files, and folders, of which every file at any depth is taken but what `junk` names. The slices of a DICOM series
            are one volume, at each time point; any other volume is one file, or, of a model of images with a file for each channel,
            those called `NAME_0000.nii.gz`, `NAME_0001.nii.gz` and so on.
        folder: where the masks are written, each called as its image with `_mask` at the end. A file that is there is an error
            before the first image is predicted: nothing is written over.
        probabilities: whether the probability of every structure is written too, as `write_probabilities` does.
        objects_made: where masks are to be DICOM segmentation objects that refer to the series, when they are made.
        nominal: whether the millimetres of files are not believed, as of a study with `data.spacing: nominal`; there are no mL then.
        progress: told of each image.

    Returns:
        `row`, `path`, `mask` (the file), `refused` (why there is none), `disagreement` (as in MASKS_SCHEMA), `unscaled` (whether the image was not brought to
        the spacing of the model, as its file says none), and for every structure its number of voxels and, where the size of a voxel is known,
        its mL.

    Raises:
        DataError: a folder that holds no files, or a mask that is there already.
    """
    model = segmenter.model
    images = gather(files_of(paths), model)
    masks = [f"{image.stem}_mask" for image in images]
    if there := [name for name in masks for suffix in (".png", ".nii.gz", ".dcm") if (folder / f"{name}{suffix}").exists()]:
        raise DataError(f"{folder} holds a mask {there[0]} already, and nothing is written over. Give another folder, or take it away.")
    rows: list[dict[str, object]] = []
    with progress.bar("predict", len(images)) as advance:
        for number, (source, name) in enumerate(zip(images, masks, strict=True)):
            row: dict[str, object] = {"row": number, "path": source.path}
            try:
                image = source.read()
                answer = segmenter.answer(image)
                mask = segmenter.mask(answer.probabilities)
                row |= {"disagreement": answer.disagreement, "unscaled": _unscaled(image, model)}
                if objects_made is None:
                    row["mask"] = str(write_mask(folder / name, mask, image, source.files[0], model))
                else:
                    row["mask"] = str(_write_object(folder / name, mask, image, source, model, objects_made))
                row |= _sizes(mask, None if nominal else image.spacing_mm, model)
                if probabilities:
                    write_probabilities(folder / source.stem, answer.probabilities, image, source.files[0], model)
            except ImageError as error:
                row["refused"] = str(error)
            rows.append(row)
            advance(1)
    sizes = {f"{kind}_{name}": pl.Float64() if kind == "ml" else pl.Int64() for name in model.structures for kind in ("voxels", "ml")}
    words = dict.fromkeys(("path", "mask", "refused"), pl.String())
    return pl.DataFrame(rows, schema={"row": pl.UInt32(), **words, "disagreement": pl.Float64(), "unscaled": pl.Boolean(), **sizes})


def _write_object(stem: Path, mask: np.ndarray, image: Volume, source: Gathered, model: SegmentationModel, made: datetime) -> Path:
    """Write a mask as a DICOM segmentation object on the series that it lies on."""
    if image.facts.format != "DICOM":
        raise ImageError(
            "is no DICOM picture, so no segmentation object can refer to it; leave --dicom-seg out, and it gets a mask as it is"
        )
    if not mask.any():
        raise ImageError(
            "shows none of the structures, and a segmentation object has at least one; without --dicom-seg it gets an empty mask"
        )
    if model.instances:
        names = {number: f"{model.structures[0]} {number}" for number in range(1, int(mask.max()) + 1)}
    else:
        names = dict(enumerate(model.structures, start=1))
    series, time = source.stack
    path = stem.with_name(f"{stem.name}.dcm")
    with atomic_write(path) as file:
        file.write(encode_dicom_seg(mask, series, names=names, made=made, version=tabib.__version__, time=time))
    return path


def _unscaled(image: Volume, model: SegmentationModel) -> bool:
    known = image.spacing_mm or (None, None, None)
    return model.spacing_mm is not None and None in known[3 - len(model.spacing_mm) :]


def _sizes(mask: np.ndarray, spacing: Spacing | None, model: SegmentationModel) -> dict[str, object]:
    sizes: dict[str, object] = {}
    millilitres = None
    if spacing is not None and spacing[0] is not None and len(mask) > 1:
        millilitres = spacing[0] * spacing[1] * spacing[2] / 1000
    for number, name in enumerate(model.structures, start=1):
        voxels = sum(int(np.count_nonzero(said if model.instances else said == number)) for said in mask)
        sizes |= {f"voxels_{name}": voxels, f"ml_{name}": None if millilitres is None else voxels * millilitres}
    return sizes
