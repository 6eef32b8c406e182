"""Every field of a study of images and masks does something: changing it changes what it is for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from planted_masks import write_pictures, write_volumes
from seen import Change, fields, measures, rates, rows_in, words
from tabib.config import BaseColumns, Segmentation, SegmentationGoals
from tabib.runs import Reached, Run, open_run
from tabib.study import run_study

PLATEAU: Change = {"schedule": "plateau", "learning_rate": 1e-9, "epochs": 5, "plateau": {"patience": 1, "minimum": 0}}
ROUNDS: Change = {"schedule": "rounds", "learning_rate": 1e-9, "epochs": 5, "rounds": {"epochs": 1, "returns": 2}}
THIN: Change = {"films": "volumes", "input": {"dimensions": 3, "patch": [8, 32, 32]}}
COLOURED: Change = {"films": "coloured", "input": {"channels": 3}}
MOVED: Change = {"augment": {"rotation_degrees": 45, "elastic": 0.1}}
MANY: Change = {"films": "many", "split": {"train": 0.3, "validation": 0.1, "test": 0.6}}
LONG: Change = {"training": {"epochs": 3, "learning_rate": 0.02, "schedule": "constant"}}

SEEN: dict[str, tuple[str | None, Callable[[Run], object]]] = {
    "folder": ("index", lambda run: run.folder.parent.name),
    "labels": ("index", lambda run: run.read("index")["label"].to_list()),
    "masks": ("index", lambda run: run.read("index")["mask"].to_list()),
    "paths": ("index", lambda run: run.read("index").filter(pl.col("refused").is_null())["path"].to_list()),
    "findings": ("findings", lambda run: [(each.code, each.level) for each in run.read("findings").findings]),
    "parts": ("split", lambda run: run.read("split").select("path", "part", "fold").rows()),
    "groups": ("split", lambda run: run.read("split")["group"].n_unique()),
    **{part: ("split", partial(rows_in, part)) for part in ("train", "validation", "test")},
    "weights": ("model", lambda run: [member.weights_sha256 for member in run.read("model").members]),
    "rates": ("model", rates),
    "epochs": ("model", lambda run: len(rates(run))),
    "kept": ("model", lambda run: [(member.best_epoch, member.best_value) for member in run.read("model").members]),
    "curves": ("model", lambda run: sorted(path.parent.name for path in run.folder.glob("tensorboard/*/*"))),
    "said": ("predictions", lambda run: [(run.folder / mask).read_bytes() for mask in run.read("predictions")["mask"]]),
    "chosen": ("decision", lambda run: run.read("decision").model_dump(include={"largest_component", "fill_holes"})),
    "intervals": ("evaluation", lambda run: [(measure.low, measure.high) for measure in measures(run)]),
    "near": ("evaluation", lambda run: [measure.value for measure in measures(run) if measure.name == "surface_dice"]),
    "objects": ("evaluation", lambda run: {measure.name for measure in measures(run)}),
    "subgroups": ("evaluation", lambda run: [subgroup.name for subgroup in run.read("evaluation").subgroups]),
    "explained": ("explanations", lambda run: [(each.row, each.chosen) for each in run.read("explanations").images]),
    "pages": (None, lambda run: {path.name for path in run.folder.glob("report.*")}),
    **{f"{name}.{code}": (None, partial(words, name, code)) for name in ("title", "problem", "suggestions") for code in ("en", "fa")},
}

EFFECTS: dict[str, tuple[str, Change] | tuple[str, Change, Change]] = {
    # field: (what changes, the changed study [, the study it is compared with])
    "name": ("folder", {"name": "other"}),
    "title.en": ("title.en", {"title": {"en": "Another title"}}),
    "title.fa": ("title.fa", {"title": {"fa": "عنوانی دیگر"}, "report": {"languages": ["fa"]}}, {"report": {"languages": ["fa"]}}),
    "scale": ("weights", {"scale": "bench", "training": {"epochs": 3, "patches": 40}}, {"training": {"epochs": 3, "patches": 40}}),
    "split.train": ("train", {"split": {"train": 0.4, "test": 0.4}}),
    "split.validation": ("validation", {"split": {"validation": 0.4, "train": 0.4}}),
    "split.test": ("test", {"split": {"train": 0.5, "test": 0.3}}),
    "split.seed": ("parts", {"split": {"seed": 1}}),
    "split.by": ("parts", {"split": {"by": "image"}}),
    "split.folds": ("parts", {"split": {"folds": 3}}),
    "data.images": (
        "paths",
        {"data": {"images": "raw", "masks": "masks"}, "films": "named"},
        {"data": {"masks": "masks"}, "films": "named"},
    ),
    "data.masks": ("masks", {"data": {"masks": "second"}, "films": "named"}, {"films": "named"}),
    "data.mask_suffix": (
        "masks",
        {"data": {"images": "one", "masks": "one", "mask_suffix": "_mask"}, "films": "suffixed"},
        {"data": {"images": "one", "masks": "one", "mask_suffix": "_other"}, "films": "suffixed"},
    ),
    "data.labels": ("labels", {"data": {"labels": {"both": [1, 2]}}}),
    "data.ignored": ("findings", {"data": {"labels": {"disc": 1}, "ignored": [2]}}, {"data": {"labels": {"disc": 1}}}),
    "data.instances": ("objects", {"data": {"labels": {"nucleus": 1}, "instances": True}}),
    "data.spacing": ("intervals", {"data": {"spacing": "nominal"}, "films": "volumes"}, {"films": "volumes"}),
    "data.group": ("groups", {"data": {"group": "(p\\d\\d_\\d)"}}),
    "data.kind": ("weights", {"data": {"kind": "photograph"}}),
    "data.copies": ("parts", {"data": {"copies": "tie"}, "films": "copied"}, {"films": "copied"}),
    "input.dimensions": ("weights", THIN, {"films": "volumes"}),
    "input.crop": ("weights", {"films": "framed", "input": {"crop": "content"}}, {"films": "framed"}),
    "input.spacing_mm": ("weights", {"films": "volumes", "input": {"spacing_mm": [3, 3]}}, {"films": "volumes"}),
    "input.patch": ("weights", {"input": {"patch": [32, 32]}}),
    "input.channels": ("weights", COLOURED, {"films": "coloured", "input": {"channels": 1}}),
    "input.intensity": ("weights", {"input": {"intensity": "percentile"}}),
    "input.window": (
        "weights",
        {"input": {"intensity": "ct_window", "window": [50, 150]}},
        {"input": {"intensity": "ct_window", "window": [0, 255]}},
    ),
    **{
        f"augment.{name}": ("weights", {"augment": {name: value}})
        for name, value in {
            "rotation_degrees": 45,
            "shift": 0.2,
            "zoom": 0.3,
            "stretch": 0.3,
            "shear_degrees": 10,
            "crop": 0.3,
            "flip_horizontal": True,
            "flip_vertical": True,
            "elastic": 0.1,
            "brightness": 0.3,
            "contrast": 0.3,
            "gamma": 0.3,
            "blur": 0.05,
            "noise": 0.1,
            "bias_field": 0.5,
            "ghosting": 0.3,
            "low_resolution": 0.5,
        }.items()
    },
    "augment.elastic_cells": ("weights", {"augment": {"elastic": 0.1, "elastic_cells": 8}}, {"augment": {"elastic": 0.1}}),
    "augment.saturation": ("weights", COLOURED | {"augment": {"saturation": 0.3}}, COLOURED),
    "augment.hue_degrees": ("weights", COLOURED | {"augment": {"hue_degrees": 60}}, COLOURED),
    "augment.stain": ("weights", COLOURED | {"augment": {"stain": 0.1}}, COLOURED),
    "augment.tilt_degrees": ("weights", THIN | {"augment": {"tilt_degrees": 15}}, THIN),
    "augment.fill": ("weights", {"augment": MOVED["augment"] | {"fill": "reflect"}}, MOVED),
    "augment.fill_value": ("weights", {"augment": MOVED["augment"] | {"fill_value": 0.9}}, MOVED),
    "model.network": ("weights", {"model": {"network": "attention_unet"}}),
    "model.encoder": ("weights", {"model": {"encoder": "resnet10t", "filters": "auto"}}),
    "model.filters": ("weights", {"model": {"filters": [4, 8, 16]}}),
    "model.norm": ("weights", {"model": {"norm": "instance"}}),
    "model.dropout": ("weights", {"model": {"dropout": 0.5}}),
    "model.deep_supervision": (
        "weights",
        {"model": {"network": "dynunet", "filters": [4, 8, 16], "deep_supervision": True}},
        {"model": {"network": "dynunet", "filters": [4, 8, 16]}},
    ),
    "model.freeze": ("weights", {"model": {"freeze": "encoder"}}),
    "training.epochs": ("epochs", {"training": {"epochs": 2}}),
    "training.batch": ("weights", {"training": {"batch": 8}}),
    "training.accumulate": ("weights", {"training": {"accumulate": 2}}),
    "training.patches": ("weights", {"training": {"patches": 12}}),
    "training.foreground": ("weights", {"training": {"foreground": 1}, "input": {"patch": [16, 16]}}, {"input": {"patch": [16, 16]}}),
    **{
        f"training.loss={name}": ("weights", {"training": {"loss": name}})
        for name in ("dice_boundary", "dice", "cross_entropy", "tversky", "focal")
    },
    **{f"training.optimizer={name}": ("weights", {"training": {"optimizer": name}}) for name in ("adam", "sgd", "rmsprop")},
    "training.learning_rate": ("weights", {"training": {"learning_rate": 0.01}}),
    "training.momentum": ("weights", {"training": {"momentum": 0.5}}),
    "training.weight_decay": ("weights", {"training": {"weight_decay": 0.5}}),
    "training.schedule": ("rates", {"training": {"schedule": "constant"}}),
    "training.warm_up": (
        "rates",
        {"training": {"schedule": "cosine", "warm_up": 0.5, "epochs": 2}},
        {"training": {"schedule": "cosine", "epochs": 2}},
    ),
    "training.plateau.factor": ("rates", {"training": PLATEAU | {"plateau": PLATEAU["plateau"] | {"factor": 0.5}}}, {"training": PLATEAU}),
    "training.plateau.patience": (
        "rates",
        {"training": PLATEAU | {"plateau": PLATEAU["plateau"] | {"patience": 4}}},
        {"training": PLATEAU},
    ),
    "training.plateau.minimum": (
        "rates",
        {"training": PLATEAU | {"plateau": PLATEAU["plateau"] | {"minimum": 9e-10}}},
        {"training": PLATEAU},
    ),
    "training.rounds.epochs": ("rates", {"training": ROUNDS | {"rounds": {"epochs": 2}}}, {"training": ROUNDS}),
    "training.rounds.returns": ("epochs", {"training": ROUNDS | {"rounds": {"epochs": 1, "returns": 0}}}, {"training": ROUNDS}),
    "training.clip": ("weights", {"training": {"clip": 1e-3, "optimizer": "sgd"}}, {"training": {"optimizer": "sgd"}}),
    "training.average": ("weights", {"training": {"average": 0.9}}),
    "training.best": (
        "kept",
        {"training": {"best": "loss", "epochs": 6, "learning_rate": 0.02}},
        {"training": {"epochs": 6, "learning_rate": 0.02}},
    ),
    "training.stop_after": (
        "epochs",
        {"training": {"stop_after": 1, "epochs": 5, "learning_rate": 1e-9}},
        {"training": {"epochs": 5, "learning_rate": 1e-9}},
    ),
    "training.seeds": ("weights", {"training": {"seeds": [1]}}),
    "training.log_to": ("curves", {"training": {"log_to": []}}),
    "training.precision": ("weights", {"training": {"precision": "bf16"}}),
    "calibrate.largest_component": ("chosen", {"calibrate": {"largest_component": True}}, {"calibrate": {"largest_component": False}}),
    "calibrate.fill_holes": ("chosen", {"calibrate": {"fill_holes": True}}, {"calibrate": {"fill_holes": False}}),
    "calibrate.flips": ("said", LONG | {"calibrate": {"flips": True}}, LONG),
    "evaluate.confidence": ("intervals", MANY | {"evaluate": {"confidence": 0.8}}, MANY),
    "evaluate.subgroups": ("subgroups", {"evaluate": {"subgroups": ["mean"]}}),
    "evaluate.tolerance_mm": ("near", LONG | {"films": "volumes", "evaluate": {"tolerance_mm": 9}}, LONG | {"films": "volumes"}),
    "explain.images": ("explained", {"explain": {"images": 2}}),
    "report.languages": ("pages", {"report": {"languages": ["fa"]}}),
    "notes.problem.en": ("problem.en", {"notes": {"problem": {"en": "Is it so?"}}}),
    "notes.problem.fa": (
        "problem.fa",
        {"notes": {"problem": {"fa": "آیا چنین است؟"}}, "report": {"languages": ["fa"]}},
        {"report": {"languages": ["fa"]}},
    ),
    "notes.suggestions.en": ("suggestions.en", {"notes": {"suggestions": {"en": "More images."}}}),
    "notes.suggestions.fa": (
        "suggestions.fa",
        {"notes": {"suggestions": {"fa": "تصویر بیشتر."}}, "report": {"languages": ["fa"]}},
        {"report": {"languages": ["fa"]}},
    ),
}

ALIKE = "works in shared code, and has a row in test_effects.py"
PUBLISHED = "is shown by tests/reports/test_segmented.py and tests/experiments/test_compare_masks.py"
WITHOUT = {
    "task": "is what every study here has",
    "data.folder": "is what every other test changes",
    "data.layout": "is changed in tests/dataset/test_mask_layouts.py",
    "data.table": "is what tests/dataset/test_mask_layouts.py changes",
    **{f"data.columns.{name}": "is changed in tests/dataset/test_table.py" for name in BaseColumns.model_fields},
    **{f"split.{name}": ALIKE for name in ("rounding", "learn_from", "turn", "given", "test_fold", "leaks", "group_scope", "file")},
    "model.weights": "is changed in tests/training/test_segment.py",
    "training.device": ALIKE,
    "training.threads": ALIKE,
    "evaluate.draws": "is the number of bootstrap draws, of which means over patients need none unless patients are many",
    **{f"goals.{name}": "has a test in tests/evaluation/test_masks.py" for name in SegmentationGoals.model_fields},
    **{f"notes.past_work.{name}": PUBLISHED for name in ("name", "protocol.en", "protocol.fa", "link")},
    "notes.past_work": PUBLISHED,
    **{f"notes.past_work.figures.{name}": PUBLISHED for name in SegmentationGoals.model_fields},
    "expect": "works in shared code, and has a test in test_effects.py",
}
"""Fields that have no row above, and why."""


def test_every_field_has_a_row() -> None:
    assert set(fields(Segmentation)) == {*(name.partition("=")[0] for name in EFFECTS), *WITHOUT}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    names = ("plain", "volumes", "coloured", "named", "suffixed", "copied", "many", "framed")
    found = {name: tmp_path_factory.mktemp(name) / "images" for name in names}
    write_pictures(found["plain"])
    write_volumes(found["volumes"])
    write_pictures(found["many"], patients=20)
    for name in ("coloured", "named", "copied", "framed"):
        shutil.copytree(found["plain"], found[name])
    for path in (found["coloured"] / "images").iterdir():
        Image.fromarray(np.array(Image.open(path))[:, :, None] // np.array([1, 2, 3], np.uint8)).save(path)
    for path in found["framed"].glob("*/*.png"):
        Image.fromarray(np.pad(np.array(Image.open(path)), 9)).save(path)
    shutil.copytree(found["named"] / "images", found["named"] / "raw")
    for path in (found["named"] / "raw").iterdir():
        path.rename(path.with_suffix(".PNG"))
    shutil.copytree(found["named"] / "masks", found["named"] / "second")
    (found["suffixed"] / "one").mkdir(parents=True)
    for path in (found["plain"] / "images").iterdir():
        shutil.copy(path, found["suffixed"] / "one")
        for suffix in ("_mask", "_other"):
            shutil.copy(found["plain"] / "masks" / path.name, found["suffixed"] / "one" / f"{path.stem}{suffix}.png")
    first = min((found["copied"] / "images").iterdir())
    for part in ("images", "masks"):
        shutil.copy(found["copied"] / part / first.name, found["copied"] / part / f"{first.stem}b.png")
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("effects")


def study_of(folder: Path, change: Change) -> Segmentation:
    training = {"epochs": 1, "batch": 4, "patches": 8, "device": "cpu", "precision": "fp32", "threads": 1}
    values: dict[str, Any] = {
        "task": "segmentation",
        "name": "masks",
        "data": {"folder": folder, "labels": {"disc": 1, "square": 2}, "group": r"(p\d+)"} | change.get("data", {}),
        "model": {"filters": [4, 8]} | change.get("model", {}),
        "training": training | change.get("training", {}),
        "expect": ["numbers_undeclared", "adam_rate_high", "structures_never_shown"],
    }
    return Segmentation.model_validate(
        values | {part: given for part, given in change.items() if part not in ("films", *values)} | {"name": change.get("name", "masks")}
    )


def run_to(step: str | None, change: Change, folders: dict[str, Path], root: Path) -> Run:
    with open_run(study_of(folders[change.get("films", "plain")], change), root=root, until=step) as run, suppress(Reached):
        for page in run.folder.glob("report.*"):
            page.unlink()
        run_study(run.given, run)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("field", EFFECTS)
def test_changing_the_field_changes_something(field: str, folders: dict[str, Path], root: Path) -> None:
    what, change, *other = EFFECTS[field]
    step, seen = SEEN[what]
    assert seen(run_to(step, change, folders, root)) != seen(run_to(step, other[0] if other else {}, folders, root))


def test_a_whole_road_of_masks_is_loaded_when_it_is_gone_again(folders: dict[str, Path], root: Path) -> None:
    run = run_to(None, {}, folders, root)
    assert {path.name for path in run.folder.glob("report.*")} == {"report.en.html", "report.fa.html"}
    assert set(run.read("predictions")["part"]) == {"validation", "test"}
    steps: list[tuple[str, bool]] = []
    with open_run(run.given, root=root, on_step=lambda name, loaded: steps.append((name, loaded))) as again:
        run_study(again.given, again)
    assert all(loaded for _, loaded in steps)
    assert again.read("predictions").equals(pl.read_parquet(run.folder / "predictions.parquet"))
