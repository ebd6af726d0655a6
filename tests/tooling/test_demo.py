"""The simulated nodes' rows: added once, rested while real nodes are named, never taken from an operator."""

from collections.abc import Iterator

import pytest

from fleet.management import demo, ports
from fleet.models import Node
from fleet.services.nodes import seed

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    """Ports that count as taken; the machine's real ones do not matter here."""
    taken: set[int] = set()

    def check(host: str, port: int) -> None:
        if port in taken:
            raise ports.PortTaken(str(port))

    monkeypatch.setattr(demo, "check", check)
    monkeypatch.setattr(ports, "check", check)
    return taken


def awake() -> dict[str, int]:
    return {one.name: port for one, port in demo.wake()[0]}


def test_empty_database_gets_three_nodes() -> None:
    """The first start adds ant, bee and cat, and each says as many slots as its simulator serves."""
    assert awake() == {"ant": 21434, "bee": 21435, "cat": 21436}
    assert dict(Node.objects.values_list("name", "slots")) == {"ant": 4, "bee": 2, "cat": 2}


def test_second_start_changes_nothing() -> None:
    """A node that Ada has edited and one that she has deleted stay so."""
    awake()
    Node.objects.filter(name="ant").update(name="alpha", weight=2.0)
    Node.objects.get(name="bee").delete()
    assert awake() == {"ant": 21434, "cat": 21436}
    assert Node.objects.get(name="alpha").weight == 2.0


def test_disabled_node_is_not_started() -> None:
    """A simulated node that Ada has disabled gets no simulator and stays disabled."""
    awake()
    Node.objects.filter(name="cat").update(enabled=False)
    assert awake().keys() == {"ant", "bee"}


def test_other_nodes_are_left_alone() -> None:
    """Where Ada has added nodes of her own, no simulated ones come."""
    seed("gpu-1=10.0.0.1:11434?slots=4")
    assert not awake()


def test_node_moves_from_a_taken_port(busy: set[int]) -> None:
    """A simulated node whose port is taken moves to a free one that no other node has, and that is told."""
    awake()
    busy.add(21434)
    chosen, lines = demo.wake()
    assert {one.name: port for one, port in chosen}["ant"] == 21437
    assert lines == ["port 21434 is taken; the simulated node ant moves to 21437"]
    assert Node.objects.get(name="ant").url == "http://127.0.0.1:21437"


def test_nodes_rest_while_real_ones_are_named() -> None:
    """Unedited simulated nodes are disabled and told; when no real node is named any more, they are back."""
    awake()
    assert demo.rest() == ["SOLLOL_NODES is set: the simulated nodes stay in the database, disabled: ant, bee, cat"]
    assert not Node.objects.filter(enabled=True)
    assert awake().keys() == {"ant", "bee", "cat"}
    assert not any(demo.PAUSED in node.labels for node in Node.objects.all())


def test_edited_node_does_not_rest() -> None:
    """A simulated node that Ada has edited is hers: it stays enabled, and that is told."""
    awake()
    Node.objects.filter(name="ant").update(slots=8)
    lines = demo.rest()
    assert Node.objects.get(name="ant").enabled
    assert lines[1] == "the simulated node ant was edited and stays as it is, but its simulator does not run"


def test_slots_are_those_of_the_simulator() -> None:
    """Each simulated node's row says as many slots as its profile has."""
    from simulator.profiles import PROFILES  # noqa: PLC0415 (the tests alone import the simulator)

    awake()
    for one in demo.FLEET.values():
        assert Node.objects.get(name=one.name).slots == PROFILES[one.profile].parallel
