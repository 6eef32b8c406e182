"""Files of several frames: a row for each frame, and one film never on two sides."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest
from PIL import Image
from tifffile import TiffFile

from made_index import film
from places import REAL, needs_real
from tabib.config import Data, Input, Split, Study
from tabib.dataset import build_cache, index_folder, inspect_dataset, lost_images, patients_known, read_row_pixels, split_dataset
from tabib.errors import ImageError
from tabib.images import count_frames, encode_png, read_image
from tabib.records import Findings

FRAMES = 3


def write_stack(path: Path, seed: int, frames: int = FRAMES) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = (Image.fromarray(film(100 * seed + frame)) for frame in range(frames))
    first.save(path, save_all=True, append_images=others)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(12):
        write_stack(tmp_path / "images" / "ab"[number % 2] / f"film{number:02}.tif", number)
    (tmp_path / "images" / "a" / "single.png").write_bytes(encode_png(film(7)))
    return tmp_path / "images"


def test_each_frame_is_a_row_and_is_read_as_itself(folder: Path) -> None:
    data = Data(folder=folder)
    index = index_folder(data)
    assert index["path"].to_list()[:4] == ["a/film00.tif[0]", "a/film00.tif[1]", "a/film00.tif[2]", "a/film02.tif[0]"]
    assert index["row"].to_list() == list(range(12 * FRAMES + 1))
    assert index["refused"].null_count() == len(index) == index["content"].n_unique()
    for row in (0, 2, 4):
        number, frame = divmod(row, FRAMES)
        assert np.array_equal(read_row_pixels(data, index, row).pixels, film(200 * number + frame))
    assert index.equals(index_folder(data, workers=2))


def test_a_film_is_never_divided_and_its_patient_stays_unknown(folder: Path) -> None:
    study = Study(name="films", data=Data(folder=folder))
    index = index_folder(study.data)
    assert patients_known(index["group"]) == "unknown"
    split = split_dataset(index, Findings(findings=[]), study)
    films = split.with_columns(film=pl.col("path").str.split("[").list.first()).group_by("film")
    assert films.agg(pl.col("part").n_unique())["part"].to_list() == [1] * 13
    assert split["group"].n_unique() == 13
    named = index_folder(Data(folder=folder, group=r"film(\d)"))
    assert set(named["group"]) == {"0", "1", None}
    findings = {finding.code: finding for finding in inspect_dataset(index, study).findings}
    assert findings["patients_unknown"].figures["images"] == len(index)


@pytest.mark.parametrize("copies", ["keep_one", "keep"])
def test_frames_of_one_film_stay_together_where_images_are_drawn_one_by_one(folder: Path, copies: Literal["keep_one", "keep"]) -> None:
    study = Study(name="films", data=Data(folder=folder, group=r"(film)", copies=copies), split=Split(by="image"))
    split = split_dataset(index_folder(study.data), Findings(findings=[]), study)
    films = split.with_columns(film=pl.col("path").str.split("[").list.first()).group_by("film")
    assert films.agg(pl.col("part").n_unique())["part"].to_list() == [1] * 13
    assert split["part"].n_unique() == 3


def test_the_frames_of_one_film_are_of_one_person_where_copies_are_counted(tmp_path: Path) -> None:
    for number in range(8):
        still = [Image.fromarray(film(number) ^ np.uint8(frame)) for frame in range(3)]
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        still[0].save(tmp_path / "ab"[number % 2] / f"{number}.tif", save_all=True, append_images=still[1:])
    study = Study(name="films", data=Data(folder=tmp_path))
    findings = {finding.code: finding for finding in inspect_dataset(index_folder(study.data), study).findings}
    assert (findings["near_copies"].level, findings["near_copies"].figures["across_patients"]) == ("pass", 0)


def test_a_file_is_read_once_for_all_its_frames(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    whole = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (read.append(path), whole(path))[1])
    data = Data(folder=folder)
    index = index_folder(data, workers=1)
    films = sorted(path for path in read if path.suffix in (".tif", ".png"))
    assert films == sorted(path for path in folder.rglob("*.*"))
    read.clear()
    cache = build_cache(data, index, Input(height=16, width=16, channels=1), folder=tmp_path / "cache", workers=1)
    assert len([path for path in read if path.suffix in (".tif", ".png")]) == len(films)
    assert len(cache.images) == len(index)
    again = folder / "a" / "film00.tif"
    write_stack(again, 50)
    assert np.array_equal(read_image(again.with_name("film00.tif[1]")).pixels, film(5001))


def test_a_table_may_name_a_frame(folder: Path) -> None:
    lines = [
        "path,label",
        "film00.tif[1],ill",
        "a/film02[0],well",
        "film04.tif,ill",
        "film06.tif[9],well",
        "film08.tif,ill",
        "film08.tif[0],well",
    ]
    table = folder.parent / "labels.csv"
    table.write_text("\n".join(lines), encoding="utf-8")
    index = index_folder(Data(folder=folder, layout="table", table=table))
    good = index.filter(pl.col("refused").is_null())
    assert good.select("path", "label").rows() == [
        ("a/film00.tif[1]", "ill"),
        ("a/film02.tif[0]", "well"),
        *((f"a/film04.tif[{frame}]", "ill") for frame in range(FRAMES)),
        ("a/film08.tif[0]", "well"),
    ]
    reasons = dict(index.drop_nulls("refused").select("path", "refused").iter_rows())
    assert "has no frame 9" in reasons["a/film06.tif[9]"]
    assert "names frames of it, too" in reasons["a/film08.tif"]
    assert reasons["a/film10.tif"] == "the table does not name it"


def test_what_cannot_be_read_of_a_film_is_a_row(folder: Path) -> None:
    path = folder / "a" / "film00.tif"
    data = bytearray(path.read_bytes())
    with TiffFile(path) as opened:
        entry = opened.pages[1].dataoffsets[0]  # pyright: ignore[reportAttributeAccessIssue]
        entry = data.index(entry.to_bytes(4, "little"))
    data[entry : entry + 4] = (2**31).to_bytes(4, "little")
    path.write_bytes(data)
    index = index_folder(Data(folder=folder))
    assert index.filter(pl.col("refused").is_not_null())["path"].to_list() == ["a/film00.tif[1]"]


def test_a_file_of_that_very_name_is_itself(tmp_path: Path) -> None:
    write_stack(tmp_path / "film.tif", 1)
    (tmp_path / "film.tif[1]").write_bytes(encode_png(film(9)))
    assert np.array_equal(read_image(tmp_path / "film.tif[1]").pixels, film(9))
    assert (count_frames(tmp_path / "film.tif"), count_frames(tmp_path / "film.tif[2]")) == (FRAMES, 1)
    with pytest.raises(ImageError, match="has no frame 3"):
        read_image(tmp_path / "film.tif[3]")


def test_a_file_called_like_a_frame_of_another_is_refused_with_it(folder: Path) -> None:
    (folder / "a" / "film00.tif[1]").write_bytes(encode_png(film(9)))
    (folder / "a" / "film00.tif[3]").write_bytes(encode_png(film(8)))  # of a frame that is not there
    index = index_folder(Data(folder=folder), workers=1)
    refused = index.filter(pl.col("refused").is_not_null())
    assert refused["path"].to_list() == ["a/film00.tif[1]"] * 2
    assert refused["refused"].unique().to_list() == ["a file and a frame of another file are called so; rename the file"]
    assert refused.select("perceptual", "thumbnail", "pixels", "height").null_count().row(0) == (2, 2, 2, 2)
    assert len(lost_images(index)) == 2
    assert len(index) == 12 * FRAMES + 3


@pytest.mark.real
@needs_real("dicom_samples")
def test_frames_of_a_real_film(tmp_path: Path) -> None:
    (tmp_path / "heart").mkdir()
    (tmp_path / "chest").mkdir()
    (tmp_path / "heart" / "IM0001").symlink_to(REAL / "dicom_samples" / "MR-MONO2-8-16x-heart.dcm")
    (tmp_path / "chest" / "IM0002").symlink_to(REAL / "dicom_samples" / "RG1_UNCR.dcm")
    index = index_folder(Data(folder=tmp_path))
    hearts = index.filter(pl.col("label") == "heart")
    assert hearts["path"].to_list() == [f"heart/IM0001[{frame}]" for frame in range(16)]
    assert (hearts["group"].n_unique(), hearts["pixels"].n_unique()) == (1, 16)
