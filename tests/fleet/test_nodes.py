"""Nodes from a line of text, and their switches."""

import pytest

from fleet.models import Node
from fleet.services import nodes

pytestmark = pytest.mark.django_db


def test_seed_reads_every_option():
    """All options of an entry reach the node."""
    text = "ant=https://gpu-1:8443?slots=4&vram_gb=24&ram_gb=64&cores=16&class=cpu&max_loaded=3&region=eu&weight=2&cost=0.5&cloud=true&label.rack=a1"
    [node], _ = nodes.seed(text)
    node.refresh_from_db()
    assert (node.name, node.url, node.slots, node.vram_gb, node.ram_gb) == ("ant", "https://gpu-1:8443", 4, 24, 64)
    assert (node.cores, node.node_class, node.max_loaded, node.region, node.weight) == (16, "cpu", 3, "eu", 2)
    assert (node.cost_per_hour, node.cloud, node.labels) == (0.5, True, {"rack": "a1"})


def test_seed_is_idempotent():
    """Seeding twice adds nothing the second time."""
    first = nodes.seed("ant:1, bee:1")
    second = nodes.seed("ant:1, bee:1")
    assert (len(first.created), second.created, second.kept) == (2, [], first.created)


def test_seed_never_overwrites(ant):
    """What an operator set on a known address stays, whatever the text says."""
    nodes.seed("other=ant?slots=9")
    ant.refresh_from_db()
    assert (ant.name, ant.slots) == ("ant", 4)


def test_seed_finds_names():
    """Nodes on one host get the port into their name."""
    created = nodes.seed("10.0.0.7:1,10.0.0.7:2,[::1]:1").created
    assert [node.name for node in created] == ["10.0.0.7", "10.0.0.7:2", "1"]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("ant:1?slot=4", "unknown option 'slot'"),
        ("ant:1?slots=many", "slots='many' is not a whole number"),
        ("ant:1?cloud=maybe", "cloud='maybe' is not true or false"),
        ("ant:1?slots=0", "greater than or equal to 1"),
        ("ant:1?vram_gb=nan", "vram_gb"),
        ("ant:1?class=tpu", "class='tpu'"),
        ("ant:1?slots", "ant:1?slots"),
        ("a b=ant:1", "Use letters"),
        ("ftp://ant:1", "not ftp://"),
        ("ant:1/v1", "no path"),
    ],
)
def test_seed_names_the_bad_entry(entry, told):
    """A bad entry is told by name, and nothing of the text is added."""
    with pytest.raises(ValueError) as caught:
        nodes.seed(f"bee:1,{entry}")
    assert entry.partition("?")[0] in str(caught.value)
    assert told in str(caught.value)
    assert not Node.objects.exists()


def test_switches_count_what_changed(ant, bee):
    """A switch tells how many nodes were not in the state already."""
    assert nodes.disable([ant]) == 1
    assert nodes.disable([ant, bee]) == 1
    assert nodes.enable([ant, bee]) == 2
    assert nodes.drain([ant]) == 1
    assert nodes.resume([ant, bee]) == 1
