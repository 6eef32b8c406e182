"""The arrays of a MedMNIST v2 file, row by row, without holding them in memory.

An `.npz` is a zip of `.npy` files, usually deflated, so one row cannot be reached without unpacking those before it.
An array is therefore unpacked once, streamed to a temporary file, and mapped from there: its pages belong to the file
and can be given back at any time.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import IO, TypeVar

import numpy as np

from tabib.config import Data
from tabib.dataset.listing import PART_NAMES, Listed
from tabib.errors import DataError
from tabib.images import Image, ImageFacts

__all__ = ["image_of", "list_arrays", "map_array", "npz_file", "parse_row", "read_headers", "read_labels", "read_row", "unpack"]

_PARTS = ("train", "val", "test")
_ROW = re.compile(r"(\w+)\[(\d+)\]")
_T = TypeVar("_T")


def npz_file(folder: Path) -> Path:
    """The `.npz` file that `data.folder` names: itself, or the only one in the folder."""
    if folder.is_dir():
        inside = sorted(folder.glob("*.npz"))
        if len(inside) != 1:
            found = ", ".join(file.name for file in inside[:5]) or "none"
            raise DataError(f"layout npz expects one .npz file, and {folder} holds {found}. Point data.folder at the file.")
        return inside[0]
    if not folder.exists():
        raise DataError(f"There is no file {folder}. Check its name; in a study, data.folder is relative to the study file.")
    return folder


def list_arrays(data: Data) -> list[Listed]:
    """List the images of the arrays, by part and place."""
    file = npz_file(data.folder)
    headers = read_headers(file)
    listed: list[Listed] = []
    for part in headers:
        labels = read_labels(file, part)
        listed += [Listed(f"{part}_images[{position}]", str(label), PART_NAMES[part]) for position, label in enumerate(labels.tolist())]
    return listed


def read_headers(file: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and type of the images of each part present ("train", "val", "test"), checked without unpacking them.

    Raises:
        DataError: not an npz, keys or shapes that are not MedMNIST's, or arrays of Python objects.
    """
    arrays = _with_zip(file, lambda archive: {name[:-4]: _header(archive, name) for name in archive.namelist() if name.endswith(".npy")})
    expected = "Expected the keys train_images and train_labels, and val_... and test_... where those parts are given."
    if "train_images" not in arrays:
        raise DataError(f"{file.name} holds the keys {', '.join(sorted(arrays)) or 'none'}. {expected}")
    headers = {}
    for part in _PARTS:
        images, labels = arrays.get(f"{part}_images"), arrays.get(f"{part}_labels")
        if images is None and labels is None:
            continue
        if images is None or labels is None:
            raise DataError(f"{file.name} holds only one of {part}_images and {part}_labels. {expected}")
        for key, (_, dtype) in ((f"{part}_images", images), (f"{part}_labels", labels)):
            if dtype.hasobject:
                raise DataError(
                    f"{key} in {file.name} holds Python objects, which are never read (they can run code). Save plain number arrays."
                )
        shape, dtype = images
        if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)) or 0 in shape[1:] or dtype not in (np.uint8, np.uint16):
            raise DataError(
                f"{part}_images in {file.name} has shape {shape} and type {dtype}. "
                "Expected (N, height, width) or (N, height, width, 3), of uint8 or uint16; volumes are not read."
            )
        label_shape, label_dtype = labels
        if label_shape not in ((shape[0],), (shape[0], 1)) or label_dtype.kind not in "iub":
            several = "; several labels per image are not read" if len(label_shape) == 2 and label_shape[1] > 1 else ""
            count = f", and there are {shape[0]} images" if label_shape[:1] != shape[:1] else ""
            raise DataError(
                f"{part}_labels in {file.name} has shape {label_shape} and type {label_dtype}{count}. "
                f"Expected one whole number per image: ({shape[0]},) or ({shape[0]}, 1){several}."
            )
        headers[part] = images
    return headers


def read_labels(file: Path, part: str) -> np.ndarray:
    """(N,) whole numbers, the class of each image of a part."""
    return _with_zip(file, lambda archive: _load(archive, f"{part}_labels.npy")).reshape(-1).astype(np.int64)


def unpack(file: Path, key: str, target: IO[bytes]) -> None:
    """Stream one array of the file, as `.npy`, into an open file."""

    def copy(archive: zipfile.ZipFile) -> None:
        with archive.open(f"{key}.npy") as source:
            shutil.copyfileobj(source, target, 1 << 20)

    _with_zip(file, copy)
    target.flush()


@lru_cache(maxsize=4)
def map_array(npy: Path) -> np.ndarray:
    """The array of an unpacked `.npy`, mapped read-only."""
    return np.load(npy, mmap_mode="r", allow_pickle=False)


@lru_cache(maxsize=4)
def _unpacked(file: Path, key: str, modified_ns: int) -> np.ndarray:
    """The array behind a key, mapped from a temporary file that disappears with this process."""
    with tempfile.NamedTemporaryFile(suffix=".npy") as target:
        unpack(file, key, target.file)
        return np.load(target.name, mmap_mode="r", allow_pickle=False)


def parse_row(path: str) -> tuple[str, int]:
    """The key and position behind a row's path: `train_images[17]` is ("train_images", 17)."""
    found = _ROW.fullmatch(path)
    if found is None:
        raise DataError(f"{path!r} is no row of an npz file. Expected a path such as train_images[17].")
    return found[1], int(found[2])


def image_of(pixels: np.ndarray) -> Image:
    """One row of an images array as an image: (H, W), (H, W, 1) or (H, W, 3), uint8 or uint16."""
    own = np.array(pixels)
    if own.ndim == 3 and own.shape[2] == 1:
        own = own[:, :, 0]
    bits = 8 * own.dtype.itemsize
    return Image(
        pixels=own,
        low=0.0,
        high=float(2**bits - 1),
        spacing_mm=None,
        orientation=None,
        facts=ImageFacts(format="NPZ", bits=bits, mode="L" if own.ndim == 2 else "RGB"),
    )


def read_row(file: Path, path: str) -> Image:
    """The pixels behind one row of the index."""
    key, position = parse_row(path)
    return image_of(_unpacked(file, key, file.stat().st_mtime_ns)[position])


def _with_zip(file: Path, use: Callable[[zipfile.ZipFile], _T]) -> _T:
    try:
        with zipfile.ZipFile(file) as archive:
            return use(archive)
    except OSError as error:
        raise DataError(
            f"{file} cannot be unpacked: {error.strerror or error}. Check its permissions and the room left for temporary files."
        ) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(f"{file} cannot be read as an npz file: {error}. Copy or download it again.") from None


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    with archive.open(name) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    return shape, dtype


def _load(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)
