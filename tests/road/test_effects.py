"""Every field of a study does something: changing it changes the study's resolved run or one of its outputs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import polars as pl
import pytest
from pydantic import BaseModel

from tabib.config import Study, parts_in
from tabib.errors import DataError, StudyError
from tabib.runs import FILES, Reached, Run, open_run
from tabib.study import run_study
from tiny import tiny_study

Change = dict[str, Any]

PLATEAU: Change = {"schedule": "plateau", "best": "accuracy", "learning_rate": 1e-6, "epochs": 5, "plateau": {"patience": 1, "minimum": 0}}
"""A training in which nothing improves, so that the rate falls."""

EFFECTS: dict[str, tuple[str, Change] | tuple[str, Change, Change]] = {
    # field: (what changes, the changed study [, the study it is compared with])
    "name": ("folder", {"name": "other"}),
    "title.en": ("report.en", {"title": {"en": "Another title"}}),
    "title.fa": ("report.fa", {"title": {"fa": "عنوانی دیگر"}, "report": {"languages": ["fa"]}}, {"report": {"languages": ["fa"]}}),
    "positive": ("decision", {"positive": "NORMAL"}),
    "data.group": ("split", {"data": {"group": "(patient\\d\\d)"}}),
    "data.copies": ("split", {"data": {"copies": "tie"}, "films": "copied"}, {"films": "copied"}),
    "split.train": ("split", {"split": {"train": 0.5, "validation": 0.3}}),
    "split.validation": ("split", {"split": {"train": 0.5, "validation": 0.3}}),
    "split.test": ("split", {"split": {"train": 0.5, "test": 0.3}}),
    "split.seed": ("split", {"split": {"seed": 1}}),
    "split.folds": ("split", {"split": {"folds": 3}}),
    "split.given": ("split", {"split": {"given": True, "leaks": "drop"}, "films": "given"}, {"films": "given"}),
    "split.leaks": (
        "split",
        {"split": {"given": True, "leaks": "keep"}, "films": "given"},
        {"split": {"given": True, "leaks": "drop"}, "films": "given"},
    ),
    "split.group_scope": (
        "split",
        {"split": {"given": True, "leaks": "drop", "group_scope": "split"}, "films": "given"},
        {"split": {"given": True, "leaks": "drop"}, "films": "given"},
    ),
    "split.file": ("split", {"split": {"file": "split.csv"}}),
    "input.height": ("model", {"input": {"height": 40}}),
    "input.width": ("model", {"input": {"width": 40}}),
    "input.channels": ("model", {"input": {"channels": 3}}),
    "input.fit": ("model", {"input": {"height": 24, "fit": "pad"}}, {"input": {"height": 24}}),
    "input.intensity": ("model", {"input": {"intensity": "zscore"}}),
    "augment.rotation_degrees": ("model", {"augment": {"rotation_degrees": 0}}),
    "augment.shift": ("model", {"augment": {"shift": 0}}),
    "augment.zoom": ("model", {"augment": {"zoom": 0}}),
    "augment.shear_degrees": ("model", {"augment": {"shear_degrees": 10}}),
    "augment.flip_horizontal": ("model", {"augment": {"flip_horizontal": True}}),
    "augment.flip_vertical": ("model", {"augment": {"flip_vertical": True}}),
    "augment.brightness": ("model", {"augment": {"brightness": 0}}),
    "augment.contrast": ("model", {"augment": {"contrast": 0}}),
    "augment.gamma": ("model", {"augment": {"gamma": 0.3}}),
    "augment.noise": ("model", {"augment": {"noise": 0.1}}),
    "augment.fill": ("model", {"augment": {"fill": "reflect"}}),
    "augment.fill_value": ("model", {"augment": {"fill": "constant", "fill_value": 0.5}}, {"augment": {"fill": "constant"}}),
    "model.network": ("model", {"model": {"network": "resnet10t"}}),
    "model.weights": (
        "model",
        {"model": {"network": "tf_efficientnet_lite0", "weights": "imagenet"}},
        {"model": {"network": "tf_efficientnet_lite0"}},
    ),
    "model.head": ("model", {"model": {"head": [8]}}),
    "model.dropout": ("model", {"model": {"dropout": [0.5]}}),
    "model.freeze": ("model", {"model": {"freeze": "all_but_head"}}),
    "model.freeze.through": (
        "model",
        {"model": {"network": "resnet10t", "freeze": {"through": "layer1"}}},
        {"model": {"network": "resnet10t"}},
    ),
    "model.freeze.trainable": ("model", {"model": {"freeze": {"trainable": 1000}}}),
    "training.epochs": ("model", {"training": {"epochs": 3}}),
    "training.batch": ("model", {"training": {"batch": 8}}),
    "training.optimizer": ("model", {"training": {"optimizer": "sgd"}}),
    "training.learning_rate": ("model", {"training": {"learning_rate": 1e-2}}),
    "training.momentum": ("model", {"training": {"momentum": 0.5}}),
    "training.weight_decay": ("model", {"training": {"weight_decay": 0.5}}),
    "training.schedule": ("model", {"training": {"schedule": "constant"}}),
    "training.plateau.factor": (
        "rate",
        {"training": PLATEAU | {"plateau": {"patience": 1, "minimum": 0, "factor": 0.5}}},
        {"training": PLATEAU},
    ),
    "training.plateau.patience": ("rate", {"training": PLATEAU | {"plateau": {"patience": 2, "minimum": 0}}}, {"training": PLATEAU}),
    "training.plateau.minimum": ("rate", {"training": PLATEAU | {"plateau": {"patience": 1, "minimum": 1e-6}}}, {"training": PLATEAU}),
    "training.class_weights": ("model", {"training": {"class_weights": "balanced"}, "films": "unbalanced"}, {"films": "unbalanced"}),
    "training.label_smoothing": ("model", {"training": {"label_smoothing": 0.2}}),
    "training.clip": ("model", {"training": {"clip": 0.01}}),
    "training.average": ("model", {"training": {"average": 0.9}}),
    "training.best": ("model", {"training": {"best": "accuracy"}}),
    "training.stop_after": (
        "model",
        {"training": PLATEAU | {"schedule": "constant", "stop_after": 1}},
        {"training": PLATEAU | {"schedule": "constant"}},
    ),
    "training.seeds": ("model", {"training": {"seeds": [1]}}),
    "training.precision": ("model", {"training": {"precision": "bf16"}}),
    "training.threads": ("study", {"training": {"threads": 2}}),
    "calibrate.temperature": ("decision", {"calibrate": {"temperature": False}}),
    "calibrate.threshold": ("decision", {"calibrate": {"threshold": {"fixed": 0.3}}}),
    "calibrate.threshold.fixed": ("decision", {"calibrate": {"threshold": {"fixed": 0.3}}}, {"calibrate": {"threshold": {"fixed": 0.4}}}),
    "calibrate.threshold.sensitivity": (
        "decision",
        {"calibrate": {"threshold": {"sensitivity": 0.99}}},
        {"calibrate": {"threshold": {"sensitivity": 0.3}}},
    ),
    "evaluate.confidence": ("evaluation", {"evaluate": {"confidence": 0.8}}),
    "evaluate.draws": ("evaluation", {"evaluate": {"draws": 300}}),
    **{
        f"goals.{name}": ("evaluation", {"goals": {name: 0.9}})
        for name in (
            "accuracy",
            "balanced_accuracy",
            "sensitivity",
            "specificity",
            "ppv",
            "npv",
            "f1",
            "auc",
            "average_precision",
        )
    },
    "report.languages": ("pages", {"report": {"languages": ["fa"]}}),
    "notes.problem.en": ("report.en", {"notes": {"problem": {"en": "Is it so?"}}}),
    "notes.problem.fa": (
        "report.fa",
        {"notes": {"problem": {"fa": "آیا چنین است؟"}}, "report": {"languages": ["fa"]}},
        {"report": {"languages": ["fa"]}},
    ),
    "notes.suggestions.en": ("report.en", {"notes": {"suggestions": {"en": "More films."}}}),
    "notes.suggestions.fa": (
        "report.fa",
        {"notes": {"suggestions": {"fa": "فیلم بیشتر."}}, "report": {"languages": ["fa"]}},
        {"report": {"languages": ["fa"]}},
    ),
}

WITHOUT = {
    "task": "has one value until segmentation comes",
    "data.folder": "is what every other test changes",
    "data.layout": "has a test of its own below",
    "training.device": "has a test of its own below",
    "expect": "has a test of its own below",
}
"""Fields that have no row above, and why."""


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every field that holds a value, by its dotted name."""
    for name, info in model.model_fields.items():
        parts = list(parts_in(info.annotation))
        members = get_args(info.annotation) if get_origin(info.annotation) in (Union, UnionType) else (info.annotation,)
        if any(member not in parts and member is not type(None) for member in members):
            yield prefix + name
        for part in parts:
            yield from fields(part, f"{prefix}{name}.")


def test_every_field_has_a_row() -> None:
    assert set(fields(Study)) == {*EFFECTS, *WITHOUT}


@pytest.fixture(scope="module")
def folders(films: Path, given_films: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    copied, unbalanced = (tmp_path_factory.mktemp("films") / "films" for _ in range(2))
    shutil.copytree(films, copied)
    first = min((copied / "NORMAL").iterdir())
    shutil.copy(first, first.with_stem(f"{first.stem}b"))
    shutil.copytree(films, unbalanced)
    for path in sorted((unbalanced / "NORMAL").iterdir())[::2]:
        path.unlink()
    return {"plain": films, "given": given_films, "copied": copied, "unbalanced": unbalanced}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("effects")


def run_to(step: str, change: Change, folders: dict[str, Path], root: Path) -> Run:
    """Go the road with a change as far as its effect can be seen; what was gone before is loaded."""
    change = dict(change)
    folder = folders[change.pop("films", "plain")]
    until = step if step in FILES else None
    with open_run(tiny_study(folder, {"training": {"epochs": 1}} | change), root=root, until=until) as run, suppress(Reached):
        run_study(run.given, run)
    return run


def seen(what: str, run: Run) -> object:
    """What a person or a program would compare."""
    if what == "model":
        model = run.read("model").model_dump()
        return (
            [[value for name, value in member.items() if name != "seconds"] for member in model["members"]],
            model["intensity"],
            model["dropout"],
        )
    if what == "folder":
        return run.folder.parent.name
    if what == "rate":
        return [epoch["learning_rate"] for history in run.histories().values() for epoch in history]
    if what == "pages":
        return {path.name for path in run.folder.glob("report.*")}
    if what.startswith("report."):
        return (run.folder / f"{what}.html").read_text(encoding="utf-8")
    return run.path(what).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("field", EFFECTS)
def test_changing_the_field_changes_something(field: str, folders: dict[str, Path], root: Path, tmp_path: Path) -> None:
    what, change, *other = EFFECTS[field]
    step = {"rate": "model", "folder": "index"}.get(what, what)
    before = seen(what, run_to(step, other[0] if other else {}, folders, root))
    if field == "split.file":
        rows = (
            run_to("split", {}, folders, root)
            .read("split")
            .with_columns(pl.col("part").replace({"validation": "test", "test": "validation"}))
        )
        rows.write_csv(tmp_path / "split.csv")
        change = {"split": {"file": str(tmp_path / "split.csv")}}
    assert seen(what, run_to(step, change, folders, root)) != before


def test_another_layout_does_not_read_the_folder(folders: dict[str, Path], root: Path) -> None:
    with pytest.raises(DataError):
        run_to("index", {"data": {"layout": "npz"}}, folders, root)


def test_a_graphics_card_that_is_not_there_is_said(folders: dict[str, Path], root: Path) -> None:
    import torch

    if torch.cuda.is_available():
        assert run_to("study", {"training": {"device": "cuda"}}, folders, root).read("study").training.device == "cuda"
    else:
        with pytest.raises(StudyError, match=r"training\.device"):
            run_to("study", {"training": {"device": "cuda"}}, folders, root)


@pytest.mark.slow
def test_an_expected_failure_is_shown_and_not_refused(folders: dict[str, Path], root: Path) -> None:
    fast: Change = {"training": {"epochs": 1, "learning_rate": 0.2}}
    with pytest.raises(StudyError, match="adam_rate_high"):
        run_to("model", fast, folders, root)
    run = run_to("model", {**fast, "expect": ["adam_rate_high"]}, folders, root)
    assert "adam_rate_high" in {check.code for check in run.read("checks").checks}
    with pytest.raises(StudyError, match="Did you mean adam_rate_high"):
        run_to("model", {**fast, "expect": ["adam_rate_hih"]}, folders, root)
