from __future__ import annotations

import re
import shutil
from base64 import b64decode
from collections import Counter
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from made_masks import make_hearts, make_nuclei
from reports.mask_run import finish, spoil_hearts
from reports.test_pages import pages, published_rows
from tabib.config import Segmentation
from tabib.images import OUTLINES, read_mask
from tabib.reports import segmented, write_reports
from tabib.reports.facts import read_facts
from tabib.reports.html import render, take_gallery
from tabib.reports.pictures import Gallery, take_overlays
from tabib.reports.text import language, plain
from tabib.runs import read_result

EN, FA = language("en"), language("fa")


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Segmentation]:
    return finish(make_hearts(tmp_path_factory.mktemp("hearts"), spoil_hearts, patients=28))


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Segmentation]:
    def joined(labels: np.ndarray, _slide: str, _phase: str) -> np.ndarray:
        return np.where(labels == 2, 1, labels)

    return finish(make_nuclei(tmp_path_factory.mktemp("nuclei"), joined), network="attention_unet")


def test_a_segmenter_has_a_page_in_each_language(hearts: tuple[Path, Segmentation]) -> None:
    read = pages(*hearts)
    for chapter in ("data", "split", "training", "results", "definitions", "steps", "versions"):
        assert all(any(each.get("id") == chapter for each in page.all("section")) for page in read.values()), chapter
    assert "Both ventricles in cine MRI" in read["en"].text
    assert "دو بطن" in read["fa"].text
    for words in (
        "Volumes against the truth",
        "From apex to base",
        "Best, median and worst",
        "mean over structures (macro)",
        "all voxels together (micro)",
    ):
        assert words in read["en"].text, words
    assert not re.search(r"\b(segmented|structures|workflow)\.\w|mask_", read["en"].text.split("The study file, with")[0])


def test_patients_are_called_so_where_they_are_known(hearts: tuple[Path, Segmentation]) -> None:
    facts = read_facts(*hearts)
    known, unknown = facts, replace(facts, index=facts.index.with_columns(group=None))
    assert "24 test images of 12 patients" in dict(segmented.workflow(known, EN))["Judge once"]
    told = dict(segmented.workflow(unknown, EN))
    assert "24 test images of 12 groups" in told["Judge once"]
    assert plain(told["Images"]) == "56 images"
    assert "Split by group" in told
    by_image = replace(facts, study=hearts[1].model_copy(update={"split": hearts[1].split.model_copy(update={"by": "image"})}))
    assert "Split image by image" in dict(segmented.workflow(by_image, EN))


def test_pages_of_objects_have_no_millimetres(nuclei: tuple[Path, Segmentation]) -> None:
    read = pages(*nuclei)
    assert "Aggregated Jaccard index" in read["en"].text
    assert "Which points of an image belong to nucleus?" in read["en"].text
    assert "Hausdorff" not in read["en"].text
    assert "Objects are joined or missed" in read["en"].text
    assert "کیفیت فراگیر" in read["fa"].text


@pytest.mark.parametrize("code", ["en", "fa"])
def test_what_others_published_stands_beside_the_mean_over_structures(hearts: tuple[Path, Segmentation], code: str) -> None:
    run, study = hearts
    works = [{"name": "Somebody", "figures": {"dice": 0.91}}]
    told = read_facts(run, Segmentation.model_validate({**study.model_dump(), "notes": {"past_work": works}}))
    reader = language(code)
    rows = published_rows(render("report.html.j2", told, Gallery({}, {}), code), code)
    assert rows[0] == [reader.text("compare.who"), reader.text("measures.dice"), reader.text("compare.protocol")]
    dice = told.measure("dice", "structures")
    assert dice is not None
    assert dice.value is not None
    assert rows[1][0] == reader.text("compare.own")
    assert rows[1][1].startswith(reader.decimal(dice.value, 2))
    assert rows[2] == ["Somebody", reader.decimal(0.91, 3), reader.text("compare.no_protocol")]
    assert reader.text("compare.published") not in render("report.html.j2", read_facts(run, study), Gallery({}, {}), code)


def test_every_structure_has_one_colour(hearts: tuple[Path, Segmentation]) -> None:
    facts = read_facts(*hearts)
    colours = dict(segmented.legend(facts))
    assert list(colours.values()) == ["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in OUTLINES[:3]]
    page = pages(*hearts)["en"]
    shown = [each["style"] for each in page.all("span") if each.get("class") == "swatch"]
    assert {re.sub(r"background: ", "", style or "") for style in shown} == set(colours.values())


def test_best_median_and_worst_are_those_by_their_dice(hearts: tuple[Path, Segmentation]) -> None:
    facts = read_facts(*hearts)
    evaluation = read_result(hearts[0], "evaluation")
    for place, (_, _, cases) in enumerate(segmented.shown_cases(facts, EN)):
        dice = {case.row: case.structures[place].dice for case in evaluation.parts[1].cases}
        best, median, worst = (dice[each.truth.row] for each in cases)
        assert (best, worst) == (max(dice.values()), min(dice.values()))
        assert median == sorted(dice.values())[len(dice) // 2]


def test_five_cases_are_told_by_their_numbers(hearts: tuple[Path, Segmentation]) -> None:
    facts = read_facts(*hearts)
    told = segmented.discussed(facts, EN)
    assert len(told) == 5
    assert len({each.truth.row for each in told}) == 5
    worst = told[0]
    case = next(case for case in facts.measured("test") if case.row == worst.truth.row)
    assert case.group == "patient020"
    assert plain(worst.sentences[0]) == f"rv is not found at all: {case.structures[0].truth} points missed."
    assert all(each.sentences for each in segmented.discussed(facts, FA))


def test_pictures_show_truth_prediction_and_uncertainty_cut_alike(hearts: tuple[Path, Segmentation]) -> None:
    page = pages(*hearts)["en"]
    shown = take_gallery(read_facts(*hearts)).overlays
    sizes: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for each, picture in shown.items():
        sizes.setdefault((each.row, each.slice), set()).add((picture.height, picture.width))
        assert picture.highest == (pytest.approx(200 / 255) if each.shows == "entropy" else None)
    assert {len(each) for each in sizes.values()} == {1}
    kinds = Counter(each.shows for each in shown)
    assert (kinds["truth"], kinds["entropy"]) == (kinds["prediction"], 5), "the map of each case that is told by numbers"
    assert len(page.all("img")) == 9 * 2 + 5 * 3
    assert page.text.count("uncertainty, at most 0.78") == 5
    assert "mean of 1 member" in page.text


def test_the_map_of_the_entropy_is_where_it_is_high(hearts: tuple[Path, Segmentation], tmp_path: Path) -> None:
    facts = read_facts(*hearts)
    told = segmented.discussed(facts, EN)[-1]
    row, number = told.truth.row, told.truth.slice
    masks = {row: hearts[0] / facts.predictions[row]["mask"]}
    shown = take_overlays(hearts[1].data, facts.index, [told.entropy], masks)
    pixels = np.asarray(Image.open(BytesIO(b64decode(shown[told.entropy].address.split(",")[1]))), np.int16)
    assert np.ptp(pixels[:4, :4], axis=2).max() < 24, "far from the heart the picture is grey as it was"
    warm = (pixels[..., 0] - pixels[..., 2] > 60).mean()
    said = read_mask(masks[row]).voxels[number - 1]
    assert said.any()
    assert warm == pytest.approx((said > 0).sum() / (pixels.shape[0] * pixels.shape[1] / 9), rel=0.15)


def test_the_cases_on_which_answers_differ_most_are_shown(hearts: tuple[Path, Segmentation]) -> None:
    facts = read_facts(*hearts)
    assert segmented.uncertain_cases(facts, EN) == [], "one answer differs from none"
    judged = facts.segmented
    assert judged is not None
    cases = [case.model_copy(update={"disagreement": place / 100}) for place, case in enumerate(judged.parts[1].cases)]
    parts = [judged.parts[0], judged.parts[1].model_copy(update={"cases": cases})]
    facts = replace(facts, evaluation=judged.model_copy(update={"parts": parts}))
    shown = segmented.uncertain_cases(facts, EN)
    assert [each.truth.row for each in shown] == [case.row for case in cases[:-4:-1]]
    assert all(each.entropy for each in shown)
    page = render("report.html.j2", facts, take_gallery(facts), "fa")
    assert "جایی که پاسخ‌ها بیش از همه فرق می‌کنند" in page


def test_the_network_is_drawn_from_the_model(hearts: tuple[Path, Segmentation], nuclei: tuple[Path, Segmentation]) -> None:
    drawn = segmented.drawn_network(read_facts(*hearts), EN)
    assert drawn is not None
    assert drawn.count('class="level-box"') == 7, "two boxes a level, and one at the bottom"
    words = plain(re.sub(r"<[^>]+>", " ", drawn))
    for said in ("32 maps", "48 × 48", "256 maps", "6 × 6", "÷ 2 × 2", "image, 1 channel", "answer, 4 maps"):
        assert said in words, said
    gated = segmented.drawn_network(read_facts(*nuclei), FA)
    assert gated is not None
    assert gated.count('class="skip gated"') == 3


def test_the_work_is_told_as_it_was_done(hearts: tuple[Path, Segmentation]) -> None:
    told = {plain(title): plain(text) for title, text in segmented.workflow(read_facts(*hearts), EN)}
    assert told["Images"] == "56 images of 28 patients"
    assert told["Split by patient"] == "28 train, 4 choose, 24 judge"
    assert told["Prepare"] == "resampled to 1.5 × 1.5 mm, patches of 48 × 48"
    assert told["Judge once"] == "24 test images of 12 patients"


def test_agreement_is_written_in_its_unit(hearts: tuple[Path, Segmentation]) -> None:
    facts = read_facts(*hearts)
    rows = {(row.quantity, plain(row.structure)): row for row in segmented.agreement_rows(facts, EN)}
    evaluation = read_result(hearts[0], "evaluation")
    found = next(each for each in evaluation.agreements if (each.name, each.of) == ("ejection_fraction", "lv"))
    assert plain(rows["Ejection fraction (%)", "lv"].bias).startswith(f"{100 * found.bias.value:.1f} (")
    assert len(segmented.agreement_figures(facts, FA)) == len(rows)


def test_what_was_read_of_each_patient_stands_beside_the_truth(hearts: tuple[Path, Segmentation], monkeypatch: pytest.MonkeyPatch) -> None:
    facts = read_facts(*hearts)
    table = segmented.agreement_patients(facts, EN)
    assert table is not None
    assert facts.segmented is not None
    fractions = [each for each in facts.segmented.agreements if each.name == "ejection_fraction"]
    errors: dict[str, float] = {}
    for each in fractions:
        for group, true, said in zip(each.groups, each.truth, each.prediction, strict=True):
            errors[group] = max(errors.get(group, 0.0), abs(said - true))
    assert [plain(name) for name, _ in table.rows] == sorted(errors, key=lambda group: (-errors[group], group))
    one = fractions[0]
    at = [plain(each) for each in table.quantities].index(f"Ejection fraction (%) · {one.of}")
    place = one.groups.index(plain(table.rows[0][0]))
    assert plain(table.rows[0][1][at]) == f"{100 * one.prediction[place]:.1f} ({100 * one.truth[place]:.1f})"
    monkeypatch.setattr(segmented, "PATIENTS", 3)
    few = segmented.agreement_patients(facts, FA)
    assert few is not None
    assert (len(few.rows), few.more) == (3, len(errors) - 3)
    assert "بیمار به بیمار" in render("report.html.j2", facts, take_gallery(facts), "fa")


@pytest.mark.parametrize("missing", ["evaluation.json", "predictions.parquet", "model", "checks.json", "split.csv", "manifest.json"])
def test_a_run_that_stopped_half_way_has_a_page(hearts: tuple[Path, Segmentation], tmp_path: Path, missing: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(hearts[0], run)
    place = run / missing
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    assert len(write_reports(run, hearts[1])) == 2


def test_pages_are_written_without_the_data(hearts: tuple[Path, Segmentation], tmp_path: Path) -> None:
    run, study = hearts
    gone = study.model_copy(update={"data": study.data.model_copy(update={"folder": tmp_path / "gone"})})
    shutil.copytree(run, tmp_path / "run")
    assert all("Hausdorff" in path.read_text("utf-8") or path.name.endswith("fa.html") for path in write_reports(tmp_path / "run", gone))
