"""Import rules that a list of forbidden names cannot say."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tooling.stack import ROOT


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, by its full name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide what is imported"
            yield node.module or ""


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", sources("routing/core"), ids=lambda path: path.stem)
def test_core_imports_the_standard_library_only(path: Path) -> None:
    """A module of the core imports the standard library and the core."""
    foreign = {
        name
        for name in imported(path)
        if name.partition(".")[0] not in sys.stdlib_module_names and not name.startswith("routing.core")
    }
    assert not foreign


def test_aiohttp_is_imported_upstream_alone() -> None:
    """In production aiohttp is imported in routing.upstream and nowhere else."""
    places = {
        path.relative_to(ROOT).as_posix()
        for folder in ("sollol_site", "fleet", "routing")
        for path in sources(folder)
        if any(name.partition(".")[0] == "aiohttp" for name in imported(path))
    }
    assert {place for place in places if not place.startswith("routing/upstream/")} == set()


def test_simulator_imports_nothing_of_the_project() -> None:
    """The simulator could be a project of its own."""
    ours = {"sollol_site", "fleet", "routing", "django"}
    assert not {name for path in sources("simulator") for name in imported(path) if name.partition(".")[0] in ours}
