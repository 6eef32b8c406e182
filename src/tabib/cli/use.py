"""Verbs on a finished run: new images, judged again, explained, reported."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tabib.cli.described import study_of
from tabib.cli.options import AnyLayout, AsJson, Column, Group, Pattern, RunFolder, Table
from tabib.cli.tell import finding_lines, headline_lines, leave, tell
from tabib.errors import StudyError

if TYPE_CHECKING:
    from tabib.config import AnyData, AnyStudy
    from tabib.runs import Run

__all__ = ["evaluate", "explain", "predict", "report"]


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
    from tabib.runs import check_table_place, for_spreadsheet, read_run, save

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
        save(out, for_spreadsheet(table) if out.suffix == ".csv" else table)
    lines = [
        f"{row['path']}: refused, {row['refused']}"
        if row["refused"]
        else f"{row['path']}: {', '.join(labels_of(row['predicted'], several=predictor.model.several)) or 'no label'}  "
        + "  ".join(f"{name} {row[f'p_{name}']:.3f}" for name in predictor.classes)
        for row in table.iter_rows(named=True)
    ]
    refused = table["refused"].count()
    tell({"predictions": table.to_dicts(), "refused": refused, "out": out}, [*lines, *([f"Table: {out}"] if out else [])], as_json)
    leave(refused)


def _predict_masks(run: Run, paths: list[Path], out: Path | None, probabilities: bool, dicom_seg: bool, as_json: bool) -> None:
    from tabib.config import SegmentationData
    from tabib.console import ConsoleProgress
    from tabib.prediction import Segmenter, segment_paths
    from tabib.runs import check_folder_place

    if out is None:
        raise StudyError("This run is of a segmenter, whose answer is a mask. Say in which folder to write the masks: -o FOLDER.")
    check_folder_place(out)
    segmenter = Segmenter.load(run.folder / "model")
    made = datetime.now().astimezone() if dicom_seg else None
    nominal = isinstance(run.given.data, SegmentationData) and run.given.data.spacing == "nominal"
    table = segment_paths(
        segmenter, paths, out, probabilities=probabilities, objects_made=made, nominal=nominal, progress=ConsoleProgress()
    )
    lines = [
        f"{row['path']}: refused, {row['refused']}"
        if row["refused"]
        else f"{row['path']}: {row['mask']}"
        + ("" if row["disagreement"] is None else f"  disagreement {row['disagreement']:.3f}")
        + ("  its file says no spacing, so it was not brought to that of the model" if row["unscaled"] else "")
        for row in table.iter_rows(named=True)
    ]
    refused = table["refused"].count()
    tell({"predictions": table.to_dicts(), "refused": refused, "out": out}, [*lines, f"Masks: {out}"], as_json)
    leave(refused)


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
            asked = study_of(on, layout, **given, labels=labels, overrides=changes, source="tabib evaluate").data
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
    tell(evaluation.model_dump(), [*headline_lines(evaluation), f"Evaluation: {opened.path('evaluation')}"], as_json)


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
        *headline_lines(external.evaluation),
        *finding_lines(external.found),
    ]
    refused = external.evaluation.parts[0].refused
    tell({"external": external.model_dump(), "pages": pages}, [*lines, *(f"Page: {page}" for page in pages)], as_json)
    leave(refused)


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
        asked = label or ()
        if paths:
            found = explain_mask_paths(Segmenter.load(place), paths, folder=folder, structures=asked, progress=progress)
        else:
            evaluation = opened.read("evaluation")
            with opened:
                found = explain_masks(index, evaluation, study, study.explain, place=place, structures=asked, progress=progress)
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
    tell(found.model_dump(), [*lines, f"Explanations: {file}"], as_json)
    leave(len(found.refused))


def report(run: RunFolder, as_json: AsJson = False) -> None:
    """Write the report of a run again, without its network."""
    from tabib.reports import write_reports
    from tabib.runs import read_run

    with read_run(run) as opened:
        pages = opened.report(write_reports)
    tell({"reports": pages}, [f"Report: {page}" for page in pages], as_json)
