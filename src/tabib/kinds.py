"""What may be changed at random in which kind of image: for every change the default, the most that is believable, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["KINDS", "Kind", "Rule"]

Kind = Literal["chest_film", "brain_slice", "blood_cells", "tissue", "skin", "retina", "photograph"]


@dataclass(frozen=True)
class Rule:
    """One random change of one kind of image."""

    default: float | bool  # where a study does not set the field
    most: float | bool  # a study that sets more is told so
    reason: str  # the sentence under [augment_reasons] of the reports' words


KINDS: dict[Kind, dict[str, Rule]] = {
    "chest_film": {
        "rotation_degrees": Rule(10.0, 20.0, "positioned"),
        "shift": Rule(0.05, 0.2, "positioned"),
        "zoom": Rule(0.1, 0.25, "distance"),
        "stretch": Rule(0.0, 0.1, "heart_shape"),
        "shear_degrees": Rule(0.0, 10.0, "heart_shape"),
        "crop": Rule(0.0, 0.2, "lung_bases"),
        "flip_horizontal": Rule(False, False, "heart_left"),
        "flip_vertical": Rule(False, False, "one_way_up"),
        "elastic": Rule(0.0, 0.02, "heart_shape"),
        "brightness": Rule(0.1, 0.3, "exposure"),
        "contrast": Rule(0.1, 0.5, "exposure"),
    },
    "brain_slice": {
        "rotation_degrees": Rule(10.0, 20.0, "positioned"),
        "shift": Rule(0.05, 0.15, "positioned"),
        "zoom": Rule(0.1, 0.2, "head_size"),
        "stretch": Rule(0.0, 0.1, "brain_shape"),
        "shear_degrees": Rule(0.0, 10.0, "brain_shape"),
        "flip_horizontal": Rule(False, True, "brain_halves"),
        "flip_vertical": Rule(False, False, "one_way_up"),
        "elastic": Rule(0.0, 0.02, "brain_shape"),
        "brightness": Rule(0.1, 0.3, "scanner"),
        "contrast": Rule(0.1, 0.3, "scanner"),
    },
    "blood_cells": {
        "rotation_degrees": Rule(180.0, 180.0, "any_direction"),
        "shift": Rule(0.0, 0.0, "cut_cells"),
        "zoom": Rule(0.05, 0.1, "cell_size"),
        "stretch": Rule(0.0, 0.05, "cell_shape"),
        "shear_degrees": Rule(0.0, 5.0, "cell_shape"),
        "crop": Rule(0.0, 0.0, "cut_cells"),
        "flip_horizontal": Rule(True, True, "any_direction"),
        "flip_vertical": Rule(True, True, "any_direction"),
        "elastic": Rule(0.0, 0.02, "cell_shape"),
        "brightness": Rule(0.1, 0.2, "lamp"),
        "contrast": Rule(0.1, 0.2, "lamp"),
        "saturation": Rule(0.0, 0.2, "cell_colour"),
        "hue_degrees": Rule(0.0, 5.0, "cell_colour"),
        "stain": Rule(0.03, 0.1, "staining"),
        "blur": Rule(0.0, 0.01, "chromatin"),
        "noise": Rule(0.0, 0.02, "chromatin"),
    },
    "tissue": {
        "rotation_degrees": Rule(180.0, 180.0, "any_direction"),
        "shift": Rule(0.05, 0.2, "any_place"),
        "zoom": Rule(0.1, 0.2, "cell_size"),
        "stretch": Rule(0.0, 0.1, "cell_shape"),
        "shear_degrees": Rule(0.0, 10.0, "cell_shape"),
        "flip_horizontal": Rule(True, True, "any_direction"),
        "flip_vertical": Rule(True, True, "any_direction"),
        "elastic": Rule(0.0, 0.05, "cell_shape"),
        "brightness": Rule(0.1, 0.3, "lamp"),
        "contrast": Rule(0.1, 0.3, "lamp"),
        "saturation": Rule(0.0, 0.3, "staining"),
        "hue_degrees": Rule(0.0, 15.0, "cell_colour"),
        "stain": Rule(0.05, 0.2, "staining"),
    },
    "skin": {
        "rotation_degrees": Rule(180.0, 180.0, "any_direction"),
        "shift": Rule(0.05, 0.1, "lesion_edge"),
        "zoom": Rule(0.1, 0.2, "distance"),
        "stretch": Rule(0.0, 0.05, "lesion_shape"),
        "shear_degrees": Rule(0.0, 5.0, "lesion_shape"),
        "crop": Rule(0.0, 0.1, "lesion_edge"),
        "flip_horizontal": Rule(True, True, "any_direction"),
        "flip_vertical": Rule(True, True, "any_direction"),
        "elastic": Rule(0.0, 0.02, "lesion_shape"),
        "brightness": Rule(0.1, 0.3, "lamp"),
        "contrast": Rule(0.1, 0.3, "lamp"),
        "saturation": Rule(0.1, 0.3, "lamp"),
        "hue_degrees": Rule(0.0, 10.0, "lesion_colour"),
    },
    "retina": {
        "rotation_degrees": Rule(10.0, 30.0, "positioned"),
        "shift": Rule(0.05, 0.1, "positioned"),
        "zoom": Rule(0.1, 0.2, "distance"),
        "stretch": Rule(0.0, 0.1, "disc_shape"),
        "shear_degrees": Rule(0.0, 5.0, "disc_shape"),
        "flip_horizontal": Rule(True, True, "other_eye"),
        "flip_vertical": Rule(False, True, "vessel_halves"),
        "elastic": Rule(0.0, 0.02, "disc_shape"),
        "brightness": Rule(0.1, 0.3, "lamp"),
        "contrast": Rule(0.1, 0.3, "lamp"),
        "saturation": Rule(0.1, 0.3, "lamp"),
        "hue_degrees": Rule(0.0, 10.0, "lesion_colour"),
    },
    "photograph": {
        "rotation_degrees": Rule(15.0, 45.0, "gravity"),
        "shift": Rule(0.1, 0.3, "any_place"),
        "zoom": Rule(0.2, 0.5, "distance"),
        "crop": Rule(0.2, 0.6, "any_place"),
        "flip_horizontal": Rule(True, True, "world_halves"),
        "flip_vertical": Rule(False, False, "gravity"),
        "brightness": Rule(0.2, 0.5, "lamp"),
        "contrast": Rule(0.2, 0.5, "lamp"),
        "hue_degrees": Rule(0.0, 40.0, "lamp"),
    },
}
"""By kind of image and field of `augment`. What is not named is off unless a study sets it, and any value is believable."""
