"""What the gateway can be told from outside, with its defaults."""

from dataclasses import dataclass, field
from typing import Literal

from routing.core.dispatcher import Limits
from routing.gateway.access import Anonymous

#: First parts of paths below /api/ that belong to the control plane; all others are the data plane's.
CONTROL_PLANE = frozenset(
    ("batch", "dashboard", "docs", "explain", "fleet", "health", "queue", "requests", "schema", "stats", "usage")
)


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Times in seconds, `max_body` in bytes. `dashboard` is where `GET /` sends a browser."""

    anonymous: Anonymous = "loopback"
    metadata: Literal["body", "headers", "off"] = "body"
    max_body: int = 512 << 20
    connect_timeout: float = 5.0
    poll: float = 2.0
    limits: Limits = field(default_factory=Limits)
    dashboard: str = "/dashboard/"
