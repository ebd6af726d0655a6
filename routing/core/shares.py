"""Fair shares of a busy fleet: a virtual token counter for each team, as in VTC (Sheng et al., OSDI 2024).

A counter adds up what a team was given, in seconds of work alone on a reference node, divided by the team's weight;
whoever has the lowest is served next. A team is charged with the prediction when it is dispatched, trued up at the end.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from routing.core.snapshot import TeamPolicy

Team = int | None

#: For how many seconds a team counts as busy after a request.
BUSY_S = 60.0
NOBODY: frozenset[Team] = frozenset()
NEVER = float("-inf")
#: Seconds of work that a team whose requests run, but none of which waits, can be behind when others wait.
SAVED = 300.0
#: The part of its share of the queue below which a team wants little.
LIGHT = 0.5
#: Seconds over which a flow is averaged where nothing else is said: that out of the queue.
FLOW_S = 30.0


@dataclass(slots=True)
class Account:
    """One team: its counter, its weight, how many of its requests wait and run, and when it was last busy."""

    weight: float = 1.0
    counter: float = 0.0
    waiting: int = 0
    running: int = 0
    limit: int | None = None
    active: float = NEVER

    def busy(self, now: float) -> bool:
        """Whether something of it waits, runs, or has begun lately."""
        return self.waiting > 0 or self.running > 0 or now - self.active < BUSY_S

    @property
    def full(self) -> bool:
        """Whether as many requests run as may."""
        return self.limit is not None and self.running >= self.limit


@dataclass(slots=True)
class Flow:
    """How often something happens in a second, lately: within about `memory` seconds."""

    memory: float = FLOW_S
    amount: float = 0.0
    at: float = 0.0

    def count(self, now: float) -> None:
        self.amount, self.at = self.rate(now) + 1.0 / self.memory, now

    def rate(self, now: float) -> float:
        return self.amount * math.exp((self.at - now) / self.memory)


@dataclass(slots=True)
class Shares:
    """The accounts of all teams by id; None is whoever has no team."""

    accounts: dict[Team, Account] = field(default_factory=dict)
    _seen_at: float = NEVER
    _light: frozenset[Team] = frozenset()
    _before: dict[Team, float] = field(default_factory=dict)

    def apply(self, teams: Mapping[int, TeamPolicy]) -> None:
        """Take the operator's weights; accounts of teams that are gone and have nothing here any more are dropped."""
        for team, policy in teams.items():
            account = self.of(team)
            account.weight, account.limit = policy.share_weight, policy.limit
        for one, account in list(self.accounts.items()):
            if one is not None and one not in teams and not account.waiting and not account.running:
                del self.accounts[one]
        self._changed()

    def of(self, team: Team) -> Account:
        account = self.accounts.get(team)
        if account is None:
            account = self.accounts[team] = Account()
            account.counter = self.lowest()
        return account

    def lowest(self) -> float:
        """The lowest counter of those that wait; of all, if nobody does."""
        waiting = [one.counter for one in self.accounts.values() if one.waiting]
        return min(waiting) if waiting else max((one.counter for one in self.accounts.values()), default=0.0)

    def share(self, team: Team) -> float:
        """The team's part of all weights of teams that have something waiting, itself counted in any case."""
        weights = sum(one.weight for key, one in self.accounts.items() if one.waiting or key == team)
        return self.of(team).weight / weights if weights else 1.0

    def before(self, team: Team) -> float:
        """The share of those who wait whom a request of this team should not delay: its own, and of teams before it."""
        if len(self.accounts) == 1:
            return 1.0
        found = self._before.get(team)
        if found is None:
            found = self._before[team] = self._ahead(team)
        return found

    def _ahead(self, team: Team) -> float:
        counter = self.of(team).counter
        waiting = before = 0
        for one, account in self.accounts.items():
            waiting += account.waiting
            if account.counter < counter or one == team:
                before += account.waiting
        return before / waiting if waiting else 1.0

    def light(self, team: Team, now: float) -> bool:
        """Whether the team wants little: it holds less than half of its share of what waits, while others wait."""
        return team in self._outlook(now)

    def modest(self, team: Team, now: float) -> bool:
        """Whether the team should leave something free.

        It wants much, while another team that was busy lately wants little.
        """
        light = self._outlook(now)
        return bool(light) and team not in light

    def _outlook(self, now: float) -> frozenset[Team]:
        """The busy teams that want little, worked out once for each moment."""
        if self._seen_at == now:
            return self._light
        self._seen_at, self._light = now, NOBODY
        waiting = sum(one.waiting for one in self.accounts.values()) if len(self.accounts) > 1 else 0
        if waiting:
            busy = {key: one for key, one in self.accounts.items() if one.busy(now)}
            part = LIGHT * waiting / sum(one.weight for one in busy.values())
            self._light = frozenset(key for key, one in busy.items() if one.waiting < part * one.weight)
        return self._light

    def due(self, team: Team) -> bool:
        """Whether no team that waits has been given less."""
        return self.of(team).counter <= self.lowest()

    def _changed(self) -> None:
        """What was worked out of the accounts holds no longer."""
        self._seen_at = NEVER
        self._before.clear()

    def queue(self, team: Team) -> None:
        """A request of the team begins to wait: a team that was idle saves up nothing by that, a busy one not much."""
        account = self.of(team)
        if not account.waiting:
            account.counter = max(account.counter, self.lowest() - (SAVED if account.running else 0.0))
        account.waiting += 1
        self._changed()

    def unqueue(self, team: Team) -> None:
        self.of(team).waiting -= 1
        self._changed()

    def begin(self, team: Team, work: float, now: float) -> None:
        """A request of the team takes a slot, and is expected to take `work` seconds alone."""
        account = self.of(team)
        account.running += 1
        self._changed()
        account.active = now
        account.counter += work / account.weight

    def end(self, team: Team, charged: float, used: float) -> None:
        """It gives the slot back: what it was charged becomes what it used."""
        account = self.of(team)
        account.running -= 1
        self._changed()
        account.counter += (used - charged) / account.weight
