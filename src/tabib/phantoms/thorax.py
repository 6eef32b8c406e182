"""From the shape of a chest to its film: a made-up thorax, seen from the front.

Places are in a frame of the body: x from -1 (the patient's right, at the left of the film) to 1, y from -1 (neck) to 1
(belly); lengths are in the same unit. Tissue is summed as attenuation along the beam, in which soft tissue of the
whole chest is about 1, and a characteristic curve turns the sum into brightness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Opacity", "Pose", "Thorax", "draw_opacities", "draw_pose", "draw_thorax", "render_film"]

Field = NDArray[np.floating[Any]]  # float32 throughout: half the time

_TEXTURE_SIDE = 160
_VESSELS = 10


@dataclass(frozen=True)
class Thorax:
    """The anatomy of one patient; the same in all films."""

    width: float  # of the rib cage, half
    apex: float  # y of the lungs' tops
    dome: float  # y of the right dome of the diaphragm at rest
    dome_drop: float  # how much lower the left dome stands
    body: float  # half-width of the trunk at the waist
    depth: float  # thickness of the soft tissue, about 1
    heart_x: float  # centre of the heart, towards the patient's left
    heart_length: float  # half
    heart_width: float  # half
    heart_tilt: float  # radians
    mediastinum: float  # half-width of the upper mediastinum
    knob: float  # radius of the aortic knob
    spine_bend: float  # sideways bend of the spine
    rib_spacing: float
    rib_phase: float  # height of the first rib, in spacings
    rib_slope: float  # fall of the back parts towards the side
    rib_width: float  # as a fraction of the spacing
    bone: float  # attenuation of bone
    clavicle: float  # y of the inner ends of the clavicles
    clavicle_rise: float  # how far the outer ends stand above the inner ones
    stomach: float  # radius of the gas bubble under the left dome
    breast: float  # attenuation of the soft tissue before the lower lungs
    arm: float  # x of the arms beside the trunk
    vessels: NDArray[np.float32]  # (2 sides, _VESSELS, 3): direction, bend, strength
    texture: Field  # (_TEXTURE_SIDE, _TEXTURE_SIDE) fine structure of the lungs, standard deviation 1


@dataclass(frozen=True)
class Pose:
    """How one film was taken."""

    turn: float  # rotation in the plane of the film, radians
    x: float  # shift
    y: float
    zoom: float
    lean: float  # turn about the long axis: shifts the front parts against the back parts
    breath: float  # how much lower the diaphragm stands
    exposure: float  # added to the attenuation before the characteristic curve
    gradation: float  # slope of the characteristic curve
    grain: float  # standard deviation of the film grain, as a fraction of the range
    marker: tuple[float, float]  # place of the side marker R, in the frame of the film


@dataclass(frozen=True)
class Opacity:
    """One soft, patchy shadow in a lung."""

    side: int  # -1 the patient's right lung, 1 the left
    across: float  # 0 at the mediastinum, 1 at the ribs
    height: float  # 0 at the apex, 1 at the diaphragm
    radius: float
    strength: float  # attenuation at the centre


def draw_thorax(random: np.random.Generator) -> Thorax:
    """Draw the anatomy of a patient."""

    def near(middle: float, spread: float) -> float:
        return float(middle + spread * np.clip(random.standard_normal(), -2.2, 2.2))

    width = near(0.70, 0.035)
    vessels = np.empty((2, _VESSELS, 3), np.float32)
    vessels[..., 0] = np.linspace(-1.45, 1.5, _VESSELS) + random.uniform(-0.1, 0.1, (2, _VESSELS))
    vessels[..., 1] = random.uniform(-0.5, 0.5, (2, _VESSELS))
    vessels[..., 2] = random.uniform(0.4, 1.1, (2, _VESSELS))
    white = random.standard_normal((2, _TEXTURE_SIDE, _TEXTURE_SIDE), dtype=np.float32)
    texture = 0.45 * _blur(white[0], 1.0) + 0.9 * _blur(white[1], 3.5)
    return Thorax(
        width=width,
        apex=near(-0.66, 0.03),
        dome=near(0.40, 0.05),
        dome_drop=near(0.06, 0.02),
        body=width + near(0.14, 0.03),
        depth=near(1.0, 0.06),
        heart_x=near(0.13, 0.015),
        heart_length=near(0.375, 0.025),
        heart_width=near(0.275, 0.02),
        heart_tilt=near(0.72, 0.10),
        mediastinum=near(0.125, 0.012),
        knob=near(0.095, 0.012),
        spine_bend=near(0.0, 0.02),
        rib_spacing=near(0.155, 0.008),
        rib_phase=float(random.uniform(0, 1)),
        rib_slope=near(0.30, 0.05),
        rib_width=near(0.27, 0.02),
        bone=near(0.21, 0.03),
        clavicle=near(-0.60, 0.025),
        clavicle_rise=near(0.10, 0.04),
        stomach=max(0.0, near(0.09, 0.05)),
        breast=max(0.0, near(0.03, 0.03)),
        arm=near(1.02, 0.05),
        vessels=vessels,
        texture=(texture / texture.std()).astype(np.float32),
    )


def draw_pose(random: np.random.Generator) -> Pose:
    """Draw how a film is taken."""
    turn, x, y, zoom, lean, breath, exposure, gradation = np.clip(random.standard_normal(8), -2.2, 2.2).tolist()
    return Pose(
        turn=0.03 * turn,
        x=0.035 * x,
        y=0.035 * y,
        zoom=1 + 0.04 * zoom,
        lean=0.02 * lean,
        breath=0.03 * breath,
        exposure=0.035 * exposure,
        gradation=1 + 0.08 * gradation,
        grain=float(random.uniform(0.012, 0.024)),
        marker=(float(random.uniform(-0.95, -0.84)), float(random.uniform(-0.7, -0.2))),
    )


def draw_opacities(random: np.random.Generator, strength: float) -> tuple[Opacity, ...]:
    """Draw where a patient's lungs are shadowed; `strength` is the attenuation of the densest shadow."""
    count = int(random.integers(2, 5))
    side = 1 if random.random() < 0.5 else -1
    across, height = random.uniform(0.25, 0.7), random.uniform(0.35, 0.85)
    return tuple(
        Opacity(
            # Most pneumonia is in one lung; now and then a part of it is in the other.
            side=side if k < 2 or random.random() < 0.7 else -side,
            across=float(np.clip(across + 0.16 * random.standard_normal() * (k > 0), 0.15, 0.85)),
            height=float(np.clip(height + 0.16 * random.standard_normal() * (k > 0), 0.2, 0.95)),
            radius=float(random.uniform(0.11, 0.19)),
            strength=strength * float(1 if k == 0 else random.uniform(0.4, 0.9)),
        )
        for k in range(count)
    )


def render_film(thorax: Thorax, pose: Pose, opacities: tuple[Opacity, ...], random: np.random.Generator, *, side: int) -> NDArray[np.uint8]:
    """Take a film of a chest.

    `side` is the height and width in pixels; `random` draws the grain. Returns (side, side) uint8, brighter where more
    is absorbed.
    """
    line = ((np.arange(side) + 0.5) * (2 / side) - 1).astype(np.float32)
    film = _develop(_attenuation(thorax, pose, opacities, line[None, :], line[:, None]) + pose.exposure, pose.gradation)
    film += _grain(random, side, pose.grain)
    _stamp_letter(film, line, pose.marker)
    return (np.clip(film, 0, 1) * 255 + 0.5).astype(np.uint8)


def _attenuation(t: Thorax, pose: Pose, opacities: tuple[Opacity, ...], film_x: Field, film_y: Field) -> Field:
    """Attenuation at places of the film."""
    cos, sin = math.cos(pose.turn) / pose.zoom, math.sin(pose.turn) / pose.zoom
    x = cos * (film_x - pose.x) + sin * (film_y - pose.y)
    y = cos * (film_y - pose.y) - sin * (film_x - pose.x)
    away = np.abs(x)
    front = np.abs(x - pose.lean)  # distance from the middle for what lies in front
    left = (x > 0).astype(np.float32)

    trunk, tissue = _trunk(t, x, y, away)
    dome = _dome(t, pose, x, left)
    cage = _cage(t, front, y)
    heart = _heart(t, x - pose.lean, y, pose.breath)
    middle = _mediastinum(t, x - 0.5 * pose.lean, y)
    lung = _step((1 - cage) / 0.07) * _step((dome - y) / 0.011)
    air = lung * (1 - 0.62 * heart) * (1 - 0.80 * middle)

    total = tissue - air * (0.50 + 0.05 * (1 - np.clip(cage, 0, 1)))
    total += 0.13 * _step((y - dome) / 0.05) * trunk
    total -= _stomach(t, x, y, dome)
    total += 0.10 * heart * trunk
    total += _spine(t, x, y) * trunk
    total -= _trachea(t, x - 0.5 * pose.lean, y)
    total += _ribs(t, away, front, y, cage, dome) + _shoulders(t, away, front, y)
    total += t.breast * _step((0.27 - _far((front - 0.42) / 1.15, y - 0.22)) / 0.02)
    texture = _sample(t.texture, x, y)
    total += air * (_vessels(t, x, y, left) + 0.026 * texture)
    if opacities:
        total += lung * (1 - 0.6 * heart) * (1 - 0.5 * middle) * _shadow(t, opacities, x, y) * np.clip(1 + 0.25 * texture, 0.2, 1.8)
    return total


def _step(value: Field) -> Field:
    """Smooth step from 0 to 1 (logistic)."""
    return 0.5 + 0.5 * np.tanh(0.5 * value)


def _far(x: Field, y: Field) -> Field:
    """Distance; ten times as fast as `np.hypot`, which guards against an overflow that cannot happen here."""
    return np.sqrt(x * x + y * y)


def _blur(field: Field, sigma: float) -> Field:
    smooth = ndimage.gaussian_filter(field, sigma, mode="wrap", truncate=3)
    return (smooth / smooth.std()).astype(np.float32)


def _sample(texture: Field, x: Field, y: Field) -> Field:
    """A texture of the body at places, by linear interpolation."""
    scale = (_TEXTURE_SIDE - 2) / 2.6
    places = np.stack([(y + 1.3) * scale, (x + 1.3) * scale])
    return ndimage.map_coordinates(texture, places, order=1, mode="nearest", output=np.float32)


def _stroke(x: Field, y: Field, ax: float, ay: float, bx: float, by: float) -> Field:
    """Distance from a straight stroke from a to b."""
    dx, dy = bx - ax, by - ay
    along = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0, 1)
    return _far(x - ax - along * dx, y - ay - along * dy)


def _trunk(t: Thorax, x: Field, y: Field, away: Field) -> tuple[Field, Field]:
    """Where the trunk is, and its attenuation with neck, shoulders and arms."""
    side = t.body + 0.20 * _step((-0.42 - y) / 0.07)
    shoulder = -1.12 + 0.5 * np.maximum(away - 0.2, 0) ** 1.3
    trunk = _step((side - away) / 0.012) * _step((y - shoulder) / 0.02)
    thick = np.sqrt(np.clip(1 - (away / (side + 0.05)) ** 2, 0, 1))
    arm = _stroke(away, y, 0.86, -0.55, t.arm + 0.06, 0.9)
    arms = 0.42 * np.sqrt(np.clip(1 - (arm / 0.17) ** 2, 0, 1)) + 0.16 * _tube(arm / 0.055)
    return trunk, np.maximum(t.depth * trunk * (0.28 + 0.62 * thick), arms) + 0.07 * trunk * np.clip(y, -0.2, 1)


def _tube(distance: Field) -> Field:
    """Profile of a long bone, hollow inside: distance from its axis in radii."""
    wall = np.exp(-(((distance - 0.8) / 0.25) ** 2))
    return 0.6 * np.sqrt(np.clip(1 - distance * distance, 0, 1)) + 0.45 * wall


def _cage(t: Thorax, away: Field, y: Field) -> Field:
    """How far out in a lung's outline: below 1 inside, 1 at its edge."""
    middle, low = 0.53 * t.width, 0.38
    across = away - middle
    wide = np.maximum(across / (t.width - middle), -across / (middle + 0.10))
    up = np.maximum(low - y, 0) / (low - t.apex)
    return wide**2.4 + up**2.4


def _dome(t: Thorax, pose: Pose, x: Field, left: Field) -> Field:
    """y of the diaphragm above each place."""
    across = (np.abs(x) - 0.42 * t.width) / (0.62 * t.width)
    return t.dome + pose.breath + t.dome_drop * left + 0.20 * across**2 + 0.10 * np.maximum(across, 0) ** 4


def _heart(t: Thorax, x: Field, y: Field, breath: float) -> Field:
    """Ventricles, leaning to the patient's left and resting on the diaphragm, and the right atrium."""
    cos, sin = math.cos(t.heart_tilt), math.sin(t.heart_tilt)
    dx, dy = x - t.heart_x, y - (0.20 + breath)
    ventricles = ((cos * dx + sin * dy) / t.heart_length) ** 2 + ((cos * dy - sin * dx) / t.heart_width) ** 2
    atrium = ((x + 0.03) / 0.17) ** 2 + ((y - 0.20 - breath) / 0.27) ** 2
    # The nearer of the two with a smooth seam; no pixel may lie in a very centre and divide by nothing.
    outside = 1 / ((ventricles + 1e-6) ** -4 + (atrium + 1e-6) ** -4) ** 0.25
    return _step((1 - outside) / 0.11)


def _mediastinum(t: Thorax, x: Field, y: Field) -> Field:
    half = t.mediastinum + 0.05 * np.clip(y + 0.2, 0, 1) + 0.05 * np.clip(-0.5 - y, 0, 1)
    band = _step((half - np.abs(x - t.spine_bend * y)) / 0.022)
    knob = _step((t.knob - _far(x - 0.085, (y + 0.27) / 1.1)) / 0.016)
    trunk = _step((0.085 - _far(x - 0.10, (y + 0.08) / 1.9)) / 0.03)  # of the pulmonary artery
    return np.maximum(np.maximum(band, 0.85 * knob), 0.7 * trunk)


def _spine(t: Thorax, x: Field, y: Field) -> Field:
    across = np.abs(x - t.spine_bend * y)
    column = _step((0.075 - across) / 0.010)
    wave = np.cos(2 * np.pi * y / (t.rib_spacing * 0.93))
    pedicles = np.exp(-(((across - 0.05) / 0.014) ** 2)) * np.clip(wave, 0, 1) ** 4
    return column * (0.09 - 0.045 * np.clip(-wave - 0.55, 0, 1) / 0.45) + 0.05 * pedicles


def _trachea(t: Thorax, x: Field, y: Field) -> Field:
    tube = np.exp(-(((x - 0.012) / 0.034) ** 2)) * _step((-0.19 - y) / 0.03)
    branch = np.exp(-(((np.abs(x - 0.012) - 0.9 * (y + 0.21)) / 0.024) ** 2)) * _step((y + 0.21) / 0.02) * _step((-0.07 - y) / 0.03)
    return 0.13 * tube + 0.07 * branch


def _stomach(t: Thorax, x: Field, y: Field, dome: Field) -> Field:
    radius = _far((x - 0.36) / 1.4, y - dome - 0.05 - t.stomach)
    return 0.20 * _step((t.stomach - radius) / 0.016) * _step((y - dome - 0.03) / 0.015)


def _ribs(t: Thorax, away: Field, front: Field, y: Field, cage: Field, dome: Field) -> Field:
    """Back parts clear and nearly level, front parts faint and steep."""
    out, reach = np.clip(away / t.width, 0, 1.05), np.clip(front / t.width, 0, 1.05)
    fall = t.rib_slope * out**2.6 - 0.09 * np.sin(np.pi * np.minimum(out, 1))
    rise = t.rib_slope + 0.50 * (1 - reach) - 0.16 * np.sin(np.pi * np.minimum(reach, 1))
    back, fore = (y - fall) / t.rib_spacing + t.rib_phase, (y - rise) / t.rib_spacing + t.rib_phase
    # At the side of the cage the beam runs along the bone.
    backs = (1 + 0.9 * out**6) * _tube(np.abs(back - np.rint(back)) / t.rib_width) * (0.55 + 0.45 * _step((dome - y) / 0.05))
    fores = _tube(np.abs(fore - np.rint(fore)) / (t.rib_width * 1.15)) * _step((reach - 0.5) / 0.05) * _step((0.5 + y) / 0.1)
    inside = _step((1.10 - cage) / 0.035) * _step((y - t.apex) / 0.02) * _step((dome + 0.22 - y) / 0.06)
    return t.bone * inside * (0.62 * backs + 0.30 * fores)


def _shoulders(t: Thorax, away: Field, front: Field, y: Field) -> Field:
    """Clavicles, and the shoulder blades with their bright inner edge."""
    along = (front - 0.07) / 0.62
    line = t.clavicle - t.clavicle_rise * along - 0.045 * np.sin(2 * np.pi * np.clip(along, 0, 1))
    clavicle = _tube((y - line) / (0.030 + 0.012 * (along - 0.5) ** 2)) * _step(along / 0.03) * _step((1 - along) / 0.04)
    edge = np.exp(-((_stroke(away, y, t.width + 0.02, -0.52, t.width - 0.02, -0.02) / 0.018) ** 2))
    blade = _step((away - t.width + 0.02) / 0.02) * _step((0.92 - away) / 0.04) * _step((y + 0.55) / 0.05) * _step((0.0 - y) / 0.1)
    return t.bone * (1.25 * clavicle + 0.30 * edge + 0.24 * blade)


def _vessels(t: Thorax, x: Field, y: Field, left: Field) -> Field:
    """Vessels that leave each hilum like the ribs of a fan and thin out, and the hila."""
    dx, dy = np.abs(x) - 0.13, y - (0.02 - 0.04 * left)
    far = _far(dx, dy) + np.float32(1e-6)
    turn = np.arctan2(dy, dx)
    result = 0.13 * np.exp(-((far / 0.10) ** 2))
    lung = far < 0.65
    for side, where in ((0, lung & (left == 0)), (1, lung & (left == 1))):
        r, a = far[where], turn[where]
        bent = a[None] - t.vessels[side, :, :1] - t.vessels[side, :, 1:2] * r[None]
        thin = 0.010 + 0.011 * np.exp(-r / 0.18)
        lines = np.exp(-((bent * r[None] / thin) ** 2)) * t.vessels[side, :, 2:3]
        result[where] += 0.20 * np.exp(-r / 0.27) * np.minimum(r / 0.09, 1) * lines.sum(axis=0)
    return result


def _shadow(t: Thorax, opacities: tuple[Opacity, ...], x: Field, y: Field) -> Field:
    """Attenuation that the opacities add, were all of the chest lung."""
    result = np.zeros_like(x)
    for opacity in opacities:
        cx = opacity.side * (0.15 + opacity.across * (t.width - 0.15))
        cy = t.apex + opacity.height * (t.dome + 0.05 - t.apex)
        result += opacity.strength * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * opacity.radius**2))
    # Air cannot be displaced more than wholly.
    return 0.46 * np.tanh(result / 0.46)


def _develop(total: Field, gradation: float) -> Field:
    """Characteristic curve: attenuation to brightness."""
    curve = _step(4.6 * gradation * (total - 0.62))
    return (0.02 + 0.93 * curve).astype(np.float32)


def _grain(random: np.random.Generator, side: int, deviation: float) -> Field:
    white = random.standard_normal((side, side), dtype=np.float32)
    return deviation * (0.75 * white + 0.25 * np.roll(white, 1, axis=1))


_LETTER_R = np.array([[int(c) for c in row] for row in ("11110", "10001", "10001", "11110", "10100", "10010", "10001")], dtype=bool)


def _stamp_letter(film: Field, line: Field, place: tuple[float, float]) -> None:
    """The lead letter at the patient's right."""
    column = np.floor((line - place[0]) / 0.014).astype(int)
    row = np.floor((line - place[1]) / 0.014).astype(int)
    rows, columns = np.flatnonzero((row >= 0) & (row < 7)), np.flatnonzero((column >= 0) & (column < 5))
    letter = _LETTER_R[np.ix_(row[rows], column[columns])]
    film[np.ix_(rows, columns)] = np.where(letter, np.float32(0.93), film[np.ix_(rows, columns)])
