"""A data set written into a folder whole or not at all, with the truth beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from tabib.errors import StudyError
from tabib.progress import SILENT, Progress
from tabib.runs import writing

__all__ = ["write_folder"]


def write_folder(
    folder: Path, files: Iterable[tuple[str, bytes]], *, number: int, truth: tuple[str, Callable[[], str]], progress: Progress = SILENT
) -> None:
    """Write `number` files, each with its path below the folder, and beside the folder what is true of them.

    `folder` must be empty or not there yet (`StudyError`), and be one that can be written (`RunError`). `truth` is a suffix and
    a text, asked for when all files are written: it goes to `<folder><suffix>`, outside, because the folder must hold what a hospital's would. A new folder appears
    whole: what a kill leaves has another name.
    """
    whole = folder.resolve()  # the folder may be given as "."
    beside, unfinished = whole.with_name(f"{whole.name}{truth[0]}"), whole.with_name(f".{whole.name}.part")
    with writing(folder):
        if folder.exists() and any(folder.iterdir()):
            raise StudyError(f"{folder} is not empty, and a phantom is written into an empty or a new folder; give another one")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        with progress.bar("phantom", number) as advance:
            for name, data in files:
                path = unfinished / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                advance(1)
    with writing(beside):
        beside.write_text(truth[1](), encoding="utf-8")
        if whole.exists():  # somebody may stand in it: it is filled, not replaced
            for part in unfinished.iterdir():
                part.replace(whole / part.name)
            unfinished.rmdir()
        else:
            unfinished.replace(whole)
