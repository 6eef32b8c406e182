"""Heat maps as pictures: colours that grow lighter as evenly as the numbers grow, laid over a picture."""

from __future__ import annotations

import numpy as np

__all__ = ["heat_colours", "lay_heat"]

_INFERNO = np.array(
    [
        (0x00, 0x00, 0x04),
        (0x1B, 0x0C, 0x42),
        (0x4B, 0x0C, 0x6B),
        (0x78, 0x1C, 0x6D),
        (0xA5, 0x2C, 0x60),
        (0xCF, 0x44, 0x46),
        (0xED, 0x69, 0x25),
        (0xFB, 0x9A, 0x06),
        (0xF7, 0xD0, 0x3C),
        (0xFC, 0xFF, 0xA4),
    ],
    np.float32,
)
"""Ten equal steps of the colour map inferno (van der Walt and Smith, 2015; public domain): perceptually uniform, and readable by the colour-blind."""

_STRONGEST = 0.75
"""Share of the colour where a map is 1; where it is 0 the picture is as it was."""


def heat_colours(values: np.ndarray) -> np.ndarray:
    """Colours (..., 3) uint8 of values (...) in 0..1: dark for little, light for much."""
    steps = np.linspace(0, 1, len(_INFERNO))
    return np.rint(np.stack([np.interp(values, steps, _INFERNO[:, channel]) for channel in range(3)], axis=-1)).astype(np.uint8)


def lay_heat(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Colour a picture (H, W) or (H, W, 3) uint8 by a map (H, W) in 0..1, the more the higher it is; (H, W, 3) uint8."""
    colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=-1)
    share = _STRONGEST * heat[..., None]
    return np.rint((1 - share) * colour + share * heat_colours(heat)).astype(np.uint8)
