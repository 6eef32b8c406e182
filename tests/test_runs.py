"""The run folder: what is saved, what is skipped, and what a kill, a full disk or a second process can do to it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import polars as pl
import pytest

from tabib import runs
from tabib.config import Data, Study
from tabib.errors import RunError, StudyError
from tabib.records import INDEX_SCHEMA, SPLIT_SCHEMA, Decision, Finding, Findings, Member, Model
from tabib.runs import Reached, Run, atomic_write, check_table_place, fingerprint, for_spreadsheet, open_run, read_jsonl, read_run, study_id


@pytest.fixture
def study(tmp_path: Path) -> Study:
    folder = tmp_path / "films" / "A"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(b"one")
    return Study.model_validate({"name": "chest", "data": {"folder": folder.parent}})


def open_here(study: Study, tmp_path: Path) -> Run:
    return open_run(study, root=tmp_path / "runs", command=["tabib", "run"])


def find(pattern: str) -> Findings:
    return Findings(findings=[], group_pattern=pattern)


def test_a_step_is_computed_once_and_again_when_an_input_changes(study: Study, tmp_path: Path) -> None:
    heard: list[tuple[str, bool]] = []
    with open_run(study, root=tmp_path / "runs", on_step=lambda name, loaded: heard.append((name, loaded))) as run:
        for pattern in ("x", "x", "y"):
            assert run.step("findings", find, pattern).group_pattern == pattern
    assert heard == [("findings", False), ("findings", True), ("findings", False)]


def test_of_the_keywords_numbers_count_and_places_do_not(study: Study, tmp_path: Path) -> None:
    heard: list[bool] = []

    def look(pattern: str, *, looks: int, place: Path) -> Findings:
        return Findings(findings=[], group_pattern=f"{pattern}{looks}{place.name}")

    with open_run(study, root=tmp_path / "runs", on_step=lambda _, loaded: heard.append(loaded)) as run:
        for looks, place in ((1, "a"), (1, "b"), (2, "b")):
            run.step("findings", look, "x", looks=looks, place=tmp_path / place)
    assert heard == [False, True, False]


def test_a_damaged_or_missing_result_is_made_again(study: Study, tmp_path: Path) -> None:
    with open_here(study, tmp_path) as run:
        run.step("findings", find, "x")
        run.path("findings").write_text("{")
        assert run.step("findings", find, "x").group_pattern == "x"
        run.path("findings").unlink()
        assert run.step("findings", find, "x").group_pattern == "x"
        (run.folder / "done" / "findings.json").write_text("cut")
        assert run.step("findings", find, "x").group_pattern == "x"


def test_an_index_is_taken_over_from_another_run_of_the_study(study: Study, tmp_path: Path) -> None:
    calls: list[str] = []

    def index(data: Data) -> pl.DataFrame:
        calls.append(str(data.folder))
        return pl.DataFrame({name: [0 if kind == pl.UInt32() else None] for name, kind in INDEX_SCHEMA.items()}, schema=INDEX_SCHEMA)

    other = study.model_copy(update={"training": study.training.model_copy(update={"epochs": 99})})
    for each in (study, other, study):
        with open_here(each, tmp_path) as run:
            run.step("index", index, each.data)
    assert len(calls) == 1
    damaged = next(path for path in sorted((tmp_path / "runs").glob("*/*/index.parquet")) if path.parent != run.folder)
    damaged.write_bytes(b"")
    run.path("index").unlink()
    with open_here(study, tmp_path) as run:
        run.step("index", index, study.data)
    assert len(calls) == 2, "a file that is not what its mark says is not taken over"


def test_a_step_that_fails_leaves_no_mark(study: Study, tmp_path: Path) -> None:
    def break_down(_: str) -> Findings:
        raise ValueError("no")

    with open_here(study, tmp_path) as run:
        run.step("findings", find, "x")
        with pytest.raises(ValueError, match="no"):
            run.step("findings", break_down, "y")
        assert not (run.folder / "done" / "findings.json").exists()


def test_the_road_can_be_left_after_a_step(study: Study, tmp_path: Path) -> None:
    with open_run(study, root=tmp_path / "runs", until="findings") as run:
        with pytest.raises(Reached):
            run.step("findings", find, "x")
        assert run.read("findings").group_pattern == "x"


def test_tables_come_back_as_they_were(study: Study, tmp_path: Path) -> None:
    row = {
        "row": 0,
        "path": 'A/a,"b"\nc.png',
        "content": "00",
        "label": "012",
        "group": None,
        "part": "train",
        "fold": None,
        "reason": None,
    }
    table = pl.DataFrame([row], schema=SPLIT_SCHEMA)
    with open_here(study, tmp_path) as run:
        read = run.step("split", lambda: table)
    assert read.equals(table)
    assert read.schema == table.schema


def test_a_table_of_an_older_tabib_has_the_columns_of_today(study: Study, tmp_path: Path) -> None:
    older = pl.DataFrame({"row": [0], "path": ["a.png"]}, schema={name: INDEX_SCHEMA[name] for name in ("row", "path")})
    with open_here(study, tmp_path) as run:
        run.step("index", lambda: older)
        read = run.read("index")
    assert read.schema == INDEX_SCHEMA
    assert read.row(0, named=True) == {name: {"row": 0, "path": "a.png"}.get(name) for name in INDEX_SCHEMA}


def test_the_id_follows_study_and_data_but_not_words_or_place(study: Study, tmp_path: Path) -> None:
    def changed(**parts: object) -> str:
        return study_id(Study.model_validate({**study.model_dump(), **parts}))

    first = study_id(study)
    assert changed(title={"en": "Another title"}) == first
    assert changed(report={"languages": ["fa"]}) == first
    assert changed(training={"epochs": 3}) != first
    moved = tmp_path / "elsewhere" / "pictures"
    moved.parent.mkdir()
    study.data.folder.rename(moved)
    assert changed(data={"folder": moved}) == first
    (moved / "A" / "b.png").write_bytes(b"two")
    assert changed(data={"folder": moved}) != first


def test_a_file_changed_in_place_is_noticed_by_the_index(study: Study) -> None:
    before = fingerprint(study.data)
    os.utime(study.data.folder / "A" / "a.png", ns=(1, 1))
    assert fingerprint(study.data) != before


def test_a_model_is_its_weights_and_not_what_its_training_took() -> None:
    told = {
        "name": "seed0",
        "seed": 0,
        "fold": None,
        "epochs": 2,
        "best_epoch": 1,
        "best_value": 0.5,
        "weights_sha256": "ab",
        "seconds": 7.0,
    }
    one = Member.model_validate(told)
    model = Model(
        network="small_resnet", classes=["a", "b"], positive="b", channels=1, height=8, width=8, weights_total=1, weights_trainable=1,
        weights_source="none", weights_source_sha256=None, members=[one],
    )  # fmt: skip
    slower = one.model_copy(update={"seconds": 9.0, "memory": 10**9})
    remark = Finding(code="budget_taken", level="pass", figures={"seconds": 9.0})
    assert fingerprint(model.model_copy(update={"members": [slower], "remarks": [remark]})) == fingerprint(model)
    assert fingerprint(model.model_copy(update={"members": [one.model_copy(update={"weights_sha256": "cd"})]})) != fingerprint(model)


def test_resuming_a_changed_study_says_what_changed(study: Study, tmp_path: Path) -> None:
    with open_here(study, tmp_path):
        pass
    other = Study.model_validate({**study.model_dump(), "training": {"epochs": 3}})
    with pytest.raises(RunError, match=r"training.epochs: 15 -> 3"):
        open_run(other, root=tmp_path / "runs", must_exist=True)
    with pytest.raises(RunError, match="no run of 'chest' to continue"):
        open_run(study, root=tmp_path / "empty", must_exist=True)
    assert open_run(study, root=tmp_path / "runs", must_exist=True).folder.exists()


def test_a_folder_in_use_is_refused(study: Study, tmp_path: Path) -> None:
    with open_here(study, tmp_path) as run:
        code = f"from pathlib import Path\nfrom tabib.runs import read_run\nwith read_run(Path({str(run.folder)!r})): pass"
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "in use by another process" in second.stderr


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    target = tmp_path / "file.json"
    target.write_text("before")
    monkeypatch.setattr(runs.os, "fsync", full)
    with pytest.raises(RunError, match="disk is full"), atomic_write(target) as file:
        file.write(b"after")
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_a_write_that_the_system_refuses_half_way_is_said(tmp_path: Path, suffix: str) -> None:
    script = textwrap.dedent(
        """
        import resource, signal, sys
        from pathlib import Path
        import polars as pl
        from tabib.errors import RunError
        from tabib.records import Findings
        from tabib.runs import save

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        path = Path(sys.argv[1])
        words = [f"{number ** 9}" for number in range(20_000)]
        value = Findings(findings=[], group_pattern="".join(words)) if path.suffix == ".json" else pl.DataFrame({"a": words})
        try:
            save(path, value)
        except RunError as error:
            print(error)
        """
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / f"out{suffix}")], capture_output=True, text=True, check=True)
    assert f"out{suffix} could not be written: File too large" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    for name, error, words in (
        ("out.txt", StudyError, r"'\.txt'.*\.csv or \.parquet"),
        ("out", StudyError, "suffix ''"),
        ("file/out.csv", RunError, "could not be written"),
        ("folder.csv", RunError, "could not be written"),
    ):
        with pytest.raises(error, match=words):
            check_table_place(tmp_path / name)
    check_table_place(tmp_path / "new" / "out.parquet")
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        *[(text, False) for text in ("=1+1.png", "+a", "-a.png", "@a", "\ta", "\ra", "＝1", "-1-1", "-", "+1.2.3")],
        *[(text, True) for text in ("-1", "+2.5", "-.5e-3", "-7.", "a=1.png", "./=a.png", "'=a", "", "۳", " =a", "p-1")],
        (None, True),
    ],
)
def test_a_spreadsheet_takes_no_text_for_a_formula(text: str | None, kept: bool) -> None:
    table = pl.DataFrame({"path": [text], "p_ill": [-0.5], "row": [-1], "said": ["well"]}, schema_overrides={"path": pl.String()})
    assert for_spreadsheet(table).row(0) == (text if kept else f"'{text}", -0.5, -1, "well")
    assert for_spreadsheet(table).schema == table.schema


def test_a_kill_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file.json"
    target.write_text("before")
    code = f"""
        import os, signal
        from pathlib import Path
        from tabib.runs import atomic_write
        with atomic_write(Path({str(target)!r})) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert killed.returncode == -9
    assert target.read_text() == "before"


def test_the_code_of_a_step_is_its_room_and_those_it_works_with(monkeypatch: pytest.MonkeyPatch) -> None:
    source = runs._source

    def changed(room: str) -> set[str]:
        """The rooms whose steps are made again after a change in this one."""
        before = {step: runs.code_of.__wrapped__(f"tabib.{step}") for step in ("dataset", "training", "prediction", "evaluation")}
        monkeypatch.setattr(runs, "_source", lambda name: source(name) + "#" * (name == room))
        after = {step: runs.code_of.__wrapped__(f"tabib.{step}") for step in before}
        monkeypatch.setattr(runs, "_source", source)
        return {step for step in before if before[step] != after[step]}

    assert changed("images") == changed("dataset") - {"evaluation"} | changed("images")
    assert changed("images") >= {"dataset", "training", "prediction"}
    assert changed("metrics") == {"training", "prediction", "evaluation"}
    assert changed("evaluation") == {"evaluation"}
    assert changed("reports") == changed("errors") == set()


def test_damaged_lines_and_manifests_are_named(study: Study, tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text('{"epoch": 1}\n{"epo\n{"epoch": 3}\n')
    with pytest.raises(RunError, match=r"history\.jsonl is damaged"):
        read_jsonl(file)
    with open_here(study, tmp_path) as run:
        pass
    for manifest in ("{", '{"study": "films"}', '{"given": {"name": 3}}'):
        (run.folder / "manifest.json").write_text(manifest)
        with pytest.raises(RunError, match=r"manifest\.json is damaged"):
            read_run(run.folder)


def test_a_last_line_cut_by_a_kill_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')
    assert [line["epoch"] for line in read_jsonl(file)] == [1, 2]
    assert read_jsonl(tmp_path / "none.jsonl") == []


def test_looks_at_the_test_set_are_counted_over_runs(study: Study, tmp_path: Path) -> None:
    columns = {"part": ["test", "test", "train"], "content": ["b", "a", "c"]}
    split, other = pl.DataFrame(columns), pl.DataFrame({**columns, "content": ["b", "z", "c"]})
    decision = Decision(
        classes=["a", "b"],
        positive="b",
        temperature=1.0,
        threshold=0.5,
        rule="fixed",
        weights_sha256=["0"],
        validation_rows=1,
        validation_groups=1,
        log_loss_before=1.0,
        log_loss_after=1.0,
    )
    second = decision.model_copy(update={"threshold": 0.6})
    with open_here(study, tmp_path) as run:
        assert [run.look_at_test(split, choice) for choice in (decision, decision, second)] == [1, 1, 2]
        assert run.look_at_test(split.reverse(), second) == 2
        assert run.look_at_test(other, decision) == 1
        assert run.look_at_test(split, decision) == 1, "the first look stays the first, or a finished run would be judged anew"


def test_a_folder_that_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        read_run(tmp_path)


def test_missing_data_is_said_before_anything_is_made(tmp_path: Path) -> None:
    study = Study.model_validate({"name": "a", "data": {"folder": tmp_path / "no"}})
    with pytest.raises(RunError, match="no data at"):
        open_here(study, tmp_path)
    assert not (tmp_path / "runs").exists()


def test_the_manifest_says_what_made_the_run(study: Study, tmp_path: Path) -> None:
    with open_here(study, tmp_path) as run:
        manifest = json.loads((run.folder / "manifest.json").read_text())
    assert manifest["packages"]["torch"]
    assert manifest["command"] == ["tabib", "run"]
    assert manifest["seeds"] == {"split": 0, "training": [0]}
    assert Study.model_validate(manifest["given"]) == study
