"""The table of what the six reports did: every item stands in it, and everything that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

from typer.main import get_command

from tabib.cli import app
from tabib.config import Phantom, Segmentation, Study, parts_in
from tabib.reports import finding_codes
from tabib.runs import FILES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference-studies" / "requirements.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([A-G]\d+) \| (.+?) \| (.+) \|$", PAGE, flags=re.MULTILINE)
ITEMS = {"A": 8, "B": 22, "C": 44, "D": 11, "E": 8, "F": 5, "G": 37}


def fields() -> set[str]:
    """Every field of a study, of both tasks, by its dotted name."""

    def below(part: type, prefix: str) -> set[str]:
        found: set[str] = set()
        for name, info in part.model_fields.items():  # pyright: ignore[reportAttributeAccessIssue]
            found.add(prefix + name)
            for inner in parts_in(info.annotation):
                found |= below(inner, f"{prefix}{name}.")
        return found

    return below(Study, "") | below(Segmentation, "") | below(Phantom, "phantom.")


def test_every_item_has_one_row_in_order() -> None:
    assert [item for item, _, _ in ROWS] == [f"{letter}{number}" for letter, last in ITEMS.items() for number in range(1, last + 1)]


def test_every_item_is_answered_or_said_not_to_be() -> None:
    assert [item for item, _, answer in ROWS if "`" not in answer and "**not yet**" not in answer] == []


def test_every_verb_field_finding_and_file_that_is_named_exists() -> None:
    verbs = {f"tabib {verb}" for verb in get_command(app).commands}  # pyright: ignore[reportAttributeAccessIssue]
    written = {"manifest.json", "study.yaml", *(Path(file.path).name for file in FILES.values())}
    known = verbs | fields() | set(finding_codes()) | written
    named = {(item, _verb(word)) for item, _, answer in ROWS for word in re.findall(r"`([^`]+)`", answer)}
    assert {(item, word) for item, word in named if word not in known and not there(word)} == set()
    assert len(named) > 200


def _verb(word: str) -> str:
    """Of a whole command its verb."""
    return " ".join(word.split()[:2]) if word.startswith("tabib ") else word


def there(word: str) -> bool:
    """Whether a file is there, or with `::` a test in it."""
    file, _, test = word.partition("::")
    return (ROOT / file).is_file() and (not test or f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"))


def test_every_fault_is_planted_or_names_its_test() -> None:
    planted = {
        name.partition(" ")[0]
        for name in re.findall(r'^    "(G\d+ .+)": Fault\(', (ROOT / "tests/training/test_planted_faults.py").read_text(), re.MULTILINE)
    }
    assert len(planted) > 25
    faults = [(item, answer) for item, _, answer in ROWS if item.startswith("G")]
    assert [item for item, answer in faults if item not in planted and "::test_" not in answer] == []
