from __future__ import annotations

import io
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from made_index import film
from places import REAL, needs_real
from tabib.config import Data, Input, Study
from tabib.dataset import (
    archives,
    build_cache,
    clear_cache,
    index_folder,
    inspect_dataset,
    list_cache,
    lost_images,
    open_data,
    split_dataset,
)
from tabib.dataset.archives import MAX_ENTRIES, is_archive
from tabib.dataset.listing import NOT_UNPACKED
from tabib.errors import DataError, RunError
from tabib.images import encode_png
from tabib.records import Findings

PICTURES = [encode_png(film(number, side=24)) for number in range(60)]
HONEST = {"a/1.png": PICTURES[0], "b/2.png": PICTURES[1]}


def zip_of(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def tar_of(path: Path, files: Mapping[str, bytes], extra: Sequence[tarfile.TarInfo] = (), mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # pyright: ignore[reportArgumentType, reportCallIssue]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in extra:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def opened(archive: Path, cache: Path) -> tuple[dict[str, bytes], list[str]]:
    """Everything that was written anywhere below the parent of the cache, and the reasons of what was not."""
    around = {path for path in cache.parent.rglob("*") if not path.is_relative_to(cache)}
    found = open_data(Data(folder=archive), cache)
    assert {path for path in cache.parent.rglob("*") if not path.is_relative_to(cache)} == around
    folder = found.data.folder
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    written = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return written, [(entry.refused or "").removeprefix(NOT_UNPACKED) for entry in found.refused]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "inside").mkdir()
    return tmp_path / "inside" / "cache"


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tgz", "x.tar.bz2", "x.tar.xz", "X.ZIP"])
def test_every_kind_of_archive_is_unpacked_once(tmp_path: Path, cache: Path, name: str) -> None:
    mode = {"gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}.get(name.rpartition(".")[2], "w")
    files = HONEST | {"./c//3.png": PICTURES[2], "بیمار\u200cها/۱.png": PICTURES[3]}
    archive = zip_of(tmp_path / name, files) if name.lower().endswith("zip") else tar_of(tmp_path / name, files, mode=mode)
    assert is_archive(archive)
    written, refused = opened(archive, cache)
    assert refused == []
    assert written == HONEST | {"c/3.png": PICTURES[2], "بیمار\u200cها/۱.png": PICTURES[3]}
    (folder,) = (cache / "archives").iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    before = folder.stat().st_ctime_ns
    assert opened(archive, cache) == (written, refused)
    assert folder.stat().st_ctime_ns == before
    (entry,) = list_cache(cache)
    assert (entry.path, entry.images) == (folder, 4)
    assert entry.bytes > sum(map(len, files.values()))
    assert clear_cache(cache) == [entry]
    assert list_cache(cache) == []


NAMES = {  # a name that leads elsewhere, and what is said of it
    "../evil.png": "leads out of the folder",
    "../../../../tmp/evil.png": "leads out of the folder",
    "a/../../evil.png": "leads out of the folder",
    "a/b/../../../evil.png": "leads out of the folder",
    "a/..": "leads out of the folder",
    "./../evil.png": "leads out of the folder",
    "__MACOSX/../../evil.png": "leads out of the folder",
    "/etc/evil.png": "begins at the root",
    "//server/share/evil.png": "begins at the root",
    "..\\evil.png": "backslash",
    "a\\..\\..\\evil.png": "backslash",
    "\\\\server\\share\\evil.png": "backslash",
    "C:\\evil.png": "backslash",
    "C:/evil.png": "begins with a drive",
    "c:evil.png": "begins with a drive",
    "a/\x1b[2Jevil.png": "control characters",
    "a/evil.png\n../x.png": "control characters",
    "a/" + "e" * 300 + ".png": "too long",
    "/".join(["e" * 100] * 12) + ".png": "too long",
    "./": "no name",
    "a/inner.zip": "an archive in the archive",
    "a/inner.TAR.GZ": "an archive in the archive",
    "a/1.png": "same name",
    "A/1.PNG": "same name",
    "a/1.png/evil.png": "is a file of the folder's name",
    "b": "other entries lie in a folder of its name",
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", NAMES, ids=[f"name{number}" for number in range(len(NAMES))])
def test_names_that_lead_elsewhere_are_refused_and_the_rest_is_unpacked(tmp_path: Path, cache: Path, kind: str, name: str) -> None:
    if name == "./" and kind == "zip":
        pytest.skip("a folder of the archive itself, which writes nothing")
    archive = tmp_path / f"x.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            for each, content in [*HONEST.items(), (name, b"evil")]:
                file.writestr(zipfile.ZipInfo(each), content)
    else:
        evil = tarfile.TarInfo(name)
        evil.size = 4
        tar_of(archive, HONEST, [evil])
    written, refused = opened(archive, cache)
    assert written == HONEST
    assert [NAMES[name] in reason for reason in refused] == [True]


def test_a_name_with_a_zero_byte_is_refused(tmp_path: Path, cache: Path) -> None:
    archive = zip_of(tmp_path / "x.zip", HONEST | {"c/x.png?.exe": b"evil"})
    archive.write_bytes(archive.read_bytes().replace(b"x.png?.exe", b"x.png\0.exe"))
    written, refused = opened(archive, cache)
    assert (written, refused) == (HONEST, ["its name holds control characters"])


def test_a_name_of_other_bytes_is_refused(tmp_path: Path, cache: Path) -> None:
    evil = tarfile.TarInfo("c/\udcff.png")
    archive = tmp_path / "x.tar"
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape") as file:
        file.addfile(evil)
    tar = archive.read_bytes()
    archive.write_bytes(tar[:512] + tar_of(tmp_path / "y.tar", HONEST).read_bytes())
    assert opened(archive, cache) == (HONEST, ["its name is not UTF-8"])


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.FIFOTYPE, "a pipe, socket or device"),
        (tarfile.CHRTYPE, "a pipe, socket or device"),
        (tarfile.BLKTYPE, "a pipe, socket or device"),
    ],
    ids=["symlink", "hardlink", "pipe", "character device", "block device"],
)
def test_links_and_devices_of_a_tar_file_are_refused(tmp_path: Path, cache: Path, kind: bytes, said: str) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    evil = tarfile.TarInfo("c")
    evil.type, evil.linkname = kind, str(outside)
    through = tarfile.TarInfo("c/inner.png")  # would be written through the link
    written, refused = opened(tar_of(tmp_path / "x.tar", HONEST, [evil, through]), cache)
    assert said in refused[0]
    assert written == HONEST | {"c/inner.png": b""}
    assert outside.read_text() == "mine"


@pytest.mark.parametrize(
    ("kind", "said"), [(stat.S_IFLNK, "a symbolic link"), (stat.S_IFIFO, "a pipe, socket or device"), (stat.S_IFBLK, "a pipe")]
)
def test_links_and_devices_of_a_zip_file_are_refused(tmp_path: Path, cache: Path, kind: int, said: str) -> None:
    archive = zip_of(tmp_path / "x.zip", HONEST)
    evil = zipfile.ZipInfo("c")
    evil.create_system, evil.external_attr = 3, (kind | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(evil, "/etc/passwd")
    written, refused = opened(archive, cache)
    assert written == HONEST
    assert said in refused[0]


def test_what_systems_leave_in_archives_is_one_row_each_and_no_lost_image(tmp_path: Path, cache: Path) -> None:
    junk = {"__MACOSX/a/._1.png": b"x", "__MACOSX/b/._2.png": b"x", "a/.DS_Store": b"x", "a/Thumbs.db": b"x", "b/": b""}
    index = index_folder(Data(folder=zip_of(tmp_path / "x.zip", HONEST | junk)), cache_folder=cache, workers=1)
    refused = index.filter(pl.col("refused").is_not_null())
    assert refused["path"].to_list() == ["__MACOSX", "a/.DS_Store", "a/Thumbs.db"]
    assert len(lost_images(index)) == 0


def test_refused_entries_are_lost_images_under_paths_of_their_own(tmp_path: Path, cache: Path) -> None:
    index = index_folder(
        Data(folder=zip_of(tmp_path / "x.zip", HONEST | {"../a/1.png": b"x", "A/1.PNG": b"x"})), cache_folder=cache, workers=1
    )
    assert lost_images(index)["path"].to_list() == ["x.zip, refused 1: ../a/1.png", "x.zip, refused 2: A/1.PNG"]
    assert all(
        reason.startswith("not unpacked: its name leads out") or "an entry before" in reason for reason in lost_images(index)["refused"]
    )
    assert index["path"].n_unique() == len(index) == 4


# --- Archives that cannot be trusted ---


def refused_whole(archive: Path, cache: Path, said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        open_data(Data(folder=archive), cache)
    assert str(archive) in str(error.value)
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    assert list_cache(cache) == []


def zip_by_hand(entries: Sequence[tuple[bytes, int, bytes, int, int]], body: bytes) -> bytes:
    """A ZIP file around a body: per entry its name, where it begins, its compressed bytes, their method and its size."""
    listing = b"".join(
        struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, method, 0, 33, 0, len(packed), size, len(name), 0, 0, 0, 0, 0, start) + name
        for name, start, packed, method, size in entries
    )
    return body + listing + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, len(entries), len(entries), len(listing), len(body), 0)


def local(name: bytes, packed: bytes, method: int, size: int) -> bytes:
    return struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, method, 0, 33, 0, len(packed), size, len(name), 0) + name + packed


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    return packer.compress(content) + packer.flush()


def test_entries_that_share_their_bytes_are_refused(tmp_path: Path, cache: Path) -> None:
    packed = deflated(bytes(2**20))
    body = local(b"a/1.png", packed, 8, 2**20)
    entries = [(f"a/{number}.png".encode(), 0, packed, 8, 2**20) for number in range(50)]
    (tmp_path / "x.zip").write_bytes(zip_by_hand(entries, body))
    refused_whole(tmp_path / "x.zip", cache, "entries lie in one another")


def test_quoted_overlap_is_refused(tmp_path: Path, cache: Path) -> None:
    """Each entry quotes the header of the next one in a stored block, and shares all that follows (Fifield, WOOT 2019)."""
    packed, size, entries = deflated(bytes(2**20)), 2**20, []
    body = local(b"a/0.png", packed, 8, size)
    entries = [(b"a/0.png", 0, packed, 8, size)]
    for number in range(1, 8):
        header = body[: 30 + 7]
        quoted = b"\0" + struct.pack("<HH", len(header), len(header) ^ 0xFFFF) + header + entries[0][2]
        name, size = f"a/{number}.png".encode(), size + len(header)
        start = local(name, b"", 8, size)[:18] + struct.pack("<I", len(quoted)) + local(name, b"", 8, size)[22:]
        body = start + quoted[:5] + body
        entries = [
            (name, 0, quoted, 8, size),
            *((own, place + len(start) + 5, inner, 8, length) for own, place, inner, _, length in entries),
        ]
    (tmp_path / "x.zip").write_bytes(zip_by_hand(entries, body))
    with zipfile.ZipFile(tmp_path / "x.zip") as file:
        assert len(file.namelist()) == 8
    refused_whole(tmp_path / "x.zip", cache, "entries lie in one another")


def test_an_entry_that_runs_into_the_list_of_names_is_refused(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zip_by_hand([(b"a/1.png", 0, b"x" * 500, 0, 500)], local(b"a/1.png", b"x" * 20, 0, 20)))
    refused_whole(tmp_path / "x.zip", cache, "runs into its list of names")


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "x.tar.xz"])
def test_what_unpacks_to_far_more_than_it_is_is_refused(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(archives, "SMALL", 2**18)
    files = {f"a/{number}.png": bytes(2**18) for number in range(16)}
    archive = zip_of(tmp_path / name, files) if name.endswith("zip") else tar_of(tmp_path / name, files, mode=f"w:{name[-2:]}")
    refused_whole(archive, cache, "unpacks to")


def test_a_small_archive_may_shrink_its_images_as_far_as_it_likes(tmp_path: Path, cache: Path) -> None:
    archive = zip_of(tmp_path / "x.zip", {"a/1.png": bytes(2**20), "b/2.png": bytes(2**20)})
    assert sum(map(len, opened(archive, cache)[0].values())) == 2**21


def test_a_tar_header_that_asks_for_memory_is_refused(tmp_path: Path, cache: Path) -> None:
    bomb = tarfile.TarInfo("pax_header")
    bomb.type, bomb.size = tarfile.XHDTYPE, 2**32
    (tmp_path / "x.tar").write_bytes(bomb.tobuf() + bytes(2048))
    refused_whole(tmp_path / "x.tar", cache, "a header in it says")


def test_a_size_that_no_disk_has_is_refused_before_it_is_read(tmp_path: Path, cache: Path) -> None:
    bomb = tarfile.TarInfo("a/1.png")
    bomb.size = 2**50
    (tmp_path / "x.tar").write_bytes(bomb.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    refused_whole(tmp_path / "x.tar", cache, "unpacks to more than")


def test_a_list_of_names_that_asks_for_memory_is_refused(tmp_path: Path, cache: Path) -> None:
    body = b"PK\3\4" + bytes(100)
    (tmp_path / "x.zip").write_bytes(body + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, 2**30, 0, 0))
    refused_whole(tmp_path / "x.zip", cache, "its list of names has")


def test_more_entries_than_any_folder_of_images_has_are_refused(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_ENTRIES == 1_000_000
    monkeypatch.setattr(archives, "MAX_ENTRIES", 10)
    files = {f"a/{number}.png": b"x" for number in range(11)}
    refused_whole(zip_of(tmp_path / "x.zip", files), cache, "entries")
    refused_whole(tar_of(tmp_path / "x.tar", files), cache, "entries")


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tar.bz2", "x.tar.xz"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.85])
def test_an_archive_cut_short_is_refused_whole(tmp_path: Path, cache: Path, name: str, share: float) -> None:
    files = {f"{number % 2}/{number}.png": picture for number, picture in enumerate(PICTURES)}
    whole = (
        zip_of(tmp_path / name, files)
        if name.endswith("zip")
        else tar_of(tmp_path / name, files, mode=f"w:{name[6:]}" if name[6:] else "w")
    )
    whole.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size) // 512 * 512])
    refused_whole(whole, cache, "cannot be read as an archive")


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "x.zip").write_bytes(PICTURES[0] * 40)
    refused_whole(tmp_path / "x.zip", cache, "cannot be read as an archive")


def test_a_damaged_an_encrypted_and_a_foreign_entry_are_refused_and_the_rest_is_unpacked(tmp_path: Path, cache: Path) -> None:
    archive = zip_of(
        tmp_path / "x.zip", {**HONEST, "c/3.png": PICTURES[2], "c/4.png": PICTURES[3], "c/5.png": PICTURES[4], "c/6.png": b"six" * 9}
    )
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as file:
        starts = {info.filename: info.header_offset for info in file.infolist()}
    content[starts["c/3.png"] + 90] ^= 0xFF
    place = content.index(b"PK\1\2")
    while place >= 0:
        name = bytes(content[place + 46 : place + 53])
        if name == b"c/4.png":
            content[place + 8] |= 1  # encrypted
        if name == b"c/5.png":
            content[place + 10] = 9  # Deflate64
        if name == b"c/6.png":
            content[place + 24] += 5  # says that it is longer
        place = content.find(b"PK\1\2", place + 4)
    archive.write_bytes(content)
    written, refused = opened(archive, cache)
    assert written == HONEST
    assert sorted(reason.split("(")[0].split(";")[0] for reason in refused) == [
        "is compressed by method 9, which is not read",
        "is damaged in the archive ",
        "is damaged in the archive ",
        "is encrypted",
    ]


def test_no_room_on_the_disk_is_said_before_anything_is_written(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(RunError, match="10 are free"):
        open_data(Data(folder=zip_of(tmp_path / "x.zip", HONEST)), cache)
    assert list_cache(cache) == []


def test_an_unpacking_that_was_killed_is_not_taken_for_one(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zip_of(tmp_path / "x.zip", HONEST)

    def killed(place: Path, **_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(archives, "_write", killed)
        patched.setattr(shutil, "rmtree", lambda *arguments, **options: None)  # no one cleans up after a kill
        with pytest.raises(TypeError), pytest.raises(SystemExit):
            open_data(Data(folder=archive), cache)
    (left,) = list_cache(cache)
    assert (left.path.suffix, left.images) == (".part", 0)
    assert opened(archive, cache)[0] == HONEST
    assert len(clear_cache(cache)) == 2
    assert list(cache.rglob("*.png")) == []


def test_without_a_place_to_unpack_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing says where to unpack"):
        index_folder(Data(folder=zip_of(tmp_path / "x.zip", HONEST)))


# --- The shape of the public chest archive ---


def doubled(images: Mapping[str, bytes]) -> dict[str, bytes]:
    """Files as the public archive holds them: once, once more a folder below, and a shadow of each from macOS."""
    files = {f"chest_xray/{path}": content for path, content in images.items()}
    again = {f"chest_xray/chest_xray/{path}": content for path, content in images.items()}
    shadows = {f"__MACOSX/chest_xray/{path.rpartition('/')[0]}/._{path.rpartition('/')[2]}": b"\0\5\x16\7" for path in images}
    return {**again, **shadows, "chest_xray/chest_xray/.DS_Store": b"x", "chest_xray/__MACOSX/._x": b"x", **files}


def check_doubled(archive: Path, cache: Path, images: Mapping[str, bytes]) -> pl.DataFrame:
    data = Data(folder=archive, group=r"(person\d+)|(IM-\d+)")
    index = index_folder(data, cache_folder=cache, workers=1)
    good = index.filter(pl.col("refused").is_null())
    assert Counter(zip(good["given"], good["label"], strict=True)) == Counter((path.split("/")[0], path.split("/")[1]) for path in images)
    assert len(good) == len(images)
    assert len(lost_images(index)) == 0
    study = Study.model_validate({"name": "x", "data": data.model_dump(), "split": {"given": True, "leaks": "drop"}})
    findings = {finding.code: finding for finding in inspect_dataset(index, study).findings}
    assert findings["classes_in_inner_folder"].figures["folder"] == "chest_xray"
    assert findings["classes_in_inner_folder"].level == "pass"
    assert findings["folders_doubled"].figures["files"] == len(images)
    split = split_dataset(index, Findings(findings=[]), study)
    used = split.filter(pl.col("part") != "left_out")
    assert used["content"].n_unique() == len(used)
    return split


def test_the_public_chest_archive_gives_each_image_once(tmp_path: Path, cache: Path) -> None:
    images = {}
    for number, picture in enumerate(PICTURES):
        part = "test" if number % 5 == 0 else "val" if number % 5 == 1 else "train"
        name = f"IM-{number:04d}-0001.png" if number % 3 == 0 else f"person{number}_virus_{number}.png"
        images[f"{part}/{'NORMAL' if number % 3 == 0 else 'PNEUMONIA'}/{name}"] = picture
    for name, make in {"x.zip": zip_of, "x.tar": tar_of}.items():
        renamed = {path.replace("val/", "validation/"): content for path, content in images.items()}
        index = index_folder(Data(folder=make(tmp_path / name, doubled(images))), cache_folder=cache, workers=1)
        assert len(index.filter(pl.col("refused").is_null())) == 60
        split = check_doubled(make(tmp_path / f"again.{name}", doubled(renamed)), cache, renamed)
        assert set(split["part"]) == {"train", "validation", "test", "left_out"}


@needs_real("chest_xray")
def test_real_films_in_doubled_folders_give_each_film_once(tmp_path: Path, cache: Path) -> None:
    images: dict[str, bytes] = {}
    seen: set[bytes] = set()
    for folder in sorted((REAL / "chest_xray").glob("*/*")):
        for file in sorted(folder.iterdir())[:60]:
            if (content := file.read_bytes()) not in seen:
                seen.add(content)
                images[f"{folder.parent.name}/{folder.name}/{file.name}"] = content
    split = check_doubled(zip_of(tmp_path / "x.zip", doubled(images)), cache, images)
    assert (split["part"] == "test").sum() == sum(path.startswith("test") for path in images)


def test_classes_that_lie_in_a_wrapper_twice_give_each_image_once(tmp_path: Path, cache: Path) -> None:
    files = {f"{'blast' if number % 2 else 'normal'}/{number}.png": picture for number, picture in enumerate(PICTURES[:20])}
    wrapped = {f"cells/{path}": content for path, content in files.items()} | {
        f"cells/cells/{path}": content for path, content in files.items()
    }
    archive = tar_of(tmp_path / "cells.tar", wrapped | {"README.txt": b"cells"})
    index = index_folder(Data(folder=archive), cache_folder=cache, workers=1)
    good = index.filter(pl.col("refused").is_null())
    assert Counter(good["label"]) == {"blast": 10, "normal": 10}
    assert len(lost_images(index)) == 0
    study = Study.model_validate({"name": "x", "data": {"folder": archive}})
    findings = {finding.code: finding for finding in inspect_dataset(index, study).findings}
    assert findings["classes_in_inner_folder"].level == "warn"  # they might be patients of one class


def test_the_decoded_images_are_those_of_the_folder(tmp_path: Path, cache: Path) -> None:
    archive = zip_of(tmp_path / "x.zip", HONEST)
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "folder")
    shape = Input(height=16, width=16, channels=1)
    made: list[np.ndarray] = []
    for folder, place in ((archive, cache), (tmp_path / "folder", tmp_path / "other")):
        data = Data(folder=folder)
        index = index_folder(data, cache_folder=place, workers=1)
        clear_cache(place)  # what was unpacked for the index may be gone when images are decoded
        made.append(build_cache(data, index, shape, folder=place, workers=1).images)
    assert (made[0] == made[1]).all()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.zip", b"PK\5\6" + bytes(18), "holds no files that can be unpacked. Check"),
        ("empty.zip", b"", r"\(it is empty\)"),
        ("junk.zip", b"hello " * 100, r"\(it does not begin as a ZIP file does\)"),
    ],
)
def test_an_archive_without_anything_is_named_as_it_is(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    archive = tmp_path / name
    archive.write_bytes(content)
    with pytest.raises(DataError, match=rf"{re.escape(str(archive))} .*{said}"):
        open_data(Data(folder=archive), tmp_path / "cache")
    assert not (tmp_path / "cache/archives").exists() or not list((tmp_path / "cache/archives").iterdir())


def test_an_archive_of_refused_entries_alone_says_why(tmp_path: Path) -> None:
    archive = tmp_path / "bad.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../a.png", b"x")
    with pytest.raises(DataError, match=r"1 entries are refused, the first as its name leads out of the folder"):
        open_data(Data(folder=archive), tmp_path / "cache")
