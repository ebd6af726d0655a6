"""Which nodes hold the beginning of a conversation in a model's prompt cache, so that they need not read it again."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from routing.core.requests import Profile

#: What is saved where nothing is.
NOTHING: Mapping[int, float] = {}
#: A prefix below this share of a prompt is not worth looking for.
LEAST_SHARE = 0.1

Runner = tuple[int, str]


@dataclass(slots=True)
class Prefixes:
    """The last prompts of each runner, as many as it has slots, since each slot keeps what it read last.

    `runners` holds chains of hashes by (node id, weights), `holders` counts the chains of each node by (weights, hash).
    """

    runners: dict[Runner, deque[tuple[int, ...]]] = field(default_factory=dict)
    holders: dict[tuple[str, int], dict[int, int]] = field(default_factory=dict)

    def remember(self, node_id: int, weights: str, slots: int, request: Profile) -> None:
        """A runner has just read this request's prompt; a prompt that it continues is no longer kept by itself."""
        if not request.prefixes:
            return
        chain = tuple(hashed for hashed, _ in request.prefixes)
        chains = self.runners.setdefault((node_id, weights), deque())
        for older in [one for one in chains if one[-1] in chain]:
            chains.remove(older)
            self._drop(node_id, weights, older)
        while len(chains) >= slots:
            self._drop(node_id, weights, chains.popleft())
        chains.append(chain)
        for hashed in chain:
            nodes = self.holders.setdefault((weights, hashed), {})
            nodes[node_id] = nodes.get(node_id, 0) + 1

    def saved(self, weights: str, request: Profile, tokens: float) -> Mapping[int, float]:
        """Of a prompt of so many tokens, those that each node need not read, by node id."""
        if not request.prefixes or not self.holders:
            return NOTHING
        whole = request.prefixes[-1][1]
        if whole <= 0:
            return NOTHING
        found: dict[int, float] = {}
        for hashed, characters in reversed(request.prefixes):
            if characters < LEAST_SHARE * whole:
                break
            for node_id in self.holders.get((weights, hashed), ()):
                # The last token is read again in any case.
                found.setdefault(node_id, tokens * characters / whole * 0.99)
        return found or NOTHING

    def forget(self, node_id: int, weights: str | None = None) -> None:
        """A node has lost its caches, or one model was unloaded there."""
        for runner in [one for one in self.runners if one[0] == node_id and weights in {None, one[1]}]:
            for chain in self.runners.pop(runner):
                self._drop(node_id, runner[1], chain)

    def _drop(self, node_id: int, weights: str, chain: tuple[int, ...]) -> None:
        for hashed in chain:
            nodes = self.holders.get((weights, hashed))
            if nodes is None:
                continue
            left = nodes.get(node_id, 0) - 1
            if left > 0:
                nodes[node_id] = left
            else:
                nodes.pop(node_id, None)
            if not nodes:
                del self.holders[weights, hashed]
