"""Verbs before there is a study: what is in a folder, a study proposed for it, made-up data, and what is kept of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from tabib.cli.described import study_in, study_of
from tabib.cli.options import DEFAULT_RUNS, AnyLayout, AsJson, Column, DataFolder, Group, Overrides, Pattern, Runs, Structure, Table
from tabib.cli.tell import class_counts, count_refused, finding_lines, index_lines, leave, tell
from tabib.errors import StudyError

__all__ = ["cache", "look", "phantom", "plan"]


def look(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="A folder of images, an archive of one (.zip, .tar, .tar.gz), an .npz file, or a study file (YAML)."
        ),
    ],
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
    """Look at a folder, or at the data of a study: what is in it, and what would go wrong."""
    from tabib.console import ConsoleProgress
    from tabib.dataset import index_folder, inspect_dataset, lost_images
    from tabib.reports import write_look
    from tabib.runs import FILES, keep_apart, save

    if folder.suffix in (".yaml", ".yml"):
        if layout != "auto" or label or table or column or pattern or group:
            raise StudyError(
                f"{folder} is a study, which says how its data lie. Leave out --layout, --label, --table, --column, --pattern and --group, or "
                "change a field of it: --set data.group=..."
            )
        study = study_in(folder, set_, runs=runs, phantom=False)
    else:
        study = study_of(
            folder, layout, labels=label, table=table, column=column, pattern=pattern, group=group, overrides=set_, source="tabib look"
        )
    keep_apart(runs, study.data.folder)
    progress = ConsoleProgress()
    index = index_folder(study.data, cache_folder=runs / ".cache", progress=progress)
    findings = inspect_dataset(index, study, progress=progress)
    place = runs / f"look-{study.data.folder.resolve().name}"
    save(place / FILES["index"].path, index)
    save(place / FILES["findings"].path, findings)
    page = write_look(place / "look.html", study.data, index=index, findings=findings, code=language)
    refused = count_refused(index)
    counts = class_counts(index, study.several)
    reasons = dict(lost_images(index).select("path", "refused").iter_rows())
    result = {"images": index["refused"].null_count(), "refused": refused, "reasons": reasons, "classes": counts, "page": page}
    result |= findings.model_dump(include={"findings", "group_pattern"})
    tell(result, [*index_lines(index, counts), *finding_lines(findings.findings), f"Page: {page}"], as_json)
    leave(refused)


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
    given = study_of(folder, layout, source="tabib plan", name=out.stem, **told)
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
    tell(result, [*finding_lines(proposed.findings.findings), *lines, f"Study: {out}"], as_json)


def phantom(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Which phantom: chest, chest_labels, heart, nuclei, nuclei_fluorescence, smears or brains."),
    ],
    folder: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="A folder that does not exist yet.")],
    patients: Annotated[
        int | None, typer.Option(min=8, max=10_000, metavar="N", help="How many patients, or slides of tissue; as many as usual by itself.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a made-up data set with known answers."""
    from tabib.console import ConsoleProgress
    from tabib.phantoms import PHANTOMS
    from tabib.runs import check_folder_place

    if name not in PHANTOMS:
        raise StudyError(f"There is no phantom {name!r}. There are: {', '.join(PHANTOMS)}.")
    check_folder_place(folder)
    kind = PHANTOMS[name]
    truth = kind.make(folder, patients or kind.patients, ConsoleProgress())
    tell({"folder": folder, "images": truth.images}, [f"{truth.images} images in {folder}"], as_json)


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
    tell({said: [str(entry.path) for entry in entries], "bytes": total}, [*lines, f"{total / 2**20:,.1f} MiB {said}"], as_json)
