"""W3C trace context: taken from clients, passed on to nodes, kept in the record."""

import re

import pytest

from routing.gateway.settings import GatewaySettings
from tests.fakes.address import address
from tests.fakes.echo import MODEL, echo_node

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OWN = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


async def seen(headers, *, traces=False):
    """What a node is told, and the trace of the record."""
    async with echo_node() as node, address(node, settings=GatewaySettings(poll=0.2, traces=traces)) as front:
        async with front.client() as client:
            answer = await client.post("/api/generate", json={"model": MODEL, "prompt": "Hi"}, headers=headers)
        assert answer.status_code == 200
        return node.last.headers.get("traceparent"), front.last.trace


async def test_a_node_is_told_of_the_request_in_the_trace_of_its_caller():
    """The trace and its flags are the client's, the span is the request's own."""
    told, trace = await seen({"traceparent": PARENT}, traces=True)
    found = OWN.fullmatch(told)
    assert (found[1], found[3]) == (PARENT[3:35], "01")
    assert found[2] != PARENT[36:52]
    assert trace == f"{PARENT} {told}"


@pytest.mark.parametrize("header", [None, "nonsense", f"00-{'0' * 32}-00f067aa0ba902b7-01"], ids=str)
async def test_a_request_without_a_caller_begins_a_trace(header):
    """What cannot be read counts as none."""
    told, trace = await seen({} if header is None else {"traceparent": header}, traces=True)
    assert OWN.fullmatch(told)
    assert trace == f" {told}"


async def test_without_traces_the_client_is_the_nodes_caller():
    """Where no traces are made, what the client said reaches the node as it is."""
    assert await seen({"traceparent": PARENT}) == (PARENT, "")
