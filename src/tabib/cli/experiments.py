"""Verbs that train a study more than once, or put runs side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tabib.cli.described import maker_of, study_in
from tabib.cli.options import DEFAULT_RUNS, AsJson, Offline, OnPhantom, Overrides, Pages, Runs, StudyFile
from tabib.cli.tell import HEADLINES, MASK_HEADLINES, STOPPED, leave, scale_lines, tell
from tabib.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tabib.records import Compared, Comparison, NotRun, Scale

__all__ = ["ablate", "compare", "cross_validate", "label_trouble", "leaky_twin", "learning_curve", "search"]


def compare(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SERIES|ABLATION|RUN...", help="A series file, whose rows are run first; the folder of an ablation; or run folders."
        ),
    ],
    out: Pages = None,
    set_: Overrides = None,
    phantom: OnPhantom = False,
    offline: Offline = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Put runs, or the rows of an ablation, side by side: settings, figures, counts, what others published, and the same pictures."""
    from tabib.console import ConsoleProgress
    from tabib.experiments import ABLATION, compare_rows, compare_runs, read_series, run_series, write_comparison
    from tabib.reports import LANGUAGES
    from tabib.reports.compared import apart
    from tabib.reports.text import language, plain
    from tabib.runs import check_folder_place

    check_folder_place(out or runs)
    first, *others = sources
    ablated = next((source for source in sources if (source / ABLATION).is_file()), None)
    if first.suffix in (".yaml", ".yml"):
        if others:
            raise StudyError(f"{first} is a series, and {others[0]} was given as well. Give one series, or run folders.")
        series, progress = read_series(first, overrides=set_ or (), phantom=maker_of(phantom, runs)), ConsoleProgress()
        done, pace = run_series(series, root=runs, command=sys.argv, offline=offline, progress=progress, on_step=progress.step)
        comparison = compare_runs(done, title=series.title, names=[row.name for row in series.rows], pace=pace)
        place = out or _place(runs, f"compare-{first.stem}", series.rows[0].study.scale)
    elif set_ or phantom:
        raise StudyError("--set and --phantom change the rows of a series, and folders were given. They stay as they are.")
    elif ablated is not None:
        if others:
            raise StudyError(f"{ablated} is an ablation, and another folder was given as well. Give one ablation, or run folders.")
        comparison = compare_rows(ablated)
        place = out or runs / f"compare-{ablated.resolve().name.removeprefix('ablate-')}"
    else:
        comparison = compare_runs(sources, title=dict.fromkeys(LANGUAGES, " · ".join(path.name for path in sources)))
        place = out or runs / "compare"
    lines = [plain(words) for words in apart(comparison, language("en"))]
    lines += (
        []
        if comparison.seed is None
        else [f"Each row by its training with seed {comparison.seed}. The page of the ablation has the differences, over all seeds."]
    )
    _tell_comparison(comparison, write_comparison(comparison, place), lines, as_json)
    _leave_runs(line.not_run for line in comparison.lines)


def cross_validate(
    study: StudyFile,
    out: Pages = None,
    set_: Overrides = None,
    phantom: OnPhantom = False,
    offline: Offline = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Let every image judge once: run the study in turns, each judged on other patients, and put their answers together."""
    from tabib.experiments import cross_validate, write_comparison

    where = _of_several(runs, out, offline)
    asked = study_in(study, set_, runs=runs, phantom=phantom)
    comparison = cross_validate(asked, **where)
    pages = write_comparison(comparison, out or _place(runs, f"cross-validation-{asked.name}", asked.scale))
    missed = sum(line.run is None for line in comparison.lines)
    lines = [f"{missed} of {len(comparison.lines)} turns were not run, and the others are not put together."] if missed else []
    if comparison.pooled is not None:
        pooled = comparison.pooled
        lines = [f"All turns together, {pooled.rows:,} images of {pooled.groups:,} groups: {_headlines(pooled, intervals=True)}"]
    _tell_comparison(comparison, pages, lines, as_json)
    _leave_runs(line.not_run for line in comparison.lines)


def label_trouble(
    study: StudyFile,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            "--seed", help="Seed of a training; give several to train as often, and to see where they disagree. The study's own by itself."
        ),
    ] = None,
    out: Pages = None,
    set_: Overrides = None,
    phantom: OnPhantom = False,
    offline: Offline = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """List labels or masks that are probably wrong, and hard images, by models that had not seen them."""
    from tabib.experiments import find_label_trouble, write_label_trouble
    from tabib.reports.doubted import guessed, reached
    from tabib.reports.text import language, plain

    where = _of_several(runs, out, offline)
    asked = study_in(study, set_, runs=runs, phantom=phantom)
    place = out or _place(runs, f"label-trouble-{asked.name}", asked.scale)
    trouble = find_label_trouble(asked, seeds=seed or (), **where)
    pages = write_label_trouble(trouble, place)
    lists, what = [each.list for each in (*trouble.doubts, *trouble.masks)], "masks" if trouble.masked else "labels"
    found = f"{lists.count('wrong'):,} {what} probably wrong, {lists.count('hard'):,} hard"
    lines = [*scale_lines({trouble.scale}), f"{trouble.rows:,} images of {trouble.groups:,} groups judged: {found}"]
    lines += [plain(said) for each in (reached, guessed) if (said := each(trouble, language("en")))]
    lines += [f"{trouble.missed} turns were not run, and their images are not looked at."] if trouble.missed else []
    lines += [f"{trouble.fewer} trainings of the other turns were not run: fewer seeds judged their images."] if trouble.fewer else []
    lines += ["Stopped before the end. The same command goes on from here."] if trouble.stopped else []
    worklist = place / "worklist.csv"
    told = {"label_trouble": trouble.model_dump(), "worklist": worklist, "pages": pages}
    tell(told, [*lines, f"Worklist: {worklist}", *(f"Page: {page}" for page in pages)], as_json)
    _leave_runs("stopped" if trouble.stopped else "error" for _ in range(trouble.missed + trouble.fewer))


def leaky_twin(
    study: StudyFile,
    way: Annotated[
        list[str] | None,
        typer.Option(
            "--way",
            metavar="WAY",
            help="image (split by image), augmented (before the split) or labels (drawn by chance); all that there are for such a study by itself.",
        ),
    ] = None,
    out: Pages = None,
    set_: Overrides = None,
    phantom: OnPhantom = False,
    offline: Offline = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Run a study as it is and again the wrong way, and show what that would have claimed."""
    from tabib.experiments import make_twins, write_twins
    from tabib.reports.text import language, plain
    from tabib.reports.twins import only_image, told

    where = _of_several(runs, out, offline)
    asked = study_in(study, set_, runs=runs, phantom=phantom)
    place = out or _place(runs, f"leaky-twin-{asked.name}", asked.scale)
    found = make_twins(asked, ways=way or (), folder=place, **where)
    pages = write_twins(found, place)
    lines = [*scale_lines({found.honest.scale}), f"as it is: {_headlines(found.honest)}"]
    lines += ["the split is given, and set aside by the ways that draw; drawn by patient from the same images:"] if found.drawn else []
    others = [*filter(None, [found.drawn]), *found.twins]
    for each in others:
        lines.append(f"{each.way}: {_headlines(each.line) if each.line else f'not run. {each.reason}'}")
        lines += [f"      {plain(told(found, each, language('en')))}"] if each.line and each is not found.drawn else []
    lines += [plain(only)] if (only := only_image(found, language("en"))) else []
    tell({"leaky_twin": found.model_dump(), "pages": pages}, [*lines, *(f"Page: {page}" for page in pages)], as_json)
    _leave_runs(each.not_run for each in others)


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
    phantom: OnPhantom = False,
    offline: Offline = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Train with fewer patients, to see whether more would help."""
    from tabib.experiments import SHARES, draw_learning_curve, refuse_set, write_learning_curve
    from tabib.reports.learned import same, told
    from tabib.reports.text import language, plain

    where = _of_several(runs, out, offline)
    refuse_set(set_ or (), {"training.seeds": "--seed"})
    asked = study_in(study, set_, runs=runs, phantom=phantom)
    curve = draw_learning_curve(asked, shares=share or SHARES, seeds=seed or [0], **where)
    pages = write_learning_curve(curve, out or _place(runs, f"learning-curve-{asked.name}", asked.scale))
    said = f"Would more patients help? {plain(told(curve, language('en')))}"
    scales = scale_lines({curve.ablation.scale})
    once = [plain(each) for each in same(curve, language("en"))]
    tell({"learning_curve": curve.model_dump(), "pages": pages}, [*scales, *once, said, *(f"Page: {page}" for page in pages)], as_json)
    _leave_runs(run.not_run for row in curve.ablation.rows for run in row.runs)


def _of_several(runs: Path, out: Path | None, offline: bool) -> dict[str, Any]:
    """What every verb that trains several studies is given, after a look at where it is to write."""
    from tabib.console import ConsoleProgress
    from tabib.runs import check_folder_place

    check_folder_place(out or runs)
    progress = ConsoleProgress()
    return {"root": runs, "command": sys.argv, "offline": offline, "progress": progress, "on_step": progress.step}


def _place(runs: Path, name: str, scale: Scale) -> Path:
    """Where pages are written: those of a try-out, or of made-up images, beside those that count, and not over them."""
    return runs / (name if scale == "full" else f"{name}-{scale}")


def _leave_runs(why: Iterable[NotRun | None]) -> None:
    """Leave with the exit code of runs that are missing, where any is."""
    missed = [each for each in why if each]
    if "stopped" in missed:
        raise typer.Exit(STOPPED)
    leave(len(missed))


def _tell_comparison(comparison: Comparison, pages: Sequence[Path], lines: Sequence[str], as_json: bool) -> None:
    from tabib.reports.ablated import pair_told
    from tabib.reports.text import language, plain

    told = [
        f"{line.name}: not run: {line.not_run}. {line.reason}"
        if line.not_run
        else f"{line.name}: {line.weights_total:,} weights, {line.weights_trainable:,} trained; {_headlines(line)}"
        for line in comparison.lines
    ]
    told += [f"{pair.first}, {plain(pair_told(comparison, pair, language('en')))}" for pair in comparison.differences]
    scales = scale_lines({line.scale for line in comparison.lines})
    tell({"comparison": comparison.model_dump(), "pages": pages}, [*scales, *lines, *told, *(f"Page: {page}" for page in pages)], as_json)


def _headlines(line: Compared, *, intervals: bool = False) -> str:
    return ", ".join(
        f"{each.name} {each.value:.3f}" + (f" [{each.low:.3f}, {each.high:.3f}]" if intervals and each.low is not None else "")
        for each in line.measures
        if each.name in (*HEADLINES, *MASK_HEADLINES) and each.value is not None
    )


def ablate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that names a study, seeds, and changes, one a line.")],
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="ROW", help="Run this row, the study as it is, and what the row is compared with. Give it again for another."),
    ] = None,
    out: Pages = None,
    set_: Overrides = None,
    phantom: OnPhantom = False,
    offline: Offline = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Change a study one thing at a time, with several seeds: differences with intervals, and what the test could have shown."""
    from tabib.experiments import judge_changes, read_changes, run_changes, write_ablation
    from tabib.reports.ablated import highest, not_asked, told
    from tabib.reports.text import language, plain

    where = _of_several(runs, out, offline)
    changes = read_changes(file, overrides=set_ or (), only=only or (), phantom=maker_of(phantom, runs))
    trained = run_changes(changes, **where)
    ablation = judge_changes(changes, trained)
    pages = write_ablation(ablation, out or _place(runs, f"ablate-{file.stem}", ablation.scale))
    lines = scale_lines({ablation.scale})
    lines += [f"{name}: left out. With what --set says, the study as it is has its change." for name in ablation.left_out]
    lines += [plain(others)] if (others := not_asked(ablation, language("en"))) else []
    for place, row in enumerate(ablation.rows):
        said = [
            f"{each.name} {sum(there) / len(there):.3f}" + (f" [{each.low:.3f}, {each.high:.3f}]" if each.low is not None else "")
            for each in row.figures
            if (there := [v for v in each.values if v is not None])
        ]
        lines.append(f"{row.name or 'as it is'}: {', '.join(said)} ({len(row.seeds)} of {len(ablation.seeds)} seeds)")
        lines += [f"      {plain(told(ablation, row, language('en')))}"] if place else []
        lines += [f"      not run, seed {run.seed}: {run.not_run}. {run.reason}" for run in row.runs if run.not_run]
        lines += [f"      expected and not found: {code}" for code, count in row.expected.items() if not count]
    lines += [plain(most)] if (most := highest(ablation, language("en"))) else []
    tell({"ablation": ablation.model_dump(), "pages": pages}, [*lines, *(f"Page: {page}" for page in pages)], as_json)
    _leave_runs(run.not_run for row in ablation.rows for run in row.runs)


def search(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that names a study, fields with the values to try, and an end.")],
    out: Pages = None,
    set_: Overrides = None,
    phantom: OnPhantom = False,
    offline: Offline = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Try values of some fields, judged on validation images only: the best, how sure that is, and its study file."""
    from tabib.experiments import judge_search, read_search, run_trials, write_search
    from tabib.reports.searched import told, used, values_of_best
    from tabib.reports.text import language, plain

    where = _of_several(runs, out, offline)
    asked = read_search(file, overrides=set_ or (), phantom=maker_of(phantom, runs))
    place = out or _place(runs, f"search-{file.stem}", asked.study.scale)
    ledger = run_trials(asked, folder=place, **where)
    found, pages = write_search(asked, judge_search(asked, ledger), place)
    lines = [*scale_lines({found.scale}), *(plain(sentence) for sentence in told(found, language("en")))]
    lines += [] if found.whole else [plain(used(found, language("en")))]
    lines += [values_of_best(found), f"Study: {found.best_study}"] if found.best_study else []
    tell({"search": found.model_dump(), "pages": pages}, [*lines, *(f"Page: {page}" for page in pages)], as_json)
    if ledger.interrupted:
        raise typer.Exit(STOPPED)
    leave(sum(trial.state == "failed" for trial in found.trials))
