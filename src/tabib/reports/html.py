"""From facts to pages: one self-contained HTML file a language, without scripts and without a single request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
from markupsafe import Markup, escape

import tabib
from tabib.config import AnyData, AnyStudy, Bilingual, SegmentationData
from tabib.dataset import open_data
from tabib.errors import RunError
from tabib.records import Ablation, Comparison, External, Finding, Findings, LabelTrouble, LeakyTwin, LearningCurve, SameCase, Searched
from tabib.reports import ablated, compared, doubted, figures, judged, learned, searched, segmented, twins, views, why
from tabib.reports.facts import Facts, external_facts, read_facts, see_facts, shown_labels
from tabib.reports.pictures import Gallery, Overlay, Picture, take_cases, take_overlays, take_pictures
from tabib.reports.text import (
    END,
    FIRST_STRONG,
    LANGUAGES,
    LEFT_TO_RIGHT,
    Language,
    Value,
    isolated,
    language,
    phrase,
    places,
    shortened,
    visible,
    without_controls,
)
from tabib.runs import atomic_write, read_result
from tabib.study_file import dump_study

__all__ = [
    "write_ablation_pages",
    "write_comparison_pages",
    "write_external",
    "write_label_trouble_pages",
    "write_learning_curve_pages",
    "write_look",
    "write_reports",
    "write_search_pages",
    "write_twin_pages",
]

PICTURES_PER_CELL = 24
PICTURES_IN_CELLS = 960
"""Over all cells of a confusion matrix: with many classes each cell shows fewer."""
PICTURES_PER_FINDING = 12


@dataclass(frozen=True)
class Told:
    """Findings of one code, in the words of a reader: one title, a sentence for each, what to do once, and what to write in the study."""

    code: str
    level: str
    title: Markup
    sentences: list[Markup]
    todo: Markup
    line: str
    rows: list[int]


def write_reports(run_folder: Path, study: AnyStudy) -> list[Path]:
    """Write `report.<language>.html` for every language of the study, from the plain files of a run.

    `study` carries the words (title, notes, languages) and the resolved settings. Returns the files written.
    Raises `RunError` where the run has no index yet.
    """
    facts = read_facts(run_folder, study)
    gallery = take_gallery(facts)
    written = []
    for code in study.report.languages:
        path = run_folder / f"report.{code}.html"
        with atomic_write(path) as file:
            file.write(render("report.html.j2", facts, gallery, code).encode())
        written.append(path)
    return written


def write_look(path: Path, data: AnyData, *, index: pl.DataFrame, findings: Findings, code: str = "en") -> Path:
    """Write one page of a first look at a folder: pictures, counts, findings, and what to do.

    `code` is the language. Returns `path`.
    """
    facts = see_facts(data, index, findings, cache_folder=path.parent.parent / ".cache")
    with atomic_write(path) as file:
        file.write(render("look.html.j2", facts, take_gallery(facts), code).encode())
    return path


def write_external(run_folder: Path, study: AnyStudy, external: External, *, index: pl.DataFrame, predictions: pl.DataFrame) -> list[Path]:
    """Write `external.<name>.<language>.html`: how the model of a run does on images of another source. Returns the files."""
    facts = external_facts(run_folder, study, external, index, predictions)
    gallery = take_gallery(facts)
    written = []
    for code in study.report.languages:
        path = run_folder / f"external.{external.name}.{code}.html"
        with atomic_write(path) as file:
            file.write(render("external.html.j2", facts, gallery, code, external=external).encode())
        written.append(path)
    return written


def write_comparison_pages(comparison: Comparison, folder: Path, *, languages: Sequence[str] = LANGUAGES) -> list[Path]:
    """Write `compare.<language>.html` of runs side by side.

    Its pictures are read from the data of the run that they are rows of. Returns the files written. Raises `RunError` where
    that run has gone.
    """
    gallery = Gallery({}, {})
    if comparison.pictures:
        index, data = _shown_data(Path(comparison.pictures[0].run))
        gallery = take_pictures(data, index, [picture.row for picture in comparison.pictures])
    drawn = take_same_cases(comparison.cases)
    pages = []
    for code in languages:
        path = folder / f"compare.{code}.html"
        values = {
            "ablated": ablated,
            "comparison": comparison,
            "compared": compared,
            "drawn": drawn,
            "outline_colour": views.outline_colour,
            "shown_labels": shown_labels,
            "spoken": lambda words, code=code: _in_language(Bilingual(**words), code),
        }
        with atomic_write(path) as file:
            file.write(_page("compare.html.j2", gallery, code, values).encode())
        pages.append(path)
    return pages


def write_ablation_pages(ablation: Ablation, folder: Path, *, languages: Sequence[str] = LANGUAGES) -> list[Path]:
    """Write `ablate.<language>.html` of a study that was changed one thing at a time. Returns the files written."""
    return _write_pages("ablate", folder, {"ablation": ablation, "ablated": ablated}, languages)


def write_twin_pages(twin: LeakyTwin, folder: Path, *, languages: Sequence[str] = LANGUAGES) -> list[Path]:
    """Write `leaky_twin.<language>.html` of a study and its wrong ways. Returns the files written."""
    return _write_pages("leaky_twin", folder, {"twin": twin, "twins": twins}, languages)


def write_learning_curve_pages(curve: LearningCurve, folder: Path, *, languages: Sequence[str] = LANGUAGES) -> list[Path]:
    """Write `learning_curve.<language>.html` of a study with fewer training patients. Returns the files written."""
    return _write_pages("learning_curve", folder, {"curve": curve, "ablated": ablated, "learned": learned}, languages)


def write_search_pages(found: Searched, folder: Path, *, languages: Sequence[str] = LANGUAGES) -> list[Path]:
    """Write `search.<language>.html` of a search over fields of a study. Returns the files written."""
    return _write_pages("search", folder, {"searched": found, "searched_": searched, "figures": figures}, languages)


def write_label_trouble_pages(trouble: LabelTrouble, folder: Path, *, languages: Sequence[str] = LANGUAGES) -> list[Path]:
    """Write `label_trouble.<language>.html`: labels to look at, with their pictures. Returns the files written.

    Raises `RunError` where the run that the rows are of has gone.
    """
    index, data = _shown_data(Path(trouble.run))
    gallery = take_pictures(data, index, doubted.rows(trouble))
    masks = [each for name in doubted.LISTS for each in doubted.listed_masks(trouble, name)[: doubted.SHOWN]]
    pictures = take_same_cases([each.case for each in masks])
    drawn = {(each.case.path, each.structure): taken for each, taken in zip(masks, pictures, strict=True)}
    values = {"trouble": trouble, "doubted": doubted, "drawn": drawn, "outline_colour": views.outline_colour}
    return _write_pages("label_trouble", folder, values, languages, gallery=gallery)


def _write_pages(
    name: str, folder: Path, values: dict[str, Any], languages: Sequence[str], *, gallery: Gallery | None = None
) -> list[Path]:
    """Write a page from the template of its name, in each language."""
    pages = []
    for code in languages:
        path = folder / f"{name}.{code}.html"
        spoken = {"spoken": lambda words, code=code: _in_language(Bilingual(**words), code)}
        with atomic_write(path) as file:
            file.write(_page(f"{name}.html.j2", gallery or Gallery({}, {}), code, values | spoken).encode())
        pages.append(path)
    return pages


def take_same_cases(cases: Sequence[SameCase]) -> list[tuple[Picture, list[Picture]] | None]:
    """Of each case that several runs outlined its true outlines, and those of every run, cut alike; none where files have gone."""
    wanted: list[tuple[SegmentationData, str, str, int, list[Path]]] = []
    for case in cases:
        index, data = _shown_data(Path(case.answers[0].run))
        row = case.answers[0].row
        # A structure has one number in the masks of all runs: the data are the same files.
        wanted.append((data, index["path"][row], index["mask"][row], case.slice, [Path(each.run) / each.mask for each in case.answers]))
    return take_cases(wanted)


def _shown_data(run: Path) -> tuple[pl.DataFrame, Any]:
    """The index of a run that a page shows pictures of, and where they lie."""
    study, index = read_result(run, "study"), read_result(run, "index")
    if study is None or index is None:
        raise RunError(f"{run} is not a run folder any more. Start the same command again.")
    return index, open_data(study.data, run.parent.parent / ".cache").data


def take_gallery(facts: Facts) -> Gallery:
    """Take the pictures a page can show, the most telling first."""
    wanted: list[int | tuple[Path, ...]] = [*facts.masked_samples(), *(row for sample in facts.samples().values() for row in sample)]
    if facts.evaluation:
        wanted += [*facts.evaluation.worst, *facts.confident_mistakes(), *facts.evaluation.random]
    wanted += [(each.original, *each.versions) for each in facts.augmented]
    for each in facts.explained:
        wanted += [tuple(path for _, _, path in each.pictures), *(near.row for near in each.explained.neighbours)]
    wanted += [(path,) for path in facts.layer_maps.values()]
    for chapter in (
        facts.findings.findings,
        facts.all_checks(),
        facts.remarks("training"),
        facts.remarks("results"),
        facts.explanations.remarks,
    ):
        for group in _alike(chapter):
            wanted += _rows(group)[:PICTURES_PER_FINDING]
    for each in (facts, *facts.of_labels()):
        wanted += each.evaluation.worst if each.evaluation else []
        for cell in each.cells():
            wanted += cell.rows[: cell_limit(facts)]
    gallery = take_pictures(open_data(facts.data, facts.cache_folder).data, facts.index, wanted)
    return replace(gallery, overlays=_overlays(facts)) if facts.masked and facts.folder else gallery


def _overlays(facts: Facts) -> dict[Overlay, Picture]:
    data = open_data(facts.data, facts.cache_folder).data
    if facts.folder is None or not isinstance(data, SegmentationData):
        return {}
    masks = {row: facts.folder / each["mask"] for row, each in facts.predictions.items()}
    # The words do not matter here: which pictures are shown is the same in every language.
    return take_overlays(data, facts.index, segmented.wanted_overlays(facts, language(LANGUAGES[0])), masks)


def cell_limit(facts: Facts) -> int:
    """Pictures under one cell of the confusion matrix."""
    cells = sum(len(each.cells()) for each in (facts, *facts.of_labels()))
    return min(PICTURES_PER_CELL, PICTURES_IN_CELLS // max(1, cells))


def render(template: str, facts: Facts, gallery: Gallery, code: str, *, external: External | None = None) -> str:
    """One page in one language."""
    reader = language(code)

    def in_words(findings: Sequence[Finding]) -> list[Told]:
        return _together(findings, code)

    def told(words: Bilingual | None) -> Markup | None:
        return _in_language(words, code)

    values = {
        "cell_limit": cell_limit(facts),
        "compared": compared,
        "external": external,
        "facts": facts,
        "figures": figures,
        "here": _here,
        "in_words": in_words,
        "judged": judged,
        "overlays": lambda overlay: gallery.overlays.get(overlay),
        "segmented": segmented,
        "spoken": lambda words: _in_language(Bilingual(**words), code),
        "labels": facts.of_labels(lambda label: reader.text("labels.without", {"label": label})),
        "percent": lambda value: mark(reader.percent(value)),
        "pictures_per_finding": PICTURES_PER_FINDING,
        "run_day": _run_day(facts, reader),
        "steps": views.shown_steps(facts, reader),
        "study_yaml": dump_study(facts.study) if facts.study else "",
        "told": told,
        "views": views,
        "why": why,
    }
    return _page(template, gallery, code, values)


def _page(template: str, gallery: Gallery, code: str, values: Mapping[str, object]) -> str:
    """A page from its template, with what every page has beside its own values."""
    reader = language(code)

    def text(key: str, figures: Mapping[str, Value] | None = None) -> Markup:
        return mark(reader.text(key, figures))

    shared = {
        "gallery": gallery,
        "mark": mark,
        "name": lambda value: mark(isolated(str(value))),
        "number": lambda value: mark(reader.number(value)),
        "paced": lambda pace: mark(compared.paced(pace, reader)),
        "program": f"Tabib {tabib.__version__}",
        "reader": reader,
        "style": Markup(files("tabib.reports").joinpath("templates", "style.css").read_text("utf-8")),
        "t": text,
    }
    return _environment().get_template(template).render({**shared, **values})


def mark(text: str) -> Markup:
    """Text as HTML: escaped, and what is isolated in Unicode becomes `<bdi>`."""
    safe = str(escape(text))
    for sign, tag in ((FIRST_STRONG, "<bdi>"), (LEFT_TO_RIGHT, '<bdi dir="ltr">'), (END, "</bdi>")):
        safe = safe.replace(sign, tag)
    # Long identifiers may break where a reader would.
    return Markup(safe.replace("_", "_<wbr>"))


def _together(findings: Sequence[Finding], code: str) -> list[Told]:
    """Findings with those of one code and level in one place, where the first of them stands."""
    told = []
    for group in _alike(findings):
        words = [phrase(finding, code, isolate=True) for finding in group]
        first, title, todo = group[0], mark(words[0].title), mark(words[0].todo)
        sentences = [mark(each.sentence) for each in words]
        told.append(Told(first.code, first.level, title, sentences, todo, study_line(first), _rows(group)))
    return told


STUDY_LINES = {
    "group_pattern_proposed": "data: {{group: {pattern}}}",
    "positive_guessed": "positive: {positive}",
    "class_imbalance": "training: {{class_weights: balanced}}",
    "labels_rare": "training: {{class_weights: balanced}}",
    "given_leak_groups": "split: {{given: true, leaks: drop}}",
    "given_leak_copies": "split: {{given: true, leaks: drop}}",
    "mixed_colour": "input: {{channels: 1}}",
    "mixed_shapes": "input: {{fit: pad}}",
    "intensity_outliers": "input: {{intensity: percentile}}",
    "spacing_round": "data: {{spacing: nominal}}",
    "single_slices": "input: {{dimensions: 2}}",
    "flat_range": "input: {{intensity: percentile}}",
    "acquisition_confounder": "expect: [acquisition_confounder]",
    "marks_tell_class": "expect: [marks_tell_class]",
    "column_tells_class": "evaluate: {{subgroups: [{fact}]}}",
}
"""The line of a study file that answers a finding, with its figures as YAML; where it is a way out, after the reader has decided so."""


def study_line(finding: Finding) -> str:
    """What to write in the study where a finding asks for it; "" where nothing does, or where a warning needs no leave."""
    template = STUDY_LINES.get(finding.code)
    if template is None or (template.startswith("expect") and finding.level != "fail"):
        return ""
    return template.format(
        **{name: "'" + value.replace("'", "''") + "'" for name, value in finding.figures.items() if isinstance(value, str)}
    )


def _alike(findings: Sequence[Finding]) -> list[list[Finding]]:
    alike: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        alike.setdefault((finding.code, finding.level), []).append(finding)
    return list(alike.values())


def _rows(findings: Sequence[Finding]) -> list[int]:
    return list(dict.fromkeys(row for finding in findings for row in finding.rows))


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tabib.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shortened": shortened, "visible": visible, "without_controls": without_controls}
    return environment


def _in_language(words: Bilingual | None, code: str) -> Markup | None:
    """Words of the study in this language; else in another, marked as such."""
    for spoken in (code, *LANGUAGES):
        text = getattr(words, spoken, None) if words else None
        if text:
            direction = language(spoken).direction
            return escape(text) if spoken == code else Markup('<span lang="{}" dir="{}">{}</span>').format(spoken, direction, text)
    return None


def _here(reader: Language, step: str, values: Mapping[str, Value]) -> Markup | None:
    """What this run did in a step; `None` where the run does not say."""
    template = reader.template(f"steps.{step}.here")
    if not template or any(values.get(place) is None for place in places(template)):
        return None
    return mark(reader.fill(template, values))


def _run_day(facts: Facts, reader: Language) -> str | None:
    moment = facts.manifest.get("finished") or facts.manifest.get("started")
    if not isinstance(moment, str):
        return None
    try:
        return reader.day(datetime.fromisoformat(moment).astimezone().date())
    except ValueError:
        return None
