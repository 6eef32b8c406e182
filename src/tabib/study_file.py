"""The study file: YAML in, a checked `Study` out, and back.

Plain YAML loaders turn `yes` into True, `012` into 10 and leave `3e-4` a string. Here every scalar is read as text and
the schema decides its type, so a group called `012` stays `012`. `none` unquoted is `None`. Aliases, tags, unknown keys
and repeated keys are refused, each with its line.
"""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tabib import config
from tabib.config import TASKS, AnyStudy, Part, Phantom, Study, parts_in, reading_order, run_named
from tabib.errors import StudyError

__all__ = [
    "MakePhantom",
    "check_study",
    "dump_fields",
    "dump_study",
    "load_study",
    "of_classes",
    "parse_study",
    "read_fields",
    "what_is_wrong",
    "with_article",
    "written",
    "written_fields",
]

Key = tuple[str | int, ...]

SIZE_LIMIT_BYTES = 1_000_000
"""No study is this long; a larger file is something else given by mistake."""

DEPTH_LIMIT = 16
"""The schema has four levels; deeper nesting is refused before it can exhaust the parser's stack."""


MakePhantom = Callable[[Phantom], Path]
"""Gives the folder of the made-up images that a study file asks for."""


class _OfFile(Part):
    """What a study file says beside the study."""

    phantom: Phantom | None = None


@dataclass(frozen=True)
class _Read:
    """A YAML document as plain values, and where each of them stands."""

    values: Any
    places: dict[Key, str]  # "study.yaml, line 12"


def load_study(
    path: Path,
    *,
    changes: Sequence[str] = (),
    overrides: Sequence[str] = (),
    changes_win: bool = False,
    phantom: MakePhantom | None = None,
    kind: str = "study file",
) -> AnyStudy:
    """Read a study from a YAML file.

    `overrides` are texts such as `training.epochs=5`, applied before anything is checked. Paths in the file are
    relative to the file; in an override, to the working directory. `changes` are such texts as well, made before the overrides and as if
    they stood in the file; where `changes_win` they are made after the overrides. With `phantom` the study is what the part `phantom` of the
    file makes of it, at `scale: phantom`, before any change. `kind` is what a message calls the file.

    Raises `StudyError` with file, line and the nearest spelling.
    """
    return parse_study(
        _text_of(path, kind),
        source=str(path),
        base=path.parent,
        changes=changes,
        overrides=overrides,
        changes_win=changes_win,
        phantom=phantom,
    )


def _text_of(path: Path, kind: str) -> str:
    try:
        if path.stat().st_size > SIZE_LIMIT_BYTES:
            raise StudyError(f"{path} has {path.stat().st_size:,} bytes; a {kind} is a page of YAML. Give that, not data.")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StudyError(
            f"There is no file {path}, and {with_article(kind)} was expected. Check its name, write one, or copy one from the tutorial."
        ) from None
    except IsADirectoryError:
        raise StudyError(f"{path} is a folder, and {with_article(kind)} was expected. To look at a folder: tabib look {path}") from None
    except UnicodeDecodeError as error:
        raise StudyError(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error.strerror}.") from None


def parse_study(
    text: str,
    *,
    source: str = "study",
    base: Path = Path(),
    changes: Sequence[str] = (),
    overrides: Sequence[str] = (),
    changes_win: bool = False,
    phantom: MakePhantom | None = None,
) -> AnyStudy:
    """Read a study from YAML text, as `load_study` does; `source` names it in errors, `base` is where its relative paths start."""
    read = _read_yaml(text, source)
    if not isinstance(read.values, dict):
        raise StudyError(f"{source} holds no fields. A study starts with name: and data:, as in\n  name: chest\n  data: {{folder: films}}")
    asked = _take_phantom(read, source)
    if phantom is not None:
        _override_by(read, asked, phantom, source)
    _anchor_paths(read.values, base)
    given = [([(text, text) for text in changes], base), ([(text, f"--set {text}") for text in overrides], Path())]
    for texts, start in reversed(given) if changes_win else given:
        for text, place in texts:
            _override(read, text, place)
        _anchor_paths(read.values, start)
    if phantom is not None:
        _override(read, "scale=phantom", source)
    return _check(read, source)


def _take_phantom(read: _Read, source: str) -> Phantom | None:
    """The part `phantom`, which no study has, taken out of what was read; it is checked also where it is not asked for."""
    _refuse_unknown_keys(_Read({"phantom": read.values.get("phantom")}, read.places), _OfFile, (), source)
    try:
        return _OfFile.model_validate({"phantom": read.values.pop("phantom", None)}).phantom
    except ValidationError as error:
        raise StudyError(_explain(error, read, source)) from None


def _override_by(read: _Read, asked: Phantom | None, make: MakePhantom, source: str) -> None:
    if asked is None:
        raise StudyError(
            f"{source} does not say which made-up images --phantom takes. Give it a part such as phantom: {{make: chest, set: "
            "{data.group: '(patient\\d+)'}}, or leave --phantom out."
        )
    for field, value in asked.set.items():
        change = f"{field}={written(value)}"
        _override(read, change, f"{source}, phantom: {change}")
    _override(read, f"data.folder={make(asked).resolve()}", source)


def read_fields(path: Path, *, kind: str) -> dict[str, Any]:
    """Read the fields of a YAML file, a "series file" say, by the rules of a study file: every scalar is text, nothing is given twice.

    Raises `StudyError` with file and line.
    """
    values = _read_yaml(_text_of(path, kind), str(path)).values
    if not isinstance(values, dict):
        raise StudyError(f"{path} holds no fields, and {with_article(kind)} was expected.")
    return values


def with_article(kind: str) -> str:
    """What a message calls a file, with its article: "an ablation file"."""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def check_study(values: dict[str, Any], *, source: str, overrides: Sequence[str] = ()) -> AnyStudy:
    """Make a study from plain values, with the errors of a study file; `source` names where they came from. `overrides` as of `load_study`."""
    read = _Read(values, {})
    for override in overrides:
        _override(read, override, f"--set {override}")
    return _check(read, source)


def of_classes(study: AnyStudy) -> Study:
    """The study, which must be of a classifier; StudyError for another task."""
    if not isinstance(study, Study):
        raise StudyError(f"The study {study.name} is of task {study.task}, and this is done with task: classification only.")
    return study


def _check(read: _Read, source: str) -> AnyStudy:
    task = read.values.get("task", "classification")
    if task not in TASKS:
        where = read.places.get(("task",), source)
        raise StudyError(f"{where}: task is {task!r}, and there are {' and '.join(TASKS)}.")
    kind = TASKS[task]
    _refuse_unknown_keys(read, kind, (), source)
    try:
        return kind.model_validate(read.values)
    except ValidationError as error:
        raise StudyError(_explain(error, read, source)) from None


def dump_study(study: AnyStudy) -> str:
    """Write a study as YAML that `parse_study` reads back equal, every default written out."""
    fields = study.model_dump(mode="json")
    ordered = {name: fields[name] for name in reading_order(fields)}
    return yaml.dump(ordered, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=120, default_flow_style=None)


def dump_fields(fields: Sequence[tuple[str, Any, str]], *, heading: Sequence[str] = ()) -> str:
    """Write some fields of a study as YAML, for a person to read and change.

    Args:
        fields: name as in `training.epochs`, value, and the reason that stands above it (or nothing).
        heading: lines above all.
    """
    parts: dict[str, list[str]] = {}
    for name, value, reason in fields:
        part, _, last = name.rpartition(".")
        text = yaml.dump(value, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=10_000, default_flow_style=True)
        value_text = text.removesuffix("...\n").removesuffix("\n")  # white space of the value itself stays
        above = [f"# {line}" for line in textwrap.wrap(reason, 110)]
        parts.setdefault(part, []).extend([*above, f"{last}: {value_text}"])
    lines = [f"# {wrapped}".rstrip() for text in heading for wrapped in textwrap.wrap(text, 114, subsequent_indent="  ") or [""]]
    for part, inside in parts.items():
        lines += [f"{part}:", *(f"  {line}" for line in inside)] if part else inside
    return "\n".join([*lines, ""])


def written_fields(part: Part, *, prefix: str = "") -> dict[str, str]:
    """Every field of a study by its dotted name, as its file has it: `training.epochs` is "5". What may be a part or a word is one field."""
    found: dict[str, str] = {}
    for name, info in type(part).model_fields.items():
        value = getattr(part, name)
        if isinstance(value, Part) and isinstance(info.annotation, type):
            found |= written_fields(value, prefix=f"{prefix}{name}.")
        else:
            found[prefix + name] = written(value)
    return found


def written(value: object) -> str:
    """A value as `--set` takes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Part):
        return written(value.model_dump(mode="json", exclude_none=True))
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {written(each)}' for name, each in value.items())}}}"
    return str(value)


class _Dumper(yaml.SafeDumper):
    pass


_LINE_BREAKS = set("\n\r\x85\u2028\u2029")
"""What YAML takes for the end of a line and folds; inside double quotes it is written as an escape."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "'" if text in {"none", "null", "~", ""} else '"' if _LINE_BREAKS & set(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:str", "none"))
_Dumper.add_representer(str, _represent_text)


def _read_yaml(text: str, source: str) -> _Read:
    if yaml.__with_libyaml__ and not {"\t", "\ufeff"} & set(text):
        with suppress(yaml.YAMLError, UnicodeEncodeError, StudyError):  # what is refused is read again below, which words the error
            return _read_by(yaml.CBaseLoader, text, source)
    try:
        return _read_by(yaml.BaseLoader, text, source)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}, line {mark.line + 1}" if mark else source
        raise StudyError(
            f"{where}: this is not YAML: {error.problem or error.context}. Check the indentation and the quotes there."
        ) from None
    except yaml.YAMLError as error:
        raise StudyError(f"{source}: this is not YAML: {error}") from None


def _read_by(loader: type[yaml.BaseLoader | yaml.CBaseLoader], text: str, source: str) -> _Read:
    """By PyYAML's own loader, or by that of libyaml: ten times as fast, but it takes what PyYAML refuses in some places, and leaves these to it.

    Such are tabs and marks of the byte order, a question mark in a bare word between brackets, and a comment behind the sign of a block.
    """
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        block_or_asking = isinstance(event, yaml.ScalarEvent) and (event.style in {"|", ">"} or (not event.style and "?" in event.value))
        if block_or_asking and loader is not yaml.BaseLoader:
            raise yaml.YAMLError("left to PyYAML")
        if isinstance(event, yaml.AliasEvent):
            raise StudyError(f"{_place(source, event)}: aliases (*{event.anchor}) are not part of a study file. Write the value out.")
        if isinstance(event, yaml.NodeEvent) and (tag := getattr(event, "tag", None)) is not None:
            raise StudyError(f"{_place(source, event)}: tags ({tag}) are not part of a study file. Give the value alone.")
        if isinstance(event, yaml.ScalarEvent) and any("\ud800" <= letter <= "\udfff" for letter in event.value):
            raise StudyError(
                f"{_place(source, event)}: {event.value!r} holds half a character, which no file can be named or hold. Write it whole."
            )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_LIMIT:
            raise StudyError(f"{_place(source, event)}: nested deeper than any study. Check the brackets and the indentation.")
    node = yaml.compose(text, Loader=loader)
    places: dict[Key, str] = {}
    return _Read(None if node is None else _values(node, (), source, places), places)


def _place(source: str, node: yaml.Node | yaml.Event) -> str:
    return f"{source}, line {node.start_mark.line + 1}"


def _values(node: yaml.Node, key: Key, source: str, places: dict[Key, str]) -> Any:
    places[key] = _place(source, node)
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for name_node, value_node in node.value:
            if not isinstance(name_node, yaml.ScalarNode):
                raise StudyError(f"{_place(source, name_node)}: a field's name is a word, not a list or a mapping.")
            name = name_node.value
            if name in mapping:
                raise StudyError(f"{_place(source, name_node)}: {name} is given twice (first at {places[(*key, name)]}). Keep one.")
            mapping[name] = _values(value_node, (*key, name), source, places)
            places[(*key, name)] = _place(source, name_node)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_values(item, (*key, position), source, places) for position, item in enumerate(node.value)]
    if not isinstance(node, yaml.ScalarNode):
        raise StudyError(f"{_place(source, node)}: this kind of YAML is not part of a study file.")
    plain = not node.style  # libyaml writes nothing, PyYAML none
    if plain and node.value == "none":
        return None
    if plain and node.value in {"", "null", "~"}:
        raise StudyError(f"{_place(source, node)}: {'.'.join(map(str, key))} has no value. Write one, or none.")
    return node.value


def _anchor_paths(values: dict[str, Any], base: Path) -> None:
    """Make the paths of the file independent of where Tabib was started."""
    for section, name in (("data", "folder"), ("data", "table"), ("split", "file"), ("model", "weights")):
        part = values.get(section)
        if not isinstance(part, dict) or not isinstance(part.get(name), str) or "\0" in part[name]:
            continue
        if run := run_named(part[name]) if section == "model" else None:
            part[name] = f"run:{(base / run).resolve()}"
        elif (section, part[name]) != ("model", "imagenet"):
            part[name] = str((base / part[name]).resolve())


def _override(read: _Read, text: str, source: str) -> None:
    """Change a field by a text such as `training.epochs=5`; `source` is where it stands."""
    name, equals, value = text.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise StudyError(f"{source}: expected a field and a value, as in training.epochs=5")
    if not value.strip():
        raise StudyError(f"{source}: {name.strip()} has no value. Write one, or none.")
    new = _read_yaml(value, source)
    part = read.values
    for depth, key in enumerate(keys[:-1]):
        part = part.setdefault(key, {})
        if not isinstance(part, dict):
            raise StudyError(f"{source}: {'.'.join(keys[: depth + 1])} is a value, not a part with fields.")
    part[keys[-1]] = new.values
    for prefix in range(1, len(keys) + 1):
        read.places[tuple(keys[:prefix])] = source
    read.places.update({(*keys, *inner): source for inner in new.places})


def _refuse_unknown_keys(read: _Read, model: type[BaseModel], key: Key, source: str) -> None:
    values = read.values
    for step in key:
        values = values[step]
    if not isinstance(values, dict):
        return
    for name in values:
        if name not in model.model_fields:
            near = difflib.get_close_matches(name, model.model_fields, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]}?" if near else f"It has {', '.join(model.model_fields)}."
            part = ".".join(map(str, key)) or "a study"
            raise StudyError(f"{read.places.get((*key, name), source)}: {part} has no field {name}. {hint}")
        for inner in parts_in(model.model_fields[name].annotation):
            _refuse_unknown_keys(read, inner, (*key, name), source)


def _explain(error: ValidationError, read: _Read, source: str) -> str:
    """One line per wrong field: where it stands, what was found, what was expected."""
    said: dict[Key, list[str]] = {}
    found: dict[Key, Any] = {}
    for item in error.errors(include_url=False):
        # A union adds the names of its members to the place; the file does not have them.
        key: Key = ()
        for step in item["loc"]:
            if (*key, step) in read.places or not read.places or item["type"] == "missing":
                key = (*key, step)
        message = _expected(item)
        said.setdefault(key, [])
        if message not in said[key]:
            said[key].append(message)
        found[key] = item["input"]
    lines = []
    for key, messages in said.items():
        if any(key == other[: len(key)] for other in said if len(other) > len(key)):
            continue  # of several ways to say a value one was tried, and its fields have errors of their own
        where = next((read.places[key[:length]] for length in range(len(key), 0, -1) if key[:length] in read.places), source)
        name = ".".join(map(str, key)) or "the study"
        value = "" if isinstance(found[key], dict) else f" is {found[key] if found[key] is not None else 'none'!r}"
        said_of = "; or ".join(messages).replace("; or expected", ", or")
        lines.append(f"{where}: {name}{value}: {said_of}{_nearest(found[key], error, key)}")
    return "\n".join(lines)


def what_is_wrong(error: ValidationError) -> str:
    """The first fault of a record that was read from a file."""
    item = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, item['loc']))} {_expected(item)}".strip()


_EXPECTED = {
    "missing": "is needed and not given",
    "extra_forbidden": "is no field of it",
    "json_invalid": "it is no JSON: cut short, or changed by hand",
    "literal_error": "expected {expected}",
    "bool_parsing": "expected yes or no",
    "bool_type": "expected yes or no",
    "int_parsing": "expected a whole number",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_parsing": "expected a number",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "greater_than": "expected a number greater than {gt:g}",
    "greater_than_equal": "expected a number of {ge:g} or more",
    "less_than": "expected a number less than {lt:g}",
    "less_than_equal": "expected a number of {le:g} or less",
    "string_type": "expected a text",
    "string_too_short": "expected a text of at least {min_length} letters",
    "string_pattern_mismatch": "expected a text of the form {pattern}",
    "path_type": "expected the name of a file or folder",
    "list_type": "expected a list, as in [{input}]",
    "too_short": "expected a list of at least {min_length}",
    "dict_type": "expected fields, as in {{name: value}}",
    "model_type": "expected fields in braces{fields}",
    "value_error": "{error}",
}
"""What is said of each kind of error that pydantic tells of in words of its own."""


def _expected(item: ErrorDetails) -> str:
    words = {**item.get("ctx", {}), "input": item["input"]}
    part = vars(config).get(words.get("class_name", ""))  # the parts of a study; of other records the fields go without saying
    words["fields"] = f": {', '.join(part.model_fields)}" if part else ""
    return _EXPECTED[item["type"]].format(**words) if item["type"] in _EXPECTED else item["msg"]


def _nearest(found: object, error: ValidationError, key: Key) -> str:
    """Which of the words that a field may hold is meant, where one is near."""
    items = [item for item in error.errors(include_url=False) if item["type"] == "literal_error" and item["loc"][: len(key)] == key]
    choices = [word for item in items for word in re.findall("'([^']*)'", item.get("ctx", {})["expected"])]
    near = difflib.get_close_matches(str(found), choices, n=1, cutoff=0.5)
    return f". Did you mean {near[0]}?" if near else ""
