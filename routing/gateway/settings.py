"""What the gateway can be told from outside, with its defaults."""

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Literal

from routing.core.dispatcher import Limits
from routing.core.drift import Rule
from routing.gateway.access import Anonymous

#: First parts of paths below /api/ that belong to the control plane; all others are the data plane's.
CONTROL_PLANE = frozenset(
    ("batch", "dashboard", "docs", "explain", "fleet", "health", "queue", "requests", "schema", "stats", "usage")
)


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Times in seconds, sizes in bytes. `dashboard` is where `GET /` sends a browser.

    `listens_locally`: only this machine can reach the gateway; then `hosts` are the names that may be asked for
    beside its own. `model_nodes` says where new models go (`Targets`), `list_ttl` how long a silent node's list
    counts, `keepalive` after how long a waiting /v1 stream gets a sign of life (0: never), `native_keepalive` the
    same for native streams, `stall` for how long a stream may stand still (0: ever). `spool` is the folder of
    uploads (None: the system's for temporary files), in which files unused for `spool_keep` go, and so do the
    oldest above `spool_size`. `prefill_every`: how often loaded models are looked for of which it is not known
    whether their streams can be continued, so that they are probed (0: never). `traces`:
    each request has a place in a W3C trace, which the node is told. `vectors_memory` and `vectors_disk` bound the
    embeddings that are kept for teams whose policy wants that, in memory and in `vectors_file` (0: none).
    `secret` signs the passes of our own workers.
    """

    anonymous: Anonymous = "loopback"
    metadata: Literal["body", "headers", "off"] = "body"
    max_body: int = 512 << 20
    connect_timeout: float = 5.0
    poll: float = 2.0
    limits: Limits = field(default_factory=Limits)
    origins: tuple[str, ...] = ()
    listens_locally: bool = True
    hosts: tuple[str, ...] = ()
    model_nodes: str = "fit"
    drift: Rule = "newest"
    ps: Literal["merged", "nodes"] = "merged"
    list_ttl: float = 600.0
    keepalive: float = 30.0
    native_keepalive: float = 0.0
    stall: float = 30.0
    max_blob: int = 512 << 30
    spool: Path | None = None
    spool_size: int = 100 << 30
    spool_keep: float = 86_400.0
    dashboard: str = "/dashboard/"
    prefill_every: float = 0.0
    traces: bool = False
    vectors_memory: int = 64 << 20
    vectors_disk: int = 0
    vectors_file: Path = Path("vectors.sqlite3")
    secret: bytes = field(default=b"", repr=False)

    @property
    def spool_folder(self) -> Path:
        """Where uploads are kept; below the system's folder for temporary files if nothing else is set."""
        return self.spool or Path(gettempdir()) / "sollol-spool"
