"""What does it cost to bring a large film to the size of a network's input, decoded whole and decoded at a lower resolution?

A made-up film of 2,900 x 2,320 pixels, as JPEG and as JPEG 2000 in DICOM. Each side is the best of five. Printed are ratios, and how far
the results are apart in grey levels of 255.

    python benchmarks/decoding.py
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image
from pydicom.uid import JPEG2000Lossless

from speed import machine
from tabib.dataset import enough_side, fit_image
from tabib.images import read_image, resize

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from images.made import dicom

HEIGHT, WIDTH = 2900, 2320


def film() -> np.ndarray:
    """(HEIGHT, WIDTH) uint8: a body, and structure from coarse to the grain of the film."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    picture = 120 * np.exp(-((np.abs(x) - 0.5) ** 2) / 0.05 - y**2 / 0.4) + 60
    for step in (4, 16, 64):
        coarse = random.integers(0, 256, (HEIGHT // step, WIDTH // step), dtype=np.uint8)
        picture += 0.12 * (resize(coarse, HEIGHT, WIDTH).astype(float) - 128)
    return np.rint(picture + random.normal(0, 1.5, picture.shape)).clip(0, 255).astype(np.uint8)


def fitted(path: Path, side: int, least: int | None) -> tuple[np.ndarray, float]:
    """The image at the size of the input, and the best of five times, in seconds."""
    times, results = [], []
    for _ in range(5):
        start = time.perf_counter()
        results.append(fit_image(read_image(path, least=least), height=side, width=side, channels=1, fit="stretch"))
        times.append(time.perf_counter() - start)
    return results[0], min(times)


def main() -> None:
    """Print a row per format and size."""
    print(f"{machine()}\n\n| film of {HEIGHT:,} x {WIDTH:,} | input | whole / reduced | whole | mean difference | largest |")
    print("|---|---|---|---|---|---|")
    picture = film()
    with tempfile.TemporaryDirectory() as folder:
        jpeg, jpeg_2000 = Path(folder, "film.jpg"), Path(folder, "film.dcm")
        Image.fromarray(picture).save(jpeg, quality=90)
        codestream = bytes(imagecodecs.jpeg2k_encode(picture, level=0, codecformat="j2k", reversible=True))
        jpeg_2000.write_bytes(dicom(picture, syntax=JPEG2000Lossless, bits=8, frames=[codestream]))
        for name, path in (("JPEG, quality 90", jpeg), ("JPEG 2000 without loss", jpeg_2000)):
            for side in (64, 128, 224, 380):
                whole, slow = fitted(path, side, None)
                reduced, fast = fitted(path, side, enough_side(side, side))
                apart = np.abs(whole.astype(int) - reduced)
                print(f"| {name} | {side} | {slow / fast:.1f}x | {1000 * slow:.0f} ms | {apart.mean():.2f} | {apart.max()} |", flush=True)


if __name__ == "__main__":
    main()
