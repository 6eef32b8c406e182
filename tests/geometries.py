"""NIfTI files that lie in the body in any way."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from hypothesis import strategies as st


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """From (i, j, k, 1) to mm right, front, head: any exchange and mirroring of axes, any spacing, tilted, anywhere."""
    axes = np.eye(3)[list(draw(st.permutations(range(3))))] * draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    angle, spacing = draw(st.floats(-0.6, 0.6)), draw(st.tuples(*[st.floats(0.2, 12)] * 3))
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ turn[[2, 0, 1]][:, [2, 0, 1]] @ axes * spacing
    affine[:3, 3] = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    return affine


def saved(
    folder: Path, stored: np.ndarray, affine: np.ndarray | None, name: str = "a.nii.gz", kind: type = nibabel.Nifti1Image, **codes: int
) -> Path:
    """Write a NIfTI file by nibabel."""
    image = kind(stored, affine)
    if affine is not None:
        image.set_sform(affine, codes.get("sform", 2))
        image.set_qform(affine, codes.get("qform", 1))
    nibabel.save(image, folder / name)
    return folder / name
