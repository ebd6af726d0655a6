"""What the outside tells the router about nodes, teams and keys: immutable, swapped as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from routing.core.resuming import Behaviour, OnBreak


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
    node that is signed in at ollama.com, for cloud models and requests about the account. `relearn_at` moves on, in
    epoch seconds, when what was learned of the node is to be read anew (it was forgotten or measured).
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
    relearn_at: float = 0.0


class Measure(StrEnum):
    """What a quota counts: tokens in and out together, GPU-seconds as the seconds that a request held its slot."""

    __hash__ = str.__hash__

    REQUESTS = "requests"
    TOKENS = "tokens"
    GPU_SECONDS = "gpu_seconds"


class Window(StrEnum):
    """A quota's time: a minute refills continuously, days and months are calendar ones in UTC."""

    __hash__ = str.__hash__

    MINUTE = "minute"
    DAY = "day"
    MONTH = "month"


class Breach(StrEnum):
    """What happens to a request beyond a quota: refused with Retry-After, or served at a lower priority."""

    REFUSE = "refuse"
    DEMOTE = "demote"


@dataclass(frozen=True, slots=True)
class Quota:
    """A bound on what a team uses: `amount` of `measure` in each `window`.

    `from_priority` makes it a budget of that priority: only requests that run at this priority or above count and are
    held to it. A breach demotes such a request to just below it, or to the team's default priority if that is lower;
    the breach of any other soft quota demotes to the team's batch priority.
    """

    id: int
    measure: Measure
    window: Window
    amount: float
    breach: Breach = Breach.REFUSE
    from_priority: int | None = None


@dataclass(frozen=True, slots=True)
class StrategySpec:
    """A named routing strategy: what kind it is, and the weights that the operator gave its terms.

    `preferred` orders nodes for the kind `priority_nodes`: names, or labels as `name=value`, the first liked best.
    """

    name: str
    kind: str
    weights: Mapping[str, float] = field(default_factory=dict)
    preferred: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RoutingRule:
    """What holds for the requests of a team (None: any) for a model (canonical name, empty: any).

    `labels` must all be on a node for it to be used, `strategy` names how to choose among those, `num_ctx` is the
    context size that every such request gets. An empty member says nothing, and the next rule that fits may.
    """

    team_id: int | None = None
    model: str = ""
    strategy: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    num_ctx: int | None = None


@dataclass(frozen=True, slots=True)
class TeamPolicy:
    """What a team may ask for: priorities from 1 (batch) to 10 (critical), and its share of a busy fleet.

    `max_concurrent` bounds the requests that run at a time: others wait, or where `concurrent_breach` says so run at
    batch priority. `on_break` says what becomes of the team's streams that break off; `hedge`: second copies
    of its short requests may be sent. Its embedding requests may share calls to a node (`join_embeddings`), be spread
    over several nodes (`split_embeddings`), and be answered with what was answered before (`cache_embeddings`).
    """

    id: int
    name: str
    default_priority: int = 5
    highest_priority: int = 10
    batch_priority: int = 1
    share_weight: float = 1.0
    max_concurrent: int | None = None
    concurrent_breach: Breach = Breach.REFUSE
    quotas: tuple[Quota, ...] = ()
    on_break: OnBreak = OnBreak.CONTINUE
    hedge: bool = False
    join_embeddings: bool = False
    split_embeddings: bool = False
    cache_embeddings: bool = False

    @property
    def embeds(self) -> bool:
        """Whether embedding requests of the team are more to the gateway than bytes to pass on."""
        return self.join_embeddings or self.split_embeddings or self.cache_embeddings

    @property
    def limit(self) -> int | None:
        """Requests of the team that may run at a time, the others waiting; None where there is no such bound."""
        return self.max_concurrent if self.concurrent_breach is Breach.REFUSE else None


@dataclass(frozen=True, slots=True)
class Prefill:
    """What a probe found a model to do with an unfinished assistant message; `at` in epoch seconds (0: not probed yet).

    `again`: the operator wants it probed anew; until then the old result holds.
    """

    behaviour: Behaviour = Behaviour.UNCLEAR
    at: float = 0.0
    again: bool = False


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
    """Everything routing reads from the database, at one revision. Revoked keys are not in it.

    `rules` come in the order in which they count, `strategies` are those that the operator defined, `strategy` is the
    name of the one that holds where no rule names another. `prefills` tells by a model's digest what a probe found.
    """

    revision: int = 0
    nodes: tuple[NodeSpec, ...] = ()
    teams: Mapping[int, TeamPolicy] = field(default_factory=dict)
    keys: Mapping[str, Key] = field(default_factory=dict)
    strategies: Mapping[str, StrategySpec] = field(default_factory=dict)
    rules: tuple[RoutingRule, ...] = ()
    strategy: str = "fastest"
    prefills: Mapping[str, Prefill] = field(default_factory=dict)
