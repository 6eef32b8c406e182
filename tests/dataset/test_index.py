from __future__ import annotations

import hashlib
import io
import resource
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from places import REAL, needs_real
from tabib.config import Data, Study
from tabib.dataset import hamming, index_folder, perceptual_hash, read_row_pixels, split_dataset
from tabib.errors import DataError, ImageError
from tabib.images import THUMBNAIL_SIDE
from tabib.records import INDEX_SCHEMA, Findings


def film(seed: int = 0, height: int = 40, width: int = 50) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def two_classes(folder: Path) -> Data:
    for label in "ab":
        for number in range(3):
            save(folder / label / f"p{number}_1.png", film(number + 10 * (label == "b")))
    return Data(folder=folder)


def by_path(index: pl.DataFrame) -> dict[str, dict]:
    return {row["path"]: row for row in index.to_dicts()}


def test_a_row_says_what_the_file_is(tmp_path: Path) -> None:
    data = two_classes(tmp_path)
    path = save(tmp_path / "a" / "zz.png", film(5, 60, 30))
    index = index_folder(data)
    assert dict(index.schema) == INDEX_SCHEMA
    assert index["row"].to_list() == list(range(7))
    assert index["path"].to_list() == sorted(index["path"])
    row = by_path(index)["a/zz.png"]
    assert row["content"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (row["label"], row["given"], row["group"], row["refused"]) == ("a", None, None, None)
    assert (row["format"], row["height"], row["width"], row["channels"], row["bits"]) == ("PNG", 60, 30, 1, 8)
    assert (row["colour"], row["mode"], row["bytes"]) == (False, "L", path.stat().st_size)
    pixels = film(5, 60, 30)
    assert row["mean"] == pytest.approx(pixels.mean() / 255, abs=1e-5)
    assert row["contrast"] == pytest.approx(pixels.std() / 255, abs=1e-5)
    thumbnail = np.frombuffer(row["thumbnail"], np.uint8).reshape(THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    assert (thumbnail.min(), thumbnail.max()) == (0, 255)
    assert row["perceptual"] == int(perceptual_hash(thumbnail))


def test_the_index_does_not_depend_on_workers_and_repeats(tmp_path: Path) -> None:
    data = two_classes(tmp_path)
    for number in range(40):
        save(tmp_path / "a" / f"more{number}.png", film(number + 100))
    assert index_folder(data, workers=1).equals(index_folder(data, workers=2))


def test_one_picture_saved_in_other_ways_has_the_same_pixels(tmp_path: Path) -> None:
    data = two_classes(tmp_path)
    grey = film(7)
    save(tmp_path / "a" / "grey.png", grey)
    save(tmp_path / "a" / "grey.tiff", grey)
    save(tmp_path / "a" / "rgb.png", np.dstack([grey] * 3))
    save(tmp_path / "a" / "turned.png", grey.T)
    save(tmp_path / "a" / "deep.png", grey.astype(np.uint16) * 257)
    rows = by_path(index_folder(data))
    assert rows["a/grey.png"]["pixels"] == rows["a/grey.tiff"]["pixels"] == rows["a/rgb.png"]["pixels"]
    assert len({rows[f"a/{name}.png"]["content"] for name in ("grey", "rgb")}) == 2
    assert rows["a/turned.png"]["pixels"] != rows["a/grey.png"]["pixels"] != rows["a/deep.png"]["pixels"]
    assert rows["a/deep.png"]["thumbnail"] is not None
    assert hamming(*np.array([rows[f"a/{name}.png"]["perceptual"] for name in ("deep", "grey")], np.uint64)) <= 2
    assert rows["a/deep.png"]["bits"] == 16
    assert rows["a/deep.png"]["mean"] == pytest.approx(rows["a/grey.png"]["mean"], abs=1e-5)
    assert not rows["a/rgb.png"]["colour"]
    assert rows["a/rgb.png"]["channels"] == 3


def test_colour_border_and_flat_pictures(tmp_path: Path) -> None:
    data = two_classes(tmp_path)
    stained = np.dstack([film(1), film(2), film(3)])
    framed = film(4).copy()
    framed[[0, -1], :] = framed[:, [0, -1]] = 9
    half = framed.copy()
    half[:, 0] = np.arange(40)
    save(tmp_path / "a" / "stained.png", stained)
    save(tmp_path / "a" / "framed.png", framed)
    save(tmp_path / "a" / "half.png", half)
    save(tmp_path / "a" / "flat.png", np.full((9, 9), 200, np.uint8))
    save(tmp_path / "a" / "dot.png", np.full((1, 1), 3, np.uint8))
    rows = by_path(index_folder(data))
    assert rows["a/stained.png"]["colour"]
    assert rows["a/framed.png"]["border"] == 1
    ring = 2 * 40 + 2 * 48
    assert rows["a/half.png"]["border"] == pytest.approx((ring - 40 + 1) / ring, abs=1e-5)
    assert rows["a/flat.png"]["thumbnail"] == bytes(THUMBNAIL_SIDE**2)
    assert rows["a/flat.png"]["perceptual"] == 0
    assert rows["a/dot.png"]["contrast"] == 0


def test_unreadable_files_are_rows_with_a_reason(tmp_path: Path) -> None:
    data = two_classes(tmp_path)
    good = save(tmp_path / "a" / "good.jpg", film(1)).read_bytes()
    bad = {
        "empty.png": b"",
        "cut.jpg": good[: len(good) // 2],
        "page.png": b"<!doctype html><p>Not found</p>",
        "notes.txt": b"to do",
        "huge.png": b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (60000).to_bytes(4, "big") * 2 + b"\x08\0\0\0\0" + b"\0\0\0\0",
    }
    for name, content in bad.items():
        (tmp_path / "a" / name).write_bytes(content)
    rows = by_path(index_folder(data))
    assert len(rows) == 7 + len(bad)
    for name, content in bad.items():
        row = rows[f"a/{name}"]
        assert row["refused"], name
        assert (row["label"], row["bytes"], row["perceptual"], row["height"]) == ("a", len(content), None, None)
    assert sum(row["refused"] is None for row in rows.values()) == 7


def test_refused_names_are_rows_too(tmp_path: Path) -> None:
    data = two_classes(tmp_path)
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    rows = by_path(index_folder(data))
    assert rows["__MACOSX"]["refused"].startswith("refused by name")
    assert rows["a/Thumbs.db"]["label"] is None


def test_a_crashed_decoder_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tabib.dataset import index as module
    from tabib.engines import Crashed

    data = two_classes(tmp_path)

    def crash(function, items, *, workers, progress, name):
        return [Crashed("killed by SIGSEGV") if place == 1 else function(item) for place, item in enumerate(items)]

    monkeypatch.setattr(module, "map_in_processes", crash)
    assert index_folder(data)["refused"].to_list() == [None, "the decoder crashed: killed by SIGSEGV", None, None, None, None]


def test_no_readable_image_at_all_is_an_error(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "x.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"Not one of 2 files"):
        index_folder(Data(folder=tmp_path))


# Groups


def test_groups_are_the_joined_captures(tmp_path: Path) -> None:
    data = two_classes(tmp_path).model_copy(update={"group": r"^(\w)/(p\d+)|(never)"})
    save(tmp_path / "b" / "other.png", film(50))
    assert index_folder(data)["group"].to_list() == ["a-p0", "a-p1", "a-p2", None, "b-p0", "b-p1", "b-p2"]


def test_a_pattern_that_matches_nothing_shows_paths(tmp_path: Path) -> None:
    data = two_classes(tmp_path).model_copy(update={"group": r"(patient\d+)"})
    with pytest.raises(DataError) as error:
        index_folder(data)
    assert "none of the 6 paths" in str(error.value)
    assert "'a/p0_1.png'" in str(error.value)


def dicom(pixels: np.ndarray, patient: str) -> bytes:
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = "1.2.3"
    file.PatientID = patient
    file.Rows, file.Columns = pixels.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = 8
    file.HighBit, file.PixelRepresentation = 7, 0
    file.PixelSpacing = [0.5, 0.25]
    file.PixelData = pixels.tobytes()
    stream = io.BytesIO()
    file.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def test_the_patient_of_dicom_is_the_group_under_another_name(tmp_path: Path) -> None:
    data = two_classes(tmp_path)
    for name, patient in (("1", "Rossi^12"), ("2", "Rossi^12"), ("3", "other"), ("4", "")):
        (tmp_path / "a" / f"{name}.dcm").write_bytes(dicom(film(int(name)), patient))
    index = index_folder(data)
    groups = [by_path(index)[f"a/{name}.dcm"]["group"] for name in "1234"]
    assert groups[0] == groups[1] != groups[2]
    assert groups[3] is None
    assert "Rossi" not in str(index.to_dicts())
    contents = [by_path(index)[f"a/{name}.dcm"]["content"][:12] for name in "12"]
    assert groups[0] == f"patient-{min(contents)}", "a digest of the identifier could be turned back by trying all of them"
    assert (by_path(index)["a/1.dcm"]["spacing_row_mm"], by_path(index)["a/1.dcm"]["spacing_column_mm"]) == (0.5, 0.25)
    assert index_folder(data.model_copy(update={"group": "/(p)"}))["group"].unique().drop_nulls().to_list() == ["p"]


# Arrays


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(("shape", "dtype"), [((12, 9), np.uint8), ((12, 9, 3), np.uint8), ((12, 9, 1), np.uint16)])
def test_npz_is_read_row_by_row(tmp_path: Path, write, shape: tuple[int, ...], dtype: type) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, np.iinfo(dtype).max, (5, *shape), dtype=dtype)
    images[3] = images[1]
    write(
        tmp_path / "set.npz",
        train_images=images,
        train_labels=np.array([0, 1, 0, 1, 0]),
        test_images=images[:2],
        test_labels=np.array([0, 1]),
    )
    data = Data(folder=tmp_path / "set.npz", layout="npz")
    index = index_folder(data)
    rows = by_path(index)
    assert rows["train_images[1]"]["pixels"] == rows["train_images[3]"]["pixels"] == rows["test_images[1]"]["pixels"]
    assert index["pixels"].n_unique() == 4
    assert set(index["format"]) == {"NPZ"}
    assert (rows["train_images[0]"]["height"], rows["train_images[0]"]["width"]) == (12, 9)
    assert rows["train_images[2]"]["mean"] == pytest.approx(images[2].mean() / np.iinfo(dtype).max, abs=2e-2)
    for row, path in enumerate(index["path"]):
        part, number = path.removesuffix("]").split("_images[")
        expected = (images if part == "train" else images[:2])[int(number)]
        assert np.array_equal(read_row_pixels(data, index, row).pixels, expected.squeeze())
    (tmp_path / "set.npz").unlink()
    with pytest.raises(ImageError, match=r"set\.npz"):
        read_row_pixels(data, index, 0)


def test_the_pixels_of_a_row_are_read_again(tmp_path: Path) -> None:
    data = two_classes(tmp_path)
    index = index_folder(data)
    assert np.array_equal(read_row_pixels(data, index, 4).pixels, film(11))
    (tmp_path / "b" / "p1_1.png").unlink()
    with pytest.raises(ImageError):
        read_row_pixels(data, index, 4)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the unit of ru_maxrss that Linux has")
def test_memory_grows_with_rows_and_not_with_pixels(tmp_path: Path) -> None:
    images = np.zeros((400, 512, 512), np.uint8)
    images[:, 5, :] = np.arange(512) % 251
    np.savez_compressed(tmp_path / "set.npz", train_images=images, train_labels=np.arange(400) % 2)
    del images
    data = Data(folder=tmp_path / "set.npz", layout="npz")
    read_row_pixels(data, pl.DataFrame({"path": ["train_images[0]"]}), 0)
    anonymous = _anonymous_kib()
    index = index_folder(data, workers=1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0
    assert (_anonymous_kib() - anonymous) * 1024 < 30e6 < 400 * 512 * 512
    assert index.estimated_size() / len(index) < 1600


def _anonymous_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


# Real images

CHEST = Data(folder=REAL / "chest_xray", group=r"(person\d+)|((?:NORMAL2-)?IM-\d+)")


@pytest.fixture(scope="module")
def chest() -> pl.DataFrame:
    return index_folder(CHEST)


def shared(index: pl.DataFrame) -> tuple[int, int, int]:
    """Patients of the test part that also train, patients of the test part, and test rows of the former."""
    train, test = (index.filter(pl.col("given") == part) for part in ("train", "test"))
    both = test.filter(pl.col("group").is_in(train["group"].unique().to_list()))
    return both["group"].n_unique(), test["group"].n_unique(), both.height


@pytest.mark.real
@pytest.mark.slow
@needs_real("chest_xray")
def test_the_public_split_of_the_chest_films_leaks_and_is_mended(chest: pl.DataFrame) -> None:
    assert chest.height == 5840
    assert chest["refused"].null_count() == 5840
    assert chest["group"].null_count() == 0
    # Read naively, "IM-0001" and "NORMAL2-IM-0001" are one patient; the study's pattern keeps the two series apart.
    naive = chest.with_columns(pl.col("path").str.extract(r"(person\d+|IM-\d+)").alias("group"))
    assert shared(naive) == (264, 404, 416)
    assert shared(chest) == (170, 427, 320)

    def parts(**split: object) -> pl.DataFrame:
        study = Study.model_validate({"name": "chest", "data": CHEST.model_dump(), "split": {"given": True, **split}})
        return split_dataset(chest, Findings(findings=[]), study)

    dropped = parts(leaks="drop")
    assert dropped.filter(pl.col("part") == "test").height == 624
    used = dropped.filter(pl.col("part") != "left_out")
    sides = used.group_by("group").agg(pl.col("part").n_unique())
    assert sides["part"].max() == 1
    leaks = dropped.filter(pl.col("reason").str.starts_with("leak"))
    assert set(leaks["path"].str.split("/").list.first()) == {"train"}
    assert leaks.height == 457
    restarted = parts(group_scope="split")
    assert restarted.filter(pl.col("part") == "test").height == 624
    assert restarted.filter(pl.col("part") == "train").height > dropped.filter(pl.col("part") == "train").height


@pytest.mark.real
@pytest.mark.slow
@needs_real("chest_xray")
def test_the_chest_films_have_thirty_sets_of_equal_files(chest: pl.DataFrame) -> None:
    assert (chest["content"].value_counts()["count"] > 1).sum() == 30


@pytest.mark.real
@needs_real("pneumoniamnist")
def test_pneumoniamnist_has_its_published_parts() -> None:
    index = index_folder(Data(folder=REAL / "pneumoniamnist", layout="npz"))
    counts = dict(index.group_by("given").len().iter_rows())
    assert counts == {"train": 4708, "validation": 524, "test": 624}
    assert dict(index.filter(pl.col("given") == "test").group_by("label").len().iter_rows()) == {"0": 234, "1": 390}
