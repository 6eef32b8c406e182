"""Decode every image of a folder once with Pillow, in as many processes as there are cores: the least a look must do."""

from __future__ import annotations

import sys
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from PIL import Image


def decode(path: str) -> int:
    """Decode a file whole."""
    with Image.open(path) as image:
        return int(np.asarray(image).size)


if __name__ == "__main__":
    files = [str(path) for path in Path(sys.argv[1]).rglob("*") if path.is_file()]
    with Pool(int(sys.argv[2])) as pool:
        assert sum(pool.imap_unordered(decode, files, chunksize=64))
