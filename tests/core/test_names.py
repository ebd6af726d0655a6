"""Model names: which spellings are one model, and how it is shown."""

import pytest

from routing.core.names import canonical, display


@pytest.mark.parametrize(
    ("name", "key", "shown"),
    [
        ("llama3", "registry.ollama.ai/library/llama3:latest", "llama3:latest"),
        ("Llama3:8B", "registry.ollama.ai/library/llama3:8b", "Llama3:8B"),
        ("llama3:local", "registry.ollama.ai/library/llama3:latest", "llama3:latest"),
        ("bo/llama3", "registry.ollama.ai/bo/llama3:latest", "bo/llama3:latest"),
        ("hf.co/org/repo:Q4_K_M", "hf.co/org/repo:q4_k_m", "hf.co/org/repo:Q4_K_M"),
        ("localhost:5000/ns/m:t", "localhost:5000/ns/m:t", "localhost:5000/ns/m:t"),
        ("https://hf.co/org/repo", "hf.co/org/repo:latest", "hf.co/org/repo:latest"),
    ],
)
def test_a_name_has_one_key_and_one_short_form(name, key, shown):
    """Defaults are filled in for the key and left out for people; the case counts for neither's equality."""
    assert (canonical(name), display(name)) == (key, shown)
    assert canonical(shown) == key
