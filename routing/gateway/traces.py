"""W3C trace context: a request's place in its caller's trace, and the node's place under the request."""

import re
from collections.abc import Mapping
from random import getrandbits

NAME = "traceparent"
#: Version 00: trace, span of the caller, flags. An all-zero trace or span is none.
FORM = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def begun(headers: Mapping[bytes, bytes]) -> str:
    """The traceparent of the caller, "" where there is none that can be read, and that of the request, with a space.

    Without a caller's the request is the first of a trace of its own.
    """
    header = headers.get(b"traceparent")
    parent = header.decode() if header is not None and FORM.fullmatch(header) else ""
    trace, flags = (parent[3:35], parent[53:]) if parent else (f"{getrandbits(128) or 1:032x}", "01")
    return f"{parent} 00-{trace}-{getrandbits(64) or 1:016x}-{flags}"


def passed_on(headers: list[tuple[str, str]], trace: str) -> list[tuple[str, str]]:
    """The headers for a node, with the request as the node's caller; as they are if it has no trace."""
    if not trace:
        return headers
    own = trace.rpartition(" ")[2]
    return [*(pair for pair in headers if pair[0].lower() != NAME), (NAME, own)]
