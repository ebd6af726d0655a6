"""How many requests a failing model gets at most: the rule that the chaos suite counts by."""

from dataclasses import dataclass, field
from random import Random

import pytest

from routing.core.breaker import THRESHOLD
from routing.core.health import Health

#: Chats begin, give their first byte and break off, the newest or the oldest of them; an embedding begins and goes
#: well; a chat that began before the failure goes well; a look succeeds; time passes.
STEPS = ["chat", "byte", "break", "break oldest", "embed", "well", "old", "look", "pause"]


@dataclass(eq=False)
class Attempt:
    weights: str
    began: float = 0.0


@dataclass
class Node:
    """A node on which every chat breaks off from now on, and embeddings go well; `slots` of chats at a time.

    `old` are chats that began before, and go well; `early`: chats break off before their first byte.
    """

    slots: int
    early: bool
    health: Health
    now: float = 0.0
    old: list[Attempt] = field(default_factory=list)
    chats: list[Attempt] = field(default_factory=list)
    embeddings: list[Attempt] = field(default_factory=list)
    begun: int = 0

    def begin(self, running: list[Attempt], weights: str, slots: int) -> None:
        if len(running) < slots and self.health.allows(weights, self.now):
            running.append(Attempt(weights, self.now))
            self.health.begin(running[-1], self.now)
            self.begun += weights == "chat"

    def step(self, what: str) -> None:
        self.now += 0.01
        match what:
            case "chat":
                self.begin(self.chats, "chat", self.slots - len(self.old))
            case "embed":
                self.begin(self.embeddings, "embedder", 1)
            case "byte" if not self.early:
                for attempt in self.chats:
                    self.health.answered(attempt)
            case "break" | "break oldest" if self.chats:
                self.health.failure(self.chats.pop(-1 if what == "break" else 0), self.now, whole=True, sent=True)
            case "well" | "old" if running := (self.embeddings if what == "well" else self.old):
                attempt = running.pop()
                self.health.success(attempt, attempt.began)
            case "look":
                self.health.recovered(self.now)
            case "pause":
                self.now += 3.0


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("slots", [1, 2, 4])
def test_a_failing_model_gets_what_the_breaker_allows(slots, early):
    """Three failures and what runs meanwhile, then one for each probe, or its slots where answers begin well."""
    for seed in range(300):
        random = Random(seed)
        node = Node(slots, early, Health(lambda random=random: random.uniform(0.8, 1.2)))
        node.old = [Attempt("chat") for _ in range(slots)]
        for step in random.choices(STEPS, [6, 3, 6, 3, 3, 3, 1, 0.5, 0.5], k=60):
            node.step(step)
            assert node.begun <= THRESHOLD + slots - 1 + node.health.probes * (1 if early else slots)
