"""A data set small enough to go the whole road in a few seconds."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tabib.cli import main
from tabib.config import Study
from tabib.phantoms import ChestFilms, make_chest_films
from tabib.runs import Run, open_run
from tabib.study import run_study
from verbs import Tabib


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty patients with strong signs, in class folders."""
    folder = tmp_path_factory.mktemp("phantom") / "films"
    make_chest_films(folder, ChestFilms(patients=60, films_per_patient=(1, 2), side=48, lesion=6.0))
    return folder


@pytest.fixture(scope="session")
def given_films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same kind of patients in train and test folders, some of them in both."""
    folder = tmp_path_factory.mktemp("phantom") / "given"
    make_chest_films(folder, ChestFilms(patients=60, films_per_patient=(1, 3), side=48, lesion=6.0, given=True, given_leak=0.3))
    return folder


@pytest.fixture
def travel(tmp_path: Path) -> Callable[[Study], Run]:
    """Go the whole road in a folder of the test's own."""

    def go(study: Study) -> Run:
        with open_run(study, root=tmp_path / "runs", command=["tabib", "run"]) as run:
            return run_study(study, run)

    return go


@pytest.fixture
def tabib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tabib:
    """Run a verb in an empty folder; its exit code and its JSON."""
    monkeypatch.chdir(tmp_path)

    def go(*arguments: object) -> tuple[int, dict[str, Any]]:
        monkeypatch.setattr(sys, "argv", ["tabib", *map(str, arguments), "--json"])
        with pytest.raises(SystemExit) as left:
            main()
        code = left.value.code or 0
        assert isinstance(code, int)
        return code, json.loads(capsys.readouterr().out)

    return go
