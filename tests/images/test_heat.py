from __future__ import annotations

import numpy as np

from tabib.images import heat_colours, lay_heat


def lightness(colours: np.ndarray) -> np.ndarray:
    """CIE 1976 L* of sRGB colours."""
    share = colours / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(luminance > 216 / 24389, 116 * np.cbrt(luminance) - 16, luminance * 24389 / 27)


def test_equal_steps_look_equally_far_apart() -> None:
    steps = np.diff(lightness(heat_colours(np.linspace(0, 1, 10))))
    assert (steps > 0).all()
    assert steps.max() / steps.min() < 2
    assert heat_colours(np.array(0.0)).tolist() == [0, 0, 4]
    assert heat_colours(np.array(1.0)).tolist() == [252, 255, 164]


def test_where_the_map_is_nothing_the_picture_is_as_it_was() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    heat = np.zeros((3, 4), np.float32)
    assert lay_heat(grey, heat).tolist() == np.repeat(grey[..., None], 3, -1).tolist()
    heat[0, 0] = 1
    colour = np.repeat(grey[..., None], 3, -1)
    assert lay_heat(colour, heat)[0, 0].tolist() == [189, 191, 123]
    assert lay_heat(colour, heat)[1:].tolist() == colour[1:].tolist()
