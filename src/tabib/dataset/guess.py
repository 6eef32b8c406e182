"""What a folder of images with masks is, by the names of its files: the layout, and the structures where the layout names them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tabib.config import SegmentationData
from tabib.dataset.acdc import is_acdc_mask
from tabib.dataset.listing import without_suffix
from tabib.dataset.mask_layouts import list_cases
from tabib.dataset.nnunet import named_labels
from tabib.dataset.sunnybrook import LINK, LV
from tabib.images import read_mask

__all__ = ["guess_masks", "numbers_in_masks"]

_IMAGES = ("images", "image", "imgs", "img")
_MASKS = ("masks", "mask", "labels", "label", "annotations", "segmentations", "ground_truth", "gt")
_SUFFIXES = ("_mask", "_seg", "_segmentation", "_label", "_gt")
_ALIKE = 0.5  # share of the masks that must be called as images are
_READ = 20  # masks whose numbers are looked at


def guess_masks(folder: Path) -> dict[str, Any] | None:
    """Fields of `data` that describe a folder of images with masks; None for a folder that is not known as one.

    `labels` is among them where the layout itself says which number is what. No file but `dataset.json` is opened.
    """
    try:
        inside = {entry.name: entry for entry in os.scandir(folder)}
    except OSError:  # whoever lists the folder says why it cannot be read
        return None
    if {"imagesTr", "labelsTr"} <= inside.keys():
        return {"layout": "nnunet", "labels": named_labels(folder)}
    if LINK in inside:
        return {"layout": "sunnybrook", "labels": {"lv": LV}}  # with the myocardium, end-systole would be left out: it has no outer outline
    if any(is_acdc_mask(name) for name in _names(folder)):
        return {"layout": "acdc", "labels": {"rv": 1, "myocardium": 2, "lv": 3}}
    folders = {name.casefold(): name for name, entry in inside.items() if entry.is_dir()}
    for images in (folders[name] for name in _IMAGES if name in folders):
        for masks in (folders[name] for name in _MASKS if name in folders):
            if _alike(
                {without_suffix(name) for name in _names(folder / images)}, {without_suffix(name) for name in _names(folder / masks)}
            ):
                return {"layout": "image_mask_pairs", "images": images, "masks": masks}
    files = {without_suffix(name) for name, entry in inside.items() if entry.is_file()}
    for suffix in _SUFFIXES:
        masks = {name.removesuffix(suffix) for name in files if name.endswith(suffix)}
        if _alike({name for name in files if not name.endswith(suffix)}, masks):
            return {"layout": "image_mask_pairs", "images": ".", "masks": ".", "mask_suffix": suffix}
    return None


def _alike(images: set[str], masks: set[str]) -> bool:
    return bool(masks) and len(images & masks) >= _ALIKE * len(masks)


def _names(folder: Path) -> Iterator[str]:
    for _, _, names in os.walk(folder):
        yield from names


def numbers_in_masks(data: SegmentationData) -> list[int]:
    """Numbers other than 0 of the first masks, sorted; whatever `labels` says."""
    masks = [entry.mask for entry in list_cases(data) if entry.mask and not entry.refused]
    return sorted({int(number) for mask in masks[:_READ] for number in set(read_mask(data.folder / mask).voxels.ravel().tolist())} - {0})
