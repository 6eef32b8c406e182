"""What each measure of a segmentation is, where it comes from, and its value where a mask is empty."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan

__all__ = ["OBJECTS", "STRUCTURES", "Definition"]


@dataclass(frozen=True)
class Definition:
    """A measure: its formula, its unit ("" for a share), its source, and its values where masks are empty."""

    formula: str
    unit: str
    source: str
    both_empty: float
    truth_empty: float
    prediction_empty: float


STRUCTURES: dict[str, Definition] = {
    "dice": Definition("2 TP / (2 TP + FP + FN)", "", "Dice, Ecology 1945;26:297", nan, 0, 0),
    "iou": Definition("TP / (TP + FP + FN)", "", "Jaccard 1901", nan, 0, 0),
    "precision": Definition("TP / (TP + FP)", "", "share of the predicted voxels that are right", nan, 0, nan),
    "recall": Definition("TP / (TP + FN)", "", "share of the true voxels that are found", nan, nan, 0),
    "hausdorff_mm": Definition(
        "the largest distance from a surface voxel of either mask to the other surface",
        "mm",
        "Huttenlocher et al., IEEE TPAMI 1993;15:850",
        nan,
        inf,
        inf,
    ),
    "hausdorff95_mm": Definition(
        "the larger of the two 95th percentiles (linear between ranks), one from each surface to the other",
        "mm",
        "as `HausdorffDistanceMetric(percentile=95)` of MONAI",
        nan,
        inf,
        inf,
    ),
    "surface_distance_mm": Definition(
        "mean over the surface voxels of both masks of the distance to the other surface",
        "mm",
        "average symmetric surface distance: Heimann et al., IEEE TMI 2009;28:1251",
        nan,
        inf,
        inf,
    ),
    "surface_dice": Definition(
        "share of the surface voxels of both masks that lie within the tolerance of the other surface",
        "",
        "Nikolov et al., J Med Internet Res 2021;23:e26151, counting surface voxels alike, as Seidlitz et al., Med Image Anal 2022;80:102488",
        nan,
        0,
        0,
    ),
    "truth_ml": Definition("true voxels × product of the spacing / 1000", "mL", "", 0, 0, 1),
    "prediction_ml": Definition("predicted voxels × product of the spacing / 1000", "mL", "", 0, 1, 0),
    "volume_error_ml": Definition("predicted less true volume", "mL", "", 0, 1, -1),
    "volume_error": Definition("predicted less true volume, as a fraction of the true one", "", "", nan, nan, -1),
}
"""Measures of one structure in one case. The mask that is not empty holds 1 mL."""

OBJECTS: dict[str, Definition] = {
    "f1": Definition("2 TP / (2 TP + FP + FN) of objects, matched where IoU > 0.5", "", "equal to DQ", nan, 0, 0),
    "detection_quality": Definition("TP / (TP + FP / 2 + FN / 2), DQ", "", "Kirillov et al., CVPR 2019", nan, 0, 0),
    "segmentation_quality": Definition("mean IoU of the matched pairs, SQ", "", "Kirillov et al., CVPR 2019", nan, nan, nan),
    "panoptic_quality": Definition(
        "sum of the IoU of the matched pairs / (TP + FP / 2 + FN / 2) = DQ × SQ", "", "Kirillov et al., CVPR 2019", nan, 0, 0
    ),
    "aji": Definition(
        "sum of the intersections of each true object with the predicted one of the highest IoU / sum of their unions and of all "
        "predicted objects that no true one chose",
        "",
        "aggregated Jaccard index: Kumar et al., IEEE TMI 2017;36:1550",
        nan,
        0,
        0,
    ),
    "count_error": Definition("predicted less true number of objects", "objects", "", 0, 1, -1),
}
"""Measures of the objects of one picture. The picture that is not empty holds 1 object."""
