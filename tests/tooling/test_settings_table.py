"""The documents about settings say what the code says."""

from scripts.settings_table import DOCUMENT, EXAMPLE, document, example


def test_settings_document_lists_what_the_code_reads() -> None:
    """docs/settings.md has the names, defaults and meanings of the code; `make docs` writes them."""
    assert DOCUMENT.read_text() == document(DOCUMENT.read_text())


def test_example_environment_lists_what_the_code_reads() -> None:
    """.env.example has every setting, commented out; `make docs` writes it."""
    assert example() == EXAMPLE.read_text()
