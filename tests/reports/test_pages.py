from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from reports.run_folder import Plan, make_run
from tabib.config import Study
from tabib.errors import RunError
from tabib.images import encode_png
from tabib.records import PARTS, SPLIT_SCHEMA, Evaluation, Explained, Finding, Findings, Measure, OfLabel, PartEvaluation, Round, TriedRate
from tabib.reports import why, write_look, write_reports
from tabib.reports.facts import read_facts
from tabib.reports.html import STUDY_LINES, render, study_line
from tabib.reports.judged import decision_curve, predictive_rows, subgroup_forests
from tabib.reports.pictures import Gallery, take_pictures
from tabib.reports.text import language, plain
from tabib.reports.views import augmentation, round_rows, settings_rows, shown_steps, step_figures, training_plots, why_no_interval
from tabib.runs import read_result
from tabib.study_file import check_study

LARGEST_BYTES = 15_000_000
HOSTILE = ('<script>alert("x")</script>', "ذات‌الریه\u202e «شدید» و بسیار بسیار پیشرفتهٔ دوطرفه")
MAY_BE_MISSING = (
    "findings.json",
    "checks.json",
    "model",
    "predictions.parquet",
    "evaluation.json",
    "explanations",
    "split.csv",
    "manifest.json",
)
EMPTY = {"meta", "link", "br", "img", "wbr", "image", "circle", "line", "rect", "path", "polyline", "use"}


class Reader(HTMLParser):
    """Reads a page as a browser would, and notes what it holds."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.faults: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def pages(run: Path, study: Study) -> dict[str, Reader]:
    """The written pages by language, read; each must be whole."""
    written = write_reports(run, study)
    readers = {path.suffixes[0][1:]: Reader(path.read_text(encoding="utf-8")) for path in written}
    for path, reader in zip(written, readers.values(), strict=True):
        assert reader.faults == []
        assert reader.open == []
        assert path.stat().st_size < LARGEST_BYTES
    return readers


def published_rows(page: str, code: str) -> list[list[str]]:
    """The table of what others published, as a reader sees its cells."""
    table = page.split(f"<h3>{language(code).text('compare.published')}</h3>")[1].split("</table>")[0]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]
    return [[Reader(cell.replace("<br>", "")).text for cell in row] for row in rows]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    return make_run(tmp_path_factory.mktemp("films"), Plan(patients=60))


@pytest.fixture(scope="module")
def both(films: tuple[Path, Study]) -> dict[str, Reader]:
    return pages(*films)


def test_each_language_has_its_page_in_its_direction(both: dict[str, Reader]) -> None:
    assert [(code, page.all("html")[0]["dir"]) for code, page in both.items()] == [("en", "ltr"), ("fa", "rtl")]


def test_a_page_asks_for_nothing_and_runs_nothing(films: tuple[Path, Study], both: dict[str, Reader]) -> None:
    for code, page in both.items():
        assert page.all("script") == []
        links = [
            value or ""
            for _, attributes in page.tags
            for name, value in attributes.items()
            if name in ("href", "src", "xlink:href", "srcset")
        ]
        assert {link[:5] for link in links} <= {"data:"} | {link[:5] for link in links if link.startswith("#")}
        style = (films[0] / f"report.{code}.html").read_text().split("</style>")[0]
        assert "url(" not in style
        assert "@import" not in style
        assert any("default-src 'none'" in (each.get("content") or "") for each in page.all("meta"))


def test_every_picture_is_embedded_once_and_every_use_has_one(both: dict[str, Reader]) -> None:
    page = both["en"]
    symbols = [each["id"] for each in page.all("symbol")]
    assert len(symbols) == len(set(symbols)) > 20
    shown = [(each["href"] or "")[1:] for each in page.all("use")]
    assert set(shown) == set(symbols), "a picture that is not shown, or shown and not there"
    assert len(shown) > len(symbols)


def test_all_pictures_share_one_budget_and_examples_stay_whole(
    films: tuple[Path, Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, study = shutil.copytree(films[0], tmp_path / "run"), films[1]
    facts = read_facts(run, study)
    examples = [(each.original, *each.versions) for each in facts.augmented]
    everything = take_pictures(facts.data, facts.index, [0, 1, *examples, 2])
    assert (set(everything.rows), set(everything.files)) == ({0, 1, 2}, {path for files in examples for path in files})

    def weight(gallery: Gallery) -> int:
        return sum(len(picture.address) for picture in (*gallery.rows.values(), *gallery.files.values()))

    monkeypatch.setattr("tabib.reports.pictures.BUDGET_BYTES", weight(everything) // 2)
    some = take_pictures(facts.data, facts.index, [0, 1, *examples, 2])
    assert 0 < weight(some) <= weight(everything) // 2
    assert set(some.rows) == {0, 1}
    assert [len(set(files) & set(some.files)) for files in examples] in ([6, 0, 0], [6, 6, 0])
    shown = {each["src"] for each in pages(run, study)["en"].all("img")}
    assert len(shown) in (0, 6, 12), "a page can be without an example"


@pytest.mark.slow
def test_a_page_of_a_hundred_classes_stays_small(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(100)]
    run, study = make_run(tmp_path, Plan(classes=names, patients=2000, films=1, files=False, languages=("fa",)))
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8)
    for row in range(300):
        for name in (f"{row}", *(f"{row}_{epoch}" for epoch in range(1, 5))):
            (run / "model" / "augmented" / f"{name}.png").write_bytes(encode_png(noise))
    path = run / "evaluation.json"
    judged = Evaluation.model_validate_json(path.read_text())
    test = judged.parts[1]
    rows = [row for cell in test.confusion for row in cell.rows]
    full = [cell.model_copy(update={"count": 5, "rows": [*rows, *rows][k % len(rows) :][:5]}) for k, cell in enumerate(test.confusion)]
    long = [curve.model_copy(update={"x": [k / 400 for k in range(400)], "y": [k / 400 for k in range(400)]}) for curve in test.curves]
    parts = [judged.parts[0].model_copy(update={"curves": long}), test.model_copy(update={"confusion": full, "curves": long})]
    path.write_text(judged.model_copy(update={"parts": parts}).model_dump_json())
    page = pages(run, study)["fa"]
    assert len(page.all("img")) > 100
    assert len(page.all("symbol")) > 100
    assert {(each["href"] or "")[1:] for each in page.all("a")} <= {attributes.get("id") for _, attributes in page.tags}


def test_links_lead_somewhere(both: dict[str, Reader]) -> None:
    page = both["en"]
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert {(each["href"] or "")[1:] for each in page.all("a")} <= ids


def test_the_first_page_says_what_a_clinician_needs(both: dict[str, Reader]) -> None:
    first = both["en"].text.split("Contents")[0]
    for words in (
        "Pneumonia on chest X-ray",
        "a clinic without a radiologist",
        "not a medical device",
        "Looks at the test set",
        "once, at the end",
        "Area under the ROC curve",
        "What must not be trusted",
        "made up code",
        "majority class",
        "Goal",
    ):
        assert words in first
    first = both["fa"].text.split("فهرست")[0]
    for words in (
        "ذات‌الریه در پرتونگاری قفسهٔ سینه",
        "وسیلهٔ پزشکی نیست",
        "مساحت زیر منحنی ROC",
        "۱۱ آبان ۱۴۰۴",
        "به چه چیزی نباید اعتماد کرد",
    ):
        assert words in first


def test_counts_on_the_page_are_those_of_the_run(films: tuple[Path, Study], both: dict[str, Reader]) -> None:
    facts = read_facts(*films)
    test = facts.part("test")
    counted = facts.counted("test")
    assert test is not None
    assert counted is not None
    assert counted.images == test.rows == sum(cell.count for cell in test.confusion)
    assert f"{test.rows} test images of {test.groups} patients" in both["en"].text
    for cell in facts.cells():
        shown = both["en"].text.count(f"{cell.count} images" if cell.count != 1 else "1 image")
        assert shown >= 1


def test_persian_has_no_latin_digit_outside_what_is_isolated(films: tuple[Path, Study], both: dict[str, Reader]) -> None:
    page = (films[0] / "report.fa.html").read_text(encoding="utf-8").split("</style>")[1]
    isolated = r'<(bdi|code|pre|title)\b[^>]*>.*?</\1>|<span[^>]*dir="ltr"[^>]*>.*?</span>|<svg class="store".*'
    prose = re.sub(r"<[^>]*>", " ", re.sub(isolated, "", page, flags=re.S)).replace("F1", "")
    assert re.findall(r"\S*[0-9]\S*", prose) == []


def test_moments_and_durations_of_the_run_are_written_for_the_reader(films: tuple[Path, Study], both: dict[str, Reader]) -> None:
    manifest = read_facts(*films).manifest
    for code, page in both.items():
        reader = language(code)
        versions = page.text.split(reader.text("sections.versions"))[-1].split(reader.text("versions.study"))[0]
        moment = datetime.fromisoformat(manifest["started"])
        for words in (reader.moment(moment), reader.duration(83.4), reader.duration(2.1), reader.number(7.6)):
            assert plain(words) in versions
        assert not re.search(r"\d{4}-\d\d-\d\d|83\.4", versions)


@pytest.mark.parametrize("missing", MAY_BE_MISSING)
def test_what_a_run_does_not_have_is_left_out(films: tuple[Path, Study], tmp_path: Path, missing: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(films[0], run)
    path = run / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    for page in pages(run, films[1]).values():
        assert len(page.text) > 1000


def test_a_run_that_only_looked_says_that_it_was_not_judged(films: tuple[Path, Study], tmp_path: Path) -> None:
    shutil.copy(films[0] / "index.parquet", tmp_path)
    assert "This run has not been judged yet" in pages(tmp_path, films[1])["en"].text


def test_an_empty_folder_is_an_error(tmp_path: Path, films: tuple[Path, Study]) -> None:
    with pytest.raises(RunError, match=r"index\.parquet"):
        write_reports(tmp_path, films[1])


def test_names_of_the_user_are_text_and_nothing_else(tmp_path: Path) -> None:
    run, study = make_run(tmp_path, Plan(classes=HOSTILE, patients=40, films=1, files=False, intervals=False, languages=("fa",)))
    page = pages(run, study)["fa"]
    assert page.all("script") == []
    assert '<script>alert("x")</script>' in page.text
    assert "\u202e" not in page.text
    isolated = (run / "report.fa.html").read_text(encoding="utf-8")
    assert "<bdi>&lt;script&gt;" in isolated


def test_fixed_copies_are_counted_as_pictures_and_never_as_images(films: tuple[Path, Study]) -> None:
    run, study = films
    images = int((read_result(run, "split")["part"] == "train").sum())
    copied = study.model_copy(update={"augment": study.augment.model_copy(update={"copies": 4})})
    facts, english = read_facts(run, copied), language("en")
    grown = augmentation(facts, english)
    assert grown is not None
    assert f"{english.integer(5 * images)} pictures in all" in grown.sentence
    assert f"They are still {english.integer(images)} images" in grown.sentence
    before, after = ([int(row[1].replace(",", "")) for row in rows] for _, rows in grown.charts[:2])
    assert sum(before) == images
    assert after == [5 * number for number in before]


def test_settings_name_fixed_copies_and_what_frozen_layers_keep(films: tuple[Path, Study]) -> None:
    run, study = films

    def rows(copies: int, freeze: str | None) -> dict[str, str]:
        changed = {
            "augment": study.augment.model_copy(update={"copies": copies}),
            "model": study.model.model_copy(update={"freeze": freeze}),
            "training": study.training.model_copy(update={"frozen_features": "keep"}),
        }
        return {name: plain(value) for name, value in settings_rows(read_facts(run, study.model_copy(update=changed)), language("en"))}

    with_both, with_none = rows(4, "all_but_head"), rows(0, None)
    assert with_both["An epoch sees"] == "every training image once, and 4 fixed copies of each image"
    assert with_both["Answers of frozen layers"] == "kept: computed once"
    assert with_none["An epoch sees"] == "every training image once"
    assert "Answers of frozen layers" not in with_none


def test_the_note_speaks_of_intervals_only_where_there_is_one(films: tuple[Path, Study], tmp_path: Path) -> None:
    without = make_run(tmp_path, Plan(patients=40, films=1, files=False, intervals=False, languages=("en",)))
    assert "The interval is the 95% interval" in pages(*films)["en"].text
    assert "The interval is the" not in pages(*without)["en"].text


def test_the_first_page_does_not_deny_a_leak_that_was_kept(films: tuple[Path, Study], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(films[0], run)
    path = run / "evaluation.json"
    judged = Evaluation.model_validate_json(path.read_text())
    leak = Finding(code="given_leak_kept", level="warn", figures={"rows": 4, "groups": 2, "share": 0.1}, page_one=True)
    assert "none of which took part in training" in pages(run, films[1])["en"].text
    path.write_text(judged.model_copy(update={"remarks": [leak]}).model_dump_json())
    told = pages(run, films[1])["en"].text
    assert "none of which took part in training" not in told
    assert "Test images that the model may know" in told.split("Contents")[0]


@pytest.mark.parametrize("leaks", ["drop", "keep", "refuse"])
def test_groups_are_said_to_be_whole_only_where_they_are(films: tuple[Path, Study], tmp_path: Path, leaks: str) -> None:
    run = shutil.copytree(films[0], tmp_path / "run")
    split = films[1].split.model_copy(update={"given": True, "leaks": leaks})
    told = pages(run, films[1].model_copy(update={"split": split}))["en"].text
    assert ("Groups are not divided" in told) == (leaks != "keep")
    assert "Groups are never divided" not in told
    assert ("groups are divided and the figures flatter" in told) == (leaks == "keep")


def test_images_and_copies_that_were_drawn_apart_are_said(films: tuple[Path, Study], tmp_path: Path) -> None:
    run = shutil.copytree(films[0], tmp_path / "run")
    data, split = films[1].data.model_copy(update={"copies": "keep"}), films[1].split.model_copy(update={"by": "image"})
    told = pages(run, films[1].model_copy(update={"data": data, "split": split}))["en"].text
    assert "Images were drawn one by one" in told
    assert "Exact copies were kept and do not hold one another" in told
    assert "Groups are never divided" not in told
    assert "Groups are never divided" in pages(*films)["en"].text


def test_what_is_left_out_because_of_validation_is_not_laid_to_the_test_set(films: tuple[Path, Study], tmp_path: Path) -> None:
    run = shutil.copytree(films[0], tmp_path / "run")
    split = pl.read_csv(run / "split.csv", schema=SPLIT_SCHEMA)
    reason = pl.when(pl.col("row") < 2).then(pl.lit("leak: shares a patient or a copy with row 21 of validation")).otherwise("reason")
    split.with_columns(reason=reason, part=pl.when(pl.col("row") < 2).then(pl.lit("left_out")).otherwise("part")).write_csv(
        run / "split.csv"
    )
    for code, page in pages(run, films[1]).items():
        assert language(code).text("reasons.leak") in page.text
        assert language(code).text("parts.validation") in language(code).text("reasons.leak")


def test_findings_of_one_kind_are_told_together(films: tuple[Path, Study], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(films[0], run)
    path = run / "evaluation.json"
    judged = Evaluation.model_validate_json(path.read_text())
    wide = [
        Finding(code="wide_interval", level="warn", figures={"measure": name, "of": "", "value": 0.7, "low": 0.4, "high": 0.9, "groups": 9})
        for name in ("auc", "accuracy")
    ]
    path.write_text(judged.model_copy(update={"remarks": wide}).model_dump_json())
    page = pages(run, films[1])["en"]
    assert [each.get("id") for each in page.all("article")].count("finding-wide_interval") == 1
    assert page.text.count("lies between 0.400 and 0.900: 9 groups") == 2


def test_many_classes_and_unknown_patients(tmp_path: Path) -> None:
    plan = Plan(classes=("a", "b", "c", "d"), patients=120, films=1, patients_known=False, members=2, languages=("en",))
    page = pages(*make_run(tmp_path, plan))["en"]
    first = page.text.split("Contents")[0]
    assert "Patients unknown" in first
    assert "groups of look-alikes" in first
    assert len(page.all("details")) >= 4


def test_some_unknown_patients_are_neither_all_nor_none(tmp_path: Path) -> None:
    run, study = make_run(tmp_path, Plan(patients=60, films=2, files=False, unnamed=10))
    facts = read_facts(run, study)
    assert facts.patients == "partly"
    known, nameless = facts.people(facts.used), facts.unnamed(facts.used)
    assert 0 < known < 50  # patients whose images are all copies or cannot be read are not used
    assert nameless >= 10
    for code, page in pages(run, study).items():
        first = page.text.split("Contents" if code == "en" else "فهرست")[0]
        reader = language(code)
        said = (
            f"{reader.text('first.people')}{reader.number(known)}{plain(reader.text('first.people_partly', {'unnamed': nameless}))}",
            plain(reader.text("first.trust_patients_partly")),
        )
        assert [words for words in said if words not in first] == []
        assert reader.text("first.people_unknown") not in first.split(reader.text("first.main"))[0].replace(said[0], "")
        assert reader.text("split.groups_partly") in page.text
    assert "and images of unknown patients with their look-alikes), none of which" in pages(run, study)["en"].text


def test_people_and_images_of_the_first_page_are_counted_over_the_same_images(films: tuple[Path, Study], both: dict[str, Reader]) -> None:
    facts = read_facts(*films)
    split = pl.read_csv(films[0] / "split.csv").filter(pl.col("part") != "left_out")
    assert facts.used["row"].to_list() == split["row"].to_list()
    assert facts.people(facts.used) == split["group"].n_unique() < facts.people(facts.index)
    assert sum(facts.people(facts.rows_of(part)) for part in PARTS) == facts.people(facts.used)
    assert f"Patients{split['group'].n_unique()}" in both["en"].text


@pytest.mark.parametrize("best", ["loss", "auc"])
def test_rounds_are_told_with_their_rates_and_with_what_they_began(films: tuple[Path, Study], tmp_path: Path, best: str) -> None:
    run, study = films[0], films[1].model_copy(update={"training": films[1].training.model_copy(update={"best": best})})
    facts = read_facts(run, study)
    assert facts.model is not None
    tried = [TriedRate(rate=rate, losses=[1.0], end=1.0) for rate in (0.0, 0.001, 0.01)]
    rounds = [Round(number=1, first_epoch=1, rate=0.1), Round(number=2, first_epoch=3, rate=0.1)]
    rounds += [Round(number=3, first_epoch=5, rate=0.01, from_epoch=2, tried=tried)]
    first, *others = facts.model.members
    model = facts.model.model_copy(update={"members": [first.model_copy(update={"rounds": rounds}), *others]})
    history = [line | {"round": min(3, 1 + place // 2)} for place, line in enumerate(facts.histories[first.name])]
    told = replace(facts, model=model, histories=facts.histories | {first.name: history})
    rows = round_rows(told, language("en"))
    assert [(row.member, row.number, plain(row.epochs), row.rate) for row in rows] == [
        (first.name, 1, "1 to 2", 0.1),
        (first.name, 2, "3 to 4", 0.1),
        (first.name, 3, f"5 to {len(history)}", 0.01),
    ]
    better = {"loss": min, "auc": max}[best]
    assert [row.best for row in rows] == [better(line[f"validation_{best}"] for line in history if line["round"] == k) for k in (1, 2, 3)]
    began = [plain(row.began) for row in rows]
    assert began[0] == "the starting weights"
    assert began[1] == "the weights after epoch 2, as validation improved"
    assert began[2] == "the best weights, of epoch 2, and a rate chosen from 2 learning rates tried"
    dots = [figure.drawing.count("mark round") for figure in training_plots(told, language("en"))]
    assert dots == [2] * len(dots), "in every curve, where a round begins that is not the first"
    assert round_rows(facts, language("en")) == []


@pytest.mark.parametrize(
    ("best", "shown"), [("auc", "auc"), ("loss", "auc"), ("balanced_accuracy", "balanced_accuracy"), ("accuracy", None)]
)
@pytest.mark.parametrize("code", ["en", "fa"])
def test_curves_show_the_accuracy_once_whatever_chose_the_epoch(films: tuple[Path, Study], code: str, best: str, shown: str | None) -> None:
    run, study = films
    reader = language(code)
    facts = read_facts(run, study.model_copy(update={"training": study.training.model_copy(update={"best": best})}))
    wanted = ["training.loss", f"measures.{shown}", "measures.accuracy", "training.learning_rate"]
    figures = training_plots(facts, reader)
    assert [figure.title for figure in figures] == [reader.text(key) for key in wanted if shown or key != "measures.None"]
    assert len({figure.drawing for figure in figures}) == len(figures)
    rings = [figure.drawing.count("mark kept") for figure in figures]
    assert rings == [1] * (len(figures) - 1) + [0], "the kept epoch, on every curve of validation images"


@pytest.mark.parametrize("code", ["en", "fa"])
@pytest.mark.parametrize("classes", [("NORMAL", "PNEUMONIA"), ("a", "b", "c")])
def test_what_others_published_stands_beside_what_the_run_reaches(tmp_path: Path, classes: tuple[str, ...], code: str) -> None:
    run, study = make_run(tmp_path, Plan(classes=classes, patients=60, films=1, files=False))
    reader = language(code)
    works = [
        {
            "name": "Somebody 2021",
            "protocol": {"en": "their own split", "fa": "تقسیم خودشان"},
            "link": "https://example.org/paper",
            "figures": {"accuracy": 0.9, "ppv": 0.85},
        },
        {"name": "Somebody else", "figures": {"auc": 0.99}},
    ]
    notes = {"suggestions": study.notes.suggestions, "past_work": works}
    told = read_facts(run, Study.model_validate({**study.model_dump(), "notes": notes}))
    rows = published_rows(render("report.html.j2", told, Gallery({}, {}), code), code)

    def own(name: str, of: str | None = None) -> str:
        measure = told.measure(name, of)
        assert measure is not None
        assert measure.value is not None
        assert measure.low is not None
        assert measure.high is not None
        value, low, high = (reader.decimal(each, 2) for each in (measure.value, measure.low, measure.high))
        return value + plain(reader.interval(low, high))

    protocol = {"en": "their own split", "fa": "تقسیم خودشان"}[code]
    theirs = {name: reader.decimal(value, 3) for name, value in {"accuracy": 0.9, "ppv": 0.85, "auc": 0.99}.items()}
    two = len(classes) == 2
    assert rows == [
        [
            reader.text("compare.who"),
            *(reader.text(f"measures.{name}") for name in ("accuracy", "ppv", "auc")),
            reader.text("compare.protocol"),
        ],
        [
            reader.text("compare.own"),
            own("accuracy"),
            own("ppv") if two else "",  # of three classes each has its own
            own("auc", None if two else "macro"),
            reader.text("compare.own_protocol"),
        ],
        ["Somebody 2021", theirs["accuracy"], theirs["ppv"], "", f"{protocol} https://example.org/paper"],
        ["Somebody else", "", "", theirs["auc"], reader.text("compare.no_protocol")],
    ]
    nothing = render("report.html.j2", read_facts(run, study), Gallery({}, {}), code)
    assert reader.text("compare.published") not in nothing


def test_a_number_that_means_another_person_in_each_folder_is_two_people(films: tuple[Path, Study]) -> None:
    run, study = films
    facts = read_facts(run, study.model_copy(update={"split": study.split.model_copy(update={"group_scope": "split"})}))
    rows = facts.used.with_columns(given=pl.when(pl.col("row") % 2 == 0).then(pl.lit("train")).otherwise(pl.lit("test")))
    assert facts.people(rows) == rows.select("group", "given").n_unique() > rows["group"].n_unique()


@pytest.mark.parametrize("classes", [("NORMAL", "PNEUMONIA"), ("a", "b", "c")])
def test_formulas_are_those_of_as_many_classes(tmp_path: Path, classes: tuple[str, ...]) -> None:
    plan = Plan(classes=classes, patients=90, films=1, files=False, intervals=False)
    definitions = {
        code: page.text.split(language(code).text("sections.steps"))[-2] for code, page in pages(*make_run(tmp_path, plan)).items()
    }
    two = len(classes) == 2
    for text in definitions.values():
        assert "TP / (TP + FN)" in text
        assert ("(TP + TN) / N" in text) == ("√" in text) == two
        assert ("Σ" in text) == (not two)
    assert ("right answers / N" in definitions["en"]) == (not two)
    assert "mean of" in definitions["en"]
    assert "mean" not in definitions["fa"]


def test_a_network_is_explained_where_it_is_used(films: tuple[Path, Study]) -> None:
    run, study = films
    for network, there in (("tf_efficientnet_lite0", True), ("small_resnet", False)):
        facts = replace(
            read_facts(run, study), study=study.model_copy(update={"model": study.model.model_copy(update={"network": network})})
        )
        for code in ("en", "fa"):
            assert ("efficientnet" in shown_steps(facts, language(code))) == there
        assert network in str(step_figures(facts, language("en"))["network"])


def test_the_decision_curve_and_predictive_values_elsewhere_are_told(films: tuple[Path, Study], both: dict[str, Reader]) -> None:
    facts = read_facts(*films)
    decided = decision_curve(facts, language("en"))
    assert decided is not None
    assert len(decided.sentences) == 2
    (name, here, there), _ = predictive_rows(facts, language("en"))
    assert name == "Precision (PPV)"
    assert here.split()[0] == f"{facts.measure('ppv').value:.2f}"  # pyright: ignore[reportOptionalMemberAccess]
    assert float(there.split()[0]) < float(here.split()[0])
    for page in both.values():
        assert page.text.count("net_benefit") == 0
    assert "treating all has" in both["en"].text
    assert "5%" in both["en"].text


def test_subgroups_are_drawn_beside_the_whole(films: tuple[Path, Study], both: dict[str, Reader]) -> None:
    forests = subgroup_forests(read_facts(*films), language("en"))
    assert [len(forest.blocks) for forest in forests] == [3, 3]
    rows = [row for forest in forests for row in forest.blocks[0][1]]
    assert [plain(row.name) for row in rows] == ["St. <b>Mary</b>", "5 rarest values together", "41 to 63.5", "unknown"]
    assert all('class="baseline"' in row.strip and row.sure for row in rows)
    assert "12 differences are shown" in both["en"].text
    assert "۱۲ تفاوت" in both["fa"].text


def test_a_model_that_is_worth_nothing_is_told_so(films: tuple[Path, Study]) -> None:
    facts = read_facts(*films)
    evaluation = facts.evaluation
    assert evaluation
    flat = [
        curve.model_copy(update={"y": [-0.01] * len(curve.y)} if curve.name == "net_benefit" else {})
        for curve in evaluation.parts[1].curves
    ]
    parts = [evaluation.parts[0], evaluation.parts[1].model_copy(update={"curves": flat})]
    decided = decision_curve(replace(facts, evaluation=evaluation.model_copy(update={"parts": parts})), language("en"))
    assert decided
    assert decided.sentences == [language("en").text("decision.never")]


def test_gone_files_are_shown_by_their_thumbnails(tmp_path: Path) -> None:
    page = pages(*make_run(tmp_path, Plan(patients=40, films=1, files=False, languages=("en",))))["en"]
    assert {each["viewbox"] for each in page.all("symbol")} == {"0 0 32 32"}


def test_a_look_at_a_folder_is_one_page(films: tuple[Path, Study], tmp_path: Path) -> None:
    run, study = films
    index = pl.read_parquet(run / "index.parquet")
    findings = Findings.model_validate_json((run / "findings.json").read_text())
    for code, words in (("en", "A look at films"), ("fa", "نگاهی به films")):
        path = write_look(tmp_path / "look.html", study.data, index=index, findings=findings, code=code)
        page = Reader(path.read_text(encoding="utf-8"))
        assert (page.faults, page.open) == ([], [])
        assert words in page.text
        assert page.all("symbol")
        assert page.all("script") == []


def test_a_look_shows_pictures_first_then_what_asks_for_something_then_the_rest(films: tuple[Path, Study], tmp_path: Path) -> None:
    run, study = films
    index = pl.read_parquet(run / "index.parquet")
    told = [
        Finding(code="files_readable", level="pass", figures={"images": 3}),
        Finding(code="small_class", level="warn", figures={"class": "NORMAL", "images": 3}, rows=[1]),
        Finding(code="patients_unknown", level="warn", figures={"images": 3}, page_one=True),
        Finding(code="group_pattern_proposed", level="warn", figures={"pattern": "(p'\\d+)", "patients": 2, "images": 3}, page_one=True),
    ]
    path = write_look(tmp_path / "look.html", study.data, index=index, findings=Findings(findings=told))
    page = Reader(path.read_text(encoding="utf-8"))
    words = [
        "NORMAL",
        "PNEUMONIA",
        "Findings",
        "Nothing says which",
        "NORMAL has only",
        "1 look with nothing to do",
        "Every file can be",
    ]
    places = [page.text.index(each) for each in words]
    assert places == sorted(places)
    assert "In the study file: data: {group: '(p''\\d+)'}" in page.text
    assert index["path"][1].split("/")[1] in page.text
    first = page.tags[: [attributes.get("class") for _, attributes in page.tags].index("chapter")]
    assert len([tag for tag, _ in first if tag == "use"]) == 12


def test_every_line_for_the_study_is_valid() -> None:
    figures: dict[str, Any] = {"pattern": r"(patient\d+)", "fact": "it's", "positive": "b: c"}
    for code in STUDY_LINES:
        line = study_line(Finding(code=code, level="fail", figures=figures))
        settings = yaml.safe_load(line)
        base: dict[str, Any] = {"name": "test", "data": {"folder": "."}}
        if "spacing" in line or "dimensions" in line:
            base |= {"task": "segmentation", "data": {"folder": ".", "labels": {"lv": 1}}}
        for part, value in settings.items():
            base[part] = {**base[part], **value} if isinstance(base.get(part), dict) else value
        study = check_study(base, source="the line")
        if code.startswith("positive"):
            assert study.positive in figures.values()
    assert study_line(Finding(code="marks_tell_class", level="warn")) == ""
    assert study_line(Finding(code="patients_unknown", level="warn")) == ""


def test_pages_need_no_torch() -> None:
    script = "import sys, tabib.reports; sys.exit(bool({'torch', 'torchvision', 'timm'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_why_shows_each_picture_with_its_words_and_the_nearest_training_images(films: tuple[Path, Study], both: dict[str, Reader]) -> None:
    facts = read_facts(*films)
    shown = [path for each in facts.explained for _, _, path in each.pictures]
    assert len(shown) == 2 * 4 + 2 * 3
    examples = sum(1 + len(each.versions) for each in facts.augmented)
    for code, page in both.items():
        reader = language(code)
        why = page.text.split(reader.text("why.intro", {"n": 4}).split(".")[0])[1].split(reader.text("definitions.intro"))[0]
        assert len(page.all("img")) == examples + len(shown) + 1
        for each in facts.explained:
            one = each.explained
            for name in {one.predicted, one.label}:
                assert why.count(plain(reader.text("why.gradcam", {"name": name}))) >= 1
            assert plain(reader.text("why.occlusion", {"name": one.predicted, "before": one.probability, "after": 0.31})) in why
        assert why.count(reader.text("why.one_patient")) == 1
        assert plain(reader.decimal(0.041, 3)) in why, "the check of the maps stands beside them"
        assert plain(reader.text("why.gradcam_note", {"layer": "stage3"})) in why
        assert len([each for each in page.all("svg") if each.get("class") == "heat"]) == 1


@pytest.mark.parametrize(("covered", "words"), [(0.31, "falls from 80% to 31%"), (0.8, "nothing that is covered lowers")])
def test_what_occlusion_costs_is_said_as_it_is(covered: float, words: str) -> None:
    one = Explained(row=1, path="x", chosen="right", label="ILL", predicted="ILL", probability=0.8, covered=covered)
    assert words in plain(why.caption(language("en"), one, "occlusion"))


def test_a_flat_map_is_captioned_as_one() -> None:
    one = Explained(row=1, path="x", chosen="mistake", label="WELL", predicted="ILL", probability=0.8, flat=["gradcam_truth"])
    reader = language("en")
    assert plain(why.caption(reader, one, "gradcam_truth")) == "Grad-CAM: nothing in the image speaks for WELL"
    assert plain(why.caption(reader, one, "gradcam")) == "Grad-CAM: speaks for ILL"
    of = OfLabel(name="MASS", said=True, there=None, probability=0.8, flat=["gradcam"])
    assert plain(why.caption(reader, of, "gradcam")) == "Grad-CAM: nothing in the image speaks for MASS"


def test_a_run_whose_pictures_have_gone_says_why_without_them(films: tuple[Path, Study], tmp_path: Path) -> None:
    run = shutil.copytree(films[0], tmp_path / "run")
    for picture in (run / "explanations").glob("*.png"):
        picture.unlink()
    page = pages(run, films[1])["en"]
    assert "Right answers drawn by chance, explained" in page.text
    (run / "explanations" / "explanations.json").write_text('{"images": []}')
    page = pages(run, films[1])["en"]
    assert not [each for each in page.all("a") if each["href"] == "#why"]


def test_a_figure_without_an_interval_says_why() -> None:
    groups = {"nv": 30, "mel": 9, "df": 1}
    part = PartEvaluation.model_construct(part="test", groups=40, class_groups=groups, measures=[])

    def why(code: str = "en", *, there: PartEvaluation = part, **figures: Any) -> str:
        return plain(why_no_interval(language(code), there, Measure(**{"name": "auc", "value": 0.9, "groups": 40, **figures})))

    assert why(of="macro") == why(of="df", groups=1) == why() == "no interval: df is shown by 1 group"
    assert why("fa", of="macro") == "بی بازه: df را تنها ۱ گروه نشان می‌دهد"
    assert why(of="mel") == "no interval: it cannot be computed from these patients or groups"
    few = part.model_copy(update={"groups": 7})
    assert why(there=few, groups=7, of="macro") == "no interval: too few patients or groups (7)"
    assert why(low=0.8, high=1.0) == why(value=None) == ""
