"""The study file: what is read, what is refused, and whether the error helps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tabib import study_file
from tabib.config import Study, parts_in
from tabib.errors import StudyError
from tabib.study_file import check_study, dump_study, load_study, parse_study

MINIMAL = "name: chest\ndata: {folder: films}\n"


def error_of(text: str) -> str:
    with pytest.raises(StudyError) as caught:
        parse_study(text, source="study.yaml")
    return str(caught.value)


def test_every_scalar_is_text_until_the_schema_decides() -> None:
    study = parse_study(MINIMAL + "positive: yes\ntraining: {learning_rate: 3e-4, epochs: 012}\ncalibrate: {temperature: no}\n")
    assert study.positive == "yes"
    assert study.training.learning_rate == 3e-4
    assert study.training.epochs == 12
    assert study.calibrate.temperature is False


def test_none_is_none_and_quoted_none_is_a_word() -> None:
    assert parse_study(MINIMAL + "positive: none\n").positive is None
    assert parse_study(MINIMAL + "positive: 'none'\n").positive == "none"


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    file = tmp_path / "studies" / "study.yaml"
    file.write_text("name: chest\ndata: {folder: ../films}\nmodel: {weights: w.safetensors}\nsplit: {file: split.csv}\n")
    study = load_study(file)
    assert study.data.folder == tmp_path / "films"
    odd = load_study(file, overrides=["model.weights=imagenet", "data.folder=imagenet"])
    assert (odd.model.weights, odd.data.folder) == ("imagenet", Path("imagenet").resolve())
    assert study.model.weights == tmp_path / "studies" / "w.safetensors"
    assert study.split.file == tmp_path / "studies" / "split.csv"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("name: a\ndata: {foldr: x}", 2, ["foldr", "Did you mean folder?"]),
        (MINIMAL + "training:\n  epochs: 5\n  bach: 3", 5, ["bach", "Did you mean batch?"]),
        (MINIMAL + "name: b", 3, ["given twice", "line 1"]),
        (MINIMAL + "training: {epochs: many}", 3, ["training.epochs", "'many'", "expected a whole number"]),
        (MINIMAL + "training: {learning_rate: -1}", 3, ["training.learning_rate", "greater than 0"]),
        (MINIMAL + "split: {train: 0.9}", 3, ["1.3", "must be 1"]),
        (MINIMAL + "split: {turn: 5}", 3, ["turn is 5", "0 to 4"]),
        (MINIMAL + "split: {turn: 0, train: 0.5, validation: 0.1, test: 0.4}", 3, ["test is 0.4", "a third"]),
        (MINIMAL + "split: {turn: 0, given: true}", 3, ["turn is of a split that is drawn"]),
        (MINIMAL + "split: {given: true, file: a.csv}", 3, ["two answers"]),
        (MINIMAL + "augment: {to_disk: true}", 3, ["to_disk writes the copies, and copies is 0"]),
        (
            MINIMAL + "augment: {copies: 4, rotation_degrees: 0, shift: 0, zoom: 0, brightness: 0, contrast: 0}",
            3,
            ["copies is 4, and every change is off"],
        ),
        (MINIMAL + "input: {channels: 2}", 3, ["1, 3 or auto"]),
        (MINIMAL + "model: {head: [8, 8], dropout: [0.2]}", 3, ["dropout has 1 values", "must have 2"]),
        (MINIMAL + "model: {freeze: {through: a, trainable: 3}}", 3, ["exactly one"]),
        (MINIMAL + "calibrate: {threshold: {fixed: 0.5, sensitivity: 0.9}}", 3, ["exactly one"]),
        (MINIMAL + "model: {weights: imagenet}\ninput: {intensity: unit}", 0, ["pretrained weights expect"]),
        (MINIMAL + "training: {schedule: plateau, stop_after: 5}", 3, ["at least twice the patience"]),
        (MINIMAL + "training: {schedule: rounds, epochs: 60, stop_after: 20}", 3, ["stop_after is 20", "ends by itself"]),
        (MINIMAL + "training: {schedule: rounds, epochs: 12}", 3, ["epochs is 12 and rounds.epochs is 12", "raise epochs"]),
        (MINIMAL + "training: {sampling: class_balanced, class_weights: balanced}", 3, ["class_weights", "keep one"]),
        (MINIMAL + "training: {loss: focal, label_smoothing: 0.1}", 3, ["label_smoothing: 0"]),
        (MINIMAL + "training: {seeds: [1, 1]}", 3, ["same seed twice"]),
        ("name: a\ndata: {folder: x, group: abc}", 2, ["no capture"]),
        ("name: a\ndata: {folder: x, group: '(('}", 2, ["not a regular expression"]),
        (MINIMAL + "positive: ~", 3, ["has no value", "none"]),
        (MINIMAL + "notes: &n\n  problem: *n", 4, ["aliases"]),
        ("name: !!python/object:os.system x\ndata: {folder: films}", 1, ["tags (tag:yaml.org,2002:python/object:os.system)"]),
        ("name: a\ndata: !!map {folder: films}", 2, ["tags"]),
        (MINIMAL + "training:\n  epochs: ! 5", 4, ["tags (!)"]),
        ('name: a\ndata: {folder: "ph\\0x"}', 2, ["data.folder", "character 0"]),
        (MINIMAL + 'model: {weights: "w\\0"}', 3, ["model.weights", "character 0"]),
        (MINIMAL + 'title: {en: "\\ud800"}', 3, ["half a character"]),
        (MINIMAL + "report: {languages: [en, en]}", 3, ["same language twice"]),
        (MINIMAL + "split: {train: 0.8, test: 0}", 3, ["test is 0"]),
        (MINIMAL + "split: {train: 0.8, test: 0, folds: 3}", 3, ["test is 0"]),
        (MINIMAL + "split: {train: 0, validation: 0, test: 1, folds: 3}", 3, ["test is 1", "folds"]),
        (MINIMAL + "split: {train: 0.8, validation: 0}", 3, ["validation is 0"]),
        (MINIMAL + "split: {train: 0, validation: 0.8}", 3, ["train is 0"]),
        ("name: 'a", 1, ["not YAML"]),
        (MINIMAL + "training: {learning_rate: abc}", 3, ["'abc': expected a number"]),
        (MINIMAL + "training: {device: cud}", 3, ["'cud': expected 'auto', 'cpu' or 'cuda'. Did you mean cuda?"]),
        (MINIMAL + "calibrate: {threshold: youdn}", 3, ["expected 'youden', or fields in braces: fixed", "Did you mean youden?"]),
        (MINIMAL + "calibrate: {threshold: {fixed: x}}", 3, ["calibrate.threshold.fixed is 'x': expected a number"]),
        (MINIMAL + "training: {seeds: 1}", 3, ["expected a list, as in [1]"]),
        ("name: ../evil\ndata: {folder: x}", 1, ["name", "../evil"]),
        ("name: a", 0, ["data", "is needed and not given"]),
        ("task: detection\n" + MINIMAL, 1, ["task", "detection", "segmentation"]),
        ("task: segmentation\n" + MINIMAL, 3, ["data.labels", "is needed"]),
        ("- 1", 0, ["holds no fields"]),
        ("", 0, ["holds no fields"]),
        ("a: " + "[" * 40 + "]" * 40, 1, ["nested deeper"]),
    ],
)
def test_a_wrong_study_says_where_and_what(text: str, line: int, words: list[str]) -> None:
    message = error_of(text)
    assert all(word in message for word in words), message
    assert ("study.yaml, line" in message) == bool(line), message
    if line:
        assert f"study.yaml, line {line}:" in message


def test_parts_that_folders_or_a_file_or_folds_give_need_no_share() -> None:
    for split in ("given: true, train: 0, test: 0", "file: split.csv, train: 0, test: 0", "folds: 3, train: 0.8, validation: 0"):
        parse_study(MINIMAL + f"split: {{{split}}}\n")


def fields(part: type[BaseModel], place: str = "") -> Iterator[tuple[str, object]]:
    for name, field in part.model_fields.items():
        yield place + name, field.annotation
        for inner in parts_in(field.annotation):
            yield from fields(inner, f"{place}{name}.")


NUMBERS = [name for name, annotation in fields(Study) if "float" in str(annotation)]


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", ".inf"])
@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_is_finite(name: str, value: str) -> None:
    assert {"training.learning_rate", "training.clip", "calibrate.threshold.fixed"} <= set(NUMBERS)
    text = MINIMAL + ("calibrate: {threshold: {}}\n" if "threshold" in name else "")
    for written in (value, f"[{value}]"):
        with pytest.raises(StudyError, match=name.replace(".", r"\.")):
            parse_study(text, overrides=[f"{name}={written}"])


def test_a_missing_folder_or_binary_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "latin1.yaml").write_bytes("title: é".encode("latin-1"))
    (tmp_path / "huge.yaml").write_bytes(b" " * 1_000_001)
    for name, words in (
        ("no.yaml", "a study file was expected"),
        (".", "is a folder"),
        ("latin1.yaml", "not UTF-8"),
        ("huge.yaml", "not data"),
    ):
        with pytest.raises(StudyError, match=words):
            load_study(tmp_path / name)


def wrong_words(annotation: object) -> str:
    """A value that a field surely does not take."""
    return "{zz: zz}" if "str" in str(annotation) or "Path" in str(annotation) else "zz"


@pytest.mark.parametrize("name", [name for name, _ in fields(Study)])
def test_no_message_speaks_in_the_words_of_the_checker(name: str) -> None:
    annotation = dict(fields(Study))[name]
    with pytest.raises(StudyError) as caught:
        parse_study(MINIMAL, overrides=[f"{name}={wrong_words(annotation)}"])
    said = str(caught.value)
    assert not [word for word in ("Input", "valid ", "parse", "boolean", "dictionary", "instance", "validation error") if word in said], (
        said
    )


def test_of_many_objects_none_can_be_the_largest_part_of_all() -> None:
    objects = "task: segmentation\nname: cells\ndata: {folder: cells, labels: {nucleus: 1}, instances: true}\n"
    assert parse_study(objects).calibrate.largest_component == "auto"
    assert "an image has many objects" in error_of(objects + "calibrate: {largest_component: true}\n")


def test_overrides_are_checked_like_the_file() -> None:
    study = parse_study(MINIMAL, overrides=["training.epochs=5", "training.seeds=[1, 2]", "split.test=0.3", "split.train=0.5"])
    assert (study.training.epochs, study.training.seeds, study.split.test) == (5, [1, 2], 0.3)
    for override, words in (
        ("training.epoch=5", "Did you mean epochs"),
        ("epochs", "expected a field and a value"),
        ("training.epochs=many", "--set training.epochs=many: training.epochs is 'many'"),
        ("name.x=1", "is a value, not a part"),
    ):
        with pytest.raises(StudyError, match=words):
            parse_study(MINIMAL, overrides=[override])


def test_a_written_study_reads_back_equal() -> None:
    study = parse_study(
        "name: a-b_c\ntitle: {en: 'x: y', fa: ذات‌الریه}\npositive: 'none'\ndata: {folder: /films, group: '(p\\d+)'}\n"
        "model: {freeze: {trainable: 100}, head: [128, 64], dropout: [0.3, 0.2]}\ntraining: {learning_rate: 1e-5, clip: none}\n"
        "calibrate: {threshold: {sensitivity: 0.95}}\nexpect: [adam_rate_high]\n"
    )
    assert parse_study(dump_study(study)) == study


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40))
@example("a\x85b\u2028c\u2029d\r\ne\nf")
def test_any_text_survives_the_file(text: str) -> None:
    study = Study(name="a", data={"folder": "/films"}, notes={"problem": {"en": text}})  # pyright: ignore[reportArgumentType]
    assert parse_study(dump_study(study)) == study


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_study_or_an_error_of_ours(text: str) -> None:
    with suppress(StudyError):
        assert isinstance(parse_study(text), Study)


SIGNS = [
    *" \n:,-[]{}'\"#&*!|>%@`?~.\\a1é\u2028\x85\ufeff\r\t\0\ud800",
    "  ",
    "\n  ",
    "\n- ",
    ": ",
    "--- ",
    "none",
    "a: ",
    "b:\n  ",
    "|#",
    "2-\n",
    "\\x41",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(SIGNS), max_size=14).map("".join))
@example("a: [b?, c]")
@example("a: |# b")
@example("a:\tb")
@example("--- \n")
@example("a: [b")
def test_a_file_says_the_same_with_libyaml_and_without(text: str) -> None:
    assert yaml.__with_libyaml__

    def read() -> object:
        try:
            found = study_file._read_yaml(text, "study.yaml")
        except StudyError as error:
            return str(error)
        return found.values, found.places

    with pytest.MonkeyPatch.context() as patch:
        quick = read()
        patch.setattr(yaml, "__with_libyaml__", False)
        assert read() == quick


def test_values_are_checked_with_the_same_words() -> None:
    with pytest.raises(StudyError, match=r"tabib look: data\.group is '\(\(': is not a regular expression"):
        check_study({"name": "look", "data": {"folder": "x", "group": "(("}}, source="tabib look")
