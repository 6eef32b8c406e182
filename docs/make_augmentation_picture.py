"""Draw `docs/pictures/augmentation.png` from phantoms: every random change of `augment`, on one made-up film and one made-up smear."""

from __future__ import annotations

import dataclasses
import io
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy import ndimage

from tabib.config import Augment
from tabib.images import read_image, to_eight_bit
from tabib.phantoms import ChestFilms, make_chest_films
from tabib.training.augment import apply
from tabib.training.draws import draw

PICTURE = Path(__file__).parent / "pictures" / "augmentation.png"
SIDE, GAP, COLUMNS = 96, 20, 5
OFF = Augment(rotation_degrees=0, shift=0, zoom=0, brightness=0, contrast=0)

FILM = {  # field: (its setting, what is drawn)
    "original": {},
    "rotation_degrees": {"rotation_degrees": 15.0},
    "shift": {"shift_x": 0.12, "shift_y": -0.08},
    "zoom": {"scale": 0.8},
    "stretch": {"stretch": 1.35},
    "shear_degrees": {"shear_degrees": 15.0},
    "crop": {"crop": 0.35, "crop_x": 0.6, "crop_y": -0.6},
    "flip_horizontal": {"flip_horizontal": True},
    "elastic": {},
    "brightness": {"brightness": 0.2},
    "contrast": {"contrast": 1.6},
    "gamma": {"gamma": 0.6},
    "blur": {"blur": 0.02},
    "noise": {"noise": 0.08},
    "bias_field": {"bias_field": [[[0.9 - 0.2 * (row + column) for column in range(5)] for row in range(5)]] * 5},
    "ghosting": {"ghost": 0.5, "ghost_shift": 0.2, "ghost_down": True},
    "low_resolution": {"low_resolution": 0.75},
    "fill: constant": {"rotation_degrees": 15.0},
    "fill: reflect": {"rotation_degrees": 15.0},
}
SMEAR = {
    "original": {},
    "saturation": {"saturation": 1.8},
    "hue_degrees": {"hue_degrees": 35.0},
    "stain": {"stain_factor": [1.3, 0.7, 1.0], "stain_added": [0.05, -0.05, 0.0]},
}
ON = Augment(
    elastic=0.08, brightness=0.5, contrast=0.8, gamma=1, saturation=1, hue_degrees=90, stain=0.3, blur=0.05, noise=0.2,
    bias_field=1, ghosting=1, low_resolution=0.9,
)  # fmt: skip


def film() -> torch.Tensor:
    """A chest film (1, 3, SIDE, SIDE)."""
    with tempfile.TemporaryDirectory() as folder:
        make_chest_films(Path(folder), ChestFilms(patients=2, films_per_patient=(1, 1), side=SIDE, lesion=6.0))
        pixels = to_eight_bit(read_image(min(Path(folder).glob("NORMAL/*"))))
    return torch.from_numpy(pixels.copy()).float().div(255).expand(1, 3, SIDE, SIDE)


def smear() -> torch.Tensor:
    """Cells (1, 3, SIDE, SIDE): nuclei of haematoxylin in cytoplasm of eosin."""
    random = np.random.default_rng(4)
    y, x = np.mgrid[:SIDE, :SIDE]
    density = np.zeros((SIDE, SIDE, 3))
    for _ in range(7):
        row, column, radius = *random.uniform(5, SIDE - 5, 2), random.uniform(9, 14)
        away = np.hypot(y - row, x - column) / radius
        density += (away < 1)[..., None] * [0.03, 0.35, 0.05] + (away < 0.6)[..., None] * [0.45, 0.3, 0.15]
    density = ndimage.gaussian_filter(density, (1, 1, 0)) + random.normal(0.04, 0.01, density.shape)
    return torch.from_numpy(10**-density).float().clamp(0, 1).permute(2, 0, 1)[None]


def changed(image: torch.Tensor, name: str, values: dict) -> torch.Tensor:
    """The picture after one change."""
    augment = ON if name == "elastic" else ON.model_copy(update={"elastic": 0.0, "stain": 0.3 if name == "stain" else 0.0})
    augment = augment.model_copy(
        update={"fill": name.removeprefix("fill: ") if name.startswith("fill: ") else "nearest", "fill_value": 0.5}
    )
    neutral = draw(OFF.model_copy(update={"elastic": augment.elastic}), seed=1, epoch=1, content=np.ones(1, np.uint64))
    return apply(image, dataclasses.replace(neutral, **{key: torch.tensor([value]) for key, value in values.items()}), augment)


def main() -> None:
    """Write the picture."""
    image, cells = film(), smear()
    tiles = [(name, changed(image, name, values)) for name, values in FILM.items()]
    tiles += [(name, changed(cells, name, values)) for name, values in SMEAR.items()]
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (SIDE + 8) + 8, rows * (SIDE + GAP) + 8), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (name, tile) in enumerate(tiles):
        left, top = 8 + place % COLUMNS * (SIDE + 8), 4 + place // COLUMNS * (SIDE + GAP)
        sheet.paste(Image.fromarray((tile[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)), (left, top + 14))
        pen.text((left, top), name, fill="black")
    file = io.BytesIO()
    sheet.quantize(128).save(file, "PNG", optimize=True)
    PICTURE.write_bytes(file.getvalue())


if __name__ == "__main__":
    main()
