"""Which headers travel: the client's to a node, the node's to the client, and the routing headers of our own."""

from collections.abc import Collection, Iterable

from routing.core.tickets import Lease, Ticket
from routing.gateway.access import KEY_MARK
from routing.gateway.exchange import Headers
from routing.upstream import client

#: The gateways that a request has passed, so that one that it comes back to finds out.
MARK = client.MARK.lower().encode()
HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
USUAL_CONNECTIONS = {b"keep-alive", b"close"}
NONE: frozenset[bytes] = frozenset()
#: The node must see its own Host and no Origin (else it answers 403), and never the browser's session.
TO_NODE_DROPPED = HOP_BY_HOP | {
    b"host",
    b"origin",
    b"content-length",
    b"expect",
    b"cookie",
    b"accept-encoding",
    b"x-api-key",
}
#: Lengths are set anew; Date and Server are the gateway's own, and so are cookies, which belong to its admin.
#: Which page may read an answer is decided here.
FROM_NODE_DROPPED = HOP_BY_HOP | {
    b"content-length",
    b"date",
    b"server",
    b"set-cookie",
    b"access-control-allow-origin",
    b"access-control-allow-credentials",
    b"access-control-expose-headers",
}


def to_node(headers: Collection[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """The client's headers as a node may see them; our keys never leave the gateway."""
    sent = []
    named = named_by_connection(headers)
    dropped = TO_NODE_DROPPED | named if named else TO_NODE_DROPPED
    for name, value in headers:
        if name in dropped or (name.startswith(b"x-sollol-") and name != MARK):
            continue
        if name == b"authorization" and KEY_MARK in value:
            continue
        sent.append((name.decode("latin-1"), text(value)))
    return sent


def named_by_connection(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Headers that a Connection header declares to be of this hop only."""
    for name, value in headers:
        if name == b"connection" and value.lower() not in USUAL_CONNECTIONS:
            return frozenset(token.strip().lower() for token in value.split(b","))
    return NONE


def text(value: bytes) -> str:
    """A header's value so that writing it as UTF-8, as the client library does, gives the same bytes where it can."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def from_node(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The node's headers as the client may see them."""
    return [(lower, value) for name, value in headers if (lower := name.lower()) not in FROM_NODE_DROPPED]


def routing_headers(ticket: Ticket, lease: Lease | None) -> Headers:
    """What is known of the routing before the first byte."""
    own: Headers = [(b"x-sollol-request-id", ticket.id.encode())]
    if lease is not None:
        own += [
            (b"x-sollol-node", lease.node.spec.name.encode("ascii", "replace")),
            (b"x-sollol-decision", lease.decision.reason.encode()),
            (b"x-sollol-score", b"%.3f" % lease.decision.score),
        ]
    own += [
        (b"x-sollol-queue-ms", b"%d" % (ticket.queue_s * 1000)),
        (b"x-sollol-attempts", b"%d" % ticket.attempts),
    ]
    return own
