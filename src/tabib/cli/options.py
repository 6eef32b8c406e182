"""The options that several verbs share, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = [
    "DEFAULT_RUNS",
    "AnyLayout",
    "AsJson",
    "Column",
    "DataFolder",
    "Group",
    "Offline",
    "Overrides",
    "Pages",
    "Pattern",
    "Resume",
    "RunFolder",
    "Runs",
    "Structure",
    "StudyFile",
    "Table",
]


StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="The study file (YAML).")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as in runs/<study>/<id>.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change one field of the study; recorded.")]
DataFolder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="A folder of images, an archive of one (.zip, .tar, .tar.gz), or an .npz file.")
]
AnyLayout = Annotated[
    Literal["auto", "class_folders", "npz", "table", "pattern", "dicom", "image_mask_pairs", "acdc", "nnunet", "dicom_seg", "sunnybrook"],
    typer.Option(help="How the data say what an image is, or how its mask lies."),
]
Structure = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="NAME=NUMBER",
        help="A structure and its number in the masks, as in --label lv=3; may be repeated. Several: lv=3,4.",
    ),
]
Table = Annotated[Path | None, typer.Option(metavar="FILE", help="The table of labels: CSV, TSV or Parquet.")]
Column = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIELD=NAME",
        help="A column of the table, as in --column label=diagnosis; may be repeated. Several: facts=age,sex or labels=effusion,mass.",
    ),
]
Pattern = Annotated[
    str | None, typer.Option(metavar="PATTERN", help="Regular expression on every path, with the groups label, group, part and others.")
]
Group = Annotated[str | None, typer.Option(metavar="PATTERN", help="Regular expression whose captures name the patient.")]
Pages = Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Where the pages are written.")]

Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Where run folders are kept.")]
OnPhantom = Annotated[
    bool,
    typer.Option("--phantom", help="Take made-up images in place of the data, as the study file says under phantom; no data are needed."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Download nothing: weights that a study starts from must be here.")]
Resume = Annotated[bool, typer.Option("--resume", help="Only continue a run; an error where the study has changed.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]

DEFAULT_RUNS = Path("runs")
