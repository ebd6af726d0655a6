"""Looks for Ollama servers in a network that is named, and proposes them as nodes."""

import ipaddress
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import httpx
from django.core.exceptions import ValidationError
from django.db import transaction

from fleet.models import Node
from fleet.models.node import DEFAULT_PORT, normal_url
from fleet.services.nodes import free_name, told
from fleet.services.probe import Sighting, look

#: Addresses (times ports) that one search looks at.
MOST = 4096
#: Looks at a time, and the seconds within which a host must take the connection.
PARALLEL, CONNECT_S = 64, 1.0


class Found(NamedTuple):
    """An Ollama server; `known` is the node that has this address already."""

    sighting: Sighting
    known: Node | None


def addresses(network: str, ports: Collection[int] = (DEFAULT_PORT,), most: int = MOST) -> list[str]:
    """The URLs of all hosts of a network in CIDR notation. Raises ValueError if it is none, or too large."""
    try:
        wanted = ipaddress.ip_network(network.strip(), strict=False)
    except ValueError:
        raise ValueError(f"{network!r} is no network; write it as 192.168.1.0/24, or a single address") from None
    for port in ports:
        if not 0 < port <= 65535:  # noqa: PLR2004 (the largest port)
            raise ValueError(f"{port} is no port")
    if wanted.num_addresses * len(ports) > most:
        raise ValueError(
            f"{wanted} has {wanted.num_addresses:,} addresses, on {len(ports)} port(s); "
            f"at most {most:,} are looked at: name a smaller network"
        )
    hosts = list(islice(wanted.hosts(), most)) or [wanted.network_address]
    return [normal_url(f"{bracketed(host)}:{port}") for host in hosts for port in ports]


def bracketed(host: object) -> str:
    return f"[{host}]" if isinstance(host, ipaddress.IPv6Address) else str(host)


def search(
    urls: Collection[str], transport: httpx.BaseTransport | None = None, parallel: int = PARALLEL
) -> Iterator[Found]:
    """Ask each address for its version; yields those that answer as Ollama does, in order."""
    known = {node.url: node for node in Node.objects.all()}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    with (
        httpx.Client(transport=transport, trust_env=False, follow_redirects=False, limits=limits) as client,
        ThreadPoolExecutor(parallel, thread_name_prefix="discover") as pool,
    ):

        def sight(url: str) -> Sighting:
            # What may cost is asked of those only that take the connection.
            return look(Node(name="", url=url), client, connect_s=CONNECT_S, describing=False)

        for sighting in pool.map(sight, urls):
            if sighting.reachable:
                yield Found(sighting, known.get(sighting.url))


def add(found: Collection[Found]) -> list[Node]:
    """Add those that are not known yet as nodes. Raises ValueError naming the address; then none is added."""
    added = []
    with transaction.atomic():
        for sighting, known in found:
            if known is not None:
                continue
            node = Node(name=free_name(sighting.url), url=sighting.url)
            try:
                node.full_clean()
            except ValidationError as error:
                raise ValueError(f"{sighting.url}: {told(error)}") from None
            node.save()
            added.append(node)
    return added
