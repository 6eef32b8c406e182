"""The study that a verb is given: in a file, or a folder that options describe, in a study of nothing else."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabib.errors import DataError, StudyError

if TYPE_CHECKING:
    from tabib.config import AnyStudy
    from tabib.study_file import MakePhantom

__all__ = ["maker_of", "study_in", "study_of"]


def study_of(
    folder: Path,
    layout: str,
    *,
    table: Path | None,
    column: list[str] | None,
    pattern: str | None,
    group: str | None,
    source: str,
    kind: str | None = None,
    name: str = "look",
    labels: list[str] | None = None,
    overrides: list[str] | None = None,
) -> AnyStudy:
    """The data that options describe, in a study of nothing else: of masks, where their labels or a layout of theirs are given."""
    from tabib.config import Segmentation
    from tabib.dataset import MASK_LAYOUTS, guess_masks, numbers_in_masks
    from tabib.study_file import check_study

    if not folder.exists():
        raise DataError(
            f"There is no {folder}. Give a folder of images, an archive of one, or an .npz file; check the name, and from where you call."
        )
    columns: dict[str, Any] = {field: name for field, _, name in (text.partition("=") for text in column or ())}
    columns |= {field: columns[field].split(",") for field in ("facts", "labels") if field in columns}
    data = {"folder": str(folder), "table": table and str(table), "columns": columns, "group": group, "kind": kind}
    guessed = guess_masks(folder) if folder.is_dir() and not (table or pattern) else None
    if labels or layout in MASK_LAYOUTS or (layout == "auto" and guessed):
        if pattern is not None:
            raise StudyError("--pattern names the class of an image, and images with masks have none. Leave it out.")
        data |= {"layout": "image_mask_pairs" if layout == "auto" else layout}
        data |= guessed if guessed and layout in ("auto", guessed["layout"]) else {}
        data |= {"labels": dict(map(_numbers_of, labels))} if labels else {}
        values = {"task": "segmentation", "name": name, "data": data}
        if not data.get("labels") and not any(text.startswith("data.labels") for text in overrides or ()):
            unnamed = check_study({**values, "data": {**data, "labels": {"any": 1}}}, source=source, overrides=overrides or ())
            assert isinstance(unnamed, Segmentation)
            raise StudyError(_name_them(numbers_in_masks(unnamed.data)))
        return check_study(values, source=source, overrides=overrides or ())
    given = {"table": table, "pattern": pattern, "npz": folder.suffix == ".npz"}
    layout = layout if layout != "auto" else next((name for name, there in given.items() if there), "class_folders")
    data |= {"layout": layout, "pattern": pattern}
    return check_study({"name": name, "data": data}, source=source, overrides=overrides or ())


def _name_them(numbers: list[int]) -> str:
    """What to say where images have masks and nobody says which number is what."""
    shown = ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")
    return (
        f"These are images with masks, whose first ones hold the numbers {shown or '0 alone'}. Say what is learnt: --label NAME={numbers[0] if numbers else 1} "
        "for each structure; where each number is one object, such as a nucleus, --label nucleus=1 --set data.instances=true. Images of classes: --layout class_folders."
    )


def _numbers_of(text: str) -> tuple[str, str | list[str]]:
    """The name of a structure and its numbers, of `--label NAME=NUMBER`."""
    name, equals, numbers = text.partition("=")
    if not equals:
        raise StudyError(f"--label {text} has no =. Write it as --label NAME=NUMBER, as in --label lv=3.")
    several = [number.strip() for number in numbers.split(",")]
    return name, several if len(several) > 1 else several[0]


def study_in(study_file: Path, overrides: list[str] | None, *, runs: Path, phantom: bool) -> AnyStudy:
    """The study of a file, on its own data or on the made-up images that it names."""
    from tabib.study_file import load_study

    return load_study(study_file, overrides=overrides or (), phantom=maker_of(phantom, runs))


def maker_of(phantom: bool, runs: Path) -> MakePhantom | None:
    """What makes the images of --phantom; nothing where it is not given."""
    if not phantom:
        return None
    from tabib.console import ConsoleProgress
    from tabib.phantoms import ready_phantom

    return partial(ready_phantom, root=runs, progress=ConsoleProgress())
