"""From pixels to the bytes of a picture for reports and phantoms, and from voxels to those of a volume."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from tabib.images.image import Image
from tabib.images.read import file_and_frame, open_file
from tabib.images.volume import Volume

__all__ = ["encode_jpeg", "encode_label_map", "encode_nifti", "encode_png", "nifti_pieces", "nifti_pieces_like", "to_eight_bit"]


def to_eight_bit(image: Image | np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Map `low`..`high` to 0..255 for a screen; what lies outside becomes black or white.

    Args:
        image: an image, or its pixels (H, W) or (H, W, 3) of any number type.
        low: value that becomes black; the image's own `low`, or 0 for bare pixels, where None.
        high: value that becomes white; the image's own `high`, or the largest value of the type, where None.

    Returns:
        uint8 of the same shape.

    Raises:
        ValueError: `high` is not above `low`.
    """
    if isinstance(image, Image):
        pixels = image.pixels
        low, high = image.low if low is None else low, image.high if high is None else high
    else:
        pixels = image
        low = 0 if low is None else low
        high = (np.iinfo(pixels.dtype).max if pixels.dtype.kind in "iu" else 1) if high is None else high
    if not high > low:
        raise ValueError(f"the value of white ({high}) must be above the value of black ({low})")
    if pixels.dtype == np.uint8 and (low, high) == (0, 255):
        return pixels
    scaled = (pixels.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def encode_jpeg(pixels: np.ndarray, quality: int = 80, *, thin_lines: bool = False) -> bytes:
    """Write (H, W) or (H, W, 3) uint8 as JPEG; `quality` 1..95 is that of the IJG library. `thin_lines` keeps the colour of every pixel."""
    stream = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(pixels)).save(stream, "JPEG", quality=quality, subsampling="4:4:4" if thin_lines else "4:2:0")
    return stream.getvalue()


def encode_png(pixels: np.ndarray) -> bytes:
    """Write (H, W) uint8 or uint16, or (H, W, 3) uint8, as PNG, without loss."""
    stream = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG")
    return stream.getvalue()


def encode_label_map(labels: np.ndarray) -> bytes:
    """Write (H, W) labels as a grey PNG of 8 bits, or of 16 where one is above 255.

    Raises:
        ValueError: labels below 0 or above 65,535.
    """
    if labels.min() < 0 or labels.max() > 65535:
        raise ValueError(f"labels from {labels.min()} to {labels.max()} do not fit a PNG file, which holds 0 to 65535")
    return encode_png(labels.astype(np.uint8 if labels.max() < 256 else np.uint16))


def encode_nifti(volume: Volume) -> bytes:
    """Write a volume as `nifti_pieces` does, in one."""
    return b"".join(nifti_pieces(volume))


def nifti_pieces(volume: Volume) -> Iterator[bytes]:
    """Write a volume that comes from no NIfTI file as NIfTI-1 in gzip (`.nii.gz`), a slice at a time: columns, rows and slices are its axes."""
    from tabib.images.nifti import nifti_of

    return _packed(nifti_of(volume))


def nifti_pieces_like(voxels: np.ndarray, source: Path) -> Iterator[bytes]:
    """Write labels or probabilities made on a NIfTI file as NIfTI in gzip (`.nii.gz`) that lies on it voxel by voxel, a slice at a time.

    Axes, affine matrix, codes, spacing and byte order are those of the source, bit by bit.

    Args:
        voxels: (D, H, W) uint8, uint16, uint32 or float32 on the voxels that `read_volume` gives of the source.
        source: the path of the file, as `read_volume` takes it.

    Raises:
        ImageError: the source cannot be read any more.
        ValueError: voxels of another shape.
    """
    from tabib.images.nifti import nifti_like

    with open_file(file_and_frame(source)[0]) as file:
        return _packed(nifti_like(voxels, file))


def _packed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(6, wbits=16 + zlib.MAX_WBITS)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()
