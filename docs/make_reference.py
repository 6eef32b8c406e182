"""Write the reference pages and the tree in the readmes from the code: `make docs`. A test fails when a page is older than what it describes."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import tabib
from tabib import errors
from tabib.cli import app
from tabib.config import Phantom, Segmentation, Study, parts_in, reading_order
from tabib.images import MAX_VOXELS
from tabib.kinds import KINDS
from tabib.metrics.definitions import OBJECTS, STRUCTURES, Definition
from tabib.metrics.heart import MYOCARDIAL_DENSITY

REFERENCE = Path(__file__).parent / "reference"


def study_page() -> str:
    """Every field of a study file."""
    lines = [
        "# The study file",
        "",
        "One YAML file says everything a run depends on. Every scalar is read as text and the field decides its type; `none` "
        "is no value; unknown and repeated fields are refused with file, line and the nearest spelling; paths are relative to "
        "the file. Any field can be changed for one run with `--set`, as in `--set training.epochs=5`, and that is recorded.",
        "",
    ]
    return "\n".join([*lines, *_fields_of(Study), *_fields_of(Phantom, "phantom")])


def mask_study_page() -> str:
    """Every field of a study of images and masks."""
    lines = [
        "# The study file of images and masks",
        "",
        "With `task: segmentation` a study learns which part of an image is what. It is written by the same rules as "
        "[a study of classes](study.md), and these are its fields. How to bring your own masks: [masks](../how-to/masks.md).",
        "",
    ]
    return "\n".join([*lines, *_fields_of(Segmentation), *_fields_of(Phantom, "phantom")])


def _fields_of(model: type[BaseModel], called: str = "study") -> list[str]:
    lines: list[str] = []
    for name, part in _parts(model, called):
        lines += [f"## {name}", "", _first(part), "", "| field | type | default | meaning |", "|---|---|---|---|"]
        for field in reading_order(part.model_fields):
            info = part.model_fields[field]
            description = info.description or _first(next(parts_in(info.annotation)))
            default = "required" if info.default is PydanticUndefined else _default(info.default)
            lines.append(f"| `{field}` | {_type(info.annotation, info.metadata)} | {default} | {_cell(description)} |")
        lines.append("")
    return lines


def commands_page() -> str:
    """Every verb of the command line."""
    lines = [
        "# Commands",
        "",
        "Every verb takes `--json` and then prints one JSON object, of an error too (`error`, `kind`, `exit_code`). Only what the "
        "command line itself does not understand, such as an unknown option, is said on standard error alone, with exit code 2. Exit codes: **0** done, **1** failed, **2** wrong use, "
        "**3** done, but some images were refused. Ctrl-C leaves with 130 and loses nothing.",
        "",
        '`look` and `check` tell what they find and stop nothing: a finding marked `FAIL` (with `--json` one of `"level": "fail"`) leaves '
        "their exit code at 0. A study with such a finding that it does not name under `expect:` is refused with exit code 2 before the next "
        "step is taken: by `split` and every later verb, `check` included, where `look` found it; by `train` and every later verb where `check` "
        "found it.",
        "",
    ]
    for name, command in typer.main.get_command(app).commands.items():  # pyright: ignore[reportAttributeAccessIssue]
        arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
        options = [parameter for parameter in command.params if parameter.param_type_name == "option" and parameter.name != "help"]
        usage = " ".join(["tabib", name, *(parameter.metavar for parameter in arguments)])
        lines += [f"## tabib {name}", "", f"    {usage}", "", inspect.cleandoc(command.help), ""]
        lines += ["| argument or option | default | meaning |", "|---|---|---|"]
        for parameter in [*arguments, *options]:
            spelled = (parameter.metavar or parameter.name) if parameter in arguments else ", ".join(parameter.opts)
            default = "" if parameter.default in (None, False) else f"`{parameter.default}`"
            lines.append(f"| `{spelled}` | {'required' if parameter.required else default} | {_cell(parameter.help or '')} |")
        lines.append("")
    return "\n".join(lines)


def errors_page() -> str:
    """Every error that Tabib reports."""
    lines = ["# Errors", "", "```", inspect.cleandoc(errors.__doc__ or ""), "```", ""]
    for name in errors.__all__:
        error = getattr(errors, name)
        lines += [f"## {name}", "", inspect.cleandoc(error.__doc__ or ""), "", f"Exit code {error.exit_code}.", ""]
    return "\n".join(lines)


def findings_page() -> str:
    """Every finding, check and remark, with its words."""
    locale = tomllib.loads((Path(tabib.__file__).parent / "reports" / "locales" / "en.toml").read_text(encoding="utf-8"))
    lines = [
        "# Findings, checks and remarks",
        "",
        "What Tabib says about data, training and results. A study that knows of one lists its code under `expect:`. Words in "
        "braces are filled in.",
        "",
        "| code | what it says | what to do |",
        "|---|---|---|",
    ]
    for code, words in sorted(locale["findings"].items()):
        lines.append(f"| `{code}` | **{_cell(words['title'])}.** {_cell(words['found'])} | {_cell(words['todo'])} |")
    return "\n".join([*lines, ""])


READ = (  # format, what of it, what becomes of it; each line is tried by tests/images/test_formats.py
    ("DICOM", "uncompressed, little or big-endian, implicit or explicit; deflated", "all stored bits"),
    ("DICOM", "JPEG baseline, extended (12 bits) and lossless (any predictor)", "as decoded"),
    ("DICOM", "JPEG-LS, JPEG 2000, High-Throughput JPEG 2000, each with or without loss; RLE", "as decoded"),
    ("DICOM", "window, rescaling", "black and white are the window's edges; the stored values stay"),
    ("DICOM", "look-up tables (modality, VOI), sigmoid", "applied, as shares of the full range"),
    ("DICOM", "MONOCHROME1, negative slopes, signed values, 1 to 16 bits", "brighter means more, from 0 on"),
    ("DICOM", "PALETTE COLOR, RGB, YBR_FULL, YBR_FULL_422, YBR_ICT, YBR_RCT", "RGB"),
    ("DICOM", "several frames, enhanced multi-frame", "each, with its own window and spacing"),
    ("JPEG", "grey, colour, CMYK, progressive", "8 bits, upright by EXIF"),
    ("PNG", "1 to 16 bits, palette, opacity, interlaced", "8 or 16 bits, on black"),
    ("TIFF", "grey and RGB of 8 or 16 bits in strips, tiles or planes; BigTIFF; several pages", "8 or 16 bits, page by page"),
    ("TIFF", "1 to 8 bits, palette, CMYK, YCbCr, opacity", "8 bits, on black"),
    ("TIFF", "LZW, deflate, PackBits, Zstandard, LZMA, CCITT; JPEG of 8 bits", "as decoded"),
    ("BMP", "1 to 32 bits a pixel", "8 bits"),
    ("WebP", "one picture, with or without loss", "8 bits, on black"),
    ("NIfTI", "integers of 8 or 16 bits or RGB; NIfTI-1 and 2; in gzip; volumes slice by slice", "8 or 16 bits, lying as on film"),
    ("NIfTI", "wider integers, floating point", "16-bit shares of cal_min to cal_max, or of the range of the volume"),
)
REFUSED = (  # format, what of it, words of the reason
    ("DICOM", "no preamble and no DICM mark", "holds no format that is known here"),
    ("DICOM", "video (MPEG-2, MPEG-4, HEVC)", "which is not read; save the picture that counts"),
    ("DICOM", "reports, plans, waveforms", "without integer pixels"),
    ("DICOM", "32 bits (dose), floating point", "1 to 16 stored bits in 8 or 16 allocated ones are read"),
    ("DICOM", "a palette in segments", "a palette in segments, or with none"),
    ("PNG", "animation", "holds an animation"),
    ("PNG", "16-bit colour with one transparent colour", "one transparent colour"),
    ("TIFF", "floating point, 32 bits", "whose black and white are not defined"),
    ("TIFF", "16 bits in colours other than grey and RGB", "which is not read; save it as grey or RGB"),
    ("TIFF", "channels that are no colours", "save the channel that counts"),
    ("TIFF", "old-style JPEG", "old-style JPEG"),
    ("TIFF", "JPEG 2000, JPEG XL, WebP, PNG inside", "save it as LZW or deflate"),
    ("WebP", "animation", "holds an animation"),
    ("NIfTI", "several slices and nothing said", "nothing says which one counts"),
    ("NIfTI", "complex numbers, CIFTI matrices", "no picture"),
    ("NIfTI", "a header whose pixels are in another file", "whose pixels are in another file"),
    ("any", "more than 100,000,000 pixels", "at most 100,000,000 are read"),
    ("any", "cut short or damaged", "copy"),
    ("others", "GIF, HEIC, AVIF, JPEG 2000 outside DICOM, SVG, PDF, archives", "convert it"),
)
CHECKED = (  # library, its test files that hold pixels and are refused, words of the reason; tried by tests/images/test_bundled.py
    ("pydicom", "MR_truncated.dcm", "less than expected"),
    ("pydicom", "badVR.dcm", "invalid literal"),
    ("pydicom", "JPEG2000-embedded-sequence-delimiter.dcm", "compressed frame is of"),
    ("pydicom", "SC_rgb_rle_32bit.dcm", "32 bits allocated"),
    ("pydicom", "SC_rgb_rle_32bit_2frame.dcm", "32 bits allocated"),
    ("pydicom", "rtdose.dcm", "32 bits allocated"),
    ("pydicom", "rtdose_1frame.dcm", "32 bits allocated"),
    ("pydicom", "rtdose_expb.dcm", "32 bits allocated"),
    ("pydicom", "rtdose_expb_1frame.dcm", "32 bits allocated"),
    ("pydicom", "rtdose_rle.dcm", "32 bits allocated"),
    ("pydicom", "rtdose_rle_1frame.dcm", "32 bits allocated"),
    ("pydicom", "meta_missing_tsyntax.dcm", "does not name its transfer syntax"),
    ("pydicom", "nested_priv_SQ.dcm", "0 x 0 pixels"),
    ("nibabel", "*.BRIK.gz", "something else than a NIfTI file"),
    ("nibabel", "*.HEAD", "no format that is known here"),
    ("nibabel", "*.BRIK", "no format that is known here"),
    ("nibabel", "*.PAR", "the header of a PAR/REC volume"),
    ("nibabel", "*.REC", "no format that is known here"),
    ("nibabel", "*.dconn.nii", "a CIFTI matrix"),
    ("nibabel", "*.mgz", "something else than a NIfTI file"),
    ("nibabel", "*.mnc", "a MINC volume"),
)
EQUAL = {"pydicom": 113, "nibabel": 7}
"""Pictures of pydicom's files, and volumes of nibabel's, whose pixels are equal to what that library gives."""


VOLUMES = (  # what, how `read_volume` and `read_mask` of tabib.images take it, and what is refused; tested by tests/images/test_volume.py, test_series.py,
    # test_segmentation_object.py and test_contours.py
    (
        "NIfTI volume",
        "slices along the third axis, each as on film; scl_slope and scl_inter applied; affine, mirrored too, from the sform or the qform",
        "several time points, unless one is named: `heart.nii.gz[3]`; a spacing or an affine that is no number, zero or singular",
    ),
    (
        "DICOM series in a folder, or frames of one file",
        "slices by their position along the normal, spacing from the positions, time points by trigger time, temporal position or acquisition time, "
        "never by name; rescaled, windows not applied; a tilted stack by its affine",
        "several time points, unless one is named: `heart[3]`; several series; slices missing, doubled, uneven or beside the line",
    ),
    ("TIFF", "pages as slices", "pages of different sizes"),
    (
        "DICOM segmentation object",
        "read onto the voxels of its source by place; written BINARY, a named segment for each structure, referring to the slices of the source",
        "probabilities (FRACTIONAL), segments that overlap, pixels that lie between the voxels of the source or outside it",
    ),
    (
        "outline as text, column and row of a point on each line",
        "the pixels whose centres lie inside, by the even-odd rule; the centre of the first pixel is at 1, 1",
        "points outside the image, fewer than three points, lines that are not two numbers",
    ),
    ("any picture", "a volume of one slice", "what the table above refuses"),
    (
        "mask",
        "the labels as they are stored: whole numbers of 8, 16 or 32 bits, also where a file keeps them as floating point; the place in a palette",
        "JPEG, three channels that differ, negative labels, labels that are not whole",
    ),
)


def formats_page() -> str:
    """Every kind of image file that is read, and that is refused with a reason."""
    lines = [
        "# Image files",
        "",
        "What a file holds decides how it is read, not what it is called. What would be read only in part, or with a meaning that has to be "
        "guessed, is refused with a reason and a way out; the file becomes a row of the index that says so, and the others go on. A file of several "
        "frames, pages or slices gives a row for each, called `film.dcm[0]`, `film.dcm[1]` and so on, and one file never stands on two sides of a split. "
        "Why windows "
        "move black and white: [decision 7](../decisions/0007-dicom-window.md).",
        "",
        "## Read",
        "",
        "| format | what | becomes |",
        "|---|---|---|",
        *(f"| {name} | {_cell(what)} | {_cell(becomes)} |" for name, what, becomes in READ),
        "",
        "## Refused",
        "",
        "| format | what | the reason says |",
        "|---|---|---|",
        *(f"| {name} | {_cell(what)} | … {_cell(reason)} … |" for name, what, reason in REFUSED),
        "",
        "## Volumes and masks",
        "",
        "A volume has its values as they were measured, never stretched, in the order slice, row, column, and an affine matrix from there to "
        f"millimetres to the left, the back and the head. At most {MAX_VOXELS:,} voxels are read. A mask made on a NIfTI file is "
        "written with the axes, the affine matrix and the codes of that file, bit by bit.",
        "",
        "| what | how | refused |",
        "|---|---|---|",
        *(f"| {what} | {_cell(how)} | {_cell(refused)} |" for what, how, refused in VOLUMES),
        "",
        "## Checked",
        "",
        f"Every test file that comes with pydicom and nibabel is tried. {EQUAL['pydicom']} pictures are equal to pydicom's, pixel by pixel, and "
        f"{EQUAL['nibabel']} volumes to nibabel's. These hold pixels and are refused, the last ones because they are neither DICOM nor NIfTI:",
        "",
        "| library | file | the reason says |",
        "|---|---|---|",
        *(f"| {library} | `{name}` | … {_cell(reason)} … |" for library, name, reason in CHECKED),
        "",
    ]
    return "\n".join(lines)


def augmentation_page() -> str:
    """What may be changed at random in which kind of image."""
    words = tomllib.loads((Path(tabib.__file__).parent / "reports" / "locales" / "en.toml").read_text(encoding="utf-8"))
    lines = [
        "# Augmentation by kind of image",
        "",
        "`data.kind` says what the images show. Fields of `augment` that the study does not set then have the default of the kind; one that is "
        "set to more than is believable is a warning (`augmentation_against_kind`). Fields that a kind does not name are off unless they are "
        "set. What each field does: [augmentation](../explanation/augmentation.md).",
        "",
    ]
    for kind, rules in KINDS.items():
        lines += [f"## `{kind}`: {words['kinds'][kind]}", "", "| field | default | most | why |", "|---|---|---|---|"]
        lines += [
            f"| `{name}` | {_default(rule.default)} | {_default(rule.most)} | {words['augment_reasons'][rule.reason]} |"
            for name, rule in rules.items()
        ]
        lines.append("")
    return "\n".join(lines)


def library_page() -> str:
    """The public names of `import tabib`."""
    lines = ["# The library", "", "```python", inspect.cleandoc(tabib.__doc__ or ""), "```", "", "| name | what it is |", "|---|---|"]
    for name in tabib.__all__:
        if name != "__version__":
            lines.append(f"| `{name}` | {_cell(_first(getattr(tabib, name)))} |")
    return "\n".join([*lines, ""])


def tree() -> str:
    """The files of the package, each with the first line of its docstring."""
    package = Path(tabib.__file__).parent
    lines = ["src/tabib/"]
    for path in sorted(package.rglob("*.py"), key=lambda path: (path.parent, path.name != "__init__.py", path.name)):
        room = path.name == "__init__.py"
        if room and path.parent == package:
            continue
        indent = "  " * (len(path.relative_to(package).parts) - room)
        name = f"{path.parent.name}/" if room else path.name
        first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()[0]
        lines.append(f"{indent + name:<26} {first}")
    return "\n".join(lines)


def with_tree(readme: str) -> str:
    """A readme with its tree made anew, between `src/tabib/` and `tests/`."""
    return re.sub(r"^src/tabib/$.*?(?=^tests/)", lambda _: tree() + "\n", readme, flags=re.MULTILINE | re.DOTALL)


def segmentation_page() -> str:
    """Every measure of a segmentation, and its value where a mask is empty."""

    def table(definitions: dict[str, Definition], empty: str) -> list[str]:
        lines = [f"| measure | is | unit | source | both {empty} | truth {empty} | prediction {empty} |", "|---|---|---|---|---|---|---|"]
        for name, each in definitions.items():
            values = [f"{value:g}" for value in (each.both_empty, each.truth_empty, each.prediction_empty)]
            lines.append(f"| `{name}` | {' | '.join(map(_cell, [each.formula, each.unit, each.source, *values]))} |")
        return lines

    lines = [
        "# Measures of a segmentation",
        "",
        "TP, FP and FN count voxels (of objects: objects) found, made up and missed. **nan** is a measure that does not exist: it is left out of "
        "means, and how often is said beside them. **inf** is a distance to nothing: it would drown every other, so it is left out of means as "
        "well, and counted apart. Read that count first: a structure that was missed everywhere has a fine mean distance in the rest.",
        "",
        "## A structure in a case",
        "",
        "A mask that is not empty holds 1 mL in the last three columns. Without a known spacing everything in mm or mL is nan; a picture has no "
        "volume. A stack of one slice is measured as a picture.",
        "",
        *table(STRUCTURES, "empty"),
        "",
        "**Surface.** The voxels of a mask with a face to a voxel outside it; what lies beyond the image is outside. Distances run from the "
        "centre of each of them to the nearest centre of the other surface. On the same masks, Dice, both Hausdorff distances, the average "
        "symmetric surface distance and the surface Dice are those of MONAI to 1e-5 (`DiceMetric`, `HausdorffDistanceMetric`, "
        "`SurfaceDistanceMetric(symmetric=True)`, `SurfaceDiceMetric`), whose numbers are float32. They differ on purpose where a mask is empty: "
        "there MONAI gives nan, 0 or inf, depending on which one. And they differ from the authors' code of the surface Dice, which weighs every "
        "surface voxel by the area of the surface through it (in MONAI `use_subvoxels=True`); here, as in MONAI by default, each counts the same.",
        "",
        "**Means.** *Macro* is the mean over cases, each counting the same. *Micro* adds the voxels of all cases before the ratio is taken, so that "
        "large structures count more. Intervals of macro means are over patients.",
        "",
        "**Accuracy of voxels** (`voxel_accuracy`): voxels of all cases whose answer is right, background too, / all voxels; 1 where both masks of "
        "every case are empty. Where most is background it flatters, so beside it stands that of an answer of background everywhere.",
        "",
        "## Objects in a picture",
        "",
        "Two objects match where their IoU is above 0.5; none can have two matches. *Micro* adds up the objects of all pictures before any ratio "
        "is taken. A picture that is not empty holds 1 object in the last three columns.",
        "",
        *table(OBJECTS, "empty"),
        "",
        "For AJI more than one true object may choose the same predicted one, as in the paper; a true object that overlaps none adds its own "
        "pixels to the union, as in the authors' code.",
        "",
        "**Dividing touching objects.** The watershed of the distance to the outside: every pixel climbs to its highest neighbour until it stands "
        "on a peak (Roerdink and Meijster, Fundamenta Informaticae 2000;41:187). Two peaks are one object unless the pass between them lies deep "
        "enough, by default 1 pixel, below the lower one (dynamics: Grimaud, SPIE 1992;1769:292).",
        "",
        "## Hearts",
        "",
        "| measure | is | source |",
        "|---|---|---|",
        "| volume | voxels × product of the spacing, in mL | Simpson's method of discs |",
        "| ejection fraction | (EDV − ESV) / EDV; nan without an end-diastolic volume | |",
        f"| myocardial mass | {MYOCARDIAL_DENSITY:g} g/mL × myocardial volume at end-diastole | Schulz-Menger et al., J Cardiovasc Magn Reson 2020;22:19 |",
        "| bias | mean of predicted less true, with an interval by Student's t | Bland and Altman, Lancet 1986;327:307 |",
        "| limits of agreement | bias ± 1.96 standard deviations of the differences; their variance is s² (1/n + 1.96² / (2 (n − 1))) | Bland and "
        "Altman, Stat Methods Med Res 1999;8:135 |",
        "| correlation | Pearson's, with an interval by Fisher's z | |",
        "",
        "All of them are refused where the spacing is not known.",
        "",
    ]
    return "\n".join(lines)


READMES = [REFERENCE.parents[1] / name for name in ("README.md", "README.fa.md")]

PAGES = {
    "study.md": study_page,
    "mask-study.md": mask_study_page,
    "augmentation.md": augmentation_page,
    "commands.md": commands_page,
    "errors.md": errors_page,
    "findings.md": findings_page,
    "formats.md": formats_page,
    "library.md": library_page,
    "segmentation-measures.md": segmentation_page,
}


def _parts(model: type[BaseModel], name: str) -> Iterator[tuple[str, type[BaseModel]]]:
    yield name, model
    for field, info in model.model_fields.items():
        for inner in parts_in(info.annotation):
            yield from _parts(inner, field if name == "study" else f"{name}.{field}")


def _type(annotation: Any, metadata: Any = ()) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0], arguments[1:])
    if origin is Literal:
        return " · ".join(f"`{argument}`" for argument in arguments)
    if origin in (Union, types.UnionType):
        return " · ".join(_type(argument) for argument in arguments)
    if origin is dict:
        return f"{_type(arguments[0])} to {_type(arguments[1])}"
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if annotation is type(None):
        return "`none`"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "fields below"
    name = {"str": "text", "int": "whole number", "float": "number", "bool": "`true` · `false`", "Path": "path", "Any": "value"}[
        annotation.__name__
    ]
    limits = [item for field in metadata for item in getattr(field, "metadata", [field])]
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [f"{sign} {getattr(limit, key):g}" for limit in limits for key, sign in signs.items() if hasattr(limit, key)]
    return " ".join([name, ", ".join(bounds)]).strip()


def _default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return ""
    text = {None: "none", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else value
    return f"`{text}`"


def _first(item: Any) -> str:
    return inspect.cleandoc(item.__doc__ or "").split("\n\n")[0].replace("\n", " ")


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


if __name__ == "__main__":
    REFERENCE.mkdir(exist_ok=True)
    for file, page in PAGES.items():
        (REFERENCE / file).write_text(page(), encoding="utf-8")
    for readme in READMES:
        readme.write_text(with_tree(readme.read_text(encoding="utf-8")), encoding="utf-8")
