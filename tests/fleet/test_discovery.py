"""Looking for Ollama servers in a network."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from fleet.models import Node
from fleet.services.discovery import addresses
from simulator.threads import node_in_thread

pytestmark = pytest.mark.django_db


@pytest.fixture
def simulated():
    with node_in_thread(models=("llama3.2:3b",), speed=100.0) as server:
        yield server


def discover(server, *options, network="127.0.0.0/29"):
    out = StringIO()
    call_command("discover", network, "--port", server.base_url.rpartition(":")[2], *options, stdout=out)
    return out.getvalue()


def test_what_is_found_is_proposed(simulated):
    """Servers that answer as Ollama are told, and nothing is added."""
    told = discover(simulated)
    assert f"{simulated.base_url}  Ollama 0." in told
    assert "1 Ollama servers at 6 addresses, 1 of them new" in told
    assert not Node.objects.exists()


def test_adding(simulated):
    """With --add they become nodes whose models are known; a second time they are known."""
    assert "added 127.0.0.1 " in discover(simulated, "--add")
    assert Node.objects.get().models.get().name == "llama3.2:3b"
    assert "0 of them new" in discover(simulated, "--add")
    assert Node.objects.count() == 1


def test_a_single_address(simulated):
    """An address without a mask is that address."""
    assert "at 1 addresses" in discover(simulated, network="127.0.0.1")


@pytest.mark.parametrize(
    ("network", "options", "told"),
    [
        ("10.0.0.0/8", (), "at most 4,096"),
        ("fd00::/64", (), "name a smaller network"),
        ("everything", (), "is no network"),
        ("127.0.0.1", ("--port", "70000"), "is no port"),
        ("127.0.0.1", ("--parallel", "0"), "between 1 and 256"),
    ],
)
def test_bounds(network, options, told):
    """Networks that are too large, and what is none, are refused in words."""
    with pytest.raises(CommandError, match=told):
        call_command("discover", network, *options)


def test_addresses():
    """Hosts of a network, each with each port; IPv6 in brackets."""
    assert addresses("10.0.0.0/30", (1, 2)) == [f"http://10.0.0.{host}:{port}" for host in (1, 2) for port in (1, 2)]
    assert addresses("::1") == ["http://[::1]:11434"]
