"""What the model may import."""

import sys

import pytest

from tests.tooling.test_imports import imported, sources


@pytest.mark.parametrize("path", sources("routing/whatif"), ids=lambda path: path.stem)
def test_the_model_imports_the_core_and_the_standard_library_only(path):
    """It runs wherever Python does, and knows neither the gateway nor Django."""
    foreign = {
        name
        for name in imported(path)
        if name.partition(".")[0] not in sys.stdlib_module_names
        and not name.startswith(("routing.core.", "routing.whatif."))
    }
    assert not foreign
    drives = any(name == "routing.core.dispatcher" for name in imported(path))
    assert not drives or path.stem in {"drive", "simulation"}
