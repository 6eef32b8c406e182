"""From the shape of two ventricles to short-axis slices: a made-up heart whose volumes are known.

Every surface is a star around the long axis of the left ventricle: a radius in mm for each angle and each height. z runs from
the base (0) to the apex; seen from the apex, as on film, x runs to the patient's left and y to the back. The cavity of the left
ventricle is half an ellipsoid, its wall a second one around it, and the right ventricle a crescent that lies on the wall.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import brentq

__all__ = [
    "LABELS",
    "Scene",
    "Ventricles",
    "contract",
    "draw_scene",
    "label_slice",
    "render_slice",
    "shape_ventricles",
    "volume_bound",
    "volumes",
]

Field = NDArray[np.floating[Any]]  # of the pictures float32: half the time
Number = Field | float
Structure = Literal["rv", "myocardium", "lv"]

LABELS: dict[Structure, int] = {"rv": 1, "myocardium": 2, "lv": 3}
"""Values of a label map, as ACDC has them."""

_Surface = Callable[[Number, Number], Field]  # radius at an angle and a height

_ANGLES, _HEIGHTS = 360, 200


@dataclass(frozen=True)
class Ventricles:
    """Both ventricles at one moment; lengths in mm, angles in radians."""

    radius: float  # of the left cavity at the base
    length: float  # of the left cavity
    oval: float  # how far its outline differs from a circle, as a share of the radius
    oval_at: float  # direction of its longer diameter
    wall: float  # thickness
    scar: float  # share of the thickness that is lost in the middle of a scar
    scar_at: float  # where the scar is
    right_depth: float  # of the right cavity at the base, from the septum to the free wall
    right_length: float
    right_reach: float  # half the angle that it embraces
    right_at: float  # direction of its middle

    def left(self, angle: Number, z: Number) -> Field:
        """Radius of the left cavity."""
        return self._outline(angle) * _dome(z, self.length)

    def wall_outside(self, angle: Number, z: Number) -> Field:
        """Outer radius of the left wall."""
        scar = self.scar * (0.5 + 0.5 * np.cos(angle - self.scar_at)) ** 2
        return (self._outline(angle) + self.wall * (1 - scar)) * _dome(z, self.length + self.wall)

    def right(self, angle: Number, z: Number) -> Field:
        """Outer radius of the right cavity; that of the wall where there is none."""
        across = 1 - (_turned(angle - self.right_at) / self.right_reach) ** 2
        along = (1 - (z / self.right_length) ** 2) * np.greater_equal(z, 0)
        return self.wall_outside(angle, z) + self.right_depth * np.clip(across, 0, None) * np.clip(along, 0, None)

    def _outline(self, angle: Number) -> Field:
        return self.radius * (1 + self.oval * np.cos(2 * (angle - self.oval_at)))


def shape_ventricles(frame: Ventricles, *, left_ml: float, right_ml: float) -> Ventricles:
    """Ventricles of these volumes: `frame` gives angles, wall, and the proportions of length to radius."""
    scale = (1000 * left_ml / (2 / 3 * math.pi * frame.radius**2 * frame.length * (1 + frame.oval**2 / 2))) ** (1 / 3)
    left = replace(frame, radius=scale * frame.radius, length=scale * frame.length, right_length=scale * frame.right_length)
    return _fill_right(left, right_ml)


def contract(diastole: Ventricles, *, left_ml: float, right_ml: float, descent: float) -> Ventricles:
    """The same heart at end-systole: smaller cavities, and as much myocardium, so that the wall is thicker.

    The outer apex stays in its place and the base comes `descent` mm nearer to it. A scar does not thicken.
    """
    outside, muscle = diastole.length + diastole.wall - descent, volumes(diastole)["myocardium"]

    def thickened(wall: float) -> Ventricles:
        length = outside - wall
        radius = math.sqrt(1000 * left_ml / (2 / 3 * math.pi * length * (1 + diastole.oval**2 / 2)))
        scar = 1 - (1 - diastole.scar) * diastole.wall / wall if diastole.scar else 0.0
        return replace(
            diastole, radius=radius, length=length, wall=wall, scar=scar, right_depth=0, right_length=diastole.right_length - descent
        )

    wall = brentq(lambda wall: volumes(thickened(wall))["myocardium"] - muscle, 0.5 * diastole.wall, 0.7 * outside)
    return _fill_right(thickened(float(wall)), right_ml)  # pyright: ignore[reportArgumentType]


def _fill_right(heart: Ventricles, right_ml: float) -> Ventricles:
    depth = brentq(lambda depth: volumes(replace(heart, right_depth=depth))["rv"] - right_ml, 0, 200)
    return replace(heart, right_depth=float(depth))  # pyright: ignore[reportArgumentType]


@lru_cache(maxsize=1024)
def volumes(heart: Ventricles) -> Mapping[Structure, float]:
    """Volume of each structure in mL, by quadrature to better than 1e-6 mL."""
    whole = _volume(heart.wall_outside, _axis, heart.length + heart.wall)
    left = _volume(heart.left, _axis, heart.length)
    right = _volume(heart.right, heart.wall_outside, heart.right_length, heart.right_reach, heart.right_at)
    return MappingProxyType({"rv": right, "myocardium": whole - left, "lv": left})


def _volume(outer: _Surface, inner: _Surface, height: float, reach: float = math.pi, middle: float = 0.0) -> float:
    """What lies between two surfaces from the base to a height, `reach` to either side of a direction; Gauss and Legendre's rule."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    angle, z = middle + reach * nodes[None], height * (nodes[:, None] + 1) / 2
    across = (outer(angle, z) ** 2 - inner(angle, z) ** 2) / 2
    return float(weights @ across @ weights) * reach * height / 2 / 1000


def _axis(angle: Number, z: Number) -> Field:
    """The surface that is none: the axis itself."""
    return np.zeros(np.broadcast(angle, z).shape)


def volume_bound(heart: Ventricles, *, pixel: float, slice_thickness: float) -> dict[Structure, float]:
    """How far the sum of voxels can be from the true volume, in mL, wherever the grid lies in the plane.

    In the plane a wrong point and the centre of its pixel are on two sides of the outline, half a diagonal d apart at most, so
    that the area is wrong by d P + pi d² at most, of an outline of length P (Steiner). Along the axis, with the base between two
    slices, the midpoint rule is wrong by the square of the thickness / 8 times the variation of the area's slope at most.
    """
    diagonal = pixel / math.sqrt(2)

    def bound(outer: _Surface, inner: _Surface, height: float, reach: float = math.pi) -> float:
        angle = np.linspace(-reach, reach, _ANGLES)[None] + heart.right_at
        z = np.linspace(0, 1.1 * height, _HEIGHTS)[:, None]
        outlines = outer(angle, z), inner(angle, z)
        area = (outlines[0][:, :-1] ** 2 - outlines[1][:, :-1] ** 2).sum(1) * reach / (_ANGLES - 1)
        slope = np.diff(area) / (z[1] - z[0])
        around = sum(_perimeters(outline, angle) for outline in outlines)
        middle = np.arange(slice_thickness / 2, height, slice_thickness)
        in_plane = slice_thickness * (diagonal * np.interp(middle, z[:, 0], around) + 2 * math.pi * diagonal**2).sum()
        return float(in_plane + slice_thickness**2 / 8 * np.abs(np.diff(slope)).sum()) / 1000

    return {
        "rv": bound(heart.right, heart.wall_outside, heart.right_length, heart.right_reach),
        "myocardium": bound(heart.wall_outside, heart.left, heart.length + heart.wall),
        "lv": bound(heart.left, _axis, heart.length),
    }


def _perimeters(radius: Field, angle: Field) -> Field:
    return np.hypot(np.diff(radius * np.cos(angle)), np.diff(radius * np.sin(angle))).sum(1)


def label_slice(heart: Ventricles, z: float, x: Field, y: Field) -> NDArray[np.uint8]:
    """What lies at places of the plane at height `z`: `LABELS`, 0 outside."""
    far, angle = np.hypot(x, y), np.arctan2(y, x)
    result = np.zeros(far.shape, np.uint8)
    if z > 0:
        result[far < heart.right(angle, z)] = LABELS["rv"]
        result[far < heart.wall_outside(angle, z)] = LABELS["myocardium"]
        result[far < heart.left(angle, z)] = LABELS["lv"]
    return result


@dataclass(frozen=True)
class Scene:
    """What surrounds a heart and how it is seen; the same at both moments. Lengths in mm, from the axis of the left ventricle."""

    chest: tuple[float, float]  # centre of the trunk
    fat: float  # thickness under the skin
    liver: float  # height of its dome
    aorta: tuple[float, float, float]  # centre and radius of the descending aorta
    spine: tuple[float, float]
    atrium: tuple[float, float, float]  # centre and radius, above the base
    papillary: tuple[float, float]  # directions of the papillary muscles
    contrast: float  # brightness of the myocardium, blood being 1
    coil: tuple[float, float]  # how much brighter it is towards the left and towards the back
    textures: NDArray[np.float32]  # (4, 256, 256) fine structure per slice in turn, standard deviation 1


def draw_scene(random: np.random.Generator) -> Scene:
    """Draw the surroundings of a heart."""

    def near(middle: float, spread: float) -> float:
        return float(middle + spread * np.clip(random.standard_normal(), -2, 2))

    white = random.standard_normal((4, 256, 256), dtype=np.float32)
    textures = np.stack([gaussian_filter(each, 1.2, mode="wrap") + 2 * gaussian_filter(each[::-1], 4, mode="wrap") for each in white])
    return Scene(
        chest=(near(-32, 5), near(38, 4)),
        fat=near(9, 2.5),
        liver=near(52, 4),
        aorta=(near(30, 4), near(72, 4), near(11, 1)),
        spine=(near(-14, 4), near(98, 4)),
        atrium=(near(-4, 2), near(10, 3), near(25, 2)),
        papillary=(near(-0.5, 0.15), near(1.7, 0.2)),
        contrast=near(0.34, 0.03),
        coil=(near(-0.12, 0.08), near(-0.35, 0.08)),
        textures=(textures / textures.std()).astype(np.float32),
    )


def render_slice(
    heart: Ventricles, scene: Scene, z: float, x: Field, y: Field, *, number: int, slice_thickness: float, pixel: float
) -> Field:
    """A slice of cine imaging (balanced steady-state free precession) without noise, (H, W); blood is about 1.

    `number` of the slice chooses its texture. The heart is averaged over the thickness, so that edges that lie aslant are soft.
    """
    plane = _Plane(x, y, np.hypot(x, y), np.arctan2(y, x), 0.45 * pixel, _woven(scene.textures[number % len(scene.textures)], x, y))
    around = _surroundings(scene, z, plane)
    heights = z + slice_thickness * np.array([-0.33, 0.0, 0.33])
    layers = [_heart(around, heart, scene, height, plane) if height > 0 else _atria(around, scene, plane) for height in heights.tolist()]
    picture = np.mean(layers, axis=0)
    return picture * np.clip(1 + scene.coil[0] * x / 100 + scene.coil[1] * y / 100, 0.2, None)


@dataclass(frozen=True)
class _Plane:
    x: Field
    y: Field
    far: Field
    angle: Field
    soft: float  # mm over which an edge goes from 0.88 to 0.12
    texture: Field

    def inside(self, distance: Field) -> Field:
        """1 where a distance to an outline is below 0, 0 where it is above, with a soft edge."""
        return 0.5 - 0.5 * np.tanh(distance / (2 * self.soft))

    def disc(self, x: float, y: float, radius: float, height: float = 1.0) -> Field:
        """Distance to an ellipse, `height` times as high as it is wide."""
        return (np.hypot(self.x - x, (self.y - y) / height) - radius) * min(1.0, height)


def _over(below: Field, cover: Field, value: Field | float) -> Field:
    return below + cover * (value - below)


def _surroundings(scene: Scene, z: float, plane: _Plane) -> Field:
    rough = 0.06 * plane.texture
    trunk = plane.disc(*scene.chest, 168, 0.74)
    picture = _over(np.full_like(plane.x, 0.01), plane.inside(trunk), 0.78 + rough)
    around = np.arctan2(plane.y - scene.chest[1], plane.x - scene.chest[0])
    ribs = np.exp(-(((trunk + scene.fat + 8) / 3) ** 2)) * np.clip(np.cos(16 * around + 0.05 * z), 0, 1) ** 2
    picture = _over(picture, plane.inside(trunk + scene.fat), 0.26 + 0.4 * ribs + rough)
    picture = _over(picture, plane.inside(trunk + scene.fat + 15), 0.05 + 0.3 * np.abs(rough))  # lungs
    picture = _over(picture, plane.inside(plane.disc(scene.spine[0], scene.spine[1] + 14, 42, 0.8)), 0.30 + rough)
    picture = _over(picture, plane.inside(plane.disc(*scene.spine, 18, 0.85)), 0.52 + rough)
    picture = _over(picture, plane.inside(plane.disc(-14, 8, 56 - 0.1 * z, 1.0)), 0.58 + 1.5 * rough)  # fat of the mediastinum
    dome = scene.liver - 0.12 * z
    picture = _over(picture, plane.inside(plane.disc(-78, dome + 62, 98, 0.72)), 0.40 + 0.8 * rough)
    picture = _over(picture, plane.inside(plane.disc(-78 + 30, dome + 40, 4, 0.6)), 0.85)  # a vein of the liver
    picture = _over(picture, plane.inside(plane.disc(76, dome + 48, 42, 0.7)), 0.50 + rough)  # stomach
    picture = _over(picture, plane.inside(plane.disc(*scene.aorta[:2], scene.aorta[2] + 2)), 0.25)
    return _over(picture, plane.inside(plane.disc(*scene.aorta)), 0.95 + 0.3 * rough)


def _heart(around: Field, heart: Ventricles, scene: Scene, z: float, plane: _Plane) -> Field:
    height = np.asarray(z, plane.far.dtype)
    outside, cavity, right = (radius(plane.angle, height) for radius in (heart.wall_outside, heart.left, heart.right))
    blood, muscle = 1.0 + 0.03 * plane.texture, scene.contrast + 0.02 * plane.texture
    there = 1.0 if z < heart.length + heart.wall else 0.0
    fat = plane.far - right - 3 - 4.5 * there * (1 + 0.5 * np.sin(2 * plane.angle + 1))
    picture = _over(around, there * plane.inside(fat), 0.72 + 0.06 * plane.texture)
    picture = _over(picture, there * plane.inside(plane.far - right - 2.6), muscle)
    picture = _over(picture, plane.inside(plane.far - right), 0.93 * blood)
    picture = _over(picture, there * plane.inside(plane.far - outside), muscle)
    # Trabeculae: the edge of the cavity is uneven in the picture, not in the outline.
    trabeculae = np.clip(plane.texture, 0, 1.5) * np.exp(-(((plane.far - cavity) / 4) ** 2))
    picture = _over(picture, plane.inside(plane.far - cavity), blood - 0.25 * trabeculae)
    if 0.15 < z / heart.length < 0.72:
        for direction in scene.papillary:
            place = 0.66 * float(heart.left(direction, z))
            size = 0.07 * heart.radius + 0.12 * heart.wall
            muscles = plane.inside(plane.disc(place * math.cos(direction), place * math.sin(direction), size))
            picture = _over(picture, muscles, scene.contrast + 0.08)
    return picture


def _atria(around: Field, scene: Scene, plane: _Plane) -> Field:
    """Above the base: the left atrium, the root of the aorta, and the outflow of the right ventricle."""
    x, y, radius = scene.atrium
    picture = _over(around, plane.inside(plane.disc(x - 8, y - 6, 1.75 * radius)), 0.70 + 0.06 * plane.texture)
    for left, down, size in (
        (x, y, radius),
        (x - 36, y - 4, 0.78 * radius),
        (x - 30, y - 30, 0.6 * radius),
        (x - 8, y - 30, 0.55 * radius),
    ):
        picture = _over(picture, plane.inside(plane.disc(left, down, size + 2)), 0.30)
        picture = _over(picture, plane.inside(plane.disc(left, down, size)), 0.95 + 0.04 * plane.texture)
    return picture


def _woven(texture: NDArray[np.float32], x: Field, y: Field) -> Field:
    """A texture at places, repeated; its pixels are 1 mm."""
    return texture[np.rint(y).astype(int) % len(texture), np.rint(x).astype(int) % len(texture)]


def _dome(z: Number, length: float) -> Field:
    return np.sqrt(np.clip(1 - (z / length) ** 2, 0, None)) * np.greater_equal(z, 0)


def _turned(angle: Number) -> Number:
    """An angle between -pi and pi."""
    return (angle + np.pi) % (2 * np.pi) - np.pi
