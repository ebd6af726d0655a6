"""Model names."""

import pytest

from simulator.names import is_cloud_name, parse_name


@pytest.mark.parametrize(
    ("text", "shortest", "full"),
    [
        ("llama3", "llama3:latest", "registry.ollama.ai/library/llama3:latest"),
        ("Bees/honey:1b", "Bees/honey:1b", "registry.ollama.ai/Bees/honey:1b"),
        ("hf.co/org/repo:Q4_K_M", "hf.co/org/repo:Q4_K_M", "hf.co/org/repo:Q4_K_M"),
        ("host:5000/ns/m", "host:5000/ns/m:latest", "host:5000/ns/m:latest"),
        ("https://hf.co/org/repo", "hf.co/org/repo:latest", "hf.co/org/repo:latest"),
        ("llama3:local", "llama3:latest", "registry.ollama.ai/library/llama3:latest"),
    ],
)
def test_names_get_their_defaults(text, shortest, full):
    """Host, namespace and tag are filled in, and dropped again where lists show the name."""
    name = parse_name(text)
    assert (name.shortest, name.full) == (shortest, full)


@pytest.mark.parametrize("text", ["", "a b", "-a", "a:", "a:b c", "x" * 81, "/a"])
def test_impossible_names(text):
    """What the grammar forbids is no name."""
    assert parse_name(text) is None


def test_spellings_of_one_model_share_a_key():
    """Case does not make another model."""
    assert parse_name("Llama3").key == parse_name("llama3:LATEST").key


@pytest.mark.parametrize(
    ("text", "cloud"), [("a:cloud", True), ("a:20b-Cloud", True), ("a:20b", False), ("cloud", False)]
)
def test_cloud_names(text, cloud):
    """A cloud tag asks for ollama.com."""
    assert is_cloud_name(text) is cloud
