"""Model names."""

import pytest

from simulator.names import is_cloud_name, parse_name, source_of, stored_name
from simulator.wire import Refusal
from tests.simulator.conftest import small


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


@pytest.mark.parametrize(
    "text", ["", "a b", "-a", "a:", "a:b c", "x" * 81, "/a", "a.b/c", "https://a", "http://ns/a", "a/b/c/d", "a:b:c"]
)
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


@pytest.mark.parametrize(
    ("text", "base", "source"),
    [
        ("owl", "owl", ""),
        ("owl:LOCAL", "owl", "local"),
        ("owl:20b:local", "owl:20b", "local"),
        ("owl:Cloud", "owl", "cloud"),
        ("owl:20b:cloud", "owl:20b", "cloud"),
        ("owl:20b-CLOUD", "owl:20b", "cloud"),
        ("my-cloud", "my-cloud", ""),
        ("owl:a-cloud/b", "owl:a-cloud/b", ""),
    ],
)
def test_source_suffixes(text, base, source):
    """They are taken off, whatever their case."""
    assert source_of(text) == (base, source)


@pytest.mark.parametrize("text", ["owl:cloud:local", "owl:local:cloud", "owl:20b-cloud:local"])
def test_two_sources_contradict_each_other(text):
    """The text repeats the name."""
    with pytest.raises(Refusal) as refused:
        source_of(text)
    assert refused.value.text == f'use either :local or :cloud, not both: "{text}"'


@pytest.mark.parametrize(
    ("text", "stored"), [("owl:20b:cloud", "owl:20b-cloud"), ("owl:cloud", "owl:cloud"), ("owl:local", "owl:latest")]
)
def test_the_names_of_stubs(text, stored):
    """A cloud model is on disk under its older name."""
    assert stored_name(text).shortest == stored


@pytest.fixture
async def client(start):
    return (await start(models=[small("Bees/Honey:1B", capabilities=("completion", "embedding"))]))[1]


@pytest.mark.parametrize("name", ["Bees/Honey:1B", "bees/honey:1b", "bees/HONEY:1b:local"])
async def test_case_does_not_matter(client, name):
    """Chat finds a model in any spelling and repeats the request's."""
    assert (await client.chat(name))["model"] == name


@pytest.mark.parametrize(
    ("name", "status"), [("Bees/Honey:1B", 200), ("Bees/Honey:1B:local", 200), ("bees/honey:1b", 404)]
)
async def test_the_older_embedding_route_wants_the_spelling(client, name, status):
    """While /api/embed takes any."""
    assert (await client.send("POST", "/api/embeddings", {"model": name, "prompt": "x"}))[0] == status
    assert (await client.send("POST", "/api/embed", {"model": name, "input": "x"}))[0] == 200


async def test_a_new_name_takes_over_the_spelling_of_its_parts(client):
    """Each part is spelled as a model that is here spells it."""
    await client.send("POST", "/api/copy", {"source": "bees/honey:1b", "destination": "BEES/wax:1b"})
    names = [model["name"] for model in (await client.get("/api/tags"))["models"]]
    assert sorted(names) == ["Bees/Honey:1B", "Bees/wax:1B"]
