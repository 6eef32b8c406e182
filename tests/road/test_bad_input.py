"""What a newcomer gets wrong, at the command line: a clear error or a row with a reason, right counts, documented exit codes."""

from __future__ import annotations

import json
import re
import shutil
import struct
import sys
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tabib.cli import main
from tabib.images import encode_png
from verbs import Tabib


def film(seed: int, side: int = 24) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8))


def fill(folder: Path, classes: dict[str, list[str]]) -> Path:
    """Class folders of small pictures, all different."""
    for number, (label, names) in enumerate(classes.items()):
        (folder / label).mkdir(parents=True)
        for place, name in enumerate(names):
            (folder / label / name).write_bytes(film(1000 * number + place))
    return folder


def study(folder: Path, **parts: object) -> Path:
    file = folder.parent / "study.yaml"
    file.write_text(json.dumps({"name": "bad", "data": {"folder": str(folder), **dict(parts.pop("data", {}))}, **parts}))  # pyright: ignore[reportCallIssue, reportArgumentType]
    return file


def names(count: int, form: str = "patient{:02}_1.png") -> list[str]:
    return [form.format(number) for number in range(count)]


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ({}, "is empty"),
        ({"A": names(12)}, "class"),
        ({"A": ["a.png"], "B": ["b.png"]}, "image"),
    ],
    ids=["empty", "one class", "one image per class"],
)
def test_folders_that_cannot_make_a_study(tabib: Tabib, tmp_path: Path, classes: dict[str, list[str]], words: str) -> None:
    folder = fill(tmp_path / "films", classes)
    folder.mkdir(exist_ok=True)
    code, said = tabib("split", study(folder))
    assert code == 1
    assert words in said["error"].lower()
    assert said["kind"] == "DataError"


def test_one_patient_and_one_patient_per_class(tabib: Tabib, tmp_path: Path) -> None:
    one = fill(tmp_path / "one", {label: [f"patient01_{label}{place}.png" for place in range(6)] for label in "AB"})
    each = fill(tmp_path / "each", {label: [f"patient{label}_{place}.png" for place in range(6)] for label in "AB"})
    for folder, pattern in ((one, r"(patient\d+)"), (each, r"(patient[AB])")):
        code, said = tabib("split", study(folder, data={"group": pattern}))
        assert (code, said["kind"]) == (1, "DataError")
        assert "patient" in said["error"] or "group" in said["error"]


def test_names_in_persian_with_spaces_line_breaks_and_leading_dashes(tabib: Tabib, tmp_path: Path) -> None:
    odd = ["تصویر ۱.png", "with space.png", "line\nbreak.png", "-rf.png", 'semi;colon,comma".png']
    folder = fill(tmp_path / "-films با فاصله", {"سالم": [*names(8), *odd], "ذات‌الریه": [*names(8), *odd]})
    code, said = tabib("split", study(folder))
    assert code == 0
    assert sum(count for part in said["counts"].values() for count in part.values()) == 26
    assert {label for part in said["counts"].values() for label in part} == {"سالم", "ذات‌الریه"}


def test_files_that_are_no_images_become_rows_with_reasons(tabib: Tabib, tmp_path: Path) -> None:
    folder = fill(tmp_path / "films", {"A": names(10), "B": names(10)})
    good = film(1, 64)
    header = b"\x89PNG\r\n\x1a\n"
    body = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    huge = header + struct.pack(">I", 13) + b"IHDR" + body + struct.pack(">I", zlib.crc32(b"IHDR" + body))
    bad = {"empty.png": b"", "cut.png": good[: len(good) // 2], "page.png": b"<!doctype html><html></html>", "huge.png": huge}
    for name, content in bad.items():
        (folder / "A" / name).write_bytes(content)
    Image.fromarray(np.arange(576, dtype=np.uint8).reshape(24, 24)).save(folder / "A" / "really_a_jpeg.png", "JPEG")
    code, said = tabib("look", folder)
    assert code == 3
    assert said["refused"] == len(bad)
    assert said["classes"] == {"A": 11, "B": 10}
    codes = {finding["code"] for finding in said["findings"] if finding["level"] != "pass"}
    assert {"unreadable_files", "misnamed_files"} <= codes
    code, split = tabib("split", study(folder))
    assert (code, split["refused"]) == (3, len(bad))
    assert sum(split["counts"]["left_out"].values()) == len(bad)


def test_names_cannot_give_orders_to_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fill(tmp_path / "films", {"A\nB\x1b[31m": names(10), "سالم\u200cها": names(10)})
    monkeypatch.chdir(tmp_path)
    for arguments, code in ((["look", folder], None), (["look", tmp_path / "no\x1b[2J"], 1)):
        monkeypatch.setattr(sys, "argv", ["tabib", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        assert (left.value.code or None) == code
    said = capsys.readouterr()
    assert said.out.startswith("20 images (A\\nB\\x1b[31m 10, سالم\u200cها 10), 0 refused")
    assert "\x1b" not in said.out + said.err
    assert "no\\x1b[2J" in said.err


def test_a_table_of_an_unknown_kind_is_refused_before_the_run_is_read(tabib: Tabib, tmp_path: Path) -> None:
    code, said = tabib("predict", tmp_path / "no-run", tmp_path, "-o", tmp_path / "out.txt")
    assert (code, said["kind"]) == (2, "StudyError")
    assert ".parquet" in said["error"]


def test_junk_is_refused_by_name_and_is_no_refused_image(tabib: Tabib, tmp_path: Path) -> None:
    folder = fill(tmp_path / "films", {"A": names(10), "B": names(10)})
    (folder / ".DS_Store").write_bytes(b"junk")
    (folder / "README.txt").write_text("Films of two classes.")
    (folder / "C").mkdir()
    shutil.copytree(folder / "A", folder / "__MACOSX")
    code, said = tabib("look", folder)
    assert (code, said["refused"]) == (0, 0)
    assert "refused_names" in {finding["code"] for finding in said["findings"]}
    assert set(said["classes"]) == {"A", "B"}
    assert said["images"] == 20
    (folder / "film.png").write_bytes(film(7))
    assert tabib("look", folder)[1]["refused"] == 1


def test_an_archive_goes_the_road_and_what_is_refused_of_it_is_counted(tabib: Tabib, tmp_path: Path) -> None:
    folder = fill(tmp_path / "films", {"NORMAL": names(8), "PNEUMONIA": names(8, "ill{:02}.png")})
    archive = tmp_path / "films.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*.png")):
            file.write(path, f"wrapper/{path.relative_to(folder)}")
        for name in ("../evil.png", "a/../../evil.png", "C:/evil.png", "wrapper/NORMAL/\u202egnp.film"):
            file.writestr(name, b"evil")
    code, said = tabib("look", archive)
    assert (code, said["images"], said["refused"]) == (3, 16, 4)
    why = {
        "its name leads out of the folder (..)": 2,
        "its name begins with a drive": 1,
        "its name holds letters that turn the order of writing, and so show another ending than it has": 1,
    }
    assert Counter(reason.removeprefix("not unpacked: ") for reason in said["reasons"].values()) == why
    codes = {finding["code"]: finding for finding in said["findings"]}
    assert codes["archive_not_unpacked"]["figures"]["reasons"] == "; ".join(f"{reason} ({count})" for reason, count in why.items())
    assert codes["files_readable"]["figures"]["images"] == 16
    page = Path(said["page"]).read_text(encoding="utf-8")
    assert "films.zip" in page.split("</title>")[0]
    assert page.count("data:image/jpeg") > 0
    listed = page.split('class="refusals"')[1].split("</table>")[0]
    assert all(f"{reason}</bdi>" in listed for reason in why), "a line for each reason"
    code, said = tabib("split", study(archive))
    assert (code, said["refused"]) == (3, 4)
    code, said = tabib("cache", "list")
    assert (code, len(said["kept"])) == (0, 1)
    assert tabib("cache", "clear")[1]["removed"] == said["kept"]
    assert not list(tmp_path.rglob("evil.png"))


def test_a_missing_folder_a_file_and_a_wrong_verb(tabib: Tabib, tmp_path: Path) -> None:
    assert tabib("look", tmp_path / "no")[0] == 1
    (tmp_path / "file").write_bytes(b"x")
    assert tabib("look", tmp_path / "file")[0] == 1
    assert tabib("split", study(tmp_path / "no"))[1]["kind"] == "RunError"
    assert tabib("split", tmp_path / "no.yaml")[0] == 2
    assert tabib("report", tmp_path)[1]["kind"] == "RunError"
    assert tabib("phantom", "liver", "-o", tmp_path / "x") == (
        2,
        {
            "error": "There is no phantom 'liver'. There are: chest, chest_labels, heart, nuclei, nuclei_fluorescence, smears, brains.",
            "kind": "StudyError",
            "exit_code": 2,
        },
    )


def test_a_file_that_is_not_there_is_called_what_it_should_be(tabib: Tabib, tmp_path: Path) -> None:
    folder = fill(tmp_path / "films", {"NORMAL": names(12), "SICK": names(12)})
    file = study(folder)
    assert tabib("split", file)[0] == 0
    (run,) = (tmp_path / "runs" / "bad").iterdir()
    for arguments, code, words in (
        (("look", "no"), 1, "There is no no. Give a folder of images"),
        (("run", "no.yaml"), 2, "no.yaml, and a study file was expected"),
        (("compare", "no.yaml"), 2, "no.yaml, and a series file was expected"),
        (("evaluate", run, "--data", "no.yaml"), 2, "no.yaml, and a file with a data: part was expected"),
        (("compare", file), 2, f"study.yaml is a study, and a series was expected.*tabib run {file}"),
    ):
        left, said = tabib(*arguments)
        assert left == code, said
        assert re.search(words, said["error"]), said


@pytest.mark.parametrize(
    ("field", "what"),
    [("data.table", "The table"), ("split.file", "The split file"), ("model.weights", "The file of weights")],
    ids=["table", "split", "weights"],
)
def test_a_file_that_the_study_names_and_that_is_none_is_said(tabib: Tabib, tmp_path: Path, field: str, what: str) -> None:
    place = study(fill(tmp_path / "films", {"A": names(6), "B": names(6, "other{:02}_1.png")}))
    (tmp_path / "nope.csv").mkdir()
    for verb in ("run", "check", "split", "leaky-twin", "learning-curve", *["label-trouble"] * (field != "split.file")):
        for name, why in (("lost.csv", "No such file or directory"), ("nope.csv", "Is a directory")):
            table = ["--set", "data.layout=table"] if field == "data.table" else []
            code, said = tabib(verb, place, "--set", f"{field}={name}", *table)
            told = json.dumps(said)
            assert code in (1, 2, 3)
            assert f"{what} {tmp_path / name} cannot be read: {why}. Check {field}; it is relative to the study file." in told, (verb, told)
            assert not list(tmp_path.glob("runs/bad/*/manifest.json")), "nothing was begun"


def test_a_file_where_a_folder_is_to_be_written_is_said_before_the_work(tabib: Tabib, tmp_path: Path) -> None:
    folder = fill(tmp_path / "films", {"NORMAL": names(12), "SICK": names(12)})
    assert tabib("split", study(folder))[0] == 0
    (run,) = (tmp_path / "runs" / "bad").iterdir()
    (tmp_path / "file").write_bytes(b"")
    for arguments in (
        ("explain", run, folder, "-o", "file"),
        ("compare", run, run, "-o", "file"),
        ("phantom", "chest", "-o", "file"),
        ("plan", folder, "-o", "file/study.yaml"),
        ("look", folder, "--runs", "file/runs"),
    ):
        code, said = tabib(*arguments)
        assert (code, said["kind"]) == (2, "StudyError")
        assert "file is a file, and a folder was expected" in said["error"]


def test_an_unknown_option_is_said_on_standard_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["tabib", "look", "films", "--json", "--layout", "nii"])
    with pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr()
    assert (left.value.code, said.out) == (2, "")
    assert "nii" in said.err


def test_a_positive_class_that_is_none(tabib: Tabib, tmp_path: Path) -> None:
    folder = fill(tmp_path / "films", {"A": names(12), "B": names(12)})
    code, said = tabib("split", study(folder, positive="C"))
    assert code == 2
    assert "positive" in said["error"]
    assert "A" in said["error"]


def test_resuming_a_changed_study_says_what_changed(tabib: Tabib, tmp_path: Path) -> None:
    folder = fill(tmp_path / "films", {"A": names(12), "B": names(12)})
    assert tabib("split", study(folder))[0] == 0
    code, said = tabib("run", study(folder, training={"epochs": 2}), "--resume")
    assert code == 1
    assert "training.epochs: 15 -> 2" in said["error"]


def test_an_npz_that_is_none(tabib: Tabib, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 not really")
    np.savez(tmp_path / "b.npz", some=np.zeros(3))
    np.savez(tmp_path / "c.npz", train_images=np.array([{}], dtype=object), train_labels=np.zeros(1))
    for name in "abc":
        code, said = tabib("look", tmp_path / f"{name}.npz")
        assert (code, said["kind"]) == (1, "DataError"), said


def test_paths_of_an_override_are_relative_to_where_one_stands(tabib: Tabib, tmp_path: Path) -> None:
    fill(tmp_path / "films", {"sick": names(12), "normal": names(12)})
    (tmp_path / "studies").mkdir()
    file = study(tmp_path / "studies" / "elsewhere", positive="sick", training={"device": "cpu", "epochs": 1})
    code, said = tabib("check", file, "--set", "data.folder=films", "--set", "input.height=16", "--set", "input.width=16")
    assert (code, said.get("error")) == (0, None)


def test_a_project_that_was_moved_goes_on(tabib: Tabib, tmp_path: Path) -> None:
    fill(tmp_path / "before" / "films", {"sick": names(12), "normal": names(12)})
    shape = {"height": 16, "width": 16}
    study(tmp_path / "before" / "films", data={"folder": "films"}, positive="sick", input=shape, training={"device": "cpu"})
    assert tabib("check", "before/study.yaml")[0] == 0
    (tmp_path / "before").rename(tmp_path / "after")
    assert tabib("cache", "clear")[0] == 0
    code, said = tabib("check", "after/study.yaml")
    assert (code, said.get("error")) == (0, None)
    assert len(list((tmp_path / "runs" / "bad").iterdir())) == 1


def test_files_behind_a_link_are_looked_at_again(tabib: Tabib, tmp_path: Path) -> None:
    folder = fill(tmp_path / "films", {"sick": names(12), "normal": names(12)})
    outside = (folder / "sick").rename(tmp_path / "outside")
    (folder / "sick").symlink_to(outside)
    (outside / "back").symlink_to(outside)
    file = study(folder, positive="sick")
    before = tabib("split", file)[1]["counts"]
    (outside / "patient11_1.png").unlink()
    after = tabib("split", file)[1]["counts"]
    count = [sum(part.get("sick", 0) for part in counts.values()) for counts in (before, after)]
    assert count[0] - count[1] == 1


def test_runs_are_not_written_among_the_images(tabib: Tabib, tmp_path: Path) -> None:
    folder = fill(tmp_path / "films", {"A": names(12), "B": names(12)})
    for arguments in (("look", folder), ("split", study(folder))):
        code, said = tabib(*arguments, "--runs", folder / "runs")
        assert (code, said["kind"]) == (1, "RunError")
        assert "--runs" in said["error"]
    assert sorted(path.name for path in folder.iterdir()) == ["A", "B"]


def test_a_layer_that_is_none_is_refused_by_a_check_that_was_done_before(tabib: Tabib, tmp_path: Path) -> None:
    folder = fill(tmp_path / "films", {"NORMAL": names(12), "SICK": names(12)})
    file = study(folder, input={"height": 16, "width": 16}, training={"device": "cpu", "precision": "fp32"}, explain={"layers": ["stage1"]})
    assert tabib("check", file)[0] == 0
    code, said = tabib("check", file, "--set", "explain.layers=[stagee1]")
    assert (code, said["kind"]) == (2, "StudyError")
    assert "The nearest are: stage1" in said["error"]
    assert len(list((tmp_path / "runs" / "bad").iterdir())) == 1


def test_a_class_that_nobody_named_is_asked_for(tabib: Tabib, tmp_path: Path) -> None:
    folder = fill(tmp_path / "films", {"A": names(12), "B": names(12)})
    code, said = tabib("check", study(folder, training={"device": "cpu"}))
    assert (code, said["kind"]) == (2, "StudyError")
    assert "positive: B" in said["error"]
    levels = {finding["code"]: finding["level"] for finding in tabib("look", folder)[1]["findings"]}
    assert levels["positive_unclear"] == "warn"


def test_damaged_files_of_a_run_are_named(tabib: Tabib, tmp_path: Path) -> None:
    folder = fill(tmp_path / "films", {"A": names(12), "B": names(12)})
    assert tabib("split", study(folder))[0] == 0
    (run,) = (tmp_path / "runs" / "bad").iterdir()
    for name in ("split.csv", "manifest.json"):
        (run / "model").mkdir(exist_ok=True)
        (run / "model" / "decision.json").write_bytes(b"{")
        (run / name).write_bytes(b"{" if name.endswith("json") else b"\xff\xfe{")
        for verb in ("evaluate", "report"):
            code, said = tabib(verb, run)
            assert (code, said["kind"]) == (1, "RunError")
            assert f"{name} is damaged" in said["error"]
            assert "validation error" not in said["error"]


def test_a_run_that_stopped_half_way_has_a_report(tabib: Tabib, tmp_path: Path) -> None:
    folder = fill(tmp_path / "films", {"A": names(12), "B": names(12)})
    assert tabib("split", study(folder))[0] == 0
    (run,) = (tmp_path / "runs" / "bad").iterdir()
    code, said = tabib("report", run)
    assert (code, len(said["reports"])) == (0, 2)
    assert "finished" not in json.loads((run / "manifest.json").read_text())
    assert tabib("split", study(folder), "--set", "report.languages=[fa]")[0] == 0
    assert tabib("report", run)[0] == 0
    assert [page.name for page in run.glob("report.*")] == ["report.fa.html"]


def test_an_override_without_a_value_is_refused(tabib: Tabib, tmp_path: Path) -> None:
    folder = fill(tmp_path / "films", {"A": names(12), "B": names(12)})
    code, said = tabib("split", study(folder), "--set", "training.clip=")
    assert (code, said["kind"]) == (2, "StudyError")
    assert "training.clip has no value" in said["error"]
