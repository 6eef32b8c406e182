"""Archives as they come: listed, checked, and unpacked once beside the decoded images.

    <cache>/archives/<key>/images/         what the archive holds, under its own names
    <cache>/archives/<key>/archive.json    which archive it was, and what was not unpacked, with reasons

The key is the SHA-256 of the archive's bytes and of this code. The folder takes its name when it is whole, so a killed
unpacking is never taken for one. **The files are the images: treat the folder as patient data.** `tabib cache` lists
and clears it.

What is written are regular files under checked names in a new folder, and nothing else: no link, no device, no owner, no
mode, no time. An entry that cannot be had safely is refused with a reason. An archive is refused as a whole where what it
says of itself cannot be believed: entries that lie in one another, more bytes than `MAX_UNPACKED` or `MAX_RATIO` allow, an
end that is missing.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Generic, NamedTuple, TypeVar

from tabib.config import BaseData
from tabib.dataset.listing import NOT_UNPACKED, Listed, junk
from tabib.errors import DataError, RunError
from tabib.images import printable
from tabib.progress import SILENT, Progress
from tabib.runs import file_hash, write_json, writing

__all__ = ["ARCHIVE_SUFFIXES", "MAX_ENTRIES", "MAX_RATIO", "MAX_UNPACKED", "SMALL", "OpenedData", "is_archive", "open_data"]

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""What the name of an archive ends in."""

MAX_ENTRIES = 1_000_000
"""Most entries of an archive: ten times the images of the largest public sets of films."""

MAX_UNPACKED = 2**40
"""Most bytes that an archive may unpack to."""

MAX_RATIO = 200
"""Most bytes that a byte of an archive may unpack to, over all its entries. Photographs give 1, flat masks without compression 20."""

SMALL = 2**30
"""Up to here (in bytes) an archive may unpack to any multiple of its size: it can do no harm."""

_MAX_LISTING = 256 * 2**20  # bytes of a ZIP file's central directory, all of which is read at once
_MAX_READ = 16 * 2**20  # bytes that a TAR header may ask for at once
_MAX_NAME, _MAX_PART = 1024, 255  # bytes of a path and of each folder and file in it, which is what systems can write
_SHOWN = 200  # letters of a refused name
_CHUNK = 2**20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, RuntimeError, struct.error)


Data = TypeVar("Data", bound=BaseData)


@dataclass(frozen=True)
class OpenedData(Generic[Data]):
    """The data with a folder that can be walked, and what an archive held that was not unpacked into it."""

    data: Data
    refused: list[Listed]


class _Entry(NamedTuple):
    """One entry of an archive, as its header says."""

    name: str
    size: int
    folder: bool
    refused: str | None  # why it is nothing that can be unpacked, whatever its name
    open: Callable[[], IO[bytes] | None]


def is_archive(path: Path) -> bool:
    """Tell whether a path names an archive: a file with one of `ARCHIVE_SUFFIXES`."""
    return path.name.casefold().endswith(ARCHIVE_SUFFIXES) and path.is_file()


def open_data(data: Data, cache_folder: Path | None, *, progress: Progress = SILENT) -> OpenedData[Data]:
    """Give the data as they are or, where `data.folder` is an archive, with the folder that it is unpacked into.

    Args:
        data: its folder may be a ZIP or TAR file.
        cache_folder: where archives are unpacked, as where decoded images are kept.
        progress: told of each file that is unpacked.

    Raises:
        DataError: the archive is none, is damaged or cannot be trusted.
        RunError: the disk is full or cannot be written; nothing half-unpacked stays.
    """
    if not is_archive(data.folder):
        return OpenedData(data, [])
    if cache_folder is None:
        raise DataError(
            f"{data.folder} is an archive, and nothing says where to unpack it. Give cache_folder, or unpack it and give its folder."
        )
    place = cache_folder / "archives" / _key(data.folder)
    if not place.exists():
        _unpack(data.folder, place, progress)
    refused = json.loads((place / "archive.json").read_text(encoding="utf-8"))["refused"]
    return OpenedData(data.model_copy(update={"folder": place / "images"}), [Listed(path, refused=reason) for path, reason in refused])


def _key(archive: Path) -> str:
    status = archive.stat()
    return _hash(archive, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _hash(archive: Path, size: int, time: int) -> str:
    """A file of another size or time is hashed anew."""
    return hashlib.sha256((file_hash(archive) + file_hash(Path(__file__))).encode()).hexdigest()[:32]


# --- Reading what an archive says of itself ---


@contextmanager
def _entries(archive: Path) -> Iterator[list[_Entry]]:
    """The entries of an archive, which can be opened as long as the context lasts."""
    most = min(MAX_UNPACKED, max(SMALL, MAX_RATIO * archive.stat().st_size))
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(archive.open("rb"))
            listed = _zip_entries(file, stack) if _is_zip(file) else _tar_entries(file, most, stack)
        except _DAMAGED as error:
            detail = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            if isinstance(error, tarfile.ReadError) and archive.suffix.casefold() == ".zip":
                detail = "it does not begin as a ZIP file does" if archive.stat().st_size else "it is empty"
            raise DataError(
                f"{archive} cannot be read as an archive ({detail}). It is damaged, cut short or of another kind: fetch or pack it again."
            ) from None
        except _Distrusted as error:
            raise DataError(f"{archive} is refused: {error}. Nothing was unpacked; fetch it again from its source.") from None
        if (total := sum(entry.size for entry in listed)) > most:
            raise DataError(_too_much(archive, total, most))
        yield listed


class _Distrusted(Exception):
    """An archive that is refused as a whole."""


def _too_much(archive: Path, total: int, most: int) -> str:
    return (
        f"{archive} is refused: it says that it unpacks to {total:,} bytes, and at most {most:,} are unpacked from an archive of its size, as "
        "no images shrink so far. If they do, unpack it with another program and give the folder."
    )


def _is_zip(file: IO[bytes]) -> bool:
    start = file.read(4)
    file.seek(0)
    return start in (b"PK\3\4", b"PK\5\6")


def _zip_entries(file: IO[bytes], stack: contextlib.ExitStack) -> list[_Entry]:
    _check_listing(file)
    archive = stack.enter_context(zipfile.ZipFile(file))
    infos = archive.infolist()
    if len(infos) > MAX_ENTRIES:
        raise _Distrusted(f"it says that it holds {len(infos):,} entries, and at most {MAX_ENTRIES:,} are unpacked")
    _check_apart(file, infos, archive.start_dir)
    return [
        _Entry(
            info.orig_filename,
            info.file_size,
            info.is_dir() or stat.S_ISDIR(info.external_attr >> 16),
            _zip_refusal(info),
            partial(archive.open, info),
        )
        for info in infos
    ]


def _check_listing(file: IO[bytes]) -> None:
    """Refuse a ZIP file whose central directory would take more memory than any list of names needs (APPNOTE 4.3.14, 4.3.16)."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 2**16 - 128))
    tail = file.read()
    for mark, form, place in ((b"PK\5\6", "<I", 12), (b"PK\6\6", "<Q", 40)):
        for found in re.finditer(re.escape(mark), tail):
            field = tail[found.start() + place :][: struct.calcsize(form)]
            listing = struct.unpack(form, field)[0] if len(field) == struct.calcsize(form) else 0
            if listing > _MAX_LISTING and (form, listing) != ("<I", 2**32 - 1):
                raise _Distrusted(f"it says that its list of names has {listing:,} bytes, and at most {_MAX_LISTING:,} are read")
    file.seek(0)


def _check_apart(file: IO[bytes], infos: Sequence[zipfile.ZipInfo], end: int) -> None:
    """Refuse a ZIP file whose entries lie in one another: each byte is packed once, or it is a bomb (Fifield, WOOT 2019)."""
    before = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        file.seek(info.header_offset)
        header = file.read(30)
        if len(header) < 30 or header[:4] != b"PK\3\4":
            raise zipfile.BadZipFile(f"no entry begins where {info.orig_filename!r} should")
        if info.header_offset < before:
            raise _Distrusted("its entries lie in one another, as in archives that are made to fill a disk")
        before = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:])) + info.compress_size
    if before > end:
        raise _Distrusted("its last entry runs into its list of names")


def _zip_refusal(info: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a symbolic link" if kind == stat.S_IFLNK else "not a file (a pipe, socket or device)"
    if info.flag_bits & 0x41:
        return "is encrypted; unpack the archive with its password, and give the folder"
    if info.compress_type not in _METHODS:
        return (
            f"is compressed by method {info.compress_type}, which is not read; unpack the archive with another program, and give the folder"
        )
    return None


def _tar_entries(file: IO[bytes], most: int, stack: contextlib.ExitStack) -> list[_Entry]:
    start = file.read(6)
    file.seek(0)
    stream: _Stream = file
    for mark, opener in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open)):
        if start.startswith(mark):
            stream = stack.enter_context(opener(file, "rb"))
    bounded = _Bounded(stream, most)
    archive = tarfile.TarFile(fileobj=bounded, encoding="utf-8")  # pyright: ignore[reportArgumentType]
    entries: list[_Entry] = []
    while (member := archive.next()) is not None:
        if len(entries) == MAX_ENTRIES:
            raise _Distrusted(f"it holds more than {MAX_ENTRIES:,} entries")
        size = member.size if member.isreg() and not member.issparse() else 0
        entries.append(_Entry(member.name, size, member.isdir(), _tar_refusal(member), partial(archive.extractfile, member)))
    if bounded.last.strip(b"\0") or not bounded.last:
        raise EOFError("its end is missing")
    return entries


def _tar_refusal(member: tarfile.TarInfo) -> str | None:
    if member.issym() or member.islnk():
        return f"a {'symbolic' if member.issym() else 'hard'} link"
    if member.issparse():
        return "is stored with holes (a sparse file), which is not read"
    if not (member.isreg() or member.isdir()):
        return "not a file (a pipe, socket or device)"
    return None


_Stream = IO[bytes] | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile


class _Bounded:
    """What `tarfile` reads from: a stream that gives no more than it may, neither at once nor in all."""

    def __init__(self, file: _Stream, most: int) -> None:
        self._file, self._most = file, most
        self.last = b""  # what was read last: at the end of a whole archive a block of zeros

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_READ:
            raise _Distrusted(f"a header in it says that it has {size:,} bytes, and at most {_MAX_READ:,} are read")
        self.last = self._file.read(size)
        return self.last

    def seek(self, place: int) -> int:
        if place > self._most:
            raise _Distrusted(f"it says that it unpacks to more than {self._most:,} bytes, as no images of its size do")
        return self._file.seek(place)

    def tell(self) -> int:
        return self._file.tell()


# --- Which entries are unpacked, and where ---


def _plan(entries: Sequence[_Entry]) -> tuple[dict[str, _Entry], dict[str, str], list[tuple[str, str]]]:
    """The files to write, by their path; what systems leave in archives, and what is refused, by name, with reasons."""
    files: dict[str, _Entry] = {}
    taken: dict[str, str] = {}  # a path without capitals -> "file" or "folder"
    refused: list[tuple[str, str]] = []
    left: dict[str, str] = {}
    for entry in entries:
        parts = [part for part in entry.name.split("/") if part not in ("", ".")]
        unwanted = next((number for number, part in enumerate(parts) if junk(part)), None)
        reason = _name_refusal(entry.name, parts)
        if reason is None and unwanted is not None:
            left["/".join(parts[: unwanted + 1])] = junk(parts[unwanted]) or ""
            continue
        reason = reason or entry.refused
        if entry.folder and reason is None:
            continue  # a folder is made for the files in it
        reason = reason or _clash(parts, taken)
        if reason is not None:
            refused.append((entry.name, reason))
            continue
        keys = [_plain("/".join(parts[:count])) for count in range(1, len(parts) + 1)]
        taken |= dict.fromkeys(keys[:-1], "folder") | {keys[-1]: "file"}
        files["/".join(parts)] = entry
    return files, left, refused


def _name_refusal(name: str, parts: Sequence[str]) -> str | None:
    """Why nothing is written under a name, whatever the system: each of these leads out of the folder, or to another file, on one of them."""
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in name):
        return "its name holds control characters"
    if any(unicodedata.category(letter) == "Cs" for letter in name):
        return "its name is not UTF-8"
    if re.search("[\u202a-\u202e\u2066-\u2069]", name):  # not the joiners, which Persian writes
        return "its name holds letters that turn the order of writing, and so show another ending than it has"
    if name.startswith("/"):
        return "its name begins at the root of the disk"
    if "\\" in name:
        return "its name holds a backslash, which some systems take for a folder"
    if re.match(r"[A-Za-z]:", name):
        return "its name begins with a drive"
    if ".." in parts:
        return "its name leads out of the folder (..)"
    if not parts:
        return "it has no name"
    if len(name.encode()) > _MAX_NAME or max(len(part.encode()) for part in parts) > _MAX_PART:
        return f"its name is too long: at most {_MAX_PART} bytes a part and {_MAX_NAME} in all can be written"
    if parts[-1].casefold().endswith((*ARCHIVE_SUFFIXES, ".7z", ".rar")):
        return "an archive in the archive; unpack both, and give the folder"
    return None


def _clash(parts: Sequence[str], taken: dict[str, str]) -> str | None:
    found = taken.get(_plain("/".join(parts)))
    if found == "file":
        return "an entry before it has the same name, or one that differs in capital letters only"
    if found == "folder":
        return "other entries lie in a folder of its name"
    if any(taken.get(_plain("/".join(parts[:count]))) == "file" for count in range(1, len(parts))):
        return "lies in a folder, and an entry before it is a file of the folder's name"
    return None


def _plain(path: str) -> str:
    """A path as a disk that knows no capitals and one form of accents compares it."""
    return unicodedata.normalize("NFC", path).casefold()


# --- Writing ---


def _unpack(archive: Path, place: Path, progress: Progress) -> None:
    """Unpack into a folder that takes its name when it is whole."""
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _entries(archive) as entries:
        files, left, refused = _plan(entries)
        if not files:
            why = f", and {len(refused):,} entries are refused, the first as {refused[0][1]}" if refused else ""
            raise DataError(f"{archive} holds no files that can be unpacked{why}. Check that it is the archive you mean; pack it again.")
        needed, free = sum(entry.size for entry in files.values()), shutil.disk_usage(place.parent).free
        if needed > free:
            raise RunError(
                f"{archive} unpacks to {needed:,} bytes, and {free:,} are free in {place.parent}. Free some space (`tabib cache clear` "
                "removes decoded images and unpacked archives), or choose another place with --runs."
            )
        with writing(place):
            temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}.", suffix=".part"))
        try:
            (temporary / "images").mkdir()
            with progress.bar("unpack", len(files)) as advance:
                for path, entry in files.items():
                    if (reason := _write(entry, temporary / "images" / path)) is not None:
                        refused.append((path, reason))
                    advance(1)
            shown = [
                *left.items(),
                *((_shown(archive, name, number), NOT_UNPACKED + reason) for number, (name, reason) in enumerate(refused, 1)),
            ]
            write_json(temporary / "archive.json", {"archive": archive.name, "files": len(files), "bytes": needed, "refused": shown})
            os.sync()
            with writing(place):
                try:
                    temporary.rename(place)
                except OSError:  # another process was first
                    if not place.exists():
                        raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _write(entry: _Entry, target: Path) -> str | None:
    """Write one entry; why it could not be, or None."""
    left = entry.size
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        file = os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb")
    with file:
        try:
            source = entry.open()
            while source is not None and (chunk := source.read(_CHUNK)):
                left -= len(chunk)
                if left < 0:
                    break
                with writing(target):
                    file.write(chunk)
        except _DAMAGED as error:
            left, detail = left or -1, " ".join(str(error).split())[:200]
        else:
            detail = f"it has {'more' if left < 0 else 'fewer'} bytes than it says"
    if left:
        target.unlink()
        return f"is damaged in the archive ({detail})"
    return None


def _shown(archive: Path, name: str, number: int) -> str:
    """A refused name as it can stand in a table, where each path stands once and is none of a file that is there."""
    text = printable(name.encode("utf-8", "backslashreplace").decode())
    return f"{archive.name}, refused {number}: {text if len(text) <= _SHOWN else f'{text[:_SHOWN]}...'}"
