"""What a gateway is told of its nodes: the operator's configuration, their lists, whether they answer."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from routing.core.drift import Rule, preferred
from routing.core.requests import Profile
from routing.core.snapshot import FleetSnapshot, InstalledModel
from routing.core.state import NodeState, Reach, ResidentModel

#: The route that a server has if it knows of accounts.
ACCOUNT = "/api/me"


@dataclass(slots=True)
class Fleet:
    """The nodes by id. Times are seconds of the injected clock.

    `drifted` holds, for names under which the nodes have different weights, the digest that counts. `generation` moves
    on with every change of who can serve what.
    """

    nodes: dict[int, NodeState] = field(default_factory=dict)
    drift: Rule = "newest"
    drifted: dict[str, str] = field(default_factory=dict)
    generation: int = 0

    def stirred(self, node: NodeState | None) -> None:
        """A node has changed for the better, or (None) who can serve what; told to whoever waits."""

    def apply(self, snapshot: FleetSnapshot) -> None:
        """Take the operator's nodes; what is known of a node that stays is kept, unless it is another server now."""
        states: dict[int, NodeState] = {}
        lost: list[Callable[[], None]] = []
        for spec in snapshot.nodes:
            state = self.nodes.get(spec.id)
            if state is None or state.spec.url != spec.url:
                if state is not None:
                    lost += state.calls
                state = NodeState(spec, version=spec.version)
            state.spec, state.gone = spec, False
            state.touch()
            if state.inventory_at < 0:
                state.models = {model.key: model for model in spec.models}
            states[spec.id] = state
        for node_id, state in self.nodes.items():
            if node_id not in states and (state.in_flight or state.calls):
                # Gone from the configuration: nothing new, but what runs there is watched until it has ended.
                state.spec, state.gone = replace(state.spec, enabled=False), True
                states[node_id] = state
        self.nodes = states
        self._compare()
        for call in lost:
            call()

    def forget(self, node_id: int) -> None:
        """Drop a node that is gone from the configuration, now that nothing runs there any more."""
        self.nodes.pop(node_id, None)
        self._compare()

    def _compare(self) -> None:
        """See which nodes differ from what counts, and which one stands for the account at ollama.com."""
        present = [node for node in self.nodes.values() if node.used and node.reach is not Reach.DOWN]
        self.drifted = preferred((model for node in present for model in node.models.values()), self.drift)
        signed_in = any(node.spec.enabled and node.spec.cloud for node in self.nodes.values())
        standing = [node for node in present if node.spec.cloud or not signed_in]
        cloud = min(standing, key=lambda node: (ACCOUNT in node.missing, node.spec.id), default=None)
        for node in self.nodes.values():
            node.cloud = node is cloud
            node.outdated = frozenset(
                key for key, digest in self.drifted.items() if key in node.models and node.models[key].digest != digest
            )
        self.generation += 1
        self.stirred(None)

    def observe_inventory(self, node_id: int, models: Iterable[InstalledModel], at: float) -> bool:
        """A node's list of installed models, read at `at`; true if it changed."""
        state = self.nodes.get(node_id)
        if state is None:
            return False
        described = {(model.key, model.digest): model for model in state.spec.models}
        # Nodes before v0.30 list no capabilities; the sweep has asked for them model by model.
        known = (
            replace(model, capabilities=told.capabilities)
            if not model.capabilities and (told := described.get((model.key, model.digest)))
            else model
            for model in models
        )
        changed = state.set_inventory(known, at)
        if changed:
            self._compare()
        return changed

    def observe_residents(self, node_id: int, residents: Iterable[ResidentModel]) -> None:
        """What is loaded on a node, as it has just told."""
        state = self.nodes.get(node_id)
        if state and state.set_residents(residents):
            self.stirred(state)

    def observe_reach(self, node_id: int, error: str | None, now: float, *, certain: bool = False) -> Reach | None:
        """A look at a node succeeded (`error` None) or failed; returns the new reach if it changed to or from down.

        One failed look makes a node suspect, the second one down; a `certain` failure (a refused connection) at once.
        """
        state = self.nodes.get(node_id)
        if state is None:
            return None
        before = state.reach
        if error is None:
            state.looks_failed, state.error, state.reach = 0, "", Reach.UP
            state.doubt(math.inf if before is Reach.DOWN else now)
            if state.health.recovered(now):
                state.touch()
                self.stirred(state)
        else:
            state.looks_failed += 1
            state.error = error
            state.reach = Reach.DOWN if certain or state.looks_failed > 1 or before is Reach.DOWN else Reach.SUSPECT
            if state.reach is Reach.DOWN and before is not Reach.DOWN:
                state.down_since = now
                state.resident.clear()
        if (before is Reach.DOWN) == (state.reach is Reach.DOWN):
            return None
        state.touch()
        self._compare()
        return state.reach

    # Who can serve what

    def offered(self, request: Profile) -> bool:
        """Whether any node in use has the model and the route, reachable or not."""
        return any(node.offers(request) for node in self.nodes.values())

    def held(self, request: Profile) -> bool:
        """Whether any enabled node has them, if only one that is being emptied."""
        return any(node.holds(request) for node in self.nodes.values())

    def in_flight(self) -> int:
        """Slots taken now, in all."""
        return sum(node.in_flight for node in self.nodes.values())
