"""Every field of a study does something: changing it changes what it is for, in a run's results and not in its echo of the study."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from listens import Listens
from seen import PLACES, Change, fields, measures, rates, rows_in, words
from tabib.config import Columns, Goals, Study
from tabib.errors import DataError, StudyError
from tabib.images import encode_png, read_image
from tabib.progress import SILENT, Advance, Progress
from tabib.runs import Reached, Run, open_run
from tabib.study import run_study
from tiny import tiny_study

PLATEAU: Change = {"schedule": "plateau", "best": "accuracy", "learning_rate": 1e-6, "epochs": 5, "plateau": {"patience": 1, "minimum": 0}}
"""A training in which nothing improves, so that the rate falls."""

ROUNDS: Change = {"schedule": "rounds", "learning_rate": 1.0, "optimizer": "sgd", "epochs": 5, "rounds": {"epochs": 1, "returns": 2}}
"""A training in which a round soon improves nothing, so that rates are tried."""

UNEVEN: Change = {"by": "image", "train": 0.59, "validation": 0.18, "test": 0.23}  # shares that are no whole images

OUTVOTED: Change = {
    "films": "unbalanced",
    "model": {"freeze": "all_but_head"},
    "training": {"epochs": 3, "learning_rate": 1e-2, "schedule": "constant"},
}
"""A training that calls every film ill from the first epoch on, and becomes surer of it: the loss improves and the accuracy does not."""

COLOURED: Change = {"films": "coloured", "input": {"channels": 3}}

SEEN: dict[str, tuple[str | None, Callable[[Run], object]]] = {
    # what a person would compare: (the last step it needs, how to see it)
    "folder": ("index", lambda run: run.folder.parent.name),
    "parts": ("split", lambda run: run.read("split").select("path", "part", "fold").rows()),
    "groups": ("split", lambda run: run.read("split")["group"].n_unique()),
    **{part: ("split", partial(rows_in, part)) for part in ("train", "validation", "test")},
    "weights": ("model", lambda run: [member.weights_sha256 for member in run.read("model").members]),
    "rates": ("model", rates),
    "written": ("model", lambda run: sorted(path.name for path in run.folder.glob("augmented_images/*/*"))),
    "curves": ("model", lambda run: sorted(path.parent.name for path in run.folder.glob("tensorboard/*/*"))),
    "epochs": ("model", lambda run: len(rates(run))),
    "probabilities": ("predictions", lambda run: run.read("predictions").select("path", r"^p_.*$").rows()),
    "answers": ("predictions", lambda run: run.read("predictions").select("path", "predicted").rows()),
    "positives": ("evaluation", lambda run: [measure.rows for measure in measures(run) if measure.name == "sensitivity"]),
    "subgroups": ("evaluation", lambda run: [subgroup.name for subgroup in run.read("evaluation").subgroups]),
    "predictive values": ("evaluation", lambda run: [measure.value for measure in run.read("evaluation").at_prevalence]),
    "intervals": ("evaluation", lambda run: [(measure.low, measure.high) for measure in measures(run)]),
    "explained": ("explanations", lambda run: [(each.row, sorted(each.pictures)) for each in run.read("explanations").images]),
    "neighbours": ("explanations", lambda run: [len(each.neighbours) for each in run.read("explanations").images]),
    "layers": ("explanations", lambda run: sorted(run.read("explanations").feature_maps)),
    "pages": (None, lambda run: {path.name for path in run.folder.glob("report.*")}),
    **{f"{name}.{code}": (None, partial(words, name, code)) for name in PLACES for code in ("en", "fa")},
}

EFFECTS: dict[str, tuple[str, Change] | tuple[str, Change, Change]] = {
    # field: (what changes, the changed study [, the study it is compared with])
    "name": ("folder", {"name": "other"}),
    "title.en": ("title.en", {"title": {"en": "Another title"}}),
    "title.fa": ("title.fa", {"title": {"fa": "عنوانی دیگر"}, "report": {"languages": ["fa"]}}, {"report": {"languages": ["fa"]}}),
    "positive": ("positives", {"positive": "NORMAL"}),
    "data.group": ("groups", {"data": {"group": "(patient\\d\\d)"}}),
    "data.kind": ("weights", {"data": {"kind": "photograph"}}),
    "data.copies": ("parts", {"data": {"copies": "tie"}, "films": "copied"}, {"films": "copied"}),
    "scale": ("weights", {"scale": "bench", "training": {"epochs": 3}}, {"training": {"epochs": 3}}),
    "split.train": ("train", {"split": {"train": 0.5, "test": 0.3}}),
    "split.validation": (
        "validation",
        {"split": {"given": True, "leaks": "drop", "validation": 0.4}, "films": "given"},
        {"split": {"given": True, "leaks": "drop"}, "films": "given"},
    ),
    "split.test": ("test", {"split": {"validation": 0.1, "test": 0.3}}),
    "split.seed": ("parts", {"split": {"seed": 1}}),
    "split.by": ("parts", {"split": {"by": "image"}}),
    "split.rounding": ("parts", {"split": UNEVEN | {"rounding": "nearest"}}, {"split": UNEVEN}),
    "split.folds": ("parts", {"split": {"folds": 3}}),
    "split.given": ("parts", {"split": {"given": True, "leaks": "drop"}, "films": "given"}, {"films": "given"}),
    "split.leaks": (
        "parts",
        {"split": {"given": True, "leaks": "keep"}, "films": "given"},
        {"split": {"given": True, "leaks": "drop"}, "films": "given"},
    ),
    "split.group_scope": (
        "parts",
        {"split": {"given": True, "leaks": "drop", "group_scope": "split"}, "films": "given"},
        {"split": {"given": True, "leaks": "drop"}, "films": "given"},
    ),
    "split.file": ("parts", {"split": {"file": "split.csv"}}),
    "input.height": ("weights", {"input": {"height": 40}}),
    "input.width": ("weights", {"input": {"width": 40}}),
    "input.channels": ("weights", {"input": {"channels": 3}}),
    "input.fit": ("weights", {"input": {"height": 24, "fit": "pad"}}, {"input": {"height": 24}}),
    "input.intensity": ("weights", {"input": {"intensity": "zscore"}}),
    "augment.rotation_degrees": ("weights", {"augment": {"rotation_degrees": 0}}),
    "augment.shift": ("weights", {"augment": {"shift": 0}}),
    "augment.zoom": ("weights", {"augment": {"zoom": 0}}),
    "augment.shear_degrees": ("weights", {"augment": {"shear_degrees": 10}}),
    "augment.flip_horizontal": ("weights", {"augment": {"flip_horizontal": True}}),
    "augment.flip_vertical": ("weights", {"augment": {"flip_vertical": True}}),
    "augment.brightness": ("weights", {"augment": {"brightness": 0}}),
    "augment.contrast": ("weights", {"augment": {"contrast": 0}}),
    "augment.gamma": ("weights", {"augment": {"gamma": 0.3}}),
    "augment.stretch": ("weights", {"augment": {"stretch": 0.2}}),
    "augment.crop": ("weights", {"augment": {"crop": 0.2}}),
    "augment.elastic": ("weights", {"augment": {"elastic": 0.05}}),
    "augment.elastic_cells": ("weights", {"augment": {"elastic": 0.05, "elastic_cells": 8}}, {"augment": {"elastic": 0.05}}),
    "augment.blur": ("weights", {"augment": {"blur": 0.02}}),
    "augment.bias_field": ("weights", {"augment": {"bias_field": 0.5}}),
    "augment.ghosting": ("weights", {"augment": {"ghosting": 0.3}}),
    "augment.low_resolution": ("weights", {"augment": {"low_resolution": 0.5}}),
    "augment.saturation": ("weights", COLOURED | {"augment": {"saturation": 0.3}}, COLOURED),
    "augment.hue_degrees": ("weights", COLOURED | {"augment": {"hue_degrees": 30}}, COLOURED),
    "augment.stain": ("weights", COLOURED | {"augment": {"stain": 0.1}}, COLOURED),
    "augment.copies": ("weights", {"augment": {"copies": 2}}),
    "augment.to_disk": ("written", {"augment": {"copies": 1, "to_disk": True}}, {"augment": {"copies": 1}}),
    "augment.noise": ("weights", {"augment": {"noise": 0.1}}),
    "augment.fill": ("weights", {"augment": {"fill": "reflect"}}),
    "augment.fill_value": ("weights", {"augment": {"fill": "constant", "fill_value": 0.5}}, {"augment": {"fill": "constant"}}),
    "model.network": ("weights", {"model": {"network": "resnet10t"}}),
    "model.weights": (
        "weights",
        {"model": {"network": "tf_efficientnet_lite0", "weights": "imagenet"}},
        {"model": {"network": "tf_efficientnet_lite0"}},
    ),
    "model.head": ("weights", {"model": {"head": [8]}}),
    "model.dropout": ("weights", {"model": {"dropout": [0.5]}}),
    "model.initialiser": ("weights", {"model": {"initialiser": "he"}}),
    "model.outputs": ("weights", {"model": {"outputs": "one_per_class"}}),
    "model.freeze": ("weights", {"model": {"freeze": "all_but_head"}}),
    "model.freeze.through": (
        "weights",
        {"model": {"network": "resnet10t", "freeze": {"through": "layer1"}}},
        {"model": {"network": "resnet10t"}},
    ),
    "model.freeze.trainable": ("weights", {"model": {"freeze": {"trainable": 1000}}}),
    "training.epochs": ("epochs", {"training": {"epochs": 3}}),
    "training.batch": ("weights", {"training": {"batch": 8}}),
    "training.accumulate": ("weights", {"training": {"accumulate": 2}}),
    "training.sampling": ("weights", {"training": {"sampling": "class_balanced"}, "films": "unbalanced"}, {"films": "unbalanced"}),
    "training.loss": ("weights", {"training": {"loss": "focal"}}),
    "training.focal_gamma": ("weights", {"training": {"loss": "focal", "focal_gamma": 1}}, {"training": {"loss": "focal"}}),
    "training.optimizer": ("weights", {"training": {"optimizer": "sgd"}}),
    "training.learning_rate": ("weights", {"training": {"learning_rate": 1e-2}}),
    "training.momentum": ("weights", {"training": {"momentum": 0.5}}),
    "training.weight_decay": ("weights", {"training": {"weight_decay": 0.5}}),
    "training.schedule": ("weights", {"training": {"schedule": "constant"}}),
    "training.warm_up": ("weights", {"training": {"schedule": "cosine", "warm_up": 0.5}}, {"training": {"schedule": "cosine"}}),
    "training.plateau.factor": (
        "rates",
        {"training": PLATEAU | {"plateau": {"patience": 1, "minimum": 0, "factor": 0.5}}},
        {"training": PLATEAU},
    ),
    "training.plateau.patience": ("rates", {"training": PLATEAU | {"plateau": {"patience": 2, "minimum": 0}}}, {"training": PLATEAU}),
    "training.plateau.minimum": ("rates", {"training": PLATEAU | {"plateau": {"patience": 1, "minimum": 1e-6}}}, {"training": PLATEAU}),
    "training.rounds.epochs": ("rates", {"training": ROUNDS | {"rounds": {"epochs": 2}}}, {"training": ROUNDS}),
    "training.rounds.returns": ("epochs", {"training": ROUNDS | {"rounds": {"epochs": 1, "returns": 0}}}, {"training": ROUNDS}),
    "training.class_weights": ("weights", {"training": {"class_weights": "balanced"}, "films": "unbalanced"}, {"films": "unbalanced"}),
    "training.label_smoothing": ("weights", {"training": {"label_smoothing": 0.2}}),
    "training.clip": ("weights", {"training": {"clip": 0.01}}),
    "training.average": ("weights", {"training": {"average": 0.9}}),
    "training.best": ("weights", OUTVOTED | {"training": OUTVOTED["training"] | {"best": "accuracy"}}, OUTVOTED),
    "training.stop_after": (
        "epochs",
        {"training": PLATEAU | {"schedule": "constant", "stop_after": 1}},
        {"training": PLATEAU | {"schedule": "constant"}},
    ),
    "training.seeds": ("weights", {"training": {"seeds": [1]}}),
    "training.log_to": ("curves", {"training": {"log_to": []}}),
    "training.precision": ("weights", {"training": {"precision": "bf16"}}),
    "calibrate.temperature": ("probabilities", {"calibrate": {"temperature": False}}),
    "calibrate.threshold": ("answers", {"calibrate": {"threshold": {"fixed": 0.1}}}),
    "calibrate.threshold.fixed": ("answers", {"calibrate": {"threshold": {"fixed": 0.1}}}, {"calibrate": {"threshold": {"fixed": 0.9}}}),
    "calibrate.threshold.sensitivity": (
        "answers",
        {"calibrate": {"threshold": {"sensitivity": 0.99}}},
        {"calibrate": {"threshold": {"sensitivity": 0.3}}},
    ),
    "calibrate.threshold.specificity": (
        "answers",
        {"calibrate": {"threshold": {"specificity": 0.99}}},
        {"calibrate": {"threshold": {"specificity": 0.3}}},
    ),
    "calibrate.threshold.cost_ratio": (
        "answers",
        {"calibrate": {"threshold": {"cost_ratio": 1000}}},
        {"calibrate": {"threshold": {"cost_ratio": 0.001}}},
    ),
    "evaluate.subgroups": ("subgroups", {"evaluate": {"subgroups": ["mean"]}}),
    "evaluate.prevalence": ("predictive values", {"evaluate": {"prevalence": 0.05}}, {"evaluate": {"prevalence": 0.5}}),
    "evaluate.confidence": ("intervals", {"evaluate": {"confidence": 0.8}}),
    "evaluate.draws": ("intervals", {"evaluate": {"draws": 300}}),
    "explain.images": ("explained", {"explain": {"images": 2}}),
    "explain.occlusion": ("explained", {"explain": {"occlusion": False}}),
    "explain.neighbours": ("neighbours", {"explain": {"neighbours": 2}}),
    "explain.layers": ("layers", {"explain": {"layers": ["stage1"]}}),
    "report.languages": ("pages", {"report": {"languages": ["fa"]}}),
    "notes.problem.en": ("problem.en", {"notes": {"problem": {"en": "Is it so?"}}}),
    "notes.problem.fa": (
        "problem.fa",
        {"notes": {"problem": {"fa": "آیا چنین است؟"}}, "report": {"languages": ["fa"]}},
        {"report": {"languages": ["fa"]}},
    ),
    "notes.suggestions.en": ("suggestions.en", {"notes": {"suggestions": {"en": "More films."}}}),
    "notes.suggestions.fa": (
        "suggestions.fa",
        {"notes": {"suggestions": {"fa": "فیلم بیشتر."}}, "report": {"languages": ["fa"]}},
        {"report": {"languages": ["fa"]}},
    ),
}

WITHOUT = {
    "task": "is another kind of study: tests/road/test_effects_masks.py",
    "data.folder": "is what every other test changes",
    "model.own_sha256": "is written by the run: tests/training/test_own.py",
    "data.layout": "has a test of its own below",
    "split.learn_from": "is changed in tests/dataset/test_splits.py",
    "split.turn": "is changed in tests/dataset/test_splits.py",
    "split.test_fold": "is changed in tests/dataset/test_splits.py",
    "data.pattern": "is what tests/dataset/test_pattern.py changes",
    "data.table": "is what tests/dataset/test_table.py changes",
    **{f"data.columns.{name}": "is changed in tests/dataset/test_table.py or test_labels.py" for name in Columns.model_fields},
    "training.frozen_features": "changes when something is computed, and nothing else: tests/training/test_prefix.py",
    "training.device": "has a test of its own below",
    "training.threads": "has a test of its own below",
    **{f"goals.{name}": "has a test of its own below" for name in Goals.model_fields},
    **{
        f"notes.past_work.{name}": "is shown by tests/reports/test_pages.py and tests/experiments/test_compare.py"
        for name in ("name", "protocol.en", "protocol.fa", "link")
    },
    "notes.past_work": "is shown by tests/reports/test_pages.py and tests/experiments/test_compare.py",
    **{
        f"notes.past_work.figures.{name}": "is shown by tests/reports/test_pages.py and tests/experiments/test_compare.py"
        for name in Goals.model_fields
    },
    "expect": "has a test of its own below",
}
"""Fields that have no row above, and why."""


def test_every_field_has_a_row() -> None:
    assert set(fields(Study)) == {*EFFECTS, *WITHOUT}


@pytest.fixture(scope="module")
def folders(films: Path, given_films: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    copied, unbalanced, coloured = (tmp_path_factory.mktemp("films") / "films" for _ in range(3))
    shutil.copytree(films, copied)
    first = min((copied / "NORMAL").iterdir())
    shutil.copy(first, first.with_stem(f"{first.stem}b"))
    shutil.copytree(films, unbalanced)
    for path in sorted((unbalanced / "NORMAL").iterdir())[::2]:
        path.unlink()
    for path in films.glob("*/*.*"):
        tinted = coloured / path.relative_to(films).with_suffix(".png")
        tinted.parent.mkdir(parents=True, exist_ok=True)
        tinted.write_bytes(encode_png(read_image(path).pixels[:, :, None] // np.array([1, 2, 3], np.uint8)))
    return {"plain": films, "given": given_films, "copied": copied, "unbalanced": unbalanced, "coloured": coloured}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("effects")


def run_to(step: str | None, change: Change, folders: dict[str, Path], root: Path, *, progress: Progress = SILENT) -> Run:
    """Go the road with a change as far as a step, or to its end; what was gone before is loaded."""
    folder = folders[change.get("films", "plain")]
    changes = {part: values for part, values in change.items() if part != "films"}
    # Only what the row changes may differ: a change of another field of `training` keeps the one epoch.
    changes["training"] = {"epochs": 1} | change.get("training", {})
    with open_run(tiny_study(folder, changes), root=root, until=step) as run, suppress(Reached):
        for page in run.folder.glob("report.*"):
            page.unlink()  # words do not name a run: the pages of another row may lie here
        run_study(run.given, run, progress=progress)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("field", EFFECTS)
def test_changing_the_field_changes_something(field: str, folders: dict[str, Path], root: Path, tmp_path: Path) -> None:
    what, change, *other = EFFECTS[field]
    step, seen = SEEN[what]
    before = seen(run_to(step, other[0] if other else {}, folders, root))
    if field == "split.file":
        rows = (
            run_to("split", {}, folders, root)
            .read("split")
            .with_columns(pl.col("part").replace({"validation": "test", "test": "validation"}))
        )
        rows.write_csv(tmp_path / "split.csv")
        change = {"split": {"file": str(tmp_path / "split.csv")}}
    assert seen(run_to(step, change, folders, root)) != before


@pytest.mark.slow
@pytest.mark.parametrize("what", SEEN)
def test_what_is_compared_stays_where_nothing_that_counts_is_changed(what: str, folders: dict[str, Path], root: Path) -> None:
    step, seen = SEEN[what]
    languages: Change = {"report": {"languages": ["en", "fa"]}}
    before = seen(run_to(step, languages, folders, root))
    # Another run, in a folder of its own, of a study that expects what does not happen.
    assert seen(run_to(step, languages | {"expect": ["adam_rate_high"]}, folders, root)) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", Goals.model_fields)
def test_a_goal_is_judged_by_its_own_measure(name: str, folders: dict[str, Path], root: Path) -> None:
    evaluation = run_to("evaluation", {"goals": {name: 0.9}}, folders, root).read("evaluation")
    assert [remark.figures["measure"] for remark in evaluation.remarks if remark.code.startswith("goal_")] == [name]


class Threads(Listens):
    """Hears with how many threads torch works while batches train."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()

    @contextmanager
    def bar(self, name: str, total: int) -> Iterator[Advance]:
        with super().bar(name, total) as advance:

            def look(units: int) -> None:
                if name.startswith("epoch"):
                    self.seen.add(torch.get_num_threads())
                advance(units)

            yield look


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_training_has_the_threads_that_the_study_gives(threads: int, folders: dict[str, Path], tmp_path: Path) -> None:
    hears = Threads()
    run_to("model", {"training": {"threads": threads}}, folders, tmp_path, progress=hears)
    assert hears.seen == {threads}


def test_another_layout_does_not_read_the_folder(folders: dict[str, Path], root: Path) -> None:
    with pytest.raises(DataError):
        run_to("index", {"data": {"layout": "npz"}}, folders, root)


def test_a_graphics_card_that_is_not_there_is_said(folders: dict[str, Path], root: Path) -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        run_to("model", {"training": {"device": "cuda"}}, folders, root)
        assert torch.cuda.max_memory_allocated() > 0
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
