from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from masked import FACTS, pairs, save_png, study
from tabib.dataset import Case, index_folder, inspect_dataset
from tabib.images import OUTLINES, Volume
from tabib.reports import write_look
from tabib.reports.pictures import LARGEST_SIDE, outlined, take_pictures


def case(structures: np.ndarray, objects: np.ndarray | None = None) -> Case:
    return Case(Volume(np.full(structures.shape, 50, np.uint8), None, None, FACTS), structures, objects)


def drawn_in(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (picture == np.array(colour, np.uint8)).all(axis=2)


def test_a_small_structure_is_shown_large_with_what_is_around() -> None:
    structures = np.zeros((3, 200, 300), np.uint8)
    structures[1, 100:140, 200:220] = 1
    picture = outlined(case(structures))
    # 40 rows with 20 on either side, 20 columns with 10: twice as large as its pixels.
    assert picture.shape == (LARGEST_SIDE, LARGEST_SIDE // 2, 3)
    rows, columns = np.nonzero(drawn_in(picture, OUTLINES[0]))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (40, 119, 20, 59)


def test_all_slices_decide_what_is_shown_and_one_can_be_asked_for() -> None:
    structures = np.zeros((2, 160, 160), np.uint8)
    structures[0, 10:150, 10:150], structures[1, 60:70, 60:70] = 1, 2
    assert drawn_in(outlined(case(structures)), OUTLINES[0]).any()
    other = outlined(case(structures), number=1)
    assert drawn_in(other, OUTLINES[1]).any()
    assert not drawn_in(other, OUTLINES[0]).any()


def test_without_a_structure_the_whole_picture_is_shown() -> None:
    assert outlined(case(np.zeros((1, 320, 160), np.uint8))).shape == (LARGEST_SIDE, LARGEST_SIDE // 2, 3)


def test_a_thin_outline_keeps_its_colour_in_the_page(tmp_path: Path) -> None:
    structures = np.zeros((128, 128), np.uint8)
    structures[30:90, 30:90] = 1
    save_png(tmp_path / "images/a.png", np.full((128, 128), 60, np.uint8))
    save_png(tmp_path / "masks/a.png", structures)
    data = study(tmp_path).data
    address = take_pictures(data, index_folder(data, workers=1), [0]).rows[0].address
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))
    near = np.abs(shown.astype(int) - OUTLINES[0]).max(axis=2) < 60
    assert near.sum() > 200


def test_the_page_of_a_look_shows_structures_and_their_colours(tmp_path: Path) -> None:
    asked = study(pairs(tmp_path / "cells", 6), labels={"cell": 1})
    index = index_folder(asked.data, workers=1)
    findings = inspect_dataset(index, asked)
    for code, words in (("en", "6 images with masks of 1 structure"), ("fa", "۶ تصویر با ماسکِ ۱ ساختار")):
        page = write_look(tmp_path / "runs/look/look.html", asked.data, index=index, findings=findings, code=code).read_text("utf-8")
        assert words in page
        assert "background: #00dcff" in page
        assert page.count("data:image/jpeg") >= 6
