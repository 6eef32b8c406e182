"""The command line: each verb is a few calls of the library.

Nothing heavy is imported before a verb runs, so that `--help` answers at once and `look`, `evaluate` and `report` never
import torch. Results go to standard output, everything else to standard error.

With `--json` the result, or the error, is one JSON object on standard output; only an option or a value that the command
line itself does not understand is said on standard error alone.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 done but some images were refused.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tabib.errors import DataError, StudyError, TabibError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from tabib.config import AnyData, AnyStudy
    from tabib.records import Ablation, BasePart, Compared, Comparison, Evaluation, Finding, Measure, SegmentationEvaluation
    from tabib.runs import Run

__all__ = ["app", "main"]

REFUSED = 3
"""Exit code of a job that is done although some images could not be used."""

MASK_HEADLINES = ("dice", "panoptic_quality", "aji", "count_error")
HEADLINES = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "exact_match")
"""Measures that are printed when a run is done; the report has all."""

STOPPED = 130
"""Exit code after Ctrl-C, as shells expect it."""

app = typer.Typer(
    name="tabib",
    help="From a folder of medical images to a trained, honestly judged and documented model. For research and teaching, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="The study file (YAML).")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as in runs/<study>/<id>.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change one field of the study; recorded.")]
DataFolder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="A folder of images, an archive of one (.zip, .tar, .tar.gz), or an .npz file.")
]
Layout = Annotated[
    Literal["auto", "class_folders", "npz", "table", "pattern", "dicom"], typer.Option(help="How the data say what an image is.")
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
Offline = Annotated[bool, typer.Option("--offline", help="Download nothing: weights that a study starts from must be here.")]
Resume = Annotated[bool, typer.Option("--resume", help="Only continue a run; an error where the study has changed.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]

DEFAULT_RUNS = Path("runs")


def main() -> None:
    """Run the command line and leave with the documented exit code."""
    try:
        app()
    except TabibError as error:
        sys.exit(_fail(str(error), error.exit_code, type(error).__name__))


def _fail(message: str, code: int, kind: str) -> int:
    if "--json" in sys.argv:
        typer.echo(json.dumps({"error": message, "kind": kind, "exit_code": code}, ensure_ascii=False))
    else:
        from tabib.images import printable

        typer.echo("\n".join(map(printable, f"tabib: {message}".split("\n"))), err=True)
    return code


def _tell(result: dict[str, Any], lines: list[str], as_json: bool) -> None:
    from tabib.images import printable

    # Names of files and classes may hold line breaks, and codes that a terminal would obey.
    typer.echo(json.dumps(result, ensure_ascii=False, default=str) if as_json else "\n".join(map(printable, lines)))


def _leave(refused: int) -> None:
    if refused:
        raise typer.Exit(REFUSED)


# --- Before a study ---


@app.command()
def look(
    folder: DataFolder,
    layout: AnyLayout = "auto",
    label: Structure = None,
    table: Table = None,
    column: Column = None,
    pattern: Pattern = None,
    group: Group = None,
    set_: Overrides = None,
    language: Annotated[Literal["en", "fa"], typer.Option(help="Language of the page.")] = "en",
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Look at a folder: what is in it, and what would go wrong."""
    from tabib.console import ConsoleProgress
    from tabib.dataset import index_folder, inspect_dataset, lost_images
    from tabib.reports import write_look
    from tabib.runs import FILES, keep_apart, save

    study = _study_of(
        folder, layout, labels=label, table=table, column=column, pattern=pattern, group=group, overrides=set_, source="tabib look"
    )
    keep_apart(runs, study.data.folder)
    progress = ConsoleProgress()
    index = index_folder(study.data, cache_folder=runs / ".cache", progress=progress)
    findings = inspect_dataset(index, study, progress=progress)
    place = runs / f"look-{folder.resolve().name}"
    save(place / FILES["index"].path, index)
    save(place / FILES["findings"].path, findings)
    page = write_look(place / "look.html", study.data, index=index, findings=findings, code=language)
    refused = _refused(index)
    counts = _class_counts(index, study.several)
    reasons = dict(lost_images(index).select("path", "refused").iter_rows())
    result = {"images": index["refused"].null_count(), "refused": refused, "reasons": reasons, "classes": counts, "page": page}
    result |= findings.model_dump(include={"findings", "group_pattern"})
    _tell(result, [*_counts(index, counts), *_finding_lines(findings.findings), f"Page: {page}"], as_json)
    _leave(refused)


@app.command()
def plan(
    folder: DataFolder,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The study file to write; it must not exist yet.")],
    minutes: Annotated[float, typer.Option(help="How long the whole run may take on this machine.")] = 20.0,
    positive: Annotated[str | None, typer.Option(metavar="CLASS", help="The class that is looked for, of two.")] = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="What the images show, as data.kind: decides the augmentation.")] = None,
    layout: AnyLayout = "auto",
    label: Structure = None,
    table: Table = None,
    column: Column = None,
    pattern: Pattern = None,
    group: Group = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Say more of the data, or how to divide them: data.*, split.*.")
    ] = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Propose a study of a folder, each choice with its reason."""
    from tabib.console import ConsoleProgress
    from tabib.plan import plan_study, write_plan
    from tabib.runs import check_folder_place

    check_folder_place(out.parent)
    if out.exists():
        raise StudyError(f"{out} exists, and may have been changed by hand. Name another file, or remove it.")
    for field in set_ or ():
        if not field.startswith(("data.", "split.")):
            raise StudyError(f"--set {field} changes what a plan proposes. Change it in {out} afterwards, or give it to tabib run.")
    told = {"table": table, "column": column, "pattern": pattern, "group": group, "kind": kind, "labels": label, "overrides": set_}
    given = _study_of(folder, layout, source="tabib plan", name=out.stem, **told)
    progress = ConsoleProgress()
    proposed = plan_study(
        given.data,
        name=given.name,
        minutes=minutes,
        positive=positive,
        split=given.split,
        cache_folder=runs / ".cache",
        progress=progress,
    )
    write_plan(proposed, out)
    lines = [f"{choice.field}: {choice.value}" + (f"  ({choice.reason})" if choice.reason else "") for choice in proposed.choices]
    result = {"study": out, "choices": [asdict(choice) for choice in proposed.choices]}
    _tell(result, [*_finding_lines(proposed.findings.findings), *lines, f"Study: {out}"], as_json)


def _study_of(
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


@app.command()
def phantom(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which phantom: chest, chest_labels, heart, nuclei or nuclei_fluorescence.")],
    folder: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="A folder that does not exist yet.")],
    as_json: AsJson = False,
) -> None:
    """Write a made-up data set with known answers."""
    from tabib.console import ConsoleProgress
    from tabib.phantoms import PHANTOMS
    from tabib.runs import check_folder_place

    if name not in PHANTOMS:
        raise StudyError(f"There is no phantom {name!r}. There are: {', '.join(PHANTOMS)}.")
    check_folder_place(folder)
    truth = PHANTOMS[name].make(folder, progress=ConsoleProgress())
    _tell({"folder": folder, "images": truth.images}, [f"{truth.images} images in {folder}"], as_json)


# --- Along the road ---


def _travel(
    study_file: Path, overrides: list[str] | None, *, runs: Path, until: str | None = None, resume: bool = False, offline: bool = False
) -> tuple[Run, int]:
    """Go along the road up to a step; give back the run and how many images were refused."""
    from tabib.study_file import load_study

    return _travel_study(load_study(study_file, overrides=overrides or ()), runs=runs, until=until, resume=resume, offline=offline)


def _travel_study(
    study: AnyStudy, *, runs: Path, until: str | None = None, resume: bool = False, offline: bool = False, checks_only: bool = False
) -> tuple[Run, int]:
    from tabib.console import ConsoleProgress
    from tabib.runs import Reached, open_run
    from tabib.study import check_study, run_study

    progress = ConsoleProgress()
    with open_run(study, root=runs, command=sys.argv, until=until, must_exist=resume, on_step=progress.step) as run, suppress(Reached):
        try:
            (check_study if checks_only else run_study)(study, run, offline=offline, progress=progress)
        except KeyboardInterrupt:
            message = "Stopped. Nothing is lost: the same command goes on from here."
            raise typer.Exit(_fail(message, STOPPED, "KeyboardInterrupt")) from None
    return run, _refused(run.read("index"))


@app.command()
def split(study: StudyFile, set_: Overrides = None, runs: Runs = DEFAULT_RUNS, as_json: AsJson = False) -> None:
    """Divide the images: who trains, who chooses, who judges."""
    run, refused = _travel(study, set_, runs=runs, until="split")
    counts = _part_counts(run.read("split"), run.given.several)
    lines = [f"{part}: " + ", ".join(f"{label} {count}" for label, count in labels.items()) for part, labels in counts.items()]
    folds = dict(sorted(run.read("split").drop_nulls("fold").group_by("fold").len().iter_rows()))
    lines += (
        [f"folds of train, each left out once to choose on: {', '.join(f'{fold} ({count})' for fold, count in folds.items())}"]
        if folds
        else []
    )
    _tell(
        {"split": run.path("split"), "counts": counts, "folds": folds, "refused": refused}, [*lines, f"Split: {run.path('split')}"], as_json
    )
    _leave(refused)


@app.command()
def summary(
    study: StudyFile,
    classes: Annotated[
        int | None,
        typer.Option(
            min=2, metavar="N", help="Number of classes of a classifier, where no data are to be looked at; input.channels is given then."
        ),
    ] = None,
    set_: Overrides = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Show a study's network, layer by layer: shape, weights, what trains, and what it costs."""
    from dataclasses import asdict

    from tabib.config import Study
    from tabib.console import summary_lines
    from tabib.study_file import load_study
    from tabib.training import resolve_input, summarise_network, summarise_segmenter
    from tabib.training.classify import class_names
    from tabib.training.resolve import with_channels

    asked, refused = load_study(study, overrides=set_ or ()), 0
    if isinstance(asked, Study):
        if classes is None:
            run, refused = _travel_study(asked, runs=runs, until="split")
            classes = len(class_names(run.read("split"), asked))
            asked = with_channels(asked, run.read("index"))
        found = summarise_network(asked, classes=classes)
    else:
        if classes is not None:
            raise StudyError("--classes counts those of a classifier, and data.labels names the structures of a segmenter. Leave it out.")
        if "auto" in (asked.input.channels, asked.input.patch, asked.input.spacing_mm):
            run, refused = _travel_study(asked, runs=runs, until="split")
            asked = resolve_input(asked, run.read("index"), run.read("split"))
        found = summarise_segmenter(asked)
    _tell(asdict(found), summary_lines(found), as_json)
    _leave(refused)


@app.command()
def check(
    study: StudyFile,
    fast: Annotated[
        bool,
        typer.Option("--fast", help="Instead train 2 epochs on few images (scale: bench) and judge on validation: a first evaluation."),
    ] = False,
    set_: Overrides = None,
    offline: Offline = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Check a training before it starts: the images as fed, every layer, a few images learnt by heart, learning rates, time."""
    from tabib.study_file import load_study

    if fast:
        run, refused = _travel(study, [*(set_ or ()), "scale=bench"], runs=runs, until="model", offline=offline)
        _tell_fast(run, as_json)
        _leave(refused)
        return
    run, refused = _travel_study(load_study(study, overrides=set_ or ()), runs=runs, offline=offline, checks_only=True)
    checks, overfit, sweep = (run.read(name) for name in ("checks", "overfit", "sweep"))
    tried = [f"      {one.rate:<8g} {'ran away' if one.end is None else f'{one.end:.4g}'}" for one in sweep.tried]
    lines = [
        *_finding_lines([*checks.checks, *overfit.checks, *sweep.checks]),
        f"      rate     training loss after {sweep.steps} steps",
        *tried,
    ]
    pages = sorted(run.folder.glob("report.*.html"))
    _tell(
        {**checks.model_dump(), "overfit": overfit.model_dump(), "sweep": sweep.model_dump(), "reports": pages},
        [*lines, f"Checks: {run.path('checks')}", *(f"Report: {page}" for page in pages)],
        as_json,
    )
    _leave(refused)


def _tell_fast(run: Run, as_json: bool) -> None:
    """What a try-out on few images reached on validation, and the time it took against the time it was reckoned at."""
    checks, model, histories = run.read("checks"), run.read("model"), run.histories()
    best = {member.name: histories[member.name][member.best_epoch - 1] for member in model.members}
    taken = sum(member.seconds for member in model.members)
    lines = [
        f"{name}: "
        + ", ".join(
            f"{key.replace('_', ' ')} {value:.3f}" for key, value in epoch.items() if key.startswith("validation") and value is not None
        )
        for name, epoch in best.items()
    ]
    reckoned = f"{taken:.1f} s of training, reckoned at {checks.predicted_seconds:.1f} s"
    _tell(
        {**checks.model_dump(), "validation": best, "seconds": taken},
        [*_finding_lines(checks.checks), *lines, reckoned, f"Run: {run.folder}"],
        as_json,
    )


@app.command()
def train(
    study: StudyFile,
    set_: Overrides = None,
    resume: Resume = False,
    offline: Offline = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Train the model, or go on where it was stopped."""
    run, refused = _travel(study, set_, runs=runs, until="model", resume=resume, offline=offline)
    model = run.read("model")
    lines = [f"{member.name}: best epoch {member.best_epoch} of {member.epochs}, value {member.best_value:.4f}" for member in model.members]
    _tell(model.model_dump(), [*lines, f"Model: {run.path('model')}"], as_json)
    _leave(refused)


@app.command()
def calibrate(
    study: StudyFile, set_: Overrides = None, offline: Offline = False, runs: Runs = DEFAULT_RUNS, as_json: AsJson = False
) -> None:
    """Choose temperature and operating point on the validation images."""
    run, refused = _travel(study, set_, runs=runs, until="decision", offline=offline)
    decision = run.read("decision")
    each = zip(decision.classes, decision.temperatures, decision.thresholds, strict=False)
    said = [f"{label}: temperature {softened:.4f}, threshold {cut:.4f} ({decision.rule})" for label, softened, cut in each]
    if decision.temperature is not None:
        threshold = "" if decision.threshold is None else f", threshold {decision.threshold:.4f} ({decision.rule})"
        said = [f"temperature {decision.temperature:.4f}{threshold}"]
    _tell(decision.model_dump(), [*said, f"Decision: {run.path('decision')}"], as_json)
    _leave(refused)


@app.command()
def run(
    study: StudyFile,
    set_: Overrides = None,
    resume: Resume = False,
    offline: Offline = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Go the whole road: from the folder to the report."""
    done, refused = _travel(study, set_, runs=runs, resume=resume, offline=offline)
    _tell_run(done, refused, as_json)


@app.command()
def demo(runs: Runs = DEFAULT_RUNS, set_: Overrides = None, as_json: AsJson = False) -> None:
    """Make a phantom and go the whole road on it: no data, no network connection."""
    from tabib.console import ConsoleProgress
    from tabib.phantoms import PHANTOMS
    from tabib.study_file import parse_study

    data = runs / "demo-data"
    if not data.exists() or not any(data.iterdir()):
        PHANTOMS["chest"].make(data, progress=ConsoleProgress())
    text = resources.files("tabib").joinpath("demo.yaml").read_text(encoding="utf-8")
    done, refused = _travel_study(parse_study(text, source="demo.yaml", base=runs, overrides=set_ or ()), runs=runs)
    _tell_run(done, refused, as_json)


# --- On a finished run ---


@app.command()
def predict(
    run: RunFolder,
    paths: Annotated[list[Path], typer.Argument(metavar="PATHS", help="Images, or folders of images.")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="Write a table (.csv or .parquet); of a segmenter, the folder of the masks."),
    ] = None,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities", help="Of a segmenter, write the probability of each structure, and their entropy, beside its mask."
        ),
    ] = False,
    dicom_seg: Annotated[
        bool,
        typer.Option("--dicom-seg", help="Write masks as DICOM segmentation objects that refer to the series which they lie on."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Predict new images with a trained model, as it was judged: a class, or a mask written into the folder of --out."""
    from tabib.console import ConsoleProgress
    from tabib.prediction import Predictor, predict_paths
    from tabib.records import labels_of
    from tabib.runs import check_table_place, read_run, save

    if out is not None and out.suffix:  # a folder of masks has none
        check_table_place(out)
    opened = read_run(run)
    if opened.given.task == "segmentation":
        _predict_masks(opened, paths, out, probabilities, dicom_seg, as_json)
        return
    if dicom_seg:
        raise StudyError("--dicom-seg writes the masks of a segmenter, and this run is of a classifier. Leave it out.")
    if probabilities:
        raise StudyError(
            "--probabilities writes the maps of a segmenter. The table of a classifier has its probabilities anyway; leave it out."
        )
    if out is not None:
        check_table_place(out)
    predictor = Predictor.load(opened.folder / "model")
    table = predict_paths(predictor, paths, progress=ConsoleProgress())
    if out is not None:
        save(out, table)
    lines = [
        f"{row['path']}: refused, {row['refused']}"
        if row["refused"]
        else f"{row['path']}: {', '.join(labels_of(row['predicted'], several=predictor.model.several)) or 'no label'}  "
        + "  ".join(f"{name} {row[f'p_{name}']:.3f}" for name in predictor.classes)
        for row in table.iter_rows(named=True)
    ]
    refused = table["refused"].count()
    _tell({"predictions": table.to_dicts(), "refused": refused, "out": out}, [*lines, *([f"Table: {out}"] if out else [])], as_json)
    _leave(refused)


def _predict_masks(run: Run, paths: list[Path], out: Path | None, probabilities: bool, dicom_seg: bool, as_json: bool) -> None:
    from tabib.console import ConsoleProgress
    from tabib.prediction import Segmenter, segment_paths
    from tabib.runs import check_folder_place

    if out is None:
        raise StudyError("This run is of a segmenter, whose answer is a mask. Say in which folder to write the masks: -o FOLDER.")
    check_folder_place(out)
    segmenter = Segmenter.load(run.folder / "model")
    made = datetime.now().astimezone() if dicom_seg else None
    table = segment_paths(segmenter, paths, out, probabilities=probabilities, objects_made=made, progress=ConsoleProgress())
    lines = [
        f"{row['path']}: refused, {row['refused']}"
        if row["refused"]
        else f"{row['path']}: {row['mask']}" + ("" if row["disagreement"] is None else f"  disagreement {row['disagreement']:.3f}")
        for row in table.iter_rows(named=True)
    ]
    refused = table["refused"].count()
    _tell({"predictions": table.to_dicts(), "refused": refused, "out": out}, [*lines, f"Masks: {out}"], as_json)
    _leave(refused)


@app.command()
def evaluate(
    run: RunFolder,
    on: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Judge the model on these images of another source instead.")] = None,
    data: Annotated[Path | None, typer.Option(metavar="FILE", help="The same, said as the `data:` part of a study file.")] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What to call these images; the name of their folder if not given.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="THEIRS=OURS",
            help="What a class of theirs is called in the run; nothing after = leaves it out. Of masks a structure of the run and its number there, as in --label lv=1. May be repeated.",
        ),
    ] = None,
    subgroup: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Divide the test images by this fact, too, which the report then says. May be repeated."),
    ] = None,
    layout: AnyLayout = "auto",
    table: Table = None,
    column: Column = None,
    pattern: Pattern = None,
    group: Group = None,
    as_json: AsJson = False,
) -> None:
    """Judge a run's predictions again, without its network; or its model on images of another source."""
    from tabib.runs import read_run
    from tabib.study_file import of_classes

    if on is not None or data is not None:
        if on is not None and data is not None:
            raise StudyError("--on and --data are two answers to one question; give one.")
        if subgroup:
            raise StudyError(
                "--subgroup divides the run's own test images. Those of another source are divided by evaluate.subgroups of its study."
            )
        ours = read_run(run).given
        if on is None:
            assert data is not None
            asked = _data_in(data, ours)
        else:
            labels, changes = _labels_like(ours, label)
            given = {"table": table, "column": column, "pattern": pattern, "group": group}
            asked = _study_of(on, layout, **given, labels=labels, overrides=changes, source="tabib evaluate").data
        if ours.task == "segmentation" and data is not None and label:
            raise StudyError("--label says which numbers structures have, and so do the labels of the file. Write them there.")
        _evaluate_external(run, asked, name, label or [] if ours.task == "classification" else [], as_json)
        return
    given = {"--name": name, "--label": label, "--table": table, "--column": column, "--pattern": pattern, "--group": group}
    if alone := [option for option, value in given.items() if value]:
        raise StudyError(
            f"{', '.join(alone)}: says something of images of another source, and none are named. Give their folder with --on FOLDER."
        )
    from tabib.config import Study
    from tabib.evaluation import evaluate_masks, judge

    with read_run(run) as opened:
        split, decision, study = opened.read("split"), opened.read("decision"), opened.read("study")
        judged = (opened.read("predictions"), opened.read("index"), split, decision)
        told = {"folder": opened.folder, "test_looks": opened.look_at_test(split, decision), "histories": opened.histories()}
        if isinstance(study, Study) or subgroup:
            evaluation = judge(*judged, of_classes(study), **told, afterwards=subgroup or ())
        else:
            evaluation = evaluate_masks(*judged, study, **told)
        opened.write("evaluation", evaluation)
    _tell(evaluation.model_dump(), [*_headline(evaluation), f"Evaluation: {opened.path('evaluation')}"], as_json)


def _labels_like(ours: AnyStudy, labels: list[str] | None) -> tuple[list[str], list[str]]:
    """Which numbers the structures of a run have in other masks, as `--label` says it, and what else is changed of the data."""
    from tabib.config import SegmentationData

    if not isinstance(ours.data, SegmentationData):
        return [], []
    if ours.data.instances:
        return labels or [f"{ours.data.structures[0]}=1"], ["data.instances=true"]
    if not labels:
        names = " ".join(f"--label {name}=…" for name in ours.data.structures)
        raise StudyError(
            f"Which number has each structure in these masks? Say it with {names}, and leave out a structure that they do not outline."
        )
    return labels, []


def _data_in(file: Path, ours: AnyStudy) -> AnyData:
    """The `data:` part of a file, whatever else of a study it holds, for the task of a run."""
    from tabib.study_file import load_study

    return load_study(file, overrides=["name=external", f"task={ours.task}"], kind="file with a data: part").data


def _evaluate_external(run: Path, data: AnyData, name: str | None, labels: list[str], as_json: bool) -> None:
    from tabib.console import ConsoleProgress
    from tabib.external import judge_external
    from tabib.runs import read_run

    for text in labels:
        if "=" not in text:
            raise StudyError(f"--label {text} has no =. Write it as --label THEIRS=OURS, as in --label pneumonia=PNEUMONIA.")
    with read_run(run) as opened:
        external, pages = judge_external(
            opened,
            data,
            name=name or (data.folder.resolve().name if data.folder.is_dir() else data.folder.name.partition(".")[0]),
            labels={theirs: ours for theirs, _, ours in (text.partition("=") for text in labels)},
            progress=ConsoleProgress(),
        )
    lines = [
        *_headline(external.evaluation),
        *_finding_lines(external.found),
    ]
    refused = external.evaluation.parts[0].refused
    _tell({"external": external.model_dump(), "pages": pages}, [*lines, *(f"Page: {page}" for page in pages)], as_json)
    _leave(refused)


@app.command()
def explain(
    run: RunFolder,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATHS]", help="New images, or folders of them; without, the test images that the report shows."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="Where pictures of new images go, `explained` if not given.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL",
            help="Of several labels, or of structures, ask about this one in place of those the image has. May be repeated.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show why the model answered so: heat maps and the nearest training images; of masks the probability of each structure and feature maps."""
    from tabib.config import Segmentation
    from tabib.console import ConsoleProgress
    from tabib.explanation import explain as explain_answers
    from tabib.explanation import explain_mask_paths, explain_masks, explain_paths
    from tabib.prediction import Predictor, Segmenter
    from tabib.records import labels_of
    from tabib.runs import check_folder_place, keep_apart, read_run, save

    if out is not None:
        check_folder_place(out)
    progress = ConsoleProgress()
    opened = read_run(run)
    index, split, study = opened.read("index"), opened.read("split"), opened.read("study")
    place, cache = opened.folder / "model", opened.cache_folder
    folder = out or Path("explained")
    if paths:
        keep_apart(folder, study.data.folder)
    if isinstance(study, Segmentation):
        segmenter, asked = Segmenter.load(place), label or ()
        if paths:
            found = explain_mask_paths(segmenter, paths, folder=folder, structures=asked, progress=progress)
        else:
            beside = opened.path("explanations").parent
            with opened:
                found = explain_masks(
                    segmenter, index, opened.read("evaluation"), study, folder=beside, structures=asked, progress=progress
                )
                opened.write("explanations", found)
    elif paths:
        predictor = Predictor.load(place)
        found = explain_paths(
            predictor, paths, index, split, study, folder=folder, cache_folder=cache, labels=label or (), progress=progress
        )
    else:
        with opened:
            judged = (opened.read("model"), opened.read("decision"), index, split, opened.read("predictions"), opened.read("evaluation"))
            found = explain_answers(*judged, study, study.explain, place=place, cache_folder=cache, labels=label or (), progress=progress)
            opened.write("explanations", found)
    file = folder / "explanations.json" if paths else opened.path("explanations")
    if paths:
        save(file, found)
    lines = [
        f"{each.path}: {each.predicted} {each.probability:.3f}"
        if each.probability is not None
        else f"{each.path}: {', '.join(labels_of(each.predicted, several=True)) or 'no label'}  "
        + "  ".join(f"{of.name} {of.probability:.3f}" for of in each.labels)
        for each in found.images
    ]
    lines += [f"{path}: refused, {reason}" for path, reason in found.refused.items()]
    _tell(found.model_dump(), [*lines, f"Explanations: {file}"], as_json)
    _leave(len(found.refused))


@app.command()
def report(run: RunFolder, as_json: AsJson = False) -> None:
    """Write the report of a run again, without its network."""
    from tabib.reports import write_reports
    from tabib.runs import read_run

    with read_run(run) as opened:
        pages = opened.report(write_reports)
    _tell({"reports": pages}, [f"Report: {page}" for page in pages], as_json)


@app.command()
def compare(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SERIES|RUN...", help="A series file, whose rows are run first, or run folders.")
    ],
    out: Pages = None,
    set_: Overrides = None,
    offline: Offline = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Put runs side by side: settings, figures, counts, what others published, and the same pictures."""
    from tabib.console import ConsoleProgress
    from tabib.experiments import compare_runs, read_series, run_series, write_comparison
    from tabib.reports import LANGUAGES
    from tabib.runs import check_folder_place

    check_folder_place(out or runs)
    (first, *others), refused = sources, 0
    if first.suffix in (".yaml", ".yml"):
        if others:
            raise StudyError(f"{first} is a series, and {others[0]} was given as well. Give one series, or run folders.")
        series, progress = read_series(first, overrides=set_ or ()), ConsoleProgress()
        done = run_series(series, root=runs, command=sys.argv, offline=offline, progress=progress, on_step=progress.step)
        refused = sum(not isinstance(each, Path) for each in done)
        comparison = compare_runs(done, title=series.title, names=[row.name for row in series.rows])
        place = out or runs / f"compare-{first.stem}"
    else:
        if set_:
            raise StudyError("--set changes the rows of a series, and run folders were given. They stay as they are.")
        comparison = compare_runs(sources, title=dict.fromkeys(LANGUAGES, " · ".join(path.name for path in sources)))
        place = out or runs / "compare"
    lines = [] if comparison.same_test else ["The runs were judged on different test images: figures beside one another do not compare."]
    _tell_comparison(comparison, write_comparison(comparison, place), lines, as_json)
    _leave(refused)


@app.command()
def cross_validate(
    study: StudyFile,
    out: Pages = None,
    set_: Overrides = None,
    offline: Offline = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Let every image judge once: run the study in turns, each judged on other patients, and put their answers together."""
    from tabib.experiments import cross_validate, write_comparison
    from tabib.study_file import load_study

    where = _of_several(runs, out, offline)
    asked = load_study(study, overrides=set_ or ())
    comparison = cross_validate(asked, **where)
    pages = write_comparison(comparison, out or runs / f"cross-validation-{asked.name}")
    missed = sum(line.run is None for line in comparison.lines)
    lines = [f"{missed} of {len(comparison.lines)} turns were not run, and the others are not put together."] if missed else []
    if comparison.pooled is not None:
        pooled = comparison.pooled
        lines = [f"All turns together, {pooled.rows:,} images of {pooled.groups:,} groups: {_headlines(pooled, intervals=True)}"]
    _tell_comparison(comparison, pages, lines, as_json)
    _leave(missed)


@app.command()
def leaky_twin(
    study: StudyFile,
    way: Annotated[
        list[str] | None,
        typer.Option(
            "--way",
            metavar="WAY",
            help="image (split by image), augmented (before the split) or labels (drawn by chance); all three by itself.",
        ),
    ] = None,
    out: Pages = None,
    set_: Overrides = None,
    offline: Offline = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Run a study as it is and again the wrong way, and show what that would have claimed."""
    from tabib.experiments import WAYS, make_twins, write_twins
    from tabib.study_file import load_study

    where = _of_several(runs, out, offline)
    asked = load_study(study, overrides=set_ or ())
    place = out or runs / f"leaky-twin-{asked.name}"
    found = make_twins(asked, ways=way or WAYS, folder=place, **where)
    pages = write_twins(found, place)
    lines = [f"as it is: {_headlines(found.honest)}"]
    lines += [f"{each.way}: {_headlines(each.line) if each.line else f'not run. {each.reason}'}" for each in found.twins]
    _tell({"leaky_twin": found.model_dump(), "pages": pages}, [*lines, *(f"Page: {page}" for page in pages)], as_json)
    _leave(sum(each.line is None for each in found.twins))


@app.command()
def learning_curve(
    study: StudyFile,
    share: Annotated[
        list[float] | None,
        typer.Option(
            "--share", help="Share of the training patients, as 0.5; 0.1, 0.2, 0.4 and 0.7 by itself. All are trained with as well."
        ),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option("--seed", help="Seed of a training; give several to train as often. 0 by itself.")
    ] = None,
    out: Pages = None,
    set_: Overrides = None,
    offline: Offline = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Train with fewer patients, to see whether more would help."""
    from tabib.experiments import SHARES, draw_learning_curve, write_learning_curve
    from tabib.reports.learned import told
    from tabib.reports.text import language, plain
    from tabib.study_file import load_study

    where = _of_several(runs, out, offline)
    asked = load_study(study, overrides=set_ or ())
    curve = draw_learning_curve(asked, shares=share or SHARES, seeds=seed or [0], **where)
    pages = write_learning_curve(curve, out or runs / f"learning-curve-{asked.name}")
    said = f"Would more patients help? {plain(told(curve, language('en')))}"
    _tell({"learning_curve": curve.model_dump(), "pages": pages}, [said, *(f"Page: {page}" for page in pages)], as_json)
    _leave_ablation(curve.ablation)


def _of_several(runs: Path, out: Path | None, offline: bool) -> dict[str, Any]:
    """What every verb that trains several studies is given, after a look at where it is to write."""
    from tabib.console import ConsoleProgress
    from tabib.runs import check_folder_place

    check_folder_place(out or runs)
    progress = ConsoleProgress()
    return {"root": runs, "command": sys.argv, "offline": offline, "progress": progress, "on_step": progress.step}


def _leave_ablation(ablation: Ablation) -> None:
    missed = [run.not_run for row in ablation.rows for run in row.runs if run.not_run]
    if "stopped" in missed:
        raise typer.Exit(STOPPED)
    _leave(len(missed))


def _tell_comparison(comparison: Comparison, pages: Sequence[Path], lines: Sequence[str], as_json: bool) -> None:
    told = [
        f"{line.name}: not run: {line.not_run}. {line.reason}"
        if line.not_run
        else f"{line.name}: {line.weights_total:,} weights, {line.weights_trainable:,} trained; {_headlines(line)}"
        for line in comparison.lines
    ]
    _tell({"comparison": comparison.model_dump(), "pages": pages}, [*lines, *told, *(f"Page: {page}" for page in pages)], as_json)


def _headlines(line: Compared, *, intervals: bool = False) -> str:
    return ", ".join(
        f"{each.name} {each.value:.3f}" + (f" [{each.low:.3f}, {each.high:.3f}]" if intervals and each.low is not None else "")
        for each in line.measures
        if each.name in (*HEADLINES, *MASK_HEADLINES) and each.value is not None
    )


@app.command()
def ablate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that names a study, seeds, and changes, one a line.")],
    out: Pages = None,
    set_: Overrides = None,
    offline: Offline = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Change a study one thing at a time, with several seeds: differences with intervals, and what the test could have shown."""
    from tabib.experiments import judge_changes, read_changes, run_changes, write_ablation
    from tabib.reports.ablated import told
    from tabib.reports.text import language, plain

    where = _of_several(runs, out, offline)
    changes = read_changes(file, overrides=set_ or ())
    trained = run_changes(changes, **where)
    ablation = judge_changes(changes, trained)
    pages = write_ablation(ablation, out or runs / f"ablate-{file.stem}")
    lines = []
    for place, row in enumerate(ablation.rows):
        said = [
            f"{each.name} {sum(there) / len(there):.3f}" for each in row.figures if (there := [v for v in each.values if v is not None])
        ]
        lines.append(f"{row.name or 'as it is'}: {', '.join(said)} ({len(row.seeds)} of {len(ablation.seeds)} seeds)")
        lines += [f"      {plain(told(ablation, row, language('en')))}"] if place else []
        lines += [f"      not run, seed {run.seed}: {run.not_run}. {run.reason}" for run in row.runs if run.not_run]
        lines += [f"      expected and not found: {code}" for code, count in row.expected.items() if not count]
    _tell({"ablation": ablation.model_dump(), "pages": pages}, [*lines, *(f"Page: {page}" for page in pages)], as_json)
    _leave_ablation(ablation)


@app.command()
def cache(
    action: Annotated[Literal["list", "clear"], typer.Argument(metavar="list|clear", help="What to do.")],
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """List or clear the decoded images and unpacked archives that are kept. They are patient data."""
    from tabib.dataset import clear_cache, list_cache

    folder = runs / ".cache"
    entries = list_cache(folder) if action == "list" else clear_cache(folder)
    total = sum(entry.bytes for entry in entries)
    lines = [f"{entry.path.name}  {entry.images} images  {entry.bytes / 2**20:,.1f} MiB" for entry in entries]
    said = "kept" if action == "list" else "removed"
    _tell({said: [str(entry.path) for entry in entries], "bytes": total}, [*lines, f"{total / 2**20:,.1f} MiB {said}"], as_json)


# --- Words ---


def _refused(index: pl.DataFrame) -> int:
    from tabib.dataset import lost_images

    return len(lost_images(index))


def _class_counts(index: pl.DataFrame, several: bool) -> dict[str, int]:
    import polars as pl

    return _tally(index.filter(pl.col("refused").is_null() & pl.col("label").is_not_null())["label"], several)


def _part_counts(split: pl.DataFrame, several: bool) -> dict[str, dict[str, int]]:
    return {str(part): _tally(rows["label"], several) for (part,), rows in sorted(split.group_by("part"), key=str)}


def _tally(labels: pl.Series, several: bool) -> dict[str, int]:
    """Images of each class; of several labels, an image counts for each of its own."""
    from collections import Counter

    from tabib.records import labels_of

    counts = Counter(name for label in labels for name in labels_of(label, several=several) or ["no label"])
    return dict(sorted(counts.items(), key=lambda pair: (pair[0] == "no label", pair[0])))


def _counts(index: pl.DataFrame, counts: dict[str, int]) -> list[str]:
    classes = ", ".join(f"{label} {count}" for label, count in counts.items())
    groups = index["group"].n_unique() - index["group"].has_nulls()
    return [
        f"{index['refused'].null_count()} images ({classes or 'without labels'}), {_refused(index)} refused, {groups or 'unknown'} patients"
    ]


def _finding_lines(findings: list[Finding]) -> list[str]:
    from tabib.reports import phrase

    marks = {"pass": "ok  ", "warn": "warn", "fail": "FAIL"}
    lines = []
    for finding in sorted(findings, key=lambda finding: ("fail", "warn", "pass").index(finding.level)):
        words = phrase(finding, "en")
        lines.append(f"{marks[finding.level]}  {words.title}. {words.sentence}")
        if finding.level != "pass" and words.todo:
            lines.append(f"      -> {words.todo}")
    return lines


def _headline(evaluation: Evaluation | SegmentationEvaluation) -> list[str]:
    from tabib.records import Evaluation

    test = next(part for part in evaluation.parts if part.part == "test")
    of = {"known": "patients", "partly": "groups (some patients unknown)", "unknown": "groups (patients unknown)"}[evaluation.patients]
    lines = [f"Test: {test.rows} images of {test.groups} {of}"]
    if not isinstance(evaluation, Evaluation):
        shown = [measure for measure in test.measures if measure.name in MASK_HEADLINES]
        names = (f"{measure.name} of {measure.of}" if measure.of else measure.name for measure in shown)
        return [*lines, *(_measure_line(name, measure, test) for name, measure in zip(names, shown, strict=True))]
    for measure in test.measures:
        # Of more than two classes the area under the curve is a mean over classes, of several labels over labels.
        if (measure.of is None or (measure.name, measure.of) == ("auc", "macro")) and measure.name in HEADLINES:
            lines.append(_measure_line(measure.name, measure, test))
    for label, judged in zip(evaluation.classes, evaluation.labels, strict=False):
        parts = (part for part in judged.parts if part.part == "test")
        lines += [_measure_line(f"auc of {label}", each, part) for part in parts for each in part.measures if each.name == "auc"]
    return lines


def _measure_line(name: str, measure: Measure, part: BasePart) -> str:
    from tabib.reports.text import language, plain
    from tabib.reports.views import why_no_interval

    value = "undefined" if measure.value is None else f"{measure.value:.3f}"
    interval = "" if measure.low is None else f" [{measure.low:.3f}, {measure.high:.3f}]"
    why = plain(why_no_interval(language("en"), part, measure))
    interval += f" ({why})" if why else ""
    baseline = measure.baselines.get("majority_class")
    return f"  {name:<18} {value}{interval}" + ("" if baseline is None else f"  (majority class {baseline:.3f})")


def _tell_run(run: Run, refused: int, as_json: bool) -> None:
    evaluation = run.read("evaluation")
    pages = sorted(run.folder.glob("report.*.html"))
    result = {"run": run.folder, "evaluation": evaluation.model_dump(), "reports": pages, "refused": refused}
    _tell(result, [*_headline(evaluation), *(f"Report: {page}" for page in pages)], as_json)
    _leave(refused)
