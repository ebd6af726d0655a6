"""What the README shows works as it stands there."""

import re
import subprocess
import sys

import pytest

from tests.tooling.stack import ROOT, Stack

SNIPPET = re.compile(r"<!-- test: (?P<name>\S+) -->\n```python\n(?P<code>.*?)```", re.DOTALL)
README = (ROOT / "README.md").read_text()
SNIPPETS = {found["name"]: found["code"] for found in SNIPPET.finditer(README)}


def test_all_python_is_tested() -> None:
    """Every Python snippet of the README is marked for the test below."""
    assert len(SNIPPETS) == README.count("```python") > 0


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", SNIPPETS)
def test_snippet_prints_an_answer(running_stack: Stack, name: str) -> None:
    """The snippet, with the address of the running stack, prints an answer."""
    code = SNIPPETS[name].replace("http://127.0.0.1:8000", running_stack.url)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 3


def test_targets_of_the_readme_exist() -> None:
    """Every `make` target that the README names is in the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z][a-z-]+)", README)) <= targets


def test_links_of_the_documents_exist() -> None:
    """Every relative link in README and docs points to something that is there."""
    for document in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
