"""Documentation is tested: what is not described, or described wrongly, fails the suite."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "page", ["study.md", "commands.md", "errors.md", "findings.md", "formats.md", "library.md", "segmentation-measures.md"]
)
def test_reference_pages_are_what_the_code_says(reference: ModuleType, page: str) -> None:
    assert (DOCS / "reference" / page).read_text(encoding="utf-8") == reference.PAGES[page](), "run: make docs"


def test_every_reference_page_is_made(reference: ModuleType) -> None:
    assert {path.name for path in (DOCS / "reference").glob("*.md")} == set(reference.PAGES)


def test_every_field_is_described(reference: ModuleType) -> None:
    from tabib.config import Phantom, Study, parts_in

    for name, part in [*reference._parts(Study, "study"), ("phantom", Phantom)]:
        for field, info in part.model_fields.items():
            described = info.description or list(parts_in(info.annotation))
            assert described, f"{name}.{field} has no sentence under it"


def test_every_page_is_reached_from_the_contents() -> None:
    contents = (DOCS / "README.md").read_text(encoding="utf-8")
    linked = {(DOCS / target).resolve() for target in re.findall(r"\]\(([^)#:]+\.md)", contents)}
    missing = {path for path in DOCS.rglob("*.md") if path.resolve() not in linked and path != DOCS / "README.md"}
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_the_pages_exist(page: Path) -> None:
    from typer.main import get_command

    from tabib.cli import app

    verbs = get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    targets = set(re.findall(r"^([a-z_-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for program, name in commands_in(page.read_text(encoding="utf-8")):
        assert name in (verbs if program == "tabib" else targets), f"{page.name}: {program} {name}"


def commands_in(text: str) -> list[tuple[str, str]]:
    """What `tabib` and `make` are told in the code of a page: indented lines, and every line between fences."""
    fenced = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))
    indented = "\n".join(re.findall(r"^ {4}.*$", text, flags=re.MULTILINE))
    return re.findall(r"^\s*(?:\$ )?(tabib|make) ([a-z_-]+)\b", f"{fenced}\n{indented}", flags=re.MULTILINE)


def test_every_command_of_a_page_is_seen() -> None:
    page = "x\n\n    make demo   # a comment\n\n```sh\nmake test\n$ tabib nonsense x\n```\nmake nothing\n"
    assert set(commands_in(page)) == {("make", "demo"), ("make", "test"), ("tabib", "nonsense")}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_studies_in_the_pages_are_valid(page: Path) -> None:
    from tabib.study_file import parse_study

    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL):
        if "name:" in block and "data:" in block:
            parse_study(block, source=page.name)


@pytest.mark.parametrize("readme", ["README.md", "README.fa.md"])
def test_the_tree_has_a_line_for_every_file(reference: ModuleType, readme: str) -> None:
    text = (ROOT / readme).read_text(encoding="utf-8")
    assert "src/tabib/\n" in text
    assert reference.with_tree(text) == text, "run: make docs"


def test_both_readmes_have_the_two_commands() -> None:
    for readme in ("README.md", "README.fa.md"):
        text = (ROOT / readme).read_text(encoding="utf-8")
        assert "make demo" in text
        assert "make test" in text


@pytest.mark.parametrize(("readme", "title"), [("README.md", "## The verbs\n"), ("README.fa.md", "## دستورها\n")])
def test_both_readmes_list_every_verb(readme: str, title: str) -> None:
    from typer.main import get_command

    from tabib.cli import app

    listed = (ROOT / readme).read_text(encoding="utf-8").split(title)[1].split("\n## ")[0]
    verbs = list(get_command(app).commands)  # pyright: ignore[reportAttributeAccessIssue]
    assert re.findall(r"^    tabib ([a-z-]+)\b.* {2}\S", listed, flags=re.MULTILINE) == verbs


def test_both_readmes_lead_to_the_same_places_and_draw_the_same_tree() -> None:
    english, persian = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.fa.md"))

    def links(text: str) -> set[str]:
        return set(re.findall(r"\]\(([^)]+)\)", text)) - {"README.md", "README.fa.md"}

    def entries(text: str) -> list[str]:
        return [re.split(r" {2,}(?!README)", line.strip())[0] for line in text.split("```")[1].splitlines()]

    assert {link.replace(".fa.png", ".png") for link in links(persian)} == links(english)
    assert entries(persian) == entries(english)
    assert "pip install ." in english
    assert "pip install ." in persian


def test_the_changelog_has_this_version() -> None:
    import tabib

    assert f"## {tabib.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_help_names_every_verb_and_imports_no_torch() -> None:
    code = "import sys; sys.argv=['tabib','--help']\nimport tabib.cli\ntry: tabib.cli.main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules\nassert 'polars' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "calibrate" in done.stdout


def test_importing_the_package_brings_no_torch() -> None:
    subprocess.run([sys.executable, "-c", "import sys, tabib; assert not {'torch', 'polars', 'numpy'} & set(sys.modules)"], check=True)
