"""The cast of the core's tests: nodes ant, bee and cat with a model or two, and requests for them."""

from routing.core.dispatcher import Dispatcher, Limits
from routing.core.names import canonical
from routing.core.requests import Complexity, Profile, Route, Task
from routing.core.snapshot import FleetSnapshot, InstalledModel, NodeSpec
from routing.core.tickets import Ticket

GIB = 1 << 30
SMALL, LARGE, EMBED = "llama3.2:3b", "qwen2.5:32b", "nomic-embed-text"


def model(name: str, size_gb: float = 2.0, capabilities: tuple[str, ...] = ("completion",)) -> InstalledModel:
    return InstalledModel(
        canonical(name), name, digest=f"digest of {name}", size=int(size_gb * GIB), capabilities=frozenset(capabilities)
    )


MODELS = {SMALL: model(SMALL), LARGE: model(LARGE, 20.0), EMBED: model(EMBED, 0.3, ("embedding",))}


def node(number: int, name: str, *models: str, slots: int = 2, **more) -> NodeSpec:
    installed = tuple(MODELS[one] for one in models or (SMALL,))
    return NodeSpec(number, name, f"http://{name}:11434", slots=slots, models=installed, **more)


def fleet(*nodes: NodeSpec, limits: Limits | None = None) -> Dispatcher:
    """A dispatcher whose nodes have all been seen up."""
    dispatcher = Dispatcher(limits=limits or Limits())
    dispatcher.apply(FleetSnapshot(1, nodes))
    for spec in nodes:
        dispatcher.observe_reach(spec.id, None, 0.0)
    return dispatcher


def request(
    name: str = SMALL, priority: int = 5, num_ctx: int | None = None, tokens: int = 100, *, bulk: bool = False
) -> Profile:
    return Profile(
        Route.CHAT,
        name,
        canonical(name),
        stream=True,
        task=Task.CHAT,
        complexity=Complexity.SIMPLE,
        needs_gpu=False,
        prompt_tokens=tokens,
        num_ctx=num_ctx,
        priority=priority,
        bulk=bulk,
    )


class Count:
    """Names tickets one after the other."""

    last = 0


def ticket(now: float = 0.0, **more) -> Ticket:
    Count.last += 1
    return Ticket(f"t{Count.last}", request(**more), now)


def submit(dispatcher: Dispatcher, now: float = 0.0, **more) -> Ticket:
    """Queue a ticket; a lease that it gets at once is denied, so that `assign` is what decides."""
    made = ticket(now, **more)
    lease = dispatcher.submit(made, now)
    if lease is not None:
        dispatcher.deny(lease, now)
    return made


def assign(dispatcher: Dispatcher, now: float = 0.0):
    """Place what can be placed, every lease granted; the names of the nodes in order."""
    leases = dispatcher.assign(now)
    for lease in leases:
        dispatcher.grant(lease)
    return [lease.node.spec.name for lease in leases]
