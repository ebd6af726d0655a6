"""What the outside tells the router about nodes, teams and keys: immutable, swapped as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model on one node's disk, as /api/tags tells it.

    `key` is the canonical name (`names.canonical`), `name` the node's own spelling, `size` in bytes. Empty
    `capabilities` means that the node did not say. `modified_at` in epoch seconds, 0 where unknown. `remote`: a stub
    of a model that runs at another server and takes no memory here.
    """

    key: str
    name: str
    digest: str = ""
    size: int = 0
    capabilities: frozenset[str] = frozenset()
    parameters_b: float | None = None
    context_length: int | None = None
    modified_at: float = 0.0
    remote: bool = False


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One Ollama server as the operator configured it, with the last inventory the database knows.

    `slots` is the number of requests that one loaded model serves at a time (OLLAMA_NUM_PARALLEL on the node). Memory
    is in bytes, `None` where unknown. `headers` are sent with every request to the node (its credentials). `cloud`: the
    node that is signed in at ollama.com, for cloud models and requests about the account.
    """

    id: int
    name: str
    url: str
    enabled: bool = True
    draining: bool = False
    node_class: str = "gpu"
    slots: int = 1
    vram_bytes: int | None = None
    ram_bytes: int | None = None
    max_loaded: int | None = None
    weight: float = 1.0
    cost_per_hour: float = 0.0
    region: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    headers: tuple[tuple[str, str], ...] = ()
    models: tuple[InstalledModel, ...] = ()
    version: str = ""
    cloud: bool = False


@dataclass(frozen=True, slots=True)
class TeamPolicy:
    """What a team may ask for: priorities from 1 (batch) to 10 (critical), and its share of a busy fleet."""

    id: int
    name: str
    default_priority: int = 5
    highest_priority: int = 10
    batch_priority: int = 1
    share_weight: float = 1.0
    max_concurrent: int | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """An API key; `digest` is the hex SHA-256 of the whole key, `expires_at` in epoch seconds."""

    digest: str
    prefix: str
    team_id: int
    scopes: frozenset[str]
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """Everything routing reads from the database, at one revision. Revoked keys are not in it."""

    revision: int = 0
    nodes: tuple[NodeSpec, ...] = ()
    teams: Mapping[int, TeamPolicy] = field(default_factory=dict)
    keys: Mapping[str, Key] = field(default_factory=dict)
