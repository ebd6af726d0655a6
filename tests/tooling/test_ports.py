"""Ports are checked before anything starts, and what is wrong is told in one line."""

import os
import socket
from collections.abc import Iterator

import pytest

from fleet.management.ports import PortTaken, bound, check, free_port, listener


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_taken_port_is_told_with_its_process(taken: int) -> None:
    """The line names the port, who holds it, and the setting that chooses another."""
    with pytest.raises(PortTaken, match=rf"port {taken} .* is taken; stop process {os.getpid()} .*SOLLOL_PORT=\d+"):
        check("127.0.0.1", taken)


def test_free_port_leaves_taken_ones_out(taken: int) -> None:
    """A port in use and one already promised are both passed over."""
    assert free_port(taken, {taken + 1}) > taken + 1


def test_unknown_address_is_told() -> None:
    """A host that is not this machine's is a fault of SOLLOL_HOST, not of the port."""
    with pytest.raises(PortTaken, match=r"SOLLOL_HOST=192\.0\.2\.1 is not an address of this machine"):
        check("192.0.2.1", 8000)


def test_checked_port_is_free_afterwards() -> None:
    """Checking a port does not keep it."""
    port = free_port(30000)
    check("127.0.0.1", port)
    for opened in bound("127.0.0.1", port):
        opened.close()


def test_nobody_listens_on_a_free_port() -> None:
    """Of a free port no process is named."""
    assert not listener(free_port(31000))
