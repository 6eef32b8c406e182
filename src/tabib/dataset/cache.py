"""Decode once: every usable image, resized, in one memory-mapped array that all runs share.

    <folder>/<key>.npy              (N, channels, height, width) uint8, or uint16 where any image has more than 8 bits
    <folder>/<key>.statistics.npy   (N, 6) float32, `intensity_statistics` of every image
    <folder>/<key>.json             what it was made from; written last
    <folder>/archives/              unpacked archives, see `archives`

What is computed from them once lies there, too, as `<key>.npy` and `<key>.json` (see `kept_array`).

The key is the SHA-256 of the images' content hashes in order, the settings of the shape and the code that decodes, so
an entry is never wrong, only unused. **The arrays are the images: treat the folder as patient data.** `tabib cache`
lists and clears it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

import tabib.images
from tabib.config import Data, Input
from tabib.dataset.archives import open_data
from tabib.dataset.index import read_row_pixels
from tabib.dataset.pixels import STATISTICS, enough_side, fit_image, intensity_statistics, widen
from tabib.engines import Crashed, map_in_processes
from tabib.errors import DataError, ImageError, RunError
from tabib.progress import SILENT, Progress
from tabib.runs import write_json

__all__ = [
    "Cache",
    "CacheEntry",
    "build_cache",
    "clear_cache",
    "kept_array",
    "list_cache",
    "load_arrays",
    "reserve",
    "whole_or_nothing",
]

_BESIDE = (".statistics.npy", ".masks.npy")
"""Second arrays of an entry, of images for classifiers and of images with masks."""


@dataclass(frozen=True)
class Cache:
    """The decoded images of an index."""

    key: str
    images: np.ndarray  # (N, C, H, W) uint8 or uint16, mapped from the file: its pages are never this process's own memory
    statistics: np.ndarray  # (N, 6) float32
    rows: np.ndarray  # (N,) int64, row of the index behind each image, rising

    def positions(self, rows: np.ndarray) -> np.ndarray:
        """Where the images of these rows of the index stand. Each must be a usable row."""
        return np.searchsorted(self.rows, rows)


@dataclass(frozen=True)
class CacheEntry:
    """One array or unpacked archive in a cache folder; 0 images for what a killed process left behind."""

    path: Path
    images: int
    bytes: int


def build_cache(
    data: Data, index: pl.DataFrame, input: Input, *, folder: Path, workers: int | None = None, progress: Progress = SILENT
) -> Cache:
    """Decode and resize every usable row of the index, unless the folder has it already.

    Memory does not grow with the data: workers write what they decode straight into the file. Processes that build the
    same entry at one time do the work twice and leave one whole result.

    Args:
        data: where the files lie.
        index: INDEX_SCHEMA.
        input: shape and fit, with `channels` resolved.
        folder: the cache folder.
        workers: processes that decode; the machine's cores when not given.
        progress: told of each image.

    Raises:
        DataError: an image that could be read when it was indexed no longer can.
        RunError: the disk is full or cannot be written; nothing half-written stays.
    """
    usable = index.filter(pl.col("refused").is_null())
    key = _key(usable, input)
    stem = folder / key
    arrays = load_arrays(stem)
    if arrays is None:
        data = open_data(data, folder, progress=progress).data
        _build(data, usable, input, folder=folder, key=key, workers=workers, progress=progress)
        arrays = load_arrays(stem)
    assert arrays is not None
    images, statistics = arrays
    return Cache(key=key, images=images, statistics=statistics, rows=usable["row"].to_numpy().astype(np.int64))


def load_arrays(stem: Path, *, beside: str = "statistics") -> tuple[np.ndarray, np.ndarray] | None:
    """The two arrays of an entry, mapped; None where it is not there whole, or was cut short since."""
    if not stem.with_suffix(".json").exists():
        return None
    try:
        return np.load(stem.with_suffix(".npy"), mmap_mode="c"), np.load(
            stem.with_suffix(f".{beside}.npy"), mmap_mode="c" if beside == "masks" else None
        )
    except (OSError, ValueError):
        return None


def list_cache(folder: Path) -> list[CacheEntry]:
    """The arrays and unpacked archives in a cache folder, whole ones and what killed processes left."""
    entries = []
    for path in sorted(path for path in (folder / "archives").glob("*") if path.is_dir()):
        about = path / "archive.json"
        files = json.loads(about.read_text(encoding="utf-8"))["files"] if about.exists() and not path.name.startswith(".") else 0
        entries.append(CacheEntry(path, files, sum(file.stat().st_size for file in path.rglob("*") if file.is_file())))
    for path in sorted([*folder.glob("*.npy"), *folder.glob(".*.part")]):
        if not path.name.endswith(_BESIDE):
            about = path.with_suffix(".json")
            images = json.loads(about.read_text())["images"] if about.exists() else 0
            entries.append(CacheEntry(path, images, path.stat().st_size))
    return entries


def clear_cache(folder: Path) -> list[CacheEntry]:
    """Remove every array and unpacked archive of a cache folder, and return what was removed. A run that is reading one keeps it to its end."""
    entries = list_cache(folder)
    for entry in entries:
        if entry.path.is_dir():
            shutil.rmtree(entry.path)
            continue
        for suffix in (".json", *_BESIDE):
            entry.path.with_suffix(suffix).unlink(missing_ok=True)
        entry.path.unlink(missing_ok=True)
    return entries


def kept_array(folder: Path, key: str, *, shape: tuple[int, ...], fill: Callable[[np.ndarray], None]) -> np.ndarray:
    """A float32 array of the cache, a row per image, mapped from its file; `fill` writes it where the folder does not have it whole.

    Raises:
        RunError: the disk is full or cannot be written; nothing half-written stays.
    """
    path, about = folder / f"{key}.npy", folder / f"{key}.json"
    with suppress(OSError, ValueError):
        if about.exists() and np.load(path, mmap_mode="r").shape == shape:
            return np.load(path, mmap_mode="c")
    with whole_or_nothing(path) as target:
        reserve(target, shape, np.dtype(np.float32))
        array = np.lib.format.open_memmap(target, mode="r+")
        fill(array)
        array.flush()
    write_json(about, {"images": shape[0], "shape": shape, "dtype": "float32"})
    return np.load(path, mmap_mode="c")


def _key(usable: pl.DataFrame, input: Input) -> str:
    digest = hashlib.sha256(input.model_dump_json(exclude={"intensity"}).encode())
    for content in usable["content"]:
        digest.update(bytes.fromhex(content))
    code = [Path(__file__).with_name("pixels.py"), *sorted(Path(str(tabib.images.__file__)).parent.glob("*.py"))]
    for file in code:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


def _build(data: Data, usable: pl.DataFrame, input: Input, *, folder: Path, key: str, workers: int | None, progress: Progress) -> None:
    assert input.channels != "auto"
    dtype = np.dtype(np.uint8 if (usable["bits"] <= 8).all() else np.uint16)
    shape = (len(usable), input.channels, input.height, input.width)
    with whole_or_nothing(folder / f"{key}.npy") as target, whole_or_nothing(folder / f"{key}.statistics.npy") as beside:
        reserve(target, shape, dtype)
        reserve(beside, (len(usable), len(STATISTICS)), np.dtype(np.float32))
        store = partial(_store, data=data, input=input, target=target, beside=beside)
        failures = map_in_processes(store, list(enumerate(usable["path"])), workers=workers, progress=progress, name="decode")
        for path, failure in zip(usable["path"], failures, strict=True):
            if failure is not None:
                reason = failure.reason if isinstance(failure, Crashed) else failure
                raise DataError(
                    f"{path} could be read when it was indexed, and now cannot: {reason}. Start again to index the folder anew."
                )
    write_json(folder / f"{key}.json", {"images": len(usable), "shape": shape, "dtype": dtype.name, "folder": str(data.folder)})


def _store(item: tuple[int, str], *, data: Data, input: Input, target: Path, beside: Path) -> str | None:
    """Decode one image into its place in the file; what went wrong, or None."""
    assert input.channels != "auto"
    position, path = item
    try:
        image = read_row_pixels(data, pl.DataFrame({"path": [path]}), 0, least=enough_side(input.height, input.width))
    except ImageError as error:
        return str(error)
    fitted = fit_image(image, height=input.height, width=input.width, channels=input.channels, fit=input.fit)
    images = np.load(target, mmap_mode="r+")
    images[position] = fitted if images.dtype == fitted.dtype else widen(fitted)
    np.load(beside, mmap_mode="r+")[position] = intensity_statistics(fitted)
    return None


def reserve(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Make an array file of zeros whose space on the disk is taken now, so that a full disk is an error and no crash later."""
    np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape).flush()
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


@contextmanager
def whole_or_nothing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name at the end, synced; it is removed where anything fails."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        full = error.errno == errno.ENOSPC
        todo = "Free some space (`tabib cache clear` removes decoded images) and start the same command again." if full else ""
        raise RunError(f"{path} could not be written: {error.strerror}. {todo}".strip()) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
