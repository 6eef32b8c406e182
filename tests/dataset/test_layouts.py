from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from made_index import film
from tabib.config import Data, Study
from tabib.dataset import index_folder, inspect_dataset
from tabib.dataset.layouts import LAYOUTS, Listed, list_folder
from tabib.errors import DataError
from tabib.images import encode_png


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def listing(folder: Path) -> list[Listed]:
    return list_folder(Data(folder=folder))


def good(folder: Path) -> list[tuple[str, str | None, str | None]]:
    return [(entry.path, entry.label, entry.given) for entry in listing(folder) if entry.refused is None]


def refused(folder: Path) -> dict[str, str]:
    return {entry.path: entry.refused for entry in listing(folder) if entry.refused is not None}


def test_the_study_and_the_table_name_the_same_layouts() -> None:
    assert set(LAYOUTS) == set(get_args(Data.model_fields["layout"].annotation))


def test_class_folders_at_any_depth_sorted_by_path(tmp_path: Path) -> None:
    touch(tmp_path, "b/z.png", "a/deep/er/1.png", "a/2.png")
    assert good(tmp_path) == [("a/2.png", "a", None), ("a/deep/er/1.png", "a", None), ("b/z.png", "b", None)]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("VAL", "validation"),
        ("valid", "validation"),
        ("Validation", "validation"),
        ("test", "test"),
        ("TESTING", "test"),
    ],
)
def test_folders_of_a_split_are_known_in_any_case(tmp_path: Path, name: str, part: str) -> None:
    touch(tmp_path, f"{name}/a/1.png", f"{name}/b/2.png")
    assert good(tmp_path) == [(f"{name}/a/1.png", "a", part), (f"{name}/b/2.png", "b", part)]


@pytest.mark.parametrize("name", ["ذات‌الریه", "two words", "-rf", "line\nbreak", "quote\"'", "a,b", "train set", "é"])
def test_odd_class_names_are_names(tmp_path: Path, name: str) -> None:
    touch(tmp_path, f"{name}/{name}.png", "other/1.png")
    assert (f"{name}/{name}.png", name, None) in good(tmp_path)


def test_one_class_spelt_by_two_systems_is_one_class(tmp_path: Path) -> None:
    touch(tmp_path, "train/caf\u00e9/1.png", "test/cafe\u0301/1.png", "train/x/1.png", "test/x/1.png")
    assert {label for _, label, _ in good(tmp_path)} == {"caf\u00e9", "x"}


@pytest.mark.parametrize(
    "names",
    [
        ("train_set", "test_set"),
        ("TrainImages", "ValidationImages", "TestImages"),
        ("1 training", "2 testing", "other"),
        ("xray-train", "xray-val"),
    ],
)
def test_parts_by_other_names_do_not_become_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    touch(tmp_path, *(f"{name}/{label}/1.png" for name in names for label in ("A", "B")), f"{names[0]}/C/1.png", f"{names[0]}/.DS_Store")
    with pytest.raises(DataError, match=f"{names[0]}.*'A', 'B'.*look like the parts of a split.*train, val and test"):
        listing(tmp_path)


@pytest.mark.parametrize(
    "paths",
    [
        ("normal/p1/1.png", "ill/p2/1.png"),
        ("normal/PA/1.png", "ill/PA/1.png"),
        ("valve/PA/1.png", "latest/PA/1.png"),
        ("test_positive/p1/1.png", "test_negative/p1/1.png"),
        ("locomotive train/PA/2.png", "bus/PA/1.png"),
        ("trains/1.png", "test_tubes/1.png"),
        ("train set/p1/1.png", "test set/p2/1.png"),
    ],
)
def test_nested_folders_of_classes_stay_classes(tmp_path: Path, paths: tuple[str, ...]) -> None:
    touch(tmp_path, *paths)
    assert {label for _, label, _ in good(tmp_path)} == {path.split("/")[0] for path in paths}


@pytest.mark.parametrize("name", ["__MACOSX", ".git", ".ipynb_checkpoints"])
def test_junk_folders_are_one_refused_row(tmp_path: Path, name: str) -> None:
    touch(tmp_path, f"{name}/a/1.png", f"{name}/b/1.png", "a/1.png", "b/1.png", f"a/{name}/2.png")
    assert set(refused(tmp_path)) == {name, f"a/{name}"}
    assert len(good(tmp_path)) == 2


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini", "DESKTOP.INI", "._1.png", ".hidden.png"])
def test_junk_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "a/1.png", "b/1.png", f"a/{name}", name)
    assert set(refused(tmp_path)) == {name, f"a/{name}"}
    assert all("by name" in reason for reason in refused(tmp_path).values())


def test_files_outside_every_class_are_rows_with_a_reason(tmp_path: Path) -> None:
    touch(tmp_path, "README.txt", "train/labels.csv", "train/film.png", "train/IM0001", "train/a/1.png", "test/b/1.png")
    outside = "lies outside every class folder"
    assert refused(tmp_path) == {
        "README.txt": f"refused by name: {outside}",
        "train/labels.csv": f"refused by name: {outside}",
        "train/film.png": outside,
        "train/IM0001": outside,
    }


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "c").mkdir()
    assert refused(tmp_path) == {"c": "an empty folder"}


def test_loops_end_and_nothing_is_read_twice(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "again").symlink_to(tmp_path / "b")
    (tmp_path / "a" / "self").symlink_to("self")
    (tmp_path / "0_alias").symlink_to(tmp_path / "b")
    assert {path for path, _, _ in good(tmp_path)} == {"a/1.png", "b/1.png"}
    assert set(refused(tmp_path)) == {"a/loop", "a/again", "a/self", "0_alias"}
    assert "read as 'b'" in refused(tmp_path)["0_alias"]


def test_links_out_of_the_folder_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "archive/1.png", "archive/sub/2.png", "data/b/1.png")
    (tmp_path / "data" / "a").symlink_to(tmp_path / "archive")
    (tmp_path / "data" / "b" / "film.png").symlink_to(tmp_path / "archive" / "1.png")
    assert [path for path, _, _ in good(tmp_path / "data")] == ["a/1.png", "a/sub/2.png", "b/1.png", "b/film.png"]


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/1.png")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    (tmp_path / "a" / "gone.png").symlink_to("nowhere.png")
    assert refused(tmp_path) == {"a/gone.png": "a link to nothing", "a/pipe.png": "not a file (a pipe, socket or device)"}


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/1.png")
    with open(os.fsencode(tmp_path) + b"/a/\xff.png", "wb"):
        pass
    assert refused(tmp_path) == {"a/\\xff.png": "the name is not UTF-8; rename the file"}


def test_a_second_copy_of_the_archive_is_not_read_twice(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.png", "train/b/2.png", "test/a/3.png", "test/b/4.png")
    touch(tmp_path, "all/train/a/1.png", "all/train/b/2.png", "all/test/a/3.png", "all/.DS_Store", "__MACOSX/x")
    (tmp_path / "all/train/a/1.png").write_bytes(b"train/a/1.png")
    (tmp_path / "all/train/b/2.png").write_bytes(b"train/b/2.png")
    assert [path for path, _, _ in good(tmp_path)] == ["all/test/a/3.png", "test/a/3.png", "test/b/4.png", "train/a/1.png", "train/b/2.png"]
    assert "second copy of 'train/a/1.png'" in refused(tmp_path)["all/train/a/1.png"]


def test_what_a_second_copy_holds_beside_is_said_with_both_folders(tmp_path: Path) -> None:
    for number, name in enumerate([*(f"{label}/{place}.png" for label in "ab" for place in range(4)), "all/a/9.png"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encode_png(film(number)))
    shutil.copytree(tmp_path / "a", tmp_path / "all/a", dirs_exist_ok=True)
    study = Study(name="films", data=Data(folder=tmp_path))
    findings = {finding.code: finding for finding in inspect_dataset(index_folder(study.data, workers=1), study).findings}
    assert findings["folders_doubled"].figures["files"] == 4
    assert findings["classes_in_two_folders"].figures == {"inner": "all", "outer": tmp_path.name, "images": 1, "example": "all/a/9.png"}


def test_one_class_of_a_second_copy_is_no_class_of_its_own(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "a/2.png", "b/3.png", "b/4.png", "all/a/1.png", "all/a/2.png", "all/a/5.png", "all/README.txt")
    for name in ("a/1.png", "a/2.png"):
        (tmp_path / "all" / name).write_bytes(name.encode())
    (tmp_path / "all/a/2.png").write_bytes(b"a/0.png")  # as long as the other, and not the same
    assert [(path, label) for path, label, _ in good(tmp_path)] == [
        *(("a/1.png", "a"), ("a/2.png", "a"), ("all/a/2.png", "a"), ("all/a/5.png", "a"), ("b/3.png", "b"), ("b/4.png", "b"))
    ]
    assert "second copy of 'a/1.png', by place and content" in refused(tmp_path)["all/a/1.png"]
    touch(tmp_path, "all/other/6.png")
    with pytest.raises(DataError, match=r"all holds the folder 'a' with files of .*a again, and beside it 'other'"):
        listing(tmp_path)


@pytest.mark.parametrize("more", [[], ["all/7.png"]])
def test_folders_of_patients_called_like_classes_and_classes_with_images_of_their_own_stay_classes(tmp_path: Path, more: list[str]) -> None:
    touch(tmp_path, "a/1.png", "b/1.png", "all/a/1.png", *more)
    if more:
        (tmp_path / "all/a/1.png").write_bytes((tmp_path / "a/1.png").read_bytes())
    assert {label for _, label, _ in good(tmp_path)} == {"a", "b", "all"}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "is empty"),
        ([".DS_Store"], "is empty"),
        (["1.png", "2.png"], "holds 2 files and no class folders"),
        (["a/1.png"], "holds one class, 'a' (1 files)"),
        (["train/a/1.png", "test/a/1.png"], "holds one class, 'a' (2 files)"),
        (["train/1.png", "test/2.png"], "no images in class folders inside them"),
        (["train/a/1.png", "extra/b.png"], "mixes folders of a split ('train') with other folders ('extra')"),
        (["a/.DS_Store", "b/.DS_Store"], "no image in them"),
        (["train/Normal/1.png", "test/NORMAL/1.png", "train/sick/1.png"], "differ in capital letters only"),
    ],
)
def test_a_folder_that_makes_no_study_says_why(tmp_path: Path, names: list[str], said: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(DataError) as error:
        listing(tmp_path)
    assert said in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_missing_folder_and_a_file_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no folder"):
        listing(tmp_path / "nothing")
    touch(tmp_path, "x.npz")
    with pytest.raises(DataError, match="layout: npz"):
        listing(tmp_path / "x.npz")


def npz(folder: Path, **arrays: np.ndarray) -> Data:
    np.savez_compressed(folder / "set.npz", allow_pickle=True, **arrays)
    return Data(folder=folder / "set.npz", layout="npz")


def films(count: int, *shape: int) -> np.ndarray:
    return np.zeros((count, *(shape or (8, 8))), np.uint8)


@pytest.mark.parametrize("labels", [np.array([[0], [1], [0]], np.uint8), np.array([0, 1, 0])])
def test_npz_rows(tmp_path: Path, labels: np.ndarray) -> None:
    data = npz(tmp_path, train_images=films(3), train_labels=labels, test_images=films(1, 8, 8, 3), test_labels=np.array([1]))
    expected = [
        Listed("test_images[0]", "1", "test"),
        Listed("train_images[0]", "0", "train"),
        Listed("train_images[1]", "1", "train"),
        Listed("train_images[2]", "0", "train"),
    ]
    assert list_folder(data) == expected
    assert list_folder(Data(folder=tmp_path, layout="npz")) == expected


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"images": films(2), "labels": np.arange(2)}, "holds the keys images, labels"),
        ({"train_images": films(2)}, "only one of train_images and train_labels"),
        ({"train_images": films(2), "train_labels": np.arange(2), "val_labels": np.arange(2)}, "only one of val_images and val_labels"),
        ({"train_images": films(2), "train_labels": np.arange(3)}, "train_labels in set.npz has shape (3,)"),
        (
            {"train_images": films(2), "train_labels": np.arange(3)},
            "and there are 2 images. Expected one whole number per image: (2,) or (2, 1).",
        ),
        ({"train_images": films(2), "train_labels": np.zeros((2, 14), int)}, "several labels per image"),
        ({"train_images": films(2), "train_labels": np.array([0.5, 1])}, "Expected one whole number per image"),
        ({"train_images": films(2, 9, 9, 9), "train_labels": np.arange(2)}, "volumes are not read"),
        ({"train_images": films(2).astype(float), "train_labels": np.arange(2)}, "type float64"),
        ({"train_images": films(2), "train_labels": np.array([{}, {}])}, "holds Python objects, which are never read"),
        ({"train_images": films(2), "train_labels": np.zeros(2, int)}, "holds one class, '0'"),
    ],
)
def test_a_bad_npz_says_why(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(DataError) as error:
        list_folder(npz(tmp_path, **arrays))
    assert said in str(error.value)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + b"\0" * 50])
def test_a_damaged_npz_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as an npz file"):
        list_folder(Data(folder=tmp_path / "set.npz", layout="npz"))


def test_a_truncated_npz_says_so(tmp_path: Path) -> None:
    data = npz(tmp_path, train_images=films(3), train_labels=np.arange(3))
    content = data.folder.read_bytes()
    data.folder.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cannot be read as an npz file"):
        list_folder(data)
